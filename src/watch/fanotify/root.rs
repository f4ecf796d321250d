//! The root of the tree and the mounts below it: what no event of the tree tells. And the ways from the
//! tree to the disk.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::event::RescanReason;
use crate::tree::RelPath;

use super::super::bounds::DISCARD_READS;
use super::super::dirfd;
use super::super::outbox::skipped;
use super::Fanotify;
use super::group::{Handle, Read, handle_at};
use super::grow::{Step, Walk};
use super::nodes::{Dentry, Nodes, State};

/// Whether a name in an open directory is a directory of the tree now.
pub(super) fn is_at(handle: Handle, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    handle_at(dir, name).is_ok_and(|found| found.on(handle.fs()) == Some(handle))
}

impl Fanotify {
    /// Takes in the tree below `root` from nothing. Reports nothing.
    pub(super) fn rebuild(&mut self, root: OwnedFd) {
        let before = std::mem::take(&mut self.nodes);
        self.lost = false;
        self.unread.clear();
        self.doubts.clear();
        self.holes.clear();
        self.stale = true;
        self.root_id = dirfd::id_of(&root).ok();
        let root = self.root.enter(root, &mut self.mounts);
        // Filesystems that are no longer part of the tree are none of ours.
        self.group.unmark_all();
        self.grow(vec![Step::root(root)], Walk::since(before));
        self.nodes.shrink();
        self.marked = self.group.marked();
    }

    /// Sees whether the source path leads to another directory than before.
    pub(super) fn check_root(&mut self) {
        self.root.check = false;
        match self.anchor.resolve() {
            Ok((root, id)) if self.root_id == Some(id) && self.nodes.root().is_some() => {
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
            self.nodes = Nodes::default();
            self.root_id = None;
            self.unread.clear();
            self.doubts.clear();
            self.holes.clear();
            self.group.unmark_all();
            self.marked = 0;
            self.setup.out.rescan(RelPath::root(), RescanReason::Root);
        }
    }

    /// Takes in the whole tree again and asks for a rescan of it: everything read so far is about the
    /// past, and the walk sees the present.
    pub(super) fn start_over(&mut self, reason: RescanReason) {
        let (began, _) = crate::disk::mark();
        // An old "deleted" must not undo what the walk finds.
        for _ in 0..DISCARD_READS {
            if self.group.read(|_| {}) == Read::Dry {
                break;
            }
        }
        self.queue.clear();
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
        if changed.is_empty() && self.group.marked() < self.marked {
            // Unmounted and mounted again at once: the tree looks as before, and nothing is heard of it.
            return self.start_over(RescanReason::Mount);
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
        self.marked = self.group.marked();
    }

    /// Opens a directory of the tree for reading; `None` if the disk does not have it where the events
    /// read so far say that it is.
    pub(super) fn open_node(&mut self, handle: Handle) -> Option<OwnedFd> {
        let path = self.nodes.path(handle)?;
        let root = self.root.open(&self.setup.source, self.root_id)?;
        let fd = dirfd::open_below(root.as_fd(), &path).ok()?;
        is_at(handle, fd.as_fd(), b"").then_some(fd)
    }

    /// Whether a place holds a directory of the tree now.
    pub(super) fn is_on_disk(&mut self, handle: Handle, place: &Dentry) -> bool {
        if place.is_root() {
            return self.nodes.root() == Some(handle);
        }
        self.open_node(place.parent).is_some_and(|parent| is_at(handle, parent.as_fd(), &place.name))
    }

    /// Looks again for what events named.
    pub(super) fn retry_missing(&mut self) {
        self.look_at_doubts();
        let unread = std::mem::take(&mut self.unread).into_iter();
        let steps = unread
            .filter(|handle| self.nodes.state(*handle) == Some(State::Unread))
            .filter_map(|handle| self.nodes.place(handle))
            .map(Step::told)
            .collect();
        self.grow(steps, Walk::reporting());
    }
}
