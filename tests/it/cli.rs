//! `speil sync` as a cron job sees it: options, results beside rsync's, exit codes.
//!
//! **Purpose:** the real program against real trees, and rsync on a copy of the same trees as the oracle.
//! **Not here:** the text of each option's help and the parsing of values, which `cli` tests itself.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, Timespec, mknodat};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::command::{Background, Environment, Outcome};
use crate::support::tree::{Comparison, Upload, assert_same, copy_tree, set_times};

mod lists;
mod removal;

/// A time long past, so that no rule about fresh stamps applies.
const OLD: i64 = 1_600_000_000;

/// A source, speil's target, and rsync's: a copy that rsync brings up to date.
struct Trees {
    env: Environment,
    dir: TempDir,
}

impl Trees {
    fn new() -> Self {
        let trees = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir(trees.source()).unwrap();
        fs::create_dir(trees.target()).unwrap();
        trees
    }

    /// Every kind of difference that an option can be about.
    fn with_differences() -> Self {
        let trees = Self::new();
        let (source, target) = (trees.source(), trees.target());
        for (name, text, at) in [
            ("same", "same", 0),
            ("newer", "newer on the source", 100),
            ("older", "older on the source", -100),
            ("touched", "same size and text", 50),
            ("resized", "another size", 0),
            ("rewritten", "same stat, A", 0),
            ("new.txt", "new", 0),
            ("new.tmp", "new", 0),
            ("sub/new.tmp", "new", 0),
            ("sub/deeper/new.txt", "new", 0),
        ] {
            write(&source.join(name), text, OLD + at);
        }
        for (name, text) in [
            ("same", "same"),
            ("newer", "older on the target"),
            ("older", "newer on the target, and longer"),
            ("touched", "same size and text"),
            ("resized", "some size"),
            ("rewritten", "same stat, B"),
            ("extra", "the source lacks it"),
            ("extra.tmp", "the source lacks it"),
            ("gone/file", "the source lacks it"),
        ] {
            write(&target.join(name), text, OLD);
        }
        symlink("same", source.join("link")).unwrap();
        settle(&source.join("link"), OLD);
        fs::set_permissions(source.join("newer"), fs::Permissions::from_mode(0o600)).unwrap();
        for dir in ["sub/deeper", "sub", "."] {
            settle(&source.join(dir), OLD + 7);
        }
        for dir in ["gone", "."] {
            settle(&target.join(dir), OLD);
        }
        trees
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn beside(&self) -> PathBuf {
        self.dir.path().join("rsync")
    }

    /// Runs `speil sync OPTIONS source/ target/`.
    fn sync(&self, options: &[&str]) -> Outcome {
        self.env.run(arguments(options, &self.source(), &self.target()))
    }

    /// Runs speil and rsync with the same options on copies of the same target: the trees must be
    /// equal afterwards. Returns what each printed, line by line and sorted.
    #[track_caller]
    fn against_rsync(&self, options: &[&str]) -> (Vec<String>, Vec<String>) {
        copy_tree(&self.target(), &self.beside()).unwrap();
        let rsync = self.rsync(options, &self.beside());
        assert_eq!(rsync.code(), 0, "rsync {options:?}: {rsync:?}");
        let speil = self.sync(options);
        assert_eq!(speil.code(), 0, "speil {options:?}: {speil:?}");
        // Where times are not kept, they are those of two runs.
        let times = options.iter().any(|option| option.starts_with("-a"));
        let comparison = Comparison { times, ..Comparison::default() };
        let differences = comparison.compare(&self.target(), &self.beside());
        let shown: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert!(differences.is_empty(), "{options:?}, speil / rsync:\n{}", shown.join("\n"));
        (sorted(&speil), sorted(&rsync))
    }

    fn rsync(&self, options: &[&str], target: &Path) -> Outcome {
        let mut command = self.env.command("rsync");
        let mut source = self.source().into_os_string();
        source.push("/");
        command.args(options).arg(source).arg(target);
        Background::spawn(command).wait()
    }
}

fn arguments(options: &[&str], source: &Path, target: &Path) -> Vec<String> {
    let mut arguments = vec!["sync".to_owned()];
    arguments.extend(options.iter().map(|&option| option.to_owned()));
    arguments.push(format!("{}/", source.display()));
    arguments.push(format!("{}/", target.display()));
    arguments
}

fn sorted(outcome: &Outcome) -> Vec<String> {
    // rsync tells what an option leaves out; speil does not.
    let told = outcome.stdout.lines().filter(|line| !line.starts_with("skipping non-regular file"));
    let mut lines: Vec<String> = told.map(str::to_owned).collect();
    lines.sort();
    lines
}

fn write(path: &Path, text: &str, at: i64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    settle(path, at);
}

fn settle(path: &Path, at: i64) {
    set_times(path, Timespec { tv_sec: at, tv_nsec: 0 }).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn unknown_and_refused_options_are_named() {
    let trees = Trees::new();
    for (option, said) in [("--inplace", "--inplace"), ("--no-such-option", "--no-such-option")] {
        let outcome = trees.sync(&["-a", option]);
        assert_eq!(outcome.code(), 1, "{outcome:?}");
        assert!(outcome.stderr.contains(said), "{outcome:?}");
    }
}

#[test]
fn filter_rule_that_does_not_parse_is_named_before_anything_is_done() {
    let trees = Trees::new();
    write(&trees.source().join("file"), "x", OLD);
    let outcome = trees.sync(&["-a", "--filter=nonsense"]);
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains("nonsense"), "{outcome:?}");
    assert!(names(&trees.target()).is_empty());
}

#[test]
fn missing_source_is_a_partial_transfer_as_in_rsync() {
    let trees = Trees::new();
    fs::remove_dir(trees.source()).unwrap();
    let outcome = trees.sync(&["-a", "--delete"]);
    assert_eq!(outcome.code(), 23, "{outcome:?}");
    assert!(outcome.stderr.contains("SOURCE") && outcome.stderr.contains("no such file"), "{outcome:?}");
}

#[test]
fn nested_and_equal_trees_are_refused() {
    let trees = Trees::new();
    write(&trees.source().join("sub/file"), "x", OLD);
    let source = trees.source();
    let above = trees.dir.path().to_path_buf();
    for target in [source.clone(), source.join("sub"), above] {
        let outcome = trees.env.run(arguments(&["-a", "--delete"], &source, &target));
        assert_eq!(outcome.code(), 3, "{target:?}: {outcome:?}");
        assert!(outcome.stderr.contains("within the other"), "{target:?}: {outcome:?}");
    }
    assert_eq!(names(&source), ["sub"]);
    assert_eq!(names(&source.join("sub")), ["file"]);
}

#[test]
fn synced_tree_is_what_rsync_would_leave_and_a_second_run_has_nothing_to_do() {
    let trees = Trees::with_differences();
    let source = trees.source();
    Upload::of(120, 7).grow(&source.join("uploads")).unwrap();
    fs::hard_link(source.join("same"), source.join("sub/same too")).unwrap();
    symlink("nowhere", source.join("sub/dangling")).unwrap();
    mknodat(CWD, source.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    fs::set_permissions(source.join("sub"), fs::Permissions::from_mode(0o2750)).unwrap();
    let options = ["-aHAX", "--delete"];
    let outcome = trees.sync(&options);
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, ""), "{outcome:?}");
    // Equal stat and other bytes: rsync's quick check and speil's pass it over alike.
    fs::copy(source.join("rewritten"), trees.target().join("rewritten")).unwrap();
    settle(&trees.target().join("rewritten"), OLD);
    assert_same(&source, &trees.target());
    let judged = trees.rsync(&["-aHAXn", "--delete", "--checksum", "-i"], &trees.target());
    assert_eq!((judged.code(), judged.stdout.as_str()), (0, ""), "{judged:?}");
    let again = trees.sync(&["-aHAX", "--delete", "-i"]);
    assert_eq!((again.code(), again.stdout.as_str(), again.stderr.as_str()), (0, "", ""));
    assert!(!trees.target().join(".speil").exists(), "one pass leaves nothing behind");
}

