//! What was read of the source and is kept: for targets a little behind, and as room for more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use super::{BEHIND_MAX, PIECE_LEN, SourceFile};
use crate::tree::RelPath;

/// Bytes of files that are kept for the other targets.
const KEPT_MAX: usize = 32 << 20;
/// What a kept file costs besides its content, in bytes: both entries, the path twice, the reading.
const OVERHEAD: usize = 1536;
/// Rooms that wait for their next piece: for one target, and for several.
const ROOMS_MAX: [usize; 2] = [2, 64];

/// Versions that may be asked for again. Those of one piece are kept without an open file.
#[derive(Default)]
pub(super) struct Kept {
    files: HashMap<RelPath, Weak<SourceFile>>,
    /// The last, until the budget is spent. What is too large for it lives as long as a target reads it.
    held: VecDeque<(Arc<SourceFile>, usize)>,
    bytes: usize,
}

impl Kept {
    /// Returns the version at a path whose reading began at `issued` or later.
    pub fn get(&self, path: &RelPath, issued: Instant) -> Option<Arc<SourceFile>> {
        self.files.get(path).and_then(Weak::upgrade).filter(|file| file.began >= issued)
    }

    pub fn add(&mut self, path: &RelPath, file: &Arc<SourceFile>) {
        self.files.insert(path.clone(), Arc::downgrade(file));
        let size = usize::try_from(file.size()).unwrap_or(usize::MAX);
        if size <= BEHIND_MAX {
            self.bytes += size + OVERHEAD;
            self.held.push_back((Arc::clone(file), size + OVERHEAD));
            while self.bytes > KEPT_MAX {
                let Some((_, weight)) = self.held.pop_front() else { break };
                self.bytes -= weight;
            }
        }
        if self.files.len() > 2 * self.held.len() + 1024 {
            self.files.retain(|_, file| file.strong_count() > 0);
        }
    }
}

/// Room for pieces that nobody holds any more: new memory would cost a page fault for each page.
pub(super) struct Rooms {
    free: Mutex<Vec<Arc<Vec<u8>>>>,
    max: usize,
}

impl Rooms {
    /// Keeps as many as reading for `targets` targets takes.
    pub fn new(targets: usize) -> Self {
        let [one, several] = ROOMS_MAX;
        Self { free: Mutex::default(), max: if targets > 1 { several } else { one } }
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
            if free.len() < self.max {
                free.push(room);
            }
        }
    }

    pub fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
