//! The `ssh` command as the carrier.
//!
//! The administrator's `ssh_config`, agents, jump hosts and host-key policy all hold. What speil adds
//! stands after the administrator's own words, since ssh takes the first value that it meets, and is
//! left out where `ssh -G` shows that the configuration file has set it.

use std::process::Command;

use super::cancel::Cancel;
use super::process::spawn;
use super::remote;
use super::shell::Shell;
use super::{Copies, Ended, Link, Transport, TransportError, Uploads, allow, copies};
use crate::config::{AgentSource, Allowed, Ssh as Options};

/// An agent behind the `ssh` command.
#[derive(Debug)]
pub struct Ssh {
    /// `[USER@]HOST`.
    pub host: String,
    /// What the user set.
    pub options: Options,
    /// Where the agent comes from.
    pub agent: AgentSource,
    /// Never asks for a password: for the daemon.
    pub batch_mode: bool,
    /// Where data may go.
    pub allowed: Allowed,
    sends: bool,
    uploads: Uploads,
    cancel: Cancel,
}

impl Ssh {
    /// Returns the transport to `[USER@]HOST`.
    pub fn new(
        host: String,
        options: Options,
        agent: AgentSource,
        allowed: Allowed,
        batch_mode: bool,
    ) -> Self {
        let (uploads, cancel) = (Uploads::default(), Cancel::default());
        Self { host, options, agent, batch_mode, allowed, sends: false, uploads, cancel }
    }

    /// Has the agent send, if `sends`.
    pub fn that_sends(self, sends: bool) -> Self {
        Self { sends, ..self }
    }

    /// Asks `uploads` before the agent is uploaded.
    pub fn asking(self, uploads: Uploads) -> Self {
        Self { uploads, ..self }
    }

    /// Returns the words of ssh up to the host, the host included.
    fn words(&self) -> Result<Vec<String>, TransportError> {
        let host = remote::checked_host(&self.host)?;
        let mut words = match &self.options.command {
            Some(command) if !command.is_empty() => command.clone(),
            _ => vec!["ssh".to_owned()],
        };
        let is_ssh = words.first().is_some_and(|program| program.rsplit('/').next() == Some("ssh"));
        if is_ssh && self.allowed.is_limited() {
            // A connection that stands already could lead anywhere.
            words.splice(1..1, ["-o", "ControlPath=none"].map(str::to_owned));
        }
        if let Some(port) = self.options.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        if let Some(file) = &self.options.identity_file {
            words.extend(["-i".to_owned(), file.to_string_lossy().into_owned()]);
        }
        for (key, value) in &self.options.options {
            words.extend(["-o".to_owned(), format!("{key}={value}")]);
        }
        words.extend(self.options.extra.iter().cloned());
        if is_ssh {
            let told = self.ask(&words, &[]);
            let set = already_set(&told);
            let ciphers = self.ciphers(&words, &told);
            words.push("-T".to_owned());
            words.extend(ciphers.into_iter().flat_map(|list| ["-o".to_owned(), format!("Ciphers={list}")]));
            for (key, value) in self.additions() {
                if !set.iter().any(|name| name.eq_ignore_ascii_case(key)) {
                    words.extend(["-o".to_owned(), format!("{key}={value}")]);
                }
            }
        }
        words.push(host.to_owned());
        Ok(words)
    }

    fn additions(&self) -> Vec<(&'static str, &'static str)> {
        let mut additions = vec![
            ("ServerAliveInterval", "15"),
            ("ServerAliveCountMax", "2"),
            ("ClearAllForwardings", "yes"),
            ("ControlPath", "none"),
        ];
        if self.batch_mode {
            additions.push(("BatchMode", "yes"));
        }
        additions
    }

    /// Returns what ssh says that these words and its configuration mean; empty if it says nothing.
    fn ask(&self, words: &[String], more: &[&str]) -> String {
        let Some((program, arguments)) = words.split_first() else { return String::new() };
        let mut command = Command::new(program);
        command.args(arguments).args(more).arg("-G").arg(&self.host).stdin(std::process::Stdio::null());
        // The configuration may ask name servers, and run programs.
        let output = self.cancel.run(move || command.output().map_err(|error| start_failed("ssh", error)));
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// Returns the ciphers to ask for, if nobody has chosen any: OpenSSH's own list, with those first that cost two
    /// thirds of its first choice where the processor computes AES.
    fn ciphers(&self, words: &[String], told: &str) -> Option<String> {
        let program = words.first().filter(|program| computes_aes() && *program == "ssh")?;
        cheaper_first(told, &self.ask(std::slice::from_ref(program), &["-F", "none"]))
    }
}

/// Returns which of the options that speil would add are set by the configuration file, from what `ssh -G` says.
fn already_set(told: &str) -> Vec<String> {
    let unset = [
        ("serveraliveinterval", "0"),
        ("serveralivecountmax", "3"),
        ("clearallforwardings", "no"),
        ("controlpath", "none"),
        ("batchmode", "no"),
    ];
    told.lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(key, value)| unset.iter().any(|(name, default)| key == name && value != default))
        .map(|(key, _)| key.to_owned())
        .collect()
}

