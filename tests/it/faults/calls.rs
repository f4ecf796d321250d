//! System calls that fail: the Nth of a kind, N from 1 until none fails any more.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::scene::{
    Contents, Watch, assert_whole, contents, differing, exhaustive, is_tried, last_step, write,
};
use crate::support::command::{Background, Environment, agent_command, eventually};
use crate::support::stand::{Stand, scratch};
use crate::support::syscalls::{Call, Verdict, Watched, hold};
use crate::support::tree::copy_tree;

/// A kind of call: its name, and the numbers with the arguments that say which file is meant.
struct Kind {
    name: &'static str,
    calls: &'static [(libc::c_long, Object)],
}

/// Which file a call is about.
#[derive(Clone, Copy)]
enum Object {
    /// What this descriptor is open on.
    Fd(usize),
    /// A directory's descriptor and a name.
    At(usize, usize),
    /// A path.
    Path(usize),
}

use Object::{At, Fd, Path as Named};

const KINDS: [Kind; 9] = [
    Kind { name: "read", calls: &[(libc::SYS_read, Fd(0)), (libc::SYS_pread64, Fd(0))] },
    Kind { name: "list", calls: &[(libc::SYS_getdents64, Fd(0))] },
    Kind {
        name: "write",
        calls: &[(libc::SYS_write, Fd(0)), (libc::SYS_pwrite64, Fd(0)), (libc::SYS_ftruncate, Fd(0))],
    },
    Kind { name: "rename", calls: &[(libc::SYS_renameat, At(2, 3)), (libc::SYS_renameat2, At(2, 3))] },
    Kind {
        name: "fsync",
        calls: &[(libc::SYS_fsync, Fd(0)), (libc::SYS_fdatasync, Fd(0)), (libc::SYS_syncfs, Fd(0))],
    },
    Kind {
        name: "chmod",
        calls: &[
            (libc::SYS_fchmod, Fd(0)),
            (libc::SYS_fchmodat, At(0, 1)),
            (libc::SYS_fchown, Fd(0)),
            (libc::SYS_fchownat, At(0, 1)),
            (libc::SYS_utimensat, At(0, 1)),
            (libc::SYS_setxattr, Named(0)),
        ],
    },
    Kind { name: "open", calls: &[(libc::SYS_openat, At(0, 1)), (libc::SYS_openat2, At(0, 1))] },
    Kind {
        name: "make",
        calls: &[
            (libc::SYS_mkdirat, At(0, 1)),
            (libc::SYS_symlinkat, At(1, 2)),
            (libc::SYS_linkat, At(2, 3)),
        ],
    },
    Kind { name: "unlink", calls: &[(libc::SYS_unlinkat, At(0, 1))] },
];

const ERRORS: [i32; 6] = [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EACCES, libc::EROFS, libc::EMFILE];

/// The call that fails next.
#[derive(Clone, Copy)]
struct Wish {
    kind: usize,
    errno: i32,
    /// Which of them, counted from now.
    nth: usize,
    /// In the agent, or in the process that reads the source.
    agent: bool,
}

/// What the judge and the test share.
#[derive(Default)]
struct Shared {
    wish: Option<Wish>,
    seen: usize,
    /// What failed: the call and its file.
    failed: Option<PathBuf>,
}

/// The layer that fails as it is told, below one directory.
struct Layer(Arc<Mutex<Shared>>);

