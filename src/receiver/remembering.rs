//! What a session remembers for the next one, on the disk in time.
//!
//! **In → Out:** commits that have become durable, and watermarks that the sender states; the memory in the state.
//! **Invariants:** provisional paths are on the disk before the commit is acknowledged that brought them. The sender
//! states only what was acknowledged, so an older watermark holds as well as a newer one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::{Memory, State};
use crate::protocol::{BatchId, Watermark};
use crate::tree::RelPath;

/// Keeps the memory of a session, and its copy on the disk.
pub(super) struct Remembering {
    state: Option<Arc<State>>,
    memory: Arc<Mutex<Memory>>,
    /// The provisional paths, as they were written last.
    written: Mutex<Option<Vec<RelPath>>>,
}

impl Remembering {
    pub fn new(state: Option<Arc<State>>, memory: Arc<Mutex<Memory>>) -> Arc<Self> {
        Arc::new(Self { state, memory, written: Mutex::default() })
    }

    /// Takes in that everything up to a commit is durable.
    pub fn durable(&self, batch: BatchId) {
        let Some(state) = &self.state else { return };
        let mut memory = self.memory();
        memory.last_batch = (state.session, batch);
        // The list of provisional paths is what a restart must not lose; the number is a hint.
        if self.written().as_ref() != Some(&memory.provisional) {
            self.write(state, &memory);
        }
    }

    /// Takes in up to when the target has everything.
    pub fn mark(&self, watermark: Watermark) {
        let Some(state) = &self.state else { return };
        let mut memory = self.memory();
        memory.watermark = Some(watermark);
        self.write(state, &memory);
    }

    /// What cannot be written is written the next time.
    fn write(&self, state: &State, memory: &Memory) {
        if state.remember(memory).is_ok() {
            *self.written() = Some(memory.provisional.clone());
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, Option<Vec<RelPath>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
