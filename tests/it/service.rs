//! The daemon for a Lua configuration: signals and control.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::process::Signal;

use crate::support::command::{Background, Environment, agent_command, copy_program, eventually};

pub fn block(name: &str, source: &Path, target: &Path) -> String {
    let agent = agent_command();
    format!(
        "sync {{ default.mirror, name = {name:?}, source = {source:?}, targets = {{ {target:?} }}, agent = {agent:?} }}\n"
    )
}

fn live_lines(daemon: &Background, name: &str) -> usize {
    daemon.stderr().iter().filter(|line| line.contains(name) && line.ends_with(": live")).count()
}

#[test]
fn a_hangup_starts_what_is_new_leaves_the_rest_running_and_refuses_a_broken_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["one", "two"] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("file"), name).unwrap();
    }
    let (config, control) = (path("speil.lua"), path("control"));
    let first = block("first", &path("one"), &path("standby-one"));
    fs::write(&config, &first).unwrap();
    let environment = Environment::new();
    let (config_text, control_text) =
        (config.display().to_string(), format!("--control={}", control.display()));
    let daemon = environment.spawn(["run", &control_text, &config_text]);
    eventually("the first sync is live", || live_lines(&daemon, "first") == 1);

    fs::write(&config, "sync { default.mirror, source = ").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_error_line("the old one stays in force");
    fs::write(path("one").join("after the broken file"), b"x").unwrap();
    eventually("the old configuration works on", || path("standby-one/after the broken file").exists());

    let second = block("second", &path("two"), &path("standby-two"));
    fs::write(&config, format!("{first}{second}")).unwrap();
    daemon.signal(Signal::HUP);
    eventually("the new sync is live", || live_lines(&daemon, "second") == 1);
    assert_eq!(fs::read(path("standby-two/file")).unwrap(), b"two");
    assert_eq!(live_lines(&daemon, "first"), 1, "the first sync was started again: {:?}", daemon.stderr());

    fs::remove_file(path("standby-one/file")).unwrap();
    daemon.signal(Signal::USR1);
    eventually("what went on the standby comes back", || path("standby-one/file").exists());

    let waited = environment.run(["wait", "--timeout=60s", &control_text]);
    assert_eq!(waited.code(), 0, "{waited:?}");
    let stopped = daemon.terminate();
    assert_eq!(stopped.code(), 0, "{stopped:?}");
}

#[test]
fn a_delete_is_held_no_more_once_the_file_is_back() {
    let environment = Environment::new();
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("s"), dir.path().join("t"));
    fs::create_dir(&source).unwrap();
    let names: Vec<String> = (0..200).map(|i| format!("{i}.jpg")).collect();
    names.iter().for_each(|name| fs::write(source.join(name), name).unwrap());
    let control = format!("--control={}", dir.path().join("control").display());
    let paths = [format!("{}/", source.display()), target.display().to_string()];
    let mirror = environment.spawn(["mirror", &control, &paths[0], &paths[1]]);
    mirror.wait_for_line(": live");
    names[..150].iter().for_each(|name| fs::remove_file(source.join(name)).unwrap());
    mirror.wait_for_error_line("150 deletes held");
    // All but one are restored.
    names[1..150].iter().for_each(|name| fs::write(source.join(name), "again").unwrap());
    eventually("one delete is held", || {
        environment.run(["status", &control]).stdout.contains(" 1 delete held")
    });
    environment.run(["approve", &control]).succeeded();
    environment.run(["wait", "--timeout=60s", &control]).succeeded();
    assert!(!target.join("0.jpg").exists());
    assert!(names[1..150].iter().all(|name| fs::read(target.join(name)).unwrap() == b"again"));
    let log = environment.run(["log", "-n", "1000", &control]).succeeded().stdout;
    let deleted: Vec<&str> = log.lines().filter(|line| line.contains(" deleted ")).collect();
    assert!(matches!(deleted[..], [line] if line.contains("0.jpg")), "{deleted:?}");
    // And where everything is back, nothing is held.
    names[1..180].iter().for_each(|name| fs::remove_file(source.join(name)).unwrap());
    mirror.wait_for_error_line("179 deletes held");
    names[1..180].iter().for_each(|name| fs::write(source.join(name), "once more").unwrap());
    environment.run(["wait", "--timeout=60s", &control]).succeeded();
    let approved = environment.run(["approve", &control]);
    assert!(approved.stdout.starts_with("0 held deletes"), "{approved:?}");
    mirror.terminate();
}

