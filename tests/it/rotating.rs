//! `--link-dest`, `--copy-dest` and `--compare-dest`: backups by the day, with rsync as the judge.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::sources::{Scene, changes, date, listed};
use crate::support::command::{Outcome, agent_command};
use crate::support::rng::Rng;
use crate::support::sshd::Sshd;

/// A day's work: some files change, one of them its mode alone, one goes, one comes.
fn pass_day(scene: &Scene, day: u64) {
    scene.write("a/top", &format!("day {day}"));
    scene.write(&format!("a/new{day}"), "new");
    fs::set_permissions(
        scene.path("a/x/f"),
        fs::Permissions::from_mode(0o600 + u32::try_from(day).unwrap() * 8),
    )
    .unwrap();
    let _ = fs::remove_file(scene.path(&format!("a/new{}", day - 1)));
    date(&scene.path("a/top"), 1_100_000_000 + day * 100);
    date(&scene.path(&format!("a/new{day}")), 1_100_000_000 + day * 100);
    let time = format!("@{}", 1_100_000_000 + day * 100);
    assert!(Command::new("touch").args(["-d", &time]).arg(scene.path("a")).status().unwrap().success());
}

/// Returns which names below a directory are of one inode, each group by its names.
fn groups(dir: &Path) -> Vec<Vec<String>> {
    let output =
        Command::new("find").args([".", "!", "-type", "d", "-printf", "%i %p\n"]).current_dir(dir).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let (inode, name) = line.split_once(' ').unwrap();
        groups.entry(inode).or_default().push(name.to_owned());
    }
    let mut groups: Vec<Vec<String>> = groups.into_values().collect();
    groups.iter_mut().for_each(|group| group.sort());
    groups.sort();
    groups
}

/// Runs both with the same words; `T` stands for the side's own directory.
#[track_caller]
fn both(scene: &Scene, words: &[&str]) -> (Outcome, Outcome) {
    let of = |side: &str| -> Vec<String> {
        words.iter().map(|word| word.replace("T/", &format!("{side}/"))).collect()
    };
    let (ours, theirs) = (of("ours"), of("theirs"));
    let theirs = scene.rsync(&theirs.iter().map(String::as_str).collect::<Vec<_>>());
    let ours = scene.speil(&ours.iter().map(String::as_str).collect::<Vec<_>>());
    let told = format!("{words:?}\n{}{}\n{}{}", ours.stdout, ours.stderr, theirs.stdout, theirs.stderr);
    assert_eq!(ours.code(), theirs.code(), "{told}");
    assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")), "{told}");
    assert_eq!(groups(&scene.path("ours")), groups(&scene.path("theirs")), "{told}");
    assert_eq!(changes(&ours), changes(&theirs), "{told}");
    (ours, theirs)
}

