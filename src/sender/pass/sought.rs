//! Names that a file had when it was changed under another, which were not known then.

use std::collections::HashSet;

use super::{Moot, Pass};
use crate::batch::Change;
use crate::tree::FileId;

impl Pass {
    /// Has the names read that the walk has found of files that were sought. What changed under a name that
    /// is gone by now shows neither in a size nor, where somebody has put it back, in a time.
    pub(super) fn look_at_sought(&mut self, ids: &HashSet<FileId>) -> Result<(), Moot> {
        let sought = std::mem::take(&mut self.local.sought);
        // Where the target may be meant to stay as it is, the comparison decides on each name.
        for path in sought.into_iter().filter(|_| !self.shared.rules.spare()) {
            self.push(Change::read(path, self.age))?;
        }
        if self.top.is_root() && !ids.is_empty() && !self.local.ended {
            self.shared.view.found(ids);
        }
        Ok(())
    }
}
