//! The fence of `speil wait`, and of a hand-over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::input::Input;
use crate::event::RescanReason;
use crate::sender::{Fenced, Mailbox};
use crate::watch::{self, Asker};

/// Brings everything that was written before a moment into the mailboxes of a sync.
pub(super) struct Settler {
    input: Sender<Input>,
    asker: Asker,
    mailboxes: Vec<Arc<Mailbox>>,
}

impl Settler {
    pub fn new(input: Sender<Input>, asker: Asker, mailboxes: Vec<Arc<Mailbox>>) -> Self {
        Self { input, asker, mailboxes }
    }

    /// Returns the moment: once nothing older is owed, what was written before the call stands on the
    /// target. `None` if the watch or the engine does not answer within `limit`.
    pub fn settle(&self, limit: Duration) -> Option<Instant> {
        self.fence(limit).map(|fenced| fenced.until)
    }

    /// The same, and whether the watch has heard it all.
    pub fn fence(&self, limit: Duration) -> Option<Fenced> {
        let (until, sure) = match self.asker.hear_all(limit) {
            watch::FenceAnswer::Late => return None,
            watch::FenceAnswer::Unsure => {
                let now = Instant::now();
                self.input.send(Input::Reconcile(RescanReason::Request, now)).ok()?;
                (now, false)
            }
            watch::FenceAnswer::All(until) => (until, true),
        };
        self.mailboxes.iter().for_each(|mailbox| mailbox.hurry(until));
        let (done, flushed) = bounded(1);
        self.input.send(Input::Flush(until, done)).ok()?;
        flushed.recv_timeout(limit).ok()?;
        self.mailboxes.iter().for_each(|mailbox| mailbox.heard(until));
        Some(Fenced { until, sure })
    }

    /// Has the sessions know that everything which happened before the call was handed to them: what they
    /// keep for an event that may tell more, they need not keep any longer.
    pub fn hear(&self, limit: Duration) {
        let until = match self.asker.hear_all(limit) {
            watch::FenceAnswer::All(until) => until,
            // Without a queue nothing is told later that was not seen by now.
            watch::FenceAnswer::Unsure => Instant::now(),
            watch::FenceAnswer::Late => return,
        };
        let (done, echoed) = bounded(1);
        if self.input.send(Input::Echo(done)).is_ok() && echoed.recv_timeout(limit).is_ok() {
            self.mailboxes.iter().for_each(|mailbox| mailbox.heard(until));
        }
    }
}
