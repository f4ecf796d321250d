//! Words of rsync's that scripts use: rule files, empty directories, owners, what is told. rsync is the judge.

use std::fs;

use crate::sources::{Scene, changes, date, listed};
use crate::support::command::agent_command;
use crate::support::sshd::Sshd;
use crate::support::stand::Stand;

/// A tree with rule files of every kind, and directories that hold none.
fn scene() -> Scene {
    let scene = Scene::new();
    for (name, content) in [
        ("p/.rsync-filter", "# above\n- *.above\n- /r/anchored\n"),
        ("p/r/.rsync-filter", "- *.o\n+ keep.tmp\n- *.tmp\n- /top\n- sub/only\n"),
        ("p/r/a.o", "1"),
        ("p/r/a.c", "2"),
        ("p/r/x.above", "3"),
        ("p/r/anchored", "3"),
        ("p/r/top", "4"),
        ("p/r/keep.tmp", "5"),
        ("p/r/gone.tmp", "6"),
        ("p/r/d/top", "7"),
        ("p/r/d/.rsync-filter", "+ special.o\n- *.c\n"),
        ("p/r/d/special.o", "8"),
        ("p/r/d/other.o", "9"),
        ("p/r/d/e/deep.c", "10"),
        ("p/r/d/e/special.o", "11"),
        ("p/r/d/sub/only", "12"),
        ("p/r/w[1]*/.rsync-filter", "- *.x\n"),
        ("p/r/w[1]*/f.x", "13"),
        ("p/r/w1z/f.x", "14"),
        ("p/r/c/.cvsignore", "ignored *.ign\n"),
        ("p/r/c/ignored", "15"),
        ("p/r/c/n.ign", "16"),
        ("p/r/c/below/n.ign", "17"),
        ("p/r/c/core", "18"),
        ("p/r/c/.git/config", "19"),
        ("p/r/c/mine", "20"),
        ("p/r/.excl", "a.c\nd/e/\n"),
        ("list", "# rules\n- *.ign\nmerge more\n+ *\n"),
        ("more", "- top\n"),
    ] {
        scene.write(name, content);
    }
    fs::create_dir_all(scene.path("p/r/hollow/in/side")).unwrap();
    fs::create_dir_all(scene.path("p/r/d/hollow")).unwrap();
    date(&scene.path("."), 1_100_000_000);
    scene
}

#[test]
fn rule_files_leave_what_rsync_leaves() {
    let scene = scene();
    for options in [
        &["-aF"][..],
        &["-aFF"],
        &["-a", "-f", ": .rsync-filter"],
        &["-a", "-f", ":n .rsync-filter"],
        &["-a", "-f", ":e .rsync-filter"],
        &["-a", "-f", "dir-merge,n- .excl"],
        &["-a", "-f", ":- .excl"],
        &["-a", "-f", "+ a.o", "-f", ": .rsync-filter", "-f", "- mine"],
        &["-a", "-f", ":C"],
        &["-aC"],
        &["-aC", "--include=core"],
        &["-a", "-f", "-C"],
        &["-a", "-f", ". list"],
        &["-a", "-f", "merge,- more"],
        &["-a", "--filter=:s .rsync-filter"],
        &["-am"],
        &["-amF"],
        &["-am", "--include=*/", "--include=*.o", "--exclude=*"],
        &["-rm", "--exclude=*.x"],
    ] {
        for words in [&["p/r/", "T"][..], &["p/r", "a", "T"], &["p/r/d", "p/r/c", "T/"]] {
            // With several sources rsync reads the files above them only where it does not recurse bit by bit.
            if options[0].contains('F') && words.len() > 2 {
                continue;
            }
            let options = [options, &["-i"]].concat();
            let _ = scene.agree("nothing", &[&options[..], words].concat());
        }
    }
}

