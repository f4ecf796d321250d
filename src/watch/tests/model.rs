//! A standby that does only what the events say must know of every path where it differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::config::Backend;
use crate::event::EventKind;
use crate::tree::RelPath;

use super::super::tuning::Tuning;
use super::rig::{Log, Rig, options, own};

/// What stands under a name: `None` for a directory.
type Tree = BTreeMap<RelPath, Option<Vec<u8>>>;

fn read_tree(root: &Path) -> Tree {
    fn read(dir: &Path, rel: &RelPath, tree: &mut Tree) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            use std::os::unix::ffi::OsStrExt;
            let path = rel.join(entry.file_name().as_bytes());
            if entry.file_type().unwrap().is_dir() {
                read(&entry.path(), &path, tree);
                tree.insert(path, None);
            } else {
                tree.insert(path, Some(fs::read(entry.path()).unwrap()));
            }
        }
    }
    let mut tree = Tree::new();
    read(root, &RelPath::root(), &mut tree);
    tree
}

/// A copy that follows renames, and the paths that it knows it must look at.
struct Standby {
    tree: Tree,
    dirty: BTreeSet<RelPath>,
    dirty_below: BTreeSet<RelPath>,
}

impl Standby {
    fn apply(&mut self, kind: &EventKind) {
        match kind {
            EventKind::Modify(path)
            | EventKind::CloseWrite(path)
            | EventKind::Create { path, .. }
            | EventKind::Attrib { path, .. }
            | EventKind::Delete { path, dir: false } => {
                self.dirty.insert(path.clone());
            }
            EventKind::Delete { path, dir: true } | EventKind::Rescan { path, .. } => {
                self.dirty_below.insert(path.clone());
            }
            EventKind::Move { from, to, .. } => {
                if self.dirty_below.iter().any(|top| from.is_within(top)) {
                    // What leaves a directory that is to be compared may not be on the target yet.
                    self.dirty_below.insert(to.clone());
                }
                self.tree.retain(|path, _| !path.is_within(to));
                self.tree = std::mem::take(&mut self.tree)
                    .into_iter()
                    .map(|(path, what)| (path.rebase(from, to).unwrap_or(path), what))
                    .collect();
                for set in [&mut self.dirty, &mut self.dirty_below] {
                    *set = std::mem::take(set)
                        .into_iter()
                        .map(|path| path.rebase(from, to).unwrap_or(path))
                        .collect();
                }
            }
        }
    }

    fn knows(&self, path: &RelPath) -> bool {
        self.dirty.contains(path) || self.dirty_below.iter().any(|top| path.is_within(top))
    }
}

/// A small generator: the seed is the test case.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % sides
    }

    /// A path of one to three of four names, so that operations meet.
    fn path(&mut self, root: &Path) -> PathBuf {
        let depth = 1 + self.roll(3);
        (0..depth).fold(root.to_owned(), |path, _| path.join(["a", "b", "c", "d"][self.roll(4)]))
    }
}

/// Does one thing to the tree; most of them fail, which is as good.
fn meddle(dice: &mut Dice, root: &Path, outside: &Path, n: usize) {
    let (one, other) = (dice.path(root), dice.path(root));
    let away = outside.join(["x", "y"][dice.roll(2)]);
    let _ = match dice.roll(14) {
        0 | 1 => fs::create_dir(&one),
        2 => fs::create_dir_all(&one),
        3 | 4 => fs::write(&one, n.to_string()),
        5..=7 => fs::rename(&one, &other),
        8 => fs::remove_file(&one),
        9 => {
            if dice.roll(3) == 0 {
                fs::remove_dir_all(&one)
            } else {
                fs::remove_dir(&one)
            }
        }
        10 => fs::rename(&one, &away),
        11 | 12 => renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).map_err(Into::into),
        _ => fs::rename(&away, &one),
    };
}

/// One case.
struct Case {
    backend: Backend,
    seed: u64,
    /// Operations of each thread.
    count: usize,
    threads: u64,
    backlog_max: usize,
    /// Whether the backend stands still now and then, so that the disk is far ahead of it.
    lag: bool,
    /// Whether it stands still until all is done.
    asleep: bool,
    /// Whether it shares its instance with other trees.
    shared: bool,
}

