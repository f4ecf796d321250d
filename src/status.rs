//! What a running daemon tells and is told.
//!
//! **Purpose:** the schema of the control socket and of the status report.
//! **Invariant:** `schema` is raised when a field changes its meaning or goes; new fields come without.
//! **Not here:** gathering the values (`daemon`), showing them to people (`cli`).

mod check;
mod explanation;
mod past;
mod reloaded;
mod text;

pub use check::{Cause, Complaint, Grade, check, complaints};
pub use explanation::{Batch, EventSeen, Explained, Explanation, Rule};
pub use past::{LogQuery, LogRecord, log_text};
pub use reloaded::{Change, Names, ReloadedSync, ReloadedTarget, Stays, compare, reloaded_text};
pub use text::{copy_text, text};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::monitor::{Level, counted};

/// Version of the JSON that `speil status --json` prints.
pub const SCHEMA: u32 = 1;

/// What a daemon is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// How are things?
    Status,
    /// Answer when everything written before is on the targets.
    Wait(Wait),
    /// Make a mark behind everything written before.
    Position {
        /// Of which sync; needed where there are several.
        sync: Option<String>,
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
    /// Hold changes back for some time.
    PauseFor {
        /// One sync only.
        sync: Option<String>,
        /// In milliseconds.
        for_ms: u64,
    },
    /// How did every target do?
    Series,
    /// What arrived, when, and how long did it take?
    Log(LogQuery),
    /// Read the configuration again.
    Reload,
    /// Send a test to whom `notify` names.
    Notify,
    /// Try again at once what fails, and connect to what is down.
    Retry {
        /// One sync only.
        sync: Option<String>,
        /// One target only.
        target: Option<String>,
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
    /// Enter what is under a target's path now, whatever filesystem it is on.
    EnterAnew {
        /// The sync.
        sync: String,
        /// The target.
        target: String,
    },
    /// Forget held deletes.
    Discard {
        /// One sync only.
        sync: Option<String>,
        /// One target only.
        target: Option<String>,
    },
}

impl Request {
    /// Whether it only asks: nothing is changed, neither in the daemon nor on a target.
    pub fn only_asks(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::Series
                | Self::Wait(_)
                | Self::Position { .. }
                | Self::Log(_)
                | Self::Explain { .. }
        )
    }
}

/// How many targets of a sync must be in step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quorum {
    /// All of them.
    #[default]
    All,
    /// So many, whichever.
    Count(usize),
    /// These.
    Named(Vec<String>),
}

/// What is waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// One sync only.
    pub sync: Option<String>,
    /// Which targets.
    pub targets: Quorum,
    /// Longest wait in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether paths that fail and deletes that are held do not stand in the way.
    pub despite_problems: bool,
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// How things are.
    Status(Report),
    /// How every target did.
    Series {
        /// One for each; none where nobody has looked at them so far.
        series: Vec<Series>,
    },
    /// The configuration was read again; what became of its syncs.
    Reloaded {
        /// Those of the old one and of the new one.
        syncs: Vec<ReloadedSync>,
    },
    /// What happened.
    Log {
        /// Oldest first.
        records: Vec<LogRecord>,
        /// How many are left out before them.
        left_out: u64,
    },
    /// A test was sent.
    Notified {
        /// By every way that `notify` names.
        tried: Vec<Tried>,
    },
    /// What is known of a path.
    Explained(Box<Explanation>),
    /// A mark was made.
    Position {
        /// Its token, for the standbys.
        position: String,
    },
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

/// How the test of one way went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The way, in words; nothing that is secret.
    pub way: String,
    /// Why it failed.
    pub error: Option<String>,
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
    /// Seconds since the epoch at which the daemon started.
    #[serde(default)]
    pub started: u64,
    /// The syncs.
    pub syncs: Vec<SyncReport>,
    /// Why the configuration that was to be read again was refused; the one before is in force.
    #[serde(default)]
    pub refused_reload: Option<String>,
}

