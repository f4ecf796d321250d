//! `promote`, `demote` and `rejoin` of one tree, step by step.
//!
//! **Purpose:** whoever types a verb gets the new role or the old one, whatever ends the process or the host between
//! two steps; typed again, the verb goes on. **In → Out:** a tree's directory, what is known of the other hosts; what
//! was done, or a refusal that says what to type.
//! **Invariants:** the one commit point is the rename of `.speil/role`; no session changes the tree while it is
//! promoted; a verb that was typed later is never undone by an earlier one.
//! **Not here:** the rules (`role`), the files (`role_file`), asking the other hosts (`sender`).

mod asking;

pub use asking::{Asks, Progress, Unhanded};

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::disk::Root;
use crate::error::io_text;
use crate::receiver::seize;
use crate::role::{
    self, Around, Demotion, Force, Generation, HostName, Id, Leader, Promotion, Record, Refusal, Rejoined,
    Role, Told, Tree, Verb,
};
use crate::role_file::{RoleFile, RoleFileError, Turn, TurnError};

/// How long another verb on the same tree is waited for.
const TURN_WAIT: Duration = Duration::from_secs(30);
/// How long a session is waited for that has to leave.
const SESSION_WAIT: Duration = Duration::from_secs(10);

/// Why a verb was not carried out. The old role holds.
#[derive(Debug, thiserror::Error)]
pub enum FailoverError {
    /// The rules forbid it.
    #[error("{}", .0.line)]
    Refused(Told),
    /// The tree's directory cannot be used.
    #[error("{operation}: {}", io_text(.error))]
    Root {
        /// What was done.
        operation: &'static str,
        /// What the system says. Not the source of this error: its text is in the message.
        error: io::Error,
    },
    /// The role cannot be read or written.
    #[error("{0}")]
    File(#[from] RoleFileError),
    /// Somebody works on the tree and does not leave.
    #[error("{0}")]
    Busy(&'static str),
    /// The primary did not hand over.
    #[error("{}", .0.line)]
    Unhanded(Unhanded),
}

/// What a verb did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Nothing: it was so.
    Already,
    /// Nothing: another verb was typed after it.
    Overtaken,
    /// The tree is primary of its own generation again.
    Kept,
    /// The tree is primary of a new generation.
    Made,
    /// A primary became a standby.
    Stepped,
    /// A tree joined as a standby.
    Joined,
    /// A tree waits for the primary that was chosen.
    Chosen,
}

/// How a tree is after a verb, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was done.
    pub done: Done,
    /// The tree's role.
    pub role: Option<Role>,
    /// What it holds.
    pub generation: Option<Generation>,
}

impl Outcome {
    fn of(done: Done, record: Option<&Record>) -> Self {
        let role = record.map(|record| record.role);
        Self { done, role, generation: record.and_then(|record| record.generation.clone()) }
    }
}

/// A tree on this host whose role is asked for or changed.
#[derive(Debug)]
pub struct Tending {
    root: Root,
}

impl Tending {
    /// Opens a tree.
    ///
    /// # Errors
    /// [`FailoverError::Root`].
    pub fn of(path: &Path) -> Result<Self, FailoverError> {
        let root = Root::open(path).map_err(|error| FailoverError::Root { operation: "open", error })?;
        Ok(Self { root })
    }

