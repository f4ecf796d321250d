//! How a standby stands, from what its receiver keeps: without a daemon, and without a connection.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::roles::holds_none;
use super::state::State;
use crate::disk::Root;
use crate::role::{Refusal, Role, Told, Tree, Unfit, fitness};
use crate::role_file::{RoleFile, RoleFileError};

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
    /// What the tree's role says; `None` if it has none.
    pub ranked: Option<Ranked>,
}

/// What a tree's role says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked {
    /// `None` if nobody can read it.
    pub role: Option<Role>,
    /// The number of its generation; 0 if it has none yet.
    pub generation: u64,
    /// Why the host may not lead, nor have the address; `None` if it may.
    pub unfit: Option<Told>,
    /// Whether it is a standby that led last: it holds whatever there is, and what was stated to it before says nothing.
    pub led_last: bool,
    /// Of another primary of the same tree that was met; `None` if there is none.
    pub split: Option<Told>,
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
    let ranked = ranked(&root);
    let led_last = ranked.as_ref().is_some_and(|ranked| ranked.led_last);
    let lag = stated.and_then(|stated| stated.lag_ms).map(Duration::from_millis);
    let silence = state.stated_at().map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    Ok(Standing {
        label: state.memory().label,
        lag: if led_last { Some(Duration::ZERO) } else { lag },
        paused: stated.is_some_and(|stated| stated.paused),
        silence,
        ranked,
    })
}

/// Returns what the role of a tree says of it; `None` if it has none.
pub(super) fn ranked(root: &Root) -> Option<Ranked> {
    if holds_none(root) {
        return None;
    }
    let look = || -> Result<Option<Ranked>, RoleFileError> {
        let Some(file) = RoleFile::open(root)? else { return Ok(None) };
        let (Some(record), place) = (file.read()?, file.place()?) else { return Ok(None) };
        let unfit = fitness(Tree::of(Some(&record), &place, false), file.is_confirmed()).err();
        let unfit = unfit.map(|unfit| Refusal::Unfit(unfit).told());
        let split = file.rivals(&record).first().map(|rival| rival.told(record.n()));
        let split = split.filter(|_| unfit.is_none() && record.role == Role::Primary);
        let led_last = record.role == Role::Standby && record.mine;
        Ok(Some(Ranked { role: Some(record.role), generation: record.n(), led_last, unfit, split }))
    };
    look().unwrap_or_else(|_| {
        let unfit = Some(Refusal::Unfit(Unfit::Unreadable).told());
        Some(Ranked { role: None, generation: 0, led_last: false, unfit, split: None })
    })
}
