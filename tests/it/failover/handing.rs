//! A planned switch by one command on the host that shall lead: its primary hands over within the session.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::apart::edit_unseen;
use super::kills::{WATCHED, is_ours};
use super::{ALL, BERGEN, Hosts, OSLO, TROMSO};
use crate::support::command::{Background, Outcome, eventually};
use crate::support::syscalls::{Verdict, hold};

impl Hosts {
    /// Whether two trees remember one hand-over.
    fn remember_one(&self, one: &str, other: &str) -> bool {
        let handed = |host: &str| {
            let cuts = self.read(host, ".speil/cuts").unwrap_or_default();
            let of = |line: &str| Some(line.strip_suffix(" 1 1")?.rsplit(' ').next()?.to_owned());
            cuts.lines().rev().find_map(of)
        };
        handed(one).is_some() && handed(one) == handed(other)
    }

    /// How many of two hosts lead.
    fn lead(&self, hosts: [&str; 2]) -> usize {
        hosts.iter().filter(|host| self.role(host).contains("role primary")).count()
    }
}

fn handed_over(promoted: &Outcome) -> bool {
    promoted.stderr.contains("has handed over: everything that it had is here")
}

#[test]
fn a_planned_switch_is_one_command_on_the_new_primary_and_so_is_the_way_back() {
    let hosts = Hosts::new();
    (0..50).for_each(|at| hosts.write(OSLO, &format!("old-{at}"), "there before"));
    let daemons = hosts.set_up();
    for (n, from, to) in [(2, OSLO, BERGEN), (3, BERGEN, OSLO)] {
        // Nobody waits for these: they are sent with what is left.
        for at in 0..200 {
            hosts.write(from, &format!("{from}-{at}"), &format!("{from} {at}"));
        }
        // As soon as it is fit: it need not wait for anything since the switch before.
        let fit = || hosts.verb(to, &["promote", "-n"]).status.success();
        eventually("the standby is fit", fit);
        let promoted = hosts.verb(to, &["promote"]).succeeded();
        assert!(handed_over(&promoted), "{promoted:?}");
        assert!(
            promoted.stdout.contains(&format!("is primary of generation {n}, a new one")),
            "{promoted:?}"
        );
        for at in 0..200 {
            let there = hosts.read(to, &format!("{from}-{at}"));
            assert_eq!(there, Some(format!("{from} {at}")), "{from}-{at} was there before the promotion");
        }
        eventually("both remember it", || hosts.remember_one(from, to));
        for standby in ALL.iter().filter(|host| **host != to) {
            eventually("a standby follows", || hosts.follows(standby, n));
            hosts.assert_equal(to, standby);
        }
    }
    assert!(hosts.nothing_kept());
    for name in ["handover", "handed"] {
        assert!(!hosts.tree(OSLO).join(".speil").join(name).exists(), "{name} is left");
    }
    // Oslo has handed over a moment ago: it is taken over, and told so.
    hosts.write(OSLO, "last", "the last upload");
    eventually("an upload", || hosts.read(BERGEN, "last").is_some());
    let asked = hosts.verb(BERGEN, &["promote", "--wait=10s"]);
    assert_eq!(asked.status.code(), Some(30), "{asked:?}");
    assert!(asked.stderr.contains("and does so once a minute; nothing was changed"), "{asked:?}");
    assert!(
        asked.stderr.contains("type it again in") && asked.stderr.contains("takes over at once"),
        "{asked:?}"
    );
    assert!(hosts.role(OSLO).contains("role primary") && hosts.follows(BERGEN, 3));
    let taken = hosts.verb(BERGEN, &["promote"]).succeeded();
    assert!(taken.stderr.contains("taken over without a hand-over: "), "{taken:?}");
    eventually("the old primary knows", || hosts.role(OSLO).contains("known 4 "));
    for daemon in daemons {
        daemon.terminate();
    }
}

#[test]
fn a_primary_that_is_silent_or_paused_is_not_waited_for_unless_somebody_says_so() {
    let hosts = Hosts::new();
    let [oslo, bergen, tromso] = hosts.set_up();
    hosts.write(OSLO, "upload", "an upload");
    eventually("an upload", || hosts.read(BERGEN, "upload").is_some());
    hosts.environment.run(["pause", &hosts.control(OSLO)]).succeeded();
    let paused = hosts.verb(BERGEN, &["promote", "--wait=10s"]);
    assert_eq!(paused.status.code(), Some(30), "{paused:?}");
    assert!(paused.stderr.contains("is paused and sends nothing; nothing was changed"), "{paused:?}");
    assert!(paused.stderr.contains("`speil resume` on "), "{paused:?}");
    hosts.environment.run(["resume", &hosts.control(OSLO)]).succeeded();
    oslo.signal(Signal::STOP);
    let silent = hosts.verb(BERGEN, &["promote", "--wait=10s"]);
    assert_eq!(silent.status.code(), Some(30), "{silent:?}");
    assert!(silent.stderr.contains("does not answer; nothing was changed"), "{silent:?}");
    assert!(silent.stderr.contains("nobody leads until this is typed: `speil promote --root"), "{silent:?}");
    assert!(hosts.follows(BERGEN, 1));
    let taken = hosts.verb(BERGEN, &["promote"]).succeeded();
    assert!(taken.stdout.contains("is primary of generation 2"), "{taken:?}");
    // What it was asked it hears now, and finds that it leads no more.
    oslo.signal(Signal::CONT);
    eventually("the old primary knows", || hosts.role(OSLO).contains("known 2 "));
    assert_eq!(hosts.read(BERGEN, "upload").as_deref(), Some("an upload"));
    for daemon in [oslo, bergen, tromso] {
        daemon.terminate();
    }
}

