//! A verb that is killed at any system call on the state directory leaves the old role or the new one, and can be typed
//! again.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{BERGEN, Hosts, OSLO};
use crate::support::syscalls::{Call, Verdict, Watched, hold};

pub(super) const WATCHED: [Watched; 10] = [
    (libc::SYS_openat, None),
    (libc::SYS_unlinkat, None),
    (libc::SYS_mkdirat, None),
    (libc::SYS_write, None),
    (libc::SYS_pwrite64, None),
    (libc::SYS_fsync, None),
    (libc::SYS_fdatasync, None),
    (libc::SYS_renameat, None),
    (libc::SYS_renameat2, None),
    (libc::SYS_flock, None),
];

pub(super) fn is_ours(call: &Call, state: &std::path::Path) -> bool {
    let by_name =
        [libc::SYS_openat, libc::SYS_unlinkat, libc::SYS_mkdirat, libc::SYS_renameat, libc::SYS_renameat2];
    let path = if by_name.contains(&call.nr) { call.path(0, 1) } else { call.opened(call.fd(0)) };
    path.is_some_and(|path| path.starts_with(state))
}

/// Runs a verb that is killed at its `nth` call; returns whether there was such a call.
fn killed(hosts: &Hosts, host: &str, verb: &str, nth: u32) -> bool {
    let root = hosts.tree(host).canonicalize().unwrap();
    let mut command = hosts.environment.speil([verb, "--root", &root.display().to_string()]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let (count, state) = (Arc::new(AtomicU32::new(0)), root.join(".speil"));
    let counted = Arc::clone(&count);
    hold(&mut command, &WATCHED, move |call| {
        if is_ours(call, &state) && counted.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            let pid = call.pid().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        Verdict::Go
    });
    let status = command.spawn().unwrap().wait().unwrap();
    let reached = count.load(Ordering::SeqCst) >= nth;
    assert_eq!(status.success(), !reached, "{verb}, call {nth}: {status}");
    reached
}

#[test]
fn a_verb_that_is_killed_at_any_call_leaves_the_old_role_or_the_new_and_is_typed_again() {
    let hosts = Hosts::new();
    hosts.set_up().into_iter().for_each(|daemon| drop(daemon.terminate()));
    for (verb, host, before, after) in [
        ("promote", BERGEN, ["role standby", "generation 1 "], ["role primary", "generation 2 "]),
        ("demote", OSLO, ["role primary", "generation 1 "], ["role standby", "generation 1 "]),
    ] {
        let path = hosts.tree(host).join(".speil/role");
        let old = fs::read_to_string(&path).unwrap();
        let has = |wanted: [&str; 2]| {
            let role = hosts.role(host);
            wanted.iter().all(|part| role.contains(part))
        };
        assert!(has(before), "{old}");
        let mut nth = 1;
        loop {
            fs::write(&path, &old).unwrap();
            let reached = killed(&hosts, host, verb, nth);
            assert!(has(before) || has(after), "{verb}, call {nth}: {}", hosts.role(host));
            if !reached {
                assert!(has(after), "nothing was killed");
                break;
            }
            hosts.verb(host, &[verb]).succeeded();
            assert!(has(after), "{verb}, after call {nth}: {}", hosts.role(host));
            nth += 1;
        }
        assert!(nth > 20, "{verb} has only {nth} calls");
    }
}
