//! What is heard of the source.

use std::time::Instant;

use super::tasks::Ordered;
use super::{Class, Debt, Debts, Ledger, NodeId, Rule, State, What};
use crate::tree::RelPath;

/// What the watch tells, in the order of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something at a name is different.
    Changed {
        /// The name.
        path: RelPath,
        /// [`What::Attributes`], [`What::Content`] or [`What::Absent`].
        what: What,
    },
    /// A name is gone.
    Gone {
        /// The name.
        path: RelPath,
        /// Whether it was a directory, if known.
        dir: Option<bool>,
        /// Whether the guard holds the delete.
        held: bool,
    },
    /// A name has become another, over whatever was there.
    Renamed {
        /// The old name.
        from: RelPath,
        /// The new name.
        to: RelPath,
        /// Whether it is a directory.
        dir: bool,
    },
    /// Two names have changed places.
    Swapped {
        /// One.
        one: RelPath,
        /// The other.
        other: RelPath,
    },
    /// A directory is watched from now on, and what it held then was told. What went before was not.
    Watched {
        /// The directory.
        path: RelPath,
    },
    /// Nobody knows what happened at a name and below it.
    Compare {
        /// The name.
        path: RelPath,
        /// A directory came here that nobody saw come: what is below has the change times that it had before.
        whole: bool,
    },
}

impl Ledger {
    /// Takes in what was told. `since`: what its lag counts from. Returns whether the target's names follow: `false`
    /// for what was renamed and is not sent as a rename.
    pub fn hear(&mut self, told: Told, since: Instant) -> bool {
        let mut follows = true;
        let new =
            |what, state| Debt { what, state, change: self.mark.change, since, tries: 0, was_held: false };
        match told {
            Told::Changed { path, what } => {
                let debt = new(what, State::Due);
                if matches!(what, What::Content | What::Attributes) {
                    self.spread(&path, what, debt.change, since);
                }
                let node = self.owe(&path, debt);
                self.try_anew(node);
            }
            Told::Gone { path, dir, held } => {
                self.links.forget(&path);
                let state = if held { State::Guarded { held } } else { State::Due };
                let debt = new(What::Gone { dir, complete: false }, state);
                let node = self.owe(&path, debt);
                self.try_anew(node);
            }
            Told::Watched { path } => {
                if self.seen_ahead(&path) {
                    let debt = new(What::Subtree { whole: false }, State::Due);
                    self.owe(&path, debt);
                }
            }
            Told::Compare { path, whole } => {
                let debt = new(What::Subtree { whole }, State::Due);
                self.owe(&path, debt);
            }
            Told::Renamed { from, to, dir } if from != to => {
                let debt = new(What::Content, State::Due);
                follows = self.renamed(&from, &to, dir, debt);
            }
            Told::Renamed { .. } => {}
            Told::Swapped { one, other } => {
                follows = false;
                let whole = What::Subtree { whole: self.holds(Rule::SwappedIsWhole) };
                let debts = [new(What::Content, State::Due), new(whole, State::Due)];
                let (left, right) = (self.owed_above(&one), self.owed_above(&other));
                let held = self.held_within(&[&one, &other]);
                self.names.swap(&one, &other);
                self.links.swap(&one, &other);
                for (path, copies) in [(&other, left), (&one, right)] {
                    self.restate_moved(path);
                    self.put_copies(path, copies);
                    for debt in debts {
                        self.owe(path, debt);
                    }
                }
                // The target's names do not change places.
                for (path, debt) in held {
                    self.owe(&path, debt);
                }
            }
        }
        self.bound();
        follows
    }

    /// Whether something at a name or below it was looked at, or is being compared, ahead of what was heard. Example:
    /// `d` is made, a comparison finds and sends `d/f`, `d/f` is deleted, and only then `d` is heard of and watched.
    fn seen_ahead(&self, path: &RelPath) -> bool {
        let heard = self.mark.number;
        let top = self.names.find(path);
        let is_ahead = |debt: &Debt| match debt.state {
            State::Sent { .. } => true,
            State::Settled { looked } => looked > heard,
            _ => false,
        };
        let debts = |node| self.names.get(node).into_iter().flat_map(Debts::iter);
        let below = top.into_iter().flat_map(|top| self.names.within(top));
        let above = self.names.above_path(path).into_iter();
        below.flat_map(debts).any(is_ahead)
            || above.flat_map(debts).any(|debt| matches!(debt.what, What::Subtree { .. }) && is_ahead(debt))
    }

