//! What the target says, and what a connection's end leaves open.

use std::time::{Duration, Instant};

use super::tasks::Ordered;
use super::{Class, Debt, Ledger, NodeId, Op, RenameId, Rule, State, What};
use crate::tree::RelPath;

/// A name that the target has refused this often is a problem.
const REFUSALS_MAX: u8 = 16;
/// A problem is tried again after this, doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, as a power of two of the first.
const PAUSE_DOUBLED_MAX: u8 = 8;

/// What became of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was done, and is as durable as was asked for. Of a suspect: contents are equal.
    Done,
    /// It was not.
    Refused(Why),
}

/// Why an operation was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its directory is missing.
    NoParent,
    /// A directory that is in the way, or is to be deleted, has entries.
    NotEmpty,
    /// The target has nothing to rename.
    Missing,
    /// What is there is not what was expected. Of a suspect: contents differ.
    Mismatch,
    /// Anything else; trying again may help.
    Failed,
}

/// What a receiver knows of a connection that was cut, if it did what it had received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The last operation that it received.
    pub last: u64,
    /// Those up to it that were refused, or that were not complete.
    pub refused: Vec<Op>,
}

impl Ledger {
    /// Takes in what became of an operation. Answers to what is not wanted any more change nothing.
    pub fn answer(&mut self, op: Op, answer: Answer, now: Instant) {
        if let Some(at) = self.outgoing.unanswered.iter().position(|(sent, _)| *sent == op) {
            if let Some((_, Ordered::Rename { id, dir, .. })) = self.outgoing.unanswered.remove(at) {
                self.rename_answered(id, dir, answer);
            }
            return;
        }
        let Some((node, class)) = self.take_op(op) else { return };
        let Some(debt) = self.names.get(node).and_then(|debts| debts.get(class)).copied() else { return };
        match answer {
            Answer::Done => self.settle(node, debt),
            Answer::Refused(why) => self.refused(node, debt, why, now),
        }
    }

    /// Takes in a difference that the comparison with this number has found. `false`: it is of no use any more.
    pub fn differs(&mut self, comparison: Op, path: &RelPath, what: What) -> bool {
        let node = self.ops.get(&comparison).copied();
        let debt = node.and_then(|node| self.names.get(node)?.of_op(comparison).copied());
        let Some(of) = debt else { return false };
        let found = Debt { what, state: State::Due, tries: 0, ..of };
        let known = self.names.value_at(path).and_then(|debts| debts.get(Class::Name)).copied();
        match (what, known) {
            (What::Gone { complete, .. }, Some(known)) => {
                // Only the comparison that it waits for has seen what was below when it was refused.
                let awaited = known.state == State::Behind && self.names.find(path) == node;
                self.found_again(path, known, complete && awaited);
            }
            (What::Gone { dir, .. }, None) if self.options.deletes => {
                let what = What::Gone { dir, complete: false };
                self.owe(path, Debt { what, state: State::Guarded { held: false }, ..found });
            }
            (What::Gone { .. }, None) => {}
            // It is read anyway. What was sent already need not be here: it may have been sent under the old name of
            // a rename that was refused.
            (What::Suspect, Some(Debt { what: What::Content | What::Absent, state: State::Due, .. })) => {}
            // It waits for this comparison.
            (_, Some(Debt { what: What::Content, state: State::Behind, .. })) => {}
            _ => {
                self.owe(path, found);
            }
        }
        true
    }

    /// A comparison found nothing on the source where something is owed already.
    fn found_again(&mut self, path: &RelPath, known: Debt, complete: bool) {
        let Some(node) = self.names.find(path) else { return };
        match (known.what, known.state) {
            (What::Gone { dir, .. }, State::Guarded { .. } | State::Due | State::Behind) => {
                let what = What::Gone { dir, complete: complete && self.holds(Rule::Complete) };
                if complete {
                    self.names.edit_debt(node, Class::Name, |debt| debt.what = what);
                }
            }
            (
                _,
                State::Behind
                | State::Ordered
                | State::Due
                | State::Held { .. }
                | State::Parked { .. }
                | State::Failed { .. },
            ) => {}
            _ => {
                self.owe(path, Debt { what: What::Content, state: State::Due, ..known });
            }
        }
    }

    /// Takes in that a comparison has ended, whose last look was when so many events had been queued.
    pub fn compared(&mut self, comparison: Op, looked: u64) {
        let Some((node, class)) = self.take_op(comparison) else { return };
        let looked = if self.holds(Rule::UntilHeard) { looked } else { 0 };
        self.restate(node, class, State::Settled { looked });
        self.wake(node);
    }

