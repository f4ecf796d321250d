//! One target: the session, who drives it, a link, and the receiver at its other end.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use speil::sender::core::{Found, Input, Like, Message, Options as SessionOptions, Piece, Session, Step};
use speil::sender::ledger::{Answer, Ledger, Moment, Op, Ordered, What, Why};
use speil::tree::{FileId, RelPath};

use crate::fs::{Fs, Id};
use crate::options::{Mutant, Options};
use crate::rng::Rng;
use crate::target::{Operation, Stored, Target};
use crate::walk::{Walk, Walks};

/// Messages that may be under way.
const WINDOW: usize = 8;
/// A content of which one part is older than another.
const MIXED: u32 = 1 << 31;
/// The size of a file that is sent in pieces.
const LARGE: u64 = 2;

#[derive(Debug)]
enum Sent {
    Do(Op, Operation),
    Scan(Op),
    Commit(u64, Box<Stored>),
}

#[derive(Debug)]
enum Back {
    Answer(Op, Answer),
    Acknowledged(u64),
}

/// A file that a look has opened.
#[derive(Debug, Clone, Copy)]
struct Opened {
    inode: Id,
    content: u32,
    stamp: u8,
}

/// What the source is like while the session looks at it.
pub struct Ground<'a> {
    pub fs: &'a Fs,
    pub emitted: u64,
    pub now: Instant,
    pub offset: u64,
    pub options: &'a Options,
}

/// What was done, for what must not cost much.
#[derive(Debug, Default)]
pub struct Counts {
    /// Contents that were compared, and contents that were sent.
    pub hashed: u64,
    pub sent: u64,
    /// Comparisons, and those in which stamps proved nothing.
    pub compared: u64,
    pub whole: u64,
    /// Renames that failed because of what was not sent before them.
    pub refused_renames: u64,
}

/// What the session waits for.
#[derive(Debug, Default)]
struct Desk {
    /// Looks, pieces and verdicts that were asked for.
    asked: VecDeque<Step>,
    opened: BTreeMap<Op, Opened>,
    /// When the session is to be asked again.
    wakes: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct Side {
    pub session: Session,
    pub target: Target,
    link: VecDeque<Sent>,
    back: VecDeque<Back>,
    desk: Desk,
    /// Under which path something was sent.
    paths: BTreeMap<Op, RelPath>,
    walks: Walks,
    /// What is under held deletes; no delete may remove it until somebody approves.
    pub held: HashSet<u32>,
    pub broken_rule: Option<String>,
    pub counts: Counts,
    pub log: Option<Vec<String>>,
}

/// Few of everything, so that all limits are met.
fn session_options() -> SessionOptions {
    SessionOptions {
        looks_max: 3,
        streams_max: 2,
        comparisons_max: 3,
        batch_max: 5,
        small_max: LARGE - 1,
        gather: Duration::from_nanos(8),
        busy_again: Duration::from_nanos(20),
        suspects_rate: 1 << 30,
    }
}

impl Side {
    pub fn new(ledger: Ledger, traced: bool) -> Self {
        let session = Session::new(ledger, session_options());
        Self { session, log: traced.then(Vec::new), ..Self::default() }
    }

    /// Has a new sender go on with what it owes.
    pub fn resume(&mut self, ledger: Ledger) {
        self.session = Session::new(ledger, session_options());
    }

    pub fn ledger(&self) -> &Ledger {
        self.session.ledger()
    }

    pub fn say(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(text());
        }
    }

