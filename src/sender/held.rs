//! Deletes that are held back until somebody approves them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::batch::{Change, ChangeKind};
use crate::tree::RelPath;

/// What is held back for one target.
#[derive(Default)]
pub struct Held {
    inner: Mutex<Burst>,
    /// Somebody has approved what was held, and no session has heard of it.
    approved: AtomicBool,
}

/// Deletes that are held, and why.
#[derive(Default)]
struct Burst {
    reason: String,
    /// In the order in which they are to be sent; what is not among `paths` is held no more.
    deletes: Vec<Change>,
    paths: HashSet<RelPath>,
}

impl Burst {
    fn new(reason: String, deletes: Vec<Change>) -> Self {
        let paths = deletes.iter().map(|held| held.kind.path().clone()).collect();
        Self { reason, deletes, paths }
    }

    fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = &Change> {
        self.deletes.iter().filter(|held| self.paths.contains(held.kind.path()))
    }

    fn into_deletes(self) -> Vec<Change> {
        let Self { mut deletes, paths, .. } = self;
        deletes.retain(|held| paths.contains(held.kind.path()));
        deletes
    }
}

impl Held {
    fn burst(&self) -> MutexGuard<'_, Burst> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds back what a comparison of a subtree has found; it knows better than what was held there before.
    /// `false` if the same deletes were held for the same reason.
    pub fn hold(&self, top: &RelPath, reason: String, mut deletes: Vec<Change>) -> bool {
        let mut burst = self.burst();
        let Burst { reason: known, deletes: before, paths } = std::mem::take(&mut *burst);
        let others = before.into_iter().filter(|held| paths.contains(held.kind.path()));
        deletes.extend(others.filter(|held| !held.kind.path().is_within(top)));
        *burst = Burst::new(reason, deletes);
        known != burst.reason || paths != burst.paths
    }

    /// Adds to what is held.
    pub fn hold_more(&self, reason: String, deletes: Vec<Change>) {
        let mut burst = self.burst();
        let before = std::mem::take(&mut *burst);
        let reason = if before.is_empty() { reason } else { before.reason.clone() };
        let mut all = before.into_deletes();
        all.extend(deletes);
        *burst = Burst::new(reason, all);
    }

    /// Takes in that the source has something at a path again: a delete of it is held no more.
    pub fn is_back(&self, path: &RelPath) {
        let mut burst = self.burst();
        if burst.paths.remove(path) && burst.is_empty() {
            *burst = Burst::default();
        }
    }

    /// Follows a rename: what is held below the old name is held under the new one.
    pub fn rename(&self, from: &RelPath, to: &RelPath) {
        let mut burst = self.burst();
        if !burst.paths.iter().any(|path| path.is_within(from)) {
            return;
        }
        let before = std::mem::take(&mut *burst);
        let reason = before.reason.clone();
        let mut deletes = before.into_deletes();
        for held in &mut deletes {
            if let ChangeKind::Delete { path, .. } = &mut held.kind
                && let Some(moved) = path.rebase(from, to)
            {
                *path = moved;
            }
        }
        *burst = Burst::new(reason, deletes);
    }

    /// Takes those out of some deletes that are held already, with the directories that hold them, and returns
    /// them with the reason. A comparison of a small subtree must not judge them once more by themselves: one
    /// directory of a burst that was held is no large burst.
    pub fn held_already(&self, deletes: &mut Vec<Change>) -> (Vec<Change>, String) {
        let burst = self.burst();
        let with_dirs =
            |held: &Change| std::iter::successors(Some(held.kind.path().clone()), RelPath::parent);
        let stays: HashSet<RelPath> = burst.iter().flat_map(with_dirs).collect();
        let held = deletes.extract_if(.., |change| stays.contains(change.kind.path())).collect();
        (held, burst.reason.clone())
    }

    /// Takes everything out, to forget it.
    pub fn take(&self) -> Vec<Change> {
        std::mem::take(&mut *self.burst()).into_deletes()
    }

    /// Takes everything out to send it, since somebody approves it.
    pub fn approve(&self) -> Vec<Change> {
        let taken = self.take();
        self.approved.fetch_or(!taken.is_empty(), Ordering::AcqRel);
        taken
    }

