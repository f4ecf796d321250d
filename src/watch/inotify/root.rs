//! The root of the tree and the mounts below it: what no event of the tree tells.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::event::RescanReason;
use crate::tree::{FileId, RelPath};

use super::super::bounds::DISCARD_READS;
use super::super::dirfd;
use super::super::kernel::Wd;
use super::super::outbox::skipped;
use super::Inotify;
use super::gaps::Gaps;
use super::grow::{Step, Walk};
use super::nodes::{Dentry, NONE};

/// The two names of a rename.
pub(super) type Pair = (RelPath, RelPath);

impl Inotify {
    /// Watches the tree below `root` from nothing; watches that stand already are kept. Reports nothing.
    pub(super) fn rebuild(&mut self, root: OwnedFd) {
        let old: Vec<_> = self.nodes.wds().collect();
        let before = std::mem::take(&mut self.nodes);
        self.gaps = Gaps::cleared();
        self.unwatched = 0;
        let root = self.root.enter(root, &mut self.mounts);
        self.grow(vec![Step::root(root)], Walk::since(before));
        for wd in old {
            if !self.nodes.contains(wd) {
                self.kernel.remove(wd);
            }
        }
    }

    /// Sees whether the source path leads to another directory than before.
    pub(super) fn check_root(&mut self) {
        self.root.check = false;
        match self.anchor.resolve() {
            Ok((root, id)) if self.nodes.root_id() == Some(id) => {
                self.root.stay(root, &mut self.mounts);
            }
            Ok((root, _)) => {
                self.rebuild(root);
                self.setup.out.rescan(RelPath::root(), RescanReason::Root);
            }
            Err(errno) => self.lose_root(errno),
        }
    }

    fn lose_root(&mut self, errno: Errno) {
        if self.root.lose(errno) {
            if let Some(root) = self.nodes.root() {
                self.drop_node(root);
            }
            self.gaps = Gaps::cleared();
            self.setup.out.rescan(RelPath::root(), RescanReason::Root);
        }
    }

    /// The kernel dropped events: everything read so far is about the past, and the walk sees the present.
    pub(super) fn on_overflow(&mut self) {
        self.start_over(RescanReason::Overflow);
    }

    /// Walks the whole tree again and asks for a rescan of it.
    pub(super) fn start_over(&mut self, reason: RescanReason) {
        let (began, _) = crate::disk::mark();
        // An old "deleted" must not undo what the walk finds.
        self.kernel.drain(DISCARD_READS, |_| {});
        self.queue.clear();
        // What was asked before this is answered behind the rescan below.
        self.setup.fence.mark_again();
        match self.anchor.resolve() {
            Ok((root, _)) => {
                self.rebuild(root);
                self.setup.out.rescan(RelPath::root(), reason);
            }
            Err(errno) => self.lose_root(errno),
        }
        // What was thrown away is behind that comparison; a mark behind it would not be on its way any more.
        self.setup.out.mark(began);
    }

    /// A mount came or went somewhere on this host.
    pub(super) fn on_mounts(&mut self) {
        let changed = self.mounts.changes(&self.root.real);
        let before = self.nodes.root();
        self.check_root();
        if self.root.absent.is_some() || self.nodes.root() != before {
            return;
        }
        for path in changed {
            if skipped(&self.setup.skip, &path, true) {
                continue;
            }
            if let Some(parent) = path.parent().and_then(|parent| self.nodes.find(&parent)) {
                let place = Dentry::new(parent, path.name());
                self.drop_at(&place);
                self.grow(vec![Step::at(place)], Walk::silent());
            }
            // What is there by now is not what was watched there.
            self.setup.out.rescan_whole(path, RescanReason::Mount);
        }
    }

    /// Opens a watched directory for reading; `None` if the disk does not have it where the events read
    /// so far say that it is.
    pub(super) fn open_node(&mut self, wd: Wd) -> Option<OwnedFd> {
        let root = self.root.open(&self.setup.source, self.nodes.root_id())?;
        let fd = dirfd::open_below(root.as_fd(), &self.nodes.path(wd)?).ok()?;
        (dirfd::id_of(&fd).ok() == self.nodes.id(wd)).then_some(fd)
    }

    /// Whether a name in a watched directory is that inode now.
    pub(super) fn stands(&mut self, place: &Dentry, id: FileId) -> bool {
        if place.parent == NONE {
            return self.nodes.root_id() == Some(id);
        }
        self.open_node(place.parent)
            .is_some_and(|parent| dirfd::dir_id_at(parent, &place.name).ok() == Some(id))
    }
}
