//! The daemon: syncs that run side by side, signals, and the control socket.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::chronicle::Chronicle;
use super::control::{Control, admit, default_socket, may_act};
use super::error::DaemonError;
use super::hub::Hub;
use super::listeners::{Listeners, RETRY_EVERY, SAMPLE_EVERY};
use super::notify::Notifier;
use super::onlooker::Onlooker;
use super::pipeline::Pipeline;
use super::pulled::Pulling;
use super::reconfigure::Next;
use super::slot::{LeftOut, Running, Waiting};
use super::target::{START_RETRY, tried_again};
use crate::config::{Config, Settings, Sync};
use crate::event::RescanReason;
use crate::monitor::{Monitor, Notice, Scope};
use crate::sender::SessionError;
use crate::status::{Answer, Names, ReloadedSync, Request, compare};

/// Longest line that a client may send, in bytes.
const REQUEST_LEN_MAX: u64 = 64 * 1024;

/// What a member of the control socket's group is told.
const NOT_ALLOWED: &str = "the daemon does that for its own user and for root alone; status, wait, explain and log \
                           answer you as well";

/// A stop waits so long for a sync that is being started.
const START_STOP: Duration = Duration::from_secs(1);

/// Reads the configuration anew, or says why the new one is broken.
pub type Reload = Box<dyn Fn() -> Result<Config, String> + Send>;

/// The state is looked at no less often than this, however seldom it is written.
const BEAT_MAX: Duration = Duration::from_secs(10);

/// A daemon.
pub struct Daemon {
    hub: Arc<Hub>,
    monitor: Arc<dyn Monitor>,
    reload: Option<Reload>,
    control: PathBuf,
    status_file: Option<PathBuf>,
    status_interval: Duration,
    settings: Settings,
    onlooker: Arc<dyn Onlooker>,
    /// Beats until the status is written again.
    unwritten: u64,
    notifier: Notifier,
    strict: bool,
    left_out: Vec<LeftOut>,
    pulling: Option<Pulling>,
}

impl Daemon {
    /// Makes a daemon that speaks to `monitor`; `reload` is what SIGHUP does besides opening the log file anew; `onlooker`
    /// hears the state once per `status_interval`, and every 10 s at least.
    pub fn new(
        config: &Config,
        monitor: Arc<dyn Monitor>,
        reload: Option<Reload>,
        onlooker: Arc<dyn Onlooker>,
    ) -> Self {
        let history = config.settings.history;
        let chronicle = Chronicle::new(super::memory::history_dir(), history, Arc::clone(&monitor));
        let hub = Arc::new(Hub::new(monitor, Arc::clone(&onlooker), chronicle));
        let monitor = hub.monitor();
        Self {
            hub,
            monitor,
            reload,
            control: config.settings.control.clone().unwrap_or_else(default_socket),
            status_file: config.settings.status_file.clone(),
            status_interval: config.settings.status_interval.max(Duration::from_millis(100)),
            settings: config.settings.clone(),
            onlooker,
            unwritten: 0,
            notifier: Notifier::from_environment(),
            strict: false,
            left_out: Vec::new(),
            pulling: None,
        }
    }

    /// Tells in the status of syncs that the configuration has and that are wrong.
    #[must_use]
    pub fn left_out(self, left_out: Vec<LeftOut>) -> Self {
        Self { left_out, ..self }
    }

    /// Pulls a source of another host besides.
    #[must_use]
    pub fn pulls(self, pulling: Pulling) -> Self {
        Self { pulling: Some(pulling), ..self }
    }

    /// Ends at the start if any sync cannot be started; else it is tried again and the others run.
    #[must_use]
    pub fn strict(self, on: bool) -> Self {
        Self { strict: on, ..self }
    }

