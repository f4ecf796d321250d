//! Comparisons, which walk both sides in pieces.

use std::collections::BTreeMap;

use speil::sender::ledger::{Moment, Op};
use speil::tree::RelPath;

use crate::fs::{Fs, Id, PROTECTED};
use crate::rng::Rng;

/// What a walk has found at a name.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub dir: bool,
    pub stamp: u8,
    pub ctime: u64,
}

#[derive(Debug)]
pub struct Walk {
    pub op: Op,
    top: RelPath,
    /// Whether stamps prove nothing, and what was not changed before when.
    pub terms: (bool, Moment),
    /// How many events had been queued when it began.
    pub begun: u64,
    /// The receiver has heard of it.
    started: bool,
    pub ours: BTreeMap<RelPath, Seen>,
    pub theirs: BTreeMap<RelPath, Seen>,
    ours_left: Vec<RelPath>,
    theirs_left: Vec<RelPath>,
}

impl Walk {
    pub fn new(op: Op, top: RelPath, terms: (bool, Moment), begun: u64) -> Self {
        Self {
            op,
            terms,
            begun,
            started: false,
            ours: BTreeMap::new(),
            theirs: BTreeMap::new(),
            ours_left: vec![top.clone()],
            theirs_left: vec![top.clone()],
            top,
        }
    }
}

/// Those that are under way.
#[derive(Debug, Default)]
pub struct Walks(Vec<Walk>);

impl Walks {
    pub fn begin(&mut self, walk: Walk) {
        self.0.push(walk);
    }

    /// The receiver has heard of a comparison.
    pub fn start(&mut self, op: Op) {
        if let Some(walk) = self.0.iter_mut().find(|walk| walk.op == op) {
            walk.started = true;
        }
    }

    /// Reads one directory of one side. `None`: there is nothing to do. Returns a walk that has come to its end.
    pub fn step(&mut self, ours: &Fs, theirs: &Fs, rng: &mut Rng) -> Option<Option<Walk>> {
        if self.0.is_empty() {
            return None;
        }
        let at = rng.index(self.0.len());
        let walk = &mut self.0[at];
        let is_theirs = walk.started && !walk.theirs_left.is_empty();
        if is_theirs && (walk.ours_left.is_empty() || rng.one_in(2)) {
            read_one(theirs, &walk.top, &mut walk.theirs_left, &mut walk.theirs);
        } else if !walk.ours_left.is_empty() {
            read_one(ours, &walk.top, &mut walk.ours_left, &mut walk.ours);
        } else if walk.started {
            return Some(Some(self.0.swap_remove(at)));
        } else {
            return None;
        }
        Some(None)
    }
}

/// Reads the next directory of a walk; of the top, the top itself as well.
fn read_one(fs: &Fs, top: &RelPath, left: &mut Vec<RelPath>, found: &mut BTreeMap<RelPath, Seen>) {
    let Some(path) = left.pop() else { return };
    let Some(id) = fs.find(&path) else { return };
    let of = |id: Id| {
        let inode = fs.inode(id);
        Seen { dir: inode.entries.is_some(), stamp: inode.stamp, ctime: inode.ctime }
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
