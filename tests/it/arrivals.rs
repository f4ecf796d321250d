//! `speil arrivals`: what has arrived on a target is told once, whole batches alone, and nothing is missed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::command::{Background, eventually};
use crate::support::process::tree;
use crate::support::stand::Stand;

/// Files of the long test: `SPEIL_ROUNDS`, else few.
fn rounds() -> usize {
    std::env::var("SPEIL_ROUNDS").ok().and_then(|count| count.parse().ok()).unwrap_or(60)
}

fn arrivals(stand: &Stand, words: &[&str]) -> Background {
    let root = format!("--root={}", stand.target("t").display());
    stand.environment.spawn([&["arrivals", &root], words].concat())
}

/// Whether the lines hold these, in order, and nothing else.
fn is_told(reader: &Background, lines: &[&str]) {
    eventually(&format!("{lines:?} of {:?}", reader.stdout()), || reader.stdout() == lines);
}

#[test]
fn each_batch_is_told_once_when_it_is_there() {
    let stand = Stand::new();
    let _daemon = stand.run(&["t"], "", "");
    let reader = arrivals(&stand, &["--quiet=0s", "--json"]);
    reader.wait_for_line("everything");
    for number in 0..rounds() {
        fs::write(stand.source().join(format!("file-{number}")), number.to_string()).unwrap();
        stand.wait();
    }
    // What wait has waited for is told already: one more batch is behind all of it.
    fs::rename(stand.source().join("file-0"), stand.source().join("last")).unwrap();
    reader.wait_for_line("\"last\"");
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for line in reader.stdout().iter().skip(1) {
        let told: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(told["everything"], false, "{line}");
        for path in told["paths"].as_array().unwrap() {
            *times.entry(path.as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(times.remove("last"), Some(1));
    assert_eq!(times.remove("file-0"), Some(2), "once when it came, once when it went");
    assert_eq!(times.len(), rounds() - 1);
    assert!(times.values().all(|count| *count == 1), "{times:?}");
}

#[test]
fn a_command_reads_the_paths_and_what_it_failed_for_is_told_again() {
    let stand = Stand::new();
    let _daemon = stand.run(&["t"], "", "");
    let (seen, fail, position) = (stand.path("seen"), stand.path("fail"), stand.path("position"));
    let script = stand.path("script");
    let text = format!(
        "#!/bin/sh\necho \"run $*\" >>{seen}\ntr '\\0' '\\n' >>{seen}\n[ ! -e {fail} ]\n",
        seen = seen.display(),
        fail = fail.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let remember = format!("--remember={}", position.display());
    let words = ["--path=/conf/**", &remember, "--", script.to_str().unwrap(), "word"];
    let read = || fs::read_to_string(&seen).unwrap_or_default();

    let reader = arrivals(&stand, &words);
    eventually("the first run", || read() == "run word\n.\n");
    fs::create_dir(stand.source().join("conf")).unwrap();
    fs::write(stand.source().join("other"), "").unwrap();
    fs::write(stand.source().join("conf/a b"), "1").unwrap();
    eventually("a path", || read() == "run word\n.\nrun word\nconf/a b\n");
    eventually("the position", || position.exists());
    assert_eq!(reader.terminate().code(), 20);

    // What arrives while nobody reads is told at the next start, and again until the command succeeds.
    fs::write(stand.source().join("conf/c"), "1").unwrap();
    stand.wait();
    fs::write(&fail, "").unwrap();
    fs::write(&seen, "").unwrap();
    let reader = arrivals(&stand, &words);
    reader.wait_for_error_line("ended with 1; again in 10 s");
    assert_eq!(read(), "run word\nconf/c\n");
    assert_eq!(reader.terminate().code(), 20);
    fs::remove_file(&fail).unwrap();
    let _reader = arrivals(&stand, &words);
    eventually("the same once more", || read() == "run word\nconf/c\nrun word\nconf/c\n");
}

#[test]
fn once_ends_with_what_the_command_ended_with() {
    let stand = Stand::new();
    let _daemon = stand.run(&["t"], "", "");
    let run = |words: &[&str]| {
        let reader = arrivals(&stand, &[&["--once", "--path=new-*"], words].concat());
        // Its ring is there before it reads.
        eventually("it listens", || stand.target("t").join(".speil/arrived").exists());
        reader
    };
    let reader = run(&["--", "sh", "-c", "exit 7"]);
    let mut number = 0;
    eventually("it ends", || {
        number += 1;
        fs::write(stand.source().join(format!("new-{number}")), "").unwrap();
        stand.wait();
        !reader.is_running()
    });
    assert_eq!(reader.wait().code(), 7);
}

#[test]
fn what_an_agent_did_before_it_was_killed_is_told_as_everything() {
    let stand = Stand::new();
    let daemon = stand.run(&["t"], "", "");
    let reader = arrivals(&stand, &["--from-now"]);
    eventually("a ring", || stand.target("t").join(".speil/arrived").exists());
    fs::write(stand.source().join("a"), "").unwrap();
    is_told(&reader, &["a"]);
    for agent in tree(daemon.pid()).iter().filter(|it| it.pid != daemon.pid()) {
        let pid = rustix::process::Pid::from_raw(agent.pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    fs::write(stand.source().join("b"), "").unwrap();
    is_told(&reader, &["a", "."]);
    stand.wait();
    fs::create_dir(stand.source().join("d")).unwrap();
    fs::write(stand.source().join("d/c"), "").unwrap();
    stand.wait();
    fs::rename(stand.source().join("d"), stand.source().join("e")).unwrap();
    eventually("a directory", || reader.stdout().iter().any(|line| line == "e/"));
    assert!(reader.stdout().contains(&"d/".to_owned()), "{:?}", reader.stdout());
}

#[test]
fn a_wrong_directory_or_position_is_one_line() {
    let stand = Stand::new();
    let run = |words: &[&str]| stand.environment.run([&["arrivals"], words].concat());
    let missing = run(&["--root", "/no/such/directory"]);
    assert_eq!((missing.code(), missing.stderr.lines().count()), (3, 1), "{}", missing.stderr);
    assert!(
        missing.stderr.contains("/no/such/directory: no such file or directory (ENOENT)"),
        "{}",
        missing.stderr
    );
    let position = stand.path("position");
    fs::write(&position, "something else").unwrap();
    fs::create_dir(stand.target("t")).unwrap();
    let root = stand.target("t").display().to_string();
    let foreign = run(&["--root", &root, "--remember", &position.display().to_string()]);
    assert_eq!(foreign.code(), 11, "{}", foreign.stderr);
    assert_eq!(fs::read_to_string(&position).unwrap(), "something else");
    let unwritable = run(&["--root", &root, "--remember", "/no/such/position", "--", "true"]);
    assert_eq!(unwritable.code(), 11, "{}", unwritable.stderr);
    assert!(!Path::new("/no/such").exists());
}