    /// Runs the syncs until INT or TERM; returns that signal's number.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub fn run(mut self, syncs: Vec<Sync>) -> Result<i32, DaemonError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DaemonError::Runtime)?;
        let ended = runtime.block_on(async {
            // Signals first: one that comes while the watches are added must not kill.
            let mut signals = Signals::new().map_err(DaemonError::Runtime)?;
            let control = Control::listen(&self.control)?;
            if let Some(group) = &self.settings.control_group
                && let Err((text, hint)) = admit(&self.control, group)
            {
                self.monitor.notice(&Scope::new("", ""), &Notice::Warning { text, hint });
            }
            if let Some(number) = self.start_all(syncs, &mut signals).await? {
                return Ok(number);
            }
            if let Some(number) = self.start_pull(&mut signals).await? {
                return Ok(number);
            }
            self.hub.running().extend(self.left_out.iter().cloned().map(Running::LeftOut));
            self.notifier.ready();
            Ok(self.serve(signals, control).await)
        });
        self.notifier.stopping();
        self.hub.stop_all();
        self.hub.chronicle().end();
        ended
    }

    /// Starts the syncs beside the signals: to watch a large tree takes its time, and a stop does not wait for
    /// it. Returns the number of a signal that ends the daemon meanwhile.
    async fn start_all(&self, syncs: Vec<Sync>, signals: &mut Signals) -> Result<Option<i32>, DaemonError> {
        let (done, mut started) = tokio::sync::oneshot::channel();
        let (hub, alone) =
            (Arc::clone(&self.hub), self.strict || (syncs.len() == 1 && self.reload.is_none()));
        let starting = std::thread::Builder::new().name("start".to_owned());
        let starting = starting.spawn(move || drop(done.send(start_each(&hub, syncs, alone))));
        starting.map_err(DaemonError::Runtime)?;
        loop {
            tokio::select! {
                result = &mut started => return match result {
                    Ok(result) => result.map(|()| None),
                    Err(_) => Err(DaemonError::Runtime(io::Error::other("a thread died"))),
                },
                number = signals.next() => if matches!(number, libc::SIGINT | libc::SIGTERM) {
                    // What connects by now is not left behind; a watch of a large tree is.
                    self.hub.stop_starting();
                    let _ = tokio::time::timeout(START_STOP, &mut started).await;
                    return Ok(Some(number));
                },
            }
        }
    }

    /// Begins to pull, and waits for how the first try goes, or for a signal that ends the daemon.
    async fn start_pull(&mut self, signals: &mut Signals) -> Result<Option<i32>, DaemonError> {
        let Some(pulling) = self.pulling.take() else { return Ok(None) };
        let (first, mut told) = tokio::sync::oneshot::channel();
        self.hub.start_pull(pulling, first).map_err(DaemonError::Nothing)?;
        loop {
            tokio::select! {
                told = &mut told => return match told {
                    Ok(Some(why)) => Err(DaemonError::Unstarted(why)),
                    _ => Ok(None),
                },
                number = signals.next() => if matches!(number, libc::SIGINT | libc::SIGTERM) {
                    return Ok(Some(number));
                },
            }
        }
    }

    fn tell(&self, sync: &str, text: &str) {
        self.monitor.notice(&Scope::new(sync, ""), &Notice::Warning { text: text.to_owned(), hint: None });
    }

    async fn serve(&mut self, mut signals: Signals, control: Control) -> i32 {
        let mut beat = tokio::time::interval(self.status_interval.min(BEAT_MAX));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sample = tokio::time::interval(SAMPLE_EVERY);
        sample.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut retry = tokio::time::interval(RETRY_EVERY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut listeners = Listeners::new(Arc::clone(&self.hub), Arc::clone(&self.monitor));
        listeners.apply(&self.settings).await;
        let (asked, mut reloads) = tokio::sync::mpsc::unbounded_channel();
        if self.reload.is_some() {
            self.hub.hear_reloads(asked.clone());
        }
        let signs = self.notifier.sign_every();
        let mut sign = tokio::time::interval(signs.unwrap_or(Duration::from_secs(3600)));
        loop {
            tokio::select! {
                number = signals.next() => match number {
                    libc::SIGHUP => drop(self.reload(&mut listeners).await),
                    libc::SIGUSR1 => self.compare_all(),
                    ending => return ending,
                },
                Some(asker) = reloads.recv() => {
                    // Whoever asked may be gone.
                    let _ = asker.send(self.reload(&mut listeners).await);
                },
                accepted = control.listener.accept() => if let Ok((stream, _)) = accepted {
                    let hub = Arc::clone(&self.hub);
                    tokio::spawn(async move {
                        // A client that goes away early concerns nobody.
                        let _ = converse(stream, hub).await;
                    });
                },
                _ = beat.tick() => self.beat(),
                // An idle daemon is to rest: nobody is woken for what nobody sees.
                _ = sample.tick(), if listeners.shows_samples() => self.hub.sample(),
                _ = retry.tick(), if listeners.lacks_any() => listeners.retry(),
                _ = sign.tick(), if signs.is_some() => self.sign(),
            }
        }
    }

    fn compare_all(&self) {
        for running in self.hub.running().iter() {
            if let Running::Up(pipeline) = running {
                pipeline.reconcile(RescanReason::Request);
            }
        }
        if let Some(pulled) = self.hub.pulled() {
            pulled.reconcile();
        }
    }

    /// Gives a sign of life, if every sync has its threads: one that lost some is started anew with all.
    fn sign(&self) {
        let whole = |slot: &Running| match slot {
            Running::Up(pipeline) => pipeline.is_whole(),
            Running::Waiting(_) | Running::LeftOut(_) => true,
        };
        if self.hub.running().iter().all(whole) {
            self.notifier.alive();
        }
    }

    fn beat(&mut self) {
        let mut running = self.hub.running();
        for slot in running.iter_mut() {
            if let Running::Up(pipeline) = slot {
                pipeline.start_missing(Instant::now());
            }
            if let Running::Waiting(waiting) = slot
                && waiting.at <= Instant::now()
            {
                self.hub.chronicle().begin(&waiting.sync);
                match Pipeline::start(waiting.sync.clone(), &self.monitor) {
                    Ok(pipeline) => *slot = Running::Up(Box::new(pipeline)),
                    Err(error) => {
                        (waiting.at, waiting.error) = (Instant::now() + START_RETRY, error.to_string());
                    }
                }
            }
        }
        drop(running);
        if let Some(pulled) = self.hub.pulled() {
            pulled.look();
        }
        let report = self.hub.report();
        self.onlooker.look(&report);
        self.notifier.status(&report);
        self.unwritten = self.unwritten.saturating_sub(1);
        if let Some(path) = self.status_file.as_ref().filter(|_| self.unwritten == 0) {
            let beats = self.status_interval.as_millis() / self.status_interval.min(BEAT_MAX).as_millis();
            self.unwritten = u64::try_from(beats).unwrap_or(u64::MAX);
            let temp = path.with_extension("new");
            let text = crate::status::text(&report);
            let written =
                crate::disk::write_whole(&temp, text.as_bytes()).and_then(|()| std::fs::rename(&temp, path));
            if let Err(error) = written {
                tracing::warn!(path = %path.display(), error = %crate::error::io_text(&error), "status file not written");
            }
        }
    }

    /// Opens the log anew, and takes a new configuration in.
    async fn reload(&mut self, listeners: &mut Listeners) -> Answer {
        self.notifier.reloading();
        self.monitor.reopen();
        let taken = self.take_configuration();
        listeners.apply(&self.settings).await;
        self.notifier.ready();
        match taken {
            Ok(syncs) => Answer::Reloaded { syncs },
            Err(error) => Answer::Failed { error, code: 1 },
        }
    }

    /// Takes a new configuration in: syncs that did not change run on untouched.
    fn take_configuration(&mut self) -> Result<Vec<ReloadedSync>, String> {
        let Some(reload) = &self.reload else { return Ok(Vec::new()) };
        let new = match reload() {
            Ok(config) => config,
            Err(error) => {
                let told = format!("new configuration refused, the old one stays in force: {error}");
                self.tell("", &told);
                *self.hub.refused() = Some(error);
                return Err(told);
            }
        };
        *self.hub.refused() = None;
        let mut running = self.hub.running();
        // The new configuration has no sync that is wrong.
        running.retain(|slot| !matches!(slot, Running::LeftOut(_)));
        let before = running.iter().filter_map(|slot| match slot {
            Running::Up(pipeline) => Some(names_of(&pipeline.sync)),
            Running::Waiting(waiting) => Some(names_of(&waiting.sync)),
            Running::LeftOut(_) => None,
        });
        let (before, mut after): (Vec<Names>, _) = (before.collect(), Vec::new());
        let mut next = Next::default();
        for sync in new.syncs {
            let stays = next.take(&mut running, sync.clone());
            after.push((names_of(&sync), stays));
        }
        let stopped = running.len();
        // What goes must be gone before its targets are taken by what comes.
        super::slot::stop_all(std::mem::take(&mut *running));
        let told = next.told(stopped);
        *running = next.start(self.hub.chronicle());
        drop(running);
        self.status_file.clone_from(&new.settings.status_file);
        self.settings = new.settings;
        self.hub.chronicle().set_max(self.settings.history);
        self.monitor.notice(&Scope::new("", ""), &Notice::Message { text: told });
        self.unwritten = 0;
        self.beat();
        Ok(compare(before, after))
    }
}

