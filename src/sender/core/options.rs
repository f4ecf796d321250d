//! How much a session does at once.

use std::time::Duration;

/// How much is under way at once, and how long something waits.
#[derive(Debug, Clone)]
pub struct Options {
    /// Looks.
    pub looks_max: usize,
    /// Large files that are being sent.
    pub streams_max: usize,
    /// Comparisons; the receiver takes no more than twice as many.
    pub comparisons_max: usize,
    /// Operations in one batch.
    pub batch_max: usize,
    /// Files larger than this, in bytes, are sent in pieces.
    pub small_max: u64,
    /// How long a batch waits for more while comparisons are under way: each commit costs the target a flush.
    pub gather: Duration,
    /// When a file is read again that somebody was writing.
    pub busy_again: Duration,
    /// Bytes a second that are read for suspects, while nobody waits.
    pub suspects_rate: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            looks_max: 64,
            streams_max: 8,
            comparisons_max: 4,
            batch_max: 2048,
            small_max: 256 << 10,
            gather: Duration::from_millis(30),
            busy_again: Duration::from_millis(500),
            suspects_rate: 8 << 20,
        }
    }
}
