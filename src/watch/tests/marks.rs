//! Since when what is told of may have been changed.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, RenameFlags};

use crate::config::Backend;
use crate::disk::stamps_changes;
use crate::event::{EventKind, Moment, RescanReason};
use crate::tree::RelPath;

use super::super::{dirfd, fanotify};
use super::rig::{MEMORY, Rig, own, path, unmount};

/// Returns the change time of a name, in nanoseconds since 1970.
fn changed(path: &Path) -> i64 {
    let meta = fs::symlink_metadata(path).unwrap();
    meta.ctime() * 1_000_000_000 + meta.ctime_nsec()
}

/// Returns the events of a path, each with the least change time that it allows for, as the coarsest filesystem
/// shows it.
fn told(rig: &Rig, at: &RelPath) -> Vec<(EventKind, i64)> {
    let moments = rig.log.moments.lock().unwrap();
    let of_path = moments.events.iter().filter(|(kind, _)| kind.path() == at);
    of_path.map(|(kind, change)| (kind.clone(), stamp(moments.offsets.stamp(*change).unwrap()))).collect()
}

fn stamp(nanos: i64) -> i64 {
    nanos.div_euclid(1_000_000_000) * 1_000_000_000
}

/// Puts the modification time back.
fn put_back(path: &Path) {
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// Everything that may be done to a file, by name; each leaves it under the second one.
type Deed = fn(&Path, &Path);
const DEEDS: &[(&str, Deed)] = &[
    ("made", |_, at| fs::write(at, "one").unwrap()),
    ("written", |_, at| {
        File::options().write(true).open(at).unwrap().write_all_at(b"two", 0).unwrap();
    }),
    ("written, its time put back", |_, at| {
        File::options().write(true).open(at).unwrap().write_all_at(b"six", 0).unwrap();
        put_back(at);
    }),
    ("its time put back", |_, at| put_back(at)),
    ("its mode set", |_, at| fs::set_permissions(at, Permissions::from_mode(0o640)).unwrap()),
    ("cut", |_, at| File::options().write(true).open(at).unwrap().set_len(1).unwrap()),
    ("linked", |other, at| fs::hard_link(at, other).unwrap()),
    ("its other name removed", |other, _| fs::remove_file(other).unwrap()),
    ("renamed", |other, at| {
        fs::rename(at, other).unwrap();
        fs::rename(other, at).unwrap();
    }),
    ("replaced", |other, at| {
        fs::write(other, "new").unwrap();
        fs::rename(other, at).unwrap();
    }),
    ("exchanged", |other, at| {
        fs::write(other, "new").unwrap();
        rustix::fs::renameat_with(CWD, other, CWD, at, RenameFlags::EXCHANGE).unwrap();
        fs::remove_file(other).unwrap();
    }),
    ("made a directory", |_, at| {
        fs::remove_file(at).unwrap();
        fs::create_dir(at).unwrap();
    }),
    ("renamed as a directory", |other, at| {
        fs::rename(at, other).unwrap();
        fs::rename(other, at).unwrap();
    }),
];

/// Does everything to a file, and asserts of each that its change time says so, and that what is told of it allows
/// for that.
fn check(rig: &mut Rig) {
    let (at, other) = (rig.at("file"), rig.at("other"));
    for (what, deed) in DEEDS {
        let before = rig.log.moments.lock().unwrap().events.len();
        let (began, reading) = crate::disk::mark();
        deed(&other, &at);
        let changed = changed(&at);
        let mut offsets = rig.log.moments.lock().unwrap().offsets.clone();
        offsets.add(reading);
        assert!(changed >= stamp(offsets.stamp(began).unwrap()), "{what}: its change time is earlier");
        rig.settle();
        let moments = rig.log.moments.lock().unwrap();
        assert!(moments.events.len() > before, "{what}: nothing is told");
        for (kind, change) in &moments.events[before..] {
            let least = stamp(moments.offsets.stamp(*change).unwrap());
            assert!(least <= changed, "{what}: {kind:?} allows for {least}, it was {changed}");
        }
    }
}

#[test]
fn what_is_told_allows_for_the_change_time_of_whatever_was_done() {
    for backend in own() {
        check(&mut Rig::start(backend, |_| {}));
    }
}

/// A filesystem in a file, or over directories; unmounted with this.
struct Mounted {
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

/// Makes a filesystem; `None`, with a line that says why, where that is not to be had here.
fn mounted(kind: &str) -> Option<Mounted> {
    let dir = tempfile::tempdir_in(MEMORY).unwrap();
    let at = dir.path().join("mount");
    fs::create_dir(&at).unwrap();
    let image = dir.path().join("image");
    let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let mut mount = Command::new("mount");
    match kind {
        "tmpfs" => mount.args(["-t", "tmpfs", "speil-test"]),
        "overlay" => {
            ["lower", "upper", "work"].iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
            let name = |name: &str| dir.path().join(name).display().to_string();
            let layers =
                format!("lowerdir={},upperdir={},workdir={}", name("lower"), name("upper"), name("work"));
            mount.args(["-t", "overlay", "speil-test", "-o", &layers])
        }
        _ => {
            File::create(&image).unwrap().set_len(512 << 20).unwrap();
            let force = if matches!(kind, "xfs" | "btrfs" | "f2fs") { "-f" } else { "-F" };
            if !run(Command::new(format!("mkfs.{kind}")).arg(force).arg(&image)) {
                eprintln!("skipped: {kind}, since mkfs.{kind} is missing or fails here");
                return None;
            }
            mount.args(["-t", kind, "-o", "loop"]).arg(&image)
        }
    };
    if run(mount.arg(&at)) {
        return Some(Mounted { at, _dir: dir });
    }
    eprintln!("skipped: {kind}, since it cannot be mounted here");
    None
}

/// Each of the filesystems whose change times are relied on.
#[test]
fn the_filesystems_that_are_relied_on_set_change_times_and_tell_of_changes() {
    for kind in ["tmpfs", "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "overlay"] {
        let Some(mounted) = mounted(kind) else { continue };
        assert!(stamps_changes(File::open(&mounted.at).unwrap()), "{kind} is not relied on");
        let marked = own().contains(&Backend::Fanotify) && fanotify::check(&mounted.at).is_ok();
        for backend in [Backend::Inotify, Backend::Fanotify].into_iter().take(1 + usize::from(marked)) {
            eprintln!("{kind}, {backend:?}");
            check(&mut Rig::on(backend, &mounted.at));
        }
        let born = dirfd::born_at(File::open(&mounted.at).unwrap(), b"");
        eprintln!("{kind} tells when a directory was made: {}", born.is_some());
    }
}

/// Makes the backend's queue run over while it stands still.
fn overflow(rig: &Rig, deed: impl FnOnce()) {
    let limit = |path: &str| fs::read_to_string(path).unwrap().trim().parse::<usize>().unwrap();
    let gate = rig.log.gate.lock().unwrap();
    let count = match rig.backend {
        Backend::Fanotify => limit("/proc/sys/fs/fanotify/max_queued_events"),
        _ => limit("/proc/sys/fs/inotify/max_queued_events"),
    };
    // The kernel joins events of one file.
    (0..count + 1000).for_each(|at| drop(File::create(rig.at(&format!("noise/{at}"))).unwrap()));
    deed();
    drop(gate);
    rig.wait("the overflow", |events| {
        let overflow = |kind: &EventKind| {
            matches!(kind, EventKind::Rescan { path, reason: RescanReason::Overflow } if path.is_root())
        };
        events.iter().any(overflow)
    });
}

#[test]
fn what_is_lost_was_changed_since_the_last_mark_and_no_more_is_compared_whole() {
    for backend in own() {
        let mut rig = Rig::start(backend, |root| {
            for name in ["dir/below", "elsewhere/below", "replaced", "quiet", "noise"] {
                fs::create_dir_all(root.join(name)).unwrap();
            }
            for name in ["dir/f", "old"] {
                fs::write(root.join(name), "x").unwrap();
            }
        });
        let old = changed(&rig.at("old"));
        rig.mark();
        rig.forget();
        overflow(&rig, || {
            fs::write(rig.at("dir/f"), "y").unwrap();
            fs::remove_dir(rig.at("replaced")).unwrap();
            fs::rename(rig.at("elsewhere"), rig.at("replaced")).unwrap();
            fs::create_dir_all(rig.at("fresh/deep")).unwrap();
        });
        let lost = changed(&rig.at("dir/f"));
        let root = told(&rig, &RelPath::root());
        let (_, least) = root.iter().find(|(kind, _)| matches!(kind, EventKind::Rescan { .. })).unwrap();
        assert!(*least <= lost && *least > old, "{backend:?}: {old} {least} {lost}");
        rig.settle();
        let whole = |(kind, _): &(EventKind, Moment)| match kind {
            EventKind::Rescan { path, reason: RescanReason::Arrived } => Some(path.clone()),
            _ => None,
        };
        let moments = rig.log.moments.lock().unwrap();
        let whole: Vec<RelPath> = moments.events.iter().filter_map(whole).collect();
        assert_eq!(whole, [path("replaced")], "{backend:?}");
    }
}

#[test]
fn what_comes_with_a_directory_may_have_been_changed_at_any_time() {
    for backend in own() {
        let mut rig = Rig::start(backend, |_| {});
        let outside = rig.outside().join("came");
        fs::create_dir_all(outside.join("below")).unwrap();
        fs::write(outside.join("below/f"), "x").unwrap();
        rig.mark();
        rig.forget();
        fs::rename(&outside, rig.at("came")).unwrap();
        fs::create_dir_all(rig.at("made/below")).unwrap();
        fs::write(rig.at("made/below/f"), "x").unwrap();
        rig.settle();
        let moments = rig.log.moments.lock().unwrap();
        let least: HashMap<&RelPath, Moment> =
            moments.events.iter().rev().map(|(kind, change)| (kind.path(), *change)).collect();
        assert_eq!(least[&path("came/below/f")], Moment::UNKNOWN, "{backend:?}");
        assert_ne!(least[&path("made/below/f")], Moment::UNKNOWN, "{backend:?}");
    }
}
