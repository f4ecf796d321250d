//! Events in, changes out, when it is time for them.
//!
//! **Purpose:** the first write to a quiet path leaves at once; a path that keeps changing is sent now
//! and then; deletes leave late and together, so that they can be judged together.
//! **In → Out:** [`Event`]s and what the senders report; [`Item`]s from [`Debounce::due`].
//! **Invariants:** renames leave in the order of their events; what an event says is behind some item, or
//! still held here, whatever came in between; after `due(now)` nothing held is due at `now` or before. A
//! name that goes says what was not sent under it, since its file may have others; and one that another
//! file takes says so before anything is sent for that.
//! **Not here:** clocks (time is an argument), files (an event is a hint), the guard.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::batch::{Change, ChangeKind, Extent, Identity, Joined, Naming};
use crate::event::{Age, Event, EventKind, Moment, RescanReason};
use crate::tree::{FileId, RelPath};

use deletes::{Deletes, Pending};
use dirt::{Dirt, Dirty};
use ready::Ready;
use recent::{Recent, Trace};

mod deletes;
mod dirt;
mod ready;
mod recent;
#[cfg(test)]
mod tests;

/// A path that keeps changing rests this many times what its last send took.
const SEND_REST: u32 = 10;

/// When things leave.
#[derive(Debug, Clone)]
pub struct Options {
    /// A path is quiet after this long without an event.
    pub delay: Duration,
    /// A path that is never quiet leaves this long after its first unsent event.
    pub max_delay: Duration,
    /// A file that is open for writing waits for its close at most this long since its first change.
    pub max_open: Duration,
    /// Deletes leave after this long without another one.
    pub delete_quiet: Duration,
    /// Deletes leave this long after the first of them, quiet or not.
    pub delete_wait_max: Duration,
    /// Fewer deletes than this leave after `delay`.
    pub few_deletes: usize,
    /// More dirty paths than this, or more deletes, become one rescan of everything.
    pub paths_max: usize,
}

/// One thing that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Goes as it is.
    Change(Change),
    /// Deletes that are judged together; what a directory held comes before it.
    Burst(Vec<Change>),
}

/// Everything that is known to differ and was not handed on yet.
#[derive(Debug)]
pub struct Debounce {
    options: Options,
    dirty: Dirty,
    deletes: Deletes,
    recent: Recent,
    ready: Ready,
}

impl Debounce {
    /// Returns one that holds nothing.
    pub fn new(options: Options) -> Self {
        let recent = Recent::new(options.max_open);
        Self {
            options,
            dirty: Dirty::default(),
            deletes: Deletes::default(),
            recent,
            ready: Ready::default(),
        }
    }

    /// Takes one event in. Events come in the order of the kernel.
    pub fn event(&mut self, event: Event) {
        let age = event.age();
        match event.kind {
            EventKind::Modify(path) => self.wrote(path, age, false),
            EventKind::CloseWrite(path) => self.wrote(path, age, true),
            EventKind::Create { path, dir } => self.created(path, dir, age),
            EventKind::Attrib { path, dir } => self.touched(path, dir, age),
            EventKind::Delete { path, dir } => {
                let age = self.part_within(&path).map_or(age, |dropped| dropped.join(age));
                self.deletes.add(path, Pending { age, expected: Identity::Dir(dir) }, event.at);
            }
            EventKind::Move { from, to, dir } => self.moved(&from, &to, dir, age),
            EventKind::Rescan { path, reason } => self.rescan(path, reason, age),
        }
        self.bound();
    }

    /// Takes in that a name, of which an event has told, is one of a file that has several.
    pub fn joined(&mut self, path: RelPath, file: FileId, age: Age) {
        self.ready.name(path, Naming::Of(file), age);
    }

    /// Takes out what is due, in the order in which it must go.
    pub fn due(&mut self, now: Instant) -> Vec<Item> {
        let due = self.dirty.take_due(now);
        self.hand_on(due, now);
        if self.deletes.due(&self.options).is_some_and(|at| at <= now) {
            let all = self.deletes.take_all();
            self.burst(all, now);
        }
        self.ready.take()
    }

    /// Takes out everything, due or not.
    pub fn drain_all(&mut self, now: Instant) -> Vec<Item> {
        let all = self.dirty.take_within(&RelPath::root());
        self.hand_on(all, now);
        let all = self.deletes.take_all();
        self.burst(all, now);
        self.ready.take()
    }

    /// Returns when [`Debounce::due`] has something; `None` while nothing is held.
    pub fn deadline(&self) -> Option<Instant> {
        let others = self.dirty.next().into_iter().chain(self.deletes.due(&self.options));
        self.ready.oldest().into_iter().chain(others).min()
    }

