//! What of a source takes part, told entry by entry: `--list-only`.
//!
//! **In → Out:** a sync and its opened source; one [`Itemized::Listed`] for each entry, in rsync's order: in each
//! directory what is none first, then each directory with what it holds.
//! **Invariants:** the filters, `-r`, `-x` and the lists of paths choose as in a pass; nothing is sent or changed, and
//! no file is opened. What is not kept, such as a symlink without `-l`, is told too, as rsync does.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::AtFlags;

use super::error::SessionError;
use super::source::{Source, is_absence};
use crate::config::{Listed, Selection, Sync};
use crate::disk::Root;
use crate::error::errno_of;
use crate::filter::Filter;
use crate::monitor::{Counts, Itemized};
use crate::scan::{self, Found, Options};
use crate::tree::{Entry, Kind, Mask, RelPath};

/// What was told of.
#[derive(Debug, Default)]
pub struct Told {
    /// The entries by type, without the top.
    pub kinds: Counts,
    /// Bytes of the files and symlinks among them.
    pub bytes: u64,
    /// What could not be read, by errno.
    pub problems: Vec<(RelPath, i32)>,
}

/// Tells what of a source takes part. `each` gets the entries, and ends it early with `false`.
///
/// # Errors
/// [`SessionError::Option`] for a filter rule that is none.
pub fn list(
    sync: &Sync,
    source: &Arc<Source>,
    each: &mut dyn FnMut(Itemized) -> bool,
) -> Result<Told, SessionError> {
    let filter = Filter::new(&sync.filters).map_err(|error| SessionError::Option(error.to_string()))?;
    let selection = &sync.selection;
    let root = source.root();
    let mut listing = Listing {
        source,
        root: &root,
        selection,
        options: Options {
            mask: Mask { symlinks: true, devices: true, specials: true, ..Mask::nothing() },
            filter: Arc::new(source.narrowed(filter)),
            role: scan::Role::Source,
            one_file_system: selection.one_file_system,
            recursive: selection.recursive,
            checksum: false,
            links: selection.links,
            prune: selection.prune && selection.recursive,
        },
        leads: sync.mask.symlinks,
        plain_ways: sync.sources.as_ref().is_some_and(|sources| sources.plain_ways),
        told: Told::default(),
        each,
    };
    match &selection.files_from {
        Some(listed) => listing.only(listed),
        None => listing.all(),
    };
    Ok(listing.told)
}

/// A listing under way.
struct Listing<'a> {
    source: &'a Source,
    root: &'a Root,
    selection: &'a Selection,
    options: Options,
    /// Where a symlink leads is told.
    leads: bool,
    /// Directories on the way are not.
    plain_ways: bool,
    told: Told,
    each: &'a mut dyn FnMut(Itemized) -> bool,
}

/// Whether it goes on.
type GoesOn = bool;

