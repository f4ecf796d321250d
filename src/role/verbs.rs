//! What `promote`, `demote` and `rejoin` make of a record.

use super::admit::joins_from;
use super::command::{Answer, Force};
use super::fitness::{Unfit, fitness};
use super::generation::{Generation, Id, Relation};
use super::hear::{hear, superseded_by};
use super::leader::Leader;
use super::names::HostName;
use super::record::{Adoption, HeardOf, Record, Role, Tree, TreeId};
use super::refusal::{Barred, Refusal};
use super::starts::Starts;

/// The other hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Others {
    /// No configuration names any.
    Unconfigured,
    /// What each has answered.
    Asked(Vec<(HostName, Answer)>),
}

impl Others {
    /// Returns the greatest number that was answered.
    fn greatest(&self) -> u64 {
        let Self::Asked(answers) = self else { return 0 };
        let numbers = answers.iter().map(|(_, answer)| if let Answer::Role(n) = answer { *n } else { 0 });
        numbers.max().unwrap_or(0)
    }
}

/// What the record does not say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Around {
    /// This host has exchanged generations with another one since it was booted.
    pub confirmed: bool,
    /// The configuration does not let this host lead.
    pub barred: Option<Barred>,
    /// The hosts that hold this tree together, as the configuration says it.
    pub group: Option<Id>,
    /// The other hosts. Only a tree without a role asks them.
    pub others: Others,
}

/// What a promotion does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promotion {
    /// The tree is primary.
    Already,
    /// It becomes primary of its own generation again.
    Keeps(Record),
    /// It becomes primary of a new generation.
    Makes(Record),
}

/// Decides about a promotion, and returns the record that makes it. It is asked twice: before a living primary is
/// sent away, and at the commit point, for what the record says then.
///
/// `fresh` is a random id for the new generation.
///
/// # Errors
/// Why not, and what to type.
pub fn promote(
    tree: Tree<'_>,
    place: &TreeId,
    around: &Around,
    force: Force,
    fresh: Id,
) -> Result<Promotion, Refusal> {
    if let Some(barred) = &around.barred {
        return Err(Refusal::MayNotLead(barred.clone()));
    }
    let copied = matches!(tree, Tree::Transplanted(_));
    if tree.leads().is_some() {
        return Ok(Promotion::Already);
    }
    if force == Force::No {
        fitness(tree, around.confirmed).map_err(Refusal::Unfit)?;
        if matches!(tree, Tree::Plain { .. }) {
            others_are_plain(&around.others)?;
        }
    }
    let heard = around.others.greatest();
    let record = tree.record().cloned().unwrap_or_else(|| Record { heard, ..Record::joined(*place) });
    if let Some(half) = record.adopting.as_ref().filter(|adoption| adoption.begun && force != Force::Half) {
        return Err(Refusal::Unfit(Unfit::Adopting { n: record.n(), of: half.of.n(), begun: true }));
    }
    let mut new = record;
    new.place = *place;
    new.role = Role::Primary;
    if copied {
        new.starts = Starts::default();
    }
    if new.mine && !copied && superseded_by(&new).is_none() {
        new.mine = false;
        return Ok(Promotion::Keeps(new));
    }
    // A record that was copied promises nothing: the host that it was copied from may make that generation.
    let coming = new.coming.filter(|_| !copied).unwrap_or(fresh);
    let generation = Generation::after(new.generation.as_ref(), new.heard, coming);
    new.group = new.group.or(around.group);
    new.becomes(generation);
    new.known.clear();
    Ok(Promotion::Makes(new))
}

/// Returns the record with the identity that the next promotion will give, which must be on the disk before a primary
/// is told of it: it steps down for that one and no other. `None` if it is promised already.
pub fn prepare(record: &Record, fresh: Id) -> Option<Record> {
    record.coming.is_none().then(|| Record { coming: Some(fresh), ..record.clone() })
}

