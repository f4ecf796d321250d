//! How results are shown, as the options say.

use super::numbers::Numbers;
use std::path::PathBuf;
use std::time::Duration;

use super::format::Format;

/// How results are shown.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "one flag per option")]
pub struct Output {
    /// How often `-v` was given.
    pub verbose: u8,
    /// Errors only (`-q`).
    pub quiet: bool,
    /// How often `-i` was given: changes; unchanged entries as well from 2 on.
    pub itemize: u8,
    /// The line for each change (`--out-format`).
    pub out_format: Option<Format>,
    /// Whether bytes that are no UTF-8 are shown as they are (`-8`).
    pub eight_bit: bool,
    /// Whether changed names are listed, where `--info=name` says so; else `-v` does.
    pub names: Option<bool>,
    /// Whether deletes are told, where `--info=del` says so; else `-v` does.
    pub deletes: Option<bool>,
    /// Figures at the end: 1 for the closing lines, 2 for the table as well (`--stats`).
    pub stats: u8,
    /// Progress while it runs.
    pub progress: Progress,
    /// JSON instead of text (`--json`).
    pub json: bool,
    /// How numbers are written (`-h`).
    pub numbers: Numbers,
    /// Where lines and messages go as well (`--log-file`).
    pub log_file: Option<PathBuf>,
    /// The line for each change there (`--log-file-format`).
    pub log_format: Option<Format>,
}

impl Output {
    /// Returns the format of the line for each change: what was asked for, `%i %n%L` under `-i`, `%n%L`
    /// under `-v`, else none.
    pub fn line_format(&self) -> Option<Format> {
        match &self.out_format {
            Some(format) => Some(format.clone()),
            None if self.itemize > 0 => Some(Format::itemized()),
            None if self.names.unwrap_or(self.verbose > 0 && !self.quiet) => Some(Format::names()),
            None => None,
        }
    }

    /// Whether deletes are told where nothing else of the changes is.
    pub fn tells_deletes(&self) -> bool {
        self.deletes.unwrap_or(self.verbose > 0 && !self.quiet) && !self.json
    }

    /// Whether the two closing lines are printed (`sent … bytes`, `total size is …`).
    pub fn closing_lines(&self) -> bool {
        (self.verbose > 0 || self.stats > 0) && !self.quiet && !self.json
    }

    /// Whether the table of figures is printed before them.
    pub fn table(&self) -> bool {
        self.stats > 1 && !self.json
    }
}

/// Progress while a pass runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Progress {
    /// A bar on a terminal, nothing elsewhere.
    #[default]
    Auto,
    /// Never.
    Never,
    /// A bar on a terminal, lines as rsync's elsewhere (`--progress`, `--info=progress2`).
    Lines,
}

/// How a pass treats another one that holds the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lock {
    /// A run that is older than this is not waited for.
    pub max_age: Option<Duration>,
    /// How long to wait for another one to end; [`Duration::MAX`]: as long as it takes.
    pub wait: Option<Duration>,
}
