//! Power cuts: the agent's writes, syncs and renames recorded, and every state that a disk may be in
//! after a cut at any of them looked at.
//!
//! Assumed of the medium: a name changes in one step; changes of the names of one directory keep their
//! order among themselves, those of different directories do not; nothing of a directory or of a file's
//! content is sure to be there before that directory, that file or the whole filesystem was flushed, and
//! content may come later than the name that it bears, in part, or as zeros.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::scene::{LASTING, exhaustive, lasting, write};
use crate::support::command::{Background, agent_command, eventually};
use crate::support::rng::Rng;
use crate::support::stand::{Stand, differences};
use crate::support::syscalls::{Call, Verdict, Watched, hold};

type Ino = u64;
type Name = Vec<u8>;

/// What was done to the disk, in order.
#[derive(Debug, Clone)]
enum Op {
    /// A name appeared for an inode.
    Named {
        dir: Ino,
        name: Name,
        ino: Ino,
    },
    Renamed {
        from: (Ino, Name),
        to: (Ino, Name),
        exchange: bool,
    },
    Unlinked {
        dir: Ino,
        name: Name,
    },
    Data {
        ino: Ino,
        at: u64,
        bytes: Vec<u8>,
    },
    Len {
        ino: Ino,
        len: u64,
    },
    Synced(Ino),
    AllSynced,
    /// The source begins to change to this version.
    Began(u32),
    /// All of this version is acknowledged.
    Acknowledged(u32),
}

#[derive(Default)]
struct Recorder {
    ops: Vec<Op>,
    root: PathBuf,
    /// Names that a thread is about to make.
    making: HashMap<u32, PathBuf>,
    /// Flushes that have begun and may not have ended.
    syncing: HashMap<u32, Op>,
    unknown: Vec<String>,
}

const CALLS: [Watched; 17] = [
    (libc::SYS_openat, None),
    (libc::SYS_mkdirat, None),
    (libc::SYS_mknodat, None),
    (libc::SYS_symlinkat, None),
    (libc::SYS_linkat, None),
    (libc::SYS_unlinkat, None),
    (libc::SYS_renameat, None),
    (libc::SYS_renameat2, None),
    (libc::SYS_write, None),
    (libc::SYS_pwrite64, None),
    (libc::SYS_ftruncate, None),
    (libc::SYS_fsync, None),
    (libc::SYS_fdatasync, None),
    (libc::SYS_syncfs, None),
    // Not used so far; unseen they would make the record wrong.
    (libc::SYS_writev, None),
    (libc::SYS_copy_file_range, None),
    (libc::SYS_fallocate, None),
];

fn ino(path: &Path) -> Option<Ino> {
    path.symlink_metadata().ok().map(|meta| meta.ino())
}

fn place(path: &Path) -> Option<(Ino, Name)> {
    Some((ino(path.parent()?)?, path.file_name()?.as_bytes().to_vec()))
}

/// Returns what a removal will do: nothing if it is refused.
fn unlinked(path: &Path, wants_dir: bool) -> Option<Op> {
    let is_dir = path.symlink_metadata().ok()?.is_dir();
    let refused = is_dir && fs::read_dir(path).is_ok_and(|mut names| names.next().is_some());
    let (dir, name) = place(path)?;
    (is_dir == wants_dir && !refused).then_some(Op::Unlinked { dir, name })
}

impl Recorder {
    /// Whether a path is below the root, and none of the notes that a cut may take.
    fn is_ours(&self, path: &Path) -> bool {
        let state = self.root.join(".speil");
        let notes = ["knock", "own", "own.new", "session", "stated"];
        path.starts_with(&self.root) && !notes.iter().any(|note| path == state.join(note))
    }

    /// What a thread did before is done when it comes with something else.
    fn settle(&mut self, tid: u32) {
        if let Some(path) = self.making.remove(&tid)
            && let (Some((dir, name)), Some(ino)) = (place(&path), ino(&path))
        {
            self.ops.push(Op::Named { dir, name, ino });
        }
        self.ops.extend(self.syncing.remove(&tid));
    }

    fn settle_all(&mut self) {
        let all: HashSet<u32> = self.making.keys().chain(self.syncing.keys()).copied().collect();
        all.into_iter().for_each(|tid| self.settle(tid));
    }

