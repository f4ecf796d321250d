//! How a session tells the one before it on the same root that it has begun.
//!
//! **Purpose:** an agent that waits for a message that never comes must leave as soon as a newer session has
//! taken the next number. A host has few inotify instances, so none is spent on that: a FIFO in the state
//! directory wakes it.
//! **Invariants:** only a wake-up; what has happened is looked at. Where there can be no FIFO, or an agent of an
//! earlier version does not know of it, the next look comes by itself.
//! **Sources:** fifo(7).

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, mknodat, openat};

/// The FIFO's name in the state directory.
const NAME: &str = "knock";

/// Opens the door of a session; `None` where the filesystem has none.
pub(super) fn listen(dir: BorrowedFd<'_>) -> Option<OwnedFd> {
    // It is there already, or opening it says what is wrong.
    let _ = mknodat(dir, NAME, FileType::Fifo, Mode::from(0o600), 0);
    // For writing as well: otherwise it would be readable for ever once somebody has knocked.
    open(dir, OFlags::RDWR)
}

/// Wakes whoever listens.
pub(super) fn knock(dir: BorrowedFd<'_>) {
    // Nobody listens, or it is full: then nobody need be woken.
    if let Some(door) = open(dir, OFlags::WRONLY) {
        let _ = rustix::io::write(&door, &[0]);
    }
}

fn open(dir: BorrowedFd<'_>, access: OFlags) -> Option<OwnedFd> {
    let flags = access | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let door = openat(dir, NAME, flags, Mode::empty()).ok()?;
    let kind = FileType::from_raw_mode(fstat(&door).ok()?.st_mode);
    (kind == FileType::Fifo).then_some(door)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn is_woken(door: &OwnedFd) -> bool {
        rustix::io::read(door, &mut [0; 64]).is_ok()
    }

    #[test]
    fn who_listens_is_woken_and_who_knocks_waits_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(dir.path()).unwrap();
        knock(dir.as_fd());
        let door = listen(dir.as_fd()).unwrap();
        assert!(!is_woken(&door));
        (0..100_000).for_each(|_| knock(dir.as_fd()));
        assert!(is_woken(&door));
        drop(door);
        // Whether what it wrote is still there is not asked: a process that another test has just forked holds the door.
        knock(dir.as_fd());
    }

    #[test]
    fn a_file_of_that_name_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        std::fs::write(&path, "somebody's").unwrap();
        let open = std::fs::File::open(dir.path()).unwrap();
        assert!(listen(open.as_fd()).is_none());
        knock(open.as_fd());
        assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
    }
}
