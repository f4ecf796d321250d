//! One target's connection, made again for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hint::hint_for;
use super::link_options::{LinkOptions, Over};
use super::memory::Memory;
use super::standing_by::StandingBy;
use crate::batch::Change;
use crate::error::{Consequence, Consequential};
use crate::event::RescanReason;
use crate::monitor::{Notice, Scope};
use crate::sender::{Before, Mailbox, Session, SessionError, Stand, TargetState};

/// First and longest pause before a connection is tried again.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// A refusal that only a human can end is asked about this seldom.
const RETRY_REFUSED: Duration = Duration::from_secs(300);
/// A session that lasted this long counts as a success: the pauses start anew.
const LASTED: Duration = Duration::from_secs(30);

/// After a session whose first pass was done, the pauses grow no longer than at this attempt: whoever
/// is cut off often is not to fall behind for that.
const ATTEMPTS_LIVE: u32 = 3;

/// Connects, works, and connects again until the mailbox is closed.
pub(super) fn run(options: &LinkOptions) {
    let scope = Scope::new(&options.sync.name, &options.target.name);
    let monitor = &options.around.monitor;
    let mut memory = Memory::of(&super::mirror_id(&options.sync, &options.target).id, &options.target);
    match memory.read() {
        Ok(Some(volume)) => options.around.known.was_on(Before { volume, noted: true }),
        Ok(None) => {}
        Err(warning) => monitor.notice(&scope, &warning),
    }
    let mut attempt = 0;
    let mut reason = RescanReason::Start;
    let mut standing_by = StandingBy::default();
    while !options.around.mailbox.is_closed() {
        if let Some(until) = standing_by.look(options, &scope) {
            wait(&options.around.mailbox, until);
            continue;
        }
        let began = Instant::now();
        let mut was_live = false;
        let ended = match connect(options) {
            Ok(session) => {
                let before = options.around.known.before();
                if let Some(Err(warning)) = before.map(|before| memory.write(&before.volume)) {
                    monitor.notice(&scope, &warning);
                }
                let outcome = session.run(reason);
                was_live = outcome.was_live;
                reason = RescanReason::Reconnect;
                // What was asked for while it was connected has been done.
                options.around.mailbox.take_retry();
                let counts = |change: &Change| options.around.status.counts(change);
                options.around.mailbox.push_first(outcome.unfinished, counts);
                outcome.error
            }
            Err(error) => Some(error),
        };
        let Some(error) = ended else { continue };
        if options.around.mailbox.is_closed() {
            return;
        }
        if let (SessionError::Role { .. }, Stand::Waits { .. }) = (&error, options.around.lead.stand()) {
            continue;
        }
        attempt = next_attempt(attempt, began, was_live);
        let retry = pause(attempt, error.consequence());
        let text = error.to_string();
        // Once per change of state, and once per change of reason.
        let known = options.around.status.error();
        let changed = options.around.status.enter(TargetState::Down, Some(text.clone()));
        if changed || known.as_ref() != Some(&text) {
            let hint = hint_for(&error, &options.target);
            let notice = Notice::Disconnected { hint, error: text, retry: Some(retry), attempt };
            monitor.notice(&scope, &notice);
        }
        wait(&options.around.mailbox, Instant::now() + retry);
    }
}

/// Works over the one connection that there is, until that ends.
pub(super) fn run_over(options: &LinkOptions, over: Over) {
    let Over { transport, reason, ended } = over;
    let (mailbox, stopped) = (&options.around.mailbox, Arc::clone(&transport));
    mailbox.on_close(move || stopped.cancel());
    let session = Session::connect(&*transport, options.session(true), options.around.clone());
    let error = session.map_or_else(Some, |session| session.run(reason).error);
    // Whoever stops it knows why it ended.
    ended(error.filter(|_| !mailbox.is_closed()));
}

/// Returns how often it was tried in a row, with the next try.
pub(super) fn next_attempt(attempt: u32, began: Instant, was_live: bool) -> u32 {
    let next = if began.elapsed() > LASTED { 1 } else { attempt + 1 };
    if was_live { next.min(ATTEMPTS_LIVE) } else { next }
}

/// Waits until a moment, until somebody asks for another try, or until the mailbox is closed.
fn wait(mailbox: &Mailbox, until: Instant) {
    let mut seen = 0;
    while !mailbox.is_closed() && !mailbox.take_retry() && Instant::now() < until {
        mailbox.wait_closed(&mut seen, until);
    }
}

fn connect(options: &LinkOptions) -> Result<Session, SessionError> {
    Session::connect(&*options.transport()?, options.session(true), options.around.clone())
}

/// Returns the pause before the next try: doubled each time, and spread by a quarter, so that many
/// sources do not come back at the same moment.
pub(super) fn pause(attempt: u32, consequence: Consequence) -> Duration {
    if consequence == Consequence::Die {
        return RETRY_REFUSED;
    }
    let base = RETRY_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(RETRY_LONGEST);
    let mut seed = [0; 1];
    let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
    base.mul_f64(0.75 + f64::from(seed[0]) / 512.0)
}
