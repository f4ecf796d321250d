//! What a running sync knows of one of its targets.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::config::Target;
use crate::sender::{Held, Known, Mailbox, TargetStatus};

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
}
