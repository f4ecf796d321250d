//! Marks of the source that somebody wants to know reached on the standbys.
//!
//! **Purpose:** who writes an upload asks for a mark behind it, and a standby says when it has everything before that.
//! **In → Out:** moments before which everything was handed to the mailboxes; what a session states to its target.
//! **Invariants:** a mark is stated only once nothing older is owed and no path that was to be sent before it fails; the
//! first one of a start only after the first comparison, which finds what earlier starts had. Held deletes do not count.
//! **Not here:** the moments (`daemon`), tokens (`protocol::position`), what a standby answers (`receiver`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::error::SessionError;
use super::session::Session;
use crate::protocol::{Mark, ToReceiver, VERSION_POSITION};

/// Marks that are remembered. Beyond, every second one is forgotten: what it marks is told by the one behind it.
const ASKED_MAX: usize = 1024;

/// The marks of one sync since its start.
#[derive(Debug)]
pub struct Positions {
    start: u64,
    begun: Instant,
    /// Moments and their numbers, the newest one last.
    asked: Mutex<Vec<(Instant, u64)>>,
    newest: AtomicU64,
}

impl Default for Positions {
    fn default() -> Self {
        let mut start = [0; 8];
        let _ = rustix::rand::getrandom(&mut start, rustix::rand::GetRandomFlags::empty());
        let start = u64::from_le_bytes(start);
        Self { start, begun: Instant::now(), asked: Mutex::default(), newest: AtomicU64::new(0) }
    }
}

impl Positions {
    /// Makes a mark; everything that happened before it was handed out, and is no younger than `until`.
    pub fn mark(&self, until: Instant) -> Mark {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let micros =
            u64::try_from(until.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX);
        let number = micros.max(self.newest.load(Ordering::Acquire) + 1);
        // Two threads may have come here in another order than their moments.
        let until = asked.last().map_or(until, |(last, _)| until.max(*last));
        asked.push((until, number));
        if asked.len() > ASKED_MAX {
            let mut keep = false;
            let newest = number;
            asked.retain(|(_, number)| {
                keep = !keep;
                keep || *number == newest
            });
        }
        self.newest.store(number, Ordering::Release);
        Mark { start: self.start, number }
    }

    /// Returns the moment of the newest mark, if there is one.
    pub fn until(&self) -> Option<Instant> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).last().map(|(until, _)| *until)
    }

    /// Returns the newest mark before which nothing is owed; number 0 if there is none.
    fn reached(&self, owed: Option<Instant>) -> Mark {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = |until: &Instant| owed.is_none_or(|since| since > *until);
        let number = asked.iter().rev().find(|(until, _)| is_there(until)).map_or(0, |(_, number)| *number);
        Mark { start: self.start, number }
    }
}

impl Session {
    /// States to the target which mark it has reached, if that is news.
    pub(super) fn state_position(&mut self) -> Result<(), SessionError> {
        let shared = &self.shared;
        let positions = shared.leading.lead.positions();
        let newest = positions.newest.load(Ordering::Acquire);
        let is_told = self.stating.position.is_some_and(|told| told >= newest);
        let in_step = self.stepping.is_live() && (shared.leading.led.is_none() || self.stepping.is_done());
        if is_told || !in_step || shared.version < VERSION_POSITION {
            return Ok(());
        }
        let Some(owed) = self.owed_since() else { return Ok(()) };
        let fails = shared.status.problems().into_iter().map(|(_, problem)| problem.since).min();
        let mark = positions.reached(owed.into_iter().chain(fails).min());
        if self.stating.position.is_none_or(|told| told < mark.number) {
            self.stating.position = Some(mark.number);
            shared.outbox.send(&ToReceiver::Position(mark))?;
            shared.outbox.flush()?;
        }
        Ok(())
    }

    /// Returns since when the oldest change is owed, wherever it is now; `None` if something moved from one place to
    /// another meanwhile.
    pub(super) fn owed_since(&self) -> Option<Option<Instant>> {
        let (feedback, mailbox) = (&self.shared.feedback, &self.shared.mailbox);
        let moves = feedback.moves();
        let owed = feedback.owed().into_iter().chain(mailbox.pending().since.debt).min();
        (moves == feedback.moves()).then_some(owed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_mark_is_reached_when_nothing_older_is_owed() {
        let positions = Positions::default();
        let at = |secs| positions.begun + Duration::from_secs(secs);
        assert_eq!(positions.reached(None).number, 0);
        let one = positions.mark(at(1));
        let two = positions.mark(at(2));
        assert!(one.start == two.start && one.number < two.number);
        assert_eq!(positions.reached(None), two);
        assert_eq!(positions.reached(Some(at(3))), two);
        assert_eq!(positions.reached(Some(at(2))), one, "what is owed since a moment was not sent before it");
        assert_eq!(positions.reached(Some(at(0))).number, 0);
        assert!(positions.mark(at(1)).number > two.number, "never the same number twice");
    }

    #[test]
    fn of_very_many_marks_some_are_forgotten_and_never_the_newest() {
        let positions = Positions::default();
        let at = |secs| positions.begun + Duration::from_secs(secs);
        let marks: Vec<Mark> = (0..5000).map(|secs| positions.mark(at(secs))).collect();
        assert_eq!(positions.reached(None), marks[4999]);
        assert!(positions.reached(Some(at(4000))).number <= marks[3999].number);
        assert!(positions.reached(Some(at(4000))).number > marks[3900].number);
        assert!(positions.asked.lock().unwrap().len() <= ASKED_MAX);
    }
}
