//! The daemon: syncs that run side by side, signals, and the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::control::default_socket;
use super::notify::Notifier;
use super::pipeline::{Pipeline, RunningTarget};
use crate::config::{Config, Sync};
use crate::event::RescanReason;
use crate::monitor::{Monitor, Notice, Scope};
use crate::sender::{SessionError, TargetState};
use crate::status::{Answer, ProblemReport, Report, Request, SCHEMA, SyncReport, TargetReport};

/// Longest line that a client may send, in bytes.
const REQUEST_LEN_MAX: u64 = 64 * 1024;
/// A sync whose source cannot be opened is tried again this often.
const START_RETRY: Duration = Duration::from_secs(10);

/// Reads the configuration anew, or says why the new one is broken.
pub type Reload = Box<dyn Fn() -> Result<Config, String> + Send>;

/// Why a daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The control socket cannot be made. Consequence: die.
    #[error("control socket {}: {}", .path.display(), crate::error::io_text(.error))]
    Control {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The runtime cannot be made. Consequence: die.
    #[error("start: {}", crate::error::io_text(.0))]
    Runtime(io::Error),
    /// Not one sync could be started. Consequence: die.
    #[error("{0}")]
    Nothing(SessionError),
}

pub(super) enum Running {
    Up(Pipeline),
    /// Not started: the source is missing, say. Tried again.
    Waiting(Sync, Instant),
}

/// A daemon.
pub struct Daemon {
    running: Arc<Mutex<Vec<Running>>>,
    monitor: Arc<dyn Monitor>,
    reload: Option<Reload>,
    control: PathBuf,
    status_file: Option<PathBuf>,
    status_interval: Duration,
    tick: Box<dyn Fn(&Report) + Send>,
    notifier: Notifier,
    strict: bool,
}

