//! Configurations as data: the real lsyncd and speil run each of them, against recorders.
//!
//! A case is a Lua file in `tests/data/lsyncd`; its first lines say in comments what is done:
//! `covers` names what it shows; `setup` and `edit` are lines for sh, run beside the source and in it;
//! `codes` are exit codes of a recorder, in turn, the last one for ever; `start` and `calls` are how many
//! calls lsyncd makes until then, `until` is a line for sh that succeeds then; `exit` is the status of a run that ends by itself; `differs` (and `native-differs`, for the native engine) names the
//! row of `contrib/lsyncd-differences.md` that says why speil does not do the same, and `speil-calls` and
//! `speil-exit` say what it does. `native` are replacements that make its hosts this one, so that it can be
//! mirrored natively, to `targets`. `watchers` is how many syncs of speil watch the source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::scene::{Call, Scene};
use crate::support::command::{Background, holds_within};
use crate::support::process;

/// How long one step of a case may take.
const STEP: Duration = Duration::from_secs(30);

/// What the public configurations use, after how often they do.
const FEATURES: [&str; 74] = [
    "source",
    "statusFile",
    "logfile",
    "rsync={}",
    "delay",
    "target",
    "default.rsync",
    "rsync.compress",
    "rsync.archive",
    "nodaemon",
    "statusInterval",
    "host",
    "targetdir",
    "local target",
    "default.rsyncssh",
    "exclude list",
    "concatenation",
    "rsync.rsh",
    "host:path target",
    "_extra",
    "perms",
    "insist",
    "more than one sync",
    "binary",
    "functions",
    "settings.maxProcesses",
    "verbose",
    "owner",
    "delete=false",
    "own tables",
    "whole_file",
    "for loops",
    "ssh={}",
    "sync.maxProcesses",
    "log()",
    "excludeFrom",
    "update",
    "group",
    "delete=running",
    "CloseWrite or Modify",
    "os.getenv",
    "spawnShell",
    "old settings",
    "default.direct",
    "action function",
    "init=false",
    "init function",
    "settings.maxDelays",
    "sync.maxDelays",
    "CloseWrite",
    "io.open",
    "checksum",
    "bwlimit",
    "acls",
    "onX strings",
    "exclude string",
    "delete=true",
    "pidfile",
    "onStartup string",
    "onCreate function",
    "rsync:// target",
    "links",
    "getEvents",
    "discardEvent",
    "spawn",
    "rsyncOpts",
    "os.execute",
    "filter",
    "collect",
    "prepare",
    "password_file",
    "conf.d",
    "io.popen",
    "host::module",
];

/// Features of a single configuration or two.
const RARE: [&str; 16] = [
    "invalid inotifyMode",
    "exitcodes",
    "checkgauge",
    "inplace",
    "sparse",
    "xattrs",
    "protect_args",
    "dry_run",
    "chown",
    "copy_links",
    "logident",
    "logfacility",
    "addExclude",
    "createBlanketEvent",
    "terminate",
    "rsync_path",
];

/// One configuration with what is done.
pub struct Case {
    pub name: String,
    pub text: String,
    keys: BTreeMap<String, Vec<String>>,
    pub edits: Vec<Edit>,
}

/// A line for sh, and what is waited for afterwards.
#[derive(Default)]
pub struct Edit {
    pub line: String,
    /// A line for sh that succeeds in the target once the edit is there: where both targets are alike before.
    pub there: Option<String>,
    /// So many calls in all.
    calls: Option<usize>,
    /// A line for sh that succeeds.
    until: Option<String>,
}

/// What one program did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    calls: Vec<Call>,
    exit: i32,
    tree: Vec<String>,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/lsyncd")
}

fn cases() -> Vec<Case> {
    let entries = fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|file| file.extension().is_some_and(|end| end == "lua")).collect();
    files.sort();
    files.iter().map(|file| Case::read(file)).collect()
}

