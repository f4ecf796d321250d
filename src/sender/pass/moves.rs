//! Moves that nobody watched: what a pass misses under one name and finds spare under another.
//!
//! A directory that is missing on the target and a spare one there with an equal digest may be one
//! rename (a directory's digest does not hold its own name); a single file is looked for by size and
//! time. Names, sizes and times only name candidates: both have moved only if BLAKE3 of every file says
//! so on both sides (`proof`). No content is sent for either.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;

use super::proof::Proof;
use super::{Moot, Pass};
use crate::protocol::ToReceiver;
use crate::tree::{Digest, Entry, Kind, RelPath, Time};

/// Hashes that are asked for ahead.
pub(super) const HASHES_AHEAD: usize = 64;
/// Entries that are looked at for moves; beyond, content is sent instead.
const ENTRIES_MAX: usize = 20_000;

/// What a pass has found so far.
#[derive(Default)]
pub(super) struct Moves {
    /// Missing on the target, with everything below it, in the order in which it was found.
    pub missing: Vec<(RelPath, Entry)>,
    /// Spare on the target.
    pub spare: Vec<(RelPath, Entry)>,
    /// Missing directories, by what is below them.
    wanted: HashMap<Digest, Vec<RelPath>>,
    /// Spare files, by size and time.
    files: HashMap<(u64, Time), Vec<(RelPath, Entry)>>,
    /// New name, and what it is on the target now.
    found: HashMap<RelPath, (RelPath, Entry)>,
    taken: HashSet<RelPath>,
    /// Spare directories whose new name moves along with one above it.
    left: Vec<(RelPath, Entry)>,
    /// Whether the directories that were found names hold the same bytes.
    pub proof: Proof,
}

impl Moves {
    /// Whether another entry may be put off until all are known.
    pub fn has_room(&self) -> bool {
        self.missing.len() + self.spare.len() < ENTRIES_MAX
    }

    /// Whether there may be a move at all.
    pub fn are_possible(&self) -> bool {
        !self.missing.is_empty() && !self.spare.is_empty()
    }

    /// Notes a directory that the target lacks.
    pub fn want(&mut self, path: &RelPath, digest: Digest) {
        self.wanted.entry(digest).or_default().push(path.clone());
    }

    /// Takes in a spare entry of the target; `true` if it is a directory that was found a new name.
    pub fn offer(&mut self, path: &RelPath, entry: &Entry) -> bool {
        let meta = &entry.attrs.meta;
        match meta.kind {
            Kind::Dir => {
                let Some(names) = entry.digest.and_then(|digest| self.wanted.get_mut(&digest)) else {
                    return false;
                };
                // A directory within one that is moved already moves with it.
                names.retain(|name| {
                    !self.found.contains_key(name) && !self.found.keys().any(|to| name.is_within(to))
                });
                if names.is_empty() {
                    return false;
                }
                let alike = names.iter().position(|name| name.name() == path.name()).unwrap_or(0);
                let to = names.swap_remove(alike);
                self.leave(|other| other.is_within(&to));
                self.proof.want(to.clone());
                self.take(to, path, entry);
                true
            }
            Kind::File if meta.size > 0 && entry.nlink <= 1 && self.files.len() < ENTRIES_MAX => {
                let spare = self.files.entry((meta.size, meta.mtime)).or_default();
                spare.push((path.clone(), entry.clone()));
                false
            }
            _ => false,
        }
    }

    /// Makes spare again what was found some names.
    pub fn leave(&mut self, is_one: impl Fn(&RelPath) -> bool) {
        for (_, (from, entry)) in self.found.extract_if(|to, _| is_one(to)) {
            self.taken.remove(&from);
            self.left.push((from, entry));
        }
    }

    /// Makes spare again what has not moved, and looks for no more names.
    fn end(&mut self) {
        self.wanted.clear();
        self.leave(|_| true);
    }

    /// Whether files were spared that may have moved.
    pub fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Returns what the target holds of a missing path under another name, so far.
    pub fn origin(&self, to: &RelPath) -> Option<&RelPath> {
        self.found.get(to).map(|(from, _)| from)
    }

    /// Returns a spare file that may be the one that is missing at `path`, and keeps it for that. One that
    /// was compared with another already is not compared once more.
    pub fn candidate(
        &mut self,
        path: &RelPath,
        entry: &Entry,
        granularity_ns: u64,
    ) -> Option<(RelPath, Entry)> {
        let meta = &entry.attrs.meta;
        if meta.kind != Kind::File || entry.nlink > 1 || self.found.contains_key(path) {
            return None;
        }
        let spare = self.files.get_mut(&(meta.size, meta.mtime.truncated(granularity_ns)))?;
        if let Some((from, same)) = self.proof.of(path) {
            let at = spare.iter().position(|(spare, _)| same && *spare == from)?;
            return Some(spare.swap_remove(at));
        }
        let alike = spare.iter().position(|(from, _)| from.name() == path.name());
        let at = alike.or_else(|| spare.len().checked_sub(1))?;
        Some(spare.swap_remove(at))
    }

