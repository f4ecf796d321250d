//! What the delete guard protects: what is held stays held, and each source is judged as one of its own.

use std::fs;
use std::path::PathBuf;

use crate::support::command::{Environment, Outcome, eventually};

struct Trees {
    env: Environment,
    dir: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn fill(&self, dir: &str, names: std::ops::Range<u32>) {
        fs::create_dir_all(self.path(dir)).unwrap();
        names.for_each(|name| fs::write(self.path(dir).join(name.to_string()), dir).unwrap());
    }

    fn empty(&self, dir: &str) {
        fs::remove_dir_all(self.path(dir)).unwrap();
        fs::create_dir(self.path(dir)).unwrap();
    }

    fn count(&self, dir: &str) -> usize {
        fs::read_dir(self.path(dir))
            .map_or(0, |dir| dir.flatten().filter(|it| it.file_name() != ".speil").count())
    }

    fn sync(&self, line: &str) -> Outcome {
        let mut command = self.env.speil(std::iter::once("sync").chain(line.split(' ')));
        let output = command.current_dir(self.dir.path()).output().unwrap();
        Outcome {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

#[test]
fn what_is_held_stays_held_whatever_a_later_comparison_finds() {
    let trees = Trees::new();
    trees.fill("s", 0..120);
    let control = format!("--control={}", trees.path("control").display());
    let (from, to) = (format!("{}/", trees.path("s").display()), trees.path("t").display().to_string());
    let mirror = trees.env.spawn(["mirror", &control, "--reconcile-interval=never", &from, &to]);
    mirror.wait_for_line(": live");
    (0..80).for_each(|name| fs::remove_file(trees.path("s").join(name.to_string())).unwrap());
    mirror.wait_for_error_line("80 deletes held");
    // Some are restored, and many more files come: what is left of the burst is far less than half.
    trees.fill("s", 0..40);
    trees.fill("s", 1000..1200);
    eventually("they are there", || trees.path("t/1199").exists());
    trees.env.run(["reconcile", &control]).succeeded();
    let held = || {
        let status = trees.env.run(["status", "--json", &control]).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
        status["syncs"][0]["targets"][0]["reconcile"]["held"].clone()
    };
    eventually("a comparison has found them", || held() == 40);
    assert_eq!(trees.count("t"), 320, "{:?}", mirror.stderr());
    let status = trees.env.run(["status", &control]).stdout;
    assert!(status.contains("40 deletes held"), "{status}");
    trees.env.run(["approve", &control]).succeeded();
    trees.env.run(["wait", "--timeout=60s", &control]).succeeded();
    assert_eq!(trees.count("t"), 280);
    mirror.terminate();
}

#[test]
fn a_source_of_several_that_is_empty_now_takes_nothing_away() {
    for (first, then) in [("-a a b t/", "-a --delete a b t/"), ("-aR a/ t/", "-aR --delete a/ t/")] {
        let trees = Trees::new();
        trees.fill("a", 0..40);
        trees.fill("b", 0..3);
        assert_eq!(trees.sync(first).code(), 0, "{first}");
        assert_eq!(trees.count("t/a"), 40, "{first}");
        trees.empty("a");
        let kept = trees.sync(then);
        assert!(kept.code() == 25 && kept.stderr.contains("deletes"), "{then}: {kept:?}");
        assert_eq!(trees.count("t/a"), 40, "{then}: {kept:?}");
        trees.sync(&format!("--no-delete-guard {then}")).succeeded();
        assert_eq!(trees.count("t/a"), 0, "{then}");
    }
}

#[test]
fn a_missing_source_whose_content_was_asked_for_is_no_missing_argument() {
    let trees = Trees::new();
    trees.fill("p", 0..5);
    trees.fill("q", 10..20);
    trees.sync("-a p/ q/ t/").succeeded();
    fs::remove_dir_all(trees.path("p")).unwrap();
    let told = trees.sync("-a --delete --ignore-missing-args p/ q/ t/");
    assert!(told.code() == 23 && told.stderr.contains("nothing was deleted"), "{told:?}");
    assert_eq!(trees.count("t"), 15);
}

#[test]
fn a_backup_directory_that_is_the_target_is_refused() {
    let trees = Trees::new();
    trees.fill("s", 0..3);
    trees.fill("t", 0..5);
    for dir in ["t", ".", "x/.."] {
        let dir = if dir == "t" { trees.path("t").display().to_string() } else { dir.to_owned() };
        let refused = trees.sync(&format!("-a --delete --backup-dir={dir} s/ t/"));
        assert!(refused.code() != 0 && refused.stderr.contains("is the target itself"), "{dir}: {refused:?}");
        assert!(trees.count("t") >= 5 && fs::read(trees.path("t/0")).unwrap() == b"t", "{dir}");
    }
}
