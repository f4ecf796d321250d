//! What the agent is about to make or to change, until its marks are written: `.speil/own.next`.
//!
//! **Purpose:** an agent that is killed has renamed files into place whose marks were not written yet, and
//! whose change time nobody could know before. **In → Out:** half marks, of inode, modification time and size;
//! whether an entry is one that a killed agent had planned. **Invariants:** a plan is written before what it
//! tells of is done, and goes when marks are written; so a plan that is found belongs to an agent that was
//! killed. **Example:** the agent plans `f` (inode 7, 10 bytes), renames it, and is killed. The next one finds
//! inode 7 with that size and time, without a mark: its own. Whoever wrote to it meanwhile has changed the time.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// Its name in the state directory.
pub(super) const NAME: &str = "own.next";
/// Most plans that are read.
const PLANS_MAX: u64 = 1 << 20;

/// The plans of one target.
pub(super) struct Plans {
    file: OwnedFd,
    /// Of an agent that was killed, and not met yet.
    left: HashSet<u64>,
    /// Bytes of the file that hold these.
    base: u64,
    /// Bytes of the file.
    len: u64,
}

impl Plans {
    /// Reads what an agent has left that was killed.
    pub fn open(dir: impl AsFd) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, NAME, flags, Mode::from(0o600))?;
        let mut bytes = Vec::new();
        File::from(file.try_clone()?).take(8 * PLANS_MAX).read_to_end(&mut bytes)?;
        let left: HashSet<u64> = bytes.as_chunks().0.iter().map(|half| u64::from_le_bytes(*half)).collect();
        let base = bytes.len() as u64 / 8 * 8;
        Ok(Self { file, left, base, len: base })
    }

    /// Writes a plan; one that cannot be written costs a copy after a kill.
    pub fn add(&mut self, half: u64) {
        if rustix::io::pwrite(&self.file, &half.to_le_bytes(), self.len) == Ok(8) {
            self.len += 8;
        }
    }

    /// Whether there are plans of a killed agent.
    pub fn are_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether a killed agent had planned this; it is asked once.
    pub fn take(&mut self, half: u64) -> bool {
        self.left.remove(&half)
    }

    /// Takes in that all that was planned is done, and its marks written.
    pub fn done(&mut self) {
        let keep = if self.left.is_empty() { 0 } else { self.base };
        if self.len > keep && rustix::fs::ftruncate(&self.file, keep).is_ok() {
            (self.base, self.len) = (keep, keep);
        }
    }

    /// Takes in that whatever a killed agent had planned was met, if it is there.
    pub fn walked(&mut self) {
        self.left = HashSet::new();
    }
}
