//! Answers of the target to what is another file's name by the time of the answer, or no name any more.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use speil::batch::{Change, ChangeKind};
use speil::event::{Age, RescanReason};
use speil::tree::RelPath;

use crate::support::command::eventually;
use crate::support::faults::is_root;
use crate::support::session::Scene;

fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

/// A file in whose place nothing can be put, under one of two names.
struct Busy([PathBuf; 2]);

impl Busy {
    fn new(now: PathBuf, later: PathBuf) -> Self {
        let output = Command::new("mount").arg("--bind").args([&now, &now]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Self([now, later])
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for name in self.0.iter().filter(|name| name.exists()) {
            let _ = Command::new("umount").arg("-l").arg(name).status();
        }
    }
}

/// Whether something of a large file has arrived and is not yet where it belongs.
fn is_on_its_way(scene: &Scene) -> bool {
    std::fs::read_dir(scene.target(".speil/partial")).is_ok_and(|mut files| files.next().is_some())
}

#[test]
fn a_large_file_that_fails_after_its_directory_was_renamed_is_tried_again_under_its_new_name() {
    if !is_root() {
        return;
    }
    for len in [3 << 20, 12 << 20, 48 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let scene = Scene::with(dir.path(), "bwlimit = \"1M\", reconcile = { interval = \"never\" }");
        std::fs::create_dir(scene.source("d")).unwrap();
        std::fs::create_dir(scene.target("d")).unwrap();
        let content = |seed: usize| (0..len).map(|at| ((at + seed) * at / 251) as u8).collect::<Vec<_>>();
        let stamp = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let write = |path: &Path, seed| {
            std::fs::write(path, content(seed)).unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_modified(stamp).unwrap();
        };
        [scene.source("d/large"), scene.target("d/large")].iter().for_each(|path| write(path, 0));
        // Nothing can be put in its place.
        let busy = Busy::new(scene.target("d/large"), scene.target("e/large"));
        let running = scene.run(RescanReason::Start);
        scene.until_live();
        let since = Instant::now();
        // No comparison sees it.
        write(&scene.source("d/large"), 7);
        let mailbox = &scene.around.mailbox;
        mailbox.push_live([Change::read(path("d/large"), Age::believed(since))]);
        eventually("it is on its way", || is_on_its_way(&scene));
        std::fs::rename(scene.source("d"), scene.source("e")).unwrap();
        let kind = ChangeKind::Rename { from: path("d"), to: path("e"), dir: true };
        mailbox.push_live([Change { age: Age::believed(since), kind }]);
        let acknowledged = || scene.target("e").exists() && mailbox.pending().out.changes <= 1;
        eventually("the rename is acknowledged", acknowledged);
        let caught = is_on_its_way(&scene);
        eventually("it has failed", || !caught || !scene.around.status.problems().is_empty());
        let problems = scene.around.status.problems();
        drop(busy);
        if caught {
            assert_eq!(problems.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&path("e/large")]);
            let arrived = || std::fs::read(scene.target("e/large")).is_ok_and(|now| now == content(7));
            eventually("it is there under its new name", arrived);
        }
        scene.end(running);
        if caught {
            return;
        }
        // A slow machine has sent all of it by then.
    }
}

#[test]
fn a_large_file_below_a_directory_whose_rename_is_refused_is_not_finished_under_the_old_name() {
    for len in [3 << 20, 12 << 20, 48 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let scene = Scene::with(dir.path(), "bwlimit = \"1M\", reconcile = { interval = \"never\" }");
        std::fs::create_dir(scene.source("d")).unwrap();
        let running = scene.run(RescanReason::Start);
        scene.until_live();
        let content = (0..len).map(|at: usize| (at * at / 251) as u8).collect::<Vec<_>>();
        std::fs::write(scene.source("d/large"), &content).unwrap();
        // Somebody has put a directory in the place to which the rename leads.
        std::fs::create_dir(scene.target("e")).unwrap();
        std::fs::write(scene.target("e/theirs"), "theirs").unwrap();
        let mailbox = &scene.around.mailbox;
        mailbox.push_live([Change::read(path("d/large"), Age::believed(Instant::now()))]);
        eventually("it is on its way", || is_on_its_way(&scene));
        std::fs::rename(scene.source("d"), scene.source("e")).unwrap();
        let kind = ChangeKind::Rename { from: path("d"), to: path("e"), dir: true };
        mailbox.push_live([Change { age: Age::believed(Instant::now()), kind }]);
        let files = || scene.around.status.counters.totals().files;
        let caught = files() == 0;
        let arrived = || std::fs::read(scene.target("e/large")).is_ok_and(|now| now == content);
        eventually("it is there under its new name", arrived);
        eventually("nothing is under the old one", || !scene.target("d").exists());
        let sent = files();
        scene.end(running);
        if caught {
            assert_eq!(sent, 1, "it was finished under its old name as well");
            return;
        }
        // A slow machine has sent all of it by then.
    }
}