    /// Has the session say what to do next, and does it; `false` if there is nothing to do.
    pub fn turn(&mut self, ground: &Ground<'_>) -> bool {
        if self.link.len() >= WINDOW {
            return false;
        }
        self.session.take(Input::Room(self.link.len() < WINDOW / 2), ground.now);
        let step = self.session.turn(ground.now);
        if let Step::Wait { until } = step {
            self.desk.wakes = until;
            return false;
        }
        self.say(|| format!("    {step:?}"));
        match step {
            Step::Look { .. } | Step::Piece { .. } | Step::Judge { .. } | Step::Seek { .. } => {
                self.desk.asked.push_back(step);
            }
            Step::Send { op, message } => self.send(ground, op, message),
            Step::Compare { comparison, path, whole, change } => {
                self.counts.compared += 1;
                self.counts.whole += u64::from(whole);
                self.link.push_back(Sent::Scan(comparison));
                self.walks.begin(Walk::new(comparison, path, (whole, change), ground.emitted));
            }
            Step::Commit { batch, watermark, problems } => {
                let stored = Stored { watermark, offset: ground.offset, problems };
                self.link.push_back(Sent::Commit(batch, Box::new(stored)));
            }
            Step::Close { opened } => {
                self.desk.opened.remove(&opened);
            }
            Step::Wait { .. } => {}
        }
        true
    }

    /// Does what was asked for the longest.
    pub fn act(&mut self, ground: &Ground<'_>, rng: &mut Rng, hold: bool) -> bool {
        let Some(step) = self.desk.asked.pop_front() else { return false };
        match step {
            Step::Look { look, path, what } => {
                let found = self.look(ground, rng, (look, &path, what));
                self.say(|| format!("      {look:?} {path}: {found:?}"));
                self.session.take(Input::Found { look, queued: ground.emitted, found }, ground.now);
            }
            Step::Piece { op, opened, path } => {
                let piece = self.piece(ground, rng, (opened, &path));
                self.say(|| format!("      {op:?} {path}: {piece:?}"));
                self.session.take(Input::Piece { op, piece }, ground.now);
            }
            Step::Seek { files } => {
                let mut names = Vec::new();
                ground.fs.each_file(|path, id| names.push((FileId { dev: 0, ino: id as u64 }, path)));
                names.retain(|(file, _)| files.contains(file));
                let (begun, ended) = (ground.emitted, ground.emitted);
                self.session.take(Input::Sought { files, names, begun, ended }, ground.now);
            }
            Step::Judge { deletes } => {
                let before = self.ledger().unjudged();
                self.session.take(Input::Judged { hold }, ground.now);
                if before - self.ledger().unjudged() > deletes {
                    self.broken_rule = Some(format!("a verdict on {deletes} deletes let {before} go"));
                }
                self.remember_held();
            }
            _ => {}
        }
        true
    }

    fn look(&mut self, ground: &Ground<'_>, rng: &mut Rng, wanted: (Op, &RelPath, What)) -> Found {
        let (look, path, what) = wanted;
        let Some(id) = ground.fs.find(path) else { return Found::Nothing };
        let inode = ground.fs.inode(id);
        if inode.entries.is_some() {
            return Found::Entry;
        }
        self.desk.opened.insert(look, Opened { inode: id, content: inode.content, stamp: inode.stamp });
        let large = ground.options.streams && what != What::Suspect && rng.one_in(3);
        let file = FileId { dev: 0, ino: id as u64 };
        Found::File { len: if large { LARGE } else { 0 }, file, links: inode.links }
    }

    fn piece(&mut self, ground: &Ground<'_>, rng: &mut Rng, (opened, path): (Op, &RelPath)) -> Piece {
        let Some(file) = self.desk.opened.get_mut(&opened) else { return Piece::Unreadable };
        if !rng.one_in(4) {
            return Piece::More;
        }
        let inode = ground.fs.inode(file.inode);
        let steady = inode.content == file.content;
        // What was sent of it is of both.
        file.content = if steady { inode.content } else { inode.content | MIXED };
        file.stamp = inode.stamp;
        Piece::End { steady, there: ground.fs.find(path) == Some(file.inode) }
    }

