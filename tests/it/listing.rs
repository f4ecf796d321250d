//! `--list-only`, and a source without a target: rsync's lines, rsync's order, rsync's exit code.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::sources::{Scene, date};
use crate::support::command::{Background, agent_command};
use crate::support::sshd::Sshd;

/// A tree with names that sort in more than one way, and an entry of every type.
fn scene() -> Scene {
    let scene = Scene::new();
    for name in
        ["t/9", "t/a/x", "t/a/y/z", "t/a-b/f", "t/a.c", "t/B/f.o", "t/two\nlines", "t/hollow/in/.keep"]
    {
        scene.write(name, name);
    }
    fs::remove_file(scene.path("t/hollow/in/.keep")).unwrap();
    fs::File::create(scene.path("t/large")).unwrap().set_len(5_368_709_121).unwrap();
    symlink("9", scene.path("t/link")).unwrap();
    symlink("a", scene.path("t/way")).unwrap();
    symlink("/etc/hostname", scene.path("t/out")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scene.path("t/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    date(&scene.path("."), 1_100_000_000);
    fs::set_permissions(scene.path("t/9"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(scene.path("t/B"), fs::Permissions::from_mode(0o1777)).unwrap();
    let old = rustix::fs::Timespec { tv_sec: -300_000_000, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(rustix::fs::CWD, scene.path("t/a/x"), &times, rustix::fs::AtFlags::empty())
        .unwrap();
    scene
}

const OPTIONS: &[&[&str]] = &[
    &[],
    &["-r"],
    &["-a"],
    &["-rl"],
    &["-l"],
    &["-d"],
    &["-ah"],
    &["-ahh"],
    &["-a", "--no-h"],
    &["-a", "-8"],
    &["-aq"],
    &["-ai", "--out-format=%n"],
    &["-a", "-n"],
    &["-am"],
    &["-a", "--exclude=a/", "--exclude=*.o"],
    &["--exclude=a"],
    &["-r", "--include=*/", "--include=f*", "--exclude=*"],
    &["-rm", "--include=*/", "--include=f*", "--exclude=*"],
    &["-aL"],
    &["-ak"],
    &["-a", "--copy-unsafe-links"],
    &["-a", "--safe-links"],
    &["-aR"],
    &["-R"],
    &["-a", "--delete"],
    &["-a", "--max-size=1"],
    &["-ax"],
];

#[test]
fn what_rsync_lists_is_listed_line_by_line() {
    let scene = scene();
    let mut differ = Vec::new();
    for options in OPTIONS {
        for words in [
            &["t/"][..],
            &["t"],
            &["t/."],
            &["t/a/y"],
            &["t/9"],
            &["t/link"],
            &["t/way"],
            &["t/way/"],
            &["--list-only", "t/", "nowhere/"],
            &["--list-only", "t/a", "t/9", "t/a-b/", "b", "nowhere"],
            &["--list-only", "t/./a/y", "c/file", "nowhere"],
            &["t/none"],
            &["none/"],
            &["--list-only", "t/none", "t/9", "nowhere"],
        ] {
            // Each with each would take a minute.
            let is_short = |words: &[&str]| matches!(words, [] | ["t/" | "t"] | ["-r" | "-a" | "-R" | "-aL"]);
            if !is_short(options) && !is_short(words) {
                continue;
            }
            // speil makes one tree of whole paths below one directory only.
            let words = [options, words].concat();
            if words.iter().any(|word| word.starts_with("-aR") || *word == "-R") && words.contains(&"c/file")
            {
                continue;
            }
            // Nor does it keep a path on which a symlink lies.
            if words.contains(&"t/way/") && words.iter().any(|word| word.contains('R')) {
                continue;
            }
            let (ours, theirs) = (scene.speil(&words), scene.rsync(&words));
            let told = format!("{words:?}\n{}\n{}", ours.stderr, theirs.stderr);
            if (&ours.stdout, ours.code()) != (&theirs.stdout, theirs.code()) {
                differ.push(format!(
                    "{told}\n{}{}\n{}{}",
                    ours.stdout,
                    ours.code(),
                    theirs.stdout,
                    theirs.code()
                ));
            }
            assert!(!scene.path("nowhere").exists(), "{told}");
        }
    }
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n\n"));
}

#[test]
fn another_host_s_tree_is_listed() {
    let sshd = Sshd::start();
    let scene = scene();
    let (ssh, agent) = (sshd.ssh_command(), format!("--agent={}", agent_command()));
    for options in [&[][..], &["-r"], &["-a"], &["-a", "--exclude=a"], &["-q"], &["-rl", "-h"]] {
        for name in ["t/", "t", "t/9", "t/none", "t/9/"] {
            let place = sshd.target(&scene.path("t")) + &name[1..];
            let theirs = scene.rsync(&[options, &["-e", &ssh, &place]].concat());
            let ours = scene.speil(&[options, &["-e", &ssh, &agent, &place]].concat());
            let told = format!("{options:?} {name}\n{}\n{}", ours.stderr, theirs.stderr);
            assert_eq!(ours.stdout, theirs.stdout, "{told}");
            assert_eq!(ours.code(), theirs.code(), "{told}");
        }
    }
}

#[test]
fn in_rsyncs_place_a_source_without_a_target_is_listed() {
    let scene = scene();
    let mut command = scene.env.speil(["rsync", "--no-fallback", "-r", "t/"]);
    command.current_dir(scene.dir.path());
    let ours = Background::spawn(command).wait();
    assert_eq!((ours.stdout, ours.status.code()), (scene.rsync(&["-r", "t/"]).stdout, Some(0)));
}

#[test]
fn a_listing_as_json_has_an_object_for_each_entry() {
    let scene = scene();
    let listed = scene.speil(&["--json", "-l", "t/"]);
    let objects: Vec<serde_json::Value> =
        listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |path: &str| objects.iter().find(|object| object["path"] == path).unwrap();
    assert_eq!(
        of("9"),
        &serde_json::json!({"schema": 1, "type": "entry", "path": "9", "kind": "file", "mode": "4751", "size": 3,
            "mtime": 1_100_000_000})
    );
    assert_eq!((&of("link")["link"], &of("a")["kind"]), (&"9".into(), &"directory".into()));
    assert_eq!(objects.last().unwrap()["code"], 0);
}
