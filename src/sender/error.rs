//! Why a session could not begin, or ended early.

use std::time::Duration;

use crate::error::{Consequence, Consequential};
use crate::protocol::{FrameError, Lost, Refusal, VERSION, VERSION_MIN};
use crate::transport::{Ended, TransportError};

/// Why a session could not begin, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No link. Consequence by variant.
    #[error("{0}")]
    Transport(#[from] TransportError),
    /// The carrier ended before the agent answered. Consequence: again.
    #[error("{}", ended_text(.0))]
    Ended(Ended),
    /// The connection broke. Consequence: again.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The target refuses the session. Consequence by refusal.
    #[error("{}", refusal_text(.0))]
    Refused(Refusal),
    /// Nothing was heard for too long. Consequence: again.
    #[error("no answer for {} s", .0.as_secs())]
    Silent(Duration),
    /// The agent cannot go on. Consequence: again.
    #[error("agent: {0}")]
    Fatal(String),
    /// The source cannot be read. Consequence: again.
    #[error("source: {0}")]
    Source(String),
    /// The target lacks an owner that the configuration names. Consequence: again; somebody may add it.
    #[error("the target has no {0} (--chown)")]
    Owner(String),
    /// Another daemon on this host keeps this mirror. Consequence: again.
    #[error("another daemon (process {pid}) mirrors to {target} already: end one of the two")]
    Kept {
        /// The target.
        target: String,
        /// The daemon's process; 0 if it is not known.
        pid: u32,
    },
    /// The role of the source's tree, or what a target tells, forbids to send. Consequence: again; somebody promotes.
    #[error("{line}")]
    Role {
        /// What is the state.
        line: String,
        /// What may be typed here; empty if nothing helps.
        hint: String,
    },
    /// An option does not parse. Consequence: die.
    #[error("{0}")]
    Option(String),
}

fn ended_text(ended: &Ended) -> String {
    let said = ended.stderr.last().map(|line| format!(": {line:?}")).unwrap_or_default();
    match ended.status {
        Some(status) => format!("connection ended with status {status}{said}"),
        None => format!("connection was killed{said}"),
    }
}

fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Version { newest, program } => {
            let here = env!("CARGO_PKG_VERSION");
            let which = if *newest < VERSION_MIN { "on the target" } else { "here" };
            format!(
                "the agent is speil {program:?} and speaks protocol {newest}, this is speil {here} and speaks \
                 {VERSION_MIN} to {VERSION}: upgrade speil {which}"
            )
        }
        Refusal::Root { path, errno } if refusal.is_about_state() => {
            let (what, kind) = match *errno {
                libc::ELOOP => ("a symlink", "file or directory"),
                libc::EISDIR => ("a directory", "file"),
                _ if path.ends_with("/.speil") => ("no directory", "directory"),
                _ => ("of another kind", "file or directory"),
            };
            format!("{path:?} on the target is {what}, and speil keeps its state in a {kind} of that name")
        }
        Refusal::Root { path, errno } => {
            format!("target directory {path:?}: {}", crate::error::errno_text(*errno))
        }
        Refusal::Nested => "source and target are the same tree, or one lies within the other".to_owned(),
        Refusal::Busy { holder } => format!("{holder} is at work on the target directory"),
        Refusal::Foreign { label } => format!("the target directory belongs to another mirror, {label:?}"),
        Refusal::Refused(text) => format!("the target refuses (.speil/refuse): {text:?}"),
        Refusal::Dangerous(path) => format!("{path} as a target needs --force-root"),
        Refusal::Filter(text) => format!("filter: {text}"),
        Refusal::Circle { trees } => {
            let back = trees.first().map(String::as_str).unwrap_or_default();
            format!("mirrors go round in a circle: {} → {back}", trees.join(" → "))
        }
        Refusal::Within { outer, by } => {
            let by = if by.is_empty() { String::new() } else { format!(" ({by})") };
            format!(
                "the target directory is within {outer}, the target of another live mirror{by}, which would \
                 delete there what this one brings"
            )
        }
        Refusal::Role { line, .. } => line.clone(),
        Refusal::Beside { path, errno: libc::EXDEV } => {
            format!("directory {path} is outside of the directory that this login may write to")
        }
        Refusal::Beside { path, errno: libc::EINVAL } => {
            format!(
                "--backup-dir {path} is the target itself, and without --suffix no old version would be kept"
            )
        }
        Refusal::Beside { path, errno } => {
            format!("directory {path} beside the target: {}", crate::error::errno_text(*errno))
        }
        Refusal::Lost { path, how } => format!("target directory {path:?} {}", lost(*how)),
    }
}

fn lost(how: Lost) -> &'static str {
    match how {
        Lost::Replaced => "was replaced, moved, unmounted or mounted over",
        Lost::Gone => {
            "is gone, and the filesystem that held it is not there: speil creates nothing in its place"
        }
        Lost::Empty => {
            "is empty and on another filesystem than before: nothing is written there; is its volume mounted?"
        }
        Lost::Strange => {
            "is another one than before and holds something: nothing is written there; is its volume mounted?"
        }
    }
}

impl Consequential for SessionError {
    fn consequence(&self) -> Consequence {
        match self {
            Self::Transport(error) => error.consequence(),
            Self::Refused(
                Refusal::Busy { .. }
                | Refusal::Root { .. }
                | Refusal::Refused(_)
                | Refusal::Circle { .. }
                | Refusal::Within { .. }
                | Refusal::Role { .. }
                | Refusal::Lost { .. },
            ) => Consequence::Again,
            Self::Refused(_) | Self::Option(_) => Consequence::Die,
            _ => Consequence::Again,
        }
    }
}
