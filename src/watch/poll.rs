//! The backend for filesystems without events: walks the tree at an interval.
//!
//! **Purpose:** remembers (inode, size, mtime, ctime, rights) of each entry and reports what differs.
//! **Invariants:** a directory that cannot be read keeps its memory, so nothing below it counts as
//! deleted; a directory on another filesystem than before is a `Rescan`, never a set of deletes;
//! what a comparison has sent and the next walk does not meet is compared again.
//! **Not here:** renames. A renamed inode is a Delete and a Create; one that replaces a file is a
//! CloseWrite of that name. Several changes between two walks are one.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fs::{AtFlags, Stat, fstat, statat};
use rustix::io::Errno;

use crate::error::errno_text;
use crate::event::{EventKind, RescanReason};
use crate::tree::{FileId, RelPath, check_name};

use super::bounds::{LEVEL_MAX, PROBLEMS_MAX};
use super::{Found, Listen, Problem, Setup, WatchError, dirfd, kernel};

/// Most names that have gone and are compared one by one; more become a comparison of everything.
const GONE_MAX: usize = 64;

/// Number of a remembered directory.
type DirNo = u32;

/// What is remembered of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    ino: u64,
    size: i64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    /// Mode, owner, group and links, mixed.
    rights: u32,
    /// The type bits of the mode.
    kind: u32,
}

impl Seen {
    fn new(stat: &Stat) -> Self {
        let nanos = |nanos| u32::try_from(nanos).unwrap_or(0);
        let links = u32::try_from(stat.st_nlink).unwrap_or(u32::MAX);
        let rights = [stat.st_mode, stat.st_uid, stat.st_gid, links];
        Self {
            ino: stat.st_ino,
            size: stat.st_size,
            mtime: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            ctime: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
            rights: rights.into_iter().fold(0, |mix: u32, part| mix.wrapping_mul(0x0100_0193) ^ part),
            kind: stat.st_mode & libc::S_IFMT,
        }
    }

    fn is_dir(&self) -> bool {
        self.kind == libc::S_IFDIR
    }
}

struct Entry {
    name: Box<[u8]>,
    seen: Seen,
    /// The memory of a directory that was walked.
    dir: Option<DirNo>,
}

#[derive(Default)]
struct Dir {
    id: Option<FileId>,
    /// Sorted by name.
    entries: Vec<Entry>,
}

/// One directory to walk.
struct Step {
    no: DirNo,
    path: RelPath,
    parent: Option<Arc<OwnedFd>>,
    level: u32,
    /// Whether entries are reported; not in what a rescan covers.
    report: bool,
}

/// The backend.
pub(super) struct Poll {
    setup: Setup,
    dirs: HashMap<DirNo, Dir>,
    next: DirNo,
    /// The root as of the last walk.
    root: Option<(DirNo, FileId)>,
    root_seen: Option<Seen>,
    denied: BTreeMap<RelPath, Errno>,
    /// Subtrees to be compared: said after the walk, since a comparison that comes before it finds what the
    /// walk does not remember.
    rescans: Vec<(RelPath, RescanReason)>,
    /// What comparisons have found in directories that could not be read then.
    unread: Found,
    /// Whether comparisons have found more than is remembered.
    lost: bool,
}

impl Poll {
    /// Walks the tree once, reporting nothing.
    ///
    /// # Errors
    /// [`WatchError::Source`] if the source cannot be opened.
    pub(super) fn start(setup: Setup) -> Result<Self, WatchError> {
        let mut this = Self {
            setup,
            dirs: HashMap::new(),
            next: 0,
            root: None,
            root_seen: None,
            denied: BTreeMap::new(),
            rescans: Vec::new(),
            unread: Found::default(),
            lost: false,
        };
        let opened = dirfd::open_path(&this.setup.source).and_then(|dir| Ok((dirfd::id_of(&dir)?, dir)));
        let (id, dir) =
            opened.map_err(|errno| WatchError::Source { path: this.setup.source.clone(), errno })?;
        this.begin(dir, id);
        this.setup.out.flush();
        Ok(this)
    }

    /// Remembers the tree below a new root.
    fn begin(&mut self, root: OwnedFd, id: FileId) {
        self.dirs.clear();
        self.denied.clear();
        let no = self.remember();
        self.root = Some((no, id));
        self.root_seen = fstat(&root).ok().map(|stat| Seen::new(&stat));
        self.walk(root, no, false);
    }

    fn remember(&mut self) -> DirNo {
        self.next = self.next.wrapping_add(1);
        while self.dirs.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        self.dirs.insert(self.next, Dir::default());
        self.next
    }

    fn forget(&mut self, no: DirNo) {
        let mut all = vec![no];
        while let Some(no) = all.pop() {
            let gone = self.dirs.remove(&no);
            all.extend(gone.into_iter().flat_map(|dir| dir.entries).filter_map(|entry| entry.dir));
        }
    }

