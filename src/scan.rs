//! The walker: what a subtree holds, folded into digests on the way.
//!
//! **Purpose:** one walk gives the digest of every directory, so that two equal trees are proved
//! equal by 32 bytes and unequal ones are compared only where they differ.
//! **In → Out:** a held [`Root`], a top, a mask and a filter; a [`Scan`], or one directory's entries.
//! **Invariants:** fd-relative throughout, no symlink is followed; state and temporary files of
//! speil's own are never entries; a name that could not be read is reported, not left out silently.
//! **Not here:** comparing (`reconcile`), what to do about a difference.

mod entries;

mod doubt;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use entries::{Entries, Found, is_hollow};

use crate::disk::{Root, hash_zeros, hole_end, is_sparse, open_in, read_entry, read_some};
use crate::error::errno_of;
use crate::filter::Filter;
use crate::monitor::Counts;
use crate::tree::{
    Attrs, Digest, DirDigest, Entry, FileId, Kind, LinkDigest, LinkRules, Mask, RelPath, TEMP_PREFIX,
};

pub use crate::tree::STATE_DIR;
pub use doubt::{Doubt, Doubts};

/// The niceness of a thread that gives way, at least.
const NICENESS: i32 = 10;

/// Bytes read at once for a content hash.
const READ_LEN: usize = 256 * 1024;
/// Entries after which a walk tells how far it is, besides after each directory.
const PROGRESS_EVERY: u64 = 4096;
/// Bytes of a hole after which a content hash asks whether it is to go on.
const HOLE_STEP: u64 = 256 << 20;

/// Which role's tree is walked: a filter hides entries of a source, and protects those of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The source.
    Source,
    /// A target, for a sender that is told of nothing that stays there.
    Target,
    /// A target, for a sender that is told of it: what a filter protects is listed, though it is no part of
    /// digests, and so is what this mirror does not keep, such as symlinks without `-l`.
    WholeTarget,
}

/// What a walk takes in.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which properties count.
    pub mask: Mask,
    /// Which entries take part.
    pub filter: Arc<Filter>,
    /// Whose tree it is.
    pub role: Role,
    /// Directories on other filesystems are not entered.
    pub one_file_system: bool,
    /// Directories are entered at all.
    pub recursive: bool,
    /// Contents are hashed.
    pub checksum: bool,
    /// Which symlinks are left out.
    pub links: LinkRules,
    /// Directories are left out in which there is nothing but such directories.
    pub prune: bool,
}

