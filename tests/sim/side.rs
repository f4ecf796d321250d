//! One target: its ledger, a session that drives it, a link, and the receiver at its other end.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use speil::sender::ledger::{Answer, Ledger, Moment, Op, Ordered, Task, What, Why};
use speil::tree::RelPath;

use crate::fs::{Fs, Id, PROTECTED};
use crate::options::{Mutant, Options};
use crate::rng::Rng;
use crate::target::{Operation, Stored, Target};

/// Messages that may be under way.
const WINDOW: usize = 8;
/// A content of which one part is older than another.
const MIXED: u32 = 1 << 31;

#[derive(Debug)]
enum Message {
    Do(Op, Operation),
    Scan(Op),
    Commit(Box<Stored>),
}

/// What a walk has found at a name.
#[derive(Debug, Clone, Copy)]
struct Found {
    dir: bool,
    stamp: u8,
    ctime: u64,
}

/// A comparison, which walks both sides in pieces.
#[derive(Debug)]
struct Walk {
    op: Op,
    top: RelPath,
    whole: bool,
    change: Moment,
    begun: u64,
    /// The receiver has heard of it.
    started: bool,
    ours: BTreeMap<RelPath, Found>,
    theirs: BTreeMap<RelPath, Found>,
    ours_left: Vec<RelPath>,
    theirs_left: Vec<RelPath>,
}

/// A large file that is being read.
#[derive(Debug)]
struct Stream {
    op: Op,
    inode: Id,
    content: u32,
    opened_as: RelPath,
}

/// What the ledger wants looked at.
struct Wanted {
    look: Op,
    path: RelPath,
    what: What,
    change: Moment,
}

/// What the source is like while the session looks at it.
pub struct Ground<'a> {
    pub fs: &'a Fs,
    pub emitted: u64,
    pub now: Instant,
    pub offset: u64,
    pub options: &'a Options,
}

#[derive(Debug, Default)]
pub struct Side {
    pub ledger: Ledger,
    pub target: Target,
    link: VecDeque<Message>,
    answers: VecDeque<(Op, Answer)>,
    paths: BTreeMap<Op, RelPath>,
    walks: Vec<Walk>,
    streams: Vec<Stream>,
    sent_since_commit: bool,
    /// What is under held deletes; no delete may remove it until somebody approves.
    pub held: HashSet<u32>,
    pub broken_rule: Option<String>,
    /// Contents that were compared, and contents that were sent.
    pub hashed: u64,
    pub sent: u64,
    /// Comparisons, and those in which stamps proved nothing.
    pub compared: u64,
    pub whole: u64,
    renames: HashSet<Op>,
    /// Renames that failed because of what was not sent before them.
    pub refused_renames: u64,
    pub log: Option<Vec<String>>,
}

impl Side {
    pub fn new(ledger: Ledger, traced: bool) -> Self {
        Self { ledger, log: traced.then(Vec::new), ..Self::default() }
    }

