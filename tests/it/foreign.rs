//! What others write on a target: nothing of it is destroyed, and nothing of the mirror's own is set aside.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;

use crate::support::churn::Churn;
use crate::support::command::{Background, eventually};
use crate::support::process;
use crate::support::rng::Rng;
use crate::support::stand::{Stand, assert_settles, differences, told};
use crate::support::tree::kept_below;

const QUIET: &str = "reconcile = { interval = \"never\" }, deleteGuard = false";

fn kept(stand: &Stand) -> std::collections::BTreeMap<String, Vec<String>> {
    kept_below(&stand.target("standby").join(".speil/strangers"))
}

/// Has the daemon compare everything, and waits until it is done.
fn compare(stand: &Stand, daemon: &Background, context: &str) {
    let before = compared(stand);
    daemon.signal(Signal::USR1);
    eventually("the comparison", || compared(stand) > before);
    assert_settles(stand, "standby", context, daemon);
}

fn compared(stand: &Stand) -> u64 {
    let control = format!("--control={}", stand.control().display());
    let status = stand.environment.run(["status", "--json", &control]).succeeded().stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let begun = status["syncs"][0]["targets"][0]["rescans"].as_object().expect("comparisons by reason");
    begun.values().filter_map(serde_json::Value::as_u64).sum()
}

#[test]
fn what_others_write_beside_a_live_mirror_is_kept_and_what_is_equal_is_no_loss() {
    let stand = Stand::new();
    let (source, target) = (stand.source(), stand.target("standby"));
    fs::create_dir(source.join("d")).unwrap();
    for name in ["edited", "d/edited", "linked", "equal", "moved", "d/gone"] {
        fs::write(source.join(name), format!("{name} of the source")).unwrap();
    }
    std::os::unix::fs::symlink("of-the-source", source.join("link")).unwrap();
    let daemon = stand.run(&["standby"], QUIET, "");
    // In the first session of a mirror, and after work of its own.
    fs::write(source.join("before"), "work").unwrap();
    assert_settles(&stand, "standby", "live", &daemon);
    fs::create_dir(target.join("new")).unwrap();
    fs::write(target.join("new/upload"), "upload").unwrap();
    fs::write(target.join("edited"), "edited there").unwrap();
    fs::write(target.join("d/edited"), "edited there, too").unwrap();
    fs::hard_link(target.join("linked"), target.join("second")).unwrap();
    fs::write(target.join("second"), "under both names").unwrap();
    fs::remove_file(target.join("link")).unwrap();
    std::os::unix::fs::symlink("there", target.join("link")).unwrap();
    // Written by somebody else, with what the source has: nothing of it would be lost.
    fs::write(target.join("equal"), "equal of the source").unwrap();
    fs::rename(target.join("moved"), target.join("moved there")).unwrap();
    fs::write(source.join("after"), "more work").unwrap();
    compare(&stand, &daemon, "after others wrote");
    let kept = kept(&stand);
    assert_eq!(kept["new/upload"], ["upload"]);
    assert_eq!(kept["edited"], ["edited there"]);
    assert_eq!(kept["d/edited"], ["edited there, too"]);
    assert_eq!((&kept["linked"], &kept["second"]), (&vec!["under both names".to_owned()], &kept["linked"]));
    // A file of the mirror under a name that somebody gave it is somebody's.
    let names: Vec<&str> =
        kept.keys().map(String::as_str).filter(|name| !name.starts_with("moved")).collect();
    assert_eq!(names, ["d/edited", "edited", "linked", "new/upload", "second"]);
    let links = walkdir::WalkDir::new(target.join(".speil/strangers")).into_iter().flatten();
    assert_eq!(links.filter(|entry| entry.path_is_symlink()).count(), 1);
    // Live, too: an edit, a rename and a delete of the source meet what somebody wrote.
    fs::write(target.join("d/edited"), "again").unwrap();
    fs::write(target.join("edited"), "again").unwrap();
    fs::write(source.join("d/edited"), "the source's next").unwrap();
    fs::rename(source.join("before"), source.join("edited")).unwrap();
    assert_settles(&stand, "standby", "after live changes", &daemon);
    fs::write(target.join("d/gone"), "gone there").unwrap();
    fs::remove_dir_all(source.join("d")).unwrap();
    assert_settles(&stand, "standby", "after a live delete", &daemon);
    let kept = self::kept(&stand);
    assert_eq!(kept["d/edited"], ["edited there, too", "again"]);
    assert_eq!(kept["edited"], ["edited there", "again"]);
    assert_eq!(kept["d/gone"], ["gone there"]);
    daemon.terminate();
}

