//! Too few watches, too short a queue, and a source that is not there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::scene::exhaustive;
use crate::support::churn::Churn;
use crate::support::command::{Background, SPEIL, agent_command, eventually, holds_within};
use crate::support::faults::{Mount, is_root};
use crate::support::process::{all, read};
use crate::support::stand::{Stand, assert_settles};

/// A setting of the kernel's, put back when this goes.
struct Setting {
    path: &'static str,
    before: String,
}

impl Setting {
    fn of(path: &'static str, value: &str) -> Self {
        let before = fs::read_to_string(path).unwrap();
        let setting = Self { path, before };
        fs::write(path, value).unwrap();
        setting
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        fs::write(self.path, &self.before).expect("the setting as it was");
    }
}

#[test]
fn with_a_queue_of_sixteen_events_everything_arrives_all_the_same() {
    // The queue's length is the whole machine's: only where nothing else is tested.
    if !exhaustive() || !is_root() {
        return;
    }
    let stand = Stand::new();
    let setting = Setting::of("/proc/sys/fs/inotify/max_queued_events", "16");
    // An edit that keeps size and time, and of which nobody heard, is seen by its content alone.
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never", "--checksum"]);
    // The instance keeps the length that it began with.
    drop(setting);
    let mut churn = Churn::new(16, &stand.source());
    for _ in 0..20 {
        churn.run(100);
        assert_settles(&stand, "standby", "with a queue of 16 events", &mirror);
    }
    let status =
        stand.environment.run(["status", "--json", &format!("--control={}", stand.control().display())]);
    assert!(status.stdout.contains("\"overflow\""), "the queue was long enough: {}", status.stdout);
    mirror.terminate();
}

#[test]
fn a_queue_that_ran_over_while_nobody_read_it_loses_nothing() {
    let stand = Stand::new();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    fs::create_dir(stand.source().join("d")).unwrap();
    eventually("the directory", || stand.target("standby").join("d").is_dir());
    mirror.signal(Signal::STOP);
    eventually("it stands still", || read(mirror.pid()).is_some_and(|process| process.state == 'T'));
    for at in 0..2000 {
        let path = stand.source().join(format!("d/{}", at % 500));
        fs::write(&path, at.to_string()).unwrap();
        if at % 3 == 0 {
            fs::remove_file(&path).unwrap();
        } else {
            fs::rename(&path, stand.source().join(format!("d/{}", at % 700))).unwrap();
        }
    }
    // The rest of the queue, with events of two names in turn: equal ones behind each other would be one.
    let files = ["even", "odd"].map(|name| {
        let path = stand.source().join(name);
        fs::write(&path, name).unwrap();
        fs::File::open(path).unwrap()
    });
    for at in 0..limit {
        files[at % 2].set_permissions(fs::Permissions::from_mode([0o600, 0o640][at / 2 % 2])).unwrap();
    }
    // After the last event that there was room for.
    fs::create_dir_all(stand.source().join("new/deep")).unwrap();
    fs::write(stand.source().join("new/deep/file"), "unheard").unwrap();
    mirror.signal(Signal::CONT);
    assert_settles(&stand, "standby", "after the overflow", &mirror);
    fs::write(stand.source().join("new/deep/later"), "heard").unwrap();
    assert_settles(&stand, "standby", "live again", &mirror);
    let status =
        stand.environment.run(["status", "--json", &format!("--control={}", stand.control().display())]);
    assert!(status.stdout.contains("\"overflow\""), "nothing ran over: {}", status.stdout);
    mirror.terminate();
}

