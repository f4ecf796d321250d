//! What is acknowledged as one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sender::ledger::Op;

/// Operations by the commit behind them.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// Sent since the last commit.
    open: Vec<Op>,
    /// Committed and not acknowledged.
    sent: VecDeque<(u64, Vec<Op>)>,
    /// The number of the last commit.
    last: u64,
    /// Until when the open one waits for more.
    until: Option<Instant>,
}

impl Batches {
    pub fn add(&mut self, op: Op) {
        self.open.push(op);
    }

    /// Whether nothing was sent that was not acknowledged.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.sent.is_empty()
    }

    pub fn is_full(&self, max: usize) -> bool {
        self.open.len() >= max
    }

    /// Whether the open batch waits for more; without a time to gather it does not.
    pub fn waits(&mut self, now: Instant, gather: Option<Duration>) -> bool {
        let Some(gather) = gather.filter(|_| !self.open.is_empty()) else {
            self.until = None;
            return false;
        };
        now < *self.until.get_or_insert(now + gather)
    }

    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Ends the open batch and returns its number; `None` if nothing is in it.
    pub fn commit(&mut self) -> Option<u64> {
        if self.open.is_empty() {
            return None;
        }
        (self.last, self.until) = (self.last + 1, None);
        self.sent.push_back((self.last, std::mem::take(&mut self.open)));
        Some(self.last)
    }

    /// Returns what is acknowledged with a batch, in the order in which it was sent.
    pub fn acknowledged(&mut self, batch: u64) -> Vec<Op> {
        let mut ops = Vec::new();
        while self.sent.front().is_some_and(|(number, _)| *number <= batch) {
            ops.extend(self.sent.pop_front().into_iter().flat_map(|(_, of_batch)| of_batch));
        }
        ops
    }
}
