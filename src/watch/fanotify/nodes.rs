//! The directories of the tree by their handles: what each is called at the event being looked at.
//!
//! **Invariants:** a node's parent is in the tree and knows it by name; no node is above itself. Moving a
//! directory changes one node, whatever lies below it. Small, since there is one for each directory.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::tree::RelPath;

use super::group::Handle;

/// The parent of the root, and the number of nothing.
const NONE: u32 = u32::MAX;

/// A name in a directory. The root is the empty name in [`Handle::NONE`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dentry {
    pub parent: Handle,
    pub name: Box<[u8]>,
}

impl Dentry {
    pub(super) fn new(parent: Handle, name: &[u8]) -> Self {
        Self { parent, name: name.into() }
    }

    pub(super) fn root() -> Self {
        Self::new(Handle::NONE, b"")
    }

    pub(super) fn is_root(&self) -> bool {
        self.parent == Handle::NONE
    }
}

/// What is known about a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// What it holds is in the tree, or its events are under way.
    Read,
    /// An event named it, but the disk is ahead of the events: to be looked for again.
    Unread,
    /// The rules leave it out with all below it; kept since a rename can bring it in.
    Skipped,
}

struct Node {
    handle: Handle,
    parent: u32,
    name: Box<[u8]>,
    /// Sorted by name. Most directories have none.
    #[expect(clippy::box_collection, reason = "8 bytes in place of 24 in most nodes")]
    children: Option<Box<Vec<u32>>>,
    state: State,
}

/// The tree.
pub(super) struct Nodes {
    /// The numbers of the nodes, by the handles that are in these: kept once.
    numbers: HashTable<u32>,
    hasher: RandomState,
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    root: u32,
    skipped: usize,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            numbers: HashTable::new(),
            hasher: RandomState::new(),
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
            skipped: 0,
        }
    }
}

impl Nodes {
    /// How many directories are heard of.
    pub(super) fn len(&self) -> usize {
        self.numbers.len() - self.skipped
    }