#[test]
fn with_ten_watches_for_forty_directories_the_lack_is_told_and_everything_arrives() {
    if !is_root() {
        return;
    }
    let stand = Stand::new();
    let dirs: Vec<_> = (0..40).map(|at| stand.source().join(format!("d{at}/below"))).collect();
    for dir in &dirs {
        fs::create_dir_all(dir).unwrap();
    }
    // In a user namespace the limit is its own.
    let mut command = stand.environment.command("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c"]);
    command.arg("echo 10 >/proc/sys/user/max_inotify_watches && exec \"$@\"").arg("sh").arg(SPEIL);
    command.args(["mirror", "--no-delete-guard", "--no-owner", "--no-group", "--reconcile-interval=1s"]);
    command.arg(format!("--agent={}", agent_command()));
    command.arg(format!("--control={}", stand.control().display()));
    command.arg(stand.source().join("")).arg(stand.target("standby"));
    let mirror = Background::spawn(command);
    mirror.wait_for_line(": live");
    let control = format!("--control={}", stand.control().display());
    eventually("the lack is told", || {
        stand.environment.run(["status", "--json", &control]).stdout.contains("out of inotify watches")
    });
    for (at, dir) in dirs.iter().enumerate() {
        fs::write(dir.join("file"), at.to_string()).unwrap();
    }
    assert_settles(&stand, "standby", "without watches", &mirror);
    fs::remove_file(dirs[39].join("file")).unwrap();
    assert_settles(&stand, "standby", "a removal", &mirror);
    mirror.terminate();
}

fn files(root: &Path) -> usize {
    let walk = walkdir::WalkDir::new(root).into_iter().flatten();
    walk.filter(|entry| entry.file_type().is_file() && !entry.path().to_string_lossy().contains(".speil"))
        .count()
}

#[test]
fn a_source_root_that_is_unmounted_and_mounted_again_deletes_nothing_and_is_mirrored_again() {
    if !is_root() {
        return;
    }
    let stand = Stand::new();
    let volume = stand.path("volume");
    let _volume = Mount::tmpfs(&volume, "4m");
    for at in 0..30 {
        fs::write(volume.join(format!("f{at}")), "on the volume").unwrap();
    }
    let mount = Mount::bind(&volume, &stand.source());
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    assert_eq!(files(&stand.target("standby")), 30);
    let control = format!("--control={}", stand.control().display());
    drop(mount);
    // The mount point is empty, and a pass looks at it.
    for _ in 0..3 {
        stand.environment.run(["reconcile", &control]).succeeded();
        let waited = stand.environment.run(["wait", "--timeout=2s", &control]);
        assert_eq!(
            files(&stand.target("standby")),
            30,
            "{waited:?} {:?} {:?}",
            mirror.stderr(),
            mirror.stdout()
        );
    }
    let mount = Mount::bind(&volume, &stand.source());
    fs::write(stand.source().join("after"), "mounted again").unwrap();
    assert_settles(&stand, "standby", "mounted again", &mirror);
    fs::write(stand.source().join("later"), "live").unwrap();
    assert_settles(&stand, "standby", "live again", &mirror);
    mirror.terminate();
    drop(mount);
    // A daemon that starts on the bare mount point.
    let mirror = stand.start_mirror(&["standby"], &["--reconcile-interval=never"]);
    eventually("it has looked", || !mirror.stderr().is_empty() || !mirror.stdout().is_empty());
    let _ = stand.environment.run(["wait", "--timeout=2s", &control]);
    assert_eq!(files(&stand.target("standby")), 32, "{:?}", mirror.stderr());
    drop(mirror);
}

#[test]
fn what_was_removed_on_a_volume_just_before_it_was_unmounted_goes_when_the_volume_is_back() {
    if !is_root() {
        return;
    }
    let stand = Stand::new();
    let (volume, inside) = (stand.path("volume"), stand.source().join("media"));
    let _volume = Mount::tmpfs(&volume, "4m");
    for name in ["film", "kept"] {
        fs::write(volume.join(name), "on the volume").unwrap();
    }
    let mount = Mount::bind(&volume, &inside);
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let there = stand.target("standby").join("media");
    // Removed, and out of sight before anybody could be told.
    fs::remove_file(inside.join("film")).unwrap();
    drop(mount);
    let control = format!("--control={}", stand.control().display());
    let waited = stand.environment.run(["wait", "--timeout=5s", &control]);
    stand.environment.run(["reconcile", &control]).succeeded();
    mirror.wait_for_error_line("is not mounted");
    assert!(there.join("film").exists() && there.join("kept").exists(), "{waited:?} {:?}", mirror.stderr());
    let mount = Mount::bind(&volume, &inside);
    assert_settles(&stand, "standby", "mounted again", &mirror);
    assert!(!there.join("film").exists() && there.join("kept").exists());
    mirror.terminate();
    drop(mount);
}

