//! Adding watches: add, then read, then descend.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;

use crate::event::{EventKind, RescanReason};
use crate::tree::{FileId, RelPath, check_name};

use super::super::bounds::{DRAIN_EVERY, LEVEL_MAX};
use super::super::dirfd;
use super::super::gap::Gap;
use super::super::kernel::Wd;
use super::Inotify;
use super::nodes::{Dentry, NONE, Nodes};

/// Directories are counted up to here.
const COUNT_MAX: u64 = 10_000_000;

/// One directory to look at.
pub(super) struct Step {
    place: Dentry,
    /// The parent, if it is open; for the root, the root itself.
    parent: Option<Arc<OwnedFd>>,
    level: u32,
    /// Whether a directory that is watched at this place already is read once more.
    reread: bool,
    /// Whether it lies in a directory that is told to have come.
    below: bool,
}

impl Step {
    pub(super) fn root(root: Arc<OwnedFd>) -> Self {
        Self { place: Dentry::root(), parent: Some(root), level: 0, reread: true, below: false }
    }

    pub(super) fn at(place: Dentry) -> Self {
        Self { place, parent: None, level: 0, reread: false, below: false }
    }

    pub(super) fn reread(place: Dentry) -> Self {
        Self { reread: true, ..Self::at(place) }
    }
}

/// One walk.
pub(super) struct Walk {
    stack: Vec<Step>,
    /// Whether what is found is reported as created.
    report: bool,
    /// Whether the directories that get no watch are counted.
    count: bool,
    /// Whether the kernel has no watches left.
    pub full: bool,
    /// What was watched before events were lost, and the directories that came since.
    before: Option<Nodes>,
    arrived: Vec<RelPath>,
}

impl Walk {
    pub(super) fn silent() -> Self {
        Self { stack: Vec::new(), report: false, count: true, full: false, before: None, arrived: Vec::new() }
    }

    /// Finds which directories came unheard. Where nothing was known before, everything is compared anyway.
    pub(super) fn since(before: Nodes) -> Self {
        Self { before: before.root().is_some().then_some(before), ..Self::silent() }
    }

    pub(super) fn reporting() -> Self {
        Self { report: true, ..Self::silent() }
    }

    pub(super) fn retry() -> Self {
        Self { count: false, ..Self::silent() }
    }
}

impl Inotify {
    /// Watches directories with all below them. Returns whether the kernel has watches left.
    pub(super) fn grow(&mut self, steps: Vec<Step>, mut walk: Walk) -> bool {
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
        if let Some(place) = self.gaps.collapse(&self.nodes) {
            self.report_hole(&place);
        }
        self.setup.out.arrived(walk.arrived);
        !walk.full
    }

    /// Whether a directory was made since everything before was heard: what is in it has come later, and has change
    /// times that say so, unless it came with a directory.
    fn is_fresh(&self, dir: &OwnedFd) -> bool {
        self.kernel.is_since(dirfd::born_at(dir, b""), self.setup.out.change())
    }

    /// Notes that a directory has come unheard, if it has: it is not the one that was watched there.
    fn note_arrival(&self, place: &Dentry, id: FileId, dir: &OwnedFd, walk: &mut Walk) -> bool {
        let Some(before) = &walk.before else { return false };
        let Some(path) = self.nodes.path_of(place) else { return false };
        if before.find(&path).and_then(|wd| before.id(wd)) == Some(id) || self.is_fresh(dir) {
            return false;
        }
        walk.arrived.push(path);
        true
    }

    fn report_hole(&mut self, place: &Dentry) {
        if let Some(path) = self.nodes.path_of(place) {
            self.rescan_hole(path);
        }
    }

    /// Has a hole compared for what may have changed in it.
    pub(super) fn rescan_hole(&mut self, path: RelPath) {
        self.setup.out.rescan_since(path, RescanReason::Unwatched, self.holes_told);
    }

    /// Remembers why a directory is not watched, and asks for a rescan of it if that is news.
    fn leave(&mut self, place: Dentry, gap: Gap) {
        self.drop_at(&place);
        if self.gaps.insert(place.clone(), gap) {
            self.report_hole(&place);
        }
    }

