//! What a target has yet to be sent: two lanes, live changes before those of a pass.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::{Change, ChangeKind, Scope};
use crate::event::RescanReason;
use crate::tree::RelPath;

/// Live changes that wait at most; more become one rescan.
const LIVE_MAX: usize = 32_768;
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
}

/// Changes in order: sorting and joining happen only between renames.
#[derive(Default)]
struct Queue {
    parcels: VecDeque<Option<Parcel>>,
    /// Position of the waiting update of a path since the last rename, counted from `first`.
    updates: HashMap<RelPath, u64>,
    first: u64,
    len: usize,
}

impl Queue {
    fn push(&mut self, parcel: Parcel) {
        match &parcel.change.kind {
            ChangeKind::Update { path, scope } => {
                if let Some(waiting) = self.updates.get(path).copied().and_then(|at| self.at(at)) {
                    waiting.issued = parcel.issued;
                    waiting.change.since = waiting.change.since.min(parcel.change.since);
                    if let ChangeKind::Update { scope: known, .. } = &mut waiting.change.kind {
                        *known = join(*known, *scope);
                    }
                    return;
                }
                self.updates.insert(path.clone(), self.first + self.parcels.len() as u64);
            }
            // What waits below the old name is sent under the new one, after the rename.
            ChangeKind::Rename { from, to, .. } => {
                let (from, to) = (from.clone(), to.clone());
                let moved = self.take_below(&from);
                self.updates.clear();
                self.append(parcel);
                for mut parcel in moved {
                    if let ChangeKind::Update { path, .. } = &mut parcel.change.kind
                        && let Some(new) = path.rebase(&from, &to)
                    {
                        *path = new;
                    }
                    self.push(parcel);
                }
                return;
            }
            ChangeKind::Delete { .. } | ChangeKind::Rescan { .. } => {}
        }
        self.append(parcel);
    }

    fn append(&mut self, parcel: Parcel) {
        self.parcels.push_back(Some(parcel));
        self.len += 1;
    }

    fn at(&mut self, position: u64) -> Option<&mut Parcel> {
        let index = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.parcels.get_mut(index)?.as_mut()
    }

    fn take_below(&mut self, from: &RelPath) -> Vec<Parcel> {
        let mut taken = Vec::new();
        for slot in &mut self.parcels {
            let below = matches!(slot, Some(Parcel { change: Change { kind: ChangeKind::Update { path, .. }, .. }, .. }) if path.is_within(from));
            if below {
                taken.extend(slot.take());
                self.len -= 1;
            }
        }
        taken
    }

    fn pop(&mut self) -> Option<Parcel> {
        while let Some(slot) = self.parcels.pop_front() {
            let position = self.first;
            self.first += 1;
            let Some(parcel) = slot else { continue };
            self.len -= 1;
            if let ChangeKind::Update { path, .. } = &parcel.change.kind
                && self.updates.get(path) == Some(&position)
            {
                self.updates.remove(path);
            }
            return Some(parcel);
        }
        None
    }

    fn clear(&mut self) {
        *self = Self { first: self.first + self.parcels.len() as u64, ..Self::default() };
    }

    fn oldest(&self) -> Option<Instant> {
        self.parcels.iter().flatten().map(|parcel| parcel.change.since).next()
    }
}

/// Returns the scope that covers both: an unknown target needs the content.
fn join(a: Scope, b: Scope) -> Scope {
    if a == b { a } else { Scope::Content }
}

#[derive(Default)]
struct Inner {
    live: Queue,
    bulk: Queue,
    wakes: u64,
    closed: bool,
    paused: bool,
}