    /// Hears that a path was sent, that this ended `at`, and how long it took.
    pub fn sent(&mut self, path: &RelPath, at: Instant, took: Duration) {
        let floor = later(at, took.saturating_mul(SEND_REST));
        self.recent.change(path, at, |trace| trace.floor = Some(floor));
        self.settle(path);
    }

    /// Hears that a path was not sent because it is still open for writing.
    /// `age`: that of what was not sent.
    pub fn still_open(&mut self, path: &RelPath, age: Age) {
        if self.deletes.owe(path, Some(age)) {
            return;
        }
        let first = self.recent.get(path).map_or(age.since, |trace| trace.since.min(age.since));
        let mut dirt = self.dirty.take(path).unwrap_or_else(|| Dirt::new(first, first, true));
        dirt.first = dirt.first.min(first);
        dirt.change = dirt.change.min(age.change);
        dirt.round = true;
        dirt.scope = Extent::Content;
        // An edge that came meanwhile may be the close that is waited for.
        dirt.open = dirt.edge.is_none();
        self.put(path.clone(), dirt);
        self.bound();
    }

    /// Has a path's content looked at once more after a while, or sooner if there is an event. `age`: that of
    /// what was read, or if it is `owed`, of what was not sent.
    pub fn again(&mut self, path: &RelPath, now: Instant, after: Duration, (age, owed): (Age, bool)) {
        if self.deletes.owe(path, owed.then_some(age)) {
            return;
        }
        let at = later(now, after);
        let mut dirt =
            self.dirty.take(path).unwrap_or_else(|| Dirt { round: false, ..Dirt::new(now, now, true) });
        dirt.change = dirt.change.min(age.change);
        dirt.owe(owed.then_some(age));
        dirt.scope = Extent::Content;
        dirt.again = Some(dirt.again.map_or(at, |known| known.min(at)));
        self.put(path.clone(), dirt);
        self.bound();
    }

    /// Hears that the source has nothing under a path that was to be sent; `dir`: what it was, if known.
    pub fn gone(&mut self, path: &RelPath, dir: Option<bool>, now: Instant) {
        let told = self.recent.get(path).is_some_and(|trace| trace.deleted);
        // What is dirty is looked at again anyway, and may be back.
        if told || self.deletes.holds(path) || self.dirty.get(path).is_some() {
            return;
        }
        let expected = dir.map_or(Identity::Any, Identity::Dir);
        self.deletes.add(path.clone(), Pending { age: Age::believed(now), expected }, now);
        self.bound();
    }

    /// Returns how many paths are held, and since when the longest held one is. A path that is only
    /// read once more for certainty's sake counts, but not as a change that waits.
    pub fn pending(&self) -> (usize, Option<Instant>) {
        let oldest = self.dirty.oldest().into_iter().chain(self.deletes.oldest()).chain(self.ready.oldest());
        (self.dirty.len() + self.deletes.len() + self.ready.len(), oldest.min())
    }

    /// Returns since when the longest held change waits, what was sent back unsent included.
    pub fn owed(&self) -> Option<Instant> {
        self.pending().1.into_iter().chain(self.dirty.owed()).min()
    }

    /// Returns the least moment since which what is held may have been changed.
    pub fn change(&self) -> Moment {
        let dirty = self.dirty.iter().map(|(_, dirt)| dirt.change);
        let ready = self.ready.iter().map(|change| change.age.change);
        let deletes = self.deletes.iter().map(|pending| pending.age.change);
        dirty.chain(ready).chain(deletes).min().unwrap_or(Moment::NEVER)
    }

    fn wrote(&mut self, path: RelPath, age: Age, closed: bool) {
        let cancelled = self.cancel_delete(&path, age);
        let mut dirt = self.take_round(&path, age);
        dirt.owe(cancelled.map(|pending| pending.age));
        dirt.scope = Extent::Content;
        if closed {
            dirt.open = false;
            dirt.edge = Some(age.since);
        }
        self.put(path, dirt);
    }

    fn touched(&mut self, path: RelPath, dir: bool, age: Age) {
        let (content, writing) =
            self.dirty.get(&path).map_or((false, false), |dirt| (dirt.scope == Extent::Content, dirt.round));
        let mut dirt = self.take_round(&path, age);
        dirt.scope = if content { Extent::Content } else { Extent::Attributes };
        if !(content && writing) {
            dirt.dir = dir;
            dirt.edge = Some(age.since);
        }
        self.put(path, dirt);
    }