#[test]
fn what_a_rule_file_hides_or_no_file_is_in_is_deleted_or_kept_as_in_rsync() {
    let scene = scene();
    for options in [
        &["-am", "--delete"][..],
        &["-a", "-f", ": .rsync-filter", "--delete"],
        &["-aC", "--delete"],
        &["-aC", "--delete-excluded"],
    ] {
        for side in ["ours", "theirs"] {
            let _ = fs::remove_dir_all(scene.path(side));
            let all = format!("{side}/t/");
            scene.rsync(&["-a", "--mkpath", "p/r/", &all]).succeeded();
            scene.write(&format!("{side}/t/d/e/extra.o"), "x");
            scene.write(&format!("{side}/t/d/extra"), "x");
            date(&scene.path(side), 1_000_000_000);
        }
        let words = |side: &str| {
            [options, &["-i", "--no-delete-guard", "p/r/"]]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .chain([format!("{side}/t/")])
                .collect::<Vec<_>>()
        };
        let call = |words: Vec<String>, guard: bool| -> Vec<String> {
            words.into_iter().filter(|word| guard || word != "--no-delete-guard").collect()
        };
        let (ours, theirs) = (call(words("ours"), true), call(words("theirs"), false));
        let theirs = scene.rsync(&theirs.iter().map(String::as_str).collect::<Vec<_>>());
        let ours = scene.speil(&ours.iter().map(String::as_str).collect::<Vec<_>>());
        let told = format!("{options:?}\n{}{}\n{}{}", ours.stdout, ours.stderr, theirs.stdout, theirs.stderr);
        assert_eq!(ours.code(), theirs.code(), "{told}");
        assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")), "{told}");
        assert_eq!(changes(&ours), changes(&theirs), "{told}");
    }
}

#[test]
fn rule_files_are_read_where_the_source_is() {
    let scene = scene();
    let sshd = Sshd::start();
    for options in [&["-aiF"][..], &["-aiC"], &["-aiFFm"]] {
        scene.agree_afar(&sshd, options, "p/r/");
    }
}

#[test]
fn a_rule_file_that_is_not_understood_ends_the_run_before_anything_is_sent() {
    let scene = scene();
    scene.write("p/r/d/.rsync-filter", "nonsense here\n");
    let refused = scene.speil(&["-aF", "p/r/", "t/"]);
    assert!(refused.code() != 0 && refused.stderr.contains("nonsense"), "{}", refused.stderr);
    assert!(!scene.path("t/a.c").exists());
    scene.write("p/r/d/.rsync-filter", "- *.o\n!\n");
    let refused = scene.speil(&["-aF", "p/r/", "t/"]);
    assert!(refused.code() != 0 && refused.stderr.contains("takes no !"), "{}", refused.stderr);
    let refused = scene.env.run(["mirror", "-f", ": .rules", "/p/", "/t/"]);
    assert!(
        refused.code() == 1 && refused.stderr.contains("does not read rule files again"),
        "{}",
        refused.stderr
    );
}

#[test]
fn owners_are_others_on_the_target_as_in_rsync() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: owners are for root to give");
        return;
    }
    let scene = scene();
    for (name, user, group) in [("a/top", 33, 33), ("a/x/f", 1234, 0), ("a/same", 7000, 7000)] {
        std::os::unix::fs::chown(scene.path(name), Some(user), Some(group)).unwrap();
    }
    let owners = |side: &str| {
        use std::os::unix::fs::MetadataExt;
        ["top", "x/f", "same", "x"].map(|name| {
            let meta = fs::metadata(scene.path(side).join("t").join(name)).unwrap();
            (meta.uid(), meta.gid())
        })
    };
    for options in [
        &["-a", "--usermap=www-data:daemon"][..],
        &["-a", "--usermap=1000-1999:5,*:bin"],
        &["-r", "--usermap=*:daemon", "--groupmap=0:7,33:8"],
        &["-a", "--groupmap=www*:9,:10"],
        &["-a", "--numeric-ids", "--usermap=www-data:daemon,33:6"],
    ] {
        let _ = scene.agree("nothing", &[options, &["-i", "a/", "T"]].concat());
        assert_eq!(owners("ours"), owners("theirs"), "{options:?}");
    }
    let refused = scene.speil(&["-a", "--usermap=*:nobody-has-this", "a/", "t/"]);
    assert!(refused.code() != 0 && refused.stderr.contains("nobody-has-this"), "{}", refused.stderr);
}

