//! What each event means for the tree and for the listener.
//!
//! A directory that stands in the tree where an event speaks of something else was found ahead of the
//! events. It is dropped: the event of its own that comes later finds it again, and reports what it holds
//! under a name that no earlier event takes away. Where it stays, a rename that takes its report away has
//! it reported again. Events of a watch that was dropped are not read any more: what was deleted in that
//! directory meanwhile is told by nobody, so the directory is compared under the name to which the rename
//! takes what the target has of it.

use std::time::Instant;

use rustix::fs::inotify::ReadFlags;

use crate::event::{EventKind, RescanReason};
use crate::tree::{RelPath, check_name};

use super::super::dirfd;
use super::super::gap::Gap;
use super::super::kernel::{Raw, Wd};
use super::Inotify;
use super::grow::{Step, Walk};
use super::nodes::Dentry;
use super::root::Pair;

/// A rename as the kernel told it.
pub(super) struct Move {
    from: Dentry,
    to: Dentry,
    dir: bool,
}

impl Inotify {
    /// Takes one event that is no rename within the tree.
    pub(super) fn on_event(&mut self, raw: Raw) {
        // A watch that was dropped has nothing to say any more.
        let Some(path) = self.nodes.path(raw.wd) else { return };
        if raw.mask.contains(ReadFlags::IGNORED) {
            return self.on_lost(raw.wd, path);
        }
        if raw.mask.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT) {
            self.root.check |= self.nodes.root() == Some(raw.wd);
            return;
        }
        if raw.name.is_empty() {
            if raw.mask.contains(ReadFlags::ATTRIB) {
                self.setup.out.push(raw.at, EventKind::Attrib { path, dir: true });
            }
            return;
        }
        if check_name(&raw.name).is_ok() {
            let place = Dentry::new(raw.wd, &raw.name);
            self.on_name(&raw, place, path.join(&raw.name));
        }
    }

    fn on_name(&mut self, raw: &Raw, place: Dentry, path: RelPath) {
        let dir = raw.mask.contains(ReadFlags::ISDIR);
        let skip = (self.setup.skip)(&path, dir);
        if raw.mask.contains(ReadFlags::MOVED_TO)
            && let Some(from) = self.departed.take()
        {
            // The kernel joins equal events that follow each other, whatever renames they belong to: if what
            // went had changed places with what is not watched, this may have come from the same name.
            self.last_move = Some(Move { from, to: place.clone(), dir });
        }
        if raw.mask.contains(ReadFlags::DELETE) {
            self.on_gone(raw.at, place, path, dir);
        } else if raw.mask.contains(ReadFlags::MOVED_FROM) {
            self.departed = Some(place.clone());
            self.on_departure(raw.at, place, path, dir);
        } else if skip {
            if dir && raw.mask.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                self.drop_at(&place);
                self.gaps.insert(place, Gap::Skipped);
            }
        } else if raw.mask.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            self.on_new(raw.at, place, path, dir);
        } else if raw.mask.contains(ReadFlags::ATTRIB) {
            if dir && matches!(self.gaps.get(&place), Some(Gap::Denied(_))) {
                self.retry(&place);
                self.rescan_hole(path.clone());
            }
            self.setup.out.push(raw.at, EventKind::Attrib { path, dir });
        } else if raw.mask.contains(ReadFlags::CLOSE_WRITE) {
            self.setup.out.push(raw.at, EventKind::CloseWrite(path));
        } else if raw.mask.contains(ReadFlags::MODIFY) {
            self.setup.out.push(raw.at, EventKind::Modify(path));
        }
    }

    /// A name appeared that was not in the tree before.
    fn on_new(&mut self, at: Instant, place: Dentry, path: RelPath, dir: bool) {
        self.setup.out.push(at, EventKind::Create { path, dir });
        if dir {
            self.grow(vec![Step::at(place)], Walk::reporting());
        } else {
            self.drop_at(&place);
        }
    }

    /// A name went, or went out of the tree.
    fn on_gone(&mut self, at: Instant, place: Dentry, path: RelPath, dir: bool) {
        self.drop_at(&place);
        if dir {
            self.gaps.remove(&place);
        }
        if !(self.setup.skip)(&path, dir) {
            self.setup.out.push(at, EventKind::Delete { path, dir });
        }
    }

    /// The kernel dropped a watch: the directory was deleted, or its filesystem unmounted.
    fn on_lost(&mut self, wd: Wd, path: RelPath) {
        let Some(place) = self.nodes.place(wd).cloned() else { return };
        self.drop_node(wd);
        if path.is_root() {
            self.root.check = true;
            return;
        }
        self.grow(vec![Step::at(place.clone())], Walk::silent());
        if self.nodes.child(place.parent, &place.name).is_some() {
            self.setup.out.rescan(path, RescanReason::Arrived);
        }
    }

    /// Takes a rename of which both names are, or were, in watched directories.
    pub(super) fn on_move(&mut self, raw: &Raw, to_wd: Wd, to_name: &[u8]) {
        let dir = raw.mask.contains(ReadFlags::ISDIR);
        let from = Dentry::new(raw.wd, &raw.name);
        let to = Dentry::new(to_wd, to_name);
        let this = Move { from: from.clone(), to: to.clone(), dir };
        let back = self.last_move.replace(this).filter(|last| last.from == to && last.to == from);
        self.departed = None;
        let known = |this: &Self, place: &Dentry| {
            check_name(&place.name).ok().and_then(|()| this.nodes.path_of(place))
        };
        let (from_path, to_path) = match (known(self, &from), known(self, &to)) {
            (Some(from_path), Some(to_path)) => (from_path, to_path),
            (Some(path), None) => return self.on_departure(raw.at, from, path, dir),
            (None, Some(path)) => return self.on_arrival(raw.at, to, path, dir),
            (None, None) => return,
        };
        match ((self.setup.skip)(&from_path, dir), (self.setup.skip)(&to_path, dir)) {
            (false, false) => {
                self.tell_move(raw.at, (from_path, to_path), dir, back.is_some());
                if dir {
                    self.move_dir(&from, &to, back.is_some());
                } else {
                    self.drop_at(&to);
                    self.drop_at(&from);
                }
                // What the first half brought there stays.
                if back.is_some_and(|first| first.dir) {
                    self.grow(vec![Step::at(from)], Walk::reporting());
                }
            }
            (true, false) => {
                if !back.is_some_and(|first| first.dir) {
                    self.gaps.remove(&from);
                }
                self.on_new(raw.at, to, to_path, dir);
            }
            (from_skipped, true) => {
                if !from_skipped {
                    self.on_departure(raw.at, from.clone(), from_path, dir);
                }
                if dir {
                    self.gaps.remove(&from);
                    self.gaps.insert(to, Gap::Skipped);
                }
            }
        }
    }

    /// A name went to where nobody looks. If it changed places with what is there, nothing else tells of
    /// what stands here now: the half that brought that came first.
    fn on_departure(&mut self, at: Instant, place: Dentry, path: RelPath, dir: bool) {
        self.on_gone(at, place.clone(), path.clone(), dir);
        match self.open_node(place.parent).map(|parent| dirfd::is_dir_at(parent, &place.name)) {
            Some(Ok(dir)) => {
                self.on_arrival(at, place.clone(), path, dir);
                if dir {
                    self.compare(&place);
                }
            }
            Some(Err(_)) => {}
            // Its directory has moved on; it is looked for where that is found.
            None if self.gaps.get(&place).is_some() || (self.setup.skip)(&path, dir) => {}
            None => {
                self.setup.out.push(at, EventKind::Create { path, dir: false });
                self.gaps.insert(place, Gap::Missing);
            }
        }
    }

    /// A name came from a directory that is not watched any more.
    fn on_arrival(&mut self, at: Instant, place: Dentry, path: RelPath, dir: bool) {
        if !(self.setup.skip)(&path, dir) {
            self.on_new(at, place, path, dir);
        } else if dir {
            self.drop_at(&place);
            self.gaps.insert(place, Gap::Skipped);
        }
    }

    /// Reports a rename. The kernel tells of an exchange as of two renames, there and back; both names
    /// then hold something else than those two say.
    fn tell_move(&mut self, at: Instant, names: Pair, dir: bool, back: bool) {
        let (from, to) = names;
        self.setup.out.push(at, EventKind::Move { from: from.clone(), to: to.clone(), dir });
        if back {
            for path in [from, to] {
                // The other one may be of another type, so a directory is asked for as a whole.
                self.setup.out.rescan(path, RescanReason::Arrived);
            }
        }
    }

    /// Asks for a comparison of a directory whose watch was dropped, or that had none: events of it were
    /// not heard, and what was found when it was read says nothing of what was deleted in it.
    pub(super) fn compare(&mut self, place: &Dentry) {
        if self.nodes.child(place.parent, &place.name).is_some()
            && let Some(path) = self.nodes.path_of(place)
        {
            self.setup.out.rescan(path, RescanReason::Moved);
        }
    }

    /// Moves a directory in the tree, if the disk agrees that it is the one that the event means. `back`: the
    /// rename before this one led from `to` to `from`, and what that brought stays if it was an exchange.
    fn move_dir(&mut self, from: &Dentry, to: &Dentry, back: bool) {
        self.gaps.remove(from);
        let child = self.nodes.child(from.parent, &from.name);
        let parent = self.open_node(to.parent);
        let on_disk = parent.as_ref().and_then(|parent| dirfd::dir_id_at(parent, &to.name).ok());
        let walk = Walk::reporting();
        // One that still stands at the old name was found there ahead of its events: not it was renamed.
        let stays = match child.and_then(|wd| self.nodes.id(wd)) {
            Some(id) if on_disk.is_none() => self.stands(from, id),
            _ => false,
        };
        match (child, on_disk) {
            // Where the disk has nothing, it has moved on already, and a later event says where. After a
            // rename back nobody knows which one has: both are looked for.
            (Some(wd), id) if !stays && (id.is_none() && !back || self.nodes.id(wd) == id) => {
                if self.relocate(wd, to) {
                    self.gaps.remove(to);
                    self.after_move(wd);
                } else {
                    self.grow(vec![Step::at(to.clone())], walk);
                    self.compare(to);
                }
            }
            // A later directory has taken one of the names. What was found there was reported before this
            // rename was, which takes the report away: it is read and reported again.
            (Some(wd), _) => {
                if let Some(id) = self.nodes.id(wd)
                    && !self.stands(from, id)
                {
                    self.drop_node(wd);
                }
                self.grow(vec![Step::reread(from.clone()), Step::reread(to.clone())], walk);
                self.compare(from);
                self.compare(to);
            }
            // The same for a directory that was found at its new name ahead of this rename.
            (None, Some(_)) => {
                self.grow(vec![Step::reread(to.clone())], walk);
                self.compare(to);
            }
            (None, None) if parent.is_none() => {
                self.gaps.insert(to.clone(), Gap::Missing);
            }
            (None, None) => self.drop_at(to),
        }
    }

    /// The rules go by paths, which are other ones now; and what was missing below may be there.
    fn after_move(&mut self, top: Wd) {
        let mut found = Vec::new();
        for wd in self.nodes.subtree(top) {
            let (Some(path), Some(place)) = (self.nodes.path(wd), self.nodes.place(wd).cloned()) else {
                continue;
            };
            if wd != top && (self.setup.skip)(&path, true) {
                self.drop_node(wd);
                self.gaps.insert(place, Gap::Skipped);
                continue;
            }
            let shown = self.gaps.in_dir(wd).filter(|(place, gap)| {
                *gap == Gap::Skipped && !(self.setup.skip)(&path.join(&place.name), true)
            });
            found.extend(shown.map(|(place, _)| place.clone()));
        }
        for place in found {
            if let Some(path) = self.nodes.path_of(&place) {
                self.on_new(Instant::now(), place, path, true);
            }
        }
        self.retry_missing(Some(top));
    }
}
