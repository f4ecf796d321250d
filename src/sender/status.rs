//! What is known of one target at this moment, for status, metrics and lag.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::lru::Lru;
use super::mailbox::counts_as_lag;
use super::room::{Need, Room, Shortage, pause};
use super::scrubbed::Scrubbed;
use super::suspects::Suspects;
use crate::batch::{Change, ChangeKind, Extent};
use crate::event::{Age, Moment, RescanReason};
use crate::monitor::{Counters, PassSummary};
use crate::reconcile::{Count, Population};
use crate::tree::RelPath;

/// Problems that are kept one by one; more collapse into a count.
const PROBLEMS_MAX: usize = 1000;

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
    /// The source is a standby itself, and sends nothing.
    Standby,
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
    /// How old the change is that failed.
    pub age: Age,
    /// What it needs on the target, where that may be why.
    pub need: Option<Need>,
}

/// How far the next try of a path with a Problem has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trying {
    /// It is to be looked at, or is being sent.
    Asked,
    /// It counts as solved after this commit.
    Sent(u64),
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
    /// What failed was not changed before this.
    #[serde(skip)]
    change: Moment,
    /// When it is tried again.
    #[serde(skip)]
    pub retry_at: Instant,
    /// Whether only another comparison can solve it.
    #[serde(skip)]
    unseen: bool,
    /// While a try is under way.
    #[serde(skip)]
    trying: Option<Trying>,
    /// What the target lacks for it, if that is why it waits.
    #[serde(skip)]
    short: Option<Shortage>,
}

impl TargetProblem {
    fn age(&self) -> Age {
        Age::new(self.since, self.change)
    }
}

/// Whether an operation of the target's is one on attributes: it has the content then.
fn is_of_attributes(operation: &str) -> bool {
    const OPERATIONS: [&str; 5] =
        ["set owner", "set mode", "set ACL", "set extended attribute", "remove extended attribute"];
    OPERATIONS.contains(&operation)
}

#[derive(Debug)]
struct Inner {
    state: TargetState,
    since: SystemTime,
    /// Whether the state was entered, and not only the one that everything begins with.
    entered: bool,
    problems: BTreeMap<RelPath, TargetProblem>,
    room: Room,
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

impl Default for Inner {
    fn default() -> Self {
        Self {
            state: TargetState::default(),
            since: SystemTime::now(),
            entered: false,
            problems: BTreeMap::new(),
            room: Room::default(),
            last_pass: None,
            last_ack: None,
            known: false,
            agent: None,
            rescans: BTreeMap::new(),
            more_problems: 0,
            error: None,
        }
    }
}

impl Inner {
    /// Counts a failure that is not kept as one of a path.
    fn leave_out(&mut self, short: Option<Shortage>, age: Age) {
        self.more_problems += 1;
        if let Some(short) = short {
            self.room.more(short, age);
        }
    }

    /// Whether a path of this size is being tried.
    fn is_tried(&self, short: Shortage) -> bool {
        self.problems.values().any(|p| p.short == Some(short) && p.trying.is_some())
    }

    /// Returns the paths that are to find out whether there is room by now.
    fn probes(&mut self, now: Instant) -> Vec<RelPath> {
        let mut found = Vec::new();
        loop {
            let before = found.len();
            let mut unwanted = Vec::new();
            for (short, until) in self.room.probes() {
                let mut waiting = self.problems.iter().filter(|(_, p)| p.short == Some(short));
                match waiting.clone().max_by_key(|(_, p)| p.attempts) {
                    None => unwanted.push(short),
                    Some(_) if until > now || waiting.any(|(_, p)| p.trying.is_some()) => {}
                    Some((path, _)) if found.contains(path) => {}
                    Some((path, _)) => found.push(path.clone()),
                }
            }
            // Sizes that nothing waits with any more keep nobody waiting.
            let ended = unwanted.is_empty() && found.len() == before;
            unwanted.into_iter().for_each(|short| self.room.solved(short));
            if ended {
                return found;
            }
        }
    }

    fn solve(&mut self, solved: impl Fn(Trying) -> bool) {
        let room = &mut self.room;
        self.problems.retain(|_, problem| {
            let solved = problem.trying.is_some_and(&solved);
            if let Some(short) = problem.short.filter(|_| solved) {
                room.solved(short);
            }
            !solved
        });
    }
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
    deeds: Mutex<Lru<Deed>>,
    /// What reading everything again has told.
    pub scrubbed: Scrubbed,
    /// What is to be verified.
    pub suspects: Suspects,
    population: Mutex<Population>,
    refilled: Mutex<Option<SystemTime>>,
}

impl TargetStatus {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state and since when it holds.
    pub fn state(&self) -> (TargetState, SystemTime) {
        let inner = self.lock();
        (inner.state, inner.since)
    }

