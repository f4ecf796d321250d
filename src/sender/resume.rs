//! Going on with what a target has of a file from a session that was cut off.
//!
//! **In → Out:** the hashes of a partial file's chunks, and the pieces of the source's version in their
//! order; how many bytes agree, and the pieces behind them. Pure.
//! **Invariant:** bytes that are left out have the hash that the target told; the digest over the whole
//! decides in the end.

use std::sync::Arc;

use super::source::Piece;
use crate::disk::hash_zeros;

/// Bytes of one hash.
const HASH_LEN: usize = 32;
/// Files below this many bytes are sent anew: asking costs more.
pub(super) const RESUME_LEN_MIN: u64 = 1 << 20;

/// What a target has of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunks {
    len: u64,
    hashes: Vec<[u8; HASH_LEN]>,
}

impl Chunks {
    /// Takes what a target told; `None` if it has nothing.
    pub fn new(chunk_len: u32, hashes: &[u8]) -> Option<Self> {
        let hashes: Vec<_> = hashes.as_chunks::<HASH_LEN>().0.to_vec();
        (chunk_len > 0 && !hashes.is_empty()).then_some(Self { len: chunk_len.into(), hashes })
    }

    /// Returns what it costs in memory, about, in bytes.
    pub fn weight(&self) -> u64 {
        (self.hashes.len() * HASH_LEN) as u64 + 64
    }
}

/// A version that is being compared with what the target has.
pub(super) struct Matching {
    chunks: Chunks,
    /// Chunks that agree.
    agree: usize,
    hasher: blake3::Hasher,
    filled: u64,
    /// What was read behind the last chunk that agrees.
    behind: Vec<Piece>,
}

impl Matching {
    pub fn new(chunks: Chunks) -> Self {
        Self { chunks, agree: 0, hasher: blake3::Hasher::new(), filled: 0, behind: Vec::new() }
    }

    /// Takes the next piece; `true` when it is decided how much agrees.
    pub fn feed(&mut self, mut piece: Piece) -> bool {
        loop {
            let left = self.chunks.len - self.filled;
            let (head, tail) = split(piece, left);
            match &head {
                Piece::Data(data) => {
                    self.hasher.update(data);
                    self.filled += data.len() as u64;
                }
                Piece::Hole(len) => {
                    hash_zeros(&mut self.hasher, *len);
                    self.filled += len;
                }
                Piece::End => return true,
            }
            self.behind.push(head);
            if self.filled < self.chunks.len {
                return false;
            }
            let hash = self.hasher.finalize();
            if self.chunks.hashes.get(self.agree) != Some(hash.as_bytes()) {
                self.behind.extend(tail);
                return true;
            }
            self.agree += 1;
            (self.filled, self.hasher) = (0, blake3::Hasher::new());
            self.behind.clear();
            if self.agree == self.chunks.hashes.len() {
                self.behind.extend(tail);
                return true;
            }
            match tail {
                Some(tail) => piece = tail,
                None => return false,
            }
        }
    }

    /// Returns how many bytes agree, and what was read behind them.
    pub fn finish(self) -> (u64, Vec<Piece>) {
        (self.chunks.len * self.agree as u64, self.behind)
    }
}

/// Cuts a piece after `at` bytes.
fn split(piece: Piece, at: u64) -> (Piece, Option<Piece>) {
    match piece {
        Piece::Data(data) if data.len() as u64 > at => {
            let (head, tail) = data.split_at(usize::try_from(at).unwrap_or(data.len()).min(data.len()));
            (Piece::Data(Arc::new(head.to_vec())), Some(Piece::Data(Arc::new(tail.to_vec()))))
        }
        Piece::Hole(len) if len > at => (Piece::Hole(at), Some(Piece::Hole(len - at))),
        piece => (piece, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(parts: &[&[u8]]) -> Chunks {
        let hashes: Vec<u8> = parts.iter().flat_map(|part| *blake3::hash(part).as_bytes()).collect();
        Chunks::new(4, &hashes).unwrap()
    }

    /// Feeds pieces until it is decided; returns the bytes that agree and those that were read behind.
    fn run(chunks: Chunks, pieces: &[Piece]) -> (u64, Vec<u8>) {
        let mut matching = Matching::new(chunks);
        let decided = pieces.iter().any(|piece| matching.feed(piece.clone()));
        assert!(decided);
        let (agree, behind) = matching.finish();
        let bytes = behind.into_iter().flat_map(|piece| match piece {
            Piece::Data(data) => data.to_vec(),
            Piece::Hole(len) => vec![0; usize::try_from(len).unwrap()],
            Piece::End => Vec::new(),
        });
        (agree, bytes.collect())
    }

    fn data(text: &[u8]) -> Piece {
        Piece::Data(Arc::new(text.to_vec()))
    }

    #[test]
    fn what_agrees_is_left_out_however_the_pieces_are_cut() {
        let whole = [data(b"aaaabbbbcc"), Piece::End];
        assert_eq!(run(chunks(&[b"aaaa", b"bbbb"]), &whole), (8, b"cc".to_vec()));
        let cut = [data(b"aaa"), data(b"ab"), data(b"bbbcc"), Piece::End];
        assert_eq!(run(chunks(&[b"aaaa", b"bbbb"]), &cut), (8, b"cc".to_vec()));
        let holes = [data(b"aa"), Piece::Hole(8), data(b"z"), Piece::End];
        assert_eq!(run(chunks(&[b"aa\0\0", b"\0\0\0\0"]), &holes), (8, b"\0\0".to_vec()));
    }

    #[test]
    fn the_first_chunk_that_differs_is_sent_with_all_behind_it() {
        let pieces = [data(b"aaaab"), data(b"xbbcc"), Piece::End];
        assert_eq!(run(chunks(&[b"aaaa", b"bbbb", b"cccc"]), &pieces), (4, b"bxbbcc".to_vec()));
        assert_eq!(run(chunks(&[b"zzzz"]), &pieces), (0, b"aaaab".to_vec()));
        // Shorter than what the target has.
        assert_eq!(run(chunks(&[b"aaaa", b"bbbb"]), &[data(b"aaaabb"), Piece::End]), (4, b"bb".to_vec()));
        assert_eq!(run(chunks(&[b"aaaa"]), &[Piece::End]), (0, Vec::new()));
    }

    #[test]
    fn a_target_that_tells_nothing_or_nonsense_has_nothing() {
        assert_eq!(Chunks::new(0, &[0; 32]), None);
        assert_eq!(Chunks::new(4, &[0; 31]), None);
    }
}
