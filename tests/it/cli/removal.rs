//! What `speil sync` removes, and what it must leave: rsync on a copy of the same trees is the judge.

use super::*;
use crate::support::faults::{Mount, is_root};

impl Trees {
    /// Runs speil and rsync with the same options on copies of the same target: trees and exit codes must be
    /// equal afterwards. Returns what each printed, line by line and sorted.
    #[track_caller]
    pub(super) fn judged(&self, options: &[&str]) -> (Vec<String>, Vec<String>) {
        let _ = fs::remove_dir_all(self.beside());
        copy_tree(&self.target(), &self.beside()).unwrap();
        let (rsync, speil) = (self.rsync(options, &self.beside()), self.sync(options));
        assert_eq!(speil.code(), rsync.code(), "{options:?}: {speil:?} {rsync:?}");
        self.assert_alike(options, &speil, &rsync);
        (sorted(&speil), sorted(&rsync))
    }

    #[track_caller]
    pub(super) fn assert_alike(&self, options: &[&str], speil: &Outcome, rsync: &Outcome) {
        let contents = Comparison { times: false, ..Comparison::default() };
        let differences = contents.compare(&self.target(), &self.beside());
        let shown: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert!(differences.is_empty(), "{options:?}: {}\n{speil:?}\n{rsync:?}", shown.join("\n"));
    }
}

#[test]
fn of_more_deletes_than_allowed_the_same_are_carried_out_as_in_rsync() {
    for (limit, code) in
        [("-1", 25), ("-7", 25), ("0", 25), ("1", 25), ("3", 25), ("7", 25), ("11", 25), ("12", 0)]
    {
        let trees = Trees::new();
        write(&trees.source().join("kept/new"), "new", OLD);
        for name in ["a", "b", "d/x", "d/y", "d/e/z", "kept/x", "kept/y/f", "kept.d/g"] {
            write(&trees.target().join(name), "the source lacks it", OLD);
        }
        copy_tree(&trees.target(), &trees.beside()).unwrap();
        let options = ["-r", "--delete", &format!("--max-delete={limit}")];
        let (rsync, speil) = (trees.rsync(&options, &trees.beside()), trees.sync(&options));
        assert_eq!((speil.code(), rsync.code()), (code, code), "{limit}: {speil:?} {rsync:?}");
        trees.assert_alike(&options, &speil, &rsync);
        assert_eq!(speil.stderr.contains("--max-delete"), code == 25, "{speil:?}");
    }
}

#[test]
fn a_directory_that_a_limit_leaves_full_is_not_replaced() {
    let trees = Trees::new();
    write(&trees.source().join("d"), "a file", OLD);
    write(&trees.target().join("d/x"), "in the way", OLD);
    copy_tree(&trees.target(), &trees.beside()).unwrap();
    let options = ["-a", "--delete", "--max-delete=0"];
    assert_eq!(trees.rsync(&options, &trees.beside()).code(), 23);
    let speil = trees.sync(&options);
    assert_eq!(speil.code(), 23, "{speil:?}");
    assert!(speil.stderr.contains("replace \"d\": directory not empty"), "{speil:?}");
    assert!(trees.target().join("d/x").exists());
}

#[test]
fn a_directory_that_holds_what_stays_is_no_delete() {
    let trees = Trees::new();
    write(&trees.source().join("kept"), "kept", OLD);
    for name in ["d/e/x.keep", "d/y", "g/z", "h/only.keep"] {
        write(&trees.target().join(name), "the source lacks it", OLD);
    }
    let options = ["-r", "--exclude=*.keep", "--delete", "-i"];
    let (mut speil, mut rsync) = trees.judged(&options);
    // rsync says of some twice that they are not empty.
    speil.dedup();
    rsync.dedup();
    assert_eq!(speil, rsync);
    assert!(trees.target().join("h/only.keep").exists() && !trees.target().join("g").exists());
    // Nothing is left to delete, whatever is allowed.
    let again = trees.sync(&["-r", "--exclude=*.keep", "--delete", "--max-delete=0"]);
    assert_eq!(again.code(), 0, "{again:?}");
    assert!(again.stdout.contains("cannot delete non-empty directory: d/e\n"), "{again:?}");
}