#[test]
fn dry_run_changes_nothing_and_prints_what_rsync_would() {
    let trees = Trees::with_differences();
    let before = trees.dir.path().join("before");
    copy_tree(&trees.target(), &before).unwrap();
    let options = ["-an", "--delete", "-i"];
    let (speil, rsync) = trees.against_rsync(&options);
    assert_same(&before, &trees.target());
    assert_eq!(speil, rsync);
    assert!(speil.iter().any(|line| line.starts_with("*deleting")), "{speil:?}");
}

/// What is read of the entries of a directory while this lives.
struct Reads(std::os::fd::OwnedFd);

impl Reads {
    fn of(dir: &Path) -> Self {
        use rustix::fs::inotify;
        let queue = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&queue, dir, inotify::WatchFlags::ACCESS).unwrap();
        Self(queue)
    }

    fn names(self) -> Vec<String> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = rustix::fs::inotify::Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        while let Ok(event) = events.next() {
            let of_dir = event.events().contains(rustix::fs::inotify::ReadFlags::ISDIR);
            names.extend(
                event.file_name().filter(|_| !of_dir).map(|name| name.to_string_lossy().into_owned()),
            );
        }
        names
    }
}

#[test]
fn a_dry_run_reads_no_file_and_tells_the_figures_of_rsync() {
    let trees = Trees::with_differences();
    fs::write(trees.source().join("large"), vec![b'x'; 3 << 20]).unwrap();
    // What a pass would take for the same file under another name.
    write(&trees.source().join("renamed"), "the source lacks it", OLD);
    let figures = |outcome: &Outcome| -> Vec<String> {
        let lines = outcome.stdout.lines().filter(|line| line.contains("file") && !line.contains("list"));
        lines.map(str::to_owned).collect()
    };
    let options = ["-aHn", "--delete", "--stats"];
    let reads = Reads::of(&trees.source());
    let speil = trees.sync(&options);
    assert_eq!(reads.names(), Vec::<String>::new(), "{speil:?}");
    assert_eq!(figures(&speil), figures(&trees.rsync(&options, &trees.target())));
    let reads = Reads::of(&trees.source());
    assert_eq!(trees.sync(&["-aH"]).code(), 0);
    assert!(reads.names().contains(&"large".to_owned()), "the watch sees what is read");
}

