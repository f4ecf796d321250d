//! What to do next.

use std::time::Instant;

use super::{Class, Debt, Debts, Ledger, Moment, NodeId, Op, RenameId, Rule, State, What};
use crate::tree::RelPath;

/// What is sent in the order of events, without a look: the target's names become those of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// Make a directory that only its owner may enter; its metadata follow.
    Mkdir {
        /// The directory.
        path: RelPath,
    },
    /// Delete what made way for the rename behind it.
    Delete {
        /// The name.
        path: RelPath,
        /// Whether it was a directory, if known.
        dir: Option<bool>,
    },
    /// Rename.
    Rename {
        /// Its number.
        id: RenameId,
        /// The old name.
        from: RelPath,
        /// The new name.
        to: RelPath,
        /// Whether it is a directory.
        dir: bool,
    },
}

/// Look at the source, then say what became of it: [`Ledger::looked`], [`Ledger::absent`], [`Ledger::hold`],
/// [`Ledger::unreadable`]; of a subtree [`Ledger::differs`] and [`Ledger::compared`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Its number.
    pub op: Op,
    /// Where.
    pub path: RelPath,
    /// What is owed.
    pub what: What,
    /// What is owed was not changed before this.
    pub change: Moment,
}

impl Ledger {
    /// Returns what goes next in the order of events; before there is nothing more, nothing else is to be sent.
    pub fn next_ordered(&mut self) -> Option<(Op, Ordered)> {
        if !self.holds(Rule::RenamesFirst) && self.has_due() {
            return None;
        }
        let ordered = self.outgoing.order.pop_front()?;
        let op = Op(self.next_number());
        if let Ordered::Rename { id, .. } = ordered {
            self.restate_rename(id, State::Sent { op, looked: 0 });
        }
        self.outgoing.unanswered.push_back((op, ordered.clone()));
        Some((op, ordered))
    }

    fn has_due(&mut self) -> bool {
        let Some(&node) = self.lanes.of(Class::Name).front() else { return false };
        let is_due = self.due(node, Class::Name).is_some();
        if !is_due {
            self.lanes.of(Class::Name).pop_front();
        }
        is_due || self.has_due()
    }

    /// Returns when there may be something to look at although nothing happened.
    pub fn wake_at(&self) -> Option<Instant> {
        self.waiting.later.first().map(|(at, _)| *at)
    }

    /// Takes in that the source was looked at, when so many events had been queued. Returns the number and the
    /// path under which to send what was found; `None` if it is no longer wanted.
    pub fn looked(&mut self, look: Op, looked: u64) -> Option<(Op, RelPath)> {
        let node = self.ops.remove(&look)?;
        let op = Op(self.number + 1);
        let class = self.names.get(node)?.of_op(look)?.what.class();
        self.names.edit_debt(node, class, |debt| {
            debt.state = State::Sent { op, looked };
            if debt.what == What::Absent {
                debt.what = What::Content;
            }
            debt.was_held &= matches!(debt.what, What::Gone { .. });
        })?;
        self.number = op.0;
        self.ops.insert(op, node);
        Some((op, self.names.path(node)))
    }

    /// Takes in that the source had nothing there. What explains it may not have been heard yet: a rename takes the
    /// debt along to where the file is now.
    pub fn absent(&mut self, look: Op, looked: u64) {
        if let Some((node, class)) = self.take_op(look) {
            self.restate(node, class, State::Parked { looked });
        }
    }

    /// Takes in that the source's file is busy.
    pub fn hold(&mut self, look: Op, until: Instant) {
        if let Some((node, class)) = self.take_op(look) {
            self.restate(node, class, State::Held { until });
        }
    }

    /// Takes in that the source cannot be read there: a problem, which is tried again after a pause.
    pub fn unreadable(&mut self, look: Op, now: Instant) {
        let Some((node, class)) = self.take_op(look) else { return };
        let tries = self.names.edit_debt(node, class, |debt| {
            debt.tries = debt.tries.saturating_add(1);
            debt.tries
        });
        self.fail(node, class, tries.unwrap_or_default(), now);
    }

