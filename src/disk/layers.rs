//! Several directories that are one tree: the sources of one command line.
//!
//! **Purpose:** `a/ b c/file` is what `a` holds, and beside it `b` and `file`. Each source is a layer; a path leads
//! through the first layer that has it, and a directory that several layers have is one, with what any of them holds.
//! **Invariants:** every layer is resolved beneath its own directory as any root is; of a layer that names some entries
//! nothing else is seen; a directory goes before what is none, as in rsync, and else the first layer counts. What the
//! rules leave out of one layer stands in the way of no other.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError};

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::hiding::Rank;
use super::root::{Layer, Only, Root};
use crate::tree::{Kind, Mask, RelPath};

/// One of the directories that a path leads to, and the names of it that count; all of them if `None`.
pub type Part = (OwnedFd, Option<BTreeSet<Vec<u8>>>);

impl Layer {
    /// Returns the layer of everything that a directory holds.
    pub fn whole(root: Root) -> Self {
        Self { root, only: None }
    }

    /// Returns the layer of these paths below a directory.
    pub fn of(root: Root, named: impl IntoIterator<Item = RelPath>) -> Self {
        let mut only = Only::default();
        for path in named {
            only.above.extend(std::iter::successors(path.parent(), RelPath::parent));
            only.named.insert(path);
        }
        Self { root, only: Some(only) }
    }

    /// Whether it has everything.
    fn is_whole(&self) -> bool {
        self.only.is_none()
    }

    fn covers(&self, path: &RelPath) -> bool {
        self.only.as_ref().is_none_or(|only| {
            let mut up = std::iter::successors(Some(path.clone()), RelPath::parent);
            only.above.contains(path) || up.any(|at| only.named.contains(&at))
        })
    }

    /// Returns which names in a directory it has, where that is not all of them.
    fn names_in(&self, dir: &RelPath) -> Option<BTreeSet<Vec<u8>>> {
        let only = self.only.as_ref()?;
        if !only.above.contains(dir) || only.named.contains(dir) {
            return None;
        }
        let inside = only.named.iter().chain(&only.above).filter(|path| path.parent().as_ref() == Some(dir));
        Some(inside.map(|path| path.name().to_vec()).collect())
    }
}

impl Root {
    /// Returns the tree that is made of `layers`, of which there is at least one. Its own directory is the first that is
    /// taken whole, or else the first of all.
    ///
    /// # Errors
    /// `EINVAL` without a layer, and what dup(2) says.
    pub fn layered(layers: Vec<Layer>) -> io::Result<Self> {
        let first = layers.iter().find(|layer| layer.is_whole()).or(layers.first()).ok_or(Errno::INVAL)?;
        let mut root = Self::from_fd(first.root.as_fd().try_clone_to_owned()?);
        root.follow = first.root.follow.clone();
        root.layers = layers;
        Ok(root)
    }

