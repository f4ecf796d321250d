//! Which names are links of one file, on both sides.

use std::collections::HashMap;

use super::{Moot, Moves, Pass, PassReply};
use crate::batch::Scope;
use crate::protocol::ToReceiver;
use crate::tree::RelPath;

impl Pass {
    /// Remembers which names are links of one file, for changes to any of them.
    pub(super) fn note_links(&self) {
        if !self.options.mask.hard_links {
            return;
        }
        let mut links = self.shared.links();
        for (id, names) in self.local.links.by_id() {
            names.iter().for_each(|name| links.add(*id, name));
        }
    }

    /// Whether the target is to stay as it is under this name, by `-u`, `--existing` or `--ignore-existing`, or
    /// cannot link it.
    fn is_spared(&self, name: &RelPath) -> bool {
        let spared = !self.spared.is_empty()
            && std::iter::successors(Some(name.clone()), RelPath::parent).any(|at| self.spared.contains(&at));
        spared || self.shared.is_apart(name)
    }

    /// Has the names of one file joined, and the names of different files parted.
    pub(super) fn link_differences(&mut self, news: &HashMap<RelPath, RelPath>) -> Result<(), Moot> {
        self.send(&ToReceiver::Links { pass: self.id })?;
        self.flush()?;
        let mut theirs: HashMap<RelPath, usize> = HashMap::new();
        let mut sizes = Vec::new();
        loop {
            let PassReply::Links(groups, last) = self.reply()? else { return Err(Moot) };
            for group in groups {
                let group = group.into_iter().map(|name| Moves::renamed(news, &name).unwrap_or(name));
                let group: Vec<RelPath> = group.filter(|name| !self.is_spared(name)).collect();
                sizes.push(group.len());
                let group = group.into_iter();
                theirs.extend(group.map(|name| (name, sizes.len() - 1)));
            }
            if last {
                break;
            }
        }
        let mut ours = self.local.links.groups();
        ours.iter_mut().for_each(|group| group.retain(|name| !self.is_spared(name)));
        let mut wrong: Vec<RelPath> = Vec::new();
        // A file that the target has under no name is sent once, and then joined.
        for group in ours.iter().filter(|group| !group.iter().all(|name| self.new_links.contains(name))) {
            let first = group.first().and_then(|name| theirs.get(name)).copied();
            let same = first.is_some_and(|first| {
                sizes.get(first) == Some(&group.len())
                    && group.iter().all(|name| theirs.get(name) == Some(&first))
            });
            for name in group {
                theirs.remove(name);
            }
            if !same {
                wrong.extend(group.iter().cloned());
            }
        }
        // What is left are links on the target that the source does not have; what it lacks altogether is
        // deleted or stays.
        let source = &self.shared.source;
        let offered = |name: &RelPath| self.shared.offers(name, false);
        wrong.extend(
            theirs.into_keys().filter(|name| offered(name) && !source.vanished(name).unwrap_or(false)),
        );
        // Under these rules nothing but its own change joins a name to the file that was sent last.
        let alone = self.shared.rules.spare();
        wrong.retain(|path| !(alone && self.sent_links.contains(path)));
        for path in wrong {
            self.update(path, Scope::Content, None)?;
        }
        Ok(())
    }
}
