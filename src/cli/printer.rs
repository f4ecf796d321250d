//! The pipeline's notices for a terminal, a log file or a script.
//!
//! **In → out:** notices, changes and progress → lines on standard output and standard error, both in
//! the log file as well. **Invariants:** a line and the progress never share a row.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::describe::{Described, Describer};
use super::format::{Format, Line, Operation, escape_name, listed, log_stamp};
use super::itemize::Update;
use super::log::not_reopened;
use super::output::Output;
use super::progress::{Meter, Passed};
use super::summary::Record;
use super::told::{Told, line, uploading};
use crate::config::{Sync, Verify};
use crate::error::failure_text;
use crate::monitor::{Counts, Itemized, Monitor, Notice, Progress, Scope};
use crate::tree::{Entry, Time};

/// Prints what happens: changes on standard output, troubles on standard error, both in the log.
pub(super) struct Printer {
    output: Output,
    format: Option<Format>,
    /// The line for each change in the log file, whatever is printed.
    log_format: Option<Format>,
    source: PathBuf,
    describer: Describer,
    live: bool,
    pulls: bool,
    log: Option<Mutex<File>>,
    counted: Mutex<HashMap<Arc<str>, Counted>>,
    targets: usize,
    first_pass: Mutex<FirstPass>,
}

/// What was made and removed on one target, by type.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counted {
    pub created: Counts,
    pub deleted: Counts,
}

/// The progress of the first pass, over all targets.
struct FirstPass {
    meter: Meter,
    began: Instant,
    progress: HashMap<Arc<str>, Progress>,
    live: Vec<Arc<str>>,
}

impl FirstPass {
    /// Returns the sum over the targets.
    fn passed(&self) -> Passed {
        let mut passed = Passed { complete: true, elapsed: self.began.elapsed(), ..Passed::default() };
        for progress in self.progress.values() {
            passed.current = passed.current.or_else(|| progress.current.as_ref().map(ToString::to_string));
            passed.sent_files += progress.files;
            passed.entries += progress.done_entries;
            passed.entries_known += progress.total_entries;
            passed.bytes += progress.done_bytes;
            passed.bytes_known += progress.total_bytes;
            passed.complete &= progress.complete;
        }
        passed
    }

    fn end(&mut self) {
        let passed = self.passed();
        let _ = self.meter.finish(&passed, &mut io::stdout().lock());
    }
}

impl Printer {
    /// Prints for one sync, `(live, dry_run)` or not, as its options say.
    ///
    /// # Errors
    /// What opening the log file says.
    pub fn new(output: &Output, sync: &Sync, (live, dry_run): (bool, bool)) -> io::Result<Self> {
        let log = output.log_file.as_ref().map(|path| crate::disk::open_to_append(path.as_ref()));
        let remote = sync.targets.iter().any(|target| target.host.is_some());
        let first_pass = FirstPass {
            meter: Meter::new(output, io::stderr().is_terminal()),
            began: Instant::now(),
            progress: HashMap::new(),
            live: Vec::new(),
        };
        Ok(Self {
            format: output.line_format(),
            // The log of a dry run has the changes that are printed, and else none: they were not made.
            log_format: (log.is_some() && (!dry_run || output.line_format().is_some()))
                .then(|| {
                    output.log_format.clone().or(output.out_format.clone()).unwrap_or_else(Format::itemized)
                })
                .filter(|format| !format.is_empty()),
            output: output.clone(),
            source: sync.source.clone(),
            describer: Describer {
                mask: sync.mask,
                remote,
                checksum: sync.mask.checksum || sync.reconcile.verify == Verify::Checksum,
            },
            live,
            pulls: false,
            log: log.transpose()?.map(Mutex::new),
            counted: Mutex::default(),
            targets: sync.targets.len(),
            first_pass: Mutex::new(first_pass),
        })
    }

    /// Has changes shown as those of a target that pulls.
    pub fn that_pulls(self, pulls: bool) -> Self {
        Self { pulls, ..self }
    }

    /// Returns what was made and removed on the target of this name.
    pub fn counted(&self, target: &str) -> Counted {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.get(target).copied().unwrap_or_default()
    }

    /// Ends the progress: the bar goes, the last line stays.
    pub fn end_progress(&self) {
        self.first_pass().end();
    }

    fn first_pass(&self) -> MutexGuard<'_, FirstPass> {
        self.first_pass.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one line with the progress out of its way. A closed stream is no reason to stop mirroring.
    fn write(&self, mut stream: impl Write, line: &[u8]) {
        let mut first_pass = self.first_pass();
        let _ = first_pass.meter.make_room(&mut io::stdout().lock());
        first_pass.meter.print(|| {
            let _ = stream.write_all(line);
        });
    }

    /// Writes how a single pass has ended into the log file.
    pub fn log_end(&self, text: &str) {
        self.log(format!("{text}\n").as_bytes());
    }

    fn say(&self, bytes: &[u8]) {
        let mut line = bytes.to_vec();
        line.push(b'\n');
        self.write(io::stdout(), &line);
        self.log(&line);
    }

    fn warn(&self, text: &str) {
        let line = format!("{text}\n");
        self.write(io::stderr(), line.as_bytes());
        self.log(line.as_bytes());
    }

    fn log(&self, line: &[u8]) {
        let Some(log) = &self.log else { return };
        let mut file = log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stamped = format!("{} [{}] ", log_stamp(), std::process::id()).into_bytes();
        stamped.extend_from_slice(line);
        let _ = file.write_all(&stamped);
    }

    fn record(&self, record: &Record) {
        if let Ok(line) = record.line() {
            self.write(io::stdout(), line.as_bytes());
        }
    }

