//! speil's own inotify backend.
//!
//! **Purpose:** keeps one watch per directory and a tree that says what each is called *at the event
//! being read*. That tree is a replay of events and so lags behind the disk; a walk of a new directory
//! is ahead of it. Where both meet, a directory is known by its inode, and every place that an event
//! names is looked at again before it is believed.
//! **Invariants:** a watch is added, *then* the directory is read, then the directories in it; what could
//! not be watched is a gap with a reason; the kernel is drained while a walk is under way; without work
//! the thread sleeps without a timeout.
//! **Not here:** the order of events and the halves of renames (`queue`).

mod apply;
mod gaps;
mod grow;
mod nodes;
mod queue;
mod root;

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fs::inotify::ReadFlags;
use rustix::io::Errno;

use crate::event::{Moment, RescanReason};

use super::anchor::Anchor;
use super::bounds::{DRAIN_READS, MISSING_PAUSE, MISSING_TRIES, PROBLEMS_MAX, ROUND_EVENTS};
use super::gap::Gap;
use super::hub::Instance;
use super::kernel::{self, Said, Wd};
use super::marks::{Alarm, when_quiet};
use super::mounts::Mounts;
use super::root::Root;
use super::tuning::Tuning;
use super::{Listen, Problem, Setup, WatchError};

use gaps::Gaps;
use nodes::Nodes;
use queue::{Next, Queue};

/// When the thread must wake up although nothing is heard.
#[derive(Default)]
struct Due {
    /// A rename waits for its other half, or events are left over.
    queue: Option<Instant>,
    missing: Option<Instant>,
    missing_tries: u32,
    holes: Option<Instant>,
    /// The way to the source cannot be watched.
    root: Option<Instant>,
    /// Nothing has happened for a while: a mark that is made then comes behind all that did.
    mark: Option<Instant>,
}

impl Due {
    /// When to wake up; `None` while nothing but the kernel has anything to say.
    fn next(&self) -> Option<Instant> {
        [self.queue, self.missing, self.holes, self.root, self.mark].into_iter().flatten().min()
    }
}

/// The backend.
pub(super) struct Inotify {
    setup: Setup,
    tuning: Tuning,
    kernel: Instance,
    queue: Queue,
    nodes: Nodes,
    gaps: Gaps,
    anchor: Anchor,
    mounts: Mounts,
    root: Root,
    due: Due,
    /// Directories that the last count found beyond what is watched.
    unwatched: u64,
    /// What is not watched was last told of then.
    holes_told: Moment,
    /// When the kernel was last asked for more.
    drained: Instant,
    /// The last rename, to recognise an exchange by its second half.
    last_move: Option<apply::Move>,
    /// What went last to where nobody looks.
    departed: Option<nodes::Dentry>,
    /// The watch on the directory of the marks.
    marks: Option<Wd>,
    alarm: Alarm,
}

impl Inotify {
    /// Watches the whole tree.
    ///
    /// # Errors
    /// [`WatchError`] if the source cannot be opened or there is no inotify instance left.
    pub(super) fn start(setup: Setup, tuning: Tuning) -> Result<Self, WatchError> {
        let system = |what| move |errno| WatchError::System { what, errno };
        let kernel = tuning.instance().map_err(system("inotify instance"))?;
        let anchor = Anchor::new(&setup.source).map_err(system("inotify instance"))?;
        let mounts = Mounts::open().map_err(|_| system("/proc/self/mountinfo")(Errno::NOENT))?;
        let queue = Queue::new(tuning.backlog_max);
        let source = setup.source.clone();
        let mut this = Self {
            setup,
            tuning,
            kernel,
            queue,
            nodes: Nodes::default(),
            gaps: Gaps::default(),
            anchor,
            mounts,
            root: Root::default(),
            due: Due::default(),
            unwatched: 0,
            holes_told: Moment::NEVER,
            drained: Instant::now(),
            last_move: None,
            departed: None,
            marks: None,
            alarm: Alarm::new(),
        };
        let (began, reading) = crate::disk::mark();
        // Without it, whoever asks is told that nobody knows.
        let marks = this.setup.fence.dir().map(|dir| this.kernel.add_path(dir, kernel::mark_mask()));
        this.marks = marks.and_then(Result::ok);
        let (fd, _) = this.anchor.resolve().map_err(|errno| WatchError::Source { path: source, errno })?;
        this.rebuild(fd);
        // What comes before is for the first comparison.
        this.setup.out.clock(reading);
        this.setup.out.mark(began);
        this.holes_told = began;
        this.due.mark = when_quiet(None, true, Instant::now());
        this.finish_round();
        Ok(this)
    }

