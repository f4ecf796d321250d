//! Rows of a daemon over many directories: its start, and its rest.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::arena::{Arena, Failure};
use crate::contender::{self, Contender, Route};
use crate::measure::{Figures, Meter, RUN_DEADLINE};
use crate::support::command::{Background, holds_within};
use crate::support::process;
use crate::support::tree::copy_tree;

/// How long the idle daemon is watched.
const REST: Duration = Duration::from_secs(10);

pub fn prepare(arena: &Arena) -> Result<(), Failure> {
    let (tops, below) = if arena.quick { (20, 100) } else { (100, 1_000) };
    let source = arena.empty_dir("source")?;
    for top in 0..tops {
        let top = source.join(format!("{top:03}"));
        fs::create_dir(&top)?;
        for dir in 1..below {
            fs::create_dir(top.join(format!("{dir:04}")))?;
        }
    }
    raise_watches();
    Ok(copy_tree(&source, &arena.path("target"))?)
}

/// Lets both contenders watch so many directories; without the right to, the row fails and says so.
fn raise_watches() {
    let limit = Path::new("/proc/sys/fs/inotify/max_user_watches");
    let now = fs::read_to_string(limit).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if now.is_some_and(|now| now < 300_000) {
        let _ = fs::write(limit, "300000");
    }
}

pub fn start_and_rest(arena: &Arena, contender: Contender) -> Result<Figures, Failure> {
    let (source, target) = (arena.path("source"), arena.path("target"));
    let ssh = arena.sshd.ssh_command();
    let began = Instant::now();
    let route = Route { source: &source, target: &target, ssh: &ssh };
    let live = contender::start_live(arena, contender, route, &[])?;
    let meter = Meter::start(&live, arena);
    let word = if contender == Contender::Speil { ": live" } else { "Startup of " };
    wait_for(&live, word)?;
    let start = began.elapsed();
    // What belongs to the start is over.
    std::thread::sleep(Duration::from_secs(2));
    let (wakes, (cpu, _)) = (process::wake_ups(live.pid()), meter.cpu_seconds());
    std::thread::sleep(REST);
    let resident = process::resident_of(live.pid()).unwrap_or(0);
    let mut figures = vec![
        ("start_seconds", start.as_secs_f64()),
        ("idle_wake_ups_in_10_s", (process::wake_ups(live.pid()) - wakes) as f64),
        ("idle_cpu_in_10_s_ms", (meter.cpu_seconds().0 - cpu) * 1e3),
        ("idle_own_rss_mb", resident as f64 / 1e6),
    ];
    figures.extend(meter.finish());
    Ok(figures)
}

fn wait_for(live: &Background, word: &str) -> Result<(), Failure> {
    let said = || live.stdout().iter().any(|line| line.contains(word)) || !live.is_running();
    if holds_within(RUN_DEADLINE, said) && live.is_running() {
        return Ok(());
    }
    Err(format!("not live: {:?}", live.stderr().last()).into())
}
