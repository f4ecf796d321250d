//! Since when something is kept aside in a tree.

use std::os::fd::AsFd;
use std::path::Path;

use super::{Root, names};
use crate::tree::{RelPath, Time};

/// Where what somebody else wrote is kept, below the directory of the receiver's state and below moments.
pub const FOREIGN: &str = "strangers";

/// Returns the oldest moment at which something in a tree was kept aside that is still there; from the names of the
/// moments alone, however much there is. `None` if nothing is kept, or nobody may look.
pub fn kept_since(root: &Path) -> Option<Time> {
    let place = RelPath::new(format!(".speil/{FOREIGN}").as_bytes()).ok()?;
    let dir = Root::open(root).ok()?.dir(&place).ok()?;
    names(dir.as_fd()).ok()?.iter().filter_map(|name| slot_time(name)).min()
}

/// Returns the name of a moment's directory: RFC 3339 without colons, which not every filesystem takes.
pub fn slot_name(time: Time) -> String {
    time.rfc3339().replace(':', "")
}

/// Returns the moment that a directory's name gives.
pub fn slot_time(name: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(name).ok()?;
    let (hours, minutes, rest) = (text.get(..13)?, text.get(13..15)?, text.get(15..)?);
    Time::from_rfc3339(&format!("{hours}:{minutes}:{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_moment_counts_and_what_is_none_does_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kept_since(dir.path()), None);
        for name in
            ["2026-11-30T133026.347153Z", "2026-11-29T010203.000000Z", "0", "2026-11-28Tx", "é026-11-30T1"]
        {
            std::fs::create_dir_all(dir.path().join(".speil/strangers").join(name)).unwrap();
        }
        let oldest = Time::from_rfc3339("2026-11-29T01:02:03Z");
        assert!(oldest.is_some());
        assert_eq!(kept_since(dir.path()), oldest);
    }

    #[test]
    fn a_moment_is_read_from_the_name_that_it_gives() {
        let time = Time { secs: 1_700_000_000, nanos: 123_456_000 };
        assert_eq!(slot_time(slot_name(time).as_bytes()), Some(time));
        assert_eq!(slot_time(b"2026-03-01"), None);
    }
}
