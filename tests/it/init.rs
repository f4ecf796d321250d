//! `speil init`: from nothing to a standby, over a real sshd; what it does not do unasked; what a second run takes up.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::command::{Background, Environment, Outcome, SPEIL, eventually};
use crate::support::sshd::Sshd;
use crate::support::terminal::Terminal;

/// A source with a file, and a standby on which no key and no speil is yet.
struct Scene {
    env: Environment,
    sshd: Sshd,
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { env: Environment::new(), sshd: Sshd::start(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(scene.path("source/sub")).unwrap();
        fs::write(scene.path("source/sub/first"), "seen").unwrap();
        // Where ssh-copy-id and the forced command look for it.
        let keys = scene.sshd.dir().join("home/.ssh");
        fs::create_dir(&keys).unwrap();
        symlink(scene.sshd.dir().join("authorized_keys"), keys.join("authorized_keys")).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns `speil init` for this source and standby, with `more` words.
    fn words(&self, more: &[&str]) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.path("ssh/known_hosts").display());
        let port = self.sshd.address().port().to_string();
        let config = self.path("etc/speil.lua").display().to_string();
        let mut words: Vec<String> = [
            "init",
            "--no-start",
            "-p",
            &port,
            "-o",
            &known,
            "-o",
            "GlobalKnownHostsFile=none",
            "--config",
            &config,
        ]
        .map(str::to_owned)
        .to_vec();
        words.extend(more.iter().map(|&word| word.to_owned()));
        words
    }

    fn standby(&self) -> Vec<String> {
        vec![self.path("source").display().to_string(), self.sshd.target(&self.path("target"))]
    }

    fn command(&self, more: &[&str]) -> Command {
        self.env.speil(self.words(more).into_iter().chain(self.standby()))
    }

    fn run(&self, more: &[&str]) -> Outcome {
        Background::spawn(self.command(more)).wait()
    }

    /// Runs with the host's key accepted by its fingerprint.
    fn accepting(&self, more: &[&str]) -> Outcome {
        self.run(&[&["--accept-host-key", &self.fingerprint()], more].concat())
    }

    fn fingerprint(&self) -> String {
        let mut command = self.env.command("ssh-keygen");
        command.arg("-l").arg("-f").arg(self.sshd.dir().join("host_key.pub"));
        let said = Background::spawn(command).wait().succeeded().stdout;
        said.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// Lets the key in that was made.
    fn allow_key(&self) {
        let keys = self.sshd.dir().join("authorized_keys");
        let text = fs::read_to_string(&keys).unwrap()
            + &fs::read_to_string(self.path("etc/id_ed25519.pub")).unwrap();
        fs::write(keys, text).unwrap();
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path("etc/speil.lua")).unwrap_or_default()
    }

    fn assert_arrived(&self, outcome: &Outcome) {
        assert_eq!(
            fs::read_to_string(self.path("target/sub/first")).unwrap_or_default(),
            "seen",
            "{outcome:?}"
        );
    }
}

#[track_caller]
fn assert_refused(outcome: &Outcome, code: i32, why: &str, hint: &str) {
    assert_eq!(outcome.code(), code, "{outcome:?}");
    assert!(outcome.stderr.contains(why) && outcome.stderr.contains(hint), "{}", outcome.stderr);
}

/// An agent of ssh with a key that the standby knows already.
fn agent_with(scene: &Scene) -> (Background, PathBuf) {
    let socket = scene.path("agent");
    let mut agent = scene.env.command("ssh-agent");
    agent.arg("-D").arg("-a").arg(&socket);
    let agent = Background::spawn(agent);
    eventually("the agent listens", || socket.exists());
    let mut add = scene.env.command("ssh-add");
    add.env("SSH_AUTH_SOCK", &socket).arg(scene.sshd.dir().join("client_key"));
    let _ = Background::spawn(add).wait().succeeded();
    (agent, socket)
}

