//! Mirrors of speil's own, as lsyncd's engine sees them.
//!
//! **Invariants:** nothing here knows how a mirror works; who does is handed in by the caller of
//! [`run`](super::run). **Not here:** the pipeline (`daemon`); the choice by options (`config`).

use std::sync::Arc;

use crate::config::Sync as Mirrored;

/// What a mirror tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorWord {
    /// A line for the log.
    Line {
        /// Its category.
        category: &'static str,
        /// The words.
        text: String,
    },
    /// The first pass is done, changes go out as they happen.
    Live,
    /// The target cannot be reached, or refuses.
    Down,
}

/// Who listens to a mirror. Called from its threads; never blocks for long.
pub type Ear = Arc<dyn Fn(MirrorWord) + Send + Sync>;

/// A mirror at work; it ends, in order, when it is dropped.
pub trait Mirror: Send {
    /// Returns how many changes wait.
    fn queued(&self) -> usize;
    /// Returns the directories that are watched, below the source and with a slash at each end.
    fn watched(&self) -> Vec<Vec<u8>>;
    /// Compares everything.
    fn reconcile(&self);
}

/// Makes mirrors.
pub trait Mirrors: Send + Sync {
    /// Says whether an agent answers at the target of `sync`, or why none does. Takes its time.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn probe(&self, sync: &Mirrored) -> Result<(), String>;

    /// Starts the mirror of `sync`.
    ///
    /// # Errors
    /// Why it cannot be, in words.
    fn start(&self, sync: &Mirrored, ear: Ear) -> Result<Box<dyn Mirror>, String>;
}

/// What carries a sync over, as it stands now.
pub enum State {
    /// The agent is asked; what happens meanwhile waits.
    Asking,
    /// Commands and the user's functions.
    Commands,
    /// A mirror of speil's own; whether its first pass is done.
    Mirror(Box<dyn Mirror>, bool),
    /// It failed for good, and is tried again at this moment.
    Failed(std::time::Instant),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Asking => "Asking",
            Self::Commands => "Commands",
            Self::Mirror(..) => "Mirror",
            Self::Failed(_) => "Failed",
        })
    }
}