    fn hear(&mut self, call: &Call) -> Option<()> {
        if call.command().as_deref() != Some("agent") {
            return None;
        }
        self.settle(call.tid);
        let path_of = |dir, name| call.path(dir, name).filter(|path| self.is_ours(path));
        let file = || call.opened(call.fd(0)).filter(|path| self.is_ours(path)).map(|_| self.ino_of(call, 0));
        match call.nr {
            libc::SYS_openat => {
                let path = path_of(0, 1)?;
                if call.args[2] & libc::O_CREAT as u64 != 0 && !path.exists() {
                    self.making.insert(call.tid, path);
                }
            }
            libc::SYS_mkdirat | libc::SYS_mknodat => {
                let path = path_of(0, 1)?;
                self.making.insert(call.tid, path);
            }
            libc::SYS_symlinkat => {
                let path = path_of(1, 2)?;
                self.making.insert(call.tid, path);
            }
            libc::SYS_linkat => {
                let (dir, name) = place(&path_of(2, 3)?)?;
                self.ops.push(Op::Named { dir, name, ino: ino(&call.path(0, 1)?)? });
            }
            libc::SYS_unlinkat => {
                let wants_dir = call.args[2] & libc::AT_REMOVEDIR as u64 != 0;
                self.ops.extend(unlinked(&path_of(0, 1)?, wants_dir));
            }
            libc::SYS_renameat | libc::SYS_renameat2 => {
                let (from, to) = (path_of(0, 1)?, path_of(2, 3)?);
                let flags = if call.nr == libc::SYS_renameat2 { call.args[4] } else { 0 };
                let exchange = flags & u64::from(libc::RENAME_EXCHANGE) != 0;
                let refused = flags & u64::from(libc::RENAME_NOREPLACE) != 0 && ino(&to).is_some();
                if !refused && ino(&from) != ino(&to) {
                    self.ops.push(Op::Renamed { from: place(&from)?, to: place(&to)?, exchange });
                }
            }
            libc::SYS_write if call.fd(0) == 1 => {
                // What the flusher acknowledges, its helpers have flushed.
                let name = fs::read_to_string(format!("/proc/{}/comm", call.tid)).ok()?;
                if name.trim() == "durable" {
                    self.ops.extend(self.syncing.drain().map(|(_, op)| op));
                }
            }
            libc::SYS_write | libc::SYS_pwrite64 => {
                let ino = file()??;
                let bytes = call.bytes(call.args[1], usize::try_from(call.args[2]).ok()?)?;
                let at = if call.nr == libc::SYS_pwrite64 { call.args[3] } else { self.len(ino) };
                self.ops.push(Op::Data { ino, at, bytes });
            }
            libc::SYS_ftruncate => {
                let ino = file()??;
                self.ops.push(Op::Len { ino, len: call.args[1] });
            }
            libc::SYS_fsync | libc::SYS_fdatasync => {
                let ino = file()??;
                self.syncing.insert(call.tid, Op::Synced(ino));
            }
            libc::SYS_syncfs => {
                self.syncing.insert(call.tid, Op::AllSynced);
            }
            other => {
                file()?;
                self.unknown.push(format!("call {other}"));
            }
        }
        Some(())
    }

    fn ino_of(&self, call: &Call, argument: usize) -> Option<Ino> {
        let link = format!("/proc/{}/fd/{}", call.tid, call.fd(argument));
        fs::metadata(link).ok().map(|meta| meta.ino())
    }

    /// The length of a file that is only ever appended to.
    fn len(&self, of: Ino) -> u64 {
        let lens = self.ops.iter().rev().find_map(|op| match op {
            Op::Data { ino, at, bytes } if *ino == of => Some(at + bytes.len() as u64),
            _ => None,
        });
        lens.unwrap_or(0)
    }
}

fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much of what was not flushed is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Content {
    All,
    None,
    /// The length alone.
    Zeros,
    /// The first half of what was written last.
    Half,
}

const CONTENTS: [Content; 4] = [Content::All, Content::None, Content::Zeros, Content::Half];

