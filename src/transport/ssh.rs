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
        Self { host, options, agent, batch_mode, allowed, uploads, cancel }
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
            let set = self.already_set(&words);
            words.push("-T".to_owned());
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

    /// Asks ssh which of the options that speil would add are set by the configuration file.
    fn already_set(&self, words: &[String]) -> Vec<String> {
        let Some((program, arguments)) = words.split_first() else { return Vec::new() };
        let mut command = Command::new(program);
        command.args(arguments).arg("-G").arg(&self.host).stdin(std::process::Stdio::null());
        // The configuration may ask name servers, and run programs.
        let output = self.cancel.run(move || command.output().map_err(|error| start_failed("ssh", error)));
        let Ok(output) = output else { return Vec::new() };
        let text = String::from_utf8_lossy(&output.stdout);
        let unset = [
            ("serveraliveinterval", "0"),
            ("serveralivecountmax", "3"),
            ("clearallforwardings", "no"),
            ("controlpath", "none"),
            ("batchmode", "no"),
        ];
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(key, value)| unset.iter().any(|(name, default)| key == name && value != default))
            .map(|(key, _)| key.to_owned())
            .collect()
    }
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
        self.open(&remote::line(&self.agent))
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
    fn another_remote_shell_gets_no_ssh_options() {
        let mut ssh = ssh("web2");
        ssh.options.command = Some(vec!["/opt/carrier".into()]);
        assert_eq!(ssh.words().unwrap(), ["/opt/carrier", "web2"]);
    }
}
