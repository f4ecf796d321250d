//! `speil mirror` and `speil run`: until they are stopped.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{complain, complain_text, exit_of, note, print};
use crate::cli::commands::Run;
use crate::cli::draft::{Transfer, check_source};
use crate::cli::exit::Exit;
use crate::cli::log::{Log, Sink, Style, is_journal, listen};
use crate::cli::output::{Lock, Output};
use crate::cli::printer::Printer;
use crate::config::{self, AgentSource, Config, LogFormat, Settings, Sync, Target};
use crate::daemon::{self, Daemon, DaemonError, LeftOut, Onlooker};
use crate::error::io_text;
use crate::hooks::{Hooked, Notifier};
use crate::monitor::{Level, counted, sized};
use crate::protocol::Refusal;
use crate::sender::{Lead, SessionError, Stand};
use crate::status::{Report, Tried};

/// Time between two summary lines of a live mirror.
const SUMMARY_EVERY: Duration = Duration::from_secs(60);

/// What hears the state of a daemon that has a configuration.
struct Attendant {
    log: Arc<Log>,
    notifier: Arc<Notifier>,
}

impl Onlooker for Attendant {
    fn look(&self, report: &Report) {
        self.log.sweep();
        self.notifier.look(report);
    }

    fn try_out(&self) -> Vec<Tried> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.notifier.try_out(time.as_secs())
    }
}

/// Mirrors what the command line names.
pub(super) fn mirror(transfer: Transfer) -> u8 {
    crate::disk::raise_limits();
    transfer.notes.iter().for_each(|text| note(text));
    if let Err(error) = check_source(&transfer.sync.source) {
        complain(&error, error.hint().as_deref());
        return error.exit().code();
    }
    if let Some(target) = transfer.sync.targets.iter().find(|target| overlaps(&transfer.sync.source, target))
    {
        // It would be refused again and again.
        let error = SessionError::Refused(Refusal::Nested);
        complain_text(&format!("{target}: {error}"), daemon::hint(&error).as_deref());
        return exit_of(&error).code();
    }
    if transfer.dry_run {
        // What the first pass would do is all there is to say without doing it.
        return super::sync::run(&transfer);
    }
    if !transfer.output.quiet {
        for target in &transfer.sync.targets {
            print(&format!("mirroring {} to {target}\n", transfer.sync.source.display()));
        }
    }
    match daemon_of(&transfer) {
        Ok(daemon) => serve(daemon, vec![transfer.sync]),
        Err(code) => code,
    }
}

/// Returns the daemon of a live mirror without a configuration.
pub(super) fn daemon_of(transfer: &Transfer) -> Result<Daemon, u8> {
    let printer = Printer::new(&transfer.output, &transfer.sync, (true, false)).map_err(|error| {
        complain_text(&super::sync::unwritten(transfer, &error), None);
        Exit::File.code()
    })?;
    let printer = printer.that_pulls(transfer.from.is_some());
    let settings = Settings { control: transfer.control.clone(), ..Settings::default() };
    let config = Config { settings, syncs: Vec::new() };
    let summaries = Summaries { quiet: transfer.output.quiet, last: Mutex::new(Instant::now()) };
    Ok(Daemon::new(&config, Arc::new(printer), None, Arc::new(summaries)))
}

/// Whether a target on this host is the source, holds it, or is to be made in it. What this does not see, the
/// agent does.
fn overlaps(source: &Path, target: &Target) -> bool {
    let path = Path::new(OsStr::from_bytes(&target.path));
    let there =
        path.ancestors().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    let real = there.map(std::fs::canonicalize).find_map(Result::ok);
    let (Ok(source), Some(real)) = (source.canonicalize(), real) else { return false };
    target.host.is_none() && (real.starts_with(&source) || (path.exists() && source.starts_with(&real)))
}

fn serve(daemon: Daemon, syncs: Vec<Sync>) -> u8 {
    served(daemon.run(syncs))
}

/// Returns the exit code of a daemon that has ended.
pub(super) fn served(ended: Result<i32, DaemonError>) -> u8 {
    match ended {
        Ok(libc::SIGTERM) => 0,
        Ok(_) => Exit::Signal.code(),
        Err(error) => {
            complain(&error, None);
            match error {
                DaemonError::Nothing(error) => exit_of(&error).code(),
                DaemonError::Taken { .. } | DaemonError::Unstarted(_) => Exit::Selection.code(),
                DaemonError::Control { .. } => Exit::File.code(),
                DaemonError::Runtime(_) => Exit::Stream.code(),
            }
        }
    }
}

/// Prints one summary line a minute.
struct Summaries {
    quiet: bool,
    last: Mutex<Instant>,
}

impl Onlooker for Summaries {
    fn look(&self, report: &Report) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.quiet || last.elapsed() < SUMMARY_EVERY {
            return;
        }
        *last = Instant::now();
        for sync in &report.syncs {
            for target in &sync.targets {
                print(&format!(
                    "{} → {}: {}, {}, {} queued, {} and {} sent\n",
                    sync.name,
                    target.name,
                    target.state.replace('_', " "),
                    target.lag(),
                    target.queued,
                    counted(target.files, "file", "files"),
                    sized(target.sent_bytes)
                ));
            }
        }
    }
}

