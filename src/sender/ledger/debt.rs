//! What is owed at a name, and how far it has come.

use std::time::Instant;

/// A change time on the source's clock, in nanoseconds since 1970. Zero is before everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Returns the moment `nanos` earlier, zero at the least.
    #[must_use]
    pub fn less(self, nanos: u64) -> Self {
        Self(self.0.saturating_sub(nanos))
    }
}

/// How far events have been heard. Example: the clock shows 12 s, the margin is 1 s, and 40 events were ever
/// queued, 3 of which wait: the mark is (40, 11 s). It is heard when those 3 have reached the ledger. What an
/// event behind it tells of was changed at 11 s or later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// How many events had been queued; grows.
    pub number: u64,
    /// No change whose event comes later has a change time before this.
    pub change: Moment,
}

/// The number of an operation. Larger numbers were sent later; answers name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Op(pub u64);

/// The number of a rename that was heard of; both its names are owed until the target has answered.
pub type RenameId = u64;

/// What is owed at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Metadata; size and time on the target should be right.
    Attributes,
    /// Whatever the source has there; nothing is known about the target.
    Content,
    /// The same, and nothing was sent for it yet: unless something else left one, the target has nothing there.
    Absent,
    /// The source had nothing there: delete it.
    Gone {
        /// Whether it was a directory, if known.
        dir: Option<bool>,
        /// A comparison has seen everything below it.
        complete: bool,
    },
    /// Compare the name and everything below it.
    Subtree {
        /// Equal stamps prove nothing, whatever the change times say.
        whole: bool,
    },
    /// Stamps are equal, but the content may have changed: compare contents.
    Suspect,
    /// One of the two names of a rename that the target has not answered yet.
    Renamed {
        /// Which.
        id: RenameId,
        /// It is the old name.
        old: bool,
    },
}

/// Debts of one class replace each other at a name; those of different classes do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// What is at the name itself.
    Name,
    /// What is below it.
    Subtree,
    /// Whether its content is right.
    Suspect,
    /// A rename's name.
    Renamed(RenameId),
}

impl What {
    /// Returns the class.
    pub fn class(self) -> Class {
        match self {
            Self::Attributes | Self::Content | Self::Absent | Self::Gone { .. } => Class::Name,
            Self::Subtree { .. } => Class::Subtree,
            Self::Suspect => Class::Suspect,
            Self::Renamed { id, .. } => Class::Renamed(id),
        }
    }

    /// Returns what is owed if `newer` was learnt where this was owed.
    #[must_use]
    pub fn then(self, newer: Self) -> Self {
        match (self, newer) {
            (Self::Content, Self::Attributes) | (Self::Gone { .. }, Self::Attributes | Self::Absent) => {
                Self::Content
            }
            (Self::Absent, Self::Attributes | Self::Content) => Self::Absent,
            // The target may not have got what was deleted here, but hold what was here before.
            (Self::Absent | Self::Content, Self::Gone { complete, .. }) => Self::Gone { dir: None, complete },
            (Self::Attributes | Self::Content, Self::Absent) => Self::Content,
            (Self::Renamed { old, .. }, Self::Renamed { id, old: newer }) => {
                Self::Renamed { id, old: old && newer }
            }
            (Self::Subtree { whole }, Self::Subtree { whole: newer }) => {
                Self::Subtree { whole: whole || newer }
            }
            _ => newer,
        }
    }
}

/// How far a debt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits for its turn in the order of events.
    Ordered,
    /// A delete that the guard has not let go.
    Guarded {
        /// It was judged and is held until somebody approves it.
        held: bool,
    },
    /// The source's file is busy: look again at that moment.
    Held {
        /// When.
        until: Instant,
    },
    /// Look, and send what is there.
    Due,
    /// The source had nothing there when so many events had been queued. What explains it is still to be heard.
    Parked {
        /// The number of the mark of the look.
        looked: u64,
    },
    /// Waits until a comparison has seen what is below on the target, and that is settled.
    Behind,
    /// Being looked at, or sent and not answered.
    Sent {
        /// The number of the operation.
        op: Op,
        /// How many events had been queued when the source was looked at; `u64::MAX` until then.
        looked: u64,
    },
    /// The target refused it too often, or could not: again at that moment. A problem; not lag.
    Failed {
        /// When.
        again: Instant,
    },
    /// Acknowledged, but the look may have been ahead of what was heard.
    Settled {
        /// The number of the mark of the look.
        looked: u64,
    },
}

/// One thing that is owed at one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debt {
    /// What is owed.
    pub what: What,
    /// How far it has come.
    pub state: State,
    /// What is owed was not changed before this.
    pub change: Moment,
    /// Since when it is owed: what lag counts from.
    pub since: Instant,
    /// How often the target has refused it since the last event.
    pub tries: u8,
    /// The guard held a delete here, and only a comparison has said since that there is something: if there is
    /// not, the delete is held again.
    pub was_held: bool,
}

/// What is owed at one name: at most one debt of each class.
#[derive(Debug, Default)]
pub struct Debts(Vec<Debt>);

impl Debts {
    /// Returns the debt of a class.
    pub fn get(&self, class: Class) -> Option<&Debt> {
        self.0.iter().find(|debt| debt.what.class() == class)
    }

    /// Returns the debt of a class.
    pub fn get_mut(&mut self, class: Class) -> Option<&mut Debt> {
        self.0.iter_mut().find(|debt| debt.what.class() == class)
    }

    /// Returns the debt that was sent with a number.
    pub fn of_op(&self, op: Op) -> Option<&Debt> {
        self.0.iter().find(|debt| matches!(debt.state, State::Sent { op: sent, .. } if sent == op))
    }

    /// Puts a debt in the place of the one of its class.
    pub fn put(&mut self, debt: Debt) {
        match self.get_mut(debt.what.class()) {
            Some(known) => *known = debt,
            None => {
                // Most names owe one thing.
                self.0.reserve_exact(1);
                self.0.push(debt);
            }
        }
    }

    /// Removes the debt of a class.
    pub fn remove(&mut self, class: Class) {
        self.retain(|debt| debt.what.class() != class);
    }

    /// Removes what is not to be kept.
    pub fn retain(&mut self, keep: impl FnMut(&Debt) -> bool) {
        self.0.retain(keep);
    }

    /// Returns all.
    pub fn iter(&self) -> impl Iterator<Item = &Debt> {
        self.0.iter()
    }

    /// Returns all.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Debt> {
        self.0.iter_mut()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