    pub fn say(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(text());
        }
    }

    /// Has the session do one thing; `false` if there is nothing to do.
    pub fn session(&mut self, ground: &Ground<'_>, rng: &mut Rng) -> bool {
        if self.link.len() >= WINDOW {
            return false;
        }
        let Some(task) = self.ledger.next(ground.now) else { return self.commit(ground) };
        self.say(|| format!("    {task:?}"));
        match task {
            Task::Send { op, ordered } => {
                let operation = match ordered {
                    Ordered::Mkdir { path } => Operation::Dir(path),
                    Ordered::Delete { path, dir } => Operation::Delete { path, dir },
                    Ordered::Rename { from, to, .. } => {
                        self.renames.insert(op);
                        Operation::Rename { from, to }
                    }
                };
                self.send(op, operation);
            }
            Task::Look { op, path, what, change } => {
                self.look(ground, rng, &Wanted { look: op, path, what, change });
            }
        }
        if rng.one_in(6) {
            self.commit(ground);
        }
        true
    }

    fn send(&mut self, op: Op, operation: Operation) {
        self.sent_since_commit = true;
        self.link.push_back(Message::Do(op, operation));
    }

    fn commit(&mut self, ground: &Ground<'_>) -> bool {
        if !self.sent_since_commit {
            return false;
        }
        self.sent_since_commit = false;
        let last = self.ledger.heard().change;
        let watermark = if ground.options.is(Mutant::LastMark) { last } else { self.ledger.watermark() };
        let problems = self.ledger.problems();
        let stored = Stored { watermark, offset: ground.offset, problems };
        self.link.push_back(Message::Commit(Box::new(stored)));
        true
    }

    fn look(&mut self, ground: &Ground<'_>, rng: &mut Rng, wanted: &Wanted) {
        let &Wanted { look, ref path, what, .. } = wanted;
        let found = ground.fs.find(path).map(|id| (id, ground.fs.inode(id)));
        let is_file = found.is_some_and(|(_, inode)| inode.entries.is_none());
        match what {
            What::Subtree { whole } => return self.walk(ground, wanted, whole),
            What::Suspect if !is_file => {
                return self.ledger.answer(look, Answer::Refused(Why::Mismatch), ground.now);
            }
            What::Attributes | What::Content | What::Absent if found.is_none() => {
                return self.ledger.absent(look, ground.emitted);
            }
            _ => {}
        }
        let Some((op, path)) = self.ledger.looked(look, ground.emitted) else { return };
        self.paths.insert(op, path.clone());
        let operation = match (found, what) {
            (None, What::Gone { dir, .. }) => Operation::Delete { path, dir },
            (None, _) => return,
            (Some((_, inode)), _) if inode.entries.is_some() => Operation::Dir(path),
            (Some((_, inode)), What::Attributes) => Operation::Attributes { path, stamp: inode.stamp },
            (Some((_, inode)), What::Suspect) => {
                self.hashed += 1;
                Operation::Prove { path, content: inode.content }
            }
            (Some((id, inode)), _) if ground.options.streams && rng.one_in(3) => {
                self.streams.push(Stream { op, inode: id, content: inode.content, opened_as: path });
                Operation::Open
            }
            (Some((_, inode)), _) => {
                self.sent += 1;
                Operation::File { path, content: inode.content, stamp: inode.stamp }
            }
        };
        self.send(op, operation);
    }

    /// Reads on in a large file, and sends it when it was read to its end.
    pub fn stream(&mut self, ground: &Ground<'_>, rng: &mut Rng) -> bool {
        if self.streams.is_empty() || self.ledger.has_ordered() {
            return false;
        }
        let stream = self.streams.swap_remove(rng.index(self.streams.len()));
        let inode = ground.fs.inode(stream.inode);
        let mut content = stream.content;
        if inode.content != content {
            if !ground.options.is(Mutant::TornStreams) {
                self.ledger.hold(stream.op, ground.now + Duration::from_nanos(20));
                return true;
            }
            content |= MIXED;
        }
        let Some(mut path) = self.ledger.path_of(stream.op) else { return true };
        if ground.fs.find(&path) != Some(stream.inode) && !ground.options.is(Mutant::StreamsUnchecked) {
            self.ledger.hold(stream.op, ground.now + Duration::from_nanos(20));
            return true;
        }
        if ground.options.is(Mutant::StreamsStay) {
            path = stream.opened_as;
        }
        self.sent += 1;
        let file = Operation::File { path, content, stamp: inode.stamp };
        self.say(|| format!("    stream {:?} {file:?}", stream.op));
        self.send(stream.op, file);
        true
    }

    fn walk(&mut self, ground: &Ground<'_>, wanted: &Wanted, whole: bool) {
        let &Wanted { look, path: ref top, change, .. } = wanted;
        let Some((op, _)) = self.ledger.looked(look, ground.emitted) else { return };
        self.compared += 1;
        self.whole += u64::from(whole);
        self.link.push_back(Message::Scan(op));
        self.walks.push(Walk {
            op,
            top: top.clone(),
            whole,
            change,
            begun: ground.emitted,
            started: false,
            ours: BTreeMap::new(),
            theirs: BTreeMap::new(),
            ours_left: vec![top.clone()],
            theirs_left: vec![top.clone()],
        });
    }

    /// Reads one directory of one side for one comparison.
    pub fn step_walk(&mut self, ground: &Ground<'_>, rng: &mut Rng) -> bool {
        if self.walks.is_empty() {
            return false;
        }
        let at = rng.index(self.walks.len());
        let walk = &mut self.walks[at];
        let theirs = walk.started && !walk.theirs_left.is_empty();
        if theirs && (walk.ours_left.is_empty() || rng.one_in(2)) {
            read_one(&self.target.fs, &walk.top, &mut walk.theirs_left, &mut walk.theirs);
        } else if !walk.ours_left.is_empty() {
            read_one(ground.fs, &walk.top, &mut walk.ours_left, &mut walk.ours);
        } else if walk.started {
            let walk = self.walks.swap_remove(at);
            self.compare(ground, walk);
        } else {
            return false;
        }
        true
    }

    fn compare(&mut self, ground: &Ground<'_>, walk: Walk) {
        self.say(|| {
            format!("    compared {:?} {} whole {} {:?}", walk.op, walk.top, walk.whole, walk.change)
        });
        for (path, ours) in &walk.ours {
            let what = match walk.theirs.get(path) {
                Some(theirs) if ours.dir && theirs.dir => continue,
                Some(theirs) if ours.dir == theirs.dir && ours.stamp == theirs.stamp => {
                    if ground.options.is(Mutant::BelieveStamps) || !walk.whole && ours.ctime < walk.change.0 {
                        continue;
                    }
                    What::Suspect
                }
                _ => What::Content,
            };
            if !self.ledger.differs(walk.op, path, what) {
                return;
            }
        }
        for (path, theirs) in walk.theirs.iter().rev().filter(|(path, _)| !walk.ours.contains_key(*path)) {
            let what = What::Gone { dir: Some(theirs.dir), complete: true };
            self.ledger.differs(walk.op, path, what);
        }
        let looked =
            if ground.options.is(Mutant::ComparedAtItsBeginning) { walk.begun } else { ground.emitted };
        self.ledger.compared(walk.op, looked);
    }

    /// Has the guard judge what a comparison found too much, or what was not found.
    pub fn judge(&mut self, hold: bool) {
        if self.ledger.unjudged() > 0 {
            self.ledger.judged(hold);
            self.remember_held();
        }
    }

    pub fn approve(&mut self) {
        self.held.clear();
        self.ledger.approve();
    }

    /// Notes which contents are under held deletes.
    pub fn remember_held(&mut self) {
        if !self.link.is_empty() || self.ledger.has_ordered() {
            // The target's names are still others.
            return;
        }
        let fs = &self.target.fs;
        let content_at =
            |path: &RelPath| fs.find(path).filter(|id| !fs.is_dir(*id)).map(|id| fs.inode(id).content);
        self.held.extend(self.ledger.held().iter().filter_map(content_at));
    }

    /// Something is there again: its next delete is another one.
    pub fn supersede(&mut self, path: &RelPath) {
        if !self.link.is_empty() || self.ledger.has_ordered() {
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
            Message::Do(op, operation) => {
                if matches!(operation, Operation::File { content, .. } if content & MIXED != 0) {
                    self.broken_rule = Some("a mixed content was sent".to_owned());
                }
                if let Operation::Delete { path, .. } = &operation {
                    let fs = &self.target.fs;
                    let content = fs.find(path).filter(|id| !fs.is_dir(*id)).map(|id| fs.inode(id).content);
                    // Another copy of it may be deleted.
                    let is_lost =
                        |content| self.held.contains(&content) && self.target.fs.names_with(content) == 1;
                    if content.is_some_and(is_lost) {
                        self.broken_rule = Some(format!("a held delete was carried out: {path}"));
                    }
                }
                if let Operation::Dir(path) | Operation::File { path, .. } = &operation {
                    let path = path.clone();
                    if let Some(id) = self.target.fs.find(&path) {
                        self.held.remove(&self.target.fs.inode(id).content);
                    }
                }
                self.target.apply(op, operation);
            }
            Message::Scan(op) => {
                if let Some(walk) = self.walks.iter_mut().find(|walk| walk.op == op) {
                    walk.started = true;
                }
            }
            Message::Commit(stored) => {
                if options.is(Mutant::EarlyWatermark) {
                    self.target.stored = Some(*stored);
                } else {
                    self.answers.extend(self.target.commit(Some(*stored)));
                }
            }
        }
        true
    }

    /// With a watermark that is early, the disk is flushed some time after it.
    pub fn flush(&mut self) {
        self.answers.extend(self.target.commit(None));
    }

    /// Takes one answer in.
    pub fn answer(&mut self, ground: &Ground<'_>) -> bool {
        let Some((mut op, answer)) = self.answers.pop_front() else { return false };
        if ground.options.is(Mutant::AnswersByPath)
            && let Some(path) = self.paths.get(&op).cloned()
        {
            let others: Vec<Op> = self.paths.keys().copied().collect();
            let same = others.into_iter().find(|other| self.ledger.path_of(*other).as_ref() == Some(&path));
            op = same.unwrap_or(op);
        }
        self.say(|| format!("    answer {op:?} {answer:?}"));
        if self.renames.remove(&op) && matches!(answer, Answer::Refused(Why::NoParent | Why::NotEmpty)) {
            self.refused_renames += 1;
        }
        self.paths.remove(&op);
        self.ledger.answer(op, answer, ground.now);
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
        self.ledger.broken(record.as_ref());
    }

    /// Forgets what is of one connection.
    pub fn disconnect(&mut self) {
        self.link.clear();
        self.answers.clear();
        self.paths.clear();
        self.renames.clear();
        self.walks.clear();
        self.streams.clear();
        self.sent_since_commit = false;
    }

    /// The sender is gone; some of what is under way arrives.
    pub fn orphan(&mut self, options: &Options, rng: &mut Rng, power: bool) {
        for _ in 0..rng.index(self.link.len() + 1) {
            self.arrive(options);
        }
        self.disconnect();
        if power {
            self.target.crash();
        } else {
            self.target.finish();
        }
        self.held.clear();
    }

    pub fn is_idle(&self) -> bool {
        self.link.is_empty() && self.answers.is_empty() && self.walks.is_empty() && self.streams.is_empty()
    }
}

/// Reads the next directory of a walk; of the top, the top itself as well.
fn read_one(fs: &Fs, top: &RelPath, left: &mut Vec<RelPath>, found: &mut BTreeMap<RelPath, Found>) {
    let Some(path) = left.pop() else { return };
    let Some(id) = fs.find(&path) else { return };
    let of = |id: Id| {
        let inode = fs.inode(id);
        Found { dir: inode.entries.is_some(), stamp: inode.stamp, ctime: inode.ctime }
    };
    if path == *top && !path.is_root() {
        found.insert(path.clone(), of(id));
    }
    for &(name, entry) in fs.entries(id).iter().filter(|(name, _)| *name != PROTECTED) {
        let below = path.join(&[name]);
        found.insert(below.clone(), of(entry));
        if fs.is_dir(entry) {
            left.push(below);
        }
    }
}
