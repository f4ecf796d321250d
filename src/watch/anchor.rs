//! Where the source path leads, and when that changes.
//!
//! **Purpose:** the source may be removed, made again, renamed, or be reached by a symlink that a deploy
//! switches. Every directory in which a component of the path is looked up is watched for that one name,
//! so that an idle watcher need not look.
//! **Invariants:** a directory is watched before the name is looked up in it: whatever changes the answer
//! of [`Anchor::resolve`] afterwards makes the anchor readable. The ways to all sources share an instance; it
//! is not that of a tree, since a directory can be both in a tree and on the way to it, and what is asked about
//! it is another thing.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify::{ReadFlags, WatchFlags};
use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat, readlinkat};
use rustix::io::Errno;

use crate::tree::FileId;

use super::dirfd;
use super::hub::{self, Instance};
use super::kernel::{Said, Wd};

/// As many symlinks as the kernel follows.
const SYMLINKS_MAX: usize = 40;

/// The way to the source.
pub(super) struct Anchor {
    source: PathBuf,
    /// None where the user has no instance left: then somebody looks now and then.
    kernel: Option<Instance>,
    /// What is waited for in its place, and never rings.
    idle: OwnedFd,
    names: HashMap<Wd, HashSet<Vec<u8>>>,
    complete: bool,
}

impl Anchor {
    /// Makes an anchor for an absolute path; nothing is watched before [`Self::resolve`].
    pub(super) fn new(source: &Path) -> Result<Self, Errno> {
        let kernel = match hub::for_way() {
            Ok(kernel) => Some(kernel),
            Err(Errno::MFILE) => None,
            Err(errno) => return Err(errno),
        };
        let idle = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { source: source.to_owned(), kernel, idle, names: HashMap::new(), complete: false })
    }

    /// Whether every change on the way will be heard. If not, somebody must look now and then.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Follows the path and returns the directory that it leads to, open for reading. Watches every step.
    ///
    /// # Errors
    /// The errno of the step that failed; the steps up to it are watched.
    pub(super) fn resolve(&mut self) -> Result<(OwnedFd, FileId), Errno> {
        self.complete = true;
        let before = std::mem::take(&mut self.names);
        let found = self.follow();
        for wd in before.keys().filter(|wd| !self.names.contains_key(wd)) {
            self.kernel.iter().for_each(|kernel| kernel.remove(*wd));
        }
        found
    }

    fn follow(&mut self) -> Result<(OwnedFd, FileId), Errno> {
        let mut at = open_step(b"/")?;
        let mut left = components(self.source.as_os_str().as_bytes());
        let mut symlinks = 0;
        while let Some(name) = left.pop() {
            self.arm(at.as_fd(), &name);
            let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = openat(&at, &name, step, Mode::empty())?;
            match FileType::from_raw_mode(fstat(&next)?.st_mode) {
                FileType::Directory => at = next,
                FileType::Symlink => {
                    symlinks += 1;
                    if symlinks > SYMLINKS_MAX {
                        return Err(Errno::LOOP);
                    }
                    let target = readlinkat(&next, "", Vec::new())?;
                    if target.as_bytes().starts_with(b"/") {
                        at = open_step(b"/")?;
                    }
                    left.extend(components(target.as_bytes()));
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        let root = dirfd::open_dir(&at, b".")?;
        let id = dirfd::id_of(&root)?;
        Ok((root, id))
    }

    fn arm(&mut self, dir: BorrowedFd<'_>, name: &[u8]) {
        let mask = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        match self.kernel.as_ref().map(|kernel| kernel.add(dir, mask)) {
            Some(Ok(wd)) => {
                self.names.entry(wd).or_default().insert(name.to_vec());
            }
            Some(Err(_)) | None => self.complete = false,
        }
    }

    /// Reads what was heard and says whether the path may lead elsewhere now.
    pub(super) fn drain(&mut self) -> bool {
        let names = &self.names;
        let mut stirred = false;
        let Some(kernel) = &mut self.kernel else { return false };
        kernel.drain(64, |said| {
            let Said::Event(raw) = said else { return };
            let heard = names.get(&raw.wd);
            stirred |= raw.mask.contains(ReadFlags::QUEUE_OVERFLOW)
                || heard.is_some_and(|names| raw.name.is_empty() || names.contains(&raw.name[..]));
        });
        stirred
    }
}

impl AsFd for Anchor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kernel.as_ref().map_or(self.idle.as_fd(), AsFd::as_fd)
    }
}

fn open_step(path: &[u8]) -> Result<OwnedFd, Errno> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Returns the components, last one first.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&b| b == b'/')
        .rev()
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}