impl Layer {
    /// Has `command` run on this layer.
    fn below(command: &mut Command, dir: &Path) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (keep, dir) = (Arc::clone(&shared), dir.to_owned());
        let watched: Vec<Watched> =
            KINDS.iter().flat_map(|kind| kind.calls).map(|(nr, _)| (*nr, None)).collect();
        hold(command, &watched, move |call| judge(&mut lock(&keep), call, &dir));
        Self(shared)
    }

    fn arm(&self, wish: Wish) {
        *lock(&self.0) = Shared { wish: Some(wish), ..Shared::default() };
    }

    /// Returns what failed, and lets everything succeed from here on.
    fn disarm(&self) -> Option<PathBuf> {
        std::mem::take(&mut *lock(&self.0)).failed
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn judge(shared: &mut Shared, call: &Call, dir: &Path) -> Verdict {
    let Some(wish) = shared.wish.filter(|_| shared.failed.is_none()) else { return Verdict::Go };
    let Some((_, object)) = KINDS[wish.kind].calls.iter().find(|(nr, _)| *nr == call.nr) else {
        return Verdict::Go;
    };
    let path = match *object {
        Fd(fd) => call.opened(call.fd(fd)),
        At(dir, name) => call.path(dir, name),
        Named(name) => call.path(0, name).filter(|_| name == 0),
    };
    let Some(path) = path.filter(|path| path.starts_with(dir)) else { return Verdict::Go };
    let Some(command) = call.command() else { return Verdict::Go };
    if (command == "agent") != wish.agent {
        return Verdict::Go;
    }
    shared.seen += 1;
    if shared.seen < wish.nth {
        return Verdict::Go;
    }
    shared.failed = Some(path);
    Verdict::Fail(wish.errno)
}

/// Every kind of call on either side, with the errors that it is tried with.
fn wishes() -> Vec<Wish> {
    let mut wishes = Vec::new();
    for agent in [true, false] {
        for kind in 0..KINDS.len() {
            for (at, errno) in ERRORS.into_iter().enumerate() {
                // Otherwise each kind has an error of its own.
                if exhaustive() || at == kind % ERRORS.len() {
                    wishes.push(Wish { kind, errno, nth: 1, agent });
                }
            }
        }
    }
    wishes
}

fn told(wish: Wish) -> String {
    let side = if wish.agent { "agent" } else { "source" };
    format!("{side}: {} {}: errno {}", KINDS[wish.kind].name, wish.nth, wish.errno)
}

fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".speil-"))
}

/// A source, a target that is a version behind, and what both versions hold.
struct Pair {
    dir: tempfile::TempDir,
    environment: Environment,
    old: Contents,
    new: Contents,
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("speil-calls").tempdir_in(scratch()).unwrap();
        let source = dir.path().join("source");
        fs::create_dir(&source).unwrap();
        write(&source, 1);
        copy_tree(&source, &dir.path().join("before")).unwrap();
        let old = contents(&source);
        write(&source, 2);
        let new = contents(&source);
        Self { dir, environment: Environment::new(), old, new }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sync(&self) -> Command {
        let arguments = ["sync", "-aHAX", "--delete"].map(PathBuf::from);
        self.environment.speil(arguments.iter().chain([&self.path("source/"), &self.path("target")]))
    }

    /// One pass in which a call fails, and one in which none does. Returns whether there was one to fail.
    fn round(&self, wish: Wish) -> bool {
        let [source, target] = ["source", "target"].map(|name| self.path(name));
        let _ = fs::remove_dir_all(&target);
        copy_tree(&self.path("before"), &target).unwrap();
        let mut command = self.sync();
        let layer = Layer::below(&mut command, self.dir.path());
        layer.arm(wish);
        let outcome = Background::spawn(command).wait();
        let failed = layer.disarm();
        let context = format!("{}: {failed:?}: {outcome:?}", told(wish));
        assert_whole(&target, &[&self.old, &self.new], &context);
        // A temporary name that could not be removed is the next session's to remove.
        let mut left = differing(&source, &target);
        left.retain(|path| !is_temporary(Path::new(path)));
        assert!(matches!(outcome.code(), 0 | 3 | 11 | 12 | 23 | 24), "{context}");
        // A target that refuses something when it is tried out is taken at its word.
        let tried_out = wish.agent && wish.errno == libc::EACCES && {
            let path = failed.as_deref().unwrap_or(&target);
            path.parent() == Some(&target) && is_temporary(path)
        };
        let is_told = outcome.code() != 0 || tried_out;
        assert!(is_told || left.is_empty(), "{context}: told as done: {left:?}");
        if wish.agent && ["write", "rename", "fsync"].contains(&KINDS[wish.kind].name) && outcome.code() == 23
        {
            // The others went on: what is left is one path, its other names, and the way to it.
            let files = left.iter().filter(|path| !target.join(path).is_dir()).count();
            assert!(files <= 3, "{context}: {left:?}");
        }
        let again = Background::spawn(self.sync()).wait();
        assert_eq!(again.code(), 0, "{context}: {again:?}");
        let left = differing(&source, &target);
        assert!(left.is_empty(), "{context}: does not heal: {left:?}");
        failed.is_some()
    }
}

