//! A target without room, or that takes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::command::{Environment, eventually};
use crate::support::faults::{Mount, is_root};
use crate::support::stand::{Stand, assert_settles};

/// Returns a number that the status tells of the only target.
fn told(stand: &Stand, key: &str) -> u64 {
    let control = format!("--control={}", stand.control().display());
    let status = stand.environment.run(["status", "--json", &control]).stdout;
    let status: serde_json::Value = serde_json::from_str(&status).expect("a status");
    let target = &status["syncs"][0]["targets"][0];
    let value = &target[key];
    value.as_array().map_or_else(|| value.as_u64().expect(key), |list| list.len() as u64)
}

#[test]
fn a_full_target_is_sent_what_needs_no_room_and_the_rest_once_something_is_deleted_there() {
    if !is_root() {
        return;
    }
    let stand = Stand::new();
    let _mount = Mount::tmpfs(&stand.target("standby"), "1m");
    let source = stand.source();
    for name in ["ballast", "old", "plain"] {
        let len = if name == "ballast" { 600 << 10 } else { 10 };
        fs::write(source.join(name), vec![7; len]).unwrap();
    }
    let daemon = stand.run(&["standby"], "deleteGuard = false, reconcile = { interval = \"never\" }", "");
    let (source, target) = (&source, stand.target("standby"));
    // More than fits, from the size up that most have.
    for at in 0..80 {
        fs::write(source.join(format!("f{at}")), vec![at; 12_000]).unwrap();
    }
    eventually("the target is full", || told(&stand, "problems") > 20);
    let before = told(&stand, "sent_bytes");
    for at in 80..180 {
        fs::write(source.join(format!("f{at}")), vec![at; 100_000]).unwrap();
    }
    eventually("they wait", || told(&stand, "problems") > 100);
    let sent = told(&stand, "sent_bytes") - before;
    assert!(sent < 1_000_000, "{sent} bytes of 10,000,000 were sent to a full target");
    // What needs no room is done.
    fs::rename(source.join("old"), source.join("new")).unwrap();
    fs::set_permissions(source.join("plain"), PermissionsExt::from_mode(0o640)).unwrap();
    eventually("a rename and a mode", || {
        let mode = fs::metadata(target.join("plain")).unwrap().permissions().mode() & 0o777;
        mode == 0o640 && target.join("new").exists() && !target.join("old").exists()
    });
    for at in 20..180 {
        fs::remove_file(source.join(format!("f{at}"))).unwrap();
    }
    fs::remove_file(source.join("ballast")).unwrap();
    assert_settles(&stand, "standby", "with room again", &daemon);
    eventually("no problem is left", || told(&stand, "problems") == 0);
    daemon.terminate();
}

#[test]
fn a_file_that_is_too_large_for_the_target_is_a_problem_of_its_own() {
    let (environment, dir) = (Environment::new(), tempfile::tempdir().unwrap());
    let (source, target) = (dir.path().join("s"), dir.path().join("t"));
    fs::create_dir_all(&source).unwrap();
    fs::create_dir_all(&target).unwrap();
    // A whole one, a stream, and what comes before and after.
    for (name, len) in [("a", 1), ("large", 300_000), ("larger", 3_000_000), ("z", 1)] {
        fs::write(source.join(name), vec![b'x'; len]).unwrap();
    }
    let run = || {
        let mut command = environment.command("sh");
        command.args(["-c", "ulimit -f 200 && exec \"$0\" sync -a \"$1/\" \"$2/\""]);
        command.arg(env!("CARGO_BIN_EXE_speil")).args([&source, &target]).output().unwrap()
    };
    for _ in 0..2 {
        let output = run();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(23), "{told}");
        assert!(told.contains("larger\": file too large (EFBIG)"), "{told}");
        let mut there: Vec<_> =
            fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        there.sort();
        assert_eq!(there, ["a", "z"], "{told}");
    }
}

#[test]
fn a_single_pass_to_a_read_only_target_ends_and_says_what_it_could_not_do() {
    if !is_root() {
        return;
    }
    let stand = Stand::new();
    let (source, target) = (stand.source(), stand.target("standby"));
    let _mount = Mount::tmpfs(&target, "1m,ro");
    fs::create_dir(source.join("dir")).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    let (source, target) = (format!("{}/", source.display()), target.display().to_string());
    let ended = stand.environment.run(["sync", "-a", &source, &target]);
    assert_eq!(ended.code(), 23, "{ended:?}");
    for word in ["create directory \"dir\"", "create \"file\"", "EROFS"] {
        assert!(ended.stderr.contains(word), "{word}: {ended:?}");
    }
}
