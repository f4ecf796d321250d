//! The configuration of a 2013 guide, live over a real sshd: host, port and paths are this test's own, nothing
//! is added.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::cases::shell;
use super::scene::Scene;
use crate::support::command::{DEADLINE, eventually, holds_within};
use crate::support::sshd::Sshd;
use crate::support::tree::Comparison;

/// Writes an `ssh` that finds key and host key of a test's sshd, as root's own would find its own.
fn own_ssh(scene: &Scene, sshd: &Sshd) {
    let dir = sshd.dir().display();
    let script = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -F none -i {dir}/client_key -o IdentitiesOnly=yes \
         -o UserKnownHostsFile={dir}/known_hosts \"$@\"\n"
    );
    fs::write(scene.path("bin/ssh"), script).unwrap();
    fs::set_permissions(scene.path("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_guides_configuration_mirrors_live_with_nothing_added() {
    let (scene, sshd) = (Scene::new(), Sshd::start());
    own_ssh(&scene, &sshd);
    sshd.install_agent();
    shell(
        &scene.path("s"),
        "mkdir -p old/deep; for n in $(seq 1 100); do echo $n > old/$n; done; ln -s 1 old/link",
    );
    fs::write(scene.path("t/stale"), "left by lsyncd").unwrap();
    let text = r#"
settings {
    logfile = "@/log/lsyncd.log",
    statusFile = "@/log/lsyncd.status"
}
sync {
    default.rsync,
    source = "@/s/",
    target = "LOGIN:@/t/",
    rsync = {
        compress = true,
        archive = true,
        verbose = true,
        rsh = "@/bin/ssh -p PORT -o StrictHostKeyChecking=no"
    }
}
"#;
    let text = text.replace("LOGIN", &sshd.login()).replace("PORT", &sshd.address().port().to_string());
    let file = scene.configure(&text);
    // As a service does, in the foreground; the file says nothing of it.
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    let log = || fs::read_to_string(scene.path("log/lsyncd.log")).unwrap_or_default();
    eventually("the first pass", || log().contains("finished."));
    assert!(log().contains("Sync1: engine native: every option maps, and an agent answers at"), "{}", log());
    let (source, target) = (scene.path("s"), scene.path("t"));
    let kept = Comparison { xattrs: false, hard_links: false, ..Comparison::default() };
    let same = |what: &str| {
        let settled = holds_within(DEADLINE, || kept.compare(&source, &target).is_empty());
        assert!(settled, "after {what}: {:?}\n{}", kept.compare(&source, &target), log());
    };
    same("the start");
    for edit in [
        "mkdir -p new/a/b; for n in $(seq 1 50); do echo $n > new/a/$n; done; echo deep > new/a/b/c",
        "for n in $(seq 1 50); do echo longer $n > new/a/$n; done; echo more >> old/7",
        "mv new/a moved; mv old/1 old/one; mv moved/1 old/1",
        "chmod 600 old/2; touch -d 2001-02-03T04:05:06.789Z old/3; chmod 711 moved/b; ln -sf 2 old/link",
        "rm -r moved/b; for n in $(seq 10 40); do rm old/$n; done; rm old/link",
    ] {
        shell(&source, edit);
        same(edit);
    }
    eventually("the status", || {
        fs::read_to_string(scene.path("log/lsyncd.status")).is_ok_and(|text| {
            text.contains("Sync1 source=")
                && text.contains("There are 0 delays")
                && text.contains("old/deep/")
        })
    });
    assert_eq!(guard.terminate().code(), 143);
}