impl Case {
    fn new(backend: Backend, seed: u64, count: usize) -> Self {
        Self {
            backend,
            seed,
            count,
            threads: 1,
            backlog_max: 1 << 18,
            lag: false,
            asleep: false,
            shared: false,
        }
    }

    fn run(&self, root: &Path, outside: &Path, log: &Log) {
        if self.asleep {
            log.asleep(root, || self.meddle(root, outside, log));
        } else {
            self.meddle(root, outside, log);
        }
    }

    fn meddle(&self, root: &Path, outside: &Path, log: &Log) {
        std::thread::scope(|scope| {
            for thread in 0..self.threads {
                scope.spawn(move || {
                    let seed = self.seed + (thread << 32);
                    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
                    let mut gate = None;
                    for n in 0..self.count {
                        meddle(&mut dice, root, outside, n);
                        if self.lag && thread == 0 && dice.roll(50) == 0 {
                            gate = if gate.is_none() { Some(log.gate.lock().unwrap()) } else { None };
                        }
                    }
                });
            }
        });
    }
}

/// Makes the tree on which a case begins.
fn prepare(root: &Path) {
    for file in ["a/b/d", "a/c", "a/d/d", "b/a/c", "b/d", "c/d"] {
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "start").unwrap();
    }
    fs::create_dir_all(root.join("a/b/c")).unwrap();
}

/// Reads the source without the files by which tests know what was heard.
fn read_source(rig: &Rig) -> Tree {
    let mut tree = read_tree(rig.root());
    tree.retain(|path, _| !path.as_bytes().starts_with(b"marker-"));
    tree
}

/// Has something done to a tree, and checks that who does only what the backend says of it ends with the same
/// tree, and that every directory is watched.
fn check_deed(about: &str, rig: &mut Rig, probes_apart: bool, deed: impl FnOnce(&Rig)) {
    let backend = rig.backend;
    let tree = read_source(rig);
    deed(rig);
    rig.settle();
    let now = read_source(rig);
    let mut standby = Standby { tree, dirty: BTreeSet::new(), dirty_below: BTreeSet::new() };
    rig.said().iter().for_each(|kind| standby.apply(kind));
    let all = now.keys().chain(standby.tree.keys());
    for path in all.filter(|path| now.get(*path) != standby.tree.get(*path)) {
        let said = rig.said();
        assert!(
            standby.knows(path),
            "{backend:?}, {about}: {path} differs and nobody knows; heard {said:#?}"
        );
    }
    if backend == Backend::Notify {
        return;
    }
    // And every directory is watched: a file in each is heard of.
    rig.forget();
    let dirs = now.iter().filter(|(_, what)| what.is_none()).map(|(path, _)| path);
    let files: Vec<RelPath> = dirs.map(|dir| dir.join(b"probe")).collect();
    for file in &files {
        fs::write(rig.at(std::str::from_utf8(file.as_bytes()).unwrap()), "x").unwrap();
        if probes_apart {
            rig.settle();
        }
    }
    rig.settle();
    for file in &files {
        // What an event named and the disk had elsewhere by then is looked for a little later.
        let create = EventKind::Create { path: file.clone(), dir: false };
        let heard = rig.log.hears(|events| events.contains(&create));
        assert!(heard, "{backend:?}, {about}: {file} is not heard of; heard {:?}", rig.said());
    }
}

fn check(case: &Case) {
    let tuning = Tuning { backlog_max: case.backlog_max, shared: case.shared, ..Tuning::default() };
    let mut rig = Rig::tuned(options(case.backend), prepare, Arc::new(|_, _| false), tuning);
    let outside = rig.outside().join("outside");
    fs::create_dir(&outside).unwrap();
    let about = format!("seed {}", case.seed);
    check_deed(&about, &mut rig, case.backlog_max < 100, |rig| case.run(rig.root(), &outside, &rig.log));
}