#[test]
fn deletes_over_the_guard_are_held_until_somebody_approves_them() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    fs::create_dir(&source).unwrap();
    for i in 0..200 {
        fs::write(source.join(format!("{i}.jpg")), b"x").unwrap();
    }
    let environment = Environment::new();
    let control = format!("--control={}", dir.path().join("control").display());
    let agent = format!("--agent={}", agent_command());
    let (from, to) = (format!("{}/", source.display()), target.display().to_string());
    let mirror = environment.spawn(["mirror", &control, &agent, &from, &to]);
    mirror.wait_for_line(": live");
    for i in 0..150 {
        fs::remove_file(source.join(format!("{i}.jpg"))).unwrap();
    }
    mirror.wait_for_error_line("150 deletes held");
    fs::write(source.join("new.jpg"), b"new").unwrap();
    eventually("held deletes do not stop the rest", || target.join("new.jpg").exists());
    assert!(target.join("0.jpg").exists(), "nothing that is held may go");
    let approved = environment.run(["approve", &control]);
    assert_eq!(approved.code(), 0, "{approved:?}");
    eventually("what was approved goes", || (0..150).all(|i| !target.join(format!("{i}.jpg")).exists()));
    assert!(target.join("150.jpg").exists());
    mirror.terminate();
}

#[test]
fn one_broken_sync_is_told_and_the_others_run_unless_it_is_to_be_strict() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("one")).unwrap();
    fs::write(path("one/file"), "x").unwrap();
    let broken =
        format!("sync {{ default.mirror, source = {:?}, target = \"/x\", delai = 1 }}\n", path("one"));
    let missing = block("missing", &path("gone"), &path("standby-gone"));
    let config = path("speil.lua");
    fs::write(&config, format!("{broken}{missing}{}", block("good", &path("one"), &path("standby"))))
        .unwrap();
    let environment = Environment::new();
    let control = format!("--control={}", path("control").display());
    let config_text = config.display().to_string();
    let daemon = environment.spawn(["run", &control, &config_text]);
    let line = daemon.wait_for_error_line("a sync is left out");
    assert!(line.contains("ERROR") && line.contains("speil.lua:1") && line.contains("delai"), "{line}");
    daemon.wait_for_error_line("missing: ");
    eventually("the good one is live", || live_lines(&daemon, "good") == 1);
    assert!(path("standby/file").exists());
    daemon.terminate();

    let strict = environment.run(["run", "--strict", &control, &config_text]);
    assert_eq!(strict.code(), 1, "{strict:?}");
    assert!(strict.stderr.contains("delai"), "{strict:?}");
    fs::write(&config, format!("{missing}{}", block("good", &path("one"), &path("standby")))).unwrap();
    let strict = environment.run(["run", "--strict", &control, &config_text]);
    assert_eq!(strict.code(), 3, "{strict:?}");
    fs::write(&config, &broken).unwrap();
    assert_eq!(environment.run(["run", &control, &config_text]).code(), 1, "nothing is left to run");
}

/// Returns what `speil COMMAND` says to the daemon behind `control`, and its exit code.
fn ask(environment: &Environment, control: &str, arguments: &[&str]) -> (i32, String) {
    let outcome = environment.run([arguments, &[control]].concat());
    (outcome.code(), format!("{}{}", outcome.stdout, outcome.stderr))
}

