//! One sync's middle: events in, changes out, deletes judged, passes scheduled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use super::explain::Heard;
use super::pipeline::RunningTarget;
use crate::batch::{Change, ChangeKind, Identity};
use crate::config::Sync;
use crate::debounce::{Debounce, Item, Options};
use crate::event::{Event, EventKind, RescanReason};
use crate::monitor::{Monitor, Notice, Scope};
use crate::reconcile::{Population, Verdict, judge};
use crate::sender::{Feedback, Held, Mailbox, Source, TargetStatus};
use crate::tree::RelPath;
use crate::watch::Sink;

/// Paths that are held dirty at most; more become a rescan.
const PATHS_MAX: usize = 32_768;
/// Events that wait for the engine at most; more become a rescan.
const EVENTS_MAX: usize = 32_768;
/// A pass waits at least this many times what the last one took.
const PASS_REST: u32 = 10;
/// Fewer deletes than this do not wait for more.
const FEW_DELETES: usize = 10;
/// A root that is gone is looked for this often.
const ROOT_RETRY: Duration = Duration::from_secs(1);

/// What an engine is told.
pub(super) enum Input {
    Events(Vec<Event>),
    Sent(RelPath, Instant, Duration),
    StillOpen(RelPath),
    Again(RelPath, Duration),
    Gone(RelPath),
    Reconcile(RescanReason),
    Flush(Sender<()>),
    Stop,
}

/// The way into an engine, for the watch and the sessions. Never blocks: what does not fit is an
/// overflow.
pub(super) struct Inlet {
    input: Sender<Input>,
    overflowed: AtomicBool,
    /// Events on their way to the engine.
    waiting: AtomicUsize,
}

impl Inlet {
    pub fn new(input: Sender<Input>) -> Self {
        Self { input, overflowed: AtomicBool::new(false), waiting: AtomicUsize::new(0) }
    }

    fn tell(&self, input: Input) {
        if let Err(TrySendError::Full(_)) = self.input.try_send(input) {
            self.overflowed.store(true, Ordering::Release);
        }
    }
}

impl Sink for Inlet {
    fn events(&self, events: Vec<Event>) {
        let count = events.len();
        if self.waiting.fetch_add(count, Ordering::AcqRel) + count > EVENTS_MAX {
            self.waiting.fetch_sub(count, Ordering::AcqRel);
            self.overflowed.store(true, Ordering::Release);
            return;
        }
        if let Err(error) = self.input.try_send(Input::Events(events)) {
            self.waiting.fetch_sub(count, Ordering::AcqRel);
            if error.is_full() {
                self.overflowed.store(true, Ordering::Release);
            }
        }
    }
}

impl Feedback for Inlet {
    fn sent(&self, path: &RelPath, took: Duration) {
        // Only what took long holds a path back.
        if took > Duration::from_millis(2) {
            self.tell(Input::Sent(path.clone(), Instant::now(), took));
        }
    }

    fn still_open(&self, path: &RelPath) {
        self.tell(Input::StillOpen(path.clone()));
    }

    fn again(&self, path: &RelPath, after: Duration) {
        self.tell(Input::Again(path.clone(), after));
    }

    fn gone(&self, path: &RelPath) {
        self.tell(Input::Gone(path.clone()));
    }
}

struct Out {
    mailbox: Arc<Mailbox>,
    status: Arc<TargetStatus>,
    held: Arc<Held>,
    scope: Scope,
}

/// The middle of one sync.
pub(super) struct Engine {
    sync: Sync,
    source: Arc<Source>,
    outs: Vec<Out>,
    monitor: Arc<dyn Monitor>,
    inlet: Arc<Inlet>,
    debounce: Debounce,
    population: Population,
    next_pass: Option<Instant>,
    root_lost: bool,
    heard: Arc<Heard>,
    /// Entries that the last pass counted, as taken into the population.
    counted: Option<u64>,
}

