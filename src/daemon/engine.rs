//! One sync's middle: events in, changes out, deletes judged, passes scheduled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::inlet::{Inlet, Input};
use super::recent_events::RecentEvents;
use super::target::{Out, RunningTarget};
use crate::batch::{Change, ChangeKind, Identity, Renames, name_after, names_after};
use crate::config::Sync;
use crate::debounce::{Debounce, Item, Options};
use crate::event::{Age, Event, EventKind, Moment, RescanReason};
use crate::monitor::{Monitor, Notice, Scope};
use crate::reconcile::{Count, Doubt, Facts, Verdict, judge};
use crate::sender::{Source, first_of};
use crate::tree::{FileId, Mask, RelPath};

/// Paths that are held dirty at most; more become a rescan.
const PATHS_MAX: usize = 28_000;
/// A pass waits at least this many times what the last one took.
const PASS_REST: u32 = 10;
/// Fewer deletes than this do not wait for more.
const FEW_DELETES: usize = 10;
/// Renames that are remembered: sessions send back within a moment.
const RENAMES_MAX: usize = 4096;
/// Names that what is sent back may have by now; of more, the likeliest is followed.
const NAMES_MAX: usize = 16;
/// A root that is gone is looked for this often.
const ROOT_RETRY: Duration = Duration::from_secs(1);