    /// Tells a notice as a JSON object, where it is one for scripts.
    fn notice_record(&self, scope: &Scope, notice: &Notice) {
        match notice {
            Notice::Problem { path, operation, errno, on_target } => self.record(&Record::Problem {
                target: on_target.then(|| scope.target.to_string()),
                path: escaped(path.as_bytes()),
                error: format!("{operation}: {}", failure_text(operation, *errno)),
            }),
            Notice::Held { count, reason, .. } => self.record(&Record::Held {
                target: scope.target.to_string(),
                entries: *count,
                reason: reason.clone(),
            }),
            _ => {}
        }
    }

    /// Prints the line of an entry that is only listed.
    fn list(&self, path: &[u8], entry: &Entry) {
        if self.output.json {
            return self.record(&Record::entry(path, entry));
        }
        if !self.output.quiet {
            let line = listed(path, entry, (self.output.numbers, self.output.eight_bit));
            self.write(io::stdout(), &[line.as_slice(), b"\n"].concat());
        }
    }

    fn count(&self, target: &Arc<str>, change: &Itemized) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = counted.entry(Arc::clone(target)).or_default();
        if let Some(kind) = change.made() {
            counted.created.add(kind);
        }
        if let Itemized::Deleted { kind, .. } = change {
            counted.deleted.add(*kind);
        }
    }

    fn render(&self, format: &Format, change: &Described) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            item: change.item,
            operation: match change.item.update {
                Update::Deleted => Operation::Delete,
                _ if self.pulls => Operation::Receive,
                _ => Operation::Send,
            },
            name: &change.name,
            source: self.source.as_os_str().as_bytes(),
            meta: change.meta.as_ref(),
            link: change.link.as_deref(),
            bytes: change.meta.as_ref().map_or(0, |meta| meta.size),
            now: Time { secs: i64::try_from(now.as_secs()).unwrap_or(0), nanos: now.subsec_nanos() },
            pid: std::process::id(),
        };
        // A line that does not say what was done says that something came; rsync puts a word before what went.
        if line.operation == Operation::Delete && !format.tells_operation() {
            [b"deleting ".as_slice(), &Format::names().render(&line, self.output.eight_bit)].concat()
        } else {
            format.render(&line, self.output.eight_bit)
        }
    }
}

impl Monitor for Printer {
    fn notice(&self, scope: &Scope, notice: &Notice) {
        if let Notice::Live = notice {
            let mut first_pass = self.first_pass();
            if !first_pass.live.contains(&scope.target) {
                first_pass.live.push(Arc::clone(&scope.target));
            }
            if first_pass.live.len() == self.targets {
                first_pass.end();
            }
        }
        // Not among what is sent, whichever form that has.
        if let (Notice::Uploads { len }, false) = (notice, self.output.quiet) {
            return self.warn(&format!("{}: {}", scope.target, uploading(*len)));
        }
        if self.output.json {
            return self.notice_record(scope, notice);
        }
        let quiet = self.output.quiet;
        match line(scope, notice, self.live) {
            Told::Trouble(text, None) => self.warn(&text),
            Told::Trouble(text, Some(hint)) => self.warn(&format!("{text}\nhint: {hint}")),
            // Of a single pass rsync says this one unasked.
            Told::News(text) if !quiet && (self.live || matches!(notice, Notice::Stays { .. })) => {
                self.say(text.as_bytes());
            }
            Told::Detail(text) if self.output.verbose > 1 || (self.live && self.output.verbose > 0) => {
                self.say(text.as_bytes());
            }
            _ => {}
        }
    }

    fn itemized(&self, scope: &Scope, entry: &Itemized) {
        if let Itemized::Listed { path, entry } = entry {
            return self.list(path.as_bytes(), entry);
        }
        self.count(&scope.target, entry);
        let goes = matches!(entry, Itemized::Deleted { .. }) && self.output.tells_deletes();
        let names = goes.then(Format::names);
        if self.format.is_none() && self.log_format.is_none() && names.is_none() {
            return;
        }
        let change = self.describer.describe(entry);
        if let Some(format) = &self.log_format {
            self.log(&[self.render(format, &change).as_slice(), b"\n"].concat());
        }
        let Some(format) = self.format.as_ref().or(names.as_ref()) else { return };
        if self.output.json {
            return self.record(&Record::Change {
                target: scope.target.to_string(),
                change: change.item.to_string(),
                path: escaped(&change.name),
                link: change.link.as_deref().map(escaped),
            });
        }
        let line = [self.render(format, &change).as_slice(), b"\n"].concat();
        self.write(io::stdout(), &line);
    }

    fn itemizes_same(&self) -> bool {
        self.output.itemize > 1 && !self.output.json
    }

    fn itemizes(&self) -> bool {
        self.format.is_some()
            || self.log_format.is_some()
            || self.output.table()
            || self.output.json
            || self.output.tells_deletes()
    }

    fn progress(&self, scope: &Scope, progress: &Progress) {
        let mut first_pass = self.first_pass();
        if !first_pass.meter.is_shown() {
            return;
        }
        first_pass.progress.insert(Arc::clone(&scope.target), progress.clone());
        let passed = first_pass.passed();
        let _ = first_pass.meter.update(&passed, &mut io::stdout().lock());
    }

    fn reopen(&self) {
        let (Some(log), Some(path)) = (&self.log, &self.output.log_file) else { return };
        let opened = {
            // Locked before: whoever sees the new file finds every later line in it.
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            crate::disk::open_to_append(path.as_ref()).map(|new| *log = new)
        };
        if let Err(error) = opened {
            self.warn(&not_reopened(path, &error));
        }
    }
}

/// Returns a name as JSON has it.
fn escaped(name: &[u8]) -> String {
    String::from_utf8_lossy(&escape_name(name, false)).into_owned()
}
