//! What the control plane shares: the running syncs, and what is remembered of them.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::chronicle::Chronicle;
use super::history::{Activity, History, Recorder};
use super::link_options::Over;
use super::onlooker::Onlooker;
use super::pipeline::Pipeline;
use super::pulled::{Pulled, Pulling, Unstarted};
use super::report::{clean, report, seconds};
use super::slot::{Running, stop_all};
use crate::config::{Sync, Target};
use crate::event::RescanReason;
use crate::http::Site;
use crate::monitor::{Monitor, Notice, Scope};
use crate::sender::{Mailbox, SessionError, Source};
use crate::status::{Answer, Happening, LogQuery, Report, Request, Series};

/// A sync that is being started, which may take long, and whether any is to be.
#[derive(Default)]
struct Starting {
    mailboxes: Vec<Arc<Mailbox>>,
    stopped: bool,
}

/// The running syncs, and what is remembered of them.
pub(super) struct Hub {
    running: Arc<Mutex<Vec<Running>>>,
    starting: Mutex<Starting>,
    history: Mutex<History>,
    activity: Arc<Activity>,
    monitor: Arc<dyn Monitor>,
    started: SystemTime,
    /// Why the newest configuration was refused; the one before is in force.
    refused_reload: Mutex<Option<String>>,
    pauses: Mutex<Pauses>,
    reloads: Mutex<Option<mpsc::UnboundedSender<Asker>>>,
    onlooker: Arc<dyn Onlooker>,
    chronicle: Arc<Chronicle>,
    /// The mirror whose source is on another host, in a process that has one.
    pulled: OnceLock<Arc<Pulled>>,
}

/// Who waits for the configuration to be read again.
pub(super) type Asker = oneshot::Sender<Answer>;

/// Syncs whose pause ends by itself: when, and the number of the pause.
#[derive(Default)]
struct Pauses {
    last: u64,
    until: HashMap<String, (SystemTime, u64)>,
}

impl Hub {
    /// Everything told to [`Hub::monitor`] goes to `monitor` and is remembered.
    pub fn new(monitor: Arc<dyn Monitor>, onlooker: Arc<dyn Onlooker>, chronicle: Chronicle) -> Self {
        let chronicle = Arc::new(chronicle);
        let activity: Arc<Activity> = Arc::default();
        Self {
            running: Arc::default(),
            starting: Mutex::default(),
            history: Mutex::default(),
            monitor: Arc::new(Recorder {
                activity: Arc::clone(&activity),
                chronicle: Arc::clone(&chronicle),
                next: monitor,
            }),
            activity,
            started: SystemTime::now(),
            refused_reload: Mutex::default(),
            pauses: Mutex::default(),
            reloads: Mutex::default(),
            onlooker,
            chronicle,
            pulled: OnceLock::new(),
        }
    }

    /// Returns who hears what happens.
    pub fn monitor(&self) -> Arc<dyn Monitor> {
        Arc::clone(&self.monitor)
    }

    pub fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a sync, unless everything is to stop; `None` then.
    ///
    /// # Errors
    /// As [`Pipeline::start`].
    pub fn start(&self, sync: Sync) -> Option<Result<Pipeline, SessionError>> {
        let begins = self.begins()?;
        self.chronicle.begin(&sync);
        Some(Pipeline::start_told(sync, &self.monitor, begins))
    }

    /// Starts a sync whose one target is connected to, unless everything is to stop; `None` then.
    ///
    /// # Errors
    /// As [`Pipeline::start_over`].
    pub fn start_over(
        &self,
        sync: Sync,
        ground: (Arc<Source>, Over),
    ) -> Option<Result<Pipeline, SessionError>> {
        let begins = self.begins()?;
        Some(Pipeline::start_over(sync, ground, &self.monitor, begins))
    }

    /// Begins to pull, and has `first` told how the first try went.
    ///
    /// # Errors
    /// As [`Pulled::start`].
    pub fn start_pull(
        &self,
        it: Pulling,
        first: oneshot::Sender<Option<Unstarted>>,
    ) -> Result<(), SessionError> {
        let pulled = Pulled::start(it, self.monitor(), first)?;
        self.chronicle.begin(&pulled.told_apart());
        let _ = self.pulled.set(pulled);
        Ok(())
    }

