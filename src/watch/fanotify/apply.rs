//! What each event means for the tree and for the listener.
//!
//! A directory that stands in the tree where an event speaks of something else was found ahead of the
//! events. It is dropped: the event of its own that comes later finds it again, and reports what it holds
//! under a name that no earlier event takes away.

use std::time::Instant;

use crate::event::{EventKind, RescanReason};
use crate::tree::{RelPath, check_name};

use super::Fanotify;
use super::group::{Handle, Raw};
use super::grow::{Step, Walk};
use super::nodes::{Dentry, State};

impl Fanotify {
    /// Takes one event.
    pub(super) fn on_event(&mut self, raw: Raw) {
        self.doubts.hear(&raw);
        if raw.has(libc::FAN_RENAME) {
            return self.on_rename(&raw);
        }
        if !self.nodes.is_live(raw.dir) {
            return;
        }
        let Some(path) = self.nodes.path(raw.dir) else { return };
        if *raw.name == *b"." {
            if raw.has(libc::FAN_ATTRIB) {
                self.setup.out.push(raw.at, EventKind::Attrib { path, dir: true });
            }
        } else if check_name(&raw.name).is_ok() {
            let (place, path) = (Dentry::new(raw.dir, &raw.name), path.join(&raw.name));
            if raw.is_dir() {
                self.on_dir(&raw, &place, path);
            } else {
                self.on_file(&raw, &place, path);
            }
        }
    }

    fn on_file(&mut self, raw: &Raw, place: &Dentry, path: RelPath) {
        if raw.has(libc::FAN_CREATE | libc::FAN_DELETE) {
            self.clear(place, None);
        }
        if (self.setup.skip)(&path, false) {
            return;
        }
        let kinds = [
            (libc::FAN_CREATE, EventKind::Create { path: path.clone(), dir: false }),
            (libc::FAN_MODIFY, EventKind::Modify(path.clone())),
            (libc::FAN_ATTRIB, EventKind::Attrib { path: path.clone(), dir: false }),
            (libc::FAN_CLOSE_WRITE, EventKind::CloseWrite(path.clone())),
            (libc::FAN_DELETE, EventKind::Delete { path, dir: false }),
        ];
        for (_, kind) in kinds.into_iter().filter(|(mask, _)| raw.has(*mask)) {
            self.setup.out.push(raw.at, kind);
        }
    }

    fn on_dir(&mut self, raw: &Raw, place: &Dentry, path: RelPath) {
        let skip = (self.setup.skip)(&path, true);
        if raw.has(libc::FAN_CREATE) {
            if skip {
                self.put(raw.target, place, State::Skipped);
            } else {
                self.on_new(raw, place, path.clone());
            }
        }
        if raw.has(libc::FAN_ATTRIB) && !skip {
            self.setup.out.push(raw.at, EventKind::Attrib { path: path.clone(), dir: true });
        }
        if raw.has(libc::FAN_DELETE) {
            self.on_gone(raw, place, path);
        }
    }

    /// A name appeared that was not in the tree before.
    fn on_new(&mut self, raw: &Raw, place: &Dentry, path: RelPath) {
        let dir = raw.is_dir();
        self.setup.out.push(raw.at, EventKind::Create { path, dir });
        if !dir {
            self.clear(place, None);
        } else if !(self.nodes.stands(raw.target, place) && self.nodes.is_live(raw.target)) {
            self.take_in(raw.target, place);
        }
    }

    /// Puts a directory at a place and reads it, if the disk has it there.
    fn take_in(&mut self, handle: Handle, place: &Dentry) {
        self.put(handle, place, State::Unread);
        self.grow(vec![Step::told(place.clone())], Walk::reporting());
    }

    /// A name went, or went out of the tree.
    fn on_gone(&mut self, raw: &Raw, place: &Dentry, path: RelPath) {
        let dir = raw.is_dir();
        if dir {
            self.take_out(raw.target, place);
        }
        self.clear(place, None);
        if !(self.setup.skip)(&path, dir) {
            self.setup.out.push(raw.at, EventKind::Delete { path, dir });
        }
    }

    /// Drops what stands at a place, unless it is `but`. It was found there ahead of the events, or its
    /// own event was joined to an earlier one: the place is looked at again.
    fn clear(&mut self, place: &Dentry, but: Option<Handle>) {
        if let Some(found) = self.nodes.at(place).filter(|found| Some(*found) != but) {
            self.drop_node(found);
            self.doubts.look(place);
        }
    }

    /// Puts a directory at a place, with nothing below it, wherever it was.
    fn put(&mut self, handle: Handle, place: &Dentry, state: State) {
        self.take_out(handle, place);
        self.clear(place, None);
        if self.nodes.contains(place.parent) {
            self.nodes.insert(handle, place, state);
        } else {
            // The parent was below the directory itself, ahead of the events.
            self.lost = true;
        }
    }