    fn visit(&mut self, step: Step, walk: &mut Walk) {
        let Step { place, parent, level, reread, below } = step;
        let parent = match parent {
            Some(parent) => parent,
            None => match self.open_node(place.parent) {
                Some(parent) => Arc::new(parent),
                None => {
                    if self.nodes.contains(place.parent) {
                        self.gaps.insert(place, Gap::Missing);
                    }
                    return;
                }
            },
        };
        let name: &[u8] = if place.parent == NONE { b"." } else { &place.name };
        let opened = dirfd::open_dir(&*parent, name).and_then(|dir| Ok((dirfd::id_of(&dir)?, dir)));
        let (id, dir) = match opened {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                // An event that says so is under way.
                self.gaps.remove(&place);
                return;
            }
            Err(errno) => return self.leave(place, Gap::Denied(errno)),
        };
        drop(parent);
        if let Some(gap) = self.border(&place, id, &dir) {
            return self.leave(place, gap);
        }
        let Some(wd) = self.add(&place, &dir, walk) else { return };
        match self.settle_node(wd, &place, id, walk) {
            Settled::Known if !reread => {}
            Settled::Not => {}
            Settled::Known | Settled::New => {
                let below = below || self.note_arrival(&place, id, &dir, walk);
                self.read(wd, Arc::new(dir), Reading { level, reread, below }, walk);
            }
        }
    }

    /// Says why a directory on another filesystem than its parent's is left alone.
    fn border(&self, place: &Dentry, id: FileId, dir: &OwnedFd) -> Option<Gap> {
        let parent = self.nodes.id(place.parent)?;
        if parent.dev == id.dev {
            return None;
        }
        let root = self.nodes.root_id()?;
        if self.setup.options.one_file_system && root.dev != id.dev {
            return Some(Gap::Skipped);
        }
        (!dirfd::has_events(dir)).then_some(Gap::Silent)
    }

    fn add(&mut self, place: &Dentry, dir: &OwnedFd, walk: &mut Walk) -> Option<Wd> {
        let added = if walk.full {
            Err(Errno::NOSPC)
        } else {
            (self.tuning.add)(&self.kernel, dir.as_fd(), self.nodes.len())
        };
        match added {
            Ok(wd) => Some(wd),
            Err(Errno::NOSPC) => {
                walk.full = true;
                if walk.count {
                    self.unwatched += count_dirs(dir.as_fd(), 0);
                }
                self.leave(place.clone(), Gap::Limit);
                None
            }
            // Removed since it was opened.
            Err(Errno::NOENT) => None,
            Err(errno) => {
                self.leave(place.clone(), Gap::Denied(errno));
                None
            }
        }
    }

    /// Puts a watch at its place in the tree; says whether the directory is to be read.
    fn settle_node(&mut self, wd: Wd, place: &Dentry, id: FileId, walk: &mut Walk) -> Settled {
        match self.nodes.place(wd).cloned() {
            Some(old) if old == *place => {
                self.gaps.remove(place);
                Settled::Known
            }
            Some(old) => {
                if self.stands(&old, id) {
                    self.leave(place.clone(), Gap::Twin);
                    return Settled::Not;
                }
                // It moved, and the events have yet to say so. Those about its content are older than
                // the move and would be told under the new name, so it gets a new watch that has none.
                self.drop_node(wd);
                walk.stack.push(Step::at(old));
                walk.stack.push(Step::at(place.clone()));
                Settled::Not
            }
            None => {
                self.drop_at(place);
                if place.parent != NONE && !self.nodes.contains(place.parent) {
                    self.kernel.remove(wd);
                    return Settled::Not;
                }
                self.nodes.insert(wd, place.clone(), id);
                self.gaps.remove(place);
                Settled::New
            }
        }
    }

    /// Moves a watched directory in the tree, over whatever was there. If the tree says that the new
    /// place is below the directory itself, it is dropped instead and `false` returned.
    pub(super) fn relocate(&mut self, wd: Wd, place: &Dentry) -> bool {
        if self.nodes.is_within(place.parent, wd) || !self.nodes.contains(place.parent) {
            self.drop_node(wd);
            return false;
        }
        let over = self.nodes.child(place.parent, &place.name).filter(|&over| over != wd);
        self.nodes.relocate(wd, place.clone());
        if let Some(over) = over {
            self.drop_node(over);
        }
        true
    }

    fn read(&mut self, wd: Wd, dir: Arc<OwnedFd>, reading: Reading, walk: &mut Walk) {
        let Some(path) = self.nodes.path(wd) else { return };
        let keep = (reading.level < LEVEL_MAX).then_some(&dir);
        let at = Instant::now();
        // What came with its directory may have been changed long before.
        let fresh = walk.report && self.is_fresh(&dir);
        let change = if fresh { self.setup.out.change() } else { self.setup.out.unknown() };
        let (skip, out, gaps) = (&self.setup.skip, &mut self.setup.out, &mut self.gaps);
        let listed = dirfd::list(&*dir, |name, is_dir| {
            if !(walk.report || is_dir) || check_name(name).is_err() {
                return;
            }
            let child: RelPath = path.join(name);
            if skip(&child, is_dir) {
                if is_dir {
                    gaps.insert(Dentry::new(wd, name), Gap::Skipped);
                }
                return;
            }
            if walk.report {
                out.push_changed(at, change, EventKind::Create { path: child, dir: is_dir });
            }
            if is_dir {
                walk.stack.push(Step {
                    place: Dentry::new(wd, name),
                    parent: keep.map(Arc::clone),
                    level: reading.level + 1,
                    reread: reading.reread,
                    below: reading.below,
                });
            }
        });
        // ENOENT: deleted since it was opened.
        if let Err(errno) = listed
            && errno != Errno::NOENT
        {
            let whole = Dentry::new(wd, b"");
            if self.gaps.insert(whole.clone(), Gap::Denied(errno)) {
                self.report_hole(&whole);
            }
        }
    }

    /// Stops watching what stands at a place, with all below it.
    pub(super) fn drop_at(&mut self, place: &Dentry) {
        if let Some(wd) = self.nodes.child(place.parent, &place.name) {
            self.drop_node(wd);
        }
    }

    /// Stops watching a directory and all below it.
    pub(super) fn drop_node(&mut self, wd: Wd) {
        for (n, wd) in self.nodes.remove(wd).into_iter().enumerate() {
            self.gaps.forget(wd);
            self.kernel.remove(wd);
            if n % DRAIN_EVERY == DRAIN_EVERY - 1 {
                self.drain();
            }
        }
    }

    /// Looks again for directories that events named, below `within` or everywhere.
    pub(super) fn retry_missing(&mut self, within: Option<Wd>) {
        if !self.gaps.has_missing() {
            return;
        }
        let steps: Vec<Step> = self
            .gaps
            .list(|gap| gap == Gap::Missing)
            .into_iter()
            .filter(|(place, _)| within.is_none_or(|top| self.nodes.is_within(place.parent, top)))
            .map(|(place, _)| Step::at(place))
            .collect();
        let places: Vec<Dentry> = steps.iter().map(|step| step.place.clone()).collect();
        for place in &places {
            self.gaps.remove(place);
        }
        self.grow(steps, Walk::reporting());
        for place in &places {
            self.compare(place);
        }
    }

    /// Asks for a rescan of everything that is not watched, and tries to watch it.
    pub(super) fn retry_holes(&mut self) {
        let room = self.has_room();
        for (place, gap) in self.gaps.list(Gap::is_hole) {
            let Some(path) = self.nodes.path_of(&place) else { continue };
            if gap != Gap::Limit || room {
                self.retry(&place);
            }
            self.rescan_hole(path);
        }
        self.holes_told = self.setup.out.change();
    }

    /// Tries to watch one hole.
    pub(super) fn retry(&mut self, place: &Dentry) {
        if place.parent == NONE {
            self.root.check = true;
        } else if place.name.is_empty() {
            let Some(own) = self.nodes.place(place.parent).cloned() else { return };
            self.gaps.remove(place);
            let root = if own.parent == NONE { self.open_node(place.parent).map(Arc::new) } else { None };
            let step = root.map_or_else(|| Step::reread(own), Step::root);
            self.grow(vec![step], Walk::retry());
        } else {
            self.grow(vec![Step::at(place.clone())], Walk::retry());
        }
    }

    /// Whether the kernel has a watch left: tried on a directory of `/proc`.
    fn has_room(&mut self) -> bool {
        let Ok(dir) = dirfd::open_path(std::path::Path::new("/proc/self/net")) else { return true };
        match (self.tuning.add)(&self.kernel, dir.as_fd(), self.nodes.len()) {
            Ok(wd) => {
                if !self.nodes.contains(wd) {
                    self.kernel.remove(wd);
                }
                true
            }
            Err(errno) => errno != Errno::NOSPC,
        }
    }
}

/// What became of a watch that was added.
enum Settled {
    /// The directory was watched at this place already.
    Known,
    /// The place is new.
    New,
    /// It is not kept.
    Not,
}

/// How a directory is read.
struct Reading {
    level: u32,
    reread: bool,
    below: bool,
}

/// Counts a directory and those below it, as far as they can be opened.
fn count_dirs(dir: std::os::fd::BorrowedFd<'_>, level: u32) -> u64 {
    let mut names = Vec::new();
    let listed = dirfd::list(dir, |name, is_dir| {
        if is_dir {
            names.push(name.to_vec());
        }
    });
    let mut count = 1;
    if listed.is_ok() && level < LEVEL_MAX {
        for name in names {
            if count >= COUNT_MAX {
                break;
            }
            count += dirfd::open_dir(dir, &name).map_or(1, |child| count_dirs(child.as_fd(), level + 1));
        }
    }
    count
}
