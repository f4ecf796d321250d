//! Which target is worse than which.

use crate::status::{Report, SyncReport, TargetReport};

/// A lag that is looked at before what is in step.
const LAG_MS: u64 = 10_000;

/// Returns every target with its sync, the worst first; of equals in the order of the configuration.
pub(super) fn worst_first(report: &Report) -> Vec<(&SyncReport, &TargetReport)> {
    let named = report.syncs.iter();
    let mut all: Vec<_> =
        named.flat_map(|sync| sync.targets.iter().map(move |target| (sync, target))).collect();
    all.sort_by_key(|(_, target)| rank(target));
    all
}

/// Returns how bad it is; 0 is the worst.
fn rank(target: &TargetReport) -> u8 {
    match target.state.as_str() {
        "down" => 0,
        _ if target.held > 0 => 1,
        _ if target.failing() > 0 => 2,
        "paused" => 5,
        "live" if target.lag_ms <= LAG_MS => 6,
        "live" => 3,
        _ => 4,
    }
}
