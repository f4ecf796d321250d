//! Directories beside the root that may hold what it lacks: `--link-dest` and its kin.
//!
//! **Invariants:** nothing in them is ever changed but the number of a file's names; under a root that is the
//! administrator's own they lie in it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::apply::{Applied, Applier};
use super::install::{Undone, look, temp_name};
use super::sparing::Comes;
use super::streams::Stream;
use crate::disk::Root;
use crate::error::errno_of;
use crate::protocol::{Expect, Hello, Refusal, Why};
use crate::tree::{Attrs, Kind, RelPath, quote};

/// The directories, in their order; `None` for one that is missing.
#[derive(Debug, Clone, Default)]
pub(super) struct Besides(Vec<Option<Arc<Root>>>);

impl Besides {
    /// Opens the directories that a sender asks for. `stands_for`: the path of a root that a dry run does not make.
    ///
    /// # Errors
    /// [`Refusal::Beside`].
    pub fn open(
        root: &Root,
        hello: &Hello,
        (is_own, stands_for): (bool, Option<&Path>),
    ) -> Result<Self, Refusal> {
        let open = |dir: &serde_bytes::ByteBuf| {
            let opened = match stands_for {
                _ if is_own => within(root, dir),
                Some(path) => Root::open(&plain(&path.join(OsStr::from_bytes(dir)))),
                None => seen_from(root.as_fd(), dir),
            };
            match opened {
                Ok(dir) => Ok(Some(Arc::new(dir))),
                Err(error) if matches!(errno_of(&error), libc::ENOENT | libc::ENOTDIR) => Ok(None),
                Err(error) => Err(Refusal::Beside { path: quote(dir), errno: errno_of(&error) }),
            }
        };
        hello.beside.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Returns one of them.
    pub fn get(&self, which: u8) -> Option<&Arc<Root>> {
        self.0.get(usize::from(which))?.as_ref()
    }

    /// Returns the root and those that are there.
    pub fn with<'a>(&'a self, root: &'a Root) -> Vec<BorrowedFd<'a>> {
        std::iter::once(root)
            .chain(self.0.iter().flatten().map(|dir| &**dir))
            .map(|dir| dir.as_fd())
            .collect()
    }
}

/// Opens a directory as the root's own side sees it.
fn seen_from(root: BorrowedFd<'_>, dir: &[u8]) -> io::Result<Root> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Root::from_fd(rustix::fs::openat(root, dir, flags, Mode::empty())?))
}

/// Opens a directory that must lie in the root.
fn within(root: &Root, dir: &[u8]) -> io::Result<Root> {
    let outside = || io::Error::from_raw_os_error(libc::EXDEV);
    let mut names = dir.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    if dir.starts_with(b"/") || names.clone().any(|name| name == b"..") {
        return Err(outside());
    }
    let path = names
        .try_fold(RelPath::root(), |path, name| RelPath::new(name).map(|name| path.join(name.as_bytes())));
    root.dir(&path.map_err(|_| outside())?).map(Root::from_fd)
}

/// Takes `..` off a path whose directory is not there.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, component| {
        match component {
            Component::ParentDir if plain.file_name().is_some() => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
        plain
    })
}

impl Applier {
    /// Makes what is missing of what a directory beside the root holds.
    pub(super) fn borrow(
        &mut self,
        path: &RelPath,
        (which, link): (u8, bool),
        attrs: &Attrs,
        expect: &Expect,
    ) -> Applied {
        // Whatever stops it: the content itself comes next.
        let torn = |_| Undone::Why(Why::Torn);
        let Some(beside) = self.besides.get(which).map(Arc::clone) else {
            return Err(Undone::Why(Why::Torn));
        };
        let from = beside.parent(path).map_err(torn)?;
        let there = look(from.fd.as_fd(), from.name)?.filter(|there| self.fits(there, expect));
        let Some(there) = there.filter(|there| there.attrs.meta.kind == attrs.meta.kind) else {
            return Err(Undone::Why(Why::Torn));
        };
        self.policy.may_make(attrs.meta.kind)?;
        let parent = self.root.parent(path).map_err(Undone::parent)?;
        let dir = parent.fd.as_fd();
        if link {
            let temp = temp_name(self.tag);
            match rustix::fs::linkat(&from.fd, from.name, dir, temp.as_slice(), AtFlags::empty()) {
                Ok(()) => {
                    let done = self.install((dir, &temp, path), false, &Comes::Other);
                    let _ = rustix::fs::unlinkat(dir, temp.as_slice(), AtFlags::empty());
                    return done;
                }
                // Another filesystem, or a file that has as many names as it can have: a copy does as well.
                Err(_) if there.attrs.meta.kind == Kind::File => {}
                Err(_) => return Err(Undone::Why(Why::Torn)),
            }
        }
        if there.attrs.meta.kind != Kind::File {
            return Err(Undone::Why(Why::Torn));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let basis = rustix::fs::openat(&from.fd, from.name, flags, Mode::empty());
        let basis = basis.map_err(|error| torn(error.into()))?;
        let size = there.attrs.meta.size;
        let mut stream = Stream::open(&self.root, path.clone(), Some(basis), self.tag)?;
        let room = self.policy.room_for(stream.file.as_fd(), size);
        let copied = room.and_then(|()| stream.copy(0, size)).and_then(|()| {
            let hash = stream.hash();
            self.close(&mut stream, attrs, &hash, false)
        });
        if copied.is_err() {
            stream.abandon();
        }
        copied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_beside_an_administrators_root_must_lie_in_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["root/old", "day"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("../day", dir.path().join("root/out")).unwrap();
        let root = Root::open(&dir.path().join("root")).unwrap();
        let day = dir.path().join("day").into_os_string().into_encoded_bytes();
        assert!(within(&root, b"old").is_ok() && within(&root, b"./old/").is_ok());
        for asked in [&b"../day"[..], b"old/../../day", b"out", &day] {
            assert!(within(&root, asked).is_err());
        }
        assert!(seen_from(root.as_fd(), b"../day").is_ok() && seen_from(root.as_fd(), &day).is_ok());
        assert_eq!(plain(Path::new("/b/new/../../a/./c")), Path::new("/a/c"));
    }
}
