//! Too few watches, too many events, directories that cannot be read.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use crate::config::Backend;
use crate::event::{EventKind, RescanReason};
use crate::tree::RelPath;

use super::super::kernel::tree_mask;
use super::super::tuning::Tuning;
use super::create;
use super::rig::{Rig, options, own, path};

fn unwatched(text: &str) -> EventKind {
    EventKind::Rescan { path: path(text), reason: RescanReason::Unwatched }
}

fn overflow() -> EventKind {
    EventKind::Rescan { path: RelPath::root(), reason: RescanReason::Overflow }
}

/// A kernel that gives no more watches than the counter says.
fn limited(limit: &Arc<AtomicUsize>) -> Tuning {
    let limit = Arc::clone(limit);
    Tuning {
        add: Box::new(move |kernel, dir, watched| {
            if watched >= limit.load(Ordering::Relaxed) {
                return Err(Errno::NOSPC);
            }
            kernel.add(dir, tree_mask())
        }),
        ..Tuning::default()
    }
}

#[test]
fn out_of_watches_compares_the_rest_until_there_are_more() {
    let limit = Arc::new(AtomicUsize::new(3));
    let prepare = |root: &std::path::Path| {
        for dir in ["a/b/c", "a/b/d", "a/b/e"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
    };
    let options = options(Backend::Inotify);
    let mut rig = Rig::tuned(options, prepare, Arc::new(|_, _| false), limited(&limit));
    assert_eq!(rig.watcher().watched(), 3);
    let problems = rig.watcher().problems();
    assert_eq!(problems.len(), 3);
    assert!(problems[0].text.contains("needs 6 or more"), "{problems:?}");
    assert!(problems[0].hint.as_ref().unwrap().contains("fs.inotify.max_user_watches"));
    let twice = |events: &[EventKind]| {
        ["a/b/c", "a/b/d", "a/b/e"]
            .iter()
            .all(|dir| events.iter().filter(|kind| **kind == unwatched(dir)).count() >= 2)
    };
    rig.wait("every hole again and again", twice);
    limit.store(usize::MAX, Ordering::Relaxed);
    rig.until("the end of the problems", |rig| rig.watcher().problems().is_empty());
    rig.settle();
    rig.forget();
    fs::write(rig.at("a/b/e/f"), "x").unwrap();
    rig.settle();
    assert_eq!(rig.said().first(), Some(&create("a/b/e/f", false)));
}

#[test]
fn a_root_without_a_watch_is_compared_as_a_whole() {
    let limit = Arc::new(AtomicUsize::new(0));
    let options = options(Backend::Inotify);
    let mut rig = Rig::tuned(options, |_| {}, Arc::new(|_, _| false), limited(&limit));
    let whole = |kind: &EventKind| matches!(kind, EventKind::Rescan { path, .. } if path.is_root());
    rig.wait("the root again and again", |events| events.iter().filter(|kind| whole(kind)).count() > 2);
    limit.store(usize::MAX, Ordering::Relaxed);
    rig.until("the end of the problems", |rig| rig.watcher().problems().is_empty());
    rig.settle();
}

#[test]
fn hundreds_of_holes_are_one_and_close_again() {
    let limit = Arc::new(AtomicUsize::new(10));
    let prepare = |root: &std::path::Path| {
        for n in 0..200 {
            fs::create_dir_all(root.join(format!("top/{n}"))).unwrap();
        }
    };
    let options = options(Backend::Inotify);
    let mut rig = Rig::tuned(options, prepare, Arc::new(|_, _| false), limited(&limit));
    assert_eq!(rig.watcher().problems().len(), 1);
    rig.wait("one rescan for all", |events| {
        events.iter().filter(|kind| **kind == unwatched("top")).count() > 2
    });
    limit.store(usize::MAX, Ordering::Relaxed);
    rig.until("all watches", |rig| rig.watcher().watched() == 202);
    rig.settle();
    rig.forget();
    for n in 0..200 {
        fs::write(rig.at(&format!("top/{n}/f")), "x").unwrap();
    }
    rig.settle();
    let said = rig.said();
    assert!((0..200).all(|n| said.contains(&create(&format!("top/{n}/f"), false))));
}

#[test]
fn a_full_queue_of_the_kernel_is_a_rescan_and_every_directory_is_watched_after_it() {
    for backend in own() {
        let mut rig = Rig::start(backend, |_| {});
        let system = if backend == Backend::Fanotify { "fanotify" } else { "inotify" };
        let queue_max = fs::read_to_string(format!("/proc/sys/fs/{system}/max_queued_events")).unwrap();
        let queue_max: usize = queue_max.trim().parse().unwrap();
        let log = Arc::clone(&rig.log);
        let gate = log.gate.lock().unwrap();
        fs::write(rig.at("first"), "x").unwrap();
        for n in 0..=queue_max {
            fs::File::create(rig.at(&format!("f{}", n % 100))).unwrap();
            fs::remove_file(rig.at(&format!("f{}", n % 100))).unwrap();
        }
        fs::create_dir_all(rig.at("d/e")).unwrap();
        drop(gate);
        rig.wait("the overflow", |events| events.contains(&overflow()));
        rig.settle();
        rig.forget();
        fs::write(rig.at("d/e/f"), "x").unwrap();
        rig.settle();
        assert!(rig.said().contains(&create("d/e/f", false)), "{:?}", rig.said());
    }
}

#[test]
fn a_full_backlog_counts_as_an_overflow() {
    for backend in own() {
        let tuning = Tuning { backlog_max: 10, ..Tuning::default() };
        let mut rig = Rig::tuned(options(backend), |_| {}, Arc::new(|_, _| false), tuning);
        let log = Arc::clone(&rig.log);
        let gate = log.gate.lock().unwrap();
        for n in 0..100 {
            fs::create_dir_all(rig.at(&format!("d{n}/e"))).unwrap();
        }
        drop(gate);
        rig.wait("the overflow", |events| events.contains(&overflow()));
        rig.settle();
        rig.forget();
        for n in 0..100 {
            fs::write(rig.at(&format!("d{n}/e/f")), "x").unwrap();
            rig.settle();
        }
        let said = rig.said();
        assert!((0..100).all(|n| said.contains(&create(&format!("d{n}/e/f"), false))));
    }
}

#[test]
fn a_directory_that_cannot_be_watched_is_a_problem_until_it_can() {
    let denied = Arc::new(AtomicUsize::new(0));
    let door = Arc::clone(&denied);
    let tuning = Tuning {
        add: Box::new(move |kernel, dir, watched| {
            if watched == 1 && door.load(Ordering::Relaxed) == 0 {
                return Err(Errno::ACCESS);
            }
            kernel.add(dir, tree_mask())
        }),
        ..Tuning::default()
    };
    let mut rig = Rig::tuned(options(Backend::Inotify), |_| {}, Arc::new(|_, _| false), tuning);
    fs::create_dir(rig.at("d")).unwrap();
    rig.wait("that it is not watched", |events| events.contains(&unwatched("d")));
    rig.until("a problem", |rig| rig.watcher().problems().iter().any(|p| p.text.contains("EACCES")));
    denied.store(1, Ordering::Relaxed);
    rig.until("no problem", |rig| rig.watcher().problems().is_empty());
    rig.settle();
    rig.forget();
    fs::write(rig.at("d/f"), "x").unwrap();
    rig.settle();
    assert!(rig.said().contains(&create("d/f", false)), "{:?}", rig.said());
}