    /// One round.
    fn look(&mut self) {
        let opened = dirfd::open_path(&self.setup.source).and_then(|dir| Ok((dirfd::id_of(&dir)?, dir)));
        match (opened, self.root) {
            (Ok((id, dir)), Some((no, before))) if id == before => {
                let seen = fstat(&dir).ok().map(|stat| Seen::new(&stat));
                if std::mem::replace(&mut self.root_seen, seen) != seen {
                    self.setup
                        .out
                        .push(Instant::now(), EventKind::Attrib { path: RelPath::root(), dir: true });
                }
                self.walk(dir, no, true);
            }
            (Ok((id, dir)), _) => {
                self.begin(dir, id);
                self.setup.out.rescan(RelPath::root(), RescanReason::Root);
            }
            (Err(errno), before) => {
                if before.is_some() {
                    self.setup.out.rescan(RelPath::root(), RescanReason::Root);
                }
                self.root = None;
                self.dirs.clear();
                self.denied = BTreeMap::from([(RelPath::root(), errno)]);
                self.tell();
            }
        }
    }

    fn walk(&mut self, root: OwnedFd, no: DirNo, report: bool) {
        let root = Arc::new(root);
        let denied = std::mem::take(&mut self.denied);
        // Before the walk: what is found later may be met by it or not.
        let mut found = self.setup.out.take_found();
        std::mem::take(&mut self.unread).names.into_iter().for_each(|path| found.add(path));
        let mut stack = vec![Step { no, path: RelPath::root(), parent: None, level: 0, report }];
        while let Some(step) = stack.pop() {
            if self.setup.stopped() {
                return;
            }
            let opened = match &step.parent {
                Some(parent) => dirfd::open_dir(&**parent, step.path.name()),
                None => dirfd::open_below(root.as_fd(), &step.path),
            };
            let path = step.path.clone();
            if let Err(errno) = opened.and_then(|dir| self.visit(step, dir, &mut stack))
                && !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
            {
                if !denied.contains_key(&path) {
                    self.setup.out.rescan(path.clone(), RescanReason::Unwatched);
                }
                self.denied.insert(path, errno);
            }
        }
        // What became readable was not compared while it was not.
        let readable = denied.into_keys().filter(|path| !self.denied.contains_key(path));
        self.rescans.extend(readable.map(|path| (path, RescanReason::Unwatched)));
        for (path, reason) in &self.rescans {
            self.setup.out.rescan(path.clone(), *reason);
        }
        if report {
            self.account_for(found);
        }
        self.rescans.clear();
        self.tell();
    }

    /// Has what a comparison has found since the walk before, and this walk has not met, compared again: the
    /// target has it, and it was never remembered here. No Delete, since it may have been unmounted.
    fn account_for(&mut self, found: Found) {
        let lost = std::mem::replace(&mut self.lost, found.lost) && !found.lost;
        let mut gone: Vec<RelPath> = Vec::new();
        // What is above comes first.
        for path in found.names {
            let compared = self.rescans.iter().map(|(top, _)| top).chain(gone.last());
            if compared.into_iter().any(|top| path.is_within(top)) || self.remembers(&path) {
                continue;
            }
            if self.denied.keys().any(|top| path.is_within(top)) {
                self.unread.add(path);
            } else {
                gone.push(path);
            }
        }
        if lost || gone.len() > GONE_MAX {
            gone = vec![RelPath::root()];
        }
        gone.into_iter().for_each(|path| self.setup.out.rescan(path, RescanReason::Moved));
    }

    /// Whether the last walk met a path.
    fn remembers(&self, path: &RelPath) -> bool {
        let Some((mut no, _)) = self.root else { return false };
        let mut names = path.components().peekable();
        while let Some(name) = names.next() {
            let Some(dir) = self.dirs.get(&no) else { return false };
            let at = dir.entries.binary_search_by(|entry| (*entry.name).cmp(name));
            let Some(entry) = at.ok().and_then(|at| dir.entries.get(at)) else { return false };
            match entry.dir {
                Some(next) => no = next,
                None => return names.peek().is_none(),
            }
        }
        true
    }

    /// Compares one directory with its memory.
    fn visit(&mut self, mut step: Step, dir: OwnedFd, stack: &mut Vec<Step>) -> Result<(), Errno> {
        let id = dirfd::id_of(&dir)?;
        let mut names = Vec::new();
        if self.may_descend(id) {
            dirfd::list(&dir, |name, _| names.push(Box::<[u8]>::from(name)))?;
            names.sort_unstable();
        }
        let Some(memory) = self.dirs.get_mut(&step.no) else { return Ok(()) };
        let before = memory.id.replace(id);
        let mut old = std::mem::take(&mut memory.entries);
        if let Some(before) = before.filter(|before| *before != id) {
            // What stood here may be hidden under a mount and not deleted.
            old.into_iter().filter_map(|entry| entry.dir).for_each(|no| self.forget(no));
            old = Vec::new();
            let reason = if before.dev == id.dev { RescanReason::Arrived } else { RescanReason::Mount };
            self.rescans.push((step.path.clone(), reason));
            step.report = false;
        }
        let mut old = old.into_iter().peekable();
        let dir = Arc::new(dir);
        let mut now = Vec::with_capacity(names.len());
        for name in names {
            while let Some(gone) = old.next_if(|entry| entry.name < name) {
                self.gone(&step, gone);
            }
            let known = old.next_if(|entry| entry.name == name);
            if check_name(&name).is_ok() {
                now.extend(self.entry((&step, &dir), name, known, stack));
            }
        }
        old.for_each(|gone| self.gone(&step, gone));
        if let Some(memory) = self.dirs.get_mut(&step.no) {
            memory.entries = now;
        }
        Ok(())
    }

