//! Rolling-checksum deltas: what of a new content the target holds already.
//!
//! **Purpose:** to send only what the other side's old version (the *basis*) does not hold.
//! **In → out:** the receiver feeds its basis to a [`Signer`], whose bytes the sender collects in a
//! [`Signature`] and indexes; a [`Differ`] then turns the new content, window by window, into
//! [`Op`]s that make the new content out of the basis.
//! **Invariants:** concatenated, the ops are exactly the content that was pushed, as far as equal
//! sums mean equal bytes: a digest over the whole file must decide in the end. Memory is bounded
//! by [`MAX_BLOCKS`] and [`BLOCK_LEN_MAX`], never by what a peer states. Work per byte is bounded
//! whatever basis and content hold. Results do not depend on how the input is cut into pushes.
//! **Not here:** reading, patching, framing, compression.
//! **Sources:** A. Tridgell's thesis "Efficient Algorithms for Sorting and Synchronization" for the
//! idea; the `fast_rsync` crate for the sums (weak sum as in librsync, MD4 in SIMD lanes).

mod differ;
mod index;
mod ops;
mod signature;
mod sums;

use crate::error::{Consequence, Consequential};

pub use differ::{Differ, occur};
pub use index::Index;
pub use signature::{Signature, Signer};
pub use sums::ENTRY_LEN;

/// The bytes that a reader hands to [`Signer::push`] and [`Differ::push`] at a time. Other lengths
/// give the same result; much shorter ones leave SIMD lanes idle.
pub const WINDOW: usize = 8 << 20;

/// The shortest block that a signature may have. Below it the sums cost more than the bytes.
pub const BLOCK_LEN_MIN: u32 = 16;

/// The longest block that a signature may have: what a [`Differ`] must hold of the new content.
pub const BLOCK_LEN_MAX: u32 = 16 << 20;

/// The most blocks that a signature may have: 10 MiB of sums, 20 MiB when indexed.
pub const MAX_BLOCKS: u64 = 512 << 10;

/// The shortest block that [`block_len`] chooses.
const BLOCK_LEN_CHOSEN_MIN: u32 = 1 << 10;

/// Returns the block length for a basis of `size` bytes: a power of two from 1 KiB to
/// [`BLOCK_LEN_MAX`].
///
/// A delta costs [`ENTRY_LEN`] bytes for each block and about one block for each edit, which is
/// least at `sqrt(20 * size / edits)`. A quarter of the square root supposes about 300 edits: 1 KiB
/// up to 16 MiB, 8 KiB at 1 GiB, 32 KiB at 16 GiB. Above that [`MAX_BLOCKS`] decides: 256 KiB at
/// 100 GB. A basis above 8 TiB has too many blocks at any length; [`Signature::new`] refuses it.
pub fn block_len(size: u64) -> u32 {
    let mut len = BLOCK_LEN_CHOSEN_MIN;
    while len < BLOCK_LEN_MAX
        && (u128::from(len) * u128::from(len) * 16 < u128::from(size) || block_count(size, len) > MAX_BLOCKS)
    {
        len *= 2;
    }
    len
}

/// Returns how many blocks of `block_len` a basis of `size` bytes has, its short last one included.
/// A signature is [`ENTRY_LEN`] times as many bytes long.
pub fn block_count(size: u64, block_len: u32) -> u64 {
    size.div_ceil(u64::from(block_len.max(1)))
}

/// One step of a delta: how the next bytes of the new content are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// From the basis.
    Copy {
        /// Where in the basis, in bytes.
        offset: u64,
        /// How many bytes: 1 to 8 MiB, or to one block where that is longer.
        len: u64,
    },
    /// From these bytes: 1 to 256 KiB.
    Literal(&'a [u8]),
}

/// What takes the ops of a delta in their order, and may fail.
pub type Emit<'a, E> = &'a mut dyn FnMut(Op<'_>) -> Result<(), E>;

/// What a delta was made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes from the basis.
    pub copied_bytes: u64,
    /// Bytes from the new content.
    pub literal_bytes: u64,
}

/// Why a signature cannot be used. The sender may send the whole file in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The block length is none that a signature may have.
    #[error("signature: block length {0} is not from {BLOCK_LEN_MIN} to {BLOCK_LEN_MAX}")]
    BlockLen(u32),
    /// The basis has too many blocks of this length.
    #[error("signature: {size} bytes are more than {MAX_BLOCKS} blocks of {block_len}")]
    TooManyBlocks {
        /// The stated size of the basis, in bytes.
        size: u64,
        /// The stated length of a block, in bytes.
        block_len: u32,
    },
    /// There came more sums than the basis has blocks.
    #[error("signature: more than the {expected} bytes that its basis makes")]
    TooLong {
        /// The bytes that all sums make.
        expected: usize,
    },
    /// There came fewer sums than the basis has blocks.
    #[error("signature: {got} of {expected} bytes")]
    Incomplete {
        /// The bytes that all sums make.
        expected: usize,
        /// The bytes that came.
        got: usize,
    },
}

impl Consequential for SignatureError {
    fn consequence(&self) -> Consequence {
        Consequence::Skip
    }
}

#[cfg(test)]
mod tests;
