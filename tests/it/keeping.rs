//! What a target keeps of what is removed and replaced, and putting it back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::command::{Background, Outcome, eventually};
use crate::support::rng::Rng;
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
    let between = now();
    undo(&stand, &["--since", &moment]).succeeded();
    assert_eq!(contents_differ(&before, &stand.target("standby")), "");
    let kept = kept_below(&stand.target("standby").join(".speil/trash"));
    assert_eq!(kept["edited"], ["edited, the second"], "what gave way is kept");
    assert_eq!(kept["dir"], ["a file now"]);
    assert_eq!(kept.len(), 2, "{kept:?}");
    // A second run changes nothing, and says so.
    let undone = stand.path("undone");
    copy_tree(&stand.target("standby"), &undone).unwrap();
    for options in [&["--since", &moment, "-n"][..], &["--since", &moment]] {
        let again = undo(&stand, options).succeeded();
        assert!(
            again.stdout.starts_with("0 entries ") && again.stdout.contains("already"),
            "{}",
            again.stdout
        );
    }
    assert_eq!(told(&differences(&undone, &stand.target("standby"))), "");
    // Before the undo it was as the source has it: to name that moment undoes the undo.
    let planned = undo(&stand, &["--since", &between, "-n"]).succeeded();
    assert_eq!(told(&differences(&undone, &stand.target("standby"))), "", "{}", planned.stdout);
    let done = undo(&stand, &["--since", &between]).succeeded();
    let last = |text: &str| text.replace("to be put back", "put back").lines().last().map(str::to_owned);
    assert_eq!(last(&planned.stdout), last(&done.stdout));
    assert!(done.stdout.contains("  gone  (did not exist then"), "{}", done.stdout);
    assert_eq!(contents_differ(&stand.source(), &stand.target("standby")), "");
    // And back and forth again.
    undo(&stand, &["--since", &moment]).succeeded();
    assert_eq!(contents_differ(&before, &stand.target("standby")), "");
    undo(&stand, &["--since", &between]).succeeded();
    assert_eq!(contents_differ(&stand.source(), &stand.target("standby")), "");
}

/// What every path of a tree holds; a directory a slash.
fn contents(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut all, mut dirs) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.strip_prefix(root).unwrap().to_owned();
            if name == Path::new(".speil") {
                continue;
            }
            let content = if entry.is_dir() { "/".to_owned() } else { fs::read_to_string(&entry).unwrap() };
            dirs.extend(entry.is_dir().then_some(entry));
            all.insert(name, content);
        }
    }
    all
}

#[test]
fn whatever_was_done_and_undone_a_path_comes_back_as_it_was_and_a_second_run_changes_nothing() {
    for seed in [2, 5, 26] {
        println!("seed {seed}");
        let mut random = Rng::new(seed);
        let stand = Stand::new();
        fs::create_dir_all(stand.source()).unwrap();
        pass(&stand, &[]);
        let mut moments = Vec::new();
        for step in 0..14 {
            moments.push((now(), contents(&stand.target("standby"))));
            if step % 3 < 2 {
                edit(&mut random, &stand.source(), step);
                pass(&stand, &["--trash=7d"]);
                assert_eq!(contents(&stand.target("standby")), contents(&stand.source()));
                continue;
            }
            let (moment, then) = &moments[random.below(moments.len())];
            for run in ["first", "second"] {
                let before = contents(&stand.target("standby"));
                let told = undo(&stand, &["--since", moment]);
                assert!([0, 24].contains(&told.code()), "{} {}", told.stdout, told.stderr);
                let now = contents(&stand.target("standby"));
                for (path, content) in then {
                    assert_eq!(
                        now.get(path),
                        Some(content),
                        "{path:?} at step {step}, {run} run: {}",
                        told.stdout
                    );
                }
                assert!(run == "first" || now == before, "step {step}: {}", told.stdout);
            }
        }
    }
}

/// Changes something of a small tree, so that a path is now a file, now a directory, now nothing.
fn edit(random: &mut Rng, root: &Path, step: u32) {
    for number in 0..4 {
        let path = root.join(["a", "b", "d", "d/a", "d/e", "d/e/a"][random.below(6)]);
        if path.ancestors().skip(1).any(Path::is_file) {
            continue;
        }
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        match random.below(4) {
            0 => {}
            1 => fs::create_dir_all(&path).unwrap(),
            _ => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, format!("step {step}, {number}")).unwrap();
            }
        }
    }
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

