//! Which transport leads to a target.

use std::sync::Arc;

use crate::config::{AgentSource, Sync, Target, Transport as Kind};
use crate::monitor::{Monitor, Notice, Scope};
use crate::transport::{Local, Ssh, Ssh2, Transport, TransportError, Uploads};
use crate::tree::quote;

/// Returns the transport to a target; `uploads` is asked before an agent is uploaded there.
///
/// # Errors
/// [`TransportError`] if the agent's command cannot be found.
pub fn transport_of(
    sync: &Sync,
    target: &Target,
    uploads: Uploads,
) -> Result<Box<dyn Transport>, TransportError> {
    let Some(host) = &target.host else {
        return Ok(Box::new(match &sync.agent {
            // The tree of this host stays here; a command may lead anywhere.
            AgentSource::Command(command) if sync.allowed.is_limited() => {
                let why = format!(
                    "is reached by {}: where that leads is unknown",
                    quote(command.join(" ").as_bytes())
                );
                return Err(TransportError::Forbidden { host: "localhost".to_owned(), why });
            }
            AgentSource::Command(command) => Local::from(command.clone()),
            AgentSource::Prefixed(words) | AgentSource::PathPrefixed(words) => {
                let own = Local::this_program()?;
                words.iter().cloned().chain(own.command).collect::<Vec<_>>().into()
            }
            AgentSource::Auto | AgentSource::Path | AgentSource::Deploy => Local::this_program()?,
        }));
    };
    Ok(to_host(sync, host, uploads, false))
}

/// Returns the transport to an agent on a host that sends to this one.
pub(super) fn transport_from(sync: &Sync, host: &str, uploads: Uploads) -> Box<dyn Transport> {
    to_host(sync, host, uploads, true)
}

fn to_host(sync: &Sync, host: &str, uploads: Uploads, sends: bool) -> Box<dyn Transport> {
    let (host, options) = (host.to_owned(), sync.ssh.clone());
    let (agent, allowed) = (sync.agent.clone(), sync.allowed.clone());
    match sync.transport {
        Kind::Ssh2 => Box::new(Ssh2::new(host, options, agent, allowed).asking(uploads).that_sends(sends)),
        Kind::Ssh => {
            let batch_mode = !std::io::IsTerminal::is_terminal(&std::io::stderr());
            let ssh = Ssh::new(host, options, agent, allowed, batch_mode);
            Box::new(ssh.asking(uploads).that_sends(sends))
        }
    }
}

/// Returns uploads of which `monitor` is told.
pub(super) fn told(monitor: &Arc<dyn Monitor>, sync: &Sync, target: &Target) -> Uploads {
    let (monitor, scope) = (Arc::clone(monitor), Scope::new(&sync.name, &target.name));
    Uploads::new(move |len| {
        monitor.notice(&scope, &Notice::Uploads { len });
        Ok(())
    })
}
