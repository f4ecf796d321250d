//! Who sends and who takes, of several hosts that hold one tree.
//!
//! **Purpose:** whoever dies, comes back or was cut off, nothing that was uploaded is destroyed. Everything that
//! decides so is here, as pure functions on one small record for each tree.
//! **In → Out:** a tree's [`Record`], what another host tells ([`HeardOf`], [`Offer`]), what somebody typed; the record
//! as it is to be written, a decision, or a [`Refusal`] that knows what to type next.
//! **Invariants:** a generation is led by one host at a time, and only the host that made it leads it; a tree that is
//! changed by an adoption says so before the first change; a host that has heard of a younger generation neither
//! sends nor is promoted, unless somebody forces it; two generations of which neither is in the other's history are
//! never decided between here.
//! **Not here:** the file (`.speil/role`), locks, sessions, clocks, random numbers: ids are arguments.
//!
//! `tests/failover` searches these functions for what must not happen.

mod admit;
mod command;
mod cuts;
mod fitness;
mod generation;
mod hear;
mod intent;
mod leader;
mod names;
mod record;
mod refusal;
mod starts;
#[cfg(test)]
mod tests;
mod text;
mod verbs;

pub use admit::{Admission, Errand, Offer, Sender, Why, admit, begin, finish};
pub use command::{Answer, Command, Force, Here, Remedy, Told};
pub use cuts::{CUTS_LEN_MAX, Cut, Cuts, Shown};
pub use fitness::{Unfit, fitness};
pub use generation::{ANCESTORS_MAX, Generation, Id, Relation};
pub use hear::{hear, is_past, superseded_by, tells};
pub use intent::{Intent, Verb};
pub use leader::{Answered, Leader, Rank, Rival, rank_of};
pub use names::HostName;
pub use record::{Adoption, HeardOf, KNOWN_MAX, Record, Role, Tree, TreeId};
pub use refusal::{Barred, Refusal};
pub use starts::{Offered, STARTS_MAX, Starts};
pub use text::{BadRecord, RECORD_LEN_MAX};
pub use verbs::{Around, Demotion, Others, Promotion, Rejoined, demote, hand_over, prepare, promote, rejoin};
