//! Whose turn it is to make a mark of a source.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::protocol::Mark;

/// Who makes a sync's marks.
#[derive(Debug, Default)]
pub(super) struct Marking {
    /// The newest mark, and when its making began. Locked while one is being made.
    pub turn: tokio::sync::Mutex<Option<(Instant, Mark)>>,
    /// Somebody looks after the newest one.
    pub is_followed: AtomicBool,
}
