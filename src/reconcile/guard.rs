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

/// How many entries a tree holds. A walk counts them; between two walks events give bounds: a file that is
/// saved by a rename is created again and again, and one that nobody heard of may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// At least so many.
    pub low: usize,
    /// At most so many.
    pub high: usize,
    /// The most that are known to have been there within the last ten minutes.
    pub peak: usize,
}

impl Count {
    /// Nobody has counted.
    pub const UNKNOWN: Self = Self { low: 0, high: usize::MAX, peak: 0 };

    /// Returns what a walk has counted.
    pub fn exactly(entries: usize, peak: usize) -> Self {
        Self { low: entries, high: entries, peak: peak.max(entries) }
    }

    /// Returns what is known of one tree from two who have followed it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let high = match (self.high, other.high) {
            // Who has not counted knows nothing.
            (usize::MAX, high) | (high, usize::MAX) => high,
            (a, b) => a.max(b),
        };
        Self { low: self.low.max(other.low), high, peak: self.peak.max(other.peak) }
    }
}

/// Follows how many entries a tree holds.
#[derive(Debug)]
pub struct Population {
    low: usize,
    high: usize,
    /// The most entries of each step, oldest first.
    peaks: VecDeque<(Instant, usize)>,
}

impl Default for Population {
    fn default() -> Self {
        Self { low: Count::UNKNOWN.low, high: Count::UNKNOWN.high, peaks: VecDeque::new() }
    }
}

impl Population {
    /// Notes that so many entries came, at most.
    pub fn add(&mut self, entries: usize) {
        self.high = self.high.saturating_add(entries);
    }

    /// Notes that so many entries went, at most.
    pub fn remove(&mut self, entries: usize, at: Instant) {
        self.note(self.low, at);
        self.low = self.low.saturating_sub(entries);
    }

    /// Notes how many entries there are: a walk has counted them.
    pub fn set(&mut self, entries: usize, at: Instant) {
        self.note(self.low.max(entries), at);
        (self.low, self.high) = (entries, entries);
    }

    fn note(&mut self, entries: usize, at: Instant) {
        match self.peaks.back_mut() {
            Some((since, peak)) if at.saturating_duration_since(*since) < STEP => {
                *peak = (*peak).max(entries)
            }
            _ => self.peaks.push_back((at, entries)),
        }
        while self
            .peaks
            .front()
            .is_some_and(|(since, _)| at.saturating_duration_since(*since) > MEMORY + STEP)
        {
            self.peaks.pop_front();
        }
    }

    /// Returns what is known at a moment.
    pub fn count(&self, at: Instant) -> Count {
        let recent =
            self.peaks.iter().filter(|(since, _)| at.saturating_duration_since(*since) <= MEMORY + STEP);
        let peak = recent.map(|(_, peak)| *peak).max().unwrap_or(0).max(self.low);
        Count { low: self.low, high: self.high, peak }
    }
}

/// Whether a burst of deletes is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Go,
    /// So many of them are, and the others are not.
    Part(usize, Reason),
    /// It is held until somebody approves it.
    Hold(Reason),
    /// What is known of the tree does not say: somebody must count.
    Unknown,
}

/// Something other than the number of deletes that speaks against them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The source's path does not lead to the directory that was opened.
    RootReplaced,
    /// The source was a mounted filesystem.
    RootUnmounted,
    /// Nobody has said yet that what the target holds may be deleted.
    NewTarget,
}

/// What a burst of deletes is judged by. The callers gather it, [`judge`] decides.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Entries that would be deleted, at least 1.
    pub deletes: usize,
    /// The tree before.
    pub tree: Count,
    /// The source's root holds nothing any more.
    pub empties_root: bool,
    /// What else speaks against the burst.
    pub doubt: Option<Doubt>,
    /// As many as `--max-delete` allows are carried out, as in rsync, instead of all or none.
    pub in_part: bool,
}

/// Why a burst is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Something other than the number of deletes.
    Doubt(Doubt),
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

fn told(deletes: usize) -> String {
    format!("{deletes} {}", if deletes == 1 { "delete" } else { "deletes" })
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Doubt(Doubt::RootReplaced) => f.write_str("the source root is gone or was replaced"),
            Self::Doubt(Doubt::RootUnmounted) => {
                f.write_str("the source was a mounted filesystem and is not mounted")
            }
            Self::Doubt(Doubt::NewTarget) => {
                f.write_str("the target is new to this mirror and holds entries that the source lacks")
            }
            Self::EmptiesRoot { deletes } => write!(f, "{} would leave the tree empty", told(*deletes)),
            Self::BelowHalf { deletes, left, most } => {
                write!(f, "{} would leave {left} of {most} entries, less than half", told(*deletes))
            }
            Self::OverMax { deletes, max } => {
                let are = if *deletes == 1 { "is" } else { "are" };
                write!(f, "{} {are} more than the {max} that maxDelete allows", told(*deletes))
            }
        }
    }
}

