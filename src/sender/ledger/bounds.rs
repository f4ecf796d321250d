//! How much a ledger keeps.

use super::{Debt, Ledger, State, What};
use crate::tree::RelPath;

impl Ledger {
    /// Where too many names are owed something, most of it becomes one comparison of everything, as old as the
    /// oldest of it, and whole if contents are owed. What stays: what is under way, what the guard holds, names of renames, and subtrees in which
    /// stamps prove nothing.
    pub(super) fn bound(&mut self) {
        if self.names.len() <= self.options.names_max {
            return;
        }
        let joins = |debt: &Debt| {
            let waits = !matches!(debt.state, State::Ordered | State::Sent { .. } | State::Guarded { .. });
            waits && !matches!(debt.what, What::Subtree { whole: true } | What::Renamed { .. })
        };
        let mut joined: Option<Debt> = None;
        let mut whole = false;
        for node in self.names.all() {
            let Some(debts) = self.names.get(node) else { continue };
            let out: Vec<Debt> = debts.iter().filter(|debt| joins(debt)).copied().collect();
            self.names.edit(node, |debts| debts.retain(|debt| !joins(debt)));
            for debt in out {
                // It may be in a directory that was moved here: its change time need not show that.
                whole |= matches!(debt.what, What::Content | What::Absent | What::Suspect);
                let sum = joined.get_or_insert(debt);
                sum.change = sum.change.min(debt.change);
                sum.since = sum.since.min(debt.since);
            }
            self.tidy(node);
        }
        if let Some(sum) = joined {
            let compare = Debt { what: What::Subtree { whole }, state: State::Due, tries: 0, ..sum };
            self.owe(&RelPath::root(), compare);
        }
    }
}