    /// Gives spare memory back.
    pub(super) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.numbers.shrink_to_fit(|&number| hash_of(nodes, hasher, number));
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(number).ok()?)?.as_ref()
    }

    fn node_mut(&mut self, number: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(number).ok()?)?.as_mut()
    }

    fn number(&self, handle: Handle) -> Option<u32> {
        let is = |&number: &u32| self.node(number).is_some_and(|node| node.handle == handle);
        self.numbers.find(self.hasher.hash_one(handle), is).copied()
    }

    pub(super) fn root(&self) -> Option<Handle> {
        self.node(self.root).map(|node| node.handle)
    }

    pub(super) fn contains(&self, handle: Handle) -> bool {
        self.number(handle).is_some()
    }

    pub(super) fn state(&self, handle: Handle) -> Option<State> {
        self.node(self.number(handle)?).map(|node| node.state)
    }

    /// Whether what happens in a directory is of concern.
    pub(super) fn is_live(&self, handle: Handle) -> bool {
        self.state(handle).is_some_and(|state| state != State::Skipped)
    }

    pub(super) fn set_state(&mut self, handle: Handle, state: State) {
        let Some(number) = self.number(handle) else { return };
        let Some(node) = self.node_mut(number) else { return };
        let old = std::mem::replace(&mut node.state, state);
        self.skipped += usize::from(state == State::Skipped);
        self.skipped -= usize::from(old == State::Skipped);
    }

    /// Returns the handles of all directories that are heard of.
    pub(super) fn live(&self) -> impl Iterator<Item = Handle> {
        let all = self.nodes.iter().flatten();
        all.filter(|node| node.state != State::Skipped).map(|node| node.handle)
    }

    /// Returns where a directory stands.
    pub(super) fn place(&self, handle: Handle) -> Option<Dentry> {
        let node = self.node(self.number(handle)?)?;
        let parent = self.node(node.parent).map_or(Handle::NONE, |parent| parent.handle);
        Some(Dentry { parent, name: node.name.clone() })
    }

    /// Whether a directory stands there.
    pub(super) fn stands(&self, handle: Handle, place: &Dentry) -> bool {
        self.at(place) == Some(handle)
    }

    /// Returns the directory at a place.
    pub(super) fn at(&self, place: &Dentry) -> Option<Handle> {
        if place.is_root() {
            return self.root();
        }
        let children = self.node(self.number(place.parent)?)?.children.as_ref()?;
        let at = self.search(children, &place.name).ok()?;
        self.node(*children.get(at)?).map(|node| node.handle)
    }

    fn search(&self, children: &[u32], name: &[u8]) -> Result<usize, usize> {
        children.binary_search_by(|&child| self.node(child).map_or(&b""[..], |node| &node.name).cmp(name))
    }

    fn path_at(&self, number: u32) -> Option<RelPath> {
        let (mut names, mut at) = (Vec::new(), number);
        while at != self.root {
            let node = self.node(at)?;
            names.push(&node.name[..]);
            at = node.parent;
        }
        names.reverse();
        RelPath::new(names.join(&b'/')).ok()
    }

    /// Returns what a directory is called.
    pub(super) fn path(&self, handle: Handle) -> Option<RelPath> {
        self.path_at(self.number(handle)?)
    }

    /// Returns what a name in a directory of the tree is called.
    pub(super) fn path_of(&self, place: &Dentry) -> Option<RelPath> {
        if place.is_root() {
            return Some(RelPath::root());
        }
        Some(self.path(place.parent)?.join(&place.name))
    }

    /// Returns the directory at `path`.
    pub(super) fn find(&self, path: &RelPath) -> Option<Handle> {
        path.components().try_fold(self.root()?, |at, name| self.at(&Dentry::new(at, name)))
    }

    /// Whether a directory is `above` or lies below it.
    pub(super) fn is_within(&self, handle: Handle, above: Handle) -> bool {
        let (Some(mut at), Some(above)) = (self.number(handle), self.number(above)) else { return false };
        while at != above {
            match self.node(at) {
                Some(node) => at = node.parent,
                None => return false,
            }
        }
        true
    }

    /// Adds a directory. It must not be in the tree, its place free and its parent in the tree.
    pub(super) fn insert(&mut self, handle: Handle, place: &Dentry, state: State) {
        let parent = if place.is_root() { NONE } else { self.number(place.parent).unwrap_or(NONE) };
        let node = Node { handle, parent, name: place.name.clone(), children: None, state };
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.nodes.push(None);
                u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
            }
        };
        let Some(slot) = usize::try_from(number).ok().and_then(|number| self.nodes.get_mut(number)) else {
            return;
        };
        *slot = Some(node);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        let hash = hasher.hash_one(handle);
        self.numbers.insert_unique(hash, number, |&number| hash_of(nodes, hasher, number));
        self.skipped += usize::from(state == State::Skipped);
        if place.is_root() {
            self.root = number;
        } else {
            self.attach(number, parent, &place.name);
        }
    }

    fn attach(&mut self, number: u32, parent: u32, name: &[u8]) {
        let Some(node) = self.node(parent) else { return };
        let at = node.children.as_ref().map_or(Err(0), |children| self.search(children, name));
        if let Some(node) = self.node_mut(parent) {
            let children = node.children.get_or_insert_default();
            match at {
                Ok(at) => children[at] = number,
                Err(at) => children.insert(at, number),
            }
        }
    }

    fn detach(&mut self, number: u32) {
        let Some((parent, name)) = self.node(number).map(|node| (node.parent, node.name.clone())) else {
            return;
        };
        if self.root == number {
            self.root = NONE;
        }
        let Some(children) = self.node(parent).and_then(|node| node.children.as_ref()) else { return };
        let Some(at) = self.search(children, &name).ok().filter(|&at| children.get(at) == Some(&number))
        else {
            return;
        };
        if let Some(node) = self.node_mut(parent)
            && let Some(children) = &mut node.children
        {
            children.remove(at);
            if children.is_empty() {
                node.children = None;
            }
        }
    }

    /// Moves a directory with all below it to a free place whose parent is not below it.
    pub(super) fn relocate(&mut self, handle: Handle, place: &Dentry) {
        let (Some(number), Some(parent)) = (self.number(handle), self.number(place.parent)) else { return };
        self.detach(number);
        if let Some(node) = self.node_mut(number) {
            (node.parent, node.name) = (parent, place.name.clone());
        }
        self.attach(number, parent, &place.name);
    }

    /// Removes a directory and all below it.
    pub(super) fn remove(&mut self, handle: Handle) {
        let Some(top) = self.number(handle) else { return };
        self.detach(top);
        let mut left = vec![top];
        while let Some(number) = left.pop() {
            let slot = usize::try_from(number).ok().and_then(|number| self.nodes.get_mut(number));
            let Some(node) = slot.and_then(Option::take) else { continue };
            left.extend(node.children.into_iter().flat_map(|children| *children));
            self.skipped -= usize::from(node.state == State::Skipped);
            let hash = self.hasher.hash_one(node.handle);
            if let Ok(entry) = self.numbers.find_entry(hash, |&at| at == number) {
                entry.remove();
            }
            self.free.push(number);
        }
    }

    /// Returns the directories below one with their paths, parents first.
    pub(super) fn below(&self, handle: Handle) -> Vec<(Handle, RelPath)> {
        let mut all: Vec<(Handle, RelPath)> = Vec::new();
        let top = self.number(handle).and_then(|top| Some((top, self.path_at(top)?)));
        let mut left = Vec::from_iter(top);
        while let Some((number, path)) = left.pop() {
            let children = self.node(number).and_then(|node| node.children.as_ref());
            for &child in children.into_iter().flat_map(|children| children.iter()) {
                let Some(node) = self.node(child) else { continue };
                let below = path.join(&node.name);
                all.push((node.handle, below.clone()));
                left.push((child, below));
            }
        }
        all
    }
}

