//! What someone else wrote on the target: kept for a month, never destroyed.
//!
//! A change time between the last apply of the session before and the beginning of this one, or after
//! the last apply of this one, is not the agent's. What bears such a time is moved, or linked before
//! it is replaced, into `.speil/strangers/`.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::kept::Kept;
use super::state::State;
use crate::disk::Root;
use crate::tree::{Entry, Kind, RelPath, Time};

/// How long it is kept, in seconds.
pub(super) const KEPT_SECS: i64 = 30 * 86_400;
/// Its place below the state directory.
pub(super) const PLACE: &str = "strangers";

/// Tells strangers' entries from the agent's own, and keeps them.
pub(super) struct Strangers {
    state: Arc<State>,
    kept: Option<Kept>,
    root: Arc<Root>,
    /// The last apply before this session; without one nothing here was ever the agent's.
    before: Option<Time>,
    began: Time,
    count: u64,
}

impl Strangers {
    /// Begins a session, before it has changed anything; what was kept long enough goes.
    pub fn new(root: &Arc<Root>, state: Arc<State>) -> Self {
        let (before, began) = (state.last_apply(), state.began().unwrap_or_default());
        let kept = Kept::existing(root, PLACE).ok().flatten();
        let now = Time::now();
        let count = kept.as_ref().map_or(0, |kept| {
            // What cannot be removed now is tried again by the next session.
            let _ = kept.expire(Time { secs: now.secs - KEPT_SECS, ..now });
            kept.tally().map_or(0, |tally| tally.entries)
        });
        Self { state, kept, root: Arc::clone(root), before, began, count }
    }

    /// Returns how many entries were kept when the session began.
    pub fn kept(&self) -> u64 {
        self.count
    }

    /// Whether someone else wrote an entry. Directories are nobody's: what they hold counts.
    pub fn wrote(&self, entry: &Entry) -> bool {
        let Some(before) = self.before.filter(|_| entry.attrs.meta.kind != Kind::Dir) else { return false };
        let last = self.state.last_apply().unwrap_or(before);
        entry.ctime > before && (entry.ctime < self.began || entry.ctime > last)
    }

    /// Moves an entry to where nothing touches it.
    pub fn move_aside(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &RelPath) -> io::Result<()> {
        self.place()?.move_aside(dir, name, path)
    }

    /// Gives an entry that is about to be replaced a second name there.
    pub fn link_aside(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &RelPath) -> io::Result<()> {
        self.place()?.link_aside(dir, name, path)
    }

    /// Gives an entry a second name there, unless it has one.
    pub fn keep_once(&mut self, dir: BorrowedFd<'_>, path: &RelPath, entry: &Entry) -> io::Result<()> {
        let place = self.place()?;
        if place.has(path, entry.id)? { Ok(()) } else { place.link_aside(dir, path.name(), path) }
    }

    fn place(&mut self) -> io::Result<&mut Kept> {
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => Kept::open(&self.root, PLACE)?,
        };
        Ok(self.kept.insert(kept))
    }
}
