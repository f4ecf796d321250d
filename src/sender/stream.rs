//! Files in pieces: one at a time is sent, the signatures of the next are asked for ahead.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use super::error::SessionError;
use super::mailbox::{Lane, Parcel};
use super::outbox::Content;
use super::recent::Delivered;
use super::resume::{Chunks, Matching, RESUME_LEN_MIN};
use super::sampling::is_worth_a_search;
use super::session::Session;
use super::source::{End, Piece, SourceFile};
use crate::batch::{Change, ChangeKind, Extent};
use crate::delta::{Differ, Index, Op};
use crate::monitor::Counters;
use crate::protocol::{StreamId, ToReceiver, VERSION_KEPT};
use crate::scan::View;
use crate::tree::RelPath;

/// Files whose signatures are asked for ahead.
const AHEAD: usize = 8;
/// A copy of this many bytes is told at once: it fits into a few bytes of a buffer that would be full
/// much later, and the target would have nothing to do.
const WORTH_LEN: u64 = 1 << 20;
/// Large files that wait before no more are taken from a pass.
const WAITING_MAX: usize = 256;

enum Phase {
    /// Nothing was done yet.
    Waiting,
    /// The signature of the basis was asked for.
    Signing,
    /// The answer came; `None` means that there is no basis.
    Signed(Option<Arc<Index>>),
    /// Pieces are on their way.
    Sending {
        offset: u64,
        differ: Option<Box<Differ>>,
        index: Option<Arc<Index>>,
        /// Whether samples were looked at.
        sampled: bool,
        matched: u64,
        literal: u64,
    },
}

/// What is known of what the target has from before.
enum Before {
    /// It is not asked, or has nothing.
    Nothing,
    /// It was asked.
    Asked,
    /// It has this.
    Has(Chunks),
}

struct Job {
    stream: StreamId,
    path: RelPath,
    parcel: Parcel,
    scope: Extent,
    file: Option<Arc<SourceFile>>,
    before: Before,
    matching: Option<Matching>,
    phase: Phase,
}

impl Job {
    /// Whether an answer of the target is missing.
    fn waits(&self) -> bool {
        matches!(self.phase, Phase::Signing) || matches!(self.before, Before::Asked)
    }
}

/// The large files of a session.
pub(super) struct Jobs {
    jobs: VecDeque<Job>,
    next: StreamId,
    ahead: usize,
}

impl Jobs {
    pub fn new(streams_max: u32) -> Self {
        let ahead = AHEAD.min(usize::try_from(streams_max).unwrap_or(1)).max(1);
        Self { jobs: VecDeque::new(), next: 1, ahead }
    }

