//! What was renamed lately, for what sessions send back under a name that is old by now.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::tree::RelPath;

/// Renames that are remembered, and for how long: sessions send back within a moment.
const MOVES_MAX: usize = 4096;
const MOVES_FOR: Duration = Duration::from_secs(60);

/// The renames that were heard of last, oldest first.
#[derive(Debug, Default)]
pub(super) struct Moved(VecDeque<(Instant, RelPath, RelPath)>);

impl Moved {
    /// Notes a rename that is heard of `now`.
    pub fn add(&mut self, now: Instant, from: RelPath, to: RelPath) {
        self.0.push_back((now, from, to));
        let old = |(at, _, _): &(Instant, _, _)| now.saturating_duration_since(*at) > MOVES_FOR;
        while self.0.len() > MOVES_MAX || self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
    }

    /// Returns a path, and the name that what was `known` by it has by now, if that is another.
    pub fn names_of(&self, path: RelPath, known: Instant) -> Vec<RelPath> {
        let first = self.0.partition_point(|(at, _, _)| *at < known);
        let follow =
            |name: RelPath, (_, from, to): &(_, RelPath, RelPath)| name.rebase(from, to).unwrap_or(name);
        let now = self.0.range(first..).fold(path.clone(), follow);
        if now == path { vec![path] } else { vec![path, now] }
    }
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
        let mut moved = Moved::default();
        for (seconds, from, to) in [(1, "d", "old"), (3, "d", "e"), (4, "e/f", "g"), (5, "x", "y")] {
            moved.add(at(seconds), path(from), path(to));
        }
        assert_eq!(moved.names_of(path("d/f"), at(2)), [path("d/f"), path("g")]);
        assert_eq!(moved.names_of(path("d/other"), at(2)), [path("d/other"), path("e/other")]);
        assert_eq!(moved.names_of(path("d/f"), at(4)), [path("d/f")]);
        moved.add(at(62), path("a"), path("b"));
        assert_eq!(moved.0.len(), 4, "a minute is long enough");
        (0..MOVES_MAX).for_each(|_| moved.add(at(63), path("a"), path("b")));
        assert_eq!(moved.0.len(), MOVES_MAX);
    }
}
