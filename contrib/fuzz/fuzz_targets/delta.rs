//! Signatures and deltas: a true signature makes the new content out of the basis; a false one makes
//! ops that stay within what was claimed, and nothing else happens.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use speil::delta::{Differ, Op, Signature, Signer};

#[derive(Debug, Arbitrary)]
struct Case<'a> {
    basis: &'a [u8],
    block_len: u32,
    /// What the other side claims in place of the truth.
    claimed: Option<(u64, &'a [u8])>,
    /// The new content: pieces of the basis by offset and length, and literal bytes.
    pieces: Vec<Piece<'a>>,
    push: u16,
}

#[derive(Debug, Arbitrary)]
enum Piece<'a> {
    Basis(u16, u16),
    Literal(&'a [u8]),
}

fuzz_target!(|case: Case<'_>| {
    let mut content = Vec::new();
    for piece in case.pieces.iter().take(64) {
        match piece {
            Piece::Basis(at, len) => {
                let from = usize::from(*at).min(case.basis.len());
                let to = (from + usize::from(*len)).min(case.basis.len());
                content.extend_from_slice(&case.basis[from..to]);
            }
            Piece::Literal(bytes) => content.extend_from_slice(bytes),
        }
    }
    let small = 16 + case.block_len % 64;
    let (size, block_len, wire) = match case.claimed {
        Some((size, wire)) => (size, case.block_len, wire.to_vec()),
        None => {
            let mut wire = Vec::new();
            let mut signer = Signer::new(small).expect("a valid length");
            signer.push(case.basis, &mut wire);
            signer.finish(&mut wire);
            (case.basis.len() as u64, small, wire)
        }
    };
    let Ok(mut signature) = Signature::new(size, block_len) else { return };
    if signature.push(&wire).is_err() {
        return;
    }
    let Ok(index) = signature.index() else { return };
    let mut made = Vec::new();
    let mut total = 0_u64;
    let mut emit = |op: Op<'_>| -> Result<(), ()> {
        match op {
            Op::Literal(bytes) => {
                total += bytes.len() as u64;
                made.extend_from_slice(bytes);
            }
            Op::Copy { offset, len } => {
                assert!(offset.checked_add(len).is_some_and(|end| end <= size), "a copy beyond the basis");
                total += len;
                if case.claimed.is_none() {
                    made.extend_from_slice(&case.basis[offset as usize..(offset + len) as usize]);
                }
            }
        }
        Ok(())
    };
    let mut differ = Differ::new(std::sync::Arc::new(index));
    for window in content.chunks(usize::from(case.push).max(1)) {
        differ.push(window, &mut emit).expect("nothing here fails");
    }
    differ.finish(&mut emit).expect("nothing here fails");
    assert_eq!(total, content.len() as u64);
    if case.claimed.is_none() {
        assert_eq!(made, content);
    }
});
