//! Two daemons that want the same tree, and mirrors that lead back to where they come from.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::support::command::{Background, Environment, eventually};
use crate::support::process;

/// Trees below one directory.
struct Trees {
    env: Environment,
    dir: tempfile::TempDir,
}

impl Trees {
    fn new(names: &[&str]) -> Self {
        let trees = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        for name in names {
            fs::create_dir_all(trees.path(name)).unwrap();
        }
        trees
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A daemon of the host `host`, which knows nothing of the other hosts' daemons.
    fn mirror(&self, host: &str, from: &str, to: &str, more: &[&str]) -> Background {
        let control = self.path(&format!("{host}-{}", from.replace('/', "-")));
        let mut command = self.env.speil(["mirror", &format!("--control={}", control.display())]);
        command.args(more).arg(format!("{}/", self.path(from).display())).arg(self.path(to));
        command.env("XDG_RUNTIME_DIR", self.path(host));
        Background::spawn(command)
    }

    /// The same, live.
    fn live(&self, from: &str, to: &str, more: &[&str]) -> Background {
        let mirror = self.mirror("host", from, to, more);
        eventually(&format!("{from} → {to} is live"), || {
            assert!(mirror.is_running(), "{:?}", mirror.stderr());
            is_live(&mirror)
        });
        mirror
    }
}

fn is_live(mirror: &Background) -> bool {
    mirror.stdout().iter().any(|line| line.ends_with(": live"))
}

fn says(mirror: &Background, text: &str) -> bool {
    mirror.stderr().iter().any(|line| line.contains(text))
}

#[test]
fn a_second_daemon_of_one_host_is_refused_by_name_and_leaves_the_firsts_socket() {
    let trees = Trees::new(&["s", "host"]);
    let first = trees.live("s", "t", &[]);
    let socket = format!("--control={}", trees.path("host-s").display());
    let name = format!("(process {})", first.pid());
    let second = trees.mirror("host", "s", "t", &[]).wait();
    assert!(second.code() == 3 && second.stderr.contains(&name), "one socket: {second:?}");
    let second = trees.mirror("host", "s", "t", &["--control=other"]).wait();
    let told = second.stderr.contains("mirrors to") && second.stderr.contains(&name);
    assert!(second.code() == 3 && told, "another socket: {second:?}");
    // A file that is in the way stays.
    fs::write(trees.path("file"), "somebody's").unwrap();
    let file = format!("--control={}", trees.path("file").display());
    let second = trees.mirror("elsewhere", "s", "t2", &[&file]).wait();
    assert!(second.code() == 11 && fs::read(trees.path("file")).unwrap() == b"somebody's", "{second:?}");

    fs::write(trees.path("s/later"), "x").unwrap();
    trees.env.run(["wait", "--timeout=60s", &socket]).succeeded();
    assert!(trees.path("t/later").exists() && first.stderr().is_empty(), "{:?}", first.stderr());
    let _ = first.terminate();
    let third = trees.live("s", "t", &[]);
    let _ = third.terminate();
}

/// The daemons do not see each other's locks, as on two hosts.
#[test]
fn another_daemon_is_refused_while_the_present_one_shows_life_and_takes_over_when_it_does_not() {
    let trees = Trees::new(&["s"]);
    let first = trees.mirror("one", "s", "t", &[]);
    eventually("the first is live", || is_live(&first));
    let second = trees.mirror("two", "s", "t", &[]);
    let name = |daemon: &Background| format!("speil (process {}) on ", daemon.pid());
    eventually("the second is refused", || says(&second, &name(&first)));
    assert!(first.stderr().is_empty() && !is_live(&second), "{:?}", first.stderr());

    first.signal(Signal::STOP);
    eventually("the second takes over", || is_live(&second));
    assert!(says(&second, &format!("took the target over from {}", name(&first))), "{:?}", second.stderr());
    first.signal(Signal::CONT);
    let told = format!("another daemon has taken the target over: {}", name(&second));
    eventually("the first is told by whom", || says(&first, &told));
    eventually("and is refused now", || {
        first.stderr().iter().any(|line| line.contains(&name(&second)) && line.contains("is at work"))
    });
    let lines = second.stderr().len();
    fs::write(trees.path("s/later"), "x").unwrap();
    eventually("the second goes on", || trees.path("t/later").exists());
    assert_eq!(second.stderr().len(), lines, "{:?}", second.stderr());
    assert!(process::is_running(first.pid()));
}

#[test]
fn a_circle_of_mirrors_is_refused_and_named_and_chains_are_not() {
    let trees = Trees::new(&["a", "b", "c"]);
    let first = trees.live("a", "b", &[]);
    let back = trees.mirror("host", "b", "a", &[]);
    let told = |mirror: &Background, names: &[&str]| {
        let named = |line: &String| names.iter().all(|name| line.contains(&format!("/{name}")));
        mirror.stderr().iter().any(|line| line.contains("in a circle") && named(line))
    };
    eventually("two mirrors at each other", || told(&back, &["a", "b"]));
    let chain = trees.live("b", "c", &["--control=chain"]);
    let ring = trees.mirror("host", "c", "a", &[]);
    eventually("a ring of three", || told(&ring, &["a", "b", "c"]));
    fs::write(trees.path("a/new"), "x").unwrap();
    eventually("what ran goes on", || trees.path("c/new").exists());
    for mirror in [&first, &chain] {
        assert!(mirror.stderr().is_empty(), "{:?}", mirror.stderr());
    }
    assert!(!is_live(&back) && !is_live(&ring));
    // Whoever is left alone may.
    let _ = first.terminate();
    let control = format!("--control={}", trees.path("host-b").display());
    trees.env.run(["reconcile", &control]).succeeded();
    eventually("the way back is free", || is_live(&back));
}

#[test]
fn a_part_of_a_target_is_not_mirrored_back_unless_the_way_there_leaves_it_out() {
    let trees = Trees::new(&["a/own", "a/part", "b/own", "b/part"]);
    let _first = trees.live("a", "b", &["--exclude=/own"]);
    let part = trees.mirror("host", "b/part", "a/part", &[]);
    eventually("a part of the circle", || says(&part, "in a circle"));
    let _own = trees.live("b/own", "a/own", &[]);
}

#[test]
fn a_target_within_the_target_of_another_mirror_is_refused_by_name_unless_it_is_left_out_there() {
    let trees = Trees::new(&["s", "a"]);
    let told = |inner: &Background, names: &[&str]| {
        let named = |line: &String| names.iter().all(|name| line.contains(name));
        inner
            .stderr()
            .iter()
            .any(|line| line.contains(&format!("is within {}, ", trees.path("t").display())) && named(line))
    };
    let outer = trees.live("s", "t", &[]);
    let inner = trees.mirror("host", "a", "t/sub", &[]);
    let (source, process) = (trees.path("s").display().to_string(), format!("(process {})", outer.pid()));
    eventually("the inner one is refused", || told(&inner, &[&source, &process]));
    assert!(!trees.path("t/sub").exists(), "nothing is made there");

    let _ = outer.terminate();
    let control = format!("--control={}", trees.path("host-a").display());
    trees.env.run(["reconcile", &control]).succeeded();
    eventually("it is alone now", || is_live(&inner));
    // The outer one again: it does not see what is below, but is seen from there.
    let lines = inner.stderr().len();
    let outer = trees.live("s", "t", &[]);
    let process = format!("(process {})", outer.pid());
    eventually("the inner one ends", || inner.stderr()[lines..].iter().any(|line| line.contains(&process)));
    let _ = (outer.terminate(), inner.terminate());

    let outer = trees.live("s", "t", &["--exclude=/sub"]);
    let inner = trees.live("a", "t/sub", &[]);
    fs::write(trees.path("a/new"), "x").unwrap();
    eventually("the inner one mirrors", || trees.path("t/sub/new").exists());
    let control = format!("--control={}", trees.path("host-s").display());
    trees.env.run(["reconcile", &control]).succeeded();
    trees.env.run(["wait", "--timeout=60s", &control]).succeeded();
    assert!(trees.path("t/sub/new").exists() && inner.stderr().is_empty(), "{:?}", inner.stderr());
    let _ = (outer.terminate(), inner.terminate());
}

#[test]
fn of_two_mirrors_at_each_other_that_start_together_one_goes_on() {
    let trees = Trees::new(&["a", "b"]);
    let pair = [trees.mirror("host", "a", "b", &[]), trees.mirror("host", "b", "a", &[])];
    let count = |what: &dyn Fn(&Background) -> bool| pair.iter().filter(|mirror| what(mirror)).count();
    eventually("one goes on", || {
        let told = count(&|mirror| says(mirror, "in a circle"));
        assert!(told < 2, "{:?}", pair.each_ref().map(|mirror| (mirror.stdout(), mirror.stderr())));
        count(&is_live) == 1 && told == 1
    });
}
