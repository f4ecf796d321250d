//! Since when something waits, and since when files may have changed for it.
//!
//! **Purpose:** a file whose size and time are equal on both sides is believed to be equal only if it did not
//! change since the moment up to which everything was heard. The kernel sets a file's change time (`ctime`) on
//! every write, `utimes`, `chmod`, link, unlink and rename of the file itself, so the two can be compared.
//! Example: everything that was queued before t0 has been heard, and then the queue runs over. A file with a
//! change time before t0 is as it was told; one with t0 or later may hold anything.
//! **Invariants:** of several things the least moment is that of all of them.
//! **Not here:** reading clocks (`watch`, `sender::Source`); this is pure.

use std::time::Instant;

/// Clocks that differ by less than this, in nanoseconds, have not been set: two readings of them take time.
const STEP: i64 = 1_000_000;
/// Steps of the clock that are remembered one by one.
const STEPS_MAX: usize = 64;

/// A moment on a clock that nobody sets, in nanoseconds since the host was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Before everything: nothing is known of when what is behind it was changed, so equal sizes and times
    /// prove nothing.
    pub const UNKNOWN: Self = Self(0);
    /// Nothing was missed, or nobody can tell whether: equal sizes and times are believed.
    pub const NEVER: Self = Self(u64::MAX);

    /// Returns the moment `nanos` earlier, the first at the least.
    #[must_use]
    pub fn less(self, nanos: u64) -> Self {
        Self(self.0.saturating_sub(nanos))
    }
}

/// How old something is that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// When the oldest event behind it was read: what lag is counted from.
    pub since: Instant,
    /// What is behind it was not changed before this.
    pub change: Moment,
}

impl Age {
    /// Returns the age of what was heard of then, and changed at that moment or later.
    pub fn new(since: Instant, change: Moment) -> Self {
        Self { since, change }
    }

    /// Returns the age of something for which equal sizes and times are believed.
    pub fn believed(since: Instant) -> Self {
        Self { since, change: Moment::NEVER }
    }

    /// Returns the age of something for which equal sizes and times prove nothing.
    pub fn unknown(since: Instant) -> Self {
        Self { since, change: Moment::UNKNOWN }
    }

    /// Returns the age of both together.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self { since: self.since.min(other.since), change: self.change.min(other.change) }
    }

    /// Returns the age of two things of which there may be none.
    pub fn of_both(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).reduce(Self::join)
    }

    /// Whether this is as old as another in both respects.
    pub fn covers(self, other: Self) -> bool {
        self.since <= other.since && self.change <= other.change
    }
}

/// What the clock that files are stamped by showed at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The moment.
    pub at: Moment,
    /// Nanoseconds since 1970, less those of the moment.
    pub offset: i64,
}

/// How the clock that files are stamped by was set. Somebody may set it back, and files that change afterwards
/// get earlier change times: a moment stands for the earliest time that the clock has shown since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets(Vec<Reading>);

impl Offsets {
    /// Takes in a reading; they come in order.
    pub fn add(&mut self, reading: Reading) {
        match self.0.last_mut() {
            Some(last) if last.offset.abs_diff(reading.offset) < STEP.unsigned_abs() => {
                last.offset = last.offset.min(reading.offset);
            }
            _ => self.0.push(reading),
        }
        if self.0.len() > STEPS_MAX {
            let first = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                *next = Reading { at: first.at, offset: first.offset.min(next.offset) };
            }
        }
    }

    /// Returns the last reading.
    pub fn latest(&self) -> Option<Reading> {
        self.0.last().copied()
    }

    /// Returns the least change time, in nanoseconds since 1970, of a file that was changed at a moment or later;
    /// `None` if no clock was ever read.
    pub fn stamp(&self, since: Moment) -> Option<i64> {
        // The clock may have been set at any time between two readings.
        let first = self.0.partition_point(|reading| reading.at <= since).saturating_sub(1);
        let least = self.0.get(first..)?.iter().map(|reading| reading.offset).min()?;
        Some(i64::try_from(since.0).unwrap_or(i64::MAX).saturating_add(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    #[test]
    fn a_clock_that_is_set_back_lowers_what_was_before_and_nothing_after() {
        let mut offsets = Offsets::default();
        assert_eq!(offsets.stamp(at(1)), None);
        for (when, offset) in [(1, 1000), (10, 1000), (20, 400), (30, 1000)] {
            offsets.add(Reading { at: at(when), offset: offset * SECOND });
        }
        // Between 10 and 20 it was set back by 600 s, between 20 and 30 forward again.
        let stamp = |when| offsets.stamp(at(when)).unwrap() / SECOND;
        assert_eq!([stamp(5), stamp(15), stamp(25), stamp(35)], [405, 415, 425, 1035]);
    }

    #[test]
    fn readings_that_differ_by_the_time_that_they_take_are_one() {
        let mut offsets = Offsets::default();
        for when in 0..1000 {
            offsets.add(Reading { at: at(when), offset: SECOND + (when % 7) as i64 });
        }
        assert_eq!((offsets.0.len(), offsets.0[0].offset), (1, SECOND));
        for when in 1000..2000 {
            offsets.add(Reading { at: at(when), offset: (when % 2) as i64 * SECOND });
        }
        assert_eq!(offsets.0.len(), STEPS_MAX);
        assert_eq!(offsets.stamp(at(5)), Some(5 * SECOND), "what is forgotten one by one still counts");
    }
}