/// The queue of one target, shared by its producers and its session.
#[derive(Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    changed: Condvar,
    room: Condvar,
}

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
        for change in changes {
            inner.live.push(Parcel { change, issued, lane: Lane::Live });
        }
        if inner.live.len > LIVE_MAX {
            let since = inner.live.oldest().unwrap_or(issued);
            inner.live.clear();
            let kind = ChangeKind::Rescan { path: RelPath::root(), reason: RescanReason::Overflow };
            inner.live.push(Parcel { change: Change { since, kind }, issued, lane: Lane::Live });
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Adds a change of a pass; waits for room. `false` if the mailbox was closed meanwhile.
    pub fn push_bulk(&self, change: Change) -> bool {
        let mut inner = self.lock();
        while inner.bulk.len >= BULK_MAX && !inner.closed {
            inner = self.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.closed {
            return false;
        }
        inner.bulk.push(Parcel { change, issued: Instant::now(), lane: Lane::Bulk });
        drop(inner);
        self.changed.notify_all();
        true
    }

    /// Takes up to `max` changes of one lane, in order.
    pub fn take(&self, lane: Lane, max: usize) -> Vec<Parcel> {
        let mut inner = self.lock();
        if inner.paused {
            return Vec::new();
        }
        let queue = if lane == Lane::Live { &mut inner.live } else { &mut inner.bulk };
        let taken: Vec<Parcel> = std::iter::from_fn(|| queue.pop()).take(max).collect();
        drop(inner);
        if lane == Lane::Bulk && !taken.is_empty() {
            self.room.notify_all();
        }
        taken
    }

    /// Whether a change of this very path waits.
    pub fn holds(&self, path: &RelPath) -> bool {
        let inner = self.lock();
        let parcels = inner.live.parcels.iter().chain(&inner.bulk.parcels).flatten();
        parcels.into_iter().any(|parcel| parcel.change.kind.path() == path)
    }

    /// Whether a live change waits.
    pub fn has_live(&self) -> bool {
        let inner = self.lock();
        inner.live.len > 0 && !inner.paused
    }

    /// Wakes the session up: an answer came that it must look at.
    pub fn wake(&self) {
        self.lock().wakes += 1;
        self.changed.notify_all();
    }

    /// Waits until a change or a wake-up comes, or `until`. `seen` is the number of wake-ups that the
    /// caller knows of and is updated.
    pub fn wait(&self, seen: &mut u64, until: Option<Instant>) {
        let mut inner = self.lock();
        loop {
            let work = !inner.paused && (inner.live.len > 0 || inner.bulk.len > 0);
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
        self.lock().closed = true;
        self.changed.notify_all();
        self.room.notify_all();
    }

    /// Whether [`Mailbox::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Holds everything back, or lets it go again.
    pub fn pause(&self, on: bool) {
        self.lock().paused = on;
        self.wake();
    }

    /// Whether everything is held back.
    pub fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// Forgets what a pass wanted: a new session compares anew.
    pub fn clear_bulk(&self) {
        self.lock().bulk.clear();
        self.room.notify_all();
    }

    /// Returns how many changes wait in both lanes, and since when the oldest live one does.
    pub fn pending(&self) -> (usize, Option<Instant>) {
        let inner = self.lock();
        (inner.live.len + inner.bulk.len, inner.live.oldest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn update(text: &str) -> Change {
        Change { since: Instant::now(), kind: ChangeKind::Update { path: path(text), scope: Scope::Content } }
    }

    fn rename(from: &str, to: &str) -> Change {
        Change {
            since: Instant::now(),
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
                ChangeKind::Rescan { path, .. } => format!("?{path}"),
            })
            .collect()
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
    fn a_closed_mailbox_lets_a_waiting_pass_go() {
        let mailbox = Mailbox::new();
        let pusher = {
            let mailbox = Arc::clone(&mailbox);
            std::thread::spawn(move || {
                (0..).take_while(|i| mailbox.push_bulk(update(&format!("f{i}")))).count()
            })
        };
        while mailbox.pending().0 < BULK_MAX {
            std::thread::yield_now();
        }
        mailbox.close();
        assert_eq!(pusher.join().unwrap(), BULK_MAX);
    }
}
