//! A pass over the paths that `--files-from` names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use super::{Moot, Pass, PassReply, Task};
use crate::config::Listed;
use crate::error::errno_of;
use crate::protocol::{ScanOptions, ToReceiver};
use crate::scan;
use crate::tree::{Digest, DirDigest, Entry, Kind, Mask, RelPath};

impl Pass {
    /// Compares the named paths and the directories on the way to them; with `-r` whole directories, and what
    /// the source lacks in those is deleted. The filters hold for what is named as for all else, but a
    /// directory that is only on the way is not asked for by them.
    pub(super) fn only(&mut self, files: &[Listed]) -> Result<(), Moot> {
        let options = ScanOptions { checksum: self.options.checksum, recursive: false };
        self.send(&ToReceiver::Scan { pass: self.id, top: RelPath::root(), options })?;
        self.flush()?;
        self.began = self.shared.gate.pass().then(Instant::now).ok_or(Moot)?;
        let PassReply::Scanned { top, .. } = self.reply()? else { return Err(Moot) };
        // What is above comes first.
        let mut named: BTreeMap<RelPath, bool> = BTreeMap::new();
        for (path, holds) in files.iter().filter_map(|file| self.named(file)) {
            *named.entry(path).or_default() |= holds;
        }
        if named.get(&RelPath::root()) == Some(&false) {
            self.only_root(top)?;
        }
        if self.options.mask.hard_links {
            named.iter().for_each(|(path, holds)| self.note_names(path, *holds));
        }
        let mut known: HashMap<RelPath, Vec<Entry>> = HashMap::new();
        // Directories of which one level, or all, has been compared.
        let mut whole: HashSet<RelPath> = HashSet::new();
        let (mut seen, mut entries) = (HashSet::new(), 0_u64);
        let sources = self.shared.options.sync.sources.as_ref();
        // What is on the way alone stays as the target has it, and what that lies in the way of is not sent.
        let plain = sources.is_some_and(|sources| sources.plain_ways);
        let asked: HashSet<RelPath> = named.keys().cloned().collect();
        for (path, holds) in named {
            // From the top down, each once.
            let deepest = if self.options.recursive { usize::MAX } else { 1 };
            // What a rule leaves out of a directory that is taken whole may be named itself.
            let is_left = |dir: &RelPath| self.options.filter.excludes_entry(dir, true);
            let is_in = |way: &RelPath| {
                let mut dirs = above(way).skip(1).take(deepest).take_while(|dir| !is_left(dir));
                dirs.any(|dir| whole.contains(&dir))
            };
            if whole.contains(&path) || self.options.recursive && is_in(&path) {
                continue;
            }
            let mut ways: Vec<RelPath> = above(&path).skip(usize::from(holds)).collect();
            ways.retain(|way| {
                let is_met = whole.contains(way) || is_in(way) && (*way == path || !is_left(way));
                !way.is_root() && !is_met && seen.insert(way.clone())
            });
            let before = self.deletes.len();
            for way in ways.iter().rev() {
                if self.is_below_spared(way) {
                    continue;
                }
                if plain && !asked.contains(way) {
                    self.only_way(way, &mut known)?;
                } else {
                    self.only_one(way, &mut known)?;
                }
            }
            // What gives way to what is named is part of what is judged.
            entries += (self.deletes.len() - before) as u64;
            if holds && !self.spared.contains(&path) && !self.is_below_spared(&path) {
                self.top = path.clone();
                let theirs = self.compare_top()?;
                // Each source is judged as it would be alone: it may be a volume that is away.
                let is_source = self.shared.options.sync.sources.is_some();
                self.emptied |= is_source && self.local.entries == 0 && theirs > 0;
                entries = entries.saturating_add(theirs);
                self.summary.entries += 1;
                self.summary.kinds.add(Kind::Dir);
                whole.insert(path);
            }
        }
        self.top = RelPath::root();
        self.send_deletes(entries)
    }

    /// Notes which names belong to one file, before the first of them is sent: its others may be anywhere in the list.
    fn note_names(&mut self, path: &RelPath, holds: bool) {
        if holds {
            let options = scan::Options { checksum: false, ..self.options.clone() };
            self.local = scan::walk(&self.shared.source.root(), path, &options, &scan::Plain);
            self.note_links();
        } else if let Ok(Some(entry)) = self.shared.source.entry(path, &Mask::nothing())
            && entry.nlink > 1
            && entry.attrs.meta.kind != Kind::Dir
        {
            self.shared.links().add(entry.id, path);
        }
    }

