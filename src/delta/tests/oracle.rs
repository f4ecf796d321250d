//! `fast_rsync::diff` as the oracle: what it finds is to be found.

use proptest::prelude::*;

use super::{any_case, any_runs, join, plain};

/// Returns the bytes of all literals of a delta in librsync's format.
fn literal_bytes(delta: &[u8]) -> u64 {
    let int = |at: usize, len: usize| {
        delta[at..at + len].iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    let mut at = 4;
    let mut literals = 0;
    loop {
        let command = delta[at];
        at += 1;
        match command {
            0 => break,
            1..=0x44 => {
                let width = command.checked_sub(0x41).map_or(0, |class| 1 << class);
                let len = if width == 0 { u64::from(command) } else { int(at, width) };
                literals += len;
                at += width + len as usize;
            }
            0x45..=0x54 => {
                let class = command - 0x45;
                at += (1 << (class / 4)) + (1 << (class % 4));
            }
            _ => panic!("command {command:#x}"),
        }
    }
    assert_eq!(at, delta.len());
    literals
}

/// Returns the literal bytes of the oracle's delta.
pub(super) fn oracle(basis: &[u8], new: &[u8], block_len: u32) -> u64 {
    let options = fast_rsync::SignatureOptions { block_size: block_len, crypto_hash_size: 16 };
    let signature = fast_rsync::Signature::calculate(basis, options);
    let mut delta = Vec::new();
    fast_rsync::diff(&signature.index(), new, &mut delta).unwrap();
    let mut applied = Vec::new();
    fast_rsync::apply(basis, &delta, &mut applied).unwrap();
    assert_eq!(applied, new);
    literal_bytes(&delta)
}

proptest! {
    #[test]
    fn edits_need_no_more_literals_than_the_oracle((basis, block_len, pieces) in any_case()) {
        let new = join(&pieces, &basis);
        let ours = plain(&basis, &new, block_len).totals.literal_bytes;
        prop_assert!(ours <= oracle(&basis, &new, block_len));
    }

    /// Which of several matches is taken first may differ here, and with it what lies between them.
    #[test]
    fn runs_need_hardly_more_literals_than_the_oracle(
        (basis, new) in (any_runs(), any_runs()),
        block_len in 16_u32..100,
    ) {
        let ours = plain(&basis, &new, block_len).totals.literal_bytes;
        prop_assert!(ours <= oracle(&basis, &new, block_len) + 4 * u64::from(block_len));
    }
}
