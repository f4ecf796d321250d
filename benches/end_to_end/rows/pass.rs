//! Rows of one pass: the mirror runs to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::arena::{Arena, Failure};
use crate::contender::{self, Contender, Route};
use crate::measure::{self, Figures, Meter, RUN_DEADLINE};
use crate::support::command::holds_within;
use crate::support::proxy::Link;
use crate::support::rng::Rng;
use crate::support::tree::{Upload, copy_tree};

/// 100 Mbit/s at 25 ms.
pub const SLOW: Link = Link { round_trip: Duration::from_millis(25), rate: Some(12_500_000) };

fn files(arena: &Arena) -> usize {
    if arena.quick { 10_000 } else { 60_000 }
}

pub fn prepare_first_copy(arena: &Arena) -> Result<(), Failure> {
    Upload::of(files(arena), 1).grow(&arena.path("source"))?;
    Ok(())
}

pub fn first_copy(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let (source, target) = (arena.path("source"), arena.empty_dir("target")?);
    let ssh = arena.sshd.ssh_command();
    measure::pass(arena, contender, Route { source: &source, target: &target, ssh: &ssh })
}

/// The same tree, on the target's host: the far side sends.
pub fn first_pull(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    pulled(arena, contender, (&arena.path("source"), &arena.empty_dir("target")?))
}

pub fn pull_unchanged(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    pulled(arena, contender, (&arena.path("source"), &arena.path("target")))
}

fn pulled(arena: &Arena, contender: Contender, (source, target): (&Path, &Path)) -> Result<Figures, Failure> {
    let ssh = arena.sshd.ssh_command();
    let route = Route { source, target, ssh: &ssh };
    let figures = measure::run(arena, contender, contender::pull(arena, contender, route)?, route)?;
    // What was measured at this end is the target's, and at the sshd's the source's.
    let of = |name: &str| figures.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    let turned = |name: &str| match (name.strip_prefix("source_"), name.strip_prefix("target_")) {
        (Some(rest), _) => of(&format!("target_{rest}")),
        (_, Some(rest)) => of(&format!("source_{rest}")),
        _ => of(name),
    };
    Ok(figures.iter().filter_map(|(name, _)| Some((*name, turned(name)?))).collect())
}

/// One file of five is a copy of one before it.
pub fn prepare_first_copy_far(arena: &Arena) -> Result<(), Failure> {
    let source = arena.path("source");
    Upload::of(if arena.quick { 1_000 } else { 8_000 }, 7).grow(&source)?;
    let mut rng = Rng::new(8);
    let mut before: Vec<PathBuf> = Vec::new();
    for entry in walkdir::WalkDir::new(&source).sort_by_file_name() {
        let path = entry?.into_path();
        if !path.is_file() {
            continue;
        }
        match rng.pick(&before) {
            Some(original) if rng.one_in(5) => drop(fs::copy(original, &path)?),
            _ => before.push(path),
        }
    }
    Ok(())
}

pub fn first_copy_far(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let (source, target) = (arena.path("source"), arena.empty_dir("target")?);
    let proxy = arena.proxy(SLOW);
    let ssh = arena.ssh_through(proxy.address());
    let route = Route { source: &source, target: &target, ssh: &ssh };
    let mut command = contender::pass(arena, contender, route)?;
    // After the paths, where both take options too.
    command.arg("-z");
    let mut figures = measure::run(arena, contender, command, route)?;
    figures.push(("sent_mb", proxy.sent_bytes() as f64 / 1e6));
    figures.push(("received_mb", proxy.received_bytes() as f64 / 1e6));
    Ok(figures)
}

/// One file of noise, which nothing can shrink.
pub fn prepare_long_link(arena: &Arena) -> Result<(), Failure> {
    let len = if arena.quick { 32 << 20 } else { 256 << 20 };
    Ok(fs::write(arena.empty_dir("source")?.join("large"), Rng::new(9).bytes(len))?)
}

