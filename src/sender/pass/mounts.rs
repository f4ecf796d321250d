//! Mount points inside the source: an unmounted volume looks emptied.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use super::{Moot, Pass};
use crate::monitor::Notice;
use crate::protocol::ToReceiver;
use crate::tree::RelPath;

impl Pass {
    /// Finds the directories that were mount points and are none now: nothing below them is deleted.
    /// Has the receiver remember those that are, for the next session.
    pub(super) fn look_at_mounts(&mut self) -> Result<(), Moot> {
        if !self.shared.options.live {
            return Ok(());
        }
        let mut known = self.shared.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.clone();
        // A directory that is gone altogether was removed by somebody: that is a delete like any other.
        let here = |path: &&RelPath| path.is_within(&self.top) || self.top.is_within(path);
        let states: Vec<(RelPath, Option<bool>)> = before
            .iter()
            .filter(here)
            .map(|path| (path.clone(), self.shared.source.is_mounted(path)))
            .collect();
        for (path, mounted) in states {
            match mounted {
                Some(true) => {}
                // What the whole source lacks is held, not passed over: somebody may have moved it for good.
                Some(false) if path.is_root() => self.root_unmounted = true,
                Some(false) => self.unmounted.push(path),
                None => {
                    known.remove(&path);
                }
            }
        }
        known.extend(self.local.mounts.iter().cloned());
        if self.shared.source.is_mounted(&self.top) == Some(true) {
            known.insert(self.top.clone());
        }
        let now: BTreeSet<RelPath> = known.clone();
        drop(known);
        for path in &self.unmounted {
            let text =
                format!("{path} was a mounted filesystem and is not mounted: nothing below it is deleted");
            let hint =
                Some("mount it again; or remove the directory if what it held is to be deleted".to_owned());
            self.shared.notice(&Notice::Warning { text, hint });
        }
        if now != before && !self.shared.options.dry_run {
            self.send(&ToReceiver::Mounts(now.into_iter().collect()))?;
        }
        Ok(())
    }
}
