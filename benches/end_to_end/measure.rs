//! What one run costs: time, computing time and memory of both ends.
//!
//! **Invariants:** an end is a process with everything that descends from it, its `ssh` or the
//! daemon's sessions included; memory is the sum of the largest resident sets of the processes that
//! live at once, sampled every 50 ms, shared pages counted once per process; *own* is what the
//! contender's first process costs, without its `ssh` and its children, and on the target the largest
//! process that is no `sshd`.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::arena::{Arena, Failure};
use crate::contender::{self, Contender, Route};
use crate::support::command::{Background, holds_within};
use crate::support::process;
use crate::support::tree::Comparison;

/// Figures of one run by name; the name ends with the unit.
pub type Figures = Vec<(&'static str, f64)>;

/// How long one copy or one change may take.
pub const RUN_DEADLINE: Duration = Duration::from_secs(300);

const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// Watches the two ends of a run from its start to its finish.
pub struct Meter {
    source: u32,
    target: u32,
    /// Computing time of both ends at the start, in seconds.
    before: (f64, f64),
    own_before: f64,
    peaks: Arc<Peaks>,
    sampler: Option<JoinHandle<()>>,
}

/// Written by the sampling thread alone, but for `stop`.
#[derive(Default)]
struct Peaks {
    source: AtomicU64,
    target: AtomicU64,
    own_source: AtomicU64,
    own_target: AtomicU64,
    stop: AtomicBool,
}

impl Meter {
    /// Starts to watch `process` and what runs in the arena's sessions.
    pub fn start(process: &Background, arena: &Arena) -> Self {
        let (source, target) = (process.pid(), arena.sshd.pid());
        let peaks = Arc::new(Peaks::default());
        let sampled = Arc::clone(&peaks);
        let sampler = std::thread::spawn(move || {
            while !sampled.stop.load(Ordering::SeqCst) {
                sampled.source.fetch_max(process::peak_resident_bytes(source), Ordering::SeqCst);
                sampled.target.fetch_max(process::peak_resident_bytes(target), Ordering::SeqCst);
                sampled.own_source.fetch_max(process::peak_of(source).unwrap_or(0), Ordering::SeqCst);
                sampled.own_target.fetch_max(largest_program(target), Ordering::SeqCst);
                std::thread::park_timeout(SAMPLE_EVERY);
            }
        });
        let before = (process::cpu_seconds(source), process::cpu_seconds(target));
        let own_before = process::own_cpu_seconds(source);
        Self { source, target, before, own_before, peaks, sampler: Some(sampler) }
    }

    /// Returns the seconds that source and target have computed since the start.
    pub fn cpu_seconds(&self) -> (f64, f64) {
        let source = process::cpu_seconds(self.source) - self.before.0;
        let target = process::cpu_seconds(self.target) - self.before.1;
        (source, target)
    }

    /// Returns the seconds that the contender's first process has computed since the start, by itself.
    pub fn own_cpu_seconds(&self) -> f64 {
        process::own_cpu_seconds(self.source) - self.own_before
    }

    /// Returns computing time and memory of both ends, and ends the watch.
    pub fn finish(mut self) -> Figures {
        let (source, target) = self.cpu_seconds();
        let own = self.own_cpu_seconds();
        self.stop();
        let mb = |bytes: &AtomicU64| bytes.load(Ordering::SeqCst) as f64 / 1e6;
        vec![
            ("source_cpu_s", source),
            ("target_cpu_s", target),
            ("source_own_cpu_s", own),
            ("source_peak_rss_mb", mb(&self.peaks.source)),
            ("target_peak_rss_mb", mb(&self.peaks.target)),
            ("source_own_peak_rss_mb", mb(&self.peaks.own_source)),
            ("target_own_peak_rss_mb", mb(&self.peaks.own_target)),
        ]
    }

    fn stop(&mut self) {
        self.peaks.stop.store(true, Ordering::SeqCst);
        if let Some(sampler) = self.sampler.take() {
            sampler.thread().unpark();
            let _ = sampler.join();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the largest resident set of a process in the sessions of the daemon `sshd`, theirs excepted.
fn largest_program(sshd: u32) -> u64 {
    let programs = process::descendants(sshd).into_iter().filter(|p| !p.name.starts_with("sshd"));
    programs.filter_map(|p| process::peak_of(p.pid)).max().unwrap_or(0)
}

/// Runs one pass, checks what it left, and returns its figures.
///
/// # Errors
/// If the contender fails, or its copy differs from the source.
pub fn pass(arena: &Arena, contender: Contender, route: Route<'_>) -> Result<Figures, Failure> {
    let command = contender::pass(arena, contender, route)?;
    run(arena, contender, command, route)
}

/// As [`pass`], with a command of the caller's.
///
/// # Errors
/// As [`pass`].
pub fn run(
    arena: &Arena,
    contender: Contender,
    command: Command,
    route: Route<'_>,
) -> Result<Figures, Failure> {
    let start = Instant::now();
    let process = Background::spawn(command);
    let meter = Meter::start(&process, arena);
    process.wait_for_end()?;
    let elapsed = start.elapsed();
    // What the sessions cost is known when the daemon has collected them.
    arena.sshd.wait_until_idle();
    let mut figures = vec![("seconds", elapsed.as_secs_f64())];
    figures.extend(meter.finish());
    let outcome = process.wait();
    if !outcome.status.success() {
        return Err(format!("{}: {}", outcome.status, outcome.stderr.trim()).into());
    }
    verify(contender, route.source, route.target)?;
    Ok(figures)
}

/// Waits until the copy of a live contender is equal to its source.
///
/// # Errors
/// If it does not come to be.
pub fn verify_live(contender: Contender, source: &Path, target: &Path) -> Result<(), Failure> {
    if holds_within(Duration::from_secs(30), || verify(contender, source, target).is_ok()) {
        return Ok(());
    }
    verify(contender, source, target)
}

/// Compares a copy with its source: speil's in everything, others by content. (rsync leaves another time on
/// a root from which it deletes.)
fn verify(contender: Contender, source: &Path, target: &Path) -> Result<(), Failure> {
    let comparison = match contender {
        Contender::Speil => Comparison::default(),
        Contender::Rsync | Contender::Lsyncd | Contender::Tar => Comparison::contents_only(),
    };
    let differences = comparison.compare(source, target);
    match differences.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} differences, the first: {first}", differences.len()).into()),
    }
}
