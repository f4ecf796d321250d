//! The portable backend, over the `notify` crate.
//!
//! **Purpose:** translates what the crate reports, and covers its known holes with rescans: it reports
//! nothing of what a new directory holds already, and nothing below a directory until it has got round to
//! watching it. So each directory that appears is watched again explicitly (the call returns when the
//! watch stands) and then covered by a `Rescan`.
//! **Not here:** long paths (the crate works on whole paths, `PATH_MAX` bytes at most).

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::notify::event::{
    AccessKind, AccessMode, CreateKind, EventKind as Said, ModifyKind, RemoveKind, RenameMode,
};
use ::notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::Errno;

use crate::event::{EventKind, RescanReason};
use crate::tree::{FileId, RelPath};

use super::anchor::Anchor;
use super::mounts::Mounts;
use super::outbox::skipped;
use super::{Listen, Problem, Setup, WatchError, kernel};

/// Events kept before they count as an overflow.
const INBOX_MAX: usize = 1 << 18;
/// How long the first half of a rename waits for the second.
const HOLD: Duration = Duration::from_millis(5);
/// How often a directory is tried that changes while it is being watched.
const WATCH_TRIES: usize = 8;

/// What the crate's thread has said.
struct Inbox {
    events: Mutex<Received>,
    ready: OwnedFd,
}

#[derive(Default)]
struct Received {
    events: VecDeque<(Instant, notify::Event)>,
    lost: bool,
}

impl Inbox {
    fn put(&self, said: notify::Result<notify::Event>) {
        let mut heard = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        match said {
            Ok(event) if matches!(event.kind, Said::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) =>
            {
                return;
            }
            Ok(event) if heard.events.len() < INBOX_MAX => heard.events.push_back((Instant::now(), event)),
            _ => heard.lost = true,
        }
        drop(heard);
        kernel::signal(&self.ready);
    }

