//! The way into an engine, for the watch and the sessions.
//!
//! **Invariants:** never blocks: what does not fit is an overflow. What a session sends back unsent is
//! owed from here on, before the session forgets it, until the engine has said what it holds.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};

pub(super) use super::input::Input;
use super::settler::Settler;
use crate::batch::{Change, Joined};
use crate::event::{Age, Event, Moment, Reading};
use crate::sender::{Ages, Feedback, Fenced, Mailbox, Source};
use crate::tree::RelPath;
use crate::watch::{Asker, Found, Sink};

#[derive(Default)]
struct Owed {
    /// On the way to the engine.
    transit: Ages,
    /// Since when what is on the way there may have changed.
    changes: Ages<Moment>,
    /// Held by the engine, as it said last.
    held: Option<Instant>,
    /// Lost in a full queue, and since when.
    overflow: Option<Instant>,
    lost: Joined,
    /// Something was lost, and the engine has not said yet what it made of it.
    loses: bool,
}

impl Owed {
    /// Notes that something did not fit; an overflow is a comparison of everything.
    fn lose(&mut self, since: Instant, add: impl FnOnce(&mut Joined)) {
        self.overflow = self.overflow.into_iter().chain([since]).min();
        self.loses = true;
        add(&mut self.lost);
    }
}

/// Events that wait for the engine at most; more become a rescan.
const EVENTS_MAX: usize = 32_768;

/// The way into an engine.
pub(super) struct Inlet {
    input: Sender<Input>,
    owed: Mutex<Owed>,
    moves: AtomicU64,
    /// Events on their way to the engine.
    waiting: AtomicUsize,
    /// Whether nothing tells of a write that leaves the stamp as it was.
    deaf: bool,
    /// What comparisons have found, for a watch that walks.
    found: Mutex<Found>,
    /// Hears how the clock was set.
    source: Arc<Source>,
    /// Asks the watch, once that stands.
    asker: OnceLock<Asker>,
}

impl Inlet {
    /// `deaf`: the source is watched by looking at stamps.
    pub fn new(input: Sender<Input>, deaf: bool, source: Arc<Source>) -> Self {
        let (moves, waiting) = (AtomicU64::new(0), AtomicUsize::new(0));
        let (owed, found, asker) = (Mutex::default(), Mutex::default(), OnceLock::new());
        Self { input, owed, moves, waiting, deaf, found, source, asker }
    }

    /// Takes in that the source is watched.
    pub fn asks(&self, asker: Asker) {
        let _ = self.asker.set(asker);
    }

    fn lock(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the engine of something; `owed`: the age of a change that is on its way with it.
    fn tell(&self, input: Input, owed: Option<Age>) {
        if let Some(age) = owed {
            let mut owed = self.lock();
            owed.transit.add(age.since);
            owed.changes.add(age.change);
            self.moves.fetch_add(1, Ordering::AcqRel);
        }
        let Err(TrySendError::Full(input)) = self.input.try_send(input) else { return };
        let mut inner = self.lock();
        let since = owed.map_or_else(Instant::now, |age| age.since);
        match input {
            Input::StillOpen(path, _, age) | Input::Again(path, _, _, (age, _)) => {
                inner.lose(since, |lost| lost.content(&path, age));
            }
            _ => inner.lose(since, |lost| lost.join(Age::believed(since))),
        }
        if let Some(age) = owed {
            inner.transit.remove(age.since);
            inner.changes.remove(age.change);
        }
    }

    /// Notes that the engine has taken events in.
    pub fn took(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::AcqRel);
    }

    /// Returns the comparisons that find what was lost in a full queue, and leaves them to the caller; not before
    /// all that was told before was taken in.
    pub fn take_overflow(&self) -> Vec<Change> {
        let mut owed = self.lock();
        if owed.overflow.is_none() || self.waiting.load(Ordering::Acquire) > 0 {
            return Vec::new();
        }
        // Held until the engine says what it made of it.
        owed.held = owed.held.into_iter().chain(owed.overflow).min();
        owed.overflow = None;
        std::mem::take(&mut owed.lost).into_changes()
    }

