//! Symlinks of a source that stand for what they lead to.
//!
//! **Invariants:** no symlink is followed that the rules do not name; with a top nothing outside of it is opened,
//! whatever a symlink says and whoever changes it meanwhile (`RESOLVE_BENEATH`); a directory that holds itself is an
//! error, not an endless tree. **Errors of its own:** `ENOLINK` for a symlink that leads nowhere, `EMLINK` for one that
//! leads back up or in a circle, `EXDEV` for one that leads out of the top.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::tree::{LinkRule, LinkRules, RelPath};

/// Which symlinks are followed, and how far.
#[derive(Debug, Clone)]
pub(super) struct Follow {
    pub rules: LinkRules,
    /// Nothing is opened outside of it.
    pub top: Option<Arc<OwnedFd>>,
}

impl Follow {
    /// Opens what a symlink leads to.
    pub(super) fn open(&self, dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let opened = match &self.top {
            None => rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC, Mode::empty()),
            Some(top) => open_beneath(top.as_fd(), dir, name, flags | OFlags::CLOEXEC),
        };
        opened.map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Errno::from_raw_os_error(libc::ENOLINK).into(),
            Errno::LOOP => Errno::MLINK.into(),
            other => other.into(),
        })
    }

    /// Opens a path beneath a directory, step by step.
    pub(super) fn resolve(&self, root: BorrowedFd<'_>, path: &RelPath, flags: OFlags) -> io::Result<OwnedFd> {
        let mut held: Option<OwnedFd> = None;
        let (mut so_far, mut names) = (RelPath::root(), path.components().peekable());
        while let Some(name) = names.next() {
            let at = held.as_ref().map_or(root, AsFd::as_fd);
            so_far = so_far.join(name);
            let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let step = if names.peek().is_some() { step } else { flags };
            held = Some(match rustix::fs::openat(at, name, step, Mode::empty()) {
                // So says a symlink where a directory is asked for, and what is neither.
                Err(failed @ (Errno::NOTDIR | Errno::LOOP)) => {
                    let text = rustix::fs::readlinkat(at, name, Vec::new()).map_err(|_| failed)?;
                    if self.rules.rule(&so_far, text.as_bytes()) == LinkRule::Keep {
                        return Err(failed.into());
                    }
                    self.open(at, name, step & !OFlags::NOFOLLOW)?
                }
                opened => opened?,
            });
        }
        held.ok_or_else(|| Errno::INVAL.into())
    }
}

/// Opens what a symlink leads to, beneath `top` alone. Where its directory stands there, the kernel says.
fn open_beneath(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let at = |fd: BorrowedFd<'_>| -> Result<PathBuf, Errno> {
        let place = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
        Ok(PathBuf::from(OsStr::from_bytes(place.as_bytes())))
    };
    let (above, dir) = (at(top)?, at(dir)?);
    let below = dir.strip_prefix(&above).map_err(|_| Errno::XDEV)?;
    let path = Path::new(below).join(OsStr::from_bytes(name));
    loop {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(top, &path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
}
