//! `speil sync HOST:SOURCE/ TARGET`: one pass of a source on another host, and its end as rsync tells it; and
//! `speil mirror HOST:SOURCE/ TARGET`, until it is stopped.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_bytes::ByteBuf;

use super::sync::{End, close, exit_of_source, finish, open, stop_on_signals, uploads_of};
use super::{complain, note, print};
use crate::cli::draft::{Far, Transfer};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::config::{DeleteMode, Sources, Target};
use crate::daemon::{self, DaemonError, PullOptions, Pulled, Pulling, Stopper, Unstarted};
use crate::monitor::{Monitor, Totals};
use crate::protocol::{Account, Failure, PULL_EDITION, Unsent};
use crate::sender::SessionError;
use crate::tree::{RelPath, quote};

/// Makes one pass and returns the exit code.
///
/// # Errors
/// What the source's host says where it sends nothing of this kind: nothing was changed then.
pub(super) fn run(transfer: &Transfer, far: &Far) -> Result<u8, CliError> {
    crate::disk::raise_limits();
    transfer.notes.iter().for_each(|text| note(text));
    let stopper = Stopping::default();
    let stop = stop_on_signals(Arc::clone(&stopper), Stopper::stop);
    let (landed, alone) = landed(transfer);
    match once((&landed, far, alone), (&stopper, &stop)) {
        // Only its host knows what it is.
        Err(CliError::SourceLink(_) | CliError::SourceNotDirectory(_))
            if far.is_named && far.target.is_some() && transfer.sync.sources.is_none() =>
        {
            let (landed, alone) = landed_as(transfer, far);
            once((&landed, far, alone), (&stopper, &stop))
        }
        done => done,
    }
}

/// Mirrors until it is stopped, and returns the exit code.
pub(super) fn mirror(transfer: Transfer, far: &Far) -> u8 {
    let said = |error: CliError| {
        complain(&error, error.hint().as_deref());
        error.exit().code()
    };
    if transfer.dry_run {
        // What the first pass would do is all there is to say without doing it.
        return run(&transfer, far).unwrap_or_else(said);
    }
    crate::disk::raise_limits();
    transfer.notes.iter().for_each(|text| note(text));
    let source = shown(&transfer, far);
    if let (false, Some(target)) = (transfer.output.quiet, transfer.sync.targets.first()) {
        print(&format!("mirroring {} to {target}\n", source.trim_matches('"')));
    }
    let daemon = match super::live::daemon_of(&transfer) {
        Ok(daemon) => daemon,
        Err(code) => return code,
    };
    let told = source.clone();
    let words = move |why: &Unsent| {
        let error = unsent(&told, why);
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        (format!("{error}{cause}"), error.hint())
    };
    let (options, host) =
        (PullOptions { uploads: uploads_of(&transfer), ..PullOptions::default() }, far.host.clone());
    let pulling = Pulling { sync: transfer.sync, host, options, words: Box::new(words) };
    match daemon.pulls(pulling).run(Vec::new()) {
        Err(DaemonError::Unstarted(Unstarted::Older)) => said(older(&far.host)),
        // As of a source on this host.
        Err(DaemonError::Unstarted(Unstarted::Unsent(why))) => said(unsent(&source, &why)),
        ended => super::live::served(ended),
    }
}

/// What ends a pull early, once there is one.
type Stopping = Arc<Mutex<Option<Stopper>>>;

/// Returns a pull as it is made of a source that is no directory.
fn landed_as(transfer: &Transfer, far: &Far) -> (Transfer, Option<RelPath>) {
    let mut named = transfer.clone();
    let word = ByteBuf::from(named.sync.source.as_os_str().as_bytes());
    named.sync.sources = Some(Sources { words: vec![word], ..Sources::default() });
    // Below what is no directory there is nothing that could be gone.
    named.sync.delete = DeleteMode::Never;
    named.sync.targets = far.target.iter().cloned().collect();
    landed(&named)
}

