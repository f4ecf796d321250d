//! Two trees that were written to while neither saw the other, with sizes and times that are the same: what may have
//! changed is read, and nothing else.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Timespec;
use rustix::process::Signal;

use super::{ALL, BERGEN, Hosts, OSLO, TROMSO};
use crate::support::command::{DEADLINE, eventually, holds_within};
use crate::support::tree::set_times;

/// Files that nobody touches.
const OLD: usize = 60;

/// Plants files, and waits until they are older than what is stated soon.
fn plant(root: &Path) {
    for dir in ["a", "b/deep"] {
        fs::create_dir_all(root.join(dir)).unwrap();
        (0..OLD / 2).for_each(|at| fs::write(root.join(format!("{dir}/{at}")), format!("old {at}")).unwrap());
    }
    let made = fs::metadata(root.join("b/deep")).unwrap().ctime();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    eventually("they are old enough", || now() > made + 3);
}

/// As from an archive: the time is the one that it says.
fn unpack(root: &Path, name: &str, text: &str) {
    fs::write(root.join(name), text).unwrap();
    set_times(&root.join(name), Timespec { tv_sec: 1_000_000_000, tv_nsec: 7 }).unwrap();
}

/// Changes bytes in place and puts the time back.
pub(super) fn edit_unseen(path: &Path, text: &str) {
    let meta = fs::metadata(path).unwrap();
    File::options().write(true).open(path).unwrap().write_all_at(text.as_bytes(), 0).unwrap();
    set_times(path, Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() as _ }).unwrap();
}

/// A line of `.speil/cuts`: what was known to be on both sides, and what the clock showed.
struct Note {
    secs: i64,
    of: String,
    until: u64,
    read: u64,
}

fn notes(hosts: &Hosts, host: &str) -> Vec<Note> {
    let text = hosts.read(host, ".speil/cuts").unwrap_or_default();
    let note = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [secs, _, _, of, until, read] = words[..] else { return None };
        let (secs, of) = (secs.parse().ok()?, of.to_owned());
        Some(Note { secs, of, until: until.parse().ok()?, read: read.parse().ok()? })
    };
    text.lines().filter_map(note).collect()
}

/// Returns the second in which a file of a tree was changed last.
fn changed(hosts: &Hosts, host: &str) -> i64 {
    let below = walkdir::WalkDir::new(hosts.tree(host)).into_iter();
    let below = below.filter_entry(|entry| entry.file_name() != ".speil").flatten();
    let files = below.filter(|entry| entry.file_type().is_file());
    files.filter_map(|entry| Some(entry.metadata().ok()?.ctime())).max().unwrap_or(0)
}

/// Waits until two trees remember a state that both hold, and that is younger than the files in them. Where it was
/// noted in the very second in which a file was made, something must happen on the primary for a later one.
fn hold_the_same(hosts: &Hosts, one: &str, other: &str) {
    let is_noted = || {
        let of_both =
            [(notes(hosts, one), changed(hosts, one)), (notes(hosts, other), changed(hosts, other))];
        let until = |notes: &[Note], of: &str| {
            notes.iter().filter(|note| note.of == of).map(|note| note.until).max().unwrap_or(0)
        };
        let [(one, _), (other, _)] = &of_both;
        let Some(of) = one.iter().rev().map(|note| &note.of).find(|of| until(other, of) > 0) else {
            return false;
        };
        let both = until(one, of).min(until(other, of));
        of_both.iter().all(|(notes, changed)| {
            notes.iter().any(|note| note.of == *of && note.read <= both && note.secs > *changed)
        })
    };
    let mut patience = (0..8).map(|_| DEADLINE / 8);
    while !holds_within(patience.next().expect("both have noted it"), is_noted) {
        hosts.write(one, "nudge", "");
        fs::remove_file(hosts.tree(one).join("nudge")).unwrap();
    }
}

/// Returns how many files one host has hashed to compare them with another's.
fn hashed(hosts: &Hosts, host: &str, other: &str) -> u64 {
    let said = hosts.environment.run(["status", "--json", &hosts.control(host)]).succeeded().stdout;
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let targets = report["syncs"][0]["targets"].as_array().unwrap().clone();
    let path = hosts.tree(other).display().to_string();
    let target =
        targets.iter().find(|target| target["target"].as_str().is_some_and(|name| name.contains(&path)));
    target.unwrap_or_else(|| panic!("{report}"))["hashed"].as_u64().unwrap()
}

