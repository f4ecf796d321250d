//! Hears what changes below a source.
//!
//! **Purpose:** four backends behind one handle: `inotify` and `fanotify` (speil's own), `poll` (a walker
//! with a memory, for filesystems without events) and `portable` (the `notify` crate).
//! **In → Out:** a source path, rules and a [`Sink`]; events in the order of the kernel.
//! **Invariants:** an event is a hint, and what nobody knows is a `Rescan` of the smallest subtree that
//! covers it, reported *after* that subtree is watched again; nothing that happens to the source ends a
//! watcher (queue overflow, too few watches, a root that goes or is replaced, mounts). Every directory is
//! opened relative to the fd of its parent, so a swapped symlink leads nowhere. No fd into the source is
//! held while idle, so that it can be unmounted.
//! **Not here:** coalescing (`debounce`), reading what a file holds (`scan`, `sender`).
//! **Sources:** inotify(7) with "Limitations and caveats", proc(5) on `mountinfo`, statfs(2).

mod anchor;
mod bounds;
mod choice;
mod dirfd;
mod fanotify;
mod fence;
mod gap;
mod hub;
mod inotify;
mod kernel;
mod marks;
mod mounts;
mod outbox;
mod poll;
mod portable;
mod root;
mod tuning;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::config::Backend;
use crate::error::{Consequence, Consequential, errno_text};
use crate::event::{Event, Moment, Reading};
use crate::tree::{RelPath, quote};

use fence::Fence;
use outbox::{Outbox, WatchState};

pub(crate) use choice::resolve;
pub use fence::FenceAnswer;
pub(crate) use hub::instances;

/// How a source is watched.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which backend; `Auto` takes the best that the source, its size and the rights allow.
    pub backend: Backend,
    /// How often the poll backend walks, and how often what cannot be watched is reported as a rescan.
    pub poll_interval: Duration,
    /// Whether directories on other filesystems than the root's are left out.
    pub one_file_system: bool,
    /// An empty directory outside the source, of this watcher alone: [`Asker::hear_all`] leaves its
    /// marks there. Without one it cannot know.
    pub marks: Option<PathBuf>,
}

/// Where a backend puts what it hears. Called from the backend's own thread; must be quick, since the
/// kernel's queue fills meanwhile (the consequence of which is a rescan, never a loss).
pub trait Sink: Send + Sync {
    /// Takes events, oldest first.
    fn events(&self, events: Vec<Event>);

    /// Hears that everything was told, with the events before, that was changed before a moment. What an event
    /// that comes later tells of was changed at that moment or later. Not every backend can tell.
    fn mark(&self, _heard: Moment) {}

    /// Hears what the clock that files are stamped by shows.
    fn clock(&self, _reading: Reading) {}

    /// Takes what comparisons have found since the last call. A backend without events asks for it before
    /// a walk: what the walk does not meet any more has gone, and the target has it.
    fn take_found(&self) -> Found {
        Found::default()
    }
}

/// Names that comparisons of the source with a target have found and sent.
#[derive(Debug, Default)]
pub struct Found {
    /// The names.
    pub names: BTreeSet<RelPath>,
    /// Whether there were more than are remembered.
    pub lost: bool,
}

/// Most names that are remembered between two walks; more become a comparison of everything.
const FOUND_MAX: usize = 1 << 16;

impl Found {
    /// Adds a name.
    pub fn add(&mut self, path: RelPath) {
        if self.names.len() < FOUND_MAX {
            self.names.insert(path);
        } else {
            self.lost = true;
        }
    }
}

/// Which entries are neither watched nor reported. The flag says whether the path is a directory; what
/// lies below a skipped directory is not asked for.
pub type Skip = Arc<dyn Fn(&RelPath, bool) -> bool + Send + Sync>;

/// A standing shortcoming of a watcher: told to people, and handled meanwhile by rescans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The top of the subtree that is concerned.
    pub path: RelPath,
    /// What is wrong and what happens instead; one line.
    pub text: String,
    /// What to change.
    pub hint: Option<String>,
}

/// Why a source cannot be watched at all.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The source cannot be opened as a directory. Consequence: again.
    #[error("watch {}: {}", quote(.path.as_os_str().as_encoded_bytes()), errno_text(.errno.raw_os_error()))]
    Source {
        /// The source.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// A system facility is missing or used up. Consequence: again.
    #[error("watch: {what}: {}", errno_text(.errno.raw_os_error()))]
    System {
        /// What could not be had.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The `notify` crate failed. Consequence: again.
    #[error("watch {}: notify", quote(.path.as_os_str().as_encoded_bytes()))]
    Notify {
        /// The source.
        path: PathBuf,
        /// Its words.
        #[source]
        source: ::notify::Error,
    },
}

impl Consequential for WatchError {
    fn consequence(&self) -> Consequence {
        Consequence::Again
    }
}

impl WatchError {
    /// Returns what the admin can change, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::System { errno: Errno::MFILE, .. } => Some("raise fs.inotify.max_user_instances"),
            _ => None,
        }
    }
}

/// What all backends are: something that reports until it is told to stop.
trait Listen: Send {
    /// Reports to the sink until the stop fd is readable.
    fn run(self: Box<Self>);
}