    /// Moves what the kernel holds into the queue; says whether that was anything.
    fn drain(&mut self) -> bool {
        self.drained = Instant::now();
        let (nodes, queue) = (&self.nodes, &mut self.queue);
        kernel::unsignal(self.setup.fence.ring());
        self.kernel.drain(DRAIN_READS, |said| match said {
            Said::Mark(moment) => queue.mark(moment),
            // The echo of a watch that was dropped here.
            Said::Event(raw) if raw.mask.contains(ReadFlags::IGNORED) && !nodes.contains(raw.wd) => {}
            Said::Event(raw) => queue.push(raw),
        })
    }

    /// Looks at what is in the queue.
    fn process(&mut self) {
        self.due.queue = None;
        for _ in 0..ROUND_EVENTS {
            match self.queue.next(self.drained, self.tuning.hold) {
                Next::Event(raw) if Some(raw.wd) == self.marks => self.setup.fence.meet(&raw.name),
                Next::Event(raw) => self.on_event(raw),
                Next::Moved(raw, wd, name) => self.on_move(&raw, wd, &name),
                Next::Mark(moment) => self.setup.out.mark(moment),
                Next::Wait(until) => {
                    if !self.drain() && self.drained < until {
                        self.due.queue = Some(until);
                        return;
                    }
                }
                Next::Overflow => self.on_overflow(),
                Next::Empty => return self.settle(),
            }
        }
        self.due.queue = Some(Instant::now());
    }