#[test]
fn a_reload_that_is_asked_for_returns_when_it_is_in_force_and_says_what_became_of_each_target() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["one", "two"] {
        fs::create_dir(path(name)).unwrap();
    }
    let (config, control) = (path("speil.lua"), format!("--control={}", path("control").display()));
    let first = block("first", &path("one"), &path("standby-one"));
    fs::write(&config, &first).unwrap();
    let environment = Environment::new();
    let daemon = environment.spawn(["run", &control, config.to_str().unwrap()]);
    eventually("the sync is live", || live_lines(&daemon, "first") == 1);
    let (code, told) = ask(&environment, &control, &["reload"]);
    assert_eq!((code, told.as_str()), (0, "configuration read again: 1 sync runs on unchanged"));

    fs::write(&config, "sync { default.mirror, source = ").unwrap();
    let (code, told) = ask(&environment, &control, &["reload"]);
    assert!(
        code == 1 && told.contains("the old one stays in force") && told.contains("speil.lua:1"),
        "{told}"
    );
    let (code, told) = ask(&environment, &control, &["status", "--check"]);
    assert!(code == 1 && told.starts_with("SPEIL WARNING - the new configuration is refused"), "{told}");

    let second = block("second", &path("two"), &path("standby-two"));
    fs::write(&config, format!("{first}{second}")).unwrap();
    let (code, told) = ask(&environment, &control, &["reload", "--json"]);
    assert_eq!(code, 0, "{told}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let changes: Vec<_> =
        told["syncs"].as_array().unwrap().iter().map(|sync| sync["change"].clone()).collect();
    assert_eq!(changes, ["unchanged", "started"]);
    // It was in force when the command returned.
    assert_eq!(environment.run(["wait", "second", "--timeout=60s", &control]).code(), 0);

    let delayed = first.replace("name =", "delay = \"123ms\", name =");
    fs::write(&config, delayed).unwrap();
    let (code, told) = ask(&environment, &control, &["reload"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("first → ") && told.contains("changed, started anew"), "{told}");
    assert!(told.contains("second → ") && told.contains("removed, stopped"), "{told}");
    daemon.terminate();
}

#[test]
fn a_mirror_without_a_configuration_says_so_when_it_is_to_read_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let control = format!("--control={}", dir.path().join("control").display());
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    fs::create_dir(&source).unwrap();
    let environment = Environment::new();
    let source = format!("{}/", source.display());
    let mirror = environment.spawn(["mirror", &control, &source, target.to_str().unwrap()]);
    mirror.wait_for_line(": live");
    let (code, told) = ask(&environment, &control, &["reload"]);
    assert!(code == 1 && told.contains("without a configuration"), "{told}");
    mirror.terminate();
}

