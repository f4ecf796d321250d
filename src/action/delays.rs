//! lsyncd's queue of events, "Delays".
//!
//! **Purpose:** what the kernel said in → what may be acted on next. **Invariants:** pure; entries of one
//! path, and of a directory and what lies below it, are worked off in their order; an event costs
//! O(depth · log n), and a directory's as many as wait below it. **Not here:** what an action is.
//! **Sources:** lsyncd's manual, lsyncd 2.2.3 as observed. Unlike it, events of one path that an action
//! cannot tell apart are one entry.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Instant;

/// Names an entry; later ones are greater.
pub type Id = u64;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Etype {
    /// Metadata changed.
    Attrib,
    /// Content changed.
    Modify,
    /// A name appeared.
    Create,
    /// A name went.
    Delete,
    /// A name moved within the tree.
    Move,
    /// The first pass; everything later waits for it.
    Init,
    /// Nothing; everything later waits for it.
    Blanket,
    /// A pass over everything; nothing waits for it.
    Full,
}

impl Etype {
    /// Returns the word that scripts and the status file show.
    pub fn word(self) -> &'static str {
        match self {
            Self::Attrib => "Attrib",
            Self::Modify => "Modify",
            Self::Create => "Create",
            Self::Delete => "Delete",
            Self::Move => "Move",
            Self::Init => "Init",
            Self::Blanket => "Blanket",
            Self::Full => "Full",
        }
    }
}

/// Whether an entry may be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It may.
    Wait,
    /// A child works on it.
    Active,
    /// Earlier entries must go first.
    Block,
}

impl Status {
    /// Returns the word that scripts and the status file show.
    pub fn word(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Active => "active",
            Self::Block => "block",
        }
    }
}

/// One entry. Paths begin with a slash, and end with one for a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delay {
    /// What happened.
    pub etype: Etype,
    /// To what; empty for [`Etype::Init`] and its like.
    pub path: Vec<u8>,
    /// The new name of a move.
    pub path2: Option<Vec<u8>>,
    /// Whether it may be acted on.
    pub status: Status,
    /// When it is due; `None` at once.
    pub alarm: Option<Instant>,
    blockers: BTreeSet<Id>,
    dependents: Vec<Id>,
}

/// Which events of one path are one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    /// All: the action looks at the path and not at the event.
    Paths,
    /// Those of one kind, and a file's delete before its create.
    Kinds,
}

/// What a batch does with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Takes it.
    Yes,
    /// Leaves it, and what hangs on it.
    No,
}

/// The queue of one sync.
#[derive(Debug)]
pub struct Delays {
    combine: Combine,
    entries: BTreeMap<Id, Delay>,
    waiting: BTreeSet<Id>,
    /// Entries by their path without its last slash.
    by_path: BTreeMap<Vec<u8>, Vec<Id>>,
    barriers: BTreeSet<Id>,
    next: Id,
}

/// A path, and the new name of a move.
type Paths = (Vec<u8>, Option<Vec<u8>>);

