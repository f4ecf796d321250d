//! What repeats is counted, not repeated. Pure: time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Record;

/// The same line is written once within this time.
const SAME_SPAN: Duration = Duration::from_secs(60);
/// Lines of one kind about one target within [`KIND_SPAN`]; more are counted.
const KIND_MAX: u64 = 50;
const KIND_SPAN: Duration = Duration::from_secs(10);
/// Lines that are remembered; beyond it all are written.
const KEYS_MAX: usize = 10_000;

/// Events that tell a change of state: each is written.
const STATES: [&str; 6] = ["connected", "disconnected", "live", "held", "paused", "message"];

/// Whether a record is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    Yes,
    Counted,
}

struct Seen {
    since: Instant,
    /// Written, or let by.
    count: u64,
    record: Record,
}

#[derive(Default)]
pub(super) struct Repeats {
    same: HashMap<(String, String, String), Seen>,
    kinds: HashMap<(String, String, &'static str), Seen>,
}

impl Repeats {
    /// Counts a record.
    pub fn pass(&mut self, record: &Record, now: Instant) -> Passed {
        if STATES.contains(&record.event) {
            return Passed::Yes;
        }
        let seen = || Seen { since: now, count: 0, record: record.clone() };
        let key = (record.sync.clone(), record.target.clone(), record.text.clone());
        if let Some(same) = self.same.get_mut(&key) {
            same.count += 1;
            return Passed::Counted;
        }
        let kind = (record.sync.clone(), record.target.clone(), record.event);
        let kind = self.kinds.entry(kind).or_insert_with(seen);
        kind.count += 1;
        if kind.count > KIND_MAX {
            return Passed::Counted;
        }
        if self.same.len() < KEYS_MAX {
            self.same.insert(key, seen());
        }
        Passed::Yes
    }

    /// Forgets what is over, and returns what is to be said about what was counted.
    pub fn over(&mut self, now: Instant) -> Vec<Record> {
        let mut told = Vec::new();
        self.same.retain(|_, seen| {
            let over = now.saturating_duration_since(seen.since) > SAME_SPAN;
            if over && seen.count > 0 {
                let text = format!("{} ({} times more)", seen.record.text, seen.count);
                told.push(Record { text, hint: None, ..seen.record.clone() });
            }
            !over
        });
        self.kinds.retain(|_, seen| {
            let over = now.saturating_duration_since(seen.since) > KIND_SPAN;
            let more = seen.count.saturating_sub(KIND_MAX);
            if over && more > 0 {
                let scope = crate::monitor::Scope::new(&seen.record.sync, &seen.record.target);
                let text =
                    format!("{scope}: {more} more of this kind ({}) were not written", seen.record.event);
                told.push(Record { text, hint: None, path: None, fields: Vec::new(), ..seen.record.clone() });
            }
            !over
        });
        told
    }
}
