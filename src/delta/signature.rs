//! Making a signature on the receiver, collecting it on the sender.

use super::index::Index;
use super::sums::{ENTRY_LEN, append_entries};
use super::{BLOCK_LEN_MAX, BLOCK_LEN_MIN, MAX_BLOCKS, SignatureError, block_count};

/// Sums a basis, block by block, for the wire. Holds less than one block.
#[derive(Debug)]
pub struct Signer {
    block_len: u32,
    partial: Vec<u8>,
}

impl Signer {
    /// Starts a signature; [`super::block_len`] chooses the length.
    ///
    /// # Errors
    /// [`SignatureError::BlockLen`], skip: the length is none that a signature may have.
    pub fn new(block_len: u32) -> Result<Self, SignatureError> {
        Ok(Self { block_len: valid(block_len)?, partial: Vec::new() })
    }

    /// Takes the next bytes of the basis, any number of them, and appends the sums of the blocks
    /// that became whole to `out`.
    pub fn push(&mut self, window: &[u8], out: &mut Vec<u8>) {
        let mut rest = window;
        if !self.partial.is_empty() {
            let missing = (self.block_len as usize).saturating_sub(self.partial.len());
            let (head, tail) = rest.split_at(missing.min(rest.len()));
            self.partial.extend_from_slice(head);
            rest = tail;
            if self.partial.len() < self.block_len as usize {
                return;
            }
            append_entries(&self.partial, self.block_len, out);
            self.partial.clear();
        }
        let (whole, partial) = rest.split_at(rest.len() - rest.len() % self.block_len as usize);
        append_entries(whole, self.block_len, out);
        self.partial.extend_from_slice(partial);
    }

    /// Appends the sums of the short last block to `out`, if there is one.
    pub fn finish(self, out: &mut Vec<u8>) {
        append_entries(&self.partial, self.block_len, out);
    }
}

/// A signature under way: what has come of the sums of a basis.
#[derive(Debug)]
pub struct Signature {
    basis_len: u64,
    block_len: u32,
    expected: usize,
    entries: Vec<u8>,
}

impl Signature {
    /// Starts to collect the sums of a basis of `basis_len` bytes, both numbers as the peer states
    /// them. Nothing is reserved for what has not come.
    ///
    /// # Errors
    /// [`SignatureError::BlockLen`] and [`SignatureError::TooManyBlocks`], skip: the whole file can
    /// go in place of a delta.
    pub fn new(basis_len: u64, block_len: u32) -> Result<Self, SignatureError> {
        let blocks = block_count(basis_len, valid(block_len)?);
        let expected = usize::try_from(blocks)
            .ok()
            .filter(|_| blocks <= MAX_BLOCKS)
            .and_then(|blocks| blocks.checked_mul(ENTRY_LEN))
            .ok_or(SignatureError::TooManyBlocks { size: basis_len, block_len })?;
        Ok(Self { basis_len, block_len, expected, entries: Vec::new() })
    }

    /// Takes the next bytes from the wire, any number of them.
    ///
    /// # Errors
    /// [`SignatureError::TooLong`], skip: the peer sends more than it stated.
    pub fn push(&mut self, wire: &[u8]) -> Result<(), SignatureError> {
        if wire.len() > self.expected.saturating_sub(self.entries.len()) {
            return Err(SignatureError::TooLong { expected: self.expected });
        }
        self.entries.extend_from_slice(wire);
        Ok(())
    }

    /// Returns whether all sums have come.
    pub fn is_complete(&self) -> bool {
        self.entries.len() == self.expected
    }

    /// Returns the index that a [`super::Differ`] works with: milliseconds for 100,000 blocks.
    ///
    /// # Errors
    /// [`SignatureError::Incomplete`], skip: sums are missing.
    pub fn index(self) -> Result<Index, SignatureError> {
        if !self.is_complete() {
            return Err(SignatureError::Incomplete { expected: self.expected, got: self.entries.len() });
        }
        Ok(Index::new(self.basis_len, self.block_len, &self.entries))
    }
}

fn valid(block_len: u32) -> Result<u32, SignatureError> {
    if (BLOCK_LEN_MIN..=BLOCK_LEN_MAX).contains(&block_len) {
        Ok(block_len)
    } else {
        Err(SignatureError::BlockLen(block_len))
    }
}
