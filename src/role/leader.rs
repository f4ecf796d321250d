//! Who leads, where the host that somebody named for `rejoin` does not.

use super::command::{Command, Force, Remedy, Told};
use super::generation::{Generation, Relation};
use super::hear::superseded_by;
use super::names::HostName;
use super::record::{Record, Role};

/// A host that has answered, and what its record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The host.
    pub host: HostName,
    /// Its record.
    pub record: Record,
}

/// Another primary of the same tree, whose generation went another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Its host.
    pub host: HostName,
    /// The number of its generation.
    pub n: u64,
}

/// What another host is to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// It leads another truth, with a generation of this number.
    Rival(u64),
    /// It does not, as far as this tree is concerned.
    None,
}

/// Says whether another host leads a generation of which neither came out of the other, while this one leads.
pub fn rank_of(own: &Record, other: &Record) -> Rank {
    let is_primary = |record: &Record| record.role == Role::Primary;
    match (&own.generation, &other.generation) {
        (Some(held), Some(led))
            if is_primary(own) && is_primary(other) && held.relation(led) == Relation::Neither =>
        {
            Rank::Rival(led.n())
        }
        _ => Rank::None,
    }
}

impl Rival {
    /// Returns what is told on the host that leads `n`: both serve, and only people can say which is the truth.
    pub fn told(&self, n: u64) -> Told {
        let (host, theirs) = (&self.host, self.n);
        let line = format!(
            "{host} is primary too, of generation {theirs}, and neither {theirs} there nor {n} here came out of the \
             other: whatever is written now is on one of them alone"
        );
        let does = "if that one is the truth: brings this tree to it; what only this one holds is kept aside";
        Told { line, ways: vec![Remedy(Command::Rejoin(host.clone()), does)] }
    }
}

/// Who leads instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leader {
    /// This host itself.
    Here {
        /// What it leads.
        n: u64,
        /// What brings the other host to it; `None` if that one follows by itself.
        there: Option<Command>,
    },
    /// A third host.
    Other {
        /// Which one.
        leader: HostName,
        /// What it leads.
        n: u64,
    },
    /// Nobody that has answered; the host that was named led once.
    Superseded {
        /// What it led.
        n: u64,
        /// Who knows a younger one.
        by: HostName,
        /// That one.
        theirs: u64,
    },
    /// Nobody, and every host has answered.
    Nobody,
    /// Nobody that has answered.
    Unknown,
}

impl Answered {
    /// Returns what the host leads.
    pub fn leads(&self) -> Option<&Generation> {
        let leads = self.record.role == Role::Primary && superseded_by(&self.record).is_none();
        self.record.generation.as_ref().filter(|_| leads)
    }
}

impl Leader {
    /// Says who leads, where `named` does not. `own` is what this host says of itself, `all` who has answered;
    /// `everybody`: no other host is left.
    pub fn instead_of(named: &Answered, own: Option<&Answered>, all: &[Answered], everybody: bool) -> Self {
        if let Some((own, led)) = own.and_then(|own| Some((own, own.leads()?))) {
            let holds = named.record.generation.as_ref();
            let apart = holds.is_some_and(|holds| holds.relation(led) == Relation::Neither);
            let there = match named.record.role {
                _ if apart => Some(Command::Rejoin(own.host.clone())),
                Role::Primary => Some(Command::Demote),
                Role::Standby => None,
            };
            return Self::Here { n: led.n(), there };
        }
        if let Some((leader, led)) = all.iter().find_map(|other| Some((other, other.leads()?))) {
            return Self::Other { leader: leader.host.clone(), n: led.n() };
        }
        match superseded_by(&named.record).filter(|_| named.record.role == Role::Primary) {
            Some(known) => {
                Self::Superseded { n: named.record.n(), by: known.host.clone(), theirs: known.generation.n() }
            }
            None if everybody => Self::Nobody,
            None => Self::Unknown,
        }
    }

    /// Returns the state in words.
    pub(super) fn state(&self, host: &HostName) -> String {
        match self {
            Self::Here { n, there: None } => {
                format!("this host itself leads generation {n}, and {host} follows it: nothing need be typed")
            }
            Self::Here { n, there: Some(_) } => {
                format!("this host itself leads generation {n}, so nothing is brought here from {host}")
            }
            Self::Other { leader, n } => format!("{host} leads nothing; {leader} leads generation {n}"),
            Self::Superseded { n, by, theirs } => {
                format!(
                    "{host} led generation {n}, but {by} knows {theirs}; name the host that leads that one"
                )
            }
            Self::Nobody => format!("{host} is no primary, and no other host is one"),
            Self::Unknown => format!("{host} is no primary; start the host that leads, and name that one"),
        }
    }

    /// Returns what may be typed.
    pub(super) fn ways(&self, host: &HostName) -> Vec<Remedy> {
        let on = |command, does| Remedy(Command::On(host.clone(), Box::new(command)), does);
        match self {
            Self::Here { there, .. } => {
                there.iter().map(|command| on(command.clone(), "brings that tree to this one")).collect()
            }
            Self::Other { leader, .. } => {
                vec![Remedy(Command::Rejoin(leader.clone()), "brings this tree to that one")]
            }
            Self::Superseded { .. } => vec![on(Command::Demote, "makes that one a standby")],
            Self::Nobody => vec![on(Command::Promote(Force::No), "makes it one, if it holds the truth")],
            Self::Unknown => vec![],
        }
    }
}
