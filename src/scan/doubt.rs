//! Which files may hold something else than their size and time say.
//!
//! **Purpose:** where events were lost, a file that changed since the last mark may hold anything, though its size
//! and time are what they were. Its change time tells; but what came with a directory kept its own.
//! **In → Out:** entries of a walk; the directories that hold such files.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use crate::disk::stamps_changes;
use crate::tree::{Entry, Kind, RelPath, Time};

/// Which files a walk doubts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// Those with this change time or a later one, where the filesystem is relied on to set it.
    pub since: Time,
    /// All.
    pub whole: bool,
    /// Nobody was watching: all below a directory that may have been renamed. A rename sets its change time, and
    /// that of the directory which it came to.
    pub unwatched: bool,
    /// All on filesystems that are not relied on to set change times. They are believed otherwise.
    pub strict: bool,
    /// The change time of the root before who walks has touched it.
    pub root: Option<Time>,
}

impl Doubt {
    /// Doubts every file.
    pub const WHOLE: Self = Self {
        since: Time { secs: i64::MIN, nanos: 0 },
        whole: true,
        unwatched: false,
        strict: true,
        root: None,
    };

    /// Doubts what may differ between two trees that held the same: files with this change time or a later one, and
    /// what came with a directory; all without one.
    pub fn apart(since: Option<Time>) -> Self {
        since.map_or(Self::WHOLE, |since| Self {
            since,
            whole: false,
            unwatched: true,
            strict: true,
            root: None,
        })
    }

    /// Returns what doubts all that one of two doubts.
    #[must_use]
    pub fn or(self, other: Option<Self>) -> Self {
        let other = other.unwrap_or(self);
        Self {
            since: self.since.min(other.since),
            whole: self.whole || other.whole,
            unwatched: self.unwatched || other.unwatched,
            strict: self.strict || other.strict,
            root: self.root.or(other.root),
        }
    }

    fn is_since(&self, entry: &Entry) -> bool {
        entry.ctime >= self.since
    }
}

/// What is doubted at and below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubted {
    /// Something below it.
    Below,
    /// Files in it that changed since.
    Changed,
    /// All files in it.
    All,
}

/// What a walk has found to be doubtful.
#[derive(Debug, Default)]
pub struct Doubts {
    doubt: Option<Doubt>,
    dirs: HashMap<RelPath, Doubted>,
    /// The filesystems that were met, and whether they are relied on.
    relied: HashMap<u64, bool>,
    /// The directories that are being walked.
    above: Vec<Level>,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    /// Whether it changed since.
    changed: bool,
    /// Whether all in it is doubted.
    all: bool,
    /// Whether something in it is.
    noted: bool,
}

impl Doubts {
    /// Returns what knows of nothing yet.
    pub fn new(doubt: Option<Doubt>) -> Self {
        Self { doubt, ..Self::default() }
    }

    /// Whether anything in or below a directory is doubted.
    pub fn is_doubted(&self, dir: &RelPath) -> bool {
        self.dirs.contains_key(dir)
    }

    /// Whether a file in a directory is doubted.
    pub fn doubts(&self, dir: &RelPath, file: &Entry) -> bool {
        let meta = &file.attrs.meta;
        meta.kind == Kind::File
            && meta.size > 0
            && match self.dirs.get(dir) {
                Some(Doubted::All) => true,
                Some(Doubted::Changed) => self.doubt.is_some_and(|doubt| doubt.is_since(file)),
                Some(Doubted::Below) | None => false,
            }
    }

    /// Makes an entry of a directory say in a listing that it is doubted: a directory by a digest that no other has.
    pub fn tell(&self, dir: &RelPath, entry: &mut Entry) {
        if entry.attrs.meta.kind != Kind::Dir {
            if self.doubts(dir, entry) {
                entry.ctime = Time::LATEST;
            }
        } else if self.is_doubted(&dir.join(&entry.name)) {
            entry.digest.iter_mut().flatten().for_each(|byte| *byte = !*byte);
        }
    }

    /// As [`tell`](Self::tell), of what a walk began with.
    pub fn tell_top(&self, top: &RelPath, entry: &mut Entry) {
        let is_dir = entry.attrs.meta.kind == Kind::Dir;
        if is_dir && self.is_doubted(top) {
            entry.digest.iter_mut().flatten().for_each(|byte| *byte = !*byte);
        } else if !is_dir && top.parent().is_some_and(|dir| self.doubts(&dir, entry)) {
            entry.ctime = Time::LATEST;
        }
    }

    /// Begins the directory at the top; `parent`: what holds it.
    pub(super) fn top(&mut self, parent: Option<&Entry>, entry: &Entry) {
        let Some(doubt) = self.doubt else { return };
        let moved = parent.is_some_and(|parent| doubt.unwatched && doubt.is_since(parent));
        let ctime = doubt.root.filter(|_| parent.is_none()).unwrap_or(entry.ctime);
        let changed = ctime >= doubt.since;
        self.above = vec![Level { changed, all: doubt.whole || moved && changed, noted: false }];
    }

    /// Begins a directory in the one that is being walked.
    pub(super) fn enter(&mut self, entry: &Entry) {
        let (Some(doubt), Some(above)) = (self.doubt, self.above.last().copied()) else { return };
        let changed = doubt.is_since(entry);
        let all = above.all || doubt.unwatched && above.changed && changed;
        self.above.push(Level { changed, all, noted: false });
    }

    /// Ends it.
    pub(super) fn leave(&mut self) {
        self.above.pop();
    }

    /// Takes in an entry of the directory that is being walked.
    pub(super) fn meet(&mut self, fd: BorrowedFd<'_>, dir: &RelPath, entry: &Entry) {
        let (Some(doubt), Some(level)) = (self.doubt, self.above.last_mut()) else { return };
        let meta = &entry.attrs.meta;
        if level.noted || meta.kind != Kind::File || meta.size == 0 {
            return;
        }
        let (mut all, since) = (level.all, doubt.is_since(entry));
        if !all && (since || doubt.strict) {
            let relied = *self.relied.entry(entry.id.dev).or_insert_with(|| stamps_changes(fd));
            if !relied && !doubt.strict {
                return;
            }
            all = !relied;
        }
        if !all && !since {
            return;
        }
        level.noted = true;
        self.note(dir, if all { Doubted::All } else { Doubted::Changed });
    }

    /// Takes in a file that is itself the top.
    pub(super) fn look_at_top(&mut self, fd: BorrowedFd<'_>, top: &RelPath, file: &Entry) {
        let Some(doubt) = self.doubt else { return };
        let Some(dir) = top.parent() else { return };
        self.above = vec![Level { changed: false, all: doubt.whole, noted: false }];
        self.meet(fd, &dir, file);
    }

    fn note(&mut self, dir: &RelPath, what: Doubted) {
        self.dirs.insert(dir.clone(), what);
        let above = std::iter::successors(dir.parent(), RelPath::parent);
        for above in above {
            if self.dirs.contains_key(&above) {
                break;
            }
            self.dirs.insert(above, Doubted::Below);
        }
    }
}
