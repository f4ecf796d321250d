//! The same changes, told by rsync and by [`Format`].

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use super::super::*;
use crate::tree::{Kind, Time};

/// Runs rsync and returns its lines; `None` where there is no rsync.
fn rsync(options: &[&str], source: &Path, target: &Path) -> Option<Vec<String>> {
    let slash = |path: &Path| format!("{}/", path.display());
    let output = Command::new("rsync").args(options).arg(slash(source)).arg(slash(target)).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().filter(|line| !line.starts_with("created directory")).map(str::to_owned).collect())
}

fn line(update: Update, kind: Kind, changed: Changed, name: &[u8], link: Option<&str>) -> String {
    let line = Line {
        item: Item { update, kind, changed },
        operation: if update == Update::Deleted { Operation::Delete } else { Operation::Send },
        name,
        source: b"",
        meta: None,
        link: link.map(str::as_bytes),
        bytes: 0,
        now: Time { secs: 0, nanos: 0 },
        pid: 0,
    };
    String::from_utf8(Format::itemized().render(&line, false)).unwrap()
}

fn set_time(path: &Path, secs: u64) {
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(secs);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

const NONE: Changed = Changed {
    new: false,
    value: false,
    size: false,
    time: ItemTime::Same,
    perms: false,
    owner: false,
    group: false,
    acl: false,
    xattrs: false,
};
const NEW: Changed = Changed { new: true, ..NONE };
const TIME: Changed = Changed { time: ItemTime::Source, ..NONE };

#[test]
fn new_entries_are_told_as_rsync_tells_them() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
    fs::create_dir_all(source.join("d")).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(source.join("a"), "hi").unwrap();
    fs::hard_link(source.join("a"), source.join("z")).unwrap();
    symlink("a", source.join("l")).unwrap();
    fs::write(source.join("n\n\\#012é"), "x").unwrap();
    set_time(&target, 1);
    let Some(lines) = rsync(&["-aHi"], &source, &target) else {
        eprintln!("SKIPPED: no rsync on this host");
        return;
    };
    for expected in [
        line(Update::Kept, Kind::Dir, TIME, b"", None),
        line(Update::Received, Kind::File, NEW, b"z", None),
        line(Update::Made, Kind::Dir, NEW, b"d", None),
        line(Update::Made, Kind::Symlink, NEW, b"l", Some("a")),
        line(Update::Linked, Kind::File, NEW, b"a", Some("z")),
        line(Update::Received, Kind::File, NEW, "n\n\\#012é".as_bytes(), None),
    ] {
        assert!(lines.contains(&expected), "{expected:?} is not among {lines:#?}");
    }
    assert_eq!(lines.len(), 6, "{lines:#?}");
}

#[test]
fn changed_entries_are_told_as_rsync_tells_them() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
    fs::create_dir_all(source.join("d")).unwrap();
    for name in ["grown", "touched", "mode", "same", "d/in", "group"] {
        fs::write(source.join(name), "hi").unwrap();
    }
    symlink("a", source.join("l")).unwrap();
    if rsync(&["-a"], &source, &target).is_none() {
        eprintln!("SKIPPED: no rsync on this host");
        return;
    }
    fs::write(target.join("extra"), "").unwrap();
    fs::create_dir(target.join("old")).unwrap();
    fs::write(source.join("grown"), "hi there").unwrap();
    set_time(&source.join("grown"), 5);
    set_time(&source.join("touched"), 5);
    set_time(&source.join("d"), 5);
    fs::set_permissions(source.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(source.join("l")).unwrap();
    symlink("other", source.join("l")).unwrap();
    // A group that this user may not set is not told as set.
    let regrouped = chown(source.join("group"), None, Some(12_345)).is_ok();
    let lines = rsync(&["-aii", "--delete"], &source, &target).unwrap();

    let mut expected = vec![
        line(Update::Received, Kind::File, Changed { size: true, ..TIME }, b"grown", None),
        line(Update::Received, Kind::File, TIME, b"touched", None),
        line(Update::Kept, Kind::File, Changed { perms: true, ..NONE }, b"mode", None),
        line(Update::Kept, Kind::File, NONE, b"same", None),
        line(Update::Kept, Kind::File, NONE, b"d/in", None),
        line(Update::Kept, Kind::Dir, TIME, b"d", None),
        line(Update::Deleted, Kind::File, NONE, b"extra", None),
        line(Update::Deleted, Kind::Dir, NONE, b"old", None),
    ];
    if regrouped {
        expected.push(line(Update::Kept, Kind::File, Changed { group: true, ..NONE }, b"group", None));
    }
    for expected in &expected {
        assert!(lines.contains(expected), "{expected:?} is not among {lines:#?}");
    }
    // Whether the times of the two symlinks differ is the clock's affair.
    let links = [NONE, TIME].map(|changed| {
        line(Update::Made, Kind::Symlink, Changed { value: true, ..changed }, b"l", Some("other"))
    });
    assert!(links.iter().any(|link| lines.contains(link)), "{links:?} are not among {lines:#?}");
}

#[test]
fn checksums_and_transfer_times_are_told_as_rsync_tells_them() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("a"), "one").unwrap();
    fs::write(source.join("b"), "two").unwrap();
    if rsync(&["-a"], &source, &target).is_none() {
        eprintln!("SKIPPED: no rsync on this host");
        return;
    }
    // Same size, same time, other bytes: only a checksum tells.
    let kept = fs::metadata(source.join("a")).unwrap().modified().unwrap();
    let open = fs::OpenOptions::new().write(true).open(source.join("a")).unwrap();
    open.write_all_at(b"ONE", 0).unwrap();
    open.set_modified(kept).unwrap();
    let checked = rsync(&["-aic"], &source, &target).unwrap();
    let value = Changed { value: true, ..NONE };
    assert!(checked.contains(&line(Update::Received, Kind::File, value, b"a", None)), "{checked:#?}");

    fs::write(source.join("b"), "three").unwrap();
    set_time(&source.join("b"), 5);
    let untimed = rsync(&["-ri"], &source, &target).unwrap();
    let sized = Changed { size: true, time: ItemTime::Transfer, ..NONE };
    assert!(untimed.contains(&line(Update::Received, Kind::File, sized, b"b", None)), "{untimed:#?}");
}
