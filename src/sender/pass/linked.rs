//! Which names are links of one file, on both sides.
//!
//! A name that the target lacks is linked to one that it has, if the source's file has both and the target's one file
//! bears all the others: after `cp -al a b` no content is sent. Where the target's names of the file are not joined,
//! a size and a time do not tell which of them is the file: its content is sent once, unless this session has sent it
//! under one of them.

use std::collections::HashMap;

use super::{Moot, Moves, Pass, PassReply};
use crate::batch::Extent;
use crate::protocol::ToReceiver;
use crate::tree::{Entry, FileId, Kind, Mask, RelPath};

/// Names that may be put off, at most; some 150 bytes each. Beyond, content is sent.
const LACKING_MAX: usize = 1_000_000;

/// The links of the target: each name that has others, as it will be after the moves, with the number of its file.
#[derive(Default)]
struct Theirs {
    files: HashMap<RelPath, usize>,
    /// How many names each file has.
    sizes: Vec<usize>,
}

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

    /// Whether a file is too large or too small to be sent: what the target has under its names stays so.
    fn is_out_of_size(&self, name: &RelPath) -> bool {
        let selection = &self.shared.options.sync.selection;
        if !selection.limits_size() {
            return false;
        }
        let entry = self.shared.source.entry(name, &Mask::nothing()).ok().flatten();
        entry.is_some_and(|entry| {
            let meta = entry.attrs.meta;
            meta.kind == Kind::File && !selection.sends_size(meta.size)
        })
    }

    /// Notes that the content of a file with several names is handed on under this one.
    pub(super) fn is_sent(&mut self, path: &RelPath, entry: &Entry) {
        if entry.nlink > 1 && self.options.mask.hard_links {
            self.sent_links.insert(path.clone());
        }
    }

    /// Notes that what the target has under a name, which may be one of several there, gives way to something else.
    pub(super) fn gives_way(&mut self, path: &RelPath, target: &Entry) {
        if target.nlink > 1 && target.attrs.meta.kind != Kind::Dir && self.options.mask.hard_links {
            self.sent_links.insert(path.clone());
        }
    }

    /// Whether a name that the target lacks waits until links are compared.
    pub(super) fn is_put_off(&mut self, path: &RelPath, entry: &Entry) -> bool {
        // Where the target has nothing, or the same links, each is sent at once.
        let several = entry.nlink > 1 && entry.attrs.meta.kind != Kind::Dir && !self.local.links.is_empty();
        if !several || self.shared.is_apart(path) {
            return false;
        }
        if self.lacking.len() >= LACKING_MAX {
            self.is_sent(path, entry);
            return false;
        }
        let file = entry.attrs.meta.kind == Kind::File;
        self.lacking.insert(path.clone(), if file { entry.attrs.meta.size } else { 0 });
        true
    }

    /// Asks for the target's links.
    fn theirs(&mut self, news: &HashMap<RelPath, RelPath>) -> Result<Theirs, Moot> {
        self.send(&ToReceiver::Links { pass: self.id })?;
        self.flush()?;
        let (mut theirs, mut begun) = (Theirs::default(), None);
        loop {
            let PassReply::Links(groups, last) = self.reply()? else { return Err(Moot) };
            for group in groups {
                // A group that goes on begins with its first name.
                if theirs.sizes.is_empty() || group.first() != begun.as_ref() {
                    theirs.sizes.push(0);
                    begun = group.first().cloned();
                }
                let at = theirs.sizes.len() - 1;
                let group = group.into_iter().map(|name| Moves::renamed(news, &name).unwrap_or(name));
                for name in group.filter(|name| !self.is_spared(name)) {
                    if theirs.files.insert(name, at) != Some(at) {
                        theirs.sizes[at] += 1;
                    }
                }
            }
            if last {
                return Ok(theirs);
            }
        }
    }

    /// Has the names of one file joined, and the names of different files parted.
    pub(super) fn link_differences(&mut self, news: &HashMap<RelPath, RelPath>) -> Result<(), Moot> {
        let mut theirs = self.theirs(news)?;
        let mut lacking = std::mem::take(&mut self.lacking);
        let groups = self.local.links.with_groups(|group| {
            let mut wrong = Vec::new();
            let Some((id, first)) = group.first() else { return wrong };
            if self.is_out_of_size(first) {
                for (_, name) in group {
                    theirs.files.remove(name);
                }
                return wrong;
            }
            let names = group.iter().map(|(_, name)| name).filter(|name| !self.is_spared(name));
            let (new, here): (Vec<_>, Vec<_>) = names.partition(|name| lacking.contains_key(*name));
            let joined = theirs.are_joined(&here);
            for name in &here {
                theirs.files.remove(*name);
            }
            if joined && new.is_empty() {
                return wrong;
            }
            let stands = self.stands(*id, &here, joined);
            if !joined {
                let here = here.into_iter().filter(|name| !self.sent_links.contains(*name));
                let others = here.filter(|name| Some(*name) != stands.as_ref());
                wrong.extend(others.map(|name| (name.clone(), Extent::Content)));
            }
            // The first brings the content if none of those that are here does, the others are linked to it.
            let mut bytes =
                new.first().filter(|_| stands.is_none()).and_then(|first| lacking.get(*first).copied());
            for name in new {
                self.shared.found.expects(bytes.take().unwrap_or(0));
                lacking.remove(name);
                wrong.push((name.clone(), Extent::Absent));
            }
            wrong
        });
        let mut wrong: Vec<(RelPath, Extent)> = groups.into_iter().flatten().collect();
        // What is left are links on the target that the source does not have; what it lacks altogether is
        // deleted or stays.
        let source = &self.shared.source;
        let left = theirs.files.into_keys();
        let left = left.filter(|name| !self.sent_links.contains(name));
        let left =
            left.filter(|name| self.shared.offers(name, false) && !source.vanished(name).unwrap_or(false));
        wrong.extend(left.map(|name| (name, Extent::Content)));
        // Under these rules nothing but its own change joins a name to the file that was sent last.
        let alone = self.shared.rules.spare();
        wrong.retain(|(path, _)| !(alone && self.sent_links.contains(path)));
        // The other names of these are elsewhere, or are left out.
        for (path, bytes) in lacking {
            self.shared.found.expects(bytes);
            wrong.push((path, Extent::Absent));
        }
        for (path, scope) in wrong {
            self.shared.feedback.found(&path);
            self.update(path, scope, None)?;
        }
        Ok(())
    }

    /// Returns the name under which the target holds a file that is `here` under some names, so that the others are
    /// linked to it; has the session know of it.
    fn stands(&self, id: FileId, here: &[&RelPath], joined: bool) -> Option<RelPath> {
        if here.iter().any(|name| self.sent_links.contains(*name)) {
            // It is sent under that name.
            return None;
        }
        let mut links = self.shared.links();
        let sent = links.group(id).map(|(_, first)| first.clone()).filter(|first| here.contains(&first));
        if sent.is_some() {
            return sent;
        }
        let first = (*here.first().filter(|_| joined)?).clone();
        let entry = self.shared.source.entry(&first, &Mask::nothing()).ok().flatten()?;
        links.stands(id, &first, &entry.version());
        Some(first)
    }
}

impl Theirs {
    /// Whether all of these are names of one file of the target, which has no others.
    fn are_joined(&self, names: &[&RelPath]) -> bool {
        let Some(first) = names.first() else { return false };
        match self.files.get(*first) {
            None => names.len() == 1,
            Some(at) => {
                self.sizes.get(*at) == Some(&names.len())
                    && names.iter().all(|name| self.files.get(*name) == Some(at))
            }
        }
    }
}
