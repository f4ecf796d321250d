//! `speil agent --root DIR --send` as a forced command: below DIR alone, nothing written, its filter never lifted.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Scene, listed};
use crate::support::command::{Background, SPEIL};

/// A scene whose key runs one command.
fn scene(options: &str) -> Scene {
    let scene = Scene::with_files();
    let keys = scene.sshd.dir().join("authorized_keys");
    let key = fs::read_to_string(&keys).unwrap();
    let root = scene.path("s").display().to_string();
    fs::write(&keys, format!("command=\"{SPEIL} agent --root {root} {options}\",restrict {key}")).unwrap();
    scene
}

#[test]
fn a_key_that_sends_serves_what_is_below_its_root_under_every_name_of_it() {
    let scene = scene("--send");
    let login = scene.sshd.login();
    for (number, source) in
        [format!("{}/", scene.far("s")), format!("{login}:"), format!("{login}:./")].iter().enumerate()
    {
        let target = format!("t{number}/");
        scene.pull(&["-a"], source, &target).succeeded();
        assert_eq!(listed(&scene.path("s")), listed(&scene.path(&target)));
    }
    for (number, source) in [format!("{}/", scene.far("s/d")), format!("{login}:d/")].iter().enumerate() {
        let target = format!("d{number}/");
        scene.pull(&["-a"], source, &target).succeeded();
        assert_eq!(listed(&scene.path("s/d")), listed(&scene.path(&target)));
    }
    // In rsync's place too; what the path names here, if anything, is of no account.
    let mut command = scene.env.command(SPEIL);
    command
        .args(["rsync", "-a", "-e", &scene.ssh, &format!("{login}:d/"), "r/"])
        .current_dir(scene.dir.path());
    let done = Background::spawn(command).wait().succeeded();
    assert_eq!(done.stderr, "");
    assert_eq!(listed(&scene.path("s/d")), listed(&scene.path("r")));
    // A file, and several at once, which a login that hides something does not send.
    let pull = |words: &[&str]| {
        let mut command = scene.env.command(SPEIL);
        command.args(["rsync", "--no-fallback", "-a", "-e", &scene.ssh]).args(words);
        command.current_dir(scene.dir.path());
        Background::spawn(command).wait()
    };
    pull(&[&format!("{login}:a"), "f/"]).succeeded();
    assert_eq!(fs::read(scene.path("f/a")).unwrap(), b"one");
    pull(&[&format!("{login}:a"), ":d", ":/etc", "g/"]);
    assert!(!scene.path("g").exists(), "one of them is not below the root");
    pull(&[&format!("{login}:a"), ":d", "g/"]).succeeded();
    assert!(scene.path("g/a").exists() && scene.path("g/d/e/c.tmp").exists());
}

#[test]
fn a_key_that_sends_leads_nowhere_else_and_takes_nothing() {
    let scene = scene("--send");
    fs::create_dir(scene.path("secret")).unwrap();
    fs::write(scene.path("secret/key"), "mine").unwrap();
    symlink("../secret", scene.path("s/out")).unwrap();
    symlink("d", scene.path("s/in")).unwrap();
    let login = scene.sshd.login();
    for source in [
        scene.far("secret/"),
        scene.far("s/../secret/"),
        scene.far("s/out/"),
        format!("{login}:out/"),
        format!("{login}:in/"),
        format!("{login}:../secret/"),
        format!("{login}:d/../../secret/"),
        format!("{login}:/"),
        format!("{login}:/etc/"),
    ] {
        let refused = scene.pull(&["-a"], &source, "t/");
        assert_eq!(refused.code(), 3, "{source}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("is not below the directory that this login may read"),
            "{}",
            refused.stderr
        );
        assert!(!scene.path("t").exists(), "{source}");
    }
    // A list leads nowhere else either: the link itself comes, nothing of what it leads to.
    fs::write(scene.path("list"), "out/key\n../secret/key\nout\n").unwrap();
    let list = scene.pull(&["-a", "--files-from=list"], &format!("{login}:"), "l/");
    assert_eq!(list.code(), 23, "{}", list.stderr);
    assert!(fs::symlink_metadata(scene.path("l/out")).unwrap().is_symlink());
    assert!(!scene.path("l/secret").exists());
    // To send there is refused in a word that older senders know.
    fs::create_dir(scene.path("mine")).unwrap();
    fs::write(scene.path("mine/new"), "x").unwrap();
    let before = listed(&scene.path("s"));
    let agent = scene.pull(&["-a", "--delete"], "mine/", &scene.far("s/"));
    assert_eq!(agent.code(), 11, "{}", agent.stderr);
    assert!(agent.stderr.contains("read-only file system (EROFS)"), "{}", agent.stderr);
    assert_eq!(listed(&scene.path("s")), before);
}

#[test]
fn what_the_key_hides_no_rule_of_the_caller_shows() {
    let scene = scene("--send --exclude=/d/e --exclude=*.key --filter='- /x/'");
    fs::create_dir(scene.path("s/y")).unwrap();
    for name in ["s/a.key", "s/y/b.key", "s/y/seen"] {
        fs::write(scene.path(name), "secret").unwrap();
    }
    fs::hard_link(scene.path("s/y/seen"), scene.path("s/x/seen")).unwrap();
    let login = scene.sshd.login();
    let hidden = ["d/e", "x", "a.key", "y/b.key"];
    for (number, options) in [
        &["-aH"][..],
        &["-aH", "--include=*"],
        &["-aH", "--filter=+ /x/", "--filter=+ *.key", "--filter=+ /d/e/**"],
        &["-aH", "--filter=!", "--filter=S *"],
        &["-aH", "--delete-excluded", "--checksum"],
    ]
    .iter()
    .enumerate()
    {
        let target = format!("t{number}/");
        let outcome = scene.pull(options, &format!("{login}:"), &target).succeeded();
        for name in hidden {
            assert!(!scene.path(&target).join(name).exists(), "{options:?}: {name}");
            assert!(!outcome.stderr.contains(name), "{}", outcome.stderr);
        }
        assert!(scene.path(&target).join("y/seen").exists());
    }
    // As if it were not there: as a source, in a list, and for who has it and deletes.
    for source in ["x/", "d/e/"] {
        let refused = scene.pull(&["-a"], &format!("{login}:{source}"), "u/");
        assert_eq!(refused.code(), 23, "{source}: {}", refused.stderr);
        assert!(refused.stderr.contains("no such file or directory (ENOENT)"), "{}", refused.stderr);
    }
    scene.pull(&["-a"], &format!("{login}:y/"), "below/").succeeded();
    assert!(scene.path("below/seen").exists() && !scene.path("below/b.key").exists());
    fs::write(scene.path("list"), "a.key\nx/seen\nd/e/c.tmp\ny/seen\n").unwrap();
    scene.pull(&["-a", "--files-from=list"], &format!("{login}:"), "l/");
    assert!(scene.path("l/y/seen").exists());
    for name in ["a.key", "x/seen", "d/e/c.tmp"] {
        assert!(!scene.path("l").join(name).exists(), "{name}");
    }
    fs::write(scene.path("t0/a.key"), "mine").unwrap();
    scene.pull(&["-a", "--delete"], &format!("{login}:"), "t0/").succeeded();
    assert!(!scene.path("t0/a.key").exists());
}

#[test]
fn a_key_that_receives_sends_nothing() {
    let scene = scene("");
    let refused = scene.pull(&["-a"], &format!("{}/", scene.far("s")), "t/");
    assert_eq!(refused.code(), 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("this login only receives"), "{}", refused.stderr);
    assert!(!scene.path("t").exists());
}
