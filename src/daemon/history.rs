//! What the page shows of the past: samples of lag and throughput, and what happened lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::chronicle::Chronicle;
use super::latencies::Latencies;
use super::report::{clean, seconds};
use crate::monitor::{Arrived, Itemized, Level, Monitor, Notice, Progress, Scope};
use crate::status::{CopyReport, Happening, Report, Sample, Series};

/// What is kept of each target: seconds that a sample stands for, and how many samples. Ten minutes, an hour,
/// a day.
const SPANS: [(u64, usize); 3] = [(1, 600), (10, 360), (300, 288)];
/// Time over which a rate is an average.
const RATE_SPAN: Duration = Duration::from_secs(10);
/// Happenings that are kept.
const HAPPENINGS_MAX: usize = 200;

/// Samples that stand for the same time each: the highest lag in it, the mean of the bytes.
#[derive(Default)]
struct Ring {
    samples: VecDeque<Sample>,
    /// Seconds that the newest one is made of, and their bytes.
    seconds: u64,
    bytes: u64,
}

impl Ring {
    fn add(&mut self, second: Sample, step: u64, max: usize) {
        let time = second.time - second.time % step;
        match self.samples.back_mut() {
            Some(last) if last.time == time => {
                self.seconds += 1;
                self.bytes += second.bytes;
                last.lag_ms = last.lag_ms.max(second.lag_ms);
                last.bytes = self.bytes / self.seconds;
            }
            _ => {
                (self.seconds, self.bytes) = (1, second.bytes);
                self.samples.push_back(Sample { time, ..second });
            }
        }
        while self.samples.len() > max {
            self.samples.pop_front();
        }
    }

    fn list(&self) -> Vec<Sample> {
        self.samples.iter().copied().collect()
    }
}

/// One target's past.
#[derive(Default)]
struct Past {
    /// One for each of [`SPANS`].
    rings: [Ring; SPANS.len()],
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
                let second = Sample { time: report.time, lag_ms: target.lag_ms, bytes };
                for (ring, (step, max)) in past.rings.iter_mut().zip(SPANS) {
                    ring.add(second, step, max);
                }
                past.sent.push_back((now, target.sent_bytes));
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
            samples: past.rings[0].list(),
            hour: past.rings[1].list(),
            day: past.rings[2].list(),
        });
        series.collect()
    }
}

/// What was told last of one target and its status does not hold.
#[derive(Default)]
struct Told {
    /// What to change, and the error that it is about: when there is another, it is not told any more.
    hint: Option<(String, String)>,
    /// How far the first copy is.
    progress: Option<Progress>,
}

/// What happened lately.
#[derive(Default)]
pub(super) struct Activity {
    happened: Mutex<VecDeque<Happening>>,
    /// By sync and target.
    told: Mutex<BTreeMap<(String, String), Told>>,
    latencies: Mutex<Latencies>,
}

impl Activity {
    /// Returns what happened, oldest first.
    pub fn list(&self) -> Vec<Happening> {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Adds to a report what was told last of each target.
    pub fn complete(&self, report: &mut Report) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).complete(report);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = BTreeMap::new();
        for sync in &mut report.syncs {
            for target in &mut sync.targets {
                let Some(entry) = told.remove_entry(&(sync.name.clone(), target.name.clone())) else {
                    continue;
                };
                let hint = entry.1.hint.as_ref().filter(|(error, _)| Some(error) == target.error.as_ref());
                target.hint = hint.map(|(_, hint)| hint.clone());
                if target.state == "first_pass" {
                    target.copy = entry.1.progress.as_ref().map(copy_report);
                }
                kept.insert(entry.0, entry.1);
            }
        }
        *told = kept;
    }

    fn tell(&self, scope: &Scope, tell: impl FnOnce(&mut Told)) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        tell(told.entry((clean(&scope.sync), clean(&scope.target))).or_default());
    }

    fn add(&self, mut happening: Happening) {
        let mut all = self.happened.lock().unwrap_or_else(PoisonError::into_inner);
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
    pub chronicle: Arc<Chronicle>,
    pub next: Arc<dyn Monitor>,
}

