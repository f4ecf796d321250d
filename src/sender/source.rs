//! Reading the source: each version once, for all targets that are in step.

mod file;
mod read_cache;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::fs::AtFlags;
use rustix::io::Errno;

pub use file::{End, Piece, SourceFile};
use read_cache::{ReadCache, Rooms};

use super::cuts::look_at_clock;
use super::shared_compression::SharedCompression;
use super::whereabouts::Whereabouts;
use crate::disk::{Root, read_clock, read_entry};
use crate::event::{Moment, Offsets, Reading};
use crate::filter::Filter;
use crate::scan;
use crate::tree::{Entry, FileId, Kind, LinkRules, Mask, RelPath, Time};

/// Bytes of a file in one piece.
pub const PIECE_LEN: usize = 256 * 1024;
/// Bytes of one file that are kept for targets a little behind.
const BEHIND_MAX: usize = 16 << 20;
/// After this long a directory is resolved again.
pub(super) const DIR_CACHE_MAX: Duration = Duration::from_millis(20);

/// The directory of the last path that was looked at, held for the next: most changes of a batch lie
/// beside each other. What is read through it is as if it were read when it was resolved, so it must be
/// younger than the change that is looked at.
pub(super) struct DirCache {
    dir: Vec<u8>,
    fd: OwnedFd,
    resolved: Instant,
}

/// The source tree, held open.
pub struct Source {
    path: PathBuf,
    root: RwLock<Arc<Root>>,
    /// Several targets share what is read, or did.
    shared: AtomicBool,
    /// Packs it for them.
    packer: SharedCompression,
    kept: Mutex<ReadCache>,
    rooms: Arc<Rooms>,
    readers: AtomicUsize,
    /// How the clock was set that its files are stamped by.
    clock: Mutex<Offsets>,
    /// What is hidden of it, whatever a sync says.
    hidden: Option<(Filter, RelPath)>,
    /// Its one entry has another name on the target: this path, and the name here.
    renamed: Option<(RelPath, Vec<u8>)>,
    /// Where its parts lie, where it has several.
    whereabouts: Vec<Whereabouts>,
    /// What is called when another directory is under the path of one that is never opened anew.
    replaced: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// What came of removing a file of the source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is gone.
    Done,
    /// It is not what was looked at, or somebody writes to it: it stays.
    Changed,
}

/// A target that is being sent to: while there is one, what was read is kept.
pub(super) struct Reader(Arc<Source>);

impl Drop for Reader {
    fn drop(&mut self) {
        if self.0.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.forget();
        }
    }
}

impl Source {
    /// Opens the tree at `path` for `targets` targets.
    ///
    /// # Errors
    /// What opening the directory says.
    pub fn open(path: &Path, targets: usize) -> io::Result<Arc<Self>> {
        Self::open_following(path, targets, LinkRules::default())
    }

