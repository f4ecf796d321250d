//! Edits that keep size and time, of files that are renamed before anybody has read them, step by step:
//! only the change that an event has made tells of them, and it must not be lost on the way.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use speil::batch::{Change, ChangeKind, Identity};
use speil::event::{Age, RescanReason};
use speil::sender::{Feedback, Outcome, Pending};
use speil::tree::RelPath;

use crate::support::command::eventually;
use crate::support::process::{holder_of, send};
use crate::support::session::Scene;

fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

fn rename(from: &str, to: &str, dir: bool) -> Change {
    let kind = ChangeKind::Rename { from: path(from), to: path(to), dir };
    Change { age: Age::believed(Instant::now()), kind }
}

/// The stage before, as far as it hears what is to be sent again.
#[derive(Default)]
struct Again(Mutex<Vec<RelPath>>);

impl Feedback for Again {
    fn again(&self, path: &RelPath, _after: Duration, _known: Instant, _age: (Age, bool)) {
        self.0.lock().unwrap().push(path.clone());
    }
}

/// Changes what a file holds, and puts its time back.
fn edit_unseen(path: &Path, content: &[u8]) {
    let meta = path.symlink_metadata().unwrap();
    assert_eq!(meta.len(), content.len() as u64);
    std::fs::write(path, content).unwrap();
    let times = std::fs::FileTimes::new().set_modified(meta.modified().unwrap());
    std::fs::File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

/// A directory with a small and a large file in it, to be mirrored with some keys.
fn scene(dir: &Path, keys: &str) -> Scene {
    let scene = Scene::with(dir, keys);
    std::fs::create_dir_all(scene.source("d/sub")).unwrap();
    std::fs::write(scene.source("d/sub/f"), b"before").unwrap();
    std::fs::write(scene.source("d/sub/large"), vec![1; 1 << 20]).unwrap();
    scene
}

impl Scene {
    /// Runs a session, and waits until its target is live.
    fn live(&self, reason: RescanReason) -> JoinHandle<Outcome> {
        let running = self.run(reason);
        self.until_live();
        running
    }

    /// Sends the agent a signal; returns which process it is.
    fn agent(&self, signal: Signal) -> u32 {
        let agent = holder_of(std::process::id(), &self.target("")).unwrap();
        send(agent, signal);
        agent
    }

    /// Hands a change of a path over and waits until the session has taken it, with the agent asleep.
    fn until_under_way(&self, name: &str, since: Instant) {
        let mailbox = &self.around.mailbox;
        mailbox.push_live([Change::read(path(name), Age::believed(since))]);
        let taken = || mailbox.pending().queued == 0 && mailbox.pending().out.changes > 0;
        eventually("the change is taken", taken);
    }

    /// Waits until everything that was handed over is done, or waits for events.
    fn until_taken(&self) {
        eventually("what was handed over is taken", || self.around.mailbox.pending().queued == 0);
        // One more, whose own batch is behind.
        std::fs::write(self.source("mark"), b"").unwrap();
        self.around.mailbox.push_live([Change::read(path("mark"), Age::believed(Instant::now()))]);
        eventually("the mark is there", || self.target("mark").exists());
        std::fs::remove_file(self.source("mark")).unwrap();
        std::fs::remove_file(self.target("mark")).unwrap();
    }

    fn until_holds(&self, name: &str, content: &[u8]) {
        eventually(name, || std::fs::read(self.target(name)).is_ok_and(|now| now == content));
    }
}

#[test]
fn a_file_whose_directory_is_renamed_before_it_is_read_is_read_under_the_new_name() {
    let dir = tempfile::tempdir().unwrap();
    let scene = scene(dir.path(), "");
    let running = scene.live(RescanReason::Start);
    let since = Instant::now();
    edit_unseen(&scene.source("d/sub/f"), b"behind");
    edit_unseen(&scene.source("d/sub/large"), &vec![2; 1 << 20]);
    std::fs::rename(scene.source("d"), scene.source("e")).unwrap();
    let mailbox = &scene.around.mailbox;
    mailbox.push_live(["d/sub/f", "d/sub/large"].map(|name| Change::read(path(name), Age::believed(since))));
    // What is sent of a directory does not stand for what is in it.
    mailbox.push_live([Change::read(path("d"), Age::believed(since))]);
    scene.until_taken();
    mailbox.push_live([rename("d", "e", true)]);
    scene.until_holds("e/sub/f", b"behind");
    scene.until_holds("e/sub/large", &vec![2; 1 << 20]);
    scene.end(running);
}

#[test]
fn what_was_not_read_when_a_connection_breaks_is_read_by_the_next_session_under_its_new_name() {
    let dir = tempfile::tempdir().unwrap();
    let scene = scene(dir.path(), "");
    let running = scene.live(RescanReason::Start);
    let since = Instant::now();
    edit_unseen(&scene.source("d/sub/f"), b"behind");
    std::fs::rename(scene.source("d"), scene.source("e")).unwrap();
    let mailbox = &scene.around.mailbox;
    mailbox.push_live([Change::read(path("d/sub/f"), Age::believed(since))]);
    scene.until_taken();
    scene.agent(Signal::KILL);
    let outcome = running.join().unwrap();
    assert!(outcome.error.is_some());
    // The event comes while there is no connection.
    mailbox.push_live([rename("d", "e", true)]);
    mailbox.push_first(outcome.unfinished, |_| true);
    let running = scene.live(RescanReason::Reconnect);
    scene.until_holds("e/sub/f", b"behind");
    scene.end(running);
}

#[test]
fn a_large_file_that_waits_is_handed_back_under_the_name_that_its_directory_has_by_then() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = scene(dir.path(), "");
    let again = Arc::new(Again::default());
    scene.around.feedback = Arc::clone(&again) as _;
    let running = scene.live(RescanReason::Start);
    // It does not answer what is asked before a large file is sent.
    let agent = scene.agent(Signal::STOP);
    let since = Instant::now();
    edit_unseen(&scene.source("d/sub/large"), &vec![2; 1 << 20]);
    scene.until_under_way("d/sub/large", since);
    let mailbox = &scene.around.mailbox;
    std::fs::rename(scene.source("d"), scene.source("e")).unwrap();
    mailbox.push_live([rename("d", "e", true)]);
    eventually("the rename is sent", || mailbox.pending().out.changes > 1);
    send(agent, Signal::KILL);
    let outcome = running.join().unwrap();
    // The directory as well: nobody knows whether it was renamed.
    assert_eq!(
        outcome.unfinished.iter().map(|change| change.kind.path()).collect::<Vec<_>>(),
        [&path("e/sub/large"), &path("e")]
    );
    mailbox.push_first(outcome.unfinished, |_| true);
    let running = scene.run(RescanReason::Reconnect);
    // The pass brings the directory, by a rename and with what it held: what comes before it comes again.
    let holds = || std::fs::read(scene.target("e/sub/large")).is_ok_and(|now| now == vec![2; 1 << 20]);
    let comes = || again.0.lock().unwrap().contains(&path("e/sub/large"));
    eventually("it is there, or is to be sent again", || holds() || comes());
    scene.until_live();
    if !holds() {
        mailbox.push_live([Change::read(path("e/sub/large"), Age::believed(since))]);
    }
    scene.until_holds("e/sub/large", &vec![2; 1 << 20]);
    scene.end(running);
}

