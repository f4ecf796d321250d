//! What a session owes: since when the oldest change waits that it has taken and not seen acknowledged.
//!
//! **Invariant:** nothing that was taken out of the mailbox is ever missing here before it is
//! acknowledged, handed back to the stage before, or covered by something as old: a comparison, a delete.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::mailbox::{Out, Parcel, Since, is_of_events};
use super::session::Session;
use crate::batch::{Change, ChangeKind, Extent, Renames, names_after};
use crate::event::{Age, Moment, RescanReason};
use crate::protocol::PassId;
use crate::tree::RelPath;

/// Passes under way at once; the receiver takes no more than twice as many.
const PASSES_MAX: usize = 4;
/// Paths that are compared one by one; more become one comparison of everything.
const NARROW_MAX: usize = 64;
/// Paths that vanished before they were sent and are followed one by one.
const VANISHED_MAX: usize = 10_000;
/// Longest time in which an event comes from the kernel to a session, where nobody waits and asks.
const TELL_MAX: Duration = Duration::from_secs(1);
/// Renames that are remembered.
const RENAMED_MAX: usize = 1024;
/// Longest time for which what vanished unread is followed where no event tells what became of it.
const FOLLOWED_FOR: Duration = Duration::from_secs(60);

/// A comparison that is under way.
struct Running {
    top: RelPath,
    since: Since,
    /// Equal sizes and times are believed of what did not change since.
    change: Moment,
    /// Whether it reads contents.
    reads: bool,
}

impl Running {
    fn age(&self) -> Option<Age> {
        Some(Age::new(self.since.debt?, self.change))
    }
}

/// A comparison that has ended.
struct Ended {
    at: Instant,
    pass: Running,
}

/// A path whose change was not sent because the source has nothing there any more.
#[derive(Clone, Copy)]
struct Vanished {
    /// How old the change is.
    age: Age,
    /// When that was found.
    at: Instant,
    /// Whether the change asked for the content to be read: wherever the file is by now.
    unread: bool,
}

/// What is owed besides batches and large files.
pub(super) struct Debts {
    /// Subtrees that are to be compared.
    pub passes_waiting: BTreeMap<RelPath, (RescanReason, Age)>,
    /// Comparisons under way.
    passes: BTreeMap<PassId, Running>,
    pub passes_begun: PassId,
    /// Comparisons that have ended: a rename that happened meanwhile may have hidden something from them,
    /// and takes over what they stood for if it comes before everything of that time was heard.
    ended: Vec<Ended>,
    /// Owed until the event that says what became of it is sent.
    vanished: BTreeMap<RelPath, Vanished>,
    /// The same for those that are not followed one by one.
    vanished_rest: Option<Age>,
    /// What was renamed lately.
    renamed: Renames,
}

impl Default for Debts {
    fn default() -> Self {
        Self {
            passes_waiting: BTreeMap::new(),
            passes: BTreeMap::new(),
            passes_begun: 0,
            ended: Vec::new(),
            vanished: BTreeMap::new(),
            vanished_rest: None,
            renamed: Renames::new(RENAMED_MAX),
        }
    }
}

impl Debts {
    /// Returns what the pass of the next session will not see, since it believes equal sizes and times: what
    /// vanished before it was read, to be looked for once more, and the comparisons that read contents, to be
    /// begun anew.
    pub fn take_unseen(&mut self) -> impl Iterator<Item = Change> {
        let unread = std::mem::take(&mut self.vanished).into_iter().filter(|(_, vanished)| vanished.unread);
        let unread = unread.map(|(path, vanished)| Change::read(path, vanished.age));
        let waiting = std::mem::take(&mut self.passes_waiting).into_iter();
        let waiting = waiting.filter(|(_, (reason, _))| reason.reads()).map(|(top, (_, age))| (top, age));
        let begun = std::mem::take(&mut self.passes).into_values();
        let begun = begun.chain(std::mem::take(&mut self.ended).into_iter().map(|ended| ended.pass));
        let begun = begun.filter(|pass| pass.reads).map(|pass| {
            let age = pass.age();
            (pass.top, age.unwrap_or_else(|| Age::unknown(Instant::now())))
        });
        let readings =
            waiting.chain(begun).map(|(path, age)| Change::compare(path, RescanReason::Arrived, age));
        unread.chain(readings)
    }

    /// Returns the tops, below a path, of comparisons that read contents and were begun, and how old they are.
    fn readings_below(&self, path: &RelPath) -> Vec<(RelPath, Age)> {
        let begun = self.passes.values().chain(self.ended.iter().map(|ended| &ended.pass));
        let below = begun.filter(|pass| pass.reads && pass.top != *path && pass.top.is_within(path));
        below.filter_map(|pass| Some((pass.top.clone(), pass.age()?))).collect()
    }

