//! Up to where two trees are known to hold the same, each by its own clock.
//!
//! **Purpose:** when a tree is brought to another history, a file that has the same size and time on both sides may
//! hold something else, for both may have been written while nobody saw the other. A file that has not been changed
//! since both trees held one state is equal. That state is a *cut*: everything that was changed on the primary
//! before a moment of its clock.
//! **In → Out:** what a primary states while it sends, and what the own clock shows then; the change time from which
//! on a file of the own tree is doubtful.
//! **Example:** a primary states at 100 that a standby has everything that was changed before 98, and that the last
//! change was sent at 97. The standby's clock shows 1:15:00. Later, another standby has everything up to 99. Both hold
//! all from before 98: the first one's files that have not been changed since 1:15:00 are as they were on the primary
//! at 98.
//! **Invariants:** a moment is compared with moments of the same start of the same primary alone, and a change time
//! with what the own clock showed; a clock that went back lowers what was noted before, or ends it; what is
//! forgotten makes more files doubtful, never fewer.
//! **Not here:** the file (`.speil/cuts`), reading clocks, looking at files.

use std::fmt::Write;

use super::generation::Id;
use super::record::TreeId;

/// Starts of primaries that are remembered.
pub const CUT_STARTS_MAX: usize = 12;
/// The newest notes of each that are remembered one by one; of older ones every second is forgotten, again and again.
const NEWEST: usize = 12;
const EACH_MAX: usize = 32;
/// Most bytes of the file.
pub const CUTS_LEN_MAX: usize = 256 * 1024;
const FIRST_LINE: &str = "speil cuts 1";
const SECOND: i64 = 1_000_000_000;

/// What the own clock shows, by which the own files are stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Whole seconds since 1970; what is changed from now on has this change time or a later one.
    pub secs: i64,
    /// Nanoseconds since 1970, less those since the boot.
    pub offset: i64,
    /// The boot.
    pub boot: Id,
}

/// What a primary states of a standby that is in step: moments are nanoseconds on the primary's clock that nobody sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The start of the primary's daemon.
    pub of: Id,
    /// The standby has everything that was changed before.
    pub until: u64,
    /// What it has was read before.
    pub read: u64,
}

impl Cut {
    /// Returns the cut of a hand-over to the generation that is coming: both trees hold the same when it is noted, but
    /// for what has changed since by each one's own clock. No third tree has one of it.
    pub fn of_hand_over(coming: Id) -> Self {
        Self { of: coming, until: 1, read: 1 }
    }
}

/// A cut, and what the own clock showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    /// `None`: the clock was looked at, and nothing else.
    cut: Option<Cut>,
    shown: Shown,
}

/// What a tree remembers of cuts, in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cuts(Vec<Note>);

impl Cuts {
    /// Takes in a cut.
    pub fn add(&mut self, cut: Cut, shown: Shown) {
        self.0.push(Note { cut: Some(cut), shown });
        self.forget();
    }

    /// Takes in what the clock shows; `true` if it went back, so that this must be kept.
    pub fn look(&mut self, shown: Shown) -> bool {
        let back = self.0.last().is_some_and(|last| lowered(last.shown, shown, 0) != Some(0));
        if back {
            self.0.push(Note { cut: None, shown });
            self.forget();
        }
        back
    }

    /// Returns up to when the tree has everything of each primary's start, the latest one last.
    pub fn held(&self) -> Vec<(Id, u64)> {
        let mut held: Vec<(Id, u64)> = Vec::new();
        for cut in self.0.iter().filter_map(|note| note.cut) {
            match held.iter_mut().find(|(of, _)| *of == cut.of) {
                Some((_, until)) => *until = cut.until.max(*until),
                None => held.push((cut.of, cut.until)),
            }
        }
        held
    }

    /// Returns the latest cut that another tree holds as well.
    pub fn common(&self, other: &[(Id, u64)]) -> Option<(Id, u64)> {
        self.held().into_iter().rev().find_map(|(of, until)| {
            let (_, theirs) = other.iter().find(|(their, _)| *their == of)?;
            Some((of, until.min(*theirs)))
        })
    }

