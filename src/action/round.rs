//! One run of a configuration, from a start to a reset or to the end.
//!
//! **Invariants:** one thread works off the queues; it waits only for messages and for what is due next;
//! a sync that fails stops no other. **Sources:** lsyncd 2.2.3 as observed.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::process::Signal;

use super::core::{Core, Job, JobKind, Message};
use super::crontab::Schedule;
use super::delays::{Delay, Etype};
use super::intake::{self, InotifyMode};
use super::log::Log;
use super::native::{Mirrors, State};
use super::outcome::{Collects, done, ended_child, heard_of_mirror, send_job};
use super::script::{self, SharedCore, lock};
use super::tunnel::Tunnels;
use super::{layers, status};
use crate::config::{Backend, Engine, LsyncdConfig, LsyncdSettings, LsyncdSync, Native};
use crate::event::Event;
use crate::filter::LsyncdFilter;
use crate::tree::RelPath;
use crate::watch;

/// From when on a function of the user's is said to run for long.
const LONG: Duration = Duration::from_secs(10);

/// How a round ended.
pub enum End {
    /// With an exit status.
    Exit(i32),
    /// To begin anew with this configuration.
    Reset(Box<LsyncdConfig>),
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
pub struct Round {
    number: u64,
    core: SharedCore,
    jobs: Sender<Job>,
    watchers: Vec<Option<watch::Watcher>>,
    mirrors: Arc<dyn Mirrors>,
    mode: InotifyMode,
    status: Option<PathBuf>,
    status_interval: Duration,
    shutdown_wait: Duration,
    onepass: bool,
    first: usize,
    collects: Collects,
    schedule: Schedule,
    next: Option<Box<LsyncdConfig>>,
    /// Set when the round is over, for the scripts that still run.
    over: Arc<AtomicBool>,
}

impl Drop for Round {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let states: Vec<State> = lock(&self.core)
            .syncs
            .iter_mut()
            .map(|s| std::mem::replace(&mut s.state, State::Commands))
            .collect();
        // Mirrors end in order, which takes its time: side by side, and not under the lock.
        std::thread::scope(|scope| {
            for state in states {
                scope.spawn(move || drop(state));
            }
        });
    }
}

/// Reads a new configuration; `None` after it has said what is wrong with it.
pub type Reload<'a> = &'a dyn Fn() -> Option<LsyncdConfig>;