/// Changes bytes of a file and nothing that shows; in place, as a disk does.
fn rot(path: &Path) {
    let meta = rustix::fs::stat(path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"ROT", 0).unwrap();
    drop(file);
    let time = rustix::fs::Timespec { tv_sec: meta.st_mtime, tv_nsec: meta.st_mtime_nsec as _ };
    crate::support::tree::set_times(path, time).unwrap();
}

/// Makes files old: a file stamped just before it is sent is read once more soon after, and what has rotted
/// by then would be sent as an edit.
fn age(root: &Path, names: &[&str]) {
    let hour_ago = speil::tree::Time::now().secs - 3_600;
    for name in names {
        let time = rustix::fs::Timespec { tv_sec: hour_ago, tv_nsec: 0 };
        crate::support::tree::set_times(&root.join(name), time).unwrap();
    }
}

fn scrub_of(stand: &Stand) -> serde_json::Value {
    let control = format!("--control={}", stand.control().display());
    let status = stand.environment.run(["status", "--json", &control]).succeeded();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    status["syncs"][0]["targets"][0]["scrub"].clone()
}

#[test]
fn rotten_bytes_are_told_with_both_hashes_and_kept_and_the_side_is_named() {
    let stand = Stand::new();
    plant(&stand.source());
    let (source, target) = (stand.source(), stand.target("standby"));
    age(&source, &["kept", "edited"]);
    pass(&stand, &[]);
    fs::remove_file(target.join("edited")).unwrap();
    let daemon = stand.run(&["standby"], "scrub = { mode = \"report\", interval = \"1s\" }, watch = \"poll\", pollInterval = \"1h\", reconcile = { interval = \"never\" }", "");
    eventually("a scrub without a finding", || scrub_of(&stand)["last"].is_u64());
    assert_eq!(scrub_of(&stand)["mismatches"].as_array().map(Vec::len), Some(0));
    let hash = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    rot(&target.join("kept"));
    // This one was sent by the daemon: it knows what it sent.
    rot(&source.join("edited"));
    eventually("both are found", || {
        scrub_of(&stand)["mismatches"].as_array().is_some_and(|all| all.len() == 2)
    });
    let told = daemon.wait_for_error_line("\"kept\" has the same size and time");
    assert!(told.contains(&hash("kept, the first")) && told.contains(&hash("ROTt, the first")), "{told}");
    assert!(told.contains("either side may be rotten"), "{told}");
    let told = daemon.wait_for_error_line("\"edited\" has the same size and time");
    assert!(told.contains("the source is rotten"), "{told}");
    let found = scrub_of(&stand);
    assert_eq!(found["mismatches"][0]["suspect"], "source");
    assert_eq!(found["mismatches"][1]["target"], hash("ROTt, the first"));
    // Nothing was repaired, and the version is kept once, however often it is found.
    let files = found["last"].as_u64().unwrap();
    eventually("another scrub", || scrub_of(&stand)["last"].as_u64().is_some_and(|last| last > files + 1));
    assert_eq!(fs::read_to_string(target.join("kept")).unwrap(), "ROTt, the first");
    let kept = kept_below(&target.join(".speil/strangers"));
    assert_eq!(kept["kept"], ["ROTt, the first"]);
    daemon.terminate();
}

#[test]
fn a_scrub_that_may_repairs_the_target_and_never_with_a_rotten_source() {
    let stand = Stand::new();
    plant(&stand.source());
    let (source, target) = (stand.source(), stand.target("standby"));
    fs::write(source.join("large"), vec![7; 3 << 20]).unwrap();
    age(&source, &["kept", "large", "edited"]);
    let daemon = stand.run(&["standby"], "scrub = { mode = \"repair\", interval = \"1s\" }, watch = \"poll\", pollInterval = \"1h\", reconcile = { interval = \"never\" }", "");
    rot(&target.join("kept"));
    rot(&target.join("large"));
    rot(&source.join("edited"));
    for name in ["kept", "large"] {
        eventually("the repair", || {
            fs::read(target.join(name)).unwrap() == fs::read(source.join(name)).unwrap()
        });
    }
    daemon.wait_for_error_line("\"edited\" has the same size and time");
    assert_eq!(fs::read_to_string(target.join("edited")).unwrap(), "edited, the first");
    let kept = kept_below(&target.join(".speil/strangers"));
    assert_eq!(kept["kept"], ["ROTt, the first"]);
    assert!(kept["large"][0].starts_with("ROT"));
    eventually("what is repaired is forgotten", || {
        let scrub = scrub_of(&stand);
        let all = scrub["mismatches"].as_array().unwrap().clone();
        all.len() == 1 && all[0]["path"].as_str().unwrap().contains("edited")
    });
    daemon.terminate();
}

