//! What a session remembers for the next one, on the disk in time.
//!
//! **In → Out:** commits that have become durable, and watermarks that the sender states; the memory in the state.
//! **Invariants:** provisional paths are on the disk before the commit is acknowledged that brought them. The sender
//! states only what was acknowledged, so an older watermark holds as well as a newer one.

use std::sync::{Arc, Mutex, PoisonError};

use super::state::{Memory, State};
use crate::protocol::BatchId;
use crate::tree::RelPath;

/// Keeps the memory of a session, and its copy on the disk.
pub(super) struct Remembering {
    state: Option<Arc<State>>,
    inner: Mutex<Inner>,
}

struct Inner {
    memory: Memory,
    /// The provisional paths, as they were written last.
    written: Option<Vec<RelPath>>,
}

impl Inner {
    /// What cannot be written makes the next session more careful, not less.
    fn write(&mut self, state: &State) {
        if state.remember(&self.memory).is_ok() {
            self.written = Some(self.memory.provisional.clone());
        }
    }
}

impl Remembering {
    pub fn new(state: Option<Arc<State>>, memory: Memory) -> Arc<Self> {
        Arc::new(Self { state, inner: Mutex::new(Inner { memory, written: None }) })
    }

    /// Changes what the next session will know once something has it written.
    pub fn change(&self, change: impl FnOnce(&mut Memory)) {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner).memory);
    }

    /// Changes what the next session will know, and writes it.
    pub fn remember(&self, change: impl FnOnce(&mut Memory)) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut inner.memory);
        if let Some(state) = &self.state {
            inner.write(state);
        }
    }

    /// Takes in that everything up to a commit is durable.
    pub fn durable(&self, batch: BatchId) {
        let Some(state) = &self.state else { return };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.memory.last_batch = (state.session, batch);
        // The list of provisional paths is what a restart must not lose; the number is a hint.
        if inner.written.as_ref() != Some(&inner.memory.provisional) {
            inner.write(state);
        }
    }
}
