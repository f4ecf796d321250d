//! Edits that leave size and time as they were: who has not read the file again knows nothing of them.
//!
//! The daemon sleeps while they are made, so what it sees first is what came of them in the end: events tell
//! of names that are gone or stand for something else by now.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, Timespec};
use rustix::process::Signal;

use crate::support::churn::Churn;
use crate::support::command::{Background, eventually, holds_within};
use crate::support::process;
use crate::support::rng::Rng;
use crate::support::stand::{Stand, assert_settles, differences, settled_within, told};
use crate::support::tree::{Comparison, set_times};

/// Sizes of files: one that travels in one message, and one that is sent in pieces.
const SIZES: [usize; 2] = [20, 300_000];

/// Changes bytes in place and puts the time back.
fn edit_unseen(path: &Path) {
    let meta = fs::metadata(path).unwrap();
    File::options().write(true).open(path).unwrap().write_all_at(b"two", 0).unwrap();
    set_times(path, Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() as _ }).unwrap();
}

/// Does something while the daemon sleeps: when it wakes up, all of it has happened.
fn at_once(mirror: &Background, deed: impl FnOnce()) {
    mirror.signal(Signal::STOP);
    deed();
    mirror.signal(Signal::CONT);
}

type Deed = fn(&Path);

/// What happens to `d/f`, a file with one name.
const MOVES: &[(&str, Deed)] = &[
    ("its directory renamed over a new one, changed", |root| {
        fs::create_dir(root.join("e")).unwrap();
        fs::rename(root.join("d"), root.join("e")).unwrap();
        edit_unseen(&root.join("e/f"));
    }),
    ("its directory renamed over a new one and back over another, changed", |root| {
        fs::create_dir(root.join("e")).unwrap();
        fs::rename(root.join("d"), root.join("e")).unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::rename(root.join("e"), root.join("d")).unwrap();
        edit_unseen(&root.join("d/f"));
    }),
    ("changed, its directory changes places with another", |root| {
        fs::create_dir(root.join("e")).unwrap();
        fs::write(root.join("e/f"), "other").unwrap();
        edit_unseen(&root.join("d/f"));
        rustix::fs::renameat_with(CWD, root.join("e"), CWD, root.join("d"), RenameFlags::EXCHANGE).unwrap();
    }),
    ("changed, changes places with another", |root| {
        edit_unseen(&root.join("d/f"));
        let (one, other) = (root.join("other"), root.join("d/f"));
        rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
    }),
    ("changes places with a file in a new directory", |root| {
        fs::create_dir(root.join("new")).unwrap();
        fs::write(root.join("new/file"), "new").unwrap();
        let (one, other) = (root.join("new/file"), root.join("d/f"));
        rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
    }),
    ("its directory changes places with a file in a new one", |root| {
        fs::create_dir(root.join("new")).unwrap();
        fs::write(root.join("new/file"), "new").unwrap();
        let (one, other) = (root.join("new/file"), root.join("d"));
        rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
    }),
    ("changed, moved away from under a new file of its name", |root| {
        edit_unseen(&root.join("d/f"));
        fs::rename(root.join("d/f"), root.join("g")).unwrap();
        fs::write(root.join("d/f"), "three").unwrap();
    }),
];

