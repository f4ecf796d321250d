//! Why something is refused, and what to type on this host, for somebody who was woken at three.

use std::fmt;

use super::command::{Answer, Command, Force, Remedy, Told};
use super::fitness::Unfit;
use super::leader::Leader;
use super::names::HostName;

/// Why a session or a verb is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The state of the tree or its host.
    Unfit(Unfit),
    /// A tree without a role is not filled by a primary: it may be the mount point of a volume that is missing.
    NotJoined,
    /// The sender, or the host that was named, belongs to other hosts.
    OtherGroup {
        /// That one.
        host: HostName,
    },
    /// The sender has no role, and the tree has one.
    NoGeneration {
        /// The tree is primary.
        primary: bool,
        /// Its generation.
        n: u64,
    },
    /// Two hosts lead one generation.
    Twin {
        /// The other one.
        host: HostName,
        /// The generation.
        n: u64,
    },
    /// The sender's generation is in the history of what this host holds or knows.
    SenderSuperseded {
        /// The sender.
        host: HostName,
        /// Its generation.
        theirs: u64,
        /// What this host holds or knows.
        n: u64,
    },
    /// Neither generation is in the other's history.
    Diverged {
        /// The other host.
        host: HostName,
        /// Its generation.
        theirs: u64,
        /// This host's.
        n: u64,
        /// This host is primary.
        primary: bool,
    },
    /// `promote` of a tree without a role: other hosts have one, or do not answer.
    OthersFirst {
        /// Which ones.
        others: Vec<(HostName, Answer)>,
    },
    /// `promote` of a tree without a role: no configuration names the others.
    NobodyToAsk,
    /// `promote`: the configuration says `mayLead = false` of this host.
    MayNotLead(Barred),
    /// `HandOver` to a host that leads nothing.
    LeadsNothing,
    /// `rejoin`: that host is no primary.
    NoPrimary {
        /// Which one.
        host: HostName,
        /// Who leads.
        who: Leader,
    },
    /// `rejoin`: what that host leads is in this tree's history.
    Older {
        /// That host.
        host: HostName,
        /// Its generation.
        theirs: u64,
        /// This host's.
        n: u64,
    },
    /// `rejoin`: a younger generation than the one which that host leads is known.
    LedIsSuperseded {
        /// That host.
        host: HostName,
        /// What it leads.
        n: u64,
        /// Who knows the younger one.
        by: HostName,
        /// That one.
        theirs: u64,
    },
}

/// A host that may not lead, and who may.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Barred {
    /// Its key in the configuration.
    pub entry: HostName,
    /// The hosts that may.
    pub others: Vec<HostName>,
}

const ASIDE: &str = "makes it a standby; what only it holds is kept aside";

impl Refusal {
    /// Returns what is told on the host whose tree it is about.
    pub fn told(&self) -> Told {
        Told { line: self.to_string(), ways: self.ways() }
    }

    fn ways(&self) -> Vec<Remedy> {
        let on = |host: &HostName, command, does| Remedy(Command::On(host.clone(), Box::new(command)), does);
        let truth = "makes the tree the truth as it is, if the others hold nothing that counts";
        match self {
            Self::Unfit(unfit) => unfit.ways(),
            Self::NotJoined => {
                vec![Remedy(
                    Command::Demote,
                    "joins it as a standby, once; first look whether it is the right tree",
                )]
            }
            Self::Twin { host, .. } => {
                vec![Remedy(Command::Demote, ASIDE), on(host, Command::Demote, "does the same there")]
            }
            Self::SenderSuperseded { host, .. } => vec![on(host, Command::Demote, ASIDE)],
            Self::Diverged { host, .. } => vec![Remedy(
                Command::Rejoin(host.clone()),
                "brings this tree to that one; what only it holds is kept aside",
            )],
            Self::OthersFirst { .. } | Self::NobodyToAsk => vec![
                Remedy(Command::Demote, "joins the tree as a standby"),
                Remedy(Command::Promote(Force::Yes), truth),
            ],
            Self::Older { host, .. } | Self::LedIsSuperseded { host, .. } => vec![
                on(host, Command::Demote, ASIDE),
                on(
                    host,
                    Command::Promote(Force::Yes),
                    "makes it a truth of its own, which `speil rejoin` here then takes",
                ),
            ],
            Self::NoPrimary { host, who } => who.ways(host),
            Self::MayNotLead(barred) => {
                let promote = |host| on(host, Command::Promote(Force::No), "makes that one primary");
                barred.others.iter().map(promote).collect()
            }
            Self::OtherGroup { .. } | Self::NoGeneration { .. } | Self::LeadsNothing => {
                vec![]
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfit(unfit) => f.write_str(&unfit.state()),
            Self::NotJoined => write!(f, "the tree has no role: it is new, or its volume is not mounted"),
            Self::OtherGroup { host } => write!(f, "{host} belongs to other hosts than this tree"),
            Self::NoGeneration { primary: true, n } => {
                write!(f, "the tree is primary of generation {n} and takes changes from nobody")
            }
            Self::NoGeneration { primary: false, n } => {
                write!(f, "the tree is a standby at generation {n} and takes changes from its primary alone")
            }
            Self::Twin { host, n } => {
                write!(
                    f,
                    "{host} and this host are both primary of generation {n}: one is a copy of the other"
                )
            }
            Self::SenderSuperseded { host, theirs, n } => {
                write!(f, "{host} leads generation {theirs}, but {n} is known here, which came after it")
            }
            Self::Diverged { host, theirs, n, primary } => {
                let is = if *primary { "leads" } else { "is at" };
                write!(
                    f,
                    "{host} leads generation {theirs}, this host {is} {n}, and neither came out of the other"
                )
            }
            Self::OthersFirst { others } => {
                let said: Vec<_> = others.iter().map(|(host, answer)| said(host, *answer)).collect();
                write!(f, "the tree has no role, and {}", said.join(", "))
            }
            Self::NobodyToAsk => write!(f, "the tree has no role, and no configuration names hosts to ask"),
            Self::MayNotLead(Barred { entry, .. }) => {
                write!(f, "this host is {entry}, whose entry in hosts has mayLead = false: it never leads")
            }
            Self::LeadsNothing => write!(f, "this host leads nothing"),
            Self::NoPrimary { host, who } => f.write_str(&who.state(host)),
            Self::Older { host, theirs, n } => {
                write!(f, "{host} leads generation {theirs}, out of which this tree's {n} came")
            }
            Self::LedIsSuperseded { host, n, by, theirs } => {
                write!(f, "{host} leads generation {n}, but {by} knows {theirs}, which came after it")
            }
        }
    }
}

impl std::error::Error for Refusal {}

fn said(host: &HostName, answer: Answer) -> String {
    match answer {
        Answer::Silent => format!("{host} does not answer"),
        Answer::Plain => format!("{host} has none either"),
        Answer::Role(0) => format!("{host} has joined already"),
        Answer::Role(n) => format!("{host} is at generation {n}"),
    }
}