    /// With no event left, looks for the directories that events named and the disk did not have.
    fn settle(&mut self) {
        if self.gaps.has_missing() && self.due.missing.is_none_or(|due| due <= Instant::now()) {
            self.retry_missing(None);
            self.due.missing_tries += 1;
            if self.gaps.has_missing() && self.due.missing_tries >= MISSING_TRIES {
                self.start_over(RescanReason::Unwatched);
            }
            self.due.missing = Some(Instant::now() + MISSING_PAUSE);
        }
        if !self.gaps.has_missing() {
            (self.due.missing, self.due.missing_tries) = (None, 0);
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
        let met = self.setup.fence.is_met();
        if met {
            self.look_everywhere();
        }
        let next = Instant::now() + self.setup.options.poll_interval;
        if self.due.queue.is_none() && !self.queue.is_empty() {
            // Read during a walk after the queue was looked at; the kernel has nothing left to wake us.
            self.due.queue = Some(Instant::now());
        }
        self.due.root = if self.root.is_unheard(&self.anchor) { self.due.root.or(Some(next)) } else { None };
        self.due.holes = if self.gaps.has_holes() { self.due.holes.or(Some(next)) } else { None };
        if std::mem::take(&mut self.gaps.stale) || std::mem::take(&mut self.root.stale) {
            self.tell();
        }
        self.root.fd = None;
        self.setup.out.set_watched(self.nodes.len());
        if self.marks.is_none() {
            self.setup.fence.meet_all();
        }
        self.setup.out.flush();
        if !self.gaps.has_missing() {
            self.setup.out.tell_mark(self.kernel.reading());
        }
        if self.marks.is_none() {
            self.setup.fence.answer_unsure();
        } else if met && !self.gaps.has_missing() {
            self.setup.fence.answer_met();
        } else if met {
            // An event named a directory that the disk has elsewhere by now: what is in it comes with
            // the event that says where, or with a walk of everything.
            self.due.missing = self.due.missing.or(Some(Instant::now()));
        }
    }

    /// Looks at what the events of the tree do not tell, for who wants to know that nothing is left.
    fn look_everywhere(&mut self) {
        // These are queues of their own: what was in them before the mark was made is in them now.
        self.anchor.drain();
        self.on_mounts();
        if self.gaps.has_holes() {
            self.retry_holes();
        }
    }

    /// Shows the problems on the handle.
    fn tell(&mut self) {
        let mut problems = Vec::from_iter(self.root.problem());
        let every = self.setup.options.poll_interval.as_secs_f64();
        for (path, gap) in self.gaps.hole_paths(&self.nodes).into_iter().take(PROBLEMS_MAX) {
            let (mut text, mut hint) = (gap.text(), None);
            if gap == Gap::Limit {
                let needed = self.nodes.len() as u64 + self.unwatched;
                let limit =
                    kernel::watch_limit().map_or_else(String::new, |limit| format!(", {limit} allowed"));
                text = format!("{text}: this source needs {needed} or more{limit}");
                hint = Some("raise fs.inotify.max_user_watches (sysctl)".to_owned());
            }
            problems.push(Problem {
                text: format!("watch {path}: {text}; compared every {every} s instead"),
                path,
                hint,
            });
        }
        self.setup.out.set_problems(problems);
    }
}

impl Listen for Inotify {
    fn run(mut self: Box<Self>) {
        loop {
            let urgent = PollFlags::PRI | PollFlags::ERR;
            let [_, _, anchor, mounts, stop, asked, clock] = kernel::wait(
                [
                    (self.kernel.as_fd(), PollFlags::IN),
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
            let any = self.drain();
            self.due.mark = when_quiet(self.due.mark, any, Instant::now());
            self.process();
            self.root.check |= anchor && self.anchor.drain();
            self.timers(Instant::now());
            if mounts {
                self.on_mounts();
            } else if self.root.check {
                self.check_root();
            }
            self.finish_round();
            if asked {
                kernel::unsignal(&self.setup.ask);
                let all = self.nodes.wds().filter_map(|wd| self.nodes.path(wd)).collect();
                self.setup.out.set_directories(all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};

    use crate::config::Backend;
    use crate::event::{Event, EventKind};
    use crate::tree::RelPath;

    use super::super::fence::Fence;
    use super::super::outbox::Outbox;
    use super::super::{Options, Sink};
    use super::*;

    /// Remembers what it was told.
    #[derive(Default)]
    struct Told(Mutex<Vec<EventKind>>);

    impl Sink for Told {
        fn events(&self, events: Vec<Event>) {
            self.0.lock().unwrap().extend(events.into_iter().map(|event| event.kind));
        }
    }

    fn start(source: &std::path::Path, tuning: Tuning) -> Inotify {
        start_telling(source, tuning, Arc::default())
    }

    fn start_telling(source: &std::path::Path, tuning: Tuning, told: Arc<Told>) -> Inotify {
        let poll_interval = Duration::from_secs(1);
        let setup = Setup {
            source: source.to_owned(),
            options: Options {
                backend: Backend::Inotify,
                poll_interval,
                one_file_system: false,
                marks: None,
            },
            skip: Arc::new(|_, _| false),
            out: Outbox::new(told, Arc::default()),
            stop: Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap()),
            ask: Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap()),
            fence: Arc::new(Fence::new(
                None,
                eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap(),
            )),
        };
        Inotify::start(setup, tuning).unwrap()
    }

    #[test]
    fn an_idle_watcher_sleeps_without_a_timeout_and_holds_nothing_of_the_source_open() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let idle = start(dir.path(), Tuning::default());
        assert_eq!(idle.nodes.len(), 3);
        // But for one mark, when it was quiet for a while.
        let mark = idle.due.mark;
        assert_eq!(idle.due.next(), mark);
        assert_eq!(mark.and_then(|at| when_quiet(mark, false, at)), None);
        assert!(idle.root.fd.is_none());
    }

    #[test]
    fn what_is_read_during_a_walk_is_looked_at_though_nothing_more_happens() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..200 {
            std::fs::create_dir(dir.path().join(n.to_string())).unwrap();
        }
        let add: crate::watch::tuning::Add = Box::new(|kernel: &Instance, dir, watched| {
            if watched == 100 {
                rustix::fs::mkdirat(dir, "../during", rustix::fs::Mode::RWXU).unwrap();
            }
            kernel.add(dir, super::kernel::tree_mask())
        });
        let mut busy = start(dir.path(), Tuning { add, ..Tuning::default() });
        assert!(busy.due.next().is_some_and(|due| due <= Instant::now()));
        busy.process();
        assert_eq!(busy.nodes.len(), 202);
    }

    /// Has something done at once, before any event of it is looked at, and returns what is told.
    fn told_at_once(deed: impl FnOnce(&std::path::Path)) -> Vec<EventKind> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["d/below", "e"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("f"), "one").unwrap();
        }
        let told = Arc::new(Told::default());
        let mut inotify = start_telling(dir.path(), Tuning::default(), Arc::clone(&told));
        deed(dir.path());
        inotify.drain();
        inotify.process();
        inotify.finish_round();
        let told = std::mem::take(&mut *told.0.lock().unwrap());
        assert!(!told.is_empty());
        told
    }

