//! Random edits that are out to break a mirror.
//!
//! **Purpose:** everything that programs do to a tree, and much that none should, in any order.
//! **In → Out:** a seed and a root → a sequence of operations, the same for the same seed.
//! **Invariants:** nothing outside the root is touched; the tree stays at about [`ENTRIES_MAX`]
//! entries; an operation whose object has gone fails quietly and counts as failed; what is made
//! stays readable for its owner, since a mirror that may not read cannot copy.
//! **Not here:** what the mirror makes of it: compare the trees when it is quiet.

mod content;
mod names;
mod shape;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::rng::Rng;

/// Above this many entries, removals come first.
pub const ENTRIES_MAX: usize = 300;

/// How many operations may pass before the tree is listed again: in between, paths go stale.
const STEPS_PER_LISTING: usize = 8;

/// Longest path below the root, in bytes, below which more is made.
const PARENT_LEN_MAX: usize = 500;

/// Longest path below the root, in bytes, that a rename may lead to.
const PATH_LEN_MAX: usize = 2500;

type Operation = fn(&mut Churn) -> io::Result<()>;

/// An operation, with its name and how often it comes compared with the others.
type Weighted = (&'static str, usize, Operation);

/// Every operation on files that travel in one message.
const OPERATIONS: &[Weighted] = &[
    ("write a new file", 8, content::write_new),
    ("write a file anew", 4, content::rewrite),
    ("append", 4, content::append),
    ("edit in place", 4, content::edit_in_place),
    ("edit in place, size and time kept", 2, content::edit_unseen),
    ("edit through a mapping", 1, content::edit_mapped),
    ("truncate", 2, content::truncate),
    ("make a hole", 2, content::make_hole),
    ("save as editors do", 4, content::save_by_rename),
    ("open and keep writing", 2, content::open_and_keep),
    ("write to an open file", 3, content::write_kept),
    ("burst of files, some short-lived", 1, content::burst),
    ("rename a file", 4, shape::rename_file),
    ("rename a file over another", 4, shape::rename_over_file),
    ("rename a directory", 3, shape::rename_dir),
    ("rename a directory over an empty one", 2, shape::rename_over_dir),
    ("rename and make again", 3, shape::rename_and_make_again),
    ("swap by a third name", 2, shape::swap_by_third_name),
    ("swap at once", 2, shape::swap_at_once),
    ("hard link", 3, shape::hard_link),
    ("rename a link over its fellow", 1, shape::rename_over_fellow),
    ("symlink", 4, shape::symlink),
    ("make a directory", 3, shape::make_dir),
    ("make a chain of directories and a file", 3, shape::make_chain),
    ("make a fifo or a device", 1, shape::make_special),
    ("remove a file", 5, shape::remove_file),
    ("remove a tree", 2, shape::remove_tree),
    ("change the type", 3, shape::change_type),
    ("change a mode", 3, shape::change_mode),
    ("change an owner", 2, shape::change_owner),
    ("change a time", 2, shape::change_time),
    ("change an attribute", 2, shape::change_xattr),
    ("change an ACL", 1, shape::change_acl),
];

/// What makes names meet, and contents change that nothing but an event tells of; with large files.
const FEW_OPERATIONS: &[Weighted] = &[
    ("write a new file", 3, content::write_new),
    ("write a large file", 5, content::write_large),
    ("edit in place, size and time kept", 14, content::edit_unseen),
    ("edit in place", 2, content::edit_in_place),
    ("append", 2, content::append),
    ("save as editors do", 2, content::save_by_rename),
    ("rename a file", 5, shape::rename_file),
    ("rename a file over another", 3, shape::rename_over_file),
    ("rename a directory", 5, shape::rename_dir),
    ("rename a directory over an empty one", 2, shape::rename_over_dir),
    ("rename and make again", 2, shape::rename_and_make_again),
    ("swap by a third name", 3, shape::swap_by_third_name),
    ("swap at once", 3, shape::swap_at_once),
    ("hard link", 3, shape::hard_link),
    ("rename a link over its fellow", 1, shape::rename_over_fellow),
    ("make a directory", 2, shape::make_dir),
    ("make a chain of directories and a file", 2, shape::make_chain),
    ("remove a file", 2, shape::remove_file),
    ("remove a tree", 1, shape::remove_tree),
    ("change the type", 1, shape::change_type),
];

/// What an editor does, and to what.
struct Manner {
    operations: &'static [Weighted],
    /// Above this many entries, removals come first.
    entries_max: usize,
    file_name: fn(&mut Rng) -> OsString,
    dir_name: fn(&mut Rng) -> OsString,
}

const WILD: Manner = Manner {
    operations: OPERATIONS,
    entries_max: ENTRIES_MAX,
    file_name: names::file_name,
    dir_name: names::dir_name,
};

const FEW: Manner = Manner {
    operations: FEW_OPERATIONS,
    entries_max: 40,
    file_name: |rng| names::one_of("f", 8, rng),
    dir_name: |rng| names::one_of("d", 5, rng),
};

/// What stands at a path, as the last listing saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Dir,
    Other,
}

/// How often an operation was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often it did what it is called.
    pub done: usize,
    /// How often the system refused: the object had gone, or another user owns it.
    pub failed: usize,
}

