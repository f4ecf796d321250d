//! Whether a target is what it should be.

use std::collections::BTreeSet;

use speil::tree::RelPath;

use crate::fs::{Fs, Id, PROTECTED, ROOT};

/// Compares a source and a target.
pub struct Judge<'a> {
    pub source: &'a Fs,
    pub target: &'a Fs,
    /// Deletes that the guard holds: what is there may stay.
    pub held: &'a BTreeSet<RelPath>,
}

impl Judge<'_> {
    /// Returns the first difference apart from what is allowed.
    pub fn difference(&self) -> Option<String> {
        self.compare(ROOT, ROOT, &RelPath::root())
    }

    fn compare(&self, ours: Id, theirs: Id, path: &RelPath) -> Option<String> {
        let (source, target) = (self.source, self.target);
        for &(name, id) in source.entries(ours).iter().filter(|(name, _)| *name != PROTECTED) {
            let path = path.join(&[name]);
            let Some(there) = target.lookup(theirs, name) else { return Some(format!("{path} is missing")) };
            match (source.is_dir(id), target.is_dir(there)) {
                (true, true) => {
                    if let Some(found) = self.compare(id, there, &path) {
                        return Some(found);
                    }
                }
                // What is in the way may not be deleted.
                (false, true) if self.may_stay(there, &path) => {}
                (false, false) => {
                    let (left, right) = (source.inode(id), target.inode(there));
                    if (left.content, left.stamp) != (right.content, right.stamp) {
                        return Some(format!(
                            "{path} has content {} stamp {}, not {} {}",
                            right.content, right.stamp, left.content, left.stamp
                        ));
                    }
                }
                _ => return Some(format!("{path} is of another type")),
            }
        }
        for &(name, id) in target.entries(theirs).iter().filter(|(name, _)| *name != PROTECTED) {
            let below = path.join(&[name]);
            if source.lookup(ours, name).is_none() && !self.may_stay(id, &below) {
                return Some(format!("{below} should be gone"));
            }
        }
        None
    }

    /// Whether something may remain where the source has nothing: its delete is held, or something protected is
    /// in it.
    fn may_stay(&self, id: Id, path: &RelPath) -> bool {
        if self.held.contains(path) {
            return true;
        }
        let entries = self.target.entries(id);
        let below = |&(name, id): &(u8, Id)| name == PROTECTED || self.may_stay(id, &path.join(&[name]));
        !entries.is_empty() && entries.iter().all(below)
    }
}
