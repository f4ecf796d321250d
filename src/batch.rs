//! What is sent: changes, in an order that matters only around renames.
//!
//! **Purpose:** the one form of work between the producers (`debounce`, `reconcile`) and the sender.
//! **Invariant:** a change names a path, never a content; what is sent is what the source holds when
//! the sender looks.

use crate::event::{Age, RescanReason};
use crate::tree::{FileId, Kind, Meta, RelPath};

mod joined;
mod renames;

pub use joined::Joined;
pub use renames::{Renames, name_after, names_after};

/// One thing to bring to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How old it is.
    pub age: Age,
    /// What to do.
    pub kind: ChangeKind,
}

impl Change {
    /// Returns the change that has the content of a path read, whatever its stamps say.
    pub fn read(path: RelPath, age: Age) -> Self {
        Self { age, kind: ChangeKind::Update { path, scope: Extent::Content } }
    }

    /// Returns the change that compares a subtree.
    pub fn compare(path: RelPath, reason: RescanReason, age: Age) -> Self {
        Self { age, kind: ChangeKind::Rescan { path, reason } }
    }
}

/// What a change asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Make the target's path what the source's is now. If the source has none, it is a delete that
    /// goes the way of deletes.
    Update {
        /// The path.
        path: RelPath,
        /// How much is known to be different.
        scope: Extent,
    },
    /// Move what the target holds.
    Rename {
        /// The old name.
        from: RelPath,
        /// The new name.
        to: RelPath,
        /// Whether it is a directory.
        dir: bool,
    },
    /// Remove what the target holds, if it is what is expected there.
    Delete {
        /// The path.
        path: RelPath,
        /// What must stand there.
        expected: Identity,
    },
    /// What became of a name. Nothing is done about the name itself: other changes say that. But a file
    /// may have several, and events tell of a change under the one that was used for it.
    Name {
        /// The name.
        path: RelPath,
        /// What became of it.
        naming: Naming,
    },
    /// Compare the subtree and repair what differs.
    Rescan {
        /// The top of the subtree.
        path: RelPath,
        /// Why.
        reason: RescanReason,
    },
}

/// What became of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// It is one of a file that has several.
    Of(FileId),
    /// Its file bears it no more: it is gone, or another file's by now. What was changed under it and not
    /// handed on is to be read under the other names.
    Lost(Option<Extent>),
    /// It has become another, and nothing that the target holds is to be renamed.
    Became(RelPath),
}

/// How much of a path an [`ChangeKind::Update`] must send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Metadata alone: type, size and time on the target are as on the source.
    Attributes,
    /// Everything; what the target holds is unknown.
    Content,
    /// Everything; the target is known to hold nothing under this name.
    Absent,
}

/// What is expected to stand under a name that is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A live delete knows the type.
    Dir(bool),
    /// Whatever it is: nobody saw it go, or nobody knows that it is there.
    Any,
    /// A reconcile pass knows what the target itself reported.
    Exactly(Kind, Box<Meta>),
}

impl Identity {
    /// Returns the type that is expected; a file where only that it is no directory is known.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Dir(true) => Kind::Dir,
            Self::Dir(false) | Self::Any => Kind::File,
            Self::Exactly(kind, _) => *kind,
        }
    }

    /// Whether a directory is expected.
    pub fn is_dir(&self) -> bool {
        match self {
            Self::Dir(dir) => *dir,
            Self::Any => false,
            Self::Exactly(kind, _) => *kind == Kind::Dir,
        }
    }
}

impl ChangeKind {
    /// Returns the path that the change is about; the new name of a rename.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Update { path, .. }
            | Self::Delete { path, .. }
            | Self::Name { path, .. }
            | Self::Rescan { path, .. } => path,
            Self::Rename { to, .. } => to,
        }
    }
}
