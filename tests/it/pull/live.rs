//! `speil mirror HOST:SOURCE/ TARGET`: the far side watches and sends, over a real sshd.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::{Scene, listed};
use crate::support::command::{Background, Outcome, SPEIL, agent_command, eventually};
use crate::support::faults::{Mount, is_root};
use crate::support::proxy::{Link, Proxy};
use crate::support::tree::{Upload, assert_same};

impl Scene {
    /// Starts a mirror of a source into `t/`.
    fn mirror(&self, options: &[&str], source: &str) -> Background {
        let agent = format!("--agent={}", agent_command());
        let words = ["mirror", "-e", &self.ssh, &agent].into_iter().chain(options.iter().copied());
        self.here(words.chain([source, "t/"]).collect::<Vec<_>>())
    }

    /// The same, with the source that every scene has; returns when it is live.
    fn live(&self, options: &[&str]) -> Background {
        let mirror = self.mirror(options, &format!("{}/", self.far("s")));
        mirror.wait_for_line("s → t: live");
        mirror
    }

    fn here(&self, words: Vec<&str>) -> Background {
        let mut command = self.env.speil(words);
        command.current_dir(self.dir.path()).env("XDG_RUNTIME_DIR", self.env.home());
        Background::spawn(command)
    }

    fn ask(&self, words: &[&str]) -> Outcome {
        self.here(words.to_vec()).wait()
    }

    /// Waits until everything that was written before the call is there.
    fn settle(&self) {
        let waited = self.ask(&["wait", "--timeout=60"]);
        assert_eq!(waited.code(), 0, "{}", waited.stderr);
    }

