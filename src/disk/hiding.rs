//! What the rules leave out of several directories that are one tree, and which of them counts under a name.

use std::sync::{Arc, RwLock};

use crate::tree::RelPath;

/// Whether the rules leave a path out, if it is a directory or if it is none.
type Hides = dyn Fn(&RelPath, bool) -> bool + Send + Sync;

/// What of the layers is left out: nothing, until the rules are known.
#[derive(Default)]
pub(super) struct Hiding(pub RwLock<Option<Arc<Hides>>>);

impl std::fmt::Debug for Hiding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hiding")
    }
}

/// How much what a layer has under a path counts; the last counts most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The rules leave it out.
    Hidden,
    /// It is no directory.
    Plain,
    /// It is a directory.
    Dir,
}

impl Rank {
    /// Returns the rank of what is a directory or is none, and is left out or is not.
    pub fn of(is_dir: bool, is_hidden: bool) -> Self {
        match (is_hidden, is_dir) {
            (true, _) => Self::Hidden,
            (false, true) => Self::Dir,
            (false, false) => Self::Plain,
        }
    }
}
