//! What the page shows of the past: samples of lag and throughput, and what happened lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::report::{clean, seconds};
use crate::monitor::{Itemized, Level, Monitor, Notice, Progress, Scope};
use crate::status::{Happening, Report, Sample, Series};

/// Samples that are kept of each target: ten minutes.
const SAMPLES_MAX: usize = 600;
/// Time over which a rate is an average.
const RATE_SPAN: Duration = Duration::from_secs(10);
/// Happenings that are kept.
const HAPPENINGS_MAX: usize = 200;

/// One target's past.
#[derive(Default)]
struct Past {
    samples: VecDeque<Sample>,
    /// Bytes sent in all, at the moments of the last samples.
    sent: VecDeque<(Instant, u64)>,
}

/// Every target's past, by sync and target.
#[derive(Default)]
pub(super) struct History(BTreeMap<(String, String), Past>);

impl History {
    /// Takes a sample of every target in a report, and forgets those that are no more.
    pub fn sample(&mut self, report: &Report, now: Instant) {
        let mut kept = BTreeMap::new();
        for sync in &report.syncs {
            for target in &sync.targets {
                let key = (sync.name.clone(), target.name.clone());
                let mut past = self.0.remove(&key).unwrap_or_default();
                let before = past.sent.back().map_or(target.sent_bytes, |(_, sent)| *sent);
                let bytes = target.sent_bytes.saturating_sub(before);
                past.samples.push_back(Sample { time: report.time, lag_ms: target.lag_ms, bytes });
                past.sent.push_back((now, target.sent_bytes));
                while past.samples.len() > SAMPLES_MAX {
                    past.samples.pop_front();
                }
                while past.sent.len() > 1
                    && past.sent.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_SPAN)
                {
                    past.sent.pop_front();
                }
                kept.insert(key, past);
            }
        }
        self.0 = kept;
    }

    /// Returns how many bytes a second a target was sent lately, `sent_bytes` in all by now.
    pub fn rate(&self, sync: &str, target: &str, sent_bytes: u64, now: Instant) -> u64 {
        let past = self.0.get(&(sync.to_owned(), target.to_owned()));
        let Some((at, before)) = past.and_then(|past| past.sent.front()) else { return 0 };
        let span = now.duration_since(*at).as_secs_f64();
        if span < 0.5 { 0 } else { (sent_bytes.saturating_sub(*before) as f64 / span) as u64 }
    }

    /// Returns everything.
    pub fn series(&self) -> Vec<Series> {
        let series = self.0.iter().map(|((sync, target), past)| Series {
            sync: sync.clone(),
            target: target.clone(),
            samples: past.samples.iter().copied().collect(),
        });
        series.collect()
    }
}

/// What happened lately.
#[derive(Default)]
pub(super) struct Activity(Mutex<VecDeque<Happening>>);

impl Activity {
    /// Returns what happened, oldest first.
    pub fn list(&self) -> Vec<Happening> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn add(&self, mut happening: Happening) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        happening.number = all.back().map_or(1, |last| last.number + 1);
        all.push_back(happening);
        while all.len() > HAPPENINGS_MAX {
            all.pop_front();
        }
    }
}

/// A monitor that remembers what it hears, and hands everything on.
pub(super) struct Recorder {
    pub activity: Arc<Activity>,
    pub next: Arc<dyn Monitor>,
}

impl Monitor for Recorder {
    fn notice(&self, scope: &Scope, notice: &Notice) {
        // Batches are too many to be remembered, and the samples tell of them. What stays is told by each pass.
        if !matches!(notice, Notice::Batch { .. } | Notice::Stays { .. }) {
            self.activity.add(happening(scope, notice));
        }
        self.next.notice(scope, notice);
    }

    fn itemized(&self, scope: &Scope, entry: &Itemized) {
        self.next.itemized(scope, entry);
    }

    fn itemizes(&self) -> bool {
        self.next.itemizes()
    }

    fn set_level(&self, sync: Option<&str>, level: Level) -> bool {
        self.next.set_level(sync, level)
    }

    fn reopen(&self) {
        self.next.reopen();
    }

    fn progress(&self, scope: &Scope, progress: &Progress) {
        self.next.progress(scope, progress);
    }
}

fn happening(scope: &Scope, notice: &Notice) -> Happening {
    let (about, count, bad) = match notice {
        Notice::Connected { program, .. } => (clean(program), 0, false),
        Notice::Disconnected { error, .. } => (clean(error), 0, true),
        Notice::Live => (String::new(), 0, false),
        Notice::PassBegan { top, reason } => (format!("{top} ({})", reason.word()), 0, false),
        Notice::PassDone { top, reason, summary } => {
            (format!("{top} ({})", reason.word()), summary.different, false)
        }
        Notice::Problem { path, operation, errno, .. } => {
            (format!("{operation} {path}: {}", crate::error::failure_text(operation, *errno)), 0, true)
        }
        Notice::Held { count, reason, .. } => (reason.clone(), *count, true),
        Notice::Kept { count } => (String::new(), *count, true),
        Notice::Stays { path } => (path.to_string(), 0, false),
        Notice::SetAside { path } => (path.to_string(), 0, true),
        Notice::Rescan { path, reason } => (format!("{path} ({})", reason.word()), 0, false),
        Notice::Batch { changes, .. } => (String::new(), *changes, false),
        Notice::Paused { on } => (String::new(), u64::from(*on), false),
        Notice::Message { text } => (clean(text), 0, false),
        Notice::Warning { text, .. } => (clean(text), 0, true),
    };
    Happening {
        number: 0,
        time: seconds(SystemTime::now()),
        sync: clean(&scope.sync),
        target: clean(&scope.target),
        what: notice.word().to_owned(),
        about,
        count,
        bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{SyncReport, TargetReport};

    fn report(time: u64, sent_bytes: u64) -> Report {
        let target = TargetReport { name: "t".into(), sent_bytes, lag_ms: time, ..TargetReport::default() };
        let sync = SyncReport { name: "s".into(), targets: vec![target], ..SyncReport::default() };
        Report { time, syncs: vec![sync], ..Report::default() }
    }

    #[test]
    fn a_rate_is_that_of_the_last_ten_seconds_and_what_goes_is_forgotten() {
        let mut history = History::default();
        let start = Instant::now();
        for second in 0..30 {
            // A megabyte a second, from the 20th on.
            let sent = second.max(20) * 1_000_000;
            history.sample(&report(second, sent), start + Duration::from_secs(second));
        }
        let now = start + Duration::from_secs(29);
        assert_eq!(history.rate("s", "t", 29_000_000, now), 900_000);
        let series = history.series();
        assert_eq!((series.len(), series[0].samples.len()), (1, 30));
        assert_eq!(series[0].samples[29], Sample { time: 29, lag_ms: 29, bytes: 1_000_000 });
        history.sample(&Report::default(), now);
        assert!(history.series().is_empty());
    }

    #[test]
    fn only_the_last_happenings_are_kept_and_their_numbers_go_on() {
        let activity = Activity::default();
        for _ in 0..HAPPENINGS_MAX + 5 {
            activity.add(happening(&Scope::new("s", "t"), &Notice::Live));
        }
        let all = activity.list();
        assert_eq!((all.len(), all[0].number), (HAPPENINGS_MAX, 6));
    }
}
