//! Making batches durable, beside the applying of the next.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::{Mode, OFlags};

use super::arrived::Told;
use super::ground::Ground;
use super::reply::Reply;
use crate::config::Durability;
use crate::protocol::{BatchId, Hello, StateMode, ToSender};
use crate::tree::FileId;

/// Most files and most directories that are flushed one by one where the filesystem may be flushed.
const SINGLE_MAX: usize = 256;
/// The same where it may not, because it was a moment ago.
const SINGLE_LATE_MAX: usize = 2048;
/// Shortest time between two flushes of the whole filesystem, which flush strangers' pages too.
const WHOLE_INTERVAL: Duration = Duration::from_secs(5);
/// Commits that may wait to be flushed.
const COMMITS_MAX: usize = 64;

/// Called before a batch is acknowledged, with what it has changed.
type Done = Box<dyn Fn(BatchId, Told) + Send>;

/// What a batch has dirtied so far.
#[derive(Default)]
struct Dirty {
    files: Vec<OwnedFd>,
    dirs: HashMap<FileId, OwnedFd>,
    whole: bool,
}

struct Commit {
    batch: BatchId,
    dirty: Dirty,
    told: Told,
}

/// Gathers what is dirty, flushes it on a thread of its own, then acknowledges.
pub(super) struct Durable {
    mode: Durability,
    dirty: Dirty,
    /// Descriptors that are kept for flushing one by one.
    singles_max: usize,
    commits: Option<Sender<Commit>>,
    thread: Option<JoinHandle<()>>,
}

impl Durable {
    /// Begins with what a sender asks for. A live session keeps flushes of the whole filesystem apart; a single pass
    /// has no time for that.
    pub fn new(hello: &Hello, ground: Arc<Ground>, reply: Arc<Reply>, done: Done) -> std::io::Result<Self> {
        let (mode, patient) = (hello.durability, hello.state == StateMode::Keep);
        let (commits, inbox) = bounded(COMMITS_MAX);
        let flusher = Flusher { inbox, ground, reply, done, patient, last_whole: None };
        let thread = std::thread::Builder::new().name("durable".to_owned()).spawn(move || flusher.run())?;
        // Never so many that opening files fails.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let room =
            limit.map_or(SINGLE_LATE_MAX, |limit| usize::try_from(limit / 8).unwrap_or(SINGLE_LATE_MAX));
        let singles_max = if patient { room.clamp(16, SINGLE_LATE_MAX) } else { room.clamp(16, SINGLE_MAX) };
        Ok(Self { mode, dirty: Dirty::default(), singles_max, commits: Some(commits), thread: Some(thread) })
    }

    /// Whether a file must be on the disk before its name changes.
    pub fn before_rename(&self, overwrites: bool) -> bool {
        match self.mode {
            Durability::None => false,
            Durability::Batch => overwrites,
            Durability::File => true,
        }
    }

    /// Notes a file whose content or metadata is to be flushed.
    pub fn file(&mut self, file: OwnedFd) {
        if self.mode == Durability::None || self.dirty.whole {
            return;
        }
        self.dirty.files.push(file);
        if self.dirty.files.len() > self.singles_max {
            self.whole();
        }
    }

