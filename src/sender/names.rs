//! Names of files that have several, what is not read yet under each, and which of them the target has as
//! links of one file.
//!
//! **Invariants:** a name may be noted for more than one file: a pass is ahead of the changes that tell of
//! a rename. Each name is in the order and in the ring of its file. What is joined is of one session. A name
//! costs some 70 bytes besides its path, and half as much again for the file: there may be millions. Pure.

mod order;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Instant;

use self::order::Order;
use super::recent::Sent;
use crate::tree::{Entry, FileId, RelPath, Time, Version};

const FIRST: FileId = FileId { dev: u64::MIN, ino: u64::MIN };

/// A name that a file has lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parted {
    pub id: FileId,
    pub path: RelPath,
    /// Whether what the file holds was to be read under this name, and was not.
    pub unread: bool,
}

/// A file with several names, as it was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// When the reading began; `None` if it was not read but found to be equal on both sides.
    pub began: Option<Instant>,
    size: u64,
    // Not as a `Time`, which would take more room.
    secs: i64,
    nanos: u32,
    /// The name under which it was sent.
    first: u32,
}

impl Group {
    /// Whether size and time are those that were sent.
    pub fn is_of(&self, entry: &Entry) -> bool {
        let now = entry.version();
        (self.size, self.secs, self.nanos) == (now.size, now.mtime.secs, now.mtime.nanos)
    }
}

#[derive(Debug)]
struct Name {
    path: RelPath,
    file: u32,
    /// Its neighbours among the names of the file: a ring.
    next: u32,
    before: u32,
    /// Whether the content is to be read again under it.
    unread: bool,
    /// Whether it was sent, or linked to what was.
    joined: bool,
}

#[derive(Debug)]
struct File {
    id: FileId,
    /// Any of its names.
    name: u32,
    count: u32,
    group: Option<Group>,
}

/// Which names belong together.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: Vec<Name>,
    files: Vec<File>,
    by_file: Order,
    by_name: Order,
}

fn index(number: u32) -> usize {
    number as usize
}

impl Names {
    fn key(&self, number: u32) -> (&RelPath, FileId) {
        let name = &self.names[index(number)];
        (&name.path, self.files[index(name.file)].id)
    }

    /// Returns what compares a name with a key.
    fn to<'a>(&'a self, path: &'a RelPath, id: FileId) -> impl Fn(u32) -> Ordering + 'a {
        move |number| self.key(number).cmp(&(path, id))
    }

    fn find(&self, id: FileId, path: &RelPath) -> Option<u32> {
        self.number_of(id)?;
        self.by_name.from(self.to(path, id)).next().filter(|number| self.key(*number) == (path, id))
    }

