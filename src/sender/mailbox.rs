//! What a target has yet to be sent: two lanes, live changes before those of a pass.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queue::Queue;
use crate::batch::{Change, ChangeKind, Extent, Joined};
use crate::event::{Moment, RescanReason};
use crate::tree::RelPath;

/// Live changes that wait at most; more become one rescan. Just below where the tables would double.
const LIVE_MAX: usize = 28_000;
/// Changes of a pass that wait at most; the pass then waits.
const BULK_MAX: usize = 8192;

/// Which lane a change takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// As it happens.
    Live,
    /// From a pass.
    Bulk,
}

/// A change on its way to one target.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// The change.
    pub change: Change,
    /// When it was handed over: a read that began later has seen every event behind it.
    pub issued: Instant,
    /// Which lane it came by.
    pub lane: Lane,
    /// Whether its age is lag: what a pass by the clock or on request finds is of no known age.
    pub counts: bool,
}

/// Since when the oldest of some changes waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Since {
    /// Of those whose age is lag.
    pub lag: Option<Instant>,
    /// Of all: whoever waits for a moment waits until this is later.
    pub debt: Option<Instant>,
}

impl Since {
    /// Returns the older of each.
    pub fn older(self, other: Self) -> Self {
        let older = |a: Option<Instant>, b: Option<Instant>| a.into_iter().chain(b).min();
        Self { lag: older(self.lag, other.lag), debt: older(self.debt, other.debt) }
    }

    /// Returns the ages of one thing.
    pub fn of(since: Instant, counts: bool) -> Self {
        Self { lag: counts.then_some(since), debt: Some(since) }
    }
}

/// What a session has taken out and a target has not acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Out {
    /// How many changes.
    pub changes: usize,
    /// Bytes that are known to be on their way or to follow.
    pub bytes: u64,
    /// Since when.
    pub since: Since,
}

/// What a target has yet to acknowledge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// Changes that wait to be sent.
    pub queued: usize,
    /// What was taken out.
    pub out: Out,
    /// Since when, of both.
    pub since: Since,
}

#[derive(Default)]
struct Inner {
    live: Queue,
    bulk: Queue,
    /// What was taken out and is not yet counted in `out`.
    taken: Since,
    out: Out,
    /// Somebody waits for what is older than this.
    awaited: Option<Instant>,
    /// Everything that happened before this moment has been handed over.
    heard: Option<Instant>,
    /// Everything that was changed before this moment has been, too; `None` where nobody can tell.
    told: Option<Moment>,
    /// The first such moment: the watch was there from then on, and nothing was sent before.
    first_told: Option<Moment>,
    wakes: u64,
    /// A connection is to be tried now, whatever its pause.
    retry: bool,
    closed: bool,
    /// Since when.
    paused: Option<Instant>,
}

impl Inner {
    fn push_live(&mut self, changes: impl IntoIterator<Item = Change>, issued: Instant) {
        for change in changes {
            let counts = counts_as_lag(&change.kind);
            self.live.push(Parcel { change, issued, lane: Lane::Live, counts });
        }
    }

    /// Makes one rescan of too many changes.
    fn bound_live(&mut self, issued: Instant) {
        if self.live.len() > LIVE_MAX {
            let mut joined = Joined::default();
            std::iter::from_fn(|| self.live.pop()).for_each(|parcel| joined.add(&parcel.change));
            for change in joined.into_changes() {
                self.live.push(Parcel { change, issued, lane: Lane::Live, counts: true });
            }
        }
    }
}

/// The queue of one target, shared by its producers and its session.
#[derive(Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    changed: Condvar,
    room: Condvar,
    on_close: Mutex<Option<OnClose>>,
}

/// What is done once a mailbox is closed.
type OnClose = Box<dyn FnOnce() + Send>;

impl Mailbox {
    /// Returns an empty mailbox.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds live changes in their order. Never blocks: too many become one rescan of the root.
    pub fn push_live(&self, changes: impl IntoIterator<Item = Change>) {
        let issued = Instant::now();
        let mut inner = self.lock();
        inner.push_live(changes, issued);
        inner.bound_live(issued);
        drop(inner);
        self.changed.notify_all();
    }

    /// Adds live changes that are older than all that waits, such as were taken out and not done: a rename
    /// that waits takes them along.
    ///
    /// `counts` says of which the age is lag: it is not that of a path that fails already.
    pub fn push_first(&self, changes: Vec<Change>, counts: impl Fn(&Change) -> bool) {
        let issued = Instant::now();
        let parcel = |change| Parcel { counts: counts(&change), change, issued, lane: Lane::Live };
        let parcels: Vec<Parcel> = changes.into_iter().map(parcel).collect();
        let mut inner = self.lock();
        if inner.live.renames() == 0 {
            parcels.into_iter().for_each(|parcel| inner.live.push(parcel));
        } else {
            let mut waiting = std::mem::take(&mut inner.live);
            parcels.into_iter().for_each(|parcel| inner.live.push(parcel));
            std::iter::from_fn(|| waiting.pop()).for_each(|parcel| inner.live.push(parcel));
        }
        inner.bound_live(issued);
        drop(inner);
        self.changed.notify_all();
    }