/// Judges a burst of deletes.
pub fn judge(guard: &Guard, facts: &Facts) -> Verdict {
    let Facts { deletes, tree, empties_root, .. } = *facts;
    match facts.doubt {
        Some(Doubt::NewTarget) if !guard.enabled => {}
        Some(doubt) => return Verdict::Hold(Reason::Doubt(doubt)),
        None => {}
    }
    if !guard.enabled {
        return Verdict::Go;
    }
    let counted = tree.low == tree.high;
    let over = |max: usize| {
        let reason = Reason::OverMax { deletes, max };
        match deletes <= max {
            true => Verdict::Go,
            false if facts.in_part => Verdict::Part(max, reason),
            false => Verdict::Hold(reason),
        }
    };
    match guard.max_delete {
        MaxDelete::Unlimited => Verdict::Go,
        MaxDelete::Count(max) => over(usize::try_from(max).unwrap_or(usize::MAX)),
        MaxDelete::Percent(share) => {
            // Saturating, and never negative: the share is clamped.
            let max = (tree.peak as f64 * share.clamp(0.0, 100.0) / 100.0) as usize;
            if deletes > max && !counted { Verdict::Unknown } else { over(max) }
        }
        MaxDelete::Half if empties_root => Verdict::Hold(Reason::EmptiesRoot { deletes }),
        MaxDelete::Half => {
            let left = tree.low.saturating_sub(deletes);
            let most = tree.high.max(tree.peak);
            if deletes < FEW || most < SMALL_TREE || left >= most.div_ceil(2) {
                Verdict::Go
            } else if counted {
                Verdict::Hold(Reason::BelowHalf { deletes, left, most })
            } else {
                Verdict::Unknown
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(max_delete: MaxDelete) -> Guard {
        Guard { max_delete, ..Guard::default() }
    }

    fn facts(deletes: usize, current: usize, peak: usize, empties_root: bool) -> Facts {
        let tree = Count::exactly(current, peak);
        Facts { deletes, tree, empties_root, doubt: None, in_part: false }
    }

    fn goes(deletes: usize, current: usize, most: usize, empties: bool) -> bool {
        judge(&guard(MaxDelete::Half), &facts(deletes, current, most, empties)) == Verdict::Go
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
        let judged = |max, deletes, current| judge(&guard(max), &facts(deletes, current, current, false));
        assert_eq!(judged(MaxDelete::Count(5), 5, 9), Verdict::Go);
        assert!(matches!(judged(MaxDelete::Count(5), 6, 9), Verdict::Hold(_)));
        assert!(matches!(judged(MaxDelete::Percent(10.0), 11, 100), Verdict::Hold(_)));
        assert_eq!(judge(&guard(MaxDelete::Unlimited), &facts(100, 100, 100, true)), Verdict::Go);
        let off = Guard { enabled: false, ..Guard::default() };
        assert_eq!(judge(&off, &facts(100, 100, 100, true)), Verdict::Go);
    }

    #[test]
    fn a_single_pass_carries_out_as_many_as_a_limit_allows() {
        let part =
            |max, deletes| judge(&guard(max), &Facts { in_part: true, ..facts(deletes, 100, 100, true) });
        assert!(matches!(part(MaxDelete::Count(0), 1), Verdict::Part(0, Reason::OverMax { .. })));
        assert!(matches!(part(MaxDelete::Percent(10.0), 11), Verdict::Part(10, _)));
        assert_eq!(part(MaxDelete::Count(11), 11), Verdict::Go);
        assert!(matches!(part(MaxDelete::Half, 100), Verdict::Hold(Reason::EmptiesRoot { .. })));
    }

    #[test]
    fn a_doubt_holds_what_no_limit_would() {
        let judged =
            |doubt, guard: &Guard| judge(guard, &Facts { doubt: Some(doubt), ..facts(1, 1000, 1000, false) });
        let off = Guard { enabled: false, ..Guard::default() };
        for doubt in [Doubt::RootReplaced, Doubt::RootUnmounted] {
            assert_eq!(judged(doubt, &off), Verdict::Hold(Reason::Doubt(doubt)));
        }
        assert!(matches!(judged(Doubt::NewTarget, &guard(MaxDelete::Unlimited)), Verdict::Hold(_)));
        assert_eq!(judged(Doubt::NewTarget, &off), Verdict::Go);
    }

    #[test]
    fn what_events_tell_between_two_walks_never_lets_more_than_half_go_and_holds_nothing() {
        let start = Instant::now();
        let mut population = Population::default();
        let judged = |population: &Population, deletes| {
            let tree = population.count(start);
            judge(&guard(MaxDelete::Half), &Facts { tree, ..facts(deletes, 0, 0, false) })
        };
        assert_eq!(judged(&population, 10), Verdict::Unknown, "nobody has counted");
        population.set(1000, start);
        assert_eq!(judged(&population, 500), Verdict::Go);
        assert_eq!(
            judged(&population, 900),
            Verdict::Hold(Reason::BelowHalf { deletes: 900, left: 100, most: 1000 })
        );
        // Saved by a rename ten thousand times: there are a thousand entries still.
        population.add(10_000);
        assert_eq!(judged(&population, 900), Verdict::Unknown);
        population.set(1000, start);
        assert_eq!(judged(&population, 20), Verdict::Go, "what never was there is no peak");
        // Came and went in bursts, five hundred at a time.
        population.add(500);
        population.remove(500, start);
        population.add(500);
        population.remove(500, start);
        assert_eq!(judged(&population, 20), Verdict::Unknown);
    }

    #[test]
    fn the_most_entries_are_remembered_for_ten_minutes() {
        let start = Instant::now();
        let mut population = Population::default();
        population.set(1000, start);
        population.remove(400, start + Duration::from_secs(1));
        population.set(600, start + Duration::from_secs(2));
        let at = |secs| population.count(start + Duration::from_secs(secs));
        assert_eq!(at(60), Count { low: 600, high: 600, peak: 1000 });
        assert_eq!(at(900), Count { low: 600, high: 600, peak: 600 });
    }

    #[test]
    fn of_two_targets_the_one_that_knows_more_is_believed() {
        let one = Count { low: 400, high: 1000, peak: 900 };
        assert_eq!(one.or(Count::UNKNOWN), one);
        assert_eq!(
            one.or(Count { low: 500, high: 2000, peak: 800 }),
            Count { low: 500, high: 2000, peak: 900 }
        );
    }
}
