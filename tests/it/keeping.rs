//! What a target keeps of what is removed and replaced, and putting it back.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::support::command::{Outcome, eventually};
use crate::support::stand::{Stand, assert_settles, differences, told};
use crate::support::tree::{copy_tree, kept_below};

/// Makes one pass with a trash.
fn pass(stand: &Stand, options: &[&str]) -> Outcome {
    let source = format!("{}/", stand.source().display());
    let target = stand.target("standby").display().to_string();
    let fixed = ["sync", "-aHAX", "--delete", "--no-delete-guard"];
    stand.environment.run([&fixed, options, &[&source, &target]].concat()).succeeded()
}

fn undo(stand: &Stand, options: &[&str]) -> Outcome {
    let target = stand.target("standby").display().to_string();
    stand.environment.run([&["undo", &target], options].concat())
}

/// The time of the target's host, as RFC 3339.
fn now() -> String {
    speil::tree::Time::now().rfc3339()
}

fn plant(root: &Path) {
    fs::create_dir_all(root.join("dir/deep/er")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for name in ["kept", "edited", "gone", "dir/one", "dir/deep/two", "dir/deep/er/three", "dir/\u{1b}odd"] {
        fs::write(root.join(name), format!("{name}, the first")).unwrap();
    }
    symlink("nowhere", root.join("dir/link")).unwrap();
    fs::hard_link(root.join("dir/one"), root.join("dir/uno")).unwrap();
    fs::set_permissions(root.join("dir/deep"), fs::Permissions::from_mode(0o751)).unwrap();
}

/// Two trees but for the times of directories, which what was put back into them has changed.
fn contents_differ(a: &Path, b: &Path) -> String {
    let mut all = differences(a, b);
    all.retain(|difference| {
        !(b.join(bytes(&difference.path)).is_dir() && format!("{:?}", difference.aspect) == "Time")
    });
    told(&all)
}

fn bytes(path: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path))
}

#[test]
fn what_a_pass_removes_and_replaces_comes_back_as_it_was_and_what_gives_way_is_kept() {
    let stand = Stand::new();
    plant(&stand.source());
    pass(&stand, &[]);
    let before = stand.path("before");
    copy_tree(&stand.source(), &before).unwrap();
    let moment = now();
    fs::remove_dir_all(stand.source().join("dir")).unwrap();
    fs::remove_dir(stand.source().join("empty")).unwrap();
    fs::remove_file(stand.source().join("gone")).unwrap();
    fs::write(stand.source().join("edited"), "edited, the second").unwrap();
    // A file where a directory was.
    fs::write(stand.source().join("dir"), "a file now").unwrap();
    pass(&stand, &["--trash=7d"]);
    assert_eq!(contents_differ(&stand.source(), &stand.target("standby")), "");
    let target = stand.target("standby").display().to_string();
    let listed = stand.environment.run(["trash", &target, "--json"]).succeeded();
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let names: Vec<&str> =
        listed["entries"].as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    for name in ["dir/deep/er/three", "dir/link", "dir/uno", "edited", "empty", "gone", "dir/\\u{1b}odd"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(!names.contains(&"kept"), "{names:?}");
    let planned = undo(&stand, &["--since", &moment, "-n"]).succeeded();
    assert!(planned.stdout.contains("to be put back"), "{}", planned.stdout);
    assert_eq!(contents_differ(&stand.source(), &stand.target("standby")), "", "a dry run changes nothing");
    undo(&stand, &["--since", &moment]).succeeded();
    assert_eq!(contents_differ(&before, &stand.target("standby")), "");
    let kept = kept_below(&stand.target("standby").join(".speil/trash"));
    assert_eq!(kept["edited"], ["edited, the second"], "what gave way is kept");
    assert_eq!(kept["dir"], ["a file now"]);
    assert_eq!(kept.len(), 2, "{kept:?}");
    // And that can be undone as well.
    undo(&stand, &["--since", &moment]).succeeded();
    assert_eq!(fs::read_to_string(stand.target("standby").join("dir")).unwrap(), "a file now");
}

#[test]
fn of_several_versions_the_one_of_the_moment_comes_back_and_of_several_paths_those_that_are_named() {
    let stand = Stand::new();
    let mut moments = Vec::new();
    for version in 0..4 {
        fs::create_dir_all(stand.source().join("d")).unwrap();
        fs::write(stand.source().join("d/file"), format!("version {version}")).unwrap();
        fs::write(stand.source().join("other"), format!("other {version}")).unwrap();
        pass(&stand, &["--trash=1d,1G"]);
        moments.push(now());
    }
    let kept = kept_below(&stand.target("standby").join(".speil/trash"));
    assert_eq!(kept["d/file"], ["version 0", "version 1", "version 2"]);
    undo(&stand, &["--since", &moments[1], "d/"]).succeeded();
    assert_eq!(fs::read_to_string(stand.target("standby").join("d/file")).unwrap(), "version 1");
    assert_eq!(fs::read_to_string(stand.target("standby").join("other")).unwrap(), "other 3");
    assert_eq!(undo(&stand, &["--since", &now()]).code(), 24, "nothing came since now");
    assert_eq!(undo(&stand, &["--since", "10m", "../x"]).code(), 1);
    // Nothing of it is part of the tree.
    pass(&stand, &["--trash=1d,1G", "--checksum"]);
    assert_eq!(told(&differences(&stand.source(), &stand.target("standby"))), "");
}

#[test]
fn a_live_mirror_fills_its_trash_and_nothing_is_put_back_under_its_hands() {
    let stand = Stand::new();
    plant(&stand.source());
    let trash = stand.target("standby").join(".speil/trash");
    let mirror = stand.run(&["standby"], "trash = { keep = \"2d\", max = \"1M\" }", "");
    let moment = now();
    fs::remove_dir_all(stand.source().join("dir")).unwrap();
    fs::write(stand.source().join("edited"), "edited, the second").unwrap();
    assert_settles(&stand, "standby", "after the removal", &mirror);
    let kept = kept_below(&trash);
    assert_eq!(kept["dir/deep/er/three"], ["dir/deep/er/three, the first"]);
    assert_eq!(kept["edited"], ["edited, the first"]);
    let refused = undo(&stand, &["--since", &moment]);
    assert_eq!(refused.code(), 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("at work"), "{}", refused.stderr);
    // More than it may hold: the oldest goes.
    for version in 0..20 {
        fs::write(stand.source().join("large"), vec![b'a' + version; 200_000]).unwrap();
        eventually("the version", || {
            fs::read(stand.target("standby").join("large"))
                .is_ok_and(|bytes| bytes.first() == Some(&(b'a' + version)))
        });
    }
    eventually("the oldest is gone", || {
        let kept = kept_below(&trash);
        let bytes: usize = kept.values().flatten().map(String::len).sum();
        bytes <= 1 << 20 && kept.get("large").is_some_and(|all| all.len() >= 2)
    });
    assert!(!kept_below(&trash).contains_key("edited"), "older than what stays");
    mirror.terminate();
    fs::write(stand.target("standby").join(".speil/refuse"), "promoted").unwrap();
    undo(&stand, &["--since", &moment, "large"]).succeeded();
    let large = fs::read(stand.target("standby").join("large")).unwrap();
    assert!(large.len() == 200_000 && large[0] < b'a' + 19, "an older one");
}
