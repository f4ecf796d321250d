//! What arrived: after each durable batch its paths are written down for `speil arrivals`.
//!
//! **Purpose:** programs beside the agent learn which files are new, without one that the agent starts.
//! **In → Out:** paths of operations that were done; a record in the ring once their batch is durable.
//! **Invariants:** a record is a whole batch, or "everything". Where a session ends before its last changes are
//! durable, or is killed, the next record says "everything". Nothing is gathered, and nothing is in the target, unless
//! somebody has made a ring.
//! **Not here:** the format, and reading it (`ring`); commands (`cli`).

mod ring;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use ring::{Arrival, Arrivals, Changed};

use super::remembering::Remembering;
use super::state::State;
use crate::disk::{Root, memory_place};
use crate::protocol::{BatchId, Expect, ToReceiver};
use crate::tree::{Kind, RelPath};
use ring::{Ring, What};

/// Most bytes of paths in one record: a larger batch is told as "everything".
const PATHS_LEN_MAX: usize = 128 << 10;

/// What a batch has changed so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    paths: BTreeSet<Changed>,
    len: usize,
    everything: bool,
}

impl Told {
    fn add(&mut self, changed: Changed) {
        if self.everything {
            return;
        }
        let len = changed.path.as_bytes().len() + 8;
        if self.paths.insert(changed) {
            self.len += len;
            self.everything = self.len > PATHS_LEN_MAX;
        }
    }

    /// Adds what a later batch has changed.
    pub fn join(&mut self, later: Self) {
        self.everything |= later.everything;
        later.paths.into_iter().for_each(|changed| self.add(changed));
    }

    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.everything
    }
}

/// Where the records go. The flusher writes them, in the order of the batches.
pub(super) struct Notebook(Option<Mutex<Ring>>);

impl Notebook {
    fn lock(&self) -> Option<MutexGuard<'_, Ring>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes down what has become durable.
    pub fn durable(&self, told: Told) {
        if told.is_empty() {
            return;
        }
        if let Some(mut ring) = self.lock() {
            ring.append(if told.everything {
                What::Everything
            } else {
                What::Paths(told.paths.into_iter().collect())
            });
        }
    }
}

/// What an operation that is about to be done changes besides its own path.
pub(super) struct Change {
    /// It moves or removes a directory.
    whole: bool,
    /// From where it moves something.
    from: Option<RelPath>,
}

/// Gathers what operations change, for a notebook.
pub(super) struct Gathering {
    notebook: Arc<Notebook>,
    told: Told,
    /// Somebody has made a ring.
    listens: bool,
    /// Something was done since the last batch ended.
    is_in_batch: bool,
    /// The ring knows that this session changes something.
    has_begun: bool,
}

impl Gathering {
    /// Without a state of the session: where another session has its state.
    pub fn new(root: &Root, state: Option<&State>, dry_run: bool) -> Self {
        let dir = state.and_then(|state| state.dir().try_clone_to_owned().ok());
        let dir = dir.or_else(|| ring::open_dir(root, &memory_place(root)).ok()).filter(|_| !dry_run);
        let mut ring = dir.map(Ring::new);
        let listens = ring.as_mut().is_some_and(|ring| ring.look());
        let notebook = Arc::new(Notebook(ring.map(Mutex::new)));
        Self { notebook, told: Told::default(), listens, is_in_batch: false, has_begun: false }
    }

    /// Returns what is called for a batch that is durable.
    pub fn and_then(&self, remembering: Arc<Remembering>) -> Box<dyn Fn(BatchId, Told) + Send> {
        let notebook = Arc::clone(&self.notebook);
        Box::new(move |batch, told| {
            remembering.durable(batch);
            notebook.durable(told);
        })
    }

    /// Takes in that an operation is about to be done; returns what [`Gathering::done`] needs, if somebody listens and
    /// it changes the tree: a stream does so when it is closed.
    pub fn begin(&mut self, operation: &ToReceiver<'_>) -> Option<Change> {
        if matches!(operation, ToReceiver::Open { .. } | ToReceiver::OpenKept { .. }) {
            return None;
        }
        if !std::mem::replace(&mut self.is_in_batch, true) {
            self.look();
        }
        if !self.listens {
            return None;
        }
        self.has_begun_now();
        Some(match operation {
            ToReceiver::Rename { from, expect, .. } => {
                Change { whole: is_dir(expect), from: Some(from.clone()) }
            }
            ToReceiver::Delete { expect, .. } => Change { whole: is_dir(expect), from: None },
            _ => Change { whole: false, from: None },
        })
    }

    /// Before the first change of a session: if it is killed, more was done than is told.
    fn has_begun_now(&mut self) {
        if !std::mem::replace(&mut self.has_begun, true)
            && let Some(mut ring) = self.notebook.lock()
        {
            ring.append(What::Begun);
        }
    }

    /// Takes in that an operation was done.
    pub fn done(&mut self, path: &RelPath, change: Change) {
        let Change { whole, from } = change;
        // The root's own attributes are no file.
        for path in from.into_iter().chain([path.clone()]).filter(|path| !path.is_root()) {
            self.told.add(Changed { path, whole });
        }
    }

    /// Writes down at once that more was done than is known by name.
    pub fn everything(&self) {
        self.notebook.durable(Told { everything: true, ..Told::default() });
    }

    /// Returns what the batch that ends here has changed.
    pub fn commit(&mut self) -> Told {
        let mut told = std::mem::take(&mut self.told);
        if std::mem::take(&mut self.is_in_batch) && !self.listens {
            // Somebody listens since the middle of this batch.
            self.look();
            told.everything |= self.listens;
        }
        told
    }

    fn look(&mut self) {
        let listened = self.listens;
        self.listens = self.notebook.lock().is_some_and(|mut ring| ring.look());
        self.has_begun &= listened;
    }

    /// Ends the session, once everything that was committed is durable.
    pub fn finish(&mut self) {
        let Some(mut ring) = self.notebook.lock().filter(|_| self.has_begun) else { return };
        if self.told.is_empty() {
            ring.append(What::Ended);
        }
    }
}

fn is_dir(expect: &Expect) -> bool {
    matches!(expect, Expect::Kind(Kind::Dir) | Expect::Dir(true) | Expect::Version { kind: Kind::Dir, .. })
}
