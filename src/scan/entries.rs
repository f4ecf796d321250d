//! The entries of one directory, each read when it is asked for.
//!
//! **Invariants:** the names are read at once, and given in their order; of the entries no more than one is held,
//! so that a directory of a million files costs its names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Options, Plain, Role, STATE_DIR, View, hash_file, hidden, is_temporary};
use crate::disk::{Names, Rank, Root, names_of};
use crate::error::errno_of;
use crate::tree::{Entry, Kind, Mask, RelPath};

/// What is found under a name.
#[derive(Debug)]
pub enum Found {
    /// An entry of the tree.
    Entry(Entry),
    /// It could not be read, by errno. Nothing may be concluded about it.
    Unread(Vec<u8>, i32),
    /// It is of a type that is not kept: what a target has under the name stays.
    NotKept(Entry),
}

impl Found {
    /// Returns the name.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Entry(entry) | Self::NotKept(entry) => &entry.name,
            Self::Unread(name, _) => name,
        }
    }
}

/// A directory, and which of its names count; all of them if `None`.
type Counting<F> = (F, Option<BTreeSet<Vec<u8>>>);

/// What could not be read of one directory, by errno, where another one has something under the name.
type Shadowed = Vec<(RelPath, i32)>;

/// The entries of one directory, in the order of their names. Where several directories are one, a name that is in
/// more than one of them is the first one's, or the first that is a directory; what the rules leave out does not count.
pub struct Entries<'a, F> {
    root: &'a Root,
    dirs: Vec<F>,
    names: Vec<Names>,
    /// Which name of which directory comes when, where that is not every name of the only one.
    order: Option<Vec<(usize, usize)>>,
    /// What of one directory could not be read, by errno, where another one has something under the name.
    shadowed: Shadowed,
    next: usize,
    dir: &'a RelPath,
    options: &'a Options,
    view: &'a dyn View,
    lists: bool,
}

impl<'a, F: AsFd> Entries<'a, F> {
    /// Reads the names of a directory, for a walk or for a listing. Of each of `dirs` these names count alone; all of
    /// them if there are none.
    pub(super) fn of(
        root: &'a Root,
        dirs: Vec<Counting<F>>,
        dir: &'a RelPath,
        (options, view, lists): (&'a Options, &'a dyn View, bool),
    ) -> io::Result<Self> {
        let names = dirs.iter().map(|(fd, _)| names_of(fd.as_fd())).collect::<io::Result<Vec<_>>>()?;
        let is_plain = matches!(&dirs[..], [(_, None)]);
        let (order, shadowed) = match is_plain {
            true => (None, Vec::new()),
            false => {
                let (order, shadowed) = joined(root, dir, options, (&dirs, &names));
                (Some(order), shadowed)
            }
        };
        let dirs = dirs.into_iter().map(|(fd, _)| fd).collect();
        Ok(Self { root, dirs, names, order, shadowed, next: 0, dir, options, view, lists })
    }

    /// Returns the directory that holds the name with this number, and the name.
    fn at(&self, number: usize) -> Option<(BorrowedFd<'_>, &[u8])> {
        let (dir, name) = match &self.order {
            None => (0, number),
            Some(order) => *order.get(number)?,
        };
        Some((self.dirs.get(dir)?.as_fd(), self.names.get(dir)?.get(name)?))
    }

    /// Takes out what could not be read of one directory, where another one has something under the name.
    pub(super) fn take_shadowed(&mut self) -> Shadowed {
        std::mem::take(&mut self.shadowed)
    }

