//! Taking a root from whatever session works on it, for who changes its role.

use std::io;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::state::State;
use crate::disk::Root;

/// How often is looked whether the session has left.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A root on which no agent works, as long as this is held.
#[derive(Debug)]
pub struct Seized<'a>(&'a Root);

/// Sends away the session that works on a root, and waits at most `limit` until it has left. A root to which nobody has
/// ever mirrored is only locked.
///
/// # Errors
/// What the system says; `WouldBlock` if the session does not leave.
pub fn seize(root: &Root, limit: Duration) -> io::Result<Seized<'_>> {
    match State::of_sessions(root) {
        Ok(mut state) => state.evict()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let until = Instant::now() + limit;
    loop {
        match rustix::fs::flock(root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Seized(root)),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Drop for Seized<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}
