//! Files that are to be verified: size and time are equal on both sides, but what they hold may have changed.
//!
//! **Purpose:** where events were lost, a file that changed since may hold anything behind an equal size and time.
//! A comparison sends at once what it sees to differ, and leaves such files here; they are hashed on both sides in
//! the background, and what differs is sent (`pass/doubts.rs`). Owed for `wait`; no lag, and no reason not to be
//! live.
//! **In → Out:** names from comparisons, renames as they are sent; names to be verified.
//! **Invariants:** a name follows the renames that are sent until everything was heard that was queued when it was
//! verified, since the file that was meant may have been elsewhere by then. Too many names in one directory become
//! the directory.
//! **Not here:** reading (`pass/doubts.rs`); which files are doubted (`scan::Doubt`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::ages::Ages;
use crate::event::Age;
use crate::tree::RelPath;

/// Names that are kept one by one; of more, their directories.
const NAMES_MAX: usize = 200_000;

/// What is to be verified of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verifying {
    /// A file of so many bytes.
    File(u64),
    /// All files in a directory.
    Dir,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    what: Verifying,
    age: Age,
    /// Changes with every change of what is owed here.
    number: u64,
}

impl Entry {
    fn len(&self) -> u64 {
        match self.what {
            Verifying::File(len) => len,
            Verifying::Dir => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    due: BTreeMap<RelPath, Entry>,
    /// What was verified, and when.
    done: BTreeMap<RelPath, (Entry, Instant)>,
    numbers: u64,
    /// Of what is due.
    bytes: u64,
    /// Since when, of everything.
    since: Ages,
    running: bool,
}

impl Inner {
    fn put(&mut self, path: RelPath, what: Verifying, age: Age) {
        let known = self.take(&path);
        let age = known.map_or(age, |known| known.age.join(age));
        let what = match (known.map(|known| known.what), what) {
            (Some(Verifying::Dir), _) | (_, Verifying::Dir) => Verifying::Dir,
            (_, file) => file,
        };
        self.numbers += 1;
        self.since.add(age.since);
        let entry = Entry { what, age, number: self.numbers };
        self.bytes += entry.len();
        self.due.insert(path, entry);
    }

    fn take(&mut self, path: &RelPath) -> Option<Entry> {
        let due = self.due.remove(path);
        self.bytes = self.bytes.saturating_sub(due.map_or(0, |entry| entry.len()));
        let entry = due.or_else(|| self.done.remove(path).map(|(entry, _)| entry))?;
        self.since.remove(entry.age.since);
        Some(entry)
    }

    /// Returns the names at and below a path.
    fn within(&self, top: &RelPath) -> Vec<RelPath> {
        let (low, high) = top.below_range();
        let range = low..high;
        let below = self.due.range(range.clone()).map(|(path, _)| path);
        let below = below.chain(self.done.range(range).map(|(path, _)| path));
        let itself = self.due.contains_key(top) || self.done.contains_key(top);
        below.cloned().chain(itself.then(|| top.clone())).collect()
    }
}

/// What is taken out to be verified.
#[derive(Debug, Clone)]
pub(super) struct Doubtful {
    pub path: RelPath,
    pub what: Verifying,
    pub age: Age,
    number: u64,
}

impl Doubtful {
    /// Returns a file that is not kept by name.
    pub fn file(path: RelPath, len: u64, age: Age) -> Self {
        Self { path, what: Verifying::File(len), age, number: 0 }
    }

    /// Returns the size of the file.
    pub fn len(&self) -> u64 {
        match self.what {
            Verifying::File(len) => len,
            Verifying::Dir => 0,
        }
    }
}

/// What is to be verified of one target, over all its sessions.
#[derive(Debug, Default)]
pub struct Suspects(Mutex<Inner>);

impl Suspects {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a file of so many bytes.
    pub(super) fn add(&self, path: RelPath, len: u64, age: Age) {
        let mut inner = self.lock();
        if inner.due.len() + inner.done.len() < NAMES_MAX {
            inner.put(path, Verifying::File(len), age);
        } else {
            inner.put(path.parent().unwrap_or_default(), Verifying::Dir, age);
        }
    }

    /// Follows a rename that is sent.
    pub(super) fn rename(&self, from: &RelPath, to: &RelPath) {
        let mut inner = self.lock();
        for path in inner.within(from) {
            if let (Some(entry), Some(new)) = (inner.take(&path), path.rebase(from, to)) {
                inner.put(new, entry.what, entry.age);
            }
        }
        // Of a whole directory it is not known which files are meant.
        let dir = from.parent().unwrap_or_default();
        let dir = inner.due.get(&dir).or_else(|| inner.done.get(&dir).map(|(entry, _)| entry)).copied();
        if let Some(Entry { what: Verifying::Dir, age, .. }) = dir {
            inner.put(to.parent().unwrap_or_default(), Verifying::Dir, age);
        }
    }

    /// Begins to verify, unless that goes on or there is nothing to verify.
    pub(super) fn begin(&self) -> bool {
        let mut inner = self.lock();
        let begins = !inner.running && !inner.due.is_empty();
        inner.running |= begins;
        begins
    }

    /// Ends verifying.
    pub(super) fn end(&self) {
        self.lock().running = false;
    }

    /// Returns some of what is to be verified.
    pub(super) fn some(&self, most: usize) -> Vec<Doubtful> {
        let doubtful = |(path, entry): (&RelPath, &Entry)| {
            let Entry { what, age, number } = *entry;
            Doubtful { path: path.clone(), what, age, number }
        };
        self.lock().due.iter().take(most).map(doubtful).collect()
    }

    /// Takes in that something was verified; what was added, or has come there, meanwhile is not.
    pub(super) fn verified(&self, doubtful: &Doubtful) {
        let mut inner = self.lock();
        if inner.due.get(&doubtful.path).is_some_and(|entry| entry.number == doubtful.number)
            && let Some(entry) = inner.take(&doubtful.path)
        {
            inner.since.add(entry.age.since);
            inner.done.insert(doubtful.path.clone(), (entry, Instant::now()));
        }
    }

    /// Forgets what was verified at a moment of which everything was heard.
    pub(super) fn forget(&self, heard: impl Fn(Instant) -> bool) {
        let mut inner = self.lock();
        let Inner { done, since, .. } = &mut *inner;
        done.retain(|_, (entry, at)| {
            let heard = heard(*at);
            if heard {
                since.remove(entry.age.since);
            }
            !heard
        });
    }

    /// Returns since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lock().since.oldest()
    }

    /// Returns how many files are to be verified, and how many bytes they have.
    pub fn totals(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.due.len() as u64, inner.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Moment;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn due(suspects: &Suspects) -> Vec<String> {
        let path = |doubtful: Doubtful| String::from_utf8_lossy(doubtful.path.as_bytes()).into_owned();
        suspects.some(100).into_iter().map(path).collect()
    }

    #[test]
    fn what_is_verified_is_followed_until_all_that_was_queued_then_was_heard() {
        let (suspects, age) = (Suspects::default(), Age::new(Instant::now(), Moment(7)));
        for name in ["d/f", "d/g", "e"] {
            suspects.add(path(name), 10, age);
        }
        assert_eq!(suspects.totals(), (3, 30));
        let all = suspects.some(100);
        suspects.rename(&path("d"), &path("x"));
        all.iter().for_each(|doubtful| suspects.verified(doubtful));
        assert_eq!(due(&suspects), ["x/f", "x/g"], "what has come there meanwhile was not verified");
        // The file may have left before it was looked at: nobody had heard of that.
        suspects.rename(&path("e"), &path("x/e"));
        assert_eq!(due(&suspects), ["x/e", "x/f", "x/g"]);
        suspects.some(100).iter().for_each(|doubtful| suspects.verified(doubtful));
        assert_eq!(suspects.totals(), (0, 0));
        assert!(suspects.oldest().is_some());
        suspects.forget(|_| true);
        assert!(suspects.oldest().is_none());
    }

    #[test]
    fn too_many_names_are_kept_as_their_directories() {
        let (suspects, age) = (Suspects::default(), Age::new(Instant::now(), Moment(7)));
        for at in 0..=NAMES_MAX {
            suspects.add(path(&format!("d/{at}")), 1, age);
        }
        assert_eq!(suspects.lock().due.get(&path("d")).map(|entry| entry.what), Some(Verifying::Dir));
        suspects.rename(&path("d/none"), &path("e/f"));
        assert!(suspects.lock().due.contains_key(&path("e")), "it may be one of those meant");
    }
}