    fn send(&mut self, ground: &Ground<'_>, op: Op, message: Message) {
        // What is small is read now.
        let mut of = |opened: Op| {
            let inode = self.desk.opened.remove(&opened).map(|opened| ground.fs.inode(opened.inode));
            inode.map_or((0, 0), |inode| (inode.content, inode.stamp))
        };
        let operation = match message {
            Message::Ordered(Ordered::Mkdir { path }) | Message::Entry { path, .. } => Operation::Dir(path),
            Message::Ordered(Ordered::Delete { path, dir }) | Message::Delete { path, dir } => {
                Operation::Delete { path, dir }
            }
            Message::Ordered(Ordered::Rename { from, to, .. }) => Operation::Rename { from, to },
            Message::Attributes { path, opened } => Operation::Attributes { path, stamp: of(opened).1 },
            Message::Content { path, opened } => {
                let (content, stamp) = of(opened);
                self.counts.sent += 1;
                Operation::File { path, content, stamp }
            }
            Message::Begin { path, .. } => Operation::Open(path),
            Message::End { opened } => {
                let file = self.desk.opened.remove(&opened);
                self.counts.sent += 1;
                let (content, stamp) = file.map_or((0, 0), |file| (file.content, file.stamp));
                Operation::Close { content, stamp }
            }
            Message::Abandon { opened } => {
                of(opened);
                Operation::Abandon
            }
            Message::Prove { path, opened } => {
                let (content, stamp) = of(opened);
                self.counts.hashed += 1;
                Operation::Prove { path, content, stamp }
            }
        };
        if let Some(path) = operation.path() {
            self.paths.insert(op, path.clone());
        }
        self.link.push_back(Sent::Do(op, operation));
    }

    /// Reads one directory of one side for one comparison.
    pub fn step_walk(&mut self, ground: &Ground<'_>, rng: &mut Rng) -> bool {
        match self.walks.step(ground.fs, &self.target.fs, rng) {
            None => false,
            Some(None) => true,
            Some(Some(walk)) => {
                self.compare(ground, &walk);
                true
            }
        }
    }

    fn compare(&mut self, ground: &Ground<'_>, walk: &Walk) {
        self.say(|| format!("    compared {walk:?}"));
        let comparison = walk.op;
        for (path, ours) in &walk.ours {
            let like = match walk.theirs.get(path) {
                Some(theirs) if ours.dir && theirs.dir => Like::Dir,
                Some(theirs) if ours.dir == theirs.dir && ours.stamp == theirs.stamp => Like::File,
                _ => Like::Other,
            };
            if let Some(what) = self.session.difference(like, Moment(ours.ctime), walk.terms) {
                self.session.take(Input::Differs { comparison, path: path.clone(), what }, ground.now);
            }
        }
        for (path, theirs) in walk.theirs.iter().rev().filter(|(path, _)| !walk.ours.contains_key(*path)) {
            let what = What::Gone { dir: Some(theirs.dir), complete: true };
            self.session.take(Input::Differs { comparison, path: path.clone(), what }, ground.now);
        }
        let (begun, ended) = (walk.begun, ground.emitted);
        self.session.take(Input::Compared { comparison, begun, ended }, ground.now);
    }

    pub fn approve(&mut self, now: Instant) {
        self.held.clear();
        self.session.take(Input::Approved, now);
    }

    /// Whether the target's names may be others than the ledger's.
    fn is_behind(&self) -> bool {
        !self.link.is_empty() || self.session.has_unsent()
    }

    /// Notes which contents are under held deletes.
    pub fn remember_held(&mut self) {
        if self.is_behind() {
            return;
        }
        let fs = &self.target.fs;
        let content_at =
            |path: &RelPath| fs.find(path).filter(|id| !fs.is_dir(*id)).map(|id| fs.inode(id).content);
        self.held.extend(self.session.ledger().held().iter().filter_map(content_at));
    }

    /// Something is there again: its next delete is another one.
    pub fn supersede(&mut self, path: &RelPath) {
        if self.is_behind() {
            // Where the target has it, nobody knows.
            return self.held.clear();
        }
        if let Some(id) = self.target.fs.find(path) {
            self.held.remove(&self.target.fs.inode(id).content);
        }
    }

    /// Lets one message arrive.
    pub fn arrive(&mut self, options: &Options) -> bool {
        let Some(message) = self.link.pop_front() else { return false };
        match message {
            Sent::Do(op, operation) => {
                self.watch_over(&operation);
                let proves = matches!(operation, Operation::Prove { .. });
                let renames = matches!(operation, Operation::Rename { .. });
                match self.target.apply(op, operation) {
                    Some(Answer::Done) if !proves => {}
                    Some(answer) => {
                        let in_the_way = matches!(answer, Answer::Refused(Why::NoParent | Why::NotEmpty));
                        self.counts.refused_renames += u64::from(renames && in_the_way);
                        self.back.push_back(Back::Answer(op, answer));
                    }
                    None => {}
                }
            }
            Sent::Scan(op) => self.walks.start(op),
            Sent::Commit(batch, stored) => {
                if options.is(Mutant::EarlyWatermark) {
                    self.target.stored = Some(*stored);
                } else {
                    self.target.commit(Some(*stored));
                }
                self.back.push_back(Back::Acknowledged(batch));
            }
        }
        true
    }

