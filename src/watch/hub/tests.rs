//! One instance with several members, read by hand.

use std::fs;
use std::time::{Duration, Instant};

use super::super::kernel::tree_mask;
use super::*;

/// A group of its own with so many members, which read the kernel themselves alone.
fn group(members: usize) -> Vec<Seat> {
    let hub = Hub::unserved().unwrap();
    (0..members).map(|_| hub.seat().unwrap()).collect()
}

/// Hands over the events that wait.
fn events(seat: &Seat, mut visit: impl FnMut(Raw)) {
    seat.drain(DRAIN_READS, |said| {
        if let Said::Event(raw) = said {
            visit(raw);
        }
    });
}

fn names(seat: &Seat) -> Vec<(Wd, String)> {
    let mut names = Vec::new();
    events(seat, |raw| {
        names.push((raw.wd, String::from_utf8(raw.name.to_vec()).unwrap()));
    });
    names.dedup();
    names
}

#[test]
fn each_member_hears_of_its_own_directories_by_its_own_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a", "b", "both"].map(|name| dir.path().join(name));
    paths.iter().for_each(|path| fs::create_dir(path).unwrap());
    let seats = group(2);
    let add = |member: usize, path: usize| seats[member].add(&paths[path], tree_mask()).unwrap();
    let (a, b) = (add(0, 0), add(1, 1));
    let both = (add(0, 2), add(1, 2));
    assert_eq!(add(0, 2), both.0, "a directory that is watched keeps its number");
    paths.iter().for_each(|path| fs::write(path.join("f"), "x").unwrap());
    let file = |wd| (wd, "f".to_owned());
    assert_eq!(names(&seats[0]), [file(a), file(both.0)]);
    assert_eq!(names(&seats[1]), [file(b), file(both.1)]);
    // Who leaves hears nothing more, and the other one goes on.
    seats[0].remove(both.0);
    fs::write(paths[2].join("g"), "x").unwrap();
    assert_eq!((names(&seats[0]), names(&seats[1])), (vec![], vec![(both.1, "g".to_owned())]));
}

#[test]
fn a_new_number_has_no_events_from_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let seats = group(2);
    let wds: Vec<Wd> = seats.iter().map(|seat| seat.add(dir.path(), tree_mask()).unwrap()).collect();
    fs::write(dir.path().join("before"), "x").unwrap();
    seats[0].remove(wds[0]);
    let again = seats[0].add(dir.path(), tree_mask()).unwrap();
    assert_ne!(again, wds[0]);
    fs::write(dir.path().join("after"), "x").unwrap();
    assert_eq!(names(&seats[0]), [(again, "after".to_owned())]);
    assert_eq!(names(&seats[1]), [(wds[1], "before".to_owned()), (wds[1], "after".to_owned())]);
}

#[test]
fn who_does_not_listen_overflows_alone() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let paths = ["a", "b"].map(|name| dir.path().join(name));
    paths.iter().for_each(|path| fs::create_dir(path).unwrap());
    let seats = group(2);
    for (seat, path) in seats.iter().zip(&paths) {
        seat.add(path, tree_mask()).unwrap();
    }
    let heard = |seat: &Seat| {
        let (mut overflow, mut count) = (false, 0);
        events(seat, |raw| {
            overflow |= raw.mask.contains(ReadFlags::QUEUE_OVERFLOW);
            count += 1;
        });
        (overflow, count)
    };
    // Opened, closed and removed: three events each, taken from the kernel now and then.
    for n in 0..WAITING_MAX / 2 {
        let file = paths[0].join("f");
        fs::write(&file, "x").unwrap();
        fs::remove_file(&file).unwrap();
        if n % 1000 == 0 {
            assert!(!heard(&seats[1]).0);
        }
    }
    fs::write(paths[1].join("f"), "x").unwrap();
    let (overflow, count) = heard(&seats[1]);
    assert!(!overflow && count > 0);
    assert_eq!(heard(&seats[0]), (true, WAITING_MAX + 1));
    // And hears again afterwards.
    fs::write(paths[0].join("g"), "x").unwrap();
    let (overflow, count) = heard(&seats[0]);
    assert!(!overflow && count > 0);
}

#[test]
fn a_queue_of_the_kernel_that_runs_over_is_an_overflow_of_its_group_alone() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (group, others) = (group(3), group(1));
    group[0].add(dir.path(), tree_mask()).unwrap();
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let most: usize = most.trim().parse().unwrap();
    for n in 0..=most / 2 {
        fs::write(dir.path().join(["f", "g"][n % 2]), "x").unwrap();
    }
    let overflows = |seat: &Seat| {
        let mut count = 0;
        events(seat, |raw| count += usize::from(raw.mask.contains(ReadFlags::QUEUE_OVERFLOW)));
        count
    };
    assert_eq!(group.iter().map(overflows).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(overflows(&others[0]), 0);
}

#[test]
fn a_directory_that_is_gone_is_forgotten_by_all_and_watched_anew_when_it_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d");
    fs::create_dir(&path).unwrap();
    let seats = group(2);
    let before: Vec<Wd> = seats.iter().map(|seat| seat.add(&path, tree_mask()).unwrap()).collect();
    fs::remove_dir(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for (seat, before) in seats.iter().zip(before) {
        let mut ignored = Vec::new();
        events(seat, |raw| {
            if raw.mask.contains(ReadFlags::IGNORED) {
                ignored.push(raw.wd);
            }
        });
        assert_eq!(ignored, [before]);
        let again = seat.add(&path, tree_mask()).unwrap();
        assert_ne!(again, before);
        fs::write(path.join("f"), "x").unwrap();
        assert_eq!(names(seat), [(again, "f".to_owned())]);
    }
    assert_eq!(seats[0].hub.lock().watches.len(), 1, "what is gone is forgotten");
}

#[test]
fn two_hundred_trees_take_less_than_half_of_the_instances_that_a_user_has() {
    assert_eq!([0, 1, 32, 33, 40, 41, 200].map(instances), [0, 2, 33, 34, 34, 35, 54]);
}

#[test]
fn the_last_member_ends_the_thread() {
    let seats = {
        let hub = Hub::new().unwrap();
        [hub.seat().unwrap(), hub.seat().unwrap()]
    };
    let hub = Arc::downgrade(&seats[0].hub);
    drop(seats);
    let until = Instant::now() + Duration::from_secs(60);
    while hub.strong_count() > 0 {
        assert!(Instant::now() < until, "the thread goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
}
