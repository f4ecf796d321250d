//! What leaves with the next call, in order.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Item;
use super::dirt::within;
use crate::batch::{Change, ChangeKind, Identity, Naming, Scope};
use crate::event::RescanReason;
use crate::tree::RelPath;

/// Items in the order in which they go.
#[derive(Debug, Default)]
pub(super) struct Ready {
    items: Vec<Option<Item>>,
    /// Where the rescans since the last rename are, since when they wait, and whether they read contents.
    rescans: BTreeMap<RelPath, (usize, Instant, bool)>,
    oldest: Option<Instant>,
}

impl Ready {
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The oldest event behind what waits here.
    pub fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    pub fn take(&mut self) -> Vec<Item> {
        std::mem::take(self).items.into_iter().flatten().collect()
    }

    pub fn update(&mut self, path: RelPath, scope: Scope, since: Instant) {
        self.change(ChangeKind::Update { path, scope }, since);
    }

    pub fn rename(&mut self, from: RelPath, to: RelPath, dir: bool, since: Instant) {
        self.rescans.clear();
        self.change(ChangeKind::Rename { from, to, dir }, since);
    }

    /// A delete of what the target most likely does not have, and so nothing to be judged.
    pub fn delete(&mut self, path: RelPath, since: Instant) {
        self.change(ChangeKind::Delete { path, expected: Identity::Any }, since);
    }

    /// What became of a name.
    pub fn name(&mut self, path: RelPath, naming: Naming, since: Instant) {
        self.change(ChangeKind::Name { path, naming }, since);
    }

    /// A rescan; of two of which one covers the other, the wider one goes, unless the other one alone reads
    /// contents.
    pub fn rescan(&mut self, path: RelPath, reason: RescanReason, since: Instant) {
        let wider = std::iter::successors(Some(path.clone()), RelPath::parent).find_map(|above| {
            self.rescans.get(&above).copied().filter(|(_, _, reads)| *reads || !reason.reads())
        });
        if let Some((at, known, _)) = wider {
            if since < known
                && let Some(Some(Item::Change(change))) = self.items.get_mut(at)
            {
                change.since = since;
                self.oldest = self.oldest.map(|oldest| oldest.min(since));
            }
            return;
        }
        let mut since = since;
        for below in within(&self.rescans, &path) {
            let covered = self.rescans.get(&below).is_some_and(|(_, _, reads)| reason.reads() || !*reads);
            if covered && let Some((at, known, _)) = self.rescans.remove(&below) {
                since = since.min(known);
                if let Some(slot) = self.items.get_mut(at) {
                    *slot = None;
                }
            }
        }
        self.rescans.insert(path.clone(), (self.items.len(), since, reason.reads()));
        self.change(ChangeKind::Rescan { path, reason }, since);
    }

    /// Deletes that are judged together.
    pub fn burst(&mut self, burst: Vec<Change>) {
        if let Some(since) = burst.iter().map(|change| change.since).min() {
            self.push(Item::Burst(burst), since);
        }
    }

    fn change(&mut self, kind: ChangeKind, since: Instant) {
        self.push(Item::Change(Change { since, kind }), since);
    }

    fn push(&mut self, item: Item, since: Instant) {
        self.oldest = Some(self.oldest.map_or(since, |oldest| oldest.min(since)));
        self.items.push(Some(item));
    }
}