impl Engine {
    pub fn new(
        sync: &Sync,
        source: &Arc<Source>,
        targets: &[RunningTarget],
        monitor: Arc<dyn Monitor>,
        inlet: Arc<Inlet>,
    ) -> Self {
        let debounce = Debounce::new(Options {
            delay: sync.delay,
            max_delay: sync.max_delay,
            max_open: sync.max_open,
            delete_quiet: Duration::from_secs(1),
            delete_wait_max: Duration::from_secs(10),
            few_deletes: FEW_DELETES,
            paths_max: PATHS_MAX,
        });
        let outs = targets.iter().map(|running| Out {
            mailbox: Arc::clone(&running.mailbox),
            status: Arc::clone(&running.status),
            held: Arc::clone(&running.held),
            scope: Scope::new(&sync.name, &running.target.name),
        });
        let next_pass = sync.reconcile.interval.map(|interval| Instant::now() + spread(interval));
        Self {
            sync: sync.clone(),
            source: Arc::clone(source),
            outs: outs.collect(),
            monitor,
            inlet,
            debounce,
            population: Population::default(),
            next_pass,
            root_lost: false,
            heard: Arc::default(),
            counted: None,
        }
    }

    /// Returns what remembers the latest events.
    pub fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.heard)
    }

    /// Works until it is told to stop.
    pub fn run(mut self, inputs: &Receiver<Input>) {
        loop {
            let mut until = self.debounce.deadline().into_iter().chain(self.next_pass).min();
            if self.root_lost {
                let retry = Instant::now() + ROOT_RETRY;
                until = Some(until.map_or(retry, |until| until.min(retry)));
            }
            let first = match until {
                Some(until) => inputs.recv_deadline(until),
                None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(input) => {
                    if self.take(input) {
                        break;
                    }
                    // What came meanwhile belongs to the same moment.
                    let mut stop = false;
                    for input in inputs.try_iter().take(1024) {
                        stop |= self.take(input);
                    }
                    if stop {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.turn();
        }
        let items = self.debounce.drain_all(Instant::now());
        self.hand_out(items);
    }

    fn turn(&mut self) {
        let now = Instant::now();
        if self.inlet.overflowed.swap(false, Ordering::AcqRel) {
            let kind = EventKind::Rescan { path: RelPath::root(), reason: RescanReason::Overflow };
            self.debounce.event(Event { at: now, kind });
        }
        if self.root_lost {
            self.find_root();
        }
        let items = self.debounce.due(now);
        self.hand_out(items);
        if self.next_pass.is_some_and(|at| at <= now) {
            self.pass(RescanReason::Interval);
        }
    }

    /// Takes one input in; `true` ends the engine.
    fn take(&mut self, input: Input) -> bool {
        let now = Instant::now();
        match input {
            Input::Events(events) => {
                self.inlet.waiting.fetch_sub(events.len(), Ordering::AcqRel);
                for event in events {
                    self.take_event(event);
                }
            }
            Input::Sent(path, at, took) => self.debounce.sent(&path, at, took),
            Input::StillOpen(path) => self.debounce.still_open(&path, now),
            Input::Again(path, after) => self.debounce.again(&path, now, after),
            Input::Gone(path) => self.debounce.gone(&path, None, now),
            Input::Reconcile(reason) => self.pass(reason),
            Input::Flush(done) => {
                let items = self.debounce.drain_all(now);
                self.hand_out(items);
                let _ = done.send(());
            }
            Input::Stop => return true,
        }
        false
    }

    fn take_event(&mut self, event: Event) {
        self.heard.note(&event.kind);
        match &event.kind {
            EventKind::Rescan { path, reason } => {
                self.monitor.notice(
                    &Scope::new(&self.sync.name, ""),
                    &Notice::Rescan { path: path.clone(), reason: *reason },
                );
                if *reason == RescanReason::Root {
                    if !self.source.is_in_place() && std::fs::symlink_metadata(self.source.path()).is_err() {
                        let text =
                            "the source directory is gone: nothing is deleted, it is waited for".to_owned();
                        let hint = Some("make it again, or mount what belongs there".to_owned());
                        self.monitor
                            .notice(&Scope::new(&self.sync.name, ""), &Notice::Warning { text, hint });
                    }
                    self.root_lost = true;
                    return;
                }
            }
            EventKind::Create { .. } => self.population.add(1, event.at),
            EventKind::Move { to, dir, .. } if !self.sync.moves => {
                let (at, to, dir) = (event.at, to.clone(), *dir);
                if dir {
                    let reason = RescanReason::Moved;
                    self.debounce.event(Event { at, kind: EventKind::Rescan { path: to.clone(), reason } });
                }
                return self.debounce.event(Event { at, kind: EventKind::Create { path: to, dir } });
            }
            _ => {}
        }
        self.debounce.event(event);
    }

    /// Looks for the root under its path, and compares everything once it is there.
    fn find_root(&mut self) {
        if self.source.reopen().is_err() {
            return;
        }
        self.root_lost = false;
        let kind = EventKind::Rescan { path: RelPath::root(), reason: RescanReason::Root };
        self.debounce.event(Event { at: Instant::now(), kind });
    }

    fn pass(&mut self, reason: RescanReason) {
        let now = Instant::now();
        let last = self.outs.iter().filter_map(|out| out.status.last_pass());
        let took = last.map(|(_, summary)| summary.elapsed).max().unwrap_or_default();
        if let Some(interval) = self.sync.reconcile.interval {
            self.next_pass = Some(now + spread(interval).max(took * PASS_REST));
        }
        let kind = ChangeKind::Rescan { path: RelPath::root(), reason };
        for out in &self.outs {
            out.mailbox.push_live([Change { since: now, kind: kind.clone() }]);
        }
    }

    fn hand_out(&mut self, items: Vec<Item>) {
        let mut changes: Vec<Change> = Vec::new();
        for item in items {
            match item {
                Item::Change(change) => changes.push(change),
                Item::Burst(burst) => {
                    self.give(&mut changes);
                    self.judge(burst);
                }
            }
        }
        self.give(&mut changes);
    }

    fn give(&self, changes: &mut Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        for out in &self.outs {
            out.mailbox.push_live(changes.iter().cloned());
        }
        changes.clear();
    }

    /// Lets a burst of deletes through, or has it held for every target.
    fn judge(&mut self, burst: Vec<Change>) {
        if burst.is_empty() || !self.sync.delete.live() {
            return;
        }
        let now = Instant::now();
        let known = self
            .outs
            .iter()
            .filter_map(|out| out.status.last_pass())
            .map(|(_, summary)| summary.entries)
            .max();
        if let Some(known) = known.filter(|known| self.counted != Some(*known)) {
            // A pass has counted since.
            self.counted = Some(known);
            self.population.set(usize::try_from(known).unwrap_or(usize::MAX), now);
        }
        let (current, most) = self.population.counts(now);
        // Where lsyncd was before, a tree that runs empty file by file (a spool) is nothing unusual.
        let usual = self.sync.adopted && burst.len() < FEW_DELETES;
        let empties = !usual && self.root_is_empty();
        let verdict = if self.source.is_in_place() {
            None
        } else {
            Some("the source root is gone or was replaced".to_owned())
        };
        let objection =
            verdict.or_else(|| match judge(&self.sync.guard, burst.len(), current, most, empties) {
                Verdict::Go => None,
                Verdict::Hold(reason) => Some(reason.to_string()),
            });
        if let Some(reason) = objection {
            for out in &self.outs {
                out.held.hold_more(reason.clone(), burst.clone());
                let notice = Notice::Held { count: burst.len() as u64, reason: reason.clone() };
                self.monitor.notice(&out.scope, &notice);
            }
            return;
        }
        self.population.remove(burst.len(), now);
        let mut burst = burst;
        // What a directory held when it was moved out of the tree is known to the target alone.
        burst.retain(|change| !matches!(&change.kind, ChangeKind::Delete { path, expected: Identity::Dir(_) } if path.is_root()));
        self.give(&mut burst);
    }

    fn root_is_empty(&self) -> bool {
        use std::os::fd::AsFd;
        let root = self.source.root();
        let Ok(fd) = root.dir(&RelPath::root()) else { return true };
        crate::disk::names(fd.as_fd())
            .map_or(true, |names| names.iter().all(|name| name == crate::scan::STATE_DIR))
    }
}

/// Returns an interval spread by a tenth either way, so that many syncs do not walk at once.
fn spread(interval: Duration) -> Duration {
    let mut seed = [0; 1];
    let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
    interval.mul_f64(0.9 + f64::from(seed[0]) / 1280.0)
}