    /// Returns the change time from which on a file of this tree may hold something that came after a cut, or has come
    /// from elsewhere; `None` if all may. `now` is what the clock shows.
    pub fn doubtful(&self, (of, until): (Id, u64), now: Shown) -> Option<i64> {
        let is_of = |note: &Note| note.cut.is_some_and(|cut| cut.of == of);
        let last =
            self.0.iter().rposition(|note| note.cut.is_some_and(|cut| cut.of == of && cut.read <= until));
        // What was noted of another start, before anything was of this one, holds nothing of it.
        let before = || {
            let first = self.0.iter().position(is_of)?;
            self.0[..first].iter().rposition(|note| note.cut.is_some())
        };
        let at = last.or_else(before)?;
        let mut secs = self.0[at].shown.secs;
        let later = self.0[at..].windows(2).map(|pair| (pair[0].shown, pair[1].shown));
        for (earlier, later) in later.chain(self.0.last().map(|last| (last.shown, now))) {
            secs = lowered(earlier, later, secs)?;
        }
        Some(secs)
    }

    fn forget(&mut self) {
        let held = self.held();
        let stale: Vec<Id> =
            held.iter().take(held.len().saturating_sub(CUT_STARTS_MAX)).map(|(of, _)| *of).collect();
        let of = |note: &Note| note.cut.map(|cut| cut.of);
        // In order, so that nothing is before what it was before: the oldest start's notes are the first.
        if let Some(last) = self.0.iter().rposition(|note| of(note).is_some_and(|of| stale.contains(&of))) {
            self.0.drain(..=last);
        }
        for one in held.iter().map(|(of, _)| Some(*of)).chain([None]) {
            let mut left = self.0.iter().filter(|note| of(note) == one).count();
            if left <= EACH_MAX {
                continue;
            }
            let mut drop = true;
            self.thin(|note| {
                if of(note) == one {
                    drop = left > NEWEST && !drop;
                    left -= 1;
                }
                of(note) == one && drop
            });
        }
    }

    /// Forgets notes. What the clock did between their neighbours is not forgotten with them.
    fn thin(&mut self, mut goes: impl FnMut(&Note) -> bool) {
        let mut kept: Vec<Note> = Vec::new();
        for note in &self.0 {
            let before = kept.last().map(|kept| kept.shown);
            let straight = before.is_none_or(|before| lowered(before, note.shown, 0) == Some(0));
            if !(goes(note) && straight) {
                kept.push(*note);
            }
        }
        self.0 = kept;
    }

    /// Returns the file's content, for a tree at a place.
    pub fn to_text(&self, place: &TreeId) -> String {
        let mut out = format!("{FIRST_LINE}\n{}\n", placed(place));
        for Note { cut, shown } in &self.0 {
            let Shown { secs, offset, boot } = shown;
            let _ = match cut {
                Some(Cut { of, until, read }) => {
                    writeln!(out, "{secs} {offset} {boot} {of} {until} {read}")
                }
                None => writeln!(out, "{secs} {offset} {boot}"),
            };
        }
        out
    }

    /// Reads a file's content; nothing where it is none, or of a tree at another place.
    pub fn from_text(text: &str, place: &TreeId) -> Self {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) || lines.next() != Some(placed(place).as_str()) {
            return Self::default();
        }
        lines.map(note).collect::<Option<Vec<Note>>>().map_or_else(Self::default, Self)
    }
}

/// Returns what a time becomes that the clock showed, as it goes from one showing to a later one; `None` if nobody
/// knows how far it went back.
fn lowered(earlier: Shown, later: Shown, secs: i64) -> Option<i64> {
    if earlier.boot == later.boot {
        let back = earlier.offset.saturating_sub(later.offset).max(0);
        // Readings of two clocks differ a little by themselves.
        let back = if back < SECOND / 1000 { 0 } else { back / SECOND + 1 };
        return Some(secs.saturating_sub(back));
    }
    (later.secs >= earlier.secs).then_some(secs)
}

fn placed(place: &TreeId) -> String {
    format!("at {} {} {}", place.machine, place.inode, place.born.unwrap_or_default())
}

fn note(line: &str) -> Option<Note> {
    let words: Vec<&str> = line.split(' ').collect();
    let (shown, cut) = words.split_at_checked(3)?;
    let shown =
        Shown { secs: shown[0].parse().ok()?, offset: shown[1].parse().ok()?, boot: shown[2].parse().ok()? };
    let cut = match cut {
        [] => None,
        [of, until, read] => {
            Some(Cut { of: of.parse().ok()?, until: until.parse().ok()?, read: read.parse().ok()? })
        }
        _ => return None,
    };
    Some(Note { cut, shown })
}

#[cfg(test)]
mod tests;