/// What happens to `d/g`, another name of `f` that is on both sides.
const DEEDS: &[(&str, Deed)] = &[
    ("changed, removed", |root| {
        edit_unseen(&root.join("d/g"));
        fs::remove_file(root.join("d/g")).unwrap();
    }),
    ("changed, removed with its directory", |root| {
        edit_unseen(&root.join("d/g"));
        fs::remove_dir_all(root.join("d")).unwrap();
    }),
    ("its mode changed, removed", |root| {
        fs::set_permissions(root.join("d/g"), Permissions::from_mode(0o640)).unwrap();
        fs::remove_file(root.join("d/g")).unwrap();
    }),
    ("changed, replaced by a rename", |root| {
        edit_unseen(&root.join("d/g"));
        fs::write(root.join("other"), "three").unwrap();
        fs::rename(root.join("other"), root.join("d/g")).unwrap();
    }),
    ("changed, replaced by what was there before", |root| {
        edit_unseen(&root.join("d/g"));
        fs::rename(root.join("old"), root.join("d/g")).unwrap();
    }),
    ("changed, removed and made again", |root| {
        edit_unseen(&root.join("d/g"));
        fs::remove_file(root.join("d/g")).unwrap();
        fs::write(root.join("d/g"), "three").unwrap();
    }),
    ("changed, made a directory", |root| {
        edit_unseen(&root.join("d/g"));
        fs::remove_file(root.join("d/g")).unwrap();
        fs::create_dir(root.join("d/g")).unwrap();
    }),
    ("changed, moved out of the tree with its directory", |root| {
        edit_unseen(&root.join("d/g"));
        let outside = root.parent().unwrap().with_file_name("outside");
        fs::create_dir_all(&outside).unwrap();
        let name = root.file_name().unwrap();
        fs::rename(root.join("d"), outside.join(name)).unwrap();
    }),
    ("changed, moved, removed", |root| {
        edit_unseen(&root.join("d/g"));
        fs::rename(root.join("d"), root.join("e")).unwrap();
        fs::remove_dir_all(root.join("e")).unwrap();
    }),
    ("moved over an empty directory, changed, removed", |root| {
        fs::create_dir(root.join("e")).unwrap();
        fs::rename(root.join("d"), root.join("e")).unwrap();
        edit_unseen(&root.join("e/g"));
        fs::remove_dir_all(root.join("e")).unwrap();
    }),
    ("changed, its directory replaced by another", |root| {
        edit_unseen(&root.join("d/g"));
        fs::remove_file(root.join("d/g")).unwrap();
        fs::create_dir(root.join("e")).unwrap();
        fs::rename(root.join("e"), root.join("d")).unwrap();
    }),
    ("changed, the other name moved, removed", |root| {
        edit_unseen(&root.join("d/g"));
        fs::rename(root.join("f"), root.join("h")).unwrap();
        fs::remove_file(root.join("d/g")).unwrap();
    }),
    ("removed after the other name was moved and changed back and forth", |root| {
        edit_unseen(&root.join("d/g"));
        fs::rename(root.join("f"), root.join("h")).unwrap();
        fs::remove_dir_all(root.join("d")).unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::rename(root.join("h"), root.join("d/f")).unwrap();
    }),
    ("changed, changes places with another file", |root| {
        edit_unseen(&root.join("d/g"));
        rustix::fs::renameat_with(CWD, root.join("old"), CWD, root.join("d/g"), RenameFlags::EXCHANGE)
            .unwrap();
        fs::remove_file(root.join("old")).unwrap();
    }),
];

/// Plants a tree for each case, lets them happen while the daemon sleeps and waits until each is mirrored.
fn check(cases: &[(String, Deed)], plant: impl Fn(&Path, usize)) {
    let stand = Stand::new();
    let root = |at: usize| stand.source().join(at.to_string());
    for at in 0..cases.len() {
        plant(&root(at), at);
    }
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    assert_eq!(told(&differences(&stand.source(), &stand.target("standby"))), "");
    for (at, (what, deed)) in cases.iter().enumerate() {
        at_once(&mirror, || deed(&root(at)));
        let comparison = Comparison { holes: false, ..Comparison::default() };
        let different = || comparison.compare(&root(at), &stand.target("standby").join(at.to_string()));
        let same = holds_within(settled_within(), || different().is_empty());
        assert!(same, "{what}: {}\n{:?}", told(&different()), mirror.stderr());
    }
    mirror.terminate();
}

fn plant_linked(root: &Path, size: usize) {
    fs::create_dir_all(root.join("d")).unwrap();
    fs::write(root.join("f"), vec![b'1'; size]).unwrap();
    fs::hard_link(root.join("f"), root.join("d/g")).unwrap();
    fs::write(root.join("old"), "old").unwrap();
}

/// Returns a case for each size and each of these.
fn cases<T>(deeds: &[T], case: impl Fn(&T) -> (&str, Deed)) -> Vec<(String, Deed)> {
    let sized = SIZES.iter().flat_map(|size| deeds.iter().map(move |deed| (size, deed)));
    sized
        .map(|(size, deed)| {
            let (what, deed) = case(deed);
            (format!("{what}, {size} bytes"), deed)
        })
        .collect()
}

