//! A file with several names is one file, whatever becomes of the name under which it was changed.
//!
//! Events tell of a change under the name that was used for it. The edits here leave size and time as they
//! were: who has not read the file again knows nothing of them.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, Timespec};
use rustix::process::Signal;

use crate::support::command::{Background, holds_within};
use crate::support::stand::{Stand, differences, settled_within, told};
use crate::support::tree::set_times;

/// Sizes of files: one that travels in one message, and one that is sent in pieces.
const SIZES: [usize; 2] = [20, 300_000];

/// Changes bytes in place and puts the time back.
fn edit_unseen(path: &Path) {
    let meta = fs::metadata(path).unwrap();
    File::options().write(true).open(path).unwrap().write_all_at(b"two", 0).unwrap();
    set_times(path, Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() as _ }).unwrap();
}

/// Does something while the daemon sleeps: when it wakes up, all of it has happened.
fn at_once(mirror: &Background, deed: impl FnOnce()) {
    mirror.signal(Signal::STOP);
    deed();
    mirror.signal(Signal::CONT);
}

type Deed = fn(&Path);

/// What happens to `d/g`, another name of `f` that is on both sides.
const DEEDS: &[(&str, Deed)] = &[
    ("changed, removed", |root| {
        edit_unseen(&root.join("d/g"));
        fs::remove_file(root.join("d/g")).unwrap();
    }),
    ("changed, removed with its directory", |root| {
        edit_unseen(&root.join("d/g"));
        fs::remove_dir_all(root.join("d")).unwrap();
    }),
    ("its mode changed, removed", |root| {
        fs::set_permissions(root.join("d/g"), Permissions::from_mode(0o640)).unwrap();
        fs::remove_file(root.join("d/g")).unwrap();
    }),
    ("changed, replaced by a rename", |root| {
        edit_unseen(&root.join("d/g"));
        fs::write(root.join("other"), "three").unwrap();
        fs::rename(root.join("other"), root.join("d/g")).unwrap();
    }),
    ("changed, replaced by what was there before", |root| {
        edit_unseen(&root.join("d/g"));
        fs::rename(root.join("old"), root.join("d/g")).unwrap();
    }),
    ("changed, removed and made again", |root| {
        edit_unseen(&root.join("d/g"));
        fs::remove_file(root.join("d/g")).unwrap();
        fs::write(root.join("d/g"), "three").unwrap();
    }),
    ("changed, made a directory", |root| {
        edit_unseen(&root.join("d/g"));
        fs::remove_file(root.join("d/g")).unwrap();
        fs::create_dir(root.join("d/g")).unwrap();
    }),
    ("changed, moved out of the tree with its directory", |root| {
        edit_unseen(&root.join("d/g"));
        let outside = root.parent().unwrap().with_file_name("outside");
        fs::create_dir_all(&outside).unwrap();
        let name = root.file_name().unwrap();
        fs::rename(root.join("d"), outside.join(name)).unwrap();
    }),
    ("changed, moved, removed", |root| {
        edit_unseen(&root.join("d/g"));
        fs::rename(root.join("d"), root.join("e")).unwrap();
        fs::remove_dir_all(root.join("e")).unwrap();
    }),
    ("moved over an empty directory, changed, removed", |root| {
        fs::create_dir(root.join("e")).unwrap();
        fs::rename(root.join("d"), root.join("e")).unwrap();
        edit_unseen(&root.join("e/g"));
        fs::remove_dir_all(root.join("e")).unwrap();
    }),
    ("changed, its directory replaced by another", |root| {
        edit_unseen(&root.join("d/g"));
        fs::remove_file(root.join("d/g")).unwrap();
        fs::create_dir(root.join("e")).unwrap();
        fs::rename(root.join("e"), root.join("d")).unwrap();
    }),
    ("changed, the other name moved, removed", |root| {
        edit_unseen(&root.join("d/g"));
        fs::rename(root.join("f"), root.join("h")).unwrap();
        fs::remove_file(root.join("d/g")).unwrap();
    }),
    ("removed after the other name was moved and changed back and forth", |root| {
        edit_unseen(&root.join("d/g"));
        fs::rename(root.join("f"), root.join("h")).unwrap();
        fs::remove_dir_all(root.join("d")).unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::rename(root.join("h"), root.join("d/f")).unwrap();
    }),
    ("changed, changes places with another file", |root| {
        edit_unseen(&root.join("d/g"));
        rustix::fs::renameat_with(CWD, root.join("old"), CWD, root.join("d/g"), RenameFlags::EXCHANGE)
            .unwrap();
        fs::remove_file(root.join("old")).unwrap();
    }),
];

fn plant(root: &Path, size: usize) {
    fs::create_dir_all(root.join("d")).unwrap();
    fs::write(root.join("f"), vec![b'1'; size]).unwrap();
    fs::hard_link(root.join("f"), root.join("d/g")).unwrap();
    fs::write(root.join("old"), "old").unwrap();
}

#[test]
fn a_change_under_a_name_that_goes_at_once_reaches_the_other_names() {
    let stand = Stand::new();
    let cases: Vec<_> = SIZES.iter().flat_map(|size| DEEDS.iter().map(move |deed| (*size, deed))).collect();
    let root = |at: usize| stand.source().join(at.to_string());
    for (at, (size, _)) in cases.iter().enumerate() {
        plant(&root(at), *size);
    }
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    assert_eq!(told(&differences(&stand.source(), &stand.target("standby"))), "");
    for (at, (size, (what, deed))) in cases.iter().enumerate() {
        at_once(&mirror, || deed(&root(at)));
        let different = || differences(&root(at), &stand.target("standby").join(at.to_string()));
        let same = holds_within(settled_within(), || different().is_empty());
        assert!(same, "{what}, {size} bytes: {}\n{:?}", told(&different()), mirror.stderr());
    }
    mirror.terminate();
}
