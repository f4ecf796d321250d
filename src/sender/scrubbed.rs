//! What reading everything again has told of one target.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::tree::RelPath;

/// Mismatches that are kept one by one.
const MISMATCHES_MAX: usize = 1000;
/// Longest time from a daemon's start to the first scrub.
const FIRST_MAX: Duration = Duration::from_secs(3600);

/// Which side has rotten bytes, as far as that can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspect {
    /// What was sent is what the target has: the source's bytes have changed since.
    Source,
    /// What was sent is what the source has.
    Target,
    /// Nothing was sent lately.
    Either,
}

impl Suspect {
    /// Returns the word for scripts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Either => "either",
        }
    }

    /// Returns it in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Source => "the source is rotten: the target has what was sent",
            Self::Target => "the target is rotten: the source has what was sent",
            Self::Either => "either side may be rotten: nothing was sent since the daemon started",
        }
    }
}

/// A file of equal size and time and other bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// BLAKE3 of what the source has.
    pub source: [u8; 32],
    /// BLAKE3 of what the target has.
    pub target: [u8; 32],
    /// Whose fault it is.
    pub suspect: Suspect,
    /// Whether the target was sent the source's version.
    pub repaired: bool,
    /// When it was found.
    pub at: SystemTime,
}

#[derive(Debug, Default)]
struct Inner {
    last: Option<SystemTime>,
    next: Option<Instant>,
    /// The directories up to this one are done, in a scrub that was cut off.
    done: Option<RelPath>,
    running: bool,
    files: u64,
    mismatches: BTreeMap<RelPath, Mismatch>,
}

/// What scrubs of one target have told, over all its sessions.
#[derive(Debug, Default)]
pub struct Scrubbed(Mutex<Inner>);

impl Scrubbed {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one if it is time: `Ok` with the directory that the last one came to, `Err` with when it is.
    pub(super) fn begin(&self, now: Instant, interval: Duration) -> Result<Option<RelPath>, Option<Instant>> {
        let mut inner = self.lock();
        if inner.running {
            return Err(None);
        }
        let next = *inner.next.get_or_insert_with(|| now + interval.min(FIRST_MAX));
        if next > now {
            return Err(Some(next));
        }
        inner.running = true;
        if inner.done.is_none() {
            inner.files = 0;
        }
        Ok(inner.done.clone())
    }

    /// Notes how far it is.
    pub(super) fn is_at(&self, dir: &RelPath, files: u64) {
        let mut inner = self.lock();
        inner.files += files;
        inner.done = Some(dir.clone());
    }

    /// Ends one; without `whole` the next session goes on with it.
    pub(super) fn end(&self, whole: bool, interval: Duration) {
        let mut inner = self.lock();
        inner.running = false;
        inner.next = Some(Instant::now());
        if whole {
            (inner.last, inner.done) = (Some(SystemTime::now()), None);
            inner.next = Some(Instant::now() + interval);
        }
    }

    /// Notes a file of other bytes; `true` if that is news.
    pub(super) fn found(&self, path: &RelPath, mismatch: Mismatch) -> bool {
        let mut inner = self.lock();
        let same = |old: &Mismatch| (old.source, old.target) == (mismatch.source, mismatch.target);
        let known = inner.mismatches.get(path);
        let news = known.is_none_or(|old| !same(old) || old.repaired);
        if known.is_some() || inner.mismatches.len() < MISMATCHES_MAX {
            inner.mismatches.insert(path.clone(), mismatch);
        }
        news
    }

    /// Notes that a file is equal by now.
    pub(super) fn is_equal(&self, path: &RelPath) {
        self.lock().mismatches.remove(path);
    }

    /// Forgets what no longer exists below a directory, of which these names were compared.
    pub(super) fn keep_only(&self, dir: &RelPath, exists: &dyn Fn(&RelPath) -> bool) {
        self.lock().mismatches.retain(|path, _| path.parent().as_ref() != Some(dir) || exists(path));
    }

    /// When the last one ended.
    pub fn last(&self) -> Option<SystemTime> {
        self.lock().last
    }

    /// Whether one is under way, and how many files it has proved.
    pub fn running(&self) -> (bool, u64) {
        let inner = self.lock();
        (inner.running, inner.files)
    }

    /// Returns the files of other bytes.
    pub fn mismatches(&self) -> Vec<(RelPath, Mismatch)> {
        self.lock().mismatches.iter().map(|(path, mismatch)| (path.clone(), mismatch.clone())).collect()
    }
}
