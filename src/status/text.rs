//! The report as text: what `speil status` prints and what the status file holds.

use std::fmt::Write;

use super::{CopyReport, MismatchReport, Report, ScrubReport, SyncReport, TargetReport};
use crate::monitor::{counted, sized, spanned};

/// No estimate is given before so many seconds of a first copy, nor before a hundredth of it.
const EARLY: u64 = 5;

/// Returns the report as text for people. Writing to a string cannot fail.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    if let Some(error) = &report.refused_reload {
        let _ = writeln!(out, "new configuration refused, the old one stays in force: {error}");
    }
    for sync in &report.syncs {
        sync_text(&mut out, sync, report.time);
    }
    out
}

fn sync_text(out: &mut String, sync: &SyncReport, now: u64) {
    let watched = counted(sync.watched as u64, "directory", "directories");
    let _ = writeln!(out, "{}  {}  {watched} watched", sync.name, sync.source);
    for problem in &sync.watch_problems {
        let _ = writeln!(out, "  watch: {problem}");
    }
    if !sync.running {
        let _ = writeln!(out, "  not started: {}", sync.why_not());
    }
    let common = common_error(&sync.targets);
    if let Some((error, hint)) = common {
        let _ = writeln!(out, "  {error}");
        if let Some(hint) = hint {
            let _ = writeln!(out, "  hint: {hint}");
        }
    }
    for target in &sync.targets {
        target_text(out, target, common.is_none(), now);
    }
}

/// Returns what is in the way of several targets alike, and its hint: the role of the source, say.
fn common_error(targets: &[TargetReport]) -> Option<(&str, Option<&str>)> {
    let [first, others @ ..] = targets else { return None };
    let is_same = |other: &TargetReport| (&other.error, &other.hint) == (&first.error, &first.hint);
    let error = first.error.as_deref().filter(|_| !others.is_empty() && others.iter().all(is_same))?;
    Some((error, first.hint.as_deref()))
}

fn target_text(out: &mut String, target: &TargetReport, tells_error: bool, now: u64) {
    let _ = writeln!(
        out,
        "  {}  {} for {}  {}  {} queued  {}, {} sent  {}",
        target.name,
        target.state.replace('_', " "),
        spanned(now.saturating_sub(target.since)),
        target.lag(),
        target.queued,
        counted(target.files, "file", "files"),
        sized(target.sent_bytes),
        target.target,
    );
    if let Some(error) = target.error.as_ref().filter(|_| tells_error) {
        let _ = writeln!(out, "    {error}");
    }
    if let Some(hint) = target.hint.as_ref().filter(|_| tells_error) {
        let _ = writeln!(out, "    hint: {hint}");
    }
    if let Some(until) = target.paused_until {
        let _ = writeln!(out, "    goes on by itself in {}", spanned(until.saturating_sub(now)));
    }
    if let Some(copy) = target.copy.as_ref().filter(|_| target.state == "first_pass") {
        let _ = writeln!(out, "    {}", copy_text(copy, target, now));
    }
    if let Some(at) = target.refilled {
        let ago = spanned(now.saturating_sub(at));
        let _ = writeln!(
            out,
            "    {ago} ago the target's directory was removed, or an empty one took its place: all was sent again"
        );
    }
    if let Some(last) = target.last_pass {
        let ago = spanned(now.saturating_sub(last));
        let differed = counted(target.last_pass_different, "entry", "entries");
        let _ = writeln!(out, "    last pass {ago} ago, {differed} differed");
    }
    if target.unverified_files > 0 {
        let files = counted(target.unverified_files, "file", "files");
        let _ = writeln!(out, "    to be verified: {files}, {}", sized(target.unverified_bytes));
    }
    if let Some(scrub) = &target.scrub {
        scrub_text(out, scrub, now);
    }
    if target.held > 0 {
        let reason = target.held_reason.as_deref().unwrap_or("held");
        let held = counted(target.held as u64, "delete", "deletes");
        let _ = writeln!(
            out,
            "    {held} held: {reason}; speil approve carries them out, speil discard dismisses them"
        );
        if !target.held_first.is_empty() {
            let _ = writeln!(out, "    the first of them: {}", target.held_first.join(", "));
        }
    }
    for problem in &target.problems {
        let _ = writeln!(
            out,
            "    {} {}: {}; tried {}, again in {} s",
            problem.operation,
            problem.path,
            problem.error,
            counted(u64::from(problem.attempts), "time", "times"),
            problem.retry_ms / 1000
        );
    }
}