#[test]
fn the_log_file_has_each_change_and_local_times_as_rsyncs() {
    let trees = Trees::with_differences();
    let before = trees.dir.path().join("before");
    copy_tree(&trees.target(), &before).unwrap();
    for options in [&["-a", "--delete"][..], &["-av", "--delete"]] {
        let logged = |program: &str, target: &Path| -> Vec<String> {
            fs::remove_dir_all(target).unwrap_or_default();
            copy_tree(&before, target).unwrap();
            let log = trees.dir.path().join(format!("log of {program}"));
            let _ = fs::remove_file(&log);
            let mut command =
                if program == "rsync" { trees.env.command(program) } else { trees.env.speil(["sync"]) };
            command.env("TZ", "XXX-11:30").args(options).arg(format!("--log-file={}", log.display()));
            command.arg(format!("{}/", trees.source().display())).arg(target);
            let outcome = Background::spawn(command).wait();
            assert_eq!(outcome.code(), 0, "{outcome:?}");
            fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect()
        };
        let changes = |log: &[String]| {
            let texts = log.iter().filter_map(|line| line.split_once("] ").map(|(_, text)| text.to_owned()));
            let mut texts: Vec<String> = texts.filter(|text| text.get(11..12) == Some(" ")).collect();
            texts.sort();
            texts
        };
        let hour = |log: &[String]| log[0].split_once(':').unwrap().0.to_owned();
        let (first, speil) = (logged("rsync", &trees.beside()), logged("speil", &trees.target()));
        let last = logged("rsync", &trees.beside());
        assert_eq!(changes(&speil), changes(&first), "{options:?}");
        assert!([hour(&first), hour(&last)].contains(&hour(&speil)), "{first:?} {speil:?}");
        assert!(speil.iter().any(|line| line.contains("] sent ")), "{speil:?}");
    }
}

