//! A pass over the paths that `--files-from` names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

use super::super::status::Failure;
use super::{Moot, Pass, PassReply, Task};
use crate::error::errno_of;
use crate::protocol::{ScanOptions, ToReceiver};
use crate::scan;
use crate::tree::{Entry, Kind, Mask, RelPath};

impl Pass {
    /// Compares the named paths and the directories on the way to them; with `-r` whole directories, and what
    /// the source lacks in those is deleted. The filters hold for what is named as for all else, but a
    /// directory that is only on the way is not asked for by them.
    pub(super) fn only(&mut self, files: &[Vec<u8>]) -> Result<(), Moot> {
        let options = ScanOptions { checksum: self.options.checksum, recursive: false };
        self.send(&ToReceiver::Scan { pass: self.id, top: RelPath::root(), options })?;
        self.flush()?;
        self.began = self.shared.gate.pass().then(Instant::now).ok_or(Moot)?;
        let PassReply::Scanned { .. } = self.reply()? else { return Err(Moot) };
        let mut known: HashMap<RelPath, Vec<Entry>> = HashMap::new();
        let named: Vec<(RelPath, bool)> = files.iter().filter_map(|file| self.named(file)).collect();
        let is_whole = |(_, is_dir): &&(RelPath, bool)| *is_dir && self.options.recursive;
        let whole: BTreeSet<RelPath> = named.iter().filter(is_whole).map(|(path, _)| path.clone()).collect();
        let within = |path: &RelPath| above(path).skip(1).any(|above| whole.contains(&above));
        let mut seen = HashSet::new();
        for (path, _) in &named {
            // From the top down, each once.
            let mut ways: Vec<RelPath> = above(path).filter(|way| !way.is_root()).collect();
            ways.retain(|way| !whole.contains(way) && !within(way) && seen.insert(way.clone()));
            for way in ways.iter().rev() {
                self.only_one(way, &mut known)?;
            }
        }
        let mut entries = 0_u64;
        for top in whole.iter().filter(|top| !within(top)) {
            self.top = top.clone();
            entries = entries.saturating_add(self.compare_top()?);
            self.summary.entries += 1;
            self.summary.kinds.add(Kind::Dir);
        }
        self.top = RelPath::root();
        self.send_deletes(entries)
    }

    /// Returns one entry of the list as a path, and whether it is a directory; `None` if a filter leaves it out
    /// or it can be no path.
    fn named(&self, file: &[u8]) -> Option<(RelPath, bool)> {
        let names: Vec<&[u8]> =
            file.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
        let Ok(path) = RelPath::new(names.join(&b'/')) else {
            let (operation, errno) = ("read name from --files-from", libc::EINVAL);
            let failure =
                Failure { operation, errno, on_target: false, unseen: true, since: self.since, need: None };
            self.shared.problem(&RelPath::root(), failure);
            return None;
        };
        let there = self.shared.source.entry(&path, &Mask::nothing()).ok().flatten();
        let is_dir = there.is_some_and(|entry| entry.attrs.meta.kind == Kind::Dir);
        (!self.options.filter.excludes_entry(&path, is_dir)).then_some((path, is_dir))
    }

    fn only_one(&mut self, path: &RelPath, known: &mut HashMap<RelPath, Vec<Entry>>) -> Result<(), Moot> {
        let Some(dir) = path.parent() else { return Ok(()) };
        if !known.contains_key(&dir) {
            self.send(&ToReceiver::List { pass: self.id, dir: dir.clone() })?;
            self.flush()?;
            let listed = self.listing(&dir)?;
            known.insert(dir.clone(), listed);
        }
        let mut ours = match self.shared.source.entry(path, &self.options.mask) {
            Ok(Some(ours)) => ours,
            Ok(None) => {
                self.unreadable(path, libc::ENOENT, false);
                return Ok(());
            }
            Err(error) => {
                self.unreadable(path, errno_of(&error), false);
                return Ok(());
            }
        };
        if self.options.checksum && ours.attrs.meta.kind == Kind::File {
            ours.hash = scan::hash(&self.shared.source.root(), path).ok();
        }
        scan::View::adjust(&self.shared.view, &mut ours.attrs);
        self.summary.entries += 1;
        self.summary.kinds.add(ours.attrs.meta.kind);
        self.summary.bytes += if ours.attrs.meta.kind == Kind::File { ours.attrs.meta.size } else { 0 };
        let theirs: Vec<Entry> =
            known.get(&dir).into_iter().flatten().filter(|entry| entry.name == ours.name).cloned().collect();
        let tasks = self.differences(Some(&dir), std::slice::from_ref(&ours), &theirs)?;
        self.descend(tasks.into_iter().filter(|(_, task)| matches!(task, Task::Hash(_))).collect())?;
        Ok(())
    }
}

/// Returns a path and the directories above it, the root last.
fn above(path: &RelPath) -> impl Iterator<Item = RelPath> {
    std::iter::successors(Some(path.clone()), RelPath::parent)
}
