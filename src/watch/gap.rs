//! Why a directory below a watched one is not watched itself.

use rustix::io::Errno;

use crate::error::errno_text;

/// Why a directory is not watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// The rules leave it out, or it is on another filesystem and those are left out.
    Skipped,
    /// An event named it, but the disk is ahead of the events: to be looked for again.
    Missing,
    /// No watches are left.
    Limit,
    /// It could not be opened, read or watched.
    Denied(Errno),
    /// Its filesystem does not tell of changes.
    Silent,
    /// Its filesystem cannot be marked as a whole.
    Unmarked(Errno),
    /// It stands at another place of the tree as well (a bind mount), which is watched.
    Twin,
}

impl Gap {
    /// Whether what happens there goes unheard and must be compared now and then.
    pub(super) fn is_hole(self) -> bool {
        !matches!(self, Self::Skipped | Self::Missing)
    }

    /// Returns why, as a part of a message.
    pub(super) fn text(self) -> String {
        match self {
            Self::Skipped => "left out".into(),
            Self::Missing => "not found yet".into(),
            Self::Limit => "out of inotify watches (ENOSPC)".into(),
            Self::Denied(errno) => errno_text(errno.raw_os_error()),
            Self::Silent => "a filesystem that reports no changes".into(),
            Self::Unmarked(errno) => {
                format!("fanotify cannot mark its filesystem: {}", errno_text(errno.raw_os_error()))
            }
            Self::Twin => "mounted at a second place of the tree".into(),
        }
    }
}
