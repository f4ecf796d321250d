//! Files with several names: which names belong together, and keeping them so on the target.
//!
//! A new inode takes the place of the old one name by name, so every other name of a file is joined
//! anew after its content was sent. No event tells which file a new name joined: what is not known is
//! found by a pass once the session is quiet.

use std::time::Instant;

use super::error::SessionError;
use super::mailbox::{Lane, Parcel};
use super::names::Parted;
use super::recent::Sent;
use super::session::Session;
use crate::batch::{Change, ChangeKind, Extent, Naming};
use crate::event::Age;
use crate::monitor::{Counters, Itemized};
use crate::protocol::{Expect, ToReceiver};
use crate::scan::View;
use crate::tree::{Entry, FileId, Kind, Mask, RelPath};

use super::changes::{Done, version_of};

impl Session {
    /// Makes a name of a file with several a link on the target, if the target is known to hold the
    /// current version under another of them.
    pub(super) fn send_as_link(
        &mut self,
        path: &RelPath,
        entry: &Entry,
        parcel: &Parcel,
    ) -> Result<bool, SessionError> {
        if entry.nlink < 2 || !self.shared.mask.hard_links || self.shared.is_apart(path) {
            return Ok(false);
        }
        self.note_link(path, entry);
        let group = self.shared.links().group(entry.id).map(|(group, first)| (group, first.clone()));
        let Some((group, existing)) = group else { return Ok(false) };
        let current = match parcel.lane {
            // The reading has seen every event behind the change.
            Lane::Live => group.began.is_some_and(|began| began >= parcel.issued),
            Lane::Bulk => group.is_of(entry),
        };
        if existing == *path || !current {
            return Ok(false);
        }
        let there = self.shared.source.entry(&existing, &Mask::nothing()).ok().flatten();
        if there.is_none_or(|there| there.id != entry.id) {
            return Ok(false);
        }
        let made = matches!(parcel.change.kind, ChangeKind::Update { scope: Extent::Absent, .. });
        self.send_link((path, made), &existing, entry, true)?;
        Ok(true)
    }

    pub(super) fn note_link(&mut self, path: &RelPath, entry: &Entry) {
        let known = {
            let mut links = self.shared.links();
            links.add(entry.id, path);
            links.count(entry.id)
        };
        // A single pass has noted every name before it sends the first one; the others are hidden, or elsewhere.
        let may_know_more = self.shared.options.live;
        let all_known = known >= usize::try_from(entry.nlink).unwrap_or(usize::MAX);
        if may_know_more && !all_known && self.links_sought.insert(entry.id, entry.nlink) != Some(entry.nlink)
        {
            self.seek(entry.id, false);
        }
    }

    /// Has a pass tell every name of a file; each is read if the content is owed, and else linked to what was sent.
    fn seek(&mut self, id: FileId, reads: bool) {
        self.links_doubtful = Age::of_both(self.links_doubtful, Some(self.age));
        self.shared.view.seek(id, reads);
    }

    /// Takes in that a file with several names was sent under one of them.
    pub(super) fn begin_group(&mut self, path: &RelPath, entry: &Entry, sent: Sent) -> Done {
        if self.shared.options.live {
            self.shared.links().sent(entry.id, path, &sent);
            return self.relink_others(path, entry);
        }
        // What was joined so far is another file on the target.
        let mut links = self.shared.links();
        links.part_names(entry.id);
        links.sent(entry.id, path, &sent);
        drop(links);
        if !self.shared.rules.spare() {
            self.links_late.insert(entry.id);
        }
        Ok(())
    }

    /// Has the names joined to what was sent that no change of their own has joined, at the end of a single pass. Before
    /// that the comparison may still come to them, and their directories may be missing. Whether there were files to look at.
    pub(super) fn join_late(&mut self) -> Result<bool, SessionError> {
        let late = std::mem::take(&mut self.links_late);
        let any = !late.is_empty();
        for id in late {
            let first = self.shared.links().group(id).map(|(_, first)| first.clone());
            let Some(first) = first else { continue };
            let entry = self.shared.source.entry(&first, &self.shared.mask).ok().flatten();
            if let Some(entry) = entry.filter(|entry| entry.id == id) {
                self.relink_others(&first, &entry)?;
            }
        }
        Ok(any)
    }

    /// Makes a name a link of another one; `made` if the target has nothing there.
    fn send_link(
        &mut self,
        (path, made): (&RelPath, bool),
        existing: &RelPath,
        entry: &Entry,
        own: bool,
    ) -> Done {
        self.shared.links().join(entry.id, path);
        // Told before it is done: a comparison that comes to the name afterwards finds it as it is to be.
        let old = match self.shared.monitor.itemizes() {
            true if self.shared.options.live => Some(None),
            true => self.shared.old_of(path, entry, own),
            false => None,
        };
        let counters = &self.shared.status.counters;
        Counters::add(&counters.links, 1);
        Counters::add(&counters.created, u64::from(made));
        // Without times the target's file has one of its own.
        let kind = entry.attrs.meta.kind;
        let expect = if self.shared.mask.times { version_of(entry) } else { Expect::Kind(kind) };
        self.send(&ToReceiver::Link { path: path.clone(), existing: existing.clone(), expect })?;
        self.shared.status.tried(path, self.batch);
        self.touch_parent(path);
        if let Some(old) = old.filter(|_| self.shared.monitor.itemizes()) {
            let mut new = Box::new(entry.clone());
            View::adjust(&self.shared.view, &mut new.attrs);
            let created = (made && old.is_none()).then_some(kind);
            let linked =
                Itemized::Linked { path: path.clone(), existing: existing.clone(), created, new, old };
            self.shared.monitor.itemized(&self.shared.about, &linked);
        }
        Ok(())
    }

