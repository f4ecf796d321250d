//! How much may be deleted at once.
//!
//! The rule: no burst empties the root, and none leaves the tree with less than half of the most
//! entries that it held within the last ten minutes. Net: files that come and go do not count.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::config::{Guard, MaxDelete};

/// Trees with fewer entries may shrink below half.
const SMALL_TREE: usize = 100;
/// Fewer deletes than this always go, as long as they leave the root non-empty.
const FEW: usize = 10;
/// How long the most entries of a tree are remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Steps in which the memory forgets.
const STEP: Duration = Duration::from_secs(10);

/// How many entries a tree holds, and the most that it held within the last ten minutes.
#[derive(Debug, Default)]
pub struct Population {
    now: usize,
    /// The most entries of each step, oldest first.
    peaks: VecDeque<(Instant, usize)>,
}

impl Population {
    /// Notes that entries came.
    pub fn add(&mut self, entries: usize, at: Instant) {
        self.set(self.now.saturating_add(entries), at);
    }

    /// Notes that entries went.
    pub fn remove(&mut self, entries: usize, at: Instant) {
        self.set(self.now.saturating_sub(entries), at);
    }

    /// Notes how many entries there are: a walk has counted them.
    pub fn set(&mut self, entries: usize, at: Instant) {
        let before = self.now;
        self.now = entries;
        let most = before.max(entries);
        match self.peaks.back_mut() {
            Some((since, peak)) if at.saturating_duration_since(*since) < STEP => *peak = (*peak).max(most),
            _ => self.peaks.push_back((at, most)),
        }
        while self
            .peaks
            .front()
            .is_some_and(|(since, _)| at.saturating_duration_since(*since) > MEMORY + STEP)
        {
            self.peaks.pop_front();
        }
    }

    /// Returns how many entries there are, and the most that there were within the last ten minutes.
    pub fn counts(&self, at: Instant) -> (usize, usize) {
        let recent =
            self.peaks.iter().filter(|(since, _)| at.saturating_duration_since(*since) <= MEMORY + STEP);
        (self.now, recent.map(|(_, peak)| *peak).max().unwrap_or(0).max(self.now))
    }
}

/// Whether a burst of deletes may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Go,
    /// It is held until somebody approves it.
    Hold(Reason),
}

/// Why a burst is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Nothing would be left.
    EmptiesRoot {
        /// Entries that would go.
        deletes: usize,
    },
    /// Less than half would be left.
    BelowHalf {
        /// Entries that would go.
        deletes: usize,
        /// Entries that would be left.
        left: usize,
        /// The most entries within the last ten minutes.
        most: usize,
    },
    /// More than `maxDelete` allows.
    OverMax {
        /// Entries that would go.
        deletes: usize,
        /// Entries that may go.
        max: usize,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptiesRoot { deletes } => write!(f, "{deletes} deletes would leave the tree empty"),
            Self::BelowHalf { deletes, left, most } => {
                write!(f, "{deletes} deletes would leave {left} of {most} entries, less than half")
            }
            Self::OverMax { deletes, max } => {
                write!(f, "{deletes} deletes are more than the {max} that maxDelete allows")
            }
        }
    }
}

/// Judges a burst of `deletes` in a tree that holds `current` entries before it and held `most` within
/// the last ten minutes. `empties_root` says that the source's root holds nothing any more.
pub fn judge(guard: &Guard, deletes: usize, current: usize, most: usize, empties_root: bool) -> Verdict {
    if !guard.enabled || deletes == 0 || guard.max_delete == MaxDelete::Unlimited {
        return Verdict::Go;
    }
    let over = |max: usize| {
        if deletes > max { Verdict::Hold(Reason::OverMax { deletes, max }) } else { Verdict::Go }
    };
    match guard.max_delete {
        MaxDelete::Count(max) => over(usize::try_from(max).unwrap_or(usize::MAX)),
        MaxDelete::Percent(share) => {
            let max = current.max(most) as f64 * share.clamp(0.0, 100.0) / 100.0;
            // Saturating, and never negative: the share is clamped.
            over(max as usize)
        }
        MaxDelete::Half | MaxDelete::Unlimited => {
            if empties_root {
                return Verdict::Hold(Reason::EmptiesRoot { deletes });
            }
            let left = current.saturating_sub(deletes);
            let most = most.max(current);
            if deletes >= FEW && most >= SMALL_TREE && left < most.div_ceil(2) {
                return Verdict::Hold(Reason::BelowHalf { deletes, left, most });
            }
            Verdict::Go
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(max_delete: MaxDelete) -> Guard {
        Guard { max_delete, ..Guard::default() }
    }

    fn goes(deletes: usize, current: usize, most: usize, empties: bool) -> bool {
        judge(&guard(MaxDelete::Half), deletes, current, most, empties) == Verdict::Go
    }

    #[test]
    fn a_burst_that_leaves_half_goes_and_one_more_delete_is_held() {
        assert!(goes(500, 1000, 1000, false));
        assert!(!goes(501, 1000, 1000, false));
    }

    #[test]
    fn shrinking_step_by_step_is_judged_against_the_most_of_ten_minutes() {
        assert!(!goes(20, 510, 1000, false));
        assert!(goes(9, 510, 1000, false));
    }

    #[test]
    fn a_root_that_would_be_empty_is_held_whatever_its_size() {
        assert!(!goes(1, 1, 1, true));
        assert!(goes(60, 99, 99, false));
    }

    #[test]
    fn explicit_limits_and_switches_are_obeyed() {
        assert_eq!(judge(&guard(MaxDelete::Count(5)), 5, 9, 9, false), Verdict::Go);
        assert!(matches!(judge(&guard(MaxDelete::Count(5)), 6, 9, 9, false), Verdict::Hold(_)));
        assert!(matches!(judge(&guard(MaxDelete::Percent(10.0)), 11, 100, 100, false), Verdict::Hold(_)));
        assert_eq!(judge(&guard(MaxDelete::Unlimited), 100, 100, 100, true), Verdict::Go);
        let off = Guard { enabled: false, ..Guard::default() };
        assert_eq!(judge(&off, 100, 100, 100, true), Verdict::Go);
    }

    #[test]
    fn files_that_come_and_go_do_not_count_and_peaks_are_forgotten() {
        let start = Instant::now();
        let mut population = Population::default();
        population.set(1000, start);
        for second in 0..60 {
            population.add(500, start + Duration::from_secs(second));
            population.remove(500, start + Duration::from_secs(second));
        }
        assert_eq!(population.counts(start + Duration::from_secs(60)), (1000, 1500));
        population.set(1000, start + Duration::from_secs(900));
        assert_eq!(population.counts(start + Duration::from_secs(900)), (1000, 1000));
    }
}