    /// Says what the engine holds now, and what of the transit it has taken in.
    pub fn publish(&self, held: Option<Instant>, taken: impl IntoIterator<Item = Age>) {
        let mut owed = self.lock();
        owed.held = held;
        owed.loses = owed.overflow.is_some();
        for age in taken {
            owed.transit.remove(age.since);
            owed.changes.remove(age.change);
        }
    }

    /// Returns since when what is on its way to the engine from the sessions may have changed.
    pub fn change(&self) -> Moment {
        let owed = self.lock();
        if owed.loses { Moment::UNKNOWN } else { owed.changes.oldest().unwrap_or(Moment::NEVER) }
    }

    /// Returns since when the oldest waits of what is on its way to the engine or held there.
    pub fn owed(&self) -> Option<Instant> {
        let owed = self.lock();
        owed.transit.oldest().into_iter().chain(owed.held).chain(owed.overflow).min()
    }

    /// Returns what brings everything into one mailbox, once the watch stands.
    fn settler(&self, to: &Arc<Mailbox>) -> Option<Settler> {
        let asker = self.asker.get()?.clone();
        Some(Settler::new(self.input.clone(), asker, vec![Arc::clone(to)]))
    }

    /// Returns how often something was sent back: who looks at several places in turn has missed nothing
    /// that went round, if this did not change meanwhile.
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }
}

impl Sink for Inlet {
    fn events(&self, events: Vec<Event>) {
        let count = events.len();
        // What comes behind something that was lost is lost as well, until that was taken in: in this order.
        let behind = self.lock().overflow.is_some();
        let fits = self.waiting.fetch_add(count, Ordering::AcqRel) + count <= EVENTS_MAX && !behind;
        let sent = if fits {
            self.input.try_send(Input::Events(events))
        } else {
            Err(TrySendError::Full(Input::Events(events)))
        };
        let Err(error) = sent else { return };
        self.waiting.fetch_sub(count, Ordering::AcqRel);
        if let TrySendError::Full(Input::Events(events)) = error {
            let mut owed = self.lock();
            for event in &events {
                owed.lose(event.at, |lost| lost.add_event(event));
            }
            drop(owed);
            // The engine may have come to rest meanwhile.
            let _ = self.input.try_send(Input::Events(Vec::new()));
        }
    }

    fn mark(&self, heard: Moment) {
        if self.lock().overflow.is_none() {
            let _ = self.input.try_send(Input::Mark(heard));
        }
    }

    fn clock(&self, reading: Reading) {
        self.source.clock_was(reading);
    }

    fn take_found(&self) -> Found {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Feedback for Inlet {
    fn look(&self) {
        if let Some(asker) = self.asker.get() {
            asker.look();
        }
    }

    fn fence(&self, to: &Arc<Mailbox>, limit: Duration) -> Option<Fenced> {
        self.settler(to)?.fence(limit)
    }

    fn hear(&self, to: &Arc<Mailbox>, limit: Duration) {
        if let Some(settler) = self.settler(to) {
            settler.hear(limit);
        }
    }

    fn owed(&self) -> Option<Instant> {
        self.owed()
    }

    fn moves(&self) -> u64 {
        self.moves()
    }

    fn change(&self) -> Moment {
        self.change()
    }

    fn found(&self, path: &RelPath) {
        if self.deaf {
            self.found.lock().unwrap_or_else(PoisonError::into_inner).add(path.clone());
        }
    }

    fn sent(&self, path: &RelPath, took: Duration) {
        // Only what took long holds a path back.
        if took > Duration::from_millis(2) {
            self.tell(Input::Sent(path.clone(), Instant::now(), took), None);
        }
    }

    fn still_open(&self, path: &RelPath, known: Instant, age: Age) {
        self.tell(Input::StillOpen(path.clone(), known, age), Some(age));
    }

    fn again(&self, path: &RelPath, after: Duration, known: Instant, (age, owed): (Age, bool)) {
        self.tell(Input::Again(path.clone(), after, known, (age, owed)), owed.then_some(age));
    }

    fn racy(&self, path: &RelPath, _hash: [u8; 32], after: Duration) {
        if self.deaf {
            let now = Instant::now();
            self.tell(Input::Again(path.clone(), after, now, (Age::believed(now), false)), None);
        }
    }

    fn gone(&self, path: &RelPath) {
        self.tell(Input::Gone(path.clone()), None);
    }
}