    /// Returns one line of the list as a path, and whether what it holds is asked for; `None` if a filter leaves
    /// it out.
    fn named(&self, file: &Listed) -> Option<(RelPath, bool)> {
        let path = file.path.clone();
        let there = self.shared.source.entry(&path, &Mask::nothing()).ok().flatten();
        let is_left = |entry: &Entry| self.options.links.leaves_out(&path, &entry.attrs.symlink);
        if there.as_ref().is_some_and(|entry| entry.attrs.meta.kind == Kind::Symlink && is_left(entry)) {
            return None;
        }
        let is_dir = there.is_some_and(|entry| entry.attrs.meta.kind == Kind::Dir);
        if is_dir && self.options.prune && scan::is_hollow(&self.shared.source.root(), &path, &self.options) {
            return None;
        }
        let holds = is_dir && (file.level || self.options.recursive && file.is_whole());
        if is_dir && !holds && !path.is_root() && self.shared.options.sync.selection.prune {
            // It comes with what is named below it, or would be empty.
            return None;
        }
        (!self.options.filter.excludes_entry(&path, is_dir)).then_some((path, holds))
    }

    /// Has a directory on the way made where the target has nothing. What else it has there bars the way.
    fn only_way(&mut self, way: &RelPath, known: &mut HashMap<RelPath, Vec<Entry>>) -> Result<(), Moot> {
        let theirs = self.theirs_at(way, known)?;
        match theirs.first().map(|entry| entry.attrs.meta.kind) {
            None => self.only_one(way, known),
            Some(Kind::Dir) => Ok(()),
            Some(_) => {
                self.unreadable(way, libc::ENOTDIR, true);
                self.spared.insert(way.clone());
                Ok(())
            }
        }
    }

    /// Returns what the target has under a path: one entry or none.
    fn theirs_at(
        &mut self,
        path: &RelPath,
        known: &mut HashMap<RelPath, Vec<Entry>>,
    ) -> Result<Vec<Entry>, Moot> {
        let dir = path.parent().unwrap_or_default();
        if !known.contains_key(&dir) {
            self.send(&ToReceiver::List { pass: self.id, dir: dir.clone() })?;
            self.flush()?;
            let listed = self.listing(&dir)?;
            known.insert(dir.clone(), listed);
        }
        let name = path.name();
        Ok(known.get(&dir).into_iter().flatten().filter(|entry| entry.name == name).cloned().collect())
    }

    /// Compares the root alone.
    fn only_root(&mut self, theirs: Option<Box<Entry>>) -> Result<(), Moot> {
        let root = RelPath::root();
        let Ok(Some(mut ours)) = self.shared.source.entry(&root, &self.options.mask) else { return Ok(()) };
        scan::View::adjust(&self.shared.view, &mut ours.attrs);
        self.summary.entries += 1;
        self.summary.kinds.add(Kind::Dir);
        // One that the target has just made is still to be like the source's.
        let Some(mut theirs) = theirs else { return self.absent(&root, &ours) };
        theirs.name.clone_from(&ours.name);
        self.differences(None, std::slice::from_ref(&ours), std::slice::from_ref(&*theirs)).map(drop)
    }

    fn only_one(&mut self, path: &RelPath, known: &mut HashMap<RelPath, Vec<Entry>>) -> Result<(), Moot> {
        let Some(dir) = path.parent() else { return Ok(()) };
        let mut theirs = self.theirs_at(path, known)?;
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
            ours.hash = self.shared.source.hash(path).ok();
        }
        scan::View::adjust(&self.shared.view, &mut ours.attrs);
        self.summary.entries += 1;
        self.summary.kinds.add(ours.attrs.meta.kind);
        self.summary.bytes += if ours.attrs.meta.kind == Kind::File { ours.attrs.meta.size } else { 0 };
        if !self.options.mask.carries(ours.attrs.meta.kind) {
            // It is not sent, and what the target has there stays.
            return Ok(());
        }
        if let Some(there) = theirs.first_mut()
            && there.attrs.meta.kind == Kind::Dir
            && ours.attrs.meta.kind != Kind::Dir
        {
            there.digest = Some(self.digest_there(path)?);
        }
        let tasks = self.differences(Some(&dir), std::slice::from_ref(&ours), &theirs)?;
        let tasks = tasks.into_iter().filter(|(_, task)| matches!(task, Task::Hash(_) | Task::Empty));
        self.descend(tasks.collect())?;
        Ok(())
    }
}

impl Pass {
    /// Whether a directory above a path stays as the target has it, or stays away.
    fn is_below_spared(&self, path: &RelPath) -> bool {
        above(path).skip(1).any(|dir| self.spared.contains(&dir))
    }

    /// Returns the digest of one level of a directory of the target: none was walked, and one that is empty gives way.
    fn digest_there(&mut self, path: &RelPath) -> Result<Digest, Moot> {
        self.send(&ToReceiver::List { pass: self.id, dir: path.clone() })?;
        self.flush()?;
        let mut digest = DirDigest::new(self.options.mask);
        self.listing(path)?.iter().for_each(|entry| digest.add(entry));
        Ok(digest.finish())
    }
}

/// Returns a path and the directories above it, the root last.
fn above(path: &RelPath) -> impl Iterator<Item = RelPath> {
    std::iter::successors(Some(path.clone()), RelPath::parent)
}
