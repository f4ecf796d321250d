//! Faults of hosts, disks, networks and processes: what can goes on, what failed is done again, nothing
//! is lost and nothing is torn.
//!
//! Loops over every step take minutes: `make test` tries a few steps of each, `make faults` all.

mod calls;
mod clock;
mod kills;
mod limits;
mod network;
mod power;
mod scene;
mod soak;

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::command::{eventually, holds_within};
use crate::support::faults::{Mount, is_root};
use crate::support::rng::Rng;
use crate::support::stand::{Stand, assert_settles};

#[test]
fn a_full_target_takes_what_fits_and_the_rest_once_there_is_room() {
    let stand = Stand::new();
    let target = stand.target("standby");
    if !is_root() {
        return;
    }
    let small = Mount::tmpfs(&target, "6m");
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never", "--compress=never"]);
    let mut rng = Rng::new(1);
    fs::write(stand.source().join("too big"), rng.bytes(8_000_000)).unwrap();
    eventually("the problem is told", || mirror.stderr().iter().any(|line| line.contains("ENOSPC")));
    // What is smaller goes on; the directory holds no remains of what did not fit.
    fs::write(stand.source().join("small"), "fits").unwrap();
    eventually("the small file", || fs::read(target.join("small")).is_ok_and(|read| read == b"fits"));
    let names = || {
        let entries = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.filter(|name| name != ".speil").collect();
        names.sort();
        names
    };
    eventually("nothing half is left", || names() == ["small"]);
    let roomier = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&target).status();
    assert!(roomier.unwrap().success());
    assert_settles(&stand, "standby", "after there was room", &mirror);
    let control = format!("--control={}", stand.dir.path().join("control").display());
    let healthy = holds_within(Duration::from_secs(60), || {
        !stand.environment.run(["status", &control]).stdout.contains("ENOSPC")
    });
    assert!(healthy, "the problem stays though it is solved");
    mirror.terminate();
    drop(small);
}