    /// Whether something that is to be read, or was not read whole, lies at or above a path.
    fn reads_above(&self, path: &RelPath) -> bool {
        let waiting = self.passes_waiting.iter().filter(|(_, (reason, _))| reason.reads());
        let begun = self.passes.values().chain(self.ended.iter().map(|ended| &ended.pass));
        let begun = begun.filter(|pass| pass.reads).map(|pass| &pass.top);
        waiting.map(|(top, _)| top).chain(begun).any(|top| path.is_within(top))
    }
}

impl Session {
    /// Returns how old a path is for which the target answers: what was sent for it, or if that is not known,
    /// the oldest of all that was sent.
    ///
    /// Not always the oldest of all: while paths are answered for all the time, each would hand the age
    /// of the first on to the next, for ever.
    pub(super) fn age_sent(&self, path: &RelPath) -> Age {
        let sent = || self.sent().map(|parcel| &parcel.change);
        let of_path =
            sent().filter(|change| concerns(&change.kind, path)).map(|change| change.age).reduce(Age::join);
        let of_any = || sent().map(|change| change.age).reduce(Age::join);
        of_path.or_else(of_any).unwrap_or_else(|| Age::believed(Instant::now()))
    }

    /// Whether a content was read for a path, of what the target has not acknowledged.
    pub(super) fn has_read(&self, path: &RelPath) -> bool {
        self.sent().any(|parcel| match &parcel.change.kind {
            ChangeKind::Update { path: sent, scope: Extent::Content } => sent == path,
            _ => false,
        })
    }

    /// Whether a path is still to be looked at or sent, as far as is known here.
    pub(super) fn is_under_way(&self, path: &RelPath) -> bool {
        let covers = |top: &RelPath| path.is_within(top);
        let compared = {
            let running = self.shared.passes.lock().unwrap_or_else(PoisonError::into_inner);
            let mut passes = self.debts.passes.iter();
            passes.any(|(pass, begun)| covers(&begun.top) && running.contains_key(pass))
        };
        // In this order: what a comparison finds is in the mailbox before it ends.
        compared
            || self.debts.passes_waiting.keys().any(covers)
            || self.shared.mailbox.holds(path)
            || self.soon.iter().any(|change| change.kind.path() == path)
            || self.jobs.holds(path)
    }

    /// Returns what was taken out and is not acknowledged.
    fn sent(&self) -> impl Iterator<Item = &Parcel> {
        self.unacked.iter().flat_map(|(_, parcels)| parcels).chain(&self.open).chain(self.jobs.parcels())
    }

    /// Tells the mailbox what became of everything that was taken out of it.
    pub(super) fn note_in_flight(&mut self) {
        let now = Instant::now();
        let running = self.shared.passes.lock().unwrap_or_else(PoisonError::into_inner);
        let (passes, ended) = (&mut self.debts.passes, &mut self.debts.ended);
        let done: Vec<PassId> = passes.keys().copied().filter(|pass| !running.contains_key(pass)).collect();
        ended.extend(done.iter().filter_map(|id| passes.remove(id)).map(|pass| Ended { at: now, pass }));
        drop(running);
        let mut out = Out::default();
        for parcel in self.sent() {
            out.changes += 1;
            out.since = out.since.older(Since::of(parcel.change.age.since, parcel.counts));
        }
        for change in &self.soon {
            let counts = self.shared.status.counts(change);
            out.since = out.since.older(Since::of(change.age.since, counts));
        }
        let waiting = self.debts.passes_waiting.values();
        for (reason, age) in waiting {
            out.since = out.since.older(Since::of(age.since, is_of_events(*reason)));
        }
        for pass in self.debts.passes.values() {
            out.since = out.since.older(pass.since);
        }
        for ended in &self.debts.ended {
            out.since = out.since.older(Since { lag: None, ..ended.pass.since });
        }
        let vanished =
            self.debts.vanished.values().map(|vanished| &vanished.age).chain(&self.debts.vanished_rest);
        for age in vanished.chain(&self.links_doubtful) {
            out.since = out.since.older(Since::of(age.since, false));
        }
        let left = self.handing.as_ref().is_some_and(|handing| handing.leaves_doubts);
        if let Some(since) = self.shared.status.suspects.oldest().filter(|_| !left) {
            out.since = out.since.older(Since::of(since, false));
        }
        let sent = self.shared.status.counters.totals().sent_bytes;
        let unacked_bytes = if self.unacked.is_empty() { 0 } else { sent.saturating_sub(self.acked_bytes) };
        out.bytes = unacked_bytes.saturating_add(self.jobs.bytes_left());
        self.shared.mailbox.note_out(out);
    }

