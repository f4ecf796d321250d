//! A held root directory and the resolution of paths beneath it.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::follow::Follow;
use super::hiding::Hiding;
use super::host::boot_id;
use crate::tree::{FileId, RelPath};

/// Longest path handed to the kernel in one call, in bytes; `PATH_MAX` is 4,096 with the NUL.
const CHUNK_LEN_MAX: usize = 4000;

/// Most ancestors of a root that are looked at.
const ANCESTORS_MAX: usize = 256;

/// A directory that is held open, beneath which everything happens.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    openat2: AtomicBool,
    /// What the tree is made of, the first ones first; none where it is the directory alone.
    pub(super) layers: Vec<Layer>,
    /// What of the layers is left out.
    pub(super) hiding: Hiding,
    /// Which symlinks stand for what they lead to; none of them if `None`.
    pub(super) follow: Option<Follow>,
}

/// One of several sources that are one tree: a directory, or some of what it holds.
#[derive(Debug)]
pub struct Layer {
    pub(super) root: Root,
    pub(super) only: Option<Only>,
}

/// What a layer has, where that is not all.
#[derive(Debug, Default)]
pub(super) struct Only {
    pub named: HashSet<RelPath>,
    /// The directories on the way there.
    pub above: HashSet<RelPath>,
}

/// The directory that holds a path, and the path's last component.
#[derive(Debug)]
pub struct Parent<'a> {
    /// The directory, opened with `O_PATH`.
    pub fd: OwnedFd,
    /// The name in it.
    pub name: &'a [u8],
}

impl Root {
    /// Opens the directory at `path`, following symlinks on the way: the root is the user's word.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::from_fd(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Takes over an open directory.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self {
            fd,
            openat2: AtomicBool::new(true),
            layers: Vec::new(),
            hiding: Hiding::default(),
            follow: None,
        }
    }

    /// Makes every resolution walk component by component, as on a kernel older than 5.6.
    pub fn without_openat2(self) -> Self {
        self.openat2.store(false, Ordering::Relaxed);
        self
    }

    /// Returns which inode the root is.
    ///
    /// # Errors
    /// What statx(2) says.
    pub fn id(&self) -> io::Result<FileId> {
        id_of(self.fd.as_fd())
    }

    /// Opens the directory at `path` for reading its entries.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`, …; `ELOOP` or `EXDEV` where a symlink stands in the way.
    pub fn dir(&self, path: &RelPath) -> io::Result<OwnedFd> {
        self.first(path, |root| root.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY))
    }

    /// Opens the directory at `path` as a place for `*at` calls only, which needs no read permission.
    ///
    /// # Errors
    /// As [`Root::dir`].
    pub fn place(&self, path: &RelPath) -> io::Result<OwnedFd> {
        self.first(path, |root| root.resolve(path, OFlags::PATH | OFlags::DIRECTORY))
    }

    /// Opens the directory that holds `path`.
    ///
    /// # Errors
    /// As [`Root::dir`]; `EINVAL` for the root itself, which nothing here holds.
    pub fn parent<'a>(&self, path: &'a RelPath) -> io::Result<Parent<'a>> {
        let parent = path.parent().ok_or(Errno::INVAL)?;
        let place = |root: &Self| root.resolve(&parent, OFlags::PATH | OFlags::DIRECTORY);
        let fd = if self.layers.is_empty() { place(self)? } else { self.holding(path, place)? };
        Ok(Parent { fd, name: path.name() })
    }

    fn resolve(&self, path: &RelPath, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Some(follow) = self.follow.as_ref().filter(|_| !path.is_root()) {
            return follow.resolve(self.fd.as_fd(), path, flags);
        }
        if path.is_root() {
            return Ok(rustix::fs::openat(&self.fd, c".", flags, Mode::empty())?);
        }
        if self.openat2.load(Ordering::Relaxed) {
            match resolve_chunks(self.fd.as_fd(), path.as_bytes(), flags) {
                Err(Errno::NOSYS) => self.openat2.store(false, Ordering::Relaxed),
                other => return Ok(other?),
            }
        }
        Ok(resolve_components(self.fd.as_fd(), path, flags)?)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn openat2(at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(at, path, flags, Mode::empty(), resolve) {
            // A rename anywhere on the host while a ".." could not be judged safe: try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn resolve_chunks(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    let mut rest = path;
    loop {
        let at = held.as_ref().map_or(root, AsFd::as_fd);
        if rest.len() <= CHUNK_LEN_MAX {
            return openat2(at, rest, flags);
        }
        let cut = rest[..CHUNK_LEN_MAX].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let next = openat2(at, &rest[..cut], step)?;
        rest = &rest[cut + 1..];
        held = Some(next);
    }
}

fn resolve_components(root: BorrowedFd<'_>, path: &RelPath, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut names = path.components().peekable();
    let mut held: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let at = held.as_ref().map_or(root, AsFd::as_fd);
        let step = if names.peek().is_some() {
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW
        } else {
            flags
        };
        held = Some(rustix::fs::openat(at, name, step, Mode::empty())?);
    }
    held.ok_or(Errno::INVAL)
}

/// Returns which inode `fd` is.
pub(crate) fn id_of(fd: BorrowedFd<'_>) -> io::Result<FileId> {
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
    Ok(FileId { dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), ino: stat.stx_ino })
}