    /// Drops a directory that was at a place. If it was found elsewhere, ahead of the events, it is looked
    /// for there again.
    fn take_out(&mut self, handle: Handle, place: &Dentry) {
        if let Some(found) = self.nodes.place(handle) {
            self.drop_node(handle);
            if found != *place {
                self.doubts.look(&found);
            }
        }
    }

    fn on_rename(&mut self, raw: &Raw) {
        let Some(ends) = &raw.to else { return };
        let (from, to) = (Dentry::new(raw.dir, &raw.name), Dentry::new(ends.0, &ends.1));
        let known = |this: &Self, place: &Dentry| {
            let live = this.nodes.is_live(place.parent) && check_name(&place.name).is_ok();
            if live { this.nodes.path_of(place) } else { None }
        };
        let (from_path, to_path) = (known(self, &from), known(self, &to));
        match (from_path, to_path) {
            (Some(from_path), Some(to_path)) => self.on_move(raw, (from, from_path), (to, to_path)),
            (Some(path), None) => self.on_gone(raw, &from, path),
            (None, Some(path)) => self.on_arrival(raw, &to, path),
            (None, None) => {}
        }
    }

    /// A name came from a directory that is not in the tree.
    fn on_arrival(&mut self, raw: &Raw, place: &Dentry, path: RelPath) {
        if !(self.setup.skip)(&path, raw.is_dir()) {
            self.on_new(raw, place, path);
        } else if raw.is_dir() {
            self.put(raw.target, place, State::Skipped);
        } else {
            self.clear(place, None);
        }
    }

    /// Takes a rename of which both names are in directories of the tree.
    fn on_move(&mut self, raw: &Raw, (from, from_path): (Dentry, RelPath), (to, to_path): (Dentry, RelPath)) {
        let dir = raw.is_dir();
        match ((self.setup.skip)(&from_path, dir), (self.setup.skip)(&to_path, dir)) {
            (false, false) => {
                self.tell_move(raw, from_path, to_path.clone());
                if dir {
                    self.move_dir(raw.target, &from, &to);
                } else {
                    let unread = self.nodes.state(from.parent) == Some(State::Unread);
                    if unread || self.doubts.is_fresh(from.parent) {
                        self.setup.out.push(raw.at, EventKind::CloseWrite(to_path));
                    }
                    self.clear(&from, None);
                    self.clear(&to, None);
                }
            }
            (true, false) => self.on_new(raw, &to, to_path),
            (from_skipped, true) => {
                if !from_skipped {
                    self.on_gone(raw, &from, from_path);
                }
                if dir {
                    self.put(raw.target, &to, State::Skipped);
                }
            }
        }
    }

    /// Reports a rename. The kernel tells of an exchange as of two renames, there and back; both names
    /// then hold something else than those two say.
    fn tell_move(&mut self, raw: &Raw, from: RelPath, to: RelPath) {
        let exchange = self
            .last_move
            .take()
            .is_some_and(|(there, back, file)| there == to && back == from && file != raw.target);
        self.setup
            .out
            .push(raw.at, EventKind::Move { from: from.clone(), to: to.clone(), dir: raw.is_dir() });
        if exchange {
            for path in [from, to] {
                // The other one may be of another type, so a directory is asked for as a whole.
                self.setup.out.rescan(path, RescanReason::Arrived);
            }
        } else {
            self.last_move = Some((from, to, raw.target));
        }
    }

    /// Moves a directory in the tree.
    fn move_dir(&mut self, handle: Handle, from: &Dentry, to: &Dentry) {
        let at_from = self.nodes.stands(handle, from);
        self.clear(from, Some(handle));
        if !at_from || self.nodes.is_within(to.parent, handle) || !self.nodes.is_live(handle) {
            // Found ahead of the events, or not at all. What was found in it was reported before this
            // rename was, if ever, so it is read and reported again.
            if let Some(path) = self.nodes.path_of(to) {
                self.setup.out.push(Instant::now(), EventKind::Create { path, dir: true });
            }
            return self.take_in(handle, to);
        }
        if let Some(over) = self.nodes.at(to).filter(|over| *over != handle) {
            self.drop_node(over);
            self.doubts.look(to);
        }
        self.nodes.relocate(handle, to);
        if self.nodes.state(handle) == Some(State::Unread) {
            self.grow(vec![Step::told(to.clone())], Walk::reporting());
        } else {
            self.after_move(handle);
        }
    }

    /// The rules go by paths, which are other ones now.
    fn after_move(&mut self, top: Handle) {
        for (handle, path) in self.nodes.below(top) {
            let Some(state) = self.nodes.state(handle) else { continue };
            let skip = (self.setup.skip)(&path, true);
            let Some(place) = self.nodes.place(handle).filter(|_| skip != (state == State::Skipped)) else {
                continue;
            };
            if skip {
                self.put(handle, &place, State::Skipped);
            } else {
                self.setup.out.push(Instant::now(), EventKind::Create { path, dir: true });
                self.nodes.set_state(handle, State::Unread);
                self.grow(vec![Step::told(place)], Walk::reporting());
            }
        }
    }
}
