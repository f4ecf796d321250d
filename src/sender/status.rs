//! What is known of one target at this moment, for status, metrics and lag.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::latest::Latest;
use super::scrubbed::Scrubbed;
use crate::batch::{ChangeKind, Scope};
use crate::event::RescanReason;
use crate::monitor::{Counters, PassSummary};
use crate::reconcile::Population;
use crate::tree::RelPath;

/// Problems that are kept one by one; more collapse into a count.
const PROBLEMS_MAX: usize = 1000;
/// First and longest time between two tries of a path with a Problem.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(600);

/// What a target is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// No connection was made yet.
    #[default]
    Connecting,
    /// The first pass is under way.
    FirstPass,
    /// Changes go out as they happen.
    Live,
    /// There is no connection.
    Down,
    /// An operator holds it back.
    Paused,
}

/// One failure of a path.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// What failed, as one verb.
    pub operation: &'a str,
    /// The errno.
    pub errno: i32,
    /// Whether it failed on the target.
    pub on_target: bool,
    /// Whether a comparison failed to see what is there: sending the path does not mend that.
    pub unseen: bool,
    /// Since when the change waits that failed.
    pub since: Instant,
}

/// A path that could not be mirrored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TargetProblem {
    /// What failed, as one verb.
    pub operation: String,
    /// The errno.
    pub errno: i32,
    /// Whether it failed on the target.
    pub on_target: bool,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// When it failed first.
    #[serde(skip)]
    pub first: SystemTime,
    /// Since when the oldest change waits that failed.
    #[serde(skip)]
    pub since: Instant,
    /// When it is tried again.
    #[serde(skip)]
    pub retry_at: Instant,
    /// Whether only another comparison can solve it.
    #[serde(skip)]
    unseen: bool,
    /// The commit after which it counts as solved, while a try is under way.
    #[serde(skip)]
    trying: Option<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    state: TargetState,
    since: Option<SystemTime>,
    problems: BTreeMap<RelPath, TargetProblem>,
    last_pass: Option<(SystemTime, PassSummary)>,
    last_ack: Option<SystemTime>,
    /// Whether it was live once.
    known: bool,
    /// Version of the agent, and what the target lacks.
    agent: Option<(String, Vec<String>)>,
    rescans: BTreeMap<&'static str, u64>,
    /// Failures of paths that were not kept one by one.
    more_problems: u64,
    error: Option<String>,
}

/// What was last done for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deed {
    /// The batch that brought it.
    pub batch: u64,
    /// When the target acknowledged it.
    pub at: SystemTime,
    /// What it was, as a participle.
    pub what: &'static str,
}

/// What is known of one target; shared by its session and whoever asks.
#[derive(Debug, Default)]
pub struct TargetStatus {
    /// Counters of the target's life in this process.
    pub counters: Counters,
    inner: Mutex<Inner>,
    deeds: Mutex<Latest<Deed>>,
    /// What reading everything again has told.
    pub scrubbed: Scrubbed,
    population: Mutex<Population>,
}

impl TargetStatus {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state and since when it holds.
    pub fn state(&self) -> (TargetState, Option<SystemTime>) {
        let inner = self.lock();
        (inner.state, inner.since)
    }

    /// Takes a new state; `true` if it is another one.
    pub fn enter(&self, state: TargetState, error: Option<String>) -> bool {
        let mut inner = self.lock();
        inner.error = error;
        if inner.state == state && inner.since.is_some() {
            return false;
        }
        (inner.state, inner.since) = (state, Some(SystemTime::now()));
        inner.known |= state == TargetState::Live;
        if state == TargetState::Down {
            inner.agent = None;
        }
        true
    }

    /// Whether the target was in step at some time.
    pub fn is_known(&self) -> bool {
        self.lock().known
    }

    /// Notes who answered: the agent's version, and what the target cannot hold.
    pub fn connected(&self, program: &str, lacks: &[String]) {
        self.lock().agent = Some((program.to_owned(), lacks.to_vec()));
    }

    /// Returns the agent's version and what the target cannot hold, while there is a connection.
    pub fn agent(&self) -> Option<(String, Vec<String>)> {
        self.lock().agent.clone()
    }

