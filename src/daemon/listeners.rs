//! The sockets on which others ask how things are. One that cannot be had is told of once and tried
//! again; the mirror goes on without it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::hub::{Hub, HubSite};
use crate::config::{AgentCheck, Http, Settings};
use crate::http::{self, AgentCheckOptions, Limits, ServeOptions, Site};
use crate::monitor::{Monitor, Notice, Scope};

/// What a socket is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Http(Http),
    AgentCheck(AgentCheck),
}

impl Wanted {
    fn address(&self) -> (&'static str, &str) {
        match self {
            Self::Http(http) => ("http", &http.listen),
            Self::AgentCheck(check) => ("agentCheck", &check.listen),
        }
    }
}

struct Slot {
    wanted: Wanted,
    /// What serves it; `None` while the socket cannot be had.
    task: Option<JoinHandle<()>>,
    /// The last complaint.
    told: Option<String>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// All sockets of a daemon.
pub(super) struct Listeners {
    slots: Vec<Slot>,
    hub: Arc<Hub>,
    monitor: Arc<dyn Monitor>,
}

impl Listeners {
    pub fn new(hub: Arc<Hub>, monitor: Arc<dyn Monitor>) -> Self {
        Self { slots: Vec::new(), hub, monitor }
    }

    /// Listens where the settings say; what is served already is served on.
    pub async fn apply(&mut self, settings: &Settings) {
        let http = settings.http.iter().cloned().map(Wanted::Http);
        let checks = settings.agent_checks.iter().cloned().map(Wanted::AgentCheck);
        let mut before = std::mem::take(&mut self.slots);
        for wanted in http.chain(checks) {
            let same = before.iter().position(|slot| slot.wanted == wanted);
            let slot = same.map(|at| before.swap_remove(at));
            self.slots.push(slot.unwrap_or(Slot { wanted, task: None, told: None }));
        }
        // What goes must be gone before its address is taken by what comes.
        for mut slot in before {
            if let Some(task) = slot.task.take() {
                task.abort();
                let _ = task.await;
            }
        }
        self.retry();
    }

    /// Whether samples of the past are shown anywhere.
    pub fn shows_samples(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.wanted, Wanted::Http(_)))
    }

    /// Whether a socket could not be had.
    pub fn lacks_any(&self) -> bool {
        self.slots.iter().any(|slot| slot.task.is_none())
    }

    /// Tries the sockets that could not be had. Within a tokio runtime.
    pub fn retry(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.task.is_none()) {
            let (key, address) = slot.wanted.address();
            match start(&slot.wanted, &self.hub) {
                Ok(task) => {
                    slot.task = Some(task);
                    tracing::info!("{key}: listening at {address}");
                }
                Err(error) => {
                    let text = format!(
                        "{key}: listen at {address:?}: {}; the mirror goes on without it",
                        crate::error::io_text(&error)
                    );
                    if slot.told.as_ref() != Some(&text) {
                        let notice = Notice::Warning { text: text.clone(), hint: None };
                        self.monitor.notice(&Scope::new("settings", ""), &notice);
                        slot.told = Some(text);
                    }
                }
            }
        }
    }
}

fn start(wanted: &Wanted, hub: &Arc<Hub>) -> std::io::Result<JoinHandle<()>> {
    let site: Arc<dyn Site> = Arc::new(HubSite(Arc::clone(hub)));
    let listener = tokio::net::TcpListener::from_std(http::listen(wanted.address().1)?)?;
    Ok(match wanted.clone() {
        Wanted::Http(http) => {
            let limits = Limits { max_lag: AgentCheck::MAX_LAG, down_lag: None };
            let token = http.token.map(|token| token.0);
            tokio::spawn(http::serve(listener, site, ServeOptions { token, limits, page: true }))
        }
        Wanted::AgentCheck(check) => {
            let limits = Limits { max_lag: check.max_lag, down_lag: check.down_lag };
            let options = AgentCheckOptions { target: check.target, limits };
            tokio::spawn(http::serve_agent_checks(listener, site, options))
        }
    })
}

/// How often a sample of every target is taken.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How often a socket that could not be had is tried again.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(10);
