//! `speil doctor` on set-ups that are broken in one way each: the cause and the cure are named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::command::{Environment, Outcome, SPEIL, agent_command};
use crate::support::sshd::Sshd;

/// A source with one file, an empty target, and an sshd between them.
struct Setup {
    env: Environment,
    sshd: Sshd,
    dir: TempDir,
}

impl Setup {
    fn new() -> Self {
        let setup = Self { env: Environment::new(), sshd: Sshd::start(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(setup.path("source/sub")).unwrap();
        fs::write(setup.path("source/sub/file"), vec![7; 100_000]).unwrap();
        fs::create_dir(setup.path("target")).unwrap();
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Looks at `target` over ssh with `rsh` and an agent that stands ready.
    fn doctor_with(&self, rsh: &str, agent: &str, target: &Path) -> Outcome {
        let source = self.path("source").display().to_string();
        let target = self.sshd.target(target);
        self.env.run(["doctor", "--source", &source, "-e", rsh, "--agent", agent, &target])
    }

    fn doctor(&self, rsh: &str) -> Outcome {
        self.doctor_with(rsh, &agent_command(), &self.path("target"))
    }

    fn at(&self, target: &Path) -> Outcome {
        self.doctor_with(&self.sshd.ssh_command(), &agent_command(), target)
    }
}

/// Asserts that a problem is told with its cause, and its cure in the line after it.
#[track_caller]
fn assert_problem(outcome: &Outcome, check: &str, cause: &str, cure: &str) {
    assert_eq!(outcome.code(), 23, "{outcome:?}");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let at = lines.iter().position(|line| {
        line.contains("PROBLEM") && line.split_whitespace().nth(1) == Some(check) && line.contains(cause)
    });
    let at = at.unwrap_or_else(|| panic!("no {check} with {cause:?}:\n{}", outcome.stdout));
    let next = lines.get(at + 1).copied().unwrap_or_default();
    assert!(next.contains('→') && next.contains(cure), "no cure {cure:?}:\n{}", outcome.stdout);
}

/// A tmpfs that goes with its guard.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn new(at: &'a Path, options: &str) -> Self {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).status();
        assert!(done.is_ok_and(|status| status.success()), "the tests mount a tmpfs: run them as root");
        Self(at)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_healthy_set_up_has_nothing_in_its_way_and_is_left_as_it_was() {
    let setup = Setup::new();
    let outcome = setup.at(&setup.path("target")).succeeded();
    for word in ["inotify", "source", "agent", "link", "clock", "disk", "space", "names", "kept"] {
        assert!(outcome.stdout.lines().any(|line| line.contains(&format!(" {word} "))), "{}", outcome.stdout);
    }
    assert_eq!(fs::read_dir(setup.path("target")).unwrap().count(), 0, "something was left behind");
}

#[test]
fn figures_are_in_the_json_with_their_units() {
    let setup = Setup::new();
    let source = setup.path("source").display().to_string();
    let target = setup.path("target").display().to_string();
    let outcome = setup.env.run(["doctor", "--json", "--source", &source, &target]).succeeded();
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&report["schema"], &report["problems"]), (&1.into(), &0.into()));
    let figure = |check: &str, name: &str| {
        let findings = report["findings"].as_array().unwrap();
        let finding = findings.iter().find(|finding| finding["check"] == check).unwrap();
        finding["figures"][name].as_i64().unwrap_or_else(|| panic!("{check} {name}: {finding}"))
    };
    assert_eq!(figure("source", "bytes"), 100_000);
    assert_eq!(figure("inotify", "directories"), 2);
    assert!(figure("link", "upload_bytes_per_s") > 0 && figure("link", "round_trip_us") >= 0);
    assert!(figure("disk", "small_write_us") > 0 && figure("space", "free_bytes") > 0);
    assert!(figure("clock", "clock_ahead_ms").abs() < 1000);
}

#[test]
fn a_key_that_the_host_does_not_know_is_told() {
    let setup = Setup::new();
    let key = setup.path("other_key").display().to_string();
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]).status();
    assert!(made.unwrap().success());
    let known = setup.sshd.dir().join("client_key").display().to_string();
    let outcome = setup.doctor(&setup.sshd.ssh_command().replace(&known, &key));
    assert_problem(&outcome, "login", "Permission denied", "ssh-copy-id");
}

#[test]
fn a_key_that_others_may_read_is_told_before_anybody_connects() {
    let setup = Setup::new();
    let key = setup.path("open_key");
    fs::write(&key, "not looked at").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let config = setup.path("speil.lua");
    let text = format!(
        "sync {{ default.mirror, source = {:?}, target = {:?}, ssh = {{ port = {}, identityFile = {key:?}, \
         options = {{ UserKnownHostsFile = {:?} }} }} }}",
        setup.path("source"),
        setup.sshd.target(&setup.path("target")),
        setup.sshd.address().port(),
        setup.sshd.dir().join("known_hosts"),
    );
    fs::write(&config, text).unwrap();
    let outcome = setup.env.run([Path::new("doctor"), &config]);
    assert_problem(&outcome, "key", "may be read by others", "chmod 600");
}

