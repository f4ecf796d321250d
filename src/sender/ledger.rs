//! What one target is owed, in one place, under the names that the source has as far as it was heard.
//!
//! **Purpose:** the sender's memory. Whatever is heard of the source becomes a [`Debt`] at a name, and remains one
//! until the target has acknowledged it and everything that could explain what was seen was heard.
//! **In → Out:** [`Told`] and [`Mark`]s from the watch, [`Answer`]s and findings of comparisons from the target;
//! what to send in order ([`Ordered`]) and where to [`Look`] next.
//! **Invariants:** a debt's path is the source's name after everything that was heard ([`NameTree::rename`] is
//! the one rule for renames); renames leave in the order of their events, before any look; no delete leaves
//! that the guard has not let go; nothing that was sent is forgotten when a connection ends.
//! **Not here:** clocks, disks, threads, connections (time is an argument); when an event is due (`debounce`);
//! whether a burst of deletes may go (`reconcile`).
//!
//! Used by `sender::core`, which the product does not use yet: `tests/sim` searches its rules.

mod answers;
mod bounds;
mod debt;
mod events;
mod links;
mod names;
mod owed;
mod rules;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

pub use answers::{Answer, Record, Why};
pub use debt::{Class, Debt, Debts, Mark, Moment, Op, RenameId, State, What};
pub use events::Told;
use links::Links;
pub use names::{NameTree, NodeId};
use owed::Owed;
pub use rules::Rule;
pub use tasks::{Look, Ordered};

use crate::tree::RelPath;

/// What a ledger may do, and how much it keeps.
#[derive(Debug, Clone)]
pub struct Options {
    /// Renames are sent as renames. Not with options that ask the target before something is made there.
    pub renames: bool,
    /// Something may be deleted on the target.
    pub deletes: bool,
    /// More names than this become one comparison of everything.
    pub names_max: usize,
    /// A rule that does not hold: for the tests that show what it is for.
    pub off: Option<Rule>,
}

impl Default for Options {
    fn default() -> Self {
        Self { renames: true, deletes: true, names_max: 200_000, off: None }
    }
}

/// Everything that one target is owed. Outlives connections.
#[derive(Debug, Default)]
pub struct Ledger {
    options: Options,
    names: Owed,
    links: Links,
    outgoing: Outgoing,
    /// Nodes with something due. May name one that is due no more.
    lanes: Lanes,
    /// What is being looked at, or sent and not answered. May name a debt that is no more.
    ops: HashMap<Op, NodeId>,
    /// Where the names of an unanswered rename are owed.
    renames: HashMap<RenameId, Vec<NodeId>>,
    waiting: Waiting,
    mark: Mark,
    /// The last number that was given away.
    number: u64,
}

/// What goes in the order of events.
#[derive(Debug, Default)]
struct Outgoing {
    /// Sent before anything is looked at.
    order: VecDeque<Ordered>,
    /// Sent in order and not answered.
    unanswered: VecDeque<(Op, Ordered)>,
}

/// Which nodes change when a mark is heard, when a moment has come, when the guard lets them go. May name one that
/// does not any more.
#[derive(Debug, Default)]
struct Waiting {
    unheard: BTreeSet<(u64, NodeId)>,
    later: BTreeSet<(Instant, NodeId)>,
    guarded: BTreeSet<NodeId>,
}

/// Nodes by how soon their debts are looked at.
#[derive(Debug, Default)]
struct Lanes {
    names: VecDeque<NodeId>,
    subtrees: VecDeque<NodeId>,
    suspects: VecDeque<NodeId>,
}

impl Lanes {
    fn of(&mut self, class: Class) -> &mut VecDeque<NodeId> {
        match class {
            Class::Name | Class::Renamed(_) => &mut self.names,
            Class::Subtree => &mut self.subtrees,
            Class::Suspect => &mut self.suspects,
        }
    }
}

impl Ledger {
    /// Returns one that owes nothing.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Returns what it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Takes in that a mark has come by: everything that was queued before it has been told.
    pub fn mark(&mut self, mark: Mark) {
        self.mark = mark;
        while let Some(&(looked, node)) =
            self.waiting.unheard.first().filter(|(looked, _)| *looked <= mark.number)
        {
            self.waiting.unheard.remove(&(looked, node));
            self.explain(node);
        }
    }

    /// Returns the last mark that has come by.
    pub fn heard(&self) -> Mark {
        self.mark
    }

    /// Takes in that the clock was set back: change times from now on are earlier by that much.
    pub fn clock_went_back(&mut self, nanos: u64) {
        self.mark.change = self.mark.change.less(nanos);
        self.names.clock_went_back(nanos);
        self.links.clock_went_back(nanos);
    }

    /// Returns the moment before which nothing changed that is owed or not heard of yet. Held deletes and
    /// problems are not counted: a comparison finds the former, the latter are listed beside it.
    pub fn watermark(&self) -> Moment {
        let least = self.names.least_change().into_iter().chain(self.links.least_change()).min();
        least.map_or(self.mark.change, |owed| owed.min(self.mark.change))
    }

    /// Returns the names that the target refuses, or that could not be read.
    pub fn problems(&self) -> Vec<RelPath> {
        self.names.failed().map(|node| self.names.path(node)).collect()
    }

    /// Returns the deletes that are held.
    pub fn held(&self) -> Vec<RelPath> {
        let is_held = |node: &&NodeId| self.state_of(**node) == Some(State::Guarded { held: true });
        self.waiting.guarded.iter().filter(is_held).map(|node| self.names.path(*node)).collect()
    }