/// Hashes the handle of a node.
fn hash_of(nodes: &[Option<Node>], hasher: &RandomState, number: u32) -> u64 {
    let slot = usize::try_from(number).ok().and_then(|number| nodes.get(number));
    slot.and_then(Option::as_ref).map_or(0, |node| hasher.hash_one(node.handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(n: u8) -> Handle {
        Handle::new(0, 1, &[n]).unwrap()
    }

    fn tree() -> Nodes {
        let mut nodes = Nodes::default();
        nodes.insert(handle(1), &Dentry::root(), State::Read);
        for (n, parent, name) in [(2, 1, "a"), (3, 2, "b"), (4, 1, "c")] {
            nodes.insert(handle(n), &Dentry::new(handle(parent), name.as_bytes()), State::Read);
        }
        nodes
    }

    fn path(nodes: &Nodes, n: u8) -> Vec<u8> {
        nodes.path(handle(n)).unwrap().as_bytes().to_vec()
    }

    #[test]
    fn moving_a_directory_renames_everything_below_it() {
        let mut nodes = tree();
        nodes.relocate(handle(2), &Dentry::new(handle(4), b"x"));
        assert_eq!(path(&nodes, 3), b"c/x/b");
        assert_eq!(nodes.find(&RelPath::try_from("c/x/b").unwrap()), Some(handle(3)));
        assert_eq!(nodes.find(&RelPath::try_from("a").unwrap()), None);
        let below: Vec<Handle> = nodes.below(handle(1)).into_iter().map(|(handle, _)| handle).collect();
        assert_eq!(below, [handle(4), handle(2), handle(3)]);
    }

    #[test]
    fn removing_a_directory_removes_everything_below_it_and_nothing_else() {
        let mut nodes = tree();
        nodes.set_state(handle(3), State::Skipped);
        assert_eq!(nodes.len(), 3);
        nodes.remove(handle(2));
        assert_eq!((nodes.len(), nodes.contains(handle(3))), (2, false));
        assert_eq!(nodes.at(&Dentry::new(handle(1), b"a")), None);
        nodes.insert(handle(5), &Dentry::new(handle(4), b"new"), State::Read);
        assert_eq!((path(&nodes, 4), path(&nodes, 5)), (b"c".to_vec(), b"c/new".to_vec()));
    }

    #[test]
    fn a_directory_is_within_itself_and_those_above_it() {
        let nodes = tree();
        assert!(nodes.is_within(handle(3), handle(2)) && nodes.is_within(handle(3), handle(1)));
        assert!(!nodes.is_within(handle(2), handle(3)) && !nodes.is_within(handle(4), handle(2)));
    }
}
