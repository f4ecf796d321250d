//! Files with several names: which names belong together, and keeping them so on the target.
//!
//! A new inode takes the place of the old one name by name, so every other name of a file is joined
//! anew after its content was sent. No event tells which file a new name joined: what is not known is
//! found by a pass once the session is quiet.

use std::sync::PoisonError;

use super::error::SessionError;
use super::mailbox::{Lane, Parcel};
use super::recent::Sent;
use super::session::{Group, Session};
use crate::monitor::{Counters, Itemized};
use crate::protocol::ToReceiver;
use crate::tree::{Entry, Mask, RelPath};

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
        if entry.nlink < 2 || !self.shared.mask.hard_links {
            return Ok(false);
        }
        self.note_link(path, entry);
        let Some((existing, sent)) =
            self.linked.get(&entry.id).map(|group| (group.first.clone(), group.sent))
        else {
            return Ok(false);
        };
        let current = match parcel.lane {
            // The reading has seen every event behind the change.
            Lane::Live => sent.began >= parcel.issued,
            Lane::Bulk => same_content(&sent, entry),
        };
        if existing == *path || !current {
            return Ok(false);
        }
        let there = self.shared.source.entry(&existing, &Mask::nothing()).ok().flatten();
        if there.is_none_or(|there| there.id != entry.id) {
            return Ok(false);
        }
        self.send_link(path, &existing, entry)?;
        Ok(true)
    }

    pub(super) fn note_link(&mut self, path: &RelPath, entry: &Entry) {
        let mut links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        let names = links.entry(entry.id).or_default();
        names.insert(path.clone());
        let all_known = names.len() >= usize::try_from(entry.nlink).unwrap_or(usize::MAX);
        if !all_known && self.links_sought.insert(entry.id, entry.nlink) != Some(entry.nlink) {
            let since = self.since;
            self.links_doubtful = Some(self.links_doubtful.map_or(since, |known| known.min(since)));
            self.shared.view.seek(entry.id);
        }
    }

    pub(super) fn begin_group(&mut self, path: &RelPath, entry: &Entry, sent: Sent) -> Done {
        let mut names = self.linked.remove(&entry.id).map(|group| group.names).unwrap_or_default();
        names.insert(path.clone());
        self.linked.insert(entry.id, Group { first: path.clone(), sent, names });
        self.relink_others(path, entry)
    }

    pub(super) fn send_link(&mut self, path: &RelPath, existing: &RelPath, entry: &Entry) -> Done {
        if let Some(group) = self.linked.get_mut(&entry.id) {
            group.names.insert(path.clone());
        }
        Counters::add(&self.shared.status.counters.links, 1);
        let expect = version_of(entry);
        self.send(&ToReceiver::Link { path: path.clone(), existing: existing.clone(), expect })?;
        self.shared.status.tried(path, self.batch);
        self.touch_parent(path);
        if self.shared.monitor.itemizes() {
            let linked = Itemized::Linked { path: path.clone(), existing: existing.clone() };
            self.shared.monitor.itemized(&self.shared.about, &linked);
        }
        Ok(())
    }

    /// Joins the other known names of a file to the one whose content was just sent: on the target
    /// they still are the version before.
    pub(super) fn relink_others(&mut self, path: &RelPath, entry: &Entry) -> Done {
        self.note_link(path, entry);
        let names = {
            let links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
            let mut names = links.get(&entry.id).cloned().unwrap_or_default();
            names
                .extend(self.linked.get(&entry.id).into_iter().flat_map(|group| group.names.iter().cloned()));
            names
        };
        for name in names.iter().filter(|name| *name != path) {
            let there = self.shared.source.entry(name, &Mask::nothing()).ok().flatten();
            if there.is_some_and(|there| there.id == entry.id) {
                self.send_link(name, path, entry)?;
            } else {
                let mut links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(names) = links.get_mut(&entry.id) {
                    names.remove(name);
                }
                if let Some(group) = self.linked.get_mut(&entry.id) {
                    group.names.remove(name);
                }
                self.links_sought.remove(&entry.id);
            }
        }
        // Names that are gone have stood for others that are not known.
        self.note_link(path, entry);
        Ok(())
    }

    pub(super) fn rename_links(&mut self, from: &RelPath, to: &RelPath) {
        self.forget_links(to);
        let rebase = |path: &RelPath| path.rebase(from, to).unwrap_or_else(|| path.clone());
        for group in self.linked.values_mut() {
            group.first = rebase(&group.first);
            if group.names.iter().any(|name| name.is_within(from)) {
                group.names = group.names.iter().map(rebase).collect();
            }
        }
        let mut links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        for names in links.values_mut() {
            if names.iter().any(|name| name.is_within(from)) {
                *names =
                    names.iter().map(|name| name.rebase(from, to).unwrap_or_else(|| name.clone())).collect();
            }
        }
    }

    /// Forgets the names at and below a path that was overwritten or removed.
    pub(super) fn forget_links(&mut self, path: &RelPath) {
        self.linked.retain(|_, group| {
            group.names.retain(|name| !name.is_within(path));
            if group.first.is_within(path) {
                match group.names.first() {
                    Some(other) => group.first = other.clone(),
                    None => return false,
                }
            }
            true
        });
        let mut links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        for names in links.values_mut() {
            names.retain(|name| !name.is_within(path));
        }
    }
}

fn same_content(sent: &Sent, entry: &Entry) -> bool {
    let now = entry.version();
    (sent.version.id, sent.version.size, sent.version.mtime) == (now.id, now.size, now.mtime)
}
