//! What a target is like, and what a sender states of it.

use serde::{Deserialize, Serialize};

use super::place::RootPlace;
use crate::tree::Time;

/// What a target is like, as far as trying it out tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    /// Where the root stands.
    pub place: RootPlace,
    /// The target's clock.
    pub clock: Time,
    /// Who the agent runs as: a name, or a number where there is none.
    pub user: String,
    /// The errno of making a file in the root and writing to it; 0 if it worked.
    pub write_errno: i32,
    /// What the root cannot hold, in words.
    pub lacks: Vec<String>,
    /// Longest name in bytes that the root takes.
    pub name_len: u32,
    /// Whether names that differ in case only are one name there.
    pub folds_case: bool,
    /// Whether names of any bytes are taken, UTF-8 or not.
    pub any_bytes: bool,
    /// Bytes of the filesystem.
    pub total_bytes: u64,
    /// Bytes that the agent may still write.
    pub free_bytes: u64,
    /// Inodes that are free; `None` where the filesystem does not count them.
    pub free_inodes: Option<u64>,
    /// Median of small durable writes (4 KiB and `fdatasync`), in microseconds; 0 if not measured.
    pub small_write_us: u64,
    /// Bytes a second of one large durable write; 0 if not measured.
    pub large_write_rate: u64,
}

/// What a sender states of the mirror to one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// Age in milliseconds of the oldest change that this target has not acknowledged; `None` while the
    /// first comparison of the sender's process is under way and nobody knows.
    pub lag_ms: Option<u64>,
    /// Whether an operator holds the target back.
    pub paused: bool,
}
