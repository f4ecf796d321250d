//! Drills: what takes minutes, needs root or much disk, and prints figures. `make drill` runs them,
//! one after the other; nothing here is part of `make test`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::churn::Churn;
use crate::support::command::{Background, agent_command, eventually, holds_within};
use crate::support::process::{descendants, holder_of, peak_of, send};
use crate::support::rng::Rng;
use crate::support::stand::{Stand, differences, told};

/// Returns a size from the environment.
fn scale(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn mb(bytes: u64) -> u64 {
    bytes / 1_000_000
}

/// Fills a directory with `count` files of 0 to 28 kB, a hundred in each directory.
fn plant(root: &Path, count: u64) {
    let mut rng = Rng::new(7);
    for at in 0..count {
        let dir = root.join(format!("d{:04}", at / 100));
        if at % 100 == 0 {
            fs::create_dir_all(&dir).unwrap();
        }
        let len = rng.below(28_000);
        fs::write(dir.join(format!("upload {at}.jpg")), rng.bytes(len)).unwrap();
    }
}

#[test]
#[ignore = "a drill of minutes"]
fn fifty_thousand_files_under_three_writers_survive_the_loss_of_agent_connection_and_daemon() {
    let mut stand = Stand::new();
    stand.patience = Duration::from_secs(300);
    plant(&stand.source(), scale("SPEIL_FILES", 50_000));
    let began = Instant::now();
    let mut mirror = stand.mirror(&["standby"], &[]);
    println!("live after {:.1} s", began.elapsed().as_secs_f64());
    let span = Duration::from_secs(scale("SPEIL_SECONDS", 60));
    let end = Instant::now() + span;
    let steps: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|seed| {
                let root = stand.source().join(format!("d{seed:04}"));
                scope.spawn(move || {
                    let mut churn = Churn::new(seed, &root);
                    let mut steps = 0;
                    while Instant::now() < end {
                        churn.step();
                        steps += 1;
                    }
                    churn.close();
                    steps
                })
            })
            .collect();
        let at = |fifth: u32| {
            holds_within(span, || Instant::now() >= end - span + span / 5 * fifth);
        };
        at(1);
        let agent = holder_of(stand.sshd.pid(), &stand.target("standby"));
        send(agent.expect("an agent runs"), Signal::KILL);
        at(2);
        assert!(stand.sshd.kill_connections() > 0);
        at(3);
        mirror.signal(Signal::KILL);
        mirror.wait_for_end().unwrap();
        mirror = stand.mirror(&["standby"], &[]);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let last = Instant::now();
    let (source, target) = (stand.source(), stand.target("standby"));
    let mut left = differences(&source, &target);
    let looked = last.elapsed();
    let equal = holds_within(Duration::from_secs(60), || {
        left.is_empty() || {
            left = differences(&source, &target);
            left.is_empty()
        }
    });
    println!(
        "{steps} operations in {span:?}; the first look ended {:.1} s after the last change, equal {:.1} s after it",
        looked.as_secs_f64(),
        last.elapsed().as_secs_f64()
    );
    assert!(equal, "{}\n{}", told(&left), mirror.stderr().join("\n"));
    mirror.terminate();
}

/// Writes a file of `len` bytes with a megabyte of data every fifty, and holes between.
fn write_huge(path: &Path, len: u64) {
    let file = File::create(path).unwrap();
    let mut rng = Rng::new(11);
    for at in (0..len).step_by(50_000_000) {
        file.write_all_at(&rng.bytes(1_000_000), at).unwrap();
    }
    file.set_len(len).unwrap();
}