/// What the walk's caller adds to it.
pub trait View: Sync {
    /// Turns what an entry is into what it is to be compared as: owners as the target numbers them,
    /// changed modes.
    fn adjust(&self, _attrs: &mut Attrs) {}
    /// Whether the names of a file are wanted.
    fn seeks(&self, _id: FileId) -> bool {
        false
    }
    /// Returns what the walk is to remember of an entry that is no directory.
    fn mark(&self, _entry: &Entry) -> Option<u64> {
        None
    }
    /// Hears of a temporary file of speil's own, left behind or in use.
    fn temporary(&self, _dir: BorrowedFd<'_>, _name: &[u8]) {}
    /// Hears how many entries were walked so far; `false` ends the walk early.
    fn progress(&self, _entries: u64) -> bool {
        true
    }
}

/// A view that adds nothing.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl View for Plain {}

/// The result of a walk.
#[derive(Debug, Default)]
pub struct Scan {
    /// The top itself, with its digest if it is a directory; `None` if it does not exist.
    pub top: Option<Entry>,
    /// Digest of every directory below the top, and the top's own.
    pub digests: HashMap<RelPath, Digest>,
    /// Names of files that have several.
    pub links: LinkDigest,
    /// The files that the view seeks, and their names.
    pub sought: Vec<(FileId, RelPath)>,
    /// What the view marked, in the order of the walk.
    pub marks: Vec<u64>,
    /// Where in it the marks of each directory are, with everything below it; none where it has none.
    pub marked: HashMap<RelPath, std::ops::Range<usize>>,
    /// Entries below the top.
    pub entries: u64,
    /// The same by type, with those that are not kept.
    pub kinds: Counts,
    /// Bytes of the regular files among these, and of the symlinks, as rsync counts.
    pub bytes: u64,
    /// Directories below the top that lie on another filesystem than what holds them.
    pub mounts: Vec<RelPath>,
    /// What could not be read, by errno.
    pub problems: Vec<(RelPath, i32)>,
    /// The walk was ended early by its view.
    pub ended: bool,
    /// What may hold something else than its size and time say.
    pub doubts: Doubts,
}

impl Scan {
    /// Takes an entry into the figures.
    fn count(&mut self, entry: &Entry) {
        let kind = entry.attrs.meta.kind;
        self.kinds.add(kind);
        self.bytes += match kind {
            Kind::Dir => 0,
            Kind::Symlink => entry.attrs.symlink.len() as u64,
            _ => entry.attrs.meta.size,
        };
    }
}

/// Directories within each other that are walked; a walk holds a descriptor and stack for each.
pub const DEPTH_MAX: usize = 2048;

/// The entries of one directory.
#[derive(Debug, Default)]
pub struct DirEntries {
    /// Entries in the order of their names.
    pub entries: Vec<Entry>,
    /// Names that could not be read, by errno. Nothing may be concluded about them.
    pub problems: Vec<(Vec<u8>, i32)>,
    /// Names of entries of types that are not kept: what a target has under them stays.
    pub not_kept: Vec<Vec<u8>>,
}

/// Whether `name` is that of a temporary file of speil's own.
pub fn is_temporary(name: &[u8]) -> bool {
    name.strip_prefix(TEMP_PREFIX).is_some_and(|hex| hex.len() == 16 && hex.iter().all(u8::is_ascii_hexdigit))
}

/// Whether a path is speil's own and no part of any mirror.
pub fn is_own(path: &RelPath) -> bool {
    path.components().next() == Some(STATE_DIR) || path.components().any(is_temporary)
}

/// Has this thread give way to those that carry live changes: what is compared in the background can wait. A niceness
/// is a thread's own on Linux (setpriority(2)), and the disk's scheduler goes by it as well.
pub fn give_way() {
    let _ = rustix::process::getpriority_process(None)
        .and_then(|now| rustix::process::setpriority_process(None, now.max(NICENESS)));
}

/// Walks the subtree at `top`.
pub fn walk(root: &Root, top: &RelPath, options: &Options, view: &dyn View) -> Scan {
    walk_doubting(root, top, options, (view, None))
}

/// The same; what is doubted is told.
pub fn walk_doubting(
    root: &Root,
    top: &RelPath,
    options: &Options,
    (view, doubt): (&dyn View, Option<Doubt>),
) -> Scan {
    let scan = Scan { doubts: Doubts::new(doubt), ..Scan::default() };
    let mut walk = Walk { root, homes: Vec::new(), devs: Vec::new(), options, view, scan };
    match walk.top(top) {
        Ok(entry) => walk.scan.top = entry,
        Err(error) => walk.scan.problems.push((top.clone(), errno_of(&error))),
    }
    walk.scan
}

/// Whether nothing below an entry belongs to the tree: a directory on another filesystem than the root, where
/// the walk stays on one. The directory itself does.
pub fn stops_at(root: &Root, options: &Options, entry: &Entry) -> bool {
    options.one_file_system
        && entry.attrs.meta.kind == Kind::Dir
        && root.homes().is_ok_and(|homes| !homes.contains(&entry.id.dev))
}

/// Lists one directory, without digests.
///
/// # Errors
/// What opening or reading the directory says. Consequence: nothing is known of what is below.
pub fn list(root: &Root, dir: &RelPath, options: &Options, view: &dyn View) -> io::Result<DirEntries> {
    let mut all = DirEntries::default();
    for found in entries(root, dir, options, view)? {
        match found {
            Found::Entry(entry) => all.entries.push(entry),
            Found::Unread(name, errno) => all.problems.push((name, errno)),
            Found::NotKept(entry) => all.not_kept.push(entry.name),
        }
    }
    Ok(all)
}

/// As [`list`], one entry after the other.
///
/// # Errors
/// As [`list`].
pub fn entries<'a>(
    root: &'a Root,
    dir: &'a RelPath,
    options: &'a Options,
    view: &'a dyn View,
) -> io::Result<Entries<'a, OwnedFd>> {
    Entries::of(root, root.parts(dir)?, dir, (options, view, true))
}