    /// Adds a file; one that was not opened yet takes the newer change. Twice it would be begun twice, and
    /// the second time without what the target has told of it.
    pub fn add(&mut self, path: RelPath, parcel: Parcel, scope: Extent) {
        let waiting = self.jobs.iter_mut().find(|job| job.path == path && job.file.is_none());
        if let Some(job) = waiting {
            job.parcel.issued = job.parcel.issued.max(parcel.issued);
            job.parcel.counts |= parcel.counts;
            job.parcel.change.age = job.parcel.change.age.join(parcel.change.age);
            if scope == Extent::Content {
                // What a comparison misses, an event may have told of as well.
                job.parcel.change.kind = parcel.change.kind;
            }
            return;
        }
        let stream = self.next;
        self.next = self.next.wrapping_add(1);
        let (file, before, phase) = (None, Before::Nothing, Phase::Waiting);
        self.jobs.push_back(Job { stream, path, parcel, scope, file, before, matching: None, phase });
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether a file is still to be sent, or its end.
    pub fn holds(&self, path: &RelPath) -> bool {
        self.jobs.iter().any(|job| job.path == *path)
    }

    pub fn has_room(&self) -> bool {
        self.jobs.len() < WAITING_MAX
    }

    /// Bytes of the files that are known to follow.
    pub fn bytes_left(&self) -> u64 {
        let left = |job: &Job| {
            let size = job.file.as_ref().map_or(0, |file| file.size());
            let done = if let Phase::Sending { offset, .. } = job.phase { offset } else { 0 };
            size.saturating_sub(done)
        };
        self.jobs.iter().map(left).fold(0, u64::saturating_add)
    }

    /// Bytes that were sent, or found on the target, of files that are not sent to their end.
    pub fn bytes_done(&self) -> u64 {
        let done = self.jobs.iter().map(|job| match job.phase {
            Phase::Sending { matched, literal, .. } => matched + literal,
            _ => 0,
        });
        done.fold(0, u64::saturating_add)
    }

    /// Returns the file that is being sent.
    pub fn current(&self) -> Option<&RelPath> {
        let mut sending = self.jobs.iter().filter(|job| matches!(job.phase, Phase::Sending { .. }));
        sending.next().map(|job| &job.path)
    }

    pub fn is_sending(&self) -> bool {
        self.jobs.front().is_some_and(|job| matches!(job.phase, Phase::Sending { .. }))
    }

    pub fn parcels(&self) -> impl Iterator<Item = &Parcel> {
        self.jobs.iter().map(|job| &job.parcel)
    }

    pub fn take_parcels(&mut self) -> Vec<Parcel> {
        self.jobs.drain(..).map(|job| job.parcel).collect()
    }

    /// Takes in the answer to a request for a signature.
    pub fn signed(&mut self, stream: StreamId, signature: Option<Arc<Index>>) {
        let asked = |job: &&mut Job| job.stream == stream && matches!(job.phase, Phase::Signing);
        if let Some(job) = self.jobs.iter_mut().find(asked) {
            job.phase = Phase::Signed(signature);
        }
    }

    /// Takes in what the target has of a file from before.
    pub fn told(&mut self, stream: StreamId, chunks: Option<Chunks>) {
        let asked = |job: &&mut Job| job.stream == stream && matches!(job.before, Before::Asked);
        if let Some(job) = self.jobs.iter_mut().find(asked) {
            job.before = chunks.map_or(Before::Nothing, Before::Has);
        }
    }

    /// Ends a stream that the target takes no more of, and returns what it was for.
    pub fn stop(&mut self, stream: StreamId) -> Option<Parcel> {
        let at = self.jobs.iter().position(|job| job.stream == stream)?;
        self.jobs.remove(at).map(|job| job.parcel)
    }

    /// Follows a rename. A transfer below a renamed directory moves along on both sides; one whose own
    /// name changed ends. Returns the streams that have ended, and what is to be read in their place.
    pub fn rename(&mut self, from: &RelPath, to: &RelPath) -> (Vec<StreamId>, Vec<Change>) {
        let (mut ended, mut anew) = (Vec::new(), Vec::new());
        self.jobs.retain_mut(|job| {
            if job.path == *from || job.path.is_within(to) {
                ended.push(job.stream);
                let path = job.path.rebase(from, to).unwrap_or_else(|| job.path.clone());
                anew.push(Change::read(path, job.parcel.change.age));
                return false;
            }
            if let Some(new) = job.path.rebase(from, to) {
                // Should the session end, it is handed back under the name that it has then.
                if let ChangeKind::Update { path, .. } = &mut job.parcel.change.kind {
                    path.clone_from(&new);
                }
                job.path = new;
            }
            true
        });
        (ended, anew)
    }

    /// Ends the streams of a path and everything below it, and returns them, with what each was to bring.
    pub fn abandon_below(&mut self, path: &RelPath) -> Vec<(StreamId, Change)> {
        let mut ended = Vec::new();
        self.jobs.retain(|job| {
            let below = job.path.is_within(path);
            if below {
                ended.push((job.stream, Change::read(job.path.clone(), job.parcel.change.age)));
            }
            !below
        });
        ended
    }
}

impl Session {
    /// Does one step for the large files; `false` if there is nothing to do but wait.
    pub(super) fn step_job(&mut self) -> Result<bool, SessionError> {
        self.ask_ahead()?;
        let Some(mut job) = self.jobs.jobs.pop_front() else { return Ok(false) };
        if job.waits() {
            // Another file may be ready meanwhile.
            let ready =
                self.jobs.jobs.iter().position(|job| matches!(job.phase, Phase::Signed(_)) && !job.waits());
            let Some(ready) = ready.and_then(|at| self.jobs.jobs.remove(at)) else {
                self.jobs.jobs.push_front(job);
                self.shared.outbox.flush()?;
                return Ok(false);
            };
            self.jobs.jobs.push_front(std::mem::replace(&mut job, ready));
        }
        if self.advance(&mut job)? {
            self.jobs.jobs.push_front(job);
        }
        Ok(true)
    }

