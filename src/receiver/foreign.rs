//! What somebody else wrote on the target: kept for a month, never destroyed.
//!
//! What is not the agent's own (`own`) is moved, or linked before it is replaced, into `.speil/strangers/`.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::own::Own;
use super::retained::Retained;
use crate::disk::{FOREIGN, Root};
use crate::tree::{Entry, RelPath, Time};

/// How long it is kept, in seconds.
pub(super) const KEPT_SECS: i64 = 30 * 86_400;
/// Tells what others wrote from the agent's own, and keeps it.
pub(super) struct Foreign {
    pub own: Own,
    kept: Option<Retained>,
    root: Arc<Root>,
    count: u64,
}

impl Foreign {
    /// Begins a session; what was kept long enough is deleted, if it `expires`.
    pub fn new((root, state): (&Arc<Root>, BorrowedFd<'_>), expires: bool) -> io::Result<Self> {
        let kept = Retained::existing(root, FOREIGN).ok().flatten();
        let now = Time::now();
        let count = kept.as_ref().map_or(0, |kept| {
            // What cannot be removed now is tried again by the next session.
            let _ = expires.then(|| kept.expire(Time { secs: now.secs - KEPT_SECS, ..now }));
            kept.tally().map_or(0, |tally| tally.entries)
        });
        Ok(Self { own: Own::open(root, state)?, kept, root: Arc::clone(root), count })
    }

    /// Returns how many entries were kept when the session began.
    pub fn kept(&self) -> u64 {
        self.count
    }

    /// Whether somebody else wrote an entry.
    pub fn wrote(&self, entry: &Entry) -> bool {
        self.own.mark(entry).is_some_and(|(_, foreign)| foreign)
    }

    /// Moves an entry to where nothing touches it.
    pub fn move_aside(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &RelPath) -> io::Result<()> {
        self.place()?.move_aside(dir, name, path)
    }

    /// Gives an entry a second name there, unless it has one.
    pub fn link_aside(&mut self, dir: BorrowedFd<'_>, path: &RelPath, entry: &Entry) -> io::Result<()> {
        let place = self.place()?;
        let has = entry.nlink > 1 && place.has(path, entry.id)?;
        if has { Ok(()) } else { place.link_aside(dir, path.name(), path) }
    }

    /// Returns the directory that something was moved to last.
    pub fn last_place(&self) -> Option<BorrowedFd<'_>> {
        self.kept.as_ref().and_then(Retained::last_place)
    }

    fn place(&mut self) -> io::Result<&mut Retained> {
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => Retained::open(&self.root, FOREIGN)?,
        };
        Ok(self.kept.insert(kept))
    }
}