/// What a power cut after the first `ops` leaves, as far as it is settled.
struct Cut<'a> {
    ops: &'a [Op],
    /// For each of them, whether it is sure to be on the disk.
    sure: Vec<bool>,
    acknowledged: u32,
    began: u32,
    each_flushed: bool,
    /// Which version a file's content is, for each way in which the rest of it may be missing.
    known: HashMap<(Ino, Content, usize), Option<u32>>,
    /// Which files hold a memory.
    memories: HashMap<(Ino, Content), bool>,
}

impl<'a> Cut<'a> {
    fn after(ops: &'a [Op], each_flushed: bool) -> Self {
        let (mut synced, mut all) = (HashSet::new(), false);
        let (mut acknowledged, mut began) = (0, 0);
        let mut sure = vec![false; ops.len()];
        for (op, sure) in ops.iter().zip(&mut sure).rev() {
            *sure = all
                || match op {
                    Op::Named { dir, .. } | Op::Unlinked { dir, .. } => synced.contains(dir),
                    Op::Renamed { from, to, .. } => synced.contains(&from.0) && synced.contains(&to.0),
                    Op::Data { ino, .. } | Op::Len { ino, .. } => synced.contains(ino),
                    _ => false,
                };
            match op {
                Op::Synced(ino) => drop(synced.insert(*ino)),
                Op::AllSynced => all = true,
                Op::Acknowledged(version) => acknowledged = acknowledged.max(*version),
                Op::Began(version) => began = began.max(*version),
                _ => {}
            }
        }
        Self { ops, sure, acknowledged, began, each_flushed, known: HashMap::new(), memories: HashMap::new() }
    }

    /// The directories whose names are not settled, with how many changes of each are not.
    fn open_dirs(&self) -> BTreeMap<Ino, usize> {
        let mut open = BTreeMap::new();
        for (op, _) in self.ops.iter().zip(&self.sure).filter(|(_, sure)| !**sure) {
            for dir in dirs_of(op) {
                *open.entry(dir).or_default() += 1;
            }
        }
        open
    }

