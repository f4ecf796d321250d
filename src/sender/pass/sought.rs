//! Names that a file had when it was changed under another, which were not known then.

use super::{Moot, Pass};
use crate::batch::Change;
use crate::sender::owners::Seeking;

impl Pass {
    /// Has the names read that the walk has found of files whose content is owed. What changed under a name that
    /// is gone by now shows neither in a size nor, where somebody has put it back, in a time. Where only names
    /// were sought, those that the target cannot link are read: the others are joined when links are compared.
    pub(super) fn look_at_sought(&mut self, files: &Seeking) -> Result<(), Moot> {
        let sought = std::mem::take(&mut self.local.sought);
        // Where the target may be meant to stay as it is, the comparison decides on each name.
        for (id, path) in sought.into_iter().filter(|_| !self.shared.rules.spare()) {
            if files.get(&id).is_none_or(|file| file.reads) || self.shared.is_apart(&path) {
                self.push(Change::read(path, self.age))?;
            }
        }
        if self.top.is_root() && !files.is_empty() && !self.local.ended {
            self.shared.view.found(files);
        }
        Ok(())
    }
}
