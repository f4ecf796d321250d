//! Taking a root from whatever session works on it, for who changes its role.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::state::State;
use crate::disk::{Root, is_locked};

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

/// A session that states nothing for so long has no primary that could hand over. One that is quiet states every 3 s.
const SILENT: Duration = Duration::from_millis(3800);

/// Whether a session works on a root whose sender has shown life just now.
pub fn is_live(root: &Root) -> bool {
    let Ok(state) = State::of_sessions(root) else { return false };
    let fresh = || {
        let at = State::read_only(root).ok()?.stated_at()?;
        // A clock that went back says nothing.
        Some(SystemTime::now().duration_since(at).is_ok_and(|silence| silence < SILENT))
    };
    state.holder().is_some() && is_locked(root) && fresh() == Some(true)
}

/// Has the session that works on a root look at its state directory.
pub fn wake(root: &Root) {
    if let Ok(state) = State::of_sessions(root) {
        state.knock();
    }
}

impl Drop for Seized<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}
