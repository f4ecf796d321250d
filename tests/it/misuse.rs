//! What is typed wrong, or at the wrong moment: one line that names it, and what to type instead.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::command::{Environment, Outcome, eventually};

/// Runs speil and makes sure that it ends with `code`, and that what it says holds each of `parts`.
fn says(environment: &Environment, arguments: &[&str], code: i32, parts: &[&str]) -> Outcome {
    let outcome = environment.run(arguments);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.code(), code, "{arguments:?}: {said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?} lacks one of {parts:?}: {said}");
    outcome
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_command_or_page_that_does_not_exist_is_told_with_what_was_probably_meant() {
    let environment = Environment::new();
    says(&environment, &["staus"], 1, &["no command \"staus\"", "did you mean speil status?"]);
    says(&environment, &["frobnicate"], 1, &["no command \"frobnicate\"", "speil --help"]);
    says(&environment, &["help", "failovr"], 1, &["did you mean speil help failover?"]);
    says(&environment, &["help", "nosuch"], 1, &["\"nosuch\"", "getting-started", "limits"]);
    let alone = says(&environment, &[], 1, &["Usage:", "speil mirror /srv/uploads/"]);
    assert_eq!(alone.stdout, "", "a script that takes the output is not to take this");
    says(&environment, &["help", "sync"], 0, &["Usage:"]);
}

#[test]
fn a_mirror_into_its_own_source_ends_at_once_as_a_pass_does() {
    let (environment, dir) = (Environment::new(), tempfile::tempdir().unwrap());
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    std::os::unix::fs::symlink(&source, dir.path().join("link")).unwrap();
    let inside = format!("{}/", source.display());
    for target in
        [inside.clone(), format!("{inside}sub"), format!("{inside}new/"), text(dir.path()).to_owned() + "/"]
    {
        says(&environment, &["mirror", &inside, &target], 3, &["within the other", "hint:"]);
    }
    let linked = format!("{}/link/sub/", dir.path().display());
    says(&environment, &["mirror", &inside, &linked], 3, &["within the other"]);
    assert_eq!(fs::read_dir(source.join("sub")).unwrap().count(), 0);
}

#[test]
fn a_question_to_no_daemon_says_where_none_was_found_and_what_to_type() {
    let (environment, dir) = (Environment::new(), tempfile::tempdir().unwrap());
    let (none, dead) = (dir.path().join("none"), dir.path().join("dead"));
    drop(UnixListener::bind(&dead).unwrap());
    for socket in [&none, &dead] {
        let control = format!("--control={}", socket.display());
        for command in ["status", "wait", "reconcile", "pause", "approve"] {
            let parts = ["no running speil was found", text(socket), "speil run", "--control"];
            let outcome = says(&environment, &[command, &control], 12, &parts);
            assert!(!outcome.stderr.contains("ENOENT") && !outcome.stderr.contains("ECONN"), "{outcome:?}");
        }
    }
}

#[test]
fn diff_is_refused_for_what_is_no_configuration_of_lsyncd() {
    let (environment, dir) = (Environment::new(), tempfile::tempdir().unwrap());
    let file = dir.path().join("speil.lua");
    fs::write(&file, "sync { default.mirror, source = \"/x\", target = \"/y\" }").unwrap();
    says(&environment, &["check", "--diff", text(&file)], 1, &["no configuration of lsyncd", text(&file)]);
}

#[test]
fn what_max_delete_held_back_is_not_said_to_need_an_option_that_excludes_it() {
    let (environment, dir) = (Environment::new(), tempfile::tempdir().unwrap());
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(source.join("a"), "a").unwrap();
    fs::write(target.join("b"), "b").unwrap();
    let (source, target) = (format!("{}/", source.display()), target.display().to_string());
    let arguments = ["sync", "-a", "--delete", "--max-delete=0", &source, &target];
    let held = says(&environment, &arguments, 25, &["1 delete held", "a higher --max-delete"]);
    assert!(!held.stderr.contains("no-delete-guard"), "{held:?}");
}

#[test]
fn a_target_that_is_missing_is_not_blamed_on_its_parent_by_what_only_reads_it() {
    let (environment, dir) = (Environment::new(), tempfile::tempdir().unwrap());
    let (source, missing) = (format!("{}/", dir.path().display()), "/nonexistent/standby");
    for arguments in
        [vec!["trash", missing], vec!["undo", missing, "--since", "1h"], vec!["verify", &source, missing]]
    {
        let outcome = says(&environment, &arguments, 11, &["ENOENT", "ls -d \"/nonexistent/standby\""]);
        assert!(!outcome.stderr.contains("parent"), "{outcome:?}");
    }
}

#[test]
fn a_target_that_is_written_as_a_url_or_without_its_colon_is_told_how_to_write_it() {
    let (environment, dir) = (Environment::new(), tempfile::tempdir().unwrap());
    let source = format!("{}/", dir.path().display());
    for command in ["sync", "mirror"] {
        for target in ["ssh://host/path", "sftp://user@host:2222/path", "FILE:///path"] {
            let parts = ["takes no URLs", target, "HOST:/PATH"];
            says(&environment, &[command, "-a", &source, target], 1, &parts);
        }
    }
    let parts = ["\"web2\" here", "web2:/srv/uploads"];
    says(&environment, &["sync", "-a", &source, "web2/srv/uploads"], 11, &parts);
}

#[test]
fn a_mirror_that_is_interrupted_tells_of_no_lost_connection() {
    let (environment, dir) = (Environment::new(), tempfile::tempdir().unwrap());
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let control = format!("--control={}", dir.path().join("control").display());
    let (source, target) = (format!("{}/", source.display()), dir.path().join("target"));
    let mirror = environment.spawn(["mirror", &control, &source, text(&target)]);
    mirror.wait_for_line(": live");
    eventually("the file", || target.join("file").exists());
    mirror.signal(rustix::process::Signal::INT);
    let outcome = mirror.wait();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (20, ""));
}
