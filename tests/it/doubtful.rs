//! Edits that keep size and time and of which nobody heard: what may have changed is hashed, and nothing else.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Timespec;
use rustix::process::Signal;

use crate::support::command::{Background, eventually};
use crate::support::faults::is_root;
use crate::support::process::read;
use crate::support::stand::{Stand, judged};
use crate::support::tree::set_times;

/// Returns what the status says of the one target.
fn target(stand: &Stand) -> serde_json::Value {
    let control = format!("--control={}", stand.control().display());
    let said = stand.environment.run(["status", "--json", &control]).succeeded().stdout;
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    report["syncs"][0]["targets"][0].clone()
}

/// Changes bytes in place and puts the time back.
fn edit_unseen(path: &Path) {
    let meta = fs::metadata(path).unwrap();
    File::options().write(true).open(path).unwrap().write_all_at(b"two", 0).unwrap();
    set_times(path, Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() as _ }).unwrap();
}

/// Waits until a file counts as changed before everything that is heard from now on.
fn let_age(stand: &Stand, path: &Path) {
    let changed = fs::metadata(path).unwrap().ctime();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    // A second for writes that take long, and whole seconds.
    eventually("it is old enough", || now() > changed + 3);
    fs::write(stand.source().join("mark"), "").unwrap();
    stand.wait();
    // The mark that this one began has come by with the next.
    fs::remove_file(stand.source().join("mark")).unwrap();
    stand.wait();
}

/// Does something while the daemon sleeps, and so much besides that its queue runs over.
fn unheard(stand: &Stand, mirror: &Background, deed: impl FnOnce()) {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    mirror.signal(Signal::STOP);
    eventually("it stands still", || read(mirror.pid()).is_some_and(|process| process.state == 'T'));
    for at in 0..limit + 100 {
        let mode = Permissions::from_mode(if at / 2 % 2 == 0 { 0o600 } else { 0o640 });
        // Alternately, so that the kernel joins no two of them; empty, so that there is nothing to hash.
        fs::set_permissions(stand.source().join(["noise", "more"][at % 2]), mode).unwrap();
    }
    deed();
    mirror.signal(Signal::CONT);
    eventually("the overflow", || target(stand)["rescans"]["overflow"].as_u64().is_some_and(|n| n > 0));
}

fn plant(root: &Path) {
    for dir in ["a", "b/deep", "c"] {
        fs::create_dir_all(root.join(dir)).unwrap();
        for at in 0..50 {
            fs::write(root.join(format!("{dir}/{at}")), format!("one {at}")).unwrap();
        }
    }
    for name in ["noise", "more"] {
        fs::write(root.join(name), "").unwrap();
    }
}

#[test]
fn an_edit_that_keeps_its_stamps_is_found_though_its_event_is_lost_and_only_it_is_hashed() {
    let stand = Stand::new();
    plant(&stand.source());
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never", "--watch=inotify"]);
    let_age(&stand, &stand.source().join("c/49"));
    let edited = stand.source().join("b/deep/7");
    unheard(&stand, &mirror, || edit_unseen(&edited));
    stand.wait();
    assert_eq!(judged(&stand.source(), &stand.target("standby"), &[]), "");
    let told = target(&stand);
    assert_eq!((&told["hashed"], &told["unverified_files"]), (&1.into(), &0.into()), "{told}");
    mirror.terminate();
}

#[test]
fn a_directory_that_comes_while_events_are_lost_is_read_whole() {
    let stand = Stand::new();
    plant(&stand.source());
    let stamp = |path: &Path| set_times(path, Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 }).unwrap();
    for (dir, content) in [("now", "old"), ("../next", "new")] {
        fs::create_dir_all(stand.source().join(dir)).unwrap();
        fs::write(stand.source().join(dir).join("f"), content).unwrap();
        stamp(&stand.source().join(dir).join("f"));
        stamp(&stand.source().join(dir));
    }
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never", "--watch=inotify"]);
    let_age(&stand, &stand.path("next/f"));
    unheard(&stand, &mirror, || {
        fs::remove_dir_all(stand.source().join("now")).unwrap();
        fs::rename(stand.path("next"), stand.source().join("now")).unwrap();
    });
    stand.wait();
    assert_eq!(judged(&stand.source(), &stand.target("standby"), &[]), "");
    assert_eq!(target(&stand)["hashed"], 1);
    mirror.terminate();
}

#[test]
fn with_stamps_alone_nothing_is_hashed() {
    let stand = Stand::new();
    plant(&stand.source());
    let keys = "reconcile = { interval = \"never\", verify = \"stamps\" }, watch = \"inotify\"";
    let daemon = stand.run(&["standby"], keys, "");
    let edited = stand.source().join("a/7");
    unheard(&stand, &daemon, || edit_unseen(&edited));
    stand.wait();
    assert_eq!(target(&stand)["hashed"], 0);
    assert_eq!(fs::read(stand.target("standby").join("a/7")).unwrap(), b"one 7");
    daemon.terminate();
}

