//! speil's fanotify backend: one mark for each filesystem in place of a watch for each directory.
//!
//! **Purpose:** keeps a tree of directory handles that says what each is called *at the event being
//! read*. Events name directories by handle, and renames name both ends and the directory that moved, so
//! the tree is a replay that needs no look at the disk; only what is new to it is read.
//! **Invariants:** the filesystem is marked and a handle is in the tree before the directory is read.
//! Events of directories that are not in the tree are dropped as they are read from the kernel. Equal
//! events that nobody has read yet are one to the kernel: where that can hide a change, the places are
//! looked at again (`doubts`). Without work the thread sleeps without a timeout.
//! **Not here:** system calls (`group`).
//! **Sources:** fanotify(7), and its "Bugs" on merged events.

mod apply;
mod doubts;
mod group;
mod grow;
mod nodes;
mod queue;
mod root;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::event::{Moment, RescanReason};
use crate::tree::{FileId, RelPath};

use super::anchor::Anchor;
use super::bounds::{DRAIN_READS, MISSING_PAUSE, MISSING_TRIES, PROBLEMS_MAX, ROUND_EVENTS};
use super::gap::Gap;
use super::kernel;
use super::marks::{Alarm, when_quiet};
use super::mounts::Mounts;
use super::root::Root;
use super::tuning::Tuning;
use super::{Listen, Problem, Setup, WatchError, dirfd};

use doubts::Doubts;
use group::{Group, Handle, Read, Said};
use nodes::{Dentry, Nodes};
use queue::{Next, Queue};

/// How long that goes on at most while other events come.
const MISSING_MAX: Duration = Duration::from_secs(1);
/// How long the kernel is left alone while nothing but others' events come: at first, and at most.
const FOREIGN_PAUSE: Duration = Duration::from_millis(2);
const FOREIGN_PAUSE_MAX: Duration = Duration::from_millis(16);
/// Others are busy if their next event comes within this time.
const FOREIGN_SOON: Duration = Duration::from_millis(16);

/// When the thread must wake up although nothing is heard.
#[derive(Default)]
struct Due {
    /// Events are left over.
    queue: Option<Instant>,
    missing: Option<Instant>,
    missing_tries: u32,
    missing_since: Option<Instant>,
    holes: Option<Instant>,
    /// The way to the source cannot be watched.
    root: Option<Instant>,
    /// Nothing has happened for a while: a mark that is made then comes behind all that did.
    mark: Option<Instant>,
    /// Others are busy on the filesystem.
    foreign: Option<Instant>,
}

impl Due {
    /// When to wake up; `None` while nothing but the kernel has anything to say.
    fn next(&self) -> Option<Instant> {
        [self.queue, self.missing, self.holes, self.root, self.foreign, self.mark].into_iter().flatten().min()
    }
}

/// What a look at the kernel's queue brought.
struct Drained {
    any: bool,
    /// Whether any of it concerns this tree.
    ours: bool,
    /// Whether nothing was left.
    dry: bool,
}

/// The backend.
pub(super) struct Fanotify {
    setup: Setup,
    group: Group,
    /// How many filesystems were marked when the mounts were last looked at.
    marked: usize,
    queue: Queue,
    nodes: Nodes,
    /// Directories of the tree that the disk did not have where the events said.
    unread: BTreeSet<Handle>,
    doubts: Doubts,
    /// Whether events and tree do not fit at all.
    lost: bool,
    holes: BTreeMap<Dentry, Gap>,
    /// They were last told of then.
    holes_told: Moment,
    /// Whether holes came or went since somebody last told the user.
    stale: bool,
    anchor: Anchor,
    mounts: Mounts,
    root: Root,
    root_id: Option<FileId>,
    due: Due,
    /// The last rename, to recognise an exchange by its second half.
    last_move: Option<(RelPath, RelPath, Handle)>,
    /// When others' events alone last woke the thread.
    foreign: Option<Instant>,
    /// For how long the kernel was left alone then.
    pause: Duration,
    alarm: Alarm,
}

/// Whether a source can be watched by a mark on its filesystem.
///
/// # Errors
/// Why not.
pub(super) fn check(source: &Path) -> Result<(), Errno> {
    let dir = dirfd::open_path(source)?;
    let found = group::handle_at(dir.as_fd(), b"")?;
    let fs = Group::new()?.mark(dir.as_fd())?;
    found.on(fs).map(drop).ok_or(Errno::OVERFLOW)
}