/// A primary hands over to a standby in step: returns its record as a standby that waits for `coming`.
///
/// # Errors
/// If it does not lead, or `coming` does not follow what it leads.
pub fn hand_over(tree: Tree<'_>, coming: &HeardOf) -> Result<Record, Refusal> {
    let own = tree.leads().and_then(|record| record.generation.as_ref().map(|own| (record, own)));
    let Some((record, own)) = own else {
        return Err(Refusal::LeadsNothing);
    };
    if coming.generation.parent() != Some(own.id()) {
        return Err(Refusal::Diverged {
            host: coming.host.clone(),
            theirs: coming.generation.n(),
            n: own.n(),
            primary: true,
        });
    }
    let mut new = hear(record, std::slice::from_ref(coming)).unwrap_or_else(|| record.clone());
    new.role = Role::Standby;
    Ok(new)
}

/// What `demote` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demotion {
    /// The tree is a standby.
    Already,
    /// A primary becomes a standby.
    Steps(Record),
    /// A tree without a role of its own joins as a standby.
    Joins(Record),
}

/// Returns what `demote` makes of a tree. It is never refused.
pub fn demote(tree: Tree<'_>, place: &TreeId) -> Demotion {
    match tree {
        Tree::Plain { .. } | Tree::Unreadable => Demotion::Joins(Record::joined(*place)),
        Tree::Transplanted(copied) => Demotion::Joins(joins_from(copied, place)),
        Tree::Placed(record) if record.role == Role::Standby => Demotion::Already,
        Tree::Placed(record) => {
            let mine = superseded_by(record).is_none();
            Demotion::Steps(Record { role: Role::Standby, mine, ..record.clone() })
        }
    }
}

/// What `rejoin` does.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejoined {
    /// The tree holds that host's generation, or is being brought to it.
    Already,
    /// The record with the choice.
    Chosen(Record),
}

/// Chooses the generation that `host` leads for a tree whose history went another way: it is adopted, and no other
/// but those that follow it.
///
/// # Errors
/// Why not, and what to type.
pub fn rejoin(
    tree: Tree<'_>,
    host: &HostName,
    led: Result<&Generation, Leader>,
    group: Option<Id>,
) -> Result<Rejoined, Refusal> {
    let record = match tree {
        Tree::Plain { .. } => return Err(Refusal::NotJoined),
        Tree::Unreadable => return Err(Refusal::Unfit(Unfit::Unreadable)),
        Tree::Transplanted(record) => return Err(Refusal::Unfit(Unfit::Transplanted { n: record.n() })),
        Tree::Placed(record) => record,
    };
    let led = led.map_err(|who| Refusal::NoPrimary { host: host.clone(), who })?;
    if record.group.zip(group).is_some_and(|(own, other)| own != other) {
        return Err(Refusal::OtherGroup { host: host.clone() });
    }
    let own = record.generation.as_ref();
    let relation = own.map_or(Relation::Older, |own| own.relation(led));
    let known = record.known.iter().find(|known| led.is_before(&known.generation));
    match (relation, known) {
        // What this tree holds came after it; unless it was changed by another adoption, nothing is chosen.
        (Relation::Younger, _) => {
            return Err(Refusal::Older { host: host.clone(), theirs: led.n(), n: record.n() });
        }
        (_, Some(known)) => {
            let (by, theirs, n) = (known.host.clone(), known.generation.n(), led.n());
            return Err(Refusal::LedIsSuperseded { host: host.clone(), n, by, theirs });
        }
        _ => {}
    }
    let half = record.is_half();
    let adopting = match relation {
        Relation::Same if !half => None,
        _ => Some(Adoption { of: led.clone(), begun: half }),
    };
    let told = HeardOf { generation: led.clone(), host: host.clone() };
    let mut new = hear(record, &[told]).unwrap_or_else(|| record.clone());
    new.role = Role::Standby;
    new.mine = false;
    new.adopting = adopting;
    Ok(if new == *record { Rejoined::Already } else { Rejoined::Chosen(new) })
}

fn others_are_plain(others: &Others) -> Result<(), Refusal> {
    let Others::Asked(answers) = others else { return Err(Refusal::NobodyToAsk) };
    // A tree that has only joined holds no truth.
    let is_free = |answer: Answer| matches!(answer, Answer::Plain | Answer::Role(0));
    let in_the_way: Vec<_> = answers.iter().filter(|(_, answer)| !is_free(*answer)).cloned().collect();
    if in_the_way.is_empty() { Ok(()) } else { Err(Refusal::OthersFirst { others: in_the_way }) }
}
