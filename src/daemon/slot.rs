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
