//! What was handed on lately, in bounded memory.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::tree::RelPath;

/// Paths remembered per generation; there are two. Just below where the tables would double.
const GENERATION_LEN: usize = 28_000;

/// What is remembered of a path.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    /// The last event that was handed on.
    pub last: Option<Instant>,
    /// The first event behind what was last handed on.
    pub since: Instant,
    /// While it keeps changing it does not leave before.
    pub floor: Option<Instant>,
    /// Whether its delete was handed on since.
    pub deleted: bool,
}

/// Traces of two generations: a full or an old one takes the place of the one before.
#[derive(Debug)]
pub(super) struct Recent {
    young: HashMap<RelPath, Trace>,
    old: HashMap<RelPath, Trace>,
    born: Option<Instant>,
    span: Duration,
}

impl Recent {
    /// Remembers for `span` at least, where there is room.
    pub fn new(span: Duration) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), born: None, span }
    }

    pub fn get(&self, path: &RelPath) -> Option<&Trace> {
        self.young.get(path).or_else(|| self.old.get(path))
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Changes what is remembered of a path.
    pub fn change(&mut self, path: &RelPath, now: Instant, change: impl FnOnce(&mut Trace)) {
        let born = *self.born.get_or_insert(now);
        if self.young.len() >= GENERATION_LEN || now.saturating_duration_since(born) > self.span {
            self.old = std::mem::take(&mut self.young);
            self.born = Some(now);
        }
        let known = self.get(path).cloned();
        let mut trace = known.unwrap_or(Trace { last: None, since: now, floor: None, deleted: false });
        change(&mut trace);
        self.young.insert(path.clone(), trace);
    }

    /// Takes the trace of a path along with it.
    pub fn rename(&mut self, from: &RelPath, to: &RelPath, at: Instant) {
        let before = self.young.remove(from);
        let before = self.old.remove(from).filter(|_| before.is_none()).or(before);
        self.change(to, at, |trace| {
            if let Some(before) = before {
                *trace = before;
            }
            trace.last = Some(at);
            trace.deleted = false;
        });
    }
}