    fn take(&self) -> Received {
        kernel::unsignal(&self.ready);
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The backend.
pub(super) struct Portable {
    setup: Setup,
    inbox: Arc<Inbox>,
    watcher: Option<RecommendedWatcher>,
    queue: VecDeque<(Instant, notify::Event)>,
    anchor: Anchor,
    mounts: Mounts,
    /// The root without symlinks, and which inode it is.
    root: Option<(PathBuf, FileId)>,
    /// Directories that the crate refused to watch.
    refused: HashMap<RelPath, String>,
    check_root: bool,
    due: Option<Instant>,
}

impl Portable {
    /// Watches the whole tree.
    ///
    /// # Errors
    /// [`WatchError`] if the source cannot be opened or the crate cannot watch it.
    pub(super) fn start(setup: Setup) -> Result<Self, WatchError> {
        let system = |what| move |errno| WatchError::System { what, errno };
        let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system("eventfd"))?;
        let anchor = Anchor::new(&setup.source).map_err(system("inotify instance"))?;
        let mounts = Mounts::open().map_err(|_| system("/proc/self/mountinfo")(Errno::NOENT))?;
        let source = setup.source.clone();
        let mut this = Self {
            setup,
            inbox: Arc::new(Inbox { events: Mutex::default(), ready }),
            watcher: None,
            queue: VecDeque::new(),
            anchor,
            mounts,
            root: None,
            refused: HashMap::new(),
            check_root: false,
            due: None,
        };
        let (_, id) =
            this.anchor.resolve().map_err(|errno| WatchError::Source { path: source.clone(), errno })?;
        this.begin(id).map_err(|error| WatchError::Notify { path: source, source: error })?;
        Ok(this)
    }

    /// Watches a new root, and nothing else any more.
    fn begin(&mut self, id: FileId) -> notify::Result<()> {
        self.watcher = None;
        self.queue.clear();
        self.inbox.take();
        self.refused.clear();
        let real = std::fs::canonicalize(&self.setup.source).map_err(notify::Error::io)?;
        let inbox = Arc::clone(&self.inbox);
        let config = notify::Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(move |said| inbox.put(said), config)?;
        self.mounts.changes(real.as_os_str().as_bytes());
        watch_tree(&mut watcher, &real)?;
        self.watcher = Some(watcher);
        self.root = Some((real, id));
        self.setup.out.set_watched(1);
        Ok(())
    }

    fn check_root(&mut self) {
        self.check_root = false;
        let found = self.anchor.resolve();
        if let (Ok((_, id)), Some((real, before))) = (&found, &self.root)
            && id == before
            && std::fs::canonicalize(&self.setup.source).is_ok_and(|now| now == *real)
        {
            return;
        }
        let begun = found.map_err(|errno| notify::Error::io(errno.into())).and_then(|(_, id)| self.begin(id));
        let before = if begun.is_ok() { true } else { self.root.take().is_some() };
        if let Err(error) = begun {
            self.watcher = None;
            self.refused = HashMap::from([(RelPath::root(), error.to_string())]);
            self.setup.out.set_watched(0);
        }
        if before {
            self.setup.out.rescan(RelPath::root(), RescanReason::Root);
        }
    }

    /// Returns a reported path relative to the root; `None` for what is outside or left out.
    fn path(&self, path: &Path, dir: bool) -> Option<RelPath> {
        let path = self.rel(path)?;
        (!skipped(&self.setup.skip, &path, dir)).then_some(path)
    }

    fn rel(&self, path: &Path) -> Option<RelPath> {
        let (root, _) = self.root.as_ref()?;
        RelPath::new(path.strip_prefix(root).ok()?.as_os_str().as_bytes()).ok()
    }

    /// Looks at what the crate has said.
    fn process(&mut self) {
        self.due = None;
        let heard = self.inbox.take();
        self.queue.extend(heard.events);
        while let Some((at, event)) = self.queue.pop_front() {
            if event.need_rescan() {
                self.again(&RelPath::root(), RescanReason::Overflow);
                continue;
            }
            match event.kind {
                Said::Modify(ModifyKind::Name(RenameMode::From)) => {
                    let Some(cookie) = event.tracker() else {
                        self.check_root = true;
                        continue;
                    };
                    let second = self.queue.iter().position(|(_, other)| {
                        other.tracker() == Some(cookie)
                            && other.kind == Said::Modify(ModifyKind::Name(RenameMode::To))
                    });
                    let second = second.and_then(|at| self.queue.remove(at));
                    let to = second.and_then(|(_, other)| other.paths.first().cloned());
                    if to.is_none() && at.elapsed() < HOLD {
                        self.queue.push_front((at, event));
                        self.due = Some(at + HOLD);
                        break;
                    }
                    if let Some(from) = event.paths.first() {
                        self.moved(at, from, to.as_deref());
                    }
                }
                Said::Modify(ModifyKind::Name(RenameMode::To)) => {
                    event.paths.iter().for_each(|path| self.appeared(at, path));
                }
                Said::Modify(ModifyKind::Name(RenameMode::Both)) => {}
                Said::Modify(ModifyKind::Name(_)) => event.paths.iter().for_each(|path| self.unclear(path)),
                kind => event.paths.iter().for_each(|path| self.plain(at, kind, path)),
            }
        }
        if heard.lost {
            self.again(&RelPath::root(), RescanReason::Overflow);
        }
    }

    fn plain(&mut self, at: Instant, kind: Said, full: &Path) {
        let is_dir = || full.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        let dir = match kind {
            Said::Create(CreateKind::File) | Said::Remove(RemoveKind::File) => false,
            Said::Create(CreateKind::Folder) | Said::Remove(RemoveKind::Folder) => true,
            _ => is_dir(),
        };
        let Some(path) = self.path(full, dir) else { return };
        if path.is_root() {
            self.check_root |= matches!(kind, Said::Remove(_));
            if !matches!(kind, Said::Modify(ModifyKind::Metadata(_))) {
                return;
            }
        }
        let kind = match kind {
            Said::Create(_) => return self.appeared_as(at, full, path, dir),
            Said::Remove(_) => EventKind::Delete { path, dir },
            Said::Modify(ModifyKind::Metadata(_)) => EventKind::Attrib { path, dir },
            Said::Access(_) => EventKind::CloseWrite(path),
            Said::Modify(_) if !dir => EventKind::Modify(path),
            _ => return,
        };
        self.setup.out.push(at, kind);
    }

    fn appeared(&mut self, at: Instant, full: &Path) {
        let dir = full.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if let Some(path) = self.path(full, dir) {
            self.appeared_as(at, full, path, dir);
        }
    }

    fn appeared_as(&mut self, at: Instant, full: &Path, path: RelPath, dir: bool) {
        self.setup.out.push(at, EventKind::Create { path: path.clone(), dir });
        if dir || full.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            self.again(&path, RescanReason::Arrived);
        }
    }

