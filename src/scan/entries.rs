//! The entries of one directory, each read when it is asked for.
//!
//! **Invariants:** the names are read at once, and given in their order; of the entries no more than one is held,
//! so that a directory of a million files costs its names.

use std::io;
use std::os::fd::AsFd;

use super::{Options, Role, STATE_DIR, View, hash_file, hidden, is_temporary};
use crate::disk::{Names, names_of, read_entry};
use crate::error::errno_of;
use crate::tree::{Entry, Kind, RelPath};

/// What is found under a name.
#[derive(Debug)]
pub enum Found {
    /// An entry of the tree.
    Entry(Entry),
    /// It could not be read, by errno. Nothing may be concluded about it.
    Unread(Vec<u8>, i32),
    /// It is of a type that is not kept: what a target has under the name stays.
    NotKept(Vec<u8>),
}

impl Found {
    /// Returns the name.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Entry(entry) => &entry.name,
            Self::Unread(name, _) | Self::NotKept(name) => name,
        }
    }
}

/// The entries of one directory, in the order of their names.
pub struct Entries<'a, F> {
    fd: F,
    names: Names,
    next: usize,
    dir: &'a RelPath,
    options: &'a Options,
    view: &'a dyn View,
    lists: bool,
}

impl<'a, F: AsFd> Entries<'a, F> {
    /// Reads the names of a directory, for a walk or for a listing.
    pub(super) fn of(
        fd: F,
        dir: &'a RelPath,
        options: &'a Options,
        (view, lists): (&'a dyn View, bool),
    ) -> io::Result<Self> {
        let names = names_of(fd.as_fd())?;
        Ok(Self { fd, names, next: 0, dir, options, view, lists })
    }

    fn look_at(&self, name: &[u8]) -> Option<Found> {
        let (fd, options) = (self.fd.as_fd(), self.options);
        if self.dir.is_root() && name == STATE_DIR {
            return None;
        }
        if is_temporary(name) {
            self.view.temporary(fd, name);
            return None;
        }
        let mut entry = match read_entry(fd, name, &options.mask) {
            Ok(entry) => entry?,
            Err(error) => return Some(Found::Unread(name.to_vec(), errno_of(&error))),
        };
        let kind = entry.attrs.meta.kind;
        let whole = options.role == Role::WholeTarget;
        if !(whole && self.lists) && hidden(options, &self.dir.join(name), kind == Kind::Dir) {
            return None;
        }
        if !whole && !options.mask.carries(kind) {
            return Some(Found::NotKept(name.to_vec()));
        }
        if options.checksum && kind == Kind::File {
            match hash_file(fd, name) {
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
            let found = self.look_at(self.names.get(self.next)?);
            self.next += 1;
            if found.is_some() {
                return found;
            }
        }
    }
}
