//! The order in which rsync deletes, so that of more deletes than `--max-delete` allows the same ones are
//! carried out.
//!
//! From the top of the tree down: what is to be deleted in `a/` comes before what is to be deleted in
//! `a/b/`. In one directory subdirectories come first, the last name first; a directory comes after what it
//! holds.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::batch::Change;
use crate::tree::RelPath;

/// One delete's place: the components of the directory that stays, and of what is deleted in it.
struct DeleteKey<'a> {
    stays: Vec<&'a [u8]>,
    goes: Vec<&'a [u8]>,
    dir: bool,
}

/// Sorts deletes as rsync would carry them out.
pub fn in_rsyncs_order(deletes: Vec<Change>, is_dir: impl Fn(&Change) -> bool) -> Vec<Change> {
    let dirs: HashSet<RelPath> =
        deletes.iter().filter(|change| is_dir(change)).map(|change| change.kind.path().clone()).collect();
    let mut order: Vec<(DeleteKey<'_>, usize)> = deletes
        .iter()
        .enumerate()
        .map(|(at, change)| (DeleteKey::of(change.kind.path(), is_dir(change), &dirs), at))
        .collect();
    order.sort_by(|(a, _), (b, _)| a.cmp(b));
    let order: Vec<usize> = order.into_iter().map(|(_, at)| at).collect();
    let mut deletes: Vec<Option<Change>> = deletes.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| deletes.get_mut(at).and_then(Option::take)).collect()
}

impl<'a> DeleteKey<'a> {
    fn of(path: &'a RelPath, dir: bool, dirs: &HashSet<RelPath>) -> Self {
        let mut top = path.clone();
        while let Some(parent) = top.parent().filter(|parent| dirs.contains(parent)) {
            top = parent;
        }
        let mut stays: Vec<&[u8]> = path.components().collect();
        let goes = stays.split_off(top.depth().saturating_sub(1));
        Self { stays, goes, dir }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let by_name = |(a, b): (&&[u8], &&[u8])| named(a, true, b, true);
        let stays = self.stays.iter().zip(&other.stays).map(by_name).find(|order| order.is_ne());
        let stays = stays.unwrap_or_else(|| self.stays.len().cmp(&other.stays.len()));
        if stays.is_ne() {
            return stays;
        }
        let same = self.goes.iter().zip(&other.goes).take_while(|(a, b)| a == b).count();
        match (self.goes.get(same), other.goes.get(same)) {
            (Some(a), Some(b)) => {
                let dir = |place: &Self| place.dir || place.goes.len() > same.saturating_add(1);
                let (x, y) = (dir(self), dir(other));
                y.cmp(&x).then_with(|| named(b, y, a, x))
            }
            // What a directory holds comes before the directory.
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        }
    }
}

/// Compares two names; that of a directory ends in a slash.
fn named(a: &[u8], a_is_dir: bool, b: &[u8], b_is_dir: bool) -> Ordering {
    let slash = |dir: bool| dir.then_some(&b'/');
    a.iter().chain(slash(a_is_dir)).cmp(b.iter().chain(slash(b_is_dir)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{ChangeKind, Identity};

    #[test]
    fn deletes_come_in_rsyncs_order() {
        // What `rsync --delete -i` prints, where `kept` and `kept.d` exist on both sides; a slash says directory.
        let rsync = [
            "d/e/z", "d/e/", "d/y", "d/x", "d/", "a/", "a.b/", "c", "b", "kept.d/q", "kept/y/f", "kept/y/",
            "kept/x",
        ];
        let delete = |text: &&str| {
            let path = RelPath::try_from(text.trim_end_matches('/')).unwrap();
            let kind = ChangeKind::Delete { path, expected: Identity::Dir(text.ends_with('/')) };
            Change { age: crate::event::Age::believed(std::time::Instant::now()), kind }
        };
        let expected: Vec<Change> = rsync.iter().map(delete).collect();
        let mut deletes = expected.clone();
        deletes.sort_by(|a, b| a.kind.path().cmp(b.kind.path()));
        let is_dir = |change: &Change| matches!(&change.kind, ChangeKind::Delete { expected, .. } if expected.is_dir());
        let shown = |all: &[Change]| all.iter().map(|c| c.kind.path().to_string()).collect::<Vec<_>>();
        assert_eq!(shown(&in_rsyncs_order(deletes, is_dir)), shown(&expected));
    }
}
