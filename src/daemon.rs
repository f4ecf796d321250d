//! The pipeline as a whole: built, supervised, stopped.
//!
//! **Purpose:** [`once`] makes one pass and ends; [`Daemon`] keeps syncs live until it is told to stop.
//! Both build the same pipeline; a single pass merely has no watch.
//! **In → Out:** a [`config::Sync`](crate::config::Sync); a target that is like its source.
//! **Invariants:** one sync's failure never stops another; a connection is tried again for ever; a
//! broken new configuration leaves the old one in force.
//! **Not here:** arguments and rendering (`cli`).

mod control;
mod engine;
mod explain;
mod heard;
mod hint;
mod history;
mod hosted;
mod hub;
mod inlet;
mod link;
mod listeners;
mod lock;
mod notify;
mod once;
mod pipeline;
mod probe;
mod report;
mod route;
mod service;
mod slot;
mod target;
mod waiting;

pub use control::{ask, find_socket};
pub use explain::explain_rules;
pub use hint::hint;
pub use hosted::Hosted;
pub use lock::{Lock, LockError, LockOptions};
pub use once::{OnceOptions, OnceReport, TargetReport, once};
pub use pipeline::Pipeline;
pub use probe::probe;
pub use route::transport_of;
pub use service::{Daemon, DaemonError, Reload};

use crate::config::{Sync, Target};
use crate::tree::RelPath;

/// Returns the identity of the mirror from a source on this host to a target: the same for every
/// session, another for every other pair.
pub fn mirror_id(sync: &Sync, target: &Target) -> [u8; 16] {
    use std::os::unix::ffi::OsStrExt;
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    // As it is written: where a deployment switches a link, the mirror stays the same.
    let source = std::path::absolute(&sync.source).unwrap_or_else(|_| sync.source.clone());
    let mut hasher = blake3::Hasher::new();
    for part in [machine.trim().as_bytes(), source.as_os_str().as_bytes(), target.to_string().as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}

/// Whether a path is no part of any mirror, or excluded from this one.
pub(crate) fn is_skipped(filter: &crate::filter::Filter, path: &RelPath, dir: bool) -> bool {
    crate::scan::is_own(path) || filter.excludes(path, dir)
}