    /// Settles that `to` is what the target holds at `from`.
    pub fn take(&mut self, to: RelPath, from: &RelPath, entry: &Entry) {
        self.taken.insert(from.clone());
        self.found.insert(to, (from.clone(), entry.clone()));
    }

    /// Returns what the target holds of a missing path under another name, once.
    pub fn of(&mut self, path: &RelPath) -> Option<(RelPath, Entry)> {
        self.found.remove(path)
    }

    /// Whether what stands at a path of the target was given another name.
    pub fn is_taken(&self, path: &RelPath) -> bool {
        self.taken.contains(path)
    }

    /// Returns the name that something on the target will have after the moves; `news` maps old names
    /// to new ones.
    pub fn renamed(news: &HashMap<RelPath, RelPath>, path: &RelPath) -> Option<RelPath> {
        let mut top = Some(path.clone());
        while let Some(at) = top {
            if let Some(new) = news.get(&at) {
                return path.rebase(&at, new);
            }
            top = at.parent();
        }
        None
    }

    /// Returns old names and their new ones.
    pub fn news(&self) -> HashMap<RelPath, RelPath> {
        self.found.iter().map(|(to, (from, _))| (from.clone(), to.clone())).collect()
    }
}

impl Pass {
    /// Whether a rename may stand for a delete and what is missing.
    pub(super) fn looks_for_moves(&self) -> bool {
        let options = &self.shared.options;
        let strange = options.live && self.shared.strange.load(Ordering::Acquire);
        // A dry run reads no content that it is not asked to compare, and a move is proved by contents.
        let reads = !options.dry_run || self.options.checksum;
        // What is renamed is neither replaced nor removed, and a backup would lack it.
        let keeps = options.sync.backup.is_some();
        reads && !keeps && options.sync.delete.in_passes() && !self.shared.rules.may_differ() && !strange
    }

    /// Hands on what was put off: as renames what has moved, else as missing and spare. Returns the new
    /// names of what has moved, by the old ones.
    pub(super) fn settle_moves(&mut self) -> Result<HashMap<RelPath, RelPath>, Moot> {
        let Some(moves) = &mut self.moves else { return Ok(HashMap::new()) };
        let possible = moves.are_possible();
        let (missing, spare) = (std::mem::take(&mut moves.missing), std::mem::take(&mut moves.spare));
        if possible {
            self.want(&missing);
        }
        // All together: one after the other each would cost round trips of its own.
        let mut tasks = Vec::new();
        for (path, entry) in &spare {
            tasks.extend(self.extra(path, entry, false)?);
        }
        self.descend(tasks)?;
        self.settle_left()?;
        self.prove_moves()?;
        if possible {
            self.match_files(&missing)?;
        }
        let news = self.moves.as_ref().map(Moves::news).unwrap_or_default();
        for (path, entry) in &missing {
            self.missing(path, entry)?;
        }
        // Some of it may be missing no more: the source goes on.
        self.moves.iter_mut().for_each(Moves::end);
        self.settle_left()?;
        Ok(news)
    }

    /// Notes as spare what was found a name and does not move to it.
    pub(super) fn settle_left(&mut self) -> Result<(), Moot> {
        while let Some((path, entry)) = self.moves.as_mut().and_then(|moves| moves.left.pop()) {
            // It was not protected when it was found a name.
            let tasks = self.extra(&path, &entry, true)?;
            self.descend(tasks)?;
        }
        Ok(())
    }

    /// Notes the digest of every missing directory that holds anything and could be read whole.
    fn want(&mut self, missing: &[(RelPath, Entry)]) {
        let nothing = crate::tree::DirDigest::new(self.options.mask).finish();
        let tops: HashSet<&RelPath> = missing.iter().map(|(path, _)| path).collect();
        let problems = &self.local.problems;
        let Some(moves) = &mut self.moves else { return };
        for (path, digest) in &self.local.digests {
            let mut top = Some(path.clone());
            while top.as_ref().is_some_and(|top| !tops.contains(top)) {
                top = top.and_then(|top| top.parent());
            }
            let whole = || !problems.iter().any(|(problem, _)| problem.is_within(path));
            if top.is_some() && *digest != nothing && whole() {
                moves.want(path, *digest);
            }
        }
    }

