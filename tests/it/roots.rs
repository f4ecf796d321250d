//! Source roots that come and go, mounts inside them, and the other ways to notice changes.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::churn::Churn;
use crate::support::command::eventually;
use crate::support::faults::{Mount, is_root};
use crate::support::stand::{Stand, assert_settles};

#[test]
fn a_source_root_that_is_removed_and_made_again_deletes_nothing_and_is_found_again() {
    let stand = Stand::new();
    fs::write(stand.source().join("kept"), "kept").unwrap();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let aside = stand.dir.path().join("aside");
    fs::rename(stand.source(), &aside).unwrap();
    eventually("it is told", || !mirror.stderr().is_empty());
    fs::create_dir(stand.source()).unwrap();
    fs::write(stand.source().join("kept"), "kept").unwrap();
    fs::write(stand.source().join("new"), "new").unwrap();
    eventually("the new root is mirrored", || stand.target("standby").join("new").exists());
    assert!(stand.target("standby").join("kept").exists());
    assert_settles(&stand, "standby", "after the root came back", &mirror);
    fs::write(stand.source().join("later"), "later").unwrap();
    assert_settles(&stand, "standby", "live again", &mirror);
    mirror.terminate();
}

#[test]
fn an_emptied_source_root_deletes_nothing_until_somebody_approves() {
    let stand = Stand::new();
    for at in 0..150 {
        fs::write(stand.source().join(format!("f{at}")), "content").unwrap();
    }
    let mirror = stand.guarded_mirror(&["standby"], &["--reconcile-interval=never"]);
    for entry in fs::read_dir(stand.source()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    eventually("the deletes are held", || mirror.stderr().iter().any(|line| line.contains("deletes held")));
    assert_eq!(fs::read_dir(stand.target("standby")).unwrap().count(), 151);
    // What is held stops nothing else.
    fs::write(stand.source().join("new"), "new").unwrap();
    eventually("the new file", || stand.target("standby").join("new").exists());
    assert!(stand.target("standby").join("f7").exists());
    let control = format!("--control={}", stand.dir.path().join("control").display());
    stand.environment.run(["approve", &control]).succeeded();
    assert_settles(&stand, "standby", "after approve", &mirror);
    mirror.terminate();
}

/// A directory that is moved out of the tree is one event, and what it held is found by comparing it.
#[test]
fn what_leaves_the_tree_with_its_directory_is_judged_as_a_part_of_the_whole_tree() {
    let stand = Stand::new();
    for dir in ["one", "two", "rest"] {
        fs::create_dir(stand.source().join(dir)).unwrap();
        (0..150).for_each(|at| fs::write(stand.source().join(dir).join(at.to_string()), "content").unwrap());
    }
    let mirror = stand.guarded_mirror(&["standby"], &["--reconcile-interval=never"]);
    fs::rename(stand.source().join("one"), stand.path("one")).unwrap();
    assert_settles(&stand, "standby", "a third has left", &mirror);
    // With this one it would be two thirds within ten minutes.
    fs::rename(stand.source().join("two"), stand.path("two")).unwrap();
    eventually("the deletes are held", || mirror.stderr().iter().any(|line| line.contains("deletes held")));
    assert_eq!(fs::read_dir(stand.target("standby").join("two")).unwrap().count(), 150);
    let control = format!("--control={}", stand.control().display());
    stand.environment.run(["approve", &control]).succeeded();
    assert_settles(&stand, "standby", "after approve", &mirror);
    mirror.terminate();
}

/// The comparison of one directory finds eight deletes of a burst that was held, and eight are no large burst.
#[test]
fn a_part_of_what_is_held_is_not_deleted_when_its_directory_is_renamed_and_compared() {
    let stand = Stand::new();
    for dir in 0..20 {
        let dir = stand.source().join(format!("d{dir}"));
        fs::create_dir(&dir).unwrap();
        (0..8).for_each(|at| fs::write(dir.join(at.to_string()), "content").unwrap());
    }
    let mirror = stand.guarded_mirror(&["standby"], &["--reconcile-interval=never"]);
    for (dir, at) in (0..20).flat_map(|dir| (0..8).map(move |at| (dir, at))) {
        fs::remove_file(stand.source().join(format!("d{dir}/{at}"))).unwrap();
    }
    eventually("the deletes are held", || mirror.stderr().iter().any(|line| line.contains("deletes held")));
    fs::rename(stand.source().join("d1"), stand.source().join("e1")).unwrap();
    let control = format!("--control={}", stand.control().display());
    stand.environment.run(["wait", "--despite-problems", "--timeout=30s", &control]).succeeded();
    assert_eq!(fs::read_dir(stand.target("standby").join("e1")).unwrap().count(), 8);
    stand.environment.run(["approve", &control]).succeeded();
    assert_settles(&stand, "standby", "after approve", &mirror);
    mirror.terminate();
}

/// A file cannot come to a name under which the target has a full directory, as long as the deletes in it are held.
#[test]
fn what_held_deletes_were_in_the_way_of_arrives_after_approve() {
    let stand = Stand::new();
    fs::create_dir(stand.source().join("big")).unwrap();
    (0..150).for_each(|at| fs::write(stand.source().join("big").join(at.to_string()), "content").unwrap());
    let mirror = stand.guarded_mirror(&["standby"], &["--reconcile-interval=never"]);
    fs::rename(stand.source().join("big"), stand.path("big")).unwrap();
    fs::write(stand.source().join("big"), "now a file").unwrap();
    eventually("the deletes are held", || mirror.stderr().iter().any(|line| line.contains("deletes held")));
    eventually("the file is a problem", || {
        mirror.stderr().iter().any(|line| line.contains("\"big\"") && line.contains("ENOTEMPTY"))
    });
    assert!(stand.target("standby").join("big/7").exists());
    let control = format!("--control={}", stand.control().display());
    let waited = stand.environment.run(["wait", "--timeout=1ms", &control]);
    assert_ne!(waited.code(), 0);
    stand.environment.run(["approve", &control]).succeeded();
    assert_settles(&stand, "standby", "after approve", &mirror);
    mirror.terminate();
}

#[test]
fn a_source_that_is_a_link_which_a_deployment_switches_is_followed() {
    let stand = Stand::new();
    let (one, two) = (stand.dir.path().join("release1"), stand.dir.path().join("release2"));
    for (dir, text) in [(&one, "first"), (&two, "second")] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("index"), text).unwrap();
    }
    fs::remove_dir(stand.source()).unwrap();
    symlink(&one, stand.source()).unwrap();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let index = stand.target("standby").join("index");
    assert_eq!(fs::read(&index).unwrap(), b"first");
    let next = stand.dir.path().join("next");
    symlink(&two, &next).unwrap();
    fs::rename(&next, stand.source()).unwrap();
    eventually("the second release", || fs::read(&index).is_ok_and(|text| text == b"second"));
    fs::write(two.join("index"), "third, edited").unwrap();
    eventually("an edit in it", || fs::read(&index).is_ok_and(|text| text == b"third, edited"));
    mirror.terminate();
}

