//! In lsyncd's place nothing new appears in a target: what speil remembers of it is kept outside of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::scene::Scene;
use crate::support::command::{Background, eventually};

/// A sync of two directories of this host.
const TEXT: &str = "sync { default.rsync, source = '@/s/', target = '@/t/', delay = 1,
    rsync = { archive = true } }";

fn start(scene: &Scene, more: &str) -> Background {
    let file = scene.configure(&TEXT.replace("delay = 1,", &format!("delay = 1, {more}")));
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("finished.");
    guard
}

/// Ends a run; what it has not sent by then is sent by the next one.
fn stop(guard: Background) {
    guard.signal(rustix::process::Signal::TERM);
    assert_eq!(guard.wait().status.code(), Some(143));
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort_unstable();
    names
}

/// The one directory in which something is remembered of a target.
fn memory(scene: &Scene) -> PathBuf {
    let all = scene.environment.home().join("state/speil/targets");
    let [name] = names(&all).try_into().unwrap();
    all.join(name)
}

#[test]
fn a_target_holds_what_the_source_holds_and_speil_remembers_it_elsewhere() {
    let scene = Scene::new();
    fs::write(scene.path("s/one"), "1").unwrap();
    let guard = start(&scene, "");
    eventually("a copy", || scene.path("t/one").exists());
    stop(guard);
    assert_eq!(names(&scene.path("t")), ["a", "one"]);
    let memory = memory(&scene);
    assert_eq!(
        fs::read_to_string(memory.join("root")).unwrap().trim_end(),
        scene.path("t").to_str().unwrap()
    );
    assert!(memory.join("own").metadata().unwrap().len() > 8, "the copy is noted as speil's own");
    let health = scene.environment.run([Path::new("health"), Path::new("--root"), &scene.path("t")]);
    assert_eq!(health.status.code(), Some(0), "{health:?}");

    // What speil wrote itself is not kept when it is replaced; what others wrote is, in the target.
    fs::write(scene.path("s/one"), "changed").unwrap();
    fs::write(scene.path("s/two"), "2").unwrap();
    let guard = start(&scene, "");
    eventually("two copies", || fs::read(scene.path("t/one")).is_ok_and(|text| text == b"changed"));
    eventually("the new one", || scene.path("t/two").exists());
    assert_eq!(names(&scene.path("t")), ["a", "one", "two"]);
    fs::write(scene.path("t/two"), "somebody else's").unwrap();
    fs::write(scene.path("s/two"), "the source's").unwrap();
    eventually("the source's", || fs::read(scene.path("t/two")).is_ok_and(|text| text == b"the source's"));
    stop(guard);
    assert_eq!(names(&scene.path("t")), [".speil", "a", "one", "two"]);
    assert_eq!(names(&scene.path("t/.speil")), ["strangers"]);
    let kept = scene.environment.run([Path::new("trash"), &scene.path("t"), Path::new("--strangers")]);
    assert!(kept.stdout.contains("two"), "{kept:?}");
    assert_eq!(names(memory.parent().unwrap()).len(), 1);
}

#[test]
fn a_target_that_an_administrator_has_closed_is_not_written_to() {
    let scene = Scene::new();
    stop(start(&scene, ""));
    fs::create_dir(scene.path("t/.speil")).unwrap();
    fs::write(scene.path("t/.speil/refuse"), "under repair").unwrap();
    fs::write(scene.path("s/new"), "1").unwrap();
    let file = scene.configure(TEXT);
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("under repair");
    drop(guard);
    assert!(!scene.path("t/new").exists());
}

#[test]
fn a_memory_that_is_in_the_target_stays_there_and_one_made_anew_has_none() {
    let scene = Scene::new();
    // As another version, or a mirror of speil's own configuration, left it.
    fs::create_dir(scene.path("t/.speil")).unwrap();
    fs::write(scene.path("t/.speil/session"), "").unwrap();
    stop(start(&scene, ""));
    assert!(scene.path("t/.speil/own").exists());
    assert!(!scene.environment.home().join("state/speil/targets").exists());

    fs::remove_dir_all(scene.path("t")).unwrap();
    fs::create_dir(scene.path("t")).unwrap();
    stop(start(&scene, ""));
    assert_eq!(names(&scene.path("t")), ["a"]);
    memory(&scene);
}

#[test]
fn where_nothing_can_be_kept_outside_one_line_says_that_it_is_in_the_target() {
    let scene = Scene::new();
    fs::create_dir_all(scene.environment.home().join("state/speil")).unwrap();
    // A file where the directory would be: also root can make none.
    fs::write(scene.environment.home().join("state/speil/targets"), "").unwrap();
    let file = scene.configure(TEXT);
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    let line = guard.wait_for_line("its state outside of the directory");
    assert!(line.contains("EEXIST") || line.contains("ENOTDIR"), "{line}");
    guard.wait_for_line("finished.");
    stop(guard);
    assert!(scene.path("t/.speil/session").exists());
}

/// lsyncd as a daemon had the target for years; the one after it goes on where the one before was.
#[test]
fn what_is_remembered_outside_is_believed_after_a_restart() {
    let scene = Scene::new();
    for n in 0..50 {
        fs::write(scene.path(&format!("s/{n}")), "1").unwrap();
    }
    stop(start(&scene, ""));
    let before = fs::read_to_string(memory(&scene).join("memory")).unwrap();
    assert!(before.contains("\"watermark\":{"), "{before}");
    let guard = start(&scene, "");
    stop(guard);
    let after = fs::read_to_string(memory(&scene).join("memory")).unwrap();
    let mirror = |text: &str| text.split('"').nth(3).unwrap().to_owned();
    assert_eq!(mirror(&before), mirror(&after));
}