impl Daemon {
    /// Makes a daemon that speaks to `monitor`; `reload` is what SIGHUP does, `tick` hears the state
    /// once per `status_interval`.
    pub fn new(
        config: &Config,
        monitor: Arc<dyn Monitor>,
        reload: Option<Reload>,
        tick: Box<dyn Fn(&Report) + Send>,
    ) -> Self {
        Self {
            running: Arc::default(),
            monitor,
            reload,
            control: config.settings.control.clone().unwrap_or_else(default_socket),
            status_file: config.settings.status_file.clone(),
            status_interval: config.settings.status_interval.max(Duration::from_millis(100)),
            tick,
            notifier: Notifier::from_environment(),
            strict: false,
        }
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
            let signals = Signals::new().map_err(DaemonError::Runtime)?;
            let listener = listen(&self.control)?;
            self.start_all(syncs)?;
            self.notifier.ready();
            Ok(self.serve(signals, listener).await)
        });
        self.notifier.stopping();
        let _ = std::fs::remove_file(&self.control);
        lock(&self.running).clear();
        ended
    }

    fn start_all(&self, syncs: Vec<Sync>) -> Result<(), DaemonError> {
        let alone = self.strict || (syncs.len() == 1 && self.reload.is_none());
        for sync in syncs {
            match Pipeline::start(sync.clone(), &self.monitor) {
                Ok(pipeline) => lock(&self.running).push(Running::Up(pipeline)),
                Err(error) if alone => return Err(DaemonError::Nothing(error)),
                Err(error) => {
                    self.tell(&sync.name, &format!("{error}; tried again every {} s", START_RETRY.as_secs()));
                    lock(&self.running).push(Running::Waiting(sync, Instant::now() + START_RETRY));
                }
            }
        }
        Ok(())
    }

    fn tell(&self, sync: &str, text: &str) {
        self.monitor.notice(&Scope::new(sync, ""), &Notice::Warning { text: text.to_owned(), hint: None });
    }

    async fn serve(&mut self, mut signals: Signals, listener: UnixListener) -> i32 {
        let mut beat = tokio::time::interval(self.status_interval);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let signs = self.notifier.sign_every();
        let mut sign = tokio::time::interval(signs.unwrap_or(Duration::from_secs(3600)));
        loop {
            tokio::select! {
                number = signals.next() => match number {
                    libc::SIGHUP => {
                        self.notifier.reloading();
                        self.reload();
                        self.notifier.ready();
                    }
                    libc::SIGUSR1 => for running in lock(&self.running).iter() {
                        if let Running::Up(pipeline) = running {
                            pipeline.reconcile(RescanReason::Request);
                        }
                    },
                    ending => return ending,
                },
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    let running = Arc::clone(&self.running);
                    let monitor = Arc::clone(&self.monitor);
                    tokio::spawn(async move {
                        // A client that goes away early concerns nobody.
                        let _ = converse(stream, running, monitor).await;
                    });
                },
                _ = beat.tick() => self.beat(),
                _ = sign.tick(), if signs.is_some() => self.sign(),
            }
        }
    }

    /// Gives a sign of life, if every sync has its threads: one that lost some is started anew with all.
    fn sign(&self) {
        let whole = |slot: &Running| match slot {
            Running::Up(pipeline) => pipeline.is_whole(),
            Running::Waiting(..) => true,
        };
        if lock(&self.running).iter().all(whole) {
            self.notifier.alive();
        }
    }

    fn beat(&self) {
        let mut running = lock(&self.running);
        for slot in running.iter_mut() {
            if let Running::Waiting(sync, at) = slot
                && *at <= Instant::now()
            {
                match Pipeline::start(sync.clone(), &self.monitor) {
                    Ok(pipeline) => *slot = Running::Up(pipeline),
                    Err(_) => *at = Instant::now() + START_RETRY,
                }
            }
        }
        let report = report(&running);
        drop(running);
        (self.tick)(&report);
        self.notifier.status(&report);
        if let Some(path) = &self.status_file {
            let temp = path.with_extension("new");
            let text = crate::status::text(&report);
            let written = std::fs::write(&temp, text).and_then(|()| std::fs::rename(&temp, path));
            if let Err(error) = written {
                tracing::warn!(path = %path.display(), error = %crate::error::io_text(&error), "status file not written");
            }
        }
    }

    /// Takes a new configuration in: syncs that did not change run on untouched.
    fn reload(&mut self) {
        let Some(reload) = &self.reload else { return };
        let new = match reload() {
            Ok(config) => config,
            Err(error) => {
                self.tell("", &format!("new configuration refused, the old one stays in force: {error}"));
                return;
            }
        };
        let mut running = lock(&self.running);
        let (mut kept, mut started) = (0, 0);
        let mut next = Vec::new();
        for sync in new.syncs {
            let same = running.iter().position(|slot| match slot {
                Running::Up(pipeline) => pipeline.sync == sync,
                Running::Waiting(waiting, _) => *waiting == sync,
            });
            if let Some(at) = same {
                kept += 1;
                next.push((running.swap_remove(at), None));
            } else {
                started += 1;
                next.push((Running::Waiting(sync, Instant::now()), Some(())));
            }
        }
        let stopped = running.len();
        // What goes must be gone before its targets are taken by what comes.
        running.clear();
        running.extend(next.into_iter().map(|(slot, _)| slot));
        drop(running);
        self.status_file = new.settings.status_file;
        let text =
            format!("configuration read again: {kept} syncs unchanged, {started} started, {stopped} stopped");
        self.monitor.notice(&Scope::new("", ""), &Notice::Message { text });
        self.beat();
    }
}