    /// The same, for a single pass in which symlinks may stand for what they lead to.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn open_following(path: &Path, targets: usize, links: LinkRules) -> io::Result<Arc<Self>> {
        let root = Root::open(path)?.following(links, None)?;
        Ok(Arc::new(Self::held(root, path, (targets, None))))
    }

    /// Returns the tree that `root` holds, of which `path` is the directory, for `targets` targets. With `renamed` its
    /// one entry is called so on the target, and otherwise here.
    pub(super) fn of(
        root: Root,
        path: &Path,
        (targets, whereabouts): (usize, Vec<Whereabouts>),
        renamed: Option<(RelPath, Vec<u8>)>,
    ) -> Arc<Self> {
        Arc::new(Self { renamed, whereabouts, ..Self::held(root, path, (targets, None)) })
    }

    /// Whether one of its parts and a target lie within each other; `lineage`: the target's inodes, from its directory
    /// up to the top.
    pub(super) fn overlaps(&self, lineage: &[FileId]) -> bool {
        self.whereabouts.iter().any(|part| part.overlaps(lineage))
    }

    /// Returns the name here of what has this path.
    fn name<'a>(&'a self, path: &'a RelPath) -> &'a [u8] {
        match &self.renamed {
            Some((renamed, name)) if renamed == path => name,
            _ => path.name(),
        }
    }

    /// Returns what people call the entry at a path.
    pub(super) fn called(&self, path: &RelPath) -> RelPath {
        match &self.renamed {
            Some((renamed, name)) if renamed == path => RelPath::root().join(name),
            _ => path.clone(),
        }
    }

    /// Returns what stands under a path, by the name that it has on the target.
    fn look(&self, dir: BorrowedFd<'_>, path: &RelPath, mask: &Mask) -> io::Result<Option<Entry>> {
        let mut entry = self.root().entry_in(dir, path, self.name(path), mask)?;
        if let Some(entry) = entry.as_mut().filter(|_| self.renamed.is_some()) {
            entry.name = path.name().to_vec();
        }
        Ok(entry)
    }

    /// Returns BLAKE3 of the regular file at a path.
    ///
    /// # Errors
    /// As [`scan::hash`].
    pub(super) fn hash(&self, path: &RelPath) -> io::Result<[u8; 32]> {
        let root = self.root();
        match &self.renamed {
            Some((renamed, name)) if renamed == path => {
                scan::hash_in(&root, path, (root.parent(path)?.fd.as_fd(), name))
            }
            _ => scan::hash(&root, path),
        }
    }

    /// Opens the tree that lies `at` a place beneath the directory at `path`, held as `top`, for one target. What
    /// `filter` hides of that directory stays hidden. Symlinks may stand for what they lead to, by rules; if `bound`,
    /// they lead nowhere outside of `top`.
    ///
    /// # Errors
    /// What opening the directory says; `ELOOP` or `EXDEV` where a symlink stands in the way.
    pub fn open_beneath(
        (top, path): (&Root, &Path),
        at: &RelPath,
        filter: Filter,
        (links, bound): (LinkRules, bool),
    ) -> io::Result<Arc<Self>> {
        let root = Root::from_fd(top.dir(at)?).following(links, bound.then_some(top))?;
        let path = if at.is_root() { path.to_owned() } else { path.join(OsStr::from_bytes(at.as_bytes())) };
        Ok(Arc::new(Self::held(root, &path, (1, Some((filter, at.clone()))))))
    }

    fn held(root: Root, path: &Path, (targets, hidden): (usize, Option<(Filter, RelPath)>)) -> Self {
        Self {
            path: path.to_owned(),
            root: RwLock::new(Arc::new(root)),
            shared: AtomicBool::new(targets > 1),
            packer: SharedCompression::default(),
            kept: Mutex::default(),
            rooms: Arc::new(Rooms::new(targets)),
            readers: AtomicUsize::new(0),
            clock: Mutex::default(),
            hidden,
            renamed: None,
            whereabouts: Vec::new(),
            replaced: OnceLock::new(),
        }
    }

    /// Returns a sync's filter with what is hidden of this tree in any case. What it leaves out of one of several sources
    /// stands in the way of no other from now on.
    pub fn narrowed(&self, filter: Filter) -> Filter {
        let filter = match &self.hidden {
            Some((hidden, at)) => filter.beneath(hidden, at),
            None => filter,
        };
        let root = self.root();
        if root.is_layered() {
            let filter = filter.clone();
            root.leave_out(move |path, is_dir| filter.excludes_entry(path, is_dir));
        }
        filter
    }

    /// Says how many targets there are from now on. What is shared once stays so: sessions are in the middle of it.
    pub fn serve(&self, targets: usize) {
        if targets > 1 {
            self.rooms.serve(targets);
            self.shared.store(true, Ordering::Release);
        }
    }

    /// Takes in what the clock shows that files are stamped by.
    pub fn clock_was(&self, reading: Reading) {
        let back = {
            let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
            let before = clock.latest();
            clock.add(reading);
            before.is_some_and(|before| before.offset > reading.offset)
        };
        if back {
            look_at_clock(&self.path);
        }
    }

    /// Returns the least change time that a file may have which was changed at a moment or later, as the coarsest
    /// of the filesystems shows it whose change times are relied on: in whole seconds.
    pub fn stamp(&self, since: Moment) -> Time {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.add(read_clock());
        let nanos = clock.stamp(since).unwrap_or(0);
        Time { secs: nanos.div_euclid(1_000_000_000), nanos: 0 }
    }

    /// Whether the root holds nothing but what is speil's own, or cannot be read.
    pub fn is_empty(&self) -> bool {
        let root = self.root();
        let Ok(fd) = root.dir(&RelPath::root()) else { return true };
        crate::disk::names_of(fd.as_fd())
            .map_or(true, |names| names.iter().all(|name| name == scan::STATE_DIR))
    }

    /// Opens the path anew, after the root was replaced. `Ok(true)` if it is another inode now.
    ///
    /// # Errors
    /// What opening the directory says; the old root stays.
    pub fn reopen(&self) -> io::Result<bool> {
        if self.hidden.is_some() {
            return self.still_held();
        }
        let new = Root::open(&self.path)?;
        let changed = new.id()? != self.root().id()?;
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        self.forget();
        Ok(changed)
    }

    /// Looks whether the root that is held is under its path again: this process may open no other one.
    fn still_held(&self) -> io::Result<bool> {
        let (now, held) = (std::fs::metadata(&self.path)?, self.root().id()?);
        if (now.dev(), now.ino()) == (held.dev, held.ino) {
            return Ok(false);
        }
        if let (true, Some(tell)) = (now.is_dir(), self.replaced.get()) {
            tell();
        }
        Err(io::Error::from_raw_os_error(libc::ESTALE))
    }

    /// Has `tell` called when another directory is under the path of a tree that was opened beneath another one.
    pub fn when_replaced(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.replaced.set(Box::new(tell));
    }

    /// Whether the path still leads to the root that is held.
    pub fn is_in_place(&self) -> bool {
        let id = |root: &Root| root.id().ok();
        Root::open(&self.path).is_ok_and(|now| id(&now) == id(&self.root()))
    }

    /// Returns the held root.
    pub fn root(&self) -> Arc<Root> {
        Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns what compresses for all targets, if there are several.
    pub(super) fn packer(&self) -> Option<&SharedCompression> {
        self.is_shared().then_some(&self.packer)
    }

    /// Whether what is read is kept for other targets.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Acquire)
    }

    /// Returns the path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what stands at a path now; `None` if nothing does.
    ///
    /// # Errors
    /// What the system says, absence excepted.
    pub fn entry(&self, path: &RelPath, mask: &Mask) -> io::Result<Option<Entry>> {
        let root = self.root();
        if path.is_root() {
            return read_entry(root.as_fd(), b"", mask);
        }
        match root.parent(path) {
            Ok(parent) => self.look(parent.fd.as_fd(), path, mask),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`Source::entry`], by way of the last directory.
    ///
    /// # Errors
    /// As [`Source::entry`].
    pub(super) fn entry_by(
        &self,
        way: &mut Option<DirCache>,
        path: &RelPath,
        mask: &Mask,
    ) -> io::Result<Option<Entry>> {
        if path.is_root() {
            return self.entry(path, mask);
        }
        match self.find(way, path) {
            Ok(dir) => self.look(dir, path, mask),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn find<'a>(&self, way: &'a mut Option<DirCache>, path: &RelPath) -> io::Result<BorrowedFd<'a>> {
        let dir = path.parent_bytes();
        // In a tree of layers each name may be in another one.
        let held = way.take().filter(|way| {
            way.dir == dir && way.resolved.elapsed() < DIR_CACHE_MAX && !self.root().is_layered()
        });
        let held = match held {
            Some(held) => held,
            None => {
                let resolved = Instant::now();
                DirCache { dir: dir.to_vec(), fd: self.root().parent(path)?.fd, resolved }
            }
        };
        Ok(way.insert(held).fd.as_fd())
    }

    /// Whether a directory lies on another filesystem than what holds it; `None` if there is none.
    pub fn is_mounted(&self, path: &RelPath) -> Option<bool> {
        if path.is_root() {
            let root = self.root();
            let above = read_entry(root.as_fd(), b"..", &Mask::nothing()).ok().flatten()?;
            return Some(root.id().ok()?.dev != above.id.dev);
        }
        let dev = |path: &RelPath| {
            let entry = self.entry(path, &Mask::nothing()).ok().flatten();
            entry.filter(|entry| entry.attrs.meta.kind == Kind::Dir).map(|entry| entry.id.dev)
        };
        Some(dev(path)? != dev(&path.parent()?)?)
    }

    /// Whether a path lies below a mount point, on another filesystem than the root. The mount point itself
    /// does not.
    pub(super) fn is_beyond(&self, path: &RelPath) -> bool {
        let root = self.root();
        let Ok(homes) = root.homes() else { return false };
        let mut above = path.parent();
        while let Some(dir) = above.filter(|dir| !dir.is_root()) {
            match root.place(&dir) {
                Ok(fd) => return rustix::fs::fstat(&fd).is_ok_and(|stat| !homes.contains(&stat.st_dev)),
                Err(error) if is_absence(&error) => above = dir.parent(),
                Err(_) => return false,
            }
        }
        false
    }

    /// Opens the current version of a regular file. A version whose reading began after `issued` has
    /// seen every event behind a change of that moment and is shared between targets.
    ///
    /// # Errors
    /// What open(2) says; `ENOENT` if there is no regular file.
    pub fn file(&self, path: &RelPath, mask: &Mask, issued: Instant) -> io::Result<Arc<SourceFile>> {
        self.shared_or(path, issued, || {
            let parent = self.root().parent(path)?;
            // A FIFO or device that took the name meanwhile must not be opened: look first, look after.
            let look = self.look(parent.fd.as_fd(), path, &Mask::nothing())?;
            if look.is_none_or(|entry| entry.attrs.meta.kind != Kind::File) {
                return Err(Errno::NOENT.into());
            }
            self.open_file(parent.fd.as_fd(), path, mask)
        })
    }

    /// As [`Source::file`], for what [`Source::entry_by`] has just found to be a regular file.
    ///
    /// # Errors
    /// As [`Source::file`].
    pub(super) fn file_by(
        &self,
        way: &mut Option<DirCache>,
        path: &RelPath,
        mask: &Mask,
        issued: Instant,
    ) -> io::Result<Arc<SourceFile>> {
        self.shared_or(path, issued, || self.open_file(self.find(way, path)?, path, mask))
    }

    fn open_file(&self, dir: BorrowedFd<'_>, path: &RelPath, mask: &Mask) -> io::Result<SourceFile> {
        let name = self.name(path);
        let file = self.root().open_in(dir, path, name)?;
        SourceFile::open(file, name, mask, (self.is_shared(), &self.rooms))
    }

    fn shared_or(
        &self,
        path: &RelPath,
        issued: Instant,
        open: impl FnOnce() -> io::Result<SourceFile>,
    ) -> io::Result<Arc<SourceFile>> {
        if !self.is_shared() {
            return open().map(Arc::new);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = kept.get(path, issued) {
            return Ok(file);
        }
        let file = Arc::new(open()?);
        kept.add(path, &file);
        Ok(file)
    }

    /// Removes what stands at a path and is no directory, if it is still what `seen` says and nobody has it open for
    /// writing. Where another name of it was removed (`parted`), its change time says nothing.
    ///
    /// # Errors
    /// What unlink(2) says.
    pub(super) fn remove(&self, path: &RelPath, seen: &Entry, parted: bool) -> io::Result<Removal> {
        let root = self.root();
        let parent = root.parent(path)?;
        let is_same = |now: &Entry| {
            let (mut now, seen) = (now.version(), seen.version());
            now.ctime = if parted { seen.ctime } else { now.ctime };
            now == seen
        };
        if seen.attrs.meta.kind == Kind::File {
            let file = root.open_in(parent.fd.as_fd(), path, self.name(path))?;
            if crate::disk::writers(file.as_fd()) == crate::disk::Writers::Some {
                return Ok(Removal::Changed);
            }
        }
        let now = read_entry(parent.fd.as_fd(), self.name(path), &Mask::nothing())?;
        if !now.is_some_and(|now| now.attrs.meta.kind == seen.attrs.meta.kind && is_same(&now)) {
            return Ok(Removal::Changed);
        }
        rustix::fs::unlinkat(&parent.fd, self.name(path), AtFlags::empty())?;
        Ok(Removal::Done)
    }

    /// Says that a target is being sent to, until the reader is dropped.
    pub(super) fn reader(self: &Arc<Self>) -> Reader {
        self.readers.fetch_add(1, Ordering::AcqRel);
        Reader(Arc::clone(self))
    }

    /// Gives up what was read long ago: a file that is removed is to be gone.
    pub(super) fn forget_old(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).forget_old();
    }

    /// Gives up what was read for targets that may come yet, and the room for more.
    fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = ReadCache::default();
        self.rooms.clear();
    }
}

/// Whether an error says that a path does not exist.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

#[cfg(test)]
mod tests;
