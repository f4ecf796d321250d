//! The sums of a block.
//!
//! An entry is 20 bytes: weak sum (4, big endian), sample (4, big endian), the first 12 of the MD4.
//! The *weak* sum rolls. With 32 bits it hits by chance once in (2^32 / blocks) positions, and an
//! MD4 over a block for each such hit would cost `size / 2^32` hashed bytes for each byte that is
//! scanned: 25 at 100 GB. So the *sample*, a hash of 64 bytes out of the block, is asked between.

use fast_rsync::SignatureOptions;

/// The bytes that one block adds to a signature.
pub const ENTRY_LEN: usize = 20;

/// The bytes of the MD4 that are kept.
const STRONG_LEN: usize = 12;
/// The bytes before the first sum in a signature of `fast_rsync`.
const HEADER_LEN: usize = 12;
/// What the weak sum adds to every byte, as in librsync.
const WEAK_OFFSET: u32 = 31;
/// The 8-byte words in a sample.
const SAMPLE_WORDS: usize = 8;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The sums of one block.
pub(super) type Entry = [u8; ENTRY_LEN];

/// Appends the entries of all blocks of `data` to `out`. The last one may be short.
pub(super) fn append_entries(data: &[u8], block_len: u32, out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    // A length of 0 would panic in the crate.
    let block_len = block_len.max(1);
    let options = SignatureOptions { block_size: block_len, crypto_hash_size: STRONG_LEN as u32 };
    let signature = fast_rsync::Signature::calculate(data, options);
    let sums = signature.serialized().get(HEADER_LEN..).unwrap_or_default();
    out.reserve(sums.len() / (4 + STRONG_LEN) * ENTRY_LEN);
    for (sum, block) in sums.chunks_exact(4 + STRONG_LEN).zip(data.chunks(block_len as usize)) {
        let (weak, strong) = sum.split_at(4);
        out.extend_from_slice(weak);
        out.extend_from_slice(&sample(block).to_be_bytes());
        out.extend_from_slice(strong);
    }
}

/// Returns the weak sum of an entry.
pub(super) fn weak_of(entry: &Entry) -> u32 {
    let [a, b, c, d, ..] = *entry;
    u32::from_be_bytes([a, b, c, d])
}

/// Returns the sample of an entry.
pub(super) fn sample_of(entry: &Entry) -> u32 {
    let [_, _, _, _, a, b, c, d, ..] = *entry;
    u32::from_be_bytes([a, b, c, d])
}

/// Hashes 64 bytes out of `block`, spread evenly; all of a shorter one.
pub(super) fn sample(block: &[u8]) -> u32 {
    let mut hash = block.len() as u64;
    let mut add = |word: u64| hash = (hash.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
    if block.len() > SAMPLE_WORDS * 8 {
        for nth in 0..SAMPLE_WORDS {
            let start = nth * (block.len() - 8) / (SAMPLE_WORDS - 1);
            add(word(&block[start..start + 8]));
        }
    } else {
        block.chunks(8).for_each(|bytes| add(word(bytes)));
    }
    (hash ^ (hash >> 32)) as u32
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}

/// The weak sum of a window that moves byte by byte: librsync's, as `fast_rsync` computes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weak {
    // Only the low 16 bits of each count; wider registers are faster.
    sum: u32,
    weighted: u32,
    len: u32,
}

impl Weak {
    /// Sums `window`.
    pub(super) fn of(window: &[u8]) -> Self {
        // All is modulo 2^16, the length too: 16-bit lanes sum several bytes at a time.
        let len = window.len() as u64;
        let triangle = len.wrapping_mul(len.wrapping_add(1)) / 2;
        let mut sum = (len as u16).wrapping_mul(WEAK_OFFSET as u16);
        let mut weighted = (triangle as u16).wrapping_mul(WEAK_OFFSET as u16);
        for (nth, byte) in window.iter().enumerate() {
            let byte = u16::from(*byte);
            sum = sum.wrapping_add(byte);
            weighted = weighted.wrapping_add(byte.wrapping_mul((len as u16).wrapping_sub(nth as u16)));
        }
        Self { sum: sum.into(), weighted: weighted.into(), len: len as u32 }
    }

    /// Returns the sum.
    #[inline]
    pub(super) fn value(self) -> u32 {
        (self.sum & 0xffff) | (self.weighted << 16)
    }

    /// Moves the window by one byte.
    #[inline]
    pub(super) fn roll(&mut self, leaving: u8, entering: u8) {
        let leaving = u32::from(leaving);
        self.sum = self.sum.wrapping_add(u32::from(entering).wrapping_sub(leaving));
        let change = self.sum.wrapping_sub(self.len.wrapping_mul(leaving + WEAK_OFFSET));
        self.weighted = self.weighted.wrapping_add(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(block: &[u8]) -> Entry {
        let mut out = Vec::new();
        append_entries(block, block.len() as u32, &mut out);
        out.try_into().unwrap()
    }

    proptest! {
        #[test]
        fn weak_sum_equals_that_of_the_crate(block in prop::collection::vec(any::<u8>(), 1..3000)) {
            prop_assert_eq!(Weak::of(&block).value(), weak_of(&entry(&block)));
        }

        #[test]
        fn rolled_sum_equals_a_fresh_one(
            data in prop::collection::vec(any::<u8>(), 20..400),
            len in 1_usize..20,
        ) {
            let mut weak = Weak::of(&data[..len]);
            for at in 0..data.len() - len {
                weak.roll(data[at], data[at + len]);
                prop_assert_eq!(weak.value(), Weak::of(&data[at + 1..at + 1 + len]).value());
            }
        }

        #[test]
        fn sample_of_entry_is_that_of_the_block(block in prop::collection::vec(any::<u8>(), 1..300)) {
            prop_assert_eq!(sample(&block), sample_of(&entry(&block)));
        }
    }

    #[test]
    fn long_block_of_high_bytes_does_not_overflow() {
        let block = vec![0xff; 1 << 20];
        assert_eq!(Weak::of(&block).value(), weak_of(&entry(&block)));
    }

    #[test]
    fn sample_sees_first_and_last_byte() {
        let block = vec![7; 1000];
        for at in [0, 999] {
            let mut other = block.clone();
            other[at] ^= 1;
            assert_ne!(sample(&block), sample(&other));
        }
    }
}
