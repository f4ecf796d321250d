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
    let (host, options) = (host.clone(), sync.ssh.clone());
    let (agent, allowed) = (sync.agent.clone(), sync.allowed.clone());
    Ok(match sync.transport {
        Kind::Ssh2 => Box::new(Ssh2::new(host, options, agent, allowed).asking(uploads)),
        Kind::Ssh => {
            let batch_mode = !std::io::IsTerminal::is_terminal(&std::io::stderr());
            Box::new(Ssh::new(host, options, agent, allowed, batch_mode).asking(uploads))
        }
    })
}

/// Returns uploads of which `monitor` is told.
pub(super) fn told(monitor: &Arc<dyn Monitor>, sync: &Sync, target: &Target) -> Uploads {
    let (monitor, scope) = (Arc::clone(monitor), Scope::new(&sync.name, &target.name));
    Uploads::new(move |len| {
        monitor.notice(&scope, &Notice::Uploads { len });
        Ok(())
    })
}
