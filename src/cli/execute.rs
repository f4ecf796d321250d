//! Running a command to its exit code.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::commands::{Agent, Check, Control, Run};
use super::draft::{Transfer, check_source};
use super::exit::Exit;
use super::parse::Command;
use super::printer::{Printer, Told, line};
use super::report::{Style, render_error, render_note};
use super::summary::{Counts, Record, Summary, TargetSummary};
use crate::config::{self, Config, Settings};
use crate::daemon::{
    self, Daemon, DaemonError, Lock, LockError, LockOptions, OnceOptions, TargetReport, once,
};
use crate::monitor::{Monitor, Notice, Scope};
use crate::protocol::Refusal;
use crate::receiver;
use crate::sender::SessionError;
use crate::status::{Answer, Report, Request};
use crate::transport::TransportError;

/// Time between two summary lines of a live mirror.
const SUMMARY_EVERY: Duration = Duration::from_secs(60);

/// Runs a command and returns what the process ends with.
pub fn execute(command: Command) -> u8 {
    match command {
        Command::Text(text) => {
            let _ = io::stdout().lock().write_all(text.as_bytes());
            0
        }
        Command::Agent(agent) => run_agent(&agent),
        Command::Sync(transfer) => run_sync(&transfer),
        Command::Mirror(transfer) => run_mirror(*transfer),
        Command::Run(run) => run_daemon(&run),
        Command::Check(check) => run_check(&check),
        Command::Status(status) => run_status(&status.control, status.json),
        Command::Wait(wait) => {
            let timeout_ms = wait.timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
            tell(&wait.control, &Request::Wait { sync: wait.sync, targets: wait.targets, timeout_ms }, "")
        }
        Command::Reconcile(it) => tell(&it.control, &Request::Reconcile { sync: it.sync }, "comparing"),
        Command::Pause(it) => tell(&it.control, &Request::Pause { sync: it.sync }, "paused"),
        Command::Resume(it) => tell(&it.control, &Request::Resume { sync: it.sync }, "resumed"),
        Command::Approve(it) => {
            tell(&it.control, &Request::Approve { sync: it.sync, target: it.target }, "deletes approved")
        }
        Command::Discard(it) => {
            tell(&it.control, &Request::Discard { sync: it.sync, target: it.target }, "deletes discarded")
        }
    }
}

fn style() -> Style {
    Style::detect(io::stderr().is_terminal())
}

