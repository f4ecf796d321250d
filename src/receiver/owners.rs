//! What names of users and groups are here.

use nix::unistd::{Group, User};

/// Returns the id of a user of this host.
pub(super) fn uid(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

/// Returns the id of a group of this host.
pub(super) fn gid(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}
