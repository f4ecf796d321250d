//! Files with several names: an event tells of one of them, and the others are owed the same.
//!
//! Example: `a` and `d/b` are one file. A write through `d/b` is told of `d/b`; what is known here has `a` read as
//! well. If `a` is not known, because it was the only name when it was looked at, the source is searched for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use super::{Class, Debt, Ledger, Moment, NameTree, NodeId, Op, Rule, State, What};
use crate::tree::{FileId, RelPath};

/// Which names are known of files with several.
#[derive(Debug, Default)]
pub(super) struct Links {
    names: NameTree<FileId>,
    /// May name one that is another file's by now.
    of: HashMap<FileId, Vec<NodeId>>,
    /// Files with more names than are known. Owed until the source was searched for them.
    sought: BTreeMap<FileId, Sought>,
    /// The next search is of use when everything that was queued before this has been heard.
    again: u64,
    /// For so many names each file was searched for.
    found: HashMap<FileId, u32>,
}

#[derive(Debug, Clone, Copy)]
struct Sought {
    change: Moment,
    since: Instant,
    links: u32,
}

impl Links {
    pub fn rename(&mut self, from: &RelPath, to: &RelPath) {
        self.names.rename(from, to);
    }

    pub fn swap(&mut self, one: &RelPath, other: &RelPath) {
        self.names.swap(one, other);
    }

    pub fn forget(&mut self, path: &RelPath) {
        self.names.cut(path);
    }

    /// Takes in that a name is of a file; returns whether that was not known.
    fn note(&mut self, path: &RelPath, file: FileId) -> bool {
        if self.names.value_at(path) == Some(&file) {
            return false;
        }
        let (node, known) = self.names.at(path, || file);
        *known = file;
        let names = &self.names;
        let nodes = self.of.entry(file).or_default();
        nodes.retain(|other| *other != node && names.get(*other) == Some(&file));
        nodes.push(node);
        true
    }

    fn names_of(&self, file: FileId) -> impl Iterator<Item = RelPath> + '_ {
        let nodes = self.of.get(&file).into_iter().flatten();
        nodes.filter(move |node| self.names.get(**node) == Some(&file)).map(|node| self.names.path(*node))
    }

    pub fn sought(&self) -> usize {
        self.sought.len()
    }

    pub fn least_change(&self) -> Option<Moment> {
        self.sought.values().map(|sought| sought.change).min()
    }

    pub fn clock_went_back(&mut self, nanos: u64) {
        self.sought.values_mut().for_each(|sought| sought.change = sought.change.less(nanos));
    }
}

impl Ledger {
    /// Takes in which file a look has found, and how many names it has: before [`Ledger::looked`].
    pub fn is_file(&mut self, look: Op, file: FileId, links: u32) {
        let Some(path) = self.path_of(look) else { return };
        if links < 2 {
            return self.links.forget(&path);
        }
        let Some(debt) = self.ops.get(&look).and_then(|node| self.names.get(*node)?.of_op(look)).copied()
        else {
            return;
        };
        if self.links.note(&path, file) && debt.what != What::Suspect {
            // Nobody has told what was done through this name before.
            self.spread(&path, What::Suspect, debt.change, debt.since);
            if debt.what == What::Attributes {
                // Nor what was done through the others, before they were known to be its names.
                self.owe_suspect(&path, debt.change, debt.since);
            }
        }
        let known = u32::try_from(self.links.names_of(file).count()).unwrap_or(u32::MAX);
        let done = self.links.found.get(&file) == Some(&links);
        if known < links && !done && self.holds(Rule::NamesAreSought) {
            let Debt { change, since, .. } = debt;
            let sought = self.links.sought.entry(file).or_insert(Sought { change, since, links });
            sought.links = links;
        }
    }

    /// Owes the other names of the file at a path the same.
    pub(super) fn spread(&mut self, path: &RelPath, what: What, change: Moment, since: Instant) {
        let Some(file) = self.links.names.value_at(path).copied() else { return };
        if !self.holds(Rule::NamesAreKept) {
            return;
        }
        let others: Vec<RelPath> = self.links.names_of(file).filter(|other| other != path).collect();
        for other in others {
            if what == What::Suspect {
                self.owe_suspect(&other, change, since);
            } else {
                self.owe(&other, Debt { what, state: State::Due, change, since, tries: 0, was_held: false });
            }
        }
    }

    fn owe_suspect(&mut self, path: &RelPath, change: Moment, since: Instant) {
        let known = self.names.value_at(path).and_then(|debts| debts.get(Class::Name));
        // It is read anyway.
        if !matches!(known, Some(Debt { what: What::Content | What::Absent, state: State::Due, .. })) {
            let what = What::Suspect;
            self.owe(path, Debt { what, state: State::Due, change, since, tries: 0, was_held: false });
        }
    }

    /// Returns the files of which names are missing: the source is to be searched for them.
    pub fn to_seek(&self) -> Vec<FileId> {
        if self.links.again > self.mark.number {
            return Vec::new();
        }
        self.links.sought.keys().copied().collect()
    }

    /// Takes in what a search for some files has found, and how many events had been queued at its beginning and its
    /// end. If some of them were not heard, the names may be others by what was: the search is of no use.
    pub fn sought(&mut self, files: &[FileId], names: &[(FileId, RelPath)], queued: (u64, u64)) {
        if queued.0 != queued.1 || queued.1 > self.mark.number {
            self.links.again = queued.1;
            return;
        }
        let mut grown = BTreeSet::new();
        for (file, path) in names {
            if self.links.sought.contains_key(file) && self.links.note(path, *file) {
                grown.insert(*file);
            }
        }
        // What was told of a name that was not known was owed at that name alone.
        for file in grown {
            let Some(Sought { change, since, .. }) = self.links.sought.get(&file).copied() else { continue };
            for path in self.links.names_of(file).collect::<Vec<_>>() {
                self.owe_suspect(&path, change, since);
            }
        }
        for file in files {
            if let Some(sought) = self.links.sought.remove(file) {
                self.links.found.insert(*file, sought.links);
            }
        }
    }

    /// Whether so many names of a file are known.
    pub fn knows_names(&self, file: FileId, links: u32) -> bool {
        self.links.names_of(file).count() >= links as usize
    }
}
