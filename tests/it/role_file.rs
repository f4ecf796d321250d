//! `.speil/role` while it is written: whatever ends the writer, or fails under it, leaves the old record or the new.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use speil::role::{Record, Role};
use speil::role_file::RoleFile;

use crate::support::syscalls::{Call, Verdict, Watched, hold};

/// Names the tree whose role a process of this program is to change.
const ROOT: &str = "SPEIL_TEST_ROLE_ROOT";

const WATCHED: [Watched; 10] = [
    (libc::SYS_openat, None),
    (libc::SYS_unlinkat, None),
    (libc::SYS_mkdirat, None),
    (libc::SYS_write, None),
    (libc::SYS_fsync, None),
    (libc::SYS_fdatasync, None),
    (libc::SYS_fchown, None),
    (libc::SYS_renameat, None),
    (libc::SYS_renameat2, None),
    (libc::SYS_flock, None),
];

fn role_file(root: &Path) -> RoleFile {
    let root = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    RoleFile::make(root).unwrap()
}

/// Not a test of its own: what the test below starts as a process.
#[test]
fn changes_a_role_where_it_is_told_to() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let file = role_file(Path::new(&root));
    let next =
        |old: Option<&Record>| old.map(|old| Record { heard: old.heard + 1, mine: true, ..old.clone() });
    if file.update(|old| next(old.unwrap())).is_err() {
        std::process::exit(11);
    }
}

/// Whether a call is about the state directory or a file in it.
fn is_ours(call: &Call, root: &Path) -> bool {
    let by_name =
        [libc::SYS_openat, libc::SYS_unlinkat, libc::SYS_mkdirat, libc::SYS_renameat, libc::SYS_renameat2];
    let path = if by_name.contains(&call.nr) { call.path(0, 1) } else { call.opened(call.fd(0)) };
    path.is_some_and(|path| path.starts_with(root.join(".speil")))
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Kill,
    Fails(i32),
}

/// Runs the writer with a fault at its `nth` call; returns whether there was such a call.
fn write_with(root: &Path, nth: u32, fault: Fault, names: &Arc<Mutex<Vec<libc::c_long>>>) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role_file::changes_a_role_where_it_is_told_to", "--test-threads=1"]);
    command.env(ROOT, root).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let (count, place) = (Arc::new(AtomicU32::new(0)), root.to_owned());
    let (counted, names) = (Arc::clone(&count), Arc::clone(names));
    hold(&mut command, &WATCHED, move |call| {
        if !is_ours(call, &place) || counted.fetch_add(1, Ordering::SeqCst) + 1 != nth {
            return Verdict::Go;
        }
        names.lock().unwrap().push(call.nr);
        match fault {
            Fault::Fails(errno) => Verdict::Fail(errno),
            Fault::Kill => {
                let pid = call.pid().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                Verdict::Go
            }
        }
    });
    let status = command.spawn().unwrap().wait().unwrap();
    let reached = count.load(Ordering::SeqCst) >= nth;
    assert_eq!(status.success(), !reached, "call {nth}: {status}");
    reached
}

#[test]
fn a_writer_that_is_killed_or_fails_at_any_call_leaves_the_old_record_or_the_new() {
    for fault in [Fault::Kill, Fault::Fails(libc::EIO), Fault::Fails(libc::ENOSPC)] {
        let (dir, names) = (tempfile::tempdir().unwrap(), Arc::default());
        let root = dir.path().canonicalize().unwrap();
        let file = role_file(&root);
        let old = Record { role: Role::Standby, ..Record::joined(file.place().unwrap()) };
        let mut nth = 1;
        loop {
            file.update(|_| Some(old.clone())).unwrap();
            let reached = write_with(&root, nth, fault, &names);
            let left = file.read().unwrap_or_else(|error| panic!("call {nth}: {error}")).expect("a role");
            let new = Record { heard: 1, mine: true, ..old.clone() };
            assert!(left == old || left == new, "call {nth}: {left:?}");
            if !reached {
                assert_eq!(left, new, "nothing failed");
                break;
            }
            nth += 1;
        }
        let names: &Mutex<Vec<libc::c_long>> = &names;
        let seen = names.lock().unwrap();
        for call in [libc::SYS_write, libc::SYS_fsync, libc::SYS_renameat, libc::SYS_flock] {
            assert!(seen.contains(&call), "{call} was not among the {} calls", seen.len());
        }
    }
}
