//! Two daemons that want the same root.
//!
//! **Purpose:** a session of another daemon is refused while the present one shows life, and takes its place
//! when it does not. **In → Out:** a root, its state and where the new session comes from; who is to leave,
//! or a refusal that names who stays. **Invariants:** no two clocks are compared: the newcomer waits and looks
//! whether the present session's statement is renewed meanwhile.

use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::state::State;
use crate::disk::Root;
use crate::protocol::{Holder, Origin, Refusal};

/// A session that states nothing for so long may be sent away by another daemon.
const SILENCE: Duration = Duration::from_secs(5);
/// How often is looked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Returns the session of another daemon that the new one sends away; `None` if there is none.
///
/// # Errors
/// [`Refusal::Busy`] if another daemon's session is at work and shows life.
pub(super) fn sends_away(root: &Root, state: &State, origin: &Origin) -> Result<Option<Holder>, Refusal> {
    // A daemon that has lost its connection finds its own session, which may not have noticed.
    let Some(present) = state.holder().filter(|present| present.start != origin.start) else {
        return Ok(None);
    };
    let (stated, until) = (state.stated_stamp(), Instant::now() + SILENCE);
    loop {
        match rustix::fs::flock(root, FlockOperation::NonBlockingLockExclusive) {
            // It has gone by itself. The lock is kept: nobody else comes between.
            Ok(()) => return Ok(None),
            Err(Errno::WOULDBLOCK) if state.stated_stamp() != stated => {
                return Err(Refusal::Busy { holder: present.who });
            }
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            // The lock itself says what is wrong with it.
            Err(_) => return Ok(Some(present)),
        }
    }
}
