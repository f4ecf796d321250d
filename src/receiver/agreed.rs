//! What a pass finds to be on the target as on the source, whoever wrote it: the agent's own from then on.
//!
//! **In → Out:** the walk and the listings of a pass, and the sender's word of what differs; marks for `own`.
//! **Invariants:** only what the walk or a listing has met is agreed on, in the version that it met; a file that
//! was written to since bears another mark. **Why:** a standby that rsync has filled, or one of a version without
//! marks, would else set every file aside as it is replaced.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_bytes::ByteBuf;

use super::own::Own;
use crate::scan::Scan;
use crate::tree::{Entry, Kind, RelPath};

/// Most listed names that wait for the sender's word; what is more waits for the next pass.
const WAITING_MAX: usize = 200_000;

/// Names in one directory, of foreign files with their marks and of directories that hold some.
pub(super) type Listed = Vec<(Vec<u8>, Option<u64>)>;

/// The marks of one pass.
pub(super) struct Agreement {
    own: Own,
    /// Entries of the agent's own that the walk has met.
    met: AtomicUsize,
    /// Their marks, where no others are to be kept.
    gathered: Option<Mutex<Vec<u64>>>,
    /// What was listed, by directory: names of foreign files with their marks, and of directories that hold some.
    waiting: Mutex<HashMap<RelPath, Listed>>,
}

impl Agreement {
    /// Begins a pass; `whole` if it is over the whole tree.
    pub fn new(own: Own, whole: bool) -> Self {
        let gathered = (whole && own.begin_clearing()).then(Mutex::default);
        Self { own, met: AtomicUsize::new(0), gathered, waiting: Mutex::default() }
    }

    /// Returns the mark of a foreign entry that the walk meets.
    pub fn meet(&self, entry: &Entry) -> Option<u64> {
        let (mark, foreign) = self.own.mark(entry)?;
        if !foreign {
            self.met.fetch_add(1, Ordering::Relaxed);
            if let Some(gathered) = &self.gathered {
                gathered.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
            }
        }
        foreign.then_some(mark)
    }

    /// Takes in that the walk over the whole tree is through.
    pub fn walked(&self, scan: &Scan) {
        let gathered = self.gathered.as_ref().map(|gathered| {
            let gathered = std::mem::take(&mut *gathered.lock().unwrap_or_else(PoisonError::into_inner));
            // Of what could not be read nothing is known.
            (scan.problems.is_empty() && !scan.ended).then_some(gathered)
        });
        self.own.walked(self.met.load(Ordering::Relaxed), gathered);
    }

    /// Whether a directory that is to be listed holds anything foreign, and there is room to remember it.
    pub fn hears_of(&self, dir: &RelPath, scan: &Scan) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        scan.marked.contains_key(dir) && waiting.values().map(Vec::len).sum::<usize>() < WAITING_MAX
    }

    /// Returns what is to be remembered of a listed entry, if anything is.
    pub fn waits(&self, dir: &RelPath, entry: &Entry, scan: &Scan) -> Option<(Vec<u8>, Option<u64>)> {
        let mark = match entry.attrs.meta.kind {
            Kind::Dir => scan.marked.contains_key(&dir.join(&entry.name)).then_some(None),
            _ => self.own.mark(entry).filter(|(_, foreign)| *foreign).map(|(mark, _)| Some(mark)),
        };
        mark.map(|mark| (entry.name.clone(), mark))
    }

    /// Takes in a listing, before its end is told.
    pub fn listed(&self, dir: &RelPath, names: Listed) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.clone(), names);
    }

    /// Takes in that a directory is as on the source, with everything below it, but for some names of one
    /// that was listed.
    pub fn agreed(&self, dir: &RelPath, except: &[ByteBuf], scan: &Scan) {
        let below = |dir: &RelPath| scan.marked.get(dir).and_then(|range| scan.marks.get(range.clone()));
        let listed = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(dir);
        let Some(listed) = listed else {
            if except.is_empty() {
                self.own.agree(below(dir).unwrap_or_default());
                self.own.save();
            }
            return;
        };
        let except: std::collections::HashSet<&[u8]> = except.iter().map(|name| name.as_slice()).collect();
        for (name, mark) in listed.iter().filter(|(name, _)| !except.contains(name.as_slice())) {
            match mark {
                Some(mark) => self.own.agree(&[*mark]),
                None => self.own.agree(below(&dir.join(name)).unwrap_or_default()),
            }
        }
        self.own.save();
    }
}
