//! What is wrong with a command line.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::exit::Exit;
use super::values::ValueError;
use crate::config::TargetError;
use crate::error::{Consequence, Consequential};
use crate::filter::FilterError;
use crate::tree::quote;

/// What is wrong with a command line. Consequence: nothing is started.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line does not have the form that the command wants.
    #[error("{0}")]
    Syntax(String),
    /// No such command or page.
    #[error("{text}")]
    Unheard {
        /// What was asked for.
        text: String,
        /// What there is.
        hint: String,
    },
    /// No such option, in speil or in rsync.
    #[error("unknown option {option}")]
    Unknown {
        /// As it was written.
        option: String,
        /// The nearest one that exists.
        nearest: Option<String>,
        /// The command that was given it.
        command: String,
    },
    /// An rsync option that speil does not have.
    #[error("rsync's {option} is not available in speil {command}: {reason}")]
    Refused {
        /// As it was written.
        option: String,
        /// `sync` or `mirror`.
        command: &'static str,
        /// Why, or what to use instead.
        reason: &'static str,
    },
    /// An option of the other of `sync` and `mirror`.
    #[error("{option} is an option of speil {other}, not of speil {command}")]
    OtherCommand {
        /// As it was written.
        option: String,
        /// The command that was given it.
        command: &'static str,
        /// The one that has it.
        other: &'static str,
    },
    /// A value that the option does not take.
    #[error("{option} {value}: {reason}")]
    Value {
        /// The option, or the environment variable.
        option: String,
        /// The value, quoted.
        value: String,
        /// Why not.
        reason: ValueError,
    },
    /// Two options that cannot both hold.
    #[error("{0} and {1} exclude each other")]
    Conflict(&'static str, &'static str),
    /// A list file that cannot be read.
    #[error("{option} {path} cannot be read")]
    List {
        /// The option that names it.
        option: &'static str,
        /// The file, quoted.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// Something that is no target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A filter rule that does not parse.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The same target twice.
    #[error("TARGET {0} is given twice")]
    TargetTwice(String),
    /// Source and target on other hosts.
    #[error("SOURCE {0} and TARGET {1} are both on other hosts")]
    BothRemote(String, String),
    /// A source on another host that is a symlink.
    #[error("SOURCE {0} is a symlink")]
    SourceLink(String),
    /// The host of the source sends nothing.
    #[error("{text}")]
    Unsent {
        /// Why.
        text: String,
        /// What to do about it.
        hint: &'static str,
        /// What the process ends with.
        exit: Exit,
    },
    /// Nothing where the source should be.
    #[error("SOURCE is empty")]
    EmptySource,
    /// Sources on more than one host.
    #[error("SOURCE {0} is on another host than SOURCE {1}")]
    SourcesApart(String, String),
    /// A word of `-R` that keeps no path.
    #[error("-R: SOURCE {0} has a path that cannot be kept: {1}")]
    Unkept(String, &'static str),
    /// A directory without `-r`.
    #[error("SOURCE is a directory, and neither -a nor -r says to descend into it")]
    NotRecursive,
    /// Deletes that could not be judged.
    #[error("--delete needs -r or -a: what is not walked cannot be known to be gone")]
    DeleteNotRecursive,
    /// A source that is missing or cannot be looked at.
    #[error("SOURCE {path} cannot be read")]
    Source {
        /// The source, quoted.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A source that is no directory.
    #[error("SOURCE {0} is not a directory")]
    SourceNotDirectory(String),
}

impl CliError {
    /// Returns the error of `option` with `value`.
    pub(super) fn value(option: &str, value: &OsStr, reason: ValueError) -> Self {
        Self::Value { option: option.to_owned(), value: quote(value.as_bytes()), reason }
    }

    /// Returns what to do about it, where there is more to say than the message does.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            Self::Unknown { command, .. } => format!("speil {command} --help lists the options"),
            Self::Unheard { hint, .. } => hint.clone(),
            Self::Syntax(_) => "speil --help shows the commands".to_owned(),
            Self::Target(error) => return error.hint().map(str::to_owned),
            Self::BothRemote(..) => "run it on one of the two".to_owned(),
            Self::SourceLink(_) => "with a slash at its end, what it leads to is sent".to_owned(),
            Self::Unsent { hint, .. } => (*hint).to_owned(),
            Self::SourcesApart(..) => {
                "run it once for each host; a local path with a colon is written ./NAME".to_owned()
            }
            Self::NotRecursive => "add -a to keep rights, owners and times as well".to_owned(),
            Self::SourceNotDirectory(_) => {
                "a live mirror is of a directory; speil sync sends a file once".to_owned()
            }
            _ => return None,
        })
    }

    /// Returns what the process ends with.
    pub fn exit(&self) -> Exit {
        match self {
            // rsync ends with 1 for a --files-from that it cannot open.
            Self::List { option: "--files-from", .. } => Exit::Syntax,
            Self::List { .. } => Exit::File,
            Self::Source { .. } => Exit::Selection,
            Self::Unsent { exit, .. } => *exit,
            _ => Exit::Syntax,
        }
    }
}

impl Consequential for CliError {
    fn consequence(&self) -> Consequence {
        Consequence::Die
    }
}
