use std::fs;
use std::time::Instant;

use super::*;
use crate::tree::{Attrs, FileId, Meta};

fn entry(ino: u64, ctime: i64, mtime: i64, size: u64) -> Entry {
    let time = |secs| Time { secs, nanos: 7 };
    let meta = Meta { kind: Kind::File, mode: 0o644, uid: 0, gid: 0, size, mtime: time(mtime), rdev: 0 };
    let attrs = Attrs { meta, symlink: Vec::new(), xattrs: Vec::new() };
    let id = FileId { dev: 1, ino };
    Entry { name: Vec::new(), attrs, ctime: time(ctime), id, nlink: 1, hash: None, digest: None }
}

fn target() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(STATE_DIR_NAME)).unwrap();
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

fn open(root: &Root) -> io::Result<Own> {
    Own::open(root, open_dir(root.as_fd(), STATE_DIR_NAME.as_bytes())?.as_fd())
}

const STATE_DIR_NAME: &str = ".speil";

fn is_foreign(own: &Own, entry: &Entry) -> bool {
    own.mark(entry).unwrap().1
}

#[test]
fn whatever_changes_makes_a_file_foreign_and_no_clock_is_asked() {
    let (_dir, root) = target();
    let own = open(&root).unwrap();
    let ours = entry(5, 1000, 900, 10);
    assert!(is_foreign(&own, &ours), "nothing is known yet");
    own.add(&ours, &ours);
    assert!(!is_foreign(&own, &ours));
    // Later, and earlier: the target's clock may have been set back.
    for ctime in [1001, 999, -5] {
        assert!(is_foreign(&own, &entry(5, ctime, 900, 10)), "{ctime}");
    }
    for other in [entry(6, 1000, 900, 10), entry(5, 1000, 901, 10), entry(5, 1000, 900, 11)] {
        assert!(is_foreign(&own, &other));
    }
    // Somebody wrote to it between the last look at it under its temporary name and the first under its own.
    own.add(&entry(7, 1, 1, 1), &entry(7, 2, 2, 1));
    own.add(&entry(8, 1, 1, 1), &entry(8, 2, 1, 2));
    assert!(is_foreign(&own, &entry(7, 2, 2, 1)) && is_foreign(&own, &entry(8, 2, 1, 2)));
    // Another change time by the agent's own hand, and by another's before.
    own.again(&ours, &entry(5, 1002, 900, 10));
    assert!(!is_foreign(&own, &entry(5, 1002, 900, 10)) && is_foreign(&own, &ours));
    own.again(&entry(9, 1, 1, 1), &entry(9, 2, 1, 1));
    assert!(is_foreign(&own, &entry(9, 2, 1, 1)));
    // The agent sets a time, and somebody else does.
    own.dressed(&entry(5, 1002, 900, 10), &entry(5, 1003, 950, 10), Time { secs: 950, nanos: 7 }, 1);
    assert!(!is_foreign(&own, &entry(5, 1003, 950, 10)));
    own.dressed(&entry(5, 1003, 950, 10), &entry(5, 1004, 951, 10), Time { secs: 950, nanos: 7 }, 1);
    assert!(is_foreign(&own, &entry(5, 1004, 951, 10)));
}

#[test]
fn marks_are_read_again_whole_and_a_torn_or_strange_file_costs_no_more_than_them() {
    let (dir, root) = target();
    let file = dir.path().join(".speil/own");
    let many: Vec<Entry> = (0..1000).map(|ino| entry(ino, 1, 1, 1)).collect();
    let own = open(&root).unwrap();
    for part in many.chunks(100) {
        part.iter().for_each(|entry| own.add(entry, entry));
        own.save();
    }
    drop(own);
    assert_eq!(fs::metadata(&file).unwrap().len(), 8 * 1001);
    let own = open(&root).unwrap();
    assert!(many.iter().all(|entry| !is_foreign(&own, entry)));
    drop(own);
    // Cut within a mark, as a full disk or a power cut leaves it; what follows begins at its place again.
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(8 * 1000 + 3).unwrap();
    let own = open(&root).unwrap();
    assert!(is_foreign(&own, &many[999]) && !is_foreign(&own, &many[998]));
    let next = entry(5000, 1, 1, 1);
    own.add(&next, &next);
    own.save();
    drop(own);
    let own = open(&root).unwrap();
    assert!(!is_foreign(&own, &next) && !is_foreign(&own, &many[998]));
    drop(own);
    fs::write(&file, "something else altogether").unwrap();
    let own = open(&root).unwrap();
    assert!(many.iter().all(|entry| is_foreign(&own, entry)));
    own.add(&next, &next);
    own.save();
    drop(own);
    assert!(!is_foreign(&open(&root).unwrap(), &next));
}

