//! Rows of a live mirror: the tree changes, and the clock runs until the target has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::arena::{Arena, Failure};
use crate::contender::{self, Contender, Route};
use crate::measure::{Figures, Meter, RUN_DEADLINE, verify_live};
use crate::support::proxy::Link;
use crate::support::rng::Rng;
use crate::support::statistics::{median, quantile};

const WRITE_BYTES: usize = 10_000;
const WARM_UPS: usize = 3;
/// After this long the reader sleeps between looks: it would take a core from a slow contender.
const SPIN_MAX: Duration = Duration::from_millis(20);

/// What is written for each measurement.
#[derive(Clone, Copy, PartialEq)]
enum Write {
    /// A file of a new name, at no rhythm.
    New,
    /// One file anew, 100 ms after the last version was seen.
    Again,
}

pub fn latency(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    latency_over(arena, contender, Link::default(), Write::New)
}

pub fn latency_again(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    latency_over(arena, contender, Link::default(), Write::Again)
}

pub fn latency_far(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let link = Link { round_trip: Duration::from_millis(25), rate: None };
    latency_over(arena, contender, link, Write::New)
}

pub fn latency_farther(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let link = Link { round_trip: Duration::from_millis(110), rate: None };
    latency_over(arena, contender, link, Write::New)
}

fn latency_over(arena: &Arena, contender: Contender, link: Link, write: Write) -> Result<Figures, Failure> {
    let (source, target) = (arena.empty_dir("source")?, arena.empty_dir("target")?);
    fs::create_dir(source.join("uploads"))?;
    let proxy = (!link.round_trip.is_zero()).then(|| arena.proxy(link));
    let ssh = match &proxy {
        Some(proxy) => arena.ssh_through(proxy.address()),
        None => arena.sshd.ssh_command(),
    };
    let live = contender::live(arena, contender, Route { source: &source, target: &target, ssh: &ssh })?;
    let writes = match (contender, arena.quick) {
        (Contender::Lsyncd, _) if link.round_trip.is_zero() => 20,
        (Contender::Lsyncd, _) => 10,
        (_, true) => 100,
        (_, false) if write == Write::New && link.round_trip < Duration::from_millis(50) => 300,
        (_, false) => 100,
    };
    let mut rng = Rng::new(3);
    for number in 0..WARM_UPS {
        write_and_wait(&source, &target, &format!("uploads/warm-up-{number}"), &mut rng)?;
    }
    let meter = Meter::start(&live, arena);
    let mut latencies = Vec::with_capacity(writes);
    for number in 0..writes {
        // Uploads come at no rhythm; without a pause the acknowledgement of the last is under way.
        let (pause, name) = match write {
            Write::New => (5_000 + rng.below(10_000) as u64, format!("uploads/{number}.jpg")),
            Write::Again => (100_000, "uploads/one.jpg".to_owned()),
        };
        std::thread::sleep(Duration::from_micros(pause));
        // rsync takes versions of one size and one second for the same: each is a byte longer.
        let bytes = rng.bytes(WRITE_BYTES + number);
        let latency = write_bytes_and_wait(&source.join(&name), &target.join(&name), &bytes)?;
        latencies.push(latency.as_secs_f64() * 1e3);
    }
    let (source_cpu, target_cpu) = meter.cpu_seconds();
    let per_write = |seconds: f64| seconds * 1e3 / writes as f64;
    let mut figures = vec![
        ("median_ms", median(&latencies)),
        ("p99_ms", quantile(&latencies, 0.99)),
        ("source_cpu_per_write_ms", per_write(source_cpu)),
        ("target_cpu_per_write_ms", per_write(target_cpu)),
    ];
    figures.extend(meter.finish().into_iter().filter(|(name, _)| name.ends_with("_mb")));
    verify_live(contender, &source, &target)?;
    Ok(figures)
}

/// Writes a new file and returns how long it took from before its creation until a reader of the
/// target saw all of it.
pub(super) fn write_and_wait(
    source: &Path,
    target: &Path,
    name: &str,
    rng: &mut Rng,
) -> Result<Duration, Failure> {
    let bytes = rng.bytes(WRITE_BYTES);
    write_bytes_and_wait(&source.join(name), &target.join(name), &bytes)
}

fn write_bytes_and_wait(from: &Path, to: &Path, bytes: &[u8]) -> Result<Duration, Failure> {
    let start = Instant::now();
    fs::write(from, bytes)?;
    loop {
        let seen = fs::metadata(to).is_ok_and(|meta| meta.len() == bytes.len() as u64)
            && fs::read(to).is_ok_and(|read| read == bytes);
        let elapsed = start.elapsed();
        if seen {
            return Ok(elapsed);
        }
        if elapsed > RUN_DEADLINE {
            return Err(format!("{} is not reached", to.display()).into());
        }
        if elapsed < SPIN_MAX {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

pub fn burst(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let (source, target) = (arena.empty_dir("source")?, arena.empty_dir("target")?);
    let ssh = arena.sshd.ssh_command();
    let live = contender::live(arena, contender, Route { source: &source, target: &target, ssh: &ssh })?;
    let mut rng = Rng::new(4);
    let meter = Meter::start(&live, arena);
    let begin = Instant::now();
    let mut expected = Vec::with_capacity(10_000);
    for dir in 0..100 {
        let dir = format!("{dir:02}");
        fs::create_dir(source.join(&dir))?;
        for file in 0..100 {
            let name = format!("{dir}/{file:02}.jpg");
            fs::write(source.join(&name), rng.bytes(4_096))?;
            expected.push(target.join(name));
        }
    }
    let written = Instant::now();
    wait_for_files(&expected, 4_096)?;
    let mut figures = vec![
        ("seconds", written.elapsed().as_secs_f64()),
        ("from_first_write_seconds", begin.elapsed().as_secs_f64()),
    ];
    figures.extend(meter.finish());
    verify_live(contender, &source, &target)?;
    Ok(figures)
}

/// Waits until each of `files` was seen with `len` bytes; each is looked at once when it is there.
pub(super) fn wait_for_files(files: &[PathBuf], len: u64) -> Result<(), Failure> {
    let start = Instant::now();
    for file in files {
        while !fs::metadata(file).is_ok_and(|meta| meta.len() == len) {
            if start.elapsed() > RUN_DEADLINE {
                return Err(format!("{} does not reach the target", file.display()).into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    Ok(())
}