impl Case {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let (mut keys, mut edits) = (BTreeMap::<String, Vec<String>>::new(), Vec::<Edit>::new());
        for line in text.lines().map_while(|line| line.strip_prefix("-- ")) {
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}", file.display()));
            match key {
                "edit" => edits.push(Edit { line: value.to_owned(), ..Edit::default() }),
                "calls" => edits.last_mut().unwrap().calls = Some(value.parse().unwrap()),
                "there" => edits.last_mut().unwrap().there = Some(value.to_owned()),
                "until" => edits.last_mut().unwrap().until = Some(value.to_owned()),
                key => keys.entry(key.to_owned()).or_default().push(value.to_owned()),
            }
        }
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        Self { name, text, keys, edits }
    }

    /// Returns every value of a key.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.keys.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Returns the first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).and_then(|values| values.first()).map(String::as_str)
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.get(key).map(|value| value.parse().unwrap())
    }

    /// Runs one of the programs and returns what it did, or what it waited for in vain.
    fn run(&self, speil: bool) -> Result<Outcome, String> {
        let scene = Scene::new();
        for name in ["rsync", "ssh", "hook"] {
            let codes = self.keys.get("codes").into_iter().flatten().find_map(|line| line.strip_prefix(name));
            scene.stand_in(name, codes.map_or("0", str::trim));
        }
        for line in self.keys.get("setup").into_iter().flatten() {
            shell(&scene.path(""), line);
        }
        // On the first line, so that the others keep their numbers.
        let stand_ins = "default.rsync.rsync.binary='@/bin/rsync' default.direct.rsync.binary='@/bin/rsync' \
                         default.rsyncssh.ssh.binary='@/bin/ssh' ";
        let file = scene.configure(&format!("{stand_ins}{}", self.text));
        let mut arguments: Vec<String> = Vec::new();
        if speil {
            arguments.extend(["-engine", "rsync"].map(str::to_owned));
        }
        let given = self.get("args").unwrap_or("-nodaemon -delay 1");
        arguments.extend(given.split(' ').map(|word| word.replace("@/", &scene.path("").to_string_lossy())));
        arguments.push(file.to_string_lossy().into_owned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let guard = scene.start(speil, &arguments);
        let done = self.drive(&scene, &guard, speil);
        let told =
            || format!("{}\n{}\n{:?}", guard.stdout().join("\n"), guard.stderr().join("\n"), scene.calls());
        if let Err(what) = done {
            return Err(format!("waited for {what}:\n{}", told()));
        }
        // lsyncd misses a signal now and then that comes just before it sleeps.
        let ended = (0..10).any(|_| {
            if self.exit(speil).is_none() {
                process::send(guard.pid(), Signal::TERM);
            }
            holds_within(STEP / 10, || !guard.is_running())
        });
        if !ended {
            return Err(format!("does not end:\n{}", told()));
        }
        let (calls, end) = (scene.calls(), guard.wait());
        let expected = self.exit(speil).unwrap_or(143);
        if usize::try_from(end.code()).ok() != Some(expected) {
            return Err(format!("ended with {}:\n{}\n{}", end.code(), end.stdout, end.stderr));
        }
        let exit = end.code();
        Ok(Outcome { calls: self.settled(calls), exit, tree: tree(&scene.path("t")) })
    }

    fn exit(&self, speil: bool) -> Option<usize> {
        let own = if speil { self.number("speil-exit") } else { None };
        own.or(self.number("exit")).filter(|code| *code != 143)
    }

    /// Waits and edits, step by step.
    fn drive(&self, scene: &Scene, guard: &Background, speil: bool) -> Result<(), String> {
        if self.exit(speil).is_some() && self.edits.is_empty() {
            return Ok(());
        }
        let count = |wanted: usize| {
            let there = holds_within(STEP, || scene.count() >= wanted || !guard.is_running());
            if there { Ok(()) } else { Err(format!("{wanted} calls")) }
        };
        // lsyncd has one inotify descriptor for all syncs, speil one for each.
        let watchers = if speil { self.number("watchers").unwrap_or(1) } else { 1 };
        let watched = || watchers_of(guard.pid(), &scene.path("s/a")) >= watchers || !guard.is_running();
        if !holds_within(STEP, watched) {
            return Err("the watches".to_owned());
        }
        count(self.number("start").unwrap_or(1))?;
        // What is at work when its path changes again is worked on again, by both, but not at the same moment;
        // and it is at work until its child's end is noted, which is after the child is gone.
        let idle = || {
            let mut last = None;
            holds_within(STEP, || {
                let rest = process::rest(guard.pid());
                let rests = rest.is_some() && std::mem::replace(&mut last, rest) == rest;
                rests && process::descendants(guard.pid()).is_empty() || !guard.is_running()
            })
        };
        for (at, edit) in self.edits.iter().enumerate() {
            if !idle() {
                return Err("the children's end".to_owned());
            }
            shell(&scene.path("s"), &edit.line);
            let own = if speil && at + 1 == self.edits.len() { self.number("speil-calls") } else { None };
            if let Some(calls) = own.or(edit.calls) {
                count(calls)?;
            }
            if let Some(line) = &edit.until
                && !holds_within(STEP, || succeeds(&scene.path(""), line))
            {
                return Err(line.clone());
            }
        }
        let fence = self.number("fence").unwrap_or(1);
        if fence > 0 && idle() {
            shell(&scene.path("s"), "echo 1 > fence");
            let seen = || scene.calls().iter().filter(|call| call.mentions("fence")).count() >= fence;
            if !holds_within(STEP, || seen() || !guard.is_running()) {
                return Err("the fence".to_owned());
            }
        }
        Ok(())
    }

    /// Brings calls into the order in which they are compared: each program's for each target, as they
    /// came; what follows each other with the same words is one, however it was cut.
    fn settled(&self, calls: Vec<Call>) -> Vec<Call> {
        let mut all: Vec<Call> = Vec::new();
        let mut sorted = calls;
        sorted.sort_by_key(|call| (call.words.first().cloned(), call.words.last().cloned()));
        if self.get("order") == Some("any") {
            sorted.sort();
        }
        for call in sorted {
            match all.last_mut() {
                Some(last) if last.words == call.words && !call.input.is_empty() => {
                    last.input.extend(call.input)
                }
                _ => all.push(call),
            }
        }
        all
    }

    /// Compares both programs; returns what is wrong.
    fn check(&self) -> Option<String> {
        let (ours, theirs) = std::thread::scope(|scope| {
            let ours = scope.spawn(|| self.run(true));
            // lsyncd ends now and then where many run at once on a busy host. That is no word about speil.
            let theirs = self.run(false).or_else(|_| self.run(false)).or_else(|_| self.run(false));
            (ours.join().unwrap_or_else(|_| Err("panicked".to_owned())), theirs)
        });
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (Err(text), _) => return Some(format!("speil {text}")),
            (_, Err(text)) => return Some(format!("lsyncd {text}")),
        };
        let Some(row) = self.get("differs") else {
            return (ours != theirs).then(|| format!("speil  {ours:#?}\nlsyncd {theirs:#?}"));
        };
        if ours == theirs {
            return Some(format!("does not differ any more: {row}"));
        }
        missing_row(row)
    }
}