impl Monitor for Recorder {
    fn notice(&self, scope: &Scope, notice: &Notice) {
        match notice {
            Notice::Disconnected { error, hint, .. } => {
                let hint = hint.as_deref().map(|hint| (clean(error), clean(hint)));
                self.activity.tell(scope, |told| *told = Told { hint, progress: None });
            }
            // Of a source that does not lead: nobody is connected to, and the warning is the error.
            Notice::Warning { text, hint: Some(hint) } if !scope.target.is_empty() => {
                self.activity.tell(scope, |told| told.hint = Some((clean(text), clean(hint))));
            }
            Notice::Connected { .. } | Notice::Live => {
                self.activity.tell(scope, |told| *told = Told::default())
            }
            _ => {}
        }
        self.chronicle.happened(scope, notice);
        // Batches are too many to be remembered, and the samples tell of them. What stays is told by each pass.
        if !matches!(notice, Notice::Batch { .. } | Notice::Stays { .. }) {
            self.activity.add(happening(scope, notice));
        }
        self.next.notice(scope, notice);
    }

    fn arrived(&self, scope: &Scope, changes: &[Arrived<'_>]) {
        self.activity.latencies.lock().unwrap_or_else(PoisonError::into_inner).add(scope, changes);
        self.chronicle.arrived(scope, changes);
        self.next.arrived(scope, changes);
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
        self.activity.tell(scope, |told| told.progress = Some(progress.clone()));
        self.next.progress(scope, progress);
    }
}

fn copy_report(progress: &Progress) -> CopyReport {
    CopyReport {
        done_entries: progress.done_entries,
        total_entries: progress.total_entries,
        done_bytes: progress.done_bytes,
        // What changes meanwhile is sent beside it.
        total_bytes: progress.total_bytes.max(progress.done_bytes),
        complete: progress.complete,
        current: progress.current.as_ref().map(ToString::to_string),
    }
}

fn happening(scope: &Scope, notice: &Notice) -> Happening {
    let (about, count, bad) = match notice {
        Notice::Connected { program, .. } => (clean(program), 0, false),
        Notice::Uploads { len } => (crate::monitor::sized(*len), 0, false),
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
        Notice::Role { new, generation, .. } => ((*new).to_owned(), *generation, false),
        Notice::Message { text } | Notice::Detail { text } => (clean(text), 0, false),
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
    fn an_hour_and_a_day_keep_the_highest_lag_and_the_mean_of_the_bytes() {
        let mut history = History::default();
        let start = Instant::now();
        for second in 0..4000 {
            history.sample(&report(second, second * 100), start + Duration::from_secs(second));
        }
        let series = &history.series()[0];
        assert_eq!((series.samples.len(), series.hour.len(), series.day.len()), (600, 360, 14));
        assert_eq!(series.hour[0], Sample { time: 400, lag_ms: 409, bytes: 100 });
        assert_eq!(series.day[13], Sample { time: 3900, lag_ms: 3999, bytes: 100 });
    }

    #[test]
    fn a_report_tells_the_hint_of_who_is_down_and_how_far_a_first_copy_is() {
        let activity = Activity::default();
        let scope = Scope::new("s", "t");
        let hint = Some(("refused".into(), "check the key".into()));
        activity.tell(&scope, |told| *told = Told { hint, progress: None });
        let mut down = report(0, 0);
        activity.complete(&mut down);
        assert_eq!(down.syncs[0].targets[0].hint, None, "it is not down");
        down.syncs[0].targets[0].error = Some("refused".into());
        activity.complete(&mut down);
        assert_eq!(down.syncs[0].targets[0].hint.as_deref(), Some("check the key"));
        down.syncs[0].targets[0].error = Some("something else".into());
        activity.complete(&mut down);
        assert_eq!(down.syncs[0].targets[0].hint, None, "it is another error");
        let progress = Progress { done_bytes: 5, total_bytes: 9, complete: true, ..Progress::default() };
        activity.tell(&scope, |told| told.progress = Some(progress));
        let mut copying = report(0, 0);
        copying.syncs[0].targets[0].state = "first_pass".into();
        activity.complete(&mut copying);
        assert_eq!(copying.syncs[0].targets[0].copy.as_ref().unwrap().done_bytes, 5);
        activity.complete(&mut Report::default());
        assert!(activity.told.lock().unwrap().is_empty(), "a target that is no more is forgotten");
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