    /// Takes a new state; `true` if it is another one.
    pub fn enter(&self, state: TargetState, error: Option<String>) -> bool {
        let mut inner = self.lock();
        inner.error = error;
        if inner.state == state && inner.entered {
            return false;
        }
        (inner.state, inner.since, inner.entered) = (state, SystemTime::now(), true);
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

    /// Notes that the target's directory was found empty, and is filled again.
    pub(super) fn refills(&self) {
        *self.refilled.lock().unwrap_or_else(PoisonError::into_inner) = Some(SystemTime::now());
    }

    /// Returns when the target's directory was found empty last, though this mirror had been there.
    pub fn refilled(&self) -> Option<SystemTime> {
        *self.refilled.lock().unwrap_or_else(PoisonError::into_inner)
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
        let Failure { operation, errno, on_target, unseen, age, need } = *failure;
        let (mut inner, now) = (self.lock(), Instant::now());
        let old = inner.problems.get(path);
        // What fails before its time, in passing, is no further attempt and delays the next one by nothing.
        let early = old.filter(|old| old.short.is_none()).map(|old| old.retry_at).filter(|at| *at > now);
        let attempts = old.map_or(0, |old| old.attempts) + u32::from(early.is_none());
        let new = old.is_none_or(|old| old.errno != errno);
        let first = old.map_or_else(SystemTime::now, |old| old.first);
        let Age { since, change } = old.map_or(age, |old| old.age().join(age));
        let full = old.is_none() && inner.problems.len() >= PROBLEMS_MAX;
        // An attribute that does not fit is too large, whatever room there is.
        let short = need
            .filter(|_| on_target && !is_of_attributes(operation))
            .and_then(|need| Shortage::of(errno, need));
        let retry_at = match short {
            Some(short) => inner.room.failed(short, attempts, now),
            None => early.unwrap_or(now + pause(attempts)),
        };
        if full {
            inner.leave_out(short, Age { since, change });
            return false;
        }
        let operation = operation.to_owned();
        let problem = TargetProblem {
            operation,
            errno,
            on_target,
            attempts,
            first,
            since,
            change,
            retry_at,
            unseen,
            trying: None,
            short,
        };
        inner.problems.insert(path.clone(), problem);
        new
    }

    /// Whether a change that needs room had better wait: something that needs no more did not fit. It is
    /// kept as a Problem then, and tried once there is room; `tell` is called with the errno of a new one.
    pub fn waits_for_room(&self, path: &RelPath, need: Need, age: Age, tell: impl FnOnce(i32)) -> bool {
        let mut inner = self.lock();
        let Some((short, retry_at)) = inner.room.lacks(need) else { return false };
        let full = inner.problems.len() >= PROBLEMS_MAX;
        match inner.problems.get_mut(path) {
            Some(problem) if problem.trying.is_some() => return false,
            Some(problem) => {
                let Age { since, change } = problem.age().join(age);
                (problem.since, problem.change) = (since, change);
                (problem.errno, problem.short) = (short.errno(), Some(short));
                return true;
            }
            None if full => inner.leave_out(Some(short), age),
            None => {
                let problem = TargetProblem {
                    operation: "write".to_owned(),
                    errno: short.errno(),
                    on_target: true,
                    attempts: 0,
                    first: SystemTime::now(),
                    since: age.since,
                    change: age.change,
                    retry_at,
                    unseen: false,
                    trying: None,
                    short: Some(short),
                };
                inner.problems.insert(path.clone(), problem);
                drop(inner);
                tell(short.errno());
            }
        }
        true
    }

    /// Takes in that the target has deleted something.
    pub fn freed(&self) {
        self.lock().room.freed();
    }

    /// Notes that a path was sent once more under `commit`, whatever the reason.
    pub fn tried(&self, path: &RelPath, commit: u64) {
        if let Some(problem) = self.lock().problems.get_mut(path).filter(|problem| !problem.unseen) {
            problem.trying = Some(Trying::Sent(commit));
        }
    }

    /// Takes in that of the paths that are tried those that are not `under_way` needed nothing, or nothing
    /// more than what goes out under `commit`.
    pub fn settle(&self, commit: u64, under_way: impl Fn(&RelPath) -> bool) {
        let mut inner = self.lock();
        let asked = inner.problems.iter_mut().filter(|(_, problem)| problem.trying == Some(Trying::Asked));
        for (_, problem) in asked.filter(|(path, _)| !under_way(path)) {
            problem.trying = Some(Trying::Sent(commit));
        }
    }

    /// Whether the age of a change is lag. It is not where the path fails already: a problem that stands
    /// is told as one, and a target that has all else is in step.
    pub fn counts(&self, change: &Change) -> bool {
        counts_as_lag(&change.kind) && !self.lock().problems.contains_key(change.kind.path())
    }

    /// Has every path tried at once that failed with a change up to `until`, and is not being tried:
    /// somebody waits.
    pub fn hurry(&self, until: Instant) {
        let (now, mut inner) = (Instant::now(), self.lock());
        for problem in inner.problems.values_mut().filter(|p| p.trying.is_none() && p.since <= until) {
            problem.retry_at = problem.retry_at.min(now);
        }
        inner.room.hurry(now);
    }

    /// Returns the paths whose next try is due, with how old their change is and how they are to be compared,
    /// and marks them as being tried; nothing is compared where nothing but an attribute is missing.
    pub fn due(&self, now: Instant) -> Vec<(RelPath, Age, Option<RescanReason>)> {
        let mut inner = self.lock();
        let probes = inner.probes(now);
        let Inner { problems, room, .. } = &mut *inner;
        let due = problems.iter_mut().filter(|(path, problem)| {
            problem.trying.is_none()
                && match problem.short {
                    Some(short) => probes.contains(path) || !room.waits(short),
                    None => problem.retry_at <= now,
                }
        });
        let mut due: Vec<(RelPath, Age, Option<RescanReason>)> = due
            .map(|(path, problem)| {
                problem.trying = Some(Trying::Asked);
                let attribute = problem.on_target && is_of_attributes(&problem.operation);
                // Of a rename that failed the target holds the old content under the new name.
                let renamed = matches!(problem.operation.as_str(), "rename" | "update");
                let reason = if renamed { RescanReason::Arrived } else { RescanReason::Problem };
                (path.clone(), problem.age(), (!attribute).then_some(reason))
            })
            .collect();
        let all = Some(RescanReason::Problem);
        due.extend(room.take_released().map(|age| (RelPath::root(), age, all)));
        due
    }

    /// When the next try of a path is due.
    pub fn next_retry(&self) -> Option<Instant> {
        let inner = self.lock();
        let ready = inner.problems.values().filter(|p| p.trying.is_none() && p.short.is_none());
        let tries = inner.room.probes().into_iter();
        // A try that is under way ends by an answer, which wakes the session.
        let tries = tries.filter(|(short, _)| !inner.is_tried(*short)).map(|(_, until)| until);
        ready.map(|p| p.retry_at).chain(tries).min()
    }

    /// Counts as solved what was tried up to `commit` and did not fail again.
    pub fn acknowledged(&self, commit: u64) {
        let mut inner = self.lock();
        inner.last_ack = Some(SystemTime::now());
        inner.solve(|trying| matches!(trying, Trying::Sent(sent) if sent <= commit));
    }

    /// Counts as solved what was looked at again up to `commit` and needed nothing to be sent: nothing will
    /// be acknowledged for it.
    pub fn looked(&self, commit: u64) {
        self.lock().solve(|trying| match trying {
            Trying::Asked => true,
            Trying::Sent(sent) => sent <= commit,
        });
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
        let mut inner = self.lock();
        for problem in inner.problems.values_mut() {
            problem.trying = None;
            problem.retry_at = Instant::now();
        }
        inner.room.hurry(Instant::now());
    }

    /// Notes what an acknowledged batch did.
    pub fn delivered<'a>(&self, batch: u64, changes: impl Iterator<Item = &'a ChangeKind>) {
        let at = SystemTime::now();
        let mut deeds = self.deeds.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let Some(what) = deed_of(change) else { continue };
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
        let inner = self.lock();
        let until: BTreeMap<Shortage, Instant> = inner.room.probes().into_iter().collect();
        let told = inner.problems.iter().map(|(path, problem)| {
            let probe = problem.short.and_then(|short| until.get(&short)).copied();
            (path.clone(), TargetProblem { retry_at: probe.unwrap_or(problem.retry_at), ..problem.clone() })
        });
        told.collect()
    }

    fn people(&self) -> MutexGuard<'_, Population> {
        self.population.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that entries have come to the tree.
    pub fn came(&self, entries: usize) {
        self.people().add(entries);
    }

    /// Notes that entries are removed from the target.
    pub fn went(&self, entries: usize, at: Instant) {
        self.people().remove(entries, at);
    }

    /// Returns how many entries the tree holds, as far as that is known.
    pub fn population(&self, now: Instant) -> Count {
        self.people().count(now)
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

/// Returns what an acknowledged change did to its path; `None` if it did nothing.
pub(super) fn deed_of(change: &ChangeKind) -> Option<&'static str> {
    match change {
        ChangeKind::Update { scope: Extent::Attributes, .. } => Some("metadata sent"),
        ChangeKind::Update { .. } => Some("sent"),
        ChangeKind::Rename { .. } => Some("renamed"),
        ChangeKind::Delete { .. } => Some("deleted"),
        ChangeKind::Name { .. } | ChangeKind::Rescan { .. } => None,
    }
}

#[cfg(test)]
mod tests;
