//! Whether a tree holds everything up to a mark of its source: read your own upload.

use std::io;
use std::path::Path;

use super::standing::ranked;
use super::state::State;
use crate::disk::Root;
use crate::protocol::Position;
use crate::role::Role;

/// What a tree says of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Everything up to it is there.
    Here,
    /// Something is not there yet.
    NotYet,
    /// It cannot be said, and waiting does not help: why.
    Never(String),
}

/// Says whether the tree in a root holds everything up to a position.
///
/// # Errors
/// What opening the root or its state says: `ENOENT` for a directory that was never mirrored to.
pub fn has_reached(root: &Path, position: Position) -> io::Result<Asked> {
    let root = Root::open(root)?;
    let state = State::read_only(&root)?;
    let ranked = ranked(&root);
    let generation = ranked.as_ref().map_or(0, |ranked| ranked.generation);
    if let Some(told) = ranked.as_ref().and_then(|ranked| ranked.unfit.as_ref()) {
        return Ok(Asked::Never(told.line.clone()));
    }
    if generation != position.generation {
        // What another generation had may have been lost with its primary.
        let of = |n| if n == 0 { "a tree without a role".to_owned() } else { format!("generation {n}") };
        let text = format!("the position is of {}, and this is {}", of(position.generation), of(generation));
        return Ok(Asked::Never(text));
    }
    if ranked.is_some_and(|ranked| ranked.role == Some(Role::Primary)) {
        return Ok(Asked::Here);
    }
    // One of a start that was never heard of: its first comparison may be under way.
    let is_here = state.reached().has(position.mark) == Some(true);
    Ok(if is_here { Asked::Here } else { Asked::NotYet })
}
