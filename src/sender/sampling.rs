//! Whether it pays to search a large file for what its basis holds.

use super::source::SourceFile;
use crate::delta::{Index, occur};

/// Places that are looked at: a sixteenth of the file that is old is found with six chances in seven.
const SAMPLES: u64 = 32;
/// What is left of a file is searched without a look if it is less, in bytes.
const WORTH_LEN: u64 = 16 << 20;

/// Whether samples of a file, evenly spread behind `from`, say that the rest of it is worth a search.
pub(super) fn is_worth_a_search(file: &SourceFile, from: u64, index: &Index) -> bool {
    let len = 2 * u64::from(index.block_len());
    let Some(room) = file.size().checked_sub(from.saturating_add(len)) else { return true };
    if room < WORTH_LEN {
        return true;
    }
    (1..=SAMPLES).any(|nth| {
        let at = from.saturating_add(room / SAMPLES * nth);
        // What cannot be read is found out where it is sent.
        file.sample(at, usize::try_from(len).unwrap_or(0)).is_ok_and(|sample| occur(index, &sample))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::Signer;
    use crate::sender::source::Source;
    use crate::tree::{Mask, RelPath};
    use std::fs;
    use std::time::Instant;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn index(basis: &[u8]) -> Index {
        let (mut signer, mut sums) = (Signer::new(4096).unwrap(), Vec::new());
        signer.push(basis, &mut sums);
        signer.finish(&mut sums);
        let mut signature = crate::delta::Signature::new(basis.len() as u64, 4096).unwrap();
        signature.push(&sums).unwrap();
        signature.index().unwrap()
    }

    #[test]
    fn a_file_that_is_old_from_its_middle_on_is_worth_it_and_a_new_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let half = 12 << 20;
        let old = noise(1, 2 * half);
        let mut moved = noise(2, half + 5);
        moved.extend_from_slice(&old[half..]);
        fs::write(dir.path().join("moved"), &moved).unwrap();
        fs::write(dir.path().join("new"), noise(3, 2 * half)).unwrap();
        let (source, index) = (Source::open(dir.path(), 1).unwrap(), index(&old));
        let worth = |name: &str, from| {
            let path = RelPath::try_from(name).unwrap();
            let file = source.file(&path, &Mask::everything(), Instant::now()).unwrap();
            is_worth_a_search(&file, from, &index)
        };
        assert!(worth("moved", 1 << 20));
        assert!(!worth("new", 1 << 20));
        assert!(worth("new", 12 << 20), "what is left is searched anyway");
    }
}
