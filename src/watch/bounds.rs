//! How much a backend does before it looks up, and how much it keeps apart.

use std::time::Duration;

/// Buffers read from the kernel at once.
pub(super) const DRAIN_READS: usize = 64;
/// Buffers thrown away after an overflow; the kernel's queue holds fewer.
pub(super) const DISCARD_READS: usize = 1024;
/// Directories between two looks at the kernel's queue.
pub(super) const DRAIN_EVERY: usize = 64;
/// Events looked at before timers and the stop fd are.
pub(super) const ROUND_EVENTS: usize = 8192;
/// How long after a failed look the missing directories are looked for again.
pub(super) const MISSING_PAUSE: Duration = Duration::from_millis(5);
/// How often that is tried before the whole tree is walked.
pub(super) const MISSING_TRIES: u32 = 4;
/// As many problems are told apart.
pub(super) const PROBLEMS_MAX: usize = 64;
/// As many holes are kept apart; more become one, above them all.
pub(super) const HOLES_MAX: usize = 64;
/// Parent fds are kept open down to this depth of a walk; below it, directories are opened from the root.
pub(super) const LEVEL_MAX: u32 = 64;
