//! What happened, as typed values.

use std::sync::Arc;
use std::time::Duration;

use super::Counts;
use crate::event::RescanReason;
use crate::tree::{Entry, Kind, RelPath};

/// Whom a notice is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Name of the sync.
    pub sync: Arc<str>,
    /// Name of the target; empty for the sync as a whole.
    pub target: Arc<str>,
}

impl Scope {
    /// Returns the scope of one target.
    pub fn new(sync: &str, target: &str) -> Self {
        Self { sync: sync.into(), target: target.into() }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.sync.is_empty() {
            f.write_str("speil")
        } else if self.target.is_empty() {
            f.write_str(&self.sync)
        } else {
            write!(f, "{} → {}", self.sync, self.target)
        }
    }
}

/// What a pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PassSummary {
    /// Entries on the source, without the top.
    pub entries: u64,
    /// The same by type.
    pub kinds: Counts,
    /// Bytes of regular files and symlinks on the source.
    pub bytes: u64,
    /// Entries that differed and were handed to the sender.
    pub different: u64,
    /// Deletes handed to the sender.
    pub deletes: u64,
    /// Deletes that the guard held back.
    pub held: u64,
    /// Entries that could not be compared.
    pub problems: u64,
    /// How long the comparison took.
    pub elapsed: Duration,
}

/// One thing worth telling.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A connection stands.
    Connected {
        /// Version of the agent.
        program: String,
        /// What the target cannot hold, in words.
        lacks: Vec<String>,
        /// What the agent has taken away from itself, in words.
        confined: &'static str,
    },
    /// The agent is missing on the target, and is uploaded now.
    Uploads {
        /// Its length in bytes.
        len: u64,
    },
    /// A connection could not be made or was lost.
    Disconnected {
        /// Why, in words.
        error: String,
        /// What to change, if that is known.
        hint: Option<String>,
        /// When it is tried again; `None` if it is not.
        retry: Option<Duration>,
        /// How often it was tried in a row.
        attempt: u32,
    },
    /// The first pass is done and every later change goes out as it happens.
    Live,
    /// A pass began.
    PassBegan {
        /// The top of the subtree.
        top: RelPath,
        /// Why.
        reason: RescanReason,
    },
    /// A pass ended.
    PassDone {
        /// The top of the subtree.
        top: RelPath,
        /// Why it was made.
        reason: RescanReason,
        /// What it did.
        summary: PassSummary,
    },
    /// A path could not be mirrored.
    Problem {
        /// The path.
        path: RelPath,
        /// What failed, as one verb.
        operation: String,
        /// The errno.
        errno: i32,
        /// Whether it failed on the target.
        on_target: bool,
    },
    /// Deletes were held back.
    Held {
        /// How many.
        count: u64,
        /// Why, as a clause.
        reason: String,
        /// The first of the paths, a few.
        first: Vec<RelPath>,
    },
    /// A directory that the source lacks stays on the target, since something in it stays.
    Stays {
        /// The directory.
        path: RelPath,
    },
    /// Entries that strangers wrote on the target are kept there.
    Kept {
        /// How many.
        count: u64,
    },
    /// Something that a stranger wrote on the target was set aside.
    SetAside {
        /// The path.
        path: RelPath,
    },
    /// A subtree is to be compared.
    Rescan {
        /// The top of the subtree.
        path: RelPath,
        /// Why.
        reason: RescanReason,
    },
    /// A batch was acknowledged.
    Batch {
        /// Its number in its session.
        batch: u64,
        /// How many changes it brought.
        changes: u64,
    },
    /// Changes are held back by an operator, or go out again.
    Paused {
        /// Whether they are held back.
        on: bool,
    },
    /// The source's tree has another role, or another generation, than it had.
    Role {
        /// What it was: `none`, `primary` or `standby`.
        old: &'static str,
        /// What it is.
        new: &'static str,
        /// The number of its generation; 0 for none.
        generation: u64,
    },
    /// Something in the course of life that an operator wants to see go by, in words.
    Message {
        /// One line, lower-case.
        text: String,
    },
    /// Something that only a close look needs, in words.
    Detail {
        /// One line, lower-case.
        text: String,
    },
    /// Anything else that an operator should know, in words.
    Warning {
        /// One line, lower-case.
        text: String,
        /// What to change.
        hint: Option<String>,
    },
}

impl Notice {
    /// Returns the word for logs and scripts.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "connected",
            Self::Uploads { .. } => "uploads",
            Self::Disconnected { .. } => "disconnected",
            Self::Live => "live",
            Self::PassBegan { .. } => "pass_began",
            Self::PassDone { .. } => "pass_done",
            Self::Problem { .. } => "problem",
            Self::Held { .. } => "held",
            Self::Stays { .. } => "stays",
            Self::Kept { .. } => "kept",
            Self::SetAside { .. } => "set_aside",
            Self::Rescan { .. } => "rescan",
            Self::Batch { .. } => "batch",
            Self::Paused { .. } => "paused",
            Self::Role { .. } => "role",
            Self::Message { .. } => "message",
            Self::Detail { .. } => "detail",
            Self::Warning { .. } => "warning",
        }
    }
}

