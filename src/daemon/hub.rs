//! What the control plane shares: the running syncs, and what is remembered of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::history::{Activity, History};
use super::pipeline::Pipeline;
use super::report::{report, seconds};
use super::service::Running;
use crate::event::RescanReason;
use crate::http::Site;
use crate::status::{Answer, Happening, Report, Request, Series};

/// The running syncs, and what is remembered of them.
pub(super) struct Hub {
    running: Mutex<Vec<Running>>,
    history: Mutex<History>,
    pub activity: Arc<Activity>,
    started: SystemTime,
}

impl Hub {
    pub fn new() -> Self {
        Self {
            running: Mutex::default(),
            history: Mutex::default(),
            activity: Arc::default(),
            started: SystemTime::now(),
        }
    }

    pub fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
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
            Request::Wait(wait) => super::waiting::wait(self, wait).await,
            Request::Reconcile { sync } => self.each(sync.as_deref(), |pipeline| {
                pipeline.reconcile(RescanReason::Request);
                1
            }),
            Request::Pause { sync } => self.each(sync.as_deref(), |pipeline| {
                pipeline.pause(true);
                1
            }),
            Request::Resume { sync } => self.each(sync.as_deref(), |pipeline| {
                pipeline.pause(false);
                1
            }),
            Request::Approve { sync, target } => self.each(sync.as_deref(), |pipeline| {
                pipeline.approve(|other| target.as_ref().is_none_or(|name| *name == other.name))
            }),
            Request::Discard { sync, target } => self.each(sync.as_deref(), |pipeline| {
                pipeline.discard(|other| target.as_ref().is_none_or(|name| *name == other.name))
            }),
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