    /// Finds the missing files that the target holds under other names.
    fn match_files(&mut self, missing: &[(RelPath, Entry)]) -> Result<(), Moot> {
        if !self.moves.as_ref().is_some_and(Moves::has_files) {
            return Ok(());
        }
        let mut waiting: VecDeque<(RelPath, Entry)> = missing.iter().cloned().collect();
        let mut asked: VecDeque<(RelPath, RelPath, Entry)> = VecDeque::new();
        while let Some((path, entry)) = waiting.pop_front() {
            let is_dir = entry.attrs.meta.kind == Kind::Dir;
            let moved = self.moves.as_ref().is_some_and(|moves| moves.found.contains_key(&path));
            if is_dir && !moved && self.options.recursive && entry.digest.is_some() {
                let below = self.list(&path).entries;
                waiting.extend(below.into_iter().map(|entry| (path.join(&entry.name), entry)));
            }
            let step = self.options.mask.granularity_ns;
            let candidate = self.moves.as_mut().and_then(|moves| moves.candidate(&path, &entry, step));
            let Some(moves) = &mut self.moves else { return Ok(()) };
            if let Some((from, old)) = candidate {
                if moves.proof.of(&path).is_some() {
                    moves.take(path, &from, &old);
                    continue;
                }
                self.send(&ToReceiver::Hash { pass: self.id, path: from.clone() })?;
                asked.push_back((path, from, old));
            }
            if asked.len() >= HASHES_AHEAD {
                self.settle_file(&mut asked)?;
            }
        }
        while !asked.is_empty() {
            self.settle_file(&mut asked)?;
        }
        Ok(())
    }

    fn settle_file(&mut self, asked: &mut VecDeque<(RelPath, RelPath, Entry)>) -> Result<(), Moot> {
        let Some((to, from, old)) = asked.pop_front() else { return Ok(()) };
        let same = self.hashed_alike(&to)?;
        if let Some(moves) = self.moves.as_mut().filter(|_| same) {
            moves.take(to, &from, &old);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Attrs, FileId, Meta};

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn entry(kind: Kind, size: u64, digest: Option<Digest>) -> Entry {
        let mtime = Time { secs: 5, nanos: 7 };
        let meta = Meta { kind, mode: 0o644, uid: 0, gid: 0, size, mtime, rdev: 0 };
        Entry {
            name: Vec::new(),
            attrs: Attrs { meta, symlink: Vec::new(), xattrs: Vec::new() },
            ctime: mtime,
            id: FileId { dev: 1, ino: 1 },
            nlink: 1,
            hash: None,
            digest,
        }
    }

    #[test]
    fn a_directory_moves_as_a_whole_and_what_is_below_it_moves_along() {
        let mut moves = Moves::default();
        moves.want(&path("new/sub"), [2; 32]);
        moves.want(&path("new"), [1; 32]);
        assert!(moves.offer(&path("old"), &entry(Kind::Dir, 0, Some([1; 32]))));
        assert!(!moves.offer(&path("copy of sub"), &entry(Kind::Dir, 0, Some([2; 32]))));
        assert!(moves.is_taken(&path("old")) && !moves.is_taken(&path("copy of sub")));
        assert_eq!(Moves::renamed(&moves.news(), &path("old/sub/f")), Some(path("new/sub/f")));
        assert_eq!(moves.of(&path("new")).unwrap().0, path("old"));
    }

    #[test]
    fn what_was_to_move_below_a_directory_that_moves_as_a_whole_is_spare_again() {
        let mut moves = Moves::default();
        moves.want(&path("new/sub"), [2; 32]);
        moves.want(&path("new"), [1; 32]);
        assert!(moves.offer(&path("copy of sub"), &entry(Kind::Dir, 0, Some([2; 32]))));
        assert!(moves.offer(&path("old"), &entry(Kind::Dir, 0, Some([1; 32]))));
        assert!(moves.is_taken(&path("old")) && !moves.is_taken(&path("copy of sub")));
        assert_eq!(moves.left.pop().unwrap().0, path("copy of sub"));
        moves.end();
        assert_eq!(moves.left.pop().unwrap().0, path("old"), "nobody asked for its new name");
        assert!(!moves.is_taken(&path("old")) && moves.of(&path("new")).is_none());
    }

    #[test]
    fn of_equal_directories_the_one_of_the_same_name_is_taken() {
        let mut moves = Moves::default();
        moves.want(&path("x/a"), [1; 32]);
        moves.want(&path("x/b"), [1; 32]);
        assert!(moves.offer(&path("b"), &entry(Kind::Dir, 0, Some([1; 32]))));
        assert_eq!(moves.of(&path("x/b")).unwrap().0, path("b"));
    }

    #[test]
    fn a_spare_file_is_a_candidate_once_and_only_of_its_size_and_time() {
        let mut moves = Moves::default();
        moves.offer(&path("old"), &entry(Kind::File, 9, None));
        assert!(moves.candidate(&path("new"), &entry(Kind::File, 8, None), 1).is_none());
        assert!(moves.candidate(&path("new"), &entry(Kind::File, 9, None), 1).is_some());
        assert!(moves.candidate(&path("other"), &entry(Kind::File, 9, None), 1).is_none());
    }
}
