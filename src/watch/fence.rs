//! Telling that everything up to a moment was heard.
//!
//! **Purpose:** who asks leaves a mark, and the backend answers once all that happened before the mark
//! has gone to the sink. inotify: the mark is a file in a directory of ours that the *same* instance
//! watches, so its event stands in the kernel's queue behind everything earlier. fanotify: the queue is read
//! until it is empty. Without such a directory, and in the other backends, the answer is that nobody knows,
//! after one more look.
//! **Invariants:** a mark that is lost with a queue is left again; no mark is made inside the source.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::kernel;

/// What a watcher says when it is asked whether it has heard everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceAnswer {
    /// Every event of what was done before the call has gone to the sink; none of them is younger than
    /// this moment.
    All(Instant),
    /// Only a comparison with the target can tell: this backend has no queue that could be waited for.
    Unsure,
    /// There was no answer in time.
    Late,
}

struct Asked {
    answer: Sender<FenceAnswer>,
    /// Whether the mark was met.
    met: bool,
}

#[derive(Default)]
struct Inner {
    next: u64,
    asked: HashMap<u64, Asked>,
}

/// The requests that a backend has yet to answer.
pub(super) struct Fence {
    dir: Option<PathBuf>,
    ring: OwnedFd,
    inner: Mutex<Inner>,
}

impl Fence {
    /// `dir` holds the marks, `ring` wakes the backend.
    pub(super) fn new(dir: Option<PathBuf>, ring: OwnedFd) -> Self {
        Self { dir, ring, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&self, limit: Duration) -> FenceAnswer {
        let (answer, answered) = bounded(1);
        let number = {
            let mut inner = self.lock();
            inner.next += 1;
            let number = inner.next;
            inner.asked.insert(number, Asked { answer, met: false });
            number
        };
        self.mark(number);
        kernel::signal(&self.ring);
        let heard = answered.recv_timeout(limit).unwrap_or(FenceAnswer::Late);
        self.lock().asked.remove(&number);
        heard
    }

    fn mark(&self, number: u64) {
        let Some(dir) = &self.dir else { return };
        let path = dir.join(number.to_string());
        // A mark that cannot be made is never met, and the caller's time runs out.
        if File::create(&path).is_ok() {
            let _ = std::fs::remove_file(&path);
        }
    }

    /// Where the marks are made.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// What wakes the backend when somebody asks.
    pub(super) fn ring(&self) -> &OwnedFd {
        &self.ring
    }

    /// Takes the name of a mark that was met in the queue.
    pub(super) fn meet(&self, name: &[u8]) {
        let number = std::str::from_utf8(name).ok().and_then(|name| name.parse::<u64>().ok());
        let mut inner = self.lock();
        if let Some(asked) = number.and_then(|number| inner.asked.get_mut(&number)) {
            asked.met = true;
        }
    }

    /// Whether a mark was met and its request not answered yet.
    pub(super) fn is_met(&self) -> bool {
        self.lock().asked.values().any(|asked| asked.met)
    }

    /// Answers those whose mark was met: the sink has everything.
    pub(super) fn answer_met(&self) {
        let now = Instant::now();
        for asked in self.lock().asked.values().filter(|asked| asked.met) {
            let _ = asked.answer.try_send(FenceAnswer::All(now));
        }
    }

    /// Leaves the marks again: the queue that held them was thrown away.
    pub(super) fn mark_again(&self) {
        let numbers: Vec<u64> = self.lock().asked.iter().filter(|(_, a)| !a.met).map(|(n, _)| *n).collect();
        numbers.into_iter().for_each(|number| self.mark(number));
    }

    /// Marks every request so far as met: what comes now has seen all that was before them.
    pub(super) fn meet_all(&self) {
        kernel::unsignal(&self.ring);
        self.lock().asked.values_mut().for_each(|asked| asked.met = true);
    }

    /// Answers those that were met with "unsure".
    pub(super) fn answer_unsure(&self) {
        for asked in self.lock().asked.values().filter(|asked| asked.met) {
            let _ = asked.answer.try_send(FenceAnswer::Unsure);
        }
    }
}