/// Returns how a sync and its targets are called.
fn names_of(sync: &Sync) -> Names {
    (sync.name.clone(), sync.targets.iter().map(|target| target.name.clone()).collect())
}

/// Starts syncs one after the other. One that cannot be started ends the start if it is to be `alone`, and so
/// does another daemon that keeps all of them.
fn start_each(hub: &Hub, syncs: Vec<Sync>, alone: bool) -> Result<(), DaemonError> {
    let monitor = hub.monitor();
    let (count, mut kept) = (syncs.len(), 0);
    for sync in syncs {
        let Some(started) = hub.start(sync.clone()) else { break };
        match started {
            Ok(pipeline) => hub.running().push(Running::Up(Box::new(pipeline))),
            Err(error) => {
                kept += usize::from(matches!(error, SessionError::Kept { .. }));
                if alone || kept == count {
                    return Err(DaemonError::Nothing(error));
                }
                let text = tried_again(&error);
                monitor.notice(&Scope::new(&sync.name, ""), &Notice::Warning { text, hint: None });
                let (at, error) = (Instant::now() + START_RETRY, error.to_string());
                hub.running().push(Running::Waiting(Box::new(Waiting { sync, at, error })));
            }
        }
    }
    Ok(())
}

struct Signals {
    int: Signal,
    term: Signal,
    hup: Signal,
    usr1: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next signal. Cancel safe.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.int.recv() => libc::SIGINT,
            _ = self.term.recv() => libc::SIGTERM,
            _ = self.hup.recv() => libc::SIGHUP,
            _ = self.usr1.recv() => libc::SIGUSR1,
        }
    }
}

/// Answers one client, request by request.
pub(super) async fn converse(stream: UnixStream, hub: Arc<Hub>) -> io::Result<()> {
    use tokio::io::AsyncReadExt;
    let may_act = may_act(&stream);
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    // The limit is of one line: a client may ask for ever.
    while (&mut from).take(REQUEST_LEN_MAX).read_until(b'\n', &mut line).await? > 0 {
        let request = serde_json::from_slice::<Request>(&line);
        line.clear();
        let answer = match request {
            Ok(request) if may_act || request.only_asks() => hub.answer(request).await,
            Ok(_) => Answer::Failed { error: NOT_ALLOWED.to_owned(), code: 1 },
            Err(error) => Answer::Failed { error: format!("request does not parse: {error}"), code: 1 },
        };
        let mut bytes = serde_json::to_vec(&answer)?;
        bytes.push(b'\n');
        to.write_all(&bytes).await?;
    }
    Ok(())
}