    /// Joins the other known names of a file to the one whose content was just sent: on the target
    /// they still are the version before.
    pub(super) fn relink_others(&mut self, path: &RelPath, entry: &Entry) -> Done {
        self.note_link(path, entry);
        let names = self.shared.links().of(entry.id);
        // Where the target may be meant to stay as it is, a comparison decides on each name.
        let spares = self.shared.rules.spare();
        let live = self.shared.options.live;
        for name in names.iter().filter(|name| *name != path) {
            if !live && self.shared.links().is_joined(entry.id, name) {
                continue;
            }
            if self.bears(name, entry.id) {
                if spares {
                    continue;
                }
                if self.shared.is_apart(name) {
                    // On the target it is a file of its own.
                    self.soon.push(Change::read(name.clone(), self.age));
                    continue;
                }
                self.send_link((name, false), path, entry, false)?;
                // On its way under each name: the one that was read may be another file's before it arrives. If
                // the link cannot be made, a comparison finds that.
                let kind = ChangeKind::Update { path: name.clone(), scope: Extent::Absent };
                let change = Change { age: self.age, kind };
                self.keep(Parcel { change, issued: Instant::now(), lane: Lane::Live, counts: false });
            } else {
                self.shared.links().remove(entry.id, name);
                self.links_sought.remove(&entry.id);
            }
        }
        // Names that are gone have stood for others that are not known.
        self.note_link(path, entry);
        Ok(())
    }

    /// Whether a single pass has told what changes about a file, under another of its names.
    pub(super) fn is_told(&self, path: &RelPath, entry: &Entry) -> bool {
        let several = entry.nlink > 1 && self.shared.mask.hard_links && entry.attrs.meta.kind != Kind::Dir;
        if !several || self.shared.options.live || self.shared.tells_first(entry) {
            return false;
        }
        if self.shared.monitor.itemizes_same() {
            self.shared.tell_same(path, entry, true);
        }
        true
    }

    /// Whether a name is one of a file now.
    fn bears(&self, name: &RelPath, id: FileId) -> bool {
        let there = self.shared.source.entry(name, &Mask::nothing()).ok().flatten();
        there.is_some_and(|there| there.id == id)
    }

    pub(super) fn rename_links(&mut self, from: &RelPath, to: &RelPath) {
        self.forget_links(to);
        self.shared.links().rename(from, to);
    }

    /// Forgets the names at and below a path that was overwritten or removed. What was to be read again
    /// under one of them is read under another.
    pub(super) fn forget_links(&mut self, path: &RelPath) {
        let parted = self.shared.links().part_within(path);
        for Parted { id, unread, .. } in parted {
            // The next file of that number may have as many names.
            self.links_sought.remove(&id);
            if unread {
                self.read_under_another(id, Extent::Content);
            }
        }
    }

    /// Takes in what became of a name. The event of a change comes under the name that was used for it, and
    /// under no other.
    pub(super) fn take_name(&mut self, path: &RelPath, naming: &Naming) {
        match naming {
            Naming::Of(file) if self.shared.mask.hard_links => self.shared.links().add(*file, path),
            Naming::Of(_) => {}
            Naming::Became(to) => self.rename_links(path, to),
            Naming::Lost(unread) => {
                let parted = self.shared.links().part_others(path, None);
                self.read_elsewhere(parted, *unread);
            }
        }
    }

    /// Takes in what stands under a name where a change is to be sent: if that is no more the file that is
    /// known by it, the change is looked for under the other names of that one.
    pub(super) fn look_who(&mut self, path: &RelPath, now: Option<FileId>, scope: Extent) {
        let parted = self.shared.links().part_others(path, now);
        self.read_elsewhere(parted, Some(scope));
    }

    fn read_elsewhere(&mut self, parted: Vec<Parted>, scope: Option<Extent>) {
        for Parted { id, unread, .. } in parted {
            // The next file of that number may have as many names.
            self.links_sought.remove(&id);
            if let Some(scope) = scope.filter(|_| !unread).or(unread.then_some(Extent::Content)) {
                self.read_under_another(id, scope);
            }
        }
    }

    /// Has a file read under one of its names: the others are joined to that. Where none of those known
    /// stands, it may have moved, and every name is looked for.
    fn read_under_another(&mut self, id: FileId, scope: Extent) {
        let names = self.shared.links().of(id);
        match names.into_iter().find(|name| self.bears(name, id)) {
            Some(path) => {
                let kind = ChangeKind::Update { path, scope };
                self.soon.push(Change { age: self.age, kind });
            }
            None => self.seek(id, true),
        }
    }
}