    /// Counts a comparison.
    pub fn rescanned(&self, reason: RescanReason) {
        *self.lock().rescans.entry(reason.word()).or_default() += 1;
    }

    /// Returns the number of comparisons by reason.
    pub fn rescans(&self) -> BTreeMap<&'static str, u64> {
        self.lock().rescans.clone()
    }

    /// Returns how many failures of paths are not among [`TargetStatus::problems`].
    pub fn more_problems(&self) -> u64 {
        self.lock().more_problems
    }

    /// Returns why there is no connection.
    pub fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }

    /// Notes a failure of a path; `true` if it is a new one or another one.
    pub fn problem(&self, path: &RelPath, failure: &Failure<'_>) -> bool {
        let Failure { operation, errno, on_target, unseen, since } = *failure;
        let mut inner = self.lock();
        let attempts = inner.problems.get(path).map_or(0, |old| old.attempts);
        let new = inner.problems.get(path).is_none_or(|old| old.errno != errno);
        if attempts == 0 && inner.problems.len() >= PROBLEMS_MAX {
            inner.more_problems += 1;
            return false;
        }
        let first = inner.problems.get(path).map_or_else(SystemTime::now, |old| old.first);
        let since = inner.problems.get(path).map_or(since, |old| old.since.min(since));
        let pause = RETRY_FIRST.saturating_mul(1 << attempts.min(10)).min(RETRY_LONGEST);
        let problem = TargetProblem {
            operation: operation.to_owned(),
            errno,
            on_target,
            attempts: attempts + 1,
            first,
            since,
            retry_at: Instant::now() + pause,
            unseen,
            trying: None,
        };
        inner.problems.insert(path.clone(), problem);
        new
    }

    /// Notes that a path was sent once more under `commit`, whatever the reason.
    pub fn tried(&self, path: &RelPath, commit: u64) {
        if let Some(problem) = self.lock().problems.get_mut(path).filter(|problem| !problem.unseen) {
            problem.trying = Some(commit);
        }
    }

    /// Has every path tried at once that failed with a change up to `until`, and is not being tried:
    /// somebody waits.
    pub fn hurry(&self, until: Instant) {
        let now = Instant::now();
        for problem in self.lock().problems.values_mut().filter(|p| p.trying.is_none() && p.since <= until) {
            problem.retry_at = problem.retry_at.min(now);
        }
    }

    /// Returns the paths whose next try is due, with since when their change waits, and marks them as being
    /// tried under `commit`.
    pub fn due(&self, now: Instant, commit: u64) -> Vec<(RelPath, Instant)> {
        let mut inner = self.lock();
        let due = inner.problems.iter_mut().filter(|(_, p)| p.trying.is_none() && p.retry_at <= now);
        due.map(|(path, problem)| {
            problem.trying = Some(commit);
            (path.clone(), problem.since)
        })
        .collect()
    }

    /// When the next try of a path is due.
    pub fn next_retry(&self) -> Option<Instant> {
        self.lock().problems.values().filter(|p| p.trying.is_none()).map(|p| p.retry_at).min()
    }

    /// Counts as solved what was tried up to `commit` and did not fail again.
    pub fn acknowledged(&self, commit: u64) {
        let mut inner = self.lock();
        inner.last_ack = Some(SystemTime::now());
        inner.problems.retain(|_, problem| problem.trying.is_none_or(|trying| trying > commit));
    }

    /// Counts as solved what was looked at again up to `commit` and needed nothing to be sent: nothing will
    /// be acknowledged for it.
    pub fn looked(&self, commit: u64) {
        let mut inner = self.lock();
        if !inner.problems.is_empty() {
            inner.problems.retain(|_, problem| problem.trying.is_none_or(|trying| trying > commit));
        }
    }

    /// Follows a rename with the Problems of what was renamed: its next try is of the new name.
    pub fn rename(&self, from: &RelPath, to: &RelPath) {
        let mut inner = self.lock();
        let moved: Vec<RelPath> =
            inner.problems.keys().filter(|path| path.is_within(from)).cloned().collect();
        for path in moved {
            if let (Some(problem), Some(new)) = (inner.problems.remove(&path), path.rebase(from, to)) {
                inner.problems.insert(new, problem);
            }
        }
    }

    /// Forgets the Problems of a path and everything below it: a new session tries anew.
    pub fn retry_all(&self) {
        for problem in self.lock().problems.values_mut() {
            problem.trying = None;
            problem.retry_at = Instant::now();
        }
    }

    /// Notes what an acknowledged batch did.
    pub fn delivered<'a>(&self, batch: u64, changes: impl Iterator<Item = &'a ChangeKind>) {
        let at = SystemTime::now();
        let mut deeds = self.deeds.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let what = match change {
                ChangeKind::Update { scope: Scope::Attributes, .. } => "metadata sent",
                ChangeKind::Update { .. } => "sent",
                ChangeKind::Rename { .. } => "renamed",
                ChangeKind::Delete { .. } => "deleted",
                ChangeKind::Name { .. } | ChangeKind::Rescan { .. } => continue,
            };
            deeds.insert(change.path().clone(), Deed { batch, at, what });
        }
    }

    /// Returns what was last done for a path, if that was lately.
    pub fn deed(&self, path: &RelPath) -> Option<Deed> {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }

    /// Returns the standing Problem of a path, or of the nearest directory above it that has one.
    pub fn problem_of(&self, path: &RelPath) -> Option<(RelPath, TargetProblem)> {
        let inner = self.lock();
        let mut here = Some(path.clone());
        while let Some(path) = here {
            if let Some(problem) = inner.problems.get(&path) {
                return Some((path, problem.clone()));
            }
            here = path.parent();
        }
        None
    }

    /// Returns the standing Problems.
    pub fn problems(&self) -> Vec<(RelPath, TargetProblem)> {
        self.lock().problems.iter().map(|(path, problem)| (path.clone(), problem.clone())).collect()
    }

    fn people(&self) -> MutexGuard<'_, Population> {
        self.population.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that entries have come to the tree.
    pub fn came(&self, entries: usize, at: Instant) {
        self.people().add(entries, at);
    }

    /// Notes that entries are removed from the target.
    pub fn went(&self, entries: usize, at: Instant) {
        self.people().remove(entries, at);
    }

    /// Returns about how many entries the tree holds, and the most that it held within ten minutes. Passes
    /// count, events tell of some of what comes and goes in between.
    pub fn population(&self, now: Instant) -> (usize, usize) {
        self.people().counts(now)
    }

    /// Notes the end of a pass over the whole tree.
    pub fn passed(&self, summary: PassSummary) {
        self.people().set(usize::try_from(summary.entries).unwrap_or(usize::MAX), Instant::now());
        let mut inner = self.lock();
        inner.last_pass = Some((SystemTime::now(), summary));
        // What is not kept one by one is found again by the next pass, or is solved.
        inner.more_problems = 0;
    }

    /// Returns the last pass over the whole tree.
    pub fn last_pass(&self) -> Option<(SystemTime, PassSummary)> {
        self.lock().last_pass.clone()
    }

    /// Returns when the target last acknowledged.
    pub fn last_ack(&self) -> Option<SystemTime> {
        self.lock().last_ack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    #[test]
    fn a_path_that_failed_is_tried_again_under_the_name_that_it_has_by_then() {
        let (status, now) = (TargetStatus::default(), Instant::now());
        let failure =
            Failure { operation: "write", errno: libc::ENOSPC, on_target: true, unseen: false, since: now };
        for name in ["d/f", "d0", "e"] {
            assert!(status.problem(&path(name), &failure));
        }
        status.rename(&path("d"), &path("e/g"));
        let later = now + RETRY_LONGEST;
        let due: Vec<RelPath> = status.due(later, 7).into_iter().map(|(path, _)| path).collect();
        assert_eq!(due, [path("d0"), path("e"), path("e/g/f")]);
        // What is tried as it is renamed counts as solved all the same.
        status.rename(&path("e"), &path("h"));
        status.acknowledged(7);
        assert_eq!(status.problems(), []);
    }
}