/// The middle of one sync.
pub(super) struct Engine {
    sync: Sync,
    source: Arc<Source>,
    outs: Vec<Out>,
    monitor: Arc<dyn Monitor>,
    inlet: Arc<Inlet>,
    debounce: Debounce,
    next_pass: Option<Instant>,
    /// How old what is not known is since the root is not where it was.
    root_lost: Option<Age>,
    /// What was taken in of what sessions sent back, and not told of yet.
    taken: Vec<Age>,
    /// Everything was told that was changed before this moment, and is behind some change or held here.
    mark: Option<Moment>,
    /// What the mailboxes were told of that.
    told: Option<Moment>,
    /// Somebody waits for everything up to this moment.
    awaited: Option<Instant>,
    heard: Arc<RecentEvents>,
    /// What sessions send back may come under a name that is old by now.
    renames: Renames,
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
        let next_pass = sync.reconcile.interval.map(|interval| Instant::now() + spread(interval));
        Self {
            sync: sync.clone(),
            source: Arc::clone(source),
            outs: Out::of_all(&sync.name, targets),
            monitor,
            inlet,
            debounce,
            next_pass,
            root_lost: None,
            taken: Vec::new(),
            mark: None,
            told: None,
            awaited: None,
            heard: Arc::default(),
            renames: Renames::new(RENAMES_MAX),
        }
    }

    /// Returns what remembers the latest events.
    pub fn heard(&self) -> Arc<RecentEvents> {
        Arc::clone(&self.heard)
    }

    /// Works until it is told to stop.
    pub fn run(mut self, inputs: &Receiver<Input>) {
        loop {
            let mut until = self.debounce.deadline().into_iter().chain(self.next_pass).min();
            if self.root_lost.is_some() {
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
        self.take_overflow();
        if self.root_lost.is_some() {
            self.find_root();
        }
        let waiting = self.debounce.pending().1;
        if self.awaited.zip(waiting).is_some_and(|(until, since)| since <= until) {
            self.flush();
        }
        let items = self.debounce.due(now);
        self.hand_out(items);
        self.publish();
        if self.next_pass.is_some_and(|at| at <= now) {
            self.pass(RescanReason::Interval, now);
        }
    }

    fn take_overflow(&mut self) {
        for Change { age, kind } in self.inlet.take_overflow() {
            if let ChangeKind::Rescan { path, reason } = kind {
                let kind = EventKind::Rescan { path, reason };
                self.take_event(Event { at: age.since, change: age.change, kind });
            }
        }
    }

    /// Tells who waits what is held here. After everything that is due was handed out.
    fn publish(&mut self) {
        let lost = self.root_lost.map(|age| age.since);
        let held = self.debounce.owed().into_iter().chain(lost).min();
        // In this order: what comes back from a session is held here before it is forgotten there.
        if let Some(mark) = self.mark.filter(|mark| self.told != Some(*mark) || !self.taken.is_empty()) {
            let lost = self.root_lost.map_or(Moment::NEVER, |age| age.change);
            let told = mark.min(self.debounce.change()).min(lost).min(self.inlet.change());
            self.outs.iter().for_each(|out| out.mailbox.told(told));
            self.told = Some(told);
        }
        self.inlet.publish(held, self.taken.drain(..));
    }

    /// Takes one input in; `true` ends the engine.
    fn take(&mut self, input: Input) -> bool {
        let now = Instant::now();
        match input {
            Input::Events(events) => {
                self.inlet.took(events.len());
                for event in events {
                    self.take_event(event);
                }
            }
            Input::Sent(path, at, took) => self.debounce.sent(&path, at, took),
            Input::Mark(heard) => self.mark = Some(heard),
            Input::StillOpen(path, known, age) => {
                self.taken.push(age);
                for path in self.names_of(path, known) {
                    self.debounce.still_open(&path, age);
                }
                if self.awaited.is_some_and(|until| age.since <= until) {
                    self.flush();
                }
            }
            Input::Again(path, after, known, (age, owed)) => {
                self.taken.extend(owed.then_some(age));
                for path in self.names_of(path, known) {
                    self.debounce.again(&path, now, after, (age, owed));
                }
            }
            Input::Gone(path) => self.debounce.gone(&path, None, now),
            Input::Reconcile(reason, since) => self.pass(reason, since),
            Input::Flush(until, done) => {
                self.awaited = Some(self.awaited.map_or(until, |known| known.max(until)));
                self.take_overflow();
                self.flush();
                self.publish();
                let _ = done.send(());
            }
            Input::Echo(done) => {
                self.take_overflow();
                let items = self.debounce.due(now);
                self.hand_out(items);
                self.publish();
                let _ = done.send(());
            }
            Input::Targets(outs, done) => {
                self.outs = outs;
                // Who is new hears of the mark as well.
                self.told = None;
                let _ = done.send(());
            }
            Input::Stop => return true,
        }
        false
    }

    /// Returns a path that a session sends back, and the names that what was `known` by it may have by now:
    /// the session may have followed some of the renames since.
    fn names_of(&self, path: RelPath, known: Instant) -> Vec<RelPath> {
        let renames = || self.renames.since(known);
        let all = names_after(path.clone(), renames(), NAMES_MAX);
        all.unwrap_or_else(|| vec![path.clone(), name_after(path, renames())])
    }

    fn flush(&mut self) {
        let items = self.debounce.drain_all(Instant::now());
        self.hand_out(items);
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
                    self.root_lost = Age::of_both(self.root_lost, Some(event.age()));
                    return;
                }
            }
            EventKind::Create { path, dir } => {
                self.outs.iter().for_each(|out| out.status.came(1));
                // A directory has one name.
                let joined = if *dir { None } else { self.file_of(path).map(|file| (path.clone(), file)) };
                let age = event.age();
                self.debounce.event(event);
                if let Some((path, file)) = joined {
                    self.debounce.joined(path, file, age);
                }
                return;
            }
            EventKind::Move { to, dir, .. } if !self.sync.moves => {
                let (to, dir) = (to.clone(), *dir);
                if dir {
                    let kind = EventKind::Rescan { path: to.clone(), reason: RescanReason::Arrived };
                    self.debounce.event(Event { kind, ..event });
                }
                return self.debounce.event(Event { kind: EventKind::Create { path: to, dir }, ..event });
            }
            EventKind::Move { from, to, .. } => self.renames.add(Instant::now(), from.clone(), to.clone()),
            _ => {}
        }
        self.debounce.event(event);
    }

    /// Returns which file a new name is one of, if that has several: should the name be gone before it is
    /// sent, nobody else could say.
    fn file_of(&self, path: &RelPath) -> Option<FileId> {
        if !self.sync.mask.hard_links {
            return None;
        }
        let entry = self.source.entry(path, &Mask::nothing()).ok().flatten()?;
        (entry.nlink > 1).then_some(entry.id)
    }

    /// Looks for the root under its path, and compares everything once it is there.
    fn find_root(&mut self) {
        let Ok(changed) = self.source.reopen() else { return };
        let age = self.root_lost.take().unwrap_or_else(|| Age::unknown(Instant::now()));
        // Another tree under this name may have the sizes and times of the one before.
        let reason = if changed { RescanReason::Arrived } else { RescanReason::Root };
        let kind = EventKind::Rescan { path: RelPath::root(), reason };
        self.debounce.event(Event { at: age.since, change: age.change, kind });
    }

    fn pass(&mut self, reason: RescanReason, since: Instant) {
        let now = Instant::now();
        let last = self.outs.iter().filter_map(|out| out.status.last_pass());
        let took = last.map(|(_, summary)| summary.elapsed).max().unwrap_or_default();
        if let Some(interval) = self.sync.reconcile.interval {
            self.next_pass = Some(now + spread(interval).max(took * PASS_REST));
        }
        for out in &self.outs {
            // Nothing was missed that is known of.
            out.mailbox.push_live([Change::compare(RelPath::root(), reason, Age::believed(since))]);
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
        // All targets are to hold the same; one that never connected knows of nothing.
        let populations = self.outs.iter().map(|out| out.status.population(now));
        let tree = populations.fold(Count::UNKNOWN, Count::or);
        // Where lsyncd was before, a tree that runs empty file by file (a spool) is nothing unusual.
        let usual = self.sync.adopted && burst.len() < FEW_DELETES;
        let mut facts = Facts {
            deletes: burst.len(),
            tree,
            empties_root: !usual && self.source.is_empty(),
            doubt: (!self.source.is_in_place()).then_some(Doubt::RootReplaced),
            in_part: false,
        };
        let mut verdict = judge(&self.sync.guard, &facts);
        if verdict == Verdict::Unknown && self.sync.delete.in_passes() {
            // A pass finds the same deletes, and how many entries there are.
            let since = burst.iter().map(|change| change.age.since).min().unwrap_or(now);
            let age = Age::believed(since);
            self.give(&mut vec![Change::compare(RelPath::root(), RescanReason::Mismatch, age)]);
            return;
        }
        if verdict == Verdict::Unknown {
            facts.tree = Count::exactly(tree.low, tree.peak);
            verdict = judge(&self.sync.guard, &facts);
        }
        if let Verdict::Hold(reason) | Verdict::Part(_, reason) = verdict {
            let reason = reason.to_string();
            for out in &self.outs {
                out.held.hold_more(reason.clone(), burst.clone());
                let notice = Notice::Held {
                    count: burst.len() as u64,
                    reason: reason.clone(),
                    first: first_of(&burst),
                };
                self.monitor.notice(&out.scope, &notice);
            }
            return;
        }
        self.outs.iter().for_each(|out| out.status.went(burst.len(), now));
        let mut burst = burst;
        // What a directory held when it was moved out of the tree is known to the target alone.
        burst.retain(|change| !matches!(&change.kind, ChangeKind::Delete { path, expected: Identity::Dir(_) } if path.is_root()));
        self.give(&mut burst);
    }
}

/// Returns an interval spread by a tenth either way, so that many syncs do not walk at once.
fn spread(interval: Duration) -> Duration {
    let mut seed = [0; 1];
    let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
    interval.mul_f64(0.9 + f64::from(seed[0]) / 1280.0)
}

#[cfg(test)]
mod tests;