#[test]
fn what_this_sync_does_not_keep_holds_no_directory_and_what_is_perishable_goes_with_one() {
    let trees = Trees::new();
    for tree in [trees.source(), trees.target()] {
        write(&tree.join("kept"), "kept", OLD);
        symlink("x", tree.join("link of both")).unwrap();
    }
    symlink("x", trees.source().join("another type")).unwrap();
    write(&trees.target().join("another type"), "a file", OLD);
    write(&trees.target().join("d/x.o"), "perishable", OLD);
    write(&trees.target().join("top.o"), "protected", OLD);
    symlink("x", trees.target().join("d/link")).unwrap();
    symlink("x", trees.target().join("link")).unwrap();
    mknodat(CWD, trees.target().join("d/fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let (speil, rsync) = trees.judged(&["-r", "--filter=-p *.o", "--delete", "-i"]);
    assert_eq!(speil, rsync);
    assert!(trees.target().join("top.o").exists() && !trees.target().join("d").exists());
    let again = trees.sync(&["-r", "--filter=-p *.o", "--delete", "--max-delete=0"]);
    assert_eq!((again.code(), again.stdout.as_str()), (0, ""), "{again:?}");
}

#[test]
fn what_both_have_is_removed_from_the_target_where_the_rules_hide_it() {
    for options in [
        &["--exclude=*.tmp", "--exclude=/x", "--delete-excluded"][..],
        &["--filter=H *.tmp", "--filter=H /x", "--filter=P p", "--delete"],
        &["--exclude=x/", "--delete-excluded"],
        &["--exclude=/x", "--filter=P /x/q", "--delete-excluded"],
    ] {
        let trees = Trees::new();
        for tree in [trees.source(), trees.target()] {
            for name in ["a.tmp", "x/1", "x/p", "x/q/2", "kept"] {
                write(&tree.join(name), "on both sides", OLD);
            }
        }
        if options[0].ends_with(".tmp") {
            fs::hard_link(trees.target().join("a.tmp"), trees.target().join("linked.tmp")).unwrap();
        }
        for tree in [trees.source(), trees.target()] {
            ["x/q", "x", "."].iter().for_each(|dir| settle(&tree.join(dir), OLD));
        }
        let (speil, rsync) = trees.judged(&[&["-aH", "-i"], options].concat());
        assert_eq!(speil, rsync, "{options:?}");
        let again = trees.sync(&[&["-aH", "--max-delete=0"], options].concat());
        assert_eq!(again.code(), 0, "{again:?}");
    }
}

#[test]
fn one_file_system_leaves_what_is_mounted_on_either_side_alone() {
    if !is_root() {
        return;
    }
    let options = ["-rpx", "--delete", "-i"];
    // A mount in the source: the target has nothing there, something of its own, or a file.
    let plants: [&dyn Fn(&Path); 3] =
        [&|_| {}, &|target| write(&target.join("m/own"), "the target's own", OLD), &|target| {
            write(&target.join("m"), "a file", OLD)
        }];
    for plant in plants {
        let trees = Trees::new();
        let mount = Mount::tmpfs(&trees.source().join("m"), "1m");
        write(&trees.source().join("m/sub/in"), "beyond", OLD);
        write(&trees.source().join("f"), "here", OLD);
        plant(&trees.target());
        for _ in 0..3 {
            let (speil, rsync) = trees.judged(&options);
            assert_eq!(speil, rsync);
        }
        assert!(!trees.target().join("m/sub").exists());
        drop(mount);
    }
    // A mount on the target: the source has the directory, or lacks it, or lacks what holds it.
    for (at, ours) in [("m", Some("m/in")), ("m", None), ("d/m", None)] {
        let trees = Trees::new();
        write(&trees.source().join("f"), "here", OLD);
        ours.iter().for_each(|name| write(&trees.source().join(name), "sent into the mount", OLD));
        write(&trees.target().join("d/y"), "the source lacks it", OLD);
        copy_tree(&trees.target(), &trees.beside()).unwrap();
        let mounts = [trees.target(), trees.beside()].map(|target| {
            let mount = Mount::tmpfs(&target.join(at), "1m");
            write(&target.join(at).join("sub/own"), "the target's own", OLD);
            fs::set_permissions(target.join(at), fs::Permissions::from_mode(0o755)).unwrap();
            mount
        });
        for _ in 0..2 {
            let (rsync, speil) = (trees.rsync(&options, &trees.beside()), trees.sync(&options));
            assert_eq!((speil.code(), rsync.code()), (0, 0), "{speil:?} {rsync:?}");
            trees.assert_alike(&options, &speil, &rsync);
            assert_eq!(sorted(&speil), sorted(&rsync), "{at} {ours:?}");
        }
        assert!(trees.target().join(at).join("sub/own").exists());
        drop(mounts);
    }
}
