//! Names with their debts, and sums over all of them that cost no walk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::{Class, Debt, Debts, Moment, NameTree, NodeId, State, What};
use crate::tree::RelPath;

/// How much older than the first debt another may be, at most.
const BEFORE: Duration = Duration::from_secs(3600);

/// The names. Reading is the tree's; whatever changes a debt keeps the sums.
#[derive(Debug, Default)]
pub(super) struct Owed {
    names: NameTree<Debts>,
    sums: Sums,
}

/// Sums over all debts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    /// Change times of what holds the watermark back, and how often each.
    changes: BTreeMap<Moment, u32>,
    /// Since when what counts as lag is owed, in milliseconds since an hour before the first.
    ages: BTreeMap<u64, u32>,
    /// Names that are owed something other than a held delete or what waits behind one.
    names: usize,
    /// Names that are owed nothing but what waits for what is below.
    behind: BTreeSet<NodeId>,
    /// Names with a problem.
    failed: BTreeSet<NodeId>,
    /// Deletes without a verdict.
    unjudged: usize,
    /// What ages count from.
    first: Option<Instant>,
}

impl Deref for Owed {
    type Target = NameTree<Debts>;

    fn deref(&self) -> &NameTree<Debts> {
        &self.names
    }
}

impl Owed {
    /// Changes what is owed at a node; `None` if nothing is.
    pub fn edit<R>(&mut self, node: NodeId, change: impl FnOnce(&mut Debts) -> R) -> Option<R> {
        let debts = self.names.get_mut(node)?;
        self.sums.forget(node, debts);
        let done = change(debts);
        self.sums.note(node, debts);
        Some(done)
    }

    /// Changes one debt; `None` if nothing of its class is owed at the node.
    pub fn edit_debt<R>(
        &mut self,
        node: NodeId,
        class: Class,
        change: impl FnOnce(&mut Debt) -> R,
    ) -> Option<R> {
        self.names.get(node)?.get(class)?;
        self.edit(node, |debts| debts.get_mut(class).map(change)).flatten()
    }

    /// Returns the node of a path, made if there is none.
    pub fn at(&mut self, path: &RelPath) -> NodeId {
        self.names.at(path, Debts::default).0
    }

    /// Forgets a node at which nothing is owed.
    pub fn take(&mut self, node: NodeId) {
        if let Some(debts) = self.names.take(node) {
            self.sums.forget(node, &debts);
        }
    }

    /// As [`NameTree::rename`].
    pub fn rename(&mut self, from: &RelPath, to: &RelPath) -> Vec<(RelPath, Debts)> {
        if let Some(top) =
            self.names.find(to).filter(|_| !from.is_root() && !to.is_root() && !to.is_within(from))
        {
            let moved = self.names.find(from);
            for node in self.names.walk(top) {
                // What is moved out of what makes way stays.
                if moved.is_none_or(|moved| node != moved && self.names.above(node).all(|at| at != moved))
                    && let Some(debts) = self.names.get(node)
                {
                    self.sums.forget(node, debts);
                }
            }
        }
        self.names.rename(from, to)
    }

    /// As [`NameTree::swap`].
    pub fn swap(&mut self, one: &RelPath, other: &RelPath) {
        self.names.swap(one, other);
    }

    /// Has every change time be earlier.
    pub fn clock_went_back(&mut self, nanos: u64) {
        for node in self.names.all() {
            self.edit(node, |debts| debts.iter_mut().for_each(|debt| debt.change = debt.change.less(nanos)));
        }
    }

    /// Returns the least change time of what holds the watermark back.
    pub fn least_change(&self) -> Option<Moment> {
        self.sums.changes.first_key_value().map(|(change, _)| *change)
    }

    /// Returns since when the oldest is owed that counts as lag, to the millisecond.
    pub fn oldest(&self) -> Option<Instant> {
        let (millis, _) = self.sums.ages.first_key_value()?;
        Some(self.sums.first? + Duration::from_millis(*millis))
    }

    /// Returns how many deletes have no verdict.
    pub fn unjudged(&self) -> usize {
        self.sums.unjudged
    }

    /// Returns the nodes with a problem.
    pub fn failed(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.sums.failed.iter().copied()
    }

    /// Returns how many names are owed something other than a held delete, or what waits for one below.
    pub fn owed(&self) -> usize {
        let is_held = |debt: &Debt| matches!(debt.state, State::Guarded { held: true });
        let holds = |node: NodeId| self.names.get(node).is_some_and(|debts| debts.iter().any(is_held));
        let waits_for_held = |node: &NodeId| self.names.walk(*node).any(holds);
        self.sums.names + self.sums.behind.iter().filter(|node| !waits_for_held(node)).count()
    }

    /// Whether the sums are those of the debts; for tests.
    pub fn adds_up(&self) -> bool {
        let mut sums = Sums { first: self.sums.first, ..Sums::default() };
        for node in self.names.all() {
            if let Some(debts) = self.names.get(node) {
                sums.note(node, debts);
            }
        }
        sums == self.sums
    }
}

impl Sums {
    fn note(&mut self, node: NodeId, debts: &Debts) {
        for debt in debts.iter() {
            let (change, age) = self.keys(debt);
            if let Some(change) = change {
                *self.changes.entry(change).or_default() += 1;
            }
            if let Some(age) = age {
                *self.ages.entry(age).or_default() += 1;
            }
            self.unjudged += usize::from(debt.state == State::Guarded { held: false });
            if matches!(debt.state, State::Failed { .. }) {
                self.failed.insert(node);
            }
        }
        match kind(debts) {
            Kind::Counts => self.names += 1,
            Kind::Behind => {
                self.behind.insert(node);
            }
            Kind::Held => {}
        }
    }

    fn forget(&mut self, node: NodeId, debts: &Debts) {
        for debt in debts.iter() {
            let (change, age) = self.keys(debt);
            change.into_iter().for_each(|change| take_one(&mut self.changes, change));
            age.into_iter().for_each(|age| take_one(&mut self.ages, age));
            self.unjudged -= usize::from(debt.state == State::Guarded { held: false });
        }
        self.failed.remove(&node);
        self.behind.remove(&node);
        self.names -= usize::from(kind(debts) == Kind::Counts);
    }

    /// Returns the change time of a debt if it holds the watermark back, and its age if that is lag.
    fn keys(&mut self, debt: &Debt) -> (Option<Moment>, Option<u64>) {
        if matches!(debt.state, State::Guarded { .. } | State::Failed { .. }) {
            return (None, None);
        }
        // What is owed later may be older.
        let first = *self.first.get_or_insert(debt.since.checked_sub(BEFORE).unwrap_or(debt.since));
        let millis = debt.since.saturating_duration_since(first).as_millis();
        let lags = debt.what != What::Suspect;
        (Some(debt.change), lags.then(|| u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

/// How a name counts.
#[derive(PartialEq, Eq)]
enum Kind {
    Counts,
    Behind,
    Held,
}

fn kind(debts: &Debts) -> Kind {
    let counts = |debt: &Debt| !matches!(debt.state, State::Guarded { held: true } | State::Behind);
    if debts.iter().any(counts) {
        Kind::Counts
    } else if debts.iter().any(|debt| debt.state == State::Behind) {
        Kind::Behind
    } else {
        Kind::Held
    }
}

fn take_one<K: Ord>(from: &mut BTreeMap<K, u32>, key: K) {
    if let Some(count) = from.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            from.remove(&key);
        }
    }
}