    /// Opens the next files and asks for the signatures of their bases.
    fn ask_ahead(&mut self) -> Result<(), SessionError> {
        for at in 0..self.jobs.ahead.min(self.jobs.jobs.len()) {
            if !matches!(self.jobs.jobs[at].phase, Phase::Waiting) {
                continue;
            }
            let job = &self.jobs.jobs[at];
            let (path, stream) = (job.path.clone(), job.stream);
            let is_absent = job.scope == Extent::Absent;
            let whole = self.shared.options.sync.selection.whole_file
                || self.shared.options.dry_run
                || self.whole.contains(&path);
            if self.resumes() && !self.whole.contains(&path) && self.may_be_there(&path) {
                self.send(&ToReceiver::Resume { stream, path: path.clone() })?;
                self.jobs.jobs[at].before = Before::Asked;
            }
            let phase = if whole || is_absent && !self.sign_beside(stream, &path)? {
                Phase::Signed(None)
            } else if is_absent {
                Phase::Signing
            } else {
                self.send(&ToReceiver::Sign { stream, path })?;
                Phase::Signing
            };
            self.jobs.jobs[at].phase = phase;
        }
        Ok(())
    }

    /// Takes a file one step on; `false` when it is done with.
    fn advance(&mut self, job: &mut Job) -> Result<bool, SessionError> {
        match &mut job.phase {
            Phase::Waiting | Phase::Signing => Ok(true),
            Phase::Signed(signature) => {
                let index = signature.take();
                self.begin(job, index)
            }
            Phase::Sending { .. } => self.send_piece(job),
        }
    }

    fn begin(&mut self, job: &mut Job, index: Option<Arc<Index>>) -> Result<bool, SessionError> {
        let file = match self.shared.source.file(&job.path, &self.shared.mask, job.parcel.issued) {
            Ok(file) => file,
            Err(error) => {
                self.read_failed(&job.path, &error, job.parcel.change.age)?;
                return self.drop_job(job);
            }
        };
        if self.must_wait(&file, &job.parcel) {
            self.shared.feedback.still_open(&job.path, job.parcel.issued, job.parcel.change.age);
            return self.drop_job(job);
        }
        // One of its other names may have been sent since this one was put in line.
        if self.send_as_link(&job.path, &file.entry, &job.parcel)? {
            self.shared.links().mark(file.entry.id, &job.path, false);
            self.keep(job.parcel.clone());
            return self.drop_job(job);
        }
        let differ = index.as_ref().map(|index| Box::new(Differ::new(Arc::clone(index))));
        if let Before::Has(chunks) = std::mem::replace(&mut job.before, Before::Nothing) {
            job.matching = Some(Matching::new(chunks));
        } else {
            self.open_stream(job, &file, index.is_some(), 0)?;
        }
        job.file = Some(file);
        job.phase = Phase::Sending { offset: 0, differ, index, sampled: false, matched: 0, literal: 0 };
        Ok(true)
    }

    /// Whether the target keeps what has arrived of a file when the session ends.
    pub(super) fn resumes(&self) -> bool {
        let options = &self.shared.options;
        self.shared.version >= VERSION_KEPT && (options.live || options.sync.partial) && !options.dry_run
    }

    /// Whether the target may have something of a file from before; what is there is gone on with once.
    fn may_be_there(&self, path: &RelPath) -> bool {
        let mut partials = self.shared.partials.lock().unwrap_or_else(PoisonError::into_inner);
        partials.as_mut().is_none_or(|marks| marks.remove(&crate::protocol::partial_mark(path)))
    }

