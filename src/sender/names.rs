//! Names of files that have several, and what is not read yet under each.
//!
//! **Invariants:** a name may be noted for more than one file: a pass is ahead of the changes that tell of
//! a rename. Both directions hold the same pairs. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::tree::{FileId, RelPath};

const FIRST: FileId = FileId { dev: u64::MIN, ino: u64::MIN };
const LAST: FileId = FileId { dev: u64::MAX, ino: u64::MAX };

/// A name that a file has lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parted {
    pub id: FileId,
    pub path: RelPath,
    /// Whether what the file holds was to be read under this name, and was not.
    pub unread: bool,
}

/// Which names belong together.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_file: HashMap<FileId, BTreeSet<RelPath>>,
    /// With whether the content is to be read again under the name.
    by_name: BTreeMap<(RelPath, FileId), bool>,
}

impl Names {
    /// Notes a name of a file.
    pub fn add(&mut self, id: FileId, path: &RelPath) {
        if self.by_file.entry(id).or_default().insert(path.clone()) {
            self.by_name.insert((path.clone(), id), false);
        }
    }

    /// Returns how many names of a file are known.
    pub fn count(&self, id: FileId) -> usize {
        self.by_file.get(&id).map_or(0, BTreeSet::len)
    }

    /// Returns the known names of a file.
    pub fn of(&self, id: FileId) -> BTreeSet<RelPath> {
        self.by_file.get(&id).cloned().unwrap_or_default()
    }

    /// Returns all names of the files that are known under `path`.
    pub fn beside(&self, path: &RelPath) -> BTreeSet<RelPath> {
        let at = self.by_name.range((path.clone(), FIRST)..=(path.clone(), LAST));
        at.flat_map(|((_, id), _)| self.of(*id)).collect()
    }

    /// Returns all names of the files that are to be read again under any.
    pub fn unread(&self) -> BTreeSet<RelPath> {
        let unread = self.by_name.iter().filter(|(_, unread)| **unread);
        unread.flat_map(|((_, id), _)| self.of(*id)).collect()
    }

    /// Notes whether a file is to be read again under a name.
    pub fn mark(&mut self, id: FileId, path: &RelPath, unread: bool) {
        // Most files have one name: nothing is made to look for them.
        if !self.by_file.contains_key(&id) {
            return;
        }
        if let Some(known) = self.by_name.get_mut(&(path.clone(), id)) {
            *known = unread;
        }
    }

    /// Forgets a name of a file.
    pub fn remove(&mut self, id: FileId, path: &RelPath) {
        self.by_name.remove(&(path.clone(), id));
        if let Some(names) = self.by_file.get_mut(&id) {
            names.remove(path);
            if names.is_empty() {
                self.by_file.remove(&id);
            }
        }
    }

    /// Forgets that a path was a name of any other file than `now`; returns those.
    pub fn part_others(&mut self, path: &RelPath, now: Option<FileId>) -> Vec<Parted> {
        if self.by_name.is_empty() {
            return Vec::new();
        }
        let at = self.by_name.range((path.clone(), FIRST)..=(path.clone(), LAST));
        let keys = at.map(|(key, _)| key.clone()).filter(|(_, id)| Some(*id) != now).collect();
        self.part(keys)
    }

    /// Forgets a name and all below it; returns them.
    pub fn part_within(&mut self, top: &RelPath) -> Vec<Parted> {
        let keys = self.within(top);
        self.part(keys)
    }

    /// Follows a rename of a name or a directory to where nothing is; returns the file, the old and the new
    /// name of each that moved.
    pub fn rename(&mut self, from: &RelPath, to: &RelPath) -> Vec<(FileId, RelPath, RelPath)> {
        let mut moved = Vec::new();
        for Parted { id, path, unread } in self.part_within(from) {
            if let Some(new) = path.rebase(from, to) {
                self.add(id, &new);
                self.mark(id, &new, unread);
                moved.push((id, path, new));
            }
        }
        moved
    }

    fn within(&self, top: &RelPath) -> Vec<(RelPath, FileId)> {
        if self.by_name.is_empty() {
            return Vec::new();
        }
        if top.is_root() {
            return self.by_name.keys().cloned().collect();
        }
        let (low, high) = top.below_range();
        let itself = self.by_name.range((top.clone(), FIRST)..=(top.clone(), LAST));
        let below = self.by_name.range((low, FIRST)..(high, FIRST));
        itself.chain(below).map(|(key, _)| key.clone()).collect()
    }

    fn part(&mut self, keys: Vec<(RelPath, FileId)>) -> Vec<Parted> {
        let mut parted = Vec::with_capacity(keys.len());
        for (path, id) in keys {
            let unread = self.by_name.get(&(path.clone(), id)).copied().unwrap_or_default();
            self.remove(id, &path);
            parted.push(Parted { id, path, unread });
        }
        parted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ino: u64) -> FileId {
        FileId { dev: 1, ino }
    }

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn names(pairs: &[(u64, &str)]) -> Names {
        let mut names = Names::default();
        for (ino, name) in pairs {
            names.add(id(*ino), &path(name));
        }
        names
    }

    fn of(names: &Names, ino: u64) -> Vec<String> {
        names.of(id(ino)).iter().map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned()).collect()
    }

    #[test]
    fn what_goes_with_a_directory_is_told_with_what_was_not_read() {
        let mut names = names(&[(1, "d/a"), (1, "d0"), (2, "d"), (3, "d/b/c")]);
        names.mark(id(1), &path("d/a"), true);
        let parted = names.part_within(&path("d"));
        let shown: Vec<_> = parted.iter().map(|parted| (parted.id.ino, parted.unread)).collect();
        assert_eq!(shown, [(2, false), (1, true), (3, false)]);
        assert_eq!((of(&names, 1), names.count(id(3))), (vec!["d0".to_owned()], 0));
        assert_eq!(names.part_within(&RelPath::root()).len(), 1);
        assert!(names.by_file.is_empty() && names.by_name.is_empty());
    }

    #[test]
    fn a_rename_takes_names_and_marks_along() {
        let mut names = names(&[(1, "d/a"), (1, "e")]);
        names.mark(id(1), &path("d/a"), true);
        assert_eq!(names.rename(&path("d"), &path("f/g")), [(id(1), path("d/a"), path("f/g/a"))]);
        assert_eq!(of(&names, 1), ["e", "f/g/a"]);
        assert!(names.part_within(&path("f")).iter().all(|parted| parted.unread));
    }

    #[test]
    fn a_name_of_two_files_parts_from_the_one_that_it_is_not() {
        let mut names = names(&[(1, "a"), (2, "a"), (1, "b")]);
        let parted = names.part_others(&path("a"), Some(id(2)));
        assert_eq!(parted, [Parted { id: id(1), path: path("a"), unread: false }]);
        assert_eq!((of(&names, 1), of(&names, 2)), (vec!["b".to_owned()], vec!["a".to_owned()]));
        assert_eq!(names.part_others(&path("a"), None).len(), 1);
    }
}
