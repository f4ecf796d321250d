//! What was read of the source and is kept: for targets a little behind, and as room for more.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{BEHIND_MAX, PIECE_LEN, SourceFile};
use crate::tree::RelPath;

/// Bytes of files of one piece that are kept for the other targets.
const SMALL_MAX: usize = 4 << 20;
/// What a kept file costs besides its content, in bytes: both entries, the path twice, the reading.
const OVERHEAD: usize = 1536;
/// Bytes of larger files that are kept for them.
const LARGE_MAX: usize = 32 << 20;
/// Larger files that stay open: a target far behind reads them again, but hashes nothing.
const OPEN_MAX: usize = 64;
/// For how long they do: what is removed is to be gone.
const OPEN_FOR: Duration = Duration::from_secs(10);
/// Rooms that wait for their next piece: for one target, and for several.
const ROOMS_MAX: [usize; 2] = [2, 64];

/// Versions that may be asked for again.
#[derive(Default)]
pub(super) struct ReadCache {
    files: HashMap<RelPath, Weak<SourceFile>>,
    /// The last of one piece, each with its weight: they hold their content and no open file.
    small: VecDeque<(Arc<SourceFile>, usize)>,
    small_bytes: usize,
    /// The last that are larger: open, and only the newest hold what was read of them.
    large: VecDeque<Arc<SourceFile>>,
}

impl ReadCache {
    /// Returns the version at a path whose reading began at `issued` or later.
    pub fn get(&self, path: &RelPath, issued: Instant) -> Option<Arc<SourceFile>> {
        self.files.get(path).and_then(Weak::upgrade).filter(|file| file.began >= issued)
    }

    pub fn add(&mut self, path: &RelPath, file: &Arc<SourceFile>) {
        self.files.insert(path.clone(), Arc::downgrade(file));
        if self.files.len() > 2 * (self.small.len() + self.large.len()) + 1024 {
            self.files.retain(|_, file| file.strong_count() > 0);
        }
        let size = usize::try_from(file.size()).unwrap_or(usize::MAX);
        if size > PIECE_LEN {
            return self.add_large(file);
        }
        self.small_bytes += size + OVERHEAD;
        self.small.push_back((Arc::clone(file), size + OVERHEAD));
        while self.small_bytes > SMALL_MAX {
            let Some((_, weight)) = self.small.pop_front() else { break };
            self.small_bytes -= weight;
        }
    }

    fn add_large(&mut self, file: &Arc<SourceFile>) {
        self.large.push_back(Arc::clone(file));
        self.forget_old();
        let mut bytes = 0_u64;
        for file in self.large.iter().rev() {
            bytes = bytes.saturating_add(file.size().min(BEHIND_MAX as u64));
            if bytes > LARGE_MAX as u64 {
                file.strip();
            }
        }
    }

    /// Gives up open files beyond their number and their time.
    pub fn forget_old(&mut self) {
        let is_old = |file: &Arc<SourceFile>| file.began.elapsed() > OPEN_FOR;
        while self.large.len() > OPEN_MAX || self.large.front().is_some_and(is_old) {
            self.large.pop_front();
        }
    }
}

/// Room for pieces that nobody holds any more: new memory would cost a page fault for each page.
pub(super) struct Rooms {
    free: Mutex<Vec<Arc<Vec<u8>>>>,
    max: AtomicUsize,
}

impl Rooms {
    /// Keeps as many as reading for `targets` targets takes.
    pub fn new(targets: usize) -> Self {
        let this = Self { free: Mutex::default(), max: AtomicUsize::new(0) };
        this.serve(targets);
        this
    }

    /// The same, for another number of targets.
    pub fn serve(&self, targets: usize) {
        let [one, several] = ROOMS_MAX;
        self.max.store(if targets > 1 { several } else { one }, Ordering::Relaxed);
    }

    /// Returns `last` if nobody else holds it, else another room.
    pub fn take(&self, mut last: Arc<Vec<u8>>) -> Arc<Vec<u8>> {
        if last.capacity() > 0 && Arc::get_mut(&mut last).is_some() {
            return last;
        }
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Takes a room back, if nobody else holds it and it is as large as most pieces.
    pub fn give(&self, mut room: Arc<Vec<u8>>) {
        if room.capacity() >= PIECE_LEN && Arc::get_mut(&mut room).is_some() {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            if free.len() < self.max.load(Ordering::Relaxed) {
                free.push(room);
            }
        }
    }

    pub fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