    /// Returns the mirror whose source is on another host.
    pub fn pulled(&self) -> Option<&Arc<Pulled>> {
        self.pulled.get()
    }

    /// Returns what takes in which mailboxes a stop closes; `None` if everything is to stop.
    fn begins(&self) -> Option<impl FnOnce(Vec<Arc<Mailbox>>) + '_> {
        if self.starting().stopped {
            return None;
        }
        Some(|mailboxes: Vec<Arc<Mailbox>>| {
            let mut starting = self.starting();
            if starting.stopped {
                mailboxes.iter().for_each(|mailbox| mailbox.close());
            }
            starting.mailboxes = mailboxes;
        })
    }

    /// Returns the histories of what arrives.
    pub fn chronicle(&self) -> &Chronicle {
        &self.chronicle
    }

    /// Has what is being started connect no more, and starts nothing else.
    pub fn stop_starting(&self) {
        let mut starting = self.starting();
        starting.stopped = true;
        let mailboxes = std::mem::take(&mut starting.mailboxes);
        drop(starting);
        mailboxes.iter().for_each(|mailbox| mailbox.close());
    }

    fn starting(&self) -> MutexGuard<'_, Starting> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops every sync, all at the same time, and forgets them.
    pub fn stop_all(&self) {
        let running = std::mem::take(&mut *self.running());
        stop_all(running);
        if let Some(pulled) = self.pulled() {
            pulled.stop();
        }
    }

    /// Returns why the newest configuration was refused.
    pub fn refused(&self) -> MutexGuard<'_, Option<String>> {
        self.refused_reload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a sample of how every target does.
    pub fn sample(&self) {
        let report = report(&self.running());
        self.history().sample(&report, Instant::now());
    }

    /// Returns how things are.
    pub fn report(&self) -> Report {
        let mut report = report(&self.running());
        report.syncs.extend(self.pulled().map(|pulled| pulled.report()));
        report.started = seconds(self.started);
        report.refused_reload = self.refused().as_deref().map(clean);
        self.activity.complete(&mut report);
        let (history, now) = (self.history(), Instant::now());
        let pauses = self.pauses();
        for sync in &mut report.syncs {
            let until = pauses.until.get(&sync.name).map(|(until, _)| seconds(*until));
            for target in &mut sync.targets {
                target.paused_until = until.filter(|_| target.state == "paused");
                target.rate = history.rate(&sync.name, &target.name, target.sent_bytes, now);
            }
        }
        report
    }

    /// Does what a client asks for. Cancel safe.
    pub async fn answer(self: &Arc<Self>, request: Request) -> Answer {
        if let Some(pulled) = self.pulled()
            && let Some(answer) = pulled.answer(&request).await
        {
            return answer;
        }
        match request {
            Request::Status => Answer::Status(self.report()),
            Request::Wait(wait) => super::waiting::wait(&self.running, wait).await,
            Request::Position { sync } => super::positions::ask(&self.running, sync.as_deref()).await,
            Request::Reconcile { sync } => self.each(sync.as_deref(), |pipeline| {
                pipeline.reconcile(RescanReason::Request);
                1
            }),
            Request::Pause { sync } => self.pause(sync.as_deref(), true),
            Request::PauseFor { sync, for_ms } => {
                self.pause_for(sync.as_deref(), Duration::from_millis(for_ms))
            }
            Request::Series => Answer::Series { series: self.history().series() },
            Request::Reload => self.ask_reload().await,
            Request::Log(query) => self.past(query).await,
            Request::Notify => self.try_out().await,
            Request::Retry { sync, target } => self.retry(sync.as_deref(), target.as_deref()),
            Request::Resume { sync } => self.pause(sync.as_deref(), false),
            Request::Explain { sync, path } => self.explain(&sync, &path),
            Request::LogLevel { sync, level } => match self.each(sync.as_deref(), |_| 1) {
                Answer::Done { .. } if !self.monitor.set_level(sync.as_deref(), level) => {
                    let error = "this process keeps no log whose level can be set".to_owned();
                    Answer::Failed { error, code: 1 }
                }
                answer => answer,
            },
            Request::Approve { sync, target } => self
                .each_target((sync.as_deref(), target.as_deref()), |pipeline, picks| pipeline.approve(picks)),
            Request::EnterAnew { sync, target } => {
                self.each_target((Some(&sync), Some(&target)), |pipeline, picks| pipeline.enter_anew(picks))
            }
            Request::Discard { sync, target } => self
                .each_target((sync.as_deref(), target.as_deref()), |pipeline, picks| pipeline.discard(picks)),
        }
    }

    /// Says where those are heard who want the configuration read again.
    pub fn hear_reloads(&self, asked: mpsc::UnboundedSender<Asker>) {
        *self.reloads.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
    }

    async fn ask_reload(&self) -> Answer {
        let failed = |error: &str| Answer::Failed { error: error.to_owned(), code: 1 };
        let asked = self.reloads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(asked) = asked else { return failed("this process was started without a configuration") };
        let (asker, answer) = oneshot::channel();
        let _ = asked.send(asker);
        answer.await.unwrap_or_else(|_| failed("the daemon is ending"))
    }

    /// Reads what arrived, which may take long.
    async fn past(&self, query: LogQuery) -> Answer {
        let failed = |error: String| Answer::Failed { error, code: 11 };
        let Some((dir, names)) = self.chronicle.place() else {
            return failed("no HOME: no history is kept".to_owned());
        };
        let known = query.sync.as_ref().is_none_or(|sync| {
            self.running().iter().any(|slot| match slot {
                Running::Up(pipeline) => pipeline.sync.name == *sync,
                Running::Waiting(slot) => slot.sync.name == *sync,
                Running::LeftOut(left) => left.name == *sync,
            })
        });
        let asked = query.sync.clone().unwrap_or_default();
        let shown = dir.display().to_string();
        match tokio::task::spawn_blocking(move || super::chronicle::read_history(&dir, Some(&names), &query))
            .await
        {
            Ok(Ok((records, _))) if records.is_empty() && !known => {
                Answer::Failed { error: format!("no sync is called {asked:?}"), code: 1 }
            }
            Ok(Ok((records, left_out))) => Answer::Log { records, left_out },
            Ok(Err(error)) => failed(format!("{shown}: {}", crate::error::io_text(&error))),
            Err(error) => failed(error.to_string()),
        }
    }

    /// Sends a test to whoever is told when something gets worse. That takes its time.
    async fn try_out(&self) -> Answer {
        let onlooker = Arc::clone(&self.onlooker);
        match tokio::task::spawn_blocking(move || onlooker.try_out()).await {
            Ok(tried) if tried.is_empty() => {
                let error = "the configuration in force has no notify".to_owned();
                Answer::Failed { error, code: 1 }
            }
            Ok(tried) => Answer::Notified { tried },
            Err(error) => Answer::Failed { error: error.to_string(), code: 12 },
        }
    }

    fn retry(&self, sync: Option<&str>, target: Option<&str>) -> Answer {
        let mut waiting = 0;
        let now = Instant::now();
        for slot in self.running().iter_mut() {
            match slot {
                Running::Waiting(slot)
                    if target.is_none() && sync.is_none_or(|name| name == slot.sync.name) =>
                {
                    slot.at = now;
                    waiting += 1;
                }
                Running::Up(pipeline) if sync.is_none_or(|name| name == pipeline.sync.name) => {
                    pipeline.start_now(now, |other| target.is_none_or(|name| name == other.name));
                }
                _ => {}
            }
        }
        match self.each_target((sync, target), |pipeline, picks| pipeline.retry(picks)) {
            Answer::Done { count } => Answer::Done { count: count + waiting },
            _ if waiting > 0 => Answer::Done { count: waiting },
            failed => failed,
        }
    }

    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pauses, and goes on by itself after some time, unless somebody pauses anew or resumes meanwhile.
    fn pause_for(self: &Arc<Self>, sync: Option<&str>, span: Duration) -> Answer {
        let paused = self.pause(sync, true);
        let Some(until) = SystemTime::now().checked_add(span) else { return paused };
        if !matches!(paused, Answer::Done { .. }) {
            return paused;
        }
        let names: Vec<String> = match sync {
            Some(name) => vec![name.to_owned()],
            None => self.names(),
        };
        let mut pauses = self.pauses();
        pauses.last += 1;
        let number = pauses.last;
        pauses.until.extend(names.into_iter().map(|name| (name, (until, number))));
        drop(pauses);
        let hub = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(span).await;
            if let Some(hub) = hub.upgrade() {
                hub.end_pause(number);
            }
        });
        paused
    }

    fn end_pause(&self, number: u64) {
        let pauses = self.pauses();
        let ended = pauses.until.iter().filter(|(_, (_, of))| *of == number);
        let ended: Vec<String> = ended.map(|(name, _)| name.clone()).collect();
        drop(pauses);
        ended.iter().for_each(|name| drop(self.pause(Some(name), false)));
    }

    /// Returns the names of the syncs that run.
    fn names(&self) -> Vec<String> {
        let running = self.running();
        let up = running.iter().filter_map(|slot| match slot {
            Running::Up(pipeline) => Some(pipeline.sync.name.clone()),
            Running::Waiting(_) | Running::LeftOut(_) => None,
        });
        up.collect()
    }

    fn pause(&self, sync: Option<&str>, on: bool) -> Answer {
        self.pauses().until.retain(|name, _| sync.is_some_and(|sync| sync != name));
        self.each(sync, |pipeline| {
            pipeline.pause(on);
            for running in &pipeline.targets {
                let scope = Scope::new(&pipeline.sync.name, &running.target.name);
                self.monitor.notice(&scope, &Notice::Paused { on });
            }
            1
        })
    }

    fn explain(&self, sync: &str, path: &[u8]) -> Answer {
        let running = self.running();
        let mut up = running.iter().filter_map(|slot| match slot {
            Running::Up(pipeline) => Some(pipeline),
            Running::Waiting(_) | Running::LeftOut(_) => None,
        });
        match up.find(|pipeline| pipeline.sync.name == sync) {
            Some(pipeline) => super::explain::explain(pipeline, path),
            None => Answer::Failed { error: format!("no sync is called {sync:?}"), code: 1 },
        }
    }

    /// As [`Self::each`], for one target of each sync or for all.
    fn each_target(
        &self,
        (sync, target): (Option<&str>, Option<&str>),
        act: impl Fn(&Pipeline, &dyn Fn(&Target) -> bool) -> usize,
    ) -> Answer {
        let picked = AtomicUsize::new(0);
        let answer = self.each(sync, |pipeline| {
            act(pipeline, &|other| {
                let picks = target.is_none_or(|name| name == other.name);
                picked.fetch_add(usize::from(picks), Ordering::Relaxed);
                picks
            })
        });
        match (answer, target) {
            (Answer::Done { .. }, Some(name)) if picked.into_inner() == 0 => {
                let of = sync.map(|sync| format!(" of sync {sync:?}")).unwrap_or_default();
                Answer::Failed { error: format!("no target{of} is called {name:?}"), code: 1 }
            }
            (answer, _) => answer,
        }
    }

    fn each(&self, name: Option<&str>, act: impl Fn(&Pipeline) -> usize) -> Answer {
        let running = self.running();
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
}

/// The hub as the HTTP listener sees it.
pub(super) struct HubSite(pub Arc<Hub>);

impl Site for HubSite {
    fn report(&self) -> Report {
        self.0.report()
    }

    fn series(&self) -> Vec<Series> {
        self.0.history().series()
    }

    fn activity(&self) -> Vec<Happening> {
        self.0.activity.list()
    }

    fn act(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let hub = Arc::clone(&self.0);
        Box::pin(async move { hub.answer(request).await })
    }
}