fn key(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

fn is_dir(path: &[u8]) -> bool {
    path.ends_with(b"/")
}

/// Returns the keys of the directories above `key`, nearest first.
fn above(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = key.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
    slashes.filter_map(move |(at, _)| key.get(..at))
}

impl Delays {
    /// Makes an empty queue.
    pub fn new(combine: Combine) -> Self {
        Self {
            combine,
            entries: BTreeMap::new(),
            waiting: BTreeSet::new(),
            by_path: BTreeMap::new(),
            barriers: BTreeSet::new(),
            next: 1,
        }
    }

    /// Forgets all entries; numbers are not given again.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.waiting.clear();
        self.by_path.clear();
        self.barriers.clear();
    }

    /// Returns how many entries there are.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns an entry.
    pub fn get(&self, id: Id) -> Option<&Delay> {
        self.entries.get(&id)
    }

    /// Returns all entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Delay)> {
        self.entries.iter().map(|(id, delay)| (*id, delay))
    }

    /// Returns the first entry that may be acted on.
    pub fn first(&self) -> Option<(Id, &Delay)> {
        let id = *self.waiting.first()?;
        Some((id, self.entries.get(&id)?))
    }

    /// Adds an entry that stands for no path.
    pub fn push_whole(&mut self, etype: Etype, alarm: Option<Instant>) -> Id {
        let id = self.insert(etype, (Vec::new(), None), alarm, BTreeSet::new());
        if etype != Etype::Full {
            self.barriers.insert(id);
        }
        id
    }

    /// Adds an event of one path.
    pub fn push(&mut self, etype: Etype, path: &[u8], alarm: Option<Instant>) {
        if self.merge(etype, path) {
            return;
        }
        self.undo_move_onto(etype, path);
        let blockers = self.related(path);
        let blockers = self.needed(path, blockers);
        self.insert(etype, (path.to_vec(), None), alarm, blockers);
    }

    /// Adds a move, or where anything waits that it has to do with, a delete and a create; says whether it
    /// is still a move.
    pub fn push_move(&mut self, from: &[u8], to: &[u8], alarm: Option<Instant>) -> bool {
        if self.related(from).is_empty() && self.related(to).is_empty() {
            let barriers = self.barriers.clone();
            self.insert(Etype::Move, (from.to_vec(), Some(to.to_vec())), alarm, barriers);
            return true;
        }
        self.push(Etype::Delete, from, alarm);
        self.push(Etype::Create, to, alarm);
        false
    }

    fn insert(&mut self, etype: Etype, paths: Paths, alarm: Option<Instant>, blockers: BTreeSet<Id>) -> Id {
        let (path, path2) = paths;
        let id = self.next;
        self.next += 1;
        for blocker in &blockers {
            if let Some(entry) = self.entries.get_mut(blocker) {
                entry.dependents.push(id);
            }
        }
        let status = if blockers.is_empty() { Status::Wait } else { Status::Block };
        if status == Status::Wait {
            self.waiting.insert(id);
        }
        for path in [Some(&path), path2.as_ref()].into_iter().flatten().filter(|path| !path.is_empty()) {
            self.by_path.entry(key(path).to_vec()).or_default().push(id);
        }
        self.entries
            .insert(id, Delay { etype, path, path2, status, alarm, blockers, dependents: Vec::new() });
        id
    }

    /// Makes an event part of the last entry of its path, if they can be one.
    fn merge(&mut self, etype: Etype, path: &[u8]) -> bool {
        let Some(last) = self.by_path.get(key(path)).and_then(|ids| ids.last().copied()) else {
            return false;
        };
        // What came to a directory above meanwhile must stay between the two.
        let newer = |dir: &[u8]| self.by_path.get(dir).is_some_and(|ids| ids.last() > Some(&last));
        if above(key(path)).any(newer) || self.barriers.last() > Some(&last) {
            return false;
        }
        let combine = self.combine;
        let Some(entry) = self.entries.get_mut(&last) else { return false };
        if entry.status == Status::Active || entry.etype == Etype::Move || entry.path != path {
            return false;
        }
        let dir = is_dir(path);
        let merged = match (entry.etype, etype) {
            (old, new) if old == new => Some(old),
            (Etype::Delete, Etype::Create) if !dir => Some(Etype::Create),
            _ if combine == Combine::Kinds => None,
            (Etype::Delete, _) | (_, Etype::Delete) if dir => None,
            (Etype::Delete, _) => Some(Etype::Delete),
            (_, Etype::Delete) => Some(Etype::Delete),
            (Etype::Attrib, new) => Some(new),
            (Etype::Modify, Etype::Create) => Some(Etype::Create),
            (old, _) => Some(old),
        };
        if let Some(etype) = merged {
            entry.etype = etype;
        }
        merged.is_some()
    }

    /// Makes a move whose new name goes or is made anew a delete of its old name.
    fn undo_move_onto(&mut self, etype: Etype, path: &[u8]) {
        if !matches!(etype, Etype::Create | Etype::Delete) {
            return;
        }
        let Some(last) = self.by_path.get(key(path)).and_then(|ids| ids.last().copied()) else { return };
        if let Some(entry) = self.entries.get_mut(&last)
            && entry.etype == Etype::Move
            && entry.status != Status::Active
            && entry.path2.as_deref() == Some(path)
        {
            // It keeps its second path in the index, so that the new event hangs on it.
            entry.etype = Etype::Delete;
        }
    }

    /// Returns the entries that an event of `path` has to do with.
    fn related(&self, path: &[u8]) -> BTreeSet<Id> {
        let key = key(path);
        let mut found = BTreeSet::new();
        let levels = std::iter::once(key).chain(above(key));
        for ids in levels.filter_map(|dir| self.by_path.get(dir)) {
            found.extend(ids);
        }
        if is_dir(path) {
            let (low, high) = ([key, b"/"].concat(), [key, b"0"].concat());
            for (_, ids) in self.by_path.range(low..high) {
                found.extend(ids);
            }
        }
        found
    }

    /// Leaves out what an event of `path` need not wait for: other kinds of events of the same file.
    fn needed(&self, path: &[u8], related: BTreeSet<Id>) -> BTreeSet<Id> {
        let independent = |id: &Id| {
            self.combine == Combine::Kinds
                && !is_dir(path)
                && self.entries.get(id).is_some_and(|entry| {
                    entry.path == path && entry.path2.is_none() && entry.status != Status::Active
                })
        };
        let mut needed: BTreeSet<Id> = related.into_iter().filter(|id| !independent(id)).collect();
        needed.extend(&self.barriers);
        needed
    }

    /// Marks entries as worked on by a child.
    pub fn activate(&mut self, ids: &[Id]) {
        for id in ids {
            self.waiting.remove(id);
            if let Some(entry) = self.entries.get_mut(id) {
                entry.status = Status::Active;
            }
        }
    }

    /// Puts entries back that a child did not finish.
    pub fn retry(&mut self, ids: &[Id], alarm: Instant) {
        for id in ids {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            entry.alarm = Some(alarm);
            entry.status = if entry.blockers.is_empty() { Status::Wait } else { Status::Block };
            if entry.status == Status::Wait {
                self.waiting.insert(*id);
            }
        }
    }

    /// Removes an entry and frees what hangs on it.
    pub fn remove(&mut self, id: Id) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.waiting.remove(&id);
        self.barriers.remove(&id);
        for path in [Some(&entry.path), entry.path2.as_ref()].into_iter().flatten() {
            if let Some(ids) = self.by_path.get_mut(key(path)) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_path.remove(key(path));
                }
            }
        }
        for dependent in entry.dependents {
            let Some(other) = self.entries.get_mut(&dependent) else { continue };
            other.blockers.remove(&id);
            if other.blockers.is_empty() && other.status == Status::Block {
                other.status = Status::Wait;
                self.waiting.insert(dependent);
            }
        }
    }

    /// Returns what one action may take together: from the front, up to the first move or whole entry,
    /// with what hangs only on entries that it takes as well.
    pub fn batch(&self, mut test: impl FnMut(Id, &Delay) -> Take) -> Vec<Id> {
        let mut taken = Vec::new();
        let mut set = HashSet::new();
        for (id, entry) in self.iter() {
            if matches!(entry.etype, Etype::Move | Etype::Init | Etype::Blanket) {
                break;
            }
            let free = entry.status != Status::Active
                && entry.etype != Etype::Full
                && entry.blockers.iter().all(|blocker| set.contains(blocker));
            if !free {
                continue;
            }
            match test(id, entry) {
                Take::Yes => {
                    taken.push(id);
                    set.insert(id);
                }
                Take::No => {}
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(delays: &Delays) -> Vec<String> {
        let line = |(_, delay): (Id, &Delay)| {
            let path = String::from_utf8_lossy(&delay.path).into_owned();
            format!("{} {} {path}", delay.status.word(), delay.etype.word())
        };
        delays.iter().map(line).collect()
    }

    fn queue(combine: Combine, events: &[(Etype, &str)]) -> Delays {
        let mut delays = Delays::new(combine);
        for (etype, path) in events {
            delays.push(*etype, path.as_bytes(), None);
        }
        delays
    }

    #[test]
    fn events_of_one_file_are_one_entry_where_only_the_path_counts() {
        let touched = [(Etype::Create, "/f"), (Etype::Attrib, "/f"), (Etype::Modify, "/f")];
        assert_eq!(shown(&queue(Combine::Paths, &touched)), ["wait Create /f"]);
        assert_eq!(queue(Combine::Kinds, &touched).len(), 3);
        let gone = [(Etype::Create, "/f"), (Etype::Delete, "/f")];
        assert_eq!(shown(&queue(Combine::Paths, &gone)), ["wait Delete /f"]);
    }

    #[test]
    fn hooks_hear_of_many_writes_once() {
        let writes = [(Etype::Modify, "/f"); 9];
        assert_eq!(shown(&queue(Combine::Kinds, &writes)), ["wait Modify /f"]);
    }

    #[test]
    fn what_lies_below_a_directory_waits_for_it_and_rides_along() {
        let delays = queue(Combine::Paths, &[(Etype::Create, "/d/"), (Etype::Create, "/d/f")]);
        assert_eq!(shown(&delays), ["wait Create /d/", "block Create /d/f"]);
        assert_eq!(delays.batch(|_, _| Take::Yes).len(), 2);
    }

    #[test]
    fn nothing_is_merged_across_the_delete_of_its_directory() {
        let delays = queue(
            Combine::Paths,
            &[
                (Etype::Modify, "/d/f"),
                (Etype::Delete, "/d/"),
                (Etype::Create, "/d/"),
                (Etype::Modify, "/d/f"),
            ],
        );
        assert_eq!(
            shown(&delays),
            ["wait Modify /d/f", "block Delete /d/", "block Create /d/", "block Modify /d/f"]
        );
    }

    #[test]
    fn a_move_of_what_waits_is_a_delete_and_a_create() {
        let mut delays = queue(Combine::Paths, &[(Etype::Create, "/a")]);
        assert!(!delays.push_move(b"/a", b"/b", None));
        assert_eq!(shown(&delays), ["wait Delete /a", "wait Create /b"]);
    }

    #[test]
    fn a_move_whose_new_name_goes_is_a_delete_of_the_old_one() {
        let mut delays = Delays::new(Combine::Paths);
        assert!(delays.push_move(b"/a", b"/b", None));
        delays.push(Etype::Delete, b"/b", None);
        assert_eq!(shown(&delays), ["wait Delete /a", "block Delete /b"]);
    }

    #[test]
    fn everything_waits_for_the_first_pass() {
        let mut delays = Delays::new(Combine::Paths);
        let init = delays.push_whole(Etype::Init, None);
        delays.push(Etype::Create, b"/f", None);
        assert_eq!(shown(&delays), ["wait Init ", "block Create /f"]);
        delays.activate(&[init]);
        assert!(delays.batch(|_, _| Take::Yes).is_empty());
        delays.remove(init);
        assert_eq!(shown(&delays), ["wait Create /f"]);
    }

    #[test]
    fn a_file_in_work_that_changes_is_worked_on_again_afterwards() {
        let mut delays = queue(Combine::Paths, &[(Etype::Modify, "/f")]);
        let (first, _) = delays.first().unwrap();
        delays.activate(&[first]);
        delays.push(Etype::Modify, b"/f", None);
        assert_eq!(shown(&delays), ["active Modify /f", "block Modify /f"]);
        delays.remove(first);
        assert_eq!(shown(&delays), ["wait Modify /f"]);
    }
}
