//! How a standby stands, from what its receiver keeps: without a daemon, and without a connection.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::state::State;
use crate::disk::Root;

/// What a target's own state says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What people call the mirror that the tree belongs to.
    pub label: String,
    /// The last lag that the primary knew and stated; `None` if it never did.
    pub lag: Option<Duration>,
    /// Whether an operator held the target back.
    pub paused: bool,
    /// How long ago the primary stated anything; `None` if it never did.
    pub silence: Option<Duration>,
}

/// Reads the state in a target's root.
///
/// # Errors
/// What opening the root or its state says: `ENOENT` for a directory that was never mirrored to, `EACCES`
/// for who is neither its owner nor root.
pub fn standing(root: &Path) -> io::Result<Standing> {
    let root = Root::open(root)?;
    let state = State::read_only(&root)?;
    let stated = state.last_stated();
    let silence = state.stated_at().map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    Ok(Standing {
        label: state.memory().label,
        lag: stated.and_then(|stated| stated.lag_ms).map(Duration::from_millis),
        paused: stated.is_some_and(|stated| stated.paused),
        silence,
    })
}
