use std::time::Duration;

use super::super::mailbox::Mailbox;
use super::*;

fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

const LATER: Duration = Duration::from_secs(600);

fn full(size: u64, since: Instant) -> Failure<'static> {
    let need = Some(Need { size, owner: 0 });
    Failure {
        operation: "write",
        errno: libc::ENOSPC,
        on_target: true,
        unseen: false,
        age: Age::believed(since),
        need,
    }
}

fn due(status: &TargetStatus, now: Instant) -> Vec<RelPath> {
    status.due(now).into_iter().map(|(path, ..)| path).collect()
}

#[test]
fn a_path_that_failed_is_tried_again_under_the_name_that_it_has_by_then() {
    let (status, now) = (TargetStatus::default(), Instant::now());
    let failure = Failure { errno: libc::EPERM, ..full(0, now) };
    for name in ["d/f", "d0", "e"] {
        assert!(status.problem(&path(name), &failure));
    }
    status.rename(&path("d"), &path("e/g"));
    assert_eq!(due(&status, now + LATER), [path("d0"), path("e"), path("e/g/f")]);
    // What is tried as it is renamed counts as solved all the same.
    status.rename(&path("e"), &path("h"));
    status.settle(7, |_| false);
    status.acknowledged(7);
    assert_eq!(status.problems(), []);
}

#[test]
fn what_fails_before_its_time_delays_the_next_try_by_nothing() {
    let (status, now) = (TargetStatus::default(), Instant::now());
    let failure = Failure { operation: "update", errno: libc::EBUSY, ..full(0, now) };
    status.problem(&path("f"), &failure);
    let told = |status: &TargetStatus| {
        status.problems().into_iter().map(|(_, p)| (p.attempts, p.retry_at)).collect::<Vec<_>>()
    };
    let before = told(&status);
    for _ in 0..20 {
        status.problem(&path("f"), &failure);
    }
    assert_eq!((told(&status), before[0].0), (before, 1));
}

#[test]
fn a_try_is_not_over_before_its_file_is_sent_whole() {
    let (status, now) = (TargetStatus::default(), Instant::now());
    status.problem(&path("large"), &full(1 << 20, now));
    assert_eq!(due(&status, now + LATER), [path("large")]);
    // Batches of other changes come and go meanwhile.
    status.settle(7, |_| true);
    status.acknowledged(7);
    assert_eq!(status.problems().len(), 1);
    status.problem(&path("large"), &full(1 << 20, now));
    let attempts: Vec<u32> = status.problems().into_iter().map(|(_, problem)| problem.attempts).collect();
    assert_eq!(attempts, [2]);
}

#[test]
fn one_path_finds_out_whether_there_is_room_and_then_all_that_wait_go() {
    let (status, now) = (TargetStatus::default(), Instant::now());
    let mut told = Vec::new();
    let mut waits = |name: &str, size| {
        status.waits_for_room(&path(name), Need { size, owner: 0 }, Age::believed(now), |errno| {
            told.push((name.to_owned(), errno))
        })
    };
    status.problem(&path("failed"), &full(9000, now));
    assert!(waits("like", 9000));
    assert!(waits("larger", 1 << 20));
    assert!(waits("larger", 1 << 20), "once more");
    assert!(!waits("smaller", 10));
    assert_eq!(due(&status, now), [], "the pause is not over");
    assert_eq!(due(&status, now + LATER), [path("failed")]);
    assert!(!waits("failed", 9000), "it is being tried");
    assert_eq!(due(&status, now + LATER), []);
    status.tried(&path("failed"), 3);
    status.acknowledged(3);
    assert_eq!(due(&status, now + LATER), [path("larger"), path("like")]);
    let once = ["like", "larger"].map(|name| (name.to_owned(), libc::ENOSPC));
    assert_eq!(told, once, "each that waits is told, once");
}

#[test]
fn what_waits_and_is_not_kept_one_by_one_is_compared_once_there_is_room() {
    let (status, now) = (TargetStatus::default(), Instant::now());
    let need = Need { size: 0, owner: 0 };
    for at in 0..=PROBLEMS_MAX {
        assert!(at == 0 || status.waits_for_room(&path(&at.to_string()), need, Age::believed(now), |_| ()));
        if at == 0 {
            status.problem(&path("0"), &full(0, now));
        }
    }
    assert_eq!((status.problems().len(), status.more_problems()), (PROBLEMS_MAX, 1));
    assert_eq!(due(&status, now + LATER), [path("0")]);
    status.looked(1);
    assert!(due(&status, now + LATER).contains(&RelPath::root()));
}

#[test]
fn a_path_that_fails_is_no_lag_until_it_is_solved_whatever_else_is_heard_of_it() {
    let (status, now) = (TargetStatus::default(), Instant::now());
    let age = Age::believed(now);
    let (file, other) = (Change::read(path("f"), age), Change::read(path("g"), age));
    assert!(status.counts(&file));
    status.problem(&path("f"), &Failure { errno: libc::EFBIG, ..full(0, now) });
    assert!(!status.counts(&file) && status.counts(&other));
    let mailbox = Mailbox::new();
    mailbox.push_first(vec![file.clone()], |change| status.counts(change));
    // An edit of the path while it waits: the target is as far behind as it was.
    mailbox.push_live([file.clone()]);
    let waits = mailbox.pending().since;
    assert_eq!((waits.lag, waits.debt), (None, Some(now)));
    mailbox.push_live([other]);
    assert_eq!(mailbox.pending().since.lag, Some(now));
    status.tried(&path("f"), 7);
    status.acknowledged(7);
    assert!(status.counts(&file));
}
