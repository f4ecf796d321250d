//! When a target is live, and when a standby is in step.
//!
//! **Purpose:** that is so once everything is acknowledged that was owed when the first comparison was through,
//! however much has come since: under uploads that never cease there is always something under way.
//! **Invariants:** a target that is adopted is in step only when nothing is to be verified either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::SessionError;
use super::mailbox::{Lane, Parcel};
use super::session::{BULK_BATCH, LIVE_BATCH, Session};
use crate::event::{Age, RescanReason};
use crate::monitor::Notice;
use crate::protocol::{BatchId, ToReceiver};
use crate::sender::status::TargetState;
use crate::tree::RelPath;

/// After so much time with live changes alone, a pass has a turn.
const TURN: Duration = Duration::from_millis(200);
/// It lasts that much shorter.
const SHARE: u32 = 4;

/// How long the watch may take to say that it has heard everything.
const HEAR_MAX: Duration = Duration::from_secs(30);

/// How far a session has come.
#[derive(Debug, Default)]
pub(super) struct Stepping {
    /// When the first comparison was seen to be through.
    compared: Option<Instant>,
    live: bool,
    /// Something was to be verified.
    doubted: bool,
    /// A standby was told that it is in step.
    told: bool,
    /// The commit by which it has written that.
    writes: Option<BatchId>,
    /// The watch is asked whether all was heard.
    hears: Arc<AtomicBool>,
    /// Time that live changes took since there were none, or a pass had a turn.
    busy: Duration,
}

impl Stepping {
    /// Whether the target was told of as live.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether a standby has written that it is in step.
    pub fn is_done(&self) -> bool {
        self.told && self.writes.is_none()
    }

    /// Takes in that no live changes wait.
    pub fn rests(&mut self) {
        self.busy = Duration::ZERO;
    }

    /// Takes in what is acknowledged; `true` if a standby has just written that it is in step.
    pub fn acknowledged(&mut self, acked: BatchId) -> bool {
        self.writes.take_if(|batch| *batch <= acked).is_some()
    }
}

impl Session {
    /// Sends live changes, and now and then something of what passes have found: where new changes come as fast as
    /// they are sent, a comparison would not come to its end. `heard`: everything that happened before was handed over
    /// when the lane was looked at.
    pub(super) fn send_live(
        &mut self,
        live: Vec<Parcel>,
        heard: Option<Instant>,
    ) -> Result<(), SessionError> {
        let (began, all) = (Instant::now(), live.len() < LIVE_BATCH);
        self.send_all(live)?;
        self.commit()?;
        if all {
            self.settle(heard);
        }
        self.stepping.busy += began.elapsed();
        if self.stepping.busy < TURN {
            return Ok(());
        }
        let until = Instant::now() + self.stepping.busy / SHARE;
        self.stepping.rests();
        while Instant::now() < until && self.jobs.has_room() {
            let bulk = self.shared.mailbox.take(Lane::Bulk, BULK_BATCH);
            if bulk.is_empty() {
                break;
            }
            self.send_all(bulk)?;
        }
        self.commit()
    }

    /// Begins what can be begun, and tells how far the target has come.
    pub(super) fn go_on(&mut self) -> Result<(), SessionError> {
        self.hand_soon();
        self.pump_passes();
        self.pump_suspects();
        self.step(false)
    }

    /// Tells that the target is live, and a standby that it is in step, as soon as they are. `quiet`: nothing is under
    /// way, and nothing waits.
    pub(super) fn step(&mut self, quiet: bool) -> Result<(), SessionError> {
        let leads = self.shared.leading.led.is_some();
        let done = self.stepping.live && (self.stepping.told || !leads);
        if done || !self.shared.options.live || !self.shared.first_pass_done.load(Ordering::Acquire) {
            return Ok(());
        }
        let compared = *self.stepping.compared.get_or_insert_with(Instant::now);
        let suspects = &self.shared.status.suspects;
        self.stepping.doubted |= suspects.totals().0 > 0;
        let after = |since: Option<Instant>| since.is_none_or(|since| since > compared);
        let passes = self.shared.passes_running.load(Ordering::Acquire) + self.debts.passes_waiting.len();
        if !quiet && (passes > 0 || !after(self.shared.mailbox.pending().since.debt)) {
            return Ok(());
        }
        if !self.stepping.live {
            self.tell_all_done();
            self.stepping.live = true;
            // Before anybody hears that it is live: whoever kills the daemon then has a moment to go on from.
            self.state_watermark(Instant::now(), false)?;
            self.shared.status.enter(TargetState::Live, None);
            self.shared.notice(&Notice::Live);
        }
        if self.stepping.told {
            return Ok(());
        }
        if self.shared.leading.adopts() && !after(self.shared.status.suspects.oldest()) {
            self.hear_of_verified();
            return Ok(());
        }
        self.tell_in_step()
    }

    /// Has everything heard that happened until now, if nothing is to be verified any more: what was verified is
    /// followed until then, and a tree that is half way need not wait for it longer than for that.
    fn hear_of_verified(&mut self) {
        if self.shared.status.suspects.totals().0 > 0 || self.stepping.hears.load(Ordering::Acquire) {
            return;
        }
        let hears = Arc::clone(&self.stepping.hears);
        let (feedback, mailbox) = (Arc::clone(&self.shared.feedback), Arc::clone(&self.shared.mailbox));
        hears.store(true, Ordering::Release);
        let hear = move || {
            feedback.hear(&mailbox, HEAR_MAX);
            hears.store(false, Ordering::Release);
            mailbox.wake();
        };
        // Without a thread it is as old as it need be after a second.
        if std::thread::Builder::new().name("hear".to_owned()).spawn(hear).is_err() {
            self.stepping.hears.store(false, Ordering::Release);
        }
    }

    /// Tells a standby that it is as its primary, unless a delete is held. The acknowledgement of the commit behind it
    /// says that it has written that down.
    fn tell_in_step(&mut self) -> Result<(), SessionError> {
        if self.shared.leading.led.is_none() || self.shared.held.summary().is_some() {
            return Ok(());
        }
        let adopted = self.shared.leading.adopts();
        self.shared.leading.in_step();
        self.shared.outbox.send(&ToReceiver::InStep)?;
        (self.uncommitted, self.stepping.writes) = (true, Some(self.batch));
        self.stepping.told = true;
        if adopted && self.stepping.doubted {
            // What was verified is the agent's own once a comparison need not doubt it.
            self.start_pass(RelPath::root(), RescanReason::Mismatch, Age::believed(Instant::now()));
        }
        self.commit()
    }
}
