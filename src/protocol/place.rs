//! Where a tree stands on its host.

use serde::{Deserialize, Serialize};

use crate::tree::FileId;

/// Where a root stands on its host, for refusing equal and nested trees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPlace {
    /// The running kernel's boot id: the same on both sides means one host.
    pub boot_id: String,
    /// The root's inode, then its ancestors', up to `/`.
    pub lineage: Vec<FileId>,
}

impl RootPlace {
    /// Whether two roots are one tree, or one is within the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        let within =
            |inner: &[FileId], outer: &[FileId]| outer.first().is_some_and(|root| inner.contains(root));
        self.boot_id == other.boot_id
            && !self.boot_id.is_empty()
            && (within(&self.lineage, &other.lineage) || within(&other.lineage, &self.lineage))
    }
}

/// Reads what may be missing at the end of a greeting.
pub(super) fn lineage_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<FileId>, D::Error> {
    Ok(Vec::deserialize(from).unwrap_or_default())
}

/// As [`lineage_or_none`], for a text.
pub(super) fn text_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(String::deserialize(from).unwrap_or_default())
}