    /// Takes in that the connection has ended, with what the receiver knows of it if it knows it.
    pub fn broken(&mut self, record: Option<&Record>) {
        let received = |op: Op| record.is_some_and(|record| op.0 <= record.last);
        let refused = |op: Op| record.is_some_and(|record| record.refused.contains(&op));
        let mut again = Vec::new();
        for (op, ordered) in std::mem::take(&mut self.outgoing.unanswered) {
            match ordered {
                Ordered::Rename { id, dir, .. } if received(op) && !refused(op) => {
                    self.rename_answered(id, dir, Answer::Done);
                }
                Ordered::Rename { id, dir, .. } if received(op) || record.is_none() => {
                    self.rename_answered(id, dir, Answer::Refused(Why::Failed));
                }
                Ordered::Rename { id, .. } => {
                    self.restate_rename(id, State::Ordered);
                    again.push(ordered);
                }
                _ if received(op) || record.is_none() => {}
                _ => again.push(ordered),
            }
        }
        again.into_iter().rev().for_each(|ordered| self.outgoing.order.push_front(ordered));
        let mut ops: Vec<(Op, NodeId)> = self.ops.drain().collect();
        ops.sort_unstable();
        for (op, node) in ops {
            let Some(debt) = self.names.get(node).and_then(|debts| debts.of_op(op).copied()) else {
                continue;
            };
            let class = debt.what.class();
            let sent = matches!(debt.state, State::Sent { looked, .. } if looked != u64::MAX);
            if sent && class == Class::Name && received(op) && !refused(op) {
                self.settle(node, debt);
            } else if self.holds(Rule::SentIsDue) {
                self.restate(node, class, State::Due);
            } else {
                self.settle(node, debt);
            }
        }
    }

    /// Returns the names that what an unanswered rename brings has by now.
    pub fn renamed_to(&self, op: Op) -> Vec<RelPath> {
        let Some((_, Ordered::Rename { id, .. })) =
            self.outgoing.unanswered.iter().find(|(sent, _)| *sent == op)
        else {
            return Vec::new();
        };
        let of_rename = |node: &NodeId| self.names.get(*node)?.get(Class::Renamed(*id)).copied();
        let is_new = |node: &&NodeId| {
            of_rename(node).is_some_and(|debt| matches!(debt.what, What::Renamed { old: false, .. }))
        };
        let nodes = self.renames.get(id).into_iter().flatten().filter(is_new);
        nodes.map(|node| self.names.path(*node)).collect()
    }

    fn settle(&mut self, node: NodeId, debt: Debt) {
        let looked = match debt.state {
            State::Sent { looked, .. } if self.holds(Rule::UntilHeard) => looked,
            _ => 0,
        };
        self.restate(node, debt.what.class(), State::Settled { looked });
    }

    fn refused(&mut self, node: NodeId, debt: Debt, why: Why, now: Instant) {
        let path = self.names.path(node);
        let class = debt.what.class();
        let compare = Debt { what: What::Subtree { whole: false }, state: State::Due, tries: 0, ..debt };
        self.names.edit_debt(node, class, |debt| debt.tries = debt.tries.saturating_add(1));
        match (debt.what, why) {
            (What::Suspect, _) => {
                self.remove(node, Class::Suspect);
                self.owe(&path, Debt { what: What::Content, ..compare });
            }
            (What::Gone { complete: true, .. }, Why::NotEmpty) if !self.names.has_below(node) => {
                // Something that is protected is there.
                self.settle(node, debt);
            }
            _ if debt.tries >= REFUSALS_MAX || why == Why::Failed => self.fail(node, class, debt.tries, now),
            (What::Gone { .. }, Why::Mismatch) => {
                self.owe(&path, compare);
                self.remove(node, Class::Name);
            }
            (What::Attributes, Why::Mismatch) => {
                self.owe(&path, Debt { what: What::Content, ..compare });
            }
            (_, Why::NotEmpty) if class == Class::Name => {
                self.restate(node, class, State::Behind);
                self.owe(&path, compare);
            }
            (_, Why::NoParent) => {
                if let Some(parent) = path.parent().filter(|parent| !parent.is_root()) {
                    self.owe(&parent, Debt { what: What::Content, ..compare });
                }
                self.restate(node, class, State::Due);
            }
            _ => self.restate(node, class, State::Due),
        }
    }

    pub(super) fn fail(&mut self, node: NodeId, class: Class, tries: u8, now: Instant) {
        let doubled = tries.saturating_sub(REFUSALS_MAX).min(PAUSE_DOUBLED_MAX);
        self.restate(node, class, State::Failed { again: now + PAUSE * (1 << doubled) });
    }

    /// Both names of a rename that was not done are compared. Whether it was not done or nobody knows: what is
    /// below the new name has the change times that it had before.
    fn rename_answered(&mut self, id: RenameId, dir: bool, answer: Answer) {
        let nodes = self.renames.remove(&id).unwrap_or_default();
        for node in nodes {
            let class = Class::Renamed(id);
            let Some(debt) = self.names.get(node).and_then(|debts| debts.get(class)).copied() else {
                continue;
            };
            if let Answer::Refused(why) = answer
                && self.holds(Rule::OwesBoth)
            {
                let path = self.names.path(node);
                let old_name = matches!(debt.what, What::Renamed { old: true, .. });
                let what = match why {
                    // There is nothing to compare: the file is read.
                    Why::Missing if !dir && !old_name => What::Content,
                    _ => What::Subtree { whole: !old_name && self.holds(Rule::UnknownIsWhole) },
                };
                let compare = Debt { what, state: State::Due, tries: 0, ..debt };
                self.owe(&path, compare);
                let parent = path.parent().filter(|parent| !parent.is_root() && why == Why::NoParent);
                if let Some(parent) = parent {
                    self.owe(&parent, Debt { what: What::Content, ..compare });
                }
            }
            self.remove(node, class);
        }
    }
}
