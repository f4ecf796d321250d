//! What a link works with, and how it reaches its target.

use std::sync::Arc;

use super::route::{told, transport_of};
use crate::config::{Sync, Target};
use crate::event::RescanReason;
use crate::sender::{SessionError, SessionOptions, Surroundings};
use crate::transport::Transport;

/// The one connection of a pipeline that makes none itself.
pub(super) struct Over {
    /// Leads to the target.
    pub transport: Arc<dyn Transport>,
    /// Why everything is compared first.
    pub reason: RescanReason,
    /// Is told how it ended: nothing, if somebody stopped it.
    pub ended: Box<dyn FnOnce(Option<SessionError>) + Send>,
}

/// What a link works with.
pub(super) struct LinkOptions {
    pub sync: Sync,
    pub target: Target,
    pub around: Surroundings,
}

impl LinkOptions {
    /// Returns the way to the target, which a stop cuts off.
    pub fn transport(&self) -> Result<Arc<dyn Transport>, SessionError> {
        let uploads = told(&self.around.monitor, &self.sync, &self.target);
        let transport: Arc<dyn Transport> = Arc::from(transport_of(&self.sync, &self.target, uploads)?);
        let stopped = Arc::clone(&transport);
        self.around.mailbox.on_close(move || stopped.cancel());
        Ok(transport)
    }

    /// Returns what a session is to do; one that is not `live` only asks.
    pub fn session(&self, live: bool) -> SessionOptions {
        SessionOptions {
            sync: self.sync.clone(),
            target: self.target.clone(),
            mirror: super::mirror_id(&self.sync, &self.target),
            live,
            dry_run: !live,
            rehearsal: false,
        }
    }
}
