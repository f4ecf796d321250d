//! The root goes, comes and is replaced; mounts come and go below it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::config::Backend;
use crate::event::{EventKind, RescanReason};
use crate::tree::RelPath;

use super::super::tuning::Tuning;
use super::super::{Sink, start_with};
use super::rig::{Log, MEMORY, Rig, backends, options, own, path, unmount};
use super::{create, each};

fn root_rescans(events: &[EventKind]) -> usize {
    let wanted = EventKind::Rescan { path: RelPath::root(), reason: RescanReason::Root };
    events.iter().filter(|kind| **kind == wanted).count()
}

#[test]
fn a_root_that_goes_and_comes_back_is_rescanned_and_watched_again() {
    each(
        |root| fs::create_dir(root.join("d")).unwrap(),
        |rig| {
            fs::remove_dir_all(rig.root()).unwrap();
            rig.wait("that the root is gone", |events| root_rescans(events) == 1);
            rig.until("a problem", |rig| !rig.watcher().problems().is_empty());
            rig.forget();
            fs::create_dir_all(rig.at("d/e")).unwrap();
            rig.wait("that the root is back", |events| root_rescans(events) > 0);
            rig.settle();
            assert_eq!(rig.watcher().problems(), []);
            rig.forget();
            fs::write(rig.at("d/e/f"), "x").unwrap();
            rig.settle();
            assert!(rig.said().contains(&create("d/e/f", false)), "{:?}", rig.said());
        },
    );
}

#[test]
fn a_root_replaced_by_another_directory_is_rescanned() {
    each(
        |_| {},
        |rig| {
            let other = rig.outside().join("other");
            fs::create_dir_all(other.join("d")).unwrap();
            fs::rename(rig.root(), rig.outside().join("old")).unwrap();
            fs::rename(other, rig.root()).unwrap();
            rig.wait("that the root is another", |events| root_rescans(events) > 0);
            rig.settle();
            rig.forget();
            fs::write(rig.at("d/f"), "x").unwrap();
            fs::write(rig.outside().join("old/g"), "x").unwrap();
            rig.settle();
            let said = rig.said();
            assert!(said.contains(&create("d/f", false)), "{said:?}");
            assert!(!said.iter().any(|kind| kind.path() == &path("g")), "{said:?}");
        },
    );
}

#[test]
fn a_symlink_to_the_source_that_is_switched_is_followed() {
    for backend in backends() {
        let dir = tempfile::tempdir_in(MEMORY).unwrap();
        for release in ["releases/1", "releases/2/d"] {
            fs::create_dir_all(dir.path().join(release)).unwrap();
        }
        let current = dir.path().join("current");
        symlink("releases/1", &current).unwrap();
        let log = Arc::new(Log::default());
        let sink = Arc::clone(&log) as Arc<dyn Sink>;
        let _watcher =
            start_with(&current, options(backend), Arc::new(|_, _| false), sink, Tuning::default()).unwrap();
        symlink("releases/2", dir.path().join("next")).unwrap();
        fs::rename(dir.path().join("next"), &current).unwrap();
        log.wait("that the root is another", |events| root_rescans(events) == 1);
        fs::write(dir.path().join("releases/2/d/f"), "x").unwrap();
        log.wait("a file in the new root", |events| events.contains(&create("d/f", false)));
        // The directory that the link leads to goes as well.
        fs::rename(dir.path().join("releases"), dir.path().join("elsewhere")).unwrap();
        log.wait("that the root is gone", |events| root_rescans(events) == 2);
    }
}

#[test]
fn a_directory_above_the_source_may_be_renamed_and_come_back() {
    each(
        |_| {},
        |rig| {
            let aside = rig.outside().with_extension("aside");
            fs::rename(rig.outside(), &aside).unwrap();
            rig.wait("that the root is gone", |events| root_rescans(events) == 1);
            fs::rename(&aside, rig.outside()).unwrap();
            rig.wait("that the root is back", |events| root_rescans(events) == 2);
            rig.settle();
        },
    );
}

/// Mounts a filesystem in memory for as long as it lives. `None` if this is not allowed here.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn tmpfs(at: &'a Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return None;
        }
        let done = Command::new("mount").args(["-t", "tmpfs", "speil-test"]).arg(at).status().unwrap();
        if !done.success() {
            eprintln!("skipped: mounting is not allowed here");
        }
        done.success().then_some(Self(at))
    }

    fn bind(from: &Path, at: &'a Path) -> Option<Self> {
        let done = Command::new("mount").arg("--bind").arg(from).arg(at).status().unwrap();
        done.success().then_some(Self(at))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        unmount(self.0);
    }
}

