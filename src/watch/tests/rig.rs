//! A tree in memory, a backend on it, and what the backend said.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, openat};

use crate::config::Backend;
use crate::event::{Event, EventKind, Moment, Offsets, Reading};
use crate::tree::RelPath;

use super::super::tuning::Tuning;
use super::super::{Options, Sink, Skip, WatchError, Watcher, dirfd, fanotify, start_with};

/// Where the trees are.
pub(super) const MEMORY: &str = "/dev/shm";
/// When a test gives up waiting.
const DEADLINE: Duration = Duration::from_secs(60);
/// When a marker counts as swallowed.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names of the files by which a test knows that all before them was heard.
const MARKER: &[u8] = b"marker-";

/// Returns speil's own event backends: fanotify only where the kernel lets us.
pub(super) fn own() -> Vec<Backend> {
    match fanotify::check(Path::new(MEMORY)) {
        Ok(()) => vec![Backend::Inotify, Backend::Fanotify],
        Err(errno) => {
            eprintln!("skipped: the fanotify backend, since fanotify is refused here: {errno}");
            vec![Backend::Inotify]
        }
    }
}

/// Returns all backends that can be had here.
pub(super) fn backends() -> Vec<Backend> {
    let mut all = own();
    all.extend([Backend::Poll, Backend::Notify]);
    all
}

/// A filesystem for one test: other tests' events must not fill the kernel's queue.
struct Volume {
    at: PathBuf,
    dir: tempfile::TempDir,
    mounted: bool,
}

impl Volume {
    fn new(backend: Backend) -> Self {
        let dir = tempfile::tempdir_in(MEMORY).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "speil-test"]).arg(dir.path());
        let mounted = backend == Backend::Fanotify && mount.status().unwrap().success();
        let at = dir.path().join("outside");
        fs::create_dir(&at).unwrap();
        Self { at, dir, mounted }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            unmount(self.dir.path());
        }
    }
}

/// Unmounts what is mounted on a directory. A child that another test is about to start has what is open here
/// open for a moment.
pub(super) fn unmount(at: &Path) {
    let until = Instant::now() + Duration::from_secs(10);
    while !Command::new("umount").arg(at).output().unwrap().status.success() {
        assert!(Instant::now() < until || std::thread::panicking(), "the source is held open");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

/// What was told of when things were changed.
#[derive(Default)]
pub(super) struct Moments {
    /// Each event, with the moment before which it says nothing was changed.
    pub events: Vec<(EventKind, Moment)>,
    /// The last mark.
    pub mark: Option<Moment>,
    pub offsets: Offsets,
}

/// Keeps everything, in order.
#[derive(Default)]
pub(super) struct Log {
    events: Mutex<Vec<EventKind>>,
    pub moments: Mutex<Moments>,
    more: Condvar,
    /// Held by a test that wants the backend's thread to stand still.
    pub gate: Mutex<()>,
    /// How often the backend came to the gate.
    came: AtomicUsize,
}

impl Log {
    /// Does something while the backend stands still, before it looks at any of it.
    pub(super) fn asleep(&self, root: &Path, deed: impl FnOnce()) {
        let gate = self.gate.lock().unwrap();
        let came = self.came.load(Ordering::SeqCst);
        fs::write(root.join("marker-asleep"), "").unwrap();
        let until = Instant::now() + DEADLINE;
        while self.came.load(Ordering::SeqCst) == came {
            assert!(Instant::now() < until, "the backend never came to the gate");
            std::thread::sleep(Duration::from_millis(1));
        }
        deed();
        drop(gate);
    }

    /// Waits until `wanted` holds for what was said.
    pub(super) fn wait(&self, what: &str, wanted: impl Fn(&[EventKind]) -> bool) {
        let heard = self.heard(Instant::now() + DEADLINE, wanted);
        assert!(heard, "never heard {what}; heard {:?}", tail(&self.events.lock().unwrap()));
    }

    /// Waits a little for what may never come.
    pub(super) fn hears(&self, wanted: impl Fn(&[EventKind]) -> bool) -> bool {
        self.heard(Instant::now() + PATIENCE, wanted)
    }

    /// Waits until `wanted` holds for what was said; says whether it came to that.
    fn heard(&self, until: Instant, wanted: impl Fn(&[EventKind]) -> bool) -> bool {
        let mut events = self.events.lock().unwrap();
        while !wanted(&events) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            events = self.more.wait_timeout(events, left).unwrap().0;
        }
        true
    }
}

impl Sink for Log {
    fn events(&self, events: Vec<Event>) {
        self.came.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap());
        let told = events.iter().map(|event| (event.kind.clone(), event.change));
        self.moments.lock().unwrap().events.extend(told);
        self.events.lock().unwrap().extend(events.into_iter().map(|event| event.kind));
        self.more.notify_all();
    }

    fn mark(&self, heard: Moment) {
        let mark = &mut self.moments.lock().unwrap().mark;
        assert!(mark.is_none_or(|before| before <= heard), "a mark goes back");
        *mark = Some(heard);
    }

    fn clock(&self, reading: Reading) {
        self.moments.lock().unwrap().offsets.add(reading);
    }
}