/// Block length and index are those of a full file of this size; the data is 2 GB.
#[test]
#[ignore = "a drill of minutes"]
fn a_huge_file_needs_under_100_mb_on_either_side() {
    let mut stand = Stand::new();
    stand.patience = Duration::from_secs(3600);
    let len = scale("SPEIL_HUGE_GB", 100) * 1_000_000_000;
    let (file, copy) = (stand.source().join("huge"), stand.target("standby").join("huge"));
    write_huge(&file, len);
    let report = |mirror: &Background, what: &str, began: Instant| {
        let agent = holder_of(stand.sshd.pid(), &stand.target("standby")).expect("an agent runs");
        let (here, there) = (peak_of(mirror.pid()).unwrap(), peak_of(agent).unwrap());
        println!(
            "{what}: {:.0} s, peak memory {} MB on the source, {} MB on the target",
            began.elapsed().as_secs_f64(),
            mb(here),
            mb(there)
        );
        assert!(here < 100_000_000 && there < 100_000_000, "{what}: {here} {there}");
    };
    let began = Instant::now();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    report(&mirror, "whole", began);
    let began = Instant::now();
    {
        let edited = File::options().write(true).open(&file).unwrap();
        for at in 0..256 {
            edited.write_all_at(&[b'#'; 40_000], 500_000 + 50_000_000 * at).unwrap();
        }
    }
    let mtime = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    assert!(
        holds_within(Duration::from_secs(3600), || mtime(&file) == mtime(&copy)),
        "{:?}",
        mirror.stderr()
    );
    report(&mirror, "256 edits", began);
    mirror.terminate();
    assert_eq!(told(&differences(&stand.source(), &stand.target("standby"))), "");
}

#[test]
#[ignore = "a drill of minutes"]
fn a_million_events_for_a_dead_target_cost_the_source_under_64_mb() {
    let stand = Stand::new();
    let (files, rounds) = (scale("SPEIL_FILES", 200_000), scale("SPEIL_ROUNDS", 5));
    let source = format!("{}/", stand.source().display());
    let [one, two] = ["first", "second"].map(|name| stand.target(name));
    let mut arguments =
        ["mirror", "--no-delete-guard", "--reconcile-interval=never"].map(String::from).to_vec();
    arguments.push(format!("--agent={}", agent_command()));
    arguments.extend([source, one.display().to_string(), two.display().to_string()]);
    let mirror = stand.environment.spawn(arguments);
    eventually("both are live", || {
        mirror.stdout().iter().filter(|line| line.ends_with(": live")).count() == 2
    });
    let before = peak_of(mirror.pid()).unwrap();
    let agent = holder_of(mirror.pid(), &two).expect("an agent runs");
    // First it answers no more, then it is gone, and the target refuses whoever comes.
    send(agent, Signal::STOP);
    let began = Instant::now();
    for round in 0..rounds {
        for at in 0..files {
            let dir = stand.source().join(format!("d{:04}", at / 1000));
            if round == 0 && at % 1000 == 0 {
                fs::create_dir(&dir).unwrap();
            }
            fs::write(dir.join(at.to_string()), format!("{round} of {at}")).unwrap();
        }
        if round == 0 {
            fs::write(two.join(".speil/refuse"), "closed for the drill\n").unwrap();
            send(agent, Signal::KILL);
        }
    }
    println!("{} writes in {:.0} s", files * rounds, began.elapsed().as_secs_f64());
    let settled = |target: &Path| differences(&stand.source(), target).is_empty();
    let patient = Duration::from_secs(600);
    assert!(holds_within(patient, || settled(&one)), "{:#?}", mirror.stderr());
    let after = peak_of(mirror.pid()).unwrap();
    println!("peak memory of the source {} MB before, {} MB after", mb(before), mb(after));
    assert!(descendants(mirror.pid()).len() < 3, "the dead target's agent is gone");
    fs::remove_file(two.join(".speil/refuse")).unwrap();
    let back = Instant::now();
    assert!(holds_within(patient, || settled(&two)), "{:?}", mirror.stderr());
    println!("caught up {:.1} s after it was let in", back.elapsed().as_secs_f64());
    assert!(after - before < 64_000_000, "{before} {after}");
    mirror.terminate();
}