    /// Begins a stream on the target, behind the first `from` bytes that it has.
    fn open_stream(
        &mut self,
        job: &Job,
        file: &SourceFile,
        basis: bool,
        from: u64,
    ) -> Result<(), SessionError> {
        let (stream, path, size) = (job.stream, job.path.clone(), file.allocated());
        if from > 0 || (self.resumes() && file.size() >= RESUME_LEN_MIN) {
            self.send(&ToReceiver::OpenKept { stream, path, size, basis, from })
        } else {
            self.send(&ToReceiver::Open { stream, path, size, basis })
        }
    }

    /// Compares a piece with what the target has; when it is known how much of it holds, the stream begins
    /// behind that.
    fn match_piece(
        &mut self,
        job: &mut Job,
        mut matching: Matching,
        piece: &Piece,
    ) -> Result<bool, SessionError> {
        let file = job.file.clone();
        let (Some(file), Phase::Sending { offset, index, matched, .. }) = (file, &mut job.phase) else {
            return Ok(false);
        };
        *offset += match piece {
            Piece::Data(data) => data.len() as u64,
            Piece::Hole(len) => *len,
            Piece::End => 0,
        };
        if !matching.feed(piece.clone()) {
            job.matching = Some(matching);
            return Ok(true);
        }
        let (from, behind) = matching.finish();
        *matched += from;
        let basis = index.is_some();
        self.open_stream(job, &file, basis, from)?;
        for piece in &behind {
            self.send_bytes(job, piece, None)?;
        }
        if matches!(piece, Piece::End) { self.send_end(job, &file) } else { Ok(true) }
    }

    fn drop_job(&mut self, job: &Job) -> Result<bool, SessionError> {
        self.send(&ToReceiver::Abandon { stream: job.stream })?;
        // What was begun came and went in the directory.
        self.touch_parent(&job.path);
        Ok(false)
    }

    fn send_piece(&mut self, job: &mut Job) -> Result<bool, SessionError> {
        self.age = job.parcel.change.age;
        let (Some(file), Phase::Sending { offset, .. }) = (job.file.clone(), &mut job.phase) else {
            return Ok(false);
        };
        let at = *offset;
        let piece = match file.piece(at) {
            Ok(piece) => piece,
            Err(error) => {
                self.read_failed(&job.path, &error, job.parcel.change.age)?;
                return self.drop_job(job);
            }
        };
        if let Some(matching) = job.matching.take() {
            return self.match_piece(job, matching, &piece);
        }
        match &piece {
            Piece::Data(data) => *offset += data.len() as u64,
            Piece::Hole(len) => *offset += len,
            Piece::End => return self.send_end(job, &file),
        }
        self.send_bytes(job, &piece, Some((&file, at)))?;
        Ok(true)
    }

    /// Sends one piece; `place` says where it stands in its file, if others may share it.
    fn send_bytes(
        &mut self,
        job: &mut Job,
        piece: &Piece,
        place: Option<(&SourceFile, u64)>,
    ) -> Result<(), SessionError> {
        let stream = job.stream;
        let Phase::Sending { differ, index, sampled, matched, literal, .. } = &mut job.phase else {
            return Ok(());
        };
        let mut ops = Ops { session: self, stream, matched: 0, literal: 0 };
        match piece {
            Piece::Data(data) => {
                // Searching what does not match is slower than a fast link.
                if !*sampled
                    && differ.as_ref().is_some_and(|differ| differ.is_doubtful())
                    && !ops.session.shared.outbox.is_slow()
                    && let (Some((file, at)), Some(basis)) = (place, &index)
                {
                    *sampled = true;
                    if !is_worth_a_search(file, at, basis)
                        && let Some(hopeless) = differ.take()
                    {
                        hopeless.finish(&mut |op| ops.emit(op))?;
                        *index = None;
                    }
                }
                match (differ, place) {
                    (Some(differ), _) => differ.push(data, &mut |op| ops.emit(op))?,
                    (None, Some((file, offset))) => {
                        ops.literal += data.len() as u64;
                        let head = ToReceiver::Data { stream, data: Cow::Borrowed(&[]) };
                        let source = Arc::clone(&ops.session.shared.source);
                        let content = Content { source: &source, file, offset, data };
                        ops.session.send_content(&head, &content)?;
                    }
                    (None, None) => ops.emit(Op::Literal(data))?,
                }
            }
            Piece::Hole(len) => {
                // The search ends at a hole and begins anew behind it.
                if let (Some(before), Some(index)) = (differ.take(), index) {
                    before.finish(&mut |op| ops.emit(op))?;
                    *differ = Some(Box::new(Differ::new(Arc::clone(index))));
                }
                ops.session.send(&ToReceiver::Hole { stream, len: *len })?;
            }
            Piece::End => {
                if let Some(differ) = differ.take() {
                    differ.finish(&mut |op| ops.emit(op))?;
                }
            }
        }
        *matched += ops.matched;
        *literal += ops.literal;
        Ok(())
    }