/// Returns BLAKE3 of the regular file at `path`.
///
/// # Errors
/// What opening and reading it say.
pub fn hash(root: &Root, path: &RelPath) -> io::Result<[u8; 32]> {
    hash_open(&open_file(root, path)?, |_, _| Ok(()))
}

/// Returns BLAKE3 of the regular file of this name in the directory that holds `path`.
///
/// # Errors
/// What opening and reading it say.
pub fn hash_in(root: &Root, path: &RelPath, (dir, name): (BorrowedFd<'_>, &[u8])) -> io::Result<[u8; 32]> {
    hash_file(root, path, (dir, name))
}

/// Returns BLAKE3 of the regular file at `path`, read from the disk at no more than `rate` bytes a second;
/// what is read does not stay in the page cache. `stop` is asked now and then.
///
/// # Errors
/// What opening and reading it say; `ECANCELED` if it was to stop.
pub fn prove(root: &Root, path: &RelPath, rate: u64, stop: &dyn Fn() -> bool) -> io::Result<[u8; 32]> {
    use rustix::fs::Advice;
    let file = open_file(root, path)?;
    // What the cache holds says nothing of what the disk holds.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    let began = Instant::now();
    hash_open(&file, |at, read| {
        let _ = rustix::fs::fadvise(&file, 0, std::num::NonZeroU64::new(at), Advice::DontNeed);
        let due = Duration::from_secs_f64(read as f64 / rate.max(1) as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()).min(Duration::from_secs(1)));
        if stop() { Err(rustix::io::Errno::CANCELED.into()) } else { Ok(()) }
    })
}

fn hidden(options: &Options, path: &RelPath, dir: bool) -> bool {
    match options.role {
        Role::Source => options.filter.excludes_entry(path, dir),
        // What the source shows is compared even where it may not be deleted.
        Role::Target | Role::WholeTarget => {
            options.filter.excludes_entry(path, dir) && options.filter.protects_entry(path, dir)
        }
    }
}

fn hash_file(root: &Root, path: &RelPath, (dir, name): (BorrowedFd<'_>, &[u8])) -> io::Result<[u8; 32]> {
    hash_open(&root.open_in(dir, path, name)?, |_, _| Ok(()))
}

/// Opens the regular file at `path`; what is none is not found.
fn open_file(root: &Root, path: &RelPath) -> io::Result<OwnedFd> {
    let parent = root.parent(path)?;
    match root.entry_in(parent.fd.as_fd(), path, parent.name, &Mask::nothing())? {
        Some(entry) if entry.attrs.meta.kind == Kind::File => {
            root.open_in(parent.fd.as_fd(), path, parent.name)
        }
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Returns BLAKE3 of an open file; `each` hears up to where that is, and how many bytes were read for it,
/// and may end it. Holes are not read.
fn hash_open(file: &OwnedFd, mut each: impl FnMut(u64, u64) -> io::Result<()>) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_LEN];
    let (mut at, mut read) = (0, 0);
    let sparse = is_sparse(file)?;
    loop {
        if let Some(end) = sparse.then(|| hole_end(file, at)).flatten() {
            while at < end {
                let step = (end - at).min(HOLE_STEP);
                hash_zeros(&mut hasher, step);
                at += step;
                each(at, read)?;
            }
        }
        let len = read_some(file, &mut buffer, at)?;
        if len == 0 {
            return Ok(*hasher.finalize().as_bytes());
        }
        hasher.update(&buffer[..len]);
        (at, read) = (at + len as u64, read + len as u64);
        each(at, read)?;
    }
}

/// The directories that are one, and the names of each that count.
type Parts<'a> = Vec<(BorrowedFd<'a>, Option<BTreeSet<Vec<u8>>>)>;

