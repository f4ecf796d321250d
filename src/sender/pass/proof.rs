//! Whether what looks the same on both sides, or may have moved, holds the same bytes.
//!
//! **Purpose:** equal names, sizes and times name a candidate and prove nothing: two releases from
//! reproducible archives have all of them in common. Every file of a candidate is hashed on both sides.
//! **In → Out:** directories that were found by their digest; those that differ are spare again.
//! **Invariants:** only candidates are hashed, and each file of a candidate once: of one that differs
//! somewhere it is known where, so that its equal parts still move.
//! **Not here:** finding candidates (`moves`).

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::moves::HASHES_AHEAD;
use super::{Moot, Pass, PassReply};
use crate::batch::Extent;
use crate::monitor::Counters;
use crate::protocol::ToReceiver;
use crate::scan;
use crate::tree::{Entry, Kind, RelPath};

/// What hashing candidates has told.
#[derive(Default)]
pub(super) struct Proof {
    /// Candidates of which no byte was compared yet, by their new names.
    unproved: Vec<RelPath>,
    /// Old names of the candidates that were compared, by their new ones.
    compared: HashMap<RelPath, RelPath>,
    /// New names below them under which the content differs, or could not be read.
    different: BTreeSet<RelPath>,
}

impl Proof {
    /// Notes a candidate.
    pub fn want(&mut self, to: RelPath) {
        self.unproved.push(to);
    }

    /// Returns what a path was compared with, and whether that, with all below it, was the same; `None` if
    /// it was not compared.
    pub fn of(&self, to: &RelPath) -> Option<(RelPath, bool)> {
        let mut above = std::iter::successors(Some(to.clone()), RelPath::parent);
        let from = above.find_map(|new| to.rebase(&new, self.compared.get(&new)?))?;
        let (low, high) = to.below_range();
        let same = !self.different.contains(to) && self.different.range(low..high).next().is_none();
        Some((from, same))
    }
}

impl Pass {
    /// Compares the contents of the directories that were found new names; those that differ are spare again,
    /// and what is below them is looked at one by one.
    pub(super) fn prove_moves(&mut self) -> Result<(), Moot> {
        // Digests that hold contents are proof enough.
        while !self.options.checksum
            && let Some(moves) = &mut self.moves
        {
            let unproved = std::mem::take(&mut moves.proof.unproved);
            if unproved.is_empty() {
                break;
            }
            let pairs: Vec<(RelPath, RelPath)> =
                unproved.into_iter().filter_map(|to| Some((moves.origin(&to)?.clone(), to))).collect();
            let known = |(from, to): &(RelPath, RelPath)| {
                self.moves.as_ref().and_then(|moves| moves.proof.of(to)).is_some_and(|(old, _)| old == *from)
            };
            let unknown = pairs.iter().filter(|pair| !known(pair)).cloned().collect();
            self.hash_below(unknown)?;
            let Some(moves) = &mut self.moves else { break };
            for (_, to) in pairs {
                if moves.proof.of(&to).is_none_or(|(_, same)| !same) {
                    moves.leave(|other| *other == to);
                }
            }
            self.settle_left()?;
        }
        Ok(())
    }

    /// Hashes the files of directories on both sides, as far as this one has them.
    fn hash_below(&mut self, pairs: Vec<(RelPath, RelPath)>) -> Result<(), Moot> {
        let mut waiting = pairs.clone();
        let mut asked: VecDeque<RelPath> = VecDeque::new();
        let mut different = BTreeSet::new();
        while let Some((from, to)) = waiting.pop() {
            let root = self.shared.source.root();
            let Ok(found) = scan::list(&root, &to, &self.options, &self.shared.view) else {
                different.insert(to);
                continue;
            };
            different.extend(found.problems.into_iter().map(|(name, _)| to.join(&name)));
            for entry in found.entries {
                let (old, new) = (from.join(&entry.name), to.join(&entry.name));
                match entry.attrs.meta.kind {
                    Kind::Dir => waiting.push((old, new)),
                    Kind::File if entry.attrs.meta.size > 0 => {
                        self.send(&ToReceiver::Hash { pass: self.id, path: old })?;
                        asked.push_back(new);
                    }
                    _ => {}
                }
                if asked.len() >= HASHES_AHEAD {
                    different.extend(self.differs(&mut asked)?);
                }
            }
        }
        while !asked.is_empty() {
            different.extend(self.differs(&mut asked)?);
        }
        if let Some(moves) = &mut self.moves {
            moves.proof.compared.extend(pairs.into_iter().map(|(from, to)| (to, from)));
            moves.proof.different.append(&mut different);
        }
        Ok(())
    }

    /// Takes in the hash that was asked for first; returns the file if the content is not the same.
    fn differs(&self, asked: &mut VecDeque<RelPath>) -> Result<Option<RelPath>, Moot> {
        let Some(path) = asked.pop_front() else { return Ok(None) };
        let same = self.hashed_alike(&path)?;
        Ok((!same).then_some(path))
    }

    /// Has a file sent that looks the same on both sides and is not, or could not be read on one.
    pub(super) fn compare_content(&mut self, path: RelPath, entry: &Entry) -> Result<(), Moot> {
        if self.hashed_alike(&path)? {
            return Ok(());
        }
        self.expect(entry, Extent::Content);
        self.is_sent(&path, entry);
        self.update(path, Extent::Content, None)
    }

    /// Hashes a file of the source while the target hashes the one that was asked for longest ago, and
    /// returns whether both could be read and are the same.
    pub(super) fn hashed_alike(&self, path: &RelPath) -> Result<bool, Moot> {
        self.flush()?;
        Counters::add(&self.shared.status.counters.hashed, 1);
        let ours = scan::hash(&self.shared.source.root(), path).ok();
        let PassReply::Hashed(theirs) = self.reply()? else { return Err(Moot) };
        Ok(ours.is_some() && ours == theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    #[test]
    fn of_a_directory_that_differs_somewhere_the_equal_parts_are_known() {
        let proof = Proof {
            unproved: Vec::new(),
            compared: HashMap::from([(path("1.2.4"), path("1.2.3"))]),
            different: BTreeSet::from([path("1.2.4/bin/app")]),
        };
        let of = |text: &str| proof.of(&path(text));
        assert_eq!(of("1.2.4"), Some((path("1.2.3"), false)));
        assert_eq!(of("1.2.4/bin"), Some((path("1.2.3/bin"), false)));
        assert_eq!(of("1.2.4/bin/app"), Some((path("1.2.3/bin/app"), false)));
        assert_eq!(of("1.2.4/static"), Some((path("1.2.3/static"), true)));
        assert_eq!(of("1.2.40"), None);
    }
}