#[test]
fn whoever_can_log_in_already_has_a_standby_after_one_command() {
    let scene = Scene::new();
    let (_agent, socket) = agent_with(&scene);
    let fingerprint = scene.fingerprint();
    let mut command = scene.command(&["--accept-host-key", &fingerprint]);
    command.env("SSH_AUTH_SOCK", socket);
    let outcome = Background::spawn(command).wait().succeeded();
    scene.assert_arrived(&outcome);
    for step in
        ["ssh-keygen -q -t ed25519", "ssh-keyscan ", "ssh-copy-id ", "ssh ", "speil check ", "speil doctor "]
    {
        assert!(
            outcome.stdout.lines().any(|line| line.starts_with(&format!("+ {step}"))),
            "{}",
            outcome.stdout
        );
    }
    assert!(outcome.stdout.contains("nothing is in the way"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("Not started (--no-start)"), "{}", outcome.stdout);
    let key = fs::metadata(scene.path("etc/id_ed25519")).unwrap().permissions().mode();
    assert_eq!(key & 0o077, 0);
    // The same again finds all done.
    let (config, known) = (scene.config(), fs::read(scene.path("ssh/known_hosts")).unwrap());
    let again = scene.run(&[]).succeeded();
    assert!(again.stdout.contains("says this already"), "{}", again.stdout);
    for step in ["ssh-keygen", "ssh-keyscan", "ssh-copy-id", "echo '["] {
        assert!(!again.stdout.contains(&format!("+ {step}")), "{}", again.stdout);
    }
    assert_eq!((scene.config(), fs::read(scene.path("ssh/known_hosts")).unwrap()), (config, known));
}

#[test]
fn without_a_terminal_what_is_missing_is_named_with_what_gives_it() {
    let scene = Scene::new();
    assert_refused(&scene.env.run(scene.words(&[])), 1, "SOURCE is missing", "speil init SOURCE STANDBY");
    let source = scene.path("source").display().to_string();
    assert_refused(
        &scene.env.run(scene.words(&[&source])),
        1,
        "STANDBY is missing",
        "speil init SOURCE STANDBY",
    );
    assert_refused(&scene.run(&[]), 1, "is not known yet", "--accept-host-key SHA256:");
    assert_refused(
        &scene.run(&["--accept-host-key", "SHA256:other"]),
        255,
        "shows other keys",
        "administrator",
    );
    assert!(!scene.path("ssh/known_hosts").exists() && scene.config().is_empty());
    let local = scene.env.run(scene.words(&[&source, "/srv/copy"]));
    assert_refused(&local, 1, "names no other host", "speil mirror");
    let gone = scene.env.run(scene.words(&["/no/such", "root@standby"]));
    assert_refused(&gone, 3, "ENOENT", "mkdir -p");
}

#[test]
fn a_key_that_is_not_let_in_ends_the_run_and_the_next_one_goes_on() {
    let scene = Scene::new();
    let outcome = scene.accepting(&[]);
    let public = fs::read_to_string(scene.path("etc/id_ed25519.pub")).unwrap();
    assert_refused(&outcome, 255, "does not let this key in", public.trim());
    assert_eq!(scene.config(), "");
    // As if the run had been ended between the halves of the key.
    fs::remove_file(scene.path("etc/id_ed25519.pub")).unwrap();
    assert_eq!(scene.run(&[]).code(), 255);
    scene.allow_key();
    scene.assert_arrived(&scene.run(&[]).succeeded());
}

#[test]
fn a_configuration_that_says_something_else_stays_unless_forced() {
    let scene = Scene::new();
    fs::create_dir(scene.path("etc")).unwrap();
    let mine = "-- mine\nsettings { }\n";
    fs::write(scene.path("etc/speil.lua"), mine).unwrap();
    assert_refused(&scene.accepting(&[]), 1, "stays as it is", "--force");
    assert_eq!((scene.config().as_str(), scene.path("etc/id_ed25519").exists()), (mine, false));
    assert_eq!(scene.accepting(&["--force"]).code(), 255);
    assert_eq!(scene.config(), mine, "it is replaced when the login works, not before");
    scene.allow_key();
    let _ = scene.run(&["--force"]).succeeded();
    assert!(scene.config().contains("default.mirror"));
    assert_eq!(fs::read_to_string(scene.path("etc/speil.lua.old")).unwrap(), mine);
}

#[test]
fn the_configuration_of_comments_that_the_package_brings_is_no_hindrance() {
    let scene = Scene::new();
    fs::create_dir(scene.path("etc")).unwrap();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/speil.lua"), scene.path("etc/speil.lua"))
        .unwrap();
    assert_eq!(scene.accepting(&[]).code(), 255);
    scene.allow_key();
    let _ = scene.run(&[]).succeeded();
    assert!(scene.config().starts_with("-- Written by speil init"));
}

#[test]
fn a_dry_run_prints_the_steps_and_takes_none() {
    let scene = Scene::new();
    let outcome = scene.run(&["-n", "--forced-command"]).succeeded();
    for step in [
        "ssh-keygen -q",
        "ssh-keyscan",
        "ssh-copy-id",
        "cat >",
        "speil check",
        "speil doctor",
        "echo sub/first",
    ] {
        assert!(outcome.stdout.contains(&format!("+ {step}")), "{}", outcome.stdout);
    }
    assert!(outcome.stdout.contains("restrict ssh-ed25519"), "{}", outcome.stdout);
    assert_eq!(fs::read_dir(scene.dir.path()).unwrap().count(), 1, "something was made");
    assert_eq!(fs::read_dir(scene.env.home()).unwrap().count(), 0, "something was made");
}

#[test]
fn files_that_only_the_standby_has_are_not_given_up_unasked() {
    let scene = Scene::new();
    assert_eq!(scene.accepting(&[]).code(), 255);
    scene.allow_key();
    fs::create_dir_all(scene.path("target/sub")).unwrap();
    fs::write(scene.path("target/precious"), "").unwrap();
    assert_refused(&scene.run(&[]), 1, "\"precious\"", "--accept-contents");
    assert_eq!(scene.config(), "");
    scene.assert_arrived(&scene.run(&["--accept-contents"]).succeeded());
    assert!(scene.path("target/precious").exists());
    fs::remove_file(scene.path("target/precious")).unwrap();
    let _ = scene.run(&[]).succeeded();
}

#[test]
fn the_forced_command_leaves_the_key_nothing_but_the_mirror() {
    let scene = Scene::new();
    assert_eq!(scene.accepting(&["--forced-command"]).code(), 255);
    scene.allow_key();
    assert_refused(&scene.run(&["--forced-command"]), 1, "not in the PATH", "install speil");
    scene.sshd.install_agent();
    let keys = || fs::read_to_string(scene.sshd.dir().join("authorized_keys")).unwrap();
    let before = keys();
    let outcome = scene.run(&["--forced-command"]).succeeded();
    scene.assert_arrived(&outcome);
    let public = fs::read_to_string(scene.path("etc/id_ed25519.pub")).unwrap();
    let forced = format!(
        "command=\"{}/bin/speil agent --root {}\",restrict {public}",
        scene.sshd.dir().display(),
        scene.path("target").display()
    );
    assert_eq!(keys(), before.replace(&public, "") + &forced);
    assert!(scene.sshd.dir().join("home/.ssh/authorized_keys").is_symlink());
    assert_eq!(outcome.stdout.matches("+ speil doctor").count(), 2, "{}", outcome.stdout);
    let again = scene.run(&["--forced-command"]).succeeded();
    assert!(again.stdout.contains("runs a forced command there"), "{}", again.stdout);
}

fn at_terminal(scene: &Scene, words: &[String]) -> Terminal {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    Terminal::start(&scene.env, &format!("{SPEIL} {}", quoted.join(" ")))
}

#[test]
fn a_terminal_is_asked_for_all_that_is_missing() {
    let scene = Scene::new();
    assert_eq!(scene.accepting(&[]).code(), 255);
    scene.allow_key();
    fs::remove_file(scene.path("ssh/known_hosts")).unwrap();
    let [source, standby] = scene.standby().try_into().unwrap();
    let mut terminal = at_terminal(&scene, &scene.words(&[]));
    // A question has no line of its own until its answer is echoed.
    terminal.types(&format!("/no/such\n{source}\n"));
    let _ = terminal.run.wait_for_line("SOURCE \"/no/such\" cannot be read");
    terminal.types(&format!("{standby}\n"));
    let _ = terminal.run.wait_for_line("(ED25519)");
    terminal.types("y\n");
    let outcome = terminal.run.wait();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.stdout.contains("Which directory is to be mirrored?"), "{outcome:?}");
    assert!(outcome.stdout.contains("Is this the key of"), "{outcome:?}");
    scene.assert_arrived(&outcome);
}

#[test]
fn a_key_that_is_not_accepted_at_the_terminal_is_not_remembered() {
    let scene = Scene::new();
    let words: Vec<String> = scene.words(&[]).into_iter().chain(scene.standby()).collect();
    let mut terminal = at_terminal(&scene, &words);
    let _ = terminal.run.wait_for_line("(ED25519)");
    terminal.types("\n");
    let outcome = terminal.run.wait();
    assert_eq!(outcome.code(), 255, "{outcome:?}");
    assert!(outcome.stdout.contains("was not accepted; nothing was sent there"), "{outcome:?}");
    assert!(!scene.path("ssh/known_hosts").exists() && scene.config().is_empty());
}