    /// Returns the directory that holds what was given last.
    pub(super) fn holder(&self) -> Option<BorrowedFd<'_>> {
        self.at(self.next.checked_sub(1)?).map(|(fd, _)| fd)
    }

    fn look_at(&self, fd: BorrowedFd<'_>, name: &[u8]) -> Option<Found> {
        let options = self.options;
        if self.dir.is_root() && name == STATE_DIR {
            return None;
        }
        if is_temporary(name) {
            self.view.temporary(fd, name);
            return None;
        }
        let path = self.dir.join(name);
        let mut entry = match self.root.entry_in(fd, &path, name, &options.mask) {
            Ok(entry) => entry?,
            // A symlink that leads nowhere, for one: the rules may leave it out whatever it is.
            Err(_) if hidden(options, &path, false) && hidden(options, &path, true) => return None,
            // It leads nowhere, and would have been left out as one kind of entry: as in rsync it is not missed.
            Err(error) if errno_of(&error) == libc::ENOLINK && options.role == Role::Source => {
                if hidden(options, &path, false) || hidden(options, &path, true) {
                    return None;
                }
                return Some(Found::Unread(name.to_vec(), errno_of(&error)));
            }
            Err(error) => return Some(Found::Unread(name.to_vec(), errno_of(&error))),
        };
        let kind = entry.attrs.meta.kind;
        let whole = options.role == Role::WholeTarget;
        if !(whole && self.lists) && hidden(options, &path, kind == Kind::Dir) {
            return None;
        }
        // As in rsync, one that a rule protects is kept, too.
        let prunes = options.prune && kind == Kind::Dir && !options.filter.protects_entry(&path, true);
        if prunes && is_hollow(self.root, &path, options) {
            return None;
        }
        let leaves = |entry: &Entry| options.links.leaves_out(&path, &entry.attrs.symlink);
        if !whole && !options.mask.carries(kind) || kind == Kind::Symlink && leaves(&entry) {
            return Some(Found::NotKept(entry));
        }
        if options.checksum && kind == Kind::File {
            match hash_file(self.root, &path, (fd, name)) {
                Ok(hash) => entry.hash = Some(hash),
                Err(error) => return Some(Found::Unread(name.to_vec(), errno_of(&error))),
            }
        }
        self.view.adjust(&mut entry.attrs);
        Some(Found::Entry(entry))
    }
}

impl<F: AsFd> Iterator for Entries<'_, F> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let (fd, name) = self.at(self.next)?;
            let found = self.look_at(fd, name);
            self.next += 1;
            if found.is_some() {
                return found;
            }
        }
    }
}

/// Whether there is nothing in a directory but directories of which that is true. What cannot be looked into is not, and
/// neither is what holds something that is not kept, as in rsync.
pub fn is_hollow(root: &Root, dir: &RelPath, options: &Options) -> bool {
    let options = Options { checksum: false, prune: true, ..options.clone() };
    let Ok(parts) = root.parts(dir) else { return false };
    let Ok(mut found) = Entries::of(root, parts, dir, (&options, &Plain, true)) else { return false };
    found.next().is_none()
}

/// Returns which name of which directory comes when, and what could not be read and stands behind another.
fn joined<F: AsFd>(
    root: &Root,
    dir: &RelPath,
    options: &Options,
    (dirs, names): (&[Counting<F>], &[Names]),
) -> (Vec<(usize, usize)>, Shadowed) {
    let mut shadowed = BTreeMap::new();
    let mut rank = |at: usize, name: &[u8]| {
        let path = dir.join(name);
        let found = dirs.get(at).map(|(fd, _)| root.entry_in(fd.as_fd(), &path, name, &Mask::nothing()));
        let is_dir = matches!(&found, Some(Ok(Some(entry))) if entry.attrs.meta.kind == Kind::Dir);
        match found {
            Some(Err(error)) => {
                if !(hidden(options, &path, false) || hidden(options, &path, true)) {
                    shadowed.insert(path, errno_of(&error));
                }
                Rank::Hidden
            }
            _ => Rank::of(is_dir, hidden(options, &path, is_dir)),
        }
    };
    let mut all: BTreeMap<&[u8], (usize, usize)> = BTreeMap::new();
    for (at, ((_, only), names)) in dirs.iter().zip(names).enumerate() {
        for (number, name) in names.iter().enumerate() {
            if only.as_ref().is_some_and(|only| !only.contains(name)) {
                continue;
            }
            match all.get(name) {
                Some((first, _)) if rank(*first, name) >= rank(at, name) => {}
                _ => drop(all.insert(name, (at, number))),
            }
        }
    }
    (all.into_values().collect(), shadowed.into_iter().collect())
}
