//! Since when things wait: a multiset of moments.

use std::collections::BTreeMap;
use std::time::Instant;

/// Moments, each as often as something waits since then.
#[derive(Debug, Default)]
pub struct Ages(BTreeMap<Instant, usize>);

impl Ages {
    /// Adds a moment.
    pub fn add(&mut self, since: Instant) {
        *self.0.entry(since).or_default() += 1;
    }

    /// Takes a moment out once.
    pub fn remove(&mut self, since: Instant) {
        if let Some(count) = self.0.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&since);
            }
        }
    }

    /// Returns the oldest moment.
    pub fn oldest(&self) -> Option<Instant> {
        self.0.keys().next().copied()
    }
}
