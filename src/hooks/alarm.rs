//! When somebody is told that something got worse, or well again.
//!
//! **In → Out:** a report now and then; what is to be told now, if anything. **Invariants:** each change is told once;
//! what comes and goes within `after` is not told at all; between two messages lies at least `after`, and an hour
//! brings [`HOUR_MAX`] at most: what changes meanwhile is gathered into the next. Time is an argument. **Not here:**
//! the words of a message and its way (`message`, `notifier`).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::status::{Cause, Complaint, Report, TargetReport, complaints};

/// Messages within an hour.
const HOUR_MAX: usize = 10;
const HOUR: Duration = Duration::from_secs(3600);
/// What is well for so long is told to be well, however long `after` is.
const WELL_MAX: Duration = Duration::from_secs(60);

/// Whom and what something is about: sync, target, cause.
type Key = (String, String, Cause);

/// Something that is wrong, or was until lately.
#[derive(Debug)]
struct Wrong {
    complaint: Complaint,
    since: Instant,
    /// The same in seconds since the epoch.
    time: u64,
    told: bool,
    /// Since when it is well.
    well: Option<Instant>,
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub complaint: Complaint,
    /// Seconds since the epoch at which it began.
    pub since: u64,
}

/// What is to be told in one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct News {
    pub time: u64,
    pub worse: Vec<Item>,
    pub well: Vec<Item>,
    /// What was told before and is still wrong.
    pub still: Vec<Item>,
    /// Whether the hour's last message is this one.
    pub last: bool,
}

/// What is wrong by now, and what of it was told.
#[derive(Debug)]
pub(super) struct Alarms {
    after: Duration,
    lag_max_ms: u64,
    wrong: BTreeMap<Key, Wrong>,
    /// When messages were sent within the last hour.
    sent: VecDeque<Instant>,
}

impl Alarms {
    pub fn new(after: Duration, max_lag: Duration) -> Self {
        let mut alarms = Self { after, lag_max_ms: 0, wrong: BTreeMap::new(), sent: VecDeque::new() };
        alarms.set(after, max_lag);
        alarms
    }

    /// Judges by other bounds from now on.
    pub fn set(&mut self, after: Duration, max_lag: Duration) {
        self.after = after;
        self.lag_max_ms = u64::try_from(max_lag.as_millis()).unwrap_or(u64::MAX);
    }

    /// Takes in how things are; returns what is to be told now.
    pub fn look(&mut self, report: &Report, now: Instant) -> Option<News> {
        self.take_in(report, now);
        let (worse, well) = self.due(now);
        if worse.is_empty() && well.is_empty() || !self.may_send(now) {
            return None;
        }
        let mut news = News { time: report.time, last: self.sent.len() == HOUR_MAX, ..News::default() };
        news.well.extend(well.iter().filter_map(|key| self.wrong.remove(key)).map(|wrong| item(&wrong)));
        for (key, wrong) in &mut self.wrong {
            let list = if worse.contains(key) { &mut news.worse } else { &mut news.still };
            if wrong.told || worse.contains(key) {
                list.push(item(wrong));
                wrong.told = true;
            }
        }
        Some(news)
    }

    fn take_in(&mut self, report: &Report, now: Instant) {
        let mut found: BTreeMap<Key, Complaint> = complaints(report, self.lag_max_ms)
            .into_iter()
            .filter(|complaint| is_told(complaint.cause))
            .map(|complaint| (key(&complaint), complaint))
            .collect();
        self.wrong.retain(|key, wrong| {
            if let Some(complaint) = found.remove(key) {
                (wrong.complaint, wrong.well) = (complaint, None);
                return true;
            }
            match judged(report, key) {
                // The configuration has it no more.
                None => false,
                Some(false) => true,
                // What nobody was told of is forgotten.
                Some(true) => {
                    wrong.well.get_or_insert(now);
                    wrong.told
                }
            }
        });
        self.wrong.extend(found.into_iter().map(|(key, complaint)| {
            (key, Wrong { complaint, since: now, time: report.time, told: false, well: None })
        }));
    }

