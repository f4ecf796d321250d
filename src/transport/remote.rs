//! What every way over SSH has in common: the line for the remote shell, and mending a target that
//! has no agent.

use super::deploy::{self, Host};
use super::shell::Shell;
use super::{Ended, TransportError};
use crate::config::AgentSource;

/// Exit status of the remote line when no agent was found.
const NO_AGENT_STATUS: i32 = 127;
/// What the remote line prints on standard error then, before the system's name.
const NO_AGENT_MARK: &str = "speil-agent-missing";

/// Returns `host` if nothing can take it for an option.
pub(super) fn checked_host(host: &str) -> Result<&str, TransportError> {
    if host.starts_with('-') || host.is_empty() {
        return Err(TransportError::Host(host.to_owned()));
    }
    Ok(host)
}

/// Returns the command line for the remote shell; `sends`: for an agent that sends.
pub(super) fn line(agent: &AgentSource, sends: bool) -> String {
    let task = if sends { "agent --send" } else { "agent" };
    let missing = format!("echo {NO_AGENT_MARK} {} >&2; exit {NO_AGENT_STATUS}", Host::QUESTION);
    // Its name is the hash of this program, which is read for it: only where it is looked for.
    let deployed =
        || format!("f=\"$HOME/{}\"; test -x \"$f\" && exec PREFIX\"$f\" {task}; ", deploy::remote_path());
    let in_path = format!("command -v speil >/dev/null 2>&1 && exec PREFIXspeil {task}; ");
    let (prefix, line) = match agent {
        AgentSource::Command(words) if sends => return format!("{} --send", join(words)),
        AgentSource::Command(words) => return join(words),
        AgentSource::Auto => (String::new(), format!("{in_path}{}{missing}", deployed())),
        AgentSource::Path => (String::new(), format!("{in_path}{missing}")),
        AgentSource::Deploy => (String::new(), format!("{}{missing}", deployed())),
        AgentSource::PathPrefixed(words) => (format!("{} ", join(words)), format!("{in_path}{missing}")),
        AgentSource::Prefixed(words) => {
            (format!("{} ", join(words)), format!("{in_path}{}{missing}", deployed()))
        }
    };
    // In single quotes, so that any login shell hands it to sh as it stands.
    format!("exec sh -c '{}'", line.replace("PREFIX", &prefix).replace('\'', "'\\''"))
}

/// Brings the agent to a target that has none, if that is why the link ended and it is allowed. `begin` is asked
/// before.
pub(super) fn mend(
    shell: &impl Shell,
    agent: &AgentSource,
    ended: &Ended,
    begin: &dyn Fn(u64) -> Result<(), TransportError>,
) -> Result<bool, TransportError> {
    let said = ended.stderr.iter().find_map(|line| line.strip_prefix(NO_AGENT_MARK));
    let (Some(said), Some(NO_AGENT_STATUS)) = (said, ended.status) else { return Ok(false) };
    match agent {
        AgentSource::Auto | AgentSource::Deploy | AgentSource::Prefixed(_) => {
            deploy::upload(shell, &Host::parse(said), begin)?;
            Ok(true)
        }
        AgentSource::Path | AgentSource::PathPrefixed(_) | AgentSource::Command(_) => Err(
            TransportError::Deploy("speil is not in PATH there, and uploading it is not allowed".to_owned()),
        ),
    }
}

/// Joins words for a shell, quoting where a word needs it.
fn join(words: &[String]) -> String {
    words.iter().map(|word| crate::tree::shell_word(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::transport::Link;

    #[test]
    fn the_remote_line_survives_any_login_shell() {
        let line = line(&AgentSource::Prefixed(vec!["sudo".into(), "-u".into(), "o'brien".into()]), true);
        let shown = Command::new("sh")
            .arg("-c")
            .arg(format!("set -- {}; echo \"$#\"", line.strip_prefix("exec ").unwrap()))
            .output()
            .unwrap();
        assert_eq!(shown.stdout, b"3\n", "{line}");
        assert_eq!(join(&["a b".into(), "c'd".into(), String::new()]), r"'a b' 'c'\''d' ''");
    }

    #[test]
    fn a_link_that_ended_otherwise_is_not_mended() {
        struct Never;
        impl Shell for Never {
            fn open(&self, line: &str) -> Result<Link, TransportError> {
                Err(TransportError::Connect(line.to_owned()))
            }
        }
        let mark = format!("{NO_AGENT_MARK} Linux x86_64");
        let other = Ended { status: Some(1), stderr: vec![mark.clone()] };
        assert!(!mend(&Never, &AgentSource::Auto, &other, &|_| Ok(())).unwrap());
        let missing = Ended { status: Some(NO_AGENT_STATUS), stderr: vec![mark] };
        assert!(matches!(
            mend(&Never, &AgentSource::Path, &missing, &|_| Ok(())),
            Err(TransportError::Deploy(_))
        ));
    }
}
