//! Names that files are given later: what the target holds is linked, not sent again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::support::command::Environment;

/// A source with three files of some size and a target that holds them.
struct Trees {
    env: Environment,
    dir: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        let trees = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(trees.path("s/m")).unwrap();
        for name in ["s/m/1", "s/m/2", "s/m/3"] {
            fs::write(trees.path(name), name.repeat(20_000)).unwrap();
        }
        trees
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One pass; returns what it prints.
    fn sync(&self, options: &[&str]) -> String {
        let (from, to) = (format!("{}/", self.path("s").display()), self.path("t").display().to_string());
        let arguments = [&["sync", "-aH", "--stats"], options, &[&from, &to]].concat();
        self.env.run(arguments).succeeded().stdout
    }

    /// Gives all files a second name in a new directory, as `cp -al` does.
    fn link_into(&self, dir: &str) {
        fs::create_dir(self.path("s").join(dir)).unwrap();
        for name in ["1", "2", "3"] {
            fs::hard_link(self.path("s/m").join(name), self.path("s").join(dir).join(name)).unwrap();
        }
    }

    fn assert_joined(&self, dirs: &[&str]) {
        for name in ["1", "2", "3"] {
            let inode = |dir: &str| fs::metadata(self.path("t").join(dir).join(name)).unwrap().ino();
            assert!(dirs.iter().all(|dir| inode(dir) == inode("m")), "{name}");
            let content = fs::read(self.path("t/m").join(name)).unwrap();
            assert!(content == fs::read(self.path("s/m").join(name)).unwrap(), "{name}");
        }
    }
}

fn figure(printed: &str, name: &str) -> String {
    let line = printed.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    line.unwrap_or_else(|| panic!("no {name:?} in {printed}")).to_owned()
}

#[test]
fn names_that_files_are_given_later_are_linked_and_no_content_is_sent() {
    let trees = Trees::new();
    trees.sync(&[]);
    // One directory comes before the one that the target has, one after it.
    trees.link_into("a");
    trees.link_into("z");
    let printed = trees.sync(&["-i"]);
    trees.assert_joined(&["a", "z"]);
    assert_eq!(figure(&printed, "Literal data:"), "0 bytes", "{printed}");
    assert_eq!(figure(&printed, "Number of created files:"), "8 (reg: 6, dir: 2)", "{printed}");
    assert!(printed.contains("hf+++++++++ a/1 => m/1\n"), "{printed}");
    assert_eq!(trees.sync(&["-i"]).lines().next(), Some(""), "nothing is left to do");
}

#[test]
fn names_that_a_target_holds_as_files_of_their_own_are_joined() {
    let trees = Trees::new();
    trees.link_into("a");
    // Without -H each name was sent as a file of its own.
    let (from, to) = (format!("{}/", trees.path("s").display()), trees.path("t").display().to_string());
    trees.env.run(["sync", "-a", &from, &to]).succeeded();
    trees.link_into("b");
    let printed = trees.sync(&[]);
    trees.assert_joined(&["a", "b"]);
    // Which of the two is the file does not show in a size and a time: one of them is sent.
    assert_eq!(figure(&printed, "Number of regular files transferred:"), "3", "{printed}");
}

#[test]
fn each_name_of_a_file_is_told_once_behind_the_one_that_is_sent() {
    let trees = Trees::new();
    trees.link_into("a");
    let names = |printed: &str| -> Vec<String> {
        let lines = printed.lines().take_while(|line| !line.is_empty());
        lines.filter(|line| line.contains('1')).map(str::to_owned).collect()
    };
    for option in ["-in", "-i"] {
        let first = names(&trees.sync(&[option]));
        let is_told = |[sent, linked]: &[String; 2]| sent.starts_with(">f++") && linked.starts_with("hf++");
        assert!(first.first_chunk().is_some_and(is_told) && first.len() == 2, "{option}: {first:?}");
    }
    fs::write(trees.path("s/m/1"), "another content").unwrap();
    let again = names(&trees.sync(&["-i"]));
    assert!(
        matches!(&again[..], [sent, linked] if sent.starts_with(">f.s") && linked.starts_with("hf")),
        "{again:?}"
    );
}

#[test]
fn what_changed_in_the_content_or_in_what_stands_there_is_sent_once_and_linked() {
    let trees = Trees::new();
    trees.sync(&[]);
    trees.link_into("a");
    fs::write(trees.path("s/m/1"), "another content").unwrap();
    // On the target something else is in the way of a name that is to be linked to.
    fs::remove_file(trees.path("t/m/2")).unwrap();
    fs::create_dir(trees.path("t/m/2")).unwrap();
    trees.sync(&["--delete"]);
    trees.assert_joined(&["a"]);
}

#[test]
fn a_live_mirror_sends_the_content_of_a_file_that_is_given_a_name_at_most_once() {
    let trees = Trees::new();
    let (from, to) = (format!("{}/", trees.path("s").display()), trees.path("t").display().to_string());
    let control = format!("--control={}", trees.path("control").display());
    let mirror = trees.env.spawn(["mirror", &control, &from, &to]);
    mirror.wait_for_line(": live");
    let files = || {
        let status = trees.env.run(["status", "--json", &control]).succeeded().stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["syncs"][0]["targets"][0]["files"].as_u64().unwrap()
    };
    let before = files();
    trees.link_into("a");
    trees.env.run(["wait", "--timeout=60s", &control]).succeeded();
    trees.assert_joined(&["a"]);
    assert!(files() - before <= 3, "{} files were sent", files() - before);
    mirror.terminate();
}
