//! Following names through renames.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::tree::RelPath;

/// How long a rename is remembered.
const RENAMED_FOR: Duration = Duration::from_secs(60);

/// The renames of the last minute, oldest first, up to a number of them.
#[derive(Debug)]
pub struct Renames {
    most: usize,
    log: VecDeque<(Instant, RelPath, RelPath)>,
}

impl Renames {
    /// Returns a log that holds the last `most` renames.
    pub fn new(most: usize) -> Self {
        Self { most, log: VecDeque::new() }
    }

    /// Notes a rename that is heard of `now`.
    pub fn add(&mut self, now: Instant, from: RelPath, to: RelPath) {
        self.log.push_back((now, from, to));
        let old = |(at, _, _): &(Instant, _, _)| now.saturating_duration_since(*at) > RENAMED_FOR;
        while self.log.len() > self.most || self.log.front().is_some_and(old) {
            self.log.pop_front();
        }
    }

    /// Whether older ones may have been forgotten for want of room.
    pub fn is_full(&self) -> bool {
        self.log.len() >= self.most
    }

    /// Returns the renames, as old and new names.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &RelPath)> {
        self.log.iter().map(|(_, from, to)| (from, to))
    }

    /// Returns those that were heard of at `known` or later.
    pub fn since(&self, known: Instant) -> impl Iterator<Item = (&RelPath, &RelPath)> {
        let first = self.log.partition_point(|(at, _, _)| *at < known);
        self.iter().skip(first)
    }
}

/// Returns the name that what was known by a path has after some renames.
pub fn name_after<'a>(path: RelPath, renames: impl Iterator<Item = (&'a RelPath, &'a RelPath)>) -> RelPath {
    renames.fold(path, |name, (from, to)| name.rebase(from, to).unwrap_or(name))
}

/// Returns a path and the names that it, or what lay there, may bear where nobody knows which of some renames
/// came before. `None` if those are more than `most`: renamed to and fro each time doubles them.
pub fn names_after<'a>(
    path: RelPath,
    renames: impl Iterator<Item = (&'a RelPath, &'a RelPath)>,
    most: usize,
) -> Option<Vec<RelPath>> {
    let mut names = vec![path];
    for (from, to) in renames {
        let moved: Vec<RelPath> = names.iter().filter_map(|name| name.rebase(from, to)).collect();
        names.extend(moved.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
        if names.len() > most {
            return None;
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    #[test]
    fn what_was_known_by_a_path_is_followed_through_the_renames_since() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut renames = Renames::new(100);
        for (seconds, from, to) in [(1, "d", "old"), (3, "d", "e"), (4, "e/f", "g"), (5, "x", "y")] {
            renames.add(at(seconds), path(from), path(to));
        }
        let after = |name: &str, seconds| name_after(path(name), renames.since(at(seconds)));
        assert_eq!(
            [after("d/f", 2), after("d/other", 2), after("d/f", 4)],
            ["g", "e/other", "d/f"].map(path)
        );
        renames.add(at(62), path("a"), path("b"));
        assert_eq!((renames.log.len(), renames.is_full()), (4, false), "a minute is long enough");
        (0..100).for_each(|_| renames.add(at(63), path("a"), path("b")));
        assert_eq!((renames.log.len(), renames.is_full()), (100, true));
    }

    #[test]
    fn what_may_have_stayed_or_moved_has_both_names() {
        let renames = [("d", "e"), ("e/f", "g"), ("x", "y")].map(|(from, to)| (path(from), path(to)));
        let names = |most| names_after(path("d/f"), renames.iter().map(|(from, to)| (from, to)), most);
        assert_eq!(names(3), Some(["d/f", "e/f", "g"].map(path).into()));
        assert_eq!(names(2), None);
    }
}