#[test]
fn a_mount_that_comes_and_goes_below_the_source_is_a_rescan_and_no_delete() {
    each(
        |root| {
            fs::create_dir_all(root.join("a/m/under")).unwrap();
            fs::write(root.join("a/m/under/f"), "x").unwrap();
        },
        |rig| {
            let at = rig.at("a/m");
            let Some(mount) = Mount::tmpfs(&at) else { return };
            let mounted = EventKind::Rescan { path: path("a/m"), reason: RescanReason::Mount };
            rig.wait("the mount", |events| events.contains(&mounted));
            rig.forget();
            fs::create_dir(at.join("d")).unwrap();
            rig.settle();
            fs::write(at.join("d/g"), "x").unwrap();
            rig.settle();
            assert!(rig.said().contains(&create("a/m/d/g", false)), "{:?}", rig.said());
            rig.forget();
            drop(mount);
            rig.wait("the unmount", |events| events.contains(&mounted));
            rig.settle();
            let above = path("a");
            let deleted =
                |kind: &EventKind| matches!(kind, EventKind::Delete { path, .. } if path.is_within(&above));
            // The crate reports the end of its watches as removals.
            if rig.backend != Backend::Notify {
                assert!(!rig.said().iter().any(deleted), "{:?}", rig.said());
            }
            rig.forget();
            fs::write(at.join("under/f"), "yy").unwrap();
            rig.settle();
            assert!(rig.covers(&EventKind::CloseWrite(path("a/m/under/f"))), "{:?}", rig.said());
        },
    );
}

#[test]
fn a_mount_over_the_source_itself_is_another_root() {
    each(
        |_| {},
        |rig| {
            let root = rig.root().to_owned();
            let Some(mount) = Mount::tmpfs(&root) else { return };
            rig.wait("the mount", |events| root_rescans(events) == 1);
            rig.settle();
            rig.forget();
            // Nothing of the source may be held open, or this fails.
            drop(mount);
            rig.wait("the unmount", |events| root_rescans(events) == 1);
            rig.settle();
        },
    );
}

#[test]
fn one_file_system_leaves_a_mount_alone() {
    for backend in backends().into_iter().filter(|backend| *backend != Backend::Notify) {
        let options = super::super::Options { one_file_system: true, ..options(backend) };
        let prepare = |root: &Path| fs::create_dir_all(root.join("m")).unwrap();
        let mut rig = Rig::tuned(options, prepare, Arc::new(|_, _| false), Tuning::default());
        let at = rig.at("m");
        let Some(_mount) = Mount::tmpfs(&at) else { return };
        let mounted = EventKind::Rescan { path: path("m"), reason: RescanReason::Mount };
        rig.wait("the mount", |events| events.contains(&mounted));
        rig.forget();
        fs::write(at.join("f"), "x").unwrap();
        rig.settle();
        assert!(!rig.said().iter().any(|kind| kind.path() == &path("m/f")), "{:?}", rig.said());
    }
}

#[test]
fn a_directory_mounted_at_a_second_place_of_the_tree_is_compared_there() {
    for backend in own() {
        let mut rig = Rig::start(backend, |root| {
            fs::create_dir_all(root.join("one")).unwrap();
            fs::create_dir_all(root.join("two")).unwrap();
        });
        let (from, at) = (rig.at("one"), rig.at("two"));
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let Some(mount) = Mount::bind(&from, &at) else { return };
        let hole = EventKind::Rescan { path: path("two"), reason: RescanReason::Unwatched };
        let count = |events: &[EventKind]| events.iter().filter(|kind| **kind == hole).count();
        rig.wait("the second place again and again", |events| count(events) > 2);
        fs::write(rig.at("one/f"), "x").unwrap();
        rig.settle();
        assert!(rig.said().contains(&create("one/f", false)));
        drop(mount);
        rig.until("the end of the problem", |rig| rig.watcher().problems().is_empty());
    }
}

#[test]
fn a_filesystem_that_is_mounted_anew_at_once_is_heard_of_again() {
    let volume = tempfile::tempdir_in(MEMORY).unwrap();
    let image = volume.path().join("image");
    let at = volume.path().join("at");
    fs::create_dir(&at).unwrap();
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
    let mount = || Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at).status();
    if !made.is_ok_and(|made| made.success()) || !mount().is_ok_and(|done| done.success()) {
        eprintln!("skipped: no ext4 on a loop device here");
        return;
    }
    for backend in own() {
        let log = Arc::new(Log::default());
        let sink = Arc::clone(&log) as Arc<dyn Sink>;
        let watcher = start_with(&at, options(backend), Arc::new(|_, _| false), sink, Tuning::default());
        // The watcher stands still until both have happened.
        let gate = log.gate.lock().unwrap();
        fs::write(at.join("first"), "x").unwrap();
        unmount(&at);
        assert!(mount().unwrap().success());
        drop(gate);
        log.wait("that the root may be another", |events| {
            events.iter().any(|kind| matches!(kind, EventKind::Rescan { path, .. } if path.is_root()))
        });
        // The first rescan may be of what stood there in between, and the next one takes a file along.
        let heard = (0..30).any(|n| {
            let name = format!("{backend:?}-{n}");
            fs::write(at.join(&name), "x").unwrap();
            log.hears(|events| events.contains(&create(&name, false)))
        });
        assert!(heard, "{backend:?}: no file on it is heard of");
        drop(watcher);
    }
    unmount(&at);
}
