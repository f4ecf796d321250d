//! Rows of one pass: the mirror runs to its end.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::Timespec;

use crate::arena::Arena;
use crate::contender::{Contender, Route};
use crate::measure::{self, Failure, Figures};
use crate::support::proxy::Link;
use crate::support::rng::Rng;
use crate::support::tree::{Upload, copy_tree, set_times};

const FILES: usize = 50_000;
const BIG_BYTES: u64 = 1 << 30;
const EDITS: u64 = 256;
const EDIT_BYTES: usize = 40_000;

pub fn prepare_first_copy(arena: &Arena) -> Result<(), Failure> {
    Upload::of(FILES, 1).grow(&arena.path("source"))?;
    Ok(())
}

pub fn first_copy(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let (source, target) = (arena.path("source"), arena.empty_dir("target")?);
    let ssh = arena.sshd.ssh_command();
    measure::pass(arena, contender, Route { source: &source, target: &target, ssh: &ssh })
}

pub fn prepare_unchanged(arena: &Arena) -> Result<(), Failure> {
    prepare_first_copy(arena)?;
    copy_tree(&arena.path("source"), &arena.path("target"))?;
    Ok(())
}

pub fn unchanged(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    counted_pass(arena, contender, &arena.path("source"), &arena.path("target"))
}

pub fn prepare_delta(arena: &Arena) -> Result<(), Failure> {
    let (basis, source) = (arena.empty_dir("basis")?, arena.path("source"));
    let mut rng = Rng::new(2);
    let mut file = fs::File::create(basis.join("big"))?;
    let mut piece = vec![0; 1 << 20];
    for _ in 0..BIG_BYTES >> 20 {
        rng.fill(&mut piece);
        file.write_all(&piece)?;
    }
    drop(file);
    set_times(&basis.join("big"), Timespec { tv_sec: 1_600_000_000, tv_nsec: 0 })?;
    copy_tree(&basis, &source)?;
    let edited = OpenOptions::new().write(true).open(source.join("big"))?;
    // One edit in each equal part, anywhere in it, so that no two of them meet.
    let part = BIG_BYTES / EDITS;
    for number in 0..EDITS {
        let room = usize::try_from(part)? - EDIT_BYTES;
        let at = number * part + u64::try_from(rng.below(room))?;
        edited.write_all_at(&rng.bytes(EDIT_BYTES), at)?;
    }
    Ok(())
}

pub fn delta(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let target = arena.empty_dir("target")?;
    copy_tree(&arena.path("basis"), &target)?;
    counted_pass(arena, contender, &arena.path("source"), &target)
}

/// Runs one pass through a proxy that counts what crosses the network.
fn counted_pass(
    arena: &Arena,
    contender: Contender,
    source: &Path,
    target: &Path,
) -> Result<Figures, Failure> {
    let proxy = arena.proxy(Link::default());
    let ssh = arena.ssh_through(proxy.address());
    let mut figures = measure::pass(arena, contender, Route { source, target, ssh: &ssh })?;
    figures.push(("sent_mb", proxy.sent_bytes() as f64 / 1e6));
    figures.push(("received_mb", proxy.received_bytes() as f64 / 1e6));
    Ok(figures)
}
