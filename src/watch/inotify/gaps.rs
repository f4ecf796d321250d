//! Directories below watched ones that are not watched themselves, and why.

use std::collections::BTreeMap;

use crate::tree::RelPath;

use super::super::bounds::HOLES_MAX;
use super::super::gap::Gap;
use super::super::kernel::Wd;
use super::nodes::{Dentry, Nodes};

/// All gaps.
#[derive(Default)]
pub(super) struct Gaps {
    map: BTreeMap<Dentry, Gap>,
    holes: usize,
    missing: usize,
    /// Whether holes came or went since somebody last told the user.
    pub stale: bool,
}

impl Gaps {
    /// No gaps, and whoever was told of the former ones is to be told.
    pub(super) fn cleared() -> Self {
        Self { stale: true, ..Self::default() }
    }

    /// Whether there is something to compare now and then.
    pub(super) fn has_holes(&self) -> bool {
        self.holes > 0
    }

    /// Whether there is something to look for again.
    pub(super) fn has_missing(&self) -> bool {
        self.missing > 0
    }

    /// Returns why the directory is not watched, if it is known not to be.
    pub(super) fn get(&self, place: &Dentry) -> Option<Gap> {
        self.map.get(place).copied()
    }

    /// Adds a gap and says whether it is a new hole.
    pub(super) fn insert(&mut self, place: Dentry, gap: Gap) -> bool {
        let old = self.remove(&place);
        self.count(gap, true);
        self.map.insert(place, gap);
        gap.is_hole() && !old.is_some_and(Gap::is_hole)
    }

    /// Removes a gap.
    pub(super) fn remove(&mut self, place: &Dentry) -> Option<Gap> {
        let gap = self.map.remove(place)?;
        self.count(gap, false);
        Some(gap)
    }

    fn count(&mut self, gap: Gap, up: bool) {
        let counter = match gap {
            Gap::Missing => &mut self.missing,
            _ if gap.is_hole() => {
                self.stale = true;
                &mut self.holes
            }
            _ => return,
        };
        *counter = if up { *counter + 1 } else { counter.saturating_sub(1) };
    }

    /// Returns the gaps in one directory.
    pub(super) fn in_dir(&self, parent: Wd) -> impl Iterator<Item = (&Dentry, Gap)> {
        self.map
            .range(Dentry::new(parent, b"")..)
            .take_while(move |(place, _)| place.parent == parent)
            .map(|(place, gap)| (place, *gap))
    }

    /// Forgets the gaps in a directory that is no longer watched.
    pub(super) fn forget(&mut self, parent: Wd) {
        let places: Vec<Dentry> = self.in_dir(parent).map(|(place, _)| place.clone()).collect();
        for place in places {
            self.remove(&place);
        }
    }

    /// Returns the gaps for which `wanted` holds.
    pub(super) fn list(&self, wanted: impl Fn(Gap) -> bool) -> Vec<(Dentry, Gap)> {
        let hits = self.map.iter().filter(|(_, gap)| wanted(**gap));
        hits.map(|(place, gap)| (place.clone(), *gap)).collect()
    }

    /// Returns the holes as paths, topmost first.
    pub(super) fn hole_paths(&self, nodes: &Nodes) -> Vec<(RelPath, Gap)> {
        let mut paths: Vec<(RelPath, Gap)> = self
            .list(Gap::is_hole)
            .into_iter()
            .filter_map(|(place, gap)| Some((nodes.path_of(&place)?, gap)))
            .collect();
        paths.sort_by(|a, b| a.0.cmp(&b.0));
        paths
    }

    /// Joins the holes into one if there are too many, and returns where it is.
    pub(super) fn collapse(&mut self, nodes: &Nodes) -> Option<Dentry> {
        if self.holes <= HOLES_MAX {
            return None;
        }
        let holes = self.list(Gap::is_hole);
        let gap = holes.iter().map(|(_, gap)| *gap).find(|gap| *gap == Gap::Limit);
        let gap = gap.or_else(|| holes.first().map(|(_, gap)| *gap))?;
        let top = holes
            .iter()
            .map(|(place, _)| place.parent)
            .reduce(|one, other| nodes.common(one, other).or(nodes.root()).unwrap_or(one))?;
        for (place, _) in &holes {
            self.remove(place);
        }
        let place = Dentry::new(top, b"");
        self.insert(place.clone(), gap);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::nodes::NONE;
    use super::*;
    use crate::tree::FileId;

    #[test]
    fn many_holes_become_one_at_the_directory_above_them() {
        let mut nodes = Nodes::default();
        for (wd, parent, name) in [(1, NONE, ""), (2, 1, "a"), (3, 2, "b"), (4, 2, "c")] {
            nodes.insert(wd, Dentry::new(parent, name.as_bytes()), FileId { dev: 1, ino: 1 });
        }
        let mut gaps = Gaps::default();
        gaps.insert(Dentry::new(1, b"kept out"), Gap::Skipped);
        for n in 0..=HOLES_MAX {
            assert_eq!(gaps.collapse(&nodes), None);
            let parent = if n % 2 == 0 { 3 } else { 4 };
            assert!(gaps.insert(Dentry::new(parent, n.to_string().as_bytes()), Gap::Limit));
        }
        assert_eq!(gaps.collapse(&nodes), Some(Dentry::new(2, b"")));
        assert_eq!(gaps.hole_paths(&nodes), [(RelPath::try_from("a").unwrap(), Gap::Limit)]);
        assert_eq!(gaps.get(&Dentry::new(1, b"kept out")), Some(Gap::Skipped));
    }

    #[test]
    fn a_dropped_directory_takes_its_gaps_along() {
        let mut gaps = Gaps::default();
        gaps.insert(Dentry::new(1, b"x"), Gap::Limit);
        gaps.insert(Dentry::new(1, b"y"), Gap::Missing);
        gaps.insert(Dentry::new(2, b"x"), Gap::Skipped);
        gaps.forget(1);
        assert!(!gaps.has_holes() && !gaps.has_missing());
        assert!(gaps.get(&Dentry::new(2, b"x")).is_some());
    }
}
