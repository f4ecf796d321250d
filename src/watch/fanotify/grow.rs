//! Filling the tree: add the handle, then read the directory, then descend. The filesystem is marked
//! before, so that whatever happens after a directory was read is heard.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, fstatfs, statat};
use rustix::io::Errno;

use crate::event::{EventKind, RescanReason};
use crate::tree::{RelPath, check_name};

use super::super::bounds::{DRAIN_EVERY, HOLES_MAX, LEVEL_MAX};
use super::super::dirfd;
use super::super::gap::Gap;
use super::Fanotify;
use super::group::{Found, FsIndex, Handle, handle_at};
use super::nodes::{Dentry, Nodes, State};

/// One directory to look at.
pub(super) struct Step {
    place: Dentry,
    /// The parent, if it is open; for the root, the root itself.
    parent: Option<Arc<OwnedFd>>,
    level: u32,
    /// Whether it was reported already.
    told: bool,
    /// Whether it lies in a directory that is told to have come.
    below: bool,
}

impl Step {
    pub(super) fn root(root: Arc<OwnedFd>) -> Self {
        Self { place: Dentry::root(), parent: Some(root), level: 0, told: true, below: false }
    }

    pub(super) fn at(place: Dentry) -> Self {
        Self { place, parent: None, level: 0, told: false, below: false }
    }

    pub(super) fn told(place: Dentry) -> Self {
        Self { told: true, ..Self::at(place) }
    }
}

/// What a mount is to this watcher.
#[derive(Clone, Copy)]
enum Border {
    Marked {
        fs: FsIndex,
        /// Whether a directory with two links holds no other directories.
        counts: bool,
    },
    /// Other filesystems are left out.
    Out,
    Not(Gap),
}

/// One walk.
pub(super) struct Walk {
    stack: Vec<Step>,
    /// Whether what is found is reported as created.
    report: bool,
    mounts: HashMap<i32, Border>,
    /// What was in the tree before events were lost, and the directories that came since.
    before: Option<Nodes>,
    arrived: Vec<RelPath>,
}

impl Walk {
    pub(super) fn silent() -> Self {
        let (stack, arrived) = (Vec::new(), Vec::new());
        Self { stack, report: false, mounts: HashMap::new(), before: None, arrived }
    }

    /// Finds which directories came unheard. Where nothing was known before, everything is compared anyway.
    pub(super) fn since(before: Nodes) -> Self {
        Self { before: before.root().is_some().then_some(before), ..Self::silent() }
    }

    pub(super) fn reporting() -> Self {
        Self { report: true, ..Self::silent() }
    }
}

/// How a directory is read.
#[derive(Clone, Copy)]
struct Reading {
    handle: Handle,
    mount: i32,
    counts: bool,
    level: u32,
    below: bool,
}

impl Fanotify {
    /// Takes directories with all below them into the tree.
    pub(super) fn grow(&mut self, steps: Vec<Step>, mut walk: Walk) {
        walk.stack = steps;
        let mut visited: usize = 0;
        while let Some(step) = walk.stack.pop() {
            self.visit(step, &mut walk);
            visited += 1;
            if visited.is_multiple_of(DRAIN_EVERY) {
                self.drain();
                if self.setup.stopped() {
                    break;
                }
            }
        }
        self.setup.out.arrived(walk.arrived);
    }

    /// Whether a directory, or a name in it, was made since everything before was heard: what is in it has come
    /// later, and has change times that say so, unless it came with a directory.
    fn is_fresh(&self, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
        self.group.marks.is_since(dirfd::born_at(dir, name), self.setup.out.change())
    }

