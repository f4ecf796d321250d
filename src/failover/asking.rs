//! Asking the primary that sends to a tree to hand over, before the tree is promoted.
//!
//! **Invariants:** nothing here changes a role but for the identity of the coming generation, which is on the disk
//! before anybody is told of it; whatever becomes of the question, the promotion may go on or be typed again.

use std::time::{Duration, Instant};

use super::{FailoverError, Tending, fresh};
use crate::disk::is_locked;
use crate::monitor::time_left;
use crate::receiver::{is_live, wake};
use crate::role::{HostName, Record, Role, prepare};
use crate::role_file::{AsksHandOver, Handed, RoleFile, Turn};

/// A primary that says nothing for so long is not waited for.
const SILENCE: Duration = Duration::from_secs(1);
/// So much longer than the primary may take is waited for its last word.
const LAST_WORD: Duration = Duration::from_millis(700);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// How a promotion asks.
#[derive(Clone, Copy)]
pub struct Asks<'a> {
    /// How long the primary has for what is left. Zero: it is not asked.
    pub limit: Duration,
    /// The tree is not promoted where it does not hand over.
    pub insists: bool,
    /// What is to be verified need not be.
    pub leaves_doubts: bool,
    /// Told what is under way.
    pub tell: &'a dyn Fn(&Progress),
}

/// What is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// So many files, and bytes, the primary verifies first, and that takes about so long, once that can be said.
    Verifies(HostName, (u64, u64), Option<Duration>),
    /// It has handed over.
    Handed(HostName),
    /// It has not, and the tree is promoted all the same.
    GoesOn(Unhanded),
}

/// Why a primary did not hand over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unhanded {
    /// Why, in one line.
    pub line: String,
    /// What may be typed for it; empty if nothing.
    pub hint: String,
    /// It may do so yet: its last word was not heard.
    pub unsure: bool,
}

impl Asks<'_> {
    /// Returns a promotion that asks nobody.
    pub const NOBODY: Asks<'static> =
        Asks { limit: Duration::ZERO, insists: false, leaves_doubts: false, tell: &|_| {} };
}

impl Tending {
    /// Asks the primary that sends to the tree to hand over, if one does, and waits for it.
    ///
    /// # Errors
    /// [`FailoverError::Unhanded`] if it does not, and the promotion insists.
    pub(super) fn ask(&self, file: &RoleFile, turn: &Turn, asks: &Asks<'_>) -> Result<(), FailoverError> {
        if asks.limit.is_zero() || !is_live(&self.root) {
            return Ok(());
        }
        let fresh = fresh()?;
        let may =
            |old: &Record| old.role == Role::Standby && old.adopting.is_none() && old.generation.is_some();
        let prepared =
            file.update(|old| old.ok()?.filter(|old| may(old)).and_then(|old| prepare(old, fresh)))?;
        if !prepared.as_ref().is_some_and(may) {
            return Ok(());
        }
        let asked =
            AsksHandOver { ticket: turn.ticket(), limit: asks.limit, leaves_doubts: asks.leaves_doubts };
        file.forget_hand_over();
        file.ask_hand_over(&asked)?;
        wake(&self.root);
        let handed = self.wait_for(file, turn, asks);
        file.forget_hand_over();
        match handed {
            Some(Ok(host)) => (asks.tell)(&Progress::Handed(host)),
            Some(Err(unhanded)) if asks.insists => return Err(FailoverError::Unhanded(unhanded)),
            Some(Err(unhanded)) => (asks.tell)(&Progress::GoesOn(unhanded)),
            None => {}
        }
        Ok(())
    }

    /// Waits for what becomes of it; `None` if another verb was typed meanwhile.
    fn wait_for(&self, file: &RoleFile, turn: &Turn, asks: &Asks<'_>) -> Option<Result<HostName, Unhanded>> {
        let ticket = turn.ticket();
        let began = Instant::now();
        let (mut told, mut first) = (None, None);
        let no = |line: String, hint: String, unsure| Some(Err(Unhanded { line, hint, unsure }));
        loop {
            // In this order: the agent writes the last word before it leaves.
            let leaves = !is_locked(&self.root);
            let handed = file.handed(ticket);
            let answered = matches!(handed, Some(Handed::Under(..)));
            let who = match &handed {
                Some(Handed::Asked(host) | Handed::Under(host, ..)) => host.to_string(),
                _ => "the primary".to_owned(),
            };
            match handed {
                Some(Handed::Done(host)) => return Some(Ok(host)),
                Some(Handed::Refused(_, line, hint)) => return no(line, hint, false),
                Some(Handed::Under(host, files, bytes)) if told != Some((files, bytes)) => {
                    told = Some((files, bytes));
                    if files > 0 {
                        let (all, at) = *first.get_or_insert((bytes, Instant::now()));
                        let about = time_left(all, bytes, at.elapsed());
                        (asks.tell)(&Progress::Verifies(host, (files, bytes), about));
                    }
                }
                _ => {}
            }
            let waited = began.elapsed();
            if leaves {
                return no(format!("the connection from {who} has ended"), String::new(), answered);
            }
            if !answered && waited >= SILENCE.min(asks.limit) {
                return no(format!("{who} does not answer"), String::new(), true);
            }
            if waited >= asks.limit + LAST_WORD {
                return no(format!("{who} says nothing more"), String::new(), true);
            }
            if file.is_overtaken(turn).unwrap_or(false) {
                return None;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
