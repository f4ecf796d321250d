//! What has a sync's place in a daemon.

use std::time::Instant;

use super::pipeline::Pipeline;
use crate::config::Sync;

/// A sync of the configuration.
pub(super) enum Running {
    /// It runs.
    Up(Pipeline),
    /// Not started: the source is missing, say. Tried again.
    Waiting(Sync, Instant),
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