impl Fanotify {
    /// Takes the whole tree in.
    ///
    /// # Errors
    /// [`WatchError`] if the source cannot be opened or fanotify is not to be had.
    pub(super) fn start(setup: Setup, tuning: &Tuning) -> Result<Self, WatchError> {
        let system = |what| move |errno| WatchError::System { what, errno };
        let group = Group::new().map_err(system("fanotify group"))?;
        let anchor = Anchor::new(&setup.source).map_err(system("inotify instance"))?;
        let mounts = Mounts::open().map_err(|_| system("/proc/self/mountinfo")(Errno::NOENT))?;
        let source = setup.source.clone();
        let mut this = Self {
            setup,
            group,
            marked: 0,
            queue: Queue::new(tuning.backlog_max),
            nodes: Nodes::default(),
            unread: BTreeSet::new(),
            doubts: Doubts::default(),
            lost: false,
            holes: BTreeMap::new(),
            holes_told: Moment::NEVER,
            stale: false,
            anchor,
            mounts,
            root: Root::default(),
            root_id: None,
            due: Due::default(),
            last_move: None,
            foreign: None,
            pause: FOREIGN_PAUSE,
            alarm: Alarm::new(),
        };
        let (began, reading) = crate::disk::mark();
        let (fd, _) = this.anchor.resolve().map_err(|errno| WatchError::Source { path: source, errno })?;
        this.rebuild(fd);
        // What comes before is for the first comparison.
        this.setup.out.clock(reading);
        this.setup.out.mark(began);
        this.holes_told = began;
        this.due.mark = when_quiet(None, true, Instant::now());
        this.process();
        this.finish_round();
        Ok(this)
    }

    /// Moves what the kernel holds into the queue.
    fn drain(&mut self) -> Drained {
        let (nodes, queue) = (&self.nodes, &mut self.queue);
        let before = queue.heard();
        let mut drained = Drained { any: false, ours: false, dry: false };
        for _ in 0..DRAIN_READS {
            let read = self.group.read(|said| match said {
                Said::Event(raw) => queue.push(raw, |handle| nodes.is_live(handle)),
                Said::Mark(moment) => queue.mark(moment),
            });
            match read {
                Read::Some => drained.any = true,
                Read::Overflow => queue.overflow(),
                Read::Dry => {
                    queue.dry();
                    drained.dry = true;
                    break;
                }
            }
        }
        drained.ours = queue.heard() > before;
        drained
    }

    /// Looks at what is in the queue.
    fn process(&mut self) {
        self.due.queue = None;
        for _ in 0..ROUND_EVENTS {
            match self.queue.next() {
                Next::Event(raw) => {
                    // Events may yet say where things are.
                    self.due.missing_tries = 0;
                    self.on_event(raw);
                }
                Next::Dry => self.settle_doubts(),
                Next::Mark(moment) => self.setup.out.mark(moment),
                Next::Overflow => self.start_over(RescanReason::Overflow),
                Next::Empty => return self.settle(),
            }
        }
        self.due.queue = Some(Instant::now());
    }

    /// Whether something that events named has yet to be found.
    fn has_missing(&self) -> bool {
        !self.unread.is_empty() || self.doubts.has_looks()
    }

    /// With no event left, looks for what events named and the disk did not have.
    fn settle(&mut self) {
        if std::mem::take(&mut self.lost) {
            self.start_over(RescanReason::Unwatched);
        }
        let now = Instant::now();
        if self.has_missing() && self.due.missing.is_none_or(|due| due <= now) {
            self.retry_missing();
            self.due.missing_tries += 1;
            let since = *self.due.missing_since.get_or_insert(now);
            if self.has_missing()
                && (self.due.missing_tries >= MISSING_TRIES || now.duration_since(since) > MISSING_MAX)
            {
                self.start_over(RescanReason::Unwatched);
            }
            self.due.missing = Some(Instant::now() + MISSING_PAUSE);
        }
        if !self.has_missing() {
            (self.due.missing, self.due.missing_tries, self.due.missing_since) = (None, 0, None);
        }
    }

    fn timers(&mut self, now: Instant) {
        let interval = self.setup.options.poll_interval;
        if self.due.holes.is_some_and(|due| due <= now) {
            self.retry_holes();
            self.due.holes = Some(now + interval);
        }
        if self.due.root.is_some_and(|due| due <= now) {
            self.root.check = true;
            self.due.root = None;
        }
    }

