//! `speil sync`: one pass, and its end as rsync tells it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ending::{end, on_signal};
use super::{complain, complain_text, exit_of, note, print, uploads};
use crate::cli::carried::shown;
use crate::cli::draft::{Transfer, check_source};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::printer::Printer;
use crate::cli::summary::{Record, Summary, TargetSummary};
use crate::config::Target;
use crate::daemon::{self, Lock, LockError, LockOptions, Named, OnceOptions, TargetReport, once};
use crate::monitor::{Counts, Monitor, Totals};
use crate::protocol::Refusal;
use crate::sender::{Mailbox, SessionError};
use crate::transport::Uploads;
use crate::tree::{Kind, RelPath, quote};

/// The queues of a pass under way, to be closed when it is to stop; none before it has begun.
type Queues = Arc<Mutex<Option<Vec<Arc<Mailbox>>>>>;

/// Makes one pass and returns the exit code.
pub(super) fn run(transfer: &Transfer) -> u8 {
    if transfer.sync.selection.list_only {
        return list(transfer);
    }
    crate::disk::raise_limits();
    transfer.notes.iter().for_each(|text| note(text));
    let queues = Queues::default();
    let stop =
        stop_on_signals(Arc::clone(&queues), |queues| queues.iter().for_each(|mailbox| mailbox.close()));
    let (printer, _locks) = match prepare(transfer) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let monitor: Arc<dyn Monitor> = Arc::clone(&printer) as Arc<dyn Monitor>;
    let options = OnceOptions { dry_run: transfer.dry_run, uploads: uploads_of(transfer) };
    let report = once(&transfer.sync, options, &monitor, |mailboxes| {
        *queues.lock().unwrap_or_else(PoisonError::into_inner) = Some(mailboxes);
    });
    printer.end_progress();
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            complain(&error, None);
            return exit_of_source(&error).code();
        }
    };
    let mut exit = tell_named(transfer, &report.named);
    let is_list = report.named.is_list || transfer.sync.selection.files_from.is_some();
    for target in &report.targets {
        exit = exit.and(finish(
            transfer,
            &printer,
            &End { is_list, ..end_of(transfer, target, report.named.is_alone) },
        ));
    }
    close(transfer, exit, &stop)
}

/// Lists what takes part and returns the exit code.
fn list(transfer: &Transfer) -> u8 {
    crate::disk::raise_limits();
    let stop = stop_on_signals(Arc::new(Mutex::new(Some(()))), |()| ());
    let (printer, _) = match open(transfer) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let began = Instant::now();
    let monitor: Arc<dyn Monitor> = Arc::clone(&printer) as Arc<dyn Monitor>;
    let (told, named) = match daemon::list(&transfer.sync, &monitor, &|| !stop.load(Ordering::Acquire)) {
        Ok(told) => told,
        Err(error) => {
            complain(&error, None);
            return exit_of_source(&error).code();
        }
    };
    let exit = tell_named(transfer, &named);
    let end = End {
        name: String::new(),
        totals: Totals::default(),
        source: Some((told.kinds, told.bytes)),
        problems: told.problems.len() as u64,
        vanished: Vec::new(),
        held: false,
        failure: None,
        elapsed: began.elapsed(),
        is_list: named.is_list,
    };
    close(transfer, exit.and(finish(transfer, &printer, &end)), &stop)
}

/// Says what came of the words that name several sources, as rsync does.
fn tell_named(transfer: &Transfer, named: &Named) -> Exit {
    let mut exit = Exit::Success;
    for (word, errno) in &named.missing {
        let source = std::io::Error::from_raw_os_error(*errno);
        complain(&CliError::Source { path: quote(word), source }, None);
        exit = Exit::Partial;
    }
    if named.spares {
        note("nothing was deleted: what is missing may have held it");
    }
    for dir in &named.skipped {
        let dir = if dir.is_root() { ".".to_owned() } else { shown(dir.as_bytes()) };
        if !transfer.output.quiet && !transfer.output.json {
            print(&format!("skipping directory {dir}\n"));
        }
    }
    exit
}

