//! Directories beside the root: those that may hold what it lacks, the one that takes what it loses, and the one where
//! the session's state is, if that is not in the root.
//!
//! **Invariants:** under a root that is the administrator's own they lie in it; of those that may hold something nothing is
//! ever changed but the number of a file's names.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::disk::{Handle, Root, apply_attrs, memory_place, memory_place_outside, read_entry};
use crate::error::errno_of;
use crate::protocol::{Errand, Hello, Refusal, StateMode};
use crate::tree::{Mask, RelPath, quote};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    pub besides: Besides,
    pub backups: Option<Backups>,
    pub memory: MemoryAt,
}

/// Where what is remembered of the root is kept.
#[derive(Debug, Default)]
pub(super) struct MemoryAt {
    /// As [`memory_place`] says.
    pub place: PathBuf,
    /// The directory, if it is outside.
    dir: Option<OwnedFd>,
    /// Why it is in the root although nothing new was to appear there.
    pub lack: Option<String>,
}

impl MemoryAt {
    /// Finds the place, and makes it outside of the root where the sender asks for that and changes the tree.
    fn find(root: &Root, hello: &Hello) -> Self {
        let makes = hello.outside
            && !hello.dry_run
            && hello.state == StateMode::Keep
            && hello.terms.errand == Errand::Mirror;
        let (place, lack) = match makes.then(|| memory_place_outside(root)) {
            Some(Ok(place)) => (place, None),
            Some(Err(error)) => {
                let why = crate::error::io_text(&error);
                let lack = format!("its state outside of the directory ({why}, so it is in .speil/)");
                (memory_place(root), Some(lack))
            }
            None => (memory_place(root), None),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = place.is_absolute().then(|| rustix::fs::open(&place, flags, Mode::empty()));
        Self { dir: dir.and_then(Result::ok), place, lack }
    }
}

impl Elsewhere {
    /// Opens the directories that a sender asks for. `stands_for`: the path of a root that a dry run does not make.
    ///
    /// # Errors
    /// [`Refusal::Beside`].
    pub fn open(
        root: &Root,
        hello: &Hello,
        (is_own, stands_for): (bool, Option<&Path>),
    ) -> Result<Self, Refusal> {
        let besides = Besides::open(root, hello, (is_own, stands_for))?;
        let backups = Backups::open(root, hello, is_own)?;
        Ok(Self { besides, backups, memory: MemoryAt::find(root, hello) })
    }

    /// Returns the root and every directory that is there.
    pub fn with<'a>(&'a self, root: &'a Root) -> Vec<BorrowedFd<'a>> {
        let there = self.besides.0.iter().flatten().map(|dir| &**dir);
        let kept = self.backups.as_ref().and_then(|backups| backups.dir.as_ref());
        let dirs = std::iter::once(root).chain(kept).chain(there).map(|dir| dir.as_fd());
        dirs.chain(self.memory.dir.as_ref().map(|dir| dir.as_fd())).collect()
    }
}

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

/// Where backups of a session go.
#[derive(Debug)]
pub(super) struct Backups {
    dir: Option<Root>,
    suffix: Vec<u8>,
}

impl Backups {
    /// Opens the place that a sender asks for, and makes its directory; `None` if it asks for none.
    ///
    /// # Errors
    /// [`Refusal::Beside`].
    pub fn open(root: &Root, hello: &Hello, is_own: bool) -> Result<Option<Self>, Refusal> {
        let Some(asked) = hello.backup.as_ref().filter(|_| !hello.dry_run) else { return Ok(None) };
        let suffix = asked.suffix.to_vec();
        let Some(dir) = &asked.dir else { return Ok(Some(Self { dir: None, suffix })) };
        let opened = if is_own { within(root, dir) } else { made(root.as_fd(), dir) };
        let refusal = |error: io::Error| Refusal::Beside { path: quote(dir), errno: errno_of(&error) };
        let opened = opened.map_err(refusal)?;
        // The new version would take the name of the old one.
        if suffix.is_empty() && opened.id().ok().zip(root.id().ok()).is_some_and(|(kept, root)| kept == root)
        {
            return Err(Refusal::Beside { path: quote(dir), errno: libc::EINVAL });
        }
        Ok(Some(Self { dir: Some(opened), suffix }))
    }

    /// Returns the directory and the name under which what was at a path is kept. `dir` holds it now.
    pub fn place(&self, root: &Root, dir: BorrowedFd<'_>, path: &RelPath) -> io::Result<(OwnedFd, Vec<u8>)> {
        let name = [path.name(), &self.suffix].concat();
        let Some(kept) = &self.dir else { return Ok((dir.try_clone_to_owned()?, name)) };
        let parent = path.parent().unwrap_or_default();
        match kept.place(&parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            there => return Ok((there?, name)),
        }
        let mut above: Vec<RelPath> = std::iter::successors(Some(parent.clone()), RelPath::parent).collect();
        above.reverse();
        for path in above.iter().filter(|path| !path.is_root()) {
            let holder = kept.parent(path)?;
            match rustix::fs::mkdirat(&holder.fd, holder.name, Mode::from(0o700)) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            }
            // As the directory that it came from.
            let from = root.parent(path)?;
            let mask = Mask { perms: true, owner: true, group: true, acls: true, ..Mask::nothing() };
            if let Some(like) = read_entry(from.fd.as_fd(), from.name, &mask)? {
                let _ = apply_attrs(&Handle::open(holder.fd.as_fd(), holder.name)?, &like.attrs, &mask);
            }
        }
        Ok((kept.place(&parent)?, name))
    }
}

/// Opens a directory as it is seen from another, and makes what is missing of it.
fn made(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Root> {
    let ends = (1..=path.len()).filter(|at| path.get(*at).is_none_or(|byte| *byte == b'/'));
    for end in ends {
        match rustix::fs::mkdirat(root, path.get(..end).unwrap_or_default(), Mode::from(0o777)) {
            Ok(()) | Err(Errno::EXIST | Errno::ISDIR) => {}
            // One that is there and may not be written to, above it, is no hindrance.
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    seen_from(root, path)
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
