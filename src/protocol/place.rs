//! Where a tree stands on its host.

use serde::{Deserialize, Serialize};

use crate::tree::FileId;

/// Where a root stands on its host, for refusing equal and nested trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The running kernel's boot id: the same on both sides means one host.
    pub boot_id: String,
    /// The root's inode, then its ancestors', up to `/`.
    pub lineage: Vec<FileId>,
}
