//! Since when something is kept aside in a tree.

use std::os::fd::AsFd;
use std::path::Path;

use super::{Root, names};
use crate::tree::{RelPath, Time};

/// Where what somebody else wrote is kept, below moments (`receiver/kept.rs` writes it).
const PLACE: &[u8] = b".speil/strangers";

/// Returns the oldest moment at which something in a tree was kept aside that is still there; from the names of the
/// moments alone, however much there is. `None` if nothing is kept, or nobody may look.
pub fn kept_since(root: &Path) -> Option<Time> {
    let dir = Root::open(root).ok()?.dir(&RelPath::new(PLACE).ok()?).ok()?;
    names(dir.as_fd()).ok()?.iter().filter_map(|name| moment(std::str::from_utf8(name).ok()?)).min()
}

/// Returns the moment of a name: RFC 3339 without colons.
fn moment(name: &str) -> Option<Time> {
    let (hours, minutes, rest) = (name.get(..13)?, name.get(13..15)?, name.get(15..)?);
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
}
