//! Which mirror a tree belongs to: the same for every spelling of its paths, and refused to any other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use speil::event::RescanReason;
use speil::sender::{Identity, SessionError};

use crate::support::command::{Background, Environment, Outcome, agent_command, eventually};
use crate::support::session::Scene;

/// A source with a file, and room for a target.
struct Pair {
    env: Environment,
    dir: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir(pair.path("s")).unwrap();
        fs::write(pair.path("s/file"), "content").unwrap();
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn control(&self) -> String {
        format!("--control={}", self.text("control"))
    }

    /// `speil` in the directory of the pair, which the shell shows.
    fn speil(&self, arguments: &[&str]) -> Command {
        let mut command = self.env.speil(arguments);
        command.current_dir(self.dir.path()).env("PWD", self.dir.path());
        command
    }

    fn mirror(&self, source: &str, target: &str) -> Background {
        Background::spawn(self.speil(&["mirror", &self.control(), source, target]))
    }

    /// The daemon for a configuration with this pair.
    fn run(&self, source: &str, target: &str) -> Background {
        let text =
            format!("sync {{ default.mirror, name = \"pair\", source = {source:?}, target = {target:?} }}\n");
        fs::write(self.path("speil.lua"), text).unwrap();
        Background::spawn(self.speil(&["run", &self.control(), "speil.lua"]))
    }
}

/// Waits until a mirror is live, and ends it.
#[track_caller]
fn goes_live(daemon: Background, what: &str) {
    eventually(what, || {
        assert!(daemon.is_running(), "{what}: ended: {:?}", daemon.stderr());
        let (out, err) = (daemon.stdout(), daemon.stderr());
        assert!(!err.iter().any(|line| line.contains("another mirror")), "{what}: {err:?}");
        out.iter().chain(&err).any(|line| line.ends_with(": live"))
    });
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait().code(), 20, "{what}");
}

#[test]
fn the_path_that_readme_takes_and_every_other_spelling_is_one_mirror() {
    let pair = Pair::new();
    let (s, t) = (pair.text("s"), pair.text("t"));
    // README: first by hand, with slashes, then for good.
    goes_live(pair.mirror(&format!("{s}/"), &format!("{t}/")), "mirror, with slashes");
    goes_live(pair.run(&s, &t), "run, behind mirror");
    goes_live(pair.mirror("./s/", "s/../t"), "mirror, relative, behind run");
    goes_live(pair.run(&format!("{s}//./"), &format!("{t}/../t")), "run, with dots");
    let source = format!("{s}/.");
    let pass = Background::spawn(pair.speil(&["sync", "-a", &source, "t"])).wait();
    assert_eq!(pass.code(), 0, "{pass:?}");
    let asked = pair.env.run(["doctor", "--source", &format!("{s}/"), &t]).succeeded();
    assert!(
        asked.stdout.contains("asked as the daemon asks: the target belongs to this mirror"),
        "{asked:?}"
    );
}

#[test]
fn a_target_of_another_mirror_is_refused_doctor_says_so_and_reconcile_tries_again_at_once() {
    let pair = Pair::new();
    let (s, t) = (pair.text("s"), pair.text("t"));
    fs::create_dir(pair.path("other")).unwrap();
    goes_live(pair.mirror(&format!("{}/", pair.text("other")), &t), "another mirror");
    let doctor = || pair.env.run(["doctor", "--source", &s, &t]);
    let refused = |outcome: &Outcome| outcome.stdout.contains("belongs to another mirror, \"other on ");
    let told = doctor();
    assert!(refused(&told) && told.code() == 23, "{told:?}");
    for words in [format!(":{} to {t}, last here ", pair.text("other")), "mv .speil/memory ".to_owned()] {
        assert!(told.stdout.contains(&words), "{words}: {told:?}");
    }

    let daemon = pair.run(&s, &t);
    daemon.wait_for_error_line("belongs to another mirror");
    fs::remove_file(pair.path("t/.speil/memory")).unwrap();
    let told = doctor();
    assert!(told.stdout.contains("belongs to no mirror") || told.stdout.contains("is empty"), "{told:?}");
    // The next try by itself is minutes away.
    pair.env.run(["reconcile", &pair.control()]).succeeded();
    eventually("it is tried at once", || daemon.stderr().iter().any(|line| line.ends_with(": live")));
    assert_eq!(fs::read(pair.path("t/file")).unwrap(), b"content");
    daemon.terminate();
}

#[test]
fn a_tree_that_an_earlier_version_named_otherwise_is_taken_over_and_named_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path());
    let mut live = |identity: Identity| -> Result<(), SessionError> {
        let whole = Scene::new(scene.source("..").as_path());
        scene.around = whole.around;
        scene.options.mirror = identity;
        let agent =
            speil::transport::Local::from(agent_command().split(' ').map(str::to_owned).collect::<Vec<_>>());
        let session = scene.connect(&agent)?;
        let running = std::thread::spawn(move || session.run(RescanReason::Start));
        scene.until_live();
        scene.end(running);
        Ok(())
    };
    live([9; 16].into()).unwrap();
    assert!(live([7; 16].into()).is_err(), "nothing says that it is the same");
    live(Identity { id: [7; 16], former: vec![[8; 16], [9; 16]] }).unwrap();
    live([7; 16].into()).unwrap();
    assert!(live([9; 16].into()).is_err(), "it is named anew");
    assert!(Path::new(&dir.path().join("target/.speil/memory")).exists());
}

#[test]
fn one_tree_in_two_spellings_is_no_two_targets() {
    let pair = Pair::new();
    let (s, t) = (pair.text("s"), pair.text("t"));
    let twice = pair.env.run(["sync", "-a", &s, "h:/srv/t", "h:/srv/./x/../t/"]);
    assert!(twice.code() == 1 && twice.stderr.contains("twice"), "{twice:?}");
    let text = format!("sync {{ default.mirror, source = {s:?}, targets = {{ {t:?}, \"{t}/./\" }} }}\n");
    fs::write(pair.path("speil.lua"), text).unwrap();
    let checked = pair.env.run([Path::new("check"), &pair.path("speil.lua")]);
    assert_eq!(checked.code(), 1, "{checked:?}");
}
