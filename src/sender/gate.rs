//! Whether a source may be read yet.
//!
//! **Purpose:** connections are made, and targets walked, while the source is not watched yet; nothing of
//! the source itself is read before, since what changes between a read and the watch is heard by nobody.

use std::sync::{Condvar, Mutex, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Shut,
    Open,
    /// It will not open.
    Barred,
}

/// A gate before a source.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    /// Returns a gate that is shut until somebody opens it.
    pub fn shut() -> Self {
        Self { state: Mutex::new(State::Shut), changed: Condvar::new() }
    }

    /// Returns a gate that stands open: nobody watches.
    pub fn standing_open() -> Self {
        Self { state: Mutex::new(State::Open), changed: Condvar::new() }
    }

    /// Lets everybody pass. Sessions that do not wait here are to be woken.
    pub fn open(&self) {
        self.turn(State::Open);
    }

    /// Sends everybody away who waits; nothing happens to a gate that was opened.
    pub fn bar(&self) {
        self.turn(State::Barred);
    }

    fn turn(&self, to: State) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == State::Shut {
            *state = to;
        }
        self.changed.notify_all();
    }

    /// Whether the source may be read.
    pub fn is_open(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Open
    }

    /// Waits until the gate is opened; `false` if it will not be.
    pub fn pass(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let shut = |state: &mut State| *state == State::Shut;
        *self.changed.wait_while(state, shut).unwrap_or_else(PoisonError::into_inner) == State::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_passes_when_the_gate_opens_and_goes_when_it_is_barred() {
        for opens in [true, false] {
            let gate = Gate::shut();
            let passed = std::thread::scope(|scope| {
                let waiting = scope.spawn(|| gate.pass());
                assert!(!gate.is_open());
                if opens {
                    gate.open()
                } else {
                    gate.bar()
                }
                waiting.join().unwrap()
            });
            assert_eq!((passed, gate.is_open()), (opens, opens));
            gate.bar();
            assert_eq!(gate.is_open(), opens);
        }
    }
}