    /// Whether something waits in the order of events. It goes before anything under a path that was asked for here: the target's
    /// names are those of the source only behind them.
    pub fn has_ordered(&self) -> bool {
        !self.outgoing.order.is_empty()
    }

    /// Returns the path that what is being sent has now: what a rename above it has made of it. `None` if it is
    /// not wanted any more. Before a large file takes its name there, the source must have that very file under it:
    /// if not, [`Ledger::hold`] it.
    pub fn path_of(&self, op: Op) -> Option<RelPath> {
        let node = *self.ops.get(&op)?;
        self.names.get(node)?.of_op(op)?;
        Some(self.names.path(node))
    }

    /// Returns where the debt is that a number was given to, and forgets the number.
    pub(super) fn take_op(&mut self, op: Op) -> Option<(NodeId, Class)> {
        let node = self.ops.remove(&op)?;
        let debt = self.names.get(node)?.of_op(op)?;
        Some((node, debt.what.class()))
    }

    pub(super) fn restate_rename(&mut self, id: RenameId, state: State) {
        for node in self.renames.get(&id).cloned().unwrap_or_default() {
            self.restate(node, Class::Renamed(id), state);
        }
    }

    /// Makes due what has waited for a moment that has come.
    pub fn wake_up(&mut self, now: Instant) {
        while let Some(&(at, node)) = self.waiting.later.first().filter(|(at, _)| *at <= now) {
            self.waiting.later.remove(&(at, node));
            let is_over =
                |state| matches!(state, State::Held { until: at } | State::Failed { again: at } if at <= now);
            let due = self.names.edit(node, |debts| {
                let over = debts.iter_mut().filter(|debt| is_over(debt.state));
                over.map(|debt| {
                    debt.state = State::Due;
                    *debt
                })
                .collect::<Vec<_>>()
            });
            let due = due.unwrap_or_default();
            due.into_iter().for_each(|debt| self.index(node, debt));
        }
    }

    /// Returns the next look of a class; `None` while nothing of it is due.
    pub fn next_look(&mut self, class: Class) -> Option<Look> {
        while let Some(node) = self.lanes.of(class).pop_front() {
            let Some(debt) = self.due(node, class) else { continue };
            let first = if class == Class::Name { self.first_of(node, debt.what) } else { Some(node) };
            let Some(first) = first else {
                self.lanes.of(class).push_back(node);
                continue;
            };
            if first != node {
                self.lanes.of(class).push_front(node);
            }
            return self.look(first, class);
        }
        None
    }

    fn due(&self, node: NodeId, class: Class) -> Option<Debt> {
        let debt = self.names.get(node)?.get(class)?;
        (debt.state == State::Due).then_some(*debt)
    }

    /// Returns what must be looked at before a name that is sent: the highest directory above it. `None`: what is
    /// deleted waits for what it holds.
    fn first_of(&self, node: NodeId, what: What) -> Option<NodeId> {
        let is_gone = |what| matches!(what, What::Gone { .. });
        let due_as = |node: &NodeId, gone: bool| {
            self.due(*node, Class::Name).is_some_and(|debt| is_gone(debt.what) == gone)
        };
        if is_gone(what) {
            // Each of them is in the lane as well: behind them it is asked for again.
            let below = self.names.walk(node).filter(|below| *below != node);
            if below.into_iter().any(|node| due_as(&node, true)) { None } else { Some(node) }
        } else {
            self.names.above(node).filter(|node| due_as(node, false)).last().or(Some(node))
        }
    }

    fn look(&mut self, node: NodeId, class: Class) -> Option<Look> {
        let op = Op(self.next_number());
        self.restate(node, class, State::Sent { op, looked: u64::MAX });
        self.ops.insert(op, node);
        let path = self.names.path(node);
        let debt = *self.names.get(node).and_then(|debts: &Debts| debts.get(class))?;
        Some(Look { op, path, what: debt.what, change: debt.change })
    }
}
