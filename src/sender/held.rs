//! Deletes that are held back until somebody approves them.

use std::sync::{Mutex, PoisonError};

use crate::batch::Change;
use crate::tree::RelPath;

/// What is held back for one target.
#[derive(Default)]
pub struct Held {
    inner: Mutex<Option<(String, Vec<Change>)>>,
}

impl Held {
    /// Holds deletes back; a later pass knows better than an earlier one and replaces what it held.
    pub fn hold(&self, reason: String, deletes: Vec<Change>) {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = Some((reason, deletes));
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
