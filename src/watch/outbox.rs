//! What a backend says: events towards the sink, counts and problems towards the handle.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, EventKind, Moment, Reading, RescanReason};
use crate::tree::RelPath;

use super::{Found, Problem, Sink, Skip};

/// Events handed over at once.
const BATCH: usize = 4096;
/// Directories that came unheard and are compared one by one; more become everything.
const ARRIVED_MAX: usize = 1000;
/// The sink is told of marks no more often than this, in nanoseconds.
const TOLD_EVERY: u64 = 100_000_000;

/// What the handle reads while the thread runs. Written by the backend's thread alone.
#[derive(Default)]
pub(super) struct WatchState {
    watched: AtomicUsize,
    problems: Mutex<Vec<Problem>>,
    directories: Mutex<Option<Vec<RelPath>>>,
    listed: Condvar,
}

impl WatchState {
    pub(super) fn watched(&self) -> usize {
        self.watched.load(Ordering::Relaxed)
    }

    /// Waits until the backend has put its directories here, which somebody asked for.
    pub(super) fn wait_for_directories(&self, limit: Duration) -> Option<Vec<RelPath>> {
        let slot = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.listed.wait_timeout_while(slot, limit, |slot| slot.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Gathers events into batches, without immediate repetitions.
pub(super) struct Outbox {
    sink: Arc<dyn Sink>,
    shared: Arc<WatchState>,
    batch: Vec<Event>,
    /// What is told from now on was not changed before this.
    change: Moment,
    /// The mark that the sink was told last.
    told: Moment,
}

impl Outbox {
    pub(super) fn new(sink: Arc<dyn Sink>, shared: Arc<WatchState>) -> Self {
        Self { sink, shared, batch: Vec::new(), change: Moment::NEVER, told: Moment::UNKNOWN }
    }

    /// Adds one event; a repetition of the one before it says nothing new.
    pub(super) fn push(&mut self, at: Instant, kind: EventKind) {
        self.push_changed(at, self.change, kind);
    }

    /// Adds an event of what may have been changed since another moment.
    pub(super) fn push_changed(&mut self, at: Instant, change: Moment, kind: EventKind) {
        if let Some(last) = self.batch.last_mut().filter(|last| last.kind == kind) {
            last.change = last.change.min(change);
            return;
        }
        self.batch.push(Event { at, change, kind });
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Adds an event of what may have been changed at any time.
    pub(super) fn push_old(&mut self, at: Instant, kind: EventKind) {
        self.push_changed(at, self.unknown(), kind);
    }

    /// Returns the moment for what may have been changed at any time; where there are no marks, none is needed.
    pub(super) fn unknown(&self) -> Moment {
        if self.change == Moment::NEVER { Moment::NEVER } else { Moment::UNKNOWN }
    }

    /// Says that nobody knows what happened below `path`.
    pub(super) fn rescan(&mut self, path: RelPath, reason: RescanReason) {
        self.push(Instant::now(), EventKind::Rescan { path, reason });
    }

    /// Says that nobody knows what is below `path`, nor when it was changed.
    pub(super) fn rescan_whole(&mut self, path: RelPath, reason: RescanReason) {
        self.push_old(Instant::now(), EventKind::Rescan { path, reason });
    }

    /// Says that nobody knows what happened below `path` since a moment.
    pub(super) fn rescan_since(&mut self, path: RelPath, reason: RescanReason, since: Moment) {
        self.push_changed(Instant::now(), since.min(self.change), EventKind::Rescan { path, reason });
    }

    /// Says that other directories than before are at these paths.
    pub(super) fn arrived(&mut self, mut paths: Vec<RelPath>) {
        if self.change == Moment::NEVER {
            return;
        }
        if paths.len() > ARRIVED_MAX {
            paths = vec![RelPath::root()];
        }
        paths.into_iter().for_each(|path| self.rescan_whole(path, RescanReason::Arrived));
    }

    /// Takes in that everything was told that was changed before a moment.
    pub(super) fn mark(&mut self, moment: Moment) {
        self.change = if self.change == Moment::NEVER { moment } else { self.change.max(moment) };
    }

    /// Returns the last mark: what is told from now on was not changed before it.
    pub(super) fn change(&self) -> Moment {
        self.change
    }

    /// Hands over what was gathered.
    pub(super) fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.sink.events(std::mem::take(&mut self.batch));
        }
    }

    /// Hands over how far everything was told, and what the clock showed then. After [`Self::flush`], and only if
    /// nothing that was heard of has yet to be told.
    pub(super) fn tell_mark(&mut self, reading: Option<Reading>) {
        reading.into_iter().for_each(|reading| self.sink.clock(reading));
        if self.change != Moment::NEVER && self.change.0 >= self.told.0.saturating_add(TOLD_EVERY) {
            self.told = self.change;
            self.sink.mark(self.change);
        }
    }

    /// Hands over what the clock shows.
    pub(super) fn clock(&self, reading: Reading) {
        self.sink.clock(reading);
    }

    /// Takes what comparisons have found since the last call.
    pub(super) fn take_found(&self) -> Found {
        self.sink.take_found()
    }

    pub(super) fn set_watched(&self, count: usize) {
        self.shared.watched.store(count, Ordering::Relaxed);
    }

    pub(super) fn set_directories(&self, all: Vec<RelPath>) {
        *self.shared.directories.lock().unwrap_or_else(PoisonError::into_inner) = Some(all);
        self.shared.listed.notify_all();
    }

    pub(super) fn set_problems(&self, problems: Vec<Problem>) {
        *self.shared.problems.lock().unwrap_or_else(PoisonError::into_inner) = problems;
    }
}

/// Whether the rules leave out `path` or a directory above it.
pub(super) fn skipped(skip: &Skip, path: &RelPath, dir: bool) -> bool {
    let mut at = path.parent();
    while let Some(above) = at.filter(|above| !above.is_root()) {
        if skip(&above, true) {
            return true;
        }
        at = above.parent();
    }
    !path.is_root() && skip(path, dir)
}
