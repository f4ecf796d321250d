//! Rows of names that change: a directory renamed, live and while nobody looked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::live::wait_for_files;
use super::pass::counted_pass;
use crate::arena::{Arena, Failure};
use crate::contender::{self, Contender, Route};
use crate::measure::{Figures, Meter, RUN_DEADLINE, verify_live};
use crate::support::proxy::Link;
use crate::support::rng::Rng;
use crate::support::tree::copy_tree;

const RENAMED_FILES: usize = 10_000;
const RENAMED_BYTES: usize = 50_000;

pub fn prepare_rename(arena: &Arena) -> Result<(), Failure> {
    let dir = arena.empty_dir("source")?.join("before");
    fs::create_dir(&dir)?;
    let mut rng = Rng::new(5);
    for number in 0..RENAMED_FILES {
        fs::write(dir.join(format!("{number:05}.jpg")), rng.bytes(RENAMED_BYTES))?;
    }
    Ok(())
}

pub fn rename(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let (source, target) = (arena.path("source"), arena.empty_dir("target")?);
    let (before, after) = (source.join("before"), source.join("after"));
    if after.exists() {
        fs::rename(&after, &before)?;
    }
    copy_tree(&source, &target)?;
    let proxy = arena.proxy(Link::default());
    let ssh = arena.ssh_through(proxy.address());
    let live = contender::live(arena, contender, Route { source: &source, target: &target, ssh: &ssh })?;
    let expected: Vec<PathBuf> =
        (0..RENAMED_FILES).map(|number| target.join(format!("after/{number:05}.jpg"))).collect();
    let (sent, received) = (proxy.sent_bytes(), proxy.received_bytes());
    let meter = Meter::start(&live, arena);
    let start = Instant::now();
    fs::rename(&before, &after)?;
    wait_for_files(&expected, RENAMED_BYTES as u64)?;
    wait_until_gone(&target.join("before"))?;
    let mut figures = vec![("seconds", start.elapsed().as_secs_f64())];
    figures.extend(meter.finish());
    figures.push(("sent_mb", (proxy.sent_bytes() - sent) as f64 / 1e6));
    figures.push(("received_mb", (proxy.received_bytes() - received) as f64 / 1e6));
    verify_live(contender, &source, &target)?;
    Ok(figures)
}

/// The directory has another name by the time of the pass.
pub fn rename_unseen(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let (source, target) = (arena.path("source"), arena.empty_dir("target")?);
    let (before, after) = (source.join("before"), source.join("after"));
    if after.exists() {
        fs::rename(&after, &before)?;
    }
    copy_tree(&source, &target)?;
    fs::rename(&before, &after)?;
    counted_pass(arena, contender, &source, &target)
}

fn wait_until_gone(path: &Path) -> Result<(), Failure> {
    let start = Instant::now();
    while path.exists() {
        if start.elapsed() > RUN_DEADLINE {
            return Err(format!("{} stays on the target", path.display()).into());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}