fn complain(error: &(dyn std::error::Error + 'static), hint: Option<&str>) {
    let _ = io::stderr().lock().write_all(render_error(error, hint, style()).as_bytes());
}

fn complain_text(text: &str, hint: Option<&str>) {
    complain(&io::Error::other(text.to_owned()), hint);
}

fn run_agent(agent: &Agent) -> u8 {
    if agent.identify {
        return match crate::transport::own_hash() {
            Ok(hash) => {
                println!("{hash}");
                0
            }
            Err(text) => {
                complain_text(text, None);
                Exit::Protocol.code()
            }
        };
    }
    crate::disk::raise_limits();
    let Ok(input) = rustix::io::dup(io::stdin()) else { return Exit::Stream.code() };
    let options = receiver::Options { root: agent.root.clone() };
    match receiver::serve(input, Box::new(io::stdout()), &options) {
        Ok(()) => 0,
        Err(error) => {
            complain(&error, None);
            Exit::Stream.code()
        }
    }
}

/// Returns what rsync would end with after this failure.
fn exit_of(error: &SessionError) -> Exit {
    match error {
        SessionError::Ended(ended) if ended.status == Some(255) => Exit::RemoteShell,
        SessionError::Transport(TransportError::Connect(_) | TransportError::HostKey(_)) => Exit::RemoteShell,
        SessionError::Transport(TransportError::Setting(_)) => Exit::Syntax,
        SessionError::Silent(_) => Exit::Timeout,
        SessionError::Refused(Refusal::Version { .. }) => Exit::Protocol,
        SessionError::Refused(Refusal::Root { .. }) => Exit::File,
        SessionError::Refused(_) => Exit::Selection,
        SessionError::Source(_) => Exit::Partial,
        SessionError::Option(_) => Exit::Syntax,
        _ => Exit::Stream,
    }
}

fn run_sync(transfer: &Transfer) -> u8 {
    crate::disk::raise_limits();
    for note in &transfer.notes {
        let _ = io::stderr().lock().write_all(render_note(note, style()).as_bytes());
    }
    if let Err(error) = check_source(&transfer.sync.source) {
        complain(&error, error.hint().as_deref());
        return error.exit().code();
    }
    let _locks = match take_locks(transfer) {
        Ok(locks) => locks,
        Err(code) => return code,
    };
    let printer = match Printer::new(&transfer.output, &transfer.sync, false) {
        Ok(printer) => Arc::new(printer),
        Err(error) => {
            complain_text(&format!("log file: {}", crate::error::io_text(&error)), None);
            return Exit::Syntax.code();
        }
    };
    let stopped = Arc::new(Mutex::new(Vec::new()));
    let watched = Arc::clone(&stopped);
    let stop = stop_on_signals(move || {
        for mailbox in watched.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            let mailbox: &Arc<crate::sender::Mailbox> = mailbox;
            mailbox.close();
        }
    });
    let monitor: Arc<dyn Monitor> = Arc::clone(&printer) as Arc<dyn Monitor>;
    let options = OnceOptions { dry_run: transfer.dry_run };
    let report = once(&transfer.sync, options, &monitor, |mailboxes| {
        *stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = mailboxes;
    });
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            complain(&error, None);
            return exit_of(&error).code();
        }
    };
    let mut exit = Exit::Success;
    for target in &report.targets {
        exit = exit.and(finish_target(transfer, &printer, target));
    }
    if stop.load(std::sync::atomic::Ordering::Acquire) {
        exit = exit.and(Exit::Signal);
    }
    if transfer.output.json {
        if let Ok(line) = (Record::Exit { code: exit.code(), error: None }).line() {
            let _ = io::stdout().lock().write_all(line.as_bytes());
        }
    }
    exit.code()
}

fn take_locks(transfer: &Transfer) -> Result<Vec<Lock>, u8> {
    if transfer.dry_run {
        return Ok(Vec::new());
    }
    let options = LockOptions { wait: transfer.lock.wait, max_age: transfer.lock.max_age };
    let mut locks = Vec::new();
    for target in &transfer.sync.targets {
        match Lock::take(&daemon::mirror_id(&transfer.sync, target), options) {
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

/// Calls `stop` on INT or TERM, on a thread of its own; the flag says whether it came to that.
fn stop_on_signals(stop: impl Fn() + Send + 'static) -> Arc<std::sync::atomic::AtomicBool> {
    use tokio::signal::unix::{SignalKind, signal};
    let flag = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let wait = async move {
        let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
        set.store(true, std::sync::atomic::Ordering::Release);
        stop();
    };
    std::thread::spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            runtime.block_on(wait);
        }
    });
    flag
}

/// Prints the end of one target and returns its exit code.
fn finish_target(transfer: &Transfer, printer: &Printer, target: &TargetReport) -> Exit {
    let output = &transfer.output;
    let mut exit = Exit::Success;
    if let Some(error) = &target.error {
        complain_text(&format!("{}: {error}", target.name), daemon::hint(error).as_deref());
        exit = exit.and(exit_of(error));
    }
    for path in &target.vanished {
        let text = format!("{path} vanished before it could be sent");
        let _ = io::stderr().lock().write_all(render_note(&text, style()).as_bytes());
        exit = exit.and(Exit::Vanished);
    }
    if !target.problems.is_empty() {
        exit = exit.and(Exit::Partial);
    }
    if target.held.is_some() {
        exit = exit.and(Exit::Held);
    }
    let counted = printer.counted();
    let totals = &target.totals;
    let source = target.source.clone().unwrap_or_default();
    let summary = Summary {
        entries: Counts { files: source.entries, ..Counts::default() },
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
    };
    let mut text = String::new();
    if output.table() {
        text.push('\n');
        text.push_str(&summary.table(output.numbers));
    }
    if output.closing_lines() {
        text.push('\n');
        text.push_str(&summary.closing(output.numbers, transfer.dry_run));
    }
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
    }
    let _ = io::stdout().lock().write_all(text.as_bytes());
    exit
}

