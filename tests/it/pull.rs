//! Pulling: `speil sync HOST:SOURCE/ TARGET` does what `rsync` does with the same words, over a real sshd.

mod forced;
mod hostile;
mod live;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::command::{Background, Environment, Outcome, SPEIL, agent_command, eventually};
use crate::support::proxy::{Link, Proxy};
use crate::support::rng::Rng;
use crate::support::sshd::Sshd;
use crate::support::tree::{Upload, assert_same, copy_tree};

const MIB: u64 = 1 << 20;

/// A host with a source behind an sshd, and a directory on this one.
pub struct Scene {
    env: Environment,
    sshd: Sshd,
    dir: tempfile::TempDir,
    /// What `-e` says.
    ssh: String,
}

impl Scene {
    fn new() -> Self {
        let sshd = Sshd::start();
        let ssh = sshd.ssh_command();
        let scene = Self { env: Environment::new(), sshd, dir: tempfile::tempdir().unwrap(), ssh };
        fs::create_dir(scene.path("s")).unwrap();
        scene
    }

    /// With a few files of every sort.
    fn with_files() -> Self {
        let scene = Self::new();
        for dir in ["s/d/e", "s/empty", "s/x"] {
            fs::create_dir_all(scene.path(dir)).unwrap();
        }
        for (name, content) in
            [("s/a", "one"), ("s/d/b", "two"), ("s/d/e/c.tmp", "three"), ("s/x/\u{1b}y", "4")]
        {
            fs::write(scene.path(name), content).unwrap();
        }
        symlink("a", scene.path("s/link")).unwrap();
        fs::hard_link(scene.path("s/a"), scene.path("s/x/a")).unwrap();
        fs::set_permissions(scene.path("s/a"), fs::Permissions::from_mode(0o640)).unwrap();
        date(&scene.path("s"), 1_100_000_000);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns a path on the other host.
    fn far(&self, name: &str) -> String {
        self.sshd.target(&self.path(name))
    }

    /// Returns the words of a pull by speil.
    fn words(&self, options: &[&str], source: &str, target: &str) -> Vec<String> {
        let agent = format!("--agent={}", agent_command());
        let words = ["sync", "-e", &self.ssh, &agent].into_iter().chain(options.iter().copied());
        words.chain([source, target]).map(str::to_owned).collect()
    }

    fn pull(&self, options: &[&str], source: &str, target: &str) -> Outcome {
        self.start(options, source, target).wait()
    }

    fn start(&self, options: &[&str], source: &str, target: &str) -> Background {
        let mut command = self.env.speil(self.words(options, source, target));
        Background::spawn({
            command.current_dir(self.dir.path()).env("XDG_RUNTIME_DIR", self.env.home());
            command
        })
    }

    fn rsync(&self, options: &[&str], source: &str, target: &str) -> Outcome {
        let mut command = self.env.command("rsync");
        command.args(["-e", &self.ssh]).args(options).args([source, target]).current_dir(self.dir.path());
        Background::spawn(command).wait()
    }
}

/// Returns the lines of `-i`, in the order of their paths: the two do not work in one order.
fn changes(outcome: &Outcome) -> Vec<String> {
    let is_change = |line: &&str| line.as_bytes().get(11) == Some(&b' ') && !line.starts_with("created");
    let mut lines: Vec<String> = outcome.stdout.lines().filter(is_change).map(str::to_owned).collect();
    lines.sort_by(|a, b| a[12..].cmp(&b[12..]));
    lines
}

/// Returns what stands below a directory: type, mode, time, path, and where a link leads.
fn listed(dir: &Path) -> String {
    let output = Command::new("find")
        .args([".", "-printf", "%y %m %T@ %s %p %l\n"])
        .current_dir(dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // The size of a directory is its filesystem's, and a time of today is that of the run.
    let plain = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        if words[2].parse::<f64>().is_ok_and(|time| time > 1_500_000_000.0) {
            words[2] = "today";
        }
        if words[0] == "d" {
            words.remove(3);
        }
        words.join(" ")
    };
    let mut lines: Vec<String> = text.lines().map(plain).collect();
    lines.sort();
    lines.join("\n")
}

/// Gives everything in a tree one time. rsync leaves times alone that differ by less than a second.
fn date(dir: &Path, seconds: u64) {
    let time = format!("@{seconds}");
    let dated = Command::new("find").arg(dir).args(["-exec", "touch", "-hd", &time, "{}", "+"]).status();
    assert!(dated.unwrap().success());
}

/// A target that holds something else, and something more.
fn prepare(target: &Path) {
    fs::create_dir_all(target.join("old/er")).unwrap();
    fs::create_dir_all(target.join("d")).unwrap();
    for (name, content) in
        [("old/er/f", "gone"), ("more.tmp", "gone"), ("d/b", "TWO and more"), ("d/z", "gone")]
    {
        fs::write(target.join(name), content).unwrap();
    }
    date(target, 1_000_000_000);
}

/// Runs both with the same words into equal targets, and holds one against the other.
fn agree(scene: &Scene, options: &[&str], source: &str) {
    for name in ["ours/t", "theirs/t"] {
        let _ = fs::remove_dir_all(scene.path(name));
        prepare(&scene.path(name));
    }
    let theirs = scene.rsync(options, &scene.far(source), "theirs/t");
    let ours = scene.pull(options, &scene.far(source), "ours/t");
    assert_eq!(ours.code(), theirs.code(), "{options:?} {source}\n{}\n{}", ours.stderr, theirs.stderr);
    // Of a source that is named without a slash, speil's lines begin below it.
    let told = if source.ends_with('/') { changes(&theirs) } else { changes(&ours) };
    assert_eq!(changes(&ours), told, "{options:?} {source}\n{}", ours.stderr);
    let of = |name: &str| listed(&scene.path(name));
    assert_eq!(of("ours/t"), of("theirs/t"), "{options:?} {source}");
}

#[test]
fn a_pull_leaves_the_tree_the_lines_and_the_code_that_rsync_leaves() {
    let scene = Scene::with_files();
    // With a time of its own, so that what both leave there is the same.
    for (options, source) in [
        (&["-ai"][..], "s/"),
        (&["-ai"], "s"),
        (&["-ai", "--delete"], "s/"),
        (&["-ani", "--delete"], "s/"),
        (&["-ai", "--delete", "--exclude=*.tmp"], "s/"),
        (&["-ai", "--delete", "--delete-excluded", "--exclude=*.tmp"], "s/"),
        (&["-ai", "--include=/d/", "--include=/d/**", "--exclude=*"], "s/"),
        (&["-ai", "--exclude=/s/d/e"], "s"),
        (&["-rti"], "s/"),
        (&["-aiu"], "s/"),
        (&["-ai", "--existing"], "s/"),
        (&["-ai", "--ignore-existing"], "s/"),
        (&["-aic"], "s/"),
        (&["-aiz", "--chmod=F600"], "s/"),
        (&["-ai", "--max-delete=2", "--delete"], "s/"),
        (&["-ai"], "missing/"),
    ] {
        agree(&scene, options, source);
    }
}

#[test]
fn a_second_pull_has_nothing_to_do_and_the_figures_are_those_of_who_receives() {
    let scene = Scene::new();
    Upload::of(300, 5).grow(&scene.path("s")).unwrap();
    let source = format!("{}/", scene.far("s"));
    let first = scene.pull(&["-aHAX", "--stats", "-v"], &source, "t/").succeeded();
    assert_same(&scene.path("s"), &scene.path("t"));
    assert!(!scene.path("t/.speil").exists(), "a single pass leaves nothing of its own");
    let figure = |name: &str| -> u64 {
        let line = first.stdout.lines().find(|line| line.starts_with(name)).unwrap();
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    };
    assert!(figure("Total bytes received") > 10 * figure("Total bytes sent"), "{}", first.stdout);
    assert!(figure("Number of created files") > 300, "{}", first.stdout);
    let second = scene.pull(&["-aHAXi"], &source, "t/").succeeded();
    assert_eq!((second.stdout.as_str(), second.stderr.as_str()), ("", ""));
    let record = scene.pull(&["-aHAX", "--json"], &source, "t/").succeeded();
    assert!(record.stdout.ends_with("{\"schema\":1,\"type\":\"exit\",\"code\":0}"), "{}", record.stdout);
    let close = scene.pull(&["-avv"], &source, "t/").succeeded();
    assert!(close.stdout.contains("s → t: connected, agent"), "{}", close.stdout);
}

#[test]
fn a_list_is_read_here_and_what_it_names_and_the_source_lacks_is_told() {
    let scene = Scene::with_files();
    for (name, content) in [("list", "d/b\nx\nmissing\nlink\n"), ("patterns", "# none of these\n*.tmp\n")] {
        fs::write(scene.path(name), content).unwrap();
    }
    let source = format!("{}/", scene.far("s"));
    let options = ["-ai", "--files-from=list"];
    let theirs = scene.rsync(&options, &source, "theirs/");
    let ours = scene.pull(&options, &source, "ours/");
    assert_eq!((ours.code(), theirs.code()), (23, 23), "{}", ours.stderr);
    assert_eq!(changes(&ours), changes(&theirs));
    assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")));
    assert!(ours.stderr.contains("read \"missing\""), "{}", ours.stderr);
    // Longer than a frame.
    let many: String = (0..60_000).map(|number| format!("a/path/that/is/not/there/{number}\n")).collect();
    fs::write(scene.path("list"), many + "a\n").unwrap();
    let ours = scene.pull(&["-aq", "--files-from=list"], &source, "many/");
    assert_eq!(ours.code(), 23);
    assert_eq!(fs::read(scene.path("many/a")).unwrap(), b"one");
    scene.pull(&["-a", "--exclude-from=patterns"], &source, "some/").succeeded();
    assert!(scene.path("some/d/e").exists() && !scene.path("some/d/e/c.tmp").exists());
}

#[test]
fn a_file_that_may_not_be_read_there_is_a_problem_and_the_others_come() {
    let scene = Scene::with_files();
    fs::set_permissions(scene.path("s/d/b"), fs::Permissions::from_mode(0o000)).unwrap();
    let bare = "setpriv --inh-caps=-all --bounding-set=-dac_override,-dac_read_search";
    let agent = format!("--agent={bare} {}", agent_command());
    let theirs = scene.rsync(
        &["-ai", &format!("--rsync-path={bare} rsync")],
        &format!("{}/", scene.far("s")),
        "theirs/",
    );
    let ours = scene.pull(&["-ai", &agent], &format!("{}/", scene.far("s")), "ours/");
    assert_eq!((ours.code(), theirs.code()), (23, 23), "{}", ours.stderr);
    assert!(ours.stderr.contains("\"d/b\": permission denied (EACCES)"), "{}", ours.stderr);
    assert!(scene.path("ours/a").exists() && !scene.path("ours/d/b").exists());
    assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")));
}

#[test]
fn deletes_that_would_empty_the_target_are_held_here_as_well() {
    let scene = Scene::new();
    fs::write(scene.path("s/only"), "x").unwrap();
    fs::create_dir(scene.path("t")).unwrap();
    (0..200).for_each(|number| fs::write(scene.path("t").join(number.to_string()), "x").unwrap());
    let source = format!("{}/", scene.far("s"));
    let held = scene.pull(&["-a", "--delete"], &source, "t/");
    assert_eq!(held.code(), 25, "{}", held.stderr);
    assert!(
        held.stderr.contains("199 deletes held") && held.stderr.contains("hint: --no-delete-guard"),
        "{}",
        held.stderr
    );
    assert_eq!(fs::read_dir(scene.path("t")).unwrap().count(), 200);
    scene.pull(&["-a", "--delete", "--no-delete-guard"], &source, "t/").succeeded();
    assert_eq!(fs::read_dir(scene.path("t")).unwrap().count(), 1);
}

/// A source with one large file of noise, behind a link that can be cut.
fn large() -> (Scene, Proxy, Vec<u8>) {
    let mut scene = Scene::new();
    let content = Rng::new(1).bytes(usize::try_from(64 * MIB).unwrap());
    fs::write(scene.path("s/large"), &content).unwrap();
    let link = Link { round_trip: Duration::ZERO, rate: Some(32 * MIB) };
    let proxy = Proxy::start(scene.sshd.address(), link);
    scene.ssh = scene.sshd.ssh_command_through(proxy.address());
    (scene, proxy, content)
}

#[test]
fn a_connection_that_is_cut_ends_with_12_and_what_has_arrived_is_not_sent_again() {
    let (scene, proxy, content) = large();
    let source = format!("{}/", scene.far("s"));
    let options = ["-a", "--partial", "--compress=never"];
    let cut = scene.start(&options, &source, "t/");
    eventually("some of it has come", || proxy.received_bytes() >= 30 * MIB);
    assert!(proxy.cut() > 0);
    let cut = cut.wait();
    assert_eq!(cut.code(), 12, "{}", cut.stderr);
    assert!(cut.stderr.contains("connection"), "{}", cut.stderr);
    assert!(!scene.path("t/large").exists(), "nothing is installed before it is whole");
    let before = proxy.received_bytes();
    scene.pull(&options, &source, "t/").succeeded();
    assert_eq!(fs::read(scene.path("t/large")).unwrap(), content);
    let again = proxy.received_bytes() - before;
    assert!(again < 50 * MIB, "{} MiB of 64 came again", again / MIB);
    assert!(!scene.path("t/.speil").exists());
    // A few bytes differ: a delta.
    let mut changed = content;
    changed[5_000_000..5_000_100].fill(7);
    fs::write(scene.path("s/large"), &changed).unwrap();
    let before = proxy.received_bytes();
    scene.pull(&options, &source, "t/").succeeded();
    assert_eq!(fs::read(scene.path("t/large")).unwrap(), changed);
    assert!(proxy.received_bytes() - before < 4 * MIB);
}

#[test]
fn a_far_side_that_falls_silent_is_given_up_with_30_and_a_signal_ends_a_pull_with_20() {
    let (scene, proxy, _) = large();
    let source = format!("{}/", scene.far("s"));
    let silent = scene.start(&["-a", "--timeout=10"], &source, "t/");
    eventually("some of it has come", || proxy.received_bytes() >= 10 * MIB);
    proxy.freeze();
    let silent = silent.wait();
    assert_eq!(silent.code(), 30, "{}", silent.stderr);
    proxy.thaw();
    let stopped = scene.start(&["-a"], &source, "t/");
    let before = proxy.received_bytes();
    eventually("some of it has come", || proxy.received_bytes() >= before + 10 * MIB);
    stopped.signal(Signal::TERM);
    let stopped = stopped.wait();
    assert_eq!((stopped.code(), stopped.stderr.as_str()), (20, ""));
    let whole = fs::metadata(scene.path("t/large")).map_or(64 * MIB, |meta| meta.len());
    assert_eq!(whole, 64 * MIB, "it is there as a whole, or not");
    scene.sshd.wait_until_idle();
}

#[test]
fn a_host_without_speil_gets_this_one_and_a_dry_run_brings_nothing_there() {
    let scene = Scene::with_files();
    let run = |options: &[&str]| {
        let source = format!("{}/", scene.far("s"));
        let words = ["sync", "-a", "-e", &scene.ssh].into_iter().chain(options.iter().copied());
        let mut command = scene.env.speil(words.chain([source.as_str(), "t/"]));
        command.current_dir(scene.dir.path());
        Background::spawn(command).wait()
    };
    let dry = run(&["-n"]);
    assert_eq!(dry.code(), 3, "{}", dry.stderr);
    assert!(!scene.sshd.dir().join("home/.cache").exists() && !scene.path("t").exists());
    let done = run(&[]).succeeded();
    assert!(done.stderr.contains("uploading the agent"), "{}", done.stderr);
    assert_eq!(listed(&scene.path("s")), listed(&scene.path("t")));
}

#[test]
fn a_speil_there_that_is_older_is_named_and_this_one_can_be_brought_along() {
    let scene = Scene::with_files();
    // As versions before this one answer.
    let older = scene.sshd.dir().join("bin/speil");
    let said = "speil: unknown option --send\nhint: speil agent --help lists the options";
    fs::write(&older, format!("#!/bin/sh\nprintf '{said}\\n' >&2\nexit 1\n")).unwrap();
    fs::set_permissions(&older, fs::Permissions::from_mode(0o755)).unwrap();
    let source = format!("{}/", scene.far("s"));
    let run = |agent: &str| {
        let mut command = scene.env.speil(["sync", "-a", "-e", &scene.ssh, agent, &source, "t/"]);
        command.current_dir(scene.dir.path());
        Background::spawn(command).wait()
    };
    let refused = run("--agent=auto");
    assert_eq!(refused.code(), 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("older than this one") && refused.stderr.contains("--agent=deploy"));
    let _ = run("--agent=deploy").succeeded();
    assert_eq!(listed(&scene.path("s")), listed(&scene.path("t")));
}

#[test]
fn what_cannot_be_pulled_is_said_in_one_line_with_rsyncs_code() {
    let scene = Scene::with_files();
    symlink("s", scene.path("sl")).unwrap();
    fs::write(scene.path("file"), "x").unwrap();
    for (source, target, code, said) in [
        (scene.far("missing/"), "t/", 23, "no such file or directory (ENOENT)"),
        (scene.far("file/"), "t/", 1, "is not a directory"),
        (format!("{}/", scene.far("s")), "no/such/dir", 11, "target directory \"no/such/dir\""),
        (format!("{}/", scene.far("s")), "file", 3, "not a directory (ENOTDIR)"),
        (format!("{}/", scene.far("")), "t/", 3, "one lies within the other"),
        ("h:/s/".to_owned(), "i:/t", 1, "are both on other hosts"),
    ] {
        let refused = scene.pull(&["-a"], &source, target);
        assert_eq!(refused.code(), code, "{source} {target}: {}", refused.stderr);
        assert!(refused.stderr.contains(said), "{source} {target}: {}", refused.stderr);
        assert!(!scene.path("t").exists());
    }
    scene.pull(&["-a"], &format!("{}/", scene.far("sl")), "t/").succeeded();
    assert!(scene.path("t/a").exists());
}

#[test]
fn a_script_that_calls_rsync_pulls_by_speil_a_tree_and_a_file_and_the_rest_by_the_real_one() {
    let scene = Scene::with_files();
    scene.sshd.install_agent();
    let run = |source: String, target: &str| {
        let option = if target == "inplace/" { "--inplace" } else { "--no-inplace" };
        let mut command = scene.env.command(SPEIL);
        command
            .args(["rsync", "-ai", option, "-e", &scene.ssh, &source, target])
            .current_dir(scene.dir.path());
        Background::spawn(command).wait().succeeded()
    };
    let tree = run(format!("{}/", scene.far("s")), "t/");
    assert_eq!(tree.stderr, "", "no word of another program");
    assert_eq!(listed(&scene.path("s")), listed(&scene.path("t")));
    let file = run(scene.far("s/a"), "one/");
    assert_eq!(file.stderr, "", "no word of another program");
    assert_eq!(fs::read(scene.path("one/a")).unwrap(), b"one");
    let other = run(scene.far("s/a"), "inplace/");
    assert!(
        other.stderr.contains("--inplace is not available") && other.stderr.contains("/rsync runs instead")
    );
    assert_eq!(fs::read(scene.path("inplace/a")).unwrap(), b"one");
}

#[test]
fn targets_of_two_pulls_at_once_are_one_after_the_other() {
    let (scene, proxy, content) = large();
    let source = format!("{}/", scene.far("s"));
    let first = scene.start(&["-a"], &source, "t/");
    eventually("some of it has come", || proxy.received_bytes() >= 10 * MIB);
    let second = scene.pull(&["-a"], &source, "t/");
    assert_eq!(second.code(), 30, "{}", second.stderr);
    assert!(second.stderr.contains("--wait-lock"), "{}", second.stderr);
    let _ = first.wait().succeeded();
    assert_eq!(fs::read(scene.path("t/large")).unwrap(), content);
    let copy = scene.path("copy");
    fs::create_dir(&copy).unwrap();
    copy_tree(&scene.path("t"), &copy).unwrap();
    assert_same(&copy, &scene.path("t"));
}
