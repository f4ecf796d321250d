//! Lag and throughput of each target over the last minutes.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::status::{Report, Series};

/// Looks that are kept.
const LOOKS_MAX: usize = 600;

/// What was seen of one target.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// Lag in milliseconds, oldest first.
    pub lag_ms: VecDeque<u64>,
    /// Bytes a second, oldest first.
    pub rate: VecDeque<u64>,
    last: Option<(Instant, u64)>,
}

/// What was seen of all.
#[derive(Debug, Default)]
pub(super) struct History {
    tracks: HashMap<(String, String), Track>,
}

impl History {
    /// Adds a look.
    pub fn add(&mut self, report: &Report, now: Instant) {
        let mut kept = HashMap::new();
        for sync in &report.syncs {
            for target in &sync.targets {
                let key = (sync.name.clone(), target.name.clone());
                let mut track = self.tracks.remove(&key).unwrap_or_default();
                let before = track.rate.back().copied().unwrap_or(0);
                let rate = track.last.map_or(before, |(at, bytes)| {
                    let seconds = now.saturating_duration_since(at).as_secs_f64().max(0.001);
                    // A daemon that was started anew counts from zero.
                    (target.sent_bytes.saturating_sub(bytes) as f64 / seconds) as u64
                });
                track.last = Some((now, target.sent_bytes));
                for (values, value) in [(&mut track.lag_ms, target.lag_ms), (&mut track.rate, rate)] {
                    values.push_back(value);
                    while values.len() > LOOKS_MAX {
                        values.pop_front();
                    }
                }
                kept.insert(key, track);
            }
        }
        self.tracks = kept;
    }

    /// Begins with what the daemon has kept.
    pub fn begin(&mut self, kept: Vec<Series>) {
        for Series { sync, target, samples, .. } in kept {
            let track = self.tracks.entry((sync, target)).or_default();
            let latest = samples.len().saturating_sub(LOOKS_MAX);
            for sample in samples.iter().skip(latest) {
                track.lag_ms.push_back(sample.lag_ms);
                track.rate.push_back(sample.bytes);
            }
        }
    }

    /// Returns what was seen of a target.
    pub fn of(&self, sync: &str, target: &str) -> Option<&Track> {
        self.tracks.get(&(sync.to_owned(), target.to_owned()))
    }
}

impl Track {
    /// Returns the latest `count` values, oldest first.
    pub fn latest(values: &VecDeque<u64>, count: usize) -> Vec<u64> {
        values.iter().skip(values.len().saturating_sub(count)).copied().collect()
    }
}
