//! Which engine carries a sync over, and what the log says of it.

use std::fs;

use rustix::process::Signal;

use super::scene::Scene;
use crate::support::command::{eventually, holds_within};
use crate::support::process;
use crate::support::sshd::Sshd;

/// The sync of a 2013 guide over a real sshd: host, port and paths are this test's, nothing else.
fn guide(sshd: &Sshd, more: &str) -> String {
    let rsh = sshd.ssh_command().replacen("ssh", "/usr/bin/ssh", 1);
    format!(
        "settings {{ logfile = '@/lsyncd.log', statusFile = '@/lsyncd.status' }}
         sync {{ default.rsync, source = '@/s/', target = '127.0.0.1:@/t/', {more}
             rsync = {{ compress = true, archive = true, verbose = true, rsh = '{rsh}' }} }}"
    )
}

fn log(scene: &Scene) -> String {
    fs::read_to_string(scene.path("lsyncd.log")).unwrap_or_default()
}

#[test]
fn a_sync_is_native_where_an_agent_answers_and_rsyncs_where_none_does() {
    for agent in [true, false] {
        let (scene, sshd) = (Scene::new(), Sshd::start());
        if agent {
            sshd.install_agent();
        }
        let file = scene.configure(&guide(&sshd, "delay = 1,"));
        let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
        guard.wait_for_line("finished.");
        fs::write(scene.path("s/new"), "text").unwrap();
        eventually("the copy", || fs::read(scene.path("t/new")).is_ok_and(|text| text == b"text"));
        let line = if agent {
            "Sync1: engine native: every option maps, and an agent answers at"
        } else {
            "Sync1: engine rsync: no agent at"
        };
        assert!(log(&scene).contains(line), "{}", log(&scene));
        assert!(!scene.path("t/.speil").exists());
        assert!(!sshd.dir().join("home/.cache").exists(), "nothing is uploaded");
    }
}

#[test]
fn an_agent_is_uploaded_only_where_that_is_allowed() {
    let (scene, sshd) = (Scene::new(), Sshd::start());
    let file = scene.configure(&guide(&sshd, "agent = 'deploy',"));
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("finished.");
    assert!(
        log(&scene).contains("engine native: every option maps, and an agent answers"),
        "{}",
        log(&scene)
    );
    assert!(sshd.dir().join("home/.cache/speil").is_dir());
}

#[test]
fn what_cannot_be_mapped_is_named_and_refused_where_native_is_asked_for() {
    let scene = Scene::new();
    let text = "sync{ default.rsync, source='@/s', target='rsync://h/m', init=false,
        rsync={ inplace=true, binary='/usr/bin/rsync', _extra={'--fuzz'} } }";
    let file = scene.configure(text);
    let file = file.to_string_lossy();
    let guard = scene.start(true, &["-nodaemon", &file]);
    let line = guard.wait_for_line("engine rsync: speil has nothing like");
    for name in ["init", "rsync.inplace", "target = \"rsync://h/m/\"", "rsync._extra --fuzz"] {
        assert!(line.contains(name), "{name}: {line}");
    }
    drop(guard);
    let outcome = scene.start(true, &["-nodaemon", "--engine", "native", &file]).wait();
    assert_eq!(outcome.code(), 255);
    assert!(
        outcome.stderr.contains("engine \"native\" is asked for, but speil has nothing like init"),
        "{outcome:?}"
    );
}

#[test]
fn the_command_line_overrules_the_sync_and_the_sync_the_settings() {
    let scene = Scene::new();
    fs::create_dir(scene.path("t2")).unwrap();
    let file = scene.configure(
        "settings{ engine='rsync' }
         sync{ default.rsync, source='@/s', target='@/t' }
         sync{ default.rsync, source='@/s', target='@/t2', engine='native' }",
    );
    let file = file.to_string_lossy();
    let guard = scene.start(true, &["-nodaemon", &file]);
    guard.wait_for_line("Sync1: engine rsync, as configured");
    guard.wait_for_line("Sync2: engine native, as configured");
    drop(guard);
    let guard = scene.start(true, &["-nodaemon", "-engine", "auto", &file]);
    guard.wait_for_line("Sync1: engine native: every option maps");
    guard.wait_for_line("Sync2: engine native: every option maps");
    drop(guard);
}

#[test]
fn targets_that_share_a_tree_are_left_to_rsync() {
    let scene = Scene::new();
    fs::create_dir(scene.path("s2")).unwrap();
    let file = scene.configure(
        "sync{ default.rsync, source='@/s', target='@/t' }
         sync{ default.rsync, source='@/s2', target='@/t/below' }",
    );
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("Sync1: engine rsync: its target overlaps");
    guard.wait_for_line("Sync2: engine rsync: its target overlaps");
}

#[test]
fn a_native_sync_answers_on_the_control_socket_and_ends_as_lsyncd_does() {
    let scene = Scene::new();
    fs::write(scene.path("t/stale"), "1").unwrap();
    fs::write(scene.path("s/file"), "1").unwrap();
    let file = scene.configure("sync{ default.rsync, source='@/s', target='@/t', exclude={'[x]y','a/**'} }");
    fs::write(scene.path("s/a/inner"), "1").unwrap();
    fs::write(scene.path("s/xy"), "1").unwrap();
    fs::write(scene.path("s/[x]y"), "1").unwrap();
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("Startup of");
    // What the target held counts as lsyncd's own, and goes.
    eventually("the stale file goes", || !scene.path("t/stale").exists());
    let wait = format!("--control={}", scene.path("run/speil/control").display());
    assert_eq!(scene.environment.run(["wait", "--timeout=30s", &wait]).code(), 0);
    assert!(scene.path("t/file").exists() && scene.path("t/xy").exists(), "brackets are no class to lsyncd");
    assert!(!scene.path("t/[x]y").exists() && !scene.path("t/a").exists());
    process::send(guard.pid(), Signal::TERM);
    assert_eq!(guard.wait().code(), 143);
    assert!(!scene.path("run/speil/control").exists());
}

#[test]
fn a_broken_new_configuration_leaves_the_old_one_at_work() {
    let scene = Scene::new();
    let file = scene.configure("sync{ default.rsync, source='s', target='@/t' }");
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("Startup of");
    scene.configure("sync{ default.rsync, source='s', target='@/t', foo=1 }");
    process::send(guard.pid(), Signal::HUP);
    guard.wait_for_error_line("Parameter \"foo\" unknown.");
    guard.wait_for_error_line("stays in force");
    fs::write(scene.path("s/later"), "1").unwrap();
    eventually("the copy", || scene.path("t/later").exists());
    scene.configure("sync{ default.rsync, source='s', target='@/other' }");
    process::send(guard.pid(), Signal::HUP);
    assert!(holds_within(std::time::Duration::from_secs(60), || scene.path("other/later").exists()));
    assert_eq!(guard.terminate().code(), 143);
}
