//! Two listings of one directory, held against each other a few thousand entries at a time.
//!
//! **In → Out:** the entries of the source as they are read, the pieces in which the target tells its own; pairs of
//! short listings that cover the same range of names.
//! **Invariant:** a name is in the same pair for both sides. The target is not trusted with the order.

use std::iter::Peekable;

use crate::scan::Found;
use crate::tree::Entry;

/// Entries of the source in one pair, at most.
const CHUNK: usize = 2000;

/// What both sides have in one range of names.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub ours: Vec<Entry>,
    pub theirs: Vec<Entry>,
    /// Names of the source of which nothing is known, or which are not kept: what the target has there stays.
    pub unknown: Vec<Vec<u8>>,
}

/// Cuts both listings in the same places.
pub(super) struct Aligned<I: Iterator<Item = Found>> {
    ours: Peekable<I>,
    /// The last name that the target told.
    told: Option<Vec<u8>>,
}

impl<I: Iterator<Item = Found>> Aligned<I> {
    pub fn new(ours: I) -> Self {
        Self { ours: ours.peekable(), told: None }
    }

    /// Takes in a piece of the target's listing; `None` if it is not in the order of names.
    pub fn pairs(&mut self, piece: Vec<Entry>, last: bool) -> Option<Pairs<'_, I>> {
        for entry in &piece {
            if self.told.as_ref().is_some_and(|told| *told >= entry.name) {
                return None;
            }
            self.told = Some(entry.name.clone());
        }
        Some(Pairs { aligned: self, theirs: piece, last, done: false })
    }
}

/// The pairs of one piece.
pub(super) struct Pairs<'a, I: Iterator<Item = Found>> {
    aligned: &'a mut Aligned<I>,
    theirs: Vec<Entry>,
    /// It is the last piece: what the source has behind it is in its pairs as well.
    last: bool,
    done: bool,
}

impl<I: Iterator<Item = Found>> Iterator for Pairs<'_, I> {
    type Item = Pair;

    fn next(&mut self) -> Option<Pair> {
        if self.done {
            return None;
        }
        let mut pair = Pair::default();
        let bound = self.theirs.last().map(|entry| entry.name.clone()).filter(|_| !self.last);
        let mut at = Vec::new();
        let mut count = 0;
        let within = |found: &Found| self.last || bound.as_deref().is_some_and(|bound| found.name() <= bound);
        while count < CHUNK {
            let Some(found) = self.aligned.ours.next_if(within) else { break };
            count += 1;
            if count == CHUNK {
                at = found.name().to_vec();
            }
            match found {
                Found::Entry(entry) => pair.ours.push(entry),
                Found::Unread(name, _) => pair.unknown.push(name),
                Found::NotKept(entry) => pair.unknown.push(entry.name),
            }
        }
        let cut = if count < CHUNK {
            self.done = true;
            self.theirs.len()
        } else {
            self.theirs.partition_point(|entry| entry.name <= at)
        };
        let rest = self.theirs.split_off(cut);
        pair.theirs = std::mem::replace(&mut self.theirs, rest);
        Some(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Attrs, FileId, Kind, Meta, Time};

    fn entry(number: usize) -> Entry {
        let meta =
            Meta { kind: Kind::File, mode: 0o644, uid: 0, gid: 0, size: 0, mtime: Time::default(), rdev: 0 };
        Entry {
            name: format!("{number:06}").into_bytes(),
            attrs: Attrs { meta, symlink: Vec::new(), xattrs: Vec::new() },
            ctime: Time::default(),
            id: FileId { dev: 0, ino: 0 },
            nlink: 1,
            hash: None,
            digest: None,
        }
    }

    #[test]
    fn every_name_is_in_one_pair_with_what_the_other_side_has_under_it() {
        let ours = |step: usize| (0..9000).step_by(step).collect::<Vec<_>>();
        for (ours, theirs, piece) in [
            (ours(1), ours(1), 2000),
            (ours(1), ours(3), 700),
            (ours(3), ours(1), 2000),
            (ours(1), vec![], 2000),
            (vec![], ours(1), 2000),
            (ours(2), vec![8999], 1),
            (vec![], vec![], 1),
        ] {
            let found = ours.iter().map(|&at| match at % 10 {
                7 => Found::Unread(entry(at).name, 5),
                _ => Found::Entry(entry(at)),
            });
            let mut aligned = Aligned::new(found);
            let mut pieces: Vec<Vec<Entry>> =
                theirs.chunks(piece).map(|piece| piece.iter().map(|&at| entry(at)).collect()).collect();
            if pieces.is_empty() {
                pieces.push(Vec::new());
            }
            let (mut before, mut seen, mut told) = (Vec::new(), Vec::new(), Vec::new());
            let count = pieces.len();
            for (at, piece) in pieces.into_iter().enumerate() {
                for pair in aligned.pairs(piece, at + 1 == count).unwrap() {
                    assert!(pair.ours.len() <= CHUNK);
                    let names =
                        |entries: &[Entry]| entries.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
                    let mut names_here = names(&pair.ours);
                    names_here.extend(pair.unknown.iter().cloned());
                    seen.extend(names_here.iter().cloned());
                    told.extend(names(&pair.theirs));
                    names_here.extend(names(&pair.theirs));
                    assert!(names_here.iter().all(|name| *name > before), "a range of its own");
                    before = names_here.into_iter().max().unwrap_or(before);
                }
            }
            seen.sort();
            assert_eq!(seen, ours.iter().map(|&at| entry(at).name).collect::<Vec<_>>());
            assert_eq!(told, theirs.iter().map(|&at| entry(at).name).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_listing_that_is_out_of_order_is_refused() {
        let mut aligned = Aligned::new(std::iter::empty::<Found>());
        assert!(aligned.pairs(vec![entry(1), entry(2)], false).is_some());
        assert!(aligned.pairs(vec![entry(2)], false).is_none());
        let mut aligned = Aligned::new(std::iter::empty::<Found>());
        assert!(aligned.pairs(vec![entry(2), entry(1)], true).is_none());
    }
}
