//! Random trees under random words: rsync is the judge of `speil sync`.
//!
//! **In → Out:** a seed; a source, a target and a command line, run by both in a copy each, and what differs in the trees,
//! the exit codes, the lines of `-i` and the figures of `--stats`. **Invariants:** a seed is always the same case; what
//! `contrib/rsync-differences.md` allows is left out by name (`allowed`), and nothing else is. A case that differs is told
//! with as few words as still differ. **Not here:** words that speil refuses, which their own tests name.

mod allowed;
mod found;
mod grow;
mod look;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use self::allowed::{allowed, rsync_broke};
use self::look::{Look, differences};
use self::words::{Case, Place};
use crate::support::command::{Background, Environment, Outcome};
use crate::support::rng::Rng;
use crate::support::sshd::Sshd;
use crate::support::tree::copy_tree;

/// How long rsync may take for some 50 small files.
const RSYNC_SECONDS: &str = "20";

/// What both need.
struct Bench {
    env: Environment,
    sshd: Sshd,
}

impl Bench {
    fn new() -> Self {
        let sshd = Sshd::start();
        sshd.install_agent();
        Self { env: Environment::new(), sshd }
    }

    /// Runs one of both in `dir`.
    fn run(&self, dir: &Path, case: &Case, speil: bool) -> Outcome {
        let mut command = if speil {
            let mut command = self.env.command(crate::support::command::SPEIL);
            command.arg("sync");
            if !case.words.iter().any(|word| word.starts_with("--max-delete")) {
                command.arg("--no-delete-guard");
            }
            command
        } else {
            // Some words have rsync 3.5 wait for itself: `--groupmap` with `--no-g` to another host, `-H --ignore-existing`.
            let mut command = self.env.command("timeout");
            command.args(["-k", "1", RSYNC_SECONDS, "rsync"]);
            command
        };
        if case.place != Place::Local {
            command.arg("-e").arg(self.sshd.ssh_command());
        }
        command.args(case.arguments(dir)).current_dir(dir);
        command.env("XDG_RUNTIME_DIR", self.env.home()).env("LC_ALL", "C.UTF-8");
        Background::spawn(command).wait()
    }

    /// Runs both in copies of the case's trees, and returns what differs.
    fn try_out(&self, case: &Case) -> Vec<String> {
        let base = tempfile::tempdir_in(scratch()).unwrap();
        case.grow(&base.path().join("rsync"));
        copy_tree(&base.path().join("rsync"), &base.path().join("speil")).unwrap();
        let begun = std::time::SystemTime::now();
        let ran = |speil: bool| {
            let dir = base.path().join(if speil { "speil" } else { "rsync" });
            let outcome = self.run(&dir, case, speil);
            Look::of(&dir, outcome, begun)
        };
        let (theirs, ours) = (ran(false), ran(true));
        let found = differences(case, &theirs, &ours);
        if let Some(kept) = std::env::var_os("SPEIL_KEPT") {
            // The trees before the run are made again beside what it left.
            case.grow(&base.path().join("before"));
            println!("{}: {:?}", base.path().display(), case.arguments(Path::new("")));
            let _ = std::fs::remove_dir_all(&kept);
            let _ = std::fs::rename(base.keep(), kept);
        }
        found
    }

    /// Leaves out words as long as what is left differs.
    fn shrunk(&self, mut case: Case) -> Case {
        let mut at = 0;
        while at < case.words.len() {
            let mut less = case.clone();
            less.words.remove(at);
            let differs = |less: &Case| {
                let found = self.try_out(less);
                let is_strange = |what: &String| allowed(less, what).is_none();
                !found.iter().any(|what| rsync_broke(what)) && found.iter().any(is_strange)
            };
            if less.descends() && differs(&less) {
                case = less;
            } else {
                at += 1;
            }
        }
        case
    }
}

/// Where trees are made: in memory, if the host lets.
fn scratch() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

/// Tells which case it was if the test panics.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("panicked at {}", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// `SPEIL_ALIKE` cases from `SPEIL_SEED` on; a hundred without.
#[test]
fn random_trees_under_random_words_are_as_rsync_makes_them() {
    let (count, first) = (number("SPEIL_ALIKE").unwrap_or(100), number("SPEIL_SEED").unwrap_or(1));
    let bench = Bench::new();
    let (mut kinds, mut waived) = (BTreeMap::<String, Vec<String>>::new(), BTreeMap::<&str, u64>::new());
    for seed in first..first + count {
        let case = Case::random(&mut Rng::new(seed), seed);
        let _told = Told(format!("seed {seed}: {}", case.shown()));
        let found = bench.try_out(&case);
        if found.iter().any(|difference| rsync_broke(difference)) {
            *waived.entry("rsync gave up").or_default() += 1;
            continue;
        }
        let mut strange = Vec::new();
        for difference in &found {
            match allowed(&case, difference) {
                Some(row) => *waived.entry(row).or_default() += 1,
                None => strange.push(difference.as_str()),
            }
        }
        if let Some(first) = strange.first() {
            let less = bench.shrunk(case.clone());
            let kind = format!("{} | {}", less.words.join(" "), first.split(':').next().unwrap_or(first));
            let left: Vec<String> =
                bench.try_out(&less).into_iter().filter(|what| allowed(&less, what).is_none()).collect();
            let left = if left.is_empty() {
                format!("not each time: {}", strange.join("\n    "))
            } else {
                left.join("\n    ")
            };
            println!("seed {seed}: {}\n  less: {}\n    {left}", case.shown(), less.shown());
            kinds.entry(kind).or_default().push(format!("seed {seed}"));
        }
    }
    println!("{count} cases from seed {first}; allowed differences: {waived:?}");
    for (kind, seeds) in &kinds {
        println!("{} × {kind}: {}", seeds.len(), seeds.join(", "));
    }
    assert!(kinds.is_empty(), "{} kinds of differences", kinds.len());
}
