//! What merged events can hide, and looking at it.
//!
//! The kernel joins an event to an equal one of the same process that nobody has read yet, whatever came
//! between: `mv a b; mv b a; mv a b` is told as `mv a b; mv b a`, and a name that was removed and linked
//! again as both at once. So a file that comes back to a name which it left since the kernel's queue was
//! last empty may have gone on from there: all its names of that time are looked at. One that was linked
//! under the name which it has left, before that event was read, is told as made before it went.
//! **Not here:** what is beyond doubt: a directory is made once and removed once, and its handle then is
//! no other's.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, statat};

use crate::event::{EventKind, RescanReason};
use crate::tree::RelPath;

use super::Fanotify;
use super::group::{Handle, Raw};
use super::grow::{Step, Walk};
use super::nodes::Dentry;
use super::root;

/// What is to be found out about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Whether something is there after all.
    There,
    /// What is there, if anything.
    Doubt {
        /// Whether a directory was.
        dir: bool,
    },
}

/// The names of one file since the kernel's queue was last empty.
#[derive(Default)]
struct Trail {
    left: Vec<Dentry>,
    reached: Vec<Dentry>,
    dir: bool,
    doubtful: bool,
}

/// What has happened since the kernel's queue was last empty.
#[derive(Default)]
pub(super) struct Doubts {
    trails: HashMap<Handle, Trail>,
    looks: BTreeMap<Dentry, Look>,
    /// Directories that were read lately, and until when what left them may not have been seen there.
    fresh: HashMap<Handle, u64>,
}

impl Doubts {
    /// Whether there is something to look at.
    pub(super) fn has_looks(&self) -> bool {
        !self.looks.is_empty()
    }

    /// Forgets everything: the whole tree is looked at.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Has a place looked at where the tree and the events do not fit.
    pub(super) fn look(&mut self, place: &Dentry) {
        self.looks.entry(place.clone()).or_insert(Look::There);
    }

    /// Hears that a directory was read, at a moment of the queue: what was moved out of it before that, by an
    /// event that is still to come, was never reported there.
    pub(super) fn read(&mut self, dir: Handle, moment: u64) {
        self.fresh.insert(dir, moment);
    }

    /// Whether what left a directory may never have been reported in it.
    pub(super) fn is_fresh(&self, dir: Handle) -> bool {
        self.fresh.contains_key(&dir)
    }

    /// Hears of an event that makes, removes or renames a name.
    pub(super) fn hear(&mut self, raw: &Raw) {
        let place = Dentry::new(raw.dir, &raw.name);
        if let Some(to) = &raw.to {
            // A directory read too late was seen as it is after events that were dropped.
            if !raw.is_dir() || self.is_fresh(raw.dir) {
                self.look(&place);
            }
            let to = Dentry::new(to.0, &to.1);
            let trail = self.trail(raw);
            trail.leave(place);
            trail.reach(to);
        } else if raw.has(libc::FAN_DELETE) {
            if raw.has(libc::FAN_CREATE) && !raw.is_dir() {
                self.look(&place);
            }
            self.trail(raw).leave(place);
        } else if raw.has(libc::FAN_CREATE)
            && let Some(trail) = self.trails.get_mut(&raw.target)
        {
            trail.reach(place);
        }
    }

    fn trail(&mut self, raw: &Raw) -> &mut Trail {
        let trail = self.trails.entry(raw.target).or_default();
        trail.dir = raw.is_dir();
        trail
    }

    /// Begins anew; what is in doubt is left to be looked at.
    fn end_of_window(&mut self) {
        let doubtful = self.trails.drain().filter(|(_, trail)| trail.doubtful);
        for (_, trail) in doubtful {
            for place in trail.left.into_iter().chain(trail.reached) {
                self.looks.insert(place, Look::Doubt { dir: trail.dir });
            }
        }
        self.trails.shrink_to(64);
    }
}

/// What looking at doubts found.
#[derive(Default)]
struct Found {
    steps: Vec<Step>,
    rescans: Vec<RelPath>,
}

impl Trail {
    fn leave(&mut self, place: Dentry) {
        if !self.left.contains(&place) {
            self.left.push(place);
        }
    }

    fn reach(&mut self, place: Dentry) {
        self.doubtful |= self.left.contains(&place);
        if !self.reached.contains(&place) {
            self.reached.push(place);
        }
    }
}

impl Fanotify {
    /// The kernel's queue was empty here: looks at what was in doubt until then.
    pub(super) fn settle_doubts(&mut self) {
        self.doubts.end_of_window();
        let queue = &self.queue;
        self.doubts.fresh.retain(|_, moment| !queue.has_passed(*moment));
        self.doubts.fresh.shrink_to(64);
        self.look_at_doubts();
    }

    /// Looks at the places that are in doubt; one whose directory the disk has elsewhere by now is kept.
    pub(super) fn look_at_doubts(&mut self) {
        if !self.doubts.has_looks() {
            return;
        }
        let looks = std::mem::take(&mut self.doubts.looks);
        let (mut found, mut parent): (Found, Option<(Handle, OwnedFd)>) = Default::default();
        for (place, look) in looks {
            if !self.nodes.is_live(place.parent) {
                continue;
            }
            if parent.as_ref().is_none_or(|(handle, _)| *handle != place.parent) {
                parent = self.open_node(place.parent).map(|fd| (place.parent, fd));
            }
            match &parent {
                Some((_, fd)) => self.look_at(&place, look, fd, &mut found),
                None => {
                    self.doubts.looks.insert(place, look);
                }
            }
        }
        self.grow(found.steps, Walk::reporting());
        for path in found.rescans {
            self.setup.out.rescan(path, RescanReason::Arrived);
        }
    }

    fn look_at(&mut self, place: &Dentry, look: Look, parent: &OwnedFd, found: &mut Found) {
        let Some(path) = self.nodes.path_of(place) else { return };
        let stat = statat(parent, &*place.name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let dir = stat.map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        let node = self.nodes.at(place);
        if let Some(node) = node
            && !root::is_at(node, parent.as_fd(), &place.name)
        {
            self.drop_node(node);
        }
        let was_dir = node.is_some() || look == Look::Doubt { dir: true };
        if (self.setup.skip)(&path, dir.unwrap_or(was_dir)) {
            return;
        }
        if look != Look::There && (was_dir || dir == Some(true)) {
            found.rescans.push(path.clone());
        }
        match dir {
            Some(true) => found.steps.push(Step::at(place.clone())),
            Some(false) => self.setup.out.push_old(Instant::now(), EventKind::CloseWrite(path)),
            None if look != Look::There => {
                self.setup.out.push(Instant::now(), EventKind::Delete { path, dir: was_dir });
            }
            None => {}
        }
    }
}