    /// Notes that the source has nothing where a change of this age was to be sent. `unread`: the change
    /// asked for the content. It may have kept size and time, so that no comparison sees it: the content is
    /// read wherever the renames lead that are still to be sent.
    pub(super) fn note_vanished(&mut self, path: &RelPath, age: Age, unread: bool) {
        self.shared.feedback.gone(path);
        if !self.shared.options.live {
            return;
        }
        if unread || self.shared.options.sync.delete.live() {
            self.owe_vanished(path, age, unread);
        }
    }

    pub(super) fn owe_vanished(&mut self, path: &RelPath, age: Age, unread: bool) {
        if self.debts.vanished.len() >= VANISHED_MAX {
            self.debts.vanished_rest = Age::of_both(self.debts.vanished_rest, Some(age));
            return;
        }
        let now = Instant::now();
        let known = self.debts.vanished.entry(path.clone());
        let known = known.or_insert(Vanished { age, at: now, unread });
        *known = Vanished { age: age.join(known.age), at: now, unread: unread || known.unread };
    }

    /// Settles what waits for events that tell of something, once there are no live changes left and
    /// everything up to `heard` was among them: then nothing more comes, and what has not been taken over
    /// is compared if somebody waits for it.
    pub(super) fn settle(&mut self, heard: Option<Instant>) {
        let told = |at: Instant| heard.is_some_and(|heard| at <= heard) || at.elapsed() > TELL_MAX;
        self.debts.ended.retain(|ended| !told(ended.at));
        let all = !self.shared.options.live;
        self.shared.status.suspects.forget(|at| all || told(at));
        if self.debts.vanished_rest.is_some_and(|age| self.shared.mailbox.is_awaited(age.since))
            && let Some(age) = self.debts.vanished_rest.take()
        {
            self.start_pass(RelPath::root(), RescanReason::Mismatch, age);
        }
        let mailbox = &self.shared.mailbox;
        let vanished = self.debts.vanished.iter();
        // What only an event can tell waits for it, however late it comes.
        let heard = |at: Instant| heard.is_some_and(|heard| at <= heard) || at.elapsed() > FOLLOWED_FOR;
        let awaited = vanished.filter(|(_, Vanished { age, at, unread })| {
            (if *unread { heard(*at) } else { told(*at) }) && mailbox.is_awaited(age.since)
        });
        let awaited: Vec<(RelPath, Age)> =
            awaited.map(|(path, vanished)| (path.clone(), vanished.age)).collect();
        let many = awaited.len() > NARROW_MAX;
        for (path, age) in awaited {
            self.debts.vanished.remove(&path);
            let names = if many { vec![RelPath::root()] } else { self.names_since(path) };
            for top in names {
                self.start_pass(top, RescanReason::Mismatch, age);
            }
        }
        if !self.shared.options.sync.delete.live() {
            self.debts.vanished.retain(|_, vanished| vanished.at.elapsed() < FOLLOWED_FOR);
        }
    }

    /// Returns a path and the names that it, or what lay there, may bear by now.
    fn names_since(&self, path: RelPath) -> Vec<RelPath> {
        let renamed = &self.debts.renamed;
        // What was too long ago, or is too much to follow, is looked for everywhere.
        let names = if renamed.is_full() { None } else { names_after(path, renamed.iter(), NARROW_MAX) };
        names.unwrap_or_else(|| vec![RelPath::root()])
    }

    /// Follows a rename that is being sent: a comparison under way may find what it moved under neither
    /// name, so what it stands for is owed by the new name as well. Returns whether the contents of what moved
    /// are to be compared, and since when they may have changed.
    pub(super) fn follow_rename(&mut self, from: &RelPath, to: &RelPath, dir: bool) -> (bool, Moment) {
        let reads = self.debts.reads_above(from);
        self.debts.renamed.add(Instant::now(), from.clone(), to.clone());
        let touched = |top: &RelPath| top.is_within(from) || from.is_within(top);
        let begun = self.debts.passes.values().chain(self.debts.ended.iter().map(|ended| &ended.pass));
        let owed = begun.filter(|pass| touched(&pass.top));
        let (owed, change) = owed.fold((Since::default(), Moment::NEVER), |(owed, change), pass| {
            (owed.older(pass.since), change.min(pass.change))
        });
        let since = owed.debt.map_or(self.age.since, |owed| owed.min(self.age.since));
        if dir {
            self.age.since = since;
        } else if owed.lag.is_some() || reads || change != Moment::NEVER {
            let since = owed.lag.unwrap_or(self.age.since);
            self.soon.push(Change::read(to.clone(), Age::new(since, change.min(self.age.change))));
        }
        self.rename_passes(from, to);
        self.shared.status.suspects.rename(from, to);
        for (top, age) in self.debts.readings_below(from) {
            self.start_pass(top.rebase(from, to).unwrap_or(top), RescanReason::Arrived, age);
        }
        (reads, change)
    }

