//! What a running daemon tells and is told.
//!
//! **Purpose:** the schema of the control socket and of the status report.
//! **Invariant:** `schema` is raised when a field changes its meaning or goes; new fields come without.
//! **Not here:** gathering the values (`daemon`), showing them to people (`cli`).

mod explanation;

pub use explanation::{Batch, Explained, Explanation, Heard, Rule};

use serde::{Deserialize, Serialize};

use crate::monitor::Level;

/// Version of the JSON that `speil status --json` prints.
pub const SCHEMA: u32 = 1;

/// What a daemon is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// How are things?
    Status,
    /// Answer when everything written before is on the targets.
    Wait {
        /// One sync only.
        sync: Option<String>,
        /// These targets only.
        targets: Vec<String>,
        /// Longest wait in milliseconds.
        timeout_ms: Option<u64>,
    },
    /// Compare the whole tree.
    Reconcile {
        /// One sync only.
        sync: Option<String>,
    },
    /// Hold changes back.
    Pause {
        /// One sync only.
        sync: Option<String>,
    },
    /// Send again.
    Resume {
        /// One sync only.
        sync: Option<String>,
    },
    /// Write more or less of a sync, or of all, into the log.
    LogLevel {
        /// One sync only.
        sync: Option<String>,
        /// How much.
        level: Level,
    },
    /// Send held deletes.
    Approve {
        /// One sync only.
        sync: Option<String>,
        /// One target only.
        target: Option<String>,
    },
    /// Why is a path, or is it not, on the targets?
    Explain {
        /// The sync.
        sync: String,
        /// Below the source, or absolute; any bytes.
        path: Vec<u8>,
    },
    /// Forget held deletes.
    Discard {
        /// One sync only.
        sync: Option<String>,
        /// One target only.
        target: Option<String>,
    },
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// How things are.
    Status(Report),
    /// What is known of a path.
    Explained(Box<Explanation>),
    /// It is done; to how many syncs or entries.
    Done {
        /// How many.
        count: usize,
    },
    /// It is not done.
    Failed {
        /// Why, in one line.
        error: String,
        /// What `speil` ends with: 1 usage, 12 down, 30 timeout.
        code: u8,
    },
}

/// How things are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since the epoch.
    pub time: u64,
    /// The syncs.
    pub syncs: Vec<SyncReport>,
}

/// One sync.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SyncReport {
    /// Its name.
    pub name: String,
    /// The source directory.
    pub source: String,
    /// Directories that are watched.
    pub watched: usize,
    /// What stands in the way of a full watch.
    pub watch_problems: Vec<String>,
    /// The targets.
    pub targets: Vec<TargetReport>,
}

/// One target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub target: String,
    /// `connecting`, `first_pass`, `live`, `down` or `paused`.
    pub state: String,
    /// Seconds since the epoch at which the state began.
    pub since: u64,
    /// Why there is no connection.
    pub error: Option<String>,
    /// Age in milliseconds of the oldest change that is not acknowledged.
    pub lag_ms: u64,
    /// Changes that wait.
    pub queued: usize,
    /// Deletes that are held back.
    pub held: usize,
    /// Why they are.
    pub held_reason: Option<String>,
    /// Bytes that went out since the start.
    pub sent_bytes: u64,
    /// Bytes that came in since the start.
    pub received_bytes: u64,
    /// Commits acknowledged since the start.
    pub batches: u64,
    /// Files sent since the start.
    pub files: u64,
    /// Entries that passes found different since the start.
    pub repairs: u64,
    /// Seconds since the epoch at which the last full pass ended.
    pub last_pass: Option<u64>,
    /// What it found different.
    pub last_pass_different: u64,
    /// Paths that fail.
    pub problems: Vec<ProblemReport>,
}

/// A path that fails.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProblemReport {
    /// The path, quoted.
    pub path: String,
    /// What failed, as one verb.
    pub operation: String,
    /// Why, with the errno's name.
    pub error: String,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// Milliseconds until the next try.
    pub retry_ms: u64,
}

/// Returns the report as text for people: what `speil status` prints and what the status file holds.
pub fn text(report: &Report) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    // Writing to a string cannot fail.
    for sync in &report.syncs {
        let _ = writeln!(out, "{}  {}  {} directories watched", sync.name, sync.source, sync.watched);
        for problem in &sync.watch_problems {
            let _ = writeln!(out, "  watch: {problem}");
        }
        if sync.targets.is_empty() {
            let _ = writeln!(out, "  not started: the source cannot be opened");
        }
        for target in &sync.targets {
            let state = target.state.replace('_', " ");
            let lag = std::time::Duration::from_millis(target.lag_ms);
            let _ = writeln!(
                out,
                "  {}  {state} for {} s  lag {:.3} s  {} queued  {} files, {} bytes sent  {}",
                target.name,
                report.time.saturating_sub(target.since),
                lag.as_secs_f64(),
                target.queued,
                target.files,
                target.sent_bytes,
                target.target,
            );
            if let Some(error) = &target.error {
                let _ = writeln!(out, "    {error}");
            }
            if let Some(last) = target.last_pass {
                let ago = report.time.saturating_sub(last);
                let _ = writeln!(
                    out,
                    "    last pass {ago} s ago, {} entries differed",
                    target.last_pass_different
                );
            }
            if target.held > 0 {
                let reason = target.held_reason.as_deref().unwrap_or("held");
                let _ =
                    writeln!(out, "    {} deletes held: {reason}; speil approve lets them go", target.held);
            }
            for problem in &target.problems {
                let _ = writeln!(
                    out,
                    "    {} {}: {}; tried {} times, again in {} s",
                    problem.operation,
                    problem.path,
                    problem.error,
                    problem.attempts,
                    problem.retry_ms / 1000
                );
            }
        }
    }
    out
}
