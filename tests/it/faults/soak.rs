//! An hour of edits and kills: memory and descriptors stay what they were. `make soak MINUTES=60`.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::churn::Churn;
use crate::support::command::{Background, holds_within};
use crate::support::process::{descendants, send};
use crate::support::rng::Rng;
use crate::support::stand::{Stand, assert_settles};

const TARGETS: [&str; 3] = ["one", "two", "three"];

/// What the processes cost at one moment.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Resident memory in kB.
    resident: u64,
    descriptors: u64,
}

fn cost(pid: u32) -> Cost {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok());
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |fds| fds.count() as u64);
    Cost { resident: resident.unwrap_or(0), descriptors }
}

fn agents(stand: &Stand) -> Vec<u32> {
    let all = descendants(stand.sshd.pid()).into_iter();
    all.filter(|process| process.name == "speil").map(|process| process.pid).collect()
}

fn start(stand: &Stand) -> Background {
    stand.mirror(&TARGETS, &["--reconcile-interval=30s"])
}

/// Kills somebody; returns the daemon that runs now.
fn strike(stand: &Stand, rng: &mut Rng, mirror: Background, daemons: bool) -> Background {
    match rng.below(if daemons { 4 } else { 3 }) {
        0 => {
            if let Some(agent) = rng.pick(&agents(stand)) {
                send(*agent, Signal::KILL);
            }
            mirror
        }
        1 => {
            stand.sshd.kill_connections();
            mirror
        }
        2 => {
            let ssh: Vec<u32> = descendants(mirror.pid())
                .into_iter()
                .filter(|process| process.name == "ssh")
                .map(|process| process.pid)
                .collect();
            if let Some(ssh) = rng.pick(&ssh) {
                send(*ssh, Signal::KILL);
            }
            mirror
        }
        _ => {
            mirror.signal(Signal::KILL);
            mirror.wait();
            start(stand)
        }
    }
}

#[test]
#[ignore = "an hour"]
fn an_hour_of_edits_and_kills_costs_no_more_memory_and_descriptors_than_its_first_minutes() {
    let minutes: usize = std::env::var("MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let mut stand = Stand::new();
    stand.patience = Duration::from_secs(300);
    let mut mirror = start(&stand);
    let mut rng = Rng::new(60);
    let mut churn = Churn::new(60, &stand.source());
    println!("minute,operations,kills,daemon_rss_kb,daemon_fds,agents,agents_rss_kb,agents_fds");
    let (mut operations, mut kills, mut curve) = (0_u64, 0, Vec::new());
    // In the second half the daemon lives on: what it loses would show.
    for minute in 1..=minutes {
        let end = Instant::now() + Duration::from_secs(60);
        let mut peak = Cost::default();
        let mut agents_peak = Cost::default();
        let mut agents_seen = 0;
        while Instant::now() < end {
            let part = Instant::now() + Duration::from_secs(6);
            while Instant::now() < part {
                churn.step();
                operations += 1;
                // Some two hundred edits a second: an upload directory on a bad day.
                std::thread::sleep(Duration::from_millis(5));
            }
            let here = cost(mirror.pid());
            peak.resident = peak.resident.max(here.resident);
            peak.descriptors = peak.descriptors.max(here.descriptors);
            let there: Vec<Cost> = agents(&stand).into_iter().map(cost).collect();
            agents_seen = agents_seen.max(there.len());
            agents_peak.resident = agents_peak.resident.max(there.iter().map(|cost| cost.resident).sum());
            agents_peak.descriptors =
                agents_peak.descriptors.max(there.iter().map(|cost| cost.descriptors).sum());
            mirror = strike(&stand, &mut rng, mirror, minute <= minutes / 2);
            kills += 1;
        }
        println!(
            "{minute},{operations},{kills},{},{},{agents_seen},{},{}",
            peak.resident, peak.descriptors, agents_peak.resident, agents_peak.descriptors
        );
        curve.push(peak);
    }
    churn.close();
    let control = format!("--control={}", stand.control().display());
    let in_step = holds_within(Duration::from_secs(120), || {
        stand.environment.run(["wait", "--timeout=5s", &control]).code() == 0
    });
    assert!(in_step, "{}", stand.environment.run(["status", &control]).stdout);
    for name in TARGETS {
        assert_settles(&stand, name, "after the soak", &mirror);
    }
    mirror.terminate();
    let third = (minutes / 3).max(1);
    let most = |part: &[Cost], of: fn(&Cost) -> u64| part.iter().map(of).max().unwrap_or(0);
    let (first, last) = (&curve[..third], &curve[minutes - third..]);
    for (what, of, room) in [
        ("kB of memory", (|cost: &Cost| cost.resident) as fn(&Cost) -> u64, 24_000),
        ("descriptors", |cost: &Cost| cost.descriptors, 40),
    ] {
        let (before, after) = (most(first, of), most(last, of));
        println!("{what}: at most {before} in the first third, {after} in the last");
        assert!(after <= before + before / 4 + room, "{what}: {before}, then {after}");
    }
}
