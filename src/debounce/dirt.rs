//! Paths that differ, by name and by when they leave.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Instant;

use super::{Options, later};
use crate::batch::Extent;
use crate::event::{Age, Moment};
use crate::tree::RelPath;

/// What is known of one path that differs.
#[derive(Debug, Clone)]
pub(super) struct Dirt {
    /// The first unsent event.
    pub first: Instant,
    /// The last event.
    pub last: Instant,
    /// Whether there was an event at all; without one the path is only to be looked at `again`.
    pub round: bool,
    /// Whether the path was quiet before `first`.
    pub quiet: bool,
    /// When the path was last left in a state that its writer may have meant.
    pub edge: Option<Instant>,
    /// How much differs.
    pub scope: Extent,
    /// Whether it is a directory.
    pub dir: bool,
    /// Whether the name is new, so that nothing was sent under it.
    pub new: bool,
    /// Whether the close of its writer is waited for.
    pub open: bool,
    /// When it leaves whatever happens.
    pub again: Option<Instant>,
    /// Since when a change waits that was sent back unsent.
    pub owed: Option<Instant>,
    /// What is behind it was not changed before this.
    pub change: Moment,
}

impl Dirt {
    /// Returns what a first event makes.
    pub fn new(first: Instant, last: Instant, quiet: bool) -> Self {
        Self {
            first,
            last,
            round: true,
            quiet,
            edge: None,
            scope: Extent::Content,
            dir: false,
            new: false,
            open: false,
            again: None,
            owed: None,
            change: Moment::NEVER,
        }
    }

    /// Returns since when the oldest change behind this waits.
    pub fn since(&self) -> Instant {
        self.owed.map_or(self.first, |owed| owed.min(self.first))
    }

    /// Returns how old what is behind this is.
    pub fn age(&self) -> Age {
        Age::new(self.since(), self.change)
    }

    /// Has this take over something of that age.
    pub fn owe(&mut self, age: Option<Age>) {
        self.owed = self.owed.into_iter().chain(age.map(|age| age.since)).min();
        self.change = age.map_or(self.change, |age| age.change.min(self.change));
    }

    /// Returns what a directory is that leaves at once.
    pub fn created_dir(at: Instant) -> Self {
        Self { dir: true, edge: Some(at), ..Self::new(at, at, true) }
    }

    /// Whether sending this makes a directory that others need.
    pub fn makes_dir(&self) -> bool {
        self.dir && self.scope == Extent::Content
    }

    /// Returns what is lost of a file if this is dropped.
    pub fn unread(&self) -> Option<Extent> {
        (!self.dir).then_some(self.scope)
    }

    /// Returns when this leaves; `floor`: a path that keeps changing does not leave before.
    pub fn due(&self, options: &Options, floor: Option<Instant>) -> Instant {
        let settled = if !self.round {
            None
        } else if self.open {
            Some(later(self.first, options.max_open))
        } else if let (Some(edge), true) = (self.edge, self.quiet) {
            Some(edge)
        } else {
            // One that is removed and made again all the time is as old as what was never sent of it.
            let due = later(self.last, options.delay).min(later(self.since(), options.max_delay));
            Some(floor.map_or(due, |floor| due.max(floor)))
        };
        settled.into_iter().chain(self.again).min().unwrap_or(self.last)
    }
}

/// All dirt. Every path is in both orders.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    paths: BTreeMap<RelPath, (Dirt, Instant)>,
    times: BTreeSet<(Instant, RelPath)>,
    firsts: BTreeSet<(Instant, RelPath)>,
    owed: BTreeSet<(Instant, RelPath)>,
}

impl Dirty {
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    pub fn get(&self, path: &RelPath) -> Option<&Dirt> {
        self.paths.get(path).map(|(dirt, _)| dirt)
    }

    /// When the next path leaves.
    pub fn next(&self) -> Option<Instant> {
        self.times.first().map(|(due, _)| *due)
    }

    /// The oldest unsent event.
    pub fn oldest(&self) -> Option<Instant> {
        self.firsts.first().map(|(first, _)| *first)
    }

    /// The oldest change that was sent back.
    pub fn owed(&self) -> Option<Instant> {
        self.owed.first().map(|(since, _)| *since)
    }

    pub fn put(&mut self, path: RelPath, dirt: Dirt, due: Instant) {
        self.take(&path);
        self.times.insert((due, path.clone()));
        if dirt.round {
            self.firsts.insert((dirt.first, path.clone()));
        }
        if let Some(owed) = dirt.owed {
            self.owed.insert((owed, path.clone()));
        }
        self.paths.insert(path, (dirt, due));
    }

    pub fn take(&mut self, path: &RelPath) -> Option<Dirt> {
        let (path, (dirt, due)) = self.paths.remove_entry(path)?;
        let mut key = (due, path);
        self.times.remove(&key);
        key.0 = dirt.first;
        self.firsts.remove(&key);
        if let Some(owed) = dirt.owed {
            key.0 = owed;
            self.owed.remove(&key);
        }
        Some(dirt)
    }

    pub fn take_if(&mut self, path: &RelPath, wanted: impl Fn(&Dirt) -> bool) -> Option<Dirt> {
        if self.get(path).is_some_and(wanted) { self.take(path) } else { None }
    }

    pub fn take_due(&mut self, now: Instant) -> Vec<(RelPath, Dirt)> {
        let mut due = Vec::new();
        while let Some((_, path)) = self.times.first().filter(|(at, _)| *at <= now) {
            let path = path.clone();
            let Some(dirt) = self.take(&path) else { break };
            due.push((path, dirt));
        }
        due
    }

    /// Returns everything.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Dirt)> {
        self.paths.iter().map(|(path, (dirt, _))| (path, dirt))
    }

    /// Takes a path and all below it out.
    pub fn take_within(&mut self, top: &RelPath) -> Vec<(RelPath, Dirt)> {
        let paths = within(&self.paths, top);
        paths.into_iter().filter_map(|path| self.take(&path).map(|dirt| (path, dirt))).collect()
    }
}

/// Returns the keys at and below a path, in order.
pub(super) fn within<V>(map: &BTreeMap<RelPath, V>, top: &RelPath) -> Vec<RelPath> {
    if top.is_root() {
        return map.keys().cloned().collect();
    }
    let itself = map.get_key_value(top).map(|(path, _)| path.clone());
    let (low, high) = top.below_range();
    let below = map.range((Bound::Included(low), Bound::Excluded(high))).map(|(path, _)| path.clone());
    itself.into_iter().chain(below).collect()
}
