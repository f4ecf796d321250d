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

/// What the session does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Send this.
    Send {
        /// Its number.
        op: Op,
        /// What.
        ordered: Ordered,
    },
    /// Look at the source, then say what became of it: [`Ledger::looked`], [`Ledger::absent`],
    /// [`Ledger::hold`]; of a subtree [`Ledger::differs`] and [`Ledger::compared`] as well.
    Look {
        /// The number of the look.
        op: Op,
        /// Where.
        path: RelPath,
        /// What is owed.
        what: What,
        /// What is owed was not changed before this.
        change: Moment,
    },
}

impl Ledger {
    /// Returns the next thing to do; `None` while there is nothing.
    pub fn next(&mut self, now: Instant) -> Option<Task> {
        self.wake_up(now);
        if !self.holds(Rule::RenamesFirst)
            && let Some(task) = self.next_look()
        {
            return Some(task);
        }
        if let Some(ordered) = self.order.pop_front() {
            let op = Op(self.next_number());
            if let Ordered::Rename { id, .. } = ordered {
                self.restate_rename(id, State::Sent { op, looked: 0 });
            }
            self.unanswered.push_back((op, ordered.clone()));
            return Some(Task::Send { op, ordered });
        }
        self.next_look()
    }

    /// Returns when [`Ledger::next`] may have something although nothing happened.
    pub fn wake_at(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Takes in that the source was looked at, when so many events had been queued. Returns the number and the
    /// path under which to send what was found; `None` if it is no longer wanted.
    pub fn looked(&mut self, look: Op, looked: u64) -> Option<(Op, RelPath)> {
        let node = self.ops.remove(&look)?;
        let op = Op(self.number + 1);
        let debt = self.names.get_mut(node)?.of_op(look)?;
        debt.state = State::Sent { op, looked };
        if debt.what == What::Absent {
            debt.what = What::Content;
        }
        debt.was_held &= matches!(debt.what, What::Gone { .. });
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

    /// Whether [`Task::Send`]s wait. They go before anything under a path that was asked for here: the target's
    /// names are those of the source only behind them.
    pub fn has_ordered(&self) -> bool {
        !self.order.is_empty()
    }

    /// Returns the path that what is being sent has now: what a rename above it has made of it. `None` if it is
    /// not wanted any more. Before a large file takes its name there, the source must have that very file under it:
    /// if not, [`Ledger::hold`] it.
    pub fn path_of(&mut self, op: Op) -> Option<RelPath> {
        let node = *self.ops.get(&op)?;
        self.names.get_mut(node)?.of_op(op)?;
        Some(self.names.path(node))
    }

    /// Returns where the debt is that a number was given to, and forgets the number.
    pub(super) fn take_op(&mut self, op: Op) -> Option<(NodeId, Class)> {
        let node = self.ops.remove(&op)?;
        let debt = self.names.get_mut(node)?.of_op(op)?;
        Some((node, debt.what.class()))
    }

    pub(super) fn restate_rename(&mut self, id: RenameId, state: State) {
        for node in self.renames.get(&id).cloned().unwrap_or_default() {
            self.restate(node, Class::Renamed(id), state);
        }
    }

    fn wake_up(&mut self, now: Instant) {
        while let Some(&(at, node)) = self.later.first().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, node));
            let Some(debts) = self.names.get_mut(node) else { continue };
            let mut due = Vec::new();
            for debt in debts.iter_mut() {
                if matches!(debt.state, State::Held { until: at } | State::Failed { again: at } if at <= now)
                {
                    debt.state = State::Due;
                    due.push(*debt);
                }
            }
            due.into_iter().for_each(|debt| self.index(node, debt));
        }
    }

    fn next_look(&mut self) -> Option<Task> {
        for class in [Class::Name, Class::Subtree, Class::Suspect] {
            while let Some(node) = self.lanes.of(class).pop_front() {
                let Some(debt) = self.due(node, class) else { continue };
                let first = if class == Class::Name { self.first_of(node, debt.what) } else { node };
                if first != node {
                    self.lanes.of(class).push_front(node);
                }
                return self.look(first, class);
            }
        }
        None
    }

    fn due(&self, node: NodeId, class: Class) -> Option<Debt> {
        let debt = self.names.get(node)?.get(class)?;
        (debt.state == State::Due).then_some(*debt)
    }

    /// Returns what must be looked at before a name: the highest directory above what is sent, the last entry of what
    /// is deleted.
    fn first_of(&self, node: NodeId, what: What) -> NodeId {
        let is_gone = |what| matches!(what, What::Gone { .. });
        let due_as = |node: &NodeId, gone: bool| {
            self.due(*node, Class::Name).is_some_and(|debt| is_gone(debt.what) == gone)
        };
        if is_gone(what) {
            let below = self.names.within(node);
            below.into_iter().rev().find(|node| due_as(node, true)).unwrap_or(node)
        } else {
            self.names.above(node).filter(|node| due_as(node, false)).last().unwrap_or(node)
        }
    }

    fn look(&mut self, node: NodeId, class: Class) -> Option<Task> {
        let op = Op(self.next_number());
        self.restate(node, class, State::Sent { op, looked: u64::MAX });
        self.ops.insert(op, node);
        let path = self.names.path(node);
        let debt = *self.names.get(node).and_then(|debts: &Debts| debts.get(class))?;
        Some(Task::Look { op, path, what: debt.what, change: debt.change })
    }
}
