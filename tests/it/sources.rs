//! Several sources, files, symlinks and whole paths: rsync, with the same words, is the judge.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::command::{Background, Environment, Outcome, agent_command};
use crate::support::sshd::Sshd;

/// A directory in which both run, and a target for each.
pub(super) struct Scene {
    pub env: Environment,
    pub dir: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        for (name, content) in [
            ("a/top", "a's"),
            ("a/x/f", "in a"),
            ("a/same", "a's own"),
            ("b/y/g", "in b"),
            ("b/x/h", "in b"),
            ("b/same", "b's"),
            ("b/of", "in b"),
            ("c/file", "a file"),
            ("c/other.log", "log"),
            ("c/one.log", "1"),
            ("c/dir/deep/e", "deep"),
        ] {
            scene.write(name, content);
        }
        symlink("file", scene.path("c/link")).unwrap();
        symlink("dir", scene.path("c/way")).unwrap();
        fs::create_dir(scene.path("a/empty")).unwrap();
        date(&scene.path("."), 1_100_000_000);
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn run(&self, mut command: Command) -> Outcome {
        command.current_dir(self.dir.path()).env("XDG_RUNTIME_DIR", self.env.home());
        Background::spawn(command).wait()
    }

    pub fn speil(&self, words: &[&str]) -> Outcome {
        self.run(self.env.speil([&["sync"], words].concat()))
    }

    pub fn rsync(&self, words: &[&str]) -> Outcome {
        let mut command = self.env.command("rsync");
        command.args(words);
        self.run(command)
    }

    /// Puts what stands before each run into both targets.
    pub fn prepare(&self, before: &str) {
        for side in ["ours", "theirs"] {
            let _ = fs::remove_dir_all(self.path(side));
            fs::create_dir(self.path(side)).unwrap();
            match before {
                "dir" => {
                    for name in ["t/extra", "t/a/extra", "t/b/y/extra", "t/x/extra", "t/c/extra"] {
                        self.write(&format!("{side}/{name}"), "the source lacks it");
                    }
                    date(&self.path(side), 1_000_000_000);
                }
                "file" => self.write(&format!("{side}/t"), "a file that was there"),
                "link" => symlink("nowhere", self.path(&format!("{side}/t"))).unwrap(),
                _ => {}
            }
        }
    }

