//! Behaviour that every backend has; what one of them cannot have is said where it is left out.

mod assumed;
mod faults;
mod marks;
mod model;
mod rig;
mod roots;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Backend;
use crate::event::EventKind;
use crate::tree::RelPath;

use super::tuning::Tuning;
use super::{FenceAnswer, Options};
use rig::{Rig, backends, own, path};

fn create(text: &str, dir: bool) -> EventKind {
    EventKind::Create { path: path(text), dir }
}

fn delete(text: &str, dir: bool) -> EventKind {
    EventKind::Delete { path: path(text), dir }
}

fn rename(from: &str, to: &str, dir: bool) -> EventKind {
    EventKind::Move { from: path(from), to: path(to), dir }
}

/// Runs `check` against every backend, each on a tree of its own made by `prepare`.
fn each(prepare: impl Fn(&Path), check: impl Fn(&mut Rig)) {
    for backend in backends() {
        let mut rig = Rig::start(backend, &prepare);
        check(&mut rig);
    }
}

#[test]
fn nothing_is_reported_of_what_existed_at_the_start() {
    each(
        |root| {
            fs::create_dir_all(root.join("a/b")).unwrap();
            fs::write(root.join("a/b/f"), "x").unwrap();
        },
        |rig| {
            rig.settle();
            assert_eq!(rig.said(), []);
        },
    );
}

#[test]
fn a_new_file_is_created_and_closed() {
    each(
        |_| {},
        |rig| {
            fs::write(rig.at("f"), "x").unwrap();
            rig.settle();
            let said = rig.said();
            assert_eq!(said[0], create("f", false));
            // The poll backend sees a new file once, whole or not.
            if rig.backend != Backend::Poll {
                assert_eq!(said.last(), Some(&EventKind::CloseWrite(path("f"))));
            }
        },
    );
}

#[test]
fn a_write_marks_the_file_and_its_close_is_an_edge() {
    each(
        |root| fs::write(root.join("f"), "x").unwrap(),
        |rig| {
            fs::write(rig.at("f"), "longer").unwrap();
            rig.settle();
            let said = rig.said();
            assert!(said.contains(&EventKind::CloseWrite(path("f"))), "{said:?}");
            if rig.backend != Backend::Poll {
                assert!(said.contains(&EventKind::Modify(path("f"))), "{said:?}");
            }
        },
    );
}

