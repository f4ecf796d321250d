//! Who may send to whom.

use super::fitness::Unfit;
use super::generation::{Generation, Id, Relation};
use super::hear::{hear, superseded_by, tells};
use super::names::HostName;
use super::record::{Adoption, KNOWN_MAX, Record, Role, Tree, TreeId};
use super::refusal::Refusal;
use super::starts::Offered;

/// What a sender that has a role says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The hosts that hold one tree together, if its configuration names them.
    pub group: Option<Id>,
    /// What it leads.
    pub generation: Generation,
    /// Its daemon's starts.
    pub starts: Offered,
    /// What people call its host.
    pub host: HostName,
}

impl Offer {
    /// Returns what a primary says of itself; `None` if the record is no primary's that may send, or no daemon of
    /// its has begun to.
    pub fn of(record: &Record, host: &HostName) -> Option<Self> {
        if record.role != Role::Primary || superseded_by(record).is_some() {
            return None;
        }
        let (generation, starts) = (record.generation.clone()?, record.starts.offered()?);
        Some(Self { group: record.group, generation, starts, host: host.clone() })
    }
}

/// What a sender without a role wants: cron's `sync`, `mirror`, lsyncd's layers, older versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Errand {
    /// To change the tree.
    Change,
    /// To put back what was kept or in the trash, or to remove it there.
    PutBack,
    /// To look: `verify`, a dry run, a listing.
    Look,
}

/// Who knocks.
#[derive(Debug, Clone, Copy)]
pub enum Sender<'a> {
    /// A primary.
    Led(&'a Offer),
    /// Somebody without a role.
    Plain(Errand),
}

/// What a session may do with the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// As if there were no roles.
    Today,
    /// The errand alone.
    Let,
    /// What the agent wrote may be changed and deleted; what others wrote is kept.
    Follow,
    /// Everything that is removed or replaced is kept aside first; deletes are not held.
    Adopt(Why),
}

/// Why a tree is adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The sender's generation is younger.
    Younger,
    /// This adoption was chosen by `rejoin`, or has begun before.
    Resumed,
    /// The tree has just joined, or a sync with `target` has filled it.
    Joined,
    /// The tree is a copy of another one.
    Transplanted,
    /// The sender does not hold all that this tree took from it: its disk was set back, or it lost its power.
    SetBack,
}

/// Decides whether a session may begin. `tree` has heard already what the sender tells.
///
/// # Errors
/// Who is told what, and what to type.
pub fn admit(tree: Tree<'_>, sender: Sender<'_>) -> Result<Admission, Refusal> {
    let offer = match sender {
        Sender::Plain(errand) => return admit_plain(tree, errand),
        Sender::Led(offer) => offer,
    };
    let record = match tree {
        // A sync with `target` filled it: what it holds is kept, as for one that has joined.
        Tree::Plain { ours: true } => return Ok(Admission::Adopt(Why::Joined)),
        Tree::Plain { ours: false } => return Err(Refusal::NotJoined),
        Tree::Unreadable => return Err(Refusal::Unfit(Unfit::Unreadable)),
        Tree::Placed(record) | Tree::Transplanted(record) => record,
    };
    if record.group.zip(offer.group).is_some_and(|(own, other)| own != other) {
        return Err(Refusal::OtherGroup { host: offer.host.clone() });
    }
    match (tree, record.role) {
        (Tree::Transplanted(_), _) => {
            known_younger(record, offer)?;
            Ok(Admission::Adopt(Why::Transplanted))
        }
        (_, Role::Primary) => Err(to_a_primary(record, offer)),
        (_, Role::Standby) => to_a_standby(record, offer),
    }
}

fn admit_plain(tree: Tree<'_>, errand: Errand) -> Result<Admission, Refusal> {
    let record = match (tree, errand) {
        (Tree::Plain { .. }, _) => return Ok(Admission::Today),
        (_, Errand::Look) => return Ok(Admission::Let),
        (Tree::Unreadable, _) => return Err(Refusal::Unfit(Unfit::Unreadable)),
        (Tree::Placed(record) | Tree::Transplanted(record), _) => record,
    };
    let primary = matches!(tree, Tree::Placed(Record { role: Role::Primary, .. }));
    if errand == Errand::PutBack && !primary {
        return Ok(Admission::Let);
    }
    Err(Refusal::NoGeneration { primary, n: record.n() })
}

