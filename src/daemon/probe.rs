//! Asking a target whether an agent answers there, without touching its tree.

use std::sync::Arc;

use super::route::transport_of;
use crate::config::{Sync, Target};
use crate::monitor::Silent;
use crate::protocol::Refusal;
use crate::sender::{
    Gate, Held, Mailbox, NoFeedback, Session, SessionError, SessionOptions, Source, Surroundings,
    TargetStatus,
};
use crate::transport::TransportError;

/// Says whether an agent at `target` would serve `sync`. A target that an administrator has closed, or that
/// another mirror holds, has one: nothing else may write there either.
///
/// # Errors
/// Why none would, in words.
pub fn probe(sync: &Sync, target: &Target) -> Result<(), String> {
    let source = Source::open(&sync.source, 1).map_err(|error| crate::error::io_text(&error))?;
    let options = SessionOptions {
        sync: sync.clone(),
        target: target.clone(),
        mirror: super::mirror_id(sync, target),
        live: false,
        dry_run: true,
        rehearsal: false,
    };
    let around = Surroundings {
        source,
        gate: Arc::new(Gate::standing_open()),
        mailbox: Mailbox::new(),
        status: Arc::new(TargetStatus::default()),
        held: Arc::new(Held::default()),
        monitor: Arc::new(Silent),
        feedback: Arc::new(NoFeedback),
    };
    let connected = transport_of(sync, target)
        .map_err(SessionError::from)
        .and_then(|transport| Session::connect(&*transport, options, around));
    match connected {
        Ok(session) => {
            session.close();
            Ok(())
        }
        Err(SessionError::Refused(
            refusal
            @ (Refusal::Version { .. } | Refusal::Dangerous(_) | Refusal::Nested | Refusal::Filter(_)),
        )) => Err(SessionError::Refused(refusal).to_string()),
        Err(SessionError::Refused(_)) => Ok(()),
        Err(SessionError::Transport(TransportError::Deploy(text))) => Err(text),
        Err(error) => Err(error.to_string()),
    }
}
