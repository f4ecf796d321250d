//! What leaves with the next call, in order.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Item;
use super::dirt::within;
use crate::batch::{Change, ChangeKind, Extent, Identity, Naming};
use crate::event::{Age, RescanReason};
use crate::tree::RelPath;

/// Items in the order in which they go.
#[derive(Debug, Default)]
pub(super) struct Ready {
    items: Vec<Option<Item>>,
    /// Where the rescans since the last rename are, how old they are, and whether they read contents.
    rescans: BTreeMap<RelPath, (usize, Age, bool)>,
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

    pub fn update(&mut self, path: RelPath, scope: Extent, age: Age) {
        self.change(ChangeKind::Update { path, scope }, age);
    }

    pub fn rename(&mut self, from: RelPath, to: RelPath, dir: bool, age: Age) {
        self.rescans.clear();
        self.change(ChangeKind::Rename { from, to, dir }, age);
    }

    /// A delete of what the target most likely does not have, and so nothing to be judged.
    pub fn delete(&mut self, path: RelPath, age: Age) {
        self.change(ChangeKind::Delete { path, expected: Identity::Any }, age);
    }

    /// What became of a name.
    pub fn name(&mut self, path: RelPath, naming: Naming, age: Age) {
        self.change(ChangeKind::Name { path, naming }, age);
    }

    /// A rescan; of two of which one covers the other, the wider one goes, unless the other one alone reads
    /// contents.
    pub fn rescan(&mut self, path: RelPath, reason: RescanReason, age: Age) {
        let wider = std::iter::successors(Some(path.clone()), RelPath::parent).find_map(|above| {
            self.rescans.get(&above).copied().filter(|(_, _, reads)| *reads || !reason.reads())
        });
        if let Some((at, known, _)) = wider {
            if !known.covers(age)
                && let Some(Some(Item::Change(change))) = self.items.get_mut(at)
            {
                change.age = change.age.join(age);
                let joined = change.age;
                self.oldest = self.oldest.map(|oldest| oldest.min(age.since));
                self.rescans.values_mut().filter(|known| known.0 == at).for_each(|known| known.1 = joined);
            }
            return;
        }
        let mut age = age;
        for below in within(&self.rescans, &path) {
            let covered = self.rescans.get(&below).is_some_and(|(_, _, reads)| reason.reads() || !*reads);
            if covered && let Some((at, known, _)) = self.rescans.remove(&below) {
                age = age.join(known);
                if let Some(slot) = self.items.get_mut(at) {
                    *slot = None;
                }
            }
        }
        self.rescans.insert(path.clone(), (self.items.len(), age, reason.reads()));
        self.change(ChangeKind::Rescan { path, reason }, age);
    }

    /// Deletes that are judged together.
    pub fn burst(&mut self, burst: Vec<Change>) {
        if let Some(since) = burst.iter().map(|change| change.age.since).min() {
            self.push(Item::Burst(burst), since);
        }
    }

    fn change(&mut self, kind: ChangeKind, age: Age) {
        self.push(Item::Change(Change { age, kind }), age.since);
    }

    /// Returns everything, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.items.iter().flatten().flat_map(|item| match item {
            Item::Change(change) => std::slice::from_ref(change),
            Item::Burst(burst) => burst,
        })
    }

    fn push(&mut self, item: Item, since: Instant) {
        self.oldest = Some(self.oldest.map_or(since, |oldest| oldest.min(since)));
        self.items.push(Some(item));
    }
}
