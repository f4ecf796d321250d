//! Gathering what the status report says.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::pipeline::RunningTarget;
use super::service::Running;
use crate::sender::TargetState;
use crate::status::{ProblemReport, Report, SCHEMA, SyncReport, TargetReport};

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) fn report(running: &[Running]) -> Report {
    let syncs = running.iter().map(|slot| match slot {
        Running::Up(pipeline) => SyncReport {
            name: pipeline.sync.name.clone(),
            source: pipeline.sync.source.display().to_string(),
            watched: pipeline.watched().0,
            watch_problems: pipeline.watched().1,
            targets: pipeline.targets.iter().map(target_report).collect(),
        },
        Running::Waiting(sync, _) => SyncReport {
            name: sync.name.clone(),
            source: sync.source.display().to_string(),
            ..SyncReport::default()
        },
    });
    Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        time: seconds(SystemTime::now()),
        syncs: syncs.collect(),
    }
}

fn target_report(running: &RunningTarget) -> TargetReport {
    let (state, since) = running.status.state();
    let state = if running.mailbox.is_paused() { TargetState::Paused } else { state };
    let totals = running.status.counters.totals();
    let now = Instant::now();
    let pending = running.mailbox.pending();
    let last_pass = running.status.last_pass();
    let held = running.held.summary();
    let word = serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned));
    let problems = running.status.problems().into_iter().map(|(path, problem)| ProblemReport {
        path: path.to_string(),
        operation: problem.operation,
        error: crate::error::errno_text(problem.errno),
        attempts: problem.attempts,
        retry_ms: u64::try_from(problem.retry_at.saturating_duration_since(now).as_millis())
            .unwrap_or(u64::MAX),
    });
    TargetReport {
        name: running.target.name.clone(),
        target: running.target.to_string(),
        state: word.unwrap_or_default(),
        since: since.map_or(0, seconds),
        error: running.status.error(),
        lag_ms: pending.since.lag.map_or(0, |since| {
            u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
        }),
        queued: pending.queued,
        held: held.as_ref().map_or(0, |(count, _)| *count),
        held_reason: held.map(|(_, reason)| reason),
        sent_bytes: totals.sent_bytes,
        received_bytes: totals.received_bytes,
        batches: totals.batches,
        files: totals.files,
        repairs: totals.repairs,
        last_pass: last_pass.as_ref().map(|(time, _)| seconds(*time)),
        last_pass_different: last_pass.map_or(0, |(_, summary)| summary.different),
        problems: problems.collect(),
    }
}