struct Walk<'a> {
    root: &'a Root,
    /// The filesystems that a walk stays on.
    homes: Vec<u64>,
    /// The filesystems of the directories that are being walked, from the top down.
    devs: Vec<u64>,
    options: &'a Options,
    view: &'a dyn View,
    scan: Scan,
}

impl Walk<'_> {
    fn top(&mut self, top: &RelPath) -> io::Result<Option<Entry>> {
        let root = self.root;
        let entry = if top.is_root() {
            read_entry(root.as_fd(), b"", &self.options.mask)?
        } else {
            match root.parent(top) {
                Ok(parent) => root.entry_in(parent.fd.as_fd(), top, parent.name, &self.options.mask)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => None,
                Err(error) => return Err(error),
            }
        };
        let Some(mut entry) = entry else { return Ok(None) };
        if !top.is_root() && hidden(self.options, top, entry.attrs.meta.kind == Kind::Dir) {
            return Ok(None);
        }
        self.homes = root.homes()?;
        self.view.adjust(&mut entry.attrs);
        if stops_at(root, self.options, &entry) {
            return Ok(Some(entry));
        }
        if entry.attrs.meta.kind == Kind::Dir {
            let parts = root.parts(top)?;
            let parent = if top.is_root() { None } else { root.parent(top).ok() };
            let parent =
                parent.and_then(|at| read_entry(at.fd.as_fd(), b"", &Mask::nothing()).ok().flatten());
            self.scan.doubts.top(parent.as_ref(), &entry);
            self.devs.push(entry.id.dev);
            let parts = parts.iter().map(|(fd, only)| (fd.as_fd(), only.clone())).collect();
            entry.digest = Some(self.dir(parts, top)?);
        } else if self.options.checksum && entry.attrs.meta.kind == Kind::File {
            let parent = root.parent(top)?;
            entry.hash = Some(hash_file(root, top, (parent.fd.as_fd(), parent.name))?);
        } else if entry.attrs.meta.kind == Kind::File {
            self.scan.doubts.look_at_top(root.parent(top)?.fd.as_fd(), top, &entry);
        }
        Ok(Some(entry))
    }

    /// Folds one open directory, or several that are one, and everything below.
    fn dir(&mut self, parts: Parts<'_>, path: &RelPath) -> io::Result<Digest> {
        let dirs: Vec<BorrowedFd<'_>> = parts.iter().map(|(fd, _)| *fd).collect();
        let mut found = Entries::of(self.root, parts, path, (self.options, self.view, false))?;
        self.scan.problems.extend(found.take_shadowed());
        let mut digest = DirDigest::new(self.options.mask);
        let first_mark = self.scan.marks.len();
        while let Some(next) = found.next() {
            let mut entry = match next {
                Found::Entry(entry) => entry,
                Found::Unread(name, errno) => {
                    self.scan.problems.push((path.join(&name), errno));
                    continue;
                }
                Found::NotKept(entry) => {
                    // rsync's figures count what it skips.
                    self.scan.count(&entry);
                    continue;
                }
            };
            self.scan.entries += 1;
            if self.scan.entries.is_multiple_of(PROGRESS_EVERY) {
                self.progress();
            }
            self.scan.count(&entry);
            match entry.attrs.meta.kind {
                Kind::Dir => self.enter(&dirs, path, &mut entry),
                kind => {
                    if let Some(fd) = found.holder() {
                        self.scan.doubts.meet(fd, path, &entry);
                    }
                    self.scan.marks.extend(self.view.mark(&entry));
                    if self.view.seeks(entry.id) {
                        self.scan.sought.push((entry.id, path.join(&entry.name)));
                    }
                    let mask = &self.options.mask;
                    if entry.nlink > 1 && mask.hard_links && mask.carries(kind) {
                        self.scan.links.add(entry.id, path.join(&entry.name));
                    }
                }
            }
            digest.add(&entry);
        }
        self.progress();
        let digest = digest.finish();
        let marked = first_mark..self.scan.marks.len();
        if !marked.is_empty() {
            self.scan.marked.insert(path.clone(), marked);
        }
        self.scan.digests.insert(path.clone(), digest);
        Ok(digest)
    }

    fn progress(&mut self) {
        if !self.view.progress(self.scan.entries) {
            self.scan.ended = true;
        }
    }

    fn enter(&mut self, dirs: &[BorrowedFd<'_>], path: &RelPath, entry: &mut Entry) {
        if !self.options.recursive || self.scan.ended {
            return;
        }
        let below = path.join(&entry.name);
        if self.devs.last() != Some(&entry.id.dev) {
            self.scan.mounts.push(below.clone());
        }
        if self.options.one_file_system && !self.homes.contains(&entry.id.dev) {
            return;
        }
        let children = if self.root.follows() {
            self.root.parts(&below).map(|parts| parts.into_iter().map(|(fd, _)| fd).collect())
        } else {
            open_in(dirs, &entry.name)
        };
        let digest = children.and_then(|children: Vec<OwnedFd>| {
            if self.devs.len() > DEPTH_MAX {
                // Nothing is concluded of what lies below, and nothing there is deleted.
                return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
            }
            self.devs.push(entry.id.dev);
            self.scan.doubts.enter(entry);
            let parts = children.iter().map(|fd| (fd.as_fd(), None)).collect();
            let digest = self.dir(parts, &below);
            self.scan.doubts.leave();
            self.devs.pop();
            digest
        });
        match digest {
            Ok(digest) => entry.digest = Some(digest),
            // Gone since it was listed: the next event or pass sees it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.scan.problems.push((below, errno_of(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use rustix::fs::{Mode, OFlags};

    fn options() -> Options {
        Options {
            mask: Mask::everything(),
            filter: Arc::new(Filter::default()),
            role: Role::Source,
            one_file_system: false,
            recursive: true,
            checksum: false,
            links: LinkRules::default(),
            prune: false,
        }
    }

    #[test]
    fn a_walk_finds_what_walkdir_finds() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..40 {
            let sub = dir.path().join(format!("d{}/e{}", i % 7, i % 3));
            fs::create_dir_all(&sub).unwrap();
            fs::write(sub.join(format!("f{i}")), vec![0; i]).unwrap();
        }
        std::os::unix::fs::symlink("..", dir.path().join("d0/up")).unwrap();
        fs::create_dir(dir.path().join(".speil")).unwrap();
        fs::write(dir.path().join("d1/.speil-0123456789abcdef"), b"x").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let scan = walk(&root, &RelPath::root(), &options(), &Plain);
        let oracle: Vec<_> = walkdir::WalkDir::new(dir.path())
            .min_depth(1)
            .into_iter()
            .filter_entry(|e| !e.file_name().to_string_lossy().starts_with(".speil"))
            .map(Result::unwrap)
            .collect();
        assert_eq!(scan.entries, oracle.len() as u64);
        assert_eq!(scan.kinds.total(), scan.entries);
        let files = oracle.iter().filter(|e| e.file_type().is_file()).count();
        assert_eq!(scan.kinds.files, files as u64);
        let dirs = oracle.iter().filter(|e| e.file_type().is_dir()).count();
        assert_eq!(scan.digests.len(), dirs + 1);
        assert!(scan.problems.is_empty());
    }

    #[test]
    fn a_change_far_below_changes_every_digest_above_it_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        fs::create_dir_all(dir.path().join("a/x")).unwrap();
        fs::write(dir.path().join("a/b/c/f"), b"1").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let before = walk(&root, &RelPath::root(), &options(), &Plain).digests;
        fs::write(dir.path().join("a/b/c/f"), b"22").unwrap();
        let after = walk(&root, &RelPath::root(), &options(), &Plain).digests;
        let changed: Vec<String> = {
            let mut changed: Vec<_> = before.keys().filter(|k| before[*k] != after[*k]).cloned().collect();
            changed.sort();
            changed.iter().map(|p| String::from_utf8(p.as_bytes().to_vec()).unwrap()).collect()
        };
        assert_eq!(changed, ["", "a", "a/b", "a/b/c"]);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_a_problem_and_no_end_of_the_stack() {
        let dir = tempfile::tempdir().unwrap();
        let mut at: std::os::fd::OwnedFd = fs::File::open(dir.path()).unwrap().into();
        for _ in 0..DEPTH_MAX + 10 {
            rustix::fs::mkdirat(&at, "d", Mode::from(0o755)).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        crate::disk::raise_limits();
        let root = Root::open(dir.path()).unwrap();
        let walk = || walk(&root, &RelPath::root(), &options(), &Plain);
        let big = std::thread::Builder::new().stack_size(64 << 20);
        let scan = std::thread::scope(|scope| big.spawn_scoped(scope, walk).unwrap().join().unwrap());
        assert_eq!(scan.entries, DEPTH_MAX as u64 + 1);
        assert!(matches!(scan.problems.as_slice(), [(_, libc::ENAMETOOLONG)]), "{:?}", scan.problems.len());
        // Taken down here: rm -r of the temporary directory recurses as well.
        let up = || std::process::Command::new("rm").arg("-rf").arg(dir.path().join("d")).status();
        assert!(up().unwrap().success());
    }

    #[test]
    fn only_the_exact_form_of_a_temporary_name_is_ours() {
        assert!(is_temporary(b".speil-0123456789abcdef"));
        assert!(!is_temporary(b".speil-0123456789abcdeg"));
        assert!(!is_temporary(b".speil-notes"));
        assert!(is_own(&RelPath::try_from(".speil/state").unwrap()));
        assert!(!is_own(&RelPath::try_from("a/.speil/state").unwrap()));
    }

    #[test]
    fn a_content_hash_is_of_what_a_reader_sees_and_reads_no_hole() {
        use std::os::unix::fs::FileExt;
        const LEN: u64 = 64 << 20;
        let at_end = |len: u64| len - 7;
        for places in [&[][..], &[0], &[30 << 20], &[at_end(LEN)], &[5, 40 << 20, at_end(LEN)]] {
            let file = tempfile::tempfile_in("/dev/shm").unwrap();
            file.set_len(LEN).unwrap();
            let mut content = vec![0; LEN as usize];
            for place in places {
                file.write_all_at(b"content", *place).unwrap();
                content[*place as usize..*place as usize + 7].copy_from_slice(b"content");
            }
            let (file, mut most) = (OwnedFd::from(file), 0);
            let hash = hash_open(&file, |_, read| {
                most = read;
                Ok(())
            });
            assert_eq!(hash.unwrap(), *blake3::hash(&content).as_bytes(), "{places:?}");
            assert!(most <= (places.len() * READ_LEN) as u64, "{places:?}: {most} bytes were read");
        }
    }

    #[test]
    fn a_sparse_file_that_grows_while_it_is_hashed_is_hashed_as_far_as_it_is_read() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(1 << 20).unwrap();
        let (writer, file) = (file.try_clone().unwrap(), OwnedFd::from(file));
        let mut grown = false;
        let hash = hash_open(&file, |_, _| {
            if !std::mem::replace(&mut grown, true) {
                writer.set_len(2 << 20)?;
                writer.write_all_at(b"more", (2 << 20) - 4)?;
            }
            Ok(())
        });
        let mut content = vec![0; 2 << 20];
        content[(2 << 20) - 4..].copy_from_slice(b"more");
        assert_eq!(hash.unwrap(), *blake3::hash(&content).as_bytes());
    }
}