/// Returns the list of ciphers in which AES-GCM comes first; `None` where `told` has another list than `plain`, what
/// ssh says without any configuration: somebody has chosen.
fn cheaper_first(told: &str, plain: &str) -> Option<String> {
    let list = |text: &str| text.lines().find_map(|line| line.strip_prefix("ciphers ").map(str::to_owned));
    let chosen = list(told).filter(|ciphers| list(plain).as_ref() == Some(ciphers))?;
    let (cheap, rest): (Vec<&str>, Vec<&str>) =
        chosen.split(',').partition(|cipher| cipher.contains("-gcm@"));
    (!cheap.is_empty()).then(|| [cheap, rest].concat().join(","))
}

/// Whether this processor has instructions for AES. The other end mostly has the same.
fn computes_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

fn start_failed(program: &str, error: std::io::Error) -> TransportError {
    TransportError::Start { program: program.to_owned(), error }
}

impl Shell for Ssh {
    fn open(&self, line: &str) -> Result<Link, TransportError> {
        let mut words = self.words()?;
        let options = words.len().saturating_sub(1);
        allow::check_ssh(&self.allowed, words.get(..options).unwrap_or_default(), &self.host)?;
        words.push(line.to_owned());
        spawn(&words, self.batch_mode, &self.cancel)
    }
}

impl Transport for Ssh {
    fn connect(&self) -> Result<Link, TransportError> {
        self.open(&remote::line(&self.agent, self.sends))
    }

    fn cancel(&self) {
        self.cancel.cancel();
    }

    fn mend(&self, ended: &Ended) -> Result<bool, TransportError> {
        remote::mend(self, &self.agent, ended, &|len| {
            let uploads = self.uploads.clone();
            self.cancel.run(move || uploads.begin(len))
        })
    }

    fn copies(&self, remove: bool) -> Option<Result<Copies, TransportError>> {
        Some(copies::ask(self, remove))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(host: &str) -> Ssh {
        Ssh::new(host.to_owned(), Options::default(), AgentSource::Auto, Allowed::default(), true)
    }

    #[test]
    fn a_host_that_looks_like_an_option_is_refused() {
        assert!(matches!(ssh("-oProxyCommand=evil").words(), Err(TransportError::Host(_))));
    }

    #[test]
    fn the_users_options_stand_before_ours() {
        let mut ssh = ssh("web2");
        ssh.options.command = Some(vec!["ssh".into(), "-F".into(), "none".into()]);
        ssh.options.options = vec![("ServerAliveInterval".into(), "5".into())];
        let words = ssh.words().unwrap();
        assert!(!words.contains(&"ServerAliveInterval=15".to_owned()), "{words:?}");
        assert!(words.contains(&"BatchMode=yes".to_owned()));
        assert_eq!(words.last().map(String::as_str), Some("web2"));
    }

    #[test]
    fn aes_comes_first_where_nobody_has_chosen_ciphers() {
        let plain =
            "user root\nciphers chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com\nport 22\n";
        let first = "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr";
        assert_eq!(cheaper_first(plain, plain).as_deref(), Some(first));
        assert_eq!(cheaper_first("ciphers aes128-ctr,aes128-gcm@openssh.com\n", plain), None);
        assert_eq!(cheaper_first("ciphers aes128-ctr\n", "ciphers aes128-ctr\n"), None);
        assert_eq!(cheaper_first(plain, ""), None);
        assert_eq!(cheaper_first("", ""), None);
    }

    #[test]
    fn ciphers_that_somebody_has_chosen_stay_as_they_are() {
        let asked = |option: Option<&str>| {
            let mut ssh = ssh("web2");
            ssh.options.command = Some(vec!["ssh".into(), "-F".into(), "none".into()]);
            ssh.options.extra = option.into_iter().map(str::to_owned).collect();
            let words = ssh.words().unwrap();
            words.into_iter().find_map(|word| word.strip_prefix("Ciphers=").map(str::to_owned))
        };
        let by_itself = asked(None);
        assert_eq!(by_itself.is_some(), computes_aes());
        assert!(by_itself.is_none_or(|list| list.starts_with("aes128-gcm@openssh.com,")));
        assert_eq!(asked(Some("-caes256-ctr")), None);
    }

    #[test]
    fn another_remote_shell_gets_no_ssh_options() {
        let mut ssh = ssh("web2");
        ssh.options.command = Some(vec!["/opt/carrier".into()]);
        assert_eq!(ssh.words().unwrap(), ["/opt/carrier", "web2"]);
    }
}
