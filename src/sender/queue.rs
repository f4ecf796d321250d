//! One lane of a mailbox: changes in order, with their ages.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::ages::Ages;
use super::mailbox::{Lane, Parcel, Since};
use crate::batch::{Change, ChangeKind, Extent};
use crate::tree::RelPath;

/// Empty slots that are not worth a compaction.
const SLACK: usize = 1024;

/// Changes in order: sorting and joining happen only between renames.
#[derive(Default)]
pub(super) struct Queue {
    parcels: VecDeque<Option<Parcel>>,
    /// Position of the waiting update of a path since the last rename, counted from `first`.
    updates: HashMap<RelPath, u64>,
    first: u64,
    len: usize,
    renames: usize,
    /// Of everything, and of what counts as lag.
    debts: Ages,
    lags: Ages,
}

impl Queue {
    pub fn push(&mut self, parcel: Parcel) {
        match &parcel.change.kind {
            ChangeKind::Update { path, scope } => {
                if let Some(waiting) = self.updates.get(path).copied().and_then(|at| self.at(at)) {
                    let before = (waiting.change.age.since, waiting.counts);
                    waiting.issued = waiting.issued.max(parcel.issued);
                    waiting.change.age = waiting.change.age.join(parcel.change.age);
                    // A live change that does not count is of a path that fails, and so is what joins it.
                    waiting.counts = match parcel.lane {
                        Lane::Live => waiting.counts && parcel.counts,
                        Lane::Bulk => waiting.counts || parcel.counts,
                    };
                    if let ChangeKind::Update { scope: known, .. } = &mut waiting.change.kind {
                        *known = join(*known, *scope);
                    }
                    let after = (waiting.change.age.since, waiting.counts);
                    self.uncount(before);
                    self.count(after);
                    return;
                }
                self.updates.insert(path.clone(), self.first + self.parcels.len() as u64);
            }
            // What waits below the old name is sent under the new one, after the rename.
            ChangeKind::Rename { from, to, .. } => {
                let (from, to) = (from.clone(), to.clone());
                let moved = self.take_below(&from);
                self.updates.clear();
                self.append(parcel);
                for mut parcel in moved {
                    if let ChangeKind::Update { path, .. } = &mut parcel.change.kind
                        && let Some(new) = path.rebase(&from, &to)
                    {
                        *path = new;
                    }
                    self.push(parcel);
                }
                return;
            }
            // What waits under the name is of the file that had it.
            ChangeKind::Name { path, .. } => {
                self.updates.remove(path);
            }
            ChangeKind::Delete { .. } | ChangeKind::Rescan { .. } => {}
        }
        self.append(parcel);
    }

    fn append(&mut self, parcel: Parcel) {
        self.count((parcel.change.age.since, parcel.counts));
        if self.parcels.len() > 2 * self.len + SLACK {
            self.compact();
        }
        self.renames += usize::from(matches!(parcel.change.kind, ChangeKind::Rename { .. }));
        self.parcels.push_back(Some(parcel));
        self.len += 1;
    }

    /// Drops the slots that renames have emptied; nothing else does while the target is down.
    fn compact(&mut self) {
        let next = self.first + self.parcels.len() as u64;
        let mut kept = VecDeque::with_capacity(self.len + 1);
        for (position, slot) in (self.first..).zip(std::mem::take(&mut self.parcels)) {
            let Some(parcel) = slot else { continue };
            if let ChangeKind::Update { path, .. } = &parcel.change.kind
                && let Some(known) = self.updates.get_mut(path).filter(|known| **known == position)
            {
                *known = next + kept.len() as u64;
            }
            kept.push_back(Some(parcel));
        }
        (self.first, self.parcels) = (next, kept);
    }

    fn count(&mut self, (since, counts): (Instant, bool)) {
        self.debts.add(since);
        if counts {
            self.lags.add(since);
        }
    }

