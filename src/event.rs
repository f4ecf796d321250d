//! What the kernel said about the source tree.
//!
//! **Purpose:** the one vocabulary in which every watch backend speaks to `debounce`.
//! **Invariant:** an event is a hint that a path may differ; whoever acts on it looks at the path first.

mod clock;

use std::time::Instant;

use crate::tree::RelPath;

pub use clock::{Age, Moment, Offsets, Reading};

/// One event, in the order in which the kernel reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When the event was read, on the source's monotonic clock.
    pub at: Instant,
    /// What it tells of was not changed before this.
    pub change: Moment,
    /// What happened.
    pub kind: EventKind,
}

impl Event {
    /// Returns since when what it tells of waits to be sent.
    pub fn age(&self) -> Age {
        Age::new(self.at, self.change)
    }
}

/// What happened to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Content is being changed; the writer may still have the file open. Never an edge by itself.
    Modify(RelPath),
    /// A file that was open for writing was closed.
    CloseWrite(RelPath),
    /// A name appeared: created, linked, moved in from outside, or found when a new directory was read.
    Create {
        /// The new name.
        path: RelPath,
        /// Whether it is a directory.
        dir: bool,
    },
    /// Metadata changed (mode, owner, times, xattrs, number of links).
    Attrib {
        /// Whose metadata.
        path: RelPath,
        /// Whether it is a directory.
        dir: bool,
    },
    /// A name went: deleted, or moved out of the tree.
    Delete {
        /// The name that went.
        path: RelPath,
        /// Whether it was a directory.
        dir: bool,
    },
    /// A name was moved within the tree, over whatever stood at `to`.
    Move {
        /// The old name.
        from: RelPath,
        /// The new name.
        to: RelPath,
        /// Whether it is a directory.
        dir: bool,
    },
    /// Nobody knows what happened below this path.
    Rescan {
        /// The smallest subtree that covers what is unknown.
        path: RelPath,
        /// Why.
        reason: RescanReason,
    },
}

/// Why a subtree must be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RescanReason {
    /// The first pass after the start.
    Start,
    /// The periodic pass.
    Interval,
    /// Somebody asked (`speil reconcile`, SIGUSR1).
    Request,
    /// The kernel's event queue overflowed, or ours did.
    Overflow,
    /// A watch could not be added, or was lost.
    Unwatched,
    /// The source root was removed, replaced or mounted over.
    Root,
    /// A mount came or went below the source.
    Mount,
    /// A connection to the target was lost with work unacknowledged.
    Reconnect,
    /// The target reported a Problem that may be over.
    Problem,
    /// What stood on the target was not what the source expected.
    Mismatch,
    /// A directory was renamed or left the tree; its subtree is compared.
    Moved,
    /// Something came to this name otherwise than by a rename that the target has acknowledged: equal
    /// sizes and times say nothing of what the target has there, so contents are compared as well.
    Arrived,
}

impl RescanReason {
    /// Returns the word for logs and metric labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Interval => "interval",
            Self::Request => "request",
            Self::Overflow => "overflow",
            Self::Unwatched => "unwatched",
            Self::Root => "root",
            Self::Mount => "mount",
            Self::Reconnect => "reconnect",
            Self::Problem => "problem",
            Self::Mismatch => "mismatch",
            Self::Moved => "moved",
            Self::Arrived => "arrived",
        }
    }

    /// Whether equal sizes and times are not enough: the contents are compared as well.
    pub fn reads(self) -> bool {
        self == Self::Arrived
    }
}

impl EventKind {
    /// Returns the path that the event is about; the new name of a move.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Modify(path) | Self::CloseWrite(path) => path,
            Self::Create { path, .. }
            | Self::Attrib { path, .. }
            | Self::Delete { path, .. }
            | Self::Rescan { path, .. } => path,
            Self::Move { to, .. } => to,
        }
    }
}