/// Says how far a first copy is, how long it will take where that can be said, and what is being sent.
pub fn copy_text(copy: &CopyReport, target: &TargetReport, now: u64) -> String {
    let current = copy.current.as_ref().map_or_else(String::new, |path| format!(", now {path}"));
    amount_text(copy, target, now) + &current
}

fn amount_text(copy: &CopyReport, target: &TargetReport, now: u64) -> String {
    if copy.total_entries == 0 && copy.done_entries == 0 {
        return "first copy: nothing is read yet".to_owned();
    }
    let entries = counted(copy.total_entries, "entry", "entries");
    if !copy.complete {
        return format!("first copy: {} sent, {entries} read, still counting", sized(copy.done_bytes));
    }
    let lasted = now.saturating_sub(target.since);
    // The last seconds are known only where somebody looks at them all the time.
    let rate = if target.rate > 0 { target.rate } else { copy.done_bytes / lasted.max(1) };
    let done = format!(
        "first copy: {} of {}, {} of {entries}, {}/s",
        sized(copy.done_bytes),
        sized(copy.total_bytes),
        copy.done_entries,
        sized(rate)
    );
    let left = copy.total_bytes.saturating_sub(copy.done_bytes);
    let early = lasted < EARLY || copy.done_bytes < copy.total_bytes / 100;
    match left.checked_div(rate) {
        Some(seconds) if !early && left > 0 => format!("{done}, {} left", spanned(seconds.max(1))),
        _ => done,
    }
}

fn scrub_text(out: &mut String, scrub: &ScrubReport, now: u64) {
    let files = counted(scrub.files, "file", "files");
    let rotten = counted(scrub.mismatches.len() as u64, "mismatch", "mismatches");
    let _ = match (scrub.last, scrub.running) {
        (_, true) => writeln!(out, "    scrub under way, {files} read, {rotten}"),
        (Some(last), _) => {
            let ago = spanned(now.saturating_sub(last));
            writeln!(out, "    last scrub {ago} ago, {files} read, {rotten}")
        }
        (None, false) => writeln!(out, "    not scrubbed yet"),
    };
    for found in &scrub.mismatches {
        let MismatchReport { path, source, target, suspect, .. } = found;
        let then = if found.repaired { "; sent again" } else { "" };
        let _ =
            writeln!(out, "    rotten {path}: source {source}, target {target}; suspect: {suspect}{then}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_copy_has_no_estimate_before_it_has_a_rate() {
        let copy = |done_bytes, complete| CopyReport {
            done_entries: 3,
            total_entries: 12_000,
            done_bytes,
            total_bytes: 1_000_000,
            complete,
            current: None,
        };
        let target = |rate| TargetReport { since: 100, rate, ..TargetReport::default() };
        let text = |copy: &CopyReport, rate, now| copy_text(copy, &target(rate), now);
        assert_eq!(text(&CopyReport::default(), 0, 100), "first copy: nothing is read yet");
        assert_eq!(
            text(&copy(500_000, false), 1000, 200),
            "first copy: 500.0 kB sent, 12000 entries read, still counting"
        );
        let known = "first copy: 500.0 kB of 1.0 MB, 3 of 12000 entries, 1.0 kB/s";
        assert_eq!(text(&copy(500_000, true), 1000, 104), known);
        assert_eq!(text(&copy(500_000, true), 1000, 105), format!("{known}, 8 min left"));
        let current = CopyReport { current: Some("\"big\"".into()), ..copy(500_000, true) };
        assert_eq!(text(&current, 1000, 104), format!("{known}, now \"big\""));
        assert!(!text(&copy(9_999, true), 1000, 200).contains("left"));
        assert!(text(&copy(500_000, true), 0, 200).ends_with("5.0 kB/s, 100 s left"));
    }
}