/// Killed: nothing more is written.
fn kill(own: Own) {
    drop(own);
}

#[test]
fn what_a_killed_agent_had_planned_is_its_own_and_nothing_that_was_written_to_since() {
    let (dir, root) = target();
    let length = || fs::metadata(dir.path().join(".speil/own.next")).unwrap().len();
    let own = open(&root).unwrap();
    let old = entry(1, 10, 10, 10);
    own.add(&old, &old);
    own.save();
    (2..=5).for_each(|ino| own.plan(&entry(ino, 20, 20, 20)));
    assert_eq!(length(), 8 * 4);
    kill(own);

    let own = open(&root).unwrap();
    assert!(!is_foreign(&own, &old) && !is_foreign(&own, &entry(2, 21, 20, 20)));
    // Written to since; and another file altogether.
    assert!(is_foreign(&own, &entry(3, 22, 22, 20)) && is_foreign(&own, &entry(3, 22, 20, 21)));
    assert!(is_foreign(&own, &entry(6, 21, 20, 20)));
    // It is asked once: whoever changes it now is somebody else.
    assert!(is_foreign(&own, &entry(2, 30, 20, 20)));
    own.save();
    own.plan(&entry(7, 40, 40, 40));
    kill(own);

    let own = open(&root).unwrap();
    assert!(!is_foreign(&own, &entry(2, 21, 20, 20)), "its mark was written");
    assert!(!is_foreign(&own, &entry(4, 21, 20, 20)), "met only now");
    assert!(!is_foreign(&own, &entry(7, 41, 40, 40)));
    own.walked(3, None);
    assert!(is_foreign(&own, &entry(5, 21, 20, 20)), "it was nowhere");
    own.save();
    assert_eq!(length(), 0);
    // What is done and written is no plan any more.
    own.plan(&entry(8, 50, 50, 50));
    own.save();
    kill(own);
    assert!(is_foreign(&open(&root).unwrap(), &entry(8, 51, 50, 50)));
}

#[test]
fn a_walk_that_met_few_files_is_followed_by_one_that_clears_away_the_marks_of_what_is_gone() {
    let (dir, root) = target();
    let own = open(&root).unwrap();
    let gone = u64::try_from(SLACK).unwrap() + 100;
    (0..gone).map(|ino| entry(ino, 1, 1, 1)).for_each(|entry| own.add(&entry, &entry));
    own.save();
    let (met, new) = (entry(3, 1, 1, 1), entry(3, 2, 1, 1));
    assert!(!own.begin_clearing());
    own.walked(1, None);
    assert!(own.begin_clearing());
    own.add(&new, &new);
    own.walked(1, Some(None));
    assert!(!is_foreign(&own, &entry(4, 1, 1, 1)), "the walk had problems: nothing was cleared");
    assert!(own.begin_clearing());
    let newer = entry(3, 3, 1, 1);
    own.add(&newer, &newer);
    own.walked(1, Some(Some(vec![own.mark(&met).unwrap().0])));
    assert!(is_foreign(&own, &entry(4, 1, 1, 1)) && is_foreign(&own, &new));
    assert!(!is_foreign(&own, &met) && !is_foreign(&own, &newer), "what came during the walk is kept");
    own.save();
    assert_eq!(fs::metadata(dir.path().join(".speil/own")).unwrap().len(), 8 * 3);
}

/// Prints what a million files cost: `cargo test --release --lib a_million_files -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn a_million_files() {
    let (dir, root) = target();
    let many: Vec<Entry> = (0..1_000_000).map(|ino| entry(ino, 1, 1, 1)).collect();
    let own = open(&root).unwrap();
    let marks: Vec<u64> = many.iter().map(|entry| own.mark(entry).unwrap().0).collect();
    let timed = |what: &str, act: &mut dyn FnMut()| {
        let began = Instant::now();
        act();
        println!("{what}: {} ms", began.elapsed().as_millis());
    };
    timed("agree", &mut || own.agree(&marks));
    timed("save", &mut || own.save());
    timed("look up", &mut || assert!(many.iter().all(|entry| !is_foreign(&own, entry))));
    timed("open", &mut || drop(open(&root).unwrap()));
    println!("memory: {} bytes", own.lock().all.allocation_size());
    println!("file: {} bytes", fs::metadata(dir.path().join(".speil/own")).unwrap().len());
}