/// What a backend is made of besides its own state.
struct Setup {
    /// The source as an absolute path; symlinks in it are followed anew whenever they change.
    source: PathBuf,
    options: Options,
    skip: Skip,
    out: Outbox,
    stop: Arc<OwnedFd>,
    /// Readable while somebody asks which directories are watched.
    ask: Arc<OwnedFd>,
    fence: Arc<Fence>,
}

impl Setup {
    /// Whether the watcher is being dropped.
    fn stopped(&self) -> bool {
        kernel::readable(&self.stop)
    }
}

/// A running backend. Dropping it stops its thread and waits for it.
pub struct Watcher {
    backend: Backend,
    note: Option<Box<Problem>>,
    shared: Arc<WatchState>,
    stop: Arc<OwnedFd>,
    ask: Arc<OwnedFd>,
    fence: Arc<Fence>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Returns the backend at work, never `Auto`.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Returns why the backend is not the one that was asked for.
    pub fn note(&self) -> Option<&Problem> {
        self.note.as_deref()
    }

    /// Returns how many directories are watched (poll: remembered) now.
    pub fn watched(&self) -> usize {
        self.shared.watched()
    }

    /// Returns the directories that are watched now, the root first; the root alone where the backend does
    /// not tell within a second.
    pub fn directories(&self) -> Vec<RelPath> {
        if matches!(self.backend, Backend::Inotify | Backend::Fanotify) {
            kernel::signal(&self.ask);
            if let Some(mut all) = self.shared.wait_for_directories(Duration::from_secs(1)) {
                all.sort_unstable();
                return all;
            }
        }
        vec![RelPath::root()]
    }

    /// Returns what stands in the way of a full watch now.
    pub fn problems(&self) -> Vec<Problem> {
        self.shared.problems()
    }

    /// Returns a handle that asks whether everything was heard; it may outlive the watcher, and is then
    /// not answered.
    pub fn asker(&self) -> Asker {
        Asker(Arc::clone(&self.fence))
    }
}

/// Asks a watcher whether it has heard everything.
#[derive(Clone)]
pub struct Asker(Arc<Fence>);

impl Asker {
    /// Waits until the sink has been given every event of what was done to the source before the call,
    /// or until `limit` has passed.
    pub fn hear_all(&self, limit: Duration) -> FenceAnswer {
        self.0.ask(limit)
    }

    /// Has the watcher look at its queue, though there may be nothing in it, and tell up to when everything was heard.
    /// Waits for nothing.
    pub fn look(&self) {
        kernel::signal(self.0.ring());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        kernel::signal(&self.stop);
        if let Some(thread) = self.thread.take() {
            // A backend that panicked has nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// Opens what the watcher of a process needs that is about to confine itself to its source.
///
/// # Errors
/// What opening it says.
pub fn prepare() -> std::io::Result<()> {
    mounts::open_early()
}

/// Watches `source` and returns when every watch stands, so that a pass started afterwards misses
/// nothing. What exists at the start is not reported.
///
/// # Errors
/// [`WatchError`] if the source cannot be opened or the system gives no watches; try again later.
pub fn start(
    source: &Path,
    options: Options,
    skip: Skip,
    sink: Arc<dyn Sink>,
) -> Result<Watcher, WatchError> {
    start_with(source, options, skip, sink, tuning::Tuning::default())
}

/// As [`start`], with the knobs that tests turn.
fn start_with(
    source: &Path,
    options: Options,
    skip: Skip,
    sink: Arc<dyn Sink>,
    tuning: tuning::Tuning,
) -> Result<Watcher, WatchError> {
    let source = std::path::absolute(source)
        .map_err(|_| WatchError::Source { path: source.to_owned(), errno: Errno::NOENT })?;
    let (backend, note) = choice::choose(options.backend, &source, &skip)?;
    let bell = || {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| WatchError::System { what: "eventfd", errno })
    };
    let (stop, ask) = (Arc::new(bell()?), Arc::new(bell()?));
    let marks = options.marks.clone().filter(|_| backend == Backend::Inotify);
    let fence = Arc::new(Fence::new(marks, bell()?));
    let shared = Arc::new(WatchState::default());
    let out = Outbox::new(sink, Arc::clone(&shared));
    let setup = Setup {
        source,
        options,
        skip,
        out,
        stop: Arc::clone(&stop),
        ask: Arc::clone(&ask),
        fence: Arc::clone(&fence),
    };
    let listener: Box<dyn Listen> = match backend {
        Backend::Poll => Box::new(poll::Poll::start(setup)?),
        Backend::Notify => Box::new(portable::Portable::start(setup)?),
        Backend::Fanotify => Box::new(fanotify::Fanotify::start(setup, &tuning)?),
        Backend::Inotify | Backend::Auto => Box::new(inotify::Inotify::start(setup, tuning)?),
    };
    let thread = std::thread::Builder::new()
        .name("speil-watch".to_owned())
        .spawn(move || listener.run())
        .map_err(|_| WatchError::System { what: "thread", errno: Errno::AGAIN })?;
    Ok(Watcher { backend, note: note.map(Box::new), shared, stop, ask, fence, thread: Some(thread) })
}

#[cfg(test)]
mod tests;
