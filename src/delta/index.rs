//! Finding the blocks of a basis by their sums.
//!
//! Three steps, each far rarer than the one before: a Bloom filter over the weak sums (two bits in
//! one word, wrong about once in 100 times), a hash table with the weak sums themselves, the sample
//! and the strong sum. Of equal blocks the first is found.
//! Whatever the signature holds, one lookup reads at most [`PROBES`] slots and asks at most
//! [`SAME_WEAK`] blocks (and the expected one); blocks that do not fit in this are not found, which
//! costs literals and nothing else.

use super::sums::{ENTRY_LEN, Entry, append_entries, sample, sample_of, weak_of};

/// The most slots that a lookup reads.
const PROBES: usize = 32;
/// The most different blocks of one weak sum that are held.
const SAME_WEAK: usize = 8;
/// The bits of the filter for each block, before rounding up.
const BITS_PER_BLOCK: usize = 32;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The sums of a basis, made findable. Shared by all that differ against the same basis.
#[derive(Debug)]
pub struct Index {
    basis_len: u64,
    block_len: u32,
    entries: Vec<Entry>,
    filter: Vec<u64>,
    filter_shift: u32,
    /// Weak sum in the upper half, number of the block plus 1 in the lower; 0 is empty.
    slots: Vec<u64>,
}

/// The strong sums that may still be computed in vain, in bytes hashed: what bounds the work when
/// content is made so that weak sums and samples collide.
#[derive(Debug)]
pub(super) struct Credit {
    bytes: u64,
    most: u64,
}

impl Credit {
    pub(super) fn new(block_len: u32) -> Self {
        let most = u64::from(block_len) * 64;
        Self { bytes: most, most }
    }

    /// Adds what `scanned` bytes earn.
    pub(super) fn earn(&mut self, scanned: usize) {
        self.bytes = self.bytes.saturating_add((scanned as u64).saturating_mul(4)).min(self.most);
    }
}

impl Index {
    /// Indexes `entries`, which must be those of `basis_len` bytes.
    pub(super) fn new(basis_len: u64, block_len: u32, entries: &[u8]) -> Self {
        let entries: Vec<Entry> = entries.as_chunks::<ENTRY_LEN>().0.to_vec();
        let words = (entries.len() * BITS_PER_BLOCK / 64).next_power_of_two().max(2);
        let slots = (entries.len() * 2).next_power_of_two().max(2);
        let mut index = Self {
            basis_len,
            block_len,
            entries,
            filter: vec![0; words],
            filter_shift: 64 - words.trailing_zeros(),
            slots: vec![0; slots],
        };
        // The short last block has sums of another length: it is not found by scanning.
        for block in 0..index.whole_blocks() {
            index.insert(block);
        }
        index
    }

    /// Returns the length of a block, in bytes.
    pub fn block_len(&self) -> u32 {
        self.block_len
    }

    /// Returns the length of the basis, in bytes.
    pub fn basis_len(&self) -> u64 {
        self.basis_len
    }

    /// Returns how many blocks are not short.
    pub(super) fn whole_blocks(&self) -> u32 {
        // Signature::new keeps this below MAX_BLOCKS.
        u32::try_from(self.basis_len / u64::from(self.block_len)).unwrap_or_default()
    }

    /// Returns the length of the short last block; 0 if there is none.
    pub(super) fn short_len(&self) -> usize {
        (self.basis_len % u64::from(self.block_len)) as usize
    }

    /// Returns the sums of a block.
    pub(super) fn entry(&self, block: u32) -> Option<&Entry> {
        self.entries.get(block as usize)
    }

    /// Returns whether a block with this weak sum may exist. Never wrongly denies.
    #[inline]
    pub(super) fn may_hold(&self, weak: u32) -> bool {
        let hash = u64::from(weak).wrapping_mul(MULTIPLIER);
        let (first, second) = filter_bits(weak, hash);
        let word = self.filter.get((hash >> self.filter_shift) as usize).copied().unwrap_or_default();
        (word >> first) & (word >> second) & 1 == 1
    }

    /// Returns the block that equals `window` by its sums: `expected` if it does, else the first.
    /// `window` must be as long as a block and `weak` its weak sum.
    pub(super) fn find(
        &self,
        window: &[u8],
        weak: u32,
        expected: Option<u32>,
        credit: &mut Credit,
    ) -> Option<u32> {
        let expected = expected
            .filter(|&block| block < self.whole_blocks())
            .filter(|&block| self.entry(block).is_some_and(|entry| weak_of(entry) == weak));
        let mut sampled = None;
        let mut summed: Option<Vec<u8>> = None;
        let found = expected.into_iter().chain(self.with_weak(weak)).find(|&block| {
            let Some(entry) = self.entry(block) else { return false };
            if *sampled.get_or_insert_with(|| sample(window)) != sample_of(entry) {
                return false;
            }
            if summed.is_none() && credit.bytes < window.len() as u64 {
                return false;
            }
            let sums = summed.get_or_insert_with(|| {
                let mut sums = Vec::with_capacity(ENTRY_LEN);
                append_entries(window, self.block_len, &mut sums);
                sums
            });
            sums == entry
        });
        if found.is_none() && summed.is_some() {
            credit.bytes = credit.bytes.saturating_sub(window.len() as u64);
        }
        found
    }