    fn created(&mut self, path: RelPath, dir: bool, age: Age) {
        let at = age.since;
        let cancelled = self.cancel_delete(&path, age);
        let told = self.recent.get(&path).is_some_and(|trace| trace.deleted);
        if dir && (cancelled.is_some() || told) {
            // A delete of what is back is not carried out. If a directory of that name was moved out of
            // the tree, what it held was never reported, and the target has it still.
            // What it holds by now is told name by name.
            let since = cancelled.map_or(at, |pending| pending.age.since.min(at));
            self.hand_on(vec![(path.clone(), Dirt::created_dir(at))], at);
            self.rescan(path, RescanReason::Moved, Age::believed(since));
            return;
        }
        let clean = self.dirty.get(&path).is_none();
        let mut dirt = self.take_round(&path, age);
        dirt.scope = Extent::Content;
        dirt.dir = dir;
        dirt.new |= clean && cancelled.is_none();
        dirt.owe(cancelled.map(|pending| pending.age));
        if dir {
            dirt.edge = Some(at);
        }
        self.put(path, dirt);
    }

    fn moved(&mut self, from: &RelPath, to: &RelPath, dir: bool, heard: Age) {
        if from == to {
            return;
        }
        let at = heard.since;
        let mut dirt = self.dirty.take_within(from);
        let deletes = self.deletes.take_below(from);
        let left = self.deletes.cancel(from).map(|pending| pending.age);
        let over = self.dirty.take(to);
        let below = self.part_within(to);
        // What was not sent of what stood there is as old as the rename that replaces it.
        let age = over.iter().map(Dirt::age).chain(below).chain(left).fold(heard, Age::join);
        self.hand_on_above(to, at);
        let replaced = self.deletes.take_within(to);
        self.burst(replaced, at);
        let new = dirt.iter().position(|(path, dirt)| path == from && dirt.new);
        if let Some(new) = new {
            let (_, old) = dirt.swap_remove(new);
            let unread = over.as_ref().and_then(Dirt::unread);
            if !dir || unread.is_some() {
                self.ready.name(to.clone(), Naming::Lost(unread), age);
            }
            self.ready.name(from.clone(), Naming::Became(to.clone()), age);
            // Nothing says whether the target has something under the new name, unless it was new too.
            let new = over.is_some_and(|over| over.new);
            let mut old = old;
            old.owe(Some(age));
            self.moved_new(from, to, Dirt { dir, new, last: at, ..old });
        } else {
            if let Some(unread) = over.as_ref().and_then(Dirt::unread) {
                self.ready.name(to.clone(), Naming::Lost(Some(unread)), age);
            }
            self.ready.rename(from.clone(), to.clone(), dir, age);
            self.recent.rename(from, to, at);
        }
        for (path, dirt) in dirt {
            if let Some(path) = path.rebase(from, to) {
                self.put(path, dirt);
            }
        }
        for (path, pending) in deletes {
            if let Some(path) = path.rebase(from, to) {
                self.deletes.restore(path, pending);
            }
        }
    }

    /// A rename, the last event in `dirt`, of what the target was never sent.
    fn moved_new(&mut self, from: &RelPath, to: &RelPath, dirt: Dirt) {
        let at = dirt.last;
        let dirt = Dirt { quiet: self.is_quiet(to, at), round: true, open: false, edge: Some(at), ..dirt };
        if dirt.dir {
            self.hand_on(vec![(to.clone(), dirt)], at);
            self.ready.rescan(to.clone(), RescanReason::Moved, Age::believed(at));
        } else {
            self.put(to.clone(), dirt);
        }
        // A comparison may have come by while the old name stood, and sent it.
        self.ready.delete(from.clone(), Age::believed(at));
    }

    /// Drops what is held of a path and all below it, names that are gone; what was not sent under them is
    /// told. Returns how old all of it was.
    fn part_within(&mut self, path: &RelPath) -> Option<Age> {
        let mut oldest = None;
        for (path, dirt) in self.dirty.take_within(path) {
            let age = dirt.age();
            oldest = Age::of_both(oldest, Some(age));
            if let Some(unread) = dirt.unread() {
                self.ready.name(path, Naming::Lost(Some(unread)), age);
            }
        }
        oldest
    }

    /// Forgets a delete, since something stands there again: another file.
    fn cancel_delete(&mut self, path: &RelPath, age: Age) -> Option<Pending> {
        let pending = self.deletes.cancel(path)?;
        if !pending.expected.is_dir() {
            self.ready.name(path.clone(), Naming::Lost(None), pending.age.join(age));
        }
        Some(pending)
    }

    fn rescan(&mut self, path: RelPath, reason: RescanReason, age: Age) {
        let mut since = age.since;
        for (below, dirt) in self.dirty.take_within(&path) {
            // A rescan compares stamps, and an equal stamp never cancels a read that an event asks for.
            if dirt.again.is_some() || dirt.scope == Extent::Content {
                self.put(below, dirt);
            } else {
                since = since.min(dirt.since());
            }
        }
        for (_, pending) in self.deletes.take_within(&path) {
            since = since.min(pending.age.since);
        }
        self.ready.rescan(path, reason, Age { since, ..age });
    }