fn run_mirror(transfer: Transfer) -> u8 {
    crate::disk::raise_limits();
    for note in &transfer.notes {
        let _ = io::stderr().lock().write_all(render_note(note, style()).as_bytes());
    }
    if let Err(error) = check_source(&transfer.sync.source) {
        complain(&error, error.hint().as_deref());
        return error.exit().code();
    }
    if !transfer.output.quiet {
        for target in &transfer.sync.targets {
            println!("mirroring {} to {target}", transfer.sync.source.display());
        }
    }
    let printer = match Printer::new(&transfer.output, &transfer.sync, true) {
        Ok(printer) => printer,
        Err(error) => {
            complain_text(&format!("log file: {}", crate::error::io_text(&error)), None);
            return Exit::Syntax.code();
        }
    };
    let settings = Settings { control: transfer.control.clone(), ..Settings::default() };
    let config = Config { settings, syncs: vec![transfer.sync] };
    let quiet = transfer.output.quiet;
    serve(config, Arc::new(printer), None, transfer.dry_run, quiet)
}

fn serve(
    config: Config,
    monitor: Arc<dyn Monitor>,
    reload: Option<daemon::Reload>,
    dry_run: bool,
    quiet: bool,
) -> u8 {
    let tick = summary_lines(quiet);
    let daemon = Daemon::new(&config, monitor, reload, tick).dry_run(dry_run);
    match daemon.run(config.syncs) {
        Ok(libc::SIGTERM) => 0,
        Ok(_) => Exit::Signal.code(),
        Err(error) => {
            complain(&error, None);
            match error {
                DaemonError::Nothing(error) => exit_of(&error).code(),
                _ => Exit::Stream.code(),
            }
        }
    }
}

/// Returns what prints one summary line a minute.
fn summary_lines(quiet: bool) -> Box<dyn Fn(&Report) + Send> {
    let last = Mutex::new(std::time::Instant::now());
    Box::new(move |report| {
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if quiet || last.elapsed() < SUMMARY_EVERY {
            return;
        }
        *last = std::time::Instant::now();
        for sync in &report.syncs {
            for target in &sync.targets {
                println!(
                    "{} → {}: {}, lag {:.3} s, {} queued, {} files and {} bytes sent, {} problems",
                    sync.name,
                    target.name,
                    target.state.replace('_', " "),
                    Duration::from_millis(target.lag_ms).as_secs_f64(),
                    target.queued,
                    target.files,
                    target.sent_bytes,
                    target.problems.len()
                );
            }
        }
    })
}

/// Notices of a daemon as log lines.
struct Logger;

impl Monitor for Logger {
    fn notice(&self, scope: &Scope, notice: &Notice) {
        match line(scope, notice, true) {
            Told::Trouble(text) => tracing::warn!("{}", text.replace('\n', "; ")),
            Told::News(text) => tracing::info!("{text}"),
            Told::Detail(text) => tracing::debug!("{text}"),
        }
    }
}