    /// Returns the held blocks of a weak sum, in their order.
    fn with_weak(&self, weak: u32) -> impl Iterator<Item = u32> {
        self.probe(weak)
            .map_while(|at| self.slots.get(at).copied().filter(|slot| *slot != 0))
            .filter(move |slot| (slot >> 32) as u32 == weak)
            .map(|slot| (slot as u32).wrapping_sub(1))
    }

    /// Returns the places of the slots that may hold a weak sum.
    fn probe(&self, weak: u32) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        let home = (u64::from(weak).wrapping_mul(MULTIPLIER) >> 20) as usize;
        (0..PROBES.min(self.slots.len())).map(move |step| (home + step) & mask)
    }

    fn insert(&mut self, block: u32) {
        let Some(entry) = self.entry(block).copied() else { return };
        let weak = weak_of(&entry);
        let hash = u64::from(weak).wrapping_mul(MULTIPLIER);
        let (first, second) = filter_bits(weak, hash);
        if let Some(word) = self.filter.get_mut((hash >> self.filter_shift) as usize) {
            *word |= 1 << first | 1 << second;
        }
        let mut same = 0;
        for at in self.probe(weak) {
            let Some(slot) = self.slots.get(at).copied() else { return };
            if slot == 0 {
                self.slots[at] = u64::from(weak) << 32 | (u64::from(block) + 1);
                return;
            }
            if (slot >> 32) as u32 == weak {
                same += 1;
                let held = self.entry((slot as u32).wrapping_sub(1));
                if same == SAME_WEAK || held == Some(&entry) {
                    return;
                }
            }
        }
    }
}

/// Returns the two bits of a weak sum in its word of the filter.
#[inline]
fn filter_bits(weak: u32, hash: u64) -> (u32, u32) {
    // Below the bits that choose the word, which are 18 at most; and those that cost nothing.
    ((hash >> 34) as u32 & 63, weak & 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u32 = 16;

    fn index_of(entries: &[Entry]) -> Index {
        Index::new(entries.len() as u64 * u64::from(LEN), LEN, &entries.concat())
    }

    fn sums(block: &[u8]) -> Entry {
        let mut out = Vec::new();
        append_entries(block, LEN, &mut out);
        out.try_into().unwrap()
    }

    /// `count` entries with the weak sum of `block` that equal it in nothing else.
    fn colliding(block: &[u8], count: u32) -> Vec<Entry> {
        let like = |nth: u32| {
            let mut entry = sums(block);
            entry[8..12].copy_from_slice(&(nth + 1).to_be_bytes());
            entry
        };
        (0..count).map(like).collect()
    }

    #[test]
    fn every_block_of_a_large_index_is_found() {
        let blocks: Vec<[u8; 16]> = (0..50_000_u128)
            .map(|nth| (nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_0c5d_1fa3_6d2b).to_le_bytes())
            .collect();
        let index = index_of(&blocks.iter().map(|block| sums(block)).collect::<Vec<_>>());
        let found = |nth: usize| {
            let weak = weak_of(&sums(&blocks[nth]));
            index.may_hold(weak)
                && index.find(&blocks[nth], weak, None, &mut Credit::new(LEN)) == Some(nth as u32)
        };
        assert_eq!((0..blocks.len()).filter(|&nth| !found(nth)).count(), 0);
    }

    #[test]
    fn expected_one_of_equal_blocks_is_found_else_the_first() {
        let block = [7; 16];
        let index = index_of(&[sums(&block); 1000]);
        let find = |expected| index.find(&block, weak_of(&sums(&block)), expected, &mut Credit::new(LEN));
        assert_eq!(find(None), Some(0));
        assert_eq!(find(Some(600)), Some(600));
        assert_eq!(find(Some(1000)), Some(0));
    }

    #[test]
    fn blocks_of_one_weak_sum_are_held_in_bounded_number() {
        let block = [9; 16];
        let index = index_of(&colliding(&block, 10_000));
        assert_eq!(index.with_weak(weak_of(&sums(&block))).count(), SAME_WEAK);
    }

    #[test]
    fn failed_strong_sums_end_when_the_credit_is_spent_and_resume_when_earned() {
        let block = [9; 16];
        let mut entries = colliding(&block, 1);
        entries.push(sums(&block));
        let weak = weak_of(&sums(&block));
        let (bad, good) = (index_of(&entries[..1]), index_of(&entries));
        let mut credit = Credit::new(LEN);
        let mut tried = 0;
        while credit.bytes > 0 {
            assert_eq!(bad.find(&block, weak, None, &mut credit), None);
            tried += 1;
        }
        assert_eq!(tried, 64);
        assert_eq!(good.find(&block, weak, None, &mut credit), None);
        credit.earn(4);
        assert_eq!(good.find(&block, weak, None, &mut credit), Some(1));
        assert_eq!(credit.bytes, 16);
    }
}
