//! Directories beside the target that may hold what it lacks, `--link-dest` and its kin, or take what it loses.

use serde_bytes::ByteBuf;

/// What comes of a file that is missing on the target and equal beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Borrow {
    /// It becomes a link (`--link-dest`).
    Link,
    /// It is copied there (`--copy-dest`).
    Copy,
    /// It is left out (`--compare-dest`).
    Leave,
}

/// The directories, on the target's host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Beside {
    /// What comes of what they hold.
    pub borrow: Borrow,
    /// Where they are, seen from the target's directory; the first ones are looked into first.
    pub dirs: Vec<ByteBuf>,
}

/// What becomes of an entry that is replaced or removed (`--backup`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Backup {
    /// The directory that takes it, seen from the target's; beside itself if `None`.
    pub dir: Option<ByteBuf>,
    /// What is put behind its name.
    pub suffix: ByteBuf,
}
