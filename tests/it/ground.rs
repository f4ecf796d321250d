//! A target that is closed, replaced, moved, unmounted or mounted over while a mirror works in it.

use std::fs;
use std::path::Path;

use speil::protocol::{StateMode, ToReceiver};

use crate::attack::client::{Client, agent, hello, path, put};
use crate::support::command::{Background, eventually};
use crate::support::faults::{Mount, is_root};
use crate::support::stand::{Stand, assert_settles, differences, told};

const QUIET: &str = "reconcile = { interval = \"never\" }, deleteGuard = false";

/// What the daemon says of its target.
fn status(stand: &Stand) -> serde_json::Value {
    let control = format!("--control={}", stand.control().display());
    let status = stand.environment.run(["status", "--json", &control]).succeeded().stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status["syncs"][0]["targets"][0].clone()
}

fn holds(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

fn filled() -> (Stand, Background) {
    let stand = Stand::new();
    fs::create_dir(stand.source().join("d")).unwrap();
    fs::write(stand.source().join("d/file"), "content").unwrap();
    let daemon = stand.run(&["standby"], QUIET, "");
    (stand, daemon)
}

#[test]
fn a_refuse_file_ends_a_session_before_its_next_message_in_every_mode() {
    for state in [StateMode::Keep, StateMode::Traceless] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join(".speil")).unwrap();
        let mirror = speil::protocol::Hello { state, ..hello() };
        let mut client = Client::greet(agent(&root, &[]), mirror).unwrap();
        client.send(&put(path("before"), 0o644, b"x")).unwrap();
        client.settle(1);
        fs::write(root.join(".speil/refuse"), "promoted, ask Kari").unwrap();
        // The agent may have ended by itself already.
        for message in [put(path("before"), 0o644, b"changed"), put(path("after"), 0o644, b"x")] {
            let _ = client.send(&message);
        }
        let _ = client.send(&ToReceiver::Commit { batch: 1 });
        eventually("the end", || client.heard().ended);
        let heard = client.heard();
        assert!(heard.others.iter().any(|other| other.contains("Refused")), "{heard:?}");
        assert_eq!(heard.acked, 0);
        assert_ne!(client.end(), 0);
        assert!(!root.join("after").exists());
        assert_eq!(fs::read(root.join("before")).unwrap(), b"x");
    }
}

#[test]
fn a_promoted_standby_is_left_alone_at_once_and_mirrored_to_again_when_it_is_open() {
    let (stand, daemon) = filled();
    let target = stand.target("standby");
    fs::write(target.join(".speil/refuse"), "promoted on Saturday, ask Kari").unwrap();
    fs::write(target.join("d/file"), "taken by the new primary").unwrap();
    fs::write(target.join("upload"), "taken by the new primary").unwrap();
    fs::write(stand.source().join("d/file"), "of the old primary").unwrap();
    // Nothing had to be sent for it, and the daemon knows the reason.
    daemon.wait_for_error_line("ask Kari");
    assert_eq!(status(&stand)["state"], "down");
    assert_eq!(fs::read_to_string(target.join("d/file")).unwrap(), "taken by the new primary");
    fs::remove_file(target.join(".speil/refuse")).unwrap();
    assert_settles(&stand, "standby", "open again", &daemon);
    daemon.terminate();
    let kept = crate::support::tree::kept_below(&target.join(".speil/strangers"));
    assert_eq!(kept["d/file"], ["taken by the new primary"]);
    assert_eq!(kept["upload"], ["taken by the new primary"]);
}

#[test]
fn a_target_that_is_moved_removed_or_replaced_is_entered_anew_where_nothing_or_the_mirror_itself_is() {
    let (stand, daemon) = filled();
    let (target, aside) = (stand.target("standby"), stand.path("aside"));
    assert_eq!(status(&stand)["refilled"], serde_json::Value::Null);
    fs::rename(&target, &aside).unwrap();
    fs::create_dir(&target).unwrap();
    daemon.wait_for_error_line("was replaced, moved");
    fs::write(stand.source().join("new"), "new").unwrap();
    assert_settles(&stand, "standby", "replaced by an empty one", &daemon);
    // It is mirrored again, and nobody need be astonished afterwards.
    daemon.wait_for_error_line("was removed, or an empty one took its place");
    assert!(status(&stand)["refilled"].is_u64());
    let control = format!("--control={}", stand.control().display());
    let told = stand.environment.run(["status", &control]).succeeded().stdout;
    assert!(told.contains("ago the target's directory was removed"), "{told}");
    assert!(!aside.join("new").exists(), "what was moved away is left alone");
    // What bears the mirror's identity is entered.
    fs::rename(&target, stand.path("aside too")).unwrap();
    fs::rename(&aside, &target).unwrap();
    assert_settles(&stand, "standby", "the first one is back", &daemon);
    fs::remove_dir_all(&target).unwrap();
    fs::write(stand.source().join("newer"), "newer").unwrap();
    assert_settles(&stand, "standby", "made again", &daemon);
    assert_eq!(status(&stand)["problems"].as_array().map(Vec::len), Some(0));
    // Somebody else's directory is not.
    fs::rename(&target, &aside).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine"), "mine").unwrap();
    daemon.wait_for_error_line("holds something");
    assert_eq!(holds(&target), ["mine"]);
    assert_eq!(status(&stand)["state"], "down");
    fs::remove_file(target.join("mine")).unwrap();
    assert_settles(&stand, "standby", "it is empty now", &daemon);
    daemon.terminate();
}