    /// Hands over what was heard, and sees to when to wake up.
    fn finish_round(&mut self) {
        let next = Instant::now() + self.setup.options.poll_interval;
        if self.due.queue.is_none() && !self.queue.is_empty() {
            // Read during a walk after the queue was looked at; the kernel has nothing left to wake us.
            self.due.queue = Some(Instant::now());
        }
        self.due.root = if self.root.is_unheard(&self.anchor) { self.due.root.or(Some(next)) } else { None };
        self.due.holes = if self.holes.is_empty() { None } else { self.due.holes.or(Some(next)) };
        if std::mem::take(&mut self.stale) | std::mem::take(&mut self.root.stale) {
            self.tell();
        }
        self.root.fd = None;
        self.queue.rest();
        self.setup.out.set_watched(self.nodes.len());
        self.setup.out.flush();
        if self.due.queue.is_some() {
            return;
        }
        if !self.has_missing() {
            self.setup.out.tell_mark(self.group.marks.reading());
            self.setup.fence.answer_met();
        } else {
            // What an event named is elsewhere on the disk by now: what is in it comes with the event
            // that says where, or with a walk of everything.
            self.due.missing = self.due.missing.or(Some(Instant::now()));
        }
    }

    /// Looks at what the events of the tree do not tell, for who wants to know that nothing is left.
    fn look_everywhere(&mut self) {
        // These are queues of their own: what was in them before somebody asked is in them now.
        self.anchor.drain();
        self.on_mounts();
        if !self.holes.is_empty() {
            self.retry_holes();
        }
    }

    /// Shows the problems on the handle.
    fn tell(&mut self) {
        let mut problems = Vec::from_iter(self.root.problem());
        let every = self.setup.options.poll_interval.as_secs_f64();
        for (place, gap) in self.holes.iter().take(PROBLEMS_MAX) {
            if let Some(path) = self.nodes.path_of(place) {
                let text = format!("watch {path}: {}; compared every {every} s instead", gap.text());
                problems.push(Problem { path, text, hint: None });
            }
        }
        problems.sort_by(|one, other| one.path.cmp(&other.path));
        self.setup.out.set_problems(problems);
    }

    /// While others' events alone come again and again, the kernel is left alone for a moment each time.
    fn pace(&mut self, drained: &Drained) {
        let now = Instant::now();
        let foreign = drained.any && !drained.ours;
        let soon = self.pause + FOREIGN_SOON;
        let again = self.foreign.is_some_and(|last| now.duration_since(last) < soon);
        self.pause =
            if foreign && again { (2 * self.pause).min(FOREIGN_PAUSE_MAX) } else { FOREIGN_PAUSE / 2 };
        self.due.foreign = (foreign && again).then(|| now + self.pause);
        if drained.any {
            self.foreign = foreign.then_some(now);
        }
    }
}

impl Listen for Fanotify {
    fn run(mut self: Box<Self>) {
        loop {
            let urgent = PollFlags::PRI | PollFlags::ERR;
            // Left out altogether: the kernel wakes the thread with each event, whatever is asked about it.
            let group = if self.due.foreign.is_some() { self.setup.stop.as_fd() } else { self.group.as_fd() };
            let [_, ring, anchor, mounts, stop, asked, clock] = kernel::wait(
                [
                    (group, PollFlags::IN),
                    (self.setup.fence.ring().as_fd(), PollFlags::IN),
                    (self.anchor.as_fd(), PollFlags::IN),
                    (self.mounts.as_fd(), urgent),
                    (self.setup.stop.as_fd(), PollFlags::IN),
                    (self.setup.ask.as_fd(), PollFlags::IN),
                    (self.alarm.fd(self.setup.stop.as_fd()), PollFlags::IN),
                ],
                self.due.next(),
            );
            if stop {
                return;
            }
            if clock {
                self.setup.out.clock(self.alarm.rang());
            }
            if ring {
                // What was done before somebody asked is in the kernel's queue by now, which is read below.
                self.setup.fence.meet_all();
            }
            let drained = self.drain();
            self.due.mark = when_quiet(self.due.mark, drained.any, Instant::now());
            self.pace(&drained);
            self.process();
            if !drained.dry {
                // Who asked is answered when there is nothing older left.
                self.due.queue = Some(Instant::now());
            }
            self.root.check |= anchor && self.anchor.drain();
            self.timers(Instant::now());
            if ring {
                self.look_everywhere();
            } else if mounts {
                self.on_mounts();
            } else if self.root.check {
                self.check_root();
            }
            self.finish_round();
            if asked {
                kernel::unsignal(&self.setup.ask);
                let all = self.nodes.live().filter_map(|handle| self.nodes.path(handle)).collect();
                self.setup.out.set_directories(all);
            }
        }
    }
}