    /// Ends a mirror as systemd does; nothing is left of it on either side.
    fn end(&self, mirror: Background) -> Outcome {
        let ended = mirror.terminate();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        self.sshd.wait_until_idle();
        assert!(!self.path("s/.speil").exists(), "nothing is written on the source's host");
        ended
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[test]
fn what_is_written_renamed_and_deleted_there_is_so_here_and_the_commands_know_the_mirror() {
    let scene = Scene::new();
    Upload::of(200, 3).grow(&scene.path("s")).unwrap();
    let mirror = scene.live(&["-v", "--log-file=log"]);
    assert_same(&scene.path("s"), &scene.path("t"));
    fs::write(scene.path("s/new"), "x").unwrap();
    fs::create_dir_all(scene.path("s/deep/er")).unwrap();
    fs::write(scene.path("s/deep/er/f"), "y").unwrap();
    symlink("new", scene.path("s/link")).unwrap();
    scene.settle();
    assert_same(&scene.path("s"), &scene.path("t"));
    fs::rename(scene.path("s/deep"), scene.path("s/moved")).unwrap();
    fs::remove_file(scene.path("s/new")).unwrap();
    fs::set_permissions(scene.path("s/moved/er/f"), fs::Permissions::from_mode(0o600)).unwrap();
    scene.settle();
    assert_same(&scene.path("s"), &scene.path("t"));
    let status = scene.ask(&["status"]).succeeded().stdout;
    assert!(status.contains(&scene.far("s")) && status.contains("  t  live for"), "{status}");
    let history = scene.ask(&["log"]).succeeded().stdout;
    assert!(history.contains("renamed \"deep\" to \"moved\""), "{history}");
    let explained = scene.ask(&["explain", "s/link"]);
    assert_eq!(explained.code(), 1);
    let health = scene.ask(&["health", "--root=t"]);
    assert_eq!(health.code(), 0, "{}{}", health.stdout, health.stderr);
    let ended = scene.end(mirror);
    for line in ["mirroring ", "deep -> moved", "deleting new"] {
        assert!(ended.stdout.lines().any(|said| said.starts_with(line)), "{line}: {}", ended.stdout);
    }
    let log = fs::read_to_string(scene.path("log")).unwrap();
    assert!(log.contains("s → t: live") && log.contains("*deleting"), "{log}");
    let came = |line: &str| line.contains(" >f") && line.ends_with(" new");
    assert!(log.lines().any(came), "who receives says so: {log}");
}

#[test]
fn a_connection_that_is_cut_comes_back_and_a_pause_outlives_it() {
    let mut scene = Scene::with_files();
    let proxy = Proxy::start(scene.sshd.address(), Link { round_trip: Duration::ZERO, rate: None });
    scene.ssh = scene.sshd.ssh_command_through(proxy.address());
    let mirror = scene.live(&[]);
    assert!(proxy.cut() > 0);
    mirror.wait_for_error_line("connection");
    // Nobody hears of these.
    fs::write(scene.path("s/new"), "x").unwrap();
    fs::remove_file(scene.path("s/d/b")).unwrap();
    scene.settle();
    assert_same(&scene.path("s"), &scene.path("t"));
    scene.ask(&["pause"]).succeeded();
    assert!(proxy.cut() > 0);
    eventually("it is connected again", || {
        scene.ask(&["status"]).succeeded().stdout.contains("  t  paused for")
    });
    fs::write(scene.path("s/late"), "x").unwrap();
    let waited = scene.ask(&["wait", "--timeout=1"]);
    assert_ne!(waited.code(), 0, "what is held back is not there");
    assert!(!is_there(&scene.path("t/late")));
    scene.ask(&["resume"]).succeeded();
    scene.settle();
    assert!(is_there(&scene.path("t/late")));
    // What reboots there ends its sessions in no order.
    scene.sshd.kill_connections();
    fs::write(scene.path("s/last"), "x").unwrap();
    scene.settle();
    assert!(is_there(&scene.path("t/last")));
    scene.end(mirror);
}

#[test]
fn a_far_side_that_falls_silent_is_given_up_and_another_one_goes_on() {
    let mut scene = Scene::with_files();
    let proxy = Proxy::start(scene.sshd.address(), Link { round_trip: Duration::ZERO, rate: None });
    scene.ssh = scene.sshd.ssh_command_through(proxy.address());
    let mirror = scene.live(&["--timeout=10"]);
    proxy.freeze();
    fs::write(scene.path("s/new"), "x").unwrap();
    mirror.wait_for_error_line("no answer for 10 s");
    proxy.thaw();
    scene.settle();
    assert!(is_there(&scene.path("t/new")));
    scene.end(mirror);
}

#[test]
fn a_mirror_that_is_killed_leaves_nothing_at_the_far_end_and_one_that_cannot_connect_ends_at_once() {
    let scene = Scene::with_files();
    let mirror = scene.live(&[]);
    mirror.signal(Signal::KILL);
    let _ = mirror.wait();
    scene.sshd.wait_until_idle();
    let mirror = scene.live(&[]);
    mirror.signal(Signal::INT);
    assert_eq!(mirror.wait().code(), 20);
    scene.sshd.wait_until_idle();
    let shell = scene.path("shell");
    fs::write(&shell, "#!/bin/sh\necho $$ >started\nexec sleep 600\n").unwrap();
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = scene.here(vec!["mirror", "-e", shell.to_str().unwrap(), "host:/s/", "t/"]);
    eventually("it connects", || scene.path("started").exists());
    assert_eq!(nobody.terminate().code(), 0);
}

#[test]
fn a_burst_of_deletes_is_held_and_let_go_here() {
    let scene = Scene::new();
    (0..200).for_each(|number| fs::write(scene.path("s").join(number.to_string()), "x").unwrap());
    let mirror = scene.live(&[]);
    let empty =
        || (0..200).for_each(|number| fs::remove_file(scene.path("s").join(number.to_string())).unwrap());
    empty();
    mirror.wait_for_error_line("deletes held");
    assert_eq!(fs::read_dir(scene.path("t")).unwrap().count(), 201, "with .speil");
    let dropped = scene.ask(&["discard"]).succeeded().stdout;
    assert!(dropped.contains("200"), "{dropped}");
    assert_eq!(fs::read_dir(scene.path("t")).unwrap().count(), 201);
    // What is found by the next pass is judged again, and after a connection that was lost as well.
    scene.sshd.kill_connections();
    eventually("they are held again", || {
        scene.ask(&["status"]).succeeded().stdout.contains("200 deletes held")
    });
    assert_eq!(fs::read_dir(scene.path("t")).unwrap().count(), 201);
    let approved = scene.ask(&["approve"]).succeeded().stdout;
    assert!(approved.contains("200"), "{approved}");
    scene.settle();
    assert_eq!(fs::read_dir(scene.path("t")).unwrap().count(), 1);
    scene.end(mirror);
}

#[test]
fn without_delete_nothing_goes_here_whatever_goes_there() {
    let scene = Scene::with_files();
    let mirror = scene.live(&["--no-delete", "--exclude=*.tmp"]);
    assert!(!is_there(&scene.path("t/d/e/c.tmp")));
    fs::rename(scene.path("s/a"), scene.path("s/b")).unwrap();
    fs::remove_file(scene.path("s/d/b")).unwrap();
    fs::write(scene.path("s/late.tmp"), "x").unwrap();
    scene.settle();
    for (name, there) in [("a", true), ("b", true), ("d/b", true), ("late.tmp", false)] {
        assert_eq!(is_there(&scene.path("t").join(name)), there, "{name}");
    }
    let ended = scene.end(mirror);
    assert_eq!(ended.stderr, "", "no problem is told");
}

#[test]
fn a_source_that_another_directory_replaces_is_opened_anew() {
    let scene = Scene::with_files();
    let mirror = scene.live(&["--no-delete-guard"]);
    fs::rename(scene.path("s"), scene.path("old")).unwrap();
    mirror.wait_for_error_line("the source directory is gone");
    assert!(is_there(&scene.path("t/a")), "nothing is deleted");
    fs::create_dir(scene.path("s")).unwrap();
    fs::write(scene.path("s/other"), "x").unwrap();
    mirror.wait_for_error_line("another directory is under its path now");
    eventually("it comes here", || is_there(&scene.path("t/other")));
    scene.settle();
    assert!(!is_there(&scene.path("t/a")));
    scene.end(mirror);
}

#[test]
fn one_mirror_keeps_a_target_and_no_circle_is_closed() {
    let scene = Scene::with_files();
    let mirror = scene.live(&[]);
    // The same one a second time, and another source.
    let source = format!("{}/", scene.far("s"));
    let twice = scene.mirror(&["--control=second"], &source).wait();
    assert_eq!(twice.code(), 3, "{}", twice.stderr);
    assert!(twice.stderr.contains("mirrors to t already"), "{}", twice.stderr);
    fs::create_dir(scene.path("other")).unwrap();
    let other = scene.mirror(&["--control=second"], &format!("{}/", scene.far("other")));
    other.wait_for_error_line("belongs to another mirror");
    assert_eq!(other.terminate().code(), 0);
    assert!(is_there(&scene.path("t/a")), "another mirror takes nothing away");
    let back = scene.sshd.target(&scene.path("s"));
    let back = scene.here(vec!["mirror", "-e", &scene.ssh, "--control=third", "t/", &back]);
    back.wait_for_error_line("circle");
    assert_eq!(back.terminate().code(), 0);
    scene.end(mirror);
    let nested = scene.mirror(&[], &format!("{}/", scene.far("")));
    nested.wait_for_error_line("one lies within the other");
    assert_eq!(nested.terminate().code(), 0);
}

#[test]
fn what_cannot_be_mirrored_from_there_is_said_at_once_and_what_has_no_sense_is_refused() {
    let scene = Scene::with_files();
    fs::write(scene.path("file"), "x").unwrap();
    let far = format!("{}/", scene.far("s"));
    for (options, source, code, said) in [
        (&[][..], scene.far("missing/"), 3, "no such file or directory (ENOENT)"),
        (&[], scene.far("file/"), 1, "is not a directory"),
        (&["--watch=fanotify"], far.clone(), 1, "--watch=fanotify and a SOURCE on another host"),
        (&["--connections=2"], far.clone(), 1, "--connections and a SOURCE on another host"),
        (&["u/"], far.clone(), 1, "are both on other hosts"),
    ] {
        let refused = match options {
            ["u/"] => scene.here(vec!["mirror", &source, "i:/t"]).wait(),
            options => scene.mirror(options, &source).wait(),
        };
        assert_eq!(refused.code(), code, "{options:?} {source}: {}", refused.stderr);
        assert!(refused.stderr.contains(said), "{options:?} {source}: {}", refused.stderr);
        assert!(!scene.path("t").exists());
    }
    let several = scene.here(vec!["mirror", &far, "t/", "u/"]).wait();
    assert!(several.stderr.contains("several TARGETs and a SOURCE on another host"), "{}", several.stderr);
    let dry = scene.mirror(&["-n", "-v"], &far).wait().succeeded();
    assert!(dry.stdout.contains("d/b") && !scene.path("t").exists(), "{}", dry.stdout);
    // A symlink is followed, as for a source on this host.
    symlink("s", scene.path("sl")).unwrap();
    let mirror = scene.mirror(&[], &format!("{}/", scene.far("sl")));
    mirror.wait_for_line("live");
    scene.end(mirror);
    assert_eq!(listed(&scene.path("s/d")), listed(&scene.path("t/d")));
    let root = format!("--root={}", scene.path("s").display());
    scene.ask(&["promote", "--force", &root]).succeeded();
    let refused = scene.mirror(&[], &far).wait();
    assert_eq!(refused.code(), 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("has a role of a failover"), "{}", refused.stderr);
}

/// A scene whose key runs one command.
fn forced(options: &str) -> Scene {
    let scene = Scene::with_files();
    let keys = scene.sshd.dir().join("authorized_keys");
    let key = fs::read_to_string(&keys).unwrap();
    let root = scene.path("s").display().to_string();
    fs::write(&keys, format!("command=\"{SPEIL} agent --root {root} {options}\",restrict {key}")).unwrap();
    scene
}

#[test]
fn a_key_that_sends_is_watched_below_its_root_and_what_it_hides_is_never_named() {
    let scene = forced("--send --exclude=/hidden --exclude=*.key");
    fs::create_dir(scene.path("s/hidden")).unwrap();
    fs::create_dir(scene.path("outside")).unwrap();
    symlink("../outside", scene.path("s/out")).unwrap();
    let source = format!("{}:", scene.sshd.login());
    let mirror = scene.mirror(&["-vv", "--include=*.key", "--filter=+ /hidden/**"], &source);
    mirror.wait_for_line("live");
    fs::write(scene.path("s/seen"), "x").unwrap();
    fs::write(scene.path("s/hidden/secret"), "x").unwrap();
    fs::write(scene.path("s/d/a.key"), "x").unwrap();
    fs::write(scene.path("outside/secret"), "x").unwrap();
    fs::create_dir_all(scene.path("s/hidden/deep/er")).unwrap();
    fs::remove_dir_all(scene.path("s/hidden/deep")).unwrap();
    scene.settle();
    assert!(
        is_there(&scene.path("t/seen")) && fs::symlink_metadata(scene.path("t/out")).unwrap().is_symlink()
    );
    assert!(!is_there(&scene.path("t/hidden")) && !is_there(&scene.path("t/d/a.key")));
    fs::rename(scene.path("s/seen"), scene.path("s/hidden/seen")).unwrap();
    scene.settle();
    assert!(!is_there(&scene.path("t/seen")), "what is hidden now is gone");
    let status = scene.ask(&["status", "--json"]).succeeded().stdout;
    let ended = scene.end(mirror);
    for text in [&status, &ended.stdout, &ended.stderr] {
        assert!(!["hidden", "a.key", "secret"].iter().any(|name| text.contains(name)), "{text}");
    }
    for outside in ["../outside/", "out/", "/etc/"] {
        let refused = scene.mirror(&[], &format!("{source}{outside}")).wait();
        assert_eq!(refused.code(), 3, "{outside}: {}", refused.stderr);
        assert!(refused.stderr.contains("is not below the directory that this login may read"));
    }
}

#[test]
fn a_directory_that_becomes_a_link_out_of_the_root_shows_nothing_of_what_it_leads_to() {
    let scene = forced("--send");
    fs::create_dir(scene.path("outside")).unwrap();
    fs::write(scene.path("outside/secret"), "x").unwrap();
    let source = format!("{}:d", scene.sshd.login());
    let mirror = scene.mirror(&["-vv", "--no-delete-guard"], &format!("{source}/"));
    mirror.wait_for_line("live");
    fs::rename(scene.path("s/d"), scene.path("s/was")).unwrap();
    symlink("../outside", scene.path("s/d")).unwrap();
    mirror.wait_for_error_line("is not below the directory that this login may read");
    fs::write(scene.path("outside/more"), "x").unwrap();
    assert!(is_there(&scene.path("t/b")), "nothing is deleted either");
    assert!(!is_there(&scene.path("t/secret")) && !is_there(&scene.path("t/more")));
    let ended = scene.end(mirror);
    assert!(!ended.stdout.contains("secret") && !ended.stderr.contains("secret"), "{}", ended.stdout);
}

#[test]
fn a_circle_by_way_of_a_larger_tree_is_seen_by_a_far_side_that_may_not_look_there() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("x/d")).unwrap();
    fs::write(scene.path("x/d/f"), "x").unwrap();
    let (x, s) = (format!("{}/", scene.path("x").display()), scene.sshd.target(&scene.path("s")));
    let agent = format!("--agent={}", agent_command());
    let push = scene.here(vec!["mirror", "-e", &scene.ssh, &agent, "--control=push", &x, &s]);
    push.wait_for_line("live");
    let source = format!("{}/", scene.far("s/d"));
    let pull = scene.here(vec!["mirror", "-e", &scene.ssh, &agent, &source, "x/back/"]);
    pull.wait_for_error_line("circle");
    assert_eq!(pull.terminate().code(), 0);
    assert_eq!(push.terminate().code(), 0);
}

#[test]
fn a_volume_that_is_away_is_no_empty_target_until_somebody_says_so() {
    if !is_root() {
        return;
    }
    let scene = Scene::with_files();
    let volume = Mount::tmpfs(&scene.path("t"), "8m");
    let mirror = scene.live(&[]);
    scene.end(mirror);
    drop(volume);
    let source = format!("{}/", scene.far("s"));
    let mirror = scene.mirror(&[], &source);
    mirror.wait_for_error_line("is empty and on another filesystem");
    assert_eq!(fs::read_dir(scene.path("t")).unwrap().count(), 0);
    scene.ask(&["approve", "--volume", "s", "t"]).succeeded();
    mirror.wait_for_line("live");
    assert_same(&scene.path("s"), &scene.path("t"));
    scene.end(mirror);
}
