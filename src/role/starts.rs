//! Starts of a daemon, by which a receiver knows a primary whose disk was set back.
//!
//! A count of starts does not show it: a daemon has run since start 7, last night's snapshot says 7, the disk is set
//! back to it, and the daemon starts for the eighth time; a receiver that knows 7 sees nothing wrong, and would
//! delete what was uploaded today. So a start that did not end in order is not listed, and a receiver that knows a
//! start which is not listed keeps aside what the sender lacks. A power cut does the same: what the primary had not
//! written to its disk yet is on the standby, and stays there.

use super::generation::Id;

/// Most ended starts that are remembered. A receiver that was away for more keeps aside what differs.
pub const STARTS_MAX: usize = 64;

/// What a tree knows of starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Starts {
    /// The daemon that runs here, or that did not end in order.
    pub running: Option<Id>,
    /// Those that ended in order, the last one first.
    pub ended: Vec<Id>,
    /// The sender's start from which this tree was last in step.
    pub seen: Option<Id>,
}

/// What a sender says of its starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Offered {
    /// This one.
    pub running: Id,
    /// Those before it that ended in order, the last one first.
    pub ended: Vec<Id>,
}

impl Starts {
    /// A daemon starts. The one before it, if it did not end in order, is never believed again.
    #[must_use]
    pub fn started(&self, id: Id) -> Self {
        Self { running: Some(id), ..self.clone() }
    }

    /// The daemon ends in order. The caller has flushed the tree's filesystem first: a receiver may hold what only
    /// this host's memory held, and a power cut after the end would take it away unnoticed.
    #[must_use]
    pub fn stopped(&self) -> Self {
        let ended = self.running.iter().chain(&self.ended).copied().take(STARTS_MAX).collect();
        Self { running: None, ended, seen: self.seen }
    }

    /// Returns what a daemon says of itself; `None` if none runs.
    pub fn offered(&self) -> Option<Offered> {
        Some(Offered { running: self.running?, ended: self.ended.clone() })
    }
}

impl Offered {
    /// Whether the sender holds everything that a tree took from `seen`.
    pub fn goes_on_from(&self, seen: Option<Id>) -> bool {
        seen.is_some_and(|seen| seen == self.running || self.ended.contains(&seen))
    }
}