/// Makes a control socket that this user alone can reach.
pub(super) fn listen(control: &Path) -> Result<UnixListener, DaemonError> {
    let fail = |error| DaemonError::Control { path: control.to_owned(), error };
    if let Some(dir) = control.parent() {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
    }
    if std::os::unix::net::UnixStream::connect(control).is_err() {
        // Left by a daemon that was killed.
        let _ = std::fs::remove_file(control);
    }
    let listener = UnixListener::bind(control).map_err(fail)?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(control, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

pub(super) fn lock(running: &Mutex<Vec<Running>>) -> MutexGuard<'_, Vec<Running>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(super) async fn converse(
    stream: UnixStream,
    running: Arc<Mutex<Vec<Running>>>,
    monitor: Arc<dyn Monitor>,
) -> io::Result<()> {
    use tokio::io::AsyncReadExt;
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from.take(REQUEST_LEN_MAX)).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => answer(request, &running, &*monitor).await,
            Err(error) => Answer::Failed { error: format!("request does not parse: {error}"), code: 1 },
        };
        let mut bytes = serde_json::to_vec(&answer)?;
        bytes.push(b'\n');
        to.write_all(&bytes).await?;
    }
    Ok(())
}

async fn answer(request: Request, running: &Arc<Mutex<Vec<Running>>>, monitor: &dyn Monitor) -> Answer {
    let pause = |sync: Option<&str>, on| {
        each(running, sync, |pipeline| {
            pipeline.pause(on);
            for running in &pipeline.targets {
                let scope = Scope::new(&pipeline.sync.name, &running.target.name);
                monitor.notice(&scope, &Notice::Paused { on });
            }
            1
        })
    };
    match request {
        Request::LogLevel { sync, level } => match each(running, sync.as_deref(), |_| 1) {
            Answer::Done { .. } if !monitor.set_level(sync.as_deref(), level) => Answer::Failed {
                error: "this process keeps no log whose level can be set".to_owned(),
                code: 1,
            },
            answer => answer,
        },
        Request::Status => Answer::Status(report(&lock(running))),
        Request::Wait { sync, targets, timeout_ms } => wait(running, sync, &targets, timeout_ms).await,
        Request::Reconcile { sync } => each(running, sync.as_deref(), |pipeline| {
            pipeline.reconcile(RescanReason::Request);
            1
        }),
        Request::Pause { sync } => pause(sync.as_deref(), true),
        Request::Resume { sync } => pause(sync.as_deref(), false),
        Request::Approve { sync, target } => each(running, sync.as_deref(), |pipeline| {
            pipeline.approve(|other| target.as_ref().is_none_or(|name| *name == other.name))
        }),
        Request::Explain { sync, path } => {
            let running = lock(running);
            let mut up = running.iter().filter_map(|slot| match slot {
                Running::Up(pipeline) => Some(pipeline),
                Running::Waiting(..) => None,
            });
            match up.find(|pipeline| pipeline.sync.name == sync) {
                Some(pipeline) => super::explain::explain(pipeline, &path),
                None => Answer::Failed { error: format!("no sync is called {sync:?}"), code: 1 },
            }
        }
        Request::Discard { sync, target } => each(running, sync.as_deref(), |pipeline| {
            pipeline.discard(|other| target.as_ref().is_none_or(|name| *name == other.name))
        }),
    }
}

fn each(running: &Mutex<Vec<Running>>, name: Option<&str>, act: impl Fn(&Pipeline) -> usize) -> Answer {
    let running = lock(running);
    let mut found = false;
    let mut count = 0;
    for slot in running.iter() {
        if let Running::Up(pipeline) = slot
            && name.is_none_or(|name| name == pipeline.sync.name)
        {
            found = true;
            count += act(pipeline);
        }
    }
    match (found, name) {
        (true, _) => Answer::Done { count },
        (false, Some(name)) => Answer::Failed { error: format!("no sync is called {name:?}"), code: 1 },
        (false, None) => Answer::Failed { error: "no sync is running".to_owned(), code: 12 },
    }
}