#[test]
fn what_was_written_on_both_sides_with_one_size_and_one_time_is_kept_aside_on_one() {
    let hosts = Hosts::new();
    plant(&hosts.tree(OSLO));
    let [oslo, bergen, tromso] = hosts.set_up();
    for host in [BERGEN, TROMSO] {
        hold_the_same(&hosts, OSLO, host);
    }
    oslo.signal(Signal::KILL);
    drop(oslo);
    for (host, text) in [(OSLO, "of oslo  "), (BERGEN, "of bergen")] {
        unpack(&hosts.tree(host), "a/unpacked", text);
    }
    edit_unseen(&hosts.tree(OSLO).join("a/1"), "OSL");
    hosts.verb(BERGEN, &["promote"]).succeeded();
    edit_unseen(&hosts.tree(BERGEN).join("b/deep/2"), "BGO");
    bergen.signal(Signal::USR1);
    eventually("the third host follows", || hosts.follows(TROMSO, 2) && hosts.equal(BERGEN, TROMSO));
    let before = hashed(&hosts, BERGEN, TROMSO);
    assert!(before < 10, "{before} files were hashed, of {OLD}");
    let oslo = hosts.start(OSLO);
    eventually("the old primary knows", || hosts.role(OSLO).contains("known 2 "));
    hosts.verb(OSLO, &["demote"]).succeeded();
    bergen.signal(Signal::USR1);
    eventually("the old primary follows", || hosts.follows(OSLO, 2));
    // In step is in step: nothing is left to be found out.
    assert!(hosts.equal(BERGEN, OSLO));
    let hashed = hashed(&hosts, BERGEN, OSLO);
    assert!((3..10).contains(&hashed), "{hashed} files were hashed, of {OLD}");
    let kept = hosts.kept(OSLO);
    assert_eq!(kept["a/unpacked"], ["of oslo  "]);
    assert_eq!(kept["a/1"], ["OSL 1"]);
    assert_eq!(kept["b/deep/2"], ["old 2"]);
    assert_eq!(hosts.read(OSLO, "a/unpacked").as_deref(), Some("of bergen"));
    for daemon in [oslo, bergen, tromso] {
        daemon.terminate();
    }
    assert!(ALL.iter().all(|host| hosts.read(host, "a/1").as_deref() == Some("old 1")));
}

#[test]
fn a_tree_that_does_not_know_what_both_held_is_read_whole() {
    let hosts = Hosts::new();
    plant(&hosts.tree(OSLO));
    let [oslo, bergen, tromso] = hosts.set_up();
    hold_the_same(&hosts, OSLO, BERGEN);
    oslo.terminate();
    unpack(&hosts.tree(OSLO), "unpacked", "of oslo  ");
    hosts.verb(BERGEN, &["promote"]).succeeded();
    unpack(&hosts.tree(BERGEN), "unpacked", "of bergen");
    // As after an older version, or from a backup that was made before.
    fs::remove_file(hosts.tree(OSLO).join(".speil/cuts")).unwrap();
    hosts.verb(OSLO, &["demote"]).succeeded();
    bergen.signal(Signal::USR1);
    eventually("the old primary follows", || hosts.follows(OSLO, 2));
    assert!(hosts.equal(BERGEN, OSLO));
    assert_eq!(hosts.kept(OSLO)["unpacked"], ["of oslo  "]);
    let hashed = hashed(&hosts, BERGEN, OSLO);
    assert!(hashed >= OLD as u64, "{hashed} files were hashed, of {OLD}");
    for daemon in [bergen, tromso] {
        daemon.terminate();
    }
}

#[test]
fn a_tree_is_adopted_while_uploads_never_cease() {
    let hosts = Hosts::new();
    (0..1000).for_each(|at| hosts.write(OSLO, &at.to_string(), "one of many"));
    let [oslo, bergen, tromso] = hosts.set_up();
    oslo.signal(Signal::KILL);
    drop(oslo);
    (0..200).for_each(|at| hosts.write(OSLO, &format!("unseen {at}"), "unseen"));
    hosts.verb(OSLO, &["demote"]).succeeded();
    hosts.verb(BERGEN, &["promote"]).succeeded();
    let over = AtomicBool::new(false);
    let adopted = std::thread::scope(|scope| {
        // There is always something under way. A few names, so that the tree does not grow.
        scope.spawn(|| {
            for at in (0_u64..).take_while(|_| !over.load(Ordering::Relaxed)) {
                let name = format!("upload {}", at % 500);
                hosts.write(BERGEN, ".part", &at.to_string());
                fs::rename(hosts.tree(BERGEN).join(".part"), hosts.tree(BERGEN).join(name)).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(250));
            }
        });
        bergen.signal(Signal::USR1);
        let adopted = holds_within(DEADLINE, || hosts.follows(OSLO, 2));
        over.store(true, Ordering::Relaxed);
        adopted
    });
    assert!(adopted, "{}", bergen.stderr().join("\n"));
    hosts.wait(BERGEN);
    hosts.assert_equal(BERGEN, OSLO);
    assert_eq!(hosts.kept(OSLO).keys().filter(|path| path.starts_with("unseen")).count(), 200);
    for daemon in [bergen, tromso] {
        daemon.terminate();
    }
}

#[test]
fn options_by_which_a_standby_may_differ_are_refused_beside_roles() {
    let hosts = Hosts::new();
    hosts.write(OSLO, "upload", "an upload");
    hosts.verb(BERGEN, &["demote"]).succeeded();
    hosts.verb(OSLO, &["promote", "--force"]).succeeded();
    for key in ["update", "existing", "ignoreExisting", "sizeOnly"] {
        let oslo = hosts.start_with(OSLO, &format!("{key} = true"));
        let said = format!("nothing is sent: with {key}, a standby may differ from its primary");
        eventually("the refusal", || oslo.stderr().iter().any(|line| line.contains(&said)));
        assert_eq!(hosts.read(BERGEN, "upload"), None);
        oslo.terminate();
    }
    // Without a role they are as they were.
    for host in [OSLO, BERGEN] {
        fs::remove_file(hosts.tree(host).join(".speil/role")).unwrap();
    }
    let oslo = hosts.start_with(OSLO, "update = true");
    eventually("an upload", || hosts.read(BERGEN, "upload").is_some());
    oslo.terminate();
}