#[test]
fn a_mount_that_comes_is_mirrored_and_one_that_goes_deletes_nothing_below_it() {
    if !is_root() {
        return;
    }
    let stand = Stand::new();
    let (outside, inside) = (stand.dir.path().join("volume"), stand.source().join("media"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&inside).unwrap();
    fs::write(outside.join("film"), "film").unwrap();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let film = stand.target("standby").join("media/film");
    let mount = Mount::tmpfs(&inside, "4m");
    fs::write(inside.join("film"), "film").unwrap();
    eventually("what is mounted", || film.exists());
    // The file may arrive before the comparison that finds the mount: only then is it known as one.
    stand.wait();
    drop(mount);
    fs::write(stand.source().join("after"), "after").unwrap();
    eventually("the file after it", || stand.target("standby").join("after").exists());
    let control = format!("--control={}", stand.dir.path().join("control").display());
    stand.environment.run(["reconcile", &control]).succeeded();
    eventually("it is told", || mirror.stderr().iter().any(|line| line.contains("is not mounted")));
    fs::write(stand.source().join("later"), "later").unwrap();
    eventually("the file after the pass", || stand.target("standby").join("later").exists());
    assert!(film.exists(), "an unmounted volume looks emptied: {:?}", mirror.stderr());
    mirror.terminate();
    // Nor does a daemon that starts without it.
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    assert!(film.exists(), "an unmounted volume looks emptied: {:?}", mirror.stderr());
    fs::remove_dir(&inside).unwrap();
    eventually("the removal of the directory", || !film.exists());
    mirror.terminate();
}

#[test]
fn one_file_system_leaves_a_mount_that_comes_alone_and_what_the_target_has_below_it() {
    if !is_root() {
        return;
    }
    for watch in ["inotify", "notify"] {
        let stand = Stand::new();
        let (inside, target) = (stand.source().join("media"), stand.target("standby"));
        fs::create_dir_all(inside.join("below")).unwrap();
        fs::create_dir_all(target.join("data")).unwrap();
        fs::create_dir(stand.source().join("data")).unwrap();
        fs::write(stand.source().join("data/one"), "one").unwrap();
        let volume = Mount::tmpfs(&target.join("data"), "1m");
        fs::write(target.join("data/own"), "the standby's own").unwrap();
        let watch = format!("--watch={watch}");
        let mirror = stand.mirror(&["standby"], &["-x", "--reconcile-interval=never", &watch]);
        fs::write(target.join("media/own"), "the standby's own").unwrap();
        let settled = |context: &str| {
            let control = format!("--control={}", stand.control().display());
            stand.environment.run(["wait", "--timeout=60s", &control]).succeeded();
            stand.environment.run(["reconcile", &control]).succeeded();
            stand.environment.run(["wait", "--timeout=60s", &control]).succeeded();
            for own in ["media/own", "data/own"] {
                assert!(target.join(own).exists(), "{context}: {own} {:?}", mirror.stderr());
            }
            assert!(!target.join("media/film").exists(), "{context}: {:?}", mirror.stderr());
        };
        let mount = Mount::tmpfs(&inside, "1m");
        fs::write(inside.join("film"), "beyond").unwrap();
        settled("mounted");
        fs::rename(inside.join("film"), inside.join("own")).unwrap();
        fs::remove_file(inside.join("own")).unwrap();
        fs::write(inside.join("film"), "beyond").unwrap();
        settled("edited");
        // On the target's mount what is sent arrives, and nothing is deleted.
        fs::write(stand.source().join("data/two"), "two").unwrap();
        fs::remove_file(stand.source().join("data/one")).unwrap();
        eventually("what is sent into a mount", || target.join("data/two").exists());
        settled("on the target");
        assert!(target.join("data/one").exists(), "as rsync, which deletes nothing there");
        fs::remove_dir_all(stand.source().join("data")).unwrap();
        settled("the source lacks what is mounted");
        drop((mount, volume));
        mirror.terminate();
    }
}

#[test]
fn the_portable_backend_converges_under_adversarial_edits() {
    backend("notify", 600);
}

#[test]
fn the_polling_backend_converges_under_adversarial_edits() {
    backend("poll", 600);
}

#[test]
fn the_fanotify_backend_converges_under_adversarial_edits() {
    // Where a mark is refused this runs on inotify, and says so.
    backend("fanotify", 600);
}

/// Edits that keep size and time are out of a poll's sight: contents are compared in the end.
fn backend(name: &str, operations: usize) {
    let stand = Stand::new();
    let watch = format!("--watch={name}");
    let options = [&watch, "--poll-interval=300ms", "--reconcile-interval=1s", "--checksum"];
    let mirror = stand.mirror(&["standby"], &options);
    let mut churn = Churn::new(77, &stand.source());
    churn.run(operations);
    churn.close();
    assert_settles(&stand, "standby", name, &mirror);
    mirror.terminate();
}
