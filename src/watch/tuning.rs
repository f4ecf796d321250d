//! How a tree comes to an inotify instance, and what tests turn about it.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::WatchFlags;
use rustix::io::Errno;

use super::hub::{self, Instance};
use super::kernel::{Wd, fd_path, tree_mask};

/// Adds a watch on a directory; replaced in tests to run out of watches.
pub(super) type Add = Box<dyn Fn(&Instance, BorrowedFd<'_>, usize) -> Result<Wd, Errno> + Send>;

/// Knobs that only tests turn.
pub(super) struct Tuning {
    /// How long a MOVED_FROM waits for its MOVED_TO.
    pub hold: Duration,
    /// Events kept while a walk is under way before they count as an overflow.
    pub backlog_max: usize,
    /// The tree shares an instance, however few there are.
    #[cfg(test)]
    pub shared: bool,
    /// How a watch is added; the number is how many directories are watched now.
    pub add: Add,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            hold: Duration::from_millis(5),
            backlog_max: 1 << 18,
            #[cfg(test)]
            shared: false,
            add: Box::new(|instance, dir, _| instance.add(dir, tree_mask())),
        }
    }
}

impl Tuning {
    /// Finds an instance for a tree.
    pub(super) fn instance(&self) -> Result<Instance, Errno> {
        #[cfg(test)]
        if self.shared {
            return hub::shared();
        }
        hub::for_tree()
    }
}

/// Whether inotify works here; it needs `/proc` for watches by fd.
pub(super) fn usable() -> bool {
    let Ok(dir) = super::dirfd::open_path(Path::new("/")) else { return false };
    let mask = WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
    match hub::probe(|kernel| kernel.add(&fd_path(dir.as_fd()), mask)) {
        Ok(Some(added)) => !matches!(added, Err(Errno::NOENT | Errno::NOSYS)),
        // There is no instance left, but a place in one that is shared.
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Whether this user may make no further instance, and this process has none to share.
pub(super) fn is_exhausted() -> bool {
    matches!(hub::probe(|_| ()), Err(Errno::MFILE))
}