/// Waits until everything that was written before the call is acknowledged.
async fn wait(
    running: &Arc<Mutex<Vec<Running>>>,
    sync: Option<String>,
    targets: &[String],
    timeout_ms: Option<u64>,
) -> Answer {
    let deadline = timeout_ms.map(|limit| Instant::now() + Duration::from_millis(limit));
    let flush = {
        let (running, sync) = (Arc::clone(running), sync.clone());
        tokio::task::spawn_blocking(move || {
            each(&running, sync.as_deref(), |pipeline| {
                usize::from(pipeline.flush_events(Duration::from_secs(30)))
            })
        })
    };
    match flush.await {
        Ok(Answer::Done { .. }) => {}
        Ok(failed) => return failed,
        Err(error) => return Answer::Failed { error: error.to_string(), code: 12 },
    }
    let began = Instant::now();
    loop {
        let laggard = laggard(&lock(running), sync.as_deref(), targets, began);
        let Some(laggard) = laggard else { return Answer::Done { count: 1 } };
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Answer::Failed { error: format!("{laggard} is not in step"), code: 30 };
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns a target that has not acknowledged everything from before `began`.
fn laggard(running: &[Running], sync: Option<&str>, targets: &[String], began: Instant) -> Option<String> {
    for slot in running {
        let Running::Up(pipeline) = slot else { continue };
        if sync.is_some_and(|name| name != pipeline.sync.name) {
            continue;
        }
        for running in &pipeline.targets {
            let named = targets.is_empty() || targets.contains(&running.target.name);
            let live = running.status.state().0 == TargetState::Live;
            let oldest = oldest(running);
            if named && (!live || oldest.is_some_and(|since| since <= began)) {
                return Some(format!("{} → {}", pipeline.sync.name, running.target.name));
            }
        }
    }
    None
}

fn oldest(running: &RunningTarget) -> Option<Instant> {
    running.mailbox.pending().1.into_iter().chain(running.status.oldest_in_flight()).min()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn report(running: &[Running]) -> Report {
    let syncs = running.iter().map(|slot| match slot {
        Running::Up(pipeline) => SyncReport {
            name: pipeline.sync.name.clone(),
            source: pipeline.sync.source.display().to_string(),
            watched: pipeline.watched().0,
            watch_problems: pipeline.watched().1,
            targets: pipeline.targets.iter().map(target_report).collect(),
        },
        Running::Waiting(sync, _) => SyncReport {
            name: sync.name.clone(),
            source: sync.source.display().to_string(),
            ..SyncReport::default()
        },
    });
    Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        time: seconds(SystemTime::now()),
        syncs: syncs.collect(),
    }
}

fn target_report(running: &RunningTarget) -> TargetReport {
    let (state, since) = running.status.state();
    let state = if running.mailbox.is_paused() { TargetState::Paused } else { state };
    let totals = running.status.counters.totals();
    let now = Instant::now();
    let last_pass = running.status.last_pass();
    let held = running.held.summary();
    let word = serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned));
    let problems = running.status.problems().into_iter().map(|(path, problem)| ProblemReport {
        path: path.to_string(),
        operation: problem.operation,
        error: crate::error::errno_text(problem.errno),
        attempts: problem.attempts,
        retry_ms: u64::try_from(problem.retry_at.saturating_duration_since(now).as_millis())
            .unwrap_or(u64::MAX),
    });
    TargetReport {
        name: running.target.name.clone(),
        target: running.target.to_string(),
        state: word.unwrap_or_default(),
        since: since.map_or(0, seconds),
        error: running.status.error(),
        lag_ms: oldest(running).map_or(0, |since| {
            u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
        }),
        queued: running.mailbox.pending().0,
        held: held.as_ref().map_or(0, |(count, _)| *count),
        held_reason: held.map(|(_, reason)| reason),
        sent_bytes: totals.sent_bytes,
        received_bytes: totals.received_bytes,
        batches: totals.batches,
        files: totals.files,
        repairs: totals.repairs,
        last_pass: last_pass.as_ref().map(|(time, _)| seconds(*time)),
        last_pass_different: last_pass.map_or(0, |(_, summary)| summary.different),
        problems: problems.collect(),
    }
}