#[test]
fn a_directory_above_the_target_that_is_replaced_is_found_out_by_what_is_acknowledged_next() {
    let stand = Stand::new();
    fs::write(stand.source().join("file"), "content").unwrap();
    fs::create_dir(stand.path("above")).unwrap();
    let daemon = stand.run(&["above/standby"], QUIET, "");
    // The root itself is not touched: no event tells.
    fs::rename(stand.path("above"), stand.path("aside")).unwrap();
    fs::create_dir_all(stand.path("above/standby")).unwrap();
    fs::write(stand.source().join("new"), "new").unwrap();
    assert_settles(&stand, "above/standby", "below another directory", &daemon);
    let control = format!("--control={}", stand.control().display());
    stand.environment.run(["wait", &control]).succeeded();
    assert_eq!(told(&differences(&stand.source(), &stand.target("above/standby"))), "");
    daemon.terminate();
}

/// Returns where a volume is mounted that holds a directory `tree`.
fn volume(stand: &Stand) -> (std::path::PathBuf, Mount) {
    let volume = stand.path("volume");
    let mounted = Mount::tmpfs(&volume, "4m");
    fs::create_dir(volume.join("tree")).unwrap();
    (volume, mounted)
}

#[test]
fn a_volume_that_is_mounted_over_the_target_or_taken_away_from_it_is_waited_for_and_nothing_is_written_elsewhere()
 {
    if !is_root() {
        return;
    }
    let (stand, daemon) = filled();
    let target = stand.target("standby");
    let over = Mount::tmpfs(&target, "4m");
    daemon.wait_for_error_line("is empty and on another filesystem");
    fs::write(stand.source().join("while it is mounted over"), "x").unwrap();
    assert_eq!(status(&stand)["state"], "down");
    assert_eq!(holds(&target), Vec::<String>::new());
    drop(over);
    assert_settles(&stand, "standby", "it is uncovered", &daemon);
    daemon.terminate();
    // The other way round: the target is a volume, which goes, lazily, and comes back.
    let (volume, mounted) = volume(&stand);
    let place = stand.target("second");
    let bound = Mount::bind(&volume.join("tree"), &place);
    let daemon = stand.run(&["second"], QUIET, "");
    drop(bound);
    daemon.wait_for_error_line("is empty and on another filesystem");
    fs::write(stand.source().join("while it is away"), "x").unwrap();
    assert_eq!(holds(&place), Vec::<String>::new());
    fs::remove_dir(&place).unwrap();
    daemon.wait_for_error_line("is gone, and the filesystem that held it is not there");
    assert!(!place.exists());
    let bound = Mount::bind(&volume.join("tree"), &place);
    assert_settles(&stand, "second", "it is back", &daemon);
    assert!(volume.join("tree/while it is away").exists());
    daemon.terminate();
    drop((bound, mounted));
}

#[test]
fn a_daemon_that_starts_while_the_volume_is_away_writes_nothing_into_the_directory_below() {
    if !is_root() {
        return;
    }
    let (stand, daemon) = filled();
    daemon.terminate();
    let (volume, mounted) = volume(&stand);
    let place = stand.target("second");
    let bound = Mount::bind(&volume.join("tree"), &place);
    stand.run(&["second"], QUIET, "").terminate();
    drop(bound);
    let daemon = stand.start(&["second"], QUIET, "");
    daemon.wait_for_error_line("is empty and on another filesystem");
    assert_eq!(holds(&place), Vec::<String>::new());
    assert_eq!(status(&stand)["state"], "down");
    fs::write(stand.source().join("while it is away"), "x").unwrap();
    let bound = Mount::bind(&volume.join("tree"), &place);
    let control = format!("--control={}", stand.control().display());
    stand.environment.run(["reconcile", &control]).succeeded();
    assert_settles(&stand, "second", "it is mounted", &daemon);
    daemon.terminate();
    drop(bound);
    // The administrator wants the directory on the system disk: that holds for later starts as well.
    let daemon = stand.start(&["second"], QUIET, "");
    let hint = daemon.wait_for_error_line("approve --volume SYNC TARGET");
    assert_eq!(holds(&place), Vec::<String>::new(), "{hint}");
    let name = status(&stand)["name"].as_str().unwrap().to_owned();
    stand.environment.run(["approve", "--volume", "stand", &name, &control]).succeeded();
    assert_settles(&stand, "second", "approved", &daemon);
    daemon.terminate();
    stand.run(&["second"], QUIET, "").terminate();
    drop(mounted);
}

