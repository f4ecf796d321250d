//! What the control plane shares: the running syncs, and what is remembered of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::history::{Activity, History, Recorder};
use super::pipeline::Pipeline;
use super::report::{clean, report, seconds};
use super::slot::{Running, stop_all};
use crate::config::Sync;
use crate::event::RescanReason;
use crate::http::Site;
use crate::monitor::{Monitor, Notice, Scope};
use crate::sender::{Mailbox, SessionError};
use crate::status::{Answer, Happening, Report, Request, Series};

/// A sync that is being started, which may take long, and whether any is to be.
#[derive(Default)]
struct Starting {
    mailboxes: Vec<Arc<Mailbox>>,
    stopped: bool,
}

/// The running syncs, and what is remembered of them.
pub(super) struct Hub {
    running: Mutex<Vec<Running>>,
    starting: Mutex<Starting>,
    history: Mutex<History>,
    activity: Arc<Activity>,
    monitor: Arc<dyn Monitor>,
    started: SystemTime,
    /// Why the newest configuration was refused; the one before is in force.
    refused_reload: Mutex<Option<String>>,
}

impl Hub {
    /// Everything told to [`Hub::monitor`] goes to `monitor` and is remembered.
    pub fn new(monitor: Arc<dyn Monitor>) -> Self {
        let activity: Arc<Activity> = Arc::default();
        Self {
            running: Mutex::default(),
            starting: Mutex::default(),
            history: Mutex::default(),
            monitor: Arc::new(Recorder { activity: Arc::clone(&activity), next: monitor }),
            activity,
            started: SystemTime::now(),
            refused_reload: Mutex::default(),
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
        if self.starting().stopped {
            return None;
        }
        let begins = |mailboxes: Vec<Arc<Mailbox>>| {
            let mut starting = self.starting();
            if starting.stopped {
                mailboxes.iter().for_each(|mailbox| mailbox.close());
            }
            starting.mailboxes = mailboxes;
        };
        Some(Pipeline::start_told(sync, &self.monitor, begins))
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
        report.started = seconds(self.started);
        report.refused_reload = self.refused().as_deref().map(clean);
        self.activity.complete(&mut report);
        let (history, now) = (self.history(), Instant::now());
        for sync in &mut report.syncs {
            for target in &mut sync.targets {
                target.rate = history.rate(&sync.name, &target.name, target.sent_bytes, now);
            }
        }
        report
    }

    /// Does what a client asks for. Cancel safe.
    pub async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Status(self.report()),
            Request::Wait(wait) => super::waiting::wait(&self.running, wait).await,
            Request::Reconcile { sync } => self.each(sync.as_deref(), |pipeline| {
                pipeline.reconcile(RescanReason::Request);
                1
            }),
            Request::Pause { sync } => self.pause(sync.as_deref(), true),
            Request::Resume { sync } => self.pause(sync.as_deref(), false),
            Request::Explain { sync, path } => self.explain(&sync, &path),
            Request::LogLevel { sync, level } => match self.each(sync.as_deref(), |_| 1) {
                Answer::Done { .. } if !self.monitor.set_level(sync.as_deref(), level) => {
                    let error = "this process keeps no log whose level can be set".to_owned();
                    Answer::Failed { error, code: 1 }
                }
                answer => answer,
            },
            Request::Approve { sync, target } => self.each(sync.as_deref(), |pipeline| {
                pipeline.approve(|other| target.as_ref().is_none_or(|name| *name == other.name))
            }),
            Request::EnterAnew { sync, target } => {
                self.each(Some(&sync), |pipeline| pipeline.enter_anew(|other| target == other.name))
            }
            Request::Discard { sync, target } => self.each(sync.as_deref(), |pipeline| {
                pipeline.discard(|other| target.as_ref().is_none_or(|name| *name == other.name))
            }),
        }
    }

    fn pause(&self, sync: Option<&str>, on: bool) -> Answer {
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