    /// Notes a directory in which a name changed.
    pub fn dir(&mut self, dir: BorrowedFd<'_>) {
        if self.mode == Durability::None || self.dirty.whole {
            return;
        }
        let Ok(id) = crate::disk::id_of(dir) else { return };
        if self.dirty.dirs.contains_key(&id) {
            return;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(dir, c".", flags, Mode::empty()) {
            Ok(fd) => {
                self.dirty.dirs.insert(id, fd);
            }
            // Not readable for us: only the filesystem as a whole can be flushed.
            Err(_) => self.dirty.whole = true,
        }
        if self.dirty.dirs.len() > self.singles_max {
            self.whole();
        }
    }

    fn whole(&mut self) {
        self.dirty = Dirty { whole: true, ..Dirty::default() };
    }

    /// Hands everything noted so far to the flusher, which tells of it and acknowledges `batch` when it is done.
    pub fn commit(&mut self, batch: BatchId, told: Told) {
        let dirty = std::mem::take(&mut self.dirty);
        if let Some(commits) = &self.commits {
            // The flusher ends early only when the connection is gone.
            let _ = commits.send(Commit { batch, dirty, told });
        }
    }

    /// Waits until everything handed over is flushed.
    pub fn finish(&mut self) {
        self.commits = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Flusher {
    inbox: Receiver<Commit>,
    ground: Arc<Ground>,
    reply: Arc<Reply>,
    done: Done,
    patient: bool,
    last_whole: Option<Instant>,
}

impl Flusher {
    fn run(mut self) {
        while let Ok(mut commit) = self.inbox.recv() {
            self.gather(&mut commit);
            if let Err(error) = self.flush(&commit.dirty) {
                // What was promised cannot be kept: the session ends, unacknowledged work comes again.
                let text = format!("flush to disk: {}", crate::error::io_text(&error.into()));
                let _ = self.reply.send(&ToSender::Fatal(text.into()));
                return;
            }
            // What is acknowledged is in the directory that is under the path now.
            if let Some(why) = self.ground.ended() {
                self.ground.tell(&self.reply, why);
                return;
            }
            (self.done)(commit.batch, commit.told);
            if self.reply.send(&ToSender::Acked { batch: commit.batch }).is_err() {
                return;
            }
        }
    }

    /// Joins what has queued up meanwhile: one flush serves all.
    fn gather(&self, commit: &mut Commit) {
        let mut join = |next: Commit| {
            commit.batch = next.batch;
            commit.dirty.whole |= next.dirty.whole;
            commit.dirty.files.extend(next.dirty.files);
            commit.dirty.dirs.extend(next.dirty.dirs);
            commit.told.join(next.told);
            commit.dirty.files.len() < 4 * SINGLE_MAX
        };
        while let Ok(next) = self.inbox.try_recv() {
            if !join(next) {
                return;
            }
        }
        let due = self.last_whole.map(|last| last + WHOLE_INTERVAL);
        while let Some(due) = due.filter(|_| commit.dirty.whole && self.patient) {
            match self.inbox.recv_deadline(due) {
                Ok(next) => {
                    commit.batch = next.batch;
                    commit.told.join(next.told);
                }
                Err(_) => return,
            }
        }
    }

    fn flush(&mut self, dirty: &Dirty) -> Result<(), rustix::io::Errno> {
        // Under a steady stream of changes one flush of everything would only be followed by the next.
        let many = dirty.files.len() > SINGLE_MAX || dirty.dirs.len() > SINGLE_MAX;
        let may = !self.patient || self.last_whole.is_none_or(|last| last.elapsed() >= WHOLE_INTERVAL);
        if dirty.whole || (many && may) {
            rustix::fs::syncfs(self.ground.root())?;
            self.last_whole = Some(Instant::now());
            return Ok(());
        }
        flush_files(&dirty.files)?;
        dirty.dirs.values().try_for_each(rustix::fs::fsync)
    }
}

/// Flushes files side by side, so that the filesystem can join their journal commits.
fn flush_files(files: &[OwnedFd]) -> Result<(), rustix::io::Errno> {
    const LANES: usize = 8;
    if files.len() < 2 {
        return files.iter().try_for_each(rustix::fs::fdatasync);
    }
    std::thread::scope(|scope| {
        let lanes: Vec<_> = files
            .chunks(files.len().div_ceil(LANES))
            .map(|lane| {
                scope.spawn(move || lane.iter().try_for_each(|file| rustix::fs::fdatasync(file.as_fd())))
            })
            .collect();
        lanes.into_iter().try_for_each(|lane| lane.join().unwrap_or(Err(rustix::io::Errno::IO)))
    })
}
