//! What the threads of one session share.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, unbounded};

use super::Feedback;
use super::error::SessionError;
use super::gate::Gate;
use super::held::Held;
use super::known::Known;
use super::lead::Leading;
use super::mailbox::{Mailbox, Parcel};
use super::names::Names;
use super::outbox::Outbox;
use super::owners::TargetView;
use super::progress::Found;
use super::replies::{PassInbox, PassReply, Reply};
use super::room::Need;
use super::session::SessionOptions;
use super::source::Source;
use super::status::{Failure, TargetStatus, deed_of};
use super::window::Window;
use crate::batch::{ChangeKind, Extent};
use crate::filter::Filter;
use crate::monitor::{Arrived, Counters, Itemized, Monitor, Notice, Scope as About};
use crate::protocol::{BatchId, PassId};
use crate::reconcile::Rules;
use crate::scan;
use crate::tree::{Entry, FileId, Kind, Mask, RelPath};

/// Names that are remembered as lying apart.
const APART_MAX: usize = 10_000;

/// What a session's threads share.
pub(super) struct Shared {
    pub about: About,
    pub options: SessionOptions,
    /// The protocol version that both sides speak.
    pub version: u32,
    pub mask: Mask,
    pub rules: Rules,
    pub filter: Arc<Filter>,
    /// The target holds what nobody has said may go.
    pub strange: AtomicBool,
    pub source: Arc<Source>,
    pub gate: Arc<Gate>,
    pub mailbox: Arc<Mailbox>,
    pub outbox: Outbox,
    /// How much of it may be on its way.
    pub window: Mutex<Window>,
    pub view: TargetView,
    pub status: Arc<TargetStatus>,
    pub held: Arc<Held>,
    pub monitor: Arc<dyn Monitor>,
    pub feedback: Arc<dyn Feedback>,
    /// Directories that were mount points, in this session or the one before.
    pub mounts: Mutex<BTreeSet<RelPath>>,
    /// Newest commit that was acknowledged.
    pub acked: AtomicU64,
    /// Newest commit that was sent.
    pub committed: AtomicU64,
    pub inbox: Mutex<Inbox>,
    pub passes: Mutex<HashMap<PassId, PassInbox>>,
    pub passes_running: AtomicUsize,
    pub first_pass_done: AtomicBool,
    /// Files of which the target has something from before, by their marks, once it has said so.
    pub partials: Mutex<Option<HashSet<[u8; 16]>>>,
    pub found: Found,
    pub known: Arc<Known>,
    pub leading: Leading,
    /// Names at and below which the target cannot rename from, or link to, the rest of its tree.
    pub apart: Mutex<HashSet<RelPath>>,
    /// What the target held under a name, where somebody itemizes.
    pub old: Mutex<HashMap<RelPath, Box<Entry>>>,
    /// What was told, in a single pass.
    pub told: Mutex<ToldOnce>,
    /// What a directory beside the target holds of what that lacks.
    pub borrowed: Mutex<HashMap<RelPath, Borrowed>>,
}

/// What a directory beside the target holds under a path that the target lacks.
#[derive(Debug, Clone)]
pub(super) struct Borrowed {
    /// Which directory.
    pub which: u8,
    /// What is there.
    pub entry: Box<Entry>,
    /// How it differs from the source's: not at all if `None`.
    pub differs: Option<Extent>,
}

/// What the replies' thread leaves for the session.
#[derive(Default)]
pub(super) struct Inbox {
    pub replies: VecDeque<Reply>,
    /// Bytes, about, that the replies hold.
    pub weight: u64,
    pub dead: Option<SessionError>,
    pub heard: Option<Instant>,
}

impl Shared {
    pub fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in that the target has what was sent up to a mark.
    pub fn received(&self, mark: u64) {
        if self.window().received(mark, Instant::now()) {
            self.mailbox.wake();
        }
    }

    pub fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passes(&self) -> MutexGuard<'_, HashMap<PassId, PassInbox>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a pass: returns its answers as they come, and the bytes, about, that wait there.
    pub fn begin_pass(&self, id: PassId) -> (Receiver<PassReply>, Arc<AtomicU64>) {
        let (to, replies) = unbounded();
        let waiting = Arc::new(AtomicU64::new(0));
        self.passes().insert(id, PassInbox { to, waiting: Arc::clone(&waiting) });
        (replies, waiting)
    }

    /// Ends a pass: what is still answered to it goes nowhere.
    pub fn end_pass(&self, id: PassId) {
        self.passes().remove(&id);
    }

    /// Whether a pass is to end, with its session.
    pub fn is_pass_over(&self, id: PassId) -> bool {
        self.mailbox.is_closed() || !self.passes().contains_key(&id)
    }

    /// Whether a path is part of what this target is offered. The target's own words are no reason to
    /// send it anything else.
    pub fn offers(&self, path: &RelPath, dir: bool) -> bool {
        let selection = &self.options.sync.selection;
        !crate::scan::is_own(path) && !self.filter.excludes(path, dir) && selection.lists(path)
    }

    /// Notes that a path lies on another filesystem of the target than what it was to be renamed or linked to.
    pub fn part(&self, path: &RelPath) {
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        // Of very many their directories are remembered.
        let full = apart.len() >= APART_MAX;
        apart.insert(if full { path.parent().unwrap_or_default() } else { path.clone() });
    }

