//! What hears the state of a daemon now and then.

use crate::status::{Report, Tried};

/// What hears the state now and then.
pub trait Onlooker: Send + Sync {
    /// Hears it. Must be quick.
    fn look(&self, report: &Report);
    /// Sends a test to whoever is told when something gets worse; may take long.
    fn try_out(&self) -> Vec<Tried> {
        Vec::new()
    }
}

/// Nobody hears anything.
pub(super) struct Nobody;

impl Onlooker for Nobody {
    fn look(&self, _: &Report) {}
}