    fn uncount(&mut self, (since, counts): (Instant, bool)) {
        self.debts.remove(since);
        if counts {
            self.lags.remove(since);
        }
    }

    fn at(&mut self, position: u64) -> Option<&mut Parcel> {
        let index = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.parcels.get_mut(index)?.as_mut()
    }

    fn take_below(&mut self, from: &RelPath) -> Vec<Parcel> {
        let mut taken = Vec::new();
        for slot in &mut self.parcels {
            let below = matches!(slot, Some(Parcel { change: Change { kind: ChangeKind::Update { path, .. }, .. }, .. }) if path.is_within(from));
            if below {
                taken.extend(slot.take());
                self.len -= 1;
            }
        }
        for parcel in &taken {
            self.uncount((parcel.change.age.since, parcel.counts));
        }
        taken
    }

    pub fn pop(&mut self) -> Option<Parcel> {
        while let Some(slot) = self.parcels.pop_front() {
            let position = self.first;
            self.first += 1;
            let Some(parcel) = slot else { continue };
            self.len -= 1;
            self.uncount((parcel.change.age.since, parcel.counts));
            self.renames -= usize::from(matches!(parcel.change.kind, ChangeKind::Rename { .. }));
            if let ChangeKind::Update { path, .. } = &parcel.change.kind
                && self.updates.get(path) == Some(&position)
            {
                self.updates.remove(path);
            }
            return Some(parcel);
        }
        None
    }

    /// Whether a change of this very path waits.
    pub fn holds(&self, path: &RelPath) -> bool {
        self.parcels.iter().flatten().any(|parcel| parcel.change.kind.path() == path)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns how many renames wait.
    pub fn renames(&self) -> usize {
        self.renames
    }

    /// Returns since when the oldest waits: of what counts as lag, and of everything.
    pub fn since(&self) -> Since {
        Since { lag: self.lags.oldest(), debt: self.debts.oldest() }
    }
}

/// Returns the scope that covers both: an unknown target needs the content.
fn join(a: Extent, b: Extent) -> Extent {
    if a == b { a } else { Extent::Content }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Age;
    use crate::sender::mailbox::Lane;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn parcel(kind: ChangeKind) -> Parcel {
        let now = Instant::now();
        Parcel {
            change: Change { age: Age::believed(now), kind },
            issued: now,
            lane: Lane::Live,
            counts: true,
        }
    }

    fn update(text: &str) -> Parcel {
        parcel(ChangeKind::Update { path: path(text), scope: Extent::Content })
    }

    fn rename(from: &str, to: &str) -> Parcel {
        parcel(ChangeKind::Rename { from: path(from), to: path(to), dir: true })
    }

    #[test]
    fn a_queue_that_nobody_empties_holds_no_more_than_its_changes() {
        let mut queue = Queue::default();
        (0..500).for_each(|number| queue.push(update(&format!("a/{number}"))));
        for _ in 0..100 {
            queue.push(rename("a", "b"));
            queue.push(rename("b", "a"));
        }
        assert_eq!(queue.len(), 700);
        assert!(queue.parcels.len() <= 2 * queue.len() + SLACK + 1, "{}", queue.parcels.len());
        // What waits is still found, joined and in order.
        queue.push(update("a/7"));
        assert_eq!(queue.len(), 700);
        let all: Vec<Parcel> = std::iter::from_fn(|| queue.pop()).collect();
        let renames =
            all.iter().take_while(|parcel| !matches!(parcel.change.kind, ChangeKind::Update { .. }));
        assert_eq!((renames.count(), all.len()), (200, 700));
        let names: std::collections::HashSet<_> =
            all.iter().skip(200).map(|parcel| parcel.change.kind.path().clone()).collect();
        assert!(names.len() == 500 && names.iter().all(|name| name.is_within(&path("a"))));
        assert_eq!((queue.len(), queue.since().debt), (0, None));
    }
}
