//! What must change on a target for it to be like the source: a plan from two sides.
//!
//! **Purpose:** [`compare`] holds two listings of one directory against each other; the guard judges
//! how much may be deleted. Pure: nothing is opened and no clock is read.
//! **In → Out:** sorted entries of both sides; [`Difference`]s.
//! **Invariant:** a name that could not be read on the source is never a difference.
//! **Not here:** fetching listings and sending (`sender`).

mod guard;
mod order;

pub use guard::{Count, Doubt, Facts, Population, Reason, Verdict, judge};
pub use order::in_rsyncs_order;

use std::time::Duration;

use crate::batch::Extent;
use crate::tree::{Entry, Kind, Mask};

/// How entries are compared: rsync's options of the same names.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "one flag per rsync option")]
pub struct Rules {
    /// Newer files on the target stay.
    pub update: bool,
    /// Nothing new is made.
    pub existing: bool,
    /// Nothing that exists is updated.
    pub ignore_existing: bool,
    /// Sizes decide.
    pub size_only: bool,
    /// Every file is sent.
    pub ignore_times: bool,
    /// Times this close are equal.
    pub modify_window: Duration,
    /// Equal sizes and times say nothing: every directory is listed, and files that look alike are told. Of files that
    /// the target doubts they are told anyway.
    pub whole: bool,
}

impl Rules {
    /// Whether what stands on the target has a say in what is sent there.
    pub fn selects(&self) -> bool {
        self.update || self.existing || self.ignore_existing || self.size_only
    }

    /// Whether there are names under which the target is to stay as it is.
    pub fn spare(&self) -> bool {
        self.update || self.existing || self.ignore_existing
    }

    /// Whether what the target has under a name stays as it is, whatever the source has there; directories in which both
    /// sides go on do not.
    pub fn leave(&self, source: &Entry, target: &Entry) -> bool {
        let (ours, theirs) = (source.attrs.meta.kind, target.attrs.meta.kind);
        let both = |kind| ours == kind && theirs == kind;
        !both(Kind::Dir)
            && (self.ignore_existing || self.update && both(Kind::File) && is_newer(target, source, self))
    }

    /// Whether the trees may rightly differ, so that equal digests cannot be expected and unequal
    /// ones say little.
    pub fn may_differ(&self) -> bool {
        self.selects() || self.ignore_times || self.modify_window > Duration::ZERO
    }
}

