//! Where each of several sources lies, for the question whether the target lies within one, or the other way round.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::disk::place;
use crate::tree::{FileId, RelPath};

/// Where a source lies on this host.
pub(super) struct Whereabouts {
    /// The directory's inode if it is one, and what it lies in.
    id: Option<FileId>,
    lineage: Vec<FileId>,
    /// The names of what it lies in, from the top.
    names: Vec<Vec<u8>>,
    /// Its name on the target; `None` for what it holds.
    name: Option<Vec<u8>>,
}

impl Whereabouts {
    /// Returns where something lies that is `path` in a directory, or what that holds; `id` if it is a directory.
    pub(super) fn of(dir: &Path, id: Option<FileId>, path: Option<&RelPath>) -> Self {
        // Of what is no directory nothing can lie within anything.
        let lineage = id.and_then(|_| place(dir).ok()).map(|(_, lineage)| lineage).unwrap_or_default();
        let whole = dir.canonicalize().unwrap_or_default();
        let names = whole.iter().skip(1).map(|name| name.as_bytes().to_vec()).collect();
        Self { id, lineage, names, name: path.and_then(|path| path.components().next()).map(<[u8]>::to_vec) }
    }

    /// Whether it is a directory.
    pub(super) fn is_of_dir(&self) -> bool {
        self.id.is_some()
    }

    /// Whether the target, with these inodes from it up to the top, is the source, within it or around it.
    pub(super) fn overlaps(&self, target: &[FileId]) -> bool {
        let Some(id) = self.id else { return false };
        let Some(root) = target.first() else { return false };
        if target.contains(&id) {
            return true;
        }
        let Some(up) = self.lineage.iter().position(|above| above == root) else { return false };
        let Some(name) = &self.name else { return true };
        // It lies in the target: does what it becomes there lie around it?
        up == 0 || self.names.len().checked_sub(up).and_then(|at| self.names.get(at)) == Some(name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_target_overlaps_what_it_lies_in_and_what_becomes_a_part_of_it_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["t/day/sub/day", "s/day/in"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let lineage = |name: &str| place(&dir.path().join(name)).unwrap().1;
        let overlaps = |above: &str, name: Option<&str>, target: &str| {
            let at = dir.path().join(above);
            let source = name.map_or(at.clone(), |name| at.join(name));
            let id = source.is_dir().then(|| place(&source).unwrap().1[0]);
            let path = name.map(|name| RelPath::try_from(name).unwrap());
            Whereabouts::of(&at, id, path.as_ref()).overlaps(&lineage(target))
        };
        for (above, name, target, expected) in [
            ("s", Some("day"), "t", false),
            ("s", Some("day"), "s/day", true),
            ("s", Some("day"), "s/day/in", true),
            // It becomes itself, or what holds it.
            ("s", Some("day"), "s", true),
            ("t/day/sub", Some("day"), "t", true),
            ("t/day", Some("sub"), "t", false),
            ("s/day", None, "s", true),
            ("s", None, "s/day", true),
            ("s", None, "t", false),
            ("s", Some("file"), "s", false),
        ] {
            assert_eq!(overlaps(above, name, target), expected, "{above} {name:?} {target}");
        }
    }
}