#[test]
fn nothing_of_the_mirrors_own_is_set_aside_whatever_the_source_does() {
    for (seed, keys) in [(1, ""), (2, ", trash = { keep = \"1h\", max = \"1G\" }")] {
        let stand = Stand::new();
        let daemon = stand.run(&["standby"], &format!("{QUIET}{keys}"), "");
        let mut churn = Churn::of_few(seed, &stand.source());
        for round in 0..4 {
            churn.run(250);
            compare(&stand, &daemon, &format!("seed {seed}, round {round}"));
        }
        churn.close();
        daemon.terminate();
        // Another session reads what the first one wrote down.
        churn.run(100);
        churn.close();
        let daemon = stand.run(&["standby"], QUIET, "");
        assert_settles(&stand, "standby", "the second session", &daemon);
        daemon.terminate();
        assert_eq!(kept(&stand).keys().collect::<Vec<_>>(), Vec::<&String>::new(), "seed {seed}");
    }
}

/// rsync has filled the target, or a version of speil that kept no marks.
#[test]
fn a_tree_that_was_filled_before_keeps_aside_what_differs_and_nothing_that_is_equal() {
    let stand = Stand::new();
    let (source, target) = (stand.source(), stand.target("standby"));
    for dir in ["a", "b", "c"] {
        fs::create_dir(source.join(dir)).unwrap();
        (0..50)
            .for_each(|at| fs::write(source.join(dir).join(at.to_string()), format!("{dir} {at}")).unwrap());
    }
    let fill = |option: &str| {
        let from = format!("{}/", source.display());
        let done = std::process::Command::new("rsync").args([option, &from]).arg(&target).status().unwrap();
        assert!(done.success());
    };
    // Modes and times differ in many places, contents in three.
    fill("-r");
    fs::set_permissions(source.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(target.join("b/1"), fs::Permissions::from_mode(0o600)).unwrap();
    for (path, text) in [("a/1", "A 1"), ("a/2", "longer than a 2"), ("c/extra", "extra")] {
        fs::write(target.join(path), text).unwrap();
    }
    let daemon = stand.run(&["standby"], QUIET, "");
    assert_settles(&stand, "standby", "the first session", &daemon);
    let wanted = [("a/1", "A 1"), ("a/2", "longer than a 2"), ("c/extra", "extra")];
    let wanted =
        || wanted.iter().map(|(path, text)| ((*path).to_owned(), vec![(*text).to_owned()])).collect();
    assert_eq!(kept(&stand), wanted());
    // All of it is the mirror's own by now: what the source changes live is no loss.
    for dir in ["a", "b", "c"] {
        (0..50).for_each(|at| fs::write(source.join(dir).join(at.to_string()), "the next version").unwrap());
    }
    assert_settles(&stand, "standby", "live", &daemon);
    daemon.terminate();
    assert_eq!(kept(&stand), wanted());
    // As an earlier version leaves it: what changed meanwhile is kept once, what is equal becomes its own.
    fs::remove_file(target.join(".speil/own")).unwrap();
    let memory = target.join(".speil/memory");
    let mut remembered: serde_json::Value = serde_json::from_slice(&fs::read(&memory).unwrap()).unwrap();
    assert!(remembered.as_object_mut().unwrap().remove("watermark").is_some_and(|mark| mark.is_object()));
    fs::write(&memory, remembered.to_string()).unwrap();
    fs::write(source.join("a/7"), "changed while nothing ran").unwrap();
    let daemon = stand.run(&["standby"], QUIET, "");
    fs::remove_dir_all(source.join("b")).unwrap();
    fs::write(source.join("a/8"), "changed live").unwrap();
    assert_settles(&stand, "standby", "after the upgrade", &daemon);
    daemon.terminate();
    let mut kept = kept(&stand);
    assert_eq!(kept.remove("a/7"), Some(vec!["the next version".to_owned()]));
    assert_eq!(kept, wanted());
}

/// Whatever the agent was about to do when it was killed, and had done without writing it down.
#[test]
fn what_a_killed_agent_made_or_renamed_is_set_aside_by_no_later_one() {
    let stand = Stand::new();
    let source = stand.source();
    let file = |at: usize| source.join(format!("f{at}"));
    (0..8).for_each(|at| fs::write(file(at), format!("{at}").repeat(100 + at)).unwrap());
    fs::hard_link(file(0), source.join("link")).unwrap();
    let daemon = stand.run(&["standby"], QUIET, "");
    for round in 0..4 {
        for at in 0..400 {
            let (one, other) = (file(at % 8), file((at * 3 + 1) % 8));
            if one != other {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
            match at % 7 {
                0 => fs::write(&one, format!("{round} {at}")).unwrap(),
                1 => fs::set_permissions(&other, fs::Permissions::from_mode([0o600, 0o640][at / 7 % 2]))
                    .unwrap(),
                _ => {}
            }
            if at == 200 {
                let agents = process::descendants(daemon.pid());
                agents.iter().for_each(|agent| process::send(agent.pid, Signal::KILL));
            }
        }
        assert_settles(&stand, "standby", "after a kill", &daemon);
    }
    let ended = daemon.terminate();
    assert_eq!(kept(&stand), std::collections::BTreeMap::new(), "{ended:?}");
}

/// An old primary, or what a backup has brought back.
#[test]
fn a_target_that_was_never_one_loses_nothing_by_the_first_pass_nor_by_approval() {
    let stand = Stand::new();
    let (source, target) = (stand.source(), stand.target("standby"));
    for dir in [&source, &target] {
        fs::create_dir_all(dir.join("d")).unwrap();
        fs::write(dir.join("d/both"), format!("of {}", dir.file_name().unwrap().display())).unwrap();
    }
    (0..5).for_each(|at| fs::write(target.join(format!("d/upload{at}")), format!("upload {at}")).unwrap());
    let daemon = stand.run(&["standby"], "reconcile = { interval = \"never\" }", "");
    assert_eq!(fs::read_to_string(target.join("d/both")).unwrap(), "of source");
    let told = daemon.wait_for_error_line("speil approve carries out the held deletes");
    for word in ["d/upload0", "d/upload2", "and 2 more", "kept in .speil/strangers"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    daemon.wait_for_error_line("5 deletes held");
    assert_eq!(kept(&stand).keys().collect::<Vec<_>>(), ["d/both"]);
    let control = format!("--control={}", stand.control().display());
    stand.environment.run(["approve", &control]).succeeded();
    assert_settles(&stand, "standby", "after approve", &daemon);
    daemon.terminate();
    // Approved is approved: what somebody adds afterwards is added to a mirror.
    fs::write(target.join("d/later"), "added later").unwrap();
    let daemon = stand.run(&["standby"], "reconcile = { interval = \"never\" }", "");
    assert_settles(&stand, "standby", "after another start", &daemon);
    let ended = daemon.terminate();
    assert!(!ended.stderr.contains(" held: "), "{ended:?}");
    let kept = kept(&stand);
    assert_eq!(
        (&kept["d/both"], &kept["d/later"]),
        (&vec!["of standby".into()], &vec!["added later".into()])
    );
    (0..5).for_each(|at| assert_eq!(kept[&format!("d/upload{at}")], [format!("upload {at}")]));
}

/// Somebody who writes on a target, and knows what he himself wrote over.
struct Somebody {
    target: PathBuf,
    beside: PathBuf,
    rng: Rng,
    count: u64,
    wrote: HashSet<String>,
    /// What the mirror wrote, under another name of a file that somebody renamed: its change time is somebody's.
    touched: HashSet<String>,
}

impl Somebody {
    fn text(&mut self) -> String {
        self.count += 1;
        let text = format!("somebody's {}{}", self.count, "x".repeat(self.rng.below(64)));
        self.wrote.insert(text.clone());
        text
    }

    fn place(&mut self) -> PathBuf {
        let dir = ["", "d", "d/e"][self.rng.below(3)];
        self.target.join(dir).join(format!("f{}", self.rng.below(12)))
    }

    /// Puts a new version in place of whatever is there, as an editor saves; or where nothing is.
    fn save(&mut self) {
        let (text, place) = (self.text(), self.place());
        // What came out the last time may have another name on the target.
        let _ = fs::remove_file(&self.beside);
        fs::write(&self.beside, &text).unwrap();
        let flags = if place.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let done = renameat_with(CWD, &self.beside, CWD, &place, flags);
        if done.is_err() {
            self.wrote.remove(&text);
        } else if flags == RenameFlags::EXCHANGE
            && let Ok(old) = fs::read_to_string(&self.beside)
        {
            self.wrote.remove(&old);
            if fs::metadata(&self.beside).unwrap().nlink() > 1 {
                self.touched.insert(old);
            }
        }
    }

    /// Writes into a file. What was opened before the mirror replaced it is out of everybody's reach: the mirror may
    /// have looked at it for the last time.
    fn edit(&mut self) {
        use std::io::{Read, Write};
        let (text, place) = (self.text(), self.place());
        let Ok(mut file) = fs::OpenOptions::new().read(true).write(true).open(&place) else {
            self.wrote.remove(&text);
            return;
        };
        let mut old = String::new();
        file.read_to_string(&mut old).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        self.wrote.remove(&old);
        self.wrote.remove(&text);
        let inode = file.metadata().unwrap().ino();
        if fs::metadata(&place).is_ok_and(|there| there.ino() == inode) {
            self.wrote.insert(old + &text);
        }
    }
}

#[test]
fn random_edits_on_the_target_beside_random_edits_of_the_source_are_all_kept_and_nothing_else_is() {
    let stand = Stand::new();
    let (source, target) = (stand.source(), stand.target("standby"));
    fs::create_dir_all(source.join("d/e")).unwrap();
    let daemon = stand.run(&["standby"], "deleteGuard = false, reconcile = { interval = \"300ms\" }", "");
    let mut somebody = Somebody {
        target: target.clone(),
        beside: stand.path("beside"),
        rng: Rng::new(7),
        count: 0,
        wrote: HashSet::new(),
        touched: HashSet::new(),
    };
    let mut rng = Rng::new(8);
    let name = |rng: &mut Rng| ["", "d/", "d/e/"][rng.below(3)].to_owned() + &format!("f{}", rng.below(12));
    for step in 0.. {
        if somebody.wrote.len() > 150 {
            break;
        }
        // Somebody is quicker than the source: there must be something for him to write to.
        match rng.below(20) {
            0 => drop(fs::remove_file(source.join(name(&mut rng)))),
            // To a name that nobody has: renames over names have a gap of microseconds, which is told.
            1 => drop(fs::rename(source.join(name(&mut rng)), source.join(format!("d/moved{step}")))),
            2 => drop(fs::hard_link(source.join(name(&mut rng)), source.join(name(&mut rng)))),
            3..8 => fs::write(source.join(name(&mut rng)), format!("the source's {step}")).unwrap(),
            _ => {}
        }
        if rng.one_in(2) { somebody.save() } else { somebody.edit() }
    }
    daemon.signal(Signal::USR1);
    assert_settles(&stand, "standby", "in the end", &daemon);
    daemon.terminate();
    assert_eq!(told(&differences(&source, &target)), "");
    let kept: Vec<String> = kept(&stand).into_values().flatten().collect();
    let lost: Vec<&String> = somebody.wrote.iter().filter(|text| !kept.contains(text)).collect();
    assert_eq!(lost, Vec::<&String>::new(), "of {}", somebody.wrote.len());
    let own: Vec<&String> =
        kept.iter().filter(|text| !text.contains("somebody") && !somebody.touched.contains(*text)).collect();
    assert_eq!(own, Vec::<&String>::new(), "the mirror's own");
}
