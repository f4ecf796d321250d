//! Deletes that are held back until somebody approves them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::batch::Change;
use crate::tree::RelPath;

/// What is held back for one target.
#[derive(Default)]
pub struct Held {
    inner: Mutex<Option<(String, Vec<Change>)>>,
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

    /// Takes everything out: to send it, or to forget it.
    pub fn take(&self) -> Vec<Change> {
        let taken = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(|(_, deletes)| deletes).unwrap_or_default()
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{ChangeKind, Identity};

    #[test]
    fn a_comparison_of_a_subtree_replaces_what_was_held_there_and_nothing_else() {
        let path = |text: &str| RelPath::try_from(text).unwrap();
        let delete = |text: &str| {
            let kind = ChangeKind::Delete { path: path(text), expected: Identity::Any };
            Change { since: std::time::Instant::now(), kind }
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
}
