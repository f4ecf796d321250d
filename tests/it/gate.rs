//! A source that is not watched yet: the target is walked meanwhile, and nothing of the source is read.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use speil::config::{self, Config};
use speil::event::RescanReason;
use speil::monitor::Silent;
use speil::sender::{
    Gate, Held, Mailbox, NoFeedback, Session, SessionOptions, Source, Surroundings, TargetState, TargetStatus,
};
use speil::transport::Local;

use crate::support::command::{SPEIL, eventually};

/// What a session leaves in a target that dies; the walk of the next one's agent removes it.
const LEFT_OVER: &str = ".speil-0123456789abcdef";

fn config(dir: &Path) -> Config {
    let (source, target) = (dir.join("source"), dir.join("target"));
    for (dir, file) in [(&source, "file"), (&target, LEFT_OVER)] {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join(file), b"before").unwrap();
    }
    let file = dir.join("speil.lua");
    let text = format!("sync {{ default.mirror, source = {source:?}, target = {target:?} }}");
    std::fs::write(&file, text).unwrap();
    config::load_all(&[file]).unwrap().config
}

#[test]
fn before_the_gate_opens_the_target_is_walked_and_nothing_of_the_source_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let sync = config(dir.path()).syncs.remove(0);
    let target = sync.targets[0].clone();
    let (gate, mailbox, status) = (Arc::new(Gate::shut()), Mailbox::new(), Arc::new(TargetStatus::default()));
    let around = Surroundings {
        source: Source::open(&sync.source, 1).unwrap(),
        gate: Arc::clone(&gate),
        mailbox: Arc::clone(&mailbox),
        status: Arc::clone(&status),
        held: Arc::new(Held::default()),
        monitor: Arc::new(Silent),
        feedback: Arc::new(NoFeedback),
    };
    let options =
        SessionOptions { sync, target, mirror: [7; 16], live: true, dry_run: false, rehearsal: false };
    let agent = Local { command: vec![SPEIL.to_owned(), "agent".to_owned()] };
    let session = Session::connect(&agent, options, around).unwrap_or_else(|error| panic!("{error}"));
    let running =
        std::thread::spawn(move || session.run(RescanReason::Start).error.map(|error| error.to_string()));
    let standing = |name: &str| dir.path().join("target").join(name);
    eventually("the target is walked", || !standing(LEFT_OVER).exists());
    // As long as a mirror takes that nothing holds up.
    let mut other = Command::new(SPEIL);
    other.args(["sync", "-a"]).args([dir.path().join("source/"), dir.path().join("other")]);
    assert!(other.status().unwrap().success());
    assert!(!standing("file").exists() && status.state().0 == TargetState::FirstPass);

    std::fs::write(dir.path().join("source/file"), b"behind").unwrap();
    gate.open();
    mailbox.wake();
    eventually("the target is live", || status.state().0 == TargetState::Live);
    assert_eq!(std::fs::read(standing("file")).unwrap(), b"behind");
    mailbox.close();
    assert_eq!(running.join().unwrap(), None);
}
