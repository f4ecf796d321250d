//! Runs a configuration until it ends: start, log, the background, resets.
//!
//! **Invariants:** signals are heard by one thread of their own; a reset that cannot read the configuration
//! leaves the old one at work. **Not here:** the work itself (`round`).
//! **Sources:** lsyncd 2.2.3 as observed.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::core::Message;
use super::daemonize;
use super::intake::InotifyMode;
use super::log::{self, Categories, Log};
use super::native::Mirrors;
use super::round::{End, Round};
use crate::config::{LsyncdConfig, LsyncdError, LsyncdOptions, LsyncdSettings, Said, SaidTo, load_lsyncd};

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The configuration.
    pub config: LsyncdOptions,
    /// `-nodaemon`.
    pub nodaemon: bool,
    /// `-logfile`.
    pub logfile: Option<PathBuf>,
    /// `-pidfile`.
    pub pidfile: Option<PathBuf>,
    /// `-insist`.
    pub insist: bool,
    /// `-onepass`.
    pub onepass: bool,
    /// `-log`.
    pub categories: Categories,
}

/// Reads the configuration, relative names from where the process was started.
fn load(options: &Options, cwd: &Option<PathBuf>, log: &Log) -> Result<LsyncdConfig, i32> {
    let now = std::env::current_dir().ok();
    if let Some(cwd) = cwd {
        // Where it is gone, relative names fail by themselves.
        let _ = std::env::set_current_dir(cwd);
    }
    let said = log.clone();
    let say: SaidTo = Arc::new(move |category: &str, text: &str| said.line(category, text));
    let mut loaded = load_lsyncd(&LsyncdOptions { said: Said(Some(say)), ..options.config.clone() });
    if let Ok(config) = &mut loaded {
        let settings = &mut config.settings;
        // The daemon works in `/`.
        for file in
            [&mut settings.logfile, &mut settings.pidfile, &mut settings.status_file].into_iter().flatten()
        {
            *file = std::path::absolute(&*file).unwrap_or_else(|_| file.clone());
        }
    }
    if let Some(now) = now {
        let _ = std::env::set_current_dir(now);
    }
    match loaded {
        Ok(config) => {
            for warning in &config.warnings {
                log.line("Warn", warning);
            }
            Ok(config)
        }
        Err(LsyncdError::Exit(code)) => Err(code),
        Err(error) => {
            log.line("Error", &error.to_string());
            Err(255)
        }
    }
}

/// Runs until the end; returns the exit status. `mirrors` makes what is mirrored natively.
pub fn run(mut options: Options, mirrors: &Arc<dyn Mirrors>) -> i32 {
    let mut log = Log { categories: options.categories.clone(), ..Log::default() };
    let signals = block_signals();
    let (sender, receiver) = crossbeam_channel::bounded(1 << 16);
    let cwd = std::env::current_dir().ok();
    let absolute = |file: PathBuf| std::path::absolute(&file).unwrap_or(file);
    options.logfile = options.logfile.map(absolute);
    options.pidfile = options.pidfile.map(absolute);
    // What does not exist is named as it was given.
    options.config.file = options.config.file.map(|file| if file.exists() { absolute(file) } else { file });
    let mut config = match load(&options, &cwd, &log) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (mut begun, mut pidfile) = (false, None);
    loop {
        let settings = settled(config.settings.clone(), &options, begun);
        let Some(mode) = prepare_log(&mut log, &settings) else { return 255 };
        if !begun {
            match begin(&mut log, &settings) {
                Ok(lock) => pidfile = lock,
                Err(code) => return code,
            }
            if let Err(error) = hear_signals(signals, sender.clone()) {
                log.line("Error", &format!("cannot hear signals: {error}"));
                return 255;
            }
            begun = true;
        } else {
            log.line("Normal", "--- Startup ---");
        }
        let round = Round::start(config, &settings, log.clone(), (sender.clone(), mode), mirrors);
        let reload = || load(&options, &cwd, &log).ok().filter(|new| is_sound(new, &options, &log));
        match round.map(|round| round.turn(&receiver, &reload)) {
            Ok(End::Reset(new)) => {
                config = *new;
                // What was heard before is covered by the pass that follows.
                while receiver.try_recv().is_ok() {}
            }
            Ok(End::Exit(code)) => {
                if code != 255
                    && let (Some(_), Some(file)) = (&pidfile, &settings.pidfile)
                {
                    let _ = std::fs::remove_file(file);
                }
                return code;
            }
            Err(text) => {
                log.line("Error", &text);
                return 255;
            }
        }
    }
}

