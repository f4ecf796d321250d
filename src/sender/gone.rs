//! Whether what is to be deleted is gone from the source.
//!
//! **Invariants:** not knowing is an error, never a yes; nothing is gone below a directory that cannot be
//! read.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::source::{DIR_CACHE_MAX, Source, is_absence};
use crate::disk::read_entry;
use crate::tree::{Kind, Mask, RelPath};

/// What was found of a path that is to be deleted, held for the next: most deletes of a burst lie beside
/// each other, or in a tree that is gone as a whole. It is as if the next were looked at when this was, so
/// it must be younger than they are.
pub(super) struct Gone {
    /// Nothing stood here, so nothing stood below.
    top: RelPath,
    /// The directory that was looked into, and its path.
    dir: (OwnedFd, RelPath),
    looked: Instant,
}

/// What stands where a path would lead.
enum Found {
    /// The path itself, or the root is asked for.
    There,
    /// An ancestor is no directory any more, and holds nothing.
    NoDir,
    /// Nothing, from there on.
    Gone(Gone),
}

impl Source {
    /// Whether nothing stands at a path now, in a parent that can be read or is gone itself.
    ///
    /// # Errors
    /// What stops the answer from being known: nothing may be deleted then.
    pub fn vanished(&self, path: &RelPath) -> io::Result<bool> {
        let root = self.root();
        if root.is_layered() || root.follows() {
            // Any of the layers may have it, or what a symlink leads to.
            return Ok(self.entry(path, &Mask::nothing())?.is_none());
        }
        Ok(!matches!(self.look_for(path)?, Found::There))
    }

    /// As [`Source::vanished`], and below a root that is still in its place; by way of what was found for
    /// the path before.
    ///
    /// # Errors
    /// As [`Source::vanished`].
    pub(super) fn vanished_by(&self, gone: &mut Option<Gone>, path: &RelPath) -> io::Result<bool> {
        let root = self.root();
        if root.is_layered() || root.follows() {
            return Ok(self.vanished(path)? && self.is_in_place());
        }
        let held = gone.take().filter(|gone| gone.looked.elapsed() < DIR_CACHE_MAX);
        if let Some(held) = held {
            let known = path.is_within(&held.top);
            if known || path.parent_bytes() == held.dir.1.as_bytes() {
                let nothing =
                    known || read_entry(held.dir.0.as_fd(), path.name(), &Mask::nothing())?.is_none();
                *gone = Some(held);
                return Ok(nothing);
            }
        }
        let found = self.look_for(path)?;
        if matches!(found, Found::There) || !self.is_in_place() {
            return Ok(false);
        }
        if let Found::Gone(found) = found {
            *gone = Some(found);
        }
        Ok(true)
    }

    fn look_for(&self, path: &RelPath) -> io::Result<Found> {
        let (looked, root) = (Instant::now(), self.root());
        let mut below = path.clone();
        while let Some(parent) = below.parent() {
            match root.dir(&parent) {
                Ok(fd) => {
                    let there = read_entry(fd.as_fd(), below.name(), &Mask::nothing())?;
                    return Ok(match there {
                        None => Found::Gone(Gone { top: below, dir: (fd, parent), looked }),
                        Some(there) if below != *path && there.attrs.meta.kind != Kind::Dir => Found::NoDir,
                        Some(_) => Found::There,
                    });
                }
                Err(error) if is_absence(&error) => below = parent,
                Err(error) => return Err(error),
            }
        }
        Ok(Found::There)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn source() -> (tempfile::TempDir, std::sync::Arc<Source>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/d/e")).unwrap();
        fs::write(dir.path().join("root/d/there"), "").unwrap();
        let source = Source::open(&dir.path().join("root"), 1).unwrap();
        (dir, source)
    }

    #[test]
    fn below_a_tree_that_is_gone_one_look_answers_for_all() {
        let (_dir, source) = source();
        let mut gone = None;
        assert!(source.vanished_by(&mut gone, &path("old/a/b/c")).unwrap());
        assert!(gone.as_ref().is_some_and(|gone: &Gone| gone.top == path("old")));
        assert!(source.vanished_by(&mut gone, &path("old/x")).unwrap());
        assert!(source.vanished_by(&mut gone, &path("old")).unwrap());
        // A name that only begins like it is another one.
        assert!(!source.vanished_by(&mut gone, &path("d/there")).unwrap());
        assert!(!source.vanished_by(&mut gone, &path("d")).unwrap());
    }

    #[test]
    fn beside_what_is_gone_each_name_is_looked_at() {
        let (dir, source) = source();
        let mut gone = None;
        assert!(source.vanished_by(&mut gone, &path("d/a")).unwrap());
        assert!(source.vanished_by(&mut gone, &path("d/b")).unwrap());
        assert!(!source.vanished_by(&mut gone, &path("d/there")).unwrap());
        fs::write(dir.path().join("root/d/b"), "").unwrap();
        assert!(!source.vanished_by(&mut gone, &path("d/b")).unwrap());
    }

    #[test]
    fn what_was_found_long_ago_is_looked_at_again() {
        let (dir, source) = source();
        let mut gone = None;
        assert!(source.vanished_by(&mut gone, &path("old/a")).unwrap());
        fs::create_dir_all(dir.path().join("root/old/a")).unwrap();
        let held = gone.as_mut().unwrap();
        held.looked = held.looked.checked_sub(DIR_CACHE_MAX).unwrap();
        assert!(!source.vanished_by(&mut gone, &path("old/a")).unwrap());
        assert!(gone.is_none());
    }

    #[test]
    fn below_a_root_that_was_replaced_nothing_is_gone() {
        let (dir, source) = source();
        fs::rename(dir.path().join("root"), dir.path().join("away")).unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        assert!(source.vanished(&path("old")).unwrap());
        assert!(!source.vanished_by(&mut None, &path("old")).unwrap());
    }
}
