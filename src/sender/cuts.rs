//! Noting, here and on a standby, up to where both hold the same.
//!
//! **Purpose:** should the two ever go apart and one be brought to the other's history, files that did not change
//! since are known to be equal (`role::Cuts`).
//! **Invariants:** a standby is told only what it has acknowledged and, where it was doubtful, what was verified; this
//! tree's own note is written after everything that it tells of is on the disk, so that a disk that was set back
//! remembers an earlier cut.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::SessionError;
use super::lead::Lead;
use super::session::Session;
use crate::disk::{Root, read_clock};
use crate::event::Moment;
use crate::protocol::{self, ToReceiver};
use crate::role::{Cut, Id, Shown};
use crate::role_file::{RoleFile, boot};

/// How often this tree's own note is written at most: its filesystem is flushed for each.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// After so many nanoseconds a mark comes behind what was read: a second, and whole seconds.
const SETTLES: u64 = 2_100_000_000;

/// What a session has told of cuts.
#[derive(Debug)]
pub(super) struct Cutting {
    /// When something was last read and sent.
    pub read: Moment,
    told: Moment,
    /// For what was read then the watch was asked to tell anew.
    asked: Moment,
}

impl Default for Cutting {
    fn default() -> Self {
        Self { read: Moment::UNKNOWN, told: Moment::UNKNOWN, asked: Moment::UNKNOWN }
    }
}

impl Cutting {
    /// Takes in that something is sent, which was read by now.
    pub fn sends(&mut self) {
        self.read = read_clock().at;
    }
}

impl Session {
    /// Tells a standby in step what it and the source hold, if that is news.
    pub(super) fn state_cut(&mut self, now: Instant) -> Result<(), SessionError> {
        let shared = &self.shared;
        let (until, leading) = (self.marking.stated(), &shared.leading);
        if leading.led.is_none() || !self.stepping.is_done() {
            return Ok(());
        }
        if until > self.cutting.told {
            self.cutting.told = until;
            let of = leading.lead.start();
            let shown =
                Shown { secs: shared.source.stamp(until).secs, offset: read_clock().offset, boot: boot() };
            leading.lead.notes.add(Cut { of, until: until.0, read: until.0 }, shown);
            let cut = protocol::Cut { of: of.to_bytes(), until: until.0, read: self.cutting.read.0 };
            shared.outbox.send(&ToReceiver::Cut(cut))?;
            shared.outbox.flush()?;
        }
        // Of what was read last it is not known yet that nothing was changed meanwhile.
        let read = self.cutting.read;
        let told = shared.mailbox.told_until().is_some_and(|told| told > read);
        if !told && self.cutting.asked < read && read_clock().at.less(SETTLES) > read {
            self.cutting.asked = read;
            shared.feedback.look();
        }
        if leading.lead.notes.is_due(now) {
            let lead = Arc::clone(&leading.lead);
            // Without it the next note is as good.
            let _ = std::thread::Builder::new().name("note".to_owned()).spawn(move || lead.note());
        }
        Ok(())
    }
}

/// What is to be noted in the tree of a source.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: Option<(Cut, Shown)>,
    at: Option<Instant>,
}

impl Notes {
    /// Takes in what is to be noted next. Whoever asks holds the mutex for no longer than that.
    fn add(&self, cut: Cut, shown: Shown) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next = Some((cut, shown));
    }

    /// Whether it is time to note something.
    fn is_due(&self, now: Instant) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = inner.next.is_some() && inner.at.is_none_or(|at| now >= at + NOTE_EVERY);
        if due {
            inner.at = Some(now);
        }
        due
    }

    /// Takes what is to be noted.
    pub fn take(&self) -> Option<(Cut, Shown)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next.take()
    }
}

impl Lead {
    /// Notes what waits for it, once it is on the disk.
    fn note(&self) {
        let Some((cut, shown)) = self.notes.take() else { return };
        let Some(source) = self.source() else { return };
        let Ok(root) = Root::open(source) else { return };
        if rustix::fs::syncfs(&root).is_ok()
            && let Ok(Some(file)) = RoleFile::open(&root)
        {
            // What is not noted makes a later adoption read more.
            let _ = file.note_cut(cut, shown);
        }
    }
}

/// Looks whether the clock of a source went back since something was noted.
pub(super) fn look_at_clock(source: &Path) {
    if let Ok(root) = Root::open(source)
        && let Ok(Some(file)) = RoleFile::open(&root)
    {
        // It is looked at again with the next note.
        let _ = file.look_at_clock();
    }
}

/// Returns what a tree tells of the cuts that it remembers.
pub(super) fn held(file: &RoleFile) -> Vec<protocol::UpTo> {
    file.cuts().held().into_iter().map(|(of, until): (Id, u64)| (of.to_bytes(), until)).collect()
}
