//! What a backend knows of the root of its tree: what no event of the tree tells.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use crate::error::errno_text;
use crate::tree::{FileId, RelPath};

use super::anchor::Anchor;
use super::mounts::Mounts;
use super::{Problem, dirfd};

/// What is known about the root.
#[derive(Default)]
pub(super) struct Root {
    /// Open while a round lasts, never while idle: it would keep the volume from being unmounted.
    pub fd: Option<Arc<OwnedFd>>,
    /// The path without symlinks, as `/proc` shows it.
    pub real: Vec<u8>,
    /// Why there is none.
    pub absent: Option<Errno>,
    /// Whether the source path may lead elsewhere now.
    pub check: bool,
    /// Whether the user has yet to be told.
    pub stale: bool,
}

impl Root {
    /// Takes in that the source is there, another or the one before; returns it.
    pub(super) fn enter(&mut self, root: OwnedFd, mounts: &mut Mounts) -> Arc<OwnedFd> {
        self.stale |= self.absent.take().is_some();
        self.real = real_path(&root);
        mounts.changes(&self.real);
        let root = Arc::new(root);
        self.fd = Some(Arc::clone(&root));
        root
    }

    /// Takes in that the source path leads to the directory that it led to before, maybe by another way.
    pub(super) fn stay(&mut self, root: OwnedFd, mounts: &mut Mounts) {
        let real = real_path(&root);
        if real != self.real {
            mounts.changes(&real);
            self.real = real;
        }
        self.fd = Some(Arc::new(root));
    }

    /// Takes in that there is none; says whether that is news.
    pub(super) fn lose(&mut self, errno: Errno) -> bool {
        let before = self.absent.replace(errno);
        self.stale |= before != Some(errno);
        before.is_none()
    }

    /// Returns the root for reading, opened for the round if need be. `None` if it cannot be opened or is
    /// not the one of that `id`, which has yet to be looked at.
    pub(super) fn open(&mut self, source: &Path, id: Option<FileId>) -> Option<Arc<OwnedFd>> {
        if let Some(root) = &self.fd {
            return Some(Arc::clone(root));
        }
        let root = dirfd::open_path(source).ok()?;
        if dirfd::id_of(&root).ok() != id {
            self.check = true;
            return None;
        }
        Some(Arc::clone(self.fd.insert(Arc::new(root))))
    }

    /// Whether changes on the way to the root may go unheard.
    pub(super) fn is_unheard(&self, anchor: &Anchor) -> bool {
        !anchor.is_complete() || self.absent.is_some_and(|errno| errno != Errno::NOENT)
    }

    /// Returns what is to be said if there is none.
    pub(super) fn problem(&self) -> Option<Problem> {
        self.absent.map(|errno| Problem {
            path: RelPath::root(),
            text: format!("source: {}; waiting for it", errno_text(errno.raw_os_error())),
            hint: None,
        })
    }
}

/// Returns the path of an open directory without symlinks.
fn real_path(dir: &OwnedFd) -> Vec<u8> {
    rustix::fs::readlink(format!("/proc/self/fd/{}", dir.as_raw_fd()), Vec::new())
        .map(std::ffi::CString::into_bytes)
        .unwrap_or_default()
}