fn prepared() -> Scene {
    let scene = Scene::new();
    for side in ["ours", "theirs"] {
        fs::create_dir(scene.path(side)).unwrap();
    }
    symlink("top", scene.path("a/link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scene.path("a/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from(0o644),
        0,
    )
    .unwrap();
    date(&scene.path("a"), 1_100_000_000);
    scene
}

#[test]
fn three_days_of_rotating_backups_are_those_of_rsync() {
    for (option, source) in [("link", "a/"), ("copy", "a/"), ("compare", "a/"), ("link", "a")] {
        let scene = prepared();
        // Of a directory without a slash speil's lines begin below it.
        let archive = if source == "a" { "-a" } else { "-ai" };
        let _ = both(&scene, &[archive, source, "T/day1/"]);
        for day in 2..4 {
            pass_day(&scene, day);
            let beside = format!("--{option}-dest=../day{}", day - 1);
            let target = format!("T/day{day}/");
            let (ours, _) = both(&scene, &[archive, "--delete", &beside, source, &target]);
            assert!(archive == "-a" || ours.stdout.contains("top"), "{}", ours.stdout);
            // And a second time.
            let again =
                scene.speil(&["-ai", "--delete", &beside, source, &format!("ours/day{day}/")]).succeeded();
            assert!(option == "compare" || again.stdout.is_empty(), "{}", again.stdout);
        }
    }
}

#[test]
fn what_is_found_where_and_how_it_counts_is_as_in_rsync() {
    let scene = prepared();
    let _ = both(&scene, &["-ai", "a/", "T/day1/"]);
    pass_day(&scene, 2);
    let _ = both(&scene, &["-ai", "a/", "T/day2/"]);
    pass_day(&scene, 3);
    let absolute = format!("--link-dest={}", scene.path("ours/day2").display());
    for words in [
        &["-ai", "--link-dest=../day2", "--link-dest=../day1", "a/", "T/n/"][..],
        &["-ai", "--link-dest=../day1", "--link-dest=../day2", "a/", "T/n/"],
        &["-aic", "--link-dest=../day2", "a/", "T/n/"],
        &["-ani", "--link-dest=../day2", "a/", "T/n/"],
        &["-rlti", "--link-dest=../day2", "a/", "T/n/"],
        &["-ai", "--link-dest=../missing", "a/", "T/n/"],
        &["-ai", "--link-dest=../day2", "--exclude=top", "a/", "T/n/"],
        &["-aHi", "--link-dest=../day2", "a/", "T/n/"],
        &["-ai", "--link-dest=../day2", "a/x", "a/top", "T/n/"],
        &["-aiI", "--link-dest=../day2", "a/", "T/n/"],
        &["-ai", "--size-only", "--link-dest=../day1", "a/", "T/n/"],
    ] {
        for side in ["ours", "theirs"] {
            let _ = fs::remove_dir_all(scene.path(side).join("n"));
        }
        let _ = both(&scene, words);
    }
    scene.speil(&["-a", &absolute, "a/", "ours/by-path/"]).succeeded();
    let inode = |name: &str| scene.path(name).metadata().unwrap().ino();
    assert_eq!(inode("ours/by-path/same"), inode("ours/day2/same"));
    let mixed = scene.speil(&["-a", "--link-dest=../day1", "--copy-dest=../day1", "a/", "ours/m/"]);
    assert!(mixed.code() == 1 && mixed.stderr.contains("exclude each other"), "{}", mixed.stderr);
}

#[test]
fn no_later_run_changes_an_older_backup() {
    let scene = prepared();
    scene.speil(&["-a", "a/", "ours/day1/"]).succeeded();
    scene.speil(&["-a", "--link-dest=../day1", "a/", "ours/day2/"]).succeeded();
    let before = listed(&scene.path("ours/day1"));
    let inode = |name: &str| scene.path(name).metadata().unwrap().ino();
    assert_eq!(inode("ours/day1/same"), inode("ours/day2/same"));
    let names =
        |text: &str| text.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    for (number, options) in
        [&["-a", "--link-dest=../day1"][..], &["-a"], &["-aH", "--link-dest=../day1"]].iter().enumerate()
    {
        let mode = 0o600 + u32::try_from(number).unwrap() * 8;
        for name in ["a/same", "a/x/f"] {
            fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        scene.write("a/top", &format!("{number}"));
        scene.speil(&[*options, &["--delete", "a/", "ours/day2/"][..]].concat()).succeeded();
        assert_eq!(names(&listed(&scene.path("ours/day1"))), names(&before), "{options:?}");
        assert_eq!(fs::read(scene.path("ours/day1/top")).unwrap(), b"a's");
        let now = scene.path("ours/day2/same").metadata().unwrap();
        assert_eq!((now.mode() & 0o777, now.nlink()), (mode, 1), "{options:?}");
    }
}

#[test]
fn a_large_file_that_changed_a_little_is_sent_as_what_differs_from_the_day_before() {
    let scene = prepared();
    let mut content = Rng::new(7).bytes(8 << 20);
    fs::write(scene.path("a/large"), &content).unwrap();
    date(&scene.path("a/large"), 1_100_000_000);
    scene.speil(&["-a", "a/", "ours/day1/"]).succeeded();
    content[4 << 20..(4 << 20) + 100].fill(0);
    fs::write(scene.path("a/large"), &content).unwrap();
    let done = scene.speil(&["-a", "--stats", "--link-dest=../day1", "a/", "ours/day2/"]).succeeded();
    assert_eq!(fs::read(scene.path("ours/day2/large")).unwrap(), content);
    let literal = done.stdout.lines().find(|line| line.starts_with("Literal data")).unwrap();
    let bytes: u64 = literal.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
    assert!(bytes < 1 << 20, "{literal}");
}

#[test]
fn rotating_backups_over_ssh_pushed_and_pulled_and_under_a_root_that_is_not_the_callers() {
    let scene = prepared();
    let sshd = Sshd::start();
    let (ssh, agent) = (sshd.ssh_command(), format!("--agent={}", agent_command()));
    let far = |name: &str| sshd.target(&scene.path(name));
    scene.speil(&["-a", "a/", "ours/day1/"]).succeeded();
    pass_day(&scene, 2);
    let run =
        |words: &[&str]| scene.speil(&[&["-a", "-e", &ssh, &agent, "--link-dest=../day1"], words].concat());
    run(&["a/", &format!("{}/", far("ours/pushed"))]).succeeded();
    run(&[&format!("{}/", far("a")), "ours/pulled/"]).succeeded();
    let inode = |name: &str| scene.path(name).metadata().unwrap().ino();
    for day in ["pushed", "pulled"] {
        assert_eq!(inode(&format!("ours/{day}/same")), inode("ours/day1/same"), "{day}");
        assert_eq!(fs::read(scene.path(&format!("ours/{day}/top"))).unwrap(), b"day 2");
    }
    let root = format!("--agent={} --root {}", agent_command(), scene.path("ours/kept").display());
    fs::create_dir(scene.path("ours/kept")).unwrap();
    let forced = |dir: &str| {
        let beside = format!("--link-dest={dir}");
        scene.speil(&["-a", "-e", &ssh, &root, &beside, "a/", &far("ours/kept/")])
    };
    let refused = forced("../day1");
    assert!(
        !refused.status.success() && refused.stderr.contains("is outside of the directory"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read_dir(scene.path("ours/kept")).unwrap().count(), 0);
    forced("none").succeeded();
}

/// Prints time and bytes beside rsync's: `cargo test --test it -- --ignored rotating --nocapture`.
#[test]
#[ignore = "a measurement"]
fn three_days_of_a_large_tree_beside_rsync() {
    let scene = Scene::new();
    let sshd = Sshd::start();
    let (ssh, agent) = (sshd.ssh_command(), format!("--agent={}", agent_command()));
    for dir in 0..100 {
        for file in 0..100 {
            scene.write(&format!("s/{dir}/{file}"), &format!("{dir} {file} ").repeat(300));
        }
    }
    let target = |name: &str| format!("{}/", sshd.target(&scene.path(name)));
    for side in ["ours", "theirs"] {
        fs::create_dir(scene.path(side)).unwrap();
    }
    for day in 1..4 {
        if day > 1 {
            (0..50).for_each(|file| scene.write(&format!("s/{}/{file}", day * 7), &format!("day {day}")));
        }
        let beside = format!("--link-dest=../day{}", day - 1);
        for side in ["theirs", "ours"] {
            let to = target(&format!("{side}/day{day}"));
            let mut words = vec!["-a", "--stats", "-e", &ssh];
            words.extend((day > 1).then_some(beside.as_str()));
            let began = Instant::now();
            let outcome = if side == "ours" {
                scene.speil(&[&words[..], &[&agent, "s/", &to]].concat())
            } else {
                scene.rsync(&[&words[..], &["s/", &to]].concat())
            };
            let took = began.elapsed();
            let outcome = outcome.succeeded();
            let figure = |name: &str| {
                outcome.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
            };
            println!(
                "day {day} {side}: {:.2} s; {}; {}",
                took.as_secs_f64(),
                figure("Total bytes sent"),
                figure("Total bytes received")
            );
        }
        assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")));
        assert_eq!(groups(&scene.path("ours")), groups(&scene.path("theirs")));
    }
}

#[test]
fn backups_are_kept_where_rsync_keeps_them() {
    let sizes = |scene: &Scene| {
        for side in ["ours", "theirs"] {
            for (name, content) in [
                ("same", "old"),
                ("x/f", "older"),
                ("gone", "extra"),
                ("gone.d/z", "extra"),
                ("x/kept~", "a backup"),
            ] {
                scene.write(&format!("{side}/t/{name}"), content);
            }
            date(&scene.path(side), 1_000_000_000);
        }
    };
    for words in [
        &["-aib", "a/", "T/t/"][..],
        &["-aib", "--delete", "a/", "T/t/"],
        &["-aib", "--suffix=.old", "a/", "T/t/"],
        &["-ai", "--delete", "--backup-dir=../bak", "a/", "T/t/"],
        &["-aib", "--delete", "--backup-dir=../bak/deep", "--suffix=.1", "a/", "T/t/"],
        &["-aib", "--delete", "--backup-dir=../bak", "a/x", "a/same", "T/t/"],
        &["-anib", "--delete", "a/", "T/t/"],
    ] {
        let scene = prepared();
        sizes(&scene);
        let _ = both(&scene, words);
        scene.write("a/x/f", "once more");
        date(&scene.path("a/x/f"), 1_200_000_000);
        let _ = both(&scene, words);
    }
    // What cannot be kept is not lost.
    let scene = prepared();
    sizes(&scene);
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let other = |name: &str| scene.path(name).metadata().unwrap().dev();
    if elsewhere.path().metadata().unwrap().dev() != other("a") {
        let dir = format!("--backup-dir={}", elsewhere.path().display());
        let refused = scene.speil(&["-a", "--delete", &dir, "a/", "ours/t/"]);
        assert_eq!(refused.code(), 23, "{}", refused.stderr);
        assert!(refused.stderr.contains("back up"), "{}", refused.stderr);
        assert_eq!(fs::read(scene.path("ours/t/gone")).unwrap(), b"extra");
        assert_eq!(fs::read(scene.path("ours/t/same")).unwrap(), b"old");
    }
}

#[test]
fn files_of_other_sizes_stay_as_they_are() {
    for words in [
        &["-ai", "--delete", "--max-size=5", "a/", "T/t/"][..],
        &["-ai", "--delete", "--min-size=4", "a/", "T/t/"],
        &["-ai", "--min-size=1k", "a/", "T/t/"],
        &["-ai", "--max-size=5-1", "a/", "b", "T/t/"],
        &["-aic", "--max-size=1b", "a/", "T/t/"],
    ] {
        let scene = prepared();
        for side in ["ours", "theirs"] {
            for (name, content) in [("same", "another"), ("top", "x"), ("extra", "a larger one")] {
                scene.write(&format!("{side}/t/{name}"), content);
            }
        }
        let _ = both(&scene, words);
    }
}
