//! Where a source that is no directory lands: in the target if that is a directory, and under its name otherwise.
//!
//! **Purpose:** `speil sync file HOST:PATH` is one command whether `PATH` is a directory or a file. Only the target's host
//! knows, and it says so by refusing what is no directory; the pass is then made anew in the directory above.
//! **Invariants:** nothing was changed by the attempt before; a slash at the end means a directory.

use std::sync::Arc;

use serde_bytes::ByteBuf;

use crate::config::{Listed, Sync, Target};
use crate::disk::Root;
use crate::protocol::Refusal;
use crate::sender::{SessionError, Source, open_sources};
use crate::tree::RelPath;

/// Returns the pass that gives the only source the target's own name, if the target is no directory and may be one
/// of another sort. `name`: what the source is called.
pub(super) fn beside(
    sync: &Sync,
    (target, name): (&Target, &RelPath),
    error: Option<&SessionError>,
) -> Option<(Sync, Target, Arc<Source>)> {
    let is_none = matches!(
        error,
        Some(SessionError::Refused(Refusal::Root { errno: libc::ENOENT | libc::ENOTDIR, .. }))
    );
    if !is_none || target.lands.is_none() {
        return None;
    }
    let (target, called) = above(target)?;
    let mut sync = sync.clone();
    sync.sources.as_mut()?.called = Some(ByteBuf::from(called.as_bytes()));
    sync.selection.files_from = Some(vec![Listed { path: called, level: false }]);
    let opened = open_sources(sync.sources.as_ref()?, sync.selection.recursive, 1, &Root::open).ok()?;
    // Another entry may have come to its place meanwhile.
    (opened.alone.as_ref() == Some(name)).then_some((sync, target, opened.source?))
}

/// Returns the directory that holds a target, and what the target is called in it.
pub fn above(target: &Target) -> Option<(Target, RelPath)> {
    let at = target.path.iter().rposition(|&byte| byte == b'/');
    let (dir, name) = match at {
        Some(0) => (&b"/"[..], target.path.get(1..)?),
        Some(at) => (target.path.get(..at)?, target.path.get(at + 1..)?),
        None => (&b"."[..], target.path.as_slice()),
    };
    if matches!(name, b"" | b"." | b"..") {
        return None;
    }
    let makes = target.lands.unwrap_or_default();
    let path = RelPath::new(name).ok()?;
    Some((Target { path: dir.to_vec(), makes, lands: None, ..target.clone() }, path))
}
