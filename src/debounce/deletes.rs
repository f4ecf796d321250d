//! Deletes that wait for one another.

use std::collections::BTreeMap;
use std::time::Instant;

use super::dirt::within;
use super::{Options, later};
use crate::batch::Identity;
use crate::event::Age;
use crate::tree::RelPath;

/// A delete that waits.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// How old the delete is, and what it stands for.
    pub age: Age,
    /// What stood there.
    pub expected: Identity,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Deletes {
    paths: BTreeMap<RelPath, Pending>,
    /// When the first and the last came of those that wait.
    span: Option<(Instant, Instant)>,
    /// The oldest that any of them stands for, or older.
    owed: Option<Instant>,
}

impl Deletes {
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    pub fn holds(&self, path: &RelPath) -> bool {
        self.paths.contains_key(path)
    }

    /// The oldest: deletes that wait are as old as the first of them, or younger, unless they stand for
    /// something older.
    pub fn oldest(&self) -> Option<Instant> {
        self.span.map(|(first, _)| self.owed.map_or(first, |owed| owed.min(first)))
    }

    /// Has a delete stand for a change of that age; `false` if there is no delete.
    pub fn owe(&mut self, path: &RelPath, age: Option<Age>) -> bool {
        let Some(pending) = self.paths.get_mut(path) else { return false };
        pending.age = age.map_or(pending.age, |age| age.join(pending.age));
        self.owed = self.owed.into_iter().chain(age.map(|age| age.since)).min();
        true
    }

    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.paths.values()
    }

    pub fn add(&mut self, path: RelPath, pending: Pending, at: Instant) {
        let first = self.span.map_or(at, |(first, _)| first);
        self.span = Some((first, at));
        self.owed = self.owed.into_iter().chain([pending.age.since]).min();
        self.paths.insert(path, pending);
    }

    /// Puts back under another name what was taken out.
    pub fn restore(&mut self, path: RelPath, pending: Pending) {
        let since = pending.age.since;
        let (first, last) = self.span.unwrap_or((since, since));
        self.span = Some((first.min(since), last.max(since)));
        self.owed = self.owed.into_iter().chain([since]).min();
        self.paths.insert(path, pending);
    }

    /// Forgets a delete: something stands there again.
    pub fn cancel(&mut self, path: &RelPath) -> Option<Pending> {
        let pending = self.paths.remove(path);
        self.settle();
        pending
    }

    /// When they leave.
    pub fn due(&self, options: &Options) -> Option<Instant> {
        let (first, last) = self.span?;
        let few = self.paths.len() < options.few_deletes;
        let quiet = if few { options.delay } else { options.delete_quiet };
        Some(later(last, quiet).min(later(first, options.delete_wait_max)))
    }

    pub fn take_all(&mut self) -> Vec<(RelPath, Pending)> {
        (self.span, self.owed) = (None, None);
        std::mem::take(&mut self.paths).into_iter().collect()
    }

    /// Takes out a path and all below it, in order.
    pub fn take_within(&mut self, top: &RelPath) -> Vec<(RelPath, Pending)> {
        let paths = within(&self.paths, top);
        let taken = paths.into_iter().filter_map(|path| self.paths.remove_entry(&path)).collect();
        self.settle();
        taken
    }

    /// Takes out all below a path, in order.
    pub fn take_below(&mut self, top: &RelPath) -> Vec<(RelPath, Pending)> {
        if self.paths.is_empty() {
            return Vec::new();
        }
        let itself = self.paths.remove_entry(top);
        let taken = self.take_within(top);
        if let Some((path, pending)) = itself {
            self.restore(path, pending);
        }
        taken
    }

    fn settle(&mut self) {
        if self.paths.is_empty() {
            (self.span, self.owed) = (None, None);
        }
    }
}