    /// Returns the names of every directory if of each so many unsettled changes came through.
    fn names(&self, through: &dyn Fn(Ino) -> usize) -> HashMap<Ino, BTreeMap<&'a [u8], Ino>> {
        let mut names: HashMap<Ino, BTreeMap<&[u8], Ino>> = HashMap::new();
        let mut counts: HashMap<Ino, usize> = HashMap::new();
        for (op, sure) in self.ops.iter().zip(&self.sure) {
            if !*sure {
                let mut comes = true;
                for dir in dirs_of(op) {
                    let count = counts.entry(dir).or_default();
                    *count += 1;
                    comes &= *count <= through(dir);
                }
                if !comes {
                    continue;
                }
            }
            match op {
                Op::Named { dir, name, ino } => {
                    names.entry(*dir).or_default().insert(name, *ino);
                }
                Op::Unlinked { dir, name } => {
                    names.entry(*dir).or_default().remove(name.as_slice());
                }
                Op::Renamed { from, to, exchange } => {
                    let moved = names.entry(from.0).or_default().remove(from.1.as_slice());
                    let over = names.entry(to.0).or_default().remove(to.1.as_slice());
                    if let Some(moved) = moved {
                        names.entry(to.0).or_default().insert(&to.1, moved);
                    }
                    if let Some(over) = over.filter(|_| *exchange) {
                        names.entry(from.0).or_default().insert(&from.1, over);
                    }
                }
                _ => {}
            }
        }
        names
    }

    fn bytes(&self, of: Ino, content: Content) -> Vec<u8> {
        let mut file = Vec::new();
        let mut put = |at: usize, bytes: &[u8]| {
            file.resize(file.len().max(at + bytes.len()), 0);
            file[at..at + bytes.len()].copy_from_slice(bytes);
        };
        for (op, sure) in self.ops.iter().zip(&self.sure) {
            let content = if *sure { Content::All } else { content };
            match op {
                Op::Data { ino, at, bytes } if *ino == of => {
                    let at = usize::try_from(*at).unwrap();
                    match content {
                        Content::All => put(at, bytes),
                        Content::None => {}
                        Content::Zeros => put(at, &vec![0; bytes.len()]),
                        Content::Half => put(at, &bytes[..bytes.len() / 2]),
                    }
                }
                Op::Len { ino, len } if *ino == of && content != Content::None => {
                    put(usize::try_from(*len).unwrap(), &[]);
                }
                _ => {}
            }
        }
        file
    }

    /// Whose the tree is, is known as soon as anything was acknowledged.
    fn check_memory(
        &mut self,
        root: Option<&BTreeMap<&[u8], Ino>>,
        names: &HashMap<Ino, BTreeMap<&[u8], Ino>>,
        content: Content,
    ) -> Result<(), String> {
        if self.acknowledged == 0 {
            return Ok(());
        }
        let dir = root.and_then(|root| root.get(&b".speil"[..]));
        let file = dir.and_then(|dir| names.get(dir)?.get(&b"memory"[..])).copied();
        let file = file.ok_or("the agent's memory is missing")?;
        if !self.memories.contains_key(&(file, content)) {
            let bytes = self.bytes(file, content);
            let read = serde_json::from_slice::<serde_json::Value>(&bytes);
            let known =
                read.is_ok_and(|memory| memory["mirror"].as_str().is_some_and(|mirror| !mirror.is_empty()));
            self.memories.insert((file, content), known);
        }
        if self.memories[&(file, content)] { Ok(()) } else { Err("the agent's memory is torn".into()) }
    }

    /// Says what of what was acknowledged is not there, or what is torn.
    fn check(&mut self, root: Ino, through: &dyn Fn(Ino) -> usize, content: Content) -> Result<(), String> {
        let names = self.names(through);
        self.check_memory(names.get(&root), &names, content)?;
        for (at, (path, lines)) in LASTING.into_iter().enumerate() {
            let found =
                path.split('/').try_fold(root, |dir, name| names.get(&dir)?.get(name.as_bytes()).copied());
            let Some(ino) = found else {
                if self.acknowledged > 0 {
                    return Err(format!("{path} is missing"));
                }
                continue;
            };
            let version = match self.known.get(&(ino, content, at)) {
                Some(version) => *version,
                None => {
                    let bytes = self.bytes(ino, content);
                    let version =
                        (0..=self.began).rev().find(|version| bytes == lasting(path, lines, *version));
                    self.known.insert((ino, content, at), version);
                    version
                }
            };
            match version {
                // What is new, and not acknowledged, may be incomplete where not each file is flushed.
                None if self.acknowledged == 0 && !self.each_flushed => {}
                None => return Err(format!("{path} is torn: {content:?}")),
                Some(version) if version < self.acknowledged => {
                    return Err(format!("{path} is version {version} again"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn dirs_of(op: &Op) -> Vec<Ino> {
    match op {
        Op::Named { dir, .. } | Op::Unlinked { dir, .. } => vec![*dir],
        Op::Renamed { from, to, .. } if from.0 == to.0 => vec![from.0],
        Op::Renamed { from, to, .. } => vec![from.0, to.0],
        _ => Vec::new(),
    }
}

/// Records a mirror at work on a few versions.
fn record(durability: &str) -> (Vec<Op>, Ino) {
    let stand = Stand::new();
    let (source, target) = (stand.source(), stand.target("standby"));
    fs::create_dir(&target).unwrap();
    let root = ino(&target).unwrap();
    let recorder = Arc::new(Mutex::new(Recorder { root: target.clone(), ..Recorder::default() }));
    lock(&recorder).ops.push(Op::Began(1));
    write(&source, 1);
    let control = format!("--control={}", stand.control().display());
    let mut command = stand.environment.speil([
        "mirror",
        "--no-delete-guard",
        "--reconcile-interval=never",
        &control,
        &format!("--durability={durability}"),
        &format!("--agent={}", agent_command()),
        &format!("{}/", source.display()),
        &target.display().to_string(),
    ]);
    let keep = Arc::clone(&recorder);
    hold(&mut command, &CALLS, move |call| {
        lock(&keep).hear(call);
        Verdict::Go
    });
    let mirror = Background::spawn(command);
    mirror.wait_for_line(": live");
    let wait = || {
        stand.environment.run(["wait", "--timeout=60s", &control]).succeeded();
    };
    wait();
    lock(&recorder).ops.push(Op::Acknowledged(1));
    for version in 2..5 {
        lock(&recorder).ops.push(Op::Began(version));
        write(&source, version);
        wait();
        lock(&recorder).ops.push(Op::Acknowledged(version));
    }
    eventually("both are equal", || differences(&source, &target).is_empty());
    mirror.terminate();
    let mut recorder = lock(&recorder);
    recorder.settle_all();
    assert_eq!(recorder.unknown, Vec::<String>::new(), "calls that this record does not understand");
    let ops = std::mem::take(&mut recorder.ops);
    assert_same(&ops, root, &target);
    (ops, root)
}

/// The record explains what stands there: otherwise it proves nothing.
fn assert_same(ops: &[Op], root: Ino, target: &Path) {
    let cut = Cut::after(ops, true);
    let names = cut.names(&|_| usize::MAX);
    for entry in walkdir::WalkDir::new(target).min_depth(1) {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(target).unwrap();
        if path.starts_with(".speil") {
            continue;
        }
        let found = path
            .iter()
            .try_fold(root, |dir, name| names.get(&dir)?.get(name.as_bytes()).copied())
            .unwrap_or_else(|| panic!("{path:?} is not in the record"));
        assert_eq!(found, entry.metadata().unwrap().ino(), "{path:?}");
        if entry.file_type().is_file() {
            assert_eq!(cut.bytes(found, Content::All), fs::read(entry.path()).unwrap(), "{path:?}");
        }
    }
}

/// Cuts the power after each operation, and looks at every state that may be left. Returns how many.
fn cut_everywhere(ops: &[Op], root: Ino, durability: &str) -> (usize, Vec<String>) {
    let (mut states, mut faults) = (0, Vec::new());
    let mut rng = Rng::new(6);
    // A few at each operation, all of them at some.
    let thorough = |at: usize| exhaustive() || at.is_multiple_of(16);
    for at in 0..=ops.len() {
        if faults.len() > 20 {
            break;
        }
        let mut cut = Cut::after(&ops[..at], durability != "batch");
        let open = cut.open_dirs();
        let most = open.values().copied().max().unwrap_or(0);
        let mut look = |cut: &mut Cut<'_>, through: &dyn Fn(Ino) -> usize, content| {
            states += 1;
            if let Err(fault) = cut.check(root, through, content) {
                let last = at.checked_sub(1).and_then(|last| ops.get(last));
                let last = format!("{last:?}").chars().take(150).collect::<String>();
                faults.push(format!("{durability}: cut after {at}, {last}: {fault}"));
            }
        };
        for content in CONTENTS {
            // Every prefix of each directory, while of the others nothing or all came through.
            look(&mut cut, &|_| 0, content);
            look(&mut cut, &|_| usize::MAX, content);
            for (&dir, &count) in open.iter().filter(|_| thorough(at)) {
                for others in [0, usize::MAX] {
                    for through in 0..=count {
                        look(&mut cut, &|any| if any == dir { through } else { others }, content);
                    }
                }
            }
            for _ in 0..if exhaustive() { 100 } else { 1 } {
                let draws: BTreeMap<Ino, usize> =
                    open.keys().map(|dir| (*dir, rng.below(most + 1))).collect();
                look(&mut cut, &|any| draws.get(&any).copied().unwrap_or(0), content);
            }
        }
    }
    (states, faults)
}

fn survives(durability: &str) {
    let (ops, root) = record(durability);
    let (states, faults) = cut_everywhere(&ops, root, durability);
    println!("{durability}: {} operations, {states} states of the disk", ops.len());
    assert!(
        faults.is_empty(),
        "{} faults, the first:\n{}",
        faults.len(),
        faults[..faults.len().min(20)].join("\n")
    );
}

#[test]
fn whenever_the_power_goes_what_was_acknowledged_is_there_and_what_stood_there_is_whole() {
    survives("batch");
}

#[test]
fn whenever_the_power_goes_each_file_is_whole_where_each_is_flushed() {
    survives("file");
}

#[test]
#[should_panic(expected = "faults, the first")]
fn a_mirror_that_flushes_nothing_does_not_survive_a_power_cut() {
    survives("none");
}