#[test]
fn a_large_file_that_waits_and_is_renamed_twice_is_read_under_the_last_name() {
    let dir = tempfile::tempdir().unwrap();
    let scene = scene(dir.path(), "");
    let running = scene.live(RescanReason::Start);
    // It does not answer what is asked before a large file is sent.
    let agent = scene.agent(Signal::STOP);
    let since = Instant::now();
    edit_unseen(&scene.source("d/sub/large"), &vec![2; 1 << 20]);
    scene.until_under_way("d/sub/large", since);
    let mailbox = &scene.around.mailbox;
    std::fs::rename(scene.source("d/sub/large"), scene.source("h")).unwrap();
    // The second waits already when the first is sent.
    mailbox.push_live([rename("d/sub/large", "g", false), rename("g", "h", false)]);
    eventually("the renames are sent", || mailbox.pending().out.changes > 1);
    send(agent, Signal::CONT);
    scene.until_holds("h", &vec![2; 1 << 20]);
    scene.end(running);
}

#[test]
fn a_file_whose_names_are_still_sought_when_a_connection_breaks_is_sought_by_the_next_session() {
    let dir = tempfile::tempdir().unwrap();
    let scene = scene(dir.path(), "hardLinks = true");
    std::fs::hard_link(scene.source("d/sub/f"), scene.source("other")).unwrap();
    let running = scene.live(RescanReason::Start);
    let agent = scene.agent(Signal::STOP);
    let since = Instant::now();
    edit_unseen(&scene.source("d/sub/f"), b"behind");
    std::fs::remove_file(scene.source("d/sub/f")).unwrap();
    std::fs::rename(scene.source("other"), scene.source("new")).unwrap();
    let mailbox = &scene.around.mailbox;
    let kind = ChangeKind::Delete { path: path("d/sub/f"), expected: Identity::Dir(false) };
    mailbox.push_live([
        Change::read(path("d/sub/f"), Age::believed(since)),
        Change { age: Age::believed(since), kind },
    ]);
    mailbox.push_live([rename("other", "new", false)]);
    eventually("both are sent", || mailbox.pending().out.changes > 1);
    // It does what it was told, and dies before it can say so.
    std::fs::rename(scene.target("other"), scene.target("new")).unwrap();
    std::fs::remove_file(scene.target("d/sub/f")).unwrap();
    send(agent, Signal::KILL);
    mailbox.push_first(running.join().unwrap().unfinished, |_| true);
    let running = scene.live(RescanReason::Reconnect);
    scene.until_holds("new", b"behind");
    scene.end(running);
}

