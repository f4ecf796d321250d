//! What a target's sessions, one after the other, know of the source's names and of where the target is.
//!
//! **Invariant:** all of it but the target's filesystem is of the source alone, so it holds whatever becomes of a
//! connection. The next
//! session needs it for changes that the one before had begun to follow: the pass that it begins with
//! compares stamps, and sees no edit that kept size and time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::names::Names;
use super::owners::Seeking;
use crate::event::Age;
use crate::protocol::{Settled, Volume};
use crate::role::Id;

/// What is known of the source's names.
#[derive(Debug)]
pub struct Known {
    /// When this daemon began with the target: whoever waits for anything asked later.
    begun: Instant,
    links: Mutex<Names>,
    sought: Mutex<Seeking>,
    volume: Mutex<Option<Before>>,
    settled: Mutex<Option<Settled>>,
    /// The generation with which the target has written that it is in step.
    in_step: Mutex<Option<Id>>,
}

/// Where a target was.
#[derive(Debug, Clone)]
pub struct Before {
    /// The filesystem of its directory.
    pub volume: Volume,
    /// A daemon before this one has noted it; no session of this one was there yet.
    pub noted: bool,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            links: Mutex::default(),
            sought: Mutex::default(),
            volume: Mutex::default(),
            settled: Mutex::default(),
            in_step: Mutex::default(),
        }
    }
}

impl Known {
    /// Returns the age of what may have been changed before this daemon began.
    pub(super) fn before_all(&self) -> Age {
        Age::unknown(self.begun)
    }

    /// Returns the names of files that have several, as far as passes and changes have shown them.
    pub(super) fn links(&self) -> MutexGuard<'_, Names> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves to the next session which files were still to be found under all their names, and read.
    pub(super) fn leave_sought(&self, ids: Seeking) {
        self.sought.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }

    /// Returns what filesystem the target was on before.
    pub fn before(&self) -> Option<Before> {
        self.volume.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what filesystem the target was on.
    pub fn was_on(&self, before: Before) {
        *self.volume.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    }

    /// Forgets what filesystem the target was on: whatever is under its path next is entered.
    pub fn forget_volume(&self) {
        *self.volume.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns what the target has told of the time before this daemon, until a comparison of everything went by it.
    pub(super) fn settled(&self) -> Settled {
        let settled = *self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.unwrap_or(Settled::Unknown)
    }

    /// Takes in what the target tells of the time before this daemon: the first answer counts.
    pub(super) fn is_settled(&self, told: impl FnOnce() -> Settled) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(told);
    }

    /// Takes in that everything was compared by that.
    pub(super) fn was_settled(&self) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(Settled::Unknown);
    }

    /// Takes in with which generation the target has written that it is in step; `None`: with none.
    pub(super) fn is_in_step(&self, generation: Option<Id>) {
        *self.in_step.lock().unwrap_or_else(PoisonError::into_inner) = generation;
    }

    /// Whether the target has written that it is in step with a generation.
    pub fn follows(&self, generation: Id) -> bool {
        *self.in_step.lock().unwrap_or_else(PoisonError::into_inner) == Some(generation)
    }

    /// Takes what the session before has left.
    pub(super) fn take_sought(&self) -> Seeking {
        std::mem::take(&mut *self.sought.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