    /// Returns the record; `None` if the tree has no role.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn record(&self) -> Result<Option<Record>, FailoverError> {
        Ok(match RoleFile::open(&self.root)? {
            Some(file) => file.read()?,
            None => None,
        })
    }

    /// Whether another host has answered since the boot.
    pub fn is_confirmed(&self) -> bool {
        RoleFile::open(&self.root).is_ok_and(|file| file.is_some_and(|file| file.is_confirmed()))
    }

    /// Says what a promotion would do, and changes nothing.
    ///
    /// # Errors
    /// As [`promote`](Self::promote).
    pub fn plan_promotion(&self, around: &Around, force: Force) -> Result<Outcome, FailoverError> {
        let opened = RoleFile::open(&self.root);
        let read = match &opened {
            Ok(Some(file)) => file.read(),
            Ok(None) => Ok(None),
            Err(_) => return Err(refused(Refusal::Unfit(role::Unfit::Unreadable))),
        };
        let place = match opened.ok().flatten() {
            Some(file) => file.place()?,
            // It would be made.
            None => role::TreeId { machine: Id::from_bytes([0; 16]), inode: 0, born: None },
        };
        let tree = tree(&read, &place);
        let decided = role::promote(tree, &place, around, force, fresh()?).map_err(refused)?;
        Ok(promoted(&decided, tree.record()))
    }

    /// Makes the tree primary; a primary that sends to it is asked to hand over first.
    ///
    /// # Errors
    /// [`FailoverError`]; the old role holds.
    pub fn promote(&self, around: &Around, force: Force, asks: &Asks<'_>) -> Result<Outcome, FailoverError> {
        self.plan_promotion(around, force)?;
        let file = RoleFile::make(&self.root)?;
        let turn = take_turn(&file, Verb::Promote)?;
        let joins = matches!(file.read(), Ok(None));
        let asked = self.ask(&file, &turn, asks);
        let done = asked.and_then(|()| self.promote_in_turn(&file, &turn, around, force));
        file.end_turn(turn)?;
        let is_primary = matches!(&done, Ok(outcome) if outcome.role == Some(Role::Primary));
        // Whoever forces answers for the others, also where the tree is primary already; and a tree without a role is
        // promoted only after every other host has answered that it has none. Unwritten, `health` says so.
        if is_primary && (joins || force != Force::No) {
            let _ = file.confirm();
        }
        done
    }

    fn promote_in_turn(
        &self,
        file: &RoleFile,
        turn: &Turn,
        around: &Around,
        force: Force,
    ) -> Result<Outcome, FailoverError> {
        let place = file.place()?;
        // A primary that is one already loses no session: there is none.
        let read = file.read();
        if tree(&read, &place).leads().is_some() {
            return Ok(Outcome::of(Done::Already, read.ok().flatten().as_ref()));
        }
        let seized = seize(&self.root, SESSION_WAIT).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                FailoverError::Busy("a session that changes the tree does not leave, for 10 s")
            }
            _ => FailoverError::Root { operation: "send the session away that changes the tree", error },
        })?;
        if file.is_overtaken(turn)? {
            return Ok(Outcome::of(Done::Overtaken, file.read()?.as_ref()));
        }
        // The commit point; decided anew, for what the record says now.
        let (mut decided, fresh) = (None, fresh()?);
        let written = file.update(|old| {
            let old = old.map(Option::<&Record>::cloned).map_err(drop);
            let tree = tree(&old, &place);
            let promotion = role::promote(tree, &place, around, force, fresh);
            let new = match &promotion {
                Ok(Promotion::Keeps(record) | Promotion::Makes(record)) => Some(record.clone()),
                _ => None,
            };
            decided = Some(promotion.map(|promotion| promoted(&promotion, tree.record())));
            new
        });
        drop(seized);
        match decided {
            Some(Err(refusal)) => Err(refused(refusal)),
            Some(Ok(outcome)) => written.map(|_| outcome).map_err(FailoverError::from),
            None => Err(written
                .err()
                .map_or_else(|| FailoverError::Busy("nothing was decided"), FailoverError::from)),
        }
    }

    /// Chooses the generation that another host leads for a tree whose history went another way; with `plan` says only
    /// whether it could be. `led` is what that host leads, or who does.
    ///
    /// # Errors
    /// [`FailoverError`]; the old role holds.
    pub fn rejoin(
        &self,
        host: &HostName,
        led: Result<&Generation, Leader>,
        plan: bool,
    ) -> Result<Outcome, FailoverError> {
        let Some(file) = RoleFile::open(&self.root)? else { return Err(refused(Refusal::NotJoined)) };
        let place = file.place()?;
        let decide = |read: &Result<Option<Record>, ()>| {
            let chosen = role::rejoin(tree(read, &place), host, led.clone(), None)?;
            Ok(match chosen {
                Rejoined::Already => None,
                Rejoined::Chosen(record) => Some(record),
            })
        };
        if plan {
            let read = file.read().map_err(drop);
            let chosen = decide(&read).map_err(refused)?;
            let done = if chosen.is_some() { Done::Chosen } else { Done::Already };
            return Ok(Outcome::of(done, chosen.as_ref().or(read.ok().flatten().as_ref())));
        }
        // As a demotion, it is undone by a promotion that is typed later, and by nothing earlier.
        let turn = take_turn(&file, Verb::Demote)?;
        if file.is_overtaken(&turn)? {
            return Ok(Outcome::of(Done::Overtaken, file.read()?.as_ref()));
        }
        let mut decided: Result<bool, Refusal> = Ok(false);
        let written = file.update(|old| {
            let old = old.map(Option::<&Record>::cloned).map_err(drop);
            match decide(&old) {
                Ok(new) => {
                    decided = Ok(new.is_some());
                    new
                }
                Err(refusal) => {
                    decided = Err(refusal);
                    None
                }
            }
        });
        file.end_turn(turn)?;
        let chosen = decided.map_err(refused)?;
        Ok(Outcome::of(if chosen { Done::Chosen } else { Done::Already }, written?.as_ref()))
    }

    /// Says what `demote` would do, and changes nothing.
    ///
    /// # Errors
    /// [`FailoverError`].
    pub fn plan_demotion(&self) -> Result<Outcome, FailoverError> {
        let Some(file) = RoleFile::open(&self.root)? else {
            return Ok(Outcome { done: Done::Joined, role: Some(Role::Standby), generation: None });
        };
        let (place, read) = (file.place()?, file.read());
        let tree = tree(&read, &place);
        Ok(demoted(&role::demote(tree, &place), tree.record()))
    }

    /// Makes the tree a standby.
    ///
    /// # Errors
    /// [`FailoverError`]; the old role holds.
    pub fn demote(&self) -> Result<Outcome, FailoverError> {
        let file = RoleFile::make(&self.root)?;
        let turn = take_turn(&file, Verb::Demote)?;
        let done = Self::demote_in_turn(&file, &turn);
        if matches!(&done, Ok(Outcome { done: Done::Joined, .. })) {
            // A session that began when the tree had no role, or nobody could read it, begins anew under the rules.
            let _ = seize(&self.root, SESSION_WAIT);
        }
        file.end_turn(turn)?;
        done
    }

    fn demote_in_turn(file: &RoleFile, turn: &Turn) -> Result<Outcome, FailoverError> {
        if file.is_overtaken(turn)? {
            return Ok(Outcome::of(Done::Overtaken, file.read()?.as_ref()));
        }
        let place = file.place()?;
        let mut outcome = None;
        let written = file.update(|old| {
            let old = old.map(Option::<&Record>::cloned).map_err(drop);
            let tree = tree(&old, &place);
            let demotion = role::demote(tree, &place);
            outcome = Some(demoted(&demotion, tree.record()));
            match demotion {
                Demotion::Already => None,
                Demotion::Steps(record) | Demotion::Joins(record) => Some(record),
            }
        });
        match (written, outcome) {
            (Ok(_), Some(outcome)) => Ok(outcome),
            (Err(error), _) => Err(error.into()),
            (Ok(_), None) => Err(FailoverError::Busy("nothing was decided")),
        }
    }
}