/// One sync.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SyncReport {
    /// Its name.
    pub name: String,
    /// The source directory, escaped where it holds what is no text.
    pub source: String,
    /// Directories that are watched.
    pub watched: usize,
    /// What stands in the way of a full watch.
    pub watch_problems: Vec<String>,
    /// Whether the source was opened; without it there are no targets here.
    #[serde(default)]
    pub running: bool,
    /// Why it is not running: the source cannot be opened, or the configuration of this sync is wrong.
    #[serde(default)]
    pub error: Option<String>,
    /// The role of the source's tree: `primary` or `standby`; null if it has none.
    #[serde(default)]
    pub role: Option<String>,
    /// The number of its generation; null without a role, or if it was never in step.
    #[serde(default)]
    pub generation: Option<u64>,
    /// Seconds since the epoch at which the oldest of what is kept aside in a tree with a role was put there.
    #[serde(default)]
    pub kept_aside_since: Option<u64>,
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
    /// `connecting`, `first_pass`, `live`, `down`, `paused` or `standby`: the source is one itself.
    pub state: String,
    /// Seconds since the epoch at which the state began.
    pub since: u64,
    /// Why there is no connection.
    pub error: Option<String>,
    /// What a human can change so that there is one.
    #[serde(default)]
    pub hint: Option<String>,
    /// How far the first copy is.
    #[serde(default)]
    pub copy: Option<CopyReport>,
    /// Whether the target was in step at some time since the daemon started: before that its lag is
    /// not known.
    #[serde(default)]
    pub known: bool,
    /// Age in milliseconds of the oldest change that is not acknowledged.
    pub lag_ms: u64,
    /// Seconds since the epoch at which a pause ends by itself.
    #[serde(default)]
    pub paused_until: Option<u64>,
    /// Seconds since the epoch at which the target's directory was found empty, though this mirror had been
    /// there: all was sent again.
    #[serde(default)]
    pub refilled: Option<u64>,
    /// Changes that wait.
    pub queued: usize,
    /// Changes that were sent or begun and are not acknowledged.
    #[serde(default)]
    pub in_flight: usize,
    /// Bytes that are known to be on their way: sent and not acknowledged, and the rest of large files that
    /// were begun. What waits unread counts nothing.
    #[serde(default)]
    pub queued_bytes: u64,
    /// Bytes sent in a second, over the last ten.
    #[serde(default)]
    pub rate: u64,
    /// Version of the agent, while there is a connection.
    #[serde(default)]
    pub agent: Option<String>,
    /// What the target cannot hold, in words.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// Connections made since the start.
    #[serde(default)]
    pub connects: u64,
    /// Bytes of files that went out as they are, since the start.
    #[serde(default)]
    pub literal_bytes: u64,
    /// Bytes of files that the target already held, since the start.
    #[serde(default)]
    pub matched_bytes: u64,
    /// Seconds since the epoch at which the last batch was acknowledged.
    #[serde(default)]
    pub last_batch: Option<u64>,
    /// How long changes took to arrive since the start: from when each was heard of until the target acknowledged
    /// it; null until the first one. What a comparison found is not counted.
    #[serde(default)]
    pub arrival: Option<ArrivalReport>,
    /// Comparisons since the start, by reason.
    #[serde(default)]
    pub rescans: BTreeMap<String, u64>,
    /// The last comparison of the whole tree.
    #[serde(default)]
    pub reconcile: Option<ReconcileReport>,
    /// What reading everything again in the background tells, where that is asked for.
    #[serde(default)]
    pub scrub: Option<ScrubReport>,
    /// Files that are to be verified: they may have changed while events were lost, and look equal.
    #[serde(default)]
    pub unverified_files: u64,
    /// Their bytes.
    #[serde(default)]
    pub unverified_bytes: u64,
    /// Files that were hashed on both sides because size and time did not prove them equal, since the start.
    #[serde(default)]
    pub hashed: u64,
    /// Paths that fail beyond those in `problems`.
    #[serde(default)]
    pub more_problems: u64,
    /// Deletes that are held back.
    pub held: usize,
    /// Why they are.
    pub held_reason: Option<String>,
    /// The first of their paths, quoted; a few.
    #[serde(default)]
    pub held_first: Vec<String>,
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

impl SyncReport {
    /// Returns why it is not running.
    pub fn why_not(&self) -> &str {
        self.error.as_deref().unwrap_or("the source was not opened yet")
    }
}

impl TargetReport {
    /// Returns the lag in words, and how many paths fail: without them the target would be in step.
    ///
    /// Without a connection a lag of nothing says only that the source has not changed since.
    pub fn lag(&self) -> String {
        let mut text = match (self.known, self.lag_ms) {
            _ if self.state == "standby" => "sends nothing".to_owned(),
            (false, _) => "lag unknown".to_owned(),
            (true, 0) if self.state == "down" => "lag unknown, no change since".to_owned(),
            (true, lag) => format!("lag {:.3} s", std::time::Duration::from_millis(lag).as_secs_f64()),
        };
        match self.failing() {
            0 => {}
            1 => text.push_str(", 1 path fails"),
            count => text.push_str(&format!(", {count} paths fail")),
        }
        text
    }