#[test]
fn what_is_told_is_told_as_in_rsync() {
    let scene = scene();
    for options in [
        &["-a", "--info=del"][..],
        &["-a", "--info=name"],
        &["-av", "--info=name0,stats0,flist0"],
        &["-a", "--out-format=[%a] %m%h %n%L"],
        &["-a", "--out-format=%-12n|%o %q"],
        &["-a", "--exclude=dir", "-O", "--no-t", "--out-format=%5l %-12n|%o"],
        &["-a", "--info=none", "-i"],
    ] {
        for side in ["ours", "theirs"] {
            let _ = fs::remove_dir_all(scene.path(side));
            scene.write(&format!("{side}/t/extra"), "x");
        }
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let not_of_run = |line: &String| {
                !line.is_empty()
                    && !line.starts_with("sent ")
                    && !line.starts_with("total size")
                    && !line.starts_with("sending ")
            };
            lines.retain(not_of_run);
            lines.sort();
            lines
        };
        let theirs = scene.rsync(&[options, &["--delete", "c/", "theirs/t/"]].concat());
        let ours = scene.speil(&[options, &["--delete", "c/", "ours/t/"]].concat());
        assert_eq!(lines(&ours.stdout), lines(&theirs.stdout), "{options:?} {}", ours.stderr);
    }
    let log = |side: &str, format: &str| {
        let _ = fs::remove_dir_all(scene.path(side));
        let (file, format) = (format!("--log-file={side}.log"), format!("--log-file-format={format}"));
        let words = ["-a", &file, &format, "--mkpath", "c/", &format!("{side}/t/")].map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if side == "ours" { scene.speil(&words) } else { scene.rsync(&words) }.succeeded();
        let text = fs::read_to_string(scene.path(&format!("{side}.log"))).unwrap();
        let mut told: Vec<String> =
            text.lines().filter_map(|line| Some(line.split_once("] ")?.1.to_owned())).collect();
        told.retain(|line| line.starts_with("told "));
        told.sort();
        fs::remove_file(scene.path(&format!("{side}.log"))).unwrap();
        told
    };
    assert_eq!(log("ours", "told %o %n"), log("theirs", "told %o %n"));
    assert_eq!(log("ours", ""), Vec::<String>::new());
    // Hints change nothing; what is none is refused.
    scene
        .speil(&[
            "-a",
            "-B",
            "4096",
            "--checksum-choice=auto",
            "--checksum-seed=5",
            "--max-alloc=1g",
            "--zc=zstd",
            "--zl=3",
            "--skip-compress=gz/zip",
            "--zt=2",
            "--preallocate",
            "--outbuf=L",
            "--ignore-errors",
            "-4",
            "a/",
            "hints/",
        ])
        .succeeded();
    for word in ["--checksum-choice=md5", "--zc=lz4", "--zl=x", "--info=skip", "--out-format=%C"] {
        assert_eq!(scene.speil(&["-a", word, "a/", "t/"]).code(), 1, "{word}");
    }
}

#[test]
fn ssh_hears_which_addresses_and_how_long() {
    let scene = scene();
    let sshd = Sshd::start();
    let (ssh, agent) = (sshd.ssh_command(), format!("--agent={}", agent_command()));
    let target = sshd.target(&scene.path("there/"));
    scene.speil(&["-a4", "--contimeout=20", "-e", &ssh, &agent, "a/", &target]).succeeded();
    assert!(scene.path("there/top").exists());
    let refused = scene.speil(&["-a6", "-e", &ssh, &agent, "a/", &target]);
    assert_eq!(refused.code(), 255, "an address of version 4 by version 6: {}", refused.stderr);
    let refused = scene.speil(&["-a4", "-e", "rsh -x", "a/", "h:t"]);
    assert!(refused.code() == 1 && refused.stderr.contains("other than ssh"), "{}", refused.stderr);
}

#[test]
fn a_directory_gives_way_to_a_file_by_force_as_in_rsync() {
    let scene = scene();
    for options in
        [&["-a"][..], &["-a", "--force"], &["-a", "--force", "--delete"], &["-a", "--force", "--no-force"]]
    {
        for side in ["ours", "theirs"] {
            let _ = fs::remove_dir_all(scene.path(side));
            scene.write(&format!("{side}/t/file/in/the/way"), "x");
            scene.write(&format!("{side}/t/link/in"), "x");
            scene.write(&format!("{side}/t/other"), "x");
            for number in 0..9 {
                scene.write(&format!("{side}/t/dir/keeps{number}"), "x");
            }
            date(&scene.path(side), 1_000_000_000);
        }
        let theirs = scene.rsync(&[options, &["c/", "theirs/t/"]].concat());
        let ours = scene.speil(&[options, &["c/", "ours/t/"]].concat());
        assert_eq!(ours.code(), theirs.code(), "{options:?} {} {}", ours.stderr, theirs.stderr);
        assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")), "{options:?}");
    }
}