    /// Whether something was approved since this was asked last.
    pub fn was_approved(&self) -> bool {
        self.approved.swap(false, Ordering::AcqRel)
    }

    /// Returns why the delete of a path is held, if it is.
    pub fn reason_for(&self, path: &RelPath) -> Option<String> {
        let burst = self.burst();
        burst.paths.contains(path).then(|| burst.reason.clone())
    }

    /// Returns how many deletes are held, and why.
    pub fn summary(&self) -> Option<(usize, String)> {
        let burst = self.burst();
        (!burst.is_empty()).then(|| (burst.paths.len(), burst.reason.clone()))
    }

    /// Returns the first of the paths of held deletes.
    pub fn first(&self) -> Vec<RelPath> {
        first_of(self.burst().iter())
    }
}

/// Paths of held deletes that are told.
const TOLD: usize = 3;

/// Returns the first paths of some deletes, for people.
pub fn first_of<'a>(deletes: impl IntoIterator<Item = &'a Change>) -> Vec<RelPath> {
    let mut first: Vec<&RelPath> = Vec::new();
    for path in deletes.into_iter().map(|change| change.kind.path()) {
        let at = first.partition_point(|other| *other < path);
        if at < TOLD {
            first.insert(at, path);
            first.truncate(TOLD);
        }
    }
    first.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Identity;

    #[test]
    fn a_comparison_of_a_subtree_replaces_what_was_held_there_and_nothing_else() {
        let path = |text: &str| RelPath::try_from(text).unwrap();
        let delete = |text: &str| {
            let kind = ChangeKind::Delete { path: path(text), expected: Identity::Any };
            Change { age: crate::event::Age::believed(std::time::Instant::now()), kind }
        };
        let held = Held::default();
        held.hold_more("a burst".into(), vec![delete("a/b"), delete("c/d")]);
        assert!(held.hold(&path("a"), "a pass".into(), vec![delete("a/e")]));
        assert!(!held.hold(&path("a"), "a pass".into(), vec![delete("a/e")]), "the same again");
        assert_eq!(held.summary(), Some((2, "a pass".into())));
        assert!(held.reason_for(&path("c/d")).is_some() && held.reason_for(&path("a/b")).is_none());
        assert!(held.hold(&RelPath::root(), "all".into(), vec![delete("x"), delete("y")]));
        held.is_back(&path("x"));
        held.is_back(&path("x"));
        assert_eq!((held.summary().unwrap().0, held.first()), (1, vec![path("y")]));
        held.hold_more("again".into(), vec![delete("x")]);
        assert_eq!(held.take().len(), 2);
        held.hold_more("one".into(), vec![delete("x")]);
        held.is_back(&path("x"));
        assert!(held.summary().is_none() && held.approve().is_empty() && !held.was_approved());
    }

    #[test]
    fn what_is_held_moves_with_renames_and_is_not_judged_again_by_itself() {
        let path = |text: &str| RelPath::try_from(text).unwrap();
        let delete = |text: &&str| {
            let kind = ChangeKind::Delete { path: path(text), expected: Identity::Any };
            Change { age: crate::event::Age::believed(std::time::Instant::now()), kind }
        };
        let shown = |all: &[Change]| all.iter().map(|held| held.kind.path().clone()).collect::<Vec<_>>();
        let held = Held::default();
        let mut none = vec![delete(&"d/f")];
        assert!(held.held_already(&mut none).0.is_empty() && none.len() == 1);
        held.hold_more("a burst".into(), ["d/x/f", "g"].iter().map(delete).collect());
        held.rename(&path("d"), &path("e"));
        let mut found: Vec<Change> = ["e/x/f", "e/x", "e/new", "d/x/f"].iter().map(delete).collect();
        let (again, reason) = held.held_already(&mut found);
        assert_eq!((shown(&again), reason.as_str()), (vec![path("e/x/f"), path("e/x")], "a burst"));
        assert_eq!(shown(&found), [path("e/new"), path("d/x/f")]);
    }
}