/// One OpenSSH channel carries 2 MiB per round trip: rsync has one, speil four, and one for comparison.
pub fn long_link(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let source = arena.path("source");
    let proxy = arena.proxy(Link { round_trip: Duration::from_millis(110), rate: None });
    let ssh = arena.ssh_through(proxy.address());
    let run = |options: &[&str]| {
        let target = arena.empty_dir("target")?;
        let route = Route { source: &source, target: &target, ssh: &ssh };
        let mut command = contender::pass(arena, contender, route)?;
        command.args(options);
        measure::run(arena, contender, command, route)
    };
    if contender != Contender::Speil {
        return run(&[]);
    }
    let alone = run(&[])?.first().map_or(0.0, |(_, seconds)| *seconds);
    let mut figures = run(&["--connections=4"])?;
    figures.push(("one_connection_seconds", alone));
    Ok(figures)
}

pub fn prepare_unchanged(arena: &Arena) -> Result<(), Failure> {
    prepare_first_copy(arena)?;
    copy_tree(&arena.path("source"), &arena.path("target"))?;
    Ok(())
}

/// A million empty files, a thousand in each directory.
pub fn prepare_million(arena: &Arena) -> Result<(), Failure> {
    let source = arena.empty_dir("source")?;
    let dirs = if arena.quick { 50 } else { 1_000 };
    for dir in 0..dirs {
        let dir = source.join(format!("{dir:04}"));
        fs::create_dir(&dir)?;
        for file in 0..1_000 {
            fs::File::create(dir.join(format!("{file:04}.jpg")))?;
        }
    }
    Ok(copy_tree(&source, &arena.path("target"))?)
}

pub fn unchanged(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    counted_pass(arena, contender, &arena.path("source"), &arena.path("target"))
}

/// A pass on request within a daemon, which walks both trees.
pub fn unchanged_live(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    if contender == Contender::Rsync {
        return unchanged(arena, contender);
    }
    let (source, target) = (arena.path("source"), arena.path("target"));
    let proxy = arena.proxy(Link::default());
    let ssh = arena.ssh_through(proxy.address());
    let control = format!("--control={}", arena.control().display());
    let route = Route { source: &source, target: &target, ssh: &ssh };
    let live = contender::start_live(arena, contender, route, &[control.clone(), "-v".to_owned()])?;
    live.wait_for_line(": live");
    let passes = || live.stdout().iter().filter(|line| line.contains(": compared ")).count();
    let before = passes();
    let (sent, received) = (proxy.sent_bytes(), proxy.received_bytes());
    let meter = Meter::start(&live, arena);
    let began = Instant::now();
    arena.environment.run(["reconcile", &control]).succeeded();
    if !holds_within(RUN_DEADLINE, || passes() > before) {
        return Err("no pass on request".into());
    }
    let mut figures = vec![("seconds", began.elapsed().as_secs_f64())];
    figures.extend(meter.finish());
    figures.push(("sent_mb", (proxy.sent_bytes() - sent) as f64 / 1e6));
    figures.push(("received_mb", (proxy.received_bytes() - received) as f64 / 1e6));
    Ok(figures)
}

/// A tree, and a copy of it that holds half as many files again.
pub fn prepare_delete(arena: &Arena) -> Result<(), Failure> {
    let source = arena.path("source");
    Upload::of(files(arena) / 3 * 2, 1).grow(&source.join("kept"))?;
    Upload::of(files(arena) / 3, 5).grow(&source.join("removed"))?;
    Ok(())
}

pub fn delete(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let (source, target) = (arena.path("source"), arena.empty_dir("target")?);
    let aside = arena.path("aside");
    if aside.exists() {
        fs::rename(&aside, source.join("removed"))?;
    }
    copy_tree(&source, &target)?;
    fs::rename(source.join("removed"), &aside)?;
    counted_pass(arena, contender, &source, &target)
}

/// Runs one pass through a proxy that counts what crosses the network.
pub(super) fn counted_pass(
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