#[test]
fn a_daemon_that_cannot_note_where_its_target_is_says_what_follows_and_mirrors() {
    let stand = Stand::new();
    fs::write(stand.source().join("file"), "content").unwrap();
    fs::write(stand.environment.home().join("state"), "no directory").unwrap();
    let daemon = stand.run(&["standby"], QUIET, "");
    daemon.wait_for_error_line("which filesystem the target is on cannot be noted");
    assert_settles(&stand, "standby", "without a note", &daemon);
    daemon.terminate();
}

#[test]
fn a_target_that_was_restored_without_its_state_while_no_daemon_ran_is_mirrored_to() {
    let (stand, daemon) = filled();
    daemon.terminate();
    let notes = stand.environment.home().join("state/speil");
    let note = holds(&notes).into_iter().find(|name| name.ends_with(".volume")).unwrap();
    let noted = fs::read(notes.join(note)).unwrap();
    let noted: serde_json::Value = serde_json::from_slice(&noted).unwrap();
    assert_ne!(noted["volume"]["boot_id"], "", "an agent that is confined knows its boot as well");
    let target = stand.target("standby");
    fs::remove_dir_all(target.join(".speil")).unwrap();
    let daemon = stand.run(&["standby"], QUIET, "");
    fs::write(stand.source().join("d/new"), "new").unwrap();
    assert_settles(&stand, "standby", "restored", &daemon);
    daemon.terminate();
}

#[test]
fn what_is_in_the_place_of_the_state_directory_is_named_by_everything_that_needs_one() {
    for what in ["no directory", "a symlink"] {
        let stand = Stand::new();
        fs::write(stand.source().join("file"), "content").unwrap();
        let target = stand.target("standby");
        let state = target.join(".speil");
        fs::create_dir(&target).unwrap();
        if what == "a symlink" {
            std::os::unix::fs::symlink("nowhere", &state).unwrap();
        } else {
            fs::write(&state, "somebody's").unwrap();
        }
        let names = |told: &str| {
            let all = [&format!("{state:?}"), what, "mv "];
            assert!(all.iter().all(|part| told.contains(part)), "{told}");
        };
        let daemon = stand.start(&["standby"], QUIET, "");
        daemon.wait_for_error_line("keeps its state");
        names(&daemon.stderr().join("\n"));
        daemon.terminate();
        // With its slash: else the target is a directory within.
        let (source, target) = (format!("{}/", stand.source().display()), target.display().to_string());
        for arguments in [
            vec!["doctor", "--source", &source, &target],
            vec!["trash", &target],
            vec!["trash", "--strangers", &target],
            vec!["undo", &target, "--since", "1h"],
            vec!["sync", "-a", "--trash=1d", &source, &target],
            vec!["sync", "-a", "--partial", &source, &target],
            vec!["health", "--root", &target],
        ] {
            let outcome = stand.environment.run(&arguments);
            assert_ne!(outcome.code(), 0, "{arguments:?}");
            names(&(outcome.stdout + &outcome.stderr));
        }
        assert_eq!(holds(Path::new(&target)), [".speil"]);
        assert!(!state.is_dir());
        // Nothing of it is needed here, and rsync does not care either.
        stand.environment.run(["sync", "-a", &source, &target]).succeeded();
    }
}

#[test]
fn something_of_another_kind_in_the_place_of_an_own_file_is_named_and_nothing_else_is_blamed() {
    for (name, kind, what) in [
        ("session", "directory", "a directory"),
        ("stated", "directory", "a directory"),
        ("memory", "symlink", "a symlink"),
        ("own", "directory", "a directory"),
        ("strangers", "file", "of another kind"),
    ] {
        let (stand, daemon) = filled();
        daemon.terminate();
        let own = stand.target("standby").join(".speil").join(name);
        let _ = fs::remove_file(&own);
        let _ = fs::remove_dir_all(&own);
        match kind {
            "directory" => fs::create_dir(&own).unwrap(),
            "symlink" => std::os::unix::fs::symlink("elsewhere", &own).unwrap(),
            _ => fs::write(&own, "somebody's").unwrap(),
        }
        let daemon = stand.start(&["standby"], QUIET, "");
        let told = daemon.wait_for_error_line("keeps its state");
        assert!(told.contains(&format!("{own:?}")) && told.contains(what), "{told}");
        eventually("the hint", || {
            let hint = format!("mv {own:?}");
            daemon.stderr().iter().any(|line| line.contains(&hint))
        });
        daemon.terminate();
        // Once it is out of the way, all goes on.
        fs::rename(&own, own.with_extension("old")).unwrap();
        let daemon = stand.run(&["standby"], QUIET, "");
        daemon.terminate();
    }
}
