//! What commands end with, as README's table has it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::support::command::{Background, Environment, SPEIL, eventually};

struct Setup {
    env: Environment,
    dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let setup = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir(setup.path("s")).unwrap();
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Starts speil with signals as a terminal gives them: what runs the tests may ignore some.
    fn spawn<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Background {
        let mut command = self.env.command("env");
        command.args(["--default-signal=INT,TERM,HUP", SPEIL]).args(arguments);
        Background::spawn(command)
    }

    /// Runs a command to its end and returns its code.
    fn code(&self, arguments: &[&str]) -> i32 {
        let mut command = self.env.speil(arguments);
        command.env("XDG_RUNTIME_DIR", self.path("run"));
        Background::spawn(command).wait().code()
    }
}

/// A daemon that never answers: every question waits.
#[test]
fn a_signal_ends_every_question_to_a_daemon_with_20() {
    let setup = Setup::new();
    let silent = UnixListener::bind(setup.path("control")).unwrap();
    let control = format!("--control={}", setup.text("control"));
    for words in [
        vec!["status"],
        vec!["status", "--json"],
        vec!["wait"],
        vec!["wait", "--timeout=6000s"],
        vec!["explain", "sync", "path"],
        vec!["reconcile"],
        vec!["pause"],
        vec!["resume"],
        vec!["approve"],
        vec!["discard"],
        vec!["log-level", "--all", "debug"],
    ] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let arguments = words.iter().copied().chain([control.as_str()]);
            let asking = setup.spawn(arguments);
            let (client, _) = silent.accept().unwrap();
            let mut question = String::new();
            BufReader::new(&client).read_line(&mut question).unwrap();
            asking.signal(signal);
            let ended = asking.wait();
            assert_eq!(ended.code(), 20, "{words:?} {signal:?}: {ended:?}");
        }
    }
}

/// A remote shell that never answers.
#[test]
fn a_signal_ends_every_command_that_connects_with_20() {
    let setup = Setup::new();
    let script = format!("#!/bin/sh\n: > {}\nexec sleep 6000\n", setup.text("called"));
    fs::write(setup.path("shell"), script).unwrap();
    fs::set_permissions(setup.path("shell"), fs::Permissions::from_mode(0o755)).unwrap();
    let (shell, source) = (setup.text("shell"), setup.text("s"));
    for words in [
        vec!["verify", "-e", &shell, &source, "host:/t"],
        vec!["doctor", "-e", &shell, "host:/t"],
        vec!["trash", "-e", &shell, "host:/t"],
        vec!["undo", "-e", &shell, "--since=10m", "host:/t"],
        vec!["sync", "-a", "-e", &shell, &source, "host:/t"],
        vec!["mirror", "--dry-run", "-e", &shell, &source, "host:/t"],
    ] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let _ = fs::remove_file(setup.path("called"));
            let command = setup.spawn(words.iter().copied());
            eventually("it connects", || setup.path("called").exists());
            command.signal(signal);
            let ended = command.wait();
            assert_eq!(ended.code(), 20, "{words:?} {signal:?}: {ended:?}");
        }
    }
}

#[test]
fn a_signal_ends_what_waits_for_a_lock_and_what_was_to_be_ignored_stays_ignored() {
    let setup = Setup::new();
    let script = format!("#!/bin/sh\n: > {}\nexec sleep 6000\n", setup.text("called"));
    fs::write(setup.path("shell"), script).unwrap();
    fs::set_permissions(setup.path("shell"), fs::Permissions::from_mode(0o755)).unwrap();
    let (shell, source) = (setup.text("shell"), setup.text("s"));
    let arguments = ["sync", "-a", "--wait-lock=6000", "-e", &shell, &source, "host:/t"];
    let spawn = |ignores: bool| {
        let mut command = setup.env.command("env");
        command.args([
            "--default-signal=INT,TERM",
            if ignores { "--ignore-signal=HUP" } else { "--default-signal=HUP" },
        ]);
        command.arg(SPEIL).args(arguments).env("XDG_RUNTIME_DIR", setup.path("run"));
        Background::spawn(command)
    };
    let holder = spawn(true);
    eventually("it connects", || setup.path("called").exists());
    let waiting = spawn(false);
    let opened = |pid: u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        // Before it is itself it holds what the tests beside this one hold.
        let (run, is_lock) =
            (setup.path("run"), |link: &PathBuf| link.extension().is_some_and(|end| end == "lock"));
        links.into_iter().any(|link| link.starts_with(&run) && is_lock(&link))
    };
    eventually("it waits for the lock", || opened(waiting.pid()));
    waiting.signal(Signal::INT);
    assert_eq!(waiting.wait().code(), 20);
    holder.signal(Signal::HUP);
    // Behind what is ignored: it is this that ends it.
    holder.signal(Signal::INT);
    assert_eq!(holder.wait().code(), 20);
}

#[test]
fn what_cannot_be_used_or_written_is_told_by_the_code() {
    let setup = Setup::new();
    fs::write(setup.path("file"), "x").unwrap();
    std::os::unix::fs::symlink("loop", setup.path("loop")).unwrap();
    let source = format!("{}/", setup.text("s"));
    let gone = format!("{}/", setup.text("gone"));
    let (file, looped, target) = (setup.text("file"), setup.text("loop"), setup.text("t"));
    let below = setup.text("file/below");
    let nowhere = setup.text("no/such/log");
    let log = format!("--log-file={nowhere}");
    let control = format!("--control={}/control", setup.text("file"));
    let no_daemon = format!("--control={}", setup.text("no-daemon"));
    fs::write(
        setup.path("speil.lua"),
        format!("sync {{ default.mirror, source = {source:?}, target = {target:?} }}\n"),
    )
    .unwrap();
    let lua = setup.text("speil.lua");
    for (code, words) in [
        (3, vec!["sync", "-a", &source, &file]),
        (3, vec!["sync", "-a", &source, &below]),
        (3, vec!["sync", "-a", &source, &looped]),
        (11, vec!["sync", "-a", &source, &nowhere]),
        (23, vec!["sync", "-a", &gone, &target]),
        (3, vec!["mirror", &gone, &target]),
        (3, vec!["verify", &gone, &target]),
        (3, vec!["verify", &source, &file]),
        (3, vec!["sync", "-a", &source, &source]),
        (11, vec!["sync", "-a", &log, &source, &target]),
        (11, vec!["mirror", &log, &source, &target]),
        (11, vec!["run", &log, &lua]),
        (11, vec!["mirror", &control, &source, &target]),
        (12, vec!["status", &no_daemon]),
        (12, vec!["explain", "s", "p", &no_daemon]),
    ] {
        assert_eq!(setup.code(&words), code, "{words:?}");
    }
}
