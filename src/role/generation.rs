//! Generations: which truth a tree holds.

use std::fmt;
use std::str::FromStr;

/// Most ancestors that a generation remembers. A host that was away for longer is told apart as one whose history
/// went another way, and `rejoin` brings it back.
pub const ANCESTORS_MAX: usize = 1024;

/// 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u128);

impl Id {
    /// Makes one of bytes, which should be random.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Returns its bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Id {
    type Err = ();

    /// Reads 32 lower-case hex digits, and nothing else.
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 32 || !digits {
            return Err(());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| ())
    }
}

/// How one generation stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// They are one.
    Same,
    /// It is in the other's history.
    Older,
    /// The other is in its history.
    Younger,
    /// Their histories went different ways.
    Neither,
}

/// What one promotion made: everything that was written while one host led.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Generation {
    n: u64,
    id: Id,
    /// The youngest one first.
    ancestors: Vec<Id>,
}

impl Generation {
    /// Makes one with a history, cut to its bound.
    pub fn new(n: u64, id: Id, mut ancestors: Vec<Id>) -> Self {
        ancestors.truncate(ANCESTORS_MAX);
        Self { n, id, ancestors }
    }

    /// Makes the one that follows `parent`, or the first one. `heard` is the greatest number that was heard of: the
    /// new one's is greater, so that the youngest truth has the greatest number after a split.
    pub fn after(parent: Option<&Self>, heard: u64, id: Id) -> Self {
        let n = parent.map_or(0, |parent| parent.n).max(heard).saturating_add(1);
        let history =
            parent.into_iter().flat_map(|parent| std::iter::once(parent.id).chain(parent.ancestors()));
        Self::new(n, id, history.take(ANCESTORS_MAX).collect())
    }

    /// Returns its number, which people say. It decides nothing: two hosts may give the same.
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// Returns its identity.
    pub const fn id(&self) -> Id {
        self.id
    }

    /// Returns the generation before it.
    pub fn parent(&self) -> Option<Id> {
        self.ancestors.first().copied()
    }

    /// Returns those before it, the youngest one first.
    pub fn ancestors(&self) -> impl Iterator<Item = Id> + '_ {
        self.ancestors.iter().copied()
    }

    /// Returns how this one stands to `other`.
    pub fn relation(&self, other: &Self) -> Relation {
        if self.id == other.id {
            Relation::Same
        } else if other.ancestors.contains(&self.id) {
            Relation::Older
        } else if self.ancestors.contains(&other.id) {
            Relation::Younger
        } else {
            Relation::Neither
        }
    }

    /// Whether this one is in `other`'s history.
    pub fn is_before(&self, other: &Self) -> bool {
        self.relation(other) == Relation::Older
    }
}