#[test]
fn a_change_under_a_name_that_goes_at_once_reaches_the_other_names() {
    check(&cases(DEEDS, |(what, deed)| (what, *deed)), |root, at| {
        plant_linked(root, SIZES[at / DEEDS.len()]);
    });
}

#[test]
fn a_change_is_mirrored_wherever_its_file_has_gone_meanwhile() {
    check(&cases(MOVES, |(what, deed)| (what, *deed)), |root, at| {
        fs::create_dir_all(root.join("d")).unwrap();
        let size = SIZES[at / MOVES.len()];
        // The same stamp and size: only what is read tells them apart.
        for path in ["d/f", "other"] {
            fs::write(root.join(path), vec![path.as_bytes()[0]; size]).unwrap();
            set_times(&root.join(path), Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 }).unwrap();
        }
    });
}

/// The seed and the number of rounds of a random test.
fn seed_and_rounds(rounds: usize) -> (u64, usize) {
    let wish = |name| std::env::var(name).ok();
    let seed = wish("SPEIL_SEEDS").and_then(|seeds| seeds.split("..").next()?.parse().ok());
    (seed.unwrap_or(1), wish("SPEIL_ROUNDS").and_then(|rounds| rounds.parse().ok()).unwrap_or(rounds))
}

#[test]
fn whatever_is_done_at_once_converges() {
    let (seed, rounds) = seed_and_rounds(10);
    let stand = Stand::new();
    let mut churn = Churn::new(3000 + seed, &stand.source());
    churn.run(300);
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    for round in 0..rounds {
        at_once(&mirror, || churn.run(30));
        assert_settles(&stand, "standby", &format!("round {round}"), &mirror);
    }
    mirror.terminate();
}

/// Polling sees the end of what was done between two walks, and notify nothing of what is in a new directory.
#[test]
fn random_edits_converge_over_the_backends_that_hear_little() {
    let (seed, rounds) = seed_and_rounds(10);
    for backend in ["poll", "notify"] {
        let stand = Stand::new();
        let mut churns =
            [Churn::new(8000 + seed, &stand.source()), Churn::of_few(9000 + seed, &stand.source())]
                // A walk sees such an edit by its ctime alone, unless that has another reason as well.
                .map(|churn| if backend == "poll" { churn.without("time kept") } else { churn });
        churns.iter_mut().for_each(|churn| churn.run(150));
        let watch = format!("--watch={backend}");
        let mirror =
            stand.mirror(&["standby"], &["--reconcile-interval=never", "--poll-interval=100ms", &watch]);
        for round in 0..rounds {
            let churn = &mut churns[round % 2];
            if round % 4 < 2 {
                at_once(&mirror, || churn.run(30))
            } else {
                churn.run(60)
            }
            assert_settles(&stand, "standby", &format!("{backend}, seed {seed}, round {round}"), &mirror);
        }
        mirror.terminate();
    }
}

/// An agent that sleeps answers nothing, so that renames overtake what was begun before them.
#[test]
fn whatever_is_done_while_the_agent_sleeps_or_before_it_dies_converges() {
    let (seed, rounds) = seed_and_rounds(10);
    let stand = Stand::new();
    let mut rng = Rng::new(seed);
    let mut churn = Churn::of_few(4000 + seed, &stand.source());
    churn.run(80);
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let agent = || process::holder_of(stand.sshd.pid(), &stand.target("standby"));
    for round in 0..rounds {
        let mut there = None;
        eventually("there is an agent", || {
            there = agent();
            there.is_some()
        });
        let agent = there.unwrap();
        process::send(agent, Signal::STOP);
        let steps = 1 + rng.below(5);
        for _ in 0..steps {
            at_once(&mirror, || churn.run(1 + rng.below(6)));
            if rng.one_in(2) {
                process::until_it_rests(mirror.pid());
            }
        }
        let dies = rng.one_in(4);
        process::send(agent, if dies { Signal::KILL } else { Signal::CONT });
        let context =
            format!("seed {seed}, round {round}, {steps} steps{}", if dies { ", dies" } else { "" });
        assert_settles(&stand, "standby", &context, &mirror);
    }
    mirror.terminate();
}
