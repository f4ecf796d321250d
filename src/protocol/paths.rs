//! What an operation touches.

use super::message::ToReceiver;
use crate::tree::RelPath;

impl ToReceiver<'_> {
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
            | Self::OpenKept { path, .. }
            | Self::Open { path, .. } => [Some(path), None],
            Self::Duplicate { path, like, .. } => [Some(path), Some(like)],
            Self::Link { path, existing, .. } => [Some(path), Some(existing)],
            Self::Rename { from, to, .. } => [Some(from), Some(to)],
            _ => [None, None],
        }
    }
}
