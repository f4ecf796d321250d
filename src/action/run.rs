//! Runs a configuration until it ends: the engine's turn, signals, the end.
//!
//! **Invariants:** one thread works off the queues; it waits only for messages and for what is due next.
//! **Sources:** lsyncd 2.2.3 as observed.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::core::{Core, Job, JobKind, Message};
use super::intake::{self, InotifyMode};
use super::log::{self, Categories, Log};
use super::script::{self, Shared, lock};
use super::{daemonize, layers, status};
use crate::config::{Backend, Handler, LsyncdConfig, LsyncdOptions, LsyncdSettings, Verdict, load_lsyncd};
use crate::event::Event;
use crate::filter::LsyncdFilter;
use crate::tree::RelPath;
use crate::watch;

/// From when on a function of the user's is said to run for long.
const LONG: Duration = Duration::from_secs(10);

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

/// How a round ended.
enum End {
    /// With an exit status.
    Exit(i32),
    /// To begin anew.
    Reset,
}

/// Runs until the end; returns the exit status.
pub fn run(mut options: Options) -> i32 {
    let mut log = Log { categories: options.categories.clone(), ..Log::default() };
    let signals = block_signals();
    let (sender, receiver) = crossbeam_channel::bounded(1 << 16);
    let mut begun = false;
    let mut pidfile = None;
    options.config.file = options.config.file.map(|file| std::path::absolute(&file).unwrap_or(file));
    loop {
        let config = match load_lsyncd(&options.config) {
            Ok(config) => config,
            Err(error) => {
                log.line("Error", &error.to_string());
                return 255;
            }
        };
        for warning in &config.warnings {
            log.line("Warn", warning);
        }
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
        let round = Round::start(config, &settings, log.clone(), sender.clone(), mode);
        match round.map(|round| round.turn(&receiver)) {
            // What was heard before is covered by the pass that follows.
            Ok(End::Reset) => while receiver.try_recv().is_ok() {},
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

/// Lays the command line over the settings.
fn settled(mut settings: LsyncdSettings, options: &Options, again: bool) -> LsyncdSettings {
    settings.nodaemon |= options.nodaemon;
    settings.insist |= options.insist || again;
    settings.onepass |= options.onepass;
    settings.logfile = options.logfile.clone().or(settings.logfile);
    settings.pidfile = options.pidfile.clone().or(settings.pidfile);
    // The daemon works in `/`.
    for file in
        [&mut settings.logfile, &mut settings.pidfile, &mut settings.status_file].into_iter().flatten()
    {
        *file = std::path::absolute(&*file).unwrap_or_else(|_| file.clone());
    }
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
            &format!(
                "'{word}' is not a valid inotfiyMode. ( valid: CloseWrite, Modify, CloseWrite or Modify )"
            ),
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

/// Puts what a watcher hears into the engine's channel.
struct Ear {
    at: usize,
    engine: Sender<Message>,
}

impl watch::Sink for Ear {
    fn events(&self, events: Vec<Event>) {
        // Waits when the engine is behind; the kernel's queue then overflows, which is heard of.
        let _ = self.engine.send(Message::Events(self.at, events));
    }
}

/// One run from a start to a reset or to the end.
struct Round {
    core: Shared,
    jobs: Sender<Job>,
    watchers: Vec<watch::Watcher>,
    mode: InotifyMode,
    status: Option<PathBuf>,
    status_interval: Duration,
    shutdown_wait: Duration,
    onepass: bool,
    first: usize,
    collects: HashMap<usize, Vec<Job>>,
    /// Set when the round is over, for the scripts that still run.
    over: Arc<AtomicBool>,
}

impl Drop for Round {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Round {
    fn start(
        config: LsyncdConfig,
        settings: &LsyncdSettings,
        log: Log,
        engine: Sender<Message>,
        mode: InotifyMode,
    ) -> Result<Self, String> {
        config.lock().map_err(|error| error.to_string())?;
        let LsyncdConfig { lua, syncs, .. } = config;
        let mut core = Core::new(syncs, log, engine.clone());
        core.insist = settings.insist;
        core.processes_max = settings.processes_max;
        let mut watchers = Vec::new();
        for (at, sync) in core.syncs.iter_mut().enumerate() {
            watchers.push(watcher(at, sync, engine.clone())?);
            if sync.spec.init.is_some() {
                sync.delays.push_whole(super::delays::Etype::Init, None);
            }
        }
        let core = Arc::new(Mutex::new(core));
        let over = Arc::new(AtomicBool::new(false));
        let jobs = script::start(lua, &core, Arc::clone(&over))?;
        Ok(Self {
            core,
            jobs,
            watchers,
            mode,
            status: settings.status_file.clone(),
            status_interval: settings.status_interval.unwrap_or(Duration::from_secs(10)),
            shutdown_wait: settings.shutdown_wait.unwrap_or(Duration::from_secs(60)),
            onepass: settings.onepass,
            first: 0,
            collects: HashMap::new(),
            over,
        })
    }

    /// Works until the end.
    fn turn(mut self, receiver: &Receiver<Message>) -> End {
        let (mut status_due, mut stop) = (Instant::now(), None::<Stop>);
        loop {
            let now = Instant::now();
            self.advance(now);
            if now >= status_due {
                self.write_status();
                status_due = now + self.status_interval;
            }
            if let Some(end) = self.end(&mut stop, now) {
                self.write_status();
                return end;
            }
            // Also when nothing happens: the file's age says that this lives.
            let fresh = self.status.as_ref().map(|_| status_due.max(now + Duration::from_millis(1)));
            let due = [self.due(now), fresh, stop.as_ref().map(|stop| stop.until)];
            let due = due.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(3600));
            if let Ok(message) = receiver.recv_deadline(due) {
                self.hear(message, &mut stop);
                for message in receiver.try_iter().take(4096) {
                    self.hear(message, &mut stop);
                }
            }
        }
    }

    /// Lets every sync do what is due, one further each time.
    fn advance(&mut self, now: Instant) {
        let mut core = lock(&self.core);
        let count = core.syncs.len();
        for step in 0..count {
            let at = (self.first + step) % count;
            if let Some(job) = layers::advance(&mut core, at, now) {
                send_job(&mut core, &self.jobs, job);
            }
            let name = core.syncs.get(at).map(|sync| sync.spec.name.clone()).unwrap_or_default();
            if let Some(sync) = core.syncs.get_mut(at)
                && !sync.told
                && sync.job.is_some_and(|since| now.duration_since(since) > LONG)
            {
                sync.told = true;
                core.log
                    .line("Warn", &format!("{name}: its Lua function has been running for 10 s; it waits"));
            }
        }
        self.first = (self.first + 1) % count.max(1);
        while core.alarms.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            if let Some(((_, number), function)) = core.alarms.pop_first() {
                let job = Job { sync: None, kind: JobKind::Alarm(number), function };
                send_job(&mut core, &self.jobs, job);
            }
        }
    }

    /// Returns when something is due next.
    fn due(&self, now: Instant) -> Option<Instant> {
        let core = lock(&self.core);
        let alarms = core.alarms.first_key_value().map(|((at, _), _)| *at);
        let syncs = core.syncs.iter().enumerate().filter_map(|(at, sync)| {
            if let Some(since) = sync.job {
                return (!sync.told).then(|| since + LONG + Duration::from_millis(1));
            }
            if core.stopping || !core.has_room(at) {
                return None;
            }
            let entry = sync.delays.first()?.1;
            let alarm = if sync.delays.len() >= sync.spec.delays_max { Some(now) } else { entry.alarm };
            Some(alarm.unwrap_or(now).max(sync.rest.unwrap_or(now)).max(now + Duration::from_millis(1)))
        });
        syncs.chain(alarms).min()
    }

    fn write_status(&self) {
        let Some(file) = &self.status else { return };
        let watched = self.watchers.iter().map(watch::Watcher::watched).sum();
        let core = lock(&self.core);
        let text = status::render(&core, watched);
        if let Err(error) = status::write(file, &text) {
            core.log.line("Error", &format!("Cannot open status file {}: {error}", file.display()));
        }
    }

    fn hear(&mut self, message: Message, stop: &mut Option<Stop>) {
        let mut core = lock(&self.core);
        match message {
            Message::Events(at, events) if stop.is_none() => intake::accept(&mut core, at, events, self.mode),
            Message::Exited(number, ended) => {
                if let Some((at, ids, list)) = core.exited(number) {
                    ended_child(&mut core, &self.jobs, &mut self.collects, (at, ids, list, ended));
                }
            }
            Message::Done(job, result) => done(&mut core, &self.jobs, &mut self.collects, job, result),
            Message::Ready(fd, writable) => {
                let found = core
                    .observed
                    .get(&fd)
                    .and_then(|(ready, write)| if writable { write } else { ready }.clone());
                if let Some(function) = found {
                    send_job(&mut core, &self.jobs, Job { sync: None, kind: JobKind::Ready(fd), function });
                }
            }
            Message::Signal(number) => {
                let line = match number {
                    libc::SIGHUP => "--- HUP signal, resetting ---",
                    libc::SIGINT => "--- INT signal, fading ---",
                    _ => "--- TERM signal, fading ---",
                };
                core.normal(line);
                core.stopping = true;
                let until = Instant::now() + self.shutdown_wait;
                let stop = stop.get_or_insert(Stop { number, until, killed: 0 });
                // An end is not undone by a reset; else the last one counts.
                if stop.number == libc::SIGHUP || number != libc::SIGHUP {
                    stop.number = number;
                }
                if core.children() > 0 {
                    core.normal(&format!("waiting for {} more child processes.", core.children()));
                }
            }
            Message::Events(..) | Message::Look => {}
        }
    }

    /// Says how this ends, if it does now.
    fn end(&self, stop: &mut Option<Stop>, now: Instant) -> Option<End> {
        let core = lock(&self.core);
        if let Some(code) = core.fatal {
            return Some(End::Exit(code));
        }
        if let Some(stop) = stop {
            if core.children() == 0 {
                let reset = stop.number == libc::SIGHUP;
                return Some(if reset { End::Reset } else { End::Exit(128 + stop.number) });
            }
            if now >= stop.until {
                let signal = if stop.killed == 0 { Signal::TERM } else { Signal::KILL };
                core.log.line("Warn", &format!("ending {} child processes that do not end", core.children()));
                core.signal_children(signal);
                stop.killed += 1;
                stop.until = now + Duration::from_secs(5);
            }
            return None;
        }
        let whole = |(_, entry): (_, &super::delays::Delay)| entry.etype == super::delays::Etype::Init;
        let passed = core.syncs.iter().all(|sync| !sync.delays.iter().any(whole));
        (self.onepass && passed).then_some(End::Exit(0))
    }
}

/// An end under way.
struct Stop {
    number: i32,
    until: Instant,
    killed: u32,
}

fn watcher(
    at: usize,
    sync: &super::core::Running,
    engine: Sender<Message>,
) -> Result<watch::Watcher, String> {
    let spec = &sync.spec;
    let source = Path::new(std::ffi::OsStr::from_bytes(&spec.source));
    let filter: LsyncdFilter = sync.filter.clone();
    let subdirs = spec.subdirs;
    let skip = move |path: &RelPath, dir: bool| (dir && !subdirs) || filter.excludes(path, dir);
    let options = watch::Options {
        backend: Backend::Inotify,
        poll_interval: Duration::from_secs(300),
        one_file_system: false,
        marks: None,
    };
    let ear = Arc::new(Ear { at, engine });
    watch::start(source, options, Arc::new(skip), ear).map_err(|error| error.to_string())
}

fn send_job(core: &mut Core, jobs: &Sender<Job>, job: Job) {
    if let Some(sync) = job.sync.and_then(|at| core.syncs.get_mut(at)) {
        sync.job = Some(Instant::now());
        sync.told = false;
    }
    if jobs.try_send(job).is_err() {
        core.die("too many Lua functions wait to be run");
    }
}

type Collects = HashMap<usize, Vec<Job>>;

fn ended_child(
    core: &mut Core,
    jobs: &Sender<Job>,
    waiting: &mut Collects,
    (at, ids, list, ended): (usize, Vec<u64>, bool, Result<i32, i32>),
) {
    let handler = core.syncs.get(at).map(|sync| sync.spec.collect.clone());
    let Some(Handler::Lua(function)) = handler else {
        let verdict = layers::judge(core, at, &ids, list, ended);
        core.judged(at, &ids, verdict);
        return;
    };
    let code = ended.unwrap_or_else(|signal| 128 + signal);
    let job = Job { sync: Some(at), kind: JobKind::Collect { ids, list, code }, function };
    if core.syncs.get(at).is_some_and(|sync| sync.job.is_some()) {
        waiting.entry(at).or_default().push(job);
    } else {
        send_job(core, jobs, job);
    }
}

fn done(
    core: &mut Core,
    jobs: &Sender<Job>,
    waiting: &mut Collects,
    job: Job,
    result: Result<Option<Verdict>, String>,
) {
    let verdict = match result {
        Ok(verdict) => verdict,
        Err(text) => return core.die(&format!("in Lua: {text}")),
    };
    if let JobKind::Ready(fd) = job.kind {
        observe(fd, core);
    }
    let Some(at) = job.sync else { return };
    if let Some(sync) = core.syncs.get_mut(at) {
        sync.job = None;
    }
    match job.kind {
        JobKind::Collect { ids, .. } => core.judged(at, &ids, verdict),
        JobKind::On(id) if core.waits(at, id) => core.discard(at, id),
        JobKind::Whole(id) if core.waits(at, id) => {
            rest(core, at, "init neither spawned on its event nor discarded it")
        }
        JobKind::Action
            if core
                .syncs
                .get(at)
                .is_some_and(|sync| sync.due(Instant::now()).is_some() && sync.children == 0) =>
        {
            // It may have taken one event of several; only one that takes none is kept from spinning.
            rest_briefly(core, at);
        }
        _ => {}
    }
    if let Some(jobs_of) = waiting.get_mut(&at).filter(|list| !list.is_empty()) {
        let job = jobs_of.remove(0);
        send_job(core, jobs, job);
    }
}

fn rest(core: &mut Core, at: usize, text: &str) {
    let Some(sync) = core.syncs.get_mut(at) else { return };
    sync.rest = Some(Instant::now() + Duration::from_secs(1));
    let name = sync.spec.name.clone();
    core.log.line("Warn", &format!("{name}: {text}"));
}

fn rest_briefly(core: &mut Core, at: usize) {
    if let Some(sync) = core.syncs.get_mut(at) {
        sync.rest = Some(Instant::now() + Duration::from_millis(2));
    }
}

/// Waits once, on a thread of its own, for a descriptor that a script observes.
pub(super) fn observe(fd: i32, core: &Core) {
    let Some((ready, writable)) = core.observed.get(&fd) else { return };
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, ready.is_some());
    flags.set(PollFlags::OUT, writable.is_some());
    let engine = core.engine.clone();
    let wait = move || {
        // SAFETY: the script keeps it open while it observes it; poll of a closed one says so.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut fds = [PollFd::from_borrowed_fd(borrowed, flags)];
        if matches!(poll(&mut fds, None::<&Timespec>), Ok(1..)) {
            let [polled] = fds;
            let _ = engine.send(Message::Ready(fd, !polled.revents().contains(PollFlags::IN)));
        }
    };
    // Without a thread the script hears nothing, and the log says why.
    if let Err(error) = std::thread::Builder::new().name("speil-observe".to_owned()).spawn(wait) {
        core.log.line("Error", &format!("cannot observe a descriptor: {error}"));
    }
}