/// Returns what is asked before an agent is uploaded.
pub(super) fn uploads_of(transfer: &Transfer) -> Uploads {
    if transfer.dry_run && !transfer.uploads { uploads::asked() } else { Uploads::default() }
}

/// Checks the source, takes the locks and opens the output.
fn prepare(transfer: &Transfer) -> Result<(Arc<Printer>, Vec<Lock>), u8> {
    if transfer.sync.sources.is_none()
        && let Err(error) = check_source(&transfer.sync.source)
    {
        complain(&error, error.hint().as_deref());
        let exit = if matches!(error, CliError::Source { .. }) { Exit::Partial } else { error.exit() };
        return Err(exit.code());
    }
    open(transfer)
}

/// Takes the locks and opens the output.
pub(super) fn open(transfer: &Transfer) -> Result<(Arc<Printer>, Vec<Lock>), u8> {
    let locks = take_locks(transfer)?;
    let printer =
        Printer::new(&transfer.output, &transfer.sync, (false, transfer.dry_run)).map_err(|error| {
            complain_text(&unwritten(transfer, &error), None);
            Exit::File.code()
        })?;
    Ok((Arc::new(printer.that_pulls(transfer.from.is_some())), locks))
}

fn take_locks(transfer: &Transfer) -> Result<Vec<Lock>, u8> {
    if transfer.dry_run || transfer.sync.selection.list_only {
        return Ok(Vec::new());
    }
    let Transfer { lock, .. } = transfer;
    let options =
        LockOptions { wait: lock.wait.unwrap_or_default(), max_age: lock.max_age.unwrap_or(Duration::MAX) };
    let mut locks = Vec::new();
    // All who wait for several do so in one order, or two of them would wait for each other.
    let of = |target| daemon::mirror_id(&transfer.sync, target).id;
    for id in transfer.sync.targets.iter().map(of).collect::<BTreeSet<_>>() {
        match Lock::take(&id, options) {
            Ok(lock) => locks.push(lock),
            Err(error @ LockError::Held { .. }) => {
                complain(&error, Some("--wait-lock SECONDS waits for it"));
                return Err(Exit::Timeout.code());
            }
            Err(error) => {
                complain(&error, None);
                return Err(Exit::Timeout.code());
            }
        }
    }
    Ok(locks)
}

/// Says which log file cannot be written, and why.
pub(super) fn unwritten(transfer: &Transfer, error: &std::io::Error) -> String {
    let path = transfer
        .output
        .log_file
        .as_ref()
        .map(|path| quote(path.as_os_str().as_encoded_bytes()))
        .unwrap_or_default();
    format!("log file {path}: {}", crate::error::io_text(error))
}

/// Has what runs stopped when a signal asks for the end, or ends the process if nothing has begun yet; the flag says
/// whether it came to that.
pub(super) fn stop_on_signals<T: Send + 'static>(
    running: Arc<Mutex<Option<T>>>,
    stop: impl Fn(&T) + Send + 'static,
) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    on_signal(move || {
        let running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = &*running else { return end() };
        set.store(true, Ordering::Release);
        stop(running);
    });
    flag
}

/// How a pass over one target ended.
pub(super) struct End {
    /// The target's name.
    pub name: String,
    /// What was sent.
    pub totals: Totals,
    /// The entries of the source by their type, and the bytes in them, if they were counted.
    pub source: Option<(Counts, u64)>,
    /// Paths that failed.
    pub problems: u64,
    /// Files that went between the listing and the sending.
    pub vanished: Vec<RelPath>,
    /// Whether deletes were held back.
    pub held: bool,
    /// Why it ended early, with what to do about it.
    pub failure: Option<(String, Option<String>, Exit)>,
    /// How long it took.
    pub elapsed: Duration,
    /// The target's own directory is none of what was sent.
    pub is_list: bool,
}

