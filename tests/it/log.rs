//! What a daemon writes into its log.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use super::service::block;
use crate::support::command::{Background, Environment, eventually};
use crate::support::stand::Stand;

struct Setup {
    env: Environment,
    dir: TempDir,
}

impl Setup {
    fn new() -> Self {
        let setup = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir(setup.path("source")).unwrap();
        fs::write(setup.path("speil.lua"), block("www", &setup.path("source"), &setup.path("standby")))
            .unwrap();
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn control(&self) -> String {
        format!("--control={}", self.path("control").display())
    }

    fn start(&self, options: &[&str]) -> Background {
        let (control, config) = (self.control(), self.path("speil.lua").display().to_string());
        let mut arguments = vec!["run", &control];
        arguments.extend(options);
        arguments.push(&config);
        self.env.spawn(arguments)
    }
}

#[test]
fn json_is_one_object_a_line_whatever_a_file_is_called() {
    let setup = Setup::new();
    let daemon = setup.start(&["--log-format", "json"]);
    daemon.wait_for_error_line("\"event\":\"live\"");
    // A directory on the target that holds what is protected there makes a problem of the file.
    let name = "a\n{\"level\":\"error\"}\u{1b}[2J";
    fs::create_dir_all(setup.path("standby").join(name)).unwrap();
    fs::write(setup.path("standby").join(name).join("x"), "y").unwrap();
    fs::write(setup.path("source").join(name), "x").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_error_line("configuration read again");
    let said = daemon.terminate().stderr;
    assert!(said.lines().count() >= 2, "{said}");
    for line in said.lines() {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(value["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert!(value["level"] != "error" && !line.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn a_hangup_is_news_and_no_trouble() {
    let setup = Setup::new();
    let daemon = setup.start(&[]);
    daemon.wait_for_error_line(": live");
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for_error_line("configuration read again");
    assert!(line.contains(" INFO speil: configuration read again: 1 sync unchanged"), "{line}");
    daemon.terminate();
}

#[test]
fn the_level_of_a_sync_changes_while_it_runs() {
    let setup = Setup::new();
    let daemon = setup.start(&[]);
    daemon.wait_for_error_line(": live");
    let write = |name: &str| {
        fs::write(setup.path("source").join(name), "x").unwrap();
        eventually("it is there", || setup.path("standby").join(name).exists());
        let _ = setup.env.run(["wait", &setup.control()]).succeeded();
    };
    write("quiet");
    assert!(!daemon.stderr().iter().any(|line| line.contains("acknowledged")), "{:?}", daemon.stderr());
    let _ = setup.env.run(["log-level", &setup.control(), "www", "debug"]).succeeded();
    write("loud");
    let line = daemon.wait_for_error_line("acknowledged");
    assert!(line.contains("DEBUG www → standby: batch"), "{line}");
    assert_eq!(setup.env.run(["log-level", &setup.control(), "nosuch", "debug"]).code(), 1);
    assert_eq!(setup.env.run(["log-level", &setup.control(), "www", "chatty"]).code(), 1);
    daemon.terminate();
}

#[test]
fn a_log_file_is_written_instead_of_standard_error() {
    let setup = Setup::new();
    let file = format!("--log-file={}", setup.path("log").display());
    let daemon = setup.start(&[&file]);
    eventually("it is live", || {
        fs::read_to_string(setup.path("log")).is_ok_and(|log| log.contains(": live"))
    });
    // As logrotate does it.
    let (log, old) = (setup.path("log"), setup.path("log.1"));
    fs::rename(&log, &old).unwrap();
    daemon.signal(Signal::HUP);
    let reopened = || fs::read_to_string(&log).is_ok_and(|log| log.contains("configuration read again"));
    eventually("the new file has what comes", reopened);
    assert!(!fs::read_to_string(&old).unwrap().contains("configuration read again"));
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    daemon.signal(Signal::HUP);
    eventually("a refused reload of the log stops nothing", || {
        fs::write(setup.path("source/more"), "x").unwrap();
        setup.path("standby/more").exists()
    });
    assert_eq!(daemon.terminate().stderr, "");
}

#[test]
fn a_configuration_that_is_read_again_may_name_another_log_file() {
    let setup = Setup::new();
    let config = fs::read_to_string(setup.path("speil.lua")).unwrap();
    let name = |log: &str| {
        let text = format!("settings {{ logfile = {:?} }}\n{config}", setup.path(log));
        fs::write(setup.path("speil.lua"), text).unwrap();
    };
    let has =
        |log: &str, words: &str| fs::read_to_string(setup.path(log)).is_ok_and(|log| log.contains(words));
    name("one");
    let daemon = setup.start(&[]);
    eventually("it is live", || has("one", ": live"));
    name("two");
    daemon.signal(Signal::HUP);
    eventually("it goes on there", || has("two", "configuration read again"));
    name("missing/three");
    daemon.signal(Signal::HUP);
    eventually("it stays there, and says so", || has("two", "missing/three\" cannot be opened: "));
    daemon.terminate();
}

#[test]
fn the_log_file_of_a_mirror_is_opened_anew_on_a_hangup() {
    let stand = Stand::new();
    let (log, old) = (stand.path("log"), stand.path("log.1"));
    let mirror = stand.mirror(&["standby"], &["-i", &format!("--log-file={}", log.display())]);
    fs::rename(&log, &old).unwrap();
    mirror.signal(Signal::HUP);
    eventually("it is there again", || log.exists());
    fs::write(stand.source().join("after"), "x").unwrap();
    let named = |log: &std::path::Path| fs::read_to_string(log).unwrap().contains("after");
    eventually("the change is in the new file", || named(&log));
    assert!(!named(&old));
    mirror.terminate();
}