    fn send_end(&mut self, job: &mut Job, file: &SourceFile) -> Result<bool, SessionError> {
        self.send_bytes(job, &Piece::End, None)?;
        self.end_file(job, file)
    }

    fn end_file(&mut self, job: &mut Job, file: &SourceFile) -> Result<bool, SessionError> {
        let end = match file.finish() {
            Ok(end) => end,
            Err(error) => {
                self.read_failed(&job.path, &error, job.parcel.change.age)?;
                return self.drop_job(job);
            }
        };
        let End::Version { entry, hash, provisional } = end else {
            self.drop_job(job)?;
            self.send_again(job.path.clone(), &job.parcel, std::time::Duration::from_millis(500))?;
            return Ok(false);
        };
        let mut attrs = entry.attrs.clone();
        self.shared.view.adjust(&mut attrs);
        self.send(&ToReceiver::Close { stream: job.stream, attrs, hash, provisional })?;
        if let Phase::Sending { matched, literal, .. } = job.phase {
            let counters = &self.shared.status.counters;
            Counters::add(&counters.matched_bytes, matched);
            Counters::add(&counters.literal_bytes, literal);
        }
        let path = job.path.clone();
        let version = Delivered { entry: &entry, hash, provisional };
        self.sent_content(&path, file, job.scope, &version)?;
        self.shared.feedback.sent(&path, file.began.elapsed());
        self.open.push(job.parcel.clone());
        // A batch of a pass goes on: each commit costs the target a flush.
        if job.parcel.lane == Lane::Live || self.is_batch_full() {
            self.commit()?;
        }
        Ok(false)
    }

    /// Gives up what is in flight.
    pub(super) fn abandon_jobs(&mut self) -> Result<(), SessionError> {
        self.abandon_jobs_below(&RelPath::root()).map(drop)
    }

    /// Gives up what is in flight of a path and everything below it, and returns what it was to bring.
    pub(super) fn abandon_jobs_below(&mut self, path: &RelPath) -> Result<Vec<Change>, SessionError> {
        let mut unsent = Vec::new();
        for (stream, change) in self.jobs.abandon_below(path) {
            self.send(&ToReceiver::Abandon { stream })?;
            self.touch_parent(change.kind.path());
            unsent.push(change);
        }
        Ok(unsent)
    }
}

/// Sends the operations of a delta as they are found.
struct Ops<'a> {
    session: &'a mut Session,
    stream: StreamId,
    matched: u64,
    literal: u64,
}

impl Ops<'_> {
    fn emit(&mut self, op: Op<'_>) -> Result<(), SessionError> {
        let stream = self.stream;
        match op {
            Op::Copy { offset, len } => {
                self.matched += len;
                self.session.send(&ToReceiver::Copy { stream, offset, len })?;
                if len >= WORTH_LEN && !self.session.shared.options.dry_run {
                    self.session.shared.outbox.flush()?;
                }
                Ok(())
            }
            Op::Literal(data) => {
                self.literal += data.len() as u64;
                self.session.send(&ToReceiver::Data { stream, data: Cow::Borrowed(data) })
            }
        }
    }
}