#[test]
fn neither_links_nor_owners_nor_a_restart_have_anything_hashed() {
    if !is_root() {
        return;
    }
    const FILES: usize = 10_000;
    let stand = Stand::new();
    for at in 0..FILES {
        let dir = stand.source().join(format!("a/{}", at % 100));
        if at < 100 {
            fs::create_dir_all(&dir).unwrap();
        }
        fs::write(dir.join(at.to_string()), at.to_string()).unwrap();
    }
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let run = |command: &mut Command| assert!(command.status().unwrap().success());
    let hashed = |what: &str| {
        stand.wait();
        let told = target(&stand);
        // If the queue ran over, what was lost may have changed.
        let most = if told["rescans"]["overflow"].is_null() { 0 } else { 2 * FILES };
        assert!(told["hashed"].as_u64().unwrap() <= most as u64, "{what}: {told}");
    };
    run(Command::new("cp").arg("-al").arg(stand.source().join("a")).arg(stand.source().join("b")));
    hashed("linked");
    run(Command::new("chown").args(["-R", "12:34"]).arg(stand.source().join("a")));
    hashed("owned");
    let_settle(&stand, &stand.source().join(format!("a/99/{}", FILES - 1)));
    mirror.terminate();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    stand.wait();
    assert_eq!(target(&stand)["hashed"], 0);
    mirror.terminate();
}

/// Waits until the target remembers a watermark after which none of the files has changed.
fn let_settle(stand: &Stand, last: &Path) {
    // A watermark is of whole seconds, and of one less where the clock was read a little differently.
    let changed = fs::metadata(last).unwrap().ctime() + 1;
    eventually("a later second", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(now.as_secs()).unwrap() > changed
    });
    // An event, after which the watch makes a mark; nothing changes.
    drop(File::options().write(true).open(last).unwrap());
    eventually("the watermark", || {
        let memory = fs::read(stand.target("standby").join(".speil/memory")).unwrap();
        let memory: serde_json::Value = serde_json::from_slice(&memory).unwrap();
        memory["watermark"]["at"]["secs"].as_i64().is_some_and(|at| at > changed)
    });
}

/// Edits, a directory in the place of another, and a file in the place of another, each of the same size and time.
fn change_unseen(stand: &Stand) {
    let source = stand.source();
    edit_unseen(&source.join("b/deep/7"));
    fs::rename(source.join("now"), stand.path("before")).unwrap();
    fs::rename(stand.path("next"), source.join("now")).unwrap();
    fs::rename(source.join("one"), source.join("two")).unwrap();
}

#[test]
fn what_changes_unseen_while_the_daemon_is_down_is_found_and_nothing_else_is_read() {
    for killed in [false, true] {
        let stand = Stand::new();
        plant(&stand.source());
        let stamp = |path: &Path| set_times(path, Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 }).unwrap();
        for (name, content) in [("now/f", "old"), ("../next/f", "new"), ("one", "1"), ("two", "2")] {
            let path = stand.source().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            stamp(&path);
        }
        ["now", "../next"].iter().for_each(|dir| stamp(&stand.source().join(dir)));
        let last = stand.source().join("two");
        let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
        stand.wait();
        let_settle(&stand, &last);
        if killed {
            drop(mirror);
        } else {
            mirror.terminate();
        }
        change_unseen(&stand);
        let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
        stand.wait();
        assert_eq!(judged(&stand.source(), &stand.target("standby"), &[]), "", "killed: {killed}");
        let told = target(&stand);
        assert_eq!(
            (&told["hashed"], &told["unverified_files"]),
            (&3.into(), &0.into()),
            "killed: {killed}, {told}"
        );
        let_settle(&stand, &last);
        mirror.terminate();
        let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
        stand.wait();
        assert_eq!(target(&stand)["hashed"], 0, "killed: {killed}; nothing has changed");
        mirror.terminate();
    }
}

#[test]
fn an_edit_behind_a_kill_right_after_the_first_copy_is_found() {
    let stand = Stand::new();
    plant(&stand.source());
    drop(stand.mirror(&["standby"], &["--reconcile-interval=never"]));
    edit_unseen(&stand.source().join("a/7"));
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    stand.wait();
    assert_eq!(judged(&stand.source(), &stand.target("standby"), &[]), "");
    mirror.terminate();
}

#[test]
fn who_waits_while_a_daemon_begins_waits_for_what_it_has_to_verify() {
    let stand = Stand::new();
    plant(&stand.source());
    let keys = "reconcile = { interval = \"never\" }";
    stand.run(&["standby"], keys, "").terminate();
    // Another tree under the name: each file has the size and time of the one before.
    let other = stand.path("other");
    let copied = Command::new("cp").arg("-a").arg(stand.source()).arg(&other).status().unwrap();
    assert!(copied.success());
    (0..50).for_each(|at| edit_unseen(&other.join(format!("a/{at}"))));
    fs::rename(stand.source(), stand.path("before")).unwrap();
    fs::rename(&other, stand.source()).unwrap();
    let daemon = stand.start(&["standby"], keys, "");
    eventually("somebody can ask", || stand.control().exists());
    stand.wait();
    assert_eq!(judged(&stand.source(), &stand.target("standby"), &[]), "");
    daemon.terminate();
}
