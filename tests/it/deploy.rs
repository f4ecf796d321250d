//! Bringing the agent to a standby that has none: what is told or asked before, and where the copy cannot start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::command::{Environment, Outcome, SPEIL};
use crate::support::sshd::Sshd;
use crate::support::terminal::Terminal;

/// A source with one file, and a standby without an agent.
struct Scene {
    env: Environment,
    sshd: Sshd,
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { env: Environment::new(), sshd: Sshd::start(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir(scene.path("source")).unwrap();
        fs::write(scene.path("source/file"), b"content").unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder of uploaded agents on the standby.
    fn agents(&self) -> PathBuf {
        self.sshd.dir().join("home/.cache/speil")
    }

    fn target(&self) -> String {
        self.sshd.target(&self.path("target"))
    }

    fn words(&self, options: &[&str]) -> Vec<String> {
        let source = format!("{}/", self.path("source").display());
        let (rsh, target) = (self.sshd.ssh_command(), self.target());
        let words = ["sync", "-a", "-e", &rsh].into_iter().chain(options.iter().copied());
        words.chain([source.as_str(), target.as_str()]).map(str::to_owned).collect()
    }

    fn sync(&self, options: &[&str]) -> Outcome {
        self.env.run(self.words(options))
    }

    /// Puts a script in the place of a program of the standby's.
    fn fake(&self, program: &str, script: &str) {
        let file = self.sshd.dir().join("bin").join(program);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Has a script arrive in place of the agent.
    fn arrives(&self, script: &str) {
        self.fake("cat", &format!("/bin/cat >/dev/null\n/bin/cat <<'END'\n{script}\nEND"));
    }
}

#[test]
fn an_upload_is_told_on_standard_error_and_made_once() {
    let scene = Scene::new();
    let first = scene.sync(&["-i"]).succeeded();
    assert!(first.stderr.starts_with("127.0.0.1: uploading the agent, "), "{first:?}");
    assert!(first.stderr.ends_with(" MB"), "{first:?}");
    assert!(!first.stdout.contains("uploading"), "{first:?}");
    assert_eq!(fs::read(scene.path("target/file")).unwrap(), b"content");
    assert_eq!(fs::read_dir(scene.agents()).unwrap().count(), 1);
    assert_eq!(scene.sync(&[]).succeeded().stderr, "");
}

#[test]
fn a_dry_run_without_a_terminal_uploads_nothing_and_names_the_option() {
    let scene = Scene::new();
    let config = scene.path("speil.lua");
    let rsh: Vec<String> = scene.sshd.ssh_command().split(' ').map(|word| format!("{word:?}")).collect();
    let text = format!(
        "sync {{ default.mirror, name = 'www', source = {:?}, target = {:?}, ssh = {{ command = {{ {} }} }} }}",
        scene.path("source"),
        scene.target(),
        rsh.join(", ")
    );
    fs::write(&config, text).unwrap();
    let target = scene.target();
    let undo =
        ["undo", "-e", &scene.sshd.ssh_command(), "--since", "1h", "--dry-run", &target].map(str::to_owned);
    let run = ["run".to_owned(), "--dry-run".to_owned(), config.display().to_string()];
    for words in [scene.words(&["-n"]), undo.to_vec(), run.to_vec()] {
        let outcome = scene.env.run(&words);
        assert_eq!(outcome.code(), 3, "{words:?}: {outcome:?}");
        let said = &outcome.stderr;
        assert!(said.contains("speil is not installed on the target"), "{outcome:?}");
        assert!(said.contains("--agent=auto allows the upload"), "{outcome:?}");
        assert!(!scene.agents().exists(), "{words:?} uploaded an agent");
    }
    let allowed = scene.sync(&["-n", "-i", "--agent=auto"]).succeeded();
    assert!(allowed.stderr.contains("uploading the agent") && allowed.stdout.contains("file"), "{allowed:?}");
    assert!(scene.agents().exists() && !scene.path("target").exists());
}

#[test]
fn a_dry_run_at_a_terminal_asks() {
    let scene = Scene::new();
    let words = scene.words(&["-n", "-i"]);
    let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("{SPEIL} {}", line.join(" "));
    for (answer, code) in [("", 3), ("no", 3), ("yes", 0)] {
        let mut terminal = Terminal::start(&scene.env, &line);
        terminal.types(&format!("{answer}\n"));
        let outcome = terminal.run.wait();
        assert_eq!(outcome.code(), code, "{outcome:?}");
        assert!(outcome.stdout.contains("Upload this one, "), "{outcome:?}");
        assert_eq!(outcome.stdout.contains("uploading the agent"), code == 0, "{outcome:?}");
        assert_eq!(scene.agents().exists(), code == 0);
    }
    assert!(!scene.path("target").exists());
}

/// Asserts that the upload fails with these words, and leaves nothing behind.
#[track_caller]
fn assert_unfit(scene: &Scene, words: &[&str]) {
    let outcome = scene.sync(&[]);
    assert_eq!(outcome.code(), 12, "{outcome:?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "no {word:?}: {outcome:?}");
    }
    let left = fs::read_dir(scene.agents()).map(Iterator::count).unwrap_or(0);
    assert_eq!(left, 0, "{:?} was left behind", scene.agents());
}

#[test]
fn a_host_that_cannot_run_the_agent_is_told_apart_before_anything_is_sent() {
    let scene = Scene::new();
    scene.fake("uname", "echo Linux riscv128");
    assert_unfit(&scene, &["the target is \"Linux riscv128\"", "install speil there"]);
    scene.fake("uname", "exec /usr/bin/uname \"$@\"");
    scene.fake("getconf", "echo glibc 2.5");
    assert_unfit(&scene, &["this program needs glibc 2.", "the target has 2.5", "make dist"]);
    scene.fake("getconf", "exit 1");
    assert_unfit(&scene, &["another C library", "install speil there"]);
    assert!(!scene.agents().exists(), "something was sent");
}

#[test]
fn a_copy_that_does_not_start_is_told_with_the_reason_and_the_cure() {
    let scene = Scene::new();
    let symbol = format!("GLIBC{}", "_2.99");
    scene.arrives(&format!("#!/bin/sh\necho \"$0: libc.so.6: version \\`{symbol}' not found\" >&2\nexit 1"));
    assert_unfit(&scene, &["needs glibc 2.99, and the target has an older one", "install speil there"]);
    scene.arrives(
        "#!/bin/sh\necho \"$0: error while loading shared libraries: libz.so.1: cannot open\" >&2\nexit 127",
    );
    assert_unfit(&scene, &["lacks the library \"libz.so.1\"", "install it"]);
    scene.arrives("#!/no/such/loader");
    assert_unfit(&scene, &["lacks the loader", "install speil there"]);
    scene.arrives("#!/bin/sh\nkill -ILL $$");
    assert_unfit(&scene, &["ended with status 132", "install speil there"]);
    scene.arrives("#!/bin/sh\necho something else");
    assert_unfit(&scene, &["did not verify"]);
}

/// A tmpfs that goes with its guard.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_home_in_which_nothing_may_be_started_is_told() {
    let scene = Scene::new();
    let home = scene.sshd.dir().join("home");
    let done =
        Command::new("mount").args(["-t", "tmpfs", "-o", "noexec,size=200m", "none"]).arg(&home).status();
    assert!(done.is_ok_and(|status| status.success()), "the tests mount a tmpfs: run them as root");
    let _mount = Mount(&home);
    assert_unfit(&scene, &["no program may be started from ~/.cache/speil", "noexec", "install speil there"]);
}