/// Returns where a directory stands on this host: the running kernel's boot id, and the inodes of the
/// directory and its ancestors up to `/`.
///
/// # Errors
/// What opening the directory says.
pub fn place(path: &Path) -> io::Result<(String, Vec<FileId>)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut fd = rustix::fs::open(path, flags, Mode::empty())?;
    let mut lineage = vec![id_of(fd.as_fd())?];
    while lineage.len() < ANCESTORS_MAX {
        fd = rustix::fs::openat(&fd, c"..", flags, Mode::empty())?;
        let id = id_of(fd.as_fd())?;
        if lineage.last() == Some(&id) {
            break;
        }
        lineage.push(id);
    }
    Ok((boot_id(), lineage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    #[test]
    fn a_symlink_in_the_way_is_refused_with_and_without_openat2() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/d/e")).unwrap();
        fs::create_dir_all(dir.path().join("outside/e")).unwrap();
        symlink("../outside", dir.path().join("root/out")).unwrap();
        symlink("d", dir.path().join("root/in")).unwrap();
        let modern = Root::open(&dir.path().join("root")).unwrap();
        let old = Root::open(&dir.path().join("root")).unwrap().without_openat2();
        for root in [modern, old] {
            assert!(root.dir(&path("d/e")).is_ok());
            for bad in ["out", "out/e", "in", "in/e"] {
                assert!(root.dir(&path(bad)).is_err(), "{bad}");
                assert!(root.place(&path(bad)).is_err(), "{bad}");
            }
            assert_eq!(root.dir(&path("none/x")).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_path_beyond_the_kernel_limit_is_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let modern = Root::open(dir.path()).unwrap();
        let old = Root::open(dir.path()).unwrap().without_openat2();
        let name = vec![b'x'; 200];
        let mut deep = RelPath::root();
        for _ in 0..40 {
            let at = modern.place(&deep).unwrap();
            rustix::fs::mkdirat(&at, name.as_slice(), Mode::from(0o755)).unwrap();
            deep = deep.join(&name);
        }
        assert!(deep.as_bytes().len() > 8000);
        let a = id_of(modern.dir(&deep).unwrap().as_fd()).unwrap();
        let b = id_of(old.dir(&deep).unwrap().as_fd()).unwrap();
        assert_eq!(a, b);
        let mut path = deep;
        while let Some(parent) = path.parent() {
            let at = modern.place(&parent).unwrap();
            rustix::fs::unlinkat(&at, path.name(), AtFlags::REMOVEDIR).unwrap();
            path = parent;
        }
    }
}
