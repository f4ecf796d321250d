//! Which filesystem a target is on.

use serde::{Deserialize, Serialize};

/// Types of filesystems that end with a boot of their host.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A filesystem of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The boot of the host during which the device number means it.
    pub boot_id: String,
    /// Its device number.
    pub dev: u64,
    /// Its type, as statfs(2) numbers it.
    pub kind: u64,
    /// Its own identity, as statvfs(3) tells; 0 where it has none.
    pub id: u64,
}

impl Volume {
    /// Whether both are one filesystem: by device number during one boot, else by what it says itself. One in
    /// memory ends with the boot; any that is there in the next one takes its place.
    pub fn is(&self, other: &Self) -> bool {
        let known = !self.boot_id.is_empty() && !other.boot_id.is_empty();
        let same_device = known && self.boot_id == other.boot_id && self.dev == other.dev;
        let begun_anew = known && self.boot_id != other.boot_id && IN_MEMORY.contains(&self.kind);
        self.kind == other.kind && (same_device || begun_anew || (self.id != 0 && self.id == other.id))
    }
}

/// How a target's directory was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lost {
    /// The path leads to another directory than the one that the session works in, or to none.
    Replaced,
    /// There is none, and the filesystem that held it is not there either.
    Gone,
    /// There is an empty one, on another filesystem than before.
    Empty,
    /// There is one that is not this mirror's, and holds something.
    Strange,
}

/// Reads what may be missing at the end of a greeting.
pub(super) fn told_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Volume>, D::Error> {
    Ok(Option::deserialize(from).unwrap_or(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_is_known_by_its_device_during_one_boot_and_by_its_own_identity_after_it() {
        let volume = |boot: &str, dev, kind, id| Volume { boot_id: boot.to_owned(), dev, kind, id };
        let before = volume("a", 1, 7, 99);
        assert!(volume("a", 1, 7, 0).is(&before) && volume("b", 2, 7, 99).is(&before));
        for other in
            [volume("a", 2, 7, 0), volume("b", 1, 7, 98), volume("b", 1, 7, 0), volume("a", 1, 8, 99)]
        {
            assert!(!other.is(&before), "{other:?}");
        }
        assert!(!volume("", 1, 7, 0).is(&volume("", 1, 7, 0)), "a host that does not say");
        assert!(!volume("a", 1, 0x0102_1994, 1).is(&volume("", 1, 0x0102_1994, 2)), "nor one like it");
        let tmpfs = |boot, dev, id| volume(boot, dev, 0x0102_1994, id);
        assert!(tmpfs("b", 2, 5).is(&tmpfs("a", 1, 4)), "memory is empty after a boot");
        assert!(!tmpfs("a", 2, 5).is(&tmpfs("a", 1, 4)) && !tmpfs("b", 1, 4).is(&volume("a", 1, 7, 4)));
    }
}