/// Oslo leads, bergen is in step.
fn pair(hosts: &Hosts) -> [Background; 2] {
    hosts.verb(BERGEN, &["demote"]).succeeded();
    hosts.verb(OSLO, &["promote", "--force"]).succeeded();
    let daemons = [OSLO, BERGEN].map(|host| hosts.start_to(host, &[OSLO, BERGEN]));
    eventually("a standby in step", || hosts.follows(BERGEN, 1));
    daemons
}

#[test]
fn a_promotion_that_is_killed_while_it_is_handed_over_leaves_one_primary_or_none_and_is_typed_again() {
    for nth in (1..).step_by(6) {
        let hosts = Hosts::new();
        let daemons = pair(&hosts);
        hosts.write(OSLO, "upload", "an upload");
        let root = hosts.tree(BERGEN).canonicalize().unwrap();
        let mut command = hosts.environment.speil(["promote", "--root", &root.display().to_string()]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let (count, state) = (Arc::new(AtomicU32::new(0)), root.join(".speil"));
        let counted = Arc::clone(&count);
        hold(&mut command, &WATCHED, move |call| {
            if is_ours(call, &state) && counted.fetch_add(1, Ordering::SeqCst) + 1 == nth {
                let pid = call.pid().and_then(|pid| Pid::from_raw(pid as i32)).unwrap();
                kill_process(pid, Signal::KILL).unwrap();
            }
            Verdict::Go
        });
        command.spawn().unwrap().wait().unwrap();
        let reached = count.load(Ordering::SeqCst) >= nth;
        assert!(hosts.lead([OSLO, BERGEN]) <= 1, "call {nth}: {}", hosts.role(OSLO));
        if hosts.lead([OSLO, BERGEN]) == 0 {
            // Whoever is woken types it on the old primary first.
            let refused = hosts.verb(OSLO, &["promote"]);
            assert_eq!(refused.status.code(), Some(3), "call {nth}: {refused:?}");
            assert!(refused.stderr.contains("makes that one primary, if nobody leads yet"), "{refused:?}");
        }
        hosts.verb(BERGEN, &["promote"]).succeeded();
        assert!(hosts.role(BERGEN).contains("role primary"), "call {nth}");
        hosts.verb(OSLO, &["demote"]).succeeded();
        eventually("the old primary follows", || hosts.follows(OSLO, 2));
        hosts.assert_equal(BERGEN, OSLO);
        let kept = hosts.kept(OSLO);
        let there = hosts.read(BERGEN, "upload").is_some() || kept.contains_key("upload");
        assert!(there, "call {nth}: the upload is lost");
        for daemon in daemons {
            daemon.terminate();
        }
        if !reached {
            assert!(nth > 30, "a promotion has only {nth} calls");
            break;
        }
    }
}

#[test]
fn a_primary_that_is_killed_while_it_hands_over_leaves_one_primary() {
    // At the flush of the directory behind the rename of its role, and at that of the file before.
    for renamed in [true, false] {
        let hosts = Hosts::new();
        hosts.verb(BERGEN, &["demote"]).succeeded();
        hosts.verb(OSLO, &["promote", "--force"]).succeeded();
        let config = hosts.config(OSLO, &[OSLO, BERGEN]).display().to_string();
        let mut command = hosts.environment.speil(["run", &hosts.control(OSLO), &config]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let state = hosts.tree(OSLO).canonicalize().unwrap().join(".speil");
        let armed = Arc::new(AtomicBool::new(false));
        let (arms, role) = (Arc::clone(&armed), state.join("role"));
        let seen = AtomicBool::new(false);
        let calls = [(libc::SYS_renameat, None), (libc::SYS_renameat2, None), (libc::SYS_fsync, None)];
        hold(&mut command, &calls, move |call| {
            if !arms.load(Ordering::SeqCst) {
                return Verdict::Go;
            }
            let renames = call.nr != libc::SYS_fsync && call.path(2, 3).is_some_and(|path| path == role);
            let was = seen.fetch_or(renames, Ordering::SeqCst);
            let flushed = || call.opened(call.fd(0)).is_some_and(|path| path.ends_with("role.new"));
            let dies = if renamed { was } else { call.nr == libc::SYS_fsync && flushed() };
            if dies {
                let pid = call.pid().and_then(|pid| Pid::from_raw(pid as i32)).unwrap();
                kill_process(pid, Signal::KILL).unwrap();
            }
            Verdict::Go
        });
        let mut oslo = command.spawn().unwrap();
        let bergen = hosts.start_to(BERGEN, &[OSLO, BERGEN]);
        eventually("a standby in step", || hosts.follows(BERGEN, 1));
        armed.store(true, Ordering::SeqCst);
        let promoted = hosts.verb(BERGEN, &["promote"]).succeeded();
        assert!(promoted.stderr.contains("has ended"), "{promoted:?}");
        oslo.wait().unwrap();
        assert_eq!(hosts.role(OSLO).contains("role standby"), renamed, "{}", hosts.role(OSLO));
        assert!(hosts.role(BERGEN).contains("role primary") && hosts.role(BERGEN).contains("generation 2 "));
        // It boots, and leads nothing.
        let oslo = hosts.start_to(OSLO, &[OSLO, BERGEN]);
        eventually("the old primary knows", || {
            hosts.role(OSLO).contains("known 2 ") || hosts.follows(OSLO, 2)
        });
        hosts.verb(OSLO, &["demote"]).succeeded();
        eventually("the old primary follows", || hosts.follows(OSLO, 2));
        for daemon in [oslo, bergen] {
            daemon.terminate();
        }
    }
}

#[test]
fn what_is_doubtful_is_verified_before_it_is_handed_over() {
    let hosts = Hosts::new();
    hosts.verb(BERGEN, &["demote"]).succeeded();
    hosts.verb(OSLO, &["promote", "--force"]).succeeded();
    for at in 0..50 {
        hosts.write(OSLO, &format!("old-{at}"), &format!("one {at}"));
    }
    let oslo = hosts.start_with(OSLO, "watch = \"inotify\"");
    let bergen = hosts.start_to(BERGEN, &[OSLO, BERGEN]);
    eventually("a standby in step", || hosts.follows(BERGEN, 1));
    // An edit that keeps size and time, while so much happens that the queue of events runs over.
    oslo.signal(Signal::STOP);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let noise = ["noise", "more"].map(|name| hosts.tree(OSLO).join(name));
    noise.iter().for_each(|path| fs::write(path, "").unwrap());
    for at in 0..limit.trim().parse::<usize>().unwrap() + 100 {
        let mode = if at / 2 % 2 == 0 { 0o600 } else { 0o640 };
        fs::set_permissions(&noise[at % 2], fs::Permissions::from_mode(mode)).unwrap();
    }
    edit_unseen(&hosts.tree(OSLO).join("old-7"), "two 7");
    oslo.signal(Signal::CONT);
    let promoted = hosts.verb(BERGEN, &["promote", "--wait=60s"]).succeeded();
    assert!(handed_over(&promoted), "{promoted:?}");
    assert_eq!(hosts.read(BERGEN, "old-7").as_deref(), Some("two 7"));
    for daemon in [oslo, bergen] {
        daemon.terminate();
    }
}

#[test]
fn what_is_written_while_it_is_handed_over_is_on_the_new_primary_or_kept_aside() {
    let hosts = Hosts::new();
    let daemons = pair(&hosts);
    let stops = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writes = scope.spawn(|| {
            let mut count = 0;
            while !stops.load(Ordering::SeqCst) {
                hosts.write(OSLO, &format!("upload-{count}"), &format!("the upload {count}"));
                count += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            count
        });
        eventually("uploads", || hosts.read(BERGEN, "upload-100").is_some());
        let promoted = hosts.verb(BERGEN, &["promote"]).succeeded();
        assert!(handed_over(&promoted), "{promoted:?}");
        stops.store(true, Ordering::SeqCst);
        writes.join().unwrap()
    });
    eventually("the old primary follows", || hosts.follows(OSLO, 2));
    hosts.assert_equal(BERGEN, OSLO);
    let kept = hosts.kept(OSLO);
    for at in 0..written {
        let (name, text) = (format!("upload-{at}"), format!("the upload {at}"));
        let there = hosts.read(BERGEN, &name).as_ref() == Some(&text);
        assert!(there || kept.get(&name).is_some_and(|kept| kept.contains(&text)), "{name} is lost");
    }
    assert!(fs::read_dir(hosts.tree(TROMSO)).unwrap().next().is_none());
    for daemon in daemons {
        daemon.terminate();
    }
}
