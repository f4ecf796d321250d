//! Which names are links of one file, on both sides.

use std::collections::HashMap;

use super::{Moot, Moves, Pass, PassReply};
use crate::batch::Extent;
use crate::protocol::ToReceiver;
use crate::tree::{FileId, RelPath};

impl Pass {
    /// Remembers which names are links of one file, for changes to any of them.
    pub(super) fn note_links(&self) {
        if !self.options.mask.hard_links {
            return;
        }
        let mut links = self.shared.links();
        self.local.links.names().iter().for_each(|(id, name)| links.add(*id, name));
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
        let (mut sizes, mut begun) = (Vec::new(), None);
        loop {
            let PassReply::Links(groups, last) = self.reply()? else { return Err(Moot) };
            for group in groups {
                // A group that goes on begins with its first name.
                if sizes.is_empty() || group.first() != begun.as_ref() {
                    sizes.push(0);
                    begun = group.first().cloned();
                }
                let at = sizes.len() - 1;
                let group = group.into_iter().map(|name| Moves::renamed(news, &name).unwrap_or(name));
                for name in group.filter(|name| !self.is_spared(name)) {
                    if theirs.insert(name, at) != Some(at) {
                        sizes[at] += 1;
                    }
                }
            }
            if last {
                break;
            }
        }
        // A file that the target has under no name is sent once, and then joined.
        let is_new = |id: &FileId, len: usize| self.new_links.get(id).is_some_and(|new| *new >= len);
        let wrong = self.local.links.with_groups(|group| {
            let id = group.first().map(|(id, _)| *id);
            let names = group.iter().map(|(_, name)| name).filter(|name| !self.is_spared(name));
            let names: Vec<&RelPath> = names.collect();
            if id.is_none_or(|id| is_new(&id, names.len())) {
                return Vec::new();
            }
            let first = names.first().and_then(|name| theirs.get(*name)).copied();
            let same = first.is_some_and(|first| {
                sizes.get(first) == Some(&names.len())
                    && names.iter().all(|name| theirs.get(*name) == Some(&first))
            });
            for name in &names {
                theirs.remove(*name);
            }
            if same { Vec::new() } else { names.into_iter().cloned().collect() }
        });
        let mut wrong: Vec<RelPath> = wrong.into_iter().flatten().collect();
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
            self.update(path, Extent::Content, None)?;
        }
        Ok(())
    }
}
