//! Rules that can be left out: each must be missed.

use speil::role::{HeardOf, Record, Role};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// What was heard of younger generations is forgotten at a reboot.
    YoungerForgotten,
    /// A standby writes no younger generation down.
    YoungerUnheard,
    /// Hosts tell what they hold, and not what they have heard of.
    KnownUntold,
    /// Nobody asks.
    NobodyAsks,
    /// A host that has talked to nobody is taken for confirmed.
    ConfirmedAlways,
    /// While a tree adopts, its old generation counts.
    AdoptionUnbound,
    /// That a tree adopts is forgotten at a reboot.
    AdoptingForgotten,
    /// A tree that adopts takes the generation at the beginning.
    BecomesAtOnce,
    /// A tree that is half adopted is promoted like another one.
    HalfPromoted,
    /// `rejoin` forgets that the tree is half adopted.
    RejoinForgetsHalf,
    /// A younger generation is followed, not adopted.
    YoungerFollowed,
    /// A sender that was set back, or lost its power, is followed.
    SetBackFollowed,
    /// Starts are counted: a greater number is believed.
    StartsCounted,
    /// The start of which a tree takes is written down when it is in step, not before its first change.
    StartSeenLate,
    /// A daemon that ends does not flush what was uploaded.
    EndsUnflushed,
    /// A generation that went another way is adopted unasked.
    DivergedAdopted,
    /// A primary takes from a younger one.
    PrimaryTakes,
    /// A superseded primary goes on sending.
    SupersededSends,
    /// A role holds wherever its record is found.
    PlaceIgnored,
    /// What strangers wrote is deleted by a follow.
    StrangersDeleted,
    /// `demote` of a standby makes the generation its own.
    StandbyMine,
    /// The identity of the coming generation is not written down before it is told.
    ComingForgotten,
    /// A generation's number does not follow the greatest that was heard of.
    NumberOwn,
    /// A promotion does not look for later verbs.
    OvertakenCommits,
    /// A promotion that a reboot has ended is finished unasked.
    IntentAfterBoot,
    /// A tree without a role is promoted without asking the others.
    PlainUnasked,
}

impl Mutant {
    /// Every rule that can be left out, those first whose absence shows soonest.
    pub const ALL: [Self; 26] = [
        Self::NobodyAsks,
        Self::ConfirmedAlways,
        Self::AdoptionUnbound,
        Self::DivergedAdopted,
        Self::PrimaryTakes,
        Self::SupersededSends,
        Self::PlaceIgnored,
        Self::StrangersDeleted,
        Self::StandbyMine,
        Self::NumberOwn,
        Self::OvertakenCommits,
        Self::PlainUnasked,
        Self::YoungerForgotten,
        Self::YoungerUnheard,
        Self::KnownUntold,
        Self::BecomesAtOnce,
        Self::YoungerFollowed,
        Self::HalfPromoted,
        Self::StartsCounted,
        Self::SetBackFollowed,
        Self::IntentAfterBoot,
        Self::RejoinForgetsHalf,
        Self::EndsUnflushed,
        Self::AdoptingForgotten,
        Self::ComingForgotten,
        Self::StartSeenLate,
    ];
    /// How many of them a second of search shows.
    pub const SHOWN_SOON: usize = 12;

    /// What a reboot leaves of a record.
    pub fn after_boot(self, record: &Record) -> Record {
        let mut record = record.clone();
        match self {
            Self::YoungerForgotten => record.known.clear(),
            Self::AdoptingForgotten => record.adopting = None,
            Self::ComingForgotten => record.coming = None,
            _ => {}
        }
        record
    }

    /// What a host makes of a hearing.
    pub fn after_hearing(self, old: &Record, new: &mut Record) {
        match self {
            Self::YoungerUnheard if old.role == Role::Standby => new.known.clone_from(&old.known),
            _ => {}
        }
    }

    /// What a host tells.
    pub fn telling(self, record: &Record, told: &mut Vec<HeardOf>) {
        if self == Self::KnownUntold {
            told.truncate(usize::from(record.generation.is_some()));
        }
    }
}
