//! Telling the target up to which moment of the source it has everything, and hearing it after a restart.
//!
//! **Invariants:** a moment is stated once everything that was changed before it was handed over, sent and
//! acknowledged, and what looked equal was verified; what fails is named beside it. A comparison of everything that
//! finds nothing but what changed since may then believe the rest.
//!
//! Example: at 10:00:05 the watch has told of everything that was changed before 10:00:04. Once nothing is owed that
//! was owed at 10:00:05, the watermark is 10:00:04. A daemon that starts again at 11:00 doubts what has a change time
//! from 10:00:04 on.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::error::SessionError;
use super::session::Session;
use super::source::Source;
use crate::disk;
use crate::event::Moment;
use crate::protocol::{Ground, ReplyHello, Settled, ToReceiver, VERSION_MARKED, Volume, Watermark};
use crate::tree::{RelPath, Time};

/// Paths that may be named beside it.
const EXCEPT_MAX: usize = 1000;

/// How often it is stated at most: the target writes each to its disk.
const STATE_EVERY: Duration = Duration::from_secs(5);

/// What is to be stated next.
#[derive(Debug)]
pub(super) struct Marking {
    /// Everything was handed over that was changed before that moment: at that time.
    next: Option<(Moment, Instant)>,
    stated: Moment,
    at: Option<Instant>,
    /// The target remembers none.
    is_first: bool,
}

impl Default for Marking {
    fn default() -> Self {
        Self { next: None, stated: Moment::UNKNOWN, at: None, is_first: false }
    }
}

impl Marking {
    /// Returns what begins with a target that greets so.
    pub fn of(reply: &ReplyHello) -> Self {
        Self { is_first: reply.watermark.is_none(), ..Self::default() }
    }

    /// Returns the moment that was stated last.
    pub fn stated(&self) -> Moment {
        self.stated
    }

    /// Takes in, before the first comparison begins, that everything was handed over that was changed before a moment.
    /// That comparison finds what is owed for it, and nothing is stated before it is through.
    fn begin(&mut self, told: Option<Moment>) {
        self.next = told.map(|told| (told, Instant::now()));
    }

    /// Returns the moment that may be stated at a time, once: `told` is the moment up to which everything was handed
    /// over, and `owed` since when the oldest waits that is not done. `last`: there will be no other time.
    fn at(&mut self, now: Instant, told: Moment, owed: Option<Instant>, last: bool) -> Option<Moment> {
        // What a session has sent back is to be handed over once more.
        let mut next = self.next.filter(|(moment, _)| told >= *moment);
        if next.is_none() || owed.is_none() {
            next = (told > self.stated).then_some((told, now));
        }
        let early = self.at.is_some_and(|at| now < at + STATE_EVERY) && !last;
        let done = next.filter(|(_, at)| !early && owed.is_none_or(|since| since > *at));
        self.next = if done.is_some() { None } else { next };
        let (moment, _) = done?;
        (self.stated, self.at) = (moment, Some(now));
        Some(moment)
    }
}

/// Returns where a source is, and what its clock shows.
fn ground(source: &Source) -> Option<Ground> {
    let root = source.root();
    let (dev, kind, id) = disk::filesystem(root.as_fd()).ok()?;
    let volume = Volume { boot_id: disk::boot_id(), dev, kind, id };
    Some(Ground { root: root.id().ok()?.ino, volume, offset: disk::read_clock().offset, now: Time::now() })
}

/// Returns what a target's watermark says of a source.
pub(super) fn settled(told: Option<&Watermark>, source: &Source) -> Settled {
    let relied = || disk::stamps_changes(source.root().as_fd());
    match told.zip(ground(source)).map(|(told, now)| told.settles(&now)) {
        Some(settled) if relied() => settled,
        _ => Settled::Unknown,
    }
}

impl Session {
    /// States up to when the target has everything, if that is known and news; `last`: before a goodbye.
    pub(super) fn state_watermark(&mut self, now: Instant, last: bool) -> Result<(), SessionError> {
        let shared = &self.shared;
        if shared.version < VERSION_MARKED || !shared.options.live || !self.stepping.is_live() {
            return Ok(());
        }
        // In this order: what was sent back is held by the engine before it is on its way no more.
        let back = shared.feedback.change();
        let Some(told) = shared.mailbox.told_until().map(|told| told.min(back)) else { return Ok(()) };
        let suspects = shared.status.suspects.oldest();
        let owed = shared.mailbox.pending().since.debt.into_iter().chain(suspects).min();
        match self.marking.at(now, told, owed, last) {
            Some(moment) => self.send_watermark(moment),
            None => Ok(()),
        }
    }

    /// Begins before the first comparison.
    pub(super) fn begin_marking(&mut self) {
        self.marking.begin(self.shared.mailbox.told_until());
    }

    /// Tells a target that remembers no moment the first one, as soon as it is known: files that changed since then
    /// are not believed, should this daemon end before it is live.
    pub(super) fn state_first(&mut self) -> Result<(), SessionError> {
        let shared = &self.shared;
        let tells = self.marking.is_first && shared.version >= VERSION_MARKED;
        let Some(moment) = shared.mailbox.first_told().filter(|_| tells) else { return Ok(()) };
        self.marking.is_first = false;
        if shared.options.live && !shared.options.dry_run { self.send_watermark(moment) } else { Ok(()) }
    }

    fn send_watermark(&self, moment: Moment) -> Result<(), SessionError> {
        let shared = &self.shared;
        let problems = shared.status.problems();
        if shared.status.more_problems() > 0 || problems.len() > EXCEPT_MAX {
            return Ok(());
        }
        let Some(of) = ground(&shared.source) else { return Ok(()) };
        let except: Vec<RelPath> = problems.into_iter().map(|(path, _)| path).collect();
        let watermark = Watermark { at: shared.source.stamp(moment), of, except };
        shared.outbox.send(&ToReceiver::Watermark(Box::new(watermark)))?;
        Ok(shared.outbox.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_stated_once_nothing_is_owed_that_was_owed_when_it_was_told() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut marking = Marking::default();
        let mut says = |secs, told, owed: Option<u64>| {
            marking.at(at(secs), Moment(told), owed.map(at), false).map(|moment| moment.0)
        };
        assert_eq!(says(10, 5, Some(9)), None, "what is owed was owed then");
        assert_eq!(says(11, 6, Some(9)), None);
        assert_eq!(says(12, 7, Some(11)), Some(5), "what is owed now came later");
        assert_eq!(says(14, 7, None), None, "5 was stated a moment ago");
        assert_eq!(says(18, 4, None), None, "something was sent back that is older");
        assert_eq!(says(19, 8, None), Some(8), "nothing is owed");
        assert_eq!(says(30, 8, None), None, "no news");
        assert_eq!(says(31, 9, Some(31)), None);
        assert_eq!(says(32, 9, Some(31)), None, "what came at that very time may have been changed before");
        assert_eq!(says(33, 10, Some(32)), Some(9));
        assert_eq!(marking.at(at(34), Moment(11), None, true), Some(Moment(11)), "the last word");
    }
}