    /// Returns what got worse, and what was told and is well again, each for long enough.
    fn due(&self, now: Instant) -> (Vec<Key>, Vec<Key>) {
        let (mut worse, mut well) = (Vec::new(), Vec::new());
        for (key, wrong) in &self.wrong {
            let waits = if is_final(key.2) { Duration::ZERO } else { self.after };
            match wrong.well {
                Some(at) if now.saturating_duration_since(at) >= waits.min(WELL_MAX) => {
                    well.push(key.clone())
                }
                None if !wrong.told && now.saturating_duration_since(wrong.since) >= waits => {
                    worse.push(key.clone());
                }
                _ => {}
            }
        }
        (worse, well)
    }

    /// Whether a message may be sent now; it is counted then.
    fn may_send(&mut self, now: Instant) -> bool {
        while self.sent.front().is_some_and(|at| now.saturating_duration_since(*at) >= HOUR) {
            self.sent.pop_front();
        }
        let soon = self.sent.back().is_some_and(|at| now.saturating_duration_since(*at) < self.after);
        let may = !soon && self.sent.len() < HOUR_MAX;
        if may {
            self.sent.push_back(now);
        }
        may
    }
}

fn key(complaint: &Complaint) -> Key {
    (complaint.sync.clone(), complaint.target.clone(), complaint.cause)
}

fn item(wrong: &Wrong) -> Item {
    Item { complaint: wrong.complaint.clone(), since: wrong.time }
}

/// Whether anybody is told of it: what somebody did on purpose, and what a start brings, is no news.
fn is_told(cause: Cause) -> bool {
    !matches!(cause, Cause::Paused | Cause::FirstCopy | Cause::Connecting)
}

/// Whether it does not come and go by itself.
fn is_final(cause: Cause) -> bool {
    matches!(cause, Cause::Held | Cause::Refused)
}

