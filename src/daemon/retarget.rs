//! Targets that are added to a running sync and taken from it, while the others go on as if nothing had happened.

use std::time::Instant;

use crossbeam_channel::bounded;

use super::inlet::Input;
use super::pipeline::{Pipeline, keep, start_link};
use super::target::{Out, RunningTarget, START_RETRY, leave, tried_again};
use crate::config::{Sync, Target};
use crate::monitor::{Notice, Scope};
use crate::sender::TargetState;

impl Pipeline {
    /// Whether a sync is this one but for its targets, of which some stay.
    pub(super) fn is_but_for_targets(&self, new: &Sync) -> bool {
        let targets = self.sync.targets.clone();
        new.targets.iter().any(|target| targets.contains(target))
            && Sync { targets, ..new.clone() } == self.sync
    }

    /// Ends the sessions of the targets that are not among `wanted`: what is in flight to them is finished. Returns
    /// what [`Pipeline::take_on`] is told.
    pub(super) fn let_go(&mut self, wanted: &[Target]) -> Paused {
        let paused = Paused(self.targets.iter().all(|running| running.mailbox.is_paused()));
        let (stay, mut go) = std::mem::take(&mut self.targets)
            .into_iter()
            .partition::<Vec<_>, _>(|running| wanted.contains(&running.target));
        self.targets = stay;
        self.tell_engine();
        leave(&mut go);
        paused
    }

    /// Starts a session for each of `wanted` that has none. One that cannot be started is down, and tried again.
    pub(super) fn take_on(&mut self, wanted: Vec<Target>, paused: Paused) {
        for target in &wanted {
            if self.targets.iter().all(|running| running.target != *target) {
                let mut running = RunningTarget::new(target.clone());
                running.mailbox.pause(paused.0);
                running.again = Some(Instant::now());
                self.targets.push(running);
            }
        }
        let place = |running: &RunningTarget| wanted.iter().position(|target| *target == running.target);
        self.targets.sort_by_key(place);
        self.common.source.serve(wanted.len());
        self.sync.targets = wanted;
        // First: what is changed behind the walk of a first pass has to be handed out.
        self.tell_engine();
        self.start_missing(Instant::now());
    }

    /// Starts the links that could not be started before, if it is time.
    pub(super) fn start_missing(&mut self, now: Instant) {
        for running in self.targets.iter_mut().filter(|running| running.again.is_some_and(|at| at <= now)) {
            let kept = keep(&self.sync, running);
            match kept.and_then(|()| start_link(&self.sync, &self.common, running)) {
                Ok(link) => (running.link, running.again) = (Some(link), None),
                Err(error) => {
                    running.again = Some(now + START_RETRY);
                    let text = tried_again(&error);
                    if running.status.error().as_ref() != Some(&text) {
                        let scope = Scope::new(&self.sync.name, &running.target.name);
                        let notice = Notice::Warning { text: text.clone(), hint: None };
                        self.common.monitor.notice(&scope, &notice);
                    }
                    running.status.enter(TargetState::Down, Some(text));
                }
            }
        }
    }

    /// Starts the links of the targets that `picks`, where they could not be started before.
    pub(super) fn start_now(&mut self, now: Instant, picks: impl Fn(&Target) -> bool) {
        let missing =
            self.targets.iter_mut().filter(|running| running.again.is_some() && picks(&running.target));
        missing.for_each(|running| running.again = Some(now));
        self.start_missing(now);
    }

    /// Returns when the engine hands out to the targets that there are now, and to no others.
    fn tell_engine(&self) {
        let (done, told) = bounded(1);
        let outs = Out::of_all(&self.sync.name, &self.targets);
        // An engine that is gone has the whole sync started anew.
        if self.input.send(Input::Targets(outs, done)).is_ok() {
            let _ = told.recv();
        }
        if let Some(warden) = &self.warden {
            warden.wakes(self.mailboxes());
        }
    }
}

/// Whether the targets of a sync were paused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paused(bool);