    /// Has what `hides` names stand in the way of nothing in other layers.
    pub fn leave_out(&self, hides: impl Fn(&RelPath, bool) -> bool + Send + Sync + 'static) {
        *self.hiding.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hides));
    }

    fn leaves_out(&self, path: &RelPath, is_dir: bool) -> bool {
        let hiding = self.hiding.0.read().unwrap_or_else(PoisonError::into_inner);
        hiding.as_ref().is_some_and(|hides| hides(path, is_dir))
    }

    /// Whether it is made of layers.
    pub fn is_layered(&self) -> bool {
        !self.layers.is_empty()
    }

    /// Returns the directories that the tree is made of.
    pub fn tops(&self) -> Vec<BorrowedFd<'_>> {
        if self.layers.is_empty() {
            return vec![self.as_fd()];
        }
        self.layers.iter().map(|layer| layer.root.as_fd()).collect()
    }

    /// Returns the filesystems on which a walk that stays on one begins.
    ///
    /// # Errors
    /// What statx(2) says.
    pub fn homes(&self) -> io::Result<Vec<u64>> {
        let mut homes = Vec::new();
        for layer in &self.layers {
            let Some(only) = &layer.only else {
                homes.push(layer.root.id()?.dev);
                continue;
            };
            homes.extend(only.named.iter().filter_map(|path| {
                let parent = layer.root.parent(path).ok()?;
                let stat = rustix::fs::statat(&parent.fd, parent.name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
                Some(stat.st_dev)
            }));
        }
        if self.layers.is_empty() {
            homes.push(self.id()?.dev);
        }
        homes.sort_unstable();
        homes.dedup();
        Ok(homes)
    }

    /// Opens every directory that a path leads to, for reading their entries.
    ///
    /// # Errors
    /// As [`Root::dir`] where there is none.
    pub fn parts(&self, path: &RelPath) -> io::Result<Vec<Part>> {
        if self.layers.is_empty() {
            return Ok(vec![(self.dir(path)?, None)]);
        }
        let (mut parts, mut lost) = (Vec::new(), None);
        for layer in self.covering(path) {
            match layer.root.dir(path) {
                Ok(fd) => parts.push((fd, layer.names_in(path))),
                // In this layer it is something else, or nothing.
                Err(error) if is_absence(&error) => {}
                // A symlink that leads nowhere is no directory; it is told where the names of its layer are read.
                Err(error) if leads_nowhere(&error) => lost = lost.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match lost {
            _ if !parts.is_empty() => Ok(parts),
            Some(error) => Err(error),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Opens a path in the first layer that has it.
    pub(super) fn first(
        &self,
        path: &RelPath,
        open: impl Fn(&Self) -> io::Result<OwnedFd>,
    ) -> io::Result<OwnedFd> {
        if self.layers.is_empty() || path.is_root() {
            return open(self);
        }
        let mut failed = None;
        for layer in self.covering(path) {
            match open(&layer.root) {
                Ok(fd) => return Ok(fd),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| Errno::NOENT.into()))
    }

    /// Opens the directory of a path in the layer that counts: the first that has a directory there, else the first that
    /// has anything; before what is left out.
    pub(super) fn holding(
        &self,
        path: &RelPath,
        place: impl Fn(&Self) -> io::Result<OwnedFd>,
    ) -> io::Result<OwnedFd> {
        let (mut failed, mut found, mut empty) = (None, None::<(Rank, OwnedFd)>, None);
        for layer in self.covering(path) {
            let fd = match place(&layer.root) {
                Ok(fd) => fd,
                Err(error) => {
                    failed = failed.or(Some(error));
                    continue;
                }
            };
            match layer.root.entry_in(fd.as_fd(), path, path.name(), &Mask::nothing()) {
                Ok(Some(entry)) => {
                    let is_dir = entry.attrs.meta.kind == Kind::Dir;
                    let rank = Rank::of(is_dir, self.leaves_out(path, is_dir));
                    if found.as_ref().is_none_or(|(best, _)| rank > *best) {
                        found = Some((rank, fd));
                    }
                }
                _ => empty = empty.or(Some(fd)),
            }
        }
        let found = found.map(|(_, fd)| fd).or(empty);
        found.ok_or_else(|| failed.unwrap_or_else(|| Errno::NOENT.into()))
    }

    fn covering<'a>(&'a self, path: &'a RelPath) -> impl Iterator<Item = &'a Layer> {
        self.layers.iter().filter(move |layer| layer.covers(path))
    }
}

/// Opens the directories of this name in any of several, the first ones first.
///
/// # Errors
/// What openat(2) says where there is none.
pub fn open_in(dirs: &[BorrowedFd<'_>], name: &[u8]) -> io::Result<Vec<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |dir: &BorrowedFd<'_>| rustix::fs::openat(dir, name, flags, rustix::fs::Mode::empty());
    if let [only] = dirs {
        return Ok(vec![open(only)?]);
    }
    let (mut all, mut failed) = (Vec::new(), Errno::NOENT);
    for dir in dirs {
        match open(dir) {
            Ok(fd) => all.push(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => failed = error,
        }
    }
    if all.is_empty() || failed != Errno::NOENT { Err(failed.into()) } else { Ok(all) }
}

/// Whether a symlink that is followed leads nowhere, or back up.
fn leads_nowhere(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOLINK | libc::EMLINK))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    #[test]
    fn a_path_leads_through_the_first_layer_that_has_it_and_a_directory_goes_before_what_is_none() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in
            [("a/f", "a"), ("a/d/x", "a"), ("b/f", "b"), ("b/d/y", "b"), ("b/hidden", "b"), ("c/f/z", "c")]
        {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), content).unwrap();
        }
        let open = |name: &str| Root::open(&dir.path().join(name)).unwrap();
        let tree = |last: &str| {
            let named = Layer::of(open("b"), ["f", "d"].map(path));
            Root::layered(vec![Layer::whole(open("a")), named, Layer::whole(open(last))]).unwrap()
        };
        let holds = |root: &Root, at: &str| {
            let path = path(at);
            let parent = root.parent(&path).unwrap();
            let found = rustix::fs::statat(&parent.fd, parent.name, AtFlags::SYMLINK_NOFOLLOW);
            found.ok().map(|stat| stat.st_ino)
        };
        let inode = |name: &str| {
            use std::os::unix::fs::MetadataExt;
            Some(dir.path().join(name).metadata().unwrap().ino())
        };
        let root = tree("a");
        assert_eq!(holds(&root, "f"), inode("a/f"));
        assert_eq!(holds(&root, "d/y"), inode("b/d/y"));
        assert_eq!(holds(&root, "hidden"), None);
        assert_eq!(root.parts(&path("d")).unwrap().len(), 3);
        assert_eq!(holds(&tree("c"), "f"), inode("c/f"));
        let hiding = tree("c");
        hiding.leave_out(|path, is_dir| is_dir && path.as_bytes() == b"f");
        assert_eq!(holds(&hiding, "f"), inode("a/f"));
        let named = root.parts(&RelPath::root()).unwrap().remove(1).1.unwrap();
        assert!(named.iter().eq([b"d".to_vec(), b"f".to_vec()].iter()));
    }
}