    /// Returns what compares a file with an id.
    fn to_id(&self, id: FileId) -> impl Fn(u32) -> Ordering + '_ {
        move |number| self.files[index(number)].id.cmp(&id)
    }

    fn number_of(&self, id: FileId) -> Option<u32> {
        let number = self.by_file.from(self.to_id(id)).next();
        number.filter(|number| self.files[index(*number)].id == id)
    }

    fn file(&self, id: FileId) -> Option<&File> {
        self.number_of(id).map(|number| &self.files[index(number)])
    }

    fn numbers(&self, id: FileId) -> impl Iterator<Item = u32> {
        let file = self.file(id);
        let (mut at, count) = file.map_or((0, 0), |file| (file.name, file.count));
        (0..count).map(move |_| {
            let next = self.names[index(at)].next;
            std::mem::replace(&mut at, next)
        })
    }

    /// Notes a name of a file.
    pub fn add(&mut self, id: FileId, path: &RelPath) {
        if self.find(id, path).is_some() {
            return;
        }
        let (Ok(number), Ok(next_file)) = (u32::try_from(self.names.len()), u32::try_from(self.files.len()))
        else {
            return;
        };
        let file = self.number_of(id).unwrap_or(next_file);
        let mut name =
            Name { path: path.clone(), file, next: number, before: number, unread: false, joined: false };
        match self.files.get_mut(index(file)) {
            None => {
                self.files.push(File { id, name: number, count: 1, group: None });
                let mut order = std::mem::take(&mut self.by_file);
                order.insert(file, self.to_id(id));
                self.by_file = order;
            }
            Some(known) => {
                known.count += 1;
                (name.before, name.next) = (known.name, self.names[index(known.name)].next);
                self.names[index(name.before)].next = number;
                self.names[index(name.next)].before = number;
            }
        }
        self.names.push(name);
        let mut order = std::mem::take(&mut self.by_name);
        order.insert(number, self.to(path, id));
        self.by_name = order;
    }

    /// Returns how many names of a file are known.
    pub fn count(&self, id: FileId) -> usize {
        self.file(id).map_or(0, |file| index(file.count))
    }

    /// Returns the known names of a file.
    pub fn of(&self, id: FileId) -> BTreeSet<RelPath> {
        self.numbers(id).map(|number| self.names[index(number)].path.clone()).collect()
    }

    /// Whether a name is known to be one of a file.
    pub fn has(&self, id: FileId, path: &RelPath) -> bool {
        self.find(id, path).is_some()
    }

    /// Returns the files that are known under `path`.
    pub fn files_at<'a>(&'a self, path: &'a RelPath) -> impl Iterator<Item = FileId> + 'a {
        let from = self.by_name.from(self.to(path, FIRST));
        from.map(|number| self.key(number)).take_while(move |(other, _)| *other == path).map(|(_, id)| id)
    }

    /// Returns the files that are to be read again under any of their names.
    pub fn unread(&self) -> BTreeSet<FileId> {
        let unread = self.names.iter().filter(|name| name.unread);
        unread.map(|name| self.files[index(name.file)].id).collect()
    }

    /// Notes whether a file is to be read again under a name.
    pub fn mark(&mut self, id: FileId, path: &RelPath, unread: bool) {
        if let Some(number) = self.find(id, path) {
            self.names[index(number)].unread = unread;
        }
    }

    /// Forgets what the session before has joined.
    pub fn part_all(&mut self) {
        self.files.iter_mut().for_each(|file| file.group = None);
        self.names.iter_mut().for_each(|name| name.joined = false);
    }

    /// Forgets which names of a file are joined.
    pub fn part_names(&mut self, id: FileId) {
        let numbers: Vec<u32> = self.numbers(id).collect();
        numbers.into_iter().for_each(|number| self.names[index(number)].joined = false);
    }

    /// Notes that a file was sent under one of its names; those that are joined to it stay so.
    pub fn sent(&mut self, id: FileId, path: &RelPath, sent: &Sent) {
        self.add(id, path);
        self.begin(id, path, &sent.version, Some(sent.began));
    }

    /// Notes that a comparison has found a file on the target under one of its names.
    pub fn stands(&mut self, id: FileId, path: &RelPath, version: &Version) {
        self.begin(id, path, version, None);
    }

    fn begin(&mut self, id: FileId, path: &RelPath, version: &Version, began: Option<Instant>) {
        let Some(first) = self.find(id, path) else { return };
        self.names[index(first)].joined = true;
        let (size, Time { secs, nanos }) = (version.size, version.mtime);
        let file = self.names[index(first)].file;
        self.files[index(file)].group = Some(Group { began, size, secs, nanos, first });
    }

    /// Notes that a name is linked to what was sent.
    pub fn join(&mut self, id: FileId, path: &RelPath) {
        if let Some(number) = self.find(id, path).filter(|_| self.group(id).is_some()) {
            self.names[index(number)].joined = true;
        }
    }

    /// Whether a file was sent under another name, and this one is not linked to that.
    pub fn is_to_join(&self, id: FileId, path: &RelPath) -> bool {
        self.group(id).is_some() && !self.is_joined(id, path)
    }

    /// Whether a name was sent, or linked to what was.
    pub fn is_joined(&self, id: FileId, path: &RelPath) -> bool {
        self.find(id, path).is_some_and(|number| self.names[index(number)].joined)
    }

    /// Returns as what a file was sent, and under which name.
    pub fn group(&self, id: FileId) -> Option<(Group, &RelPath)> {
        let group = self.file(id)?.group?;
        Some((group, &self.names[index(group.first)].path))
    }

    /// Forgets a name of a file.
    pub fn remove(&mut self, id: FileId, path: &RelPath) {
        let Some(number) = self.find(id, path) else { return };
        let mut order = std::mem::take(&mut self.by_name);
        order.remove(self.to(path, id));
        // The last one takes the place.
        let last = u32::try_from(self.names.len() - 1).unwrap_or(number);
        if last != number {
            let (path, id) = self.key(last);
            order.remove(self.to(path, id));
        }
        self.unchain(number);
        self.names.swap_remove(index(number));
        if last != number {
            self.moved(last, number);
            let (path, id) = self.key(number);
            order.insert(number, self.to(path, id));
        }
        self.by_name = order;
    }

    /// Takes a name out of its file, and the file away with its last.
    fn unchain(&mut self, number: u32) {
        let Name { file, next, before, .. } = self.names[index(number)];
        self.names[index(before)].next = next;
        self.names[index(next)].before = before;
        let id = self.files[index(file)].id;
        let known = &mut self.files[index(file)];
        known.count -= 1;
        if known.name == number {
            known.name = next;
        }
        if known.count > 0 {
            if known.group.is_some_and(|group| group.first == number) {
                let other = self.numbers(id).find(|other| self.names[index(*other)].joined);
                let known = &mut self.files[index(file)];
                known.group = known.group.and_then(|group| Some(Group { first: other?, ..group }));
            }
            return;
        }
        self.remove_file(file);
    }

    /// Removes a file that has no name any more; the last one takes its place.
    fn remove_file(&mut self, file: u32) {
        let last = u32::try_from(self.files.len() - 1).unwrap_or(file);
        let mut order = std::mem::take(&mut self.by_file);
        for number in [file, last] {
            order.remove(self.to_id(self.files[index(number)].id));
        }
        self.files.swap_remove(index(file));
        if last != file {
            let id = self.files[index(file)].id;
            order.insert(file, self.to_id(id));
            self.by_file = order;
            let numbers: Vec<u32> = self.numbers(id).collect();
            numbers.into_iter().for_each(|other| self.names[index(other)].file = file);
            return;
        }
        self.by_file = order;
    }

    /// Has all that points to a name point to its new place.
    fn moved(&mut self, from: u32, to: u32) {
        let Name { file, next, before, .. } = self.names[index(to)];
        let known = &mut self.files[index(file)];
        if known.name == from {
            known.name = to;
        }
        if let Some(group) = known.group.as_mut().filter(|group| group.first == from) {
            group.first = to;
        }
        // Alone, it is its own neighbour.
        let (next, before) = if next == from { (to, to) } else { (next, before) };
        self.names[index(next)].before = to;
        self.names[index(before)].next = to;
    }

    /// Forgets that a path was a name of any other file than `now`; returns those.
    pub fn part_others(&mut self, path: &RelPath, now: Option<FileId>) -> Vec<Parted> {
        let others: Vec<FileId> = self.files_at(path).filter(|id| Some(*id) != now).collect();
        self.part(others.into_iter().map(|id| (path.clone(), id)).collect())
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
        for (path, id) in self.within(from) {
            let (Some(number), Some(new)) = (self.find(id, &path), path.rebase(from, to)) else { continue };
            let (unread, joined) = (self.names[index(number)].unread, self.names[index(number)].joined);
            let first = self.group(id).filter(|(_, first)| **first == path).map(|(group, _)| group);
            self.add(id, &new);
            self.remove(id, &path);
            let Some(number) = self.find(id, &new) else { continue };
            let name = &mut self.names[index(number)];
            (name.unread, name.joined) = (unread, name.joined || joined);
            let file = name.file;
            if let Some(group) = first {
                self.files[index(file)].group = Some(Group { first: number, ..group });
            }
            moved.push((id, path, new));
        }
        moved
    }

    fn within(&self, top: &RelPath) -> Vec<(RelPath, FileId)> {
        let owned = |(path, id): (&RelPath, FileId)| (path.clone(), id);
        if top.is_root() {
            return self.by_name.from(|_| Ordering::Equal).map(|number| owned(self.key(number))).collect();
        }
        if self.by_name.is_empty() {
            return Vec::new();
        }
        let (low, high) = top.below_range();
        let itself = self.files_at(top).map(|id| (top.clone(), id));
        let below = self.by_name.from(self.to(&low, FIRST)).map(|number| self.key(number));
        itself.chain(below.take_while(|(path, _)| **path < high).map(owned)).collect()
    }

    fn part(&mut self, keys: Vec<(RelPath, FileId)>) -> Vec<Parted> {
        let mut parted = Vec::with_capacity(keys.len());
        for (path, id) in keys {
            let unread = self.find(id, &path).is_some_and(|number| self.names[index(number)].unread);
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
        assert!(names.by_file.is_empty() && names.by_name.is_empty() && names.names.is_empty());
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

    #[test]
    fn it_holds_the_pairs_that_a_plain_set_holds() {
        let (mut names, mut pairs) = (Names::default(), BTreeSet::<(RelPath, FileId)>::new());
        let mut seed = 7_u32;
        let mut draw = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for step in 0..6000 {
            let name = format!("{}/{}", draw(6), draw(12));
            let (one, file) = (path(&name), id(u64::from(draw(9))));
            match draw(8) {
                0 => {
                    let to = path(&draw(6).to_string());
                    let from = path(&draw(6).to_string());
                    if from != to {
                        names.part_within(&to);
                        pairs.retain(|(path, _)| !path.is_within(&to));
                        names.rename(&from, &to);
                        let old = std::mem::take(&mut pairs).into_iter();
                        pairs = old.map(|(path, id)| (path.rebase(&from, &to).unwrap_or(path), id)).collect();
                    }
                }
                1 => {
                    names.part_others(&one, Some(file));
                    pairs.retain(|(path, id)| *path != one || *id == file);
                }
                2 => {
                    names.remove(file, &one);
                    pairs.remove(&(one, file));
                }
                _ => {
                    names.add(file, &one);
                    pairs.insert((one, file));
                }
            }
            let held: BTreeSet<_> = names.within(&RelPath::root()).into_iter().collect();
            assert_eq!(held, pairs, "after step {step}");
            for file in (0..9).map(id) {
                let known = pairs.iter().filter(|(_, of)| *of == file).map(|(path, _)| path.clone());
                assert_eq!(names.of(file), known.collect(), "after step {step}");
            }
        }
        assert!(pairs.len() > 20);
    }

    #[test]
    fn what_is_joined_is_followed_and_the_first_name_has_an_heir() {
        let mut names = names(&[(1, "d/a"), (1, "b"), (1, "c"), (2, "e")]);
        let (mtime, ctime) = (Time::default(), Time::default());
        let version = crate::tree::Version { id: id(1), size: 3, mtime, ctime };
        let sent = Sent { version, began: Instant::now(), hash: [0; 32], provisional: 0 };
        names.sent(id(1), &path("d/a"), &sent);
        names.join(id(1), &path("b"));
        names.join(id(2), &path("e"));
        let joined = |names: &Names, of, name: &str| names.is_joined(id(of), &path(name));
        assert!(joined(&names, 1, "b") && !joined(&names, 1, "c") && !joined(&names, 2, "e"));
        names.rename(&path("d"), &path("x"));
        assert_eq!(names.group(id(1)).map(|(_, first)| first.clone()), Some(path("x/a")));
        names.part_within(&path("x"));
        assert_eq!(names.group(id(1)).map(|(_, first)| first.clone()), Some(path("b")));
        names.part_within(&path("b"));
        assert!(names.group(id(1)).is_none(), "the last name was never joined");
        names.sent(id(1), &path("c"), &sent);
        names.part_all();
        assert!(names.group(id(1)).is_none() && !joined(&names, 1, "c"));
    }
}