    /// Notes if an operation should not have come.
    fn watch_over(&mut self, operation: &Operation) {
        let fs = &self.target.fs;
        let content_at =
            |path: &RelPath| fs.find(path).filter(|id| !fs.is_dir(*id)).map(|id| fs.inode(id).content);
        match operation {
            Operation::File { content, .. } | Operation::Close { content, .. } if content & MIXED != 0 => {
                self.broken_rule = Some("a mixed content was sent".to_owned());
            }
            Operation::Delete { path, .. } => {
                // Another copy of it may be deleted.
                let is_lost = |content| self.held.contains(&content) && fs.names_with(content) == 1;
                if content_at(path).is_some_and(is_lost) {
                    self.broken_rule = Some(format!("a held delete was carried out: {path}"));
                }
            }
            Operation::Dir(path) | Operation::File { path, .. } | Operation::Open(path) => {
                if let Some(id) = fs.find(path) {
                    self.held.remove(&fs.inode(id).content);
                }
            }
            _ => {}
        }
    }

    /// With a watermark that is early, the disk is flushed some time after it.
    pub fn flush(&mut self) {
        self.target.commit(None);
    }

    /// Takes one answer in.
    pub fn answer(&mut self, ground: &Ground<'_>) -> bool {
        let Some(back) = self.back.pop_front() else { return false };
        self.say(|| format!("    {back:?}"));
        let input = match back {
            Back::Acknowledged(batch) => Input::Acknowledged { batch },
            Back::Answer(mut op, answer) => {
                if ground.options.is(Mutant::AnswersByPath)
                    && let Some(path) = self.paths.get(&op).cloned()
                {
                    let last = self.paths.iter().rev().find(|(_, other)| **other == path);
                    op = last.map_or(op, |(op, _)| *op);
                }
                Input::Answer { op, answer }
            }
        };
        self.session.take(input, ground.now);
        true
    }

    /// The connection is cut somewhere in what is under way.
    pub fn cut(&mut self, ground: &Ground<'_>, rng: &mut Rng, power: bool) {
        let arrived = rng.index(self.link.len() + 1);
        for _ in 0..arrived {
            self.arrive(ground.options);
        }
        self.disconnect();
        let record = if power {
            self.target.crash();
            None
        } else {
            let mut record = self.target.finish();
            if ground.options.is(Mutant::NoRefusals) {
                record.refused.clear();
            }
            Some(record)
        };
        self.say(|| format!("  CUT power {power}: {record:?}"));
        self.session.take(Input::Ended { record }, ground.now);
    }

    /// Forgets what is of one connection.
    fn disconnect(&mut self) {
        self.link.clear();
        self.back.clear();
        self.desk.asked.retain(|step| matches!(step, Step::Judge { .. } | Step::Seek { .. }));
        self.desk.opened.clear();
        self.paths.clear();
        self.walks = Walks::default();
    }

    /// The sender is gone; some of what is under way arrives.
    pub fn orphan(&mut self, options: &Options, rng: &mut Rng, power: bool) {
        for _ in 0..rng.index(self.link.len() + 1) {
            self.arrive(options);
        }
        self.disconnect();
        self.desk.asked.clear();
        if power {
            self.target.crash();
        } else {
            self.target.finish();
        }
        self.held.clear();
    }

    /// Returns when the session has something to do although nothing came.
    pub fn wake_at(&self) -> Option<Instant> {
        self.desk.wakes
    }

    pub fn is_idle(&self) -> bool {
        self.link.is_empty() && self.back.is_empty() && self.desk.asked.is_empty() && self.session.is_idle()
    }
}