    /// Something happened there: what the target has refused before does not count.
    fn try_anew(&mut self, node: NodeId) {
        self.names.edit_debt(node, Class::Name, |debt| (debt.tries, debt.was_held) = (0, false));
    }

    /// Takes in a rename; returns whether it is sent as one.
    fn renamed(&mut self, from: &RelPath, to: &RelPath, dir: bool, new: Debt) -> bool {
        let copies = self.owed_above(from);
        let unsent = self.names.value_at(from).and_then(|debts| debts.get(Class::Name)).is_some_and(|debt| {
            debt.what == What::Absent
                && matches!(debt.state, State::Due | State::Held { .. } | State::Parked { .. })
        });
        // The target's names stay as they are then, and so do the deletes that are held there.
        let anew = unsent || !self.options.renames;
        let mut held = if anew { self.held_within(&[from]) } else { Vec::new() };
        held.retain(|(path, _)| path != from);
        let mut made_way = false;
        self.links.rename(from, to);
        if self.holds(Rule::DebtsMove) {
            let replaced = self.names.rename(from, to);
            self.make_way(to, &replaced);
            made_way = !replaced.is_empty();
            self.restate_moved(to);
            self.keep_held(to, replaced);
        }
        self.put_copies(to, copies);
        for (path, debt) in held {
            self.owe(&path, debt);
        }
        if unsent {
            // The target should have nothing to rename; what it has there all the same is deleted.
            let gone = Debt { what: What::Gone { dir: None, complete: false }, ..new };
            self.owe(from, Debt { state: State::Guarded { held: false }, ..gone });
            let node = self.owe(to, new);
            // But it may have what was replaced.
            self.names.edit_debt(node, Class::Name, |debt| debt.what = What::Content);
            if dir || made_way {
                self.owe(to, Debt { what: What::Subtree { whole: false }, ..new });
            }
            return false;
        }
        if !self.options.renames {
            let gone = Debt { what: What::Gone { dir: None, complete: false }, ..new };
            self.owe(from, Debt { state: State::Guarded { held: false }, ..gone });
            self.owe(to, new);
            if dir || made_way {
                self.owe(to, Debt { what: What::Subtree { whole: dir }, ..new });
            }
            return false;
        }
        self.make_directories(to);
        let id = self.next_number();
        let name = |old| Debt { what: What::Renamed { id, old }, state: State::Ordered, ..new };
        let nodes = vec![self.owe(from, name(true)), self.owe(to, name(false))];
        self.renames.insert(id, nodes);
        if !dir {
            self.owe(to, Debt { what: What::Attributes, ..new });
        }
        self.outgoing.order.push_back(Ordered::Rename { id, from: from.clone(), to: to.clone(), dir });
        true
    }

    /// Deletes on the target, ahead of a rename, what was deleted below its new name. What the guard has not let
    /// go is not: then the target refuses the rename, and both names are compared.
    fn make_way(&mut self, to: &RelPath, replaced: &[(RelPath, Debts)]) {
        if !self.options.deletes || !self.holds(Rule::DeletesFirst) {
            return;
        }
        // What a directory held comes behind it.
        for (path, debts) in replaced.iter().rev().filter(|(path, _)| path != to) {
            let Some(Debt { what: What::Gone { dir, .. }, state, .. }) = debts.get(Class::Name) else {
                continue;
            };
            if !matches!(state, State::Guarded { .. } | State::Sent { .. } | State::Settled { .. }) {
                self.outgoing.order.push_back(Ordered::Delete { path: path.clone(), dir: *dir });
            }
        }
    }

    fn held_within(&self, tops: &[&RelPath]) -> Vec<(RelPath, Debt)> {
        let nodes = tops.iter().filter_map(|top| self.names.find(top)).flat_map(|top| self.names.within(top));
        let held =
            nodes.filter_map(|node| Some((self.names.path(node), *self.names.get(node)?.get(Class::Name)?)));
        held.filter(|(_, debt)| debt.state == State::Guarded { held: true }).collect()
    }

