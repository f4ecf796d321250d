//! What a tree remembers of its role.

use super::generation::{Generation, Id, Relation};
use super::names::HostName;
use super::starts::Starts;

/// Most other generations that a tree remembers, none of them in another's history.
pub const KNOWN_MAX: usize = 8;

/// What a tree does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends and takes nothing.
    Primary,
    /// Takes and sends nothing.
    Standby,
}

impl Role {
    /// Returns its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        }
    }
}

/// Where a role holds: one tree on one host. A copy, an image or a backup that was put back stands elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeId {
    /// The host.
    pub machine: Id,
    /// The inode of `.speil`.
    pub inode: u64,
    /// When that was made, in nanoseconds, where the filesystem says so: a fresh filesystem gives the same inodes in
    /// the same order.
    pub born: Option<i64>,
}

/// A generation that another host has told of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeardOf {
    /// Which one.
    pub generation: Generation,
    /// Who holds it, or has heard of it.
    pub host: HostName,
}

/// An adoption: the tree is brought to another generation, and everything that it loses is kept aside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Adoption {
    /// Which one.
    pub of: Generation,
    /// Something may have been changed already: the tree is neither this nor that.
    pub begun: bool,
}

/// The role of one tree on one host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// The hosts that hold one tree together; a tree that has just joined takes the first sender's.
    pub group: Option<Id>,
    /// Where it was written.
    pub place: TreeId,
    /// What the tree does.
    pub role: Role,
    /// What the tree holds, whole; `None` if it has never been in step.
    pub generation: Option<Generation>,
    /// This host made the generation and nobody has led since: promoting keeps it.
    pub mine: bool,
    /// The identity that the next promotion here gives: a primary may have been told of it, and steps down for it.
    pub coming: Option<Id>,
    /// What the tree is being brought to.
    pub adopting: Option<Adoption>,
    /// Other generations that were heard of, and where: none of them is the tree's, in its history or in another's.
    pub known: Vec<HeardOf>,
    /// The greatest number that was heard of.
    pub heard: u64,
    /// Starts of daemons.
    pub starts: Starts,
}

impl Record {
    /// Returns the record of a tree that joins: a standby that was never in step.
    pub fn joined(place: TreeId) -> Self {
        Self {
            group: None,
            place,
            role: Role::Standby,
            generation: None,
            mine: false,
            coming: None,
            adopting: None,
            known: Vec::new(),
            heard: 0,
            starts: Starts::default(),
        }
    }

    /// Returns the generation that counts when a sender knocks: what is being adopted, else what the tree holds.
    pub fn counts_as(&self) -> Option<&Generation> {
        self.adopting.as_ref().map(|adoption| &adoption.of).or(self.generation.as_ref())
    }

    /// Returns the number that people are told.
    pub fn n(&self) -> u64 {
        self.generation.as_ref().map_or(0, Generation::n)
    }

    /// Whether an adoption may have changed something and has not ended.
    pub fn is_half(&self) -> bool {
        self.adopting.as_ref().is_some_and(|adoption| adoption.begun)
    }

    /// Sets the generation. What is known of others stays as far as it is not this or before it.
    pub(super) fn becomes(&mut self, generation: Generation) {
        self.heard = self.heard.max(generation.n());
        let is_past =
            |other: &Generation| matches!(other.relation(&generation), Relation::Same | Relation::Older);
        self.known.retain(|known| !is_past(&known.generation));
        if self.generation.as_ref() != Some(&generation) {
            self.coming = None;
            self.mine = false;
        }
        self.adopting = None;
        self.generation = Some(generation);
    }
}

/// A tree, as whoever has to judge it finds it.
#[derive(Debug, Clone, Copy)]
pub enum Tree<'a> {
    /// It has no role.
    Plain {
        /// A sync with `target` of this mirror filled it.
        ours: bool,
    },
    /// It has the role that its record says.
    Placed(&'a Record),
    /// Its record was written for another place: the tree is a copy of that one, of any age.
    Transplanted(&'a Record),
    /// It has a role, and nobody can read which.
    Unreadable,
}

impl<'a> Tree<'a> {
    /// Returns what a tree is at `place`.
    pub fn of(record: Option<&'a Record>, place: &TreeId, ours: bool) -> Self {
        match record {
            None => Self::Plain { ours },
            Some(record) if record.place == *place => Self::Placed(record),
            Some(record) => Self::Transplanted(record),
        }
    }

    /// Returns the record, wherever it was written.
    pub fn record(self) -> Option<&'a Record> {
        match self {
            Self::Plain { .. } | Self::Unreadable => None,
            Self::Placed(record) | Self::Transplanted(record) => Some(record),
        }
    }

    /// Returns the record of a tree that may send now.
    pub fn leads(self) -> Option<&'a Record> {
        match self {
            Self::Placed(record)
                if record.role == Role::Primary && super::superseded_by(record).is_none() =>
            {
                Some(record)
            }
            _ => None,
        }
    }
}