/// Whether the settings of a new configuration can be worked with.
fn is_sound(config: &LsyncdConfig, options: &Options, log: &Log) -> bool {
    prepare_log(&mut log.clone(), &settled(config.settings.clone(), options, true)).is_some()
}

/// Lays the command line over the settings.
fn settled(mut settings: LsyncdSettings, options: &Options, again: bool) -> LsyncdSettings {
    settings.nodaemon |= options.nodaemon;
    settings.insist |= options.insist || again;
    settings.onepass |= options.onepass;
    settings.logfile = options.logfile.clone().or(settings.logfile);
    settings.pidfile = options.pidfile.clone().or(settings.pidfile);
    settings
}

fn prepare_log(log: &mut Log, settings: &LsyncdSettings) -> Option<InotifyMode> {
    log.file = settings.logfile.clone();
    if let Err(error) = log.open() {
        let file = settings.logfile.clone().unwrap_or_default();
        log.file = None;
        log.line("Error", &format!("Cannot open logfile [{}]: {error}", file.display()));
        return None;
    }
    log.syslog = None;
    if !settings.nodaemon && settings.logfile.is_none() {
        let name = settings.logfacility.as_deref().unwrap_or("user");
        let Some(facility) = log::facility(name) else {
            log.line("Error", &format!("Logging facility '{name}' unknown."));
            return None;
        };
        log::open_syslog(settings.logident.as_deref().unwrap_or("lsyncd"), facility);
        log.syslog = Some(facility);
    }
    let mode = InotifyMode::from_word(settings.inotify_mode.as_deref());
    if mode.is_none() {
        let word = settings.inotify_mode.as_deref().unwrap_or_default();
        log.line(
            "Error",
            &format!("'{word}' not a valid inotfiyMode. ( valid: CloseWrite, Modify, CloseWrite or Modify )"),
        );
    }
    mode
}

/// Goes into the background, if that is asked for, and takes the pidfile.
fn begin(log: &mut Log, settings: &LsyncdSettings) -> Result<Option<std::fs::File>, i32> {
    log.running = true;
    log.foreground = true;
    if settings.nodaemon {
        log.line("Normal", "--- Startup ---");
        return Ok(None);
    }
    log.line("Normal", "--- Startup, daemonizing ---");
    let failed = |log: &Log, what: &str, error: std::io::Error| {
        log.line("Error", &format!("{what}: {error}"));
        255
    };
    daemonize::detach().map_err(|error| failed(log, "fork", error))?;
    log.foreground = false;
    let mut lock = None;
    if let Some(file) = &settings.pidfile {
        let what = format!("Cannot lock pidfile {}", file.display());
        lock = Some(daemonize::pidfile(file).map_err(|error| failed(log, &what, error))?);
    }
    daemonize::settle().map_err(|error| failed(log, "daemonize", error))?;
    Ok(lock)
}

const SIGNALS: [i32; 3] = [libc::SIGHUP, libc::SIGTERM, libc::SIGINT];

/// Keeps the signals for the thread that hears them. Children get them unblocked.
fn block_signals() -> libc::sigset_t {
    // SAFETY: a sigset is plain data that sigemptyset fills.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in SIGNALS {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    }
}

fn hear_signals(set: libc::sigset_t, engine: Sender<Message>) -> std::io::Result<()> {
    let hear = move || {
        loop {
            let mut number = 0;
            // SAFETY: the set is filled, and blocked in every thread.
            if unsafe { libc::sigwait(&set, &mut number) } == 0
                && engine.send(Message::Signal(number)).is_err()
            {
                return;
            }
        }
    };
    std::thread::Builder::new().name("speil-signal".to_owned()).spawn(hear).map(|_| ())
}