pub(super) struct Rig {
    pub backend: Backend,
    pub log: Arc<Log>,
    watcher: Option<Watcher>,
    volume: Volume,
    source: PathBuf,
    markers: usize,
}

pub(super) fn options(backend: Backend) -> Options {
    Options { backend, poll_interval: Duration::from_millis(30), one_file_system: false, marks: None }
}

pub(super) fn start_at(source: &Path, backend: Backend) -> Result<Watcher, WatchError> {
    start_with(source, options(backend), Arc::new(|_, _| false), Arc::new(Log::default()), Tuning::default())
}

impl Rig {
    /// Watches a directory that is there, on whatever filesystem.
    pub(super) fn on(backend: Backend, at: &Path) -> Self {
        let dir = tempfile::tempdir_in(at).unwrap();
        let volume = Volume { at: dir.path().to_owned(), dir, mounted: false };
        let source = volume.at.join("source");
        fs::create_dir(&source).unwrap();
        let log = Arc::new(Log::default());
        let mut this = Self { backend, log, watcher: None, volume, source, markers: 0 };
        this.restart();
        this
    }

    pub(super) fn start(backend: Backend, prepare: impl Fn(&Path)) -> Self {
        Self::with_skip(backend, prepare, Arc::new(|_, _| false))
    }

    pub(super) fn with_skip(backend: Backend, prepare: impl Fn(&Path), skip: Skip) -> Self {
        Self::tuned(options(backend), prepare, skip, Tuning::default())
    }

    pub(super) fn tuned(options: Options, prepare: impl Fn(&Path), skip: Skip, tuning: Tuning) -> Self {
        let volume = Volume::new(options.backend);
        let source = volume.at.join("source");
        fs::create_dir(&source).unwrap();
        prepare(&source);
        let (log, backend) = (Arc::new(Log::default()), options.backend);
        let sink = Arc::clone(&log) as Arc<dyn Sink>;
        let watcher = start_with(&source, options, skip, sink, tuning).unwrap();
        Self { backend, log, watcher: Some(watcher), volume, source, markers: 0 }
    }

    /// Watches the tree anew.
    pub(super) fn restart(&mut self) {
        let sink = Arc::clone(&self.log) as Arc<dyn Sink>;
        let skip: Skip = Arc::new(|_, _| false);
        let watcher = start_with(&self.source, options(self.backend), skip, sink, Tuning::default());
        self.watcher = Some(watcher.unwrap());
    }

    /// The directory that holds the source.
    pub(super) fn outside(&self) -> &Path {
        &self.volume.at
    }

    pub(super) fn root(&self) -> &Path {
        &self.source
    }

    pub(super) fn at(&self, text: &str) -> PathBuf {
        self.source.join(text)
    }

    pub(super) fn watcher(&self) -> &Watcher {
        self.watcher.as_ref().unwrap()
    }

    pub(super) fn stop(&mut self) {
        self.watcher = None;
    }

    pub(super) fn sink_handles(&self) -> usize {
        Arc::strong_count(&self.log)
    }

