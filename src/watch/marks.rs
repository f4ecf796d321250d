//! Up to which moment everything was heard.
//!
//! **Purpose:** what is changed at a moment or later is told by an event that comes later. Before the kernel is
//! asked how many bytes its queue holds, the clock is read; once so many were read and what they say was told,
//! everything was told that was changed before that. Example: the clock shows 12 s, and 3 events wait. Once those
//! 3 were told, a file that was changed before 11 s is as it was told (`disk::mark` has the second).
//! **Invariants:** one mark is on its way at a time, so that a stream of events that never ends holds none up.
//! **Not here:** where in the order of events a mark stands (`queue`).
//! **Sources:** inotify(7) and fanotify(7) on `FIONREAD`; timerfd_create(2) on `TFD_TIMER_CANCEL_ON_SET`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::disk;
use crate::event::{Moment, Offsets, Reading};

/// A mark so long after the last event comes behind it: a second for writes that take long, whole seconds, and some.
const QUIET: Duration = Duration::from_millis(2200);

/// Returns when to make a mark though nothing was heard, `due` being when that was to be: once after each burst of
/// events.
pub(super) fn when_quiet(due: Option<Instant>, heard: bool, now: Instant) -> Option<Instant> {
    if heard { Some(now + QUIET) } else { due.filter(|due| *due > now) }
}

/// Seconds since 1970 that nobody lives to see.
const FAR: i64 = 1 << 40;

/// The mark that is on its way through the kernel's queue.
#[derive(Default)]
pub(super) struct Marks {
    /// How much was read of the kernel's queue, ever.
    read: u64,
    /// The next mark, and how much has to be read for it.
    next: Option<(u64, Moment)>,
    offsets: Offsets,
    latest: Option<Reading>,
}

impl Marks {
    /// Begins a mark, unless one is on its way. Before the queue is read.
    pub(super) fn begin(&mut self, queue: impl AsFd) {
        if self.next.is_some() {
            return;
        }
        let (moment, reading) = disk::mark();
        if let Ok(waiting) = ioctl_fionread(queue) {
            self.next = Some((self.read.saturating_add(waiting), moment));
        }
        self.note(reading);
    }

    fn note(&mut self, reading: Reading) {
        self.offsets.add(reading);
        self.latest = Some(reading);
    }

    /// Takes in that so much was read; returns the mark that has come by.
    pub(super) fn advance(&mut self, len: u64) -> Option<Moment> {
        self.read = self.read.saturating_add(len);
        let (_, moment) = self.next.filter(|(at, _)| *at <= self.read)?;
        self.next = None;
        Some(moment)
    }

    /// Takes in that the queue is empty; returns the mark that has come by.
    pub(super) fn dry(&mut self) -> Option<Moment> {
        self.next.take().map(|(_, moment)| moment)
    }

    /// Returns what the clock showed last.
    pub(super) fn reading(&self) -> Option<Reading> {
        self.latest
    }

    /// Whether something that was made at a time, in nanoseconds since 1970, was made at a moment or later.
    pub(super) fn is_since(&self, made: Option<i64>, moment: Moment) -> bool {
        made.is_some_and(|made| self.offsets.stamp(moment).is_some_and(|stamp| stamp <= made))
    }
}

/// Readable when somebody sets the clock.
pub(super) struct Alarm(Option<OwnedFd>);

impl Alarm {
    pub(super) fn new() -> Self {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK);
        let this = Self(timer.ok());
        this.set();
        this
    }

    fn set(&self) {
        let Some(timer) = &self.0 else { return };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let far = Timespec { tv_sec: FAR, tv_nsec: 0 };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        // Without it, only what the clock shows at each mark is known.
        let _ = timerfd_settime(timer, flags, &Itimerspec { it_interval: never, it_value: far });
    }

    /// The descriptor to wait for, or another where there is none.
    pub(super) fn fd<'a>(&'a self, other: BorrowedFd<'a>) -> BorrowedFd<'a> {
        self.0.as_ref().map_or(other, |timer| timer.as_fd())
    }

    /// Takes in that the clock was set; returns what it shows now.
    pub(super) fn rang(&self) -> Reading {
        if let Some(timer) = &self.0 {
            let _ = rustix::io::read(timer, &mut [0_u8; 8]);
        }
        self.set();
        disk::read_clock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_by_once_what_waited_was_read_and_the_next_is_begun_behind_it() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut marks = Marks::default();
        rustix::io::write(&write, &[0; 48]).unwrap();
        marks.begin(&read);
        let first = marks.next.unwrap().1;
        rustix::io::write(&write, &[0; 16]).unwrap();
        marks.begin(&read);
        assert_eq!((marks.advance(16), marks.advance(16)), (None, None));
        assert_eq!(marks.advance(32), Some(first), "what came behind it was read as well");
        assert_eq!(marks.dry(), None);
        marks.begin(&read);
        // The clock may have been set back meanwhile.
        assert!(marks.dry().is_some());
    }
}
