//! How far a session's first pass is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::session::Session;
use super::shared::Shared;
use crate::monitor::{Progress, Totals};

/// Shortest time between two tellings.
pub(super) const TELL_EVERY: Duration = Duration::from_millis(200);

/// What the pass has found so far; written by its thread.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Entries handed on to be sent.
    pub different: AtomicU64,
    /// Bytes of the regular files among those.
    pub bytes: AtomicU64,
}

impl Found {
    /// Notes one more entry that is handed on, of which so many bytes are to be sent.
    pub fn expects(&self, bytes: u64) {
        self.different.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// When progress was told last, and what the counters were when the session began.
pub(super) struct Told {
    last: Option<Instant>,
    before: Totals,
}

impl Told {
    pub fn new(shared: &Shared) -> Self {
        Self { last: None, before: shared.status.counters.totals() }
    }
}

impl Session {
    /// Tells how far the first pass is, if it is time again.
    pub(super) fn tell_progress(&mut self, now: Instant) {
        let recent = self.told.last.is_some_and(|last| now.duration_since(last) < TELL_EVERY);
        if !recent && !self.stepping.is_live() && !self.shared.options.dry_run {
            self.told.last = Some(now);
            self.shared.monitor.progress(&self.shared.about, &self.progress());
        }
    }

    /// Tells the end of the first pass.
    pub(super) fn tell_all_done(&mut self) {
        self.told.last = None;
        self.tell_progress(Instant::now());
    }

    fn progress(&self) -> Progress {
        let (before, now) = (&self.told.before, self.shared.status.counters.totals());
        let since = |count: fn(&Totals) -> u64| count(&now).saturating_sub(count(before));
        let found = &self.shared.found;
        let complete = self.shared.first_pass_done.load(Ordering::Acquire);
        let total_entries = self.shared.view.walked();
        let sent = since(|t| t.files + t.dirs + t.nodes + t.links + t.attrs);
        let left = found.different.load(Ordering::Relaxed).saturating_sub(sent);
        // Until the comparison is over it is not known how many entries need nothing.
        let done = if complete { total_entries.saturating_sub(left) } else { sent };
        Progress {
            files: since(|t| t.files),
            done_entries: done.min(total_entries),
            total_entries,
            // Those of a large file are counted at its end.
            done_bytes: since(|t| t.literal_bytes + t.matched_bytes).saturating_add(self.jobs.bytes_done()),
            total_bytes: found.bytes.load(Ordering::Relaxed),
            complete,
            current: self.jobs.current().cloned(),
        }
    }
}