#[test]
fn without_an_inotify_instance_the_status_says_that_the_source_is_walked_and_one_is_enough() {
    if !is_root() {
        return;
    }
    for (instances, told) in [(0, true), (1, false)] {
        let stand = Stand::new();
        let mut command = stand.environment.command("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c"]);
        let limit = format!("echo {instances} >/proc/sys/user/max_inotify_instances && exec \"$@\"");
        command.arg(limit).arg("sh").arg(SPEIL);
        command.args(["mirror", "--no-delete-guard", "--no-owner", "--no-group"]);
        command.arg(format!("--agent={}", agent_command()));
        command.arg(format!("--control={}", stand.control().display()));
        command.arg(stand.source().join("")).arg(stand.target("standby"));
        let mirror = Background::spawn(command);
        mirror.wait_for_line(": live");
        let status =
            stand.environment.run(["status", "--json", &format!("--control={}", stand.control().display())]);
        assert_eq!(
            status.stdout.contains("no inotify instance is left"),
            told,
            "{instances}: {}",
            status.stdout
        );
        fs::write(stand.source().join("file"), "content").unwrap();
        if !told {
            assert_settles(&stand, "standby", "with one instance", &mirror);
        }
        mirror.terminate();
    }
}

/// Returns how many inotify instances a process has.
fn instances(pid: u32) -> usize {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    fds.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("inotify"))).count()
}

#[test]
fn two_hundred_syncs_hear_events_with_the_instances_that_a_user_has() {
    if !is_root() {
        return;
    }
    let (stand, count) = (Stand::new(), 200);
    let mut text = String::new();
    for at in 0..count {
        fs::create_dir_all(stand.source().join(format!("s{at}/d"))).unwrap();
        text += &format!(
            "sync {{ default.mirror, name = \"n{at}\", source = {:?}, target = {:?}, agent = {:?}, \
             owner = false, group = false }}\n",
            stand.source().join(format!("s{at}")),
            stand.path(&format!("t{at}")),
            agent_command()
        );
    }
    let config = stand.path("speil.lua");
    fs::write(&config, text).unwrap();
    let mut command = stand.environment.command("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c"]);
    command.arg("echo 128 >/proc/sys/user/max_inotify_instances && exec \"$@\"").arg("sh").arg(SPEIL);
    command.arg("run").arg(format!("--control={}", stand.control().display())).arg(config);
    let daemon = Background::spawn(command);
    let live = holds_within(Duration::from_secs(180), || {
        assert!(daemon.is_running(), "ended: {:?}", daemon.stderr());
        daemon.stderr().iter().filter(|line| line.ends_with(": live")).count() >= count
    });
    assert!(live, "not all are live: {:?}", daemon.stderr().last());
    let control = format!("--control={}", stand.control().display());
    let status = stand.environment.run(["status", "--json", &control]).succeeded().stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let syncs = status["syncs"].as_array().unwrap();
    assert_eq!(syncs.len(), count);
    for sync in syncs {
        assert_eq!(
            (&sync["watched"], &sync["watch_problems"]),
            (&2.into(), &serde_json::json!([])),
            "{sync}"
        );
    }
    assert_eq!(instances(daemon.pid()), 54);
    let agents: Vec<_> = all().into_iter().filter(|process| process.parent == daemon.pid()).collect();
    let theirs = agents.iter().map(|agent| instances(agent.pid)).sum::<usize>();
    assert_eq!((agents.len(), theirs), (count, 0));
    for at in 0..count {
        fs::write(stand.source().join(format!("s{at}/d/file")), at.to_string()).unwrap();
    }
    for at in 0..count {
        let file = stand.path(&format!("t{at}/d/file"));
        eventually("the file of each", || {
            fs::read(&file).is_ok_and(|text| text == at.to_string().as_bytes())
        });
    }
    daemon.terminate();
}
