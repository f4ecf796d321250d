//! Whether a host may lead, or have the address, as far as roles say it.

use super::command::{Command, Force, Remedy};
use super::generation::Generation;
use super::hear::superseded_by;
use super::names::HostName;
use super::record::{Role, Tree};

/// Why a host is not fit. keepalived does not ask why a promotion failed, and so whatever refuses one is also what
/// `speil health` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// `.speil/role` is damaged, of a later version, or belongs to a stranger.
    Unreadable,
    /// The tree is a copy of another one.
    Transplanted {
        /// The generation that the copy's record says.
        n: u64,
    },
    /// The tree has joined and was never in step.
    NeverInStep,
    /// The tree is being brought to another generation.
    Adopting {
        /// What it was.
        n: u64,
        /// What it will be.
        of: u64,
        /// Something may have been changed: it is neither this nor that.
        begun: bool,
    },
    /// A younger generation was heard of.
    Superseded {
        /// Who told.
        by: HostName,
        /// That generation.
        theirs: u64,
        /// The tree's.
        n: u64,
        /// The tree is primary.
        primary: bool,
        /// That one follows directly: this tree may have handed over to it, and it may not have begun.
        next: bool,
    },
    /// The host has talked to no other one since it was booted.
    Unconfirmed {
        /// What it holds.
        n: u64,
    },
}

/// Says whether a host is fit. How far a standby is behind is judged elsewhere; so is a tree without a role.
///
/// # Errors
/// Why it is not.
pub fn fitness(tree: Tree<'_>, confirmed: bool) -> Result<(), Unfit> {
    let record = match tree {
        Tree::Plain { .. } => return Ok(()),
        Tree::Unreadable => return Err(Unfit::Unreadable),
        Tree::Transplanted(record) => return Err(Unfit::Transplanted { n: record.n() }),
        Tree::Placed(record) => record,
    };
    let n = record.n();
    if let Some(adoption) = &record.adopting {
        return Err(Unfit::Adopting { n, of: adoption.of.n(), begun: adoption.begun });
    }
    if record.generation.is_none() {
        return Err(Unfit::NeverInStep);
    }
    if let Some(known) = superseded_by(record) {
        let theirs = Generation::n(&known.generation);
        let primary = record.role == Role::Primary;
        let next = known.generation.parent() == record.generation.as_ref().map(Generation::id);
        return Err(Unfit::Superseded { by: known.host.clone(), theirs, n, primary, next });
    }
    if confirmed { Ok(()) } else { Err(Unfit::Unconfirmed { n }) }
}

impl Unfit {
    /// Returns the state in words.
    pub(super) fn state(&self) -> String {
        match self {
            Self::Unreadable => "nobody can read the tree's .speil/role".to_owned(),
            Self::Transplanted { n } => {
                format!(
                    "the tree is a copy of another one (a backup, an image, rsync), made at generation {n}"
                )
            }
            Self::NeverInStep => "the tree has joined and was never in step with a primary".to_owned(),
            Self::Adopting { n, of, begun: true } => format!(
                "the tree is half way from generation {n} to {of}; it goes on when that one's primary is back"
            ),
            Self::Adopting { n, of, begun: false } => {
                format!(
                    "the tree is at generation {n} and waits for the primary of {of}, as `speil rejoin` said"
                )
            }
            Self::Superseded { by, theirs, n, primary: true, .. } => {
                format!("this host led generation {n}, but {by} knows {theirs}; nothing is sent any more")
            }
            Self::Superseded { by, theirs, n, primary: false, .. } => {
                format!(
                    "the tree is at generation {n}, but {by} knows {theirs}; it waits for that one's primary"
                )
            }
            Self::Unconfirmed { n } => {
                format!(
                    "no other host has answered since the boot, and one may know more than generation {n}"
                )
            }
        }
    }

    /// Returns what may be typed, the mildest first.
    pub(super) fn ways(&self) -> Vec<Remedy> {
        let force = Command::Promote(Force::Yes);
        let demote = |does| Remedy(Command::Demote, does);
        match self {
            Self::Unreadable => vec![
                demote("joins the tree anew as a standby; what differs is kept aside"),
                Remedy(force, "makes it the truth as it is, if the others are lost for good"),
            ],
            Self::Transplanted { .. } => vec![
                demote("joins it as a standby; what differs is kept aside"),
                Remedy(force, "makes the copy the truth, if the others are lost for good"),
            ],
            Self::NeverInStep => {
                vec![Remedy(force, "makes it the truth as it is, if the others are lost for good")]
            }
            Self::Adopting { begun: true, .. } => vec![Remedy(
                Command::Promote(Force::Half),
                "makes it primary as it is, if the host that leads is lost for good",
            )],
            Self::Adopting { begun: false, .. } => {
                vec![Remedy(force, "makes it primary as it is, if the host that leads is lost for good")]
            }
            Self::Superseded { primary: true, .. } => vec![
                demote("makes it a standby; what only it holds is kept aside"),
                Remedy(force, "starts a second truth, if that generation is lost for good"),
            ],
            Self::Superseded { by, next: true, .. } => vec![
                Remedy(
                    Command::On(by.clone(), Box::new(Command::Promote(Force::No))),
                    "makes that one primary, if nobody leads yet",
                ),
                Remedy(force, "starts a second truth, if that generation is lost for good"),
            ],
            Self::Superseded { .. } => {
                vec![Remedy(force, "starts a second truth, if that generation is lost for good")]
            }
            Self::Unconfirmed { .. } => {
                vec![Remedy(force, "makes it primary, if the others are down and hold nothing younger")]
            }
        }
    }
}