    /// Whether a path is neither renamed nor linked on the target.
    pub fn is_apart(&self, path: &RelPath) -> bool {
        let apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        !apart.is_empty()
            && std::iter::successors(Some(path.clone()), RelPath::parent).any(|at| apart.contains(&at))
    }

    /// Returns which names belong to one file, as far as that is known.
    pub fn links(&self) -> MutexGuard<'_, Names> {
        self.known.links()
    }

    pub fn notice(&self, notice: &Notice) {
        self.monitor.notice(&self.about, notice);
    }

    /// Takes in that a batch is acknowledged.
    pub fn delivered(&self, batch: BatchId, parcels: &[Parcel]) {
        Counters::add(&self.status.counters.batches, 1);
        let changes = parcels.iter().map(|parcel| &parcel.change.kind);
        self.status.delivered(batch, changes);
        let now = Instant::now();
        let arrived: Vec<Arrived<'_>> = parcels.iter().filter_map(|parcel| arrived(parcel, now)).collect();
        self.monitor.arrived(&self.about, &arrived);
        self.notice(&Notice::Batch { batch, changes: parcels.len() as u64 });
    }

    /// Whether a path lies on a filesystem that was mounted and is not: what looks gone there may only be
    /// out of sight. Asked after the look, so that it was a look at what is mounted.
    pub fn is_unmounted_above(&self, path: &RelPath) -> bool {
        let mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut above = mounts.iter().filter(|mount| !mount.is_root() && path.is_within(mount));
        above.any(|mount| mount != path && self.source.is_mounted(mount) == Some(false))
    }

    /// Returns what an entry needs on the target.
    pub fn need(&self, entry: &Entry) -> Need {
        let meta = &entry.attrs.meta;
        let size = if meta.kind == Kind::File { meta.size } else { 0 };
        // Who receives without the right to give files away owns them all.
        Need { size, owner: if self.mask.owner { meta.uid } else { 0 } }
    }

    /// Whether a path lies on another filesystem than the source's root and is left out for it (`-x`).
    pub fn is_beyond(&self, path: &RelPath) -> bool {
        self.options.sync.selection.one_file_system && self.source.is_beyond(path)
    }

    /// Returns what a walk over the source takes in; with `checksum` contents are hashed.
    pub fn walk_options(&self, checksum: bool) -> scan::Options {
        let selection = &self.options.sync.selection;
        scan::Options {
            mask: Mask { checksum, ..self.mask },
            filter: Arc::clone(&self.filter),
            role: scan::Role::Source,
            one_file_system: selection.one_file_system,
            recursive: selection.recursive,
            checksum,
            links: selection.links,
            prune: selection.prune && selection.recursive,
        }
    }

    /// Whether a file with several names was not told of before, under any of them.
    pub fn tells_first(&self, entry: &Entry) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).files.insert(entry.id)
    }

    /// Whether a name was not told of before, as linked or as it was.
    pub fn tells_name(&self, path: &RelPath) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).names.insert(path.clone())
    }

    /// Tells that the target has something as it is; `linked`: under another name it was told of.
    pub fn tell_same(&self, path: &RelPath, entry: &Entry, linked: bool) {
        let (kind, symlink) = (entry.attrs.meta.kind, entry.attrs.symlink.clone());
        let same = Itemized::Same { path: self.source.called(path), kind, linked, symlink };
        self.monitor.itemized(&self.about, &same);
    }

    /// Notes what the target held of a file with several names there, before one of them is sent.
    pub fn note_old(&self, entry: &Entry, old: Option<&Entry>) {
        if let Some(old) = old.filter(|old| old.nlink > 1 && entry.nlink > 1) {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.old.insert(entry.id, Box::new(old.clone()));
        }
    }

    /// Returns what the target held under a name that is to be linked, and whether that is to be told now. `own`: the name
    /// itself was found to differ.
    pub fn old_of(&self, path: &RelPath, entry: &Entry, own: bool) -> Option<Option<Box<Entry>>> {
        let old = self.old.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Its names were one file there, too: they were alike.
        let old = old.or_else(|| told.old.get(&entry.id).filter(|_| !own).cloned());
        ((own || old.is_some()) && told.names.insert(path.clone())).then_some(old)
    }

    /// Records a failure of a path, and tells of it once.
    pub fn problem(&self, path: &RelPath, failure: Failure<'_>) {
        Counters::add(&self.status.counters.problems, 1);
        if self.status.problem(path, &failure) {
            let Failure { operation, errno, on_target, .. } = failure;
            let operation = operation.to_owned();
            self.notice(&Notice::Problem { path: path.clone(), operation, errno, on_target });
        }
    }
}

/// What was told in a single pass, so that it is told once.
#[derive(Default)]
pub(super) struct ToldOnce {
    /// Files with several names that were told of at all.
    files: HashSet<FileId>,
    /// Names that were linked, or are as they were.
    names: HashSet<RelPath>,
    /// What the target held before.
    old: HashMap<FileId, Box<Entry>>,
}

/// Returns what a parcel did that is acknowledged now; `None` if it did nothing.
fn arrived(parcel: &Parcel, now: Instant) -> Option<Arrived<'_>> {
    let change = &parcel.change;
    let from = match &change.kind {
        ChangeKind::Rename { from, .. } => Some(from),
        _ => None,
    };
    let took = parcel.counts.then(|| now.saturating_duration_since(change.age.since));
    Some(Arrived { what: deed_of(&change.kind)?, path: change.kind.path(), from, took })
}