#[test]
fn the_versions_of_one_path_are_listed_with_the_moment_that_brings_each_back() {
    let stand = Stand::new();
    plant(&stand.source());
    pass(&stand, &[]);
    for version in ["the second", "the third, longer"] {
        fs::write(stand.source().join("edited"), version).unwrap();
        fs::write(stand.source().join("dir/one"), version).unwrap();
        pass(&stand, &["--trash=7d"]);
    }
    let target = stand.target("standby").display().to_string();
    let list = |arguments: &[&str]| stand.environment.run(arguments).succeeded().stdout;
    let told = list(&["trash", &target, "edited", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&told).unwrap();
    let entries = all["entries"].as_array().unwrap();
    let sizes: Vec<_> = entries.iter().map(|entry| entry["size"].as_u64().unwrap()).collect();
    assert_eq!(sizes, ["edited, the first".len() as u64, "the second".len() as u64], "{told}");
    assert!(entries.iter().all(|entry| entry["path"] == "edited"), "{told}");
    // undo lists the same; a moment leaves out what was replaced before it; a directory is what is below it.
    assert_eq!(list(&["undo", &target, "edited", "--list", "--json"]), told);
    let last = entries[1]["time"].as_str().unwrap();
    let since = list(&["undo", &target, "edited", "--list", "--since", last]);
    assert!(since.contains("1 entry kept, 10 bytes"), "{since}");
    assert!(list(&["trash", &target, "dir"]).contains("  dir/one\n"));
    // An absolute path is one on the target's host.
    let absolute = stand.target("standby").join("dir").display().to_string();
    assert!(list(&["trash", &target, &absolute]).contains("  dir/one\n"));
    let elsewhere = stand.environment.run(["trash", &target, "/elsewhere/dir"]);
    assert_eq!(elsewhere.code(), 1, "{elsewhere:?}");
    assert!(elsewhere.stderr.contains("\"/elsewhere/dir\" is not below"), "{elsewhere:?}");
    for (entry, content) in entries.iter().zip(["edited, the first", "the second"]).rev() {
        undo(&stand, &["edited", "--since", entry["time"].as_str().unwrap()]).succeeded();
        assert_eq!(fs::read_to_string(stand.target("standby").join("edited")).unwrap(), content);
    }
    let outcome = undo(&stand, &["edited"]);
    assert!(outcome.code() == 1 && outcome.stderr.contains("--since"), "{outcome:?}");
    let outcome = stand.environment.run(["trash", &target, "../up"]);
    assert_eq!(outcome.code(), 1, "{outcome:?}");
}

#[test]
fn an_absolute_path_is_found_below_a_target_that_is_written_as_a_relative_path() {
    let stand = Stand::new();
    fs::write(stand.source().join("gone"), "gone").unwrap();
    pass(&stand, &[]);
    let moment = now();
    fs::remove_file(stand.source().join("gone")).unwrap();
    pass(&stand, &["--trash=7d"]);
    let target = stand.target("standby");
    let run = |path: &Path| {
        let path = path.display().to_string();
        let name = target.file_name().unwrap().to_str().unwrap();
        let mut command = stand.environment.speil(["undo", name, "--since", &moment, &path]);
        command.current_dir(target.parent().unwrap());
        Background::spawn(command).wait()
    };
    let elsewhere = run(Path::new("/nowhere/gone"));
    assert_eq!(elsewhere.code(), 1, "{elsewhere:?}");
    assert!(elsewhere.stderr.contains("is not below"), "{elsewhere:?}");
    let _ = run(&target.join("gone")).succeeded();
    assert_eq!(fs::read(target.join("gone")).unwrap(), b"gone");
}