    /// A delete that the guard holds stays held where a rename leads over its directory: the target refuses the
    /// rename, and the comparison that follows must not have the delete judged anew, alone.
    fn keep_held(&mut self, to: &RelPath, replaced: Vec<(RelPath, Debts)>) {
        for (path, debts) in replaced.into_iter().filter(|(path, _)| path != to) {
            let held = debts.get(Class::Name).filter(|debt| debt.state == State::Guarded { held: true });
            if let Some(debt) = held.copied() {
                self.owe(&path, debt);
            }
        }
    }

    /// Looks again at what was moved by a rename, where what is known of it may be of another file.
    fn restate_moved(&mut self, to: &RelPath) {
        let Some(top) = self.names.find(to) else { return };
        let heard = self.mark.number;
        for node in self.names.within(top) {
            let (again, held_moves) = (self.holds(Rule::DueAgain), self.holds(Rule::HeldMoves));
            let mut due = Vec::new();
            self.names.edit(node, |debts| {
                for debt in debts.iter_mut() {
                    let is_gone = matches!(debt.what, What::Gone { .. });
                    let keeps = match debt.state {
                        _ if matches!(debt.what, What::Renamed { .. }) => true,
                        // What was renamed was there.
                        _ if is_gone && node == top => false,
                        State::Guarded { .. } => held_moves,
                        // A look that saw nothing that was not heard was at this very file.
                        State::Sent { looked, .. } | State::Settled { looked } => {
                            (looked <= heard || !again) && !matches!(debt.what, What::Subtree { .. })
                        }
                        State::Ordered | State::Held { .. } => true,
                        State::Due | State::Parked { .. } | State::Behind | State::Failed { .. } => false,
                    };
                    if is_gone && node == top {
                        debt.what = What::Content;
                    }
                    if !keeps {
                        debt.state = State::Due;
                        debt.tries = 0;
                        due.push(*debt);
                    }
                }
            });
            due.into_iter().for_each(|debt| self.index(node, debt));
        }
    }

    /// Returns what is owed above a name for everything below: what leaves takes it along. Example: `d` is to be
    /// compared and `d/f` becomes `f`; nobody would compare it any more.
    fn owed_above(&self, from: &RelPath) -> Vec<Debt> {
        if !self.holds(Rule::CopyOut) {
            return Vec::new();
        }
        let above = self.names.above_path(from).into_iter().filter_map(|node| self.names.get(node));
        let covers = |debt: &&Debt| matches!(debt.what, What::Subtree { .. } | What::Renamed { .. });
        above.flat_map(Debts::iter).filter(covers).copied().collect()
    }

    fn put_copies(&mut self, to: &RelPath, copies: Vec<Debt>) {
        for copy in copies {
            if let What::Renamed { id, .. } = copy.what {
                let node = self.owe(to, Debt { what: What::Renamed { id, old: false }, ..copy });
                self.renames.entry(id).or_default().push(node);
            } else {
                self.owe(to, Debt { state: State::Due, tries: 0, ..copy });
            }
        }
    }

    /// Makes the directories above a name that may be missing on the target. What else is owed of them stays.
    fn make_directories(&mut self, path: &RelPath) {
        if !self.holds(Rule::DirectoriesFirst) {
            return;
        }
        let may_be_missing = |node: &NodeId| {
            let name = self.names.get(*node).and_then(|debts| debts.get(Class::Name));
            name.is_some_and(|debt| {
                matches!(debt.what, What::Content | What::Absent)
                    && !matches!(debt.state, State::Sent { .. } | State::Settled { .. })
            })
        };
        let parent = path.parent().unwrap_or_default();
        let top = self.names.find(&parent);
        let mut above = self.names.above_path(&parent);
        above.splice(0..0, top);
        let missing: Vec<NodeId> = above.into_iter().filter(may_be_missing).collect();
        for node in missing.into_iter().rev() {
            let path = self.names.path(node);
            if path.is_root() {
                continue;
            }
            // From now on the target has something there.
            self.names.edit_debt(node, Class::Name, |debt| debt.what = What::Content);
            self.outgoing.order.push_back(Ordered::Mkdir { path });
        }
    }
}
