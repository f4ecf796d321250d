//! What a running sync knows of one of its targets.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lock::Lock;
use crate::config::Target;
use crate::monitor::Scope;
use crate::sender::{Held, Known, Mailbox, SessionError, TargetStatus};

/// A sync or target that cannot be started is tried again this often.
pub(super) const START_RETRY: Duration = Duration::from_secs(10);

/// A target of a running pipeline.
pub struct RunningTarget {
    /// The target.
    pub target: Target,
    /// Its queue.
    pub mailbox: Arc<Mailbox>,
    /// What is known of it.
    pub status: Arc<TargetStatus>,
    /// What is held back for it.
    pub held: Arc<Held>,
    /// What its sessions know, one after the other.
    pub(super) known: Arc<Known>,
    /// The thread that keeps its connection.
    pub(super) link: Option<JoinHandle<()>>,
    /// Keeps a second daemon of this host away.
    pub(super) lock: Option<Lock>,
    /// When it is tried again to start a link, where there is none.
    pub(super) again: Option<Instant>,
}

impl RunningTarget {
    /// Returns one that has no link yet.
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            mailbox: Mailbox::new(),
            status: Arc::default(),
            held: Arc::default(),
            known: Arc::default(),
            link: None,
            lock: None,
            again: None,
        }
    }
}

/// Where changes go for one target.
pub(super) struct Out {
    pub mailbox: Arc<Mailbox>,
    pub status: Arc<TargetStatus>,
    pub held: Arc<Held>,
    pub scope: Scope,
}

impl Out {
    /// Returns those of the targets of a sync.
    pub fn of_all(sync: &str, targets: &[RunningTarget]) -> Vec<Self> {
        let of = |running: &RunningTarget| Self {
            mailbox: Arc::clone(&running.mailbox),
            status: Arc::clone(&running.status),
            held: Arc::clone(&running.held),
            scope: Scope::new(sync, &running.target.name),
        };
        targets.iter().map(of).collect()
    }
}

/// Returns why something could not be started, and that it is tried again.
pub(super) fn tried_again(error: &SessionError) -> String {
    format!("{error}; tried again every {} s", START_RETRY.as_secs())
}

/// Ends sessions in order, all at the same time.
pub(super) fn leave(targets: &mut [RunningTarget]) {
    targets.iter().for_each(|running| running.mailbox.close());
    for running in targets {
        if let Some(link) = running.link.take() {
            let _ = link.join();
        }
    }
}
