//! Figures, to be run by hand in a release build:
//! `cargo test --release --lib delta -- --ignored --nocapture`

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::{Totals, index, random};
use crate::delta::{Differ, Index, Signer, WINDOW, block_len};

const MIB: usize = 1 << 20;

/// The processor time of this thread: what others do on the machine counts less.
struct Timer(Duration);

impl Timer {
    fn start() -> Self {
        Self(Self::now())
    }

    fn now() -> Duration {
        Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
    }
}

fn rate(what: &str, bytes: usize, since: &Timer, note: &str) {
    let seconds = (Timer::now() - since.0).as_secs_f64();
    println!("{what:<44} {:>6.2} GB/s {seconds:>8.3} s  {note}", bytes as f64 / seconds / 1e9);
}

fn measured(what: &str, index: &Arc<Index>, new: &[u8]) -> Totals {
    let start = Timer::start();
    let mut ops = 0;
    let mut emit = |_: super::Op<'_>| {
        ops += 1;
        Ok::<(), Infallible>(())
    };
    let mut differ = Differ::new(index.clone());
    for window in new.chunks(WINDOW) {
        let Ok(()) = differ.push(window, &mut emit);
    }
    let Ok(totals) = differ.finish(&mut emit);
    rate(what, new.len(), &start, &format!("{} literal bytes, {ops} ops", totals.literal_bytes));
    totals
}

/// 256 edits of 40 kB, in place.
fn edited(basis: &[u8]) -> Vec<u8> {
    let mut new = basis.to_vec();
    let step = new.len() / 256;
    for (nth, part) in new.chunks_mut(step).take(256).enumerate() {
        let at = (nth * 7919) % (part.len() - 40_000);
        part[at..at + 40_000].copy_from_slice(&random(1000 + nth as u64, 40_000));
    }
    new
}

#[test]
#[ignore = "a measurement of seconds, for a release build"]
fn figures() {
    let size = 512 * MIB;
    let len = block_len(1 << 30);
    let basis = random(1, size);
    let start = Timer::start();
    let mut signer = Signer::new(len).unwrap();
    let mut wire = Vec::new();
    basis.chunks(WINDOW).for_each(|window| signer.push(window, &mut wire));
    signer.finish(&mut wire);
    rate("signature", size, &start, &format!("{} bytes", wire.len()));
    let start = Timer::start();
    let indexed = index(&basis, len, &[]);
    rate("signature and index", size, &start, "");

    assert_eq!(measured("unmoved", &indexed, &basis).literal_bytes, 0);
    let new = edited(&basis);
    let totals = measured("256 edits of 40 kB in place", &indexed, &new);
    assert!(totals.literal_bytes <= 256 * (40_000 + 2 * u64::from(len)));
    drop(new);
    let new = [&random(9, 15), basis.as_slice()].concat();
    assert_eq!(measured("15 bytes inserted in front", &indexed, &new).literal_bytes, 15);
    let mut new = Vec::with_capacity(size + 256 * 15);
    for (nth, part) in basis.chunks(2 * MIB).enumerate() {
        new.extend_from_slice(&random(nth as u64 + 5000, 15));
        new.extend_from_slice(part);
    }
    measured("15 bytes inserted every 2 MiB", &indexed, &new);
    drop(new);
    let totals = measured("nothing in common", &indexed, &random(2, size / 2));
    assert_eq!(totals.copied_bytes, 0);
    let text: Vec<u8> = random(3, size / 2).iter().map(|byte| b' ' + byte % 64).collect();
    measured("text, basis random", &indexed, &text);
    let old = [&basis[..8 * MIB], &vec![0; 64 << 10]].concat();
    measured("zeros, a few in the basis", &index(&old, len, &[]), &vec![0; size / 2]);
    measured("zeros, all of both", &index(&vec![0; size / 2], len, &[]), &vec![0; size / 2]);
    large_index();
    against_the_oracle(&basis[..64 * MIB]);
}

/// As many blocks as there may be, for the caches' sake.
fn large_index() {
    let basis = random(4, 512 * MIB);
    let indexed = index(&basis, 1024, &[]);
    measured("512k blocks, unmoved", &indexed, &basis);
    drop(basis);
    measured("512k blocks, nothing in common", &indexed, &random(5, 128 * MIB));
}

fn against_the_oracle(basis: &[u8]) {
    let len = block_len(1 << 30);
    for (what, new) in [("unmoved", basis.to_vec()), ("nothing in common", random(6, basis.len()))] {
        let start = Timer::start();
        super::oracle::oracle(basis, &new, len);
        rate(&format!("fast_rsync, signature and diff: {what}"), new.len(), &start, "");
    }
}
