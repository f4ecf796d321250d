//! One connection to one target, from the handshake to the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::cuts::Cutting;
use super::debts::Debts;
use super::duplicates::Contents;
use super::error::SessionError;
use super::gate::Gate;
use super::gone::Gone;
use super::handing::{self, Handing};
use super::held::Held;
use super::known::Known;
use super::lead::Lead;
use super::mailbox::{Lane, Mailbox, Parcel};
use super::operations::Operations;
use super::progress::{TELL_EVERY, Told};
use super::recent::Recent;
use super::shared::Shared;
use super::source::{DirCache, Reader, Source, is_absence};
use super::stating::Stating;
use super::status::{TargetState, TargetStatus};
use super::stepping::Stepping;
use super::stream::Jobs;
use super::watermark::Marking;
use super::{Feedback, NoFeedback};
use crate::batch::{Change, ChangeKind, Extent};
use crate::config;
use crate::error::errno_of;
use crate::event::{Age, Moment, RescanReason};
use crate::monitor::{Monitor, Silent};
use crate::protocol::{BatchId, ReplyHello, ToReceiver};
use crate::transport::Control;
use crate::tree::{FileId, Mask, RelPath};

/// Live changes in one batch.
pub(super) const LIVE_BATCH: usize = 2048;
/// Changes of a pass that are sent between two looks at the live lane.
pub(super) const BULK_BATCH: usize = 16;
/// Changes after which a batch of a pass is committed.
const BULK_COMMIT: usize = 1024;
/// Bytes after which it is as well.
const BULK_COMMIT_BYTES: u64 = 64 << 20;
/// Time that a batch of a pass waits for more of it, once there is nothing else to send.
const GATHER: Duration = Duration::from_millis(30);

/// Which mirror a session is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The same for every spelling of source and target.
    pub id: [u8; 16],
    /// What earlier versions may have called it, the likeliest first.
    pub former: Vec<[u8; 16]>,
}

impl From<[u8; 16]> for Identity {
    fn from(id: [u8; 16]) -> Self {
        Self { id, former: Vec::new() }
    }
}

/// What a session is to do.
#[derive(Clone)]
pub struct SessionOptions {
    /// The sync.
    pub sync: config::Sync,
    /// The target.
    pub target: config::Target,
    /// Identity of the mirror, the same for every session of this sync and target.
    pub mirror: Identity,
    /// Goes on until its mailbox is closed; without it the session ends with its first pass.
    pub live: bool,
    /// Changes nothing.
    pub dry_run: bool,
    /// Says what it would change, also on a target that does not exist yet.
    pub rehearsal: bool,
}

impl SessionOptions {
    fn removes(&self) -> bool {
        self.sync.removes && !self.live && !self.dry_run
    }
}

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// Why, if not because it was done or told to stop.
    pub error: Option<SessionError>,
    /// What was sent or begun and not acknowledged, to be sent again.
    pub unfinished: Vec<Change>,
    /// Whether the first pass was done.
    pub was_live: bool,
}