    /// Returns how many paths fail.
    pub fn failing(&self) -> u64 {
        self.more_problems.saturating_add(self.problems.len() as u64)
    }

    /// Returns what fails, as one line without its end; `None` if nothing does.
    pub fn failure(&self) -> Option<String> {
        let rest = self.failing().saturating_sub(1);
        let more = if rest > 0 { format!("; {rest} more") } else { String::new() };
        match self.problems.first() {
            Some(first) => Some(format!("{} {}: {}{more}", first.operation, first.path, first.error)),
            None if self.more_problems > 0 => Some(counted(self.more_problems, "path fails", "paths fail")),
            None => None,
        }
    }
}

/// How long changes took to arrive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ArrivalReport {
    /// Changes that have arrived.
    pub count: u64,
    /// The sum of their times, in milliseconds.
    pub sum_ms: u64,
    /// How many took no longer than that; each holds those before it.
    pub buckets: Vec<ArrivalBucket>,
}

/// Changes that took no longer than a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivalBucket {
    /// The bound, in milliseconds.
    pub le_ms: u64,
    /// How many.
    pub count: u64,
}

/// How far a first copy is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CopyReport {
    /// Entries that need nothing more, of those that are known.
    pub done_entries: u64,
    /// Entries that are known: all of them once the comparison is over.
    pub total_entries: u64,
    /// Bytes of files that were sent, or found on the target.
    pub done_bytes: u64,
    /// Bytes of files that are known to be sent.
    pub total_bytes: u64,
    /// Whether the comparison is over, so that the totals are all there is.
    pub complete: bool,
    /// The large file that is being sent, quoted.
    #[serde(default)]
    pub current: Option<String>,
}

/// What reading everything again in the background tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// Seconds since the epoch at which the last one ended.
    pub last: Option<u64>,
    /// Whether one is under way.
    pub running: bool,
    /// Files that it has read on both sides, or the last one.
    pub files: u64,
    /// Files of equal size and time and other bytes.
    pub mismatches: Vec<MismatchReport>,
}

/// A file of equal size and time and other bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MismatchReport {
    /// The path, quoted.
    pub path: String,
    /// BLAKE3 of what the source has.
    pub source: String,
    /// BLAKE3 of what the target has.
    pub target: String,
    /// Which side is rotten: `source`, `target`, or `either`.
    pub suspect: String,
    /// Whether the source's version was sent.
    pub repaired: bool,
    /// Seconds since the epoch at which it was found.
    pub time: u64,
}

/// One comparison of a whole tree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReconcileReport {
    /// Seconds since the epoch at which it ended.
    pub time: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// Entries on the source.
    pub entries: u64,
    /// Bytes on the source.
    pub bytes: u64,
    /// Entries that differed and were repaired.
    pub repaired: u64,
    /// Entries that the source lacked and that were removed.
    pub deleted: u64,
    /// Deletes that were held back.
    pub held: u64,
    /// Entries that could not be compared.
    pub problems: u64,
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
    /// The errno's name alone, `EACCES`; its number where it has none.
    #[serde(default)]
    pub errno: String,
    /// Whether it fails on the target, and not on the source.
    #[serde(default)]
    pub on_target: bool,
    /// Seconds since the epoch at which it failed first.
    #[serde(default)]
    pub since: u64,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// Milliseconds until the next try.
    pub retry_ms: u64,
}

/// How one target did, second by second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name of the sync.
    pub sync: String,
    /// Name of the target.
    pub target: String,
    /// One for each second of the last ten minutes, oldest first.
    pub samples: Vec<Sample>,
    /// One for ten seconds each, of the last hour: the highest lag, the mean of the bytes.
    #[serde(default)]
    pub hour: Vec<Sample>,
    /// One for five minutes each, of the last day.
    #[serde(default)]
    pub day: Vec<Sample>,
}

/// How a target stood at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the epoch.
    pub time: u64,
    /// As [`TargetReport::lag_ms`].
    pub lag_ms: u64,
    /// Bytes sent in the second before.
    pub bytes: u64,
}

/// Something that happened, for the page.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// Counts upwards.
    pub number: u64,
    /// Seconds since the epoch.
    pub time: u64,
    /// Name of the sync; empty for the daemon.
    pub sync: String,
    /// Name of the target; empty for the sync as a whole.
    pub target: String,
    /// What: the word of a [`Notice`](crate::monitor::Notice).
    pub what: String,
    /// The path, the reason or the error that it is about; control characters escaped.
    pub about: String,
    /// How many entries or deletes it is about; 0 where that means nothing.
    pub count: u64,
    /// Whether it is bad news.
    pub bad: bool,
}