/// Whether a report can say that something is well; `None` if the sync or the target is no more.
fn judged(report: &Report, (sync, target, cause): &Key) -> Option<bool> {
    if *cause == Cause::Refused {
        return Some(true);
    }
    let sync = report.syncs.iter().find(|other| other.name == *sync)?;
    if *cause == Cause::NotStarted {
        return Some(true);
    }
    if !sync.running {
        // Without its source it has no targets here.
        return Some(false);
    }
    let target: &TargetReport = sync.targets.iter().find(|other| other.name == *target)?;
    Some(match (target.state.as_str(), cause) {
        ("paused" | "connecting", _) => false,
        (_, Cause::Down | Cause::Waiting) | ("live", _) => true,
        ("first_pass", _) => target.known,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::SyncReport;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Scene {
        alarms: Alarms,
        start: Instant,
        now: Duration,
        report: Report,
    }

    impl Scene {
        /// Two targets, `a` and `b`, both live.
        fn new() -> Self {
            let target = |name: &str| TargetReport {
                name: name.into(),
                state: "live".into(),
                known: true,
                ..TargetReport::default()
            };
            let targets = vec![target("a"), target("b")];
            let sync = SyncReport { name: "www".into(), running: true, targets, ..SyncReport::default() };
            let report = Report { syncs: vec![sync], ..Report::default() };
            let alarms = Alarms::new(5 * MINUTE, Duration::from_secs(30));
            Self { alarms, start: Instant::now(), now: Duration::ZERO, report }
        }

        fn target(&mut self, at: usize) -> &mut TargetReport {
            &mut self.report.syncs[0].targets[at]
        }

        fn state(&mut self, at: usize, state: &str) {
            self.target(at).state = state.into();
        }

        /// Looks every ten seconds for some minutes; returns what was told, and after how many seconds.
        fn run(&mut self, minutes: u64) -> Vec<(u64, String)> {
            let mut told = Vec::new();
            for _ in 0..minutes * 6 {
                self.report.time = self.now.as_secs();
                if let Some(news) = self.alarms.look(&self.report, self.start + self.now) {
                    let names = |sign: &str, items: &[Item]| {
                        let each = items.iter().map(|item| {
                            format!("{sign}{}.{:?}", item.complaint.target, item.complaint.cause)
                        });
                        each.collect::<Vec<_>>().join(" ")
                    };
                    let parts = [names("+", &news.worse), names("-", &news.well), names("=", &news.still)];
                    let parts: Vec<&str> =
                        parts.iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
                    told.push((self.now.as_secs(), parts.join(" ")));
                }
                self.now += Duration::from_secs(10);
            }
            told
        }
    }

    fn told(list: &[(u64, &str)]) -> Vec<(u64, String)> {
        list.iter().map(|(at, text)| (*at, (*text).to_owned())).collect()
    }

    #[test]
    fn a_change_is_told_once_when_it_has_lasted() {
        let mut scene = Scene::new();
        assert_eq!(scene.run(10), []);
        scene.state(0, "down");
        assert_eq!(scene.run(30), told(&[(900, "+a.Down")]));
        scene.state(0, "first_pass");
        assert_eq!(scene.run(10), told(&[(2460, "-a.Down")]));
        // What is over before its time is not told, and what ends for a moment was not over.
        scene.state(1, "down");
        assert_eq!(scene.run(4), []);
        scene.state(1, "live");
        assert_eq!(scene.run(1), []);
        scene.state(1, "down");
        assert_eq!(scene.run(6), told(&[(3600, "+b.Down")]));
        scene.now += Duration::from_secs(10);
        scene.state(1, "live");
        scene.alarms.look(&scene.report, scene.start + scene.now);
        scene.state(1, "down");
        assert_eq!(scene.run(20), []);
    }

    #[test]
    fn held_deletes_are_told_at_once_and_what_is_not_known_is_neither_worse_nor_well() {
        let mut scene = Scene::new();
        scene.target(0).held = 9;
        assert_eq!(scene.run(1), told(&[(0, "+a.Held")]));
        scene.state(0, "down");
        assert_eq!(scene.run(6), told(&[(360, "+a.Down =a.Held")]));
        scene.state(0, "paused");
        assert_eq!(scene.run(10), []);
        scene.state(0, "first_pass");
        scene.target(0).known = false;
        assert_eq!(scene.run(5), told(&[(1080, "-a.Down =a.Held")]));
        scene.state(0, "live");
        scene.target(0).known = true;
        scene.target(0).held = 0;
        assert_eq!(scene.run(5), told(&[(1380, "-a.Held")]));
    }

    #[test]
    fn what_the_configuration_has_no_more_is_forgotten() {
        let mut scene = Scene::new();
        scene.state(0, "down");
        assert_eq!(scene.run(6).len(), 1);
        // Nothing is known of a target whose source is away.
        let targets = std::mem::take(&mut scene.report.syncs[0].targets);
        scene.report.syncs[0].running = false;
        assert_eq!(scene.run(6), told(&[(660, "+.NotStarted =a.Down")]));
        (scene.report.syncs[0].targets, scene.report.syncs[0].running) = (targets, true);
        scene.report.syncs[0].targets.remove(0);
        assert_eq!(scene.run(6), told(&[(960, "-.NotStarted")]));
    }

    #[test]
    fn a_flood_is_gathered_into_few_messages() {
        let mut scene = Scene::new();
        // Each held for one look and gone at the next, for hours.
        let mut count = 0;
        for round in 0..6 * 60 * 4 {
            scene.target(0).held = usize::from(round % 2 == 0);
            scene.report.refused_reload = (round % 3 == 0).then(|| "no".to_owned());
            count += usize::from(scene.alarms.look(&scene.report, scene.start + scene.now).is_some());
            scene.now += Duration::from_secs(10);
        }
        assert!((20..=4 * HOUR_MAX).contains(&count), "{count}");
        // Everything fails at once: one message.
        let mut scene = Scene::new();
        scene.state(0, "down");
        scene.state(1, "down");
        assert_eq!(scene.run(20), told(&[(300, "+a.Down +b.Down")]));
        // The hour's last one says so.
        let mut alarms = Alarms::new(Duration::ZERO, Duration::ZERO);
        let mut scene = Scene::new();
        let last: Vec<bool> = (0..30)
            .filter_map(|round| {
                scene.target(0).held = round % 2;
                alarms.look(&scene.report, scene.start + Duration::from_secs(round as u64))
            })
            .map(|news| news.last)
            .collect();
        assert_eq!(last, [[false; 9].as_slice(), &[true]].concat());
    }
}