/// How much of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A target does not converge and needs a human.
    Error,
    /// Degraded, and handled.
    Warn,
    /// The course of life.
    Info,
    /// Batches and passes.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Returns the level of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace]
            .into_iter()
            .find(|level| level.word().eq_ignore_ascii_case(name))
    }

    /// Returns the name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// One entry that was sent, for `-v`, `-i` and `--out-format`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Itemized {
    /// Made or changed.
    Changed {
        /// The path.
        path: RelPath,
        /// What the source holds.
        new: Box<Entry>,
        /// What the target held, if the sender knows.
        old: Option<Box<Entry>>,
        /// Whether it is known that the target held nothing.
        created: bool,
        /// Whether content was sent.
        content: bool,
    },
    /// Became a hard link.
    Linked {
        /// The path.
        path: RelPath,
        /// The name that it joined.
        existing: RelPath,
        /// Its type, if nothing was under the path before.
        created: Option<Kind>,
        /// What the source holds.
        new: Box<Entry>,
        /// What the target held, if the sender knows.
        old: Option<Box<Entry>>,
    },
    /// Removed.
    Deleted {
        /// The path.
        path: RelPath,
        /// What it was; a file where only that it was no directory is known.
        kind: Kind,
    },
    /// Renamed on the target.
    Renamed {
        /// The old name.
        from: RelPath,
        /// The new name.
        to: RelPath,
    },
    /// Made on the target of what is beside it, with other attributes.
    Borrowed {
        /// The path.
        path: RelPath,
        /// What the source holds.
        new: Box<Entry>,
        /// What is beside the target.
        old: Box<Entry>,
    },
    /// The target has it as it is. Only told where [`Monitor::itemizes_same`].
    Same {
        /// The path.
        path: RelPath,
        /// Its type.
        kind: Kind,
        /// It is another name of a file that was told of.
        linked: bool,
        /// What a symlink leads to.
        symlink: Vec<u8>,
    },
    /// It takes part; nothing is sent (`--list-only`).
    Listed {
        /// The path.
        path: RelPath,
        /// What the source holds; also a directory has a size here.
        entry: Box<Entry>,
    },
}

impl Itemized {
    /// Returns the type of an entry that is made anew: under a name that held nothing, or another type of entry.
    pub fn made(&self) -> Option<Kind> {
        match self {
            Self::Changed { new, old, created, .. } => {
                let kind = new.attrs.meta.kind;
                let other = old.as_ref().is_some_and(|old| old.attrs.meta.kind != kind);
                (*created || other).then_some(kind)
            }
            Self::Linked { created, .. } => *created,
            _ => None,
        }
    }
}

/// A change that a target has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived<'a> {
    /// What was done, in a word or two.
    pub what: &'static str,
    /// The path; the new name of a rename.
    pub path: &'a RelPath,
    /// The old name of a rename.
    pub from: Option<&'a RelPath>,
    /// How long it took, from when the change was heard of; `None` where that is not known: a comparison found it.
    pub took: Option<Duration>,
}

/// How far a pass is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// Files whose content was sent so far.
    pub files: u64,
    /// Entries compared or sent so far.
    pub done_entries: u64,
    /// Entries known so far.
    pub total_entries: u64,
    /// File bytes sent or matched so far.
    pub done_bytes: u64,
    /// File bytes known to be sent.
    pub total_bytes: u64,
    /// Whether the comparison is over, so that the totals are all there is.
    pub complete: bool,
    /// The large file that is being sent.
    pub current: Option<RelPath>,
}

/// What hears the pipeline. Called from its threads: must be quick and must not block.
pub trait Monitor: Send + Sync {
    /// Hears a notice.
    fn notice(&self, scope: &Scope, notice: &Notice);
    /// Hears of an entry that was sent. Only called where [`Monitor::itemizes`].
    fn itemized(&self, _scope: &Scope, _entry: &Itemized) {}
    /// Whether [`Monitor::itemized`] is wanted.
    fn itemizes(&self) -> bool {
        false
    }
    /// Whether it is wanted of what is not changed as well.
    fn itemizes_same(&self) -> bool {
        false
    }
    /// Hears what a target has acknowledged, batch by batch.
    fn arrived(&self, _scope: &Scope, _changes: &[Arrived<'_>]) {}
    /// Hears how far a pass is, a few times a second at most.
    fn progress(&self, _scope: &Scope, _progress: &Progress) {}
    /// Writes more or less of one sync, or of all; `false` if that cannot be set here.
    fn set_level(&self, _sync: Option<&str>, _level: Level) -> bool {
        false
    }
    /// Opens the file that it writes to anew: the old one may have been renamed or removed.
    fn reopen(&self) {}
}

/// A monitor that tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Monitor for Silent {
    fn notice(&self, _: &Scope, _: &Notice) {}
}
