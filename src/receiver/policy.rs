//! What this standby allows, whatever a sender asks for.
//!
//! **In → Out:** the agent's own options; a narrower profile, and refusals of single operations.
//! **Invariants:** the profile tells an honest sender; the refusals hold for every other one.

use std::os::fd::{AsFd, BorrowedFd};

use super::install::Undone;
use super::profile::Profile;
use super::{Options, Refused};
use crate::protocol::ToReceiver;
use crate::scan::is_own;
use crate::tree::{Kind, RelPath};

/// Bits that give a program its owner's rights, or keep others from deleting.
const SET_ID: u32 = 0o7000;
/// Bytes of one file between two looks at the free space.
const LOOK_EVERY: u64 = 8 << 20;

/// What this standby allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    refused: Refused,
    min_free: u64,
    folds_case: bool,
    keeps_to_filter: bool,
    keeps_entries: bool,
}

impl Policy {
    pub fn new(options: &Options) -> Self {
        Self {
            refused: options.refused,
            min_free: options.min_free,
            folds_case: options.fold_case,
            keeps_to_filter: options.keep_to_filters,
            keeps_entries: options.keep_entries,
        }
    }

    /// Whether the sender is held to the filters.
    pub fn keeps_to_filter(&self) -> bool {
        self.keeps_to_filter
    }

    /// Returns the path of an operation that would remove or rename something, where nothing is.
    pub fn kept<'a>(&self, message: &'a ToReceiver<'_>) -> Option<&'a RelPath> {
        match message {
            ToReceiver::Delete { path, .. } | ToReceiver::Rename { from: path, .. } if self.keeps_entries => {
                Some(path)
            }
            _ => None,
        }
    }

    /// Whether names that differ in case only are one.
    pub fn folds_case(&self) -> bool {
        self.folds_case
    }

    /// Takes out of a profile what is refused; a dry run only compares, and says nothing of it.
    pub fn narrow(&mut self, profile: &mut Profile, dry_run: bool) {
        if self.folds_case && !profile.folds_case && !dry_run {
            profile.lacks.push("names that differ in case only (--fold-case of its agent)".to_owned());
        }
        self.folds_case |= profile.folds_case;
        let mask = &mut profile.mask;
        if self.refused.devices {
            mask.devices = false;
        }
        if self.refused.set_id {
            (mask.set_id, mask.privileged_xattrs) = (false, false);
        }
        if self.refused.owners {
            (mask.owner, mask.group) = (false, false);
        }
        if !dry_run {
            profile.lacks.extend(self.lacks());
        }
    }

    /// Returns in words what is refused.
    pub fn lacks(&self) -> Vec<String> {
        let Refused { devices, set_id, owners } = self.refused;
        [
            (devices, "devices (--no-devices of its agent)"),
            (set_id, "set-id bits and capabilities (--no-setid of its agent)"),
            (owners, "owners and groups (--no-chown of its agent)"),
        ]
        .iter()
        .filter(|(refused, _)| *refused)
        .map(|(_, what)| (*what).to_owned())
        .collect()
    }

    /// Refuses an entry of a type that is not made here.
    pub fn may_make(&self, kind: Kind) -> Result<(), Undone> {
        match kind {
            Kind::CharDevice | Kind::BlockDevice if self.refused.devices => {
                Err(Undone::Os("create", libc::EPERM))
            }
            _ => Ok(()),
        }
    }

    /// Returns as much of a mode as new content may bear.
    pub fn mode(&self, mode: u32) -> u32 {
        if self.refused.set_id { mode & !SET_ID } else { mode }
    }

    /// Whether some of the space is to stay free.
    pub fn has_floor(&self) -> bool {
        self.min_free > 0
    }

    /// Returns how many of `free` bytes may be used.
    pub fn leaves(&self, free: u64) -> u64 {
        free.saturating_sub(self.min_free)
    }