    /// Notes that a directory has come unheard, if it has: it is not the one that was in the tree there.
    fn note_arrival(
        &self,
        handle: Handle,
        at: (BorrowedFd<'_>, &[u8]),
        before: Option<&Nodes>,
        arrived: &mut Vec<RelPath>,
    ) -> bool {
        let (Some(before), Some(path)) = (before, self.nodes.path(handle)) else { return false };
        if before.find(&path) == Some(handle) || self.is_fresh(at.0, at.1) {
            return false;
        }
        arrived.push(path);
        true
    }

    /// Remembers why a directory is not heard of, and asks for a rescan of it if that is news.
    fn leave(&mut self, place: Dentry, gap: Gap) {
        self.drop_at(&place);
        self.stale = true;
        if self.holes.insert(place.clone(), gap).is_none()
            && let Some(path) = self.nodes.path_of(&place)
        {
            self.setup.out.rescan_since(path, RescanReason::Unwatched, self.holes_told);
        }
    }

    fn fill(&mut self, place: &Dentry) {
        self.stale |= self.holes.remove(place).is_some();
    }

    fn visit(&mut self, step: Step, walk: &mut Walk) {
        let Step { place, parent, level, told, below } = step;
        let Some(parent) = parent.or_else(|| self.open_node(place.parent).map(Arc::new)) else {
            if self.nodes.at(&place).is_none() {
                self.doubts.look(&place);
            }
            return self.miss(&place);
        };
        let name: &[u8] = if place.is_root() { b"." } else { &place.name };
        let dir = match dirfd::open_dir(&*parent, name) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                // An event that says so is under way.
                self.fill(&place);
                return self.miss(&place);
            }
            Err(errno) => return self.leave(place, Gap::Denied(errno)),
        };
        drop(parent);
        let found = match handle_at(dir.as_fd(), b"") {
            Ok(found) => found,
            Err(errno) => return self.leave(place, Gap::Unmarked(errno)),
        };
        let (handle, counts) = match self.border(&found, &dir, walk) {
            Border::Marked { fs, counts } => match found.on(fs) {
                Some(handle) => (handle, counts),
                None => return self.leave(place, Gap::Unmarked(Errno::OVERFLOW)),
            },
            Border::Out => return self.drop_at(&place),
            Border::Not(gap) => return self.leave(place, gap),
        };
        if self.settle_node(handle, &place) {
            if walk.report && !told {
                self.tell_created(&place);
            }
            if walk.report {
                let moment = self.queue.moment();
                self.doubts.read(handle, moment);
            }
            let at = (dir.as_fd(), &b""[..]);
            let below = below || self.note_arrival(handle, at, walk.before.as_ref(), &mut walk.arrived);
            let reading = Reading { handle, mount: found.mount, counts, level, below };
            self.read(&Arc::new(dir), reading, walk);
        }
    }

    /// The disk does not have a directory where the events read so far say that it is.
    fn miss(&mut self, place: &Dentry) {
        if let Some(handle) = self.nodes.at(place)
            && self.nodes.state(handle) == Some(State::Unread)
        {
            self.unread.insert(handle);
        }
    }

    fn tell_created(&mut self, place: &Dentry) {
        if let Some(path) = self.nodes.path_of(place).filter(|path| !path.is_root()) {
            self.setup.out.push(Instant::now(), EventKind::Create { path, dir: true });
        }
    }

    /// Returns what the mount of a directory is to this watcher; marks its filesystem if need be.
    fn border(&mut self, found: &Found, dir: &OwnedFd, walk: &mut Walk) -> Border {
        if let Some(border) = walk.mounts.get(&found.mount) {
            return *border;
        }
        let root = self.root_id.filter(|_| self.setup.options.one_file_system);
        let border = if root.is_some_and(|root| dirfd::id_of(dir).is_ok_and(|id| id.dev != root.dev)) {
            Border::Out
        } else if !dirfd::has_events(dir) {
            Border::Not(Gap::Silent)
        } else {
            match self.group.mark(dir.as_fd()) {
                Ok(fs) => Border::Marked { fs, counts: counts_directories(dir.as_fd()) },
                Err(errno) => Border::Not(Gap::Unmarked(errno)),
            }
        };
        walk.mounts.insert(found.mount, border);
        border
    }

    /// Takes a directory that was found at a place into the tree; says whether it is to be read.
    fn settle_node(&mut self, handle: Handle, place: &Dentry) -> bool {
        if self.nodes.stands(handle, place) {
            self.fill(place);
            let read = self.nodes.state(handle) == Some(State::Read);
            self.unread.remove(&handle);
            self.nodes.set_state(handle, State::Read);
            return !read;
        }
        if let Some(old) = self.nodes.place(handle) {
            if self.is_on_disk(handle, &old) {
                self.leave(place.clone(), Gap::Twin);
            } else {
                // It moved, and the event that says so is under way, unless it was dropped because
                // nothing that it names was in the tree.
                self.doubts.look(place);
            }
            return false;
        }
        if !place.is_root() && !self.nodes.contains(place.parent) {
            return false;
        }
        self.drop_at(place);
        self.nodes.insert(handle, place, State::Read);
        self.fill(place);
        true
    }

    fn read(&mut self, dir: &Arc<OwnedFd>, reading: Reading, walk: &mut Walk) {
        let Some(path) = self.nodes.path(reading.handle) else { return };
        let at = Instant::now();
        // What came with its directory may have been changed long before.
        let fresh = walk.report && self.is_fresh(dir.as_fd(), b"");
        let change = if fresh { self.setup.out.change() } else { self.setup.out.unknown() };
        let listed = dirfd::list(&**dir, |name, is_dir| {
            if !(walk.report || is_dir) || check_name(name).is_err() {
                return;
            }
            let child = path.join(name);
            let skip = (self.setup.skip)(&child, is_dir);
            if !is_dir {
                if !skip {
                    self.setup.out.push_changed(at, change, EventKind::Create { path: child, dir: false });
                }
                return;
            }
            let place = Dentry::new(reading.handle, name);
            if skip {
                self.keep_skipped(dir.as_fd(), &place, reading.mount);
            } else if walk.report || !self.add_leaf(dir.as_fd(), &place, reading) {
                let parent = (reading.level < LEVEL_MAX).then(|| Arc::clone(dir));
                let (level, below) = (reading.level + 1, reading.below);
                walk.stack.push(Step { place, parent, level, told: false, below });
            } else if !reading.below
                && let Some(leaf) = self.nodes.at(&place)
            {
                let at = (dir.as_fd(), name);
                self.note_arrival(leaf, at, walk.before.as_ref(), &mut walk.arrived);
            }
        });
        // ENOENT: deleted since it was opened.
        if let Err(errno) = listed
            && errno != Errno::NOENT
            && let Some(place) = self.nodes.place(reading.handle)
        {
            self.leave(place, Gap::Denied(errno));
        }
    }

    /// Returns the handle of a name in a directory if it is on the same mount and not in the tree yet.
    fn stranger_at(&self, dir: BorrowedFd<'_>, place: &Dentry, mount: i32) -> Option<Handle> {
        let found = handle_at(dir, &place.name).ok().filter(|found| found.mount == mount)?;
        let handle = found.on(place.parent.fs())?;
        (!self.nodes.contains(handle) && self.nodes.at(place).is_none()).then_some(handle)
    }

    /// Remembers a directory that the rules leave out.
    fn keep_skipped(&mut self, dir: BorrowedFd<'_>, place: &Dentry, mount: i32) {
        if let Some(handle) = self.stranger_at(dir, place, mount) {
            self.nodes.insert(handle, place, State::Skipped);
        }
    }

    /// Takes a directory without directories into the tree, where that can be told without opening it.
    fn add_leaf(&mut self, dir: BorrowedFd<'_>, place: &Dentry, reading: Reading) -> bool {
        if !reading.counts {
            return false;
        }
        let Some(handle) = self.stranger_at(dir, place, reading.mount) else { return false };
        self.nodes.insert(handle, place, State::Unread);
        let leaf = statat(dir, &*place.name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory && stat.st_nlink == 2
        });
        if leaf {
            self.nodes.set_state(handle, State::Read);
            self.fill(place);
        }
        leaf
    }

    /// Takes what stands at a place out of the tree, with all below it.
    pub(super) fn drop_at(&mut self, place: &Dentry) {
        if let Some(handle) = self.nodes.at(place) {
            self.drop_node(handle);
        }
    }

    /// Takes a directory and all below it out of the tree.
    pub(super) fn drop_node(&mut self, handle: Handle) {
        self.nodes.remove(handle);
        let (nodes, before) = (&self.nodes, self.holes.len());
        self.holes.retain(|place, _| place.is_root() || nodes.contains(place.parent));
        self.stale |= self.holes.len() != before;
    }

    /// Looks again at everything that is not heard of, and asks for a rescan of it.
    pub(super) fn retry_holes(&mut self) {
        let holes: Vec<Dentry> = self.holes.keys().cloned().collect();
        self.root.check |= holes.iter().any(Dentry::is_root);
        let paths: Vec<RelPath> = holes.iter().filter_map(|place| self.nodes.path_of(place)).collect();
        let steps = holes.into_iter().filter(|place| !place.is_root()).map(Step::at).collect();
        self.grow(steps, Walk::silent());
        let whole = paths.len() > HOLES_MAX;
        for path in if whole { vec![RelPath::root()] } else { paths } {
            self.setup.out.rescan_since(path, RescanReason::Unwatched, self.holes_told);
        }
        self.holes_told = self.setup.out.change();
    }
}

/// Whether the links of a directory are itself, its name and the directories in it.
fn counts_directories(dir: BorrowedFd<'_>) -> bool {
    const COUNTING: [u64; 3] = [
        0xef53,      // ext2, ext3, ext4
        0x0102_1994, // tmpfs
        0x5846_5342, // XFS
    ];
    fstatfs(dir).is_ok_and(|stat| COUNTING.contains(&(stat.f_type as u64 & 0xffff_ffff)))
}
