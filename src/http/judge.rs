//! Whether a standby is good enough to serve: pure.

use std::time::Duration;

use crate::status::TargetReport;

/// What is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// More lag than this, and the standby should get no new visitors.
    pub max_lag: Duration,
    /// More lag than this, and it should get none at all; `None`: never.
    pub down_lag: Option<Duration>,
}

/// What a standby is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// It is in step.
    Up,
    /// It is behind, or nobody knows yet whether it is.
    Drain,
    /// It is far behind.
    Down,
}

/// Judges a target by its lag alone: a connection that is down is no lag as long as nothing changes.
pub fn judge(target: &TargetReport, limits: Limits) -> Judgement {
    let lag = Duration::from_millis(target.lag_ms);
    if limits.down_lag.is_some_and(|down| lag > down) {
        Judgement::Down
    } else if !target.known || lag > limits.max_lag {
        Judgement::Drain
    } else {
        Judgement::Up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_judged_by_its_lag_and_one_that_is_not_known_yet_is_drained() {
        let limits = Limits { max_lag: Duration::from_secs(10), down_lag: Some(Duration::from_secs(60)) };
        for (known, state, lag_ms, expected) in [
            (true, "live", 0, Judgement::Up),
            (true, "live", 10_000, Judgement::Up),
            (true, "live", 10_001, Judgement::Drain),
            (true, "live", 60_001, Judgement::Down),
            (true, "down", 0, Judgement::Up),
            (true, "down", 11_000, Judgement::Drain),
            (false, "first_pass", 0, Judgement::Drain),
            (false, "down", 61_000, Judgement::Down),
        ] {
            let target = TargetReport { known, state: state.into(), lag_ms, ..TargetReport::default() };
            assert_eq!(judge(&target, limits), expected, "{known} {state} {lag_ms}");
        }
        let target = TargetReport { known: true, lag_ms: u64::MAX, ..TargetReport::default() };
        assert_eq!(judge(&target, Limits { down_lag: None, ..limits }), Judgement::Drain);
    }
}