#[test]
fn whichever_call_of_a_single_pass_fails_it_is_told_nothing_is_torn_and_the_next_pass_heals() {
    let pair = Pair::new();
    let (mut rounds, mut failures, mut faults) = (0, 0, 0);
    for mut wish in wishes() {
        while wish.nth <= last_step() {
            if is_tried(wish.nth) {
                rounds += 1;
                match std::panic::catch_unwind(AssertUnwindSafe(|| pair.round(wish))) {
                    Ok(false) => break,
                    Ok(true) => failures += 1,
                    // All are wanted, not the first alone.
                    Err(_) => faults += 1,
                }
            }
            wish.nth += 1;
        }
    }
    println!("{rounds} passes, of which {failures} met a failing call");
    assert_eq!(faults, 0, "of {rounds} rounds");
    assert!(failures > 10);
}

/// A live mirror to two targets, on a layer that fails.
struct Live {
    stand: Stand,
    layer: Layer,
    mirror: Background,
    version: u32,
}

impl Live {
    fn new() -> Self {
        let stand = Stand::new();
        write(&stand.source(), 1);
        let mut command = stand.environment.speil([
            "mirror",
            "--no-delete-guard",
            "--reconcile-interval=never",
            &format!("--control={}", stand.control().display()),
            &format!("--agent={}", agent_command()),
            &format!("{}/", stand.source().display()),
            &stand.target("first").display().to_string(),
            &stand.target("second").display().to_string(),
        ]);
        let layer = Layer::below(&mut command, stand.dir.path());
        let mirror = Background::spawn(command);
        eventually("both are live", || {
            mirror.stdout().iter().filter(|line| line.ends_with(": live")).count() == 2
        });
        Self { stand, layer, mirror, version: 1 }
    }

    /// Changes everything while one call fails, once. Returns whether there was one to fail.
    fn round(&mut self, wish: Wish) -> bool {
        let (source, newest) = (self.stand.source(), Arc::new(AtomicU32::new(self.version)));
        let targets = ["first", "second"].map(|name| self.stand.target(name));
        let watches = targets.each_ref().map(|target| Watch::of(target, &newest));
        self.layer.arm(wish);
        self.version = newest.fetch_add(1, Ordering::AcqRel) + 1;
        write(&source, self.version);
        let control = format!("--control={}", self.stand.control().display());
        let waited = self.stand.environment.run(["wait", "--timeout=40s", &control]);
        let failed = self.layer.disarm();
        let status = self.stand.environment.run(["status", &control]).stdout;
        let context = format!("{}: {failed:?}: {:?}\n{status}", told(wish), self.mirror.stderr());
        // Told as done is done, and whatever failed has healed by itself.
        assert_eq!(waited.code(), 0, "{context}: {waited:?}");
        for target in &targets {
            let differs = || {
                let mut left = differing(&source, target);
                // One that could not be removed is the next session's to remove.
                left.retain(|path| !is_temporary(Path::new(path)));
                left
            };
            let mut left = differs();
            if left.iter().all(|path| source.join(path).is_dir() && target.join(path).is_dir()) {
                // A comparison for the sake of what could not be read may send a file once more: for a moment its
                // directory has another time.
                self.stand.wait();
                left = differs();
            }
            assert!(left.is_empty(), "{context}: {target:?} differs: {left:?}");
        }
        for watch in watches {
            watch.end();
        }
        failed.is_some()
    }
}

#[test]
fn whichever_call_of_a_live_mirror_fails_it_heals_by_itself_and_nothing_is_told_as_done_before() {
    let mut live = Live::new();
    let (mut rounds, mut failures, mut faults) = (0, 0, 0);
    for mut wish in wishes() {
        // A round is a second or two here: every call is tried by the single passes.
        let step = if exhaustive() { 5 } else { 7 };
        if !exhaustive() {
            wish.nth = 2;
        }
        while wish.nth <= if exhaustive() { 10_000 } else { 9 } {
            rounds += 1;
            match std::panic::catch_unwind(AssertUnwindSafe(|| live.round(wish))) {
                Ok(false) => break,
                Ok(true) => failures += 1,
                Err(_) => {
                    faults += 1;
                    live.mirror.signal(rustix::process::Signal::KILL);
                    live = Live::new();
                }
            }
            wish.nth += step;
            // Who loses the connection every few seconds waits longer and longer.
            if live.mirror.stderr().iter().any(|line| line.contains("retry 4")) {
                live.mirror.signal(rustix::process::Signal::KILL);
                live = Live::new();
            }
        }
    }
    println!("{rounds} rounds, in {failures} of which a call failed");
    assert_eq!(faults, 0, "of {rounds} rounds");
    assert!(failures > 5);
    live.mirror.terminate();
}
