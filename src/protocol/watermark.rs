//! Up to which moment a target has everything of its source.

use serde::{Deserialize, Serialize};

use super::volume::Volume;
use crate::tree::{RelPath, Time};

/// A moment on the source's clock; what changed before it is on the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The moment.
    pub at: Time,
    /// The source then.
    pub of: Ground,
    /// Paths that failed, for which it says nothing; nor does it for what is provisional.
    pub except: Vec<RelPath>,
}

/// Where a source is, and what its clock shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ground {
    /// The inode of its root.
    pub root: u64,
    /// The filesystem that this is on.
    pub volume: Volume,
    /// Nanoseconds since 1970, less those since the host was started.
    pub offset: i64,
    /// What the clock shows.
    pub now: Time,
}

/// What a watermark says of files that look equal on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Nothing: their sizes and times are believed.
    Unknown,
    /// Those with an earlier change time are equal.
    Until(Time),
    /// They may be others: another directory is under the path of the source.
    Never,
}

impl Watermark {
    /// Returns what it says of a source as it is now.
    ///
    /// A clock that was set back since lowers it. That is known within one start of the host; later, a moment that
    /// has not come yet says nothing.
    pub fn settles(&self, now: &Ground) -> Settled {
        if !self.of.volume.is(&now.volume) {
            return Settled::Unknown;
        }
        if self.of.root != now.root {
            return Settled::Never;
        }
        let boot = &now.volume.boot_id;
        let one_boot = !boot.is_empty() && self.of.volume.boot_id == *boot;
        let back = if one_boot { self.of.offset.saturating_sub(now.offset).max(0) } else { 0 };
        // Whole seconds, and one more for what is left of a second.
        let at =
            Time { secs: self.at.secs.saturating_sub(back / 1_000_000_000 + i64::from(back > 0)), nanos: 0 };
        if at > now.now { Settled::Unknown } else { Settled::Until(at) }
    }
}

/// Reads what may be missing at the end of a greeting.
pub(super) fn watermark_or_none<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<Box<Watermark>>, D::Error> {
    Ok(Option::deserialize(from).unwrap_or(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn ground(boot: &str, root: u64, id: u64, (booted, now): (i64, i64)) -> Ground {
        let volume = Volume { boot_id: boot.to_owned(), dev: id, kind: 1, id };
        Ground { root, volume, offset: booted * SECOND, now: Time { secs: now, nanos: 5 } }
    }

    #[test]
    fn a_watermark_is_of_one_directory_on_one_filesystem_and_of_no_time_to_come() {
        let at = |secs| Time { secs, nanos: 0 };
        let mark = Watermark { at: at(100), of: ground("a", 2, 7, (50, 101)), except: Vec::new() };
        let settles = |now| mark.settles(&now);
        assert_eq!(settles(ground("a", 2, 7, (50, 200))), Settled::Until(at(100)));
        assert_eq!(settles(ground("b", 2, 7, (180, 200))), Settled::Until(at(100)));
        assert_eq!(settles(ground("a", 3, 7, (50, 200))), Settled::Never);
        assert_eq!(settles(ground("a", 2, 8, (50, 200))), Settled::Unknown);
        assert_eq!(settles(ground("b", 2, 7, (20, 99))), Settled::Unknown, "the clock is behind it");
        // Set back by 30 s within one boot: what was written since has an earlier time.
        assert_eq!(settles(ground("a", 2, 7, (20, 171))), Settled::Until(at(69)));
        assert_eq!(settles(ground("a", 2, 7, (80, 231))), Settled::Until(at(100)), "set forward");
    }
}