    /// Keeps what is held within bounds.
    fn bound(&mut self) {
        let max = self.options.paths_max;
        if self.dirty.len() <= max && self.deletes.len() <= max && self.ready.len() <= max {
            return;
        }
        let mut joined = Joined::default();
        let (ready, dirty) = (std::mem::take(&mut self.ready), std::mem::take(&mut self.dirty));
        ready.iter().for_each(|change| joined.add(change));
        for (path, dirt) in dirty.iter() {
            if dirt.dir || dirt.scope == Extent::Attributes {
                joined.join(dirt.age());
            } else {
                joined.content(path, dirt.age());
            }
        }
        std::mem::take(&mut self.deletes).iter().for_each(|pending| joined.deleted(pending.age));
        for Change { age, kind } in joined.into_changes() {
            if let ChangeKind::Rescan { path, reason } = kind {
                self.ready.rescan(path, reason, age);
            }
        }
    }

    /// Takes a path's dirt out for an event of that age, with a round that has begun.
    fn take_round(&mut self, path: &RelPath, age: Age) -> Dirt {
        let at = age.since;
        match self.dirty.take(path) {
            Some(dirt) if dirt.round => Dirt { last: at, change: dirt.change.min(age.change), ..dirt },
            other => {
                let dirt = Dirt::new(at, at, self.is_quiet(path, at));
                let owed = other.as_ref().and_then(|dirt| dirt.owed);
                let change = other.as_ref().map_or(age.change, |dirt| dirt.change.min(age.change));
                Dirt { again: other.and_then(|dirt| dirt.again), owed, change, ..dirt }
            }
        }
    }

    fn is_quiet(&self, path: &RelPath, at: Instant) -> bool {
        let last = self.recent.get(path).and_then(|trace| trace.last);
        last.is_none_or(|last| at.saturating_duration_since(last) >= self.options.delay)
    }

    fn put(&mut self, path: RelPath, dirt: Dirt) {
        let floor = self.recent.get(&path).and_then(|trace| trace.floor);
        let due = dirt.due(&self.options, floor);
        self.dirty.put(path, dirt, due);
    }

    fn settle(&mut self, path: &RelPath) {
        if let Some(dirt) = self.dirty.take(path) {
            self.put(path.clone(), dirt);
        }
    }

    /// Hands paths on: directories, then the others; never one before a directory that it needs.
    fn hand_on(&mut self, dirt: Vec<(RelPath, Dirt)>, now: Instant) {
        let mut sorted: BTreeMap<(bool, RelPath), Dirt> = BTreeMap::new();
        for (path, dirt) in dirt {
            for above in above(&path) {
                if let Some(dir) = self.dirty.take_if(&above, Dirt::makes_dir) {
                    sorted.insert((false, above), dir);
                }
            }
            sorted.insert((!dirt.dir, path), dirt);
        }
        for ((_, path), dirt) in sorted {
            if !dirt.dir {
                // What stood below is in the way of what is no directory any more.
                let below = self.deletes.take_below(&path);
                self.burst(below, now);
            }
            self.recent.change(&path, now, |trace| {
                let last = if dirt.round { Some(dirt.last) } else { trace.last };
                *trace = Trace { last, since: dirt.first, floor: trace.floor, deleted: false };
            });
            self.ready.update(path, dirt.scope, dirt.age());
        }
    }

    /// Hands on the new directories above a path that a rename needs.
    fn hand_on_above(&mut self, path: &RelPath, now: Instant) {
        let dirs = above(path).filter_map(|above| {
            let dir = self.dirty.take_if(&above, Dirt::makes_dir)?;
            Some((above, dir))
        });
        let dirs = dirs.collect();
        self.hand_on(dirs, now);
    }

    fn burst(&mut self, deletes: Vec<(RelPath, Pending)>, now: Instant) {
        let mut burst = Vec::with_capacity(deletes.len());
        // A child's bytes sort after its parent's.
        for (path, pending) in deletes.into_iter().rev() {
            self.recent.change(&path, now, |trace| trace.deleted = true);
            let kind = ChangeKind::Delete { path, expected: pending.expected };
            burst.push(Change { age: pending.age, kind });
        }
        self.ready.burst(burst);
    }
}

/// Returns the directories above a path, nearest first, without the root.
fn above(path: &RelPath) -> impl Iterator<Item = RelPath> {
    std::iter::successors(path.parent(), RelPath::parent).filter(|above| !above.is_root())
}

/// Returns `at + span`, or for a span beyond the clock's range a moment that nobody lives to see.
fn later(at: Instant, span: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);
    at.checked_add(span.min(FAR)).unwrap_or(at)
}
