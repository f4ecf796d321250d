//! Arguments, and the rendering of results and errors.
//!
//! **Purpose:** the only module that speaks to people and to scripts: rsync's options, output and exit
//! codes where speil stands in for rsync, one clear line where something is wrong.
//! **In → out:** [`parse`] turns arguments into a [`Command`]; `itemize`, `summary`, `progress` and
//! `report` turn plain values into text and JSON.
//! **Invariants:** an option is obeyed or refused by name, never ignored; what the command line says is
//! applied in its order; file names in output carry no control characters.
//! **Not here:** running anything. **Sources:** rsync(1), rsyncd.conf(5) "log format".

mod arrivals;
mod aside;
mod carried;
mod commands;
mod complete;
mod daily;
mod describe;
mod draft;
mod error;
mod examples;
mod execute;
mod exit;
mod filters;
mod format;
mod health;
mod hosted;
mod init;
mod itemize;
mod log;
mod lsyncd;
mod moment;
mod numbers;
mod options;
mod output;
mod parse;
mod printer;
mod progress;
mod reach;
mod refused;
mod remote_program;
mod report;
mod summary;
mod table;
mod told;
mod topics;
mod transfer;
mod values;
mod verbs;
mod watch;

#[cfg(test)]
mod tests;

pub use commands::{
    Agent, Check, Complete, Completions, Control, Doctor, Explain, HeldOf, Init, LogLevel, Manual, Named,
    Pause, Reach, Reconcile, Reload, Retry, Run, Status, Trash, Undo, Verify, Wait,
};
pub use draft::{Transfer, check_source};
pub use error::CliError;
pub use execute::{execute, rsync};
pub use exit::Exit;
pub use format::{Format, FormatError, Line, Operation, escape_name};
pub use itemize::{Changed, Item, ItemTime, Update};
pub use lsyncd::lsyncd;
pub use numbers::Numbers;
pub use output::{Lock, Output, Progress};
pub use parse::{Command, parse};
pub use progress::{Meter, Passed};
pub use report::{Style, render_error, render_note};
pub use summary::{Record, SCHEMA, Summary, TargetSummary};
pub use values::ValueError;

pub use crate::monitor::Counts;
pub use crate::transport::AGENT_WORD;
