//! Gathering what the status report says.

use std::os::unix::ffi::OsStrExt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::pipeline::Pipeline;
use super::slot::{LeftOut, Running};
use super::target::RunningTarget;
use crate::disk::kept_since;
use crate::monitor::PassSummary;
use crate::sender::{Scrubbed, TargetProblem, TargetState};
use crate::status::{
    MismatchReport, ProblemReport, ReconcileReport, Report, SCHEMA, ScrubReport, SyncReport, TargetReport,
};
use crate::tree::RelPath;

/// Returns a moment in seconds since the epoch.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) fn report(running: &[Running]) -> Report {
    let syncs = running.iter().map(|slot| match slot {
        Running::Up(pipeline) => sync_report(pipeline),
        Running::Waiting(waiting) => SyncReport {
            name: shown(waiting.sync.name.as_bytes()),
            source: shown(waiting.sync.source.as_os_str().as_bytes()),
            error: Some(waiting.error.clone()).filter(|error| !error.is_empty()),
            ..SyncReport::default()
        },
        Running::LeftOut(LeftOut { name, error }) => {
            SyncReport { name: shown(name.as_bytes()), error: Some(clean(error)), ..SyncReport::default() }
        }
    });
    Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        time: seconds(SystemTime::now()),
        started: 0,
        refused_reload: None,
        syncs: syncs.collect(),
    }
}

fn sync_report(pipeline: &Pipeline) -> SyncReport {
    let (watched, watch_problems) = pipeline.watched();
    // Read from the disk each time it is asked for.
    let role = pipeline.role();
    let kept = role.and_then(|_| kept_since(&pipeline.sync.source));
    let targets = pipeline.targets.iter().map(|running| TargetReport {
        scrub: pipeline.sync.scrub.map(|_| scrub_report(&running.status.scrubbed)),
        ..target_report(running)
    });
    SyncReport {
        name: shown(pipeline.sync.name.as_bytes()),
        source: shown(pipeline.sync.source.as_os_str().as_bytes()),
        watched,
        watch_problems,
        running: true,
        error: None,
        role: role.map(|(role, _)| role.word().to_owned()),
        generation: role.and_then(|(_, generation)| generation),
        kept_aside_since: kept.map(|time| u64::try_from(time.secs).unwrap_or(0)),
        targets: targets.collect(),
    }
}

fn target_report(running: &RunningTarget) -> TargetReport {
    let (state, since) = running.status.state();
    let paused = running.mailbox.paused_since();
    let paused = paused.map(|at| SystemTime::now().checked_sub(at.elapsed()).unwrap_or(since));
    let (state, since) = paused.map_or((state, since), |since| (TargetState::Paused, since));
    let totals = running.status.counters.totals();
    let now = Instant::now();
    let pending = running.mailbox.pending();
    let last_pass = running.status.last_pass();
    let held = running.held.summary();
    let agent = running.status.agent();
    let word = serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned));
    let (unverified_files, unverified_bytes) = running.status.suspects.totals();
    let problems = running.status.problems().into_iter().map(|(path, failed)| problem(&path, failed));
    TargetReport {
        name: shown(running.target.name.as_bytes()),
        target: shown(running.target.to_string().as_bytes()),
        state: word.unwrap_or_default(),
        since: seconds(since),
        error: running.status.error().map(|text| clean(&text)),
        // A standby owes nobody anything.
        lag_ms: pending.since.lag.filter(|_| state != TargetState::Standby).map_or(0, |since| {
            u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
        }),
        queued: pending.queued,
        held: held.as_ref().map_or(0, |(count, _)| *count),
        held_first: running.held.first().iter().map(ToString::to_string).collect(),
        held_reason: held.map(|(_, reason)| reason),
        known: running.status.is_known(),
        in_flight: pending.out.changes,
        queued_bytes: pending.out.bytes,
        refilled: running.status.refilled().map(seconds),
        agent: agent.as_ref().map(|(program, _)| clean(program)),
        lacks: agent.map(|(_, lacks)| lacks.iter().map(|text| clean(text)).collect()).unwrap_or_default(),
        connects: totals.connects,
        literal_bytes: totals.literal_bytes,
        matched_bytes: totals.matched_bytes,
        last_batch: running.status.last_ack().map(seconds),
        rescans: running.status.rescans().into_iter().map(|(word, n)| (word.to_owned(), n)).collect(),
        reconcile: last_pass.as_ref().map(|(time, summary)| reconcile_report(*time, summary)),
        unverified_files,
        unverified_bytes,
        hashed: totals.hashed,
        more_problems: running.status.more_problems(),
        sent_bytes: totals.sent_bytes,
        received_bytes: totals.received_bytes,
        batches: totals.batches,
        files: totals.files,
        repairs: totals.repairs,
        last_pass: last_pass.as_ref().map(|(time, _)| seconds(*time)),
        last_pass_different: last_pass.map_or(0, |(_, summary)| summary.different),
        problems: problems.collect(),
        ..TargetReport::default()
    }
}

/// Returns what is told of a path that fails.
pub(super) fn problem(path: &RelPath, problem: TargetProblem) -> ProblemReport {
    let left = problem.retry_at.saturating_duration_since(Instant::now()).as_millis();
    ProblemReport {
        path: path.to_string(),
        error: crate::error::failure_text(&problem.operation, problem.errno),
        operation: problem.operation,
        errno: crate::error::errno_name(problem.errno),
        on_target: problem.on_target,
        since: seconds(problem.first),
        attempts: problem.attempts,
        retry_ms: u64::try_from(left).unwrap_or(u64::MAX),
    }
}

fn scrub_report(scrubbed: &Scrubbed) -> ScrubReport {
    let (running, files) = scrubbed.running();
    let hex = |hash: [u8; 32]| blake3::Hash::from_bytes(hash).to_hex().to_string();
    let mismatches = scrubbed.mismatches().into_iter().map(|(path, found)| MismatchReport {
        path: path.to_string(),
        source: hex(found.source),
        target: hex(found.target),
        suspect: found.suspect.word().to_owned(),
        repaired: found.repaired,
        time: seconds(found.at),
    });
    ScrubReport { last: scrubbed.last().map(seconds), running, files, mismatches: mismatches.collect() }
}

fn reconcile_report(time: SystemTime, summary: &PassSummary) -> ReconcileReport {
    ReconcileReport {
        time: seconds(time),
        elapsed_ms: u64::try_from(summary.elapsed.as_millis()).unwrap_or(u64::MAX),
        entries: summary.entries,
        bytes: summary.bytes,
        repaired: summary.different,
        deleted: summary.deletes,
        held: summary.held,
        problems: summary.problems,
    }
}

/// Returns a name as it is where it is plain text, else with control characters escaped.
fn shown(bytes: &[u8]) -> String {
    let text = crate::tree::quote(bytes);
    text.get(1..text.len() - 1).unwrap_or_default().to_owned()
}

/// Returns a text of a remote side without control characters.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}
