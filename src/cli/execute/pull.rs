//! `speil sync HOST:SOURCE/ TARGET`: one pass of a source on another host, and its end as rsync tells it.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::sync::{End, close, exit_of_source, finish, open, stop_on_signals, uploads_of};
use super::{complain, note};
use crate::cli::draft::{Far, Transfer};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::config::Target;
use crate::daemon::{self, PullOptions, Pulled, Stopper};
use crate::monitor::{Monitor, Totals};
use crate::protocol::{Account, Failure, PULL_EDITION, Unsent};
use crate::sender::SessionError;
use crate::tree::quote;

/// Makes one pass and returns the exit code.
///
/// # Errors
/// What the source's host says where it sends nothing of this kind: nothing was changed then.
pub(super) fn run(transfer: &Transfer, far: &Far) -> Result<u8, CliError> {
    crate::disk::raise_limits();
    transfer.notes.iter().for_each(|text| note(text));
    let stopper = Arc::new(Mutex::new(None));
    let stop = stop_on_signals(Arc::clone(&stopper), Stopper::stop);
    let (printer, _locks) = match open(transfer) {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let monitor: Arc<dyn Monitor> = Arc::clone(&printer) as Arc<dyn Monitor>;
    let options =
        PullOptions { is_named: far.is_named, dry_run: transfer.dry_run, uploads: uploads_of(transfer) };
    let began = Instant::now();
    let pulled = daemon::pull((&transfer.sync, &far.host), &options, &monitor, |new| {
        *stopper.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
    });
    printer.end_progress();
    let Some(target) = transfer.sync.targets.first() else { return Ok(Exit::Syntax.code()) };
    let mut ended = End {
        name: target.name.clone(),
        totals: Totals::default(),
        source: None,
        problems: 0,
        vanished: Vec::new(),
        held: false,
        failure: None,
        elapsed: began.elapsed(),
    };
    match pulled {
        // Told with the exit code that rsync has for it.
        Pulled::Unsent(why @ Unsent::Source(_)) => {
            complain(&unsent(&shown(transfer, far), &why), None);
            return Ok(close(transfer, Exit::Partial, &stop));
        }
        Pulled::Unsent(why) => return Err(unsent(&shown(transfer, far), &why)),
        Pulled::Done { account, vanished } => {
            let Account { totals, source, problems, held, failure } = *account;
            // Here it comes in what goes out there.
            let (sent_bytes, received_bytes) = (totals.received_bytes, totals.sent_bytes);
            ended.totals = Totals { sent_bytes, received_bytes, ..totals };
            (ended.source, ended.problems, ended.held, ended.vanished) = (source, problems, held, vanished);
            ended.failure = failure.map(|failure| in_words(failure, target));
        }
        Pulled::Broken(error) if is_older(&error) => return Err(older(&far.host)),
        Pulled::Broken(error) => {
            ended.name = far.host.clone();
            ended.failure = Some((error.to_string(), daemon::hint(&error), exit_of_source(&error)));
        }
    }
    // Whoever stops it knows why it ended.
    ended.failure = ended.failure.filter(|_| !stop.load(Ordering::Acquire));
    Ok(close(transfer, finish(transfer, &printer, &ended), &stop))
}

/// Returns what the far side says of a failure, as its own side would say it.
fn in_words(failure: Failure, target: &Target) -> (String, Option<String>, Exit) {
    match failure {
        Failure::Refused(refusal) => {
            let error = SessionError::Refused(refusal);
            (error.to_string(), daemon::hint_for(&error, target), exit_of_source(&error))
        }
        Failure::Other { text, hint, code } => {
            let exit = Exit::ALL.into_iter().find(|exit| exit.code() == code && *exit != Exit::Success);
            (text, hint, exit.unwrap_or(Exit::Stream))
        }
    }
}

/// Whether the agent there knows no option that has it send.
fn is_older(error: &SessionError) -> bool {
    let SessionError::Ended(ended) = error else { return false };
    ended.stderr.iter().any(|line| line.contains("unknown option --send"))
}

fn older(host: &str) -> CliError {
    CliError::Unsent {
        text: format!(
            "the speil on {} is older than this one, and cannot be pulled from",
            quote(host.as_bytes())
        ),
        hint: "install this version there as well, or bring it along with --agent=deploy",
        exit: Exit::Protocol,
    }
}

/// Returns the source as it is told, quoted.
fn shown(transfer: &Transfer, far: &Far) -> String {
    let path = transfer.sync.source.as_os_str().as_bytes();
    quote(&[far.host.as_bytes(), b":", path].concat())
}

fn unsent(source: &str, why: &Unsent) -> CliError {
    let refused = |text: String, hint, exit| CliError::Unsent { text, hint, exit };
    match why {
        Unsent::NotDirectory => CliError::SourceNotDirectory(source.to_owned()),
        Unsent::Link => CliError::SourceLink(source.to_owned()),
        Unsent::Outside => refused(
            format!(
                "SOURCE {source} is not below the directory that this login may read, or a symlink leads there"
            ),
            "a relative path counts from that directory, the --root of the key's forced command",
            Exit::Selection,
        ),
        Unsent::Receives => refused(
            format!(
                "SOURCE {source}: this login only receives: its forced command is speil agent without --send"
            ),
            "a key of its own, whose forced command is speil agent --root DIR --send, may be pulled with",
            Exit::Selection,
        ),
        Unsent::Edition { edition, program } => refused(
            format!(
                "the source's host has speil {}, which takes orders of edition {edition}, and this one gives edition \
                 {PULL_EDITION}",
                quote(program.as_bytes())
            ),
            "install the same version of speil on both hosts",
            Exit::Protocol,
        ),
        Unsent::Source(errno) => {
            CliError::Source { path: source.to_owned(), source: std::io::Error::from_raw_os_error(*errno) }
        }
    }
}