/// Says that the table of differences has no row that begins with `row`; `None` if it has.
pub fn missing_row(row: &str) -> Option<String> {
    let table = include_str!("../../../contrib/lsyncd-differences.md");
    let known = table.lines().any(|line| line.strip_prefix("| ").is_some_and(|line| line.starts_with(row)));
    (!known).then(|| format!("no row of the differences begins with {row:?}"))
}

/// Whether a line for sh succeeds in a directory.
pub fn succeeds(at: &Path, line: &str) -> bool {
    Command::new("sh").args(["-ec", line]).current_dir(at).status().unwrap().success()
}

/// Runs a line for sh in a directory.
pub fn shell(at: &Path, line: &str) {
    assert!(succeeds(at, line), "{line}");
}

/// Whether a process watches a directory, as `/proc` tells.
pub fn watches(pid: u32, dir: &Path) -> bool {
    watchers_of(pid, dir) > 0
}

/// Returns how many inotify descriptors of a process watch a directory; as many as one likes if it is gone.
fn watchers_of(pid: u32, dir: &Path) -> usize {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::metadata(dir) else { return usize::MAX };
    let wanted = format!(" ino:{:x} ", meta.ino());
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return 0 };
    let texts = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts
        .filter(|text| text.lines().any(|line| line.starts_with("inotify") && line.contains(&wanted)))
        .count()
}

/// Returns what stands in a tree, with contents, types and modes.
fn tree(at: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    let mut all = Vec::new();
    for entry in walkdir::WalkDir::new(at).sort_by_file_name().into_iter().flatten() {
        let meta = entry.metadata().unwrap();
        let name = entry.path().strip_prefix(at).unwrap_or(at).display().to_string();
        let content = if meta.is_file() { fs::read(entry.path()).unwrap_or_default() } else { Vec::new() };
        all.push(format!("{name} {:o} {}", meta.permissions().mode(), String::from_utf8_lossy(&content)));
    }
    all
}

/// Checks every case, a few at a time, and says which fail. `SPEIL_CASE` picks those whose names hold it.
pub fn in_parallel(check: impl Fn(&Case) -> Option<String> + Sync) {
    let wanted = std::env::var("SPEIL_CASE").unwrap_or_default();
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.name.contains(&wanted)).collect();
    assert!(!wanted.is_empty() || cases.len() >= 40, "{} cases", cases.len());
    assert!(Path::new("/usr/bin/lsyncd").exists(), "install lsyncd");
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(text) = check(case) {
                        failures.lock().unwrap().push(format!("{}: {text}", case.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}

#[test]
fn the_same_configurations_make_the_same_calls() {
    in_parallel(Case::check);
}

#[test]
fn the_cases_cover_what_people_use() {
    let covered: Vec<String> = cases()
        .iter()
        .flat_map(|case| case.keys.get("covers").cloned().unwrap_or_default())
        .flat_map(|line| line.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let missing: Vec<&&str> = FEATURES
        .iter()
        .chain(&RARE)
        .filter(|feature| !covered.iter().any(|other| other == **feature))
        .collect();
    assert!(missing.is_empty(), "no case covers {missing:?}");
    let strange: Vec<&String> = covered
        .iter()
        .filter(|word| !FEATURES.contains(&word.as_str()) && !RARE.contains(&word.as_str()))
        .collect();
    assert!(strange.is_empty(), "not in the lists: {strange:?}");
}
