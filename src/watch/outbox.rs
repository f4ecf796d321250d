//! What a backend says: events towards the sink, counts and problems towards the handle.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, EventKind, RescanReason};
use crate::tree::RelPath;

use super::{Found, Problem, Sink, Skip};

/// Events handed over at once.
const BATCH: usize = 4096;

/// What the handle reads while the thread runs. Written by the backend's thread alone.
#[derive(Default)]
pub(super) struct Shared {
    watched: AtomicUsize,
    problems: Mutex<Vec<Problem>>,
    directories: Mutex<Option<Vec<RelPath>>>,
    listed: Condvar,
}

impl Shared {
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
    shared: Arc<Shared>,
    batch: Vec<Event>,
}

impl Outbox {
    pub(super) fn new(sink: Arc<dyn Sink>, shared: Arc<Shared>) -> Self {
        Self { sink, shared, batch: Vec::new() }
    }

    /// Adds one event; a repetition of the one before it says nothing new.
    pub(super) fn push(&mut self, at: Instant, kind: EventKind) {
        if self.batch.last().is_some_and(|last| last.kind == kind) {
            return;
        }
        self.batch.push(Event { at, kind });
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Says that nobody knows what happened below `path`.
    pub(super) fn rescan(&mut self, path: RelPath, reason: RescanReason) {
        self.push(Instant::now(), EventKind::Rescan { path, reason });
    }

    /// Hands over what was gathered.
    pub(super) fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.sink.events(std::mem::take(&mut self.batch));
        }
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