#[test]
fn a_dry_run_onto_what_does_not_exist_yet_says_what_would_come() {
    let trees = Trees::with_differences();
    std::fs::remove_dir_all(trees.target()).unwrap();
    let said = trees.sync(&["-an", "--delete", "-i"]);
    assert_eq!(said.code(), 0, "{said:?}");
    let names = |text: &str| -> Vec<String> {
        let files = text.lines().filter(|line| line.starts_with(">f+++++++++ "));
        files.map(|line| line[12..].to_owned()).collect()
    };
    let judged = trees.rsync(&["-an", "--delete", "-i"], &trees.target());
    let (mut ours, mut theirs) = (names(&said.stdout), names(&judged.stdout));
    ours.sort();
    theirs.sort();
    assert!(!ours.is_empty());
    assert_eq!(ours, theirs, "{said:?}");
    assert!(!trees.target().exists());
}

#[test]
fn options_choose_the_same_entries_as_in_rsync() {
    let cases = [
        &["-a"][..],
        &["-a", "--delete"],
        &["-a", "--existing"],
        &["-a", "--ignore-existing"],
        &["-a", "--existing", "--ignore-existing", "--delete"],
        &["-a", "-u"],
        &["-a", "--size-only"],
        &["-a", "-c"],
        &["-a", "-c", "--delete"],
        &["-a", "-I"],
        &["-rl"],
        &["-rlt", "-O"],
        &["-a", "--no-links"],
        &["-a", "--modify-window=60"],
        &["-a", "--chmod=D2755,F640"],
        &["-a", "--chmod=go-rwx"],
        &["-a", "--exclude=*.tmp", "--delete"],
        &["-a", "--exclude=*.tmp", "--delete", "--delete-excluded"],
        &["-a", "--include=sub/", "--include=*.tmp", "--exclude=*", "--delete"],
        &["-a", "--filter=P extra", "--filter=- /sub/deeper", "--delete"],
        &["-a", "--filter=H new.*", "--delete"],
    ];
    for options in cases {
        let trees = Trees::with_differences();
        let itemized = [options, &["-i"]].concat();
        let (speil, rsync) = trees.against_rsync(&itemized);
        assert_eq!(speil, rsync, "{options:?}");
    }
}

#[test]
fn emptied_source_deletes_nothing_and_the_option_that_allows_it_is_named() {
    let trees = Trees::new();
    Upload::of(150, 3).grow(&trees.target()).unwrap();
    let before = trees.dir.path().join("before");
    copy_tree(&trees.target(), &before).unwrap();
    let outcome = trees.sync(&["-aO", "--delete"]);
    assert_eq!(outcome.code(), 25, "{outcome:?}");
    assert!(outcome.stderr.contains("--no-delete-guard"), "{outcome:?}");
    let kept = Comparison { root: false, ..Comparison::default() };
    assert_eq!(kept.compare(&before, &trees.target()).len(), 0);
    let allowed = trees.sync(&["-a", "--delete", "--no-delete-guard"]);
    assert_eq!(allowed.code(), 0, "{allowed:?}");
    assert!(names(&trees.target()).is_empty());
}

#[test]
fn patterns_may_hold_bytes_that_are_no_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let trees = Trees::new();
    fs::write(trees.source().join(OsStr::from_bytes(b"caf\xe9.jpg")), "x").unwrap();
    fs::write(trees.source().join("plain.jpg"), "x").unwrap();
    let paths = arguments(&[], &trees.source(), &trees.target());
    let mut all =
        vec![OsStr::new("sync").to_owned(), "-a".into(), OsStr::from_bytes(b"--exclude=caf\xe9*").into()];
    all.extend(paths.iter().skip(1).map(Into::into));
    let outcome = trees.env.run(all);
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(names(&trees.target()), ["plain.jpg"]);
}

