//! The source's side: brings one target up to what the source holds now.
//!
//! **Purpose:** [`Session`] connects to one agent, takes changes from a [`Mailbox`] and sends what the
//! source holds under their paths at that moment; it runs the passes that compare whole subtrees.
//! **In → Out:** [`Change`](crate::batch::Change)s; messages, and feedback about paths that must be
//! looked at again.
//! **Invariants:** a change is a hint, the `fstat` at send time is the truth; what is not acknowledged
//! when a session ends is handed back; one file in pieces never blocks small changes.
//! **Not here:** waiting for events (`watch`), judging bursts (`debounce`, `reconcile`), retrying
//! connections (`daemon`).

mod ages;
mod ask;
mod borrow;
mod bottleneck;
mod bundle;
mod changes;
mod connect;
// The sessions will be driven by it; until then its only user is `tests/sim`.
pub mod core;
mod cuts;
mod debts;
mod deletes;
mod dialogue;
mod duplicates;
mod error;
mod gate;
mod gone;
mod handing;
mod held;
mod hello;
mod known;
mod lead;
pub mod ledger;
mod links;
mod listing;
mod lru;
mod mailbox;
mod merging;
mod names;
mod operations;
mod origin;
mod outbox;
mod own_names;
mod owners;
mod pass;
mod positions;
mod probe;
mod progress;
mod queue;
mod recent;
mod rejected;
mod rename;
mod replies;
mod resume;
mod retention;
mod room;
mod sampling;
mod scrub;
mod scrubbed;
mod session;
mod shared;
mod shared_compression;
mod source;
mod sources;
mod stating;
mod status;
mod stepping;
mod stopping;
mod stream;
mod suspects;
mod teardown;
mod verify;
mod watermark;
mod whereabouts;
mod widen;
mod window;

pub use ages::Ages;
pub use ask::ask;
pub use error::SessionError;
pub use gate::Gate;
pub use held::{Held, first_of};
pub use hello::hello;
pub use known::{Before, Known};
pub use lead::{Lead, Stand, of_nobody};
pub use listing::{Told, list as list_source};
pub use lru::Lru;
pub use mailbox::{Lane, Mailbox, Out, Parcel, Pending, Since};
pub use merging::{merged, without_merges};
pub use origin::see_upstream;
pub use own_names::look_up_apart;
pub use positions::Positions;
pub use probe::{Survey, survey};
pub use replies::clean_refusal;
pub use retention::{Ask, Word, keeper};
pub use room::Need;
pub use scrubbed::{Mismatch, Scrubbed, Suspect};
pub use session::{Identity, Outcome, Session, SessionOptions, Surroundings};
pub use source::{End, Piece, Source, SourceFile};
pub use sources::{Opened, open_sources};
pub use status::{Deed, Failure, TargetProblem, TargetState, TargetStatus};
pub use verify::{Finding, Nature, Verified, verify};

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{Age, Moment};
use crate::tree::RelPath;

/// What a session tells the stage before it.
pub trait Feedback: Send + Sync {
    /// A path was sent, and how long that took.
    fn sent(&self, _path: &RelPath, _took: Duration) {}
    /// A large file, of which a change of that age waits, is still open for writing: wait for the close.
    /// `known`: when it was known by this path; what was renamed since may be known by another.
    fn still_open(&self, _path: &RelPath, _known: Instant, _age: Age) {}
    /// A path must be read once more after a while, whatever its stat says. `known`: as above. `owed`: whether
    /// a change of that age waits that was not sent; if not, what was sent may only not be the last word.
    fn again(&self, _path: &RelPath, _after: Duration, _known: Instant, (_age, _owed): (Age, bool)) {}
    /// A path was sent, with this content hash, whose stamp a later write may share: read it once more
    /// after a while. Where events tell of every write, there is nothing to do.
    fn racy(&self, _path: &RelPath, _hash: [u8; 32], _after: Duration) {}
    /// A single pass has nothing left to send; returns what must be sent once more before it ends.
    fn settle(&self) -> Vec<RelPath> {
        Vec::new()
    }
    /// The source has nothing under a path that was to be updated.
    fn gone(&self, _path: &RelPath) {}
    /// A comparison has found a name on the source and has it sent. Where events tell of every name that
    /// goes, there is nothing to do.
    fn found(&self, _path: &RelPath) {}
    /// Returns since when files may have changed of which something was sent back and has yet to be taken in.
    fn change(&self) -> Moment {
        Moment::NEVER
    }
    /// Has it told anew up to when everything was heard.
    fn look(&self) {}
    /// Has everything handed to a mailbox that happened before the call, also what waits for its writers. `None` if that
    /// takes longer than `limit`.
    fn fence(&self, _to: &Arc<Mailbox>, _limit: Duration) -> Option<Fenced> {
        None
    }
    /// Has a mailbox know that everything which happened before the call was handed to it.
    fn hear(&self, _to: &Arc<Mailbox>, _limit: Duration) {}
    /// Returns since when the oldest waits that was not handed out.
    fn owed(&self) -> Option<Instant> {
        None
    }
    /// Changes when something is sent back: who looks at several places in turn has missed nothing meanwhile if this is
    /// what it was.
    fn moves(&self) -> u64 {
        0
    }
    /// Everything up to a moment is acknowledged.
    fn acknowledged(&self, _since: Instant) {}
}

/// Up to when everything was handed to a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// What happened before the fence is no younger.
    pub until: Instant,
    /// It was heard; else a comparison was begun that finds it.
    pub sure: bool,
}

/// Feedback that nobody hears: for a single pass.
#[derive(Debug, Clone, Copy)]
pub struct NoFeedback;

impl Feedback for NoFeedback {}