/// A random editor of one tree.
pub struct Churn {
    root: PathBuf,
    rng: Rng,
    manner: &'static Manner,
    without: Option<&'static str>,
    /// Sorted, so that the order does not hang on the filesystem.
    entries: Vec<(PathBuf, Kind)>,
    steps: usize,
    /// Files held open over several steps.
    kept: Vec<File>,
    tally: BTreeMap<&'static str, Tally>,
}

impl Churn {
    /// Returns an editor of the tree below `root`, which must stand.
    pub fn new(seed: u64, root: &Path) -> Self {
        Self::with(seed, root, &WILD)
    }

    /// The same for a small tree of few names and large files, which are edited, mostly unseen, and renamed.
    pub fn of_few(seed: u64, root: &Path) -> Self {
        Self::with(seed, root, &FEW)
    }

    /// Leaves out the operations whose names hold a word.
    pub fn without(mut self, word: &'static str) -> Self {
        self.without = Some(word);
        self
    }

    fn with(seed: u64, root: &Path, manner: &'static Manner) -> Self {
        Self {
            root: root.to_path_buf(),
            rng: Rng::new(seed),
            manner,
            without: None,
            entries: Vec::new(),
            steps: 0,
            kept: Vec::new(),
            tally: BTreeMap::new(),
        }
    }

    /// Makes one edit and returns its name; one that the system refuses is counted as failed.
    pub fn step(&mut self) -> &'static str {
        if self.steps.is_multiple_of(STEPS_PER_LISTING) {
            self.list();
        }
        self.steps += 1;
        let (name, operation) = self.choose();
        let result = operation(self);
        let tally = self.tally.entry(name).or_default();
        match result {
            Ok(()) => tally.done += 1,
            Err(_) => tally.failed += 1,
        }
        name
    }

    /// Makes `n` edits, then closes what was held open.
    pub fn run(&mut self, n: usize) {
        for _ in 0..n {
            self.step();
        }
        self.close();
    }

    /// Closes the files that were held open; only then is the tree at rest.
    pub fn close(&mut self) {
        self.kept.clear();
    }

    /// Returns how often each operation was tried, by name.
    pub fn tally(&self) -> &BTreeMap<&'static str, Tally> {
        &self.tally
    }

    fn choose(&mut self) -> (&'static str, Operation) {
        if self.entries.len() > self.manner.entries_max {
            return ("remove a tree", shape::remove_tree);
        }
        let (operations, without) = (self.manner.operations, self.without);
        let kept = |(name, ..): &&Weighted| without.is_none_or(|word| !name.contains(word));
        let all = || operations.iter().filter(kept);
        let mut draw = self.rng.below(all().map(|(_, weight, _)| weight).sum());
        for &(name, weight, operation) in all() {
            if draw < weight {
                return (name, operation);
            }
            draw -= weight;
        }
        unreachable!("a draw is below the sum of all weights")
    }

    fn list(&mut self) {
        self.entries.clear();
        let walk = WalkDir::new(&self.root).min_depth(1).sort_by_file_name();
        for entry in walk.into_iter().filter_entry(|entry| entry.file_name() != ".speil").flatten() {
            let kind = match entry.file_type() {
                kind if kind.is_file() => Kind::File,
                kind if kind.is_dir() => Kind::Dir,
                _ => Kind::Other,
            };
            self.entries.push((entry.into_path(), kind));
        }
    }

    /// Returns a path of the last listing for which `wanted` holds.
    fn some(&mut self, wanted: impl Fn(&Path, Kind) -> bool) -> io::Result<PathBuf> {
        let found: Vec<&PathBuf> =
            self.entries.iter().filter(|(path, kind)| wanted(path, *kind)).map(|(path, _)| path).collect();
        self.rng.pick(&found).map(|path| path.to_path_buf()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn some_file(&mut self) -> io::Result<PathBuf> {
        self.some(|_, kind| kind == Kind::File)
    }

    fn some_dir(&mut self) -> io::Result<PathBuf> {
        self.some(|_, kind| kind == Kind::Dir)
    }

    fn some_entry(&mut self) -> io::Result<PathBuf> {
        self.some(|_, _| true)
    }

    /// Returns a directory in which something may be made: often the root, never one too deep.
    fn some_parent(&mut self) -> PathBuf {
        if self.rng.one_in(5) {
            return self.root.clone();
        }
        let len_max = self.root.as_os_str().len() + PARENT_LEN_MAX;
        let fits = |path: &Path, kind| kind == Kind::Dir && path.as_os_str().len() < len_max;
        self.some(fits).unwrap_or_else(|_| self.root.clone())
    }

    /// Returns a path at which a file may be made; something may stand there.
    fn some_place(&mut self) -> PathBuf {
        let parent = self.some_parent();
        parent.join(self.file_name())
    }

    fn file_name(&mut self) -> OsString {
        (self.manner.file_name)(&mut self.rng)
    }

    fn dir_name(&mut self) -> OsString {
        (self.manner.dir_name)(&mut self.rng)
    }

    /// Returns whether everything below `from` would still have a usable path below `to`.
    fn fits(&self, from: &Path, to: &Path) -> bool {
        let longest = self.entries.iter().map(|(path, _)| path).filter(|path| path.starts_with(from));
        let below = longest.map(|path| path.as_os_str().len() - from.as_os_str().len()).max().unwrap_or(0);
        to.as_os_str().as_bytes().len() + below < self.root.as_os_str().len() + PATH_LEN_MAX
    }
}

#[cfg(test)]
mod tests;
