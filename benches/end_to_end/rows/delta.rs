//! Rows of one large file that the target has in another version.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::Timespec;

use super::pass::counted_pass;
use crate::arena::{Arena, Failure};
use crate::contender::Contender;
use crate::measure::Figures;
use crate::support::rng::Rng;
use crate::support::tree::{copy_tree, set_times};

const EDITS: u64 = 256;
const EDIT_BYTES: usize = 40_000;

fn size(arena: &Arena) -> u64 {
    if arena.quick { 128 << 20 } else { 1 << 30 }
}

/// Writes random bytes, the same for the same seed.
fn fill(file: &mut fs::File, bytes: u64, seed: u64) -> Result<(), Failure> {
    let mut rng = Rng::new(seed);
    let mut piece = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        rng.fill(&mut piece);
        file.write_all(&piece)?;
    }
    Ok(())
}

fn basis(arena: &Arena) -> Result<(), Failure> {
    let path = arena.empty_dir("basis")?.join("big");
    fill(&mut fs::File::create(&path)?, size(arena), 2)?;
    Ok(set_times(&path, Timespec { tv_sec: 1_600_000_000, tv_nsec: 0 })?)
}

/// Makes the basis, and the source as a copy of it that `change` then changes.
fn prepare(
    arena: &Arena,
    change: impl FnOnce(&Path, &fs::File) -> Result<(), Failure>,
) -> Result<(), Failure> {
    basis(arena)?;
    let source = arena.path("source");
    copy_tree(&arena.path("basis"), &source)?;
    let path = source.join("big");
    let file = OpenOptions::new().write(true).open(&path)?;
    change(&path, &file)?;
    Ok(set_times(&path, Timespec { tv_sec: 1_700_000_000, tv_nsec: 0 })?)
}

/// Makes `count` edits of `len` bytes, one in each equal part, anywhere in it: no two of them meet.
fn edit(file: &fs::File, size: u64, count: u64, len: usize) -> Result<(), Failure> {
    let mut rng = Rng::new(8);
    let part = size / count;
    let room = usize::try_from(part)? - len;
    for number in 0..count {
        let at = number * part + u64::try_from(rng.below(room))?;
        file.write_all_at(&rng.bytes(len), at)?;
    }
    Ok(())
}

pub fn prepare_edits(arena: &Arena) -> Result<(), Failure> {
    prepare(arena, |_, file| edit(file, size(arena), EDITS, EDIT_BYTES))
}

pub fn prepare_scattered(arena: &Arena) -> Result<(), Failure> {
    prepare(arena, |_, file| edit(file, size(arena), size(arena) / 100 / 4096, 4096))
}

pub fn prepare_insert(arena: &Arena) -> Result<(), Failure> {
    prepare(arena, |path, _| {
        let mut file = fs::File::create(path)?;
        file.write_all(b"15 bytes before")?;
        fill(&mut file, size(arena), 2)
    })
}

pub fn prepare_append(arena: &Arena) -> Result<(), Failure> {
    prepare(arena, |_, file| Ok(file.write_all_at(&Rng::new(9).bytes(1 << 20), size(arena))?))
}

pub fn prepare_different(arena: &Arena) -> Result<(), Failure> {
    prepare(arena, |path, _| fill(&mut fs::File::create(path)?, size(arena), 10))
}

pub fn prepare_zeros(arena: &Arena) -> Result<(), Failure> {
    prepare(arena, |path, _| {
        let mut file = fs::File::create(path)?;
        let piece = vec![0; 1 << 20];
        (0..size(arena) >> 20).try_for_each(|_| file.write_all(&piece))?;
        Ok(())
    })
}

pub fn delta(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let target = arena.empty_dir("target")?;
    copy_tree(&arena.path("basis"), &target)?;
    counted_pass(arena, contender, &arena.path("source"), &target)
}

/// The same file where the target has none: what a transfer without a basis costs.
pub fn whole(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let target = arena.empty_dir("target")?;
    counted_pass(arena, contender, &arena.path("source"), &target)
}

/// Both, in one turn.
pub fn delta_and_whole(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let mut figures = delta(arena, contender)?;
    let seconds = figures.first().map_or(0.0, |(_, seconds)| *seconds);
    let whole = whole(arena, contender)?.first().map_or(0.0, |(_, seconds)| *seconds);
    figures.push(("whole_file_seconds", whole));
    figures.push(("times_whole_file", seconds / whole.max(1e-9)));
    Ok(figures)
}
