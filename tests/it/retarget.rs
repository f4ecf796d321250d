//! A reload that gives a sync other targets: those that stay notice nothing of it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::service::block;
use crate::support::command::{Background, Environment, agent_command, eventually};
use crate::support::process;

struct Scene {
    dir: tempfile::TempDir,
    environment: Environment,
    control: String,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        fs::write(dir.path().join("source/file"), b"one").unwrap();
        let control = format!("--control={}", dir.path().join("control").display());
        Self { dir, environment: Environment::new(), control }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, targets: &[&str]) {
        let targets: Vec<String> = targets.iter().map(|name| format!("{:?}", self.path(name))).collect();
        let text = format!(
            "sync {{ default.mirror, name = \"up\", source = {:?}, targets = {{ {} }}, agent = {:?} }}\n",
            self.path("source"),
            targets.join(", "),
            agent_command()
        );
        fs::write(self.path("speil.lua"), text).unwrap();
    }

    fn start(&self) -> Background {
        self.environment.spawn(["run", &self.control, self.path("speil.lua").to_str().unwrap()])
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let outcome = self.environment.run([arguments, &[&self.control]].concat()).succeeded();
        outcome.stdout.clone()
    }

    fn target(&self, name: &str) -> serde_json::Value {
        let told = self.environment.run(["status", "--json", &self.control]);
        let report: serde_json::Value = serde_json::from_str(&told.stdout).unwrap_or_default();
        let targets = report["syncs"][0]["targets"].as_array().cloned().unwrap_or_default();
        let path = self.path(name).display().to_string();
        targets.into_iter().find(|target| target["target"] == path.as_str()).unwrap_or_default()
    }

    fn is_live(&self, name: &str) -> bool {
        self.target(name)["state"] == "live"
    }
}

/// Returns the agents of a daemon by the trees that they hold.
fn agent_of(daemon: &Background, root: &Path) -> Option<u32> {
    let root = root.canonicalize().ok()?;
    let holds = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|at| at == root)
    };
    process::descendants(daemon.pid()).into_iter().map(|process| process.pid).find(|pid| holds(*pid))
}

#[test]
fn a_target_that_is_added_or_removed_leaves_the_sessions_of_the_others_alone() {
    let scene = Scene::new();
    scene.configure(&["a", "b"]);
    let daemon = scene.start();
    eventually("both are live", || scene.is_live("a") && scene.is_live("b"));
    let agent = agent_of(&daemon, &scene.path("a")).expect("an agent holds its tree");
    let passes = scene.target("a")["rescans"].clone();

    scene.configure(&["c", "a"]);
    let told = scene.ask(&["reload"]);
    let lines: Vec<&str> = told.lines().collect();
    let expected = [
        "up → c: new, started",
        "up → b: removed, stopped",
        "configuration read again: 1 sync runs on with other targets",
    ];
    assert_eq!(lines, expected, "nothing is said of what runs on");
    fs::write(scene.path("source/later"), b"two").unwrap();
    eventually("the new one is live", || scene.is_live("c"));
    let _ = scene.ask(&["wait", "--timeout=60s"]);
    for name in ["a/file", "a/later", "c/file", "c/later"] {
        assert!(scene.path(name).exists(), "{name}");
    }
    assert!(scene.path("b/file").exists() && !scene.path("b/later").exists());
    assert_eq!(agent_of(&daemon, &scene.path("b")), None, "its agent has ended");
    assert_eq!(agent_of(&daemon, &scene.path("a")), Some(agent), "the same session goes on");
    assert_eq!(scene.target("a")["rescans"], passes, "nothing was compared anew");
    let order: Vec<_> = ["c", "a"].iter().map(|name| scene.target(name)["target"].clone()).collect();
    let report: serde_json::Value = serde_json::from_str(&scene.ask(&["status", "--json"])).unwrap();
    let shown = report["syncs"][0]["targets"].as_array().unwrap();
    assert_eq!(shown.iter().map(|target| target["target"].clone()).collect::<Vec<_>>(), order);
    daemon.terminate();
}

#[test]
fn a_target_that_is_added_while_its_sync_is_paused_is_paused_as_well() {
    let scene = Scene::new();
    scene.configure(&["a"]);
    let daemon = scene.start();
    eventually("it is live", || scene.is_live("a"));
    let _ = scene.ask(&["pause"]);
    scene.configure(&["a", "b"]);
    let _ = scene.ask(&["reload"]);
    assert_eq!(scene.target("b")["state"], "paused");
    let _ = scene.ask(&["resume"]);
    eventually("both are live", || scene.is_live("a") && scene.is_live("b"));
    daemon.terminate();
}