/// One difference between two listings of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference<'a> {
    /// The target lacks it.
    Missing(&'a Entry),
    /// Both have it, and it differs.
    Changed {
        /// What the source holds.
        source: &'a Entry,
        /// What the target holds.
        target: &'a Entry,
        /// How much differs.
        scope: Extent,
    },
    /// Both have a file of this name, size and time, which may hold something else all the same: what the source has,
    /// and what the target has.
    Alike(&'a Entry, &'a Entry),
    /// Both have a directory of this name, and what is below differs or is not known to be equal.
    Below(&'a Entry, &'a Entry),
    /// The target has a directory where the source has something else: it must be emptied first.
    Retyped {
        /// What the source holds.
        source: &'a Entry,
        /// The directory on the target.
        target: &'a Entry,
    },
    /// The source lacks it.
    Extra(&'a Entry),
    /// What the target has under this name, or has not, is to stay by the rules. Told of directories, and of
    /// files with several names, which are else linked to what is sent under another of them.
    Spared(&'a Entry),
}

impl<'a> Difference<'a> {
    /// Returns what the source has, or the target where that has nothing.
    pub fn entry(&self) -> &'a Entry {
        match self {
            Self::Missing(entry)
            | Self::Extra(entry)
            | Self::Spared(entry)
            | Self::Alike(entry, _)
            | Self::Below(entry, _) => entry,
            Self::Changed { source, .. } | Self::Retyped { source, .. } => source,
        }
    }
}

/// Compares two listings of one directory, both in the order of their names. A directory may give
/// both [`Difference::Changed`] and [`Difference::Below`].
pub fn compare<'a>(
    source: &'a [Entry],
    target: &'a [Entry],
    mask: &Mask,
    rules: &Rules,
) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < source.len() || j < target.len() {
        let order = match (source.get(i), target.get(j)) {
            (Some(a), Some(b)) => a.name.cmp(&b.name),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Less => {
                if !rules.existing {
                    found.push(Difference::Missing(&source[i]));
                } else if source[i].attrs.meta.kind == Kind::Dir || mask.hard_links && source[i].nlink > 1 {
                    found.push(Difference::Spared(&source[i]));
                }
                i += 1;
            }
            std::cmp::Ordering::Greater => {
                found.push(Difference::Extra(&target[j]));
                j += 1;
            }
            std::cmp::Ordering::Equal => {
                pair(&source[i], &target[j], mask, rules, &mut found);
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    found
}

fn pair<'a>(a: &'a Entry, b: &'a Entry, mask: &Mask, rules: &Rules, found: &mut Vec<Difference<'a>>) {
    let (m, n) = (&a.attrs.meta, &b.attrs.meta);
    match (m.kind, n.kind) {
        (Kind::Dir, Kind::Dir) => {
            if attrs_differ(a, b, mask, rules) {
                found.push(Difference::Changed { source: a, target: b, scope: Extent::Attributes });
            }
            if rules.may_differ() || rules.whole || a.digest != b.digest || a.digest.is_none() {
                found.push(Difference::Below(a, b));
            }
        }
        _ if rules.leave(a, b) => {
            if m.kind == Kind::Dir || mask.hard_links && (a.nlink > 1 || b.nlink > 1) {
                found.push(Difference::Spared(a));
            }
        }
        (_, Kind::Dir) => found.push(Difference::Retyped { source: a, target: b }),
        (Kind::File, Kind::File) => {
            if content_differs(a, b, mask, rules) {
                found.push(Difference::Changed { source: a, target: b, scope: Extent::Content });
                return;
            }
            if attrs_differ(a, b, mask, rules) {
                found.push(Difference::Changed { source: a, target: b, scope: Extent::Attributes });
            }
            if (rules.whole || b.is_doubted()) && !rules.size_only && a.hash.is_none() && m.size > 0 {
                found.push(Difference::Alike(a, b));
            }
        }
        (kind, other) => {
            let is_another = kind != other || m.rdev != n.rdev || a.attrs.symlink != b.attrs.symlink;
            if is_another || attrs_differ(a, b, mask, rules) {
                let scope = if is_another { Extent::Content } else { Extent::Attributes };
                found.push(Difference::Changed { source: a, target: b, scope });
            }
        }
    }
}

/// rsync's quick check, with nanoseconds: size and time, or sizes alone, or contents.
fn content_differs(a: &Entry, b: &Entry, mask: &Mask, rules: &Rules) -> bool {
    let (m, n) = (&a.attrs.meta, &b.attrs.meta);
    if m.size != n.size {
        return true;
    }
    // In rsync's order: of several that are given, the first one decides.
    if let (Some(ours), Some(theirs)) = (&a.hash, &b.hash) {
        return ours != theirs;
    }
    !rules.size_only && (rules.ignore_times || !same_time(a, b, mask, rules))
}

/// Whether what the target has counts as newer than what the source has: with a window also what is as old, or older by
/// less than that, in whole seconds.
fn is_newer(target: &Entry, source: &Entry, rules: &Rules) -> bool {
    let (theirs, ours) = (target.attrs.meta.mtime, source.attrs.meta.mtime);
    let window = i64::try_from(rules.modify_window.as_secs()).unwrap_or(i64::MAX);
    if window == 0 { theirs > ours } else { ours.secs.saturating_sub(theirs.secs) < window }
}

/// Whether metadata that is kept differs; times within the window count as equal.
fn attrs_differ(a: &Entry, b: &Entry, mask: &Mask, rules: &Rules) -> bool {
    let times = mask.times && (rules.modify_window.is_zero() || !same_time(a, b, mask, rules));
    Mask { times, ..*mask }.attrs_differ(&a.attrs, &b.attrs)
}

/// Within a window whole seconds are compared, as rsync does: filesystems that need one cut times off.
fn same_time(a: &Entry, b: &Entry, mask: &Mask, rules: &Rules) -> bool {
    let step = if rules.modify_window.is_zero() { mask.granularity_ns } else { 1_000_000_000 };
    let time = |entry: &Entry| entry.attrs.meta.mtime.truncated(step);
    time(a).distance_ns(time(b)) <= rules.modify_window.as_nanos()
}
