//! Asking a target whether an agent answers there, without touching its tree.

use super::route::transport_of;
use crate::config::{Sync, Target};
use crate::protocol::Refusal;
use crate::sender::{Session, SessionError, SessionOptions, Source, Surroundings};
use crate::transport::{TransportError, Uploads};

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
    let connected = transport_of(sync, target, Uploads::default())
        .map_err(SessionError::from)
        .and_then(|transport| Session::connect(&*transport, options, Surroundings::of(source)));
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
