//! What is wrong in a report, and the report as a check of Nagios: one word, one line, one exit code.
//!
//! **In → Out:** a report → complaints; what `speil status --check` prints and ends with. Pure.

use super::{Report, SyncReport, TargetReport};
use crate::monitor::counted;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The configuration that was to be read again is refused.
    Refused,
    /// A sync does not run.
    NotStarted,
    /// There is no connection.
    Down,
    /// Somebody paused it.
    Paused,
    /// The source is a standby and waits for something.
    Waiting,
    /// It was not in step since the daemon started.
    FirstCopy,
    /// Nothing is known yet.
    Connecting,
    /// Deletes are held back.
    Held,
    /// Paths fail.
    Failing,
    /// It lags.
    Behind,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// How bad it is.
    pub grade: Grade,
    /// Name of the sync; empty for the daemon.
    pub sync: String,
    /// Name of the target; empty for the sync as a whole.
    pub target: String,
    /// What.
    pub cause: Cause,
    /// What, in words that follow the names.
    pub why: String,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
}

impl Complaint {
    /// Returns whom it is about.
    pub fn subject(&self) -> String {
        match (self.sync.as_str(), self.target.as_str()) {
            ("", _) => "the new configuration".to_owned(),
            (sync, "") => sync.to_owned(),
            (sync, target) => format!("{sync} → {target}"),
        }
    }

    /// Returns it as a sentence without its end.
    pub fn text(&self) -> String {
        format!("{} {}", self.subject(), self.why)
    }
}

/// Returns all that is wrong; of each target the worst first. A target may lag by `lag_max_ms`.
pub fn complaints(report: &Report, lag_max_ms: u64) -> Vec<Complaint> {
    let mut all = Vec::new();
    let mut complain = |grade, sync: &str, target: &str, cause, why, hint| {
        let (sync, target) = (sync.to_owned(), target.to_owned());
        all.push(Complaint { grade, sync, target, cause, why, hint });
    };
    if let Some(error) = &report.refused_reload {
        let hint = "the old one stays in force; speil check CONFIG says more".to_owned();
        complain(Grade::Warning, "", "", Cause::Refused, format!("is refused: {error}"), Some(hint));
    }
    for sync in &report.syncs {
        if !sync.running {
            let why = format!("not started: {}", sync.why_not());
            complain(Grade::Critical, &sync.name, "", Cause::NotStarted, why, None);
        }
        for target in &sync.targets {
            for (grade, cause, why) in judge(target, lag_max_ms) {
                let names = format!("{} {}", sync.name, target.name);
                let hint = match cause {
                    Cause::Held => Some(format!(
                        "speil approve {names} carries them out; speil discard {names} dismisses them"
                    )),
                    _ => target.hint.clone(),
                };
                complain(grade, &sync.name, &target.name, cause, why, hint);
            }
        }
    }
    all
}

/// How bad things are; ordered, as plugins of Nagios end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Every target is in step.
    Ok,
    /// Some target is not, and has a connection.
    Warning,
    /// A target is down, or a sync does not run.
    Critical,
    /// Nobody answered.
    Unknown,
}

impl Grade {
    /// Returns what a plugin ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the line for what was found.
    pub fn line(self, found: &str) -> String {
        let word = match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        };
        // Behind a bar are figures.
        format!("SPEIL {word} - {}", found.replace('|', "/"))
    }
}

/// Judges a report; a target may lag by `lag_max_ms`. Returns the line without its end.
pub fn check(report: &Report, lag_max_ms: u64) -> (Grade, String) {
    let mut wrong: Vec<Complaint> = complaints(report, lag_max_ms);
    // One of each target.
    wrong.dedup_by(|next, first| (&next.sync, &next.target) == (&first.sync, &first.target));
    // The worst first; of equals in the order of the configuration.
    wrong.sort_by_key(|complaint| std::cmp::Reverse(complaint.grade));
    let targets = || report.syncs.iter().flat_map(|sync| &sync.targets);
    let grade = wrong.first().map_or(Grade::Ok, |complaint| complaint.grade);
    let found = match wrong.is_empty() {
        true => well(report),
        false => wrong.iter().map(Complaint::text).collect::<Vec<_>>().join("; "),
    };
    let lag = targets().map(|target| target.lag_ms).max().unwrap_or(0);
    let seconds = |ms: u64| std::time::Duration::from_millis(ms).as_secs_f64();
    let figures = format!(
        "lag={:.3}s;{} problems={} held={} down={}",
        seconds(lag),
        seconds(lag_max_ms),
        targets().map(TargetReport::failing).sum::<u64>(),
        targets().map(|target| target.held).sum::<usize>(),
        targets().filter(|target| target.state == "down").count(),
    );
    (grade, format!("{} | {figures}", grade.line(&found)))
}

/// Returns what is told of a report in which nothing is wrong.
fn well(report: &Report) -> String {
    let standing: Vec<&SyncReport> =
        report.syncs.iter().filter(|sync| sync.targets.iter().any(|t| t.state == "standby")).collect();
    let targets = report.syncs.iter().flat_map(|sync| &sync.targets).filter(|t| t.state != "standby");
    let count = targets.count() as u64;
    let mut told = Vec::new();
    if count > 0 || standing.is_empty() {
        told.push(format!("{} in step", counted(count, "target", "targets")));
    }
    told.extend(standing.iter().map(|sync| match sync.generation {
        Some(n) => format!("{} is a standby at generation {n}", sync.name),
        None => format!("{} is a standby", sync.name),
    }));
    told.join("; ")
}

