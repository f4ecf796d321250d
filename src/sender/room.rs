//! What a target has no room for: who waits, and for how long.
//!
//! **Purpose:** a full target is not asked again and again. What needs room waits; deletes, renames and
//! attributes do not come here and go on.
//! **In → Out:** sizes that did not fit, and moments → whether another size is worth a try, and when.
//! **Invariants:** room is missing by lack (the space of the target, or the quota of one owner) and by size:
//! a file of 20 GB that does not fit keeps none of 1 kB waiting. Within a lack, what waits is tried from the
//! smallest size up, one path at a time. A pause ends early for a delete, but then tries of 20 GB are still
//! minutes apart. Only a path that failed before and arrives now ends a pause: what another try frees, or a
//! smaller file that fits, says nothing. Pure: time is an argument.
//! **Not here:** which paths wait (`status`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::event::Age;

/// First and longest time between two tries.
pub(super) const RETRY_FIRST: Duration = Duration::from_secs(1);
pub(super) const RETRY_LONGEST: Duration = Duration::from_secs(600);
/// Sizes up to this count as the same.
const CLASS_FIRST: u64 = 4096;
/// What tries that deletes brought forward may cost at most, in bytes a second.
const FORWARD_RATE: u64 = 16 << 20;

/// Returns the pause after so many tries in vain.
pub(super) fn pause(attempts: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(RETRY_LONGEST)
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    Space,
    /// Of this owner.
    Quota(u32),
}

/// What a change needs on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Bytes of content, 0 for what has none.
    pub size: u64,
    /// The owner's number.
    pub owner: u32,
}

/// What is missing, and for which sizes: each class reaches twice as far as the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shortage {
    lack: Lack,
    class: u32,
}

impl Shortage {
    /// Returns what an errno says, if it speaks of room.
    pub fn of(errno: i32, need: Need) -> Option<Self> {
        let lack = match errno {
            libc::ENOSPC => Lack::Space,
            libc::EDQUOT => Lack::Quota(need.owner),
            _ => return None,
        };
        Some(Self { lack, class: class_of(need.size) })
    }

    pub fn errno(self) -> i32 {
        match self.lack {
            Lack::Space => libc::ENOSPC,
            Lack::Quota(_) => libc::EDQUOT,
        }
    }
}

fn class_of(size: u64) -> u32 {
    size.div_ceil(CLASS_FIRST).max(1).checked_next_power_of_two().map_or(u64::BITS, u64::trailing_zeros)
}

#[derive(Debug)]
struct Full {
    attempts: u32,
    tried: Instant,
    until: Instant,
    /// Since when something waits that is not kept as a path.
    rest: Option<Age>,
}

/// What the target has no room for.
#[derive(Debug, Default)]
pub(super) struct Room {
    full: BTreeMap<Shortage, Full>,
    /// Since when something waits that is not kept as a path, and may be tried again.
    released: Option<Age>,
}

impl Room {
    /// Takes in that something did not fit for which so many tries were in vain; returns when the next one
    /// is due.
    pub fn failed(&mut self, short: Shortage, attempts: u32, now: Instant) -> Instant {
        let full = self.full.entry(short);
        let full = full.or_insert(Full { attempts: 0, tried: now, until: now, rest: None });
        // What was on its way when the first one failed is no further try.
        if full.attempts == 0 || full.until <= now {
            full.attempts = full.attempts.saturating_add(1).max(attempts);
            (full.tried, full.until) = (now, now + pause(full.attempts));
        }
        full.until
    }

    /// Returns what keeps a change waiting, and until when.
    pub fn lacks(&self, need: Need) -> Option<(Shortage, Instant)> {
        let class = class_of(need.size);
        [Lack::Space, Lack::Quota(need.owner)].into_iter().find_map(|lack| {
            let (_, full) = self.first(lack).filter(|(short, _)| short.class <= class)?;
            Some((Shortage { lack, class }, full.until))
        })
    }

    /// Returns the smallest size of a lack that did not fit.
    fn first(&self, lack: Lack) -> Option<(Shortage, &Full)> {
        let all = Shortage { lack, class: 0 }..=Shortage { lack, class: u32::MAX };
        self.full.range(all).next().map(|(short, full)| (*short, full))
    }

    /// Returns the sizes of which one path is to be tried next, each with when.
    pub fn probes(&self) -> Vec<(Shortage, Instant)> {
        let mut probes: Vec<(Shortage, Instant)> = Vec::new();
        for (short, full) in &self.full {
            if probes.last().is_none_or(|(last, _)| last.lack != short.lack) {
                probes.push((*short, full.until));
            }
        }
        probes
    }

