//! Names, sizes and times are equal and the bytes are not: what came to a name otherwise than by a rename
//! that the target acknowledged is read. rsync --checksum judges.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, Timespec};
use rustix::process::Signal;

use crate::support::command::{Background, eventually};
use crate::support::process;
use crate::support::stand::{Stand, assert_settles, judged};
use crate::support::tree::set_times;

/// Sets the same time for a directory and everything below it, as reproducible archives have it.
fn stamp(root: &Path) {
    for entry in walkdir::WalkDir::new(root).contents_first(true).into_iter().map(Result::unwrap) {
        set_times(entry.path(), Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 }).unwrap();
    }
}

/// Plants a release: three directories, of which two hold what is the same in every version.
fn release(root: &Path, version: &str) {
    let at = |name: &str| root.join(version).join(name);
    for (name, content) in
        [("bin/app", version), ("lib/deep/f", version), ("static/logo", "<svg/>"), ("VERSION", version)]
    {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), content).unwrap();
    }
    fs::write(at("static/film"), vec![b'f'; 400_000]).unwrap();
    fs::write(at("lib/big"), vec![b'b'; 400_000]).unwrap();
    fs::write(at("empty"), "").unwrap();
    stamp(&root.join(version));
}

/// Replaces release 1.2.3 by 1.2.4.
fn upgrade(root: &Path) {
    fs::remove_dir_all(root.join("1.2.3")).unwrap();
    release(root, "1.2.4");
}

/// Runs `speil sync` and returns what it says.
fn sync(stand: &Stand) -> String {
    let paths = [format!("{}/", stand.source().display()), format!("{}/", stand.target("copy").display())];
    let options = ["sync", "-aHAX", "--delete", "--no-delete-guard", "--stats"].map(String::from);
    stand.environment.run(options.into_iter().chain(paths)).succeeded().stdout
}

/// Returns the bytes that were sent as content.
fn literal(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("Literal data: ")).unwrap();
    line.chars().filter(char::is_ascii_digit).collect()
}

#[test]
fn a_release_with_the_stamps_of_another_has_its_own_bytes_after_one_pass() {
    let stand = Stand::new();
    release(&stand.source(), "1.2.3");
    sync(&stand);
    upgrade(&stand.source());
    let said = sync(&stand);
    assert_eq!(judged(&stand.source(), &stand.target("copy"), &[]), "");
    // bin/app, lib/deep/f and VERSION; what is the same below is renamed.
    assert_eq!(literal(&said), "15", "{said}");
    // A release that is only renamed is one rename, whatever its stamps.
    fs::rename(stand.source().join("1.2.4"), stand.source().join("1.2.5")).unwrap();
    let said = sync(&stand);
    assert_eq!(judged(&stand.source(), &stand.target("copy"), &[]), "");
    assert_eq!(literal(&said), "0", "{said}");
}

#[test]
fn a_daemon_that_was_down_takes_a_release_for_no_other_with_its_stamps() {
    let stand = Stand::new();
    release(&stand.source(), "1.2.3");
    stand.mirror(&["standby"], &[]).terminate();
    upgrade(&stand.source());
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    stand.wait();
    assert_eq!(judged(&stand.source(), &stand.target("standby"), &[]), "");
    mirror.terminate();
}

/// Plants `a` and `b`, and the same files below `d` and `e`: equal but for what they hold.
fn plant_pair(root: &Path) {
    for (names, content) in [(["a", "d/f", "d/sub/f"], "AAAA"), (["b", "e/f", "e/sub/f"], "BBBB")] {
        for name in names {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), content).unwrap();
        }
    }
    stamp(root);
}

/// Has two names change places by way of a third.
fn swap(root: &Path, one: &str, other: &str) {
    for (from, to) in [(one, "third"), (other, one), ("third", other)] {
        fs::rename(root.join(from), root.join(to)).unwrap();
    }
}