#[test]
fn a_target_that_another_daemon_keeps_is_down_until_that_ends_and_the_others_go_on() {
    let scene = Scene::new();
    scene.configure(&["a"]);
    let daemon = scene.start();
    eventually("it is live", || scene.is_live("a"));
    let (config, control) = (scene.path("other.lua"), format!("--control={}", scene.path("other").display()));
    fs::write(&config, block("up", &scene.path("source"), &scene.path("b"))).unwrap();
    let other = scene.environment.spawn(["run", &control, config.to_str().unwrap()]);
    eventually("the other one has it", || scene.path("b/file").exists());

    scene.configure(&["a", "b"]);
    let _ = scene.ask(&["reload"]);
    let kept = scene.target("b");
    assert_eq!(kept["state"], "down", "{kept}");
    assert!(kept["error"].as_str().is_some_and(|why| why.contains("tried again")), "{kept}");
    fs::write(scene.path("source/later"), b"two").unwrap();
    eventually("the first target goes on", || scene.path("a/later").exists());
    let waited = scene.environment.run(["wait", "--timeout=1s", &scene.control]);
    assert_ne!(waited.code(), 0, "what is down is waited for");
    other.terminate();
    let _ = scene.ask(&["retry", "up"]);
    eventually("it is taken over", || scene.is_live("b"));
    daemon.terminate();
}

/// The list changes, the configuration does not, and every wrong change leaves the list as it was.
#[test]
fn targets_are_added_and_removed_by_a_command_and_what_is_wrong_changes_nothing() {
    let scene = Scene::new();
    let text = format!(
        "sync {{ default.mirror, name = \"up\", source = {:?}, targetsFile = \"nodes\", agent = {:?} }}\n",
        scene.path("source"),
        agent_command()
    );
    fs::write(scene.path("speil.lua"), text).unwrap();
    let first = format!("# the nodes\n{}\n", scene.path("a").display());
    fs::write(scene.path("nodes"), &first).unwrap();
    let config = format!("--config={}", scene.path("speil.lua").display());
    let target = |verb: &str, names: &[&str]| {
        let paths: Vec<String> = names.iter().map(|name| scene.path(name).display().to_string()).collect();
        let mut arguments = vec!["target", verb, "up", &config, &scene.control];
        arguments.extend(paths.iter().map(String::as_str));
        scene.environment.run(arguments)
    };
    let nodes = || fs::read_to_string(scene.path("nodes")).unwrap();

    // Before there is a daemon the list alone is changed.
    let list = scene.environment.run(["target", "list", "up", &config]).succeeded();
    assert_eq!(list.stdout, format!("{}  no daemon answers", scene.path("a").display()));
    let daemon = scene.start();
    eventually("it is live", || scene.is_live("a"));
    let agent = agent_of(&daemon, &scene.path("a"));

    let added = target("add", &["b", "c"]).succeeded();
    assert!(added.stdout.contains("up → b: new, started\nup → c: new, started\n"), "{added:?}");
    eventually("they are live", || scene.is_live("b") && scene.is_live("c"));
    let listed = target("list", &[]).succeeded();
    assert_eq!(listed.stdout.lines().filter(|line| line.ends_with("  live")).count(), 3, "{listed:?}");
    let again = target("add", &["b"]).succeeded();
    assert!(again.stderr.contains("is already a target of up") && again.stdout.is_empty(), "{again:?}");
    let removed = target("remove", &["b"]).succeeded();
    assert!(removed.stdout.contains("up → b: removed, stopped"), "{removed:?}");
    assert_eq!(nodes(), format!("{first}{}\n", scene.path("c").display()));
    assert_eq!(agent_of(&daemon, &scene.path("a")), agent, "the session of the others goes on");
    assert!(scene.path("b/file").exists(), "what is there stays");

    // A target inside the source, none at all, and no target.
    let before = nodes();
    for (verb, names, code) in [("add", &["source/in"][..], 1), ("remove", &["a", "c"], 1)] {
        let refused = target(verb, names);
        assert!(refused.code() == code && refused.stderr.contains("is as it was"), "{verb}: {refused:?}");
    }
    let url = scene.environment.run(["target", "add", "up", "rsync://web/x", &config, &scene.control]);
    assert_eq!((url.code(), nodes()), (1, before), "{url:?}");
    daemon.terminate();

    scene.configure(&["a"]);
    let inside = target("add", &["b"]);
    assert!(inside.code() == 3 && inside.stderr.contains("targetsFile"), "{inside:?}");
}
