//! What has a sync's place in a daemon.

use std::time::Instant;

use super::pipeline::Pipeline;
use crate::config::Sync;

/// A sync of the configuration.
pub(super) enum Running {
    /// It runs.
    Up(Box<Pipeline>),
    /// Not started: the source is missing, say. Tried again.
    Waiting(Box<Waiting>),
    /// Left out: its part of the configuration is wrong.
    LeftOut(LeftOut),
}

impl Running {
    /// Returns the sync's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Up(pipeline) => &pipeline.sync.name,
            Self::Waiting(waiting) => &waiting.sync.name,
            Self::LeftOut(left_out) => &left_out.name,
        }
    }
}

/// A sync that could not be started.
pub(super) struct Waiting {
    pub sync: Sync,
    /// When it is tried again.
    pub at: Instant,
    /// Why it did not start; empty before the first try.
    pub error: String,
}

/// A sync whose part of the configuration is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name, or where it is written if it has none.
    pub name: String,
    /// What is wrong.
    pub error: String,
}

/// Stops syncs, all at the same time: what one waits for does not delay the others.
pub(super) fn stop_all(running: Vec<Running>) {
    std::thread::scope(|scope| {
        for slot in running {
            // Without a thread it is stopped here.
            let _ =
                std::thread::Builder::new().name("stop".to_owned()).spawn_scoped(scope, move || drop(slot));
        }
    });
}
