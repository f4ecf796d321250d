//! What `--files-from` and `--existing` send: rsync on a copy of the same trees is the judge.

use super::*;

impl Trees {
    /// Runs both with a list, and holds trees, codes, and whether the root has taken the source's time against
    /// each other.
    #[track_caller]
    fn judged_list(&self, list: &str, options: &[&str]) -> (Vec<String>, Vec<String>) {
        let file = self.dir.path().join("list");
        fs::write(&file, list).unwrap();
        let from = format!("--files-from={}", file.display());
        let told = self.judged(&[&["-a", &from], options].concat());
        let dated = |root: &Path| root.metadata().unwrap().mtime() == OLD + 7;
        assert_eq!(dated(&self.target()), dated(&self.beside()), "root's time: {list:?} {options:?}");
        told
    }
}

#[test]
fn lines_of_files_from_mean_what_they_mean_to_rsync() {
    for list in [
        "d/f\n",
        "./d/f\n",
        "/d/f\n",
        "d\n",
        "d/\n",
        "d/.\n",
        "d/sub/\n",
        ".\n",
        "./\n",
        "..\n",
        "d/..\n",
        "d/../top\n",
        "../top\n",
        "../other/top\n",
        "missing\ntop\n",
        "d/sub/g\nd/\n",
        "d/\nd\ntop\n",
        "d\nd/sub\n./top\n",
        "",
    ] {
        for options in [&[][..], &["-r"], &["-r", "--delete"]] {
            let trees = Trees::new();
            for name in ["d/f", "d/sub/g", "d/sub/deep/h", "e/h", "top"] {
                write(&trees.source().join(name), "on the source", OLD);
            }
            write(&trees.target().join("d/old"), "the source lacks it", OLD);
            settle(&trees.source(), OLD + 7);
            settle(&trees.target(), OLD);
            for _ in 0..2 {
                let _ = trees.judged_list(list, options);
            }
        }
    }
}

#[test]
fn what_a_list_cannot_mean_here_is_refused() {
    let trees = Trees::new();
    let list = trees.dir.path().join("list");
    write(&trees.source().join("d/f"), "x", OLD);
    let from = format!("--files-from={}", list.display());
    for (line, options, says) in
        [("d/./f\n", &["-a"][..], "/./"), ("d/f\n", &["-a", "--no-R"], "--no-relative")]
    {
        fs::write(&list, line).unwrap();
        let outcome = trees.sync(&[options, &[&from]].concat());
        assert!(outcome.code() == 1 && outcome.stderr.contains(says), "{outcome:?}");
        assert!(names(&trees.target()).is_empty());
    }
}

#[test]
fn existing_makes_nothing_below_a_directory_that_takes_the_place_of_something_else() {
    for options in [&["-a", "--existing"][..], &["-a", "--existing", "--delete"]] {
        for theirs in ["file", "link", "fifo", "dir", "nothing"] {
            let trees = Trees::new();
            write(&trees.source().join("x/in"), "new", OLD);
            write(&trees.source().join("x/sub/in"), "new", OLD);
            let there = trees.target().join("x");
            match theirs {
                "file" => fs::write(&there, "theirs").unwrap(),
                "link" => symlink("elsewhere", &there).unwrap(),
                "fifo" => mknodat(CWD, &there, FileType::Fifo, Mode::from(0o600), 0).unwrap(),
                "dir" => fs::create_dir(&there).unwrap(),
                _ => {}
            }
            for _ in 0..2 {
                let _ = trees.judged(options);
                assert!(!there.join("in").exists(), "{theirs}");
            }
        }
    }
}

#[test]
fn files_from_sends_the_listed_paths_alone() {
    let trees = Trees::with_differences();
    let _ = trees.judged_list("newer\nsub/deeper/new.txt\n# no path\n", &[]);
    assert!(trees.target().join("sub/deeper/new.txt").exists() && !trees.target().join("new.txt").exists());
}

#[test]
fn listed_path_that_is_missing_is_told_and_the_others_are_sent() {
    let trees = Trees::with_differences();
    let list = trees.dir.path().join("list");
    fs::write(&list, "missing\nnew.txt\n").unwrap();
    let outcome = trees.sync(&["-a", &format!("--files-from={}", list.display())]);
    assert_eq!(outcome.code(), 23, "{outcome:?}");
    assert!(outcome.stderr.contains("missing"), "{outcome:?}");
    assert!(trees.target().join("new.txt").exists());
}

#[test]
fn directories_that_files_from_names_are_sent_whole_and_emptied_of_what_the_source_lacks() {
    let plant = |trees: &Trees| {
        for name in ["d/f", "d/e/g", "d/x.key", "p/q/h", "p/extra", "top", "top.key"] {
            write(&trees.source().join(name), "on the source", OLD);
        }
        for name in ["d/old", "d/e/old", "p/old", "p/q/old", "old", "other/o"] {
            write(&trees.target().join(name), "the source lacks it", OLD);
        }
    };
    let key = "--exclude=*.key";
    let cases: [(&str, &[&str]); 14] = [
        ("d\n", &["-r", "--delete"]),
        ("d/\n", &["-r"]),
        ("d\n", &[]),
        ("d\n", &["-r", key, "--delete"]),
        ("d/x.key\ntop.key\ntop\n", &[key]),
        ("d/f\n", &["--exclude=d/"]),
        ("p/q/h\n", &["-r", "--delete"]),
        ("p/q\n", &["-r", "--delete"]),
        (".\n", &["-r", "--delete"]),
        ("missing\ntop\nd\n", &["-r", "--delete"]),
        ("d\nd/e\nd/f\n", &["-r", "--delete"]),
        ("d/e\n", &["-r", "--delete", "--exclude=g"]),
        ("p/q/h\np\n", &["-r", "--delete"]),
        ("d\n", &["-r", "--delete", "-n"]),
    ];
    for (list, options) in cases {
        let trees = Trees::new();
        plant(&trees);
        let (speil, rsync) = trees.judged_list(list, &[&["-i"], options].concat());
        // rsync tells of a directory on the way whose time it sets, in one case and not in another.
        let changes = |lines: Vec<String>| -> Vec<String> {
            lines.into_iter().filter(|line| !line.starts_with(".d..t")).collect()
        };
        assert_eq!(changes(speil), changes(rsync), "{list:?} {options:?}");
    }
}
