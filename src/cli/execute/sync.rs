//! `speil sync`: one pass, and its end as rsync tells it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ending::{end, on_signal};
use super::{complain, complain_text, exit_of, note, print, uploads};
use crate::cli::draft::{Transfer, check_source};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::printer::Printer;
use crate::cli::summary::{Record, Summary, TargetSummary};
use crate::config::Target;
use crate::daemon::{self, Lock, LockError, LockOptions, OnceOptions, TargetReport, once};
use crate::monitor::Monitor;
use crate::protocol::Refusal;
use crate::sender::{Mailbox, SessionError};
use crate::transport::Uploads;
use crate::tree::{Kind, quote};

/// The queues of a pass under way, to be closed when it is to stop; none before it has begun.
type Queues = Arc<Mutex<Option<Vec<Arc<Mailbox>>>>>;

/// Makes one pass and returns the exit code.
pub(super) fn run(transfer: &Transfer) -> u8 {
    crate::disk::raise_limits();
    transfer.notes.iter().for_each(|text| note(text));
    let queues = Queues::default();
    let stop = stop_on_signals(Arc::clone(&queues));
    let (printer, _locks) = match prepare(transfer) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let monitor: Arc<dyn Monitor> = Arc::clone(&printer) as Arc<dyn Monitor>;
    let options = OnceOptions {
        dry_run: transfer.dry_run,
        uploads: if transfer.dry_run && !transfer.uploads { uploads::asked() } else { Uploads::default() },
    };
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
    let mut exit = Exit::Success;
    for target in &report.targets {
        exit = exit.and(finish(transfer, &printer, target));
    }
    if stop.load(Ordering::Acquire) {
        exit = exit.and(Exit::Signal);
    }
    if transfer.output.json {
        print(&Record::Exit { code: exit.code(), error: None }.line().unwrap_or_default());
    }
    exit.code()
}

/// Checks the source, takes the locks and opens the output.
fn prepare(transfer: &Transfer) -> Result<(Arc<Printer>, Vec<Lock>), u8> {
    if let Err(error) = check_source(&transfer.sync.source) {
        complain(&error, error.hint().as_deref());
        let exit = if matches!(error, CliError::Source { .. }) { Exit::Partial } else { error.exit() };
        return Err(exit.code());
    }
    let locks = take_locks(transfer)?;
    let printer =
        Printer::new(&transfer.output, &transfer.sync, (false, transfer.dry_run)).map_err(|error| {
            complain_text(&unwritten(transfer, &error), None);
            Exit::File.code()
        })?;
    Ok((Arc::new(printer), locks))
}

fn take_locks(transfer: &Transfer) -> Result<Vec<Lock>, u8> {
    if transfer.dry_run {
        return Ok(Vec::new());
    }
    let options = LockOptions { wait: transfer.lock.wait, max_age: transfer.lock.max_age };
    let mut locks = Vec::new();
    for target in &transfer.sync.targets {
        match Lock::take(&daemon::mirror_id(&transfer.sync, target).id, options) {
            Ok(lock) => locks.push(lock),
            Err(error) => {
                complain(&error, Some("--wait-lock SECONDS waits for it"));
                let stale = !matches!(error, LockError::Held { stale: false, .. });
                return Err(if stale { Exit::Timeout.code() } else { 0 });
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

/// Closes the queues when a signal asks for the end, or ends the process if nothing has begun yet; the flag
/// says whether it came to that.
fn stop_on_signals(queues: Queues) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    on_signal(move || {
        let queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queues) = &*queues else { return end() };
        set.store(true, Ordering::Release);
        queues.iter().for_each(|mailbox| mailbox.close());
    });
    flag
}

/// Prints the end of one target and returns its exit code.
fn finish(transfer: &Transfer, printer: &Printer, target: &TargetReport) -> Exit {
    let exit = exit_of_target(transfer, target);
    let summary = summary(transfer, printer, target);
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
            problems: target.problems.len() as u64,
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

/// Returns what rsync ends with after this failure: where the source cannot be read, some of it is not there.
fn exit_of_source(error: &SessionError) -> Exit {
    if matches!(error, SessionError::Source(_)) { Exit::Partial } else { exit_of(error) }
}

/// Says what went wrong with a target and returns its exit code.
fn exit_of_target(transfer: &Transfer, target: &TargetReport) -> Exit {
    let mut exit = Exit::Success;
    if let Some(error) = &target.error {
        let hint = unmade(transfer, target, error).or_else(|| match asked(transfer, target) {
            Some(asked) => daemon::hint_for(error, asked),
            None => daemon::hint(error),
        });
        // A refusal may begin with the host, which is often what the target is called.
        let (name, error_text) = (format!("{}: ", target.name), error.to_string());
        let text = if error_text.starts_with(&name) { error_text } else { name + &error_text };
        complain_text(&text, hint.as_deref());
        exit = exit.and(exit_of_source(error));
    }
    for path in &target.vanished {
        note(&format!("{path} vanished before it could be sent"));
        exit = exit.and(Exit::Vanished);
    }
    if !target.problems.is_empty() {
        exit = exit.and(Exit::Partial);
    }
    if target.held.is_some() { exit.and(Exit::Held) } else { exit }
}

/// Returns the target that is reported of.
fn asked<'a>(transfer: &'a Transfer, target: &TargetReport) -> Option<&'a Target> {
    transfer.sync.targets.iter().find(|asked| asked.name == target.name)
}

/// Returns what to do about a directory that is missing and was not to be made.
fn unmade(transfer: &Transfer, target: &TargetReport, error: &SessionError) -> Option<String> {
    let missing = matches!(error, SessionError::Refused(Refusal::Root { errno: libc::ENOENT, .. }));
    let asked = asked(transfer, target)?;
    (missing && asked.makes == 0).then(|| {
        "SOURCE is a symlink: with a slash at its end TARGET is made a directory, and the link is put into it".to_owned()
    })
}

fn summary(transfer: &Transfer, printer: &Printer, target: &TargetReport) -> Summary {
    let counted = printer.counted(&target.name);
    let totals = &target.totals;
    let source = target.source.clone().unwrap_or_default();
    let mut entries = source.kinds;
    if target.source.is_some() && transfer.sync.selection.files_from.is_none() {
        // rsync counts the top itself.
        entries.add(Kind::Dir);
    }
    Summary {
        entries,
        created: counted.created,
        deleted: counted.deleted,
        transferred_files: totals.files,
        total_bytes: source.bytes,
        transferred_bytes: totals.file_bytes,
        literal_bytes: totals.literal_bytes,
        matched_bytes: totals.matched_bytes,
        list_bytes: 0,
        sent_bytes: totals.sent_bytes,
        received_bytes: totals.received_bytes,
        elapsed: target.elapsed,
    }
}
