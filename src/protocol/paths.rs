//! What an operation touches.

use super::message::ToReceiver;
use crate::tree::RelPath;

impl ToReceiver<'_> {
    /// Whether it has a number of its own, by which it is answered: what changes a name, in one step. Neither
    /// side may count differently from the other.
    pub fn is_operation(&self) -> bool {
        match self {
            // What comes of a file in flight is known at its close.
            Self::Open { .. } | Self::OpenKept { .. } => false,
            Self::DirTime { .. } | Self::Close { .. } => true,
            other => other.paths()[0].is_some(),
        }
    }

    /// Returns the paths of an operation on the tree, what it makes or changes first; none for a message
    /// that is no such operation, or changes a directory's time alone.
    pub fn paths(&self) -> [Option<&RelPath>; 2] {
        match self {
            Self::Mkdir { path, .. }
            | Self::Node { path, .. }
            | Self::Attrs { path, .. }
            | Self::Delete { path, .. }
            | Self::KeepAside { path, .. }
            | Self::Put { path, .. }
            | Self::Borrow { path, .. }
            | Self::OpenKept { path, .. }
            | Self::Open { path, .. } => [Some(path), None],
            Self::Duplicate { path, like, .. } => [Some(path), Some(like)],
            Self::Link { path, existing, .. } => [Some(path), Some(existing)],
            Self::Rename { from, to, .. } => [Some(from), Some(to)],
            // Named one by one, so that a new message does not compile before somebody has decided whether
            // its path may be below `.speil/`.
            Self::DirTime { .. }
            | Self::Close { .. }
            | Self::Sign { .. }
            | Self::Resume { .. }
            | Self::Data { .. }
            | Self::Copy { .. }
            | Self::Hole { .. }
            | Self::Abandon { .. }
            | Self::Commit { .. }
            | Self::InStep
            | Self::Scan { .. }
            | Self::List { .. }
            | Self::Links { .. }
            | Self::Hash { .. }
            | Self::Prove { .. }
            | Self::EndPass { .. }
            | Self::Hello(_)
            | Self::Owners(_)
            | Self::Ping(_)
            | Self::Mounts(_)
            | Self::Adopt
            | Self::Confirm(_)
            | Self::Bye
            | Self::Examine
            | Self::Discard(_)
            | Self::State(_)
            | Self::Kept(_)
            | Self::Undo(_)
            | Self::Restore(_)
            | Self::Widen { .. }
            | Self::Join { .. }
            | Self::Bundled
            | Self::Upstream(_)
            | Self::Agreed { .. }
            | Self::Watermark(_)
            | Self::Cut(_)
            | Self::Wanted { .. }
            | Self::Beside { .. }
            | Self::SignBeside { .. }
            | Self::Handing(_)
            | Self::Position(_) => [None, None],
        }
    }
}