#[test]
fn a_file_whose_name_another_takes_before_it_has_arrived_is_read_by_the_next_session_under_its_other_name() {
    let dir = tempfile::tempdir().unwrap();
    let scene = scene(dir.path(), "hardLinks = true");
    std::fs::hard_link(scene.source("d/sub/f"), scene.source("other")).unwrap();
    std::fs::write(scene.source("new"), b"new").unwrap();
    let running = scene.live(RescanReason::Start);
    let agent = scene.agent(Signal::STOP);
    let since = Instant::now();
    edit_unseen(&scene.source("d/sub/f"), b"behind");
    scene.until_under_way("d/sub/f", since);
    let mailbox = &scene.around.mailbox;
    std::fs::rename(scene.source("new"), scene.source("d/sub/f")).unwrap();
    let before = mailbox.pending().out.changes;
    mailbox.push_live([rename("new", "d/sub/f", false)]);
    eventually("the rename is sent", || mailbox.pending().out.changes > before);
    send(agent, Signal::KILL);
    mailbox.push_first(running.join().unwrap().unfinished, |_| true);
    let running = scene.live(RescanReason::Reconnect);
    scene.until_holds("other", b"behind");
    scene.until_holds("d/sub/f", b"new");
    scene.end(running);
}

#[test]
fn a_file_that_is_sent_under_a_name_before_the_rename_to_it_stays_joined_to_its_other_name() {
    let dir = tempfile::tempdir().unwrap();
    let scene = scene(dir.path(), "hardLinks = true");
    std::fs::write(scene.source("old"), b"linked").unwrap();
    std::fs::hard_link(scene.source("old"), scene.source("other")).unwrap();
    let running = scene.live(RescanReason::Start);
    std::fs::rename(scene.source("old"), scene.source("d/sub/f")).unwrap();
    let mailbox = &scene.around.mailbox;
    mailbox.push_live([Change::read(path("d/sub/f"), Age::believed(Instant::now()))]);
    scene.until_taken();
    mailbox.push_live([rename("old", "d/sub/f", false)]);
    let inode = |name: &str| std::fs::metadata(scene.target(name)).unwrap().ino();
    eventually("the old name is gone", || !scene.target("old").exists());
    eventually("both are one file", || inode("d/sub/f") == inode("other"));
    scene.end(running);
}

#[test]
fn a_change_that_a_rename_takes_to_where_a_filter_leaves_it_out_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let scene = scene(dir.path(), "exclude = { \"/e/sub/f\" }");
    let running = scene.live(RescanReason::Start);
    let since = Instant::now();
    std::fs::write(scene.source("d/sub/f"), b"private").unwrap();
    std::fs::rename(scene.source("d"), scene.source("e")).unwrap();
    let mailbox = &scene.around.mailbox;
    mailbox.push_live([Change::read(path("d/sub/f"), Age::believed(since)), rename("d", "e", true)]);
    let renamed = || scene.target("e/sub/large").exists() && !scene.target("d").exists();
    eventually("what is not left out is there, and the old name gone", renamed);
    scene.until_taken();
    // Neither what was changed nor what the target had of it before.
    assert!(!scene.target("e/sub/f").exists());
    scene.end(running);
}

#[test]
fn a_delete_of_what_the_target_has_not_even_a_directory_for_is_done_with() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = scene(dir.path(), "");
    let again = Arc::new(Again::default());
    scene.around.feedback = Arc::clone(&again) as _;
    let running = scene.live(RescanReason::Start);
    let kind = ChangeKind::Delete { path: path("none/at/all"), expected: Identity::Any };
    let mailbox = &scene.around.mailbox;
    mailbox.push_live([Change { age: Age::believed(Instant::now()), kind }]);
    scene.until_taken();
    eventually("nothing is owed", || {
        mailbox.heard(Instant::now());
        mailbox.pending() == Pending::default()
    });
    assert_eq!(*again.0.lock().unwrap(), []);
    scene.end(running);
}
