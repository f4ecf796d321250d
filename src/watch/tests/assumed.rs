//! What `tests/sim/kernel.rs` assumes of the kernel, asked of the kernel itself.
//!
//! Each test has the number of its assumption in the list there.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::time::{ClockId, clock_gettime};

/// What one event says: its kind, its number of a rename, its name.
type Said = (ReadFlags, u32, String);

struct Queue(OwnedFd);

impl Queue {
    /// Watches directories.
    fn of(dirs: &[&Path]) -> Self {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("an instance");
        let mask = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE;
        for dir in dirs {
            inotify::add_watch(&fd, *dir, mask).expect("a watch");
        }
        Self(fd)
    }

    fn read(&self) -> Vec<Said> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut said = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
            said.push((event.events() - ReadFlags::ISDIR, event.cookie(), name.unwrap_or_default()));
        }
        said
    }

    /// Reads what there is, without the numbers of renames.
    fn kinds(&self) -> Vec<(ReadFlags, String)> {
        self.read().into_iter().map(|(kind, _, name)| (kind, name)).collect()
    }
}

fn write(path: &Path, text: &str) {
    let mut file = OpenOptions::new().write(true).open(path).expect("open");
    file.write_all(text.as_bytes()).expect("write");
}

fn said(kind: ReadFlags, name: &str) -> (ReadFlags, String) {
    (kind, name.to_owned())
}

/// Nanoseconds since 1970.
fn clock(id: ClockId) -> i64 {
    let now = clock_gettime(id);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn ctime(path: &Path) -> i64 {
    let meta = fs::symlink_metadata(path).expect("it is there");
    meta.ctime() * 1_000_000_000 + meta.ctime_nsec()
}

/// Waits until the clock of change times has moved on.
fn next_tick() {
    let now = clock(ClockId::RealtimeCoarse);
    while clock(ClockId::RealtimeCoarse) == now {
        std::hint::spin_loop();
    }
}

#[test]
fn n1_events_come_from_watched_directories_alone_by_the_name_that_was_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let (seen, unseen) = (dir.path().join("seen"), dir.path().join("unseen"));
    for dir in [&seen, &unseen] {
        fs::create_dir(dir).expect("mkdir");
    }
    File::create(seen.join("a")).expect("create");
    for other in [seen.join("b"), unseen.join("c")] {
        fs::hard_link(seen.join("a"), other).expect("link");
    }
    let queue = Queue::of(&[&seen]);
    write(&seen.join("b"), "1");
    write(&unseen.join("c"), "2");
    assert_eq!(queue.kinds(), [said(ReadFlags::MODIFY, "b")]);
}

#[test]
fn n2_an_event_that_equals_the_last_one_is_joined_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for path in [&a, &b] {
        File::create(path).expect("create");
    }
    let queue = Queue::of(&[dir.path()]);
    write(&a, "1");
    write(&a, "2");
    write(&b, "1");
    write(&a, "3");
    let modify = |name| said(ReadFlags::MODIFY, name);
    assert_eq!(queue.kinds(), [modify("a"), modify("b"), modify("a")]);
}

#[test]
fn n3_a_full_queue_keeps_what_it_has_and_says_once_that_it_dropped_what_came() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("a limit");
    let limit: usize = limit.trim().parse().expect("a number");
    if limit > 100_000 {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for path in [&a, &b] {
        File::create(path).expect("create");
    }
    let queue = Queue::of(&[dir.path()]);
    for at in 0..limit + 100 {
        fs::set_permissions(
            if at.is_multiple_of(2) { &a } else { &b },
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .expect("chmod");
    }
    let kinds = queue.kinds();
    assert_eq!(kinds.len(), limit + 1);
    let attrib = |at: usize| said(ReadFlags::ATTRIB, if at.is_multiple_of(2) { "a" } else { "b" });
    assert!(kinds[..limit].iter().enumerate().all(|(at, kind)| *kind == attrib(at)));
    assert_eq!(kinds[limit].0, ReadFlags::QUEUE_OVERFLOW);
    fs::remove_file(&a).expect("delete");
    assert!(queue.kinds().contains(&said(ReadFlags::DELETE, "a")));
}

#[test]
fn n4_both_halves_of_a_rename_share_a_number_and_a_side_that_is_not_watched_is_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (seen, unseen) = (dir.path().join("seen"), dir.path().join("unseen"));
    for dir in [&seen, &unseen] {
        fs::create_dir(dir).expect("mkdir");
    }
    File::create(seen.join("a")).expect("create");
    let queue = Queue::of(&[&seen]);
    fs::rename(seen.join("a"), seen.join("b")).expect("rename");
    fs::rename(seen.join("b"), unseen.join("b")).expect("rename");
    let said = queue.read();
    let kinds: Vec<ReadFlags> = said.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, [ReadFlags::MOVED_FROM, ReadFlags::MOVED_TO, ReadFlags::MOVED_FROM]);
    assert!(said[0].1 == said[1].1 && said[1].1 != said[2].1);
}