/// Has something done before the backend looks at any of it.
fn check_asleep(about: &str, deed: impl Fn(&Path)) {
    for backend in own() {
        let mut rig = Rig::start(backend, prepare);
        check_deed(about, &mut rig, false, |rig| rig.log.asleep(rig.root(), || deed(rig.root())));
    }
}

#[test]
fn what_was_deleted_in_a_directory_that_is_found_ahead_of_its_rename_is_known() {
    check_asleep("found at its new name", |root| {
        fs::create_dir(root.join("new")).unwrap();
        fs::remove_file(root.join("a/c")).unwrap();
        fs::rename(root.join("a"), root.join("new")).unwrap();
    });
    check_asleep("found in a new directory", |root| {
        fs::create_dir(root.join("new")).unwrap();
        fs::remove_file(root.join("a/d/d")).unwrap();
        fs::rename(root.join("a"), root.join("new/a")).unwrap();
    });
    check_asleep("found behind two renames", |root| {
        fs::create_dir(root.join("new")).unwrap();
        fs::remove_file(root.join("b/d")).unwrap();
        fs::rename(root.join("b"), root.join("old")).unwrap();
        fs::rename(root.join("old"), root.join("new")).unwrap();
    });
    check_asleep("replaced under its old name", |root| {
        fs::create_dir(root.join("new")).unwrap();
        fs::remove_file(root.join("a/c")).unwrap();
        fs::rename(root.join("a"), root.join("new")).unwrap();
        fs::remove_file(root.join("b/d")).unwrap();
        fs::rename(root.join("b"), root.join("a")).unwrap();
    });
}

#[test]
fn directories_that_changed_places_before_one_above_them_was_renamed_are_watched() {
    check_asleep("an exchange", |root| {
        let (one, other) = (root.join("a/d"), root.join("b"));
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
        fs::rename(root.join("b"), root.with_file_name("away")).unwrap();
        fs::rename(root.join("a"), root.join("c/a")).unwrap();
    });
}

#[test]
fn after_random_operations_every_differing_path_is_known_and_every_directory_watched() {
    for (backend, seed) in own_seeds(20) {
        check(&Case::new(backend, seed, 1500));
    }
}

#[test]
fn operations_of_several_threads_against_a_listener_that_lags_are_all_known() {
    for (backend, seed) in own_seeds(10) {
        check(&Case { threads: 3, lag: true, ..Case::new(backend, seed, 600) });
    }
}

#[test]
fn whatever_is_done_before_the_listener_looks_is_all_known() {
    for (backend, seed) in own_seeds(100) {
        check(&Case { asleep: true, ..Case::new(backend, seed, 60) });
    }
}

#[test]
fn trees_that_share_an_instance_know_of_every_differing_path_each() {
    std::thread::scope(|scope| {
        for tree in 0..6 {
            scope.spawn(move || {
                for seed in seeds(4) {
                    let case = Case::new(Backend::Inotify, seed * 10 + tree, 800);
                    check(&Case { shared: true, asleep: tree == 0, lag: tree % 2 == 1, ..case });
                }
            });
        }
    });
}

#[test]
fn overflows_amid_random_operations_lose_nothing() {
    for (backend, seed) in own_seeds(5) {
        check(&Case { backlog_max: 40, lag: true, ..Case::new(backend, seed, 1000) });
    }
}

#[test]
fn polling_knows_every_differing_path_after_random_operations() {
    for seed in seeds(5) {
        check(&Case::new(Backend::Poll, seed, 500));
    }
}

#[test]
fn notify_knows_every_differing_path_after_random_operations() {
    for seed in seeds(5) {
        check(&Case::new(Backend::Notify, seed, 500));
    }
}

/// More cases than usual by `SPEIL_SEEDS=1000`.
fn seeds(usual: u64) -> std::ops::RangeInclusive<u64> {
    let wanted = std::env::var("SPEIL_SEEDS").ok().and_then(|text| text.parse().ok());
    1..=wanted.unwrap_or(usual)
}

/// The same for each of the backends that are ours.
fn own_seeds(usual: u64) -> impl Iterator<Item = (Backend, u64)> {
    let own = own();
    seeds(usual).flat_map(move |seed| own.clone().into_iter().map(move |backend| (backend, seed)))
}