#[test]
fn a_pause_for_some_time_ends_by_itself_and_a_longer_one_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("one")).unwrap();
    let (config, control) = (path("speil.lua"), format!("--control={}", path("control").display()));
    fs::write(&config, block("first", &path("one"), &path("standby"))).unwrap();
    let environment = Environment::new();
    let daemon = environment.spawn(["run", &control, config.to_str().unwrap()]);
    eventually("the sync is live", || live_lines(&daemon, "first") == 1);
    let state = || {
        let (_, told) = ask(&environment, &control, &["status", "--json"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        told["syncs"][0]["targets"][0].clone()
    };
    let (code, told) = ask(&environment, &control, &["pause", "--for=1h"]);
    assert_eq!((code, told.as_str()), (0, "1 paused, and resumed in 60 min"));
    assert!(state()["state"] == "paused" && state()["paused_until"].is_u64());
    let (code, told) = ask(&environment, &control, &["status", "--check"]);
    assert!(code == 1 && told.contains("is paused"), "{told}");
    assert!(ask(&environment, &control, &["status"]).1.contains("goes on by itself in"));
    // The shorter one counts now, and the hour is forgotten.
    assert_eq!(ask(&environment, &control, &["pause", "first", "--for=1ms"]).0, 0);
    eventually("it goes on by itself", || state()["state"] == "live");
    assert_eq!(state()["paused_until"], serde_json::Value::Null);
    // One without an end is not ended by what was asked for before.
    assert_eq!(ask(&environment, &control, &["pause", "--for=1h"]).0, 0);
    assert_eq!(ask(&environment, &control, &["pause"]).0, 0);
    assert!(state()["state"] == "paused" && state()["paused_until"].is_null());
    assert_eq!(ask(&environment, &control, &["resume"]).0, 0);
    fs::write(path("one/file"), "x").unwrap();
    eventually("what changed is sent", || path("standby/file").exists());
    daemon.terminate();
}

#[test]
fn a_retry_tries_at_once_what_fails_and_connects_to_what_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("one")).unwrap();
    // The directory that is to hold it is missing.
    let (config, control) = (path("speil.lua"), format!("--control={}", path("control").display()));
    fs::write(&config, block("first", &path("one"), &path("above/standby"))).unwrap();
    let environment = Environment::new();
    let daemon = environment.spawn(["run", &control, config.to_str().unwrap()]);
    daemon.wait_for_error_line("ENOENT");
    let (code, told) = ask(&environment, &control, &["status", "--check"]);
    assert!(code == 2 && told.starts_with("SPEIL CRITICAL - first → standby is down"), "{told}");
    fs::create_dir(path("above")).unwrap();
    let (code, told) = ask(&environment, &control, &["retry"]);
    assert!(code == 0, "{told}");
    eventually("it is live", || live_lines(&daemon, "first") == 1);
    let (code, told) = ask(&environment, &control, &["status", "--check"]);
    assert!(code == 0 && told.starts_with("SPEIL OK - 1 target in step | lag="), "{told}");
    let (code, told) = ask(&environment, &control, &["retry", "--json"]);
    assert_eq!((code, told.as_str()), (0, "{\"retried\":0,\"schema\":1}"));
    let (code, told) = ask(&environment, &control, &["retry", "first", "nosuch"]);
    assert!(code == 1 && told.contains("no target of sync \"first\" is called \"nosuch\""), "{told}");
    daemon.terminate();
    let (code, told) = ask(&environment, &control, &["status", "--check"]);
    assert!(code == 3 && told.starts_with("SPEIL UNKNOWN - no running speil was found"), "{told}");
}

#[test]
fn members_of_the_group_of_the_control_socket_may_ask_and_change_nothing() {
    // A directory that is made for the socket is private; those above it let everybody through.
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(path("source")).unwrap();
    copy_program(&path("speil"));
    fs::set_permissions(path("speil"), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = path("run/control");
    let configure = |group: &str| {
        let settings = format!("settings {{ control = {{ path = {socket:?}, group = {group:?} }} }}\n");
        fs::write(path("speil.lua"), settings + &block("www", &path("source"), &path("standby"))).unwrap();
    };
    let environment = Environment::new();
    let config = path("speil.lua").display().to_string();
    let ask = |gid: u32, arguments: &[&str]| {
        let mut command = environment.command(path("speil"));
        command.args(arguments).arg(format!("--control={}", socket.display())).uid(65_534).gid(gid);
        Background::spawn(command).wait()
    };
    let adm = nix::unistd::Group::from_name("adm").unwrap().unwrap().gid.as_raw();
    configure("adm");
    let daemon = environment.spawn(["run", &config]);
    daemon.wait_for_error_line(": live");
    let _ = ask(adm, &["status"]).succeeded();
    let _ = ask(adm, &["wait"]).succeeded();
    for refused in [&["pause"][..], &["approve"], &["reload"], &["notify"], &["log-level", "--all", "debug"]]
    {
        let refused = ask(adm, refused);
        assert!(
            refused.code() == 1 && refused.stderr.contains("for its own user and for root alone"),
            "{refused:?}"
        );
    }
    let other = ask(65_534, &["status"]);
    assert!(other.code() == 12 && other.stderr.contains("and to the group that control"), "{other:?}");
    assert_eq!(fs::metadata(path("run")).unwrap().mode() & 0o7777, 0o710);
    let _ = environment.run(["pause", &format!("--control={}", socket.display())]).succeeded();
    daemon.terminate();

    configure("no-such-group");
    let daemon = environment.spawn(["run", &config]);
    daemon.wait_for_error_line("there is no group \"no-such-group\", so only root");
    daemon.wait_for_error_line(": live");
    daemon.terminate();
}