/// One connection to one target.
pub struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) control: Arc<dyn Control>,
    /// Held while it works: a stop has its limits.
    _works: Arc<()>,
    pub(super) replies: Option<JoinHandle<()>>,
    pub(super) batch: BatchId,
    pub(super) open: Vec<Parcel>,
    pub(super) unacked: VecDeque<(BatchId, Vec<Parcel>)>,
    /// What follows from a change that is being sent: sent right behind it, before a rename can come between.
    pub(super) soon: Vec<Change>,
    /// Bytes that had been sent when each of them was ended, and when the last acknowledged one was.
    unacked_bytes: VecDeque<u64>,
    committed_bytes: u64,
    pub(super) acked_bytes: u64,
    /// Directories in which a name changed since the last commit.
    pub(super) touched: BTreeSet<RelPath>,
    /// Whether anything was sent since the last commit.
    pub(super) uncommitted: bool,
    pub(super) jobs: Jobs,
    pub(super) recent: Recent,
    /// Paths whose next sending is whole: a delta of theirs did not add up.
    pub(super) whole: HashSet<RelPath>,
    pub(super) operations: Operations,
    pub(super) mismatches: BTreeMap<RelPath, (u32, Instant)>,
    /// Files that have more names than are known, and the number of names for which that was looked into.
    pub(super) links_sought: HashMap<FileId, u32>,
    /// Files that a single pass has sent under one of several names.
    pub(super) links_late: HashSet<FileId>,
    /// Since when there may be names of one file that stand apart on the target.
    pub(super) links_doubtful: Option<Age>,
    /// How old the change is that is being sent: what follows from it is as old.
    pub(super) age: Age,
    /// When it began, if what the target has is to be removed from the source.
    pub(super) removes_since: Option<Moment>,
    pub(super) debts: Debts,
    pinged: Instant,
    pub(super) stepping: Stepping,
    pub(super) cutting: Cutting,
    pub(super) told: Told,
    pub(super) stating: Stating,
    pub(super) marking: Marking,
    /// The directory of the change that was sent last, within one call of `send_all`.
    pub(super) way: Option<DirCache>,
    /// While there is something to send.
    pub(super) reader: Option<Reader>,
    /// What was found of the last path that was to be deleted.
    pub(super) gone: Option<Gone>,
    /// What the last small file held: room for the next.
    pub(super) buffer: Vec<u8>,
    /// Contents of small files, by which they are told to be the same.
    pub(super) contents: Contents,
    /// The standby is being promoted, and asks for what is left.
    pub(super) handing: Option<Box<Handing>>,
    /// Until when a batch of a pass that is under way may grow.
    gather_until: Option<Instant>,
}

/// Everything a session works with besides its options.
#[derive(Clone)]
pub struct Surroundings {
    /// The source tree.
    pub source: Arc<Source>,
    /// Whether it may be read yet.
    pub gate: Arc<Gate>,
    /// The target's queue.
    pub mailbox: Arc<Mailbox>,
    /// What is known of the target.
    pub status: Arc<TargetStatus>,
    /// Deletes held back for the target.
    pub held: Arc<Held>,
    /// What is known of the source's names; the same for every session of a target.
    pub known: Arc<Known>,
    /// Who hears what happens.
    pub monitor: Arc<dyn Monitor>,
    /// The stage before.
    pub feedback: Arc<dyn Feedback>,
    /// Whether the source may send.
    pub lead: Arc<Lead>,
}

