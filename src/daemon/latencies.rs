//! How long changes took to arrive, counted by how long.

use std::collections::BTreeMap;

use crate::monitor::{Arrived, Scope};
use crate::status::{ArrivalBucket, ArrivalReport, Report};

/// Upper bounds of the classes, in milliseconds; what took longer is in the total alone.
const BOUNDS: [u64; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000, 300_000, 1_800_000];

/// The counts of every target, by sync and target.
#[derive(Debug, Default)]
pub(super) struct Latencies(BTreeMap<(String, String), Counts>);

#[derive(Debug, Default)]
struct Counts {
    classes: [u64; BOUNDS.len()],
    count: u64,
    sum_ms: f64,
}

impl Latencies {
    /// Counts what has arrived; what a comparison found is of no known age.
    pub fn add(&mut self, scope: &Scope, changes: &[Arrived<'_>]) {
        if changes.iter().all(|change| change.took.is_none()) {
            return;
        }
        let name = |text: &str| super::report::clean(text);
        let counts = self.0.entry((name(&scope.sync), name(&scope.target))).or_default();
        for took in changes.iter().filter_map(|change| change.took) {
            let ms = took.as_secs_f64() * 1000.0;
            (counts.count, counts.sum_ms) = (counts.count + 1, counts.sum_ms + ms);
            if let Some(class) = counts.classes.iter_mut().zip(BOUNDS).find(|(_, bound)| ms <= *bound as f64)
            {
                *class.0 += 1;
            }
        }
    }

    /// Adds the counts to a report, and forgets targets that are no more.
    pub fn complete(&mut self, report: &mut Report) {
        let mut kept = BTreeMap::new();
        for sync in &mut report.syncs {
            for target in &mut sync.targets {
                let Some((key, counts)) = self.0.remove_entry(&(sync.name.clone(), target.name.clone()))
                else {
                    continue;
                };
                let mut sum = 0;
                let buckets = counts.classes.iter().zip(BOUNDS).map(|(count, le_ms)| {
                    sum += count;
                    ArrivalBucket { le_ms, count: sum }
                });
                let buckets = buckets.collect();
                target.arrival =
                    Some(ArrivalReport { count: counts.count, sum_ms: counts.sum_ms as u64, buckets });
                kept.insert(key, counts);
            }
            if !sync.running {
                // Its targets are not in the report meanwhile.
                let of_sync =
                    self.0.keys().filter(|(name, _)| *name == sync.name).cloned().collect::<Vec<_>>();
                kept.extend(of_sync.iter().filter_map(|key| self.0.remove_entry(key)));
            }
        }
        self.0 = kept;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::{SyncReport, TargetReport};
    use crate::tree::RelPath;

    #[test]
    fn each_class_holds_those_before_it_and_what_is_no_more_is_forgotten() {
        let (mut latencies, path, scope) = (Latencies::default(), RelPath::root(), Scope::new("s", "t"));
        let took =
            |ms| Arrived { what: "sent", path: &path, from: None, took: Some(Duration::from_millis(ms)) };
        let found = Arrived { took: None, ..took(0) };
        latencies.add(&scope, &[took(3), took(5), took(30), found, took(3_600_000)]);
        latencies.add(&Scope::new("s", "found"), &[found]);
        let target = |name: &str| TargetReport { name: name.into(), ..TargetReport::default() };
        let sync = SyncReport {
            name: "s".into(),
            targets: vec![target("t"), target("found")],
            ..SyncReport::default()
        };
        let mut report = Report { syncs: vec![sync], ..Report::default() };
        latencies.complete(&mut report);
        let arrival = report.syncs[0].targets[0].arrival.clone().unwrap();
        let counts: Vec<u64> = arrival.buckets.iter().take(5).map(|bucket| bucket.count).collect();
        assert_eq!((counts, arrival.count, arrival.sum_ms), (vec![2, 2, 2, 3, 3], 4, 3_600_038));
        assert_eq!(arrival.buckets.last().unwrap(), &ArrivalBucket { le_ms: 1_800_000, count: 3 });
        assert_eq!(report.syncs[0].targets[1].arrival, None);
        latencies.complete(&mut Report::default());
        assert!(latencies.0.is_empty());
    }
}