impl Listing<'_> {
    fn all(&mut self) -> GoesOn {
        let top = RelPath::root();
        match self.source.entry(&top, &Mask::nothing()) {
            Ok(Some(entry)) => {
                self.tell(&top, entry) && self.below(&top, &mut |of, path, entry| of.tell(&path, entry))
            }
            Ok(None) => self.failed(top, libc::ENOENT),
            Err(error) => self.failed(top, errno_of(&error)),
        }
    }

    /// Hands on what a directory holds, with everything below where `-r` says so.
    fn below(
        &mut self,
        dir: &RelPath,
        hand_on: &mut dyn FnMut(&mut Self, RelPath, Entry) -> GoesOn,
    ) -> GoesOn {
        let mut open = Vec::from([self.level(dir)]);
        while let Some(level) = open.last_mut() {
            let Some((path, entry)) = level.pop() else {
                open.pop();
                continue;
            };
            let stops = scan::stops_at(self.root, &self.options, &entry);
            let enters = self.options.recursive && is_dir(&entry) && !stops;
            if !hand_on(self, path.clone(), entry) {
                return false;
            }
            if enters && open.len() < scan::DEPTH_MAX {
                open.push(self.level(&path));
            }
        }
        true
    }

    /// Returns what a directory holds, the first last.
    fn level(&mut self, dir: &RelPath) -> Vec<(RelPath, Entry)> {
        let found = match scan::entries(self.root, dir, &self.options, &scan::Plain) {
            Ok(found) => found,
            Err(error) => {
                if !is_absence(&error) {
                    self.failed(dir.clone(), errno_of(&error));
                }
                return Vec::new();
            }
        };
        let mut level = Vec::new();
        for found in found {
            match found {
                Found::Entry(entry) | Found::NotKept(entry) => level.push((dir.join(&entry.name), entry)),
                Found::Unread(name, errno) => self.told.problems.push((dir.join(&name), errno)),
            }
        }
        level.sort_by(|(_, a), (_, b)| beside((&b.name, is_dir(b)), (&a.name, is_dir(a))));
        level
    }

    /// Tells what a list names, the directories on the way, and with `-r` what those that are named hold.
    fn only(&mut self, listed: &[Listed]) -> GoesOn {
        let mut named: BTreeMap<RelPath, bool> = BTreeMap::new();
        for line in listed {
            *named.entry(line.path.clone()).or_default() |=
                line.level || self.selection.recursive && line.is_whole();
        }
        let mut found: BTreeMap<RelPath, Entry> = BTreeMap::new();
        for (path, holds) in named {
            let Some(entry) = self.named(&path) else { continue };
            let holds = holds && is_dir(&entry);
            let mut above = path.parent();
            while let Some(way) = above.filter(|way| !way.is_root() && !self.plain_ways) {
                if let Ok(Some(entry)) = self.source.entry(&way, &Mask::nothing()) {
                    found.insert(way.clone(), entry);
                }
                above = way.parent();
            }
            found.insert(path.clone(), entry);
            if holds {
                self.below(&path, &mut |_, path, entry| {
                    found.insert(path, entry);
                    true
                });
            }
        }
        let mut found: Vec<(RelPath, Entry)> = found.into_iter().collect();
        found.sort_by(|a, b| in_order((&a.0, is_dir(&a.1)), (&b.0, is_dir(&b.1))));
        found.into_iter().all(|(path, entry)| self.tell(&path, entry))
    }

    /// Returns what is under a path that is named; `None` if a filter leaves it out.
    fn named(&mut self, path: &RelPath) -> Option<Entry> {
        let entry = match self.source.entry(path, &Mask::nothing()) {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                self.failed(path.clone(), libc::ENOENT);
                return None;
            }
            Err(error) => {
                self.failed(path.clone(), errno_of(&error));
                return None;
            }
        };
        let is_hollow =
            || self.options.prune && is_dir(&entry) && scan::is_hollow(self.root, path, &self.options);
        let is_left = self.options.filter.excludes_entry(path, is_dir(&entry)) || is_hollow();
        (!is_left).then_some(entry)
    }

    fn failed(&mut self, path: RelPath, errno: i32) -> GoesOn {
        self.told.problems.push((path, errno));
        true
    }

    fn tell(&mut self, path: &RelPath, mut entry: Entry) -> GoesOn {
        let meta = &mut entry.attrs.meta;
        match meta.kind {
            // Of a directory's own size nothing else is interested in.
            Kind::Dir => meta.size = self.size_of(path).unwrap_or(0),
            Kind::Symlink => meta.size = entry.attrs.symlink.len() as u64,
            _ => {}
        }
        if !path.is_root() {
            self.told.kinds.add(meta.kind);
        }
        if meta.kind != Kind::Dir {
            self.told.bytes = self.told.bytes.saturating_add(meta.size);
        }
        if !self.leads {
            entry.attrs.symlink.clear();
        }
        (self.each)(Itemized::Listed { path: self.source.called(path), entry: Box::new(entry) })
    }

    fn size_of(&self, path: &RelPath) -> io::Result<u64> {
        let opened = self.root.dir(path).and_then(|dir| Ok(rustix::fs::fstat(dir)?));
        let stat = opened.or_else(|_| {
            let parent = self.root.parent(path)?;
            Ok::<_, io::Error>(rustix::fs::statat(parent.fd.as_fd(), parent.name, AtFlags::SYMLINK_NOFOLLOW)?)
        })?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }
}

fn is_dir(entry: &Entry) -> bool {
    entry.attrs.meta.kind == Kind::Dir
}

/// Which of two names in one directory comes first: what is no directory, then as if each directory's name ended in a
/// slash.
fn beside(a: (&[u8], bool), b: (&[u8], bool)) -> Ordering {
    let slash = |is_dir: bool| is_dir.then_some(b'/');
    a.1.cmp(&b.1)
        .then_with(|| a.0.iter().copied().chain(slash(a.1)).cmp(b.0.iter().copied().chain(slash(b.1))))
}

/// Which of two paths comes first.
fn in_order((a, a_dir): (&RelPath, bool), (b, b_dir): (&RelPath, bool)) -> Ordering {
    let (mut left, mut right) = (a.components().peekable(), b.components().peekable());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => {
                let x_dir = left.peek().is_some() || a_dir;
                let y_dir = right.peek().is_some() || b_dir;
                match beside((x, x_dir), (y, y_dir)) {
                    Ordering::Equal => {}
                    other => return other,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_first_and_a_directory_is_followed_by_what_it_holds() {
        let mut paths = ["a/x", "b", "a", "", "a-b", "a-b/f", "a/d", "a/d/z", "Z", "c"].map(|text| {
            (
                RelPath::new(text.as_bytes().to_vec()).unwrap(),
                !["b", "a/x", "Z", "a-b/f", "a/d/z"].contains(&text),
            )
        });
        paths.sort_by(|a, b| in_order((&a.0, a.1), (&b.0, b.1)));
        let paths = paths.map(|(path, _)| String::from_utf8(path.as_bytes().to_vec()).unwrap());
        assert_eq!(paths, ["", "Z", "b", "a-b", "a-b/f", "a", "a/x", "a/d", "a/d/z", "c"]);
    }
}