fn exchange(one: &Path, other: &Path) {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

type Deed = fn(&Path);

/// Renames that no stamp tells of.
const DEEDS: &[(&str, Deed)] = &[
    ("files change places", |root| swap(root, "a", "b")),
    ("directories change places", |root| swap(root, "d", "e")),
    ("files change places at once", |root| exchange(&root.join("a"), &root.join("b"))),
    ("directories change places at once", |root| exchange(&root.join("d"), &root.join("e"))),
    ("directories change places, and then what is in them", |root| {
        swap(root, "d", "e");
        swap(root, "d/sub", "e/sub");
    }),
    ("a directory comes to the name of another, and something goes on from there", |root| {
        fs::rename(root.join("d"), root.join("old")).unwrap();
        fs::rename(root.join("e"), root.join("d")).unwrap();
        fs::rename(root.join("old/sub"), root.join("e")).unwrap();
        fs::rename(root.join("d/f"), root.join("b")).unwrap();
    }),
];

/// Plants a tree for each deed, does them all, and has rsync judge what the target makes of it.
fn check(stand: &Stand, target: &str, options: &[&str], with: impl FnOnce(&Background, &dyn Fn())) {
    let root = |at: usize| stand.source().join(at.to_string());
    for at in 0..DEEDS.len() {
        fs::create_dir_all(root(at)).unwrap();
        plant_pair(&root(at));
    }
    let options = [options, &["--reconcile-interval=never"]].concat();
    let mirror = stand.mirror(&[target], &options);
    with(&mirror, &|| (0..DEEDS.len()).for_each(|at| (DEEDS[at].1)(&root(at))));
    stand.wait();
    for (at, (what, _)) in DEEDS.iter().enumerate() {
        let there = stand.target(target).join(at.to_string());
        assert_eq!(judged(&root(at), &there, &[]), "", "{what}: {:?}", mirror.stderr());
    }
    mirror.terminate();
    fs::remove_dir_all(stand.source()).unwrap();
    fs::create_dir(stand.source()).unwrap();
}

#[test]
fn names_that_change_places_hold_their_own_bytes_also_if_the_agent_dies_meanwhile() {
    let stand = Stand::new();
    check(&stand, "uncut", &[], |_, deeds| deeds());
    // What was sent and not answered may have been done or not.
    check(&stand, "cut", &[], |mirror, deeds| {
        let agent = process::holder_of(stand.sshd.pid(), &stand.target("cut")).unwrap();
        process::send(agent, Signal::STOP);
        deeds();
        process::until_it_rests(mirror.pid());
        process::send(agent, Signal::KILL);
        let holder = || process::holder_of(stand.sshd.pid(), &stand.target("cut"));
        eventually("another agent", || holder().is_some_and(|now| now != agent));
    });
}

#[test]
fn what_comes_to_a_name_where_rules_or_options_split_the_rename_is_read() {
    let stand = Stand::new();
    let (rule, update) = (["--exclude=/*/d/*.x"], ["-u"]);
    check(&stand, "filtered", &rule, |_, deeds| deeds());
    check(&stand, "updated", &update, |_, deeds| deeds());
}

#[test]
fn another_tree_under_the_name_of_the_source_is_read() {
    let stand = Stand::new();
    let (blue, green) = (stand.path("blue"), stand.path("green"));
    for (root, content) in [(&blue, "blue"), (&green, "gren")] {
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(root.join("d/f"), content).unwrap();
        stamp(root);
    }
    fs::remove_dir(stand.source()).unwrap();
    std::os::unix::fs::symlink(&blue, stand.source()).unwrap();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    std::os::unix::fs::symlink(&green, stand.path("next")).unwrap();
    fs::rename(stand.path("next"), stand.source()).unwrap();
    eventually("the other tree is mirrored", || judged(&green, &stand.target("standby"), &[]).is_empty());
    mirror.terminate();
}

#[test]
fn after_a_burst_of_exchanges_nothing_is_missing_for_long() {
    let stand = Stand::new();
    for (name, len) in [("a", 10), ("b", 20_000)] {
        fs::write(stand.source().join(name), vec![b'x'; len]).unwrap();
    }
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    for round in 0..40 {
        exchange(&stand.source().join("a"), &stand.source().join("b"));
        // Each is on its way before the next one.
        let marker = format!("round-{round}");
        fs::write(stand.source().join(&marker), "").unwrap();
        eventually("a round is heard of", || stand.target("standby").join(&marker).exists());
    }
    assert_settles(&stand, "standby", "exchanges", &mirror);
    let busy: Vec<String> = mirror.stderr().into_iter().filter(|line| line.contains("EBUSY")).collect();
    assert_eq!(busy, [""; 0], "neither name was taken away");
    eventually("no problem remains", || {
        let control = format!("--control={}", stand.control().display());
        !stand.environment.run(["status", &control]).stdout.contains("problem")
    });
    mirror.terminate();
}