fn take_turn(file: &RoleFile, verb: Verb) -> Result<Turn, FailoverError> {
    file.take_turn(verb, TURN_WAIT).map_err(|error| match error {
        TurnError::File(error) => error.into(),
        TurnError::Busy => {
            FailoverError::Busy("another `speil promote` or `speil demote` is at work on the tree, for 30 s")
        }
    })
}

fn tree<'a, E>(read: &'a Result<Option<Record>, E>, place: &role::TreeId) -> Tree<'a> {
    match read {
        Ok(record) => Tree::of(record.as_ref(), place, false),
        Err(_) => Tree::Unreadable,
    }
}

fn promoted(promotion: &Promotion, old: Option<&Record>) -> Outcome {
    match promotion {
        Promotion::Already => Outcome::of(Done::Already, old),
        Promotion::Keeps(record) => Outcome::of(Done::Kept, Some(record)),
        Promotion::Makes(record) => Outcome::of(Done::Made, Some(record)),
    }
}

fn demoted(demotion: &Demotion, old: Option<&Record>) -> Outcome {
    match demotion {
        Demotion::Already => Outcome::of(Done::Already, old),
        Demotion::Steps(record) => Outcome::of(Done::Stepped, Some(record)),
        Demotion::Joins(record) => Outcome::of(Done::Joined, Some(record)),
    }
}

fn refused(refusal: Refusal) -> FailoverError {
    FailoverError::Refused(refusal.told())
}

/// Returns the identity of a generation that may be made.
fn fresh() -> Result<Id, FailoverError> {
    let mut bytes = [0; 16];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => Ok(Id::from_bytes(bytes)),
        Err(error) => {
            Err(FailoverError::Root { operation: "ask the kernel for random numbers", error: error.into() })
        }
    }
}