fn end_of(transfer: &Transfer, target: &TargetReport, is_alone: bool) -> End {
    let failure = target.error.as_ref().map(|error| {
        let hint = match asked(transfer, target) {
            Some(asked) => daemon::hint_for(error, asked),
            None => daemon::hint(error),
        };
        let lands = asked(transfer, target).is_some_and(|asked| asked.lands.is_some());
        let missing = matches!(error, SessionError::Refused(Refusal::Root { errno: libc::ENOENT, .. }));
        // rsync ends so where the directory is missing that is to hold a file.
        let exit = if is_alone && lands && missing { Exit::Selection } else { exit_of_source(error) };
        (error.to_string(), hint, exit)
    });
    End {
        name: target.name.clone(),
        totals: target.totals,
        source: target.source.as_ref().map(|summary| (summary.kinds, summary.bytes)),
        problems: target.problems.len() as u64,
        vanished: target.vanished.clone(),
        held: target.held.is_some(),
        failure,
        elapsed: target.elapsed,
        is_list: false,
    }
}

/// Prints the end of one target and returns its exit code.
pub(super) fn finish(transfer: &Transfer, printer: &Printer, target: &End) -> Exit {
    let exit = exit_of_end(target);
    let summary = summary(printer, target);
    let output = &transfer.output;
    printer.log_end(&format!(
        "sent {} bytes  received {} bytes  total size {}",
        summary.sent_bytes, summary.received_bytes, summary.total_bytes
    ));
    let mut text = String::new();
    if output.json {
        let record = Record::Summary(TargetSummary {
            sync: transfer.sync.name.clone(),
            target: target.name.clone(),
            dry_run: transfer.dry_run,
            summary,
            problems: target.problems,
            exit_code: exit.code(),
        });
        text = record.line().unwrap_or_default();
    } else {
        if output.table() {
            text.push('\n');
            text.push_str(&summary.table(output.numbers));
        }
        if output.closing_lines() {
            text.push('\n');
            text.push_str(&summary.closing(output.numbers, transfer.dry_run));
        }
    }
    print(&text);
    exit
}

/// Ends the run: what stopped it early, and the last object of `--json`.
pub(super) fn close(transfer: &Transfer, exit: Exit, stop: &AtomicBool) -> u8 {
    let exit = if stop.load(Ordering::Acquire) { exit.and(Exit::Signal) } else { exit };
    if transfer.output.json {
        print(&Record::Exit { code: exit.code(), error: None }.line().unwrap_or_default());
    }
    exit.code()
}

/// Returns what rsync ends with after this failure: where the source cannot be read, some of it is not there.
pub(super) fn exit_of_source(error: &SessionError) -> Exit {
    if matches!(error, SessionError::Source(_)) { Exit::Partial } else { exit_of(error) }
}

/// Says what went wrong with a target and returns its exit code.
fn exit_of_end(target: &End) -> Exit {
    let mut exit = Exit::Success;
    if let Some((error, hint, code)) = &target.failure {
        // A refusal may begin with the host, which is often what the target is called.
        let name = format!("{}: ", target.name);
        let text = if error.starts_with(&name) { error.clone() } else { name + error };
        complain_text(&text, hint.as_deref());
        exit = exit.and(*code);
    }
    for path in &target.vanished {
        note(&format!("{path} vanished before it could be sent"));
        exit = exit.and(Exit::Vanished);
    }
    if target.problems > 0 {
        exit = exit.and(Exit::Partial);
    }
    if target.held { exit.and(Exit::Held) } else { exit }
}

/// Returns the target that is reported of.
fn asked<'a>(transfer: &'a Transfer, target: &TargetReport) -> Option<&'a Target> {
    transfer.sync.targets.iter().find(|asked| asked.name == target.name)
}

fn summary(printer: &Printer, target: &End) -> Summary {
    let counted = printer.counted(&target.name);
    let totals = &target.totals;
    let (mut entries, total_bytes) = target.source.unwrap_or_default();
    if target.source.is_some() && !target.is_list {
        // rsync counts the top itself.
        entries.add(Kind::Dir);
    }
    Summary {
        entries,
        created: counted.created,
        deleted: counted.deleted,
        transferred_files: totals.files,
        total_bytes,
        transferred_bytes: totals.file_bytes,
        literal_bytes: totals.literal_bytes,
        matched_bytes: totals.matched_bytes,
        list_bytes: 0,
        sent_bytes: totals.sent_bytes,
        received_bytes: totals.received_bytes,
        elapsed: target.elapsed,
    }
}