impl Round {
    /// Starts every sync.
    ///
    /// # Errors
    /// What stops the whole, in words.
    pub fn start(
        config: LsyncdConfig,
        settings: &LsyncdSettings,
        log: Log,
        (engine, mode): (Sender<Message>, InotifyMode),
        mirrors: &Arc<dyn Mirrors>,
    ) -> Result<Self, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        config.lock().map_err(|error| error.to_string())?;
        let LsyncdConfig { lua, syncs, .. } = config;
        let mut core = Core::new(syncs, log, engine.clone());
        core.insist = settings.insist;
        core.processes_max = settings.processes_max;
        core.tunnels = Tunnels::start(core.syncs.iter().map(|sync| sync.spec.tunnel.as_ref()), &core.log);
        let core = Arc::new(Mutex::new(core));
        let over = Arc::new(AtomicBool::new(false));
        let jobs = script::start(lua, &core, Arc::clone(&over))?;
        let mut round = Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            core,
            jobs,
            watchers: Vec::new(),
            mirrors: Arc::clone(mirrors),
            mode,
            status: settings.status_file.clone(),
            status_interval: settings.status_interval.unwrap_or(Duration::from_secs(10)),
            shutdown_wait: settings.shutdown_wait.unwrap_or(Duration::from_secs(60)),
            onepass: settings.onepass,
            first: 0,
            collects: HashMap::new(),
            schedule: Schedule::default(),
            next: None,
            over,
        };
        let count = lock(&round.core).syncs.len();
        for at in 0..count {
            round.begin(at, &engine)?;
        }
        round.schedule = Schedule::new(&lock(&round.core));
        Ok(round)
    }

    /// Starts the sync at `at` with the engine that it asks for, or asks its target first.
    fn begin(&mut self, at: usize, engine: &Sender<Message>) -> Result<(), String> {
        let mut core = lock(&self.core);
        let Some(sync) = core.syncs.get_mut(at) else { return Ok(()) };
        let spec = Arc::clone(&sync.spec);
        let (state, line) = match (spec.engine, &spec.native) {
            (Engine::Rsync, _) if spec.layer => (State::Commands, Some("rsync, as configured".to_owned())),
            (_, Err(why)) if spec.layer => (State::Commands, Some(format!("rsync: {why}"))),
            (Engine::Rsync, _) | (_, Err(_)) => (State::Commands, None),
            (Engine::Auto, Ok(native)) if native.sync.targets.iter().any(|target| target.host.is_some()) => {
                self.ask(at, native, engine);
                (State::Asking, None)
            }
            (engine_asked, Ok(_)) => {
                drop(core);
                let why = if engine_asked == Engine::Native {
                    "native, as configured".to_owned()
                } else {
                    "native: every option maps, and the target is on this host".to_owned()
                };
                self.watchers.push(None);
                self.mirror(at, &why);
                return Ok(());
            }
        };
        sync.state = state;
        self.watchers.push(Some(watcher(at, &spec, &sync.filter, engine.clone())?));
        if spec.init.is_some() {
            sync.delays.push_whole(Etype::Init, None);
        }
        match line {
            Some(line) => core.normal(&format!("{}: engine {line}", spec.name)),
            None if !spec.layer => {
                core.normal(&format!("{}: runs its own commands and functions", spec.name))
            }
            None => {}
        }
        Ok(())
    }

    /// Asks the target for an agent, on a thread of its own.
    fn ask(&self, at: usize, native: &Native, engine: &Sender<Message>) {
        let (mirrors, sync, engine) = (Arc::clone(&self.mirrors), native.sync.clone(), engine.clone());
        let number = self.number;
        let fallback = engine.clone();
        let asking = std::thread::Builder::new().name("speil-ask".to_owned()).spawn(move || {
            let _ = engine.send(Message::Asked(number, at, mirrors.probe(&sync)));
        });
        if let Err(error) = asking {
            let _ = fallback.send(Message::Asked(number, at, Err(error.to_string())));
        }
    }

    /// Starts the mirror of the sync at `at`; `why` says what decided for it.
    fn mirror(&mut self, at: usize, why: &str) {
        let (spec, engine) = {
            let core = lock(&self.core);
            let Some(sync) = core.syncs.get(at) else { return };
            (Arc::clone(&sync.spec), core.engine.clone())
        };
        let Ok(native) = &spec.native else { return };
        let number = self.number;
        let ear = move |heard| {
            let _ = engine.send(Message::Mirror(number, at, heard));
        };
        let started = self.mirrors.start(&native.sync, Arc::new(ear));
        let mut core = lock(&self.core);
        core.normal(&format!("{}: engine {why}", spec.name));
        for risk in crate::config::risks(&native.sync, &|path| path.exists()) {
            core.log.line("Warn", &risk);
        }
        match started {
            Ok(mirror) => {
                if let Some(sync) = core.syncs.get_mut(at) {
                    sync.delays.clear();
                    sync.state = State::Mirror(mirror, false);
                }
            }
            Err(error) => core.fail(at, &format!("{}: {error}", spec.name)),
        }
    }

    /// Takes the answer of a target.
    fn asked(&mut self, at: usize, answer: Result<(), String>) {
        let (name, shown) = {
            let mut core = lock(&self.core);
            let Some(sync) = core.syncs.get_mut(at) else { return };
            if !matches!(sync.state, State::Asking) {
                return;
            }
            let native = sync.spec.native.as_ref().ok();
            let target = native.and_then(|native| native.sync.targets.first().map(ToString::to_string));
            (sync.spec.name.clone(), target.unwrap_or_default())
        };
        match answer {
            Ok(()) => {
                if let Some(watcher) = self.watchers.get_mut(at) {
                    *watcher = None;
                }
                self.mirror(at, &format!("native: every option maps, and an agent answers at {shown}"));
            }
            Err(why) => {
                let mut core = lock(&self.core);
                core.normal(&format!("{name}: engine rsync: no agent at {shown}: {why}"));
                if let Some(sync) = core.syncs.get_mut(at) {
                    sync.state = State::Commands;
                }
            }
        }
    }

    /// Works until the end.
    pub fn turn(mut self, receiver: &Receiver<Message>, reload: Reload<'_>) -> End {
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
                self.hear(message, &mut stop, reload);
                for message in receiver.try_iter().take(4096) {
                    self.hear(message, &mut stop, reload);
                }
            }
        }
    }

    /// Lets every sync do what is due, one further each time.
    fn advance(&mut self, now: Instant) {
        let mut core = lock(&self.core);
        for number in std::mem::take(&mut core.stillborn) {
            if let Some((at, ids, list)) = core.exited(number) {
                ended_child(&mut core, &self.jobs, &mut self.collects, (at, ids, list, Ok(255)));
            }
        }
        self.schedule.run(&mut core);
        let Core { tunnels, log, .. } = &mut *core;
        tunnels.look(now, log);
        let count = core.syncs.len();
        for step in 0..count {
            let at = (self.first + step) % count;
            core.revive(at, now);
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
        if !core.stillborn.is_empty() {
            return Some(now);
        }
        let alarms = core.alarms.first_key_value().map(|((at, _), _)| *at);
        let syncs = core.syncs.iter().enumerate().filter_map(|(at, sync)| {
            match sync.state {
                State::Commands => {}
                State::Failed(until) => return Some(until),
                State::Asking | State::Mirror(..) => return None,
            }
            if let Some(since) = sync.job {
                return (!sync.told).then(|| since + LONG + Duration::from_millis(1));
            }
            if core.stopping || !core.has_room(at) || !core.tunnels.is_up(at) {
                return None;
            }
            let entry = sync.delays.first()?.1;
            let alarm = if sync.delays.len() >= sync.spec.delays_max { Some(now) } else { entry.alarm };
            Some(alarm.unwrap_or(now).max(sync.rest.unwrap_or(now)).max(now + Duration::from_millis(1)))
        });
        syncs.chain(alarms).chain(self.schedule.due()).chain(core.tunnels.due()).min()
    }

    fn write_status(&self) {
        let Some(file) = &self.status else { return };
        let core = lock(&self.core);
        let text = status::render(&core, &self.watched(&core));
        if let Err(error) = status::write(file, &text) {
            core.log.line("Error", &format!("Cannot open status file {}: {error}", file.display()));
        }
    }

    /// Returns every directory that is watched, each once.
    fn watched(&self, core: &Core) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for (sync, watcher) in core.syncs.iter().zip(&self.watchers) {
            if let State::Mirror(mirror, _) = &sync.state {
                all.extend(mirror.watched());
            }
            let found = watcher.iter().flat_map(watch::Watcher::directories);
            all.extend(found.map(|path| {
                let slash: &[u8] = if path.is_root() { b"" } else { b"/" };
                [&sync.spec.source, path.as_bytes(), slash].concat()
            }));
        }
        let mut known = HashSet::new();
        all.retain(|path| known.insert(path.clone()));
        all
    }

    fn hear(&mut self, message: Message, stop: &mut Option<Stop>, reload: Reload<'_>) {
        match message {
            Message::Asked(round, at, answer) if round == self.number && stop.is_none() => {
                return self.asked(at, answer);
            }
            Message::Signal(number) => return self.signal(number, stop, reload),
            _ => {}
        }
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
            Message::Mirror(round, at, heard) if round == self.number => {
                let hopeless = self.onepass && !core.insist;
                heard_of_mirror(&mut core, at, heard, hopeless);
            }
            _ => {}
        }
    }

    fn signal(&mut self, number: i32, stop: &mut Option<Stop>, reload: Reload<'_>) {
        if number == libc::SIGHUP && stop.is_none() {
            lock(&self.core).normal("--- HUP signal, resetting ---");
            match reload() {
                Some(config) => self.next = Some(Box::new(config)),
                None => {
                    lock(&self.core).log.line("Error", "the configuration that is at work stays in force");
                    return;
                }
            }
        }
        let mut core = lock(&self.core);
        match number {
            libc::SIGHUP => {}
            libc::SIGINT => core.normal("--- INT signal, fading ---"),
            _ => core.normal("--- TERM signal, fading ---"),
        }
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

    /// Says how this ends, if it does now.
    fn end(&mut self, stop: &mut Option<Stop>, now: Instant) -> Option<End> {
        let core = lock(&self.core);
        if let Some(code) = core.fatal {
            return Some(End::Exit(code));
        }
        if let Some(stop) = stop {
            if core.children() == 0 {
                let next = if stop.number == libc::SIGHUP { self.next.take() } else { None };
                return Some(next.map_or(End::Exit(128 + stop.number), End::Reset));
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
        let whole = |(_, entry): (_, &Delay)| entry.etype == Etype::Init;
        let passed = core.syncs.iter().all(|sync| match &sync.state {
            State::Commands => !sync.delays.iter().any(whole),
            State::Mirror(_, live) => *live,
            State::Asking | State::Failed(_) => false,
        });
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
    spec: &LsyncdSync,
    filter: &Arc<RwLock<LsyncdFilter>>,
    engine: Sender<Message>,
) -> Result<watch::Watcher, String> {
    let source = Path::new(std::ffi::OsStr::from_bytes(&spec.source));
    let filter = Arc::clone(filter);
    let subdirs = spec.subdirs;
    let excludes = move |path: &RelPath, dir: bool| {
        filter.read().unwrap_or_else(PoisonError::into_inner).excludes(path, dir)
    };
    let skip = move |path: &RelPath, dir: bool| (dir && !subdirs) || excludes(path, dir);
    let options = watch::Options {
        backend: Backend::Inotify,
        poll_interval: Duration::from_secs(300),
        one_file_system: false,
        marks: None,
    };
    let ear = Arc::new(Ear { at, engine });
    watch::start(source, options, Arc::new(skip), ear).map_err(|error| error.to_string())
}