    /// Adds a change of a pass that began at `began`, whose age may count as lag; waits for room. `false`
    /// if the mailbox was closed meanwhile.
    ///
    /// What changed since the pass began has an event of its own: a reading that began later will do, so
    /// that targets whose passes find the same read it once.
    pub fn push_bulk(&self, change: Change, began: Instant, counts: bool) -> bool {
        let mut inner = self.lock();
        while inner.bulk.len() >= BULK_MAX && !inner.closed {
            inner = self.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.closed {
            return false;
        }
        inner.bulk.push(Parcel { change, issued: began, lane: Lane::Bulk, counts });
        // Nobody waits while there is work.
        let first = inner.live.len() + inner.bulk.len() == 1;
        drop(inner);
        if first {
            self.changed.notify_all();
        }
        true
    }

    /// Takes up to `max` changes of one lane, in order.
    pub fn take(&self, lane: Lane, max: usize) -> Vec<Parcel> {
        let mut inner = self.lock();
        if inner.paused.is_some() {
            return Vec::new();
        }
        let queue = if lane == Lane::Live { &mut inner.live } else { &mut inner.bulk };
        let before = queue.len();
        let taken: Vec<Parcel> = std::iter::from_fn(|| queue.pop()).take(max).collect();
        // A pass that waits for room is woken for a good deal of it.
        let roomy = before > BULK_MAX / 2 && queue.len() <= BULK_MAX / 2;
        for parcel in &taken {
            inner.taken = inner.taken.older(Since::of(parcel.change.age.since, parcel.counts));
        }
        drop(inner);
        if lane == Lane::Bulk && roomy {
            self.room.notify_all();
        }
        taken
    }

    /// Drops everything that waits: a comparison that is yet to begin finds it.
    pub fn forget(&self) {
        let mut inner = self.lock();
        (inner.live, inner.bulk) = (Queue::default(), Queue::default());
        drop(inner);
        self.room.notify_all();
    }

    /// Whether a change of this very path waits.
    pub fn holds(&self, path: &RelPath) -> bool {
        let inner = self.lock();
        inner.live.holds(path) || inner.bulk.holds(path)
    }

    /// Whether a live change waits.
    pub fn has_live(&self) -> bool {
        let inner = self.lock();
        inner.live.len() > 0 && inner.paused.is_none()
    }

    /// Wakes the session up: an answer came that it must look at.
    pub fn wake(&self) {
        self.lock().wakes += 1;
        self.changed.notify_all();
    }

    /// Waits until a change or a wake-up comes, or `until`. `seen` is the number of wake-ups that the
    /// caller knows of and is updated. With `only_live` what passes have found is waited past.
    pub fn wait(&self, seen: &mut u64, until: Option<Instant>, only_live: bool) {
        let mut inner = self.lock();
        loop {
            let found = !only_live && inner.bulk.len() > 0;
            let work = inner.paused.is_none() && (inner.live.len() > 0 || found);
            if work || inner.wakes != *seen || inner.closed {
                break;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            inner = match left {
                Some(left) => {
                    self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
            };
        }
        *seen = inner.wakes;
    }

    /// Waits for a wake-up after the mailbox was closed, or `until`.
    pub fn wait_closed(&self, seen: &mut u64, until: Instant) {
        let inner = self.lock();
        let left = until.saturating_duration_since(Instant::now());
        let known = *seen;
        let (inner, _) = self
            .changed
            .wait_timeout_while(inner, left, |inner| inner.wakes == known)
            .unwrap_or_else(PoisonError::into_inner);
        *seen = inner.wakes;
    }

    /// Ends all waiting; nothing more is taken in from passes.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        // A link that waits to try again hears of it at once.
        inner.wakes += 1;
        drop(inner);
        self.changed.notify_all();
        self.room.notify_all();
        let then = self.on_close.lock().unwrap_or_else(PoisonError::into_inner).take();
        then.into_iter().for_each(|then| then());
    }

    /// Has something done once the mailbox is closed, at once if it is; it takes the place of what was to be
    /// done before. It must not block.
    pub fn on_close(&self, then: impl FnOnce() + Send + 'static) {
        let mut on_close = self.on_close.lock().unwrap_or_else(PoisonError::into_inner);
        *on_close = None;
        if self.is_closed() {
            drop(on_close);
            then();
        } else {
            *on_close = Some(Box::new(then));
        }
    }

    /// Has a link that waits before it connects again connect now.
    pub fn retry(&self) {
        self.lock().retry = true;
        self.wake();
    }

    /// Whether [`Mailbox::retry`] was called since the last look.
    pub fn take_retry(&self) -> bool {
        std::mem::take(&mut self.lock().retry)
    }

    /// Whether [`Mailbox::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Holds everything back, or lets it go again.
    pub fn pause(&self, on: bool) {
        let mut inner = self.lock();
        inner.paused = on.then(|| inner.paused.unwrap_or_else(Instant::now));
        drop(inner);
        self.wake();
    }

    /// Whether everything is held back.
    pub fn is_paused(&self) -> bool {
        self.paused_since().is_some()
    }

    /// Returns since when everything is held back; `None` if nothing is.
    pub fn paused_since(&self) -> Option<Instant> {
        self.lock().paused
    }

    /// Forgets what a pass wanted: a new session compares anew. Returns what was to be read though it may
    /// look the same.
    pub fn clear_bulk(&self) -> Vec<Change> {
        let mut bulk = std::mem::take(&mut self.lock().bulk);
        self.room.notify_all();
        let all = std::iter::from_fn(|| bulk.pop().map(|parcel| parcel.change));
        all.filter(|change| matches!(change.kind, ChangeKind::Update { scope: Extent::Content, .. }))
            .collect()
    }

    /// Says what was taken out and is not acknowledged: all that was taken before this call.
    pub fn note_out(&self, out: Out) {
        let mut inner = self.lock();
        (inner.taken, inner.out) = (Since::default(), out);
    }

    /// Has everything up to a moment sent without waiting for its writers to finish.
    pub fn hurry(&self, until: Instant) {
        let mut inner = self.lock();
        inner.awaited = Some(inner.awaited.map_or(until, |known| known.max(until)));
        drop(inner);
        self.wake();
    }

    /// Says that everything that happened before a moment has been handed over.
    pub fn heard(&self, until: Instant) {
        let mut inner = self.lock();
        inner.heard = inner.heard.max(Some(until));
        drop(inner);
        self.wake();
    }

    /// Says that everything has been handed over that was changed before a moment.
    pub fn told(&self, until: Moment) {
        let mut inner = self.lock();
        inner.told = Some(until);
        inner.first_told.get_or_insert(until);
    }

    /// Returns the first moment that was told; everything that is sent is read later.
    pub fn first_told(&self) -> Option<Moment> {
        self.lock().first_told
    }

    /// Returns up to when everything has been handed over. `None` where nobody can tell.
    pub fn told_until(&self) -> Option<Moment> {
        self.lock().told
    }

    /// Returns the moment of the last [`Mailbox::heard`].
    pub fn heard_until(&self) -> Option<Instant> {
        self.lock().heard
    }

    /// Whether somebody waits for what is as old as this.
    pub fn is_awaited(&self, since: Instant) -> bool {
        self.lock().awaited.is_some_and(|until| since <= until)
    }

    /// Returns how many changes wait in both lanes.
    pub fn queued(&self) -> usize {
        let inner = self.lock();
        inner.live.len() + inner.bulk.len()
    }

    /// Returns what waits and what is under way.
    pub fn pending(&self) -> Pending {
        let inner = self.lock();
        let waiting = inner.live.since().older(inner.bulk.since());
        Pending {
            queued: inner.live.len() + inner.bulk.len(),
            out: inner.out,
            since: waiting.older(inner.taken).older(inner.out.since),
        }
    }
}

/// Whether the age of a change is lag.
pub(super) fn counts_as_lag(kind: &ChangeKind) -> bool {
    match kind {
        ChangeKind::Rescan { reason, .. } => is_of_events(*reason),
        _ => true,
    }
}

/// Whether a comparison stands for changes that happened and were not followed one by one.
pub(super) fn is_of_events(reason: RescanReason) -> bool {
    match reason {
        RescanReason::Start
        | RescanReason::Interval
        | RescanReason::Request
        | RescanReason::Reconnect
        | RescanReason::Problem => false,
        RescanReason::Overflow
        | RescanReason::Unwatched
        | RescanReason::Root
        | RescanReason::Mount
        | RescanReason::Mismatch
        | RescanReason::Moved
        | RescanReason::Arrived => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Age;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn update(text: &str) -> Change {
        Change::read(path(text), Age::believed(Instant::now()))
    }

    fn rename(from: &str, to: &str) -> Change {
        Change {
            age: Age::believed(Instant::now()),
            kind: ChangeKind::Rename { from: path(from), to: path(to), dir: true },
        }
    }

    fn shown(mailbox: &Mailbox) -> Vec<String> {
        let parcels = mailbox.take(Lane::Live, 100);
        parcels
            .iter()
            .map(|parcel| match &parcel.change.kind {
                ChangeKind::Update { path, .. } => format!("{path}"),
                ChangeKind::Rename { from, to, .. } => format!("{from}>{to}"),
                ChangeKind::Delete { path, .. } => format!("-{path}"),
                ChangeKind::Name { path, .. } => format!("~{path}"),
                ChangeKind::Rescan { path, .. } => format!("?{path}"),
            })
            .collect()
    }

    #[test]
    fn what_is_older_goes_first_and_with_the_renames_that_wait() {
        let mailbox = Mailbox::default();
        mailbox.push_live([rename("d", "e"), update("x")]);
        mailbox.push_first(vec![update("d/f"), update("x")], |_| true);
        let paths: Vec<String> = mailbox
            .take(Lane::Live, 10)
            .iter()
            .map(|parcel| String::from_utf8_lossy(parcel.change.kind.path().as_bytes()).into_owned())
            .collect();
        assert_eq!(paths, ["x", "e", "e/f", "x"]);
    }

    #[test]
    fn updates_of_one_path_are_one_change_until_a_rename_comes_between() {
        let mailbox = Mailbox::new();
        mailbox.push_live([update("a"), update("b"), update("a")]);
        assert_eq!(shown(&mailbox), ["\"a\"", "\"b\""]);
        mailbox.push_live([update("a"), rename("x", "y"), update("a")]);
        assert_eq!(shown(&mailbox), ["\"a\"", "\"x\">\"y\"", "\"a\""]);
        mailbox.push_live([update("a")]);
        assert_eq!(shown(&mailbox), ["\"a\""]);
    }

    #[test]
    fn a_rename_takes_waiting_updates_below_it_along() {
        let mailbox = Mailbox::new();
        mailbox.push_live([update("d/f"), update("g"), rename("d", "e"), update("d/f")]);
        assert_eq!(shown(&mailbox), ["\"g\"", "\"d\">\"e\"", "\"e/f\"", "\"d/f\""]);
    }

    #[test]
    fn too_many_live_changes_become_one_rescan() {
        let mailbox = Mailbox::new();
        mailbox.push_live((0..=LIVE_MAX).map(|i| update(&format!("f{i}"))));
        assert_eq!(shown(&mailbox), ["?\".\""]);
    }

    #[test]
    fn what_is_taken_out_is_pending_until_the_session_says_what_became_of_it() {
        let mailbox = Mailbox::new();
        let (old, new) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let at = |since, text| Change { age: Age::believed(since), ..update(text) };
        mailbox.push_live([at(new, "a"), at(old, "b")]);
        assert_eq!(mailbox.pending().since, Since::of(old, true), "the oldest, wherever it stands");
        assert_eq!(mailbox.take(Lane::Live, 100).len(), 2);
        assert_eq!(mailbox.pending().since, Since::of(old, true), "taken out is not done");
        let out = Out { changes: 1, bytes: 0, since: Since::of(new, true) };
        mailbox.note_out(out);
        assert_eq!(mailbox.pending(), Pending { queued: 0, out, since: out.since });
        mailbox.push_live([at(new, "a"), at(old, "a")]);
        assert_eq!(mailbox.pending().since.lag, Some(old), "a joined change keeps the older age");
        mailbox.take(Lane::Live, 100);
        mailbox.note_out(Out::default());
        assert_eq!(mailbox.pending(), Pending::default());
    }

    #[test]
    fn what_a_periodic_pass_finds_is_waited_for_and_is_no_lag() {
        let mailbox = Mailbox::new();
        assert!(mailbox.push_bulk(update("a"), Instant::now(), false));
        let age = Age::believed(Instant::now());
        mailbox.push_live([Change::compare(RelPath::root(), RescanReason::Interval, age)]);
        let since = mailbox.pending().since;
        assert!(since.lag.is_none() && since.debt.is_some());
    }

    #[test]
    fn a_closed_mailbox_lets_a_waiting_pass_go() {
        let mailbox = Mailbox::new();
        let pusher = {
            let mailbox = Arc::clone(&mailbox);
            std::thread::spawn(move || {
                (0..)
                    .take_while(|i| mailbox.push_bulk(update(&format!("f{i}")), Instant::now(), false))
                    .count()
            })
        };
        while mailbox.queued() < BULK_MAX {
            std::thread::yield_now();
        }
        mailbox.close();
        assert_eq!(pusher.join().unwrap(), BULK_MAX);
    }
}
