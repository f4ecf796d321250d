//! The `ssh` command as the carrier.
//!
//! The administrator's `ssh_config`, agents, jump hosts and host-key policy all hold. What speil adds
//! stands after the administrator's own words, since ssh takes the first value that it meets, and is
//! left out where `ssh -G` shows that the configuration file has set it.

use std::process::Command;

use super::process::spawn;
use super::{Ended, Link, Transport, TransportError, deploy};
use crate::config::{AgentSource, Ssh as Options};

/// Exit status of the remote line when no agent was found.
pub(super) const NO_AGENT_STATUS: i32 = 127;
/// What the remote line prints on standard error then, before the system's name.
pub(super) const NO_AGENT_MARK: &str = "speil-agent-missing";

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
}

impl Ssh {
    /// Returns the words of ssh up to the host, the host included.
    pub(super) fn words(&self) -> Result<Vec<String>, TransportError> {
        if self.host.starts_with('-') || self.host.is_empty() {
            return Err(TransportError::Host(self.host.clone()));
        }
        let mut words = match &self.options.command {
            Some(command) if !command.is_empty() => command.clone(),
            _ => vec!["ssh".to_owned()],
        };
        let is_ssh = words.first().is_some_and(|program| program.rsplit('/').next() == Some("ssh"));
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
        words.push(self.host.clone());
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
        let output = Command::new(program).args(arguments).arg("-G").arg(&self.host).output();
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

    /// Returns the command line for the remote shell.
    fn remote_line(&self) -> String {
        let missing = format!("echo {NO_AGENT_MARK} $(uname -sm) >&2; exit {NO_AGENT_STATUS}");
        let deployed =
            format!("f=\"$HOME/{}\"; test -x \"$f\" && exec PREFIX\"$f\" agent; ", deploy::remote_path());
        let in_path = "command -v speil >/dev/null 2>&1 && exec PREFIXspeil agent; ";
        let (prefix, line) = match &self.agent {
            AgentSource::Command(words) => return join(words),
            AgentSource::Auto => (String::new(), format!("{in_path}{deployed}{missing}")),
            AgentSource::Path => (String::new(), format!("{in_path}{missing}")),
            AgentSource::Deploy => (String::new(), format!("{deployed}{missing}")),
            AgentSource::Prefixed(words) => {
                (format!("{} ", join(words)), format!("{in_path}{deployed}{missing}"))
            }
        };
        // In single quotes, so that any login shell hands it to sh as it stands.
        format!("exec sh -c '{}'", line.replace("PREFIX", &prefix).replace('\'', "'\\''"))
    }
}

/// Joins words for a shell, quoting where a word needs it.
fn join(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    words
        .iter()
        .map(|word| {
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', "'\\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

impl Transport for Ssh {
    fn connect(&self) -> Result<Link, TransportError> {
        let mut words = self.words()?;
        words.push(self.remote_line());
        spawn(&words)
    }

    fn mend(&self, ended: &Ended) -> Result<bool, TransportError> {
        let system = ended.stderr.iter().find_map(|line| line.strip_prefix(NO_AGENT_MARK));
        let (Some(system), Some(NO_AGENT_STATUS)) = (system, ended.status) else { return Ok(false) };
        match self.agent {
            AgentSource::Auto | AgentSource::Deploy | AgentSource::Prefixed(_) => {
                deploy::upload(self, system.trim())?;
                Ok(true)
            }
            AgentSource::Path | AgentSource::Command(_) => Err(TransportError::Deploy(
                "speil is not in PATH there, and uploading it is not allowed".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(host: &str) -> Ssh {
        Ssh { host: host.to_owned(), options: Options::default(), agent: AgentSource::Auto, batch_mode: true }
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

    #[test]
    fn the_remote_line_survives_any_login_shell() {
        let mut ssh = ssh("web2");
        ssh.agent = AgentSource::Prefixed(vec!["sudo".into(), "-u".into(), "o'brien".into()]);
        let line = ssh.remote_line();
        let shown = Command::new("sh")
            .arg("-c")
            .arg(format!("set -- {}; echo \"$#\"", line.strip_prefix("exec ").unwrap()))
            .output()
            .unwrap();
        assert_eq!(shown.stdout, b"3\n", "{line}");
        assert_eq!(join(&["a b".into(), "c'd".into(), String::new()]), r"'a b' 'c'\''d' ''");
    }
}