fn to_a_primary(record: &Record, offer: &Offer) -> Refusal {
    let host = offer.host.clone();
    let (n, theirs) = (record.n(), offer.generation.n());
    let relation =
        record.generation.as_ref().map_or(Relation::Neither, |own| own.relation(&offer.generation));
    match relation {
        Relation::Same => Refusal::Twin { host, n },
        Relation::Older => {
            Refusal::Unfit(Unfit::Superseded { by: host, theirs, n, primary: true, next: false })
        }
        Relation::Younger => Refusal::SenderSuperseded { host, theirs, n },
        Relation::Neither => Refusal::Diverged { host, theirs, n, primary: true },
    }
}

fn to_a_standby(record: &Record, offer: &Offer) -> Result<Admission, Refusal> {
    known_younger(record, offer)?;
    let host = offer.host.clone();
    let theirs = offer.generation.n();
    let Some(own) = record.counts_as() else { return Ok(Admission::Adopt(Why::Joined)) };
    match own.relation(&offer.generation) {
        Relation::Same if record.adopting.is_some() => Ok(Admission::Adopt(Why::Resumed)),
        Relation::Same if offer.starts.goes_on_from(record.starts.seen) => Ok(Admission::Follow),
        Relation::Same => Ok(Admission::Adopt(Why::SetBack)),
        Relation::Older => Ok(Admission::Adopt(Why::Younger)),
        Relation::Younger => Err(Refusal::SenderSuperseded { host, theirs, n: own.n() }),
        Relation::Neither => Err(Refusal::Diverged { host, theirs, n: own.n(), primary: false }),
    }
}

/// Refuses a sender of whose generation a younger one is known.
fn known_younger(record: &Record, offer: &Offer) -> Result<(), Refusal> {
    let known = record.generation.iter().chain(record.known.iter().map(|known| &known.generation));
    match known.filter(|known| offer.generation.is_before(known)).map(Generation::n).max() {
        None => Ok(()),
        Some(n) => {
            Err(Refusal::SenderSuperseded { host: offer.host.clone(), theirs: offer.generation.n(), n })
        }
    }
}

/// Returns the record that must be on the disk before the first change of a session; `None` if the present one
/// says it.
pub fn begin(tree: Tree<'_>, place: &TreeId, offer: &Offer, admission: Admission) -> Option<Record> {
    let mut new = match (tree.record(), admission) {
        // From now on the tree holds what only this start may have written.
        (Some(old), Admission::Follow) => {
            let mut new = old.clone();
            new.starts.seen = Some(offer.starts.running);
            return (new != *old).then_some(new);
        }
        (Some(old), Admission::Adopt(Why::Transplanted)) => joins_from(old, place),
        // Of the same generation as before: the tree may be promoted at any moment, nothing is lost by it.
        (_, Admission::Adopt(Why::SetBack)) | (_, Admission::Today | Admission::Let) => return None,
        (Some(old), Admission::Adopt(_)) => old.clone(),
        (None, Admission::Adopt(_)) => Record::joined(*place),
        (None, Admission::Follow) => return None,
    };
    new.group = new.group.or(offer.group);
    new.heard = new.heard.max(offer.generation.n());
    new.adopting = Some(Adoption { of: offer.generation.clone(), begun: true });
    // What the old record knew of younger generations counts as far as they are younger than this one.
    let known = tree.record().map(|old| tells(old, &copied_from())).unwrap_or_default();
    new = hear(&new, &known).unwrap_or(new);
    (Some(&new) != tree.record()).then_some(new)
}

/// Returns the record of a tree that a session has brought in step; `None` if the present one says it.
pub fn finish(record: Option<&Record>, place: &TreeId, offer: &Offer) -> Option<Record> {
    let mut new = record.cloned().unwrap_or_else(|| Record::joined(*place));
    new.group = new.group.or(offer.group);
    new.starts.seen = Some(offer.starts.running);
    new.becomes(offer.generation.clone());
    (record != Some(&new)).then_some(new)
}

/// Returns the record of a copied tree at its new place: a standby that was never in step. What it remembers of
/// generations stays, and that it was copied half adopted.
pub(super) fn joins_from(copied: &Record, place: &TreeId) -> Record {
    let mut known = tells(copied, &copied_from());
    known.truncate(KNOWN_MAX);
    let adopting = copied.adopting.clone().filter(|adoption| adoption.begun);
    Record { group: copied.group, heard: copied.heard, known, adopting, ..Record::joined(*place) }
}

/// Who told what only the record of a copied tree says.
fn copied_from() -> HostName {
    HostName::new("a-copy-of-it")
}
