//! Deletes that are held back until somebody approves them.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::batch::{Change, ChangeKind};
use crate::tree::RelPath;

/// What is held back for one target.
#[derive(Default)]
pub struct Held {
    inner: Mutex<Option<(String, Vec<Change>)>>,
    /// Somebody has approved what was held, and no session has heard of it.
    approved: AtomicBool,
}

impl Held {
    /// Holds back what a comparison of a subtree has found; it knows better than what was held there before.
    /// `false` if the same deletes were held for the same reason.
    pub fn hold(&self, top: &RelPath, reason: String, mut deletes: Vec<Change>) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, before) = inner.take().unwrap_or_default();
        let paths = |all: &[Change]| all.iter().map(|held| held.kind.path().clone()).collect::<BTreeSet<_>>();
        let held = paths(&before);
        deletes.extend(before.into_iter().filter(|held| !held.kind.path().is_within(top)));
        let is_new = known != reason || held != paths(&deletes);
        *inner = Some((reason, deletes));
        is_new
    }

    /// Adds to what is held.
    pub fn hold_more(&self, reason: String, deletes: Vec<Change>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *inner {
            Some((_, held)) => held.extend(deletes),
            none => *none = Some((reason, deletes)),
        }
    }

    /// Follows a rename: what is held below the old name is held under the new one.
    pub fn rename(&self, from: &RelPath, to: &RelPath) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for held in inner.iter_mut().flat_map(|(_, deletes)| deletes) {
            if let ChangeKind::Delete { path, .. } = &mut held.kind
                && let Some(moved) = path.rebase(from, to)
            {
                *path = moved;
            }
        }
    }

    /// Takes those out of some deletes that are held already, with the directories that hold them, and returns
    /// them with the reason. A comparison of a small subtree must not judge them once more by themselves: one
    /// directory of a burst that was held is no large burst.
    pub fn held_already(&self, deletes: &mut Vec<Change>) -> (Vec<Change>, String) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((reason, held)) = inner.as_ref() else { return Default::default() };
        let with_dirs =
            |held: &Change| std::iter::successors(Some(held.kind.path().clone()), RelPath::parent);
        let stays: HashSet<RelPath> = held.iter().flat_map(with_dirs).collect();
        (deletes.extract_if(.., |change| stays.contains(change.kind.path())).collect(), reason.clone())
    }

    /// Takes everything out, to forget it.
    pub fn take(&self) -> Vec<Change> {
        let taken = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(|(_, deletes)| deletes).unwrap_or_default()
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
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (reason, deletes) = inner.as_ref()?;
        deletes.iter().any(|change| change.kind.path() == path).then(|| reason.clone())
    }

    /// Returns how many deletes are held, and why.
    pub fn summary(&self) -> Option<(usize, String)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.as_ref().map(|(reason, deletes)| (deletes.len(), reason.clone()))
    }

    /// Returns the first of the paths of held deletes.
    pub fn first(&self) -> Vec<RelPath> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.as_ref().map(|(_, deletes)| first_of(deletes)).unwrap_or_default()
    }
}

/// Paths of held deletes that are told.
const TOLD: usize = 3;

/// Returns the first paths of some deletes, for people.
pub fn first_of(deletes: &[Change]) -> Vec<RelPath> {
    let mut first: Vec<&RelPath> = Vec::new();
    for path in deletes.iter().map(|change| change.kind.path()) {
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
        assert!(held.hold(&RelPath::root(), "all".into(), vec![delete("x")]));
        assert_eq!(held.take().len(), 1);
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
