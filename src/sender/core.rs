//! The session as a core: what comes goes in, what to do next comes out.
//!
//! **Purpose:** [`Session`] decides what one target is sent next, and what follows from what it says. Whoever
//! drives it has the clock, the disk, the threads and the connection: it hands over each [`Input`] and does
//! each [`Step`] that [`Session::turn`] returns.
//! **In → Out:** what the watch tells, results of looks and reads, answers, room on the link; looks, reads,
//! messages, comparisons, commits, the next moment to ask.
//! **Invariants:** everything that is owed is in the [`Ledger`]; what is ordered leaves before anything whose
//! path was asked for; steps are done in the order in which they were returned, but for looks, pieces,
//! comparisons and verdicts, whose results may come whenever they are there.
//! **Not here:** clocks, disks, threads, connections; bytes (a read is sent by who does it); when an event is due
//! (`debounce`); whether a burst of deletes may go (`reconcile`).
//!
//! The product does not use it yet: `tests/sim` drives it.

mod batches;
mod options;
mod step;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

pub use options::Options;
pub use step::{Found, Input, Like, Message, Piece, Step};

use super::ledger::{Answer, Class, Ledger, Look, Moment, Op, Record, Rule, Told, What, Why};
use crate::tree::RelPath;
use batches::Batches;
use streams::{Stream, Streams};

/// What one target is sent. Outlives connections, as its ledger does.
#[derive(Debug, Default)]
pub struct Session {
    ledger: Ledger,
    options: Options,
    /// What was decided and not handed out yet.
    ready: VecDeque<Step>,
    /// What is being looked at.
    looks: BTreeMap<Op, What>,
    streams: Streams,
    batches: Batches,
    /// Comparisons under way.
    comparisons: Vec<Op>,
    /// How many deletes a verdict was asked for.
    judging: Option<usize>,
    /// The source is being searched.
    is_seeking: bool,
    /// The link takes what is large.
    room: bool,
    /// From when on a suspect may be looked at; nobody is kept waiting for one while `hurry`.
    suspects_at: Option<Instant>,
    hurry: bool,
}

impl Session {
    /// Returns one that goes on with what a ledger owes.
    pub fn new(ledger: Ledger, options: Options) -> Self {
        Self { ledger, options, ..Self::default() }
    }

