//! What the mirror removes and replaces: kept in `.speil/trash/` for as long as the mirror says.
//!
//! **Invariants:** nothing is removed or replaced that could not be kept first; what is older than the
//! limit goes, and the oldest as soon as all of it takes more room than the limit. A thread of its own
//! clears, so that nothing waits for it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::retained::{Retained, weight};
use super::{foreign, undone};
use crate::disk::Root;
use crate::protocol::TrashLimits;
use crate::tree::{Entry, RelPath, Time};

/// Its place below the state directory.
pub(super) const PLACE: &str = "trash";
/// Longest time between two looks at what has expired.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The trash of a session.
pub(super) struct Trash {
    kept: Retained,
    max_bytes: u64,
    bytes: Arc<AtomicU64>,
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Trash {
    /// Opens the trash, and starts to clear it.
    pub fn open(root: &Arc<Root>, limits: TrashLimits) -> io::Result<Self> {
        let kept = Retained::open(root, PLACE)?;
        let bytes = Arc::new(AtomicU64::new(0));
        let (wake, orders) = bounded(1);
        let (root, kept_too) = (Arc::clone(root), kept.again()?);
        let sweeper = Sweeper { root, kept: kept_too, limits, bytes: Arc::clone(&bytes) };
        let thread = std::thread::Builder::new()
            .name("trash".to_owned())
            // What is kept may be as deep as a tree.
            .stack_size(64 << 20)
            .spawn(move || sweeper.run(&orders))?;
        Ok(Self { kept, max_bytes: limits.max_bytes, bytes, wake: Some(wake), thread: Some(thread) })
    }

    /// Whether an entry is worth keeping: what alone takes more than all may take would only push
    /// everything else out.
    pub fn takes(&self, entry: &Entry) -> bool {
        weight(entry) <= self.max_bytes
    }

    /// Moves an entry here.
    pub fn move_aside(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        (path, entry): (&RelPath, &Entry),
    ) -> io::Result<()> {
        self.kept.move_aside(dir, name, path)?;
        self.add(weight(entry));
        Ok(())
    }

    /// Gives an entry that is about to be replaced a second name here.
    pub fn link_aside(&mut self, dir: BorrowedFd<'_>, path: &RelPath, entry: &Entry) -> io::Result<()> {
        self.kept.link_aside(dir, path.name(), path)?;
        self.add(weight(entry));
        Ok(())
    }

    /// Counts what came.
    pub fn add(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if let Some(wake) = self.wake.as_ref().filter(|_| before.saturating_add(bytes) > self.max_bytes) {
            // One order that waits is enough.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Trash {
    fn drop(&mut self) {
        // The last look comes with the end of the orders.
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Sweeper {
    root: Arc<Root>,
    kept: Retained,
    limits: TrashLimits,
    bytes: Arc<AtomicU64>,
}

impl Sweeper {
    fn run(self, orders: &Receiver<()>) {
        if let Ok(tally) = self.kept.tally() {
            self.bytes.fetch_add(tally.bytes, Ordering::AcqRel);
        }
        let pause = Duration::from_secs(self.limits.keep_secs / 8).clamp(Duration::from_secs(1), LOOK_EVERY);
        loop {
            // What cannot be cleared now is tried again at the next look.
            let _ = self.sweep();
            if orders.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                let _ = self.sweep();
                return;
            }
        }
    }

    fn sweep(&self) -> io::Result<()> {
        let (now, keep) = (Time::now(), i64::try_from(self.limits.keep_secs).unwrap_or(i64::MAX));
        let ago = |secs| Time { secs: now.secs.saturating_sub(secs), ..now };
        self.kept.expire(ago(keep))?;
        undone::expire(&self.root, ago(keep.max(foreign::KEPT_SECS)))?;
        if self.bytes.load(Ordering::Acquire) > self.limits.max_bytes {
            // What was counted on the way may have gone by age, or have been put back.
            let bytes = self.kept.tally()?.bytes;
            let gone = self.kept.shrink(bytes.saturating_sub(self.limits.max_bytes))?;
            self.bytes.store(bytes.saturating_sub(gone), Ordering::Release);
        }
        Ok(())
    }
}
