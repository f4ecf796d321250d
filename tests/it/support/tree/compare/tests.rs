//! A comparison that misses something makes every other test worthless: each aspect is shown to be seen.

use std::os::unix::fs::{PermissionsExt, lchown, symlink};

use rustix::fs::{CWD, FileType, Mode, Timespec, XattrFlags};

use super::*;
use crate::support::tree::set_times;

/// Makes `f`, its hard link `g`, the symlink `l`, `d/x` and the fifo `p`, all with one time.
fn make(root: &Path) {
    fs::create_dir_all(root.join("d")).expect("d");
    fs::write(root.join("f"), "content").expect("f");
    fs::hard_link(root.join("f"), root.join("g")).expect("g");
    symlink("nowhere", root.join("l")).expect("l");
    fs::write(root.join("d/x"), "x").expect("d/x");
    rustix::fs::mknodat(CWD, root.join("p"), FileType::Fifo, Mode::from(0o644), 0).expect("p");
    settle(root);
}

fn settle(root: &Path) {
    for name in ["f", "l", "d/x", "d", "p", ""] {
        let _ = set_times(&root.join(name), Timespec { tv_sec: 1_600_000_000, tv_nsec: 5 });
    }
}

/// Returns what differs after `change` was made to the second of two equal trees.
fn seen(change: impl FnOnce(&Path)) -> Vec<(String, Aspect)> {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    make(&a);
    make(&b);
    assert_same(&a, &b);
    change(&b);
    let found = Comparison { holes: true, ..Comparison::default() }.compare(&a, &b);
    found.into_iter().map(|d| (String::from_utf8_lossy(&d.path).into_owned(), d.aspect)).collect()
}

fn only(path: &str, aspect: Aspect) -> Vec<(String, Aspect)> {
    vec![(path.to_owned(), aspect)]
}

#[test]
fn content_of_the_same_length_and_time_is_seen() {
    let change = |root: &Path| {
        fs::write(root.join("d/x"), "y").expect("a write");
        settle(root);
    };
    assert_eq!(seen(change), only("d/x", Aspect::Content));
}

#[test]
fn missing_and_extra_entries_are_seen() {
    let change = |root: &Path| {
        fs::remove_file(root.join("p")).expect("a removal");
        fs::write(root.join("d/new\n"), "").expect("a write");
        settle(root);
    };
    let expected = [("d/new\n".to_owned(), Aspect::Extra), ("p".to_owned(), Aspect::Missing)];
    assert_eq!(seen(change), expected);
}

#[test]
fn nanosecond_of_a_symlink_is_seen() {
    let change = |root: &Path| {
        set_times(&root.join("l"), Timespec { tv_sec: 1_600_000_000, tv_nsec: 6 }).expect("a time");
    };
    assert_eq!(seen(change), only("l", Aspect::Time));
}

#[test]
fn mode_of_the_root_is_seen() {
    let change = |root: &Path| {
        fs::set_permissions(root, fs::Permissions::from_mode(0o2751)).expect("a mode");
    };
    assert_eq!(seen(change), only("", Aspect::Mode));
}

#[test]
fn type_and_symlink_target_are_seen() {
    let change = |root: &Path| {
        fs::remove_file(root.join("l")).expect("a removal");
        symlink("Nowhere", root.join("l")).expect("a symlink");
        fs::remove_file(root.join("p")).expect("a removal");
        fs::write(root.join("p"), "").expect("a write");
        settle(root);
    };
    assert_eq!(seen(change), [("l".to_owned(), Aspect::Link), ("p".to_owned(), Aspect::Type)]);
}

#[test]
fn split_hard_link_is_seen() {
    let change = |root: &Path| {
        fs::remove_file(root.join("g")).expect("a removal");
        fs::copy(root.join("f"), root.join("g")).expect("a copy");
        set_times(&root.join("g"), Timespec { tv_sec: 1_600_000_000, tv_nsec: 5 }).expect("a time");
        settle(root);
    };
    assert_eq!(seen(change), [("f".to_owned(), Aspect::HardLinks), ("g".to_owned(), Aspect::HardLinks)]);
}

#[test]
fn extended_attribute_is_seen_and_an_acl_is_one() {
    let change = |root: &Path| {
        let set = |name: &str, key: &str, value: &[u8]| {
            rustix::fs::lsetxattr(root.join(name), key, value, XattrFlags::empty()).expect("an attribute");
        };
        set("d/x", "user.speil", b"1");
        // Version 2, then owner, user 1, group, mask and others, each with its permissions and id.
        let entries =
            [(1u16, 6u16, u32::MAX), (2, 4, 1), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 4, u32::MAX)];
        let mut acl = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            acl.extend_from_slice(&tag.to_le_bytes());
            acl.extend_from_slice(&permissions.to_le_bytes());
            acl.extend_from_slice(&id.to_le_bytes());
        }
        set("d", "system.posix_acl_default", &acl);
    };
    assert_eq!(seen(change), [("d".to_owned(), Aspect::Xattrs), ("d/x".to_owned(), Aspect::Xattrs)]);
}

#[test]
fn filled_hole_is_seen() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for root in [&a, &b] {
        fs::create_dir(root).expect("a root");
    }
    File::create(a.join("f")).and_then(|file| file.set_len(1 << 20)).expect("a hole");
    fs::write(b.join("f"), vec![0; 1 << 20]).expect("zeros");
    let comparison = Comparison { holes: true, ..Comparison::contents_only() };
    let found: Vec<Aspect> = comparison.compare(&a, &b).iter().map(|d| d.aspect).collect();
    assert_eq!(found, [Aspect::Holes]);
    assert_eq!(comparison.compare(&b, &a), []);
}

#[test]
fn owner_and_group_are_seen() {
    // Only root may give files away; elsewhere the claim cannot be tried.
    if rustix::process::geteuid().is_root() {
        let change = |root: &Path| lchown(root.join("l"), Some(1), Some(2)).expect("an owner");
        assert_eq!(seen(change), [("l".to_owned(), Aspect::Owner), ("l".to_owned(), Aspect::Group)]);
    }
}

#[test]
fn state_directory_in_a_root_is_not_looked_at_and_one_below_is() {
    let change = |root: &Path| {
        fs::create_dir(root.join(".speil")).expect("a state directory");
        fs::create_dir(root.join("d/.speil")).expect("a directory");
        settle(root);
    };
    assert_eq!(seen(change), only("d/.speil", Aspect::Extra));
}

#[test]
fn root_that_is_missing_is_a_difference() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(!compare(dir.path(), &dir.path().join("none")).is_empty());
}
