//! POSIX ACLs in the form in which the kernel stores them as extended attributes.
//!
//! **Purpose:** the mode of a file with an ACL and three of the ACL's entries are one value: `user::`, the
//! mask (or `group::` where there is none) and `other::`. Here one is read from, or written into, the other.
//! **Sources:** acl(5), `linux/posix_acl_xattr.h`.

/// The attribute that holds a file's own ACL.
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of a directory that holds the ACL of what is made in it.
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// An ACL as stored: the version, then eight bytes an entry.
pub struct Acl(Vec<u8>);

impl Acl {
    /// Reads the value of an attribute; `None` if it is no ACL that the kernel would take.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (version, entries) = value.split_first_chunk::<4>()?;
        (u32::from_le_bytes(*version) == VERSION && entries.len() % 8 == 0).then(|| Self(value.to_vec()))
    }

    /// Returns the value of the attribute.
    pub fn into_value(self) -> Vec<u8> {
        self.0
    }

    /// Returns the permission bits (0 to 0o777) that a file with this ACL shows: the group bits are the mask,
    /// or the `group::` entry of an ACL without a mask.
    pub fn mode(&self) -> u32 {
        let group = self.perm(MASK).or_else(|| self.perm(GROUP_OBJ));
        bits(self.perm(USER_OBJ), group, self.perm(OTHER))
    }

    /// Returns the permission bits (0 to 0o777) that a file is to have where this ACL cannot be set: its group
    /// has what the `group::` entry and the mask both give it, for the mask alone would give it more.
    pub fn mode_without(&self) -> u32 {
        let group = self.perm(GROUP_OBJ).map(|group| group & self.perm(MASK).unwrap_or(0o7));
        bits(self.perm(USER_OBJ), group, self.perm(OTHER))
    }

    /// Makes the ACL that of a file of another mode, as chmod(2) does.
    pub fn set_mode(&mut self, mode: u32) {
        let group = if self.perm(MASK).is_some() { MASK } else { GROUP_OBJ };
        for (tag, perm) in [(USER_OBJ, mode >> 6), (group, mode >> 3), (OTHER, mode)] {
            for entry in self.0[4..].chunks_exact_mut(8).filter(|entry| tag_of(entry) == tag) {
                entry[2..4].copy_from_slice(&((perm & 0o7) as u16).to_le_bytes());
            }
        }
    }

    fn perm(&self, tag: u16) -> Option<u32> {
        let mut entries = self.0[4..].chunks_exact(8);
        let entry = entries.find(|entry| tag_of(entry) == tag)?;
        Some(u32::from(u16::from_le_bytes([entry[2], entry[3]])) & 0o7)
    }
}

fn tag_of(entry: &[u8]) -> u16 {
    u16::from_le_bytes([entry[0], entry[1]])
}

fn bits(user: Option<u32>, group: Option<u32>, other: Option<u32>) -> u32 {
    user.unwrap_or(0) << 6 | group.unwrap_or(0) << 3 | other.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ACL of the given entries: tag, permissions, id.
    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            value.extend([tag.to_le_bytes(), perm.to_le_bytes()].concat());
            value.extend(id.to_le_bytes());
        }
        Acl::parse(&value).unwrap()
    }

    const NOBODY: u32 = u32::MAX;

    #[test]
    fn the_mask_is_the_modes_group_bits_and_the_group_entry_is_what_is_left_without_it() {
        let user = 0x02;
        let named = [(USER_OBJ, 6, NOBODY), (user, 6, 1000), (GROUP_OBJ, 4, NOBODY), (MASK, 6, NOBODY)];
        let mut full = acl(&[&named[..], &[(OTHER, 0, NOBODY)]].concat());
        assert_eq!((full.mode(), full.mode_without()), (0o660, 0o640));
        full.set_mode(0o604);
        assert_eq!((full.mode(), full.mode_without()), (0o604, 0o604));
        assert_eq!(full.perm(user), Some(6), "named entries stay");
        let mut short = acl(&[(USER_OBJ, 7, NOBODY), (GROUP_OBJ, 5, NOBODY), (OTHER, 4, NOBODY)]);
        assert_eq!((short.mode(), short.mode_without()), (0o754, 0o754));
        short.set_mode(0o620);
        assert_eq!(short.mode(), 0o620);
    }

    #[test]
    fn what_is_no_acl_is_none() {
        for bad in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01"] {
            assert!(Acl::parse(bad).is_none(), "{bad:?}");
        }
        assert_eq!(Acl::parse(b"\x02\0\0\0").unwrap().mode(), 0);
    }
}