    /// Whether a file is told of after the last rename that takes away what was told before.
    fn is_told_last(told: &[EventKind], path: &str) -> bool {
        let path = RelPath::try_from(path).unwrap();
        told.iter()
            .rev()
            .take_while(|kind| {
                !matches!(kind, EventKind::Move { from, to, .. } if path.is_within(from) || path.is_within(to))
            })
            .any(|kind| match kind {
                EventKind::Create { path: at, .. } | EventKind::CloseWrite(at) => *at == path,
                _ => false,
            })
    }

    #[test]
    fn what_is_found_ahead_of_a_rename_that_brought_it_is_told_after_that() {
        use rustix::fs::{CWD, RenameFlags};
        use std::fs::{create_dir, remove_dir, rename, write};
        type Deed = fn(&std::path::Path);
        let deeds: [(Deed, &str); 5] = [
            (
                |root| {
                    let (one, other) = (root.join("d/below"), root.join("e"));
                    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                    std::fs::remove_dir_all(root.join("d")).unwrap();
                    write(root.join("e/f"), "two").unwrap();
                },
                "e/f",
            ),
            (
                |root| {
                    create_dir(root.join("new")).unwrap();
                    rename(root.join("d"), root.join("new")).unwrap();
                    write(root.join("new/below/f"), "two").unwrap();
                },
                "new/below/f",
            ),
            (
                |root| {
                    create_dir(root.join("new")).unwrap();
                    rename(root.join("d"), root.join("new")).unwrap();
                    create_dir(root.join("d")).unwrap();
                    rename(root.join("new"), root.join("d")).unwrap();
                    write(root.join("d/below/f"), "two").unwrap();
                },
                "d/below/f",
            ),
            (
                |root| {
                    rename(root.join("d"), root.join("new")).unwrap();
                    rename(root.join("e"), root.join("d")).unwrap();
                    write(root.join("d/f"), "two").unwrap();
                },
                "d/f",
            ),
            (
                |root| {
                    create_dir(root.join("new")).unwrap();
                    remove_dir(root.join("new")).unwrap();
                    rename(root.join("d"), root.join("new")).unwrap();
                    rename(root.join("new"), root.join("newer")).unwrap();
                    rename(root.join("e"), root.join("new")).unwrap();
                    write(root.join("new/f"), "two").unwrap();
                },
                "new/f",
            ),
        ];
        for (at, (deed, path)) in deeds.into_iter().enumerate() {
            let told = told_at_once(deed);
            assert!(is_told_last(&told, path), "{at}: {path} in {told:#?}");
        }
    }
}
