//! The way into an engine, for the watch and the sessions.
//!
//! **Invariants:** never blocks: what does not fit is an overflow. What a session sends back unsent is
//! owed from here on, before the session forgets it, until the engine has said what it holds.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};

use crate::event::{Event, RescanReason};
use crate::sender::{Ages, Feedback};
use crate::tree::RelPath;
use crate::watch::{Found, Sink};

/// What an engine is told.
pub(super) enum Input {
    Events(Vec<Event>),
    Sent(RelPath, Instant, Duration),
    /// With when it was known by the path, and since when its change waits.
    StillOpen(RelPath, Instant, Instant),
    /// The same behind the pause.
    Again(RelPath, Duration, Instant, Option<Instant>),
    Gone(RelPath),
    /// Compare everything, for what happened before that moment.
    Reconcile(RescanReason, Instant),
    /// Hand out what is held; somebody waits for everything up to that moment.
    Flush(Instant, Sender<()>),
    /// Answer when everything that came before is handed out or held.
    Echo(Sender<()>),
    Stop,
}

#[derive(Default)]
struct Owed {
    /// On the way to the engine.
    transit: Ages,
    /// Held by the engine, as it said last.
    held: Option<Instant>,
    /// Lost in a full queue, and since when.
    overflow: Option<Instant>,
}

impl Owed {
    /// Notes that something did not fit; an overflow is a comparison of everything.
    fn lose(&mut self, since: Option<Instant>) {
        let lost = since.unwrap_or_else(Instant::now);
        self.overflow = self.overflow.into_iter().chain([lost]).min();
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
}

impl Inlet {
    /// `deaf`: the source is watched by looking at stamps.
    pub fn new(input: Sender<Input>, deaf: bool) -> Self {
        let (moves, waiting) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { input, owed: Mutex::default(), moves, waiting, deaf, found: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, input: Input, since: Option<Instant>) {
        if let Some(since) = since {
            self.lock().transit.add(since);
            self.moves.fetch_add(1, Ordering::AcqRel);
        }
        if let Err(TrySendError::Full(_)) = self.input.try_send(input) {
            let mut owed = self.lock();
            owed.lose(since);
            since.into_iter().for_each(|since| owed.transit.remove(since));
        }
    }

    /// Notes that the engine has taken events in.
    pub fn took(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::AcqRel);
    }

    /// Returns since when something was lost in a full queue, and leaves it to the caller.
    pub fn take_overflow(&self) -> Option<Instant> {
        let mut owed = self.lock();
        // Held until the engine says what it made of it.
        owed.held = owed.held.into_iter().chain(owed.overflow).min();
        owed.overflow.take()
    }

    /// Says what the engine holds now, and what of the transit it has taken in.
    pub fn publish(&self, held: Option<Instant>, taken: impl IntoIterator<Item = Instant>) {
        let mut owed = self.lock();
        owed.held = held;
        taken.into_iter().for_each(|since| owed.transit.remove(since));
    }

    /// Returns since when the oldest waits of what is on its way to the engine or held there.
    pub fn owed(&self) -> Option<Instant> {
        let owed = self.lock();
        owed.transit.oldest().into_iter().chain(owed.held).chain(owed.overflow).min()
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
        let fits = self.waiting.fetch_add(count, Ordering::AcqRel) + count <= EVENTS_MAX;
        let sent = if fits {
            self.input.try_send(Input::Events(events))
        } else {
            Err(TrySendError::Full(Input::Stop))
        };
        if let Err(error) = sent {
            self.waiting.fetch_sub(count, Ordering::AcqRel);
            if error.is_full() {
                self.lock().lose(None);
            }
        }
    }

    fn take_found(&self) -> Found {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Feedback for Inlet {
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

    fn still_open(&self, path: &RelPath, known: Instant, since: Instant) {
        self.tell(Input::StillOpen(path.clone(), known, since), Some(since));
    }

    fn again(&self, path: &RelPath, after: Duration, known: Instant, owed: Option<Instant>) {
        self.tell(Input::Again(path.clone(), after, known, owed), owed);
    }

    fn racy(&self, path: &RelPath, _hash: [u8; 32], after: Duration) {
        if self.deaf {
            self.tell(Input::Again(path.clone(), after, Instant::now(), None), None);
        }
    }

    fn gone(&self, path: &RelPath) {
        self.tell(Input::Gone(path.clone()), None);
    }
}
