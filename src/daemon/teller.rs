//! What the sender at the far end of a pull has to say, on its way to the side that pulls.
//!
//! **In → Out:** what a monitor hears; words on the [`Wire`]. **Invariants:** whoever speaks never waits for the
//! connection. **Not here:** how it is put on the other side (`hearsay`).

use std::sync::{Arc, Mutex, PoisonError};

use super::far::Wire;
use crate::monitor::{Arrived, Itemized, Monitor, Notice, Progress, Scope};
use crate::protocol::{Arrival, PullOrder, Word};

/// Has what the sender says told on the other side.
pub(super) struct Teller {
    wire: Arc<Wire>,
    /// What is sent is told, and what is not.
    itemizes: (bool, bool),
    /// It is a live mirror, whose course is told; and what arrives as well.
    live: (bool, bool),
    detail: fn(&Notice) -> Option<String>,
    /// What was told last of how far it is.
    last: Mutex<Option<Progress>>,
}

impl Teller {
    /// Tells what an order asks for.
    pub fn new(order: &PullOrder, wire: Arc<Wire>, detail: fn(&Notice) -> Option<String>) -> Self {
        Self {
            wire,
            itemizes: (order.itemizes, order.itemizes_same),
            live: (order.live.is_some(), order.live.as_ref().is_some_and(|live| live.arrivals)),
            detail,
            last: Mutex::default(),
        }
    }

    /// Returns what only a live mirror has told.
    fn course(&self, notice: &Notice) -> Option<Word> {
        if !self.live.0 {
            return None;
        }
        Some(match notice {
            Notice::Connected { program, lacks, confined } => {
                Word::Connected(program.clone(), lacks.clone(), (*confined).to_owned())
            }
            Notice::Live => Word::Live,
            Notice::PassBegan { top, reason } => Word::PassBegan(top.clone(), *reason),
            Notice::PassDone { top, reason, summary } => {
                Word::PassDone(top.clone(), *reason, summary.clone())
            }
            Notice::Kept { count } => Word::Kept(*count),
            Notice::SetAside { path } => Word::SetAside(path.clone()),
            Notice::Rescan { path, reason } => Word::Rescan(path.clone(), *reason),
            Notice::Batch { batch, changes } => Word::Batch(*batch, *changes),
            Notice::Paused { on } => Word::Paused(*on),
            Notice::Message { text } => Word::Message(text.clone()),
            Notice::Detail { text } => Word::Detail(text.clone()),
            _ => return None,
        })
    }
}

impl Monitor for Teller {
    fn notice(&self, _: &Scope, notice: &Notice) {
        let word = match notice {
            Notice::Problem { path, operation, errno, on_target } => Word::Problem {
                path: path.clone(),
                operation: operation.clone(),
                errno: *errno,
                on_target: *on_target,
            },
            Notice::Held { count, reason, first } => {
                Word::Held { count: *count, reason: reason.clone(), first: first.clone() }
            }
            Notice::Stays { path } => Word::Stays(path.clone()),
            Notice::Warning { text, hint } => Word::Warning { text: text.clone(), hint: hint.clone() },
            other => match self.course(other).or_else(|| (self.detail)(other).map(Word::Detail)) {
                Some(word) => word,
                None => return,
            },
        };
        self.wire.tell(word);
    }

    fn arrived(&self, _: &Scope, changes: &[Arrived<'_>]) {
        if !self.live.1 || changes.is_empty() {
            return;
        }
        let arrivals = changes.iter().map(|change| Arrival {
            what: change.what.to_owned(),
            path: change.path.clone(),
            from: change.from.cloned(),
            took_ms: change.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        });
        let arrivals: Vec<Arrival> = arrivals.collect();
        // A word fits into a frame.
        arrivals.chunks(ARRIVALS_MAX).for_each(|some| self.wire.tell(Word::Arrived(some.to_vec())));
    }

    fn itemized(&self, _: &Scope, entry: &Itemized) {
        self.wire.tell(Word::Itemized(entry.clone()));
    }

    fn itemizes(&self) -> bool {
        self.itemizes.0
    }

    fn itemizes_same(&self) -> bool {
        self.itemizes.1
    }

    fn progress(&self, _: &Scope, progress: &Progress) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() != Some(progress) {
            *last = Some(progress.clone());
            self.wire.tell(Word::Progress(progress.clone()));
        }
    }
}

/// Arrivals in one word: two paths of 4 KiB each.
const ARRIVALS_MAX: usize = 100;
