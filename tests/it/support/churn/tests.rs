//! An editor that does little proves little: what it does is shown here.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::support::command::{Background, Environment};
use crate::support::tree::{Comparison, assert_same};

const STEPS: usize = 3_000;

/// Returns a directory, on tmpfs where there is one: it knows holes, attributes and ACLs.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

#[test]
fn three_thousand_edits_do_everything_and_leave_a_varied_tree() {
    let dir = scratch();
    let mut churn = Churn::new(1, dir.path());
    let mut most = 0;
    for _ in 0..STEPS {
        churn.step();
        most = most.max(churn.entries.len());
    }
    churn.close();
    assert!((100..ENTRIES_MAX * 2).contains(&most), "{most} entries at most");
    for (name, _, _) in OPERATIONS {
        let tally = churn.tally().get(name).copied().unwrap_or_default();
        // Only root may give files away.
        let may = *name != "change an owner" || rustix::process::geteuid().is_root();
        assert!(tally.done > 0 || !may, "{name}: never done, {tally:?}");
    }
    let done: usize = churn.tally().values().map(|tally| tally.done).sum();
    assert!(done * 10 > STEPS * 7, "only {done} were done: {:?}", churn.tally());

    churn.list();
    let names: Vec<&[u8]> =
        churn.entries.iter().filter_map(|(path, _)| Some(path.file_name()?.as_bytes())).collect();
    assert!(names.iter().any(|name| std::str::from_utf8(name).is_err()), "a name that is no UTF-8");
    assert!(names.iter().any(|name| name.contains(&b'\n') || name.starts_with(b"-")), "an odd name");
    let metas = churn.entries.iter().filter_map(|(path, _)| path.symlink_metadata().ok());
    let types: BTreeSet<u32> = metas.map(|meta| meta.mode() & libc::S_IFMT).collect();
    assert!(types.len() >= 4, "files, directories, symlinks and fifos, not {types:?}");
}

#[test]
fn same_seed_makes_the_same_tree() {
    let (a, b) = (scratch(), scratch());
    for dir in [&a, &b] {
        Churn::new(77, dir.path()).run(1_000);
    }
    let comparison = Comparison { times: false, ..Comparison::default() };
    assert_eq!(comparison.compare(a.path(), b.path()), []);
}

#[test]
fn nothing_outside_the_root_is_touched() {
    let dir = scratch();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("a root");
    Churn::new(5, &root).run(1_000);
    let beside: Vec<_> = std::fs::read_dir(dir.path()).expect("a listing").flatten().collect();
    assert_eq!(beside.len(), 1);
}

#[test]
fn rsync_with_every_option_copies_a_churned_tree_without_a_difference() {
    let (from, to) = (scratch(), scratch());
    Churn::new(3, from.path()).run(STEPS);
    let mut rsync = Environment::new().command("rsync");
    // Without the window rsync takes times within one second for equal.
    rsync
        .args(["-aHAXS", "--numeric-ids", "--modify-window=-1", "--"])
        .arg(from.path().join(""))
        .arg(to.path());
    let _ = Background::spawn(rsync).wait().succeeded();
    assert_same(from.path(), to.path());
}