#[test]
fn stats_count_entries_by_type_as_rsync_does() {
    let trees = Trees::with_differences();
    copy_tree(&trees.target(), &trees.beside()).unwrap();
    let figures = |outcome: &Outcome| -> Vec<String> {
        let wanted = [
            "Number of files",
            "Number of created",
            "Number of deleted",
            "Number of regular",
            "Total file size",
        ];
        outcome
            .stdout
            .lines()
            .filter(|line| wanted.iter().any(|w| line.starts_with(w)))
            .map(str::to_owned)
            .collect()
    };
    let rsync = figures(&trees.rsync(&["-a", "--delete", "--stats"], &trees.beside()));
    let speil = figures(&trees.sync(&["-a", "--delete", "--stats"]));
    assert_eq!(rsync.len(), 5, "{rsync:?}");
    assert_eq!(speil, rsync);
}

#[test]
fn progress_shows_nothing_on_a_pipe_unless_asked() {
    let trees = Trees::with_differences();
    let silent = trees.sync(&["-a"]);
    assert_eq!((silent.stdout.as_str(), silent.stderr.as_str()), ("", ""));
    let trees = Trees::with_differences();
    let asked = trees.sync(&["-a", "--info=progress2"]);
    assert_eq!(asked.code(), 0, "{asked:?}");
    let last = asked.stdout.rsplit('\r').next().unwrap_or_default();
    assert!(last.contains("100%") && last.contains("to-chk=0/"), "{asked:?}");
    let sent: u32 =
        last.split("xfr#").nth(1).and_then(|rest| rest.split(',').next()).unwrap().parse().unwrap();
    assert_eq!(sent, 8, "{asked:?}");
}

#[test]
fn a_second_run_on_a_pair_says_who_is_at_work_and_that_it_did_nothing() {
    let trees = Trees::new();
    fs::write(trees.source().join("large"), vec![b'x'; 8 << 20]).unwrap();
    let slow = arguments(&["-avv", "--bwlimit=1", "--no-compress"], &trees.source(), &trees.target());
    let first = trees.env.spawn(slow);
    first.wait_for_line("connected");
    fs::write(trees.source().join("late"), "after the first run had begun").unwrap();
    for options in [&["-a"][..], &["-a", "--wait-lock=3600", "--lock-max-age=0"], &["-a", "--wait-lock=0"]] {
        let second = trees.sync(options);
        assert_eq!(second.code(), 30, "{options:?}: {second:?}");
        assert!(second.stderr.contains(&format!("process {}", first.pid())), "{second:?}");
        assert!(!trees.target().join("late").exists());
    }
    first.signal(Signal::INT);
    let first = first.wait();
    assert_eq!(first.code(), 20, "{first:?}");
}

#[test]
fn unreachable_host_ends_with_the_code_of_the_remote_shell() {
    let trees = Trees::new();
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let ssh = format!("ssh -F none -o BatchMode=yes -p {port}");
    let source = format!("{}/", trees.source().display());
    let outcome = trees.env.run(["sync", "-a", "-e", &ssh, &source, "127.0.0.1:/nowhere"]);
    assert_eq!(outcome.code(), 255, "{outcome:?}");
    assert!(outcome.stderr.to_lowercase().contains("connection refused"), "{outcome:?}");
}

#[test]
fn synced_directory_keeps_the_inode_of_what_did_not_change() {
    let trees = Trees::with_differences();
    let before = fs::metadata(trees.target().join("same")).unwrap().ino();
    assert_eq!(trees.sync(&["-a", "--delete"]).code(), 0);
    assert_eq!(fs::metadata(trees.target().join("same")).unwrap().ino(), before);
}
