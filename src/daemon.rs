//! The pipeline as a whole: built, supervised, stopped.
//!
//! **Purpose:** [`once`] makes one pass and ends; [`Daemon`] keeps syncs live until it is told to stop.
//! Both build the same pipeline; a single pass merely has no watch.
//! **In → Out:** a [`config::Sync`](crate::config::Sync); a target that is like its source.
//! **Invariants:** one sync's failure never stops another; a connection is tried again for ever; a
//! broken new configuration leaves the old one in force.
//! **Not here:** arguments and rendering (`cli`).

mod chronicle;
mod control;
mod engine;
mod error;
mod explain;
mod far;
mod hearsay;
mod hint;
mod history;
mod hosted;
mod hub;
mod identity;
mod inlet;
mod input;
mod landing;
mod latencies;
mod link;
mod link_options;
mod listeners;
mod listing;
mod lock;
mod marking;
mod memory;
mod notify;
mod once;
mod onlooker;
mod pipeline;
mod positions;
mod probe;
mod pulled;
mod pulling;
mod recent_events;
mod reconfigure;
mod report;
mod retarget;
mod route;
mod sending;
mod service;
mod settler;
mod slot;
mod standing_by;
mod target;
mod teller;
mod waiting;

pub use chronicle::read_history;
pub use control::{NoSocket, ask, find_socket};
pub use error::DaemonError;
pub use explain::explain_rules;
pub use hint::{hint, hint_for};
pub use hosted::Hosted;
pub use identity::mirror_id;
pub use landing::above;
pub use listing::list;
pub use lock::{Lock, LockError, LockOptions};
pub use memory::history_dir;
pub use once::{Named, OnceOptions, OnceReport, TargetReport, once, unreadable};
pub use onlooker::Onlooker;
pub use pipeline::Pipeline;
pub use probe::probe;
pub use pulled::{Pulling, Unstarted};
pub use pulling::{PullOptions, Pulled, Stopper, is_older, pull};
pub use route::transport_of;
pub use sending::{SendError, SendOptions, Words, send};
pub use service::{Daemon, Reload};
pub use slot::LeftOut;

use crate::tree::RelPath;

/// Whether a path is no part of any mirror, or excluded from this one.
pub(crate) fn is_skipped(filter: &crate::filter::Filter, path: &RelPath, dir: bool) -> bool {
    crate::scan::is_own(path) || filter.excludes(path, dir)
}
