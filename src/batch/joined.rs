//! What becomes of changes that are too many to be kept one by one: a comparison of everything, as old as the
//! oldest of them.
//!
//! Equal sizes and times are believed there of files that did not change since the oldest of them. That says
//! nothing of what came with a directory from elsewhere, which keeps its change times: such directories are kept
//! by name, and compared as a whole.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Change, ChangeKind, Extent};
use crate::event::{Age, Event, EventKind, Moment, RescanReason};
use crate::tree::RelPath;

/// Subtrees that are compared as a whole one by one; more become everything.
const WHOLE_MAX: usize = 1000;

/// Changes that were joined, in their order.
#[derive(Debug, Default)]
pub struct Joined {
    age: Option<Age>,
    /// Subtrees in which equal sizes and times prove nothing, by the names that they have after all renames, and
    /// since when they are to be compared.
    whole: BTreeMap<RelPath, Instant>,
    /// The lowest directory that holds every file whose time of change nobody knows, and since when the oldest waits.
    unknown: Option<(RelPath, Instant)>,
}

impl Joined {
    /// Adds a change.
    pub fn add(&mut self, change: &Change) {
        let age = change.age;
        match &change.kind {
            ChangeKind::Update { path, scope: Extent::Content | Extent::Absent } => self.content(path, age),
            ChangeKind::Update { .. } | ChangeKind::Name { .. } => self.join(age),
            ChangeKind::Delete { .. } => self.deleted(age),
            ChangeKind::Rename { from, to, dir } => self.renamed(from, to, *dir, age),
            ChangeKind::Rescan { path, reason } => self.compared(path, *reason, age),
        }
    }

    /// Adds an event that nobody has taken in.
    pub fn add_event(&mut self, event: &Event) {
        let age = event.age();
        match &event.kind {
            EventKind::Modify(path)
            | EventKind::CloseWrite(path)
            | EventKind::Create { path, dir: false } => {
                self.content(path, age);
            }
            EventKind::Create { .. } | EventKind::Attrib { .. } => self.join(age),
            EventKind::Delete { .. } => self.deleted(age),
            EventKind::Move { from, to, dir } => self.renamed(from, to, *dir, age),
            EventKind::Rescan { path, reason } => self.compared(path, *reason, age),
        }
    }

    /// Adds a content that is to be read.
    pub fn content(&mut self, path: &RelPath, age: Age) {
        if age.change != Moment::UNKNOWN {
            return self.join(age);
        }
        let dir = path.parent().unwrap_or_default();
        self.unknown = Some(match self.unknown.take() {
            Some((known, since)) => (common(&known, &dir), since.min(age.since)),
            None => (dir, age.since),
        });
        self.join(Age::believed(age.since));
    }

    /// Adds something that waits.
    pub fn join(&mut self, age: Age) {
        let age = if age.change == Moment::UNKNOWN { Age::believed(age.since) } else { age };
        self.age = Age::of_both(self.age, Some(age));
    }

    /// Adds a delete: it has no content that could be missed.
    pub fn deleted(&mut self, age: Age) {
        self.join(Age::believed(age.since));
    }

    fn renamed(&mut self, from: &RelPath, to: &RelPath, dir: bool, age: Age) {
        // A file's own rename sets its change time.
        self.join(age);
        if !dir {
            return;
        }
        for (path, since) in std::mem::take(&mut self.whole) {
            self.whole.insert(path.rebase(from, to).unwrap_or(path), since);
        }
        if let Some((path, _)) = &mut self.unknown {
            *path = path.rebase(from, to).unwrap_or_else(|| path.clone());
        }
        self.keep_whole(to.clone(), age.since);
    }

    fn compared(&mut self, path: &RelPath, reason: RescanReason, age: Age) {
        if reason.reads() || age.change == Moment::UNKNOWN {
            self.keep_whole(path.clone(), age.since);
        }
        self.join(age);
    }

    fn keep_whole(&mut self, path: RelPath, since: Instant) {
        let known = self.whole.entry(path).or_insert(since);
        *known = since.min(*known);
        if self.whole.len() > WHOLE_MAX {
            let oldest = self.whole.values().min().copied().unwrap_or(since);
            self.whole = BTreeMap::from([(RelPath::root(), oldest)]);
        }
    }

    /// Returns the comparisons that find everything that was joined, in no particular order.
    pub fn into_changes(mut self) -> Vec<Change> {
        let Some(age) = self.age else { return Vec::new() };
        if let Some((path, since)) = self.unknown.take() {
            self.keep_whole(path, since);
        }
        let all = Change::compare(RelPath::root(), RescanReason::Overflow, age);
        let mut last: Option<RelPath> = None;
        let mut tops = Vec::new();
        for (path, since) in self.whole {
            if last.as_ref().is_none_or(|above| !path.is_within(above)) {
                last = Some(path.clone());
                tops.push(Change::compare(path, RescanReason::Arrived, Age::unknown(since)));
            }
        }
        std::iter::once(all).chain(tops).collect()
    }
}

/// Returns the lowest directory that holds both, or is one of them.
fn common(one: &RelPath, other: &RelPath) -> RelPath {
    let mut above = std::iter::successors(Some(one.clone()), RelPath::parent);
    above.find(|above| other.is_within(above)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Identity;
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    /// The comparisons that joined changes become, as paths, with `/` where contents are compared whatever
    /// their change times, and the moment from which change times count for the others.
    fn joined(changes: impl IntoIterator<Item = (Moment, ChangeKind)>) -> Vec<String> {
        let (now, mut joined) = (Instant::now(), Joined::default());
        for (change, kind) in changes {
            joined.add(&Change { age: Age::new(now, change), kind });
        }
        let told = |change: Change| match change.kind {
            ChangeKind::Rescan { path, reason: RescanReason::Arrived } => format!("{path}/"),
            ChangeKind::Rescan { path, .. } => format!("{path} {}", change.age.change.0),
            other => panic!("{other:?}"),
        };
        joined.into_changes().into_iter().map(told).collect()
    }

    fn content(text: &str) -> ChangeKind {
        ChangeKind::Update { path: path(text), scope: Extent::Content }
    }

    fn rename(from: &str, to: &str) -> ChangeKind {
        ChangeKind::Rename { from: path(from), to: path(to), dir: true }
    }

    #[test]
    fn joined_contents_are_as_old_as_the_oldest_and_deletes_count_for_nothing() {
        let gone = ChangeKind::Delete { path: path("x"), expected: Identity::Any };
        let kinds = [(Moment(7), content("a")), (Moment(5), content("b")), (Moment(1), gone)];
        assert_eq!(joined(kinds), ["\".\" 5"]);
        assert!(joined([]).is_empty());
    }

    #[test]
    fn what_came_with_a_directory_is_compared_as_a_whole_under_its_last_name() {
        let kinds = [
            (Moment(5), rename("d", "e")),
            (Moment(6), rename("e", "top/f")),
            (Moment(7), rename("top", "x")),
            (Moment::UNKNOWN, content("in/a/1")),
            (Moment::UNKNOWN, content("in/b/2")),
            (Moment(8), rename("in", "out")),
        ];
        assert_eq!(joined(kinds), ["\".\" 5", "\"out\"/", "\"x\"/"]);
    }

    #[test]
    fn too_many_directories_that_came_are_everything() {
        let many = (0..=WHOLE_MAX).map(|at| (Moment(9), rename("d", &format!("e{at}"))));
        assert_eq!(joined(many), ["\".\" 9", "\".\"/"]);
    }
}
