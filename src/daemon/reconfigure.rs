//! What a new configuration leaves of the running syncs: what did not change runs on untouched, target by target.

use std::time::Instant;

use super::chronicle::Chronicle;
use super::retarget::Paused;
use super::slot::{Running, Waiting};
use crate::config::{Sync, Target};
use crate::monitor::counted;
use crate::status::Stays;

/// The syncs of a new configuration, while what the old one alone has is still there.
#[derive(Default)]
pub(super) struct Next {
    slots: Vec<Running>,
    /// Syncs that get other targets, by their place, when what goes is gone.
    coming: Vec<(usize, Vec<Target>, Paused)>,
    /// How many run on as they are, and how many are new or changed.
    kept: u64,
    started: usize,
}

impl Next {
    /// Takes a sync of the new configuration in, with what runs of it by now; what nobody takes from `running` goes.
    /// Targets that the sync has no more are left at once.
    pub fn take(&mut self, running: &mut Vec<Running>, sync: Sync) -> Stays {
        let is_same = |slot: &Running| match slot {
            Running::Up(pipeline) => pipeline.sync == sync,
            Running::Waiting(waiting) => waiting.sync == sync,
            Running::LeftOut(_) => false,
        };
        if let Some(at) = running.iter().position(is_same) {
            self.kept += 1;
            self.slots.push(running.swap_remove(at));
            return Stays::Whole;
        }
        let is_alike = |slot: &Running| matches!(slot, Running::Up(up) if up.is_but_for_targets(&sync));
        let slot = running.iter().position(is_alike).map(|at| running.swap_remove(at));
        if let Some(Running::Up(mut pipeline)) = slot {
            let stay = pipeline.sync.targets.iter().filter(|target| sync.targets.contains(target));
            let stay = stay.map(|target| target.name.clone()).collect();
            let paused = pipeline.let_go(&sync.targets);
            self.coming.push((self.slots.len(), sync.targets, paused));
            self.slots.push(Running::Up(pipeline));
            return Stays::But(stay);
        }
        self.started += 1;
        let waiting = Waiting { sync, at: Instant::now(), error: String::new() };
        self.slots.push(Running::Waiting(Box::new(waiting)));
        Stays::Not
    }

    /// Returns what became of the syncs, of which so many are gone, in one line.
    pub fn told(&self, stopped: usize) -> String {
        let others = match self.coming.len() {
            0 => String::new(),
            count => format!("{count} with other targets, "),
        };
        let (kept, started) = (counted(self.kept, "sync", "syncs"), self.started);
        format!("configuration read again: {kept} unchanged, {others}{started} started, {stopped} stopped")
    }

    /// Starts the targets that are new, and returns the syncs.
    pub fn start(mut self, chronicle: &Chronicle) -> Vec<Running> {
        for (at, targets, paused) in self.coming {
            if let Some(Running::Up(pipeline)) = self.slots.get_mut(at) {
                pipeline.take_on(targets, paused);
                chronicle.begin(&pipeline.sync);
            }
        }
        self.slots
    }
}
