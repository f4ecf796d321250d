//! The watched directories as a tree: what a watch descriptor is called now.
//!
//! **Invariants:** a node's parent is in the tree and knows it by name; no node is above itself. Moving a
//! directory changes one node, whatever lies below it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::tree::{FileId, RelPath};

use super::super::kernel::Wd;

/// A file name, shared between a node and its parent.
pub(super) type Name = Arc<[u8]>;

/// The parent of the root.
pub(super) const NONE: Wd = -1;

/// A name in a watched directory. The root is the empty name in [`NONE`]; the empty name in a watched
/// directory means everything below that one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dentry {
    pub parent: Wd,
    pub name: Name,
}

impl Dentry {
    pub(super) fn new(parent: Wd, name: &[u8]) -> Self {
        Self { parent, name: name.into() }
    }

    pub(super) fn root() -> Self {
        Self::new(NONE, b"")
    }
}

struct Node {
    place: Dentry,
    id: FileId,
    children: BTreeMap<Name, Wd>,
}

/// The tree.
#[derive(Default)]
pub(super) struct Nodes {
    map: HashMap<Wd, Node>,
    root: Option<Wd>,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn root(&self) -> Option<Wd> {
        self.root
    }

    pub(super) fn root_id(&self) -> Option<FileId> {
        self.id(self.root?)
    }

    pub(super) fn contains(&self, wd: Wd) -> bool {
        self.map.contains_key(&wd)
    }

    pub(super) fn wds(&self) -> impl Iterator<Item = Wd> {
        self.map.keys().copied()
    }

    pub(super) fn id(&self, wd: Wd) -> Option<FileId> {
        self.map.get(&wd).map(|node| node.id)
    }

    pub(super) fn place(&self, wd: Wd) -> Option<&Dentry> {
        self.map.get(&wd).map(|node| &node.place)
    }

    pub(super) fn child(&self, parent: Wd, name: &[u8]) -> Option<Wd> {
        if parent == NONE {
            return self.root.filter(|_| name.is_empty());
        }
        self.map.get(&parent)?.children.get(name).copied()
    }

    /// Returns where a watched directory stands.
    pub(super) fn path(&self, wd: Wd) -> Option<RelPath> {
        let (mut names, mut at) = (Vec::new(), wd);
        while at != NONE {
            let place = &self.map.get(&at)?.place;
            names.push(&place.name[..]);
            at = place.parent;
        }
        names.pop();
        names.reverse();
        RelPath::new(names.join(&b'/')).ok()
    }

    /// Returns where a name in a watched directory stands.
    pub(super) fn path_of(&self, place: &Dentry) -> Option<RelPath> {
        if place.parent == NONE {
            return Some(RelPath::root());
        }
        let parent = self.path(place.parent)?;
        Some(if place.name.is_empty() { parent } else { parent.join(&place.name) })
    }

    /// Returns the directory at `path`, if it is watched.
    pub(super) fn find(&self, path: &RelPath) -> Option<Wd> {
        path.components().try_fold(self.root?, |at, name| self.child(at, name))
    }

    /// Whether `wd` is `above` or lies below it.
    pub(super) fn is_within(&self, wd: Wd, above: Wd) -> bool {
        let mut at = wd;
        while at != above {
            match self.place(at) {
                Some(place) => at = place.parent,
                None => return false,
            }
        }
        true
    }

    /// Adds a directory. The place must be free and its parent in the tree.
    pub(super) fn insert(&mut self, wd: Wd, place: Dentry, id: FileId) {
        if place.parent == NONE {
            self.root = Some(wd);
        } else if let Some(parent) = self.map.get_mut(&place.parent) {
            parent.children.insert(Arc::clone(&place.name), wd);
        }
        self.map.insert(wd, Node { place, id, children: BTreeMap::new() });
    }

    /// Moves a directory with all below it to a free place whose parent is not below it.
    pub(super) fn relocate(&mut self, wd: Wd, place: Dentry) {
        self.detach(wd);
        if let Some(parent) = self.map.get_mut(&place.parent) {
            parent.children.insert(Arc::clone(&place.name), wd);
        }
        if let Some(node) = self.map.get_mut(&wd) {
            node.place = place;
        }
    }

    /// Takes the directory out of its parent.
    fn detach(&mut self, wd: Wd) {
        let Some(place) = self.place(wd).cloned() else { return };
        if self.root == Some(wd) {
            self.root = None;
        }
        if let Some(parent) = self.map.get_mut(&place.parent)
            && parent.children.get(&place.name) == Some(&wd)
        {
            parent.children.remove(&place.name);
        }
    }

    /// Returns a directory and all below it, parents first.
    pub(super) fn subtree(&self, wd: Wd) -> Vec<Wd> {
        let mut all = if self.contains(wd) { vec![wd] } else { Vec::new() };
        let mut next = 0;
        while let Some(&at) = all.get(next) {
            all.extend(self.map.get(&at).into_iter().flat_map(|node| node.children.values().copied()));
            next += 1;
        }
        all
    }

    /// Removes a directory and all below it, and returns them.
    pub(super) fn remove(&mut self, wd: Wd) -> Vec<Wd> {
        let all = self.subtree(wd);
        self.detach(wd);
        for wd in &all {
            self.map.remove(wd);
        }
        all
    }

    /// Returns the lowest directory that is above both or equal to one of them.
    pub(super) fn common(&self, one: Wd, other: Wd) -> Option<Wd> {
        let mut at = one;
        while !self.is_within(other, at) {
            at = self.place(at)?.parent;
        }
        self.contains(at).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ino: u64) -> FileId {
        FileId { dev: 1, ino }
    }

    fn tree() -> Nodes {
        let mut nodes = Nodes::default();
        for (wd, parent, name) in [(1, NONE, ""), (2, 1, "a"), (3, 2, "b"), (4, 1, "c")] {
            nodes.insert(wd, Dentry::new(parent, name.as_bytes()), id(u64::from(wd.unsigned_abs())));
        }
        nodes
    }

    fn path(nodes: &Nodes, wd: Wd) -> Vec<u8> {
        nodes.path(wd).unwrap().as_bytes().to_vec()
    }

    #[test]
    fn moving_a_directory_renames_everything_below_it() {
        let mut nodes = tree();
        nodes.relocate(2, Dentry::new(4, b"x"));
        assert_eq!(path(&nodes, 3), b"c/x/b");
        assert_eq!(nodes.find(&RelPath::try_from("c/x/b").unwrap()), Some(3));
        assert_eq!(nodes.find(&RelPath::try_from("a").unwrap()), None);
    }

    #[test]
    fn removing_a_directory_removes_everything_below_it_and_nothing_else() {
        let mut nodes = tree();
        assert_eq!(nodes.remove(2), [2, 3]);
        assert_eq!((nodes.len(), nodes.child(1, b"a")), (2, None));
        assert_eq!(path(&nodes, 4), b"c");
    }

    #[test]
    fn common_ancestor_of_two_directories() {
        let nodes = tree();
        assert_eq!(nodes.common(3, 4), Some(1));
        assert_eq!(nodes.common(3, 2), Some(2));
        assert!(nodes.is_within(3, 2) && !nodes.is_within(2, 3) && nodes.is_within(3, 1));
    }
}