#[test]
fn n5_an_exchange_is_two_renames_there_and_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::create_dir(&a).expect("mkdir");
    File::create(&b).expect("create");
    let queue = Queue::of(&[dir.path()]);
    if renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).is_err() {
        // The filesystem cannot.
        return;
    }
    let said = queue.read();
    let names: Vec<(ReadFlags, &str)> = said.iter().map(|(kind, _, name)| (*kind, name.as_str())).collect();
    let (from, to) = (ReadFlags::MOVED_FROM, ReadFlags::MOVED_TO);
    assert_eq!(names, [(from, "a"), (to, "b"), (from, "b"), (to, "a")]);
    assert!(said[0].1 == said[1].1 && said[2].1 == said[3].1 && said[1].1 != said[2].1);
}

#[test]
fn n6_a_change_time_is_not_before_the_coarse_clock_that_was_read_ahead_of_the_change() {
    let dir = tempfile::tempdir().expect("a directory");
    for at in 0..200 {
        let path = dir.path().join(at.to_string());
        let before = clock(ClockId::RealtimeCoarse);
        File::create(&path).expect("create");
        assert!(ctime(&path) >= before);
        assert!(ctime(&path) <= clock(ClockId::Realtime));
    }
}

#[test]
fn n7_whatever_changes_a_file_or_its_names_moves_its_change_time_and_not_that_of_what_is_below() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("d")).expect("mkdir");
    File::create(at("d/f")).expect("create");
    File::create(at("f")).expect("create");
    let moves = |path: &str, change: &dyn Fn(), after: &str| {
        let before = ctime(&at(path));
        next_tick();
        change();
        assert!(ctime(&at(after)) > before, "{path} {after}");
    };
    moves("f", &|| write(&at("f"), "text"), "f");
    moves("f", &|| fs::hard_link(at("f"), at("g")).expect("link"), "f");
    moves("f", &|| fs::remove_file(at("g")).expect("unlink"), "f");
    moves("f", &|| fs::rename(at("f"), at("g")).expect("rename"), "g");
    let epoch = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    moves("g", &|| File::open(at("g")).and_then(|file| file.set_times(epoch)).expect("utimes"), "g");
    let below = ctime(&at("d/f"));
    moves("d", &|| fs::rename(at("d"), at("e")).expect("rename"), "e");
    assert_eq!(ctime(&at("e/f")), below);
}

#[test]
fn n8_a_directory_that_is_watched_tells_of_nothing_that_was_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let below = dir.path().join("d");
    fs::create_dir(&below).expect("mkdir");
    File::create(below.join("before")).expect("create");
    let queue = Queue::of(&[&below]);
    File::create(below.join("after")).expect("create");
    assert_eq!(queue.kinds(), [said(ReadFlags::CREATE, "after")]);
}

#[test]
fn n9_a_watch_goes_along_with_its_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    fs::create_dir(&old).expect("mkdir");
    let queue = Queue::of(&[&old]);
    fs::rename(&old, &new).expect("rename");
    File::create(new.join("f")).expect("create");
    assert_eq!(queue.kinds(), [said(ReadFlags::CREATE, "f")]);
}

#[test]
fn n10_a_file_that_replaces_another_by_rename_is_told_as_a_rename_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for path in [&a, &b] {
        File::create(path).expect("create");
    }
    let queue = Queue::of(&[dir.path()]);
    fs::rename(&a, &b).expect("rename");
    let from_to = [said(ReadFlags::MOVED_FROM, "a"), said(ReadFlags::MOVED_TO, "b")];
    assert_eq!(queue.kinds(), from_to);
}
