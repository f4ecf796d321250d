//! Which transport leads to a target.

use crate::config::{AgentSource, Sync, Target, Transport as Kind};
use crate::transport::{Local, Ssh, Ssh2, Transport, TransportError};
use crate::tree::quote;

/// Returns the transport to a target.
///
/// # Errors
/// [`TransportError`] if the agent's command cannot be found.
pub fn transport_of(sync: &Sync, target: &Target) -> Result<Box<dyn Transport>, TransportError> {
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
    match sync.transport {
        Kind::Ssh2 => {
            Ok(Box::new(Ssh2::new(host.clone(), sync.ssh.clone(), sync.agent.clone(), sync.allowed.clone())))
        }
        Kind::Ssh => Ok(Box::new(Ssh::new(
            host.clone(),
            sync.ssh.clone(),
            sync.agent.clone(),
            sync.allowed.clone(),
            !std::io::IsTerminal::is_terminal(&std::io::stderr()),
        ))),
    }
}