    /// Returns what is owed.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether nothing is under way and nothing was decided that is still to be done.
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty()
            && self.looks.is_empty()
            && self.streams.is_empty()
            && self.comparisons.is_empty()
            && self.batches.is_empty()
            && self.judging.is_none()
            && !self.is_seeking
    }

    /// Whether messages were decided on, or are ordered, that were not handed out: until they are, the target's
    /// names are older than the ledger's.
    pub fn has_unsent(&self) -> bool {
        !self.ready.is_empty() || self.ledger.has_ordered()
    }

    /// Takes in what came.
    pub fn take(&mut self, input: Input, now: Instant) {
        match input {
            Input::Told { told, since } => self.hear(told, since),
            Input::Mark(mark) => self.ledger.mark(mark),
            Input::ClockWentBack(nanos) => self.ledger.clock_went_back(nanos),
            Input::Found { look, queued, found } => self.found(look, queued, found, now),
            Input::Piece { op, piece } => self.piece(op, piece, now),
            Input::Differs { comparison, path, what } => {
                self.ledger.differs(comparison, &path, what);
            }
            Input::Compared { comparison, begun, ended } => {
                self.comparisons.retain(|op| *op != comparison);
                let looked = if self.ledger.holds(Rule::ComparedAtItsEnd) { ended } else { begun };
                self.ledger.compared(comparison, looked);
            }
            Input::Sought { files, names, begun, ended } => {
                self.is_seeking = false;
                self.ledger.sought(&files, &names, (begun, ended));
            }
            Input::Answer { op, answer } => {
                if let Some(Stream { opened, .. }) = self.streams.remove(op) {
                    self.ready.push_back(Step::Close { opened });
                }
                if matches!(answer, Answer::Refused(_)) {
                    self.leave_behind(op);
                }
                self.ledger.answer(op, answer, now);
            }
            Input::Acknowledged { batch } => {
                for op in self.batches.acknowledged(batch) {
                    self.ledger.answer(op, Answer::Done, now);
                }
            }
            Input::Room(room) => self.room = room,
            Input::Hurry(hurry) => self.hurry = hurry,
            Input::Judged { hold } => {
                let counted = self.judging.take();
                // What came after the count is counted first.
                if counted == Some(self.ledger.unjudged()) || !self.ledger.holds(Rule::JudgedAsCounted) {
                    self.ledger.judged(hold);
                }
            }
            Input::Approved => self.ledger.approve(),
            Input::Ended { record } => self.ended(record.as_ref()),
        }
    }

    /// Returns what to do next. [`Step::Wait`]: nothing, until something comes or that moment.
    pub fn turn(&mut self, now: Instant) -> Step {
        self.ledger.wake_up(now);
        self.order();
        if let Some(step) = self.ready.pop_front() {
            return step;
        }
        let next = if self.batches.is_full(self.options.batch_max) { self.commit() } else { None };
        let next = next.or_else(|| self.small()).or_else(|| self.judge_next()).or_else(|| self.large());
        let next = next.or_else(|| self.seek());
        if let Some(step) = next.or_else(|| self.suspect(now)) {
            return step;
        }
        if self.batches.waits(now, (!self.comparisons.is_empty()).then_some(self.options.gather)) {
            return self.wait();
        }
        self.commit().unwrap_or_else(|| self.wait())
    }

    fn wait(&self) -> Step {
        let moments = [self.ledger.wake_at(), self.batches.until(), self.suspects_at];
        Step::Wait { until: moments.into_iter().flatten().min() }
    }

    /// Says what to make of a name that both sides have, or the source alone.
    pub fn difference(&self, like: Like, ctime: Moment, (whole, change): (bool, Moment)) -> Option<What> {
        match like {
            Like::Other => Some(What::Content),
            Like::Dir => None,
            Like::File => {
                let unchanged = !whole && ctime < change || !self.ledger.holds(Rule::StampsAreChecked);
                (!unchanged).then_some(What::Suspect)
            }
        }
    }

    /// The target's large files go along with the directories that it renames. One that is renamed itself is begun
    /// anew, and so is one below a name that the target gives to nothing.
    fn hear(&mut self, told: Told, since: Instant) {
        let moved = match &told {
            Told::Renamed { from, .. } => vec![from.clone()],
            Told::Swapped { one, other } => vec![one.clone(), other.clone()],
            _ => Vec::new(),
        };
        let Self { ledger, streams, .. } = self;
        let mut below = Vec::new();
        for stream in streams.iter_mut().filter(|_| !moved.is_empty()) {
            let Some(path) = ledger.path_of(stream.op) else { continue };
            stream.is_astray |= moved.contains(&path);
            if moved.iter().any(|top| path.is_within(top)) {
                below.push(stream.op);
            }
        }
        let follows = ledger.hear(told, since);
        streams.iter_mut().for_each(|stream| stream.is_astray |= !follows && below.contains(&stream.op));
    }

    /// What was begun before a rename that the target has not done grows in the directory with the old name.
    fn leave_behind(&mut self, rename: Op) {
        let tops = self.ledger.renamed_to(rename);
        let Self { ledger, streams, .. } = self;
        for stream in streams.iter_mut().filter(|stream| stream.op < rename) {
            let path = ledger.path_of(stream.op);
            stream.is_astray |= path.is_some_and(|path| tops.iter().any(|top| path.is_within(top)));
        }
    }

    /// Puts what is ordered in front of what is decided from here on.
    fn order(&mut self) {
        while let Some((op, ordered)) = self.ledger.next_ordered() {
            self.send(op, Message::Ordered(ordered));
        }
    }

    fn send(&mut self, op: Op, message: Message) {
        if message.is_acknowledged() {
            self.batches.add(op);
        }
        self.ready.push_back(Step::Send { op, message });
    }

    /// Looks at what is small, or not known to be large.
    fn small(&mut self) -> Option<Step> {
        if self.looks.len() >= self.options.looks_max {
            return None;
        }
        let look = self.ledger.next_look(Class::Name)?;
        Some(self.look(look))
    }

    fn look(&mut self, look: Look) -> Step {
        let Look { op: look, path, what, .. } = look;
        self.looks.insert(look, what);
        Step::Look { look, path, what }
    }

    /// Has deletes judged that nobody has told of, when what they were found by is at its end: as one burst.
    fn judge_next(&mut self) -> Option<Step> {
        let deletes = self.ledger.unjudged();
        if deletes == 0 || self.judging.is_some() || !self.comparisons.is_empty() {
            return None;
        }
        self.judging = Some(deletes);
        Some(Step::Judge { deletes })
    }

    /// Goes on with large files and comparisons, as long as the link takes more of what is large.
    fn large(&mut self) -> Option<Step> {
        if !self.room {
            return None;
        }
        if let Some(Stream { op, opened, .. }) = self.streams.next() {
            let Some(path) = self.ledger.path_of(op) else {
                self.streams.remove(op);
                return Some(Step::Send { op, message: Message::Abandon { opened } });
            };
            self.streams.reading(op, path.clone());
            return Some(Step::Piece { op, opened, path });
        }
        while self.streams.len() < self.options.streams_max
            && let Some((look, what)) = self.streams.next_waiting()
        {
            if let Some(path) = self.ledger.path_of(look) {
                self.looks.insert(look, what);
                return Some(Step::Look { look, path, what });
            }
        }
        if self.comparisons.len() >= self.options.comparisons_max {
            return None;
        }
        let Look { op, path, what, change } = self.ledger.next_look(Class::Subtree)?;
        self.comparisons.push(op);
        Some(Step::Compare { comparison: op, path, whole: what == What::Subtree { whole: true }, change })
    }

    /// Has the source searched, once for all files of which names are missing by then.
    fn seek(&mut self) -> Option<Step> {
        let files = if self.is_seeking { Vec::new() } else { self.ledger.to_seek() };
        self.is_seeking |= !files.is_empty();
        (!files.is_empty()).then_some(Step::Seek { files })
    }

    fn suspect(&mut self, now: Instant) -> Option<Step> {
        let waits = self.suspects_at.is_some_and(|at| at > now) && !self.hurry;
        if waits || !self.room || self.looks.len() >= self.options.looks_max {
            return None;
        }
        self.suspects_at = None;
        let look = self.ledger.next_look(Class::Suspect)?;
        Some(self.look(look))
    }

    fn commit(&mut self) -> Option<Step> {
        let batch = self.batches.commit()?;
        let least = self.ledger.holds(Rule::LeastIsStored);
        let watermark = if least { self.ledger.watermark() } else { self.ledger.heard().change };
        Some(Step::Commit { batch, watermark, problems: self.ledger.problems() })
    }

    fn found(&mut self, look: Op, queued: u64, found: Found, now: Instant) {
        let Some(what) = self.looks.remove(&look) else { return };
        if let Found::File { file, links, .. } = found {
            self.ledger.is_file(look, file, links);
        }
        match (found, what) {
            (Found::Unreadable, _) => self.ledger.unreadable(look, now),
            (Found::Busy, _) => self.ledger.hold(look, now + self.options.busy_again),
            (Found::Nothing | Found::Entry, What::Suspect) => {
                self.ledger.answer(look, Answer::Refused(Why::Mismatch), now);
            }
            (Found::Nothing, What::Gone { dir, .. }) => {
                self.send_found(look, queued, |path| Message::Delete { path, dir });
            }
            (Found::Nothing, _) => self.ledger.absent(look, queued),
            (Found::Entry, _) => {
                self.send_found(look, queued, |path| Message::Entry { path, opened: look });
            }
            (Found::File { .. }, What::Attributes) => {
                self.send_found(look, queued, |path| Message::Attributes { path, opened: look });
            }
            (Found::File { len, .. }, What::Suspect) => {
                let span = Duration::from_secs_f64(len as f64 / self.options.suspects_rate.max(1) as f64);
                self.suspects_at = Some(now + span);
                self.send_found(look, queued, |path| Message::Prove { path, opened: look });
            }
            (Found::File { len, .. }, _) if len > self.options.small_max => {
                if self.streams.len() >= self.options.streams_max {
                    self.streams.wait(look, what);
                    self.ready.push_back(Step::Close { opened: look });
                } else if let Some(op) =
                    self.send_found(look, queued, |path| Message::Begin { path, opened: look })
                {
                    self.streams.begin(op, look);
                }
            }
            (Found::File { .. }, _) => {
                self.send_found(look, queued, |path| Message::Content { path, opened: look });
            }
        }
    }

    /// Sends what a look has found, under the path that it has now; `None` if it is no longer wanted.
    fn send_found(&mut self, look: Op, queued: u64, message: impl FnOnce(RelPath) -> Message) -> Option<Op> {
        // First: the receiver's record counts on numbers that grow.
        self.order();
        let Some((op, path)) = self.ledger.looked(look, queued) else {
            self.ready.push_back(Step::Close { opened: look });
            return None;
        };
        self.send(op, message(path));
        Some(op)
    }

    /// Goes on with a large file after one of its pieces.
    fn piece(&mut self, op: Op, piece: Piece, now: Instant) {
        let Some(stream) = self.streams.read(op) else { return };
        let path = self.ledger.path_of(op);
        let again = match piece {
            _ if path.is_none() => None,
            _ if stream.is_astray && self.ledger.holds(Rule::StreamsBeginAnew) => Some(now),
            Piece::More => return,
            Piece::Unreadable => {
                self.ledger.unreadable(op, now);
                None
            }
            Piece::End { steady: false, .. } if self.ledger.holds(Rule::StreamsAreSteady) => {
                Some(now + self.options.busy_again)
            }
            // Was it looked for under that very name, and has the target the same names?
            Piece::End { .. } if self.ledger.has_ordered() || path != stream.path => return,
            Piece::End { there: false, .. } if self.ledger.holds(Rule::StreamsAreThere) => {
                Some(now + self.options.busy_again)
            }
            Piece::End { .. } => {
                self.streams.remove(op);
                return self.send(op, Message::End { opened: stream.opened });
            }
        };
        self.streams.remove(op);
        self.send(op, Message::Abandon { opened: stream.opened });
        if let Some(again) = again {
            self.ledger.hold(op, again);
        }
    }

    /// The connection has ended: what was under way is due again, but for what the receiver knows of.
    fn ended(&mut self, record: Option<&Record>) {
        self.ready.clear();
        self.looks.clear();
        self.streams = Streams::default();
        self.batches = Batches::default();
        self.comparisons.clear();
        (self.room, self.suspects_at) = (false, None);
        self.ledger.broken(record);
    }
}