    /// Compares one name with what is known of it; returns what is known now.
    fn entry(
        &mut self,
        (step, dir): (&Step, &Arc<OwnedFd>),
        name: Box<[u8]>,
        known: Option<Entry>,
        stack: &mut Vec<Step>,
    ) -> Option<Entry> {
        let stat = match statat(&**dir, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => {
                known.into_iter().for_each(|entry| self.gone(step, entry));
                return None;
            }
            Err(_) => return known,
        };
        let path = step.path.join(&name);
        let seen = Seen::new(&stat);
        if (self.setup.skip)(&path, seen.is_dir()) {
            known.into_iter().filter_map(|entry| entry.dir).for_each(|no| self.forget(no));
            return None;
        }
        let known = self.compare(&path, known, &seen, step.report);
        let mut entry = Entry { name, seen, dir: None };
        if seen.is_dir() {
            let no = known.unwrap_or_else(|| self.remember());
            entry.dir = Some(no);
            let parent = (step.level < LEVEL_MAX).then(|| Arc::clone(dir));
            stack.push(Step { no, path, parent, level: step.level + 1, report: step.report });
        }
        Some(entry)
    }

    /// Whether the entries of a directory are walked: not beyond the root's filesystem if so asked.
    fn may_descend(&self, id: FileId) -> bool {
        !self.setup.options.one_file_system || self.root.is_none_or(|(_, root)| root.dev == id.dev)
    }

    fn gone(&mut self, step: &Step, entry: Entry) {
        let path = step.path.join(&entry.name);
        if let Some(no) = entry.dir {
            self.forget(no);
        }
        if step.report {
            self.setup.out.push(Instant::now(), EventKind::Delete { path, dir: entry.seen.is_dir() });
        }
    }

    /// Reports what differs between what was and what is under one name. Returns the memory of the
    /// directory that still stands there.
    fn compare(&mut self, path: &RelPath, known: Option<Entry>, seen: &Seen, report: bool) -> Option<DirNo> {
        let at = Instant::now();
        let mut say = |kind| {
            if report {
                self.setup.out.push(at, kind);
            }
        };
        let dir = seen.is_dir();
        let Some(known) = known else {
            say(EventKind::Create { path: path.clone(), dir });
            return None;
        };
        let old = known.seen;
        if old.kind != seen.kind {
            say(EventKind::Delete { path: path.clone(), dir: old.is_dir() });
            say(EventKind::Create { path: path.clone(), dir });
            known.dir.into_iter().for_each(|no| self.forget(no));
            return None;
        }
        if dir {
            if old != *seen {
                say(EventKind::Attrib { path: path.clone(), dir });
            }
            return known.dir;
        }
        let changed = old.ctime != seen.ctime;
        if changed || old.rights != seen.rights {
            say(EventKind::Attrib { path: path.clone(), dir });
        }
        // A writer may have set size and mtime back, and somebody else the mode after that.
        if changed || (old.ino, old.size, old.mtime) != (seen.ino, seen.size, seen.mtime) {
            if seen.kind == libc::S_IFREG {
                say(EventKind::CloseWrite(path.clone()));
            } else {
                say(EventKind::Create { path: path.clone(), dir });
            }
        }
        None
    }

    fn tell(&self) {
        self.setup.out.set_watched(self.dirs.len());
        let every = self.setup.options.poll_interval.as_secs_f64();
        let problem = |(path, errno): (&RelPath, &Errno)| Problem {
            path: path.clone(),
            text: format!("watch {path}: {}; tried again in {every} s", errno_text(errno.raw_os_error())),
            hint: None,
        };
        self.setup.out.set_problems(self.denied.iter().take(PROBLEMS_MAX).map(problem).collect());
    }
}

impl Listen for Poll {
    fn run(mut self: Box<Self>) {
        loop {
            let until = Instant::now() + self.setup.options.poll_interval;
            let [stop, _] = kernel::wait(
                [(self.setup.stop.as_fd(), PollFlags::IN), (self.setup.fence.ring().as_fd(), PollFlags::IN)],
                Some(until),
            );
            if stop {
                return;
            }
            self.setup.fence.meet_all();
            self.look();
            self.setup.out.flush();
            self.setup.fence.answer_unsure();
        }
    }
}
