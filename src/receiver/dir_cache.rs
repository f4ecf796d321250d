//! What is handed on between the messages of small files.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::tree::RelPath;

/// After this long a directory is resolved again, in case somebody else has renamed it.
const WAY_MAX: Duration = Duration::from_millis(20);

/// The content of a small file.
pub(super) struct Content<'a> {
    pub hash: [u8; 32],
    pub provisional: bool,
    pub data: &'a [u8],
}

/// The directory of the last small file, held for the next. Nothing but small files is applied
/// between, so no operation of the sender's leads elsewhere.
pub(super) struct DirCache {
    dir: Vec<u8>,
    pub fd: OwnedFd,
    resolved: Instant,
    /// Whether the directory is noted as changed in the batch that is under way.
    pub is_noted: bool,
}

impl DirCache {
    pub fn to(fd: OwnedFd, path: &RelPath) -> Self {
        Self { dir: path.parent_bytes().to_vec(), fd, resolved: Instant::now(), is_noted: false }
    }

    pub fn leads_to(&self, path: &RelPath) -> bool {
        self.dir == path.parent_bytes() && self.resolved.elapsed() < WAY_MAX
    }
}
