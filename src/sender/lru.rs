//! What was last known of each of the latest paths.

use std::collections::{HashMap, VecDeque};

use crate::tree::RelPath;

/// Paths that are remembered: as many as the table holds before it doubles.
const PATHS_MAX: usize = 14_000;

/// One value for each of the latest paths; older ones are forgotten.
#[derive(Debug)]
pub struct Lru<T> {
    values: HashMap<RelPath, T>,
    order: VecDeque<RelPath>,
}

impl<T> Default for Lru<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Lru<T> {
    /// Remembers a value; it replaces the one before of the same path.
    pub fn insert(&mut self, path: RelPath, value: T) {
        if self.values.insert(path.clone(), value).is_none() {
            self.order.push_back(path);
        }
        while self.order.len() > PATHS_MAX {
            if let Some(old) = self.order.pop_front() {
                self.values.remove(&old);
            }
        }
    }

    /// Returns what is remembered of a path.
    pub fn get(&self, path: &RelPath) -> Option<&T> {
        self.values.get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_paths_are_forgotten_first() {
        let path = |number: usize| RelPath::new(number.to_string()).unwrap();
        let mut latest = Lru::default();
        (0..=PATHS_MAX).for_each(|number| latest.insert(path(number), number));
        assert_eq!((latest.get(&path(0)), latest.get(&path(1))), (None, Some(&1)));
        latest.insert(path(1), 7);
        assert_eq!(latest.get(&path(1)), Some(&7));
    }
}