    /// Has a change take over the debts of paths that had vanished: it says what became of them.
    pub(super) fn take_over(&mut self, parcel: &mut Parcel) {
        let top = match &parcel.change.kind {
            ChangeKind::Rename { from, .. } => from,
            // Says nothing of what stands there.
            ChangeKind::Name { .. } => return,
            other => other.path(),
        };
        let age = &mut parcel.change.age;
        let mut moved = Vec::new();
        self.debts.vanished.retain(|path, vanished| {
            let mut covered = path.is_within(top);
            match &parcel.change.kind {
                ChangeKind::Rename { from, to, .. } if covered && vanished.unread => {
                    moved.extend(path.rebase(from, to).map(|path| Change::read(path, vanished.age)));
                }
                // Neither what is sent of a directory nor a comparison reads what was below it.
                ChangeKind::Update { scope, .. } if vanished.unread => {
                    covered = path == top && *scope == Extent::Content;
                }
                ChangeKind::Rescan { .. } => covered &= !vanished.unread,
                _ => {}
            }
            if covered {
                *age = age.join(vanished.age);
            }
            !covered
        });
        self.soon.extend(moved);
        if top.is_root()
            && let Some(owed) = self.debts.vanished_rest.take()
        {
            *age = age.join(owed);
        }
    }

    /// Has a subtree compared, as soon as few enough passes are under way. One that lies within
    /// another that waits is covered by it, unless it is older: a comparison of much must not take on the
    /// age of one of little, which it would hand on to everything that it finds. One that reads contents is
    /// covered by no other.
    pub(super) fn start_pass(&mut self, top: RelPath, reason: RescanReason, age: Age) {
        let waiting = &mut self.debts.passes_waiting;
        let covers = |other: RescanReason, one: RescanReason| other.reads() || !one.reads();
        let covered = waiting.iter().any(|(other, (why, at))| {
            top != *other && top.is_within(other) && at.covers(age) && covers(*why, reason)
        });
        if covered {
            return;
        }
        add_pass(waiting, top.clone(), (reason, age));
        let (reason, age) = waiting.get(&top).copied().unwrap_or((reason, age));
        waiting.retain(|other, (why, at)| {
            *other == top || !other.is_within(&top) || !age.covers(*at) || !covers(reason, *why)
        });
        self.pump_passes();
    }

    pub(super) fn pump_passes(&mut self) {
        while self.shared.passes_running.load(Ordering::Acquire) < PASSES_MAX {
            let Some((top, (reason, age))) = self.debts.passes_waiting.pop_first() else { return };
            self.debts.passes_begun += 1;
            let pass = self.debts.passes_begun;
            let since = Since::of(age.since, is_of_events(reason));
            let running = Running { top: top.clone(), since, change: age.change, reads: reason.reads() };
            self.debts.passes.insert(pass, running);
            super::pass::start(&self.shared, pass, top, (reason, age));
        }
    }

    /// Follows a rename with what is to be compared.
    fn rename_passes(&mut self, from: &RelPath, to: &RelPath) {
        for (top, what) in std::mem::take(&mut self.debts.passes_waiting) {
            let top = top.rebase(from, to).unwrap_or(top);
            add_pass(&mut self.debts.passes_waiting, top, what);
        }
    }

    /// Compares everything for the sake of names whose file is not known, once the session is quiet or
    /// somebody waits: no event tells which file a new name joined. `true` if that was begun.
    pub(super) fn seek_links(&mut self) -> bool {
        let Some(age) = self.links_doubtful else { return false };
        if !self.is_quiet() && !self.shared.mailbox.is_awaited(age.since) {
            return false;
        }
        self.links_doubtful = None;
        // Of which names one file has both sides tell; what it holds was read under one of them, or is sought.
        self.start_pass(RelPath::root(), RescanReason::Mismatch, Age::believed(age.since));
        true
    }
}

/// Adds a comparison to those that wait; of two of one subtree, what either asks for remains.
fn add_pass(
    waiting: &mut BTreeMap<RelPath, (RescanReason, Age)>,
    top: RelPath,
    (reason, age): (RescanReason, Age),
) {
    let (known, at) = waiting.entry(top).or_insert((reason, age));
    *at = age.join(*at);
    if reason.reads() || (!known.reads() && !is_of_events(*known)) {
        *known = reason;
    }
}

/// Whether a change is, or may be, what a path is answered for.
fn concerns(change: &ChangeKind, path: &RelPath) -> bool {
    match change {
        ChangeKind::Rename { from, to, .. } => path.is_within(from) || path.is_within(to),
        other => other.path() == path,
    }
}