    /// Runs both with these words; `T` at the beginning of one stands for the target. Trees, codes and lines must agree.
    #[track_caller]
    pub fn agree(&self, before: &str, words: &[&str]) -> (Outcome, Outcome) {
        self.prepare(before);
        let of = |side: &str| -> Vec<String> {
            let target = |word: &&str| word.strip_prefix('T').map(|rest| format!("{side}/t{rest}"));
            words.iter().map(|word| target(word).unwrap_or_else(|| (*word).to_owned())).collect()
        };
        let (ours, theirs) = (of("ours"), of("theirs"));
        let theirs = self.rsync(&theirs.iter().map(String::as_str).collect::<Vec<_>>());
        let ours = self.speil(&ours.iter().map(String::as_str).collect::<Vec<_>>());
        let told = format!(
            "{words:?} into {before:?}\n{}{}\n{}{}",
            ours.stdout, ours.stderr, theirs.stdout, theirs.stderr
        );
        assert_eq!(ours.code(), theirs.code(), "{told}");
        assert_eq!(listed(&self.path("ours")), listed(&self.path("theirs")), "{told}");
        assert_eq!(changes(&ours), changes(&theirs), "{told}");
        let skipped = |outcome: &Outcome| -> Vec<String> {
            let lines = outcome.stdout.lines().filter(|line| line.starts_with("skipping directory"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(skipped(&ours), skipped(&theirs), "{told}");
        (ours, theirs)
    }
}

impl Scene {
    /// Sends `source` to another host with these options, and fetches it from there, into a target that is not there. Trees,
    /// codes and lines must agree.
    #[track_caller]
    pub fn agree_afar(&self, sshd: &Sshd, options: &[&str], source: &str) {
        let (ssh, agent) = (sshd.ssh_command(), format!("--agent={}", agent_command()));
        for pull in [false, true] {
            let place = |name: &str, is_far: bool| {
                if is_far { sshd.target(&self.path(name)) } else { name.to_owned() }
            };
            let words = |side: &str| {
                let _ = fs::remove_dir_all(self.path(side));
                [place(source, pull), place(&format!("{side}/"), !pull)]
            };
            let ([from, to], before) = (words("theirs"), [options, &["-e", &ssh]].concat());
            let theirs = self.rsync(&[&before[..], &[&from, &to]].concat());
            let [from, to] = words("ours");
            let ours = self.speil(&[&before[..], &[&agent, &from, &to]].concat());
            let told = format!("{options:?} {pull} {}\n{}", ours.stderr, theirs.stderr);
            assert_eq!(ours.code(), theirs.code(), "{told}");
            assert_eq!(listed(&self.path("ours")), listed(&self.path("theirs")), "{told}");
            assert_eq!(changes(&ours), changes(&theirs), "{told}");
        }
    }
}

/// Returns the lines of `-i`, in the order of their paths; the time of a directory alone is told by rsync in one case and
/// not in another.
pub(super) fn changes(outcome: &Outcome) -> Vec<String> {
    let is_change = |line: &&str| {
        line.as_bytes().get(11) == Some(&b' ')
            && line.starts_with(['<', '>', 'c', 'h', '.', '*'])
            && !line.starts_with("created")
            && !line.starts_with(".d..t")
    };
    let mut lines: Vec<String> = outcome.stdout.lines().filter(is_change).map(str::to_owned).collect();
    lines.sort_by(|a, b| a.get(12..).cmp(&b.get(12..)));
    lines
}

/// Returns what stands below a directory: type, mode, links, time, path, and where a link leads.
pub(super) fn listed(dir: &Path) -> String {
    let output =
        Command::new("find").args([".", "-printf", "%y %m %n %T@ %s %p %l\n"]).current_dir(dir).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let plain = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        if words[3].parse::<f64>().is_ok_and(|time| time > 1_500_000_000.0) {
            words[3] = "today";
        }
        if words[0] == "d" {
            words.remove(4);
            words.remove(2);
        }
        words.join(" ")
    };
    let mut lines: Vec<String> = text.lines().map(plain).collect();
    lines.sort();
    lines.join("\n")
}

/// Gives everything in a tree one time. rsync leaves times alone that differ by less than a second.
pub(super) fn date(dir: &Path, seconds: u64) {
    let time = format!("@{seconds}");
    let dated = Command::new("find").arg(dir).args(["-exec", "touch", "-hd", &time, "{}", "+"]).status();
    assert!(dated.unwrap().success());
}

#[test]
fn several_sources_leave_what_rsync_leaves() {
    let scene = Scene::new();
    let root = scene.dir.path().display().to_string();
    let (whole_a, whole_b) = (format!("{root}/a"), format!("{root}/b"));
    for before in ["nothing", "dir"] {
        for words in [
            &["-ai", "a", "b", "T"][..],
            &["-ai", "a", "b", "c/file", "T/"],
            &["-ai", "--delete", "a", "b", "T"],
            &["-ai", "a/", "b", "c/file", "T"],
            &["-ai", "--delete", "a/", "b", "c/file", "T"],
            &["-ai", "--delete", "a/", "b/", "T"],
            &["-ai", "--delete", "b/", "a/", "c/dir", "T"],
            &["-ai", "--delete", "c/dir", "b/", "T"],
            &["-ai", "c/one.log", "c/other.log", "T"],
            &["-i", "c/one.log", "c/dir", "T"],
            &["-ti", "c/file", "c/dir", "a", "T"],
            &["-ai", "a/same", "b/same", "T"],
            &["-ai", "a/x", "b/x", "T"],
            &["-ai", "--delete", "a/x", "b/x", "T"],
            &["-ai", "c/link", "c/way", "c/file", "T"],
            &["-ai", "c/way/", "c/link", "T"],
            &["-ani", "--delete", "a", "b", "T"],
            &["-aic", "a", "c/file", "T"],
            &["-ai", "--exclude=/a", "--exclude=file", "a", "b", "c/file", "T"],
            &["-ai", "--exclude=/a/x", "--exclude=*.log", "a", "c", "T"],
            &["-ai", "missing", "a", "T"],
            &["-ai", "missing/", "a/x", "T"],
            &["-ai", "--delete", "missing", "a", "T"],
            &["-ai", "--ignore-missing-args", "missing", "a", "T"],
            &["-di", "a/", "b", "c/file", "T"],
            &["-di", "a", "T/"],
            &["-di", "a/", "T"],
            &["-ai", "--max-delete=1", "--delete", "a", "b", "T"],
            &["-ai", &whole_a, &whole_b, "T"],
        ] {
            let _ = scene.agree(before, words);
        }
    }
}

#[test]
fn what_a_rule_leaves_out_of_one_source_hides_nothing_of_another() {
    let scene = Scene::new();
    scene.write("a/y/in", "a directory here, and a directory there");
    scene.write("a/of/in", "a directory here, and a file there");
    scene.write("a/once", "a file here");
    scene.write("b/once/in", "a directory there");
    date(&scene.path("a"), 1_100_000_000);
    date(&scene.path("b"), 1_100_000_000);
    for words in [
        &["-ai", "--exclude=of/", "a/", "b/", "T"][..],
        &["-ai", "--exclude=once/", "a/", "b/", "T"],
        &["-ai", "--exclude=once/", "--delete", "b/", "a/", "T"],
        &["-ai", "--exclude=of/", "a/of", "b/of", "T"],
        &["-ai", "--include=*/", "--exclude=*", "a/", "b/", "T"],
    ] {
        let _ = scene.agree("dir", words);
    }
}

#[test]
fn whole_paths_leave_what_rsync_leaves() {
    let scene = Scene::new();
    for before in ["nothing", "dir"] {
        for words in [
            &["-aRi", "a/x", "b/y", "T"][..],
            &["-aRi", "--delete", "a/x", "b", "T"],
            &["-aRi", "a/./x", "b/y", "T"],
            &["-aRi", "./c/dir/deep/e", "T"],
            &["-aRi", "c/dir/", "a/top", "T/"],
            &["-aRi", "c/./dir/deep", "c/./file", "T"],
            &["-Ri", "c/file", "c/dir", "T"],
            &["-dRi", "c/dir", "T"],
            &["-dRi", "c/dir/", "T"],
            &["-dRi", "c/dir/.", "b/", "T"],
            &["-aRi", "missing/x", "a/x", "T"],
            &["-aRi", "c/link", "T"],
            &["-aRi", "c/./", "--exclude=deep", "T"],
        ] {
            let _ = scene.agree(before, words);
        }
    }
}

#[test]
fn a_directory_on_the_way_stays_as_it_is_where_that_is_asked_for() {
    let scene = Scene::new();
    let words = ["-aRi", "--no-implied-dirs", "a/x/f", "c/dir/deep/", "T/"];
    for side in ["ours", "theirs"] {
        scene.write(&format!("{side}/keep/a/x/f"), "older");
        scene.write(&format!("{side}/keep/c/dir/other"), "other");
        fs::set_permissions(scene.path(&format!("{side}/keep/a/x")), fs::Permissions::from_mode(0o711))
            .unwrap();
        date(&scene.path(&format!("{side}/keep")), 1_000_000_000);
    }
    let of =
        |side: &str| words.map(|word| if word == "T/" { format!("{side}/keep/") } else { word.to_owned() });
    let theirs = scene.rsync(&of("theirs").each_ref().map(String::as_str));
    let ours = scene.speil(&of("ours").each_ref().map(String::as_str));
    assert_eq!((ours.code(), theirs.code()), (0, 0), "{}{}", ours.stderr, theirs.stderr);
    // rsync leaves a directory the time at which something was written in it.
    let undated = |side: &str| -> Vec<String> {
        let lines = listed(&scene.path(side));
        let plain = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
            ["d", mode, _, ref rest @ ..] => format!("d {mode} {}", rest.join(" ")),
            _ => line.to_owned(),
        };
        let mut lines: Vec<String> = lines.lines().map(plain).collect();
        lines.sort();
        lines
    };
    assert_eq!(undated("ours/keep"), undated("theirs/keep"));
    assert_eq!(changes(&ours), changes(&theirs));
    // Another thing in its place bars the way; nothing is written through a symlink.
    fs::remove_dir_all(scene.path("ours/keep/a")).unwrap();
    fs::create_dir(scene.path("elsewhere")).unwrap();
    symlink("../../elsewhere", scene.path("ours/keep/a")).unwrap();
    let barred = scene.speil(&of("ours").each_ref().map(String::as_str));
    assert_eq!(barred.code(), 23, "{}", barred.stderr);
    assert!(
        barred.stderr.contains("\"a\": not a directory") && scene.path("ours/keep/a").is_symlink(),
        "{}",
        barred.stderr
    );
    assert_eq!(fs::read_dir(scene.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn a_file_lands_in_a_directory_or_under_the_name_that_is_given() {
    let scene = Scene::new();
    for before in ["nothing", "dir", "file", "link"] {
        for words in [
            &["-ai", "c/file", "T"][..],
            &["-i", "c/file", "T"],
            &["-aic", "c/file", "T"],
            &["-ani", "c/file", "T"],
            &["-ai", "c/link", "T"],
            &["-ai", "a/top", "c/file", "T"],
        ] {
            let _ = scene.agree(before, words);
        }
    }
    for words in [&["-ai", "c/file", "T/"][..], &["-ai", "c/link", "T/"], &["-ai", "c/file", "T/x/y"]] {
        let _ = scene.agree("nothing", words);
    }
    for words in [
        &["-ai", "--mkpath", "c/file", "T/x/y"][..],
        &["-ai", "--mkpath", "c/file", "T/x/y/"],
        &["-ai", "--mkpath", "a", "b", "T/x/y"],
    ] {
        let _ = scene.agree("nothing", words);
    }
    // rsync has made it before, and so tells of its time.
    scene.prepare("nothing");
    scene.speil(&["-a", "--mkpath", "a/", "ours/t/x/y/z"]).succeeded();
    scene.rsync(&["-a", "--mkpath", "a/", "theirs/t/x/y/z"]).succeeded();
    assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")));
    // A large one, and again after a change.
    fs::write(scene.path("large"), vec![7; 3 << 20]).unwrap();
    let _ = scene.speil(&["-a", "large", "ours/named"]).succeeded();
    assert_eq!(fs::read(scene.path("ours/named")).unwrap().len(), 3 << 20);
    let again = scene.speil(&["-ai", "large", "ours/named"]).succeeded();
    assert_eq!(again.stdout, "");
}

#[test]
fn links_among_several_sources_are_joined() {
    let scene = Scene::new();
    for name in ["b/linked", "c/dir/linked"] {
        fs::hard_link(scene.path("a/top"), scene.path(name)).unwrap();
    }
    for words in [
        &["-aH", "a", "b", "c/dir", "T"][..],
        &["-aH", "a/", "b/", "c/dir", "T"],
        &["-aH", "a/top", "b/linked", "c/dir", "T"],
    ] {
        for before in ["nothing", "dir"] {
            let _ = scene.agree(before, words);
            let word = |word: &&'static str| if *word == "T" { "ours/t" } else { word };
            let again: Vec<&str> = ["-i"].into_iter().chain(words.iter().map(word)).collect();
            assert_eq!(scene.speil(&again).succeeded().stdout, "");
        }
    }
}

#[test]
fn the_figures_are_those_of_one_run() {
    let scene = Scene::new();
    let (ours, theirs) = scene.agree("nothing", &["-ai", "--stats", "a", "b", "c/file", "T"]);
    for figure in
        ["Number of files", "Number of created", "Number of regular", "Total file size", "Total transferred"]
    {
        let line = |outcome: &Outcome| {
            outcome.stdout.lines().find(|line| line.starts_with(figure)).map(str::to_owned)
        };
        assert_eq!(line(&ours), line(&theirs));
    }
}

#[test]
fn what_would_copy_a_tree_into_itself_is_refused_and_a_file_beside_it_is_not() {
    let scene = Scene::new();
    for words in [&["-a", "a", "b", "a/x"][..], &["-a", "a/x", "b", "a"], &["-a", "a/", "b", "a/new"]] {
        let refused = scene.speil(words);
        assert!(
            !refused.status.success() && refused.stderr.contains("within"),
            "{words:?} {}",
            refused.stderr
        );
    }
    scene.speil(&["-a", "c/file", "a/x", "c/dir"]).succeeded();
    assert!(scene.path("c/dir/x/f").exists() && scene.path("c/dir/file").exists());
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    let scene = Scene::new();
    for (words, code, says) in [
        (&["-a", "a", "h:b", "t"][..], 1, "another host than SOURCE"),
        (&["-a", "h:a", "g:b", "t"], 1, "another host than SOURCE"),
        (&["-a", "h:a", "h:b", "h:t"], 1, "both on other hosts"),
        (&["-aR", "a/../b", "t"], 1, "it has .. in it"),
        (&["-aR", "c/way/deep", "t"], 1, "is a symlink"),
        (&["-a", "--files-from=list", "a", "b", "t"], 1, "several SOURCEs"),
        (&["-i", "a", "b", "t"], 1, "neither -a nor -r"),
    ] {
        let refused = scene.speil(words);
        assert!(refused.code() == code && refused.stderr.contains(says), "{words:?} {}", refused.stderr);
        assert!(!scene.path("t").exists());
    }
}

#[test]
fn several_sources_go_to_another_host_and_come_from_one() {
    let scene = Scene::new();
    let sshd = Sshd::start();
    let (ssh, agent) = (sshd.ssh_command(), format!("--agent={}", agent_command()));
    let far = |name: &str| sshd.target(&scene.path(name));
    let both = |options: &[&str], of: &dyn Fn(&str) -> Vec<String>| {
        scene.prepare("dir");
        let words = |side: &str, more: &[&str]| -> Vec<String> {
            ["-e", ssh.as_str()]
                .iter()
                .chain(more)
                .chain(options)
                .map(|word| (*word).to_owned())
                .chain(of(side))
                .collect()
        };
        let call = |words: &[String]| words.iter().map(String::as_str).collect::<Vec<_>>().join("\u{1f}");
        let (ours, theirs) = (call(&words("ours", &[&agent])), call(&words("theirs", &[])));
        let theirs = scene.rsync(&theirs.split('\u{1f}').collect::<Vec<_>>());
        let ours = scene.speil(&ours.split('\u{1f}').collect::<Vec<_>>());
        let told = format!(
            "{options:?} {:?}\n{}{}\n{}{}",
            of("ours"),
            ours.stdout,
            ours.stderr,
            theirs.stdout,
            theirs.stderr
        );
        assert_eq!(ours.code(), theirs.code(), "{told}");
        assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")), "{told}");
        assert_eq!(changes(&ours), changes(&theirs), "{told}");
    };
    let owned = |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
    both(&["-ai", "--delete"], &|side| {
        [owned(&["a", "b", "c/file"]), vec![far(&format!("{side}/t/"))]].concat()
    });
    both(&["-ai"], &|side| [owned(&["c/file"]), vec![far(&format!("{side}/new"))]].concat());
    // From there.
    let colon = format!(":{}", scene.path("b").display());
    both(&["-ai", "--delete"], &|side| vec![far("a"), colon.clone(), far("c/file"), format!("{side}/t")]);
    both(&["-ai", "--delete"], &|side| vec![far("a/"), far("b/"), format!("{side}/t")]);
    both(&["-ai"], &|side| vec![far("c/file"), format!("{side}/new")]);
    both(&["-ai"], &|side| vec![far("c/file"), format!("{side}/t")]);
    both(&["-i"], &|side| vec![far("c/file"), far("c/link"), format!("{side}/t")]);
    both(&["-ai"], &|side| vec![far("c/link"), format!("{side}/named")]);
    both(&["-ai"], &|side| vec![far("missing"), far("a"), format!("{side}/t")]);
}