fn run_daemon(run: &Run) -> u8 {
    crate::disk::raise_limits();
    let loaded = match config::load_all(&run.configs) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error, error.hint().as_deref());
            return Exit::Syntax.code();
        }
    };
    let mut config = loaded.config;
    let settings = &mut config.settings;
    settings.logfile = run.log_file.clone().or(settings.logfile.take());
    settings.pidfile = run.pidfile.clone().or(settings.pidfile.take());
    settings.control = run.control.clone().or(settings.control.take());
    if let Err(error) = start_logging(settings.logfile.as_deref(), run.verbose) {
        complain_text(&error, None);
        return Exit::Syntax.code();
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(path) = &config.settings.pidfile {
        if let Err(error) = std::fs::write(path, format!("{}\n", std::process::id())) {
            complain_text(&format!("pidfile {}: {}", path.display(), crate::error::io_text(&error)), None);
            return Exit::File.code();
        }
    }
    let paths: Vec<PathBuf> =
        run.configs.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect();
    let reload: daemon::Reload = Box::new(move || {
        config::load_all(&paths).map(|loaded| loaded.config).map_err(|error| error.to_string())
    });
    let pidfile = config.settings.pidfile.clone();
    let code = serve(config, Arc::new(Logger), Some(reload), run.dry_run, true);
    if let Some(path) = pidfile {
        let _ = std::fs::remove_file(path);
    }
    code
}

fn start_logging(logfile: Option<&Path>, verbose: u8) -> Result<(), String> {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SPEIL_LOG").unwrap_or_else(|_| level.into());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(verbose > 0);
    let done = match logfile {
        Some(path) => {
            let file = std::fs::File::options().create(true).append(true).open(path);
            let file = file
                .map_err(|error| format!("log file {}: {}", path.display(), crate::error::io_text(&error)))?;
            builder.with_ansi(false).with_writer(Mutex::new(file)).try_init()
        }
        None => builder.with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).try_init(),
    };
    done.map_err(|error| error.to_string())
}

fn run_check(check: &Check) -> u8 {
    let loaded = match config::load(&check.config) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error, error.hint().as_deref());
            return Exit::Syntax.code();
        }
    };
    for warning in &loaded.warnings {
        println!("warning: {warning}");
    }
    for sync in &loaded.config.syncs {
        println!("{}", config::explain(sync).join("\n"));
        for risk in config::risks(sync, &|path| path.exists()) {
            println!("  warning: {risk}");
        }
    }
    let mut code = 0;
    for invalid in loaded.config.validate() {
        println!("error: {invalid}");
        code = Exit::Syntax.code();
    }
    code
}

fn socket(control: &Control) -> Option<PathBuf> {
    let found = control.control.clone().or_else(daemon::find_socket);
    if found.is_none() {
        complain_text("no running speil was found", Some("--control SOCKET names the socket of a daemon"));
    }
    found
}

fn run_status(control: &Control, json: bool) -> u8 {
    let Some(socket) = socket(control) else { return Exit::Stream.code() };
    match daemon::ask(&socket, &Request::Status, Some(Duration::from_secs(10))) {
        Ok(Answer::Status(report)) => {
            let text = if json {
                serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
            } else {
                crate::status::text(&report)
            };
            let _ = io::stdout().lock().write_all(text.as_bytes());
            0
        }
        other => unexpected(&socket, other),
    }
}

fn tell(control: &Control, request: &Request, done: &str) -> u8 {
    let Some(socket) = socket(control) else { return Exit::Stream.code() };
    let limit = if matches!(request, Request::Wait { .. }) { None } else { Some(Duration::from_secs(60)) };
    match daemon::ask(&socket, request, limit) {
        Ok(Answer::Done { count }) => {
            if !done.is_empty() {
                println!("{count} {done}");
            }
            0
        }
        other => unexpected(&socket, other),
    }
}

fn unexpected(socket: &Path, answer: io::Result<Answer>) -> u8 {
    match answer {
        Ok(Answer::Failed { error, code }) => {
            complain_text(&error, None);
            code
        }
        Ok(_) => {
            complain_text("the daemon gave an answer of another version", None);
            Exit::Protocol.code()
        }
        Err(error) => {
            complain_text(&format!("{}: {}", socket.display(), crate::error::io_text(&error)), None);
            Exit::Stream.code()
        }
    }
}