#[test]
fn names_of_one_file_and_what_is_unchanged_are_told_as_in_rsync() {
    let scene = scene();
    let fill = || {
        let _ = fs::remove_dir_all(scene.path("h"));
        for (name, content) in [("h/a", "one"), ("h/solo", "solo"), ("h/d/z", "in d"), ("h/e/f/g", "deep")] {
            scene.write(name, content);
        }
        for name in ["h/b", "h/d/c"] {
            fs::hard_link(scene.path("h/a"), scene.path(name)).unwrap();
        }
        std::os::unix::fs::symlink("a", scene.path("h/l")).unwrap();
        date(&scene.path("h"), 1_100_000_000);
        for side in ["ours", "theirs"] {
            let _ = fs::remove_dir_all(scene.path(side));
            scene.rsync(&["-aH", "--mkpath", "h/", &format!("{side}/t/")]).succeeded();
        }
    };
    let edits: [(&str, &dyn Fn()); 6] = [
        ("nothing", &|| {}),
        ("mode", &|| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(scene.path("h/b"), fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("content", &|| fs::write(scene.path("h/d/c"), "another content").unwrap()),
        ("time", &|| date(&scene.path("h/d/c"), 1_200_000_000)),
        ("name", &|| fs::hard_link(scene.path("h/a"), scene.path("h/e/new")).unwrap()),
        ("file", &|| scene.write("h/e/f/more", "more")),
    ];
    for (what, edit) in edits {
        for options in ["-aHi", "-aHii", "-aii", "-aHiin"] {
            // Without -H a file with other names on the target is made anew.
            if !options.contains('H') && !matches!(what, "nothing" | "file") {
                continue;
            }
            // Of a dry run rsync tells a change once for each name, and not what it is linked to.
            if matches!(what, "mode" | "content" | "time") && options.contains('n') {
                continue;
            }
            fill();
            edit();
            for dir in ["h", "h/d", "h/e", "h/e/f"] {
                let touched = std::process::Command::new("touch")
                    .args(["-d", "@1100000000"])
                    .arg(scene.path(dir))
                    .status();
                assert!(touched.unwrap().success());
            }
            let lines = |outcome: &crate::support::command::Outcome| {
                let mut lines: Vec<String> = outcome.stdout.lines().map(str::to_owned).collect();
                lines.sort_by(|a, b| a.get(12..).cmp(&b.get(12..)));
                lines
            };
            let theirs = scene.rsync(&[options, "h/", "theirs/t/"]);
            let ours = scene.speil(&[options, "h/", "ours/t/"]);
            assert_eq!(lines(&ours), lines(&theirs), "{what} {options} {}", ours.stderr);
            assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")), "{what} {options}");
        }
    }
}

#[test]
fn a_live_mirror_leaves_what_is_too_large_or_too_small() {
    let stand = Stand::new();
    let put = |name: &str, len: usize| fs::write(stand.source().join(name), vec![b'x'; len]).unwrap();
    let len = |name: &str| fs::metadata(stand.target("standby").join(name)).map(|meta| meta.len()).ok();
    for (name, size) in [("fits", 50), ("large", 200), ("small", 2), ("grows", 60), ("goes", 70)] {
        put(name, size);
    }
    let mirror = stand.run(&["standby"], "maxSize = 100, minSize = \"10\"", "");
    stand.wait();
    assert_eq!(["fits", "large", "small", "grows"].map(len), [Some(50), None, None, Some(60)]);
    put("new", 40);
    put("new and large", 400);
    // Its older version stays, until it fits again.
    put("grows", 300);
    fs::rename(stand.source().join("large"), stand.source().join("renamed")).unwrap();
    fs::rename(stand.source().join("fits"), stand.source().join("fitted")).unwrap();
    fs::remove_file(stand.source().join("goes")).unwrap();
    put("small", 20);
    stand.wait();
    let names = ["new", "new and large", "grows", "renamed", "fits", "fitted", "goes", "small"];
    assert_eq!(names.map(len), [Some(40), None, Some(60), None, None, Some(50), None, Some(20)]);
    stand.environment.run(["reconcile", &format!("--control={}", stand.control().display())]).succeeded();
    put("grows", 80);
    stand.wait();
    assert_eq!(names.map(len), [Some(40), None, Some(80), None, None, Some(50), None, Some(20)]);
    mirror.terminate();
}