impl Surroundings {
    /// Returns what a single session of a source needs, with nobody who listens.
    pub fn of(source: Arc<Source>) -> Self {
        Self {
            source,
            gate: Arc::new(Gate::standing_open()),
            mailbox: Mailbox::new(),
            status: Arc::default(),
            held: Arc::default(),
            known: Arc::default(),
            monitor: Arc::new(Silent),
            feedback: Arc::new(NoFeedback),
            lead: Arc::new(Lead::plain()),
        }
    }
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        control: Arc<dyn Control>,
        replies: JoinHandle<()>,
        reply: &ReplyHello,
    ) -> Self {
        // What was provisional when the last session ended, or failed, is read again, whatever its stat says.
        let age = Age::unknown(Instant::now());
        let failed = reply.watermark.iter().flat_map(|watermark| &watermark.except);
        let offered = reply.provisional.iter().chain(failed);
        let offered = offered.filter(|path| shared.offers(path, false) && shared.offers(path, true));
        let offered = offered.map(|path| Change::read(path.clone(), age)).collect();
        let reads = shared.options.sync.reconcile.verify != config::Verify::Stamps;
        if shared.leading.adopts() && reads {
            // Since the source has been a standby the most of it is what its primary sent it; the first comparison
            // doubts all that was changed since both trees held the same.
            shared.mailbox.forget();
        }
        shared.mailbox.push_first(offered, |change| shared.status.counts(change));
        shared.status.retry_all();
        // What stands on the target is for this session to find out.
        shared.links().part_all();
        shared.known.is_in_step(None);
        shared.known.take_sought().into_iter().for_each(|(id, file)| shared.view.seek(id, file.reads));
        let works = super::stopping::limit(&shared, &control);
        Self {
            _works: works,
            removes_since: shared.options.removes().then(|| crate::disk::mark().0),
            told: Told::new(&shared),
            stating: Stating::new(reply),
            marking: Marking::of(reply),
            shared,
            control,
            replies: Some(replies),
            batch: 1,
            open: Vec::new(),
            unacked: VecDeque::new(),
            soon: Vec::new(),
            unacked_bytes: VecDeque::new(),
            committed_bytes: 0,
            acked_bytes: 0,
            touched: BTreeSet::new(),
            uncommitted: false,
            jobs: Jobs::new(reply.limits.streams),
            recent: Recent::default(),
            whole: HashSet::new(),
            operations: Operations::default(),
            mismatches: BTreeMap::new(),
            links_sought: HashMap::new(),
            links_late: HashSet::new(),
            links_doubtful: None,
            age,
            debts: Debts::default(),
            pinged: Instant::now(),
            stepping: Stepping::default(),
            cutting: Cutting::default(),
            way: None,
            reader: None,
            gone: None,
            buffer: Vec::new(),
            contents: Contents::default(),
            handing: None,
            gather_until: None,
        }
    }

    /// Works until the mailbox is closed, the first pass of a single session is done, or the
    /// connection breaks.
    pub fn run(mut self, reason: RescanReason) -> Outcome {
        self.begin_marking();
        self.shared.status.enter(TargetState::FirstPass, None);
        self.start_pass(RelPath::root(), reason, Age::believed(Instant::now()));
        let ended = self.work();
        let error = match ended {
            Ok(()) => self.leave().err(),
            Err(error) => Some(error),
        };
        let was_live = self.shared.first_pass_done.load(Ordering::Acquire);
        let (unfinished, ended) = self.end(error.is_some());
        let said = self.shared.inbox().dead.take();
        let error = match error {
            // The agent's last words may come behind a pipe that it has closed by then.
            Some(SessionError::Frame(_)) if matches!(said, Some(SessionError::Fatal(_))) => said,
            // The carrier's own words say more than a closed pipe.
            Some(SessionError::Frame(_)) if !ended.stderr.is_empty() => Some(SessionError::Ended(ended)),
            other => other,
        };
        Outcome { error, unfinished, was_live }
    }

    /// Says goodbye without having done anything.
    pub fn close(mut self) {
        let left = self.leave();
        self.end(left.is_err());
    }

    fn work(&mut self) -> Result<(), SessionError> {
        let mut seen = 0;
        loop {
            self.tell_progress(Instant::now());
            self.state(Instant::now())?;
            self.shared.leading.still()?;
            self.look_at_answers()?;
            self.go_on()?;
            self.hand_on(Instant::now())?;
            self.state_position()?;
            if self.shared.mailbox.is_closed() {
                return Ok(());
            }
            if !self.shared.gate.is_open() {
                let until = self.keep_alive()?;
                self.shared.mailbox.wait_closed(&mut seen, until);
                continue;
            }
            // Before the lane is looked at: what was heard by then is in it, or was taken.
            let heard = self.shared.mailbox.heard_until();
            let live = self.shared.mailbox.take(Lane::Live, LIVE_BATCH);
            if !live.is_empty() {
                self.send_live(live, heard)?;
                continue;
            }
            self.stepping.rests();
            self.settle(heard);
            if !self.has_room()? {
                self.wait_for_room(&mut seen)?;
                continue;
            }
            if self.step_job()? {
                continue;
            }
            if self.jobs.has_room() {
                let bulk = self.shared.mailbox.take(Lane::Bulk, BULK_BATCH);
                if !bulk.is_empty() {
                    self.send_all(bulk)?;
                    if self.is_batch_full() {
                        self.commit()?;
                    }
                    continue;
                }
            }
            if self.gathers(Instant::now()) {
                self.shared.outbox.flush()?;
                self.shared.mailbox.wait(&mut seen, self.gather_until, false);
                continue;
            }
            self.commit()?;
            if self.is_quiet() {
                self.reader = None;
                self.shared.status.looked(self.batch);
                if !self.shared.options.live {
                    if self.is_over()? {
                        self.tell_all_done();
                        return Ok(());
                    }
                    continue;
                }
                self.step(true)?;
            }
            if self.seek_links() {
                continue;
            }
            let until = self.keep_alive()?;
            self.shared.mailbox.wait(&mut seen, Some(until), false);
        }
    }

    /// Whether a single pass is over: nothing is to be read again, and nothing to be removed from the source.
    fn is_over(&mut self) -> Result<bool, SessionError> {
        let again = self.shared.feedback.settle();
        if again.is_empty() {
            return Ok(!self.join_late()? && !self.begins_removal());
        }
        let age = Age::believed(Instant::now());
        self.shared.mailbox.push_live(again.into_iter().map(|path| Change::read(path, age)));
        Ok(false)
    }

    /// Whether more of what is large may be sent: what is small is not to wait behind it.
    fn has_room(&self) -> Result<bool, SessionError> {
        if !self.shared.options.live {
            return Ok(true);
        }
        let (sent, now) = (self.shared.outbox.sent(), Instant::now());
        let mut window = self.shared.window();
        let mark = window.sent(sent, now);
        let room = window.has_room(sent, now);
        drop(window);
        if let Some(mark) = mark {
            self.shared.outbox.send(&ToReceiver::Ping(mark))?;
        }
        Ok(room)
    }

    /// Waits until the receiver has taken more, or something small comes.
    fn wait_for_room(&mut self, seen: &mut u64) -> Result<(), SessionError> {
        self.shared.outbox.flush()?;
        let until = self.keep_alive()?;
        let began = Instant::now();
        self.shared.mailbox.wait(seen, Some(until), true);
        self.shared.outbox.waited(began.elapsed());
        Ok(())
    }

    /// Whether a batch of a pass holds so much that it is committed though there is more.
    pub(super) fn is_batch_full(&self) -> bool {
        let sent = self.shared.status.counters.totals().sent_bytes;
        self.open.len() >= BULK_COMMIT || sent.saturating_sub(self.committed_bytes) >= BULK_COMMIT_BYTES
    }

    /// Whether more of a pass is to be expected for the batch that is open: each commit costs the target
    /// a flush.
    fn gathers(&mut self, now: Instant) -> bool {
        let more = self.uncommitted && self.shared.passes_running.load(Ordering::Acquire) > 0;
        let until = self.gather_until.filter(|_| more).unwrap_or(now + GATHER);
        self.gather_until = more.then_some(until);
        more && now < until
    }

    /// Whether nothing is under way and nothing waits, as far as this session goes.
    pub(super) fn is_quiet(&self) -> bool {
        self.shared.passes_running.load(Ordering::Acquire) == 0
            && self.debts.passes_waiting.is_empty()
            && self.shared.mailbox.queued() == 0
            && self.jobs.is_empty()
            && self.soon.is_empty()
            && (self.shared.options.live || self.shared.status.suspects.oldest().is_none())
            && self.unacked.is_empty()
            && self.shared.inbox().replies.is_empty()
    }

    /// Sends a sign of life when it is time, and returns when to look again.
    fn keep_alive(&mut self) -> Result<Instant, SessionError> {
        self.shared.source.forget_old();
        let timeout = self.shared.options.sync.timeout.max(Duration::from_secs(3));
        let now = Instant::now();
        let heard = self.shared.inbox().heard.unwrap_or(now);
        if now.duration_since(heard) > timeout {
            return Err(SessionError::Silent(timeout));
        }
        if now.duration_since(self.pinged) >= timeout / 3 {
            self.pinged = now;
            self.shared.outbox.send(&ToReceiver::Ping(0))?;
            self.shared.outbox.flush()?;
        }
        let mut until = self.pinged + timeout / 3;
        if let Some(again) = self.state(now)? {
            until = until.min(again);
        }
        if !self.shared.first_pass_done.load(Ordering::Acquire) {
            until = until.min(now + TELL_EVERY);
        }
        self.adopt_approved()?;
        if self.shared.options.live {
            for (path, age, how) in self.shared.status.due(now) {
                // What it met before its pause is over; else one more mismatch would be the next failure.
                self.mismatches.remove(&path);
                if let Some(reason) = how {
                    self.look_again(path, reason, age);
                } else {
                    let kind = ChangeKind::Update { path, scope: Extent::Attributes };
                    self.soon.push(Change { age, kind });
                }
            }
            if let Some(scrub) = self.scrub(now) {
                until = until.min(scrub);
            }
            if let Some(retry) = self.shared.status.next_retry() {
                until = until.min(retry);
            }
        }
        self.hand_soon();
        if self.handing.is_some() {
            until = until.min(now + handing::LOOK_EVERY);
        }
        Ok(until.max(now + Duration::from_millis(1)))
    }

    /// Has what follows from answers and failures sent before all that waits.
    pub(super) fn hand_soon(&mut self) {
        if !self.soon.is_empty() {
            let counts = |change: &Change| self.shared.status.counts(change);
            self.shared.mailbox.push_first(std::mem::take(&mut self.soon), counts);
            self.note_in_flight();
        }
    }

    /// Ends the batch: the times of the directories that it touched, deepest first, and the commit.
    pub(super) fn commit(&mut self) -> Result<(), SessionError> {
        if self.uncommitted && !self.shared.options.dry_run {
            let mut touched: Vec<RelPath> = std::mem::take(&mut self.touched).into_iter().collect();
            touched.sort_by_key(|path| std::cmp::Reverse(path.depth()));
            if self.shared.mask.keeps_time(crate::tree::Kind::Dir) {
                // A time that cannot be read is owed since the first change that touched its directory.
                let age = self.open.iter().map(|parcel| parcel.change.age).reduce(Age::join);
                self.age = age.unwrap_or(self.age);
                let shared = Arc::clone(&self.shared);
                let selection = &shared.options.sync.selection;
                // What a rule hides may be touched by deletes; its time is nobody's here. A list has its own say.
                let is_offered = |dir: &RelPath| selection.files_from.is_some() || shared.offers(dir, true);
                for path in touched.into_iter().filter(|dir| selection.dates(dir) && is_offered(dir)) {
                    self.send_dir_time(path)?;
                }
            }
            self.shared.committed.store(self.batch, Ordering::Release);
            self.shared.outbox.send(&ToReceiver::Commit { batch: self.batch })?;
            self.unacked.push_back((self.batch, std::mem::take(&mut self.open)));
            self.committed_bytes = self.shared.status.counters.totals().sent_bytes;
            self.unacked_bytes.push_back(self.committed_bytes);
            self.batch += 1;
            self.uncommitted = false;
            self.gather_until = None;
        }
        if self.shared.options.dry_run {
            self.open.clear();
        }
        self.shared.outbox.flush()?;
        self.note_in_flight();
        Ok(())
    }

    fn send_dir_time(&mut self, path: RelPath) -> Result<(), SessionError> {
        match self.shared.source.entry(&path, &Mask::nothing()) {
            Ok(Some(entry)) if entry.attrs.meta.kind == crate::tree::Kind::Dir => {
                let message = ToReceiver::DirTime { path, mtime: entry.attrs.meta.mtime };
                self.operations.add(&message, self.batch);
                self.shared.outbox.send(&message)?;
            }
            // Gone or replaced: another change says so.
            Ok(_) => {}
            Err(error) if is_absence(&error) => {}
            Err(error) => self.fail(&path, "read", errno_of(&error)),
        }
        Ok(())
    }

    pub(super) fn look_at_answers(&mut self) -> Result<(), SessionError> {
        let acked = self.shared.acked.load(Ordering::Acquire);
        loop {
            let (reply, dead) = {
                let mut inbox = self.shared.inbox();
                let reply = inbox.replies.pop_front();
                if inbox.replies.is_empty() {
                    inbox.weight = 0;
                }
                let dead = if reply.is_none() { inbox.dead.take() } else { None };
                (reply, dead)
            };
            match (reply, dead) {
                (Some(reply), _) => self.answer(reply)?,
                (None, Some(error)) => return Err(error),
                (None, None) => break,
            }
        }
        self.take_acks(acked);
        Ok(())
    }

    /// Takes in what is acknowledged. Answers to operations come before the acknowledgement of their
    /// batch and have been looked at.
    fn take_acks(&mut self, acked: BatchId) {
        let mut moved = false;
        while self.unacked.front().is_some_and(|(batch, _)| *batch <= acked) {
            if let Some((batch, parcels)) = self.unacked.pop_front() {
                self.shared.delivered(batch, &parcels);
                let mut changes = parcels.iter().map(|parcel| &parcel.change.kind);
                if changes.any(|change| matches!(change, ChangeKind::Delete { .. })) {
                    self.shared.status.freed();
                }
            }
            self.acked_bytes = self.unacked_bytes.pop_front().unwrap_or(self.acked_bytes);
            moved = true;
        }
        if moved {
            if self.stepping.acknowledged(acked) {
                self.shared.known.is_in_step(self.shared.leading.led);
            }
            self.operations.acknowledged(acked);
            self.shared.status.settle(self.batch, |path| self.is_under_way(path));
            self.shared.status.acknowledged(acked);
            self.note_in_flight();
        }
    }
}