/// Returns what is wrong with a target, the worst first.
fn judge(target: &TargetReport, lag_max_ms: u64) -> Vec<(Grade, Cause, String)> {
    let warning = |cause: Cause, why: String| vec![(Grade::Warning, cause, why)];
    match target.state.as_str() {
        "down" => {
            let error = target.error.as_deref().unwrap_or("no connection");
            return vec![(Grade::Critical, Cause::Down, format!("is down: {error}"))];
        }
        "live" => {}
        "paused" => return warning(Cause::Paused, "is paused".to_owned()),
        // It sends nothing, as it should; what it waits for is told as an error.
        "standby" => {
            let error = target.error.as_deref().map(|error| format!("is not sent to: {error}"));
            return error.map_or_else(Vec::new, |why| warning(Cause::Waiting, why));
        }
        // A target that was in step is compared again; its lag says how far it is behind.
        "first_pass" if target.known => {}
        "first_pass" => return warning(Cause::FirstCopy, "is in its first copy".to_owned()),
        other => return warning(Cause::Connecting, format!("is {}", other.replace('_', " "))),
    }
    let mut found = Vec::new();
    if target.held > 0 {
        let held = counted(target.held as u64, "delete", "deletes");
        found.extend(warning(Cause::Held, format!("holds {held} back")));
    }
    if let Some(failure) = target.failure() {
        found.extend(warning(Cause::Failing, format!("fails: {failure}")));
    }
    if target.lag_ms > lag_max_ms {
        found.extend(warning(Cause::Behind, format!("is behind: {}", target.lag())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::ProblemReport;
    use super::*;

    fn report(targets: Vec<TargetReport>) -> Report {
        let sync = SyncReport { name: "www".into(), running: true, targets, ..SyncReport::default() };
        Report { syncs: vec![sync], ..Report::default() }
    }

    fn target(name: &str) -> TargetReport {
        TargetReport { name: name.into(), state: "live".into(), known: true, ..TargetReport::default() }
    }

    #[test]
    fn the_worst_is_told_first_and_decides() {
        let live = report(vec![target("a"), target("b")]);
        let figures = "lag=0.000s;10 problems=0 held=0 down=0";
        assert_eq!(check(&live, 10_000), (Grade::Ok, format!("SPEIL OK - 2 targets in step | {figures}")));

        let held = TargetReport { held: 3, ..target("a") };
        let down = TargetReport { state: "down".into(), error: Some("a | b".into()), ..target("b") };
        let (grade, line) = check(&report(vec![held, down]), 10_000);
        assert_eq!((grade, grade.code()), (Grade::Critical, 2));
        assert!(
            line.starts_with("SPEIL CRITICAL - www → b is down: a / b; www → a holds 3 deletes back | "),
            "{line}"
        );
    }

    #[test]
    fn each_way_of_not_being_in_step_is_a_warning() {
        let problems = vec![ProblemReport { path: "\"x\"".into(), ..ProblemReport::default() }];
        for (target, words) in [
            (TargetReport { lag_ms: 10_001, ..target("a") }, "is behind: lag 10.001 s"),
            (TargetReport { held: 1, ..target("a") }, "holds 1 delete back"),
            (TargetReport { problems, ..target("a") }, "fails:"),
            (TargetReport { state: "paused".into(), ..target("a") }, "is paused"),
            (TargetReport { state: "connecting".into(), ..target("a") }, "is connecting"),
            (
                TargetReport { state: "first_pass".into(), known: false, ..target("a") },
                "is in its first copy",
            ),
        ] {
            let (grade, line) = check(&report(vec![target]), 10_000);
            assert_eq!(grade, Grade::Warning, "{line}");
            assert!(line.contains(&format!("www → a {words}")), "{line}");
        }
        let again = TargetReport { state: "first_pass".into(), ..target("a") };
        assert_eq!(check(&report(vec![again]), 10_000).0, Grade::Ok);
        let refused = Report { refused_reload: Some("no".into()), ..report(vec![target("a")]) };
        assert_eq!(check(&refused, 10_000).0, Grade::Warning);
        // A standby sends nothing, which is as it should be while it waits for nothing.
        let standby = TargetReport { state: "standby".into(), known: false, ..target("a") };
        let mut standing = report(vec![standby.clone()]);
        standing.syncs[0].generation = Some(3);
        let (grade, line) = check(&standing, 10_000);
        assert_eq!(grade, Grade::Ok);
        assert!(line.starts_with("SPEIL OK - www is a standby at generation 3 | "), "{line}");
        let waits = TargetReport { error: Some("it waits".into()), ..standby };
        assert_eq!(check(&report(vec![waits]), 10_000).0, Grade::Warning);
        let mut idle = report(Vec::new());
        idle.syncs[0].running = false;
        assert_eq!(check(&idle, 10_000).0, Grade::Critical);
    }
}
