//! A source that is not watched yet: the target is walked meanwhile, and nothing of the source is read.

use std::process::Command;
use std::sync::Arc;

use speil::event::RescanReason;
use speil::sender::{Gate, TargetState};

use crate::support::command::{SPEIL, eventually};
use crate::support::session::Scene;

/// What a session leaves in a target that dies; the walk of the next one's agent removes it.
const LEFT_OVER: &str = ".speil-0123456789abcdef";

#[test]
fn before_the_gate_opens_the_target_is_walked_and_nothing_of_the_source_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path());
    scene.around.gate = Arc::new(Gate::shut());
    std::fs::write(scene.source("file"), b"before").unwrap();
    std::fs::write(scene.target(LEFT_OVER), b"before").unwrap();
    let running = scene.run(RescanReason::Start);
    eventually("the target is walked", || !scene.target(LEFT_OVER).exists());
    // As long as a mirror takes that nothing holds up.
    let mut other = Command::new(SPEIL);
    other.args(["sync", "-a"]).args([dir.path().join("source/"), dir.path().join("other")]);
    assert!(other.status().unwrap().success());
    assert!(!scene.target("file").exists() && scene.around.status.state().0 == TargetState::FirstPass);

    std::fs::write(scene.source("file"), b"behind").unwrap();
    scene.around.gate.open();
    scene.around.mailbox.wake();
    scene.until_live();
    assert_eq!(std::fs::read(scene.target("file")).unwrap(), b"behind");
    scene.end(running);
}
