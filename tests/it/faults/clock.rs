//! Clocks that are stepped by an hour, as far as a test may: the machine's own clock is not touched, and
//! no namespace has one of its own. What a step leaves behind are stamps that lie an hour off.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::command::eventually;
use crate::support::stand::{Stand, assert_settles};

const HOUR: Duration = Duration::from_secs(3600);

fn stamp(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn files_stamped_by_a_clock_an_hour_off_are_sent_once_and_every_rewrite_of_theirs_arrives() {
    let stand = Stand::new();
    let now = SystemTime::now();
    let stamps = [("ahead", now + HOUR), ("behind", now - HOUR)];
    for (name, time) in stamps {
        fs::write(stand.source().join(name), "version 0").unwrap();
        stamp(&stand.source().join(name), time);
    }
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let control = format!("--control={}", stand.control().display());
    for version in 1..4 {
        for (name, time) in stamps {
            // Neither size nor stamp tells of it.
            fs::write(stand.source().join(name), format!("version {version}")).unwrap();
            stamp(&stand.source().join(name), time);
        }
        stand.environment.run(["wait", "--timeout=60s", &control]).succeeded();
        for (name, _) in stamps {
            let there = fs::read_to_string(stand.target("standby").join(name)).unwrap();
            assert_eq!(there, format!("version {version}"), "{name}");
        }
    }
    assert_settles(&stand, "standby", "stamps an hour off", &mirror);
    mirror.terminate();
    // A stamp that lies ahead is no reason to send a file for ever.
    let (source, target) = (format!("{}/", stand.source().display()), stand.target("standby"));
    let arguments = ["sync", "-a", "-i", "--exclude=/.speil", &source, &target.display().to_string()];
    assert_eq!(stand.environment.run(arguments).succeeded().stdout, "");
}

#[test]
fn a_standby_whose_clock_was_stepped_since_the_primary_spoke_is_judged_by_the_lag_it_stated() {
    let stand = Stand::new();
    fs::write(stand.source().join("file"), "content").unwrap();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let stated = stand.target("standby").join(".speil/stated");
    let root = format!("--root={}", stand.target("standby").display());
    let health =
        |more: &[&str]| stand.environment.run([&["health", &root, "--max-lag=1h"], more].concat()).code();
    eventually("the primary states its lag", || health(&[]) == 0);
    mirror.terminate();
    for time in [SystemTime::now() + HOUR, SystemTime::now() - HOUR] {
        stamp(&stated, time);
        assert_eq!(health(&[]), 0, "silence is no lag, however long it seems");
    }
    assert_eq!(health(&["--max-silence=5m"]), 30);
    stamp(&stated, SystemTime::now() + HOUR);
    assert_eq!(health(&["--max-silence=5m"]), 0, "what was said in the future was said just now");
}
