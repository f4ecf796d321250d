//! Asking the primary to hand over, for a promotion that is at work on this tree.
//!
//! **In → Out:** what a promotion has left in the state directory (`role_file`); a message to the sender, and its answer
//! for the promotion to read.
//! **Invariants:** only a session of a primary asks, once for each promotion, and only where the standby was told that it
//! is in step; what the sender answers changes no role here.
//! **Not here:** waiting for it (`failover`), handing over (`sender/handing.rs`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::reply::Reply;
use crate::disk::host_name;
use crate::protocol::{HandOver, Handing, RoleTold, ToSender, VERSION_HAND_OVER};
use crate::role::HostName;
use crate::role_file::{Handed, RoleFile};

/// What a session of a primary and its sentry share.
pub(super) struct Asking {
    file: RoleFile,
    /// The primary.
    host: HostName,
    /// It knows the question.
    speaks: bool,
    /// The standby has written that it is in step.
    pub in_step: AtomicBool,
    /// The promotion that was told of; 0 for none.
    ticket: AtomicU64,
    /// UpTo while something is told.
    tells: Mutex<()>,
}

impl Asking {
    pub fn new(file: RoleFile, host: HostName, version: u32) -> Arc<Self> {
        let (in_step, ticket, tells) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(()));
        Arc::new(Self { file, host, speaks: version >= VERSION_HAND_OVER, in_step, ticket, tells })
    }

    /// Asks the sender to hand over if a promotion wants that, and has not asked before.
    pub fn look(&self, reply: &Reply) {
        if !self.speaks || !self.in_step.load(Ordering::Acquire) {
            return;
        }
        let Some(asks) = self.file.asks_hand_over() else { return };
        if self.ticket.swap(asks.ticket, Ordering::AcqRel) == asks.ticket {
            return;
        }
        let Ok(Some(record)) = self.file.read() else { return };
        let told = RoleTold { host: host_name(), record: record.to_text(), held: Vec::new() };
        let limit_ms = u64::try_from(asks.limit.as_millis()).unwrap_or(u64::MAX);
        let asked = HandOver { told, limit_ms, leaves_doubts: asks.leaves_doubts };
        self.tell(&Handed::Asked(self.host.clone()));
        let _ = reply.send(&ToSender::HandOver(Box::new(asked)));
    }

    /// Takes in what the sender answers.
    pub fn answered(&self, handing: Handing) {
        let host = self.host.clone();
        self.tell(&match handing {
            Handing::Under { files, bytes } => Handed::Under(host, files, bytes),
            Handing::Refused { line, hint } => Handed::Refused(host, line, hint),
            Handing::Done(_) => Handed::Done(host),
        });
    }

    fn tell(&self, handed: &Handed) {
        let ticket = self.ticket.load(Ordering::Acquire);
        let _one = self.tells.lock().unwrap_or_else(PoisonError::into_inner);
        // Unwritten, the primary seems to be silent: then the promotion goes on by itself.
        let _ = self.file.hand(ticket, handed);
    }
}