    /// Whether something waits for a smaller one, or its like, to be tried first.
    pub fn waits(&self, short: Shortage) -> bool {
        self.first(short.lack).is_some_and(|(first, _)| first.class <= short.class)
    }

    /// Notes that something waits which is not kept as a path.
    pub fn more(&mut self, short: Shortage, age: Age) {
        let first = self.first(short.lack).map(|(first, _)| first);
        if let Some(full) = first.and_then(|first| self.full.get_mut(&first)) {
            full.rest = Age::of_both(full.rest, Some(age));
        }
    }

    /// Takes in that what failed once has arrived, or is wanted no more.
    pub fn solved(&mut self, short: Shortage) {
        if let Some(rest) = self.full.remove(&short).and_then(|full| full.rest) {
            self.released = Age::of_both(self.released, Some(rest));
        }
    }

    /// Returns since when something waits that was not kept as a path and may be tried again, once.
    pub fn take_released(&mut self) -> Option<Age> {
        self.released.take()
    }

    /// Takes in that the target has deleted something: the next tries come sooner.
    pub fn freed(&mut self) {
        for (short, full) in &mut self.full {
            let size = CLASS_FIRST.checked_shl(short.class).unwrap_or(u64::MAX);
            full.until = full.until.min(full.tried + forward(size).min(pause(full.attempts)));
        }
    }

    /// Has every size tried at once.
    pub fn hurry(&mut self, now: Instant) {
        self.full.values_mut().for_each(|full| full.until = full.until.min(now));
    }
}

/// Returns how far apart tries of this size are at least that deletes bring forward.
fn forward(size: u64) -> Duration {
    RETRY_FIRST + Duration::from_secs(size / FORWARD_RATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn need(size: u64) -> Need {
        Need { size, owner: 7 }
    }

    fn short(errno: i32, size: u64) -> Shortage {
        Shortage::of(errno, need(size)).unwrap()
    }

    fn at(start: Instant, secs: u64) -> Instant {
        start + Duration::from_secs(secs)
    }

    #[test]
    fn what_needs_less_than_what_did_not_fit_goes_on_and_owners_are_apart() {
        let (mut room, now) = (Room::default(), Instant::now());
        room.failed(short(libc::ENOSPC, 1 << 20), 1, now);
        assert!(room.lacks(need(4096)).is_none() && room.lacks(need(0)).is_none());
        assert!(room.lacks(need(1 << 20)).is_some() && room.lacks(need(u64::MAX)).is_some());
        room.failed(short(libc::EDQUOT, 0), 1, now);
        assert_eq!(room.lacks(need(1)).map(|(short, _)| short.errno()), Some(libc::EDQUOT));
        assert!(room.lacks(Need { size: 1, owner: 8 }).is_none());
        assert!(Shortage::of(libc::EACCES, need(1)).is_none());
    }

    #[test]
    fn pauses_grow_with_tries_and_not_with_what_was_on_its_way() {
        let (mut room, start) = (Room::default(), Instant::now());
        let short = short(libc::ENOSPC, 10);
        assert_eq!(room.failed(short, 1, start), at(start, 1));
        assert_eq!(room.failed(short, 1, start), at(start, 1), "sent before the first answer came");
        assert_eq!(room.failed(short, 2, at(start, 1)), at(start, 3));
        assert_eq!(room.failed(short, 1, at(start, 3)), at(start, 7), "a new name is no new beginning");
        // Where the path has been tried more often, its pause holds.
        room.solved(short);
        assert_eq!(room.failed(short, 30, at(start, 7)), at(start, 607));
    }

    #[test]
    fn a_delete_brings_the_next_try_forward_but_not_tries_of_much() {
        let (mut room, start) = (Room::default(), Instant::now());
        let (small, large) = (short(libc::ENOSPC, 10), short(libc::ENOSPC, 16 << 30));
        room.failed(small, 30, start);
        room.failed(large, 30, start);
        room.freed();
        assert_eq!(room.probes(), [(small, at(start, 1))], "the smallest first");
        room.solved(small);
        assert_eq!(room.probes(), [(large, at(start, 600))]);
        room.hurry(start);
        assert_eq!(room.probes(), [(large, start)]);
    }

    #[test]
    fn what_is_too_much_to_keep_is_looked_for_once_there_is_room() {
        let (mut room, start) = (Room::default(), Instant::now());
        let first = short(libc::ENOSPC, 10);
        room.failed(first, 1, start);
        let age = |secs| Age::believed(at(start, secs));
        room.more(short(libc::ENOSPC, 1 << 20), age(2));
        room.more(short(libc::ENOSPC, 10), age(1));
        assert_eq!(room.take_released(), None);
        room.solved(first);
        assert_eq!((room.take_released(), room.take_released()), (Some(age(1)), None));
    }
}