#[test]
fn a_change_of_rights_is_an_attrib_and_an_edge_of_content_for_polling_alone() {
    each(
        |root| {
            fs::create_dir(root.join("d")).unwrap();
            fs::write(root.join("d/f"), "x").unwrap();
        },
        |rig| {
            fs::set_permissions(rig.at("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::set_permissions(rig.at("d"), fs::Permissions::from_mode(0o700)).unwrap();
            rig.settle();
            let mut said = rig.said();
            said.sort_by(|a, b| b.path().cmp(a.path()));
            said.dedup();
            let attrib = |text, dir| EventKind::Attrib { path: path(text), dir };
            let mut wanted = vec![attrib("d/f", false), attrib("d", true)];
            if rig.backend == Backend::Poll {
                // Both move the ctime, and only one of them is seen.
                wanted.insert(1, EventKind::CloseWrite(path("d/f")));
            }
            assert_eq!(said, wanted);
        },
    );
}

#[test]
fn a_change_of_the_root_itself_is_reported() {
    each(
        |_| {},
        |rig| {
            fs::set_permissions(rig.root(), fs::Permissions::from_mode(0o700)).unwrap();
            let attrib = EventKind::Attrib { path: RelPath::root(), dir: true };
            rig.wait("the change", |events| events.contains(&attrib));
        },
    );
}

#[test]
fn a_removed_file_and_a_removed_directory_are_deletes() {
    each(
        |root| {
            fs::create_dir(root.join("d")).unwrap();
            fs::write(root.join("d/f"), "x").unwrap();
            fs::write(root.join("g"), "x").unwrap();
        },
        |rig| {
            fs::remove_dir_all(rig.at("d")).unwrap();
            fs::remove_file(rig.at("g")).unwrap();
            rig.settle();
            let said = rig.said();
            assert!(said.contains(&delete("d", true)), "{said:?}");
            assert!(said.contains(&delete("g", false)), "{said:?}");
        },
    );
}

#[test]
fn a_renamed_file_is_one_move() {
    each(
        |root| fs::write(root.join("f"), "x").unwrap(),
        |rig| {
            fs::rename(rig.at("f"), rig.at("g")).unwrap();
            rig.settle();
            if rig.backend == Backend::Poll {
                assert_eq!(rig.said(), [delete("f", false), create("g", false)]);
            } else {
                let said = rig.said();
                assert!(said.contains(&rename("f", "g", false)), "{said:?}");
                assert!(!said.iter().any(|kind| matches!(kind, EventKind::Delete { .. })), "{said:?}");
            }
        },
    );
}

#[test]
fn a_change_below_a_renamed_directory_has_its_new_name() {
    each(
        |root| {
            fs::create_dir_all(root.join("d/sub")).unwrap();
            fs::write(root.join("d/sub/f"), "x").unwrap();
        },
        |rig| {
            fs::rename(rig.at("d"), rig.at("e")).unwrap();
            rig.settle();
            if rig.backend != Backend::Poll {
                assert!(rig.said().contains(&rename("d", "e", true)));
            }
            rig.forget();
            fs::write(rig.at("e/sub/f"), "yy").unwrap();
            rig.settle();
            assert!(rig.said().contains(&EventKind::CloseWrite(path("e/sub/f"))), "{:?}", rig.said());
        },
    );
}

#[test]
fn a_directory_renamed_over_an_empty_one_takes_its_place() {
    each(
        |root| {
            fs::create_dir_all(root.join("d/sub")).unwrap();
            fs::create_dir(root.join("e")).unwrap();
        },
        |rig| {
            fs::rename(rig.at("d"), rig.at("e")).unwrap();
            rig.settle();
            rig.forget();
            fs::write(rig.at("e/sub/f"), "x").unwrap();
            rig.settle();
            assert!(rig.said().contains(&create("e/sub/f", false)), "{:?}", rig.said());
        },
    );
}

#[test]
fn a_directory_moved_in_is_found_whole_and_one_moved_out_is_gone() {
    each(
        |root| fs::create_dir_all(root.join("out/sub")).unwrap(),
        |rig| {
            let outside = rig.outside().to_owned();
            fs::create_dir_all(outside.join("in/sub")).unwrap();
            fs::write(outside.join("in/sub/f"), "x").unwrap();
            fs::rename(outside.join("in"), rig.at("in")).unwrap();
            fs::rename(rig.at("out"), outside.join("out")).unwrap();
            rig.settle();
            assert!(rig.covers(&create("in/sub/f", false)), "{:?}", rig.said());
            // The crate does not say what a name that left the tree was.
            let dir = rig.backend != Backend::Notify;
            assert!(rig.said().contains(&delete("out", dir)), "{:?}", rig.said());
            rig.forget();
            fs::write(outside.join("out/sub/f"), "x").unwrap();
            fs::write(rig.at("in/sub/g"), "x").unwrap();
            rig.settle();
            let said = rig.said();
            assert!(said.contains(&create("in/sub/g", false)), "{said:?}");
            assert!(said.iter().all(|kind| kind.path().is_within(&path("in"))), "{said:?}");
        },
    );
}

#[test]
fn a_hard_link_is_a_new_name() {
    each(
        |root| fs::write(root.join("a"), "x").unwrap(),
        |rig| {
            fs::hard_link(rig.at("a"), rig.at("b")).unwrap();
            rig.settle();
            assert!(rig.said().contains(&create("b", false)), "{:?}", rig.said());
        },
    );
}

#[test]
fn symlinks_are_reported_and_not_followed() {
    each(
        |_| {},
        |rig| {
            let outside = tempfile::tempdir().unwrap();
            symlink(outside.path(), rig.at("link")).unwrap();
            rig.settle();
            assert_eq!(rig.said(), [create("link", false)]);
            rig.forget();
            fs::write(outside.path().join("f"), "x").unwrap();
            rig.settle();
            assert_eq!(rig.said(), []);
        },
    );
}

#[test]
fn names_with_newlines_and_without_utf_8_are_names() {
    each(
        |_| {},
        |rig| {
            let name = b"a\nb \xff\\";
            let dir = rig.root().join(std::ffi::OsStr::from_bytes(name));
            fs::create_dir(&dir).unwrap();
            rig.settle();
            fs::write(dir.join("f"), "x").unwrap();
            rig.settle();
            let file = RelPath::new(&name[..]).unwrap().join(b"f");
            assert!(rig.said().contains(&EventKind::Create { path: file, dir: false }), "{:?}", rig.said());
        },
    );
}

#[test]
fn what_the_rules_leave_out_is_neither_watched_nor_reported() {
    for backend in backends() {
        let mut rig = Rig::with_skip(
            backend,
            |root| fs::create_dir_all(root.join("cache/sub")).unwrap(),
            Arc::new(|path, dir| (dir && path.name() == b"cache") || path.name().ends_with(b".tmp")),
        );
        fs::write(rig.at("cache/sub/f"), "x").unwrap();
        fs::create_dir_all(rig.at("d/cache/e")).unwrap();
        rig.settle();
        fs::write(rig.at("d/cache/e/f"), "x").unwrap();
        fs::write(rig.at("d/f.tmp"), "x").unwrap();
        fs::write(rig.at("d/f"), "x").unwrap();
        rig.settle();
        let said = rig.said();
        let left_out = |path: &RelPath| path.components().any(|name| name == b"cache" || name == b"f.tmp");
        assert!(!said.iter().any(|kind| left_out(kind.path())), "{said:?}");
        assert!(rig.covers(&create("d/f", false)), "{said:?}");
    }
}

#[test]
fn a_move_across_the_rules_is_a_create_or_a_delete() {
    for backend in backends() {
        let mut rig = Rig::with_skip(
            backend,
            |root| {
                fs::create_dir_all(root.join("hidden.d/sub")).unwrap();
                fs::write(root.join("hidden.d/sub/f"), "x").unwrap();
                fs::create_dir_all(root.join("shown/sub")).unwrap();
                fs::write(root.join("f.tmp"), "x").unwrap();
                fs::write(root.join("g"), "x").unwrap();
            },
            Arc::new(|path, _| path.name().starts_with(b"hidden") || path.name().ends_with(b".tmp")),
        );
        fs::rename(rig.at("f.tmp"), rig.at("f")).unwrap();
        fs::rename(rig.at("g"), rig.at("g.tmp")).unwrap();
        fs::rename(rig.at("shown"), rig.at("hidden.e")).unwrap();
        fs::rename(rig.at("hidden.d"), rig.at("now shown")).unwrap();
        rig.settle();
        let said = rig.said();
        assert!(said.contains(&create("f", false)), "{said:?}");
        assert!(said.contains(&delete("g", false)), "{said:?}");
        assert!(rig.covers(&delete("shown", true)), "{said:?}");
        assert!(rig.covers(&create("now shown/sub/f", false)), "{said:?}");
        rig.forget();
        fs::write(rig.at("hidden.e/sub/f"), "x").unwrap();
        fs::write(rig.at("now shown/sub/f"), "yy").unwrap();
        rig.settle();
        let said = rig.said();
        assert!(said.contains(&EventKind::CloseWrite(path("now shown/sub/f"))), "{said:?}");
        assert!(said.iter().all(|kind| kind.path().is_within(&path("now shown"))), "{said:?}");
    }
}

#[test]
fn rules_by_path_are_asked_again_when_a_directory_above_moves() {
    for backend in own() {
        let mut rig = Rig::with_skip(
            backend,
            |root| fs::create_dir_all(root.join("a/x/sub")).unwrap(),
            Arc::new(|path, dir| dir && path.as_bytes() == b"a/x"),
        );
        fs::rename(rig.at("a"), rig.at("b")).unwrap();
        rig.settle();
        assert!(rig.said().contains(&create("b/x", true)), "{:?}", rig.said());
        fs::write(rig.at("b/x/sub/f"), "x").unwrap();
        rig.settle();
        assert!(rig.said().contains(&create("b/x/sub/f", false)), "{:?}", rig.said());
        fs::rename(rig.at("b"), rig.at("a")).unwrap();
        rig.settle();
        rig.forget();
        fs::write(rig.at("a/x/sub/f"), "yy").unwrap();
        rig.settle();
        assert_eq!(rig.said(), []);
    }
}

#[test]
fn files_made_at_once_in_new_deep_directories_are_all_found() {
    for backend in backends() {
        let rounds = if own().contains(&backend) { 1000 } else { 50 };
        let mut rig = Rig::start(backend, |_| {});
        for round in 0..rounds {
            let dir = rig.at(&format!("n{round}/x/y"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("f"), "x").unwrap();
        }
        rig.settle();
        let found = (0..rounds).filter(|n| rig.covers(&create(&format!("n{n}/x/y/f"), false))).count();
        assert_eq!(found, rounds, "{backend:?}");
        rig.forget();
        for round in 0..rounds {
            fs::write(rig.at(&format!("n{round}/x/y/f")), "yy").unwrap();
        }
        rig.settle();
        let said = rig.said();
        let heard = |n: &usize| {
            let file = EventKind::CloseWrite(path(&format!("n{n}/x/y/f")));
            said.contains(&file)
        };
        assert_eq!((0..rounds).filter(heard).count(), rounds, "{backend:?}");
    }
}

#[test]
fn paths_beyond_4096_bytes_are_watched() {
    // The notify crate works on whole paths and cannot.
    for backend in backends().into_iter().filter(|backend| *backend != Backend::Notify) {
        let mut rig = Rig::start(backend, |_| {});
        let (deep, fd) = rig::make_deep(rig.root(), 30);
        rig.settle();
        rig::write_at(&fd, b"f", b"x");
        rig.settle();
        let file = deep.join(b"f");
        assert!(file.as_bytes().len() > 5000);
        assert!(rig.said().contains(&EventKind::Create { path: file.clone(), dir: false }));
        rig.forget();
        rig::write_at(&fd, b"f", b"more");
        rig.settle();
        assert!(rig.said().contains(&EventKind::CloseWrite(file)), "{:?}", rig.said());
    }
}

#[test]
fn an_exchange_of_two_directories_leaves_both_watched() {
    for backend in own() {
        let mut rig = Rig::start(backend, |root| {
            fs::create_dir_all(root.join("a/one")).unwrap();
            fs::create_dir_all(root.join("b/two")).unwrap();
        });
        let root = fs::File::open(rig.root()).unwrap();
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(&root, "a", &root, "b", flags).unwrap();
        rig.settle();
        assert!(rig.rescans(&path("a")) && rig.rescans(&path("b")), "{:?}", rig.said());
        rig.forget();
        fs::write(rig.at("a/two/f"), "x").unwrap();
        fs::write(rig.at("b/one/f"), "x").unwrap();
        rig.settle();
        let said = rig.said();
        assert!(
            said.contains(&create("a/two/f", false)) && said.contains(&create("b/one/f", false)),
            "{said:?}"
        );
    }
}

/// How long 100,000 directories take, and how fast events are read; for a human to look at.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let begin = std::time::Instant::now();
    let mut rig = Rig::start(Backend::Inotify, |root| {
        for n in 0..100_000 {
            fs::create_dir_all(root.join(format!("{}/{}/{n}", n / 10_000, n / 100))).unwrap();
        }
    });
    eprintln!("{:?} with making them", begin.elapsed());
    rig.stop();
    let begin = std::time::Instant::now();
    rig.restart();
    eprintln!("{:?} to watch {}", begin.elapsed(), rig.watcher().watched());
    let begin = std::time::Instant::now();
    for n in 0..200_000 {
        fs::File::create(rig.at(&format!("f{}", n % 1000))).unwrap();
    }
    let made = begin.elapsed();
    rig.settle();
    let overflows = rig.said().iter().filter(|kind| matches!(kind, EventKind::Rescan { .. })).count();
    eprintln!("200,000 opens in {made:?}, heard after {:?}, {overflows} overflows", begin.elapsed());
}

#[test]
fn who_asks_is_answered_after_everything_that_happened_before() {
    for backend in own() {
        let marks = tempfile::tempdir().unwrap();
        let options = Options { marks: Some(marks.path().to_owned()), ..rig::options(backend) };
        let rig = Rig::tuned(options, |_| {}, Arc::new(|_, _| false), Tuning::default());
        let asker = rig.watcher().asker();
        for round in 0..300 {
            let dir = rig.at(&format!("d{round}"));
            fs::create_dir_all(dir.join("sub")).unwrap();
            fs::write(dir.join("sub/f"), "x").unwrap();
            fs::rename(&dir, rig.at(&format!("e{round}"))).unwrap();
            fs::write(rig.at(&format!("e{round}/sub/g")), "x").unwrap();
            let heard = asker.hear_all(Duration::from_secs(60));
            assert!(matches!(heard, FenceAnswer::All(_)), "{backend:?}: {heard:?}");
            // A walk that is ahead of the rename finds it under the old name, which the rename then moves.
            let file = |top: &str| create(&format!("{top}{round}/sub/g"), false);
            let told = rig.covers(&file("e")) || rig.covers(&file("d"));
            assert!(told, "{backend:?}, round {round}: {:?}", rig.said());
        }
    }
}

#[test]
fn what_others_do_on_the_same_filesystem_is_not_reported() {
    for backend in own() {
        let mut rig = Rig::start(backend, |root| fs::create_dir(root.join("d")).unwrap());
        let elsewhere = rig.outside().join("elsewhere");
        for round in 0..200 {
            fs::create_dir_all(elsewhere.join("a/b")).unwrap();
            fs::write(elsewhere.join("a/b/f"), "x").unwrap();
            fs::rename(elsewhere.join("a"), elsewhere.join(round.to_string())).unwrap();
        }
        fs::write(rig.at("d/f"), "x").unwrap();
        rig.settle();
        let said = rig.said();
        assert!(said.iter().all(|kind| kind.path() == &path("d/f")), "{said:?}");
    }
}

#[test]
fn renames_there_and_back_that_the_kernel_joins_end_where_the_disk_is() {
    for backend in own() {
        let mut rig = Rig::start(backend, |root| {
            fs::create_dir_all(root.join("d/sub")).unwrap();
            fs::write(root.join("f"), "x").unwrap();
        });
        // The watcher stands still, so that the kernel holds all of it.
        let log = Arc::clone(&rig.log);
        let gate = log.gate.lock().unwrap();
        fs::write(rig.at("first"), "x").unwrap();
        for (from, to) in [("d", "e"), ("e", "d"), ("d", "e"), ("f", "g"), ("g", "f"), ("f", "g")] {
            fs::rename(rig.at(from), rig.at(to)).unwrap();
        }
        drop(gate);
        rig.settle();
        for name in ["e/sub", "g"] {
            let known = |kind: &EventKind| kind.path().is_within(&path(name)) || rig.rescans(kind.path());
            assert!(rig.said().iter().any(known), "{backend:?}: {:?}", rig.said());
        }
        rig.forget();
        fs::write(rig.at("e/sub/h"), "x").unwrap();
        rig.settle();
        assert_eq!(rig.said().first(), Some(&create("e/sub/h", false)), "{backend:?}");
    }
}

#[test]
fn a_name_linked_again_after_its_file_was_renamed_is_known() {
    for backend in own() {
        let mut rig = Rig::start(backend, |_| {});
        let log = Arc::clone(&rig.log);
        let gate = log.gate.lock().unwrap();
        fs::write(rig.at("first"), "x").unwrap();
        fs::write(rig.at("n"), "x").unwrap();
        fs::rename(rig.at("n"), rig.at("m")).unwrap();
        fs::hard_link(rig.at("m"), rig.at("n")).unwrap();
        drop(gate);
        rig.settle();
        let said = rig.said();
        let moved = said.iter().position(|kind| *kind == rename("n", "m", false)).unwrap();
        assert!(said[moved..].iter().any(|kind| kind.path() == &path("n")), "{backend:?}: {said:?}");
    }
}

#[test]
fn auto_takes_inotify_where_there_are_events() {
    let rig = Rig::start(Backend::Auto, |_| {});
    assert_eq!(rig.watcher().backend(), Backend::Inotify);
    assert_eq!(rig.watcher().watched(), 1);
    assert_eq!(rig.watcher().problems(), []);
}

#[test]
fn dropping_the_watcher_ends_its_thread() {
    each(
        |_| {},
        |rig| {
            rig.stop();
            // The thread owns the only other handle of the sink.
            assert_eq!(rig.sink_handles(), 1);
        },
    );
}

#[test]
fn a_source_that_does_not_exist_is_an_error_to_try_again() {
    use crate::error::{Consequence, Consequential};
    for backend in backends() {
        let error = rig::start_at(Path::new("/nonexistent/speil"), backend).err().unwrap();
        assert_eq!(error.consequence(), Consequence::Again);
        assert_eq!(error.to_string(), "watch \"/nonexistent/speil\": no such file or directory (ENOENT)");
    }
}