    /// Returns how many names are owed something other than a held delete, and how many files are sought.
    pub fn owed(&self) -> usize {
        self.names.owed() + self.links.sought()
    }

    /// Returns since when the oldest change is owed that counts as lag: no problem, no held delete and
    /// nothing that is only to be verified. To the millisecond; not later than it is.
    pub fn oldest(&self) -> Option<Instant> {
        self.names.oldest()
    }

    /// Returns how many deletes wait for the guard's verdict.
    pub fn unjudged(&self) -> usize {
        self.names.unjudged()
    }

    /// Whether what is summed up is right; for tests.
    pub fn adds_up(&self) -> bool {
        self.names.adds_up()
    }

    /// Has the deletes that wait for a verdict go, or held.
    pub fn judged(&mut self, hold: bool) {
        let state = if hold { State::Guarded { held: true } } else { State::Due };
        self.release(|held| !held, state);
    }

    /// Has the held deletes go.
    pub fn approve(&mut self) {
        self.release(|held| held, State::Due);
        for node in self.names.all() {
            self.names.edit_debt(node, Class::Name, |debt| debt.was_held = false);
        }
    }

    fn release(&mut self, which: impl Fn(bool) -> bool, to: State) {
        for node in self.waiting.guarded.clone() {
            match self.state_of(node) {
                Some(State::Guarded { held }) if which(held) => self.restate(node, Class::Name, to),
                Some(State::Guarded { .. }) => {}
                _ => {
                    self.waiting.guarded.remove(&node);
                }
            }
        }
    }

    fn state_of(&self, node: NodeId) -> Option<State> {
        Some(self.names.get(node)?.get(Class::Name)?.state)
    }

    /// Whether a rule holds.
    pub fn holds(&self, rule: Rule) -> bool {
        self.options.off != Some(rule)
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Owes something at a path, with what is owed there already.
    fn owe(&mut self, path: &RelPath, new: Debt) -> NodeId {
        let node = self.names.at(path);
        let mut debt = new;
        let mut below = None;
        if let Some(old) = self.names.get(node).and_then(|debts| debts.get(new.what.class())) {
            debt.what = old.what.then(new.what);
            debt.tries = old.tries.max(new.tries);
            debt.was_held = old.was_held || old.state == State::Guarded { held: true };
            debt.change = old.change.min(new.change);
            debt.since = old.since.min(new.since);
            // A directory that comes where one went: nobody has told of what the target has below it.
            let came_back = matches!(old.what, What::Gone { dir, .. } if dir != Some(false));
            if came_back && !matches!(debt.what, What::Gone { .. }) {
                below = Some(Debt { what: What::Subtree { whole: false }, state: State::Due, ..debt });
            }
        }
        self.names.edit(node, |debts| debts.put(debt));
        self.index(node, debt);
        if let Some(below) = below {
            self.owe(path, below);
        }
        node
    }

    /// Sets how far a debt has come.
    fn restate(&mut self, node: NodeId, class: Class, state: State) {
        let restated = self.names.edit_debt(node, class, |debt| {
            debt.state = state;
            *debt
        });
        if let Some(debt) = restated {
            self.index(node, debt);
        }
    }

    /// Has a node found when its debt's state asks for something.
    fn index(&mut self, node: NodeId, debt: Debt) {
        match debt.state {
            State::Due => self.lanes.of(debt.what.class()).push_back(node),
            State::Guarded { .. } => {
                self.waiting.guarded.insert(node);
            }
            State::Held { until: at } | State::Failed { again: at } => {
                self.waiting.later.insert((at, node));
            }
            State::Parked { looked } | State::Settled { looked } if looked > self.mark.number => {
                self.waiting.unheard.insert((looked, node));
            }
            State::Parked { .. } | State::Settled { .. } => self.explain(node),
            State::Ordered | State::Behind | State::Sent { .. } => {}
        }
    }

    /// Everything up to the look at a node was heard: what is settled is forgotten, and what was not found there
    /// is gone.
    fn explain(&mut self, node: NodeId) {
        let heard = self.mark.number;
        let gone = self.names.edit(node, |debts| {
            debts.retain(|debt| !matches!(debt.state, State::Settled { looked } if looked <= heard));
            let debt = debts.get_mut(Class::Name)?;
            let is_gone = matches!(debt.state, State::Parked { looked } if looked <= heard);
            is_gone.then(|| {
                debt.what = What::Gone { dir: None, complete: false };
                debt.state = State::Guarded { held: debt.was_held };
            })
        });
        if gone.flatten().is_some() {
            self.waiting.guarded.insert(node);
        }
        self.tidy(node);
    }

    /// Forgets a node at which nothing is owed any more, and wakes what waited for it above.
    fn tidy(&mut self, node: NodeId) {
        if self.names.get(node).is_some_and(Debts::is_empty) {
            let above = self.names.above(node).find(|above| self.names.get(*above).is_some());
            self.names.take(node);
            if let Some(above) = above {
                self.wake(above);
            }
        }
    }

    /// Makes due what waited for what is below it, if that is settled.
    fn wake(&mut self, node: NodeId) {
        if self.state_of(node) == Some(State::Behind) && !self.names.has_below(node) {
            self.restate(node, Class::Name, State::Due);
        }
    }

    fn remove(&mut self, node: NodeId, class: Class) {
        self.names.edit(node, |debts| debts.remove(class));
        self.tidy(node);
    }
}
