//! What hosts tell each other of generations.

use super::generation::{Generation, Relation};
use super::names::HostName;
use super::record::{HeardOf, KNOWN_MAX, Record};

/// Returns everything that a tree on `host` tells whoever asks: what it holds, what it is being brought to, and what
/// it has heard of. Without the last, a host could find another one as ignorant as itself and be sure.
pub fn tells(record: &Record, host: &HostName) -> Vec<HeardOf> {
    let own = record.generation.iter().chain(record.adopting.iter().map(|adoption| &adoption.of));
    let own = own.map(|generation| HeardOf { generation: generation.clone(), host: host.clone() });
    own.chain(record.known.iter().cloned()).collect()
}

/// Returns the record with what was heard, to be written before anything else is done; `None` if it says nothing
/// new.
pub fn hear(record: &Record, told: &[HeardOf]) -> Option<Record> {
    let mut new = record.clone();
    // The old primary tells of what this host itself is about to make.
    for heard in told.iter().filter(|heard| record.coming != Some(heard.generation.id())) {
        new.heard = new.heard.max(heard.generation.n());
        note(&mut new, heard);
    }
    (new != *record).then_some(new)
}

/// Whether all that was told is what the tree holds, or came before it: whoever tells that knows of nothing else.
pub fn is_past(record: &Record, told: &[HeardOf]) -> bool {
    let Some(own) = &record.generation else { return false };
    let is_past =
        |heard: &HeardOf| matches!(heard.generation.relation(own), Relation::Same | Relation::Older);
    !told.is_empty() && told.iter().all(is_past)
}

/// Returns a younger generation than the tree's, if one was heard of: the youngest by number.
pub fn superseded_by(record: &Record) -> Option<&HeardOf> {
    let own = record.generation.as_ref()?;
    let younger = record.known.iter().filter(|known| own.is_before(&known.generation));
    younger.max_by_key(|known| known.generation.n())
}

/// Notes a generation that is neither the tree's nor in its history. One whose history went another way counts as well:
/// `rejoin` may bring the tree there, and then it has to know what came after it.
fn note(record: &mut Record, heard: &HeardOf) {
    let stands = |to: &Generation| heard.generation.relation(to);
    let is_past = |to: &Generation| matches!(stands(to), Relation::Same | Relation::Older);
    let past = record.generation.as_ref().is_some_and(is_past);
    if past || record.known.iter().any(|known| is_past(&known.generation)) {
        return;
    }
    record.known.retain(|known| stands(&known.generation) != Relation::Younger);
    record.known.push(heard.clone());
    if record.known.len() > KNOWN_MAX {
        // A tenth truth of one tree: those that hold this host back stay, and of the others the latest.
        let holds_back =
            |known: &HeardOf| record.generation.as_ref().is_some_and(|own| own.is_before(&known.generation));
        let least = (0..record.known.len())
            .min_by_key(|at| (holds_back(&record.known[*at]), record.known[*at].generation.n()));
        record.known.remove(least.unwrap_or(0));
    }
}
