//! Since when things wait: a multiset of moments.

use std::collections::BTreeMap;
use std::time::Instant;

/// Moments, each as often as something waits since then.
#[derive(Debug)]
pub struct Ages<T = Instant>(BTreeMap<T, usize>);

impl<T> Default for Ages<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Copy + Ord> Ages<T> {
    /// Adds a moment.
    pub fn add(&mut self, since: T) {
        *self.0.entry(since).or_default() += 1;
    }

    /// Takes a moment out once.
    pub fn remove(&mut self, since: T) {
        if let Some(count) = self.0.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&since);
            }
        }
    }

    /// Returns the oldest moment.
    pub fn oldest(&self) -> Option<T> {
        self.0.keys().next().copied()
    }
}