    /// A rename; without a new name, out of the tree.
    fn moved(&mut self, at: Instant, from: &Path, to: Option<&Path>) {
        // The crate does not say whether it is a directory, and the old name cannot be asked any more.
        let dir = to.is_some_and(|to| to.symlink_metadata().is_ok_and(|meta| meta.is_dir()));
        let old = self.path(from, dir);
        let new = to.and_then(|to| self.path(to, dir));
        match (old, new, to) {
            (Some(from), Some(to), _) => {
                self.setup.out.push(at, EventKind::Move { from: from.clone(), to: to.clone(), dir });
                // Until the crate had read the rename, it reported changes below under the old name.
                // Nor does it tell what was exchanged with what.
                self.setup.out.rescan(from, RescanReason::Arrived);
                self.again(&to, RescanReason::Arrived);
            }
            (Some(path), None, _) => {
                self.setup.out.push(at, EventKind::Delete { path: path.clone(), dir });
                self.setup.out.rescan(path, RescanReason::Moved);
            }
            (None, Some(path), Some(full)) => self.appeared_as(at, full, path, dir),
            _ => {}
        }
    }

    fn unclear(&mut self, full: &Path) {
        if let Some(path) = self.path(full, false) {
            self.again(&path, RescanReason::Arrived);
        }
    }

    /// Watches a subtree, again where it is watched already, and asks for a rescan of it.
    fn again(&mut self, path: &RelPath, reason: RescanReason) {
        if let (Some((root, _)), Some(watcher)) = (&self.root, &mut self.watcher) {
            let full = if path.is_root() {
                root.clone()
            } else {
                root.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
            };
            let refused = match is_dir(&full) {
                // What is gone, its parent tells.
                Some(false) => None,
                Some(true) => watch_tree(watcher, &full).err().filter(|_| is_dir(&full) != Some(false)),
                None => return self.setup.out.rescan(path.clone(), reason),
            };
            match refused {
                None => drop(self.refused.remove(path)),
                Some(error) => drop(self.refused.insert(path.clone(), error.to_string())),
            }
        }
        self.setup.out.rescan(path.clone(), reason);
    }

    fn on_mounts(&mut self) {
        let Some((root, _)) = &self.root else { return self.check_root() };
        let changed = self.mounts.changes(root.as_os_str().as_bytes());
        self.check_root();
        for path in changed {
            if !skipped(&self.setup.skip, &path, true) {
                self.again(&path, RescanReason::Mount);
            }
        }
    }

    fn retry(&mut self) {
        let refused: Vec<RelPath> = self.refused.keys().cloned().collect();
        for path in refused {
            if self.root.is_some() {
                self.again(&path, RescanReason::Unwatched);
            }
        }
        self.check_root |= self.root.is_none() || !self.anchor.is_complete();
    }

    fn tell(&self) {
        let every = self.setup.options.poll_interval.as_secs_f64();
        let problem = |(path, error): (&RelPath, &String)| Problem {
            path: path.clone(),
            text: format!("watch {path}: {error}; compared every {every} s instead"),
            hint: None,
        };
        self.setup.out.set_problems(self.refused.iter().map(problem).collect());
    }
}

impl Listen for Portable {
    fn run(mut self: Box<Self>) {
        let interval = self.setup.options.poll_interval;
        let mut retry: Option<Instant> = None;
        loop {
            let blind = !self.refused.is_empty() || !self.anchor.is_complete();
            retry = if blind { retry.or(Some(Instant::now() + interval)) } else { None };
            self.tell();
            self.setup.out.flush();
            self.setup.fence.answer_unsure();
            let [_, _, anchor, mounts, stop] = kernel::wait(
                [
                    (self.setup.fence.ring().as_fd(), PollFlags::IN),
                    (self.inbox.ready.as_fd(), PollFlags::IN),
                    (self.anchor.as_fd(), PollFlags::IN),
                    (self.mounts.as_fd(), PollFlags::PRI | PollFlags::ERR),
                    (self.setup.stop.as_fd(), PollFlags::IN),
                ],
                self.due.into_iter().chain(retry).min(),
            );
            if stop {
                return;
            }
            self.setup.fence.meet_all();
            self.process();
            if retry.is_some_and(|due| due <= Instant::now()) {
                retry = None;
                self.retry();
            }
            self.check_root |= anchor && self.anchor.drain();
            if mounts {
                self.on_mounts();
            } else if self.check_root {
                self.check_root();
            }
        }
    }
}

/// Whether a path is a directory now; `None` if nobody may look.
fn is_dir(path: &Path) -> Option<bool> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match path.symlink_metadata() {
        Ok(meta) => Some(meta.is_dir()),
        Err(error) => matches!(error.kind(), NotFound | NotADirectory).then_some(false),
    }
}

/// Watches a directory with all below it. The crate gives up at the first directory that vanishes
/// meanwhile, so it is asked again.
fn watch_tree(watcher: &mut RecommendedWatcher, path: &Path) -> notify::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match watcher.watch(path, RecursiveMode::Recursive) {
            Err(error) if tries < WATCH_TRIES && vanished(&error) && path.exists() => {}
            done => return done,
        }
    }
}

fn vanished(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}