    /// Refuses `len` bytes more on the filesystem of `at` if they do not fit above the floor.
    pub fn room_for(&self, at: BorrowedFd<'_>, len: u64) -> Result<(), Undone> {
        // A filesystem that does not say is asked by writing.
        match free_bytes(at) {
            Some(free) if len > self.leaves(free) => Err(Undone::Os("write", libc::ENOSPC)),
            _ => Ok(()),
        }
    }

    /// Looks at the free space now and then while a file of `len` bytes so far grows by `more`.
    pub fn room_to_grow(&self, at: BorrowedFd<'_>, len: u64, more: u64) -> Result<(), Undone> {
        let crosses = len / LOOK_EVERY != len.saturating_add(more) / LOOK_EVERY;
        if self.has_floor() && crosses { self.room_for(at, more) } else { Ok(()) }
    }
}

/// Returns the bytes that the agent may still write, if the filesystem says.
pub(super) fn free_bytes(at: impl AsFd) -> Option<u64> {
    rustix::fs::fstatvfs(at).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Returns the path of an operation that would touch the agent's own files.
pub(super) fn own_path<'a>(message: &'a ToReceiver<'_>) -> Option<&'a RelPath> {
    message.paths().into_iter().flatten().find(|path| is_own(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Expect;
    use crate::tree::Mask;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    #[test]
    fn what_a_standby_refuses_is_told_and_not_made() {
        let refused = Refused { devices: true, set_id: true, owners: true };
        let mut policy = Policy::new(&Options { refused, ..Options::default() });
        let mut profile = Profile { mask: Mask::everything(), lacks: Vec::new(), folds_case: false };
        policy.narrow(&mut profile, false);
        let mask = profile.mask;
        assert!(!mask.devices && !mask.set_id && !mask.privileged_xattrs && !mask.owner && !mask.group);
        assert!(mask.perms && mask.xattrs && mask.symlinks);
        assert_eq!(profile.lacks.len(), 3);
        assert!(policy.may_make(Kind::BlockDevice).is_err() && policy.may_make(Kind::CharDevice).is_err());
        assert!(policy.may_make(Kind::Fifo).is_ok());
        assert_eq!(policy.mode(0o4755), 0o755);
        let open = Policy::new(&Options::default());
        assert!(open.may_make(Kind::BlockDevice).is_ok() && open.lacks().is_empty());
        assert_eq!(open.mode(0o4755), 0o4755);
    }

    #[test]
    fn the_floor_is_kept_at_the_beginning_and_while_a_file_grows() {
        let dir = tempfile::tempdir().unwrap();
        let at = std::fs::File::open(dir.path()).unwrap();
        let full = Policy::new(&Options { min_free: u64::MAX, ..Options::default() });
        let open = Policy::new(&Options::default());
        assert!(full.room_for(at.as_fd(), 1).is_err() && full.room_for(at.as_fd(), 0).is_ok());
        assert!(open.room_for(at.as_fd(), 1).is_ok() && open.room_for(at.as_fd(), u64::MAX).is_err());
        assert!(full.room_to_grow(at.as_fd(), LOOK_EVERY - 1, 1).is_err());
        assert!(full.room_to_grow(at.as_fd(), 0, 1).is_ok(), "looked at by then and again soon");
        assert_eq!((full.leaves(7), open.leaves(7)), (0, 7));
    }

    #[test]
    fn the_agents_own_files_are_found_under_every_name_of_an_operation() {
        let delete =
            |name: &str| ToReceiver::Delete { path: path(name), expect: Expect::Any, keep_strangers: false };
        for own in [".speil", ".speil/memory", "a/.speil-0123456789abcdef", ".speil-0123456789abcdef/x"] {
            assert!(own_path(&delete(own)).is_some(), "{own}");
            let link = ToReceiver::Link { path: path("x"), existing: path(own), expect: Expect::Any };
            assert!(own_path(&link).is_some(), "{own}");
            let rename = ToReceiver::Rename { from: path("x"), to: path(own), expect: Expect::Any };
            assert!(own_path(&rename).is_some(), "{own}");
        }
        for other in ["a", "a/.speil", ".speil-short", ".speilx"] {
            assert!(own_path(&delete(other)).is_none(), "{other}");
        }
    }
}