/// Runs the syncs of configurations.
pub(super) fn run(run: &Run) -> u8 {
    crate::disk::raise_limits();
    let read = if run.strict { config::load_all(&run.configs) } else { config::load_whole(&run.configs) };
    let loaded = match read {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error, error.hint().as_deref());
            return Exit::Syntax.code();
        }
    };
    let mut config = loaded.config;
    overrule(&mut config.settings, run);
    let log = match start_logging(&config.settings, run) {
        Ok(log) => log,
        Err((error, exit)) => {
            complain_text(&error, None);
            return exit.code();
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for (_, error) in &loaded.broken {
        let hint = error.hint().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
        tracing::error!("a sync is left out, the others run: {error}{hint}");
    }
    if run.dry_run {
        return say_first_pass(config);
    }
    let pidfile = config.settings.pidfile.clone();
    if let Some(path) = &pidfile
        && let Err(error) = crate::disk::write_whole(path, format!("{}\n", std::process::id()).as_bytes())
    {
        complain_text(&format!("pidfile {}: {}", path.display(), io_text(&error)), None);
        return Exit::File.code();
    }
    let notifier = Arc::new(Notifier::new(Arc::clone(&log) as _, config.settings.notify.as_ref()));
    let attendant = Arc::new(Attendant { log: Arc::clone(&log), notifier: Arc::clone(&notifier) });
    // What the command line says holds for ever.
    let follows = run.log_file.is_none().then(|| Arc::clone(&log));
    let hooked = Hooked::new(log, loaded.hooks, config.settings.hook_timeout);
    let reload = reload(&run.configs, Arc::clone(&hooked), notifier, follows);
    let left_out =
        loaded.broken.iter().map(|(name, error)| LeftOut { name: name.clone(), error: error.to_string() });
    let daemon = Daemon::new(&config, hooked, Some(reload), attendant).strict(run.strict);
    let daemon = daemon.left_out(left_out.collect());
    let code = serve(daemon, config.syncs);
    if let Some(path) = pidfile {
        let _ = std::fs::remove_file(path);
    }
    code
}

/// Says what the first pass of every sync would do, and changes nothing.
fn say_first_pass(config: Config) -> u8 {
    let mut worst = 0;
    for sync in config.syncs {
        if let Stand::Waits { line, .. } = Lead::of_sync(&sync).stand() {
            note(&format!("{}: {line}; if it led, its first pass would do this", sync.name));
        }
        let output = Output { itemize: 1, ..Output::default() };
        let (lock, notes) = (Lock::default(), Vec::new());
        let uploads = sync.agent == AgentSource::Deploy;
        let transfer = Transfer {
            sync,
            output,
            dry_run: true,
            uploads,
            partial: false,
            lock,
            control: None,
            notes,
            from: None,
        };
        worst = worst.max(super::sync::run(&transfer));
    }
    worst
}

/// Lets the command line have the last word.
fn overrule(settings: &mut Settings, run: &Run) {
    settings.logfile = run.log_file.clone().or(settings.logfile.take());
    settings.pidfile = run.pidfile.clone().or(settings.pidfile.take());
    settings.control = run.control.clone().or(settings.control.take());
    settings.log_format = run.log_format.unwrap_or(settings.log_format);
}

/// Returns what reads the same files again, wherever the process stands by then. A file that is wrong
/// anywhere is refused whole: left out now, its sync would stop. `log` follows the file's `logfile`.
fn reload(
    configs: &[PathBuf],
    hooked: Arc<Hooked>,
    notifier: Arc<Notifier>,
    log: Option<Arc<Log>>,
) -> daemon::Reload {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let paths: Vec<PathBuf> = configs.iter().map(absolute).collect();
    Box::new(move || {
        let loaded = config::load_all(&paths).map_err(|error| error.to_string())?;
        hooked.replace(loaded.hooks, loaded.config.settings.hook_timeout);
        notifier.replace(loaded.config.settings.notify.as_ref());
        if let (Some(log), Some(path)) = (&log, &loaded.config.settings.logfile) {
            log.write_to(path);
        }
        Ok(loaded.config)
    })
}

/// Makes the log that settings and arguments ask for, and has it hear the libraries as well.
fn start_logging(settings: &Settings, run: &Run) -> Result<Arc<Log>, (String, Exit)> {
    let asked = std::env::var("SPEIL_LOG").ok().and_then(|name| Level::parse(&name));
    let level = asked.unwrap_or(match run.verbose {
        0 => Level::Info,
        1 => Level::Debug,
        _ => Level::Trace,
    });
    let format = settings.log_format;
    let sink = match (&settings.logfile, format) {
        (_, LogFormat::Syslog) => {
            let (ident, facility) = (settings.log_ident.as_deref(), settings.log_facility.as_deref());
            let facility = facility.unwrap_or("daemon");
            Sink::syslog(ident.unwrap_or("speil"), facility)
                .ok_or_else(|| (format!("logfacility {facility:?} is no facility of syslog"), Exit::Syntax))?
        }
        (Some(path), _) => Sink::file(path)
            .map_err(|error| (format!("log file {}: {}", path.display(), io_text(&error)), Exit::File))?,
        (None, LogFormat::Human) if is_journal() => Sink::journal(),
        (None, _) => Sink::Stderr,
    };
    let style = match (format, &sink) {
        (LogFormat::Json, _) => Style::Json,
        (LogFormat::Syslog, _) => Style::Syslog,
        (LogFormat::Human, Sink::Stderr | Sink::Journal(_)) if is_journal() => Style::Journal,
        (LogFormat::Human, _) => Style::Human { stamp: true },
    };
    let log = Log::new(style, level, sink);
    listen(&log).map_err(|error| (error, Exit::Syntax))?;
    Ok(log)
}