#[test]
fn a_host_key_that_is_not_known_is_told() {
    let setup = Setup::new();
    let known = setup.sshd.dir().join("known_hosts").display().to_string();
    let outcome = setup.doctor(&setup.sshd.ssh_command().replace(&known, "/dev/null"));
    assert_problem(&outcome, "login", "Host key verification failed", "known_hosts");
}

#[test]
fn a_port_where_nobody_listens_is_told() {
    let setup = Setup::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let right = format!("-p {}", setup.sshd.address().port());
    let outcome = setup.doctor(&setup.sshd.ssh_command().replace(&right, &format!("-p {port}")));
    assert_problem(&outcome, "login", "Connection refused", "is sshd running");
}

#[test]
fn a_shell_that_speaks_before_the_agent_is_told() {
    let setup = Setup::new();
    let agent = format!("sh -c 'echo Welcome to web2; exec {SPEIL} agent'");
    let outcome = setup.doctor_with(&setup.sshd.ssh_command(), &agent, &setup.path("target"));
    assert_problem(&outcome, "agent", "Welcome to web2", "silence it");
}

#[test]
fn a_target_without_an_agent_is_told_where_none_may_be_brought() {
    let setup = Setup::new();
    let outcome = setup.doctor_with(&setup.sshd.ssh_command(), "path", &setup.path("target"));
    assert_problem(&outcome, "agent", "not in PATH", "install speil");
    let outcome = setup.doctor_with(&setup.sshd.ssh_command(), "/nowhere/speil agent", &setup.path("target"));
    assert_problem(&outcome, "agent", "status 127", "install speil");
}

#[test]
fn an_agent_that_is_missing_is_brought_where_that_is_allowed() {
    let setup = Setup::new();
    let outcome = setup.doctor_with(&setup.sshd.ssh_command(), "deploy", &setup.path("target")).succeeded();
    assert!(outcome.stdout.contains("uploaded just now"), "{}", outcome.stdout);
    assert!(setup.sshd.dir().join("home/.cache/speil").is_dir());
}

#[test]
fn a_read_only_target_is_told() {
    let setup = Setup::new();
    let target = setup.path("target");
    let _mount = Mount::new(&target, "ro,size=1m");
    assert_problem(&setup.at(&target), "writing", "EROFS", "remount,rw");
}

#[test]
fn a_full_disk_is_told_and_so_is_one_that_is_too_small() {
    let setup = Setup::new();
    let target = setup.path("target");
    let mount = Mount::new(&target, "size=64k");
    assert_problem(&setup.at(&target), "space", "64.0 KiB", "make room");
    let _ = fs::write(target.join("filler"), vec![1; 64 << 10]);
    assert_problem(&setup.at(&target), "writing", "ENOSPC", "make room");
    drop(mount);
}

#[test]
fn too_few_watches_for_the_tree_are_told_with_the_sysctl() {
    let setup = Setup::new();
    let limits = setup.path("proc/sys/fs/inotify");
    fs::create_dir_all(&limits).unwrap();
    fs::write(limits.join("max_user_watches"), "1\n").unwrap();
    let proc = format!("--proc={}", setup.path("proc").display());
    let source = setup.path("source").display().to_string();
    let outcome = setup.env.run(["doctor", &proc, "--source", &source]);
    assert_problem(&outcome, "inotify", "2 directories to watch; 1 watches", "fs.inotify.max_user_watches=");
}

#[test]
fn a_target_inside_the_source_is_told_whether_it_exists_or_not() {
    let setup = Setup::new();
    for inside in ["source/sub", "source/new"] {
        assert_problem(&setup.at(&setup.path(inside)), "directory", "lies within the other", "outside");
    }
}

#[test]
fn a_source_that_is_missing_is_told_and_the_target_is_looked_at_all_the_same() {
    let setup = Setup::new();
    let source = setup.path("gone").display().to_string();
    let target = setup.path("target").display().to_string();
    let outcome = setup.env.run(["doctor", "--source", &source, &target]);
    assert_problem(&outcome, "source", "ENOENT", "mount what should be there");
    assert!(outcome.stdout.contains("ok       disk"), "{}", outcome.stdout);
}

#[test]
fn a_target_directory_without_a_parent_is_told_and_one_with_a_parent_is_no_problem() {
    let setup = Setup::new();
    assert_problem(&setup.at(&setup.path("no/such")), "directory", "does not exist", "mkdir -p");
    let outcome = setup.at(&setup.path("fresh")).succeeded();
    assert!(outcome.stdout.contains("the first run makes it"), "{}", outcome.stdout);
    assert!(!setup.path("fresh").exists());
}

#[test]
fn a_standby_that_refuses_every_mirror_is_told_with_its_words() {
    let setup = Setup::new();
    fs::create_dir(setup.path("target/.speil")).unwrap();
    for (name, text) in [("refuse", "promoted on Friday"), ("session", "")] {
        fs::write(setup.path("target/.speil").join(name), text).unwrap();
    }
    assert_problem(&setup.at(&setup.path("target")), "mirror", "promoted on Friday", ".speil/refuse");
}

#[test]
fn a_configuration_that_does_not_load_is_wrong_usage() {
    let setup = Setup::new();
    fs::write(setup.path("bad.lua"), "sync {").unwrap();
    let outcome = setup.env.run([Path::new("doctor"), &setup.path("bad.lua")]);
    assert_eq!(outcome.code(), 1, "{outcome:?}");
}