    /// Waits until `wanted` holds for what was said.
    pub(super) fn wait(&self, what: &str, wanted: impl Fn(&[EventKind]) -> bool) {
        self.log.wait(what, wanted);
    }

    /// Waits until `wanted` holds.
    pub(super) fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !wanted(self) {
            assert!(Instant::now() < until, "{:?}: never saw {what}", self.backend);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until everything done so far was heard: a file in the root comes and goes. An overflow
    /// may swallow it, so there may be several.
    pub(super) fn settle(&mut self) {
        let until = Instant::now() + DEADLINE;
        loop {
            self.markers += 1;
            let rel = path(&format!("marker-{}", self.markers));
            let file = self.source.join(format!("marker-{}", self.markers));
            fs::write(&file, "").unwrap();
            let came = self.log.heard(Instant::now() + PATIENCE, |events| {
                events.iter().any(|kind| matches!(kind, EventKind::Create { path, .. } if *path == rel))
            });
            fs::remove_file(&file).unwrap();
            let went = came
                && self.log.heard(Instant::now() + PATIENCE, |events| {
                    events.iter().any(|kind| matches!(kind, EventKind::Delete { path, .. } if *path == rel))
                });
            if went {
                return;
            }
            assert!(Instant::now() < until, "{:?}: never heard the marker", self.backend);
        }
    }

    /// What was said, without the markers and the changes of the root itself.
    pub(super) fn said(&self) -> Vec<EventKind> {
        let events = self.log.events.lock().unwrap();
        let rescan = |kind: &EventKind| matches!(kind, EventKind::Rescan { .. });
        events
            .iter()
            .filter(|kind| !kind.path().as_bytes().starts_with(MARKER))
            .filter(|kind| !kind.path().is_root() || rescan(kind))
            .cloned()
            .collect()
    }

    pub(super) fn forget(&self) {
        self.log.events.lock().unwrap().clear();
        self.log.moments.lock().unwrap().events.clear();
    }

    /// Waits until it was told that everything was heard that was changed before now.
    pub(super) fn mark(&mut self) {
        let stamp = |moments: &Moments| moments.mark.and_then(|mark| moments.offsets.stamp(mark));
        let is_marked = |log: &Log, time| stamp(&log.moments.lock().unwrap()).is_some_and(|at| at > time);
        let time = crate::tree::Time::now();
        // The coarsest filesystem shows whole seconds.
        let time = (time.secs + 1) * 1_000_000_000;
        let until = Instant::now() + DEADLINE;
        while !is_marked(&self.log, time) {
            self.settle();
            std::thread::sleep(Duration::from_millis(20));
            assert!(Instant::now() < until, "{:?}: no mark", self.backend);
        }
    }

    /// Whether a rescan of exactly this path was asked for.
    pub(super) fn rescans(&self, wanted: &RelPath) -> bool {
        self.said().iter().any(|kind| matches!(kind, EventKind::Rescan { path, .. } if path == wanted))
    }

    /// Whether an event was reported, or a rescan that finds the same.
    pub(super) fn covers(&self, wanted: &EventKind) -> bool {
        self.log.events.lock().unwrap().iter().any(|kind| {
            kind == wanted || matches!(kind, EventKind::Rescan { path, .. } if wanted.path().is_within(path))
        })
    }
}

fn tail(events: &[EventKind]) -> &[EventKind] {
    &events[events.len().saturating_sub(40)..]
}

/// Makes nested directories with names of 200 bytes, by fds.
pub(super) fn make_deep(root: &Path, levels: usize) -> (RelPath, OwnedFd) {
    let name = [b'n'; 200];
    let (mut path, mut at) = (RelPath::root(), dirfd::open_path(root).unwrap());
    for _ in 0..levels {
        rustix::fs::mkdirat(&at, &name[..], Mode::RWXU).unwrap();
        at = dirfd::open_dir(&at, &name).unwrap();
        path = path.join(&name);
    }
    (path, at)
}

pub(super) fn write_at(dir: &OwnedFd, name: &[u8], text: &[u8]) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR).unwrap();
    rustix::io::write(&file, text).unwrap();
}