/// Has the one source take the name of a target that is no directory. Returns what alone may be written then.
fn landed(transfer: &Transfer) -> (Transfer, Option<RelPath>) {
    let mut landed = transfer.clone();
    let Some(target) = landed.sync.targets.first_mut().filter(|target| target.lands.is_some()) else {
        return (landed, None);
    };
    let is_dir = Path::new(OsStr::from_bytes(&target.path)).is_dir();
    let Some((dir, name)) = daemon::above(target).filter(|_| !is_dir) else { return (landed, None) };
    *target = dir;
    if let Some(sources) = &mut landed.sync.sources {
        sources.called = Some(ByteBuf::from(name.as_bytes()));
    }
    (landed, Some(name))
}

fn once(
    (transfer, far, alone): (&Transfer, &Far, Option<RelPath>),
    (stopper, stop): (&Stopping, &AtomicBool),
) -> Result<u8, CliError> {
    let (printer, _locks) = match open(transfer) {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let monitor: Arc<dyn Monitor> = Arc::clone(&printer) as Arc<dyn Monitor>;
    let (dry_run, uploads) = (transfer.dry_run, uploads_of(transfer));
    let options = PullOptions { is_named: far.is_named, dry_run, uploads, alone };
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
        is_list: transfer.sync.selection.files_from.is_some(),
    };
    match pulled {
        // Told with the exit code that rsync has for it.
        Pulled::Unsent(why @ Unsent::Source(_)) => {
            complain(&unsent(&shown(transfer, far), &why), None);
            return Ok(close(transfer, Exit::Partial, stop));
        }
        // What has a slash at its end and is no directory cannot be entered, says rsync.
        Pulled::Unsent(Unsent::NotDirectory) if transfer.sync.selection.list_only => {
            complain(&unsent(&shown(transfer, far), &Unsent::Source(libc::ENOTDIR)), None);
            return Ok(close(transfer, Exit::Partial, stop));
        }
        Pulled::Unsent(why) => return Err(unsent(&shown(transfer, far), &why)),
        Pulled::Done { account, vanished } => {
            let Account { totals, source, problems, held, is_list, failure } = *account;
            ended.is_list |= is_list;
            // Here it comes in what goes out there.
            let (sent_bytes, received_bytes) = (totals.received_bytes, totals.sent_bytes);
            ended.totals = Totals { sent_bytes, received_bytes, ..totals };
            (ended.source, ended.problems, ended.held, ended.vanished) = (source, problems, held, vanished);
            ended.failure = failure.map(|failure| in_words(failure, target));
        }
        Pulled::Broken(error) if daemon::is_older(&error) => return Err(older(&far.host)),
        Pulled::Broken(error) => {
            ended.name = far.host.clone();
            ended.failure = Some((error.to_string(), daemon::hint(&error), exit_of_source(&error)));
        }
    }
    // Whoever stops it knows why it ended.
    ended.failure = ended.failure.filter(|_| !stop.load(Ordering::Acquire));
    Ok(close(transfer, finish(transfer, &printer, &ended), stop))
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
        Unsent::Directory => CliError::NotRecursive,
        Unsent::OneDirectory => refused(
            format!(
                "SOURCE {source}: this login hides a part of its directory, and sends one directory at a time"
            ),
            "pull each source by itself; a single file with --include and --exclude",
            Exit::Selection,
        ),
        Unsent::Rules(why) => refused(
            format!("SOURCE {source}: {}", quote(why.as_bytes())),
            "correct the file on that host",
            Exit::Selection,
        ),
        Unsent::ReadOnly => refused(
            format!("SOURCE {source}: this login may only read, and --remove-source-files removes"),
            "leave out --remove-source-files",
            Exit::Selection,
        ),
        Unsent::Follows => refused(
            format!("SOURCE {source}: this login hides a part of its directory, and follows no symlinks"),
            "leave out -L, -k and --copy-unsafe-links",
            Exit::Selection,
        ),
        Unsent::Role => refused(
            format!("SOURCE {source} has a role of a failover, and its own host sends it to its standbys"),
            "name this host as one of its standbys there, or pull it once with speil sync",
            Exit::Selection,
        ),
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
