//! A tree of names that carries values and knows one rule for renames.
//!
//! **Purpose:** [`NameTree::rename`] moves everything that is kept below a name at once, in the time that it
//! takes to walk to both names. Example: with values at `a/x` and `a/y/z`, `rename(a, b)` leaves them at `b/x`
//! and `b/y/z`, and whoever holds a [`NodeId`] of theirs still reaches them.
//! **Invariants:** a node has a value, or children, or is the root; the identity of a node stays while it has a
//! value, whatever its name becomes.
//! **Not here:** what the values mean.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::tree::RelPath;

/// A node of a [`NameTree`]. May be used again for another name when its value is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

const ROOT: NodeId = NodeId(0);
/// No node; the parent of one that is gone.
const NOWHERE: NodeId = NodeId(u32::MAX);

#[derive(Debug)]
struct Node<T> {
    parent: NodeId,
    /// The first of its children, and its neighbours among those of its parent.
    first: NodeId,
    next: NodeId,
    before: NodeId,
    name: Box<[u8]>,
    value: Option<T>,
}

impl<T> Node<T> {
    fn new(parent: NodeId, name: &[u8]) -> Self {
        Self { parent, first: NOWHERE, next: NOWHERE, before: NOWHERE, name: name.into(), value: None }
    }
}

/// Names with values. Memory grows with the values, not with the tree whose names they are.
#[derive(Debug)]
pub struct NameTree<T> {
    nodes: Vec<Node<T>>,
    /// Nodes by their parent and their name.
    by_name: HashTable<NodeId>,
    hasher: RandomState,
    free: Vec<NodeId>,
    values: usize,
}

impl<T> Default for NameTree<T> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(ROOT, b"")],
            by_name: HashTable::new(),
            hasher: RandomState::default(),
            free: Vec::new(),
            values: 0,
        }
    }
}

impl<T> NameTree<T> {
    /// Returns how many names have a value.
    pub fn len(&self) -> usize {
        self.values
    }

    /// Whether no name has a value.
    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// Returns the node of a path if there is one; it may be without a value.
    pub fn find(&self, path: &RelPath) -> Option<NodeId> {
        path.components().try_fold(ROOT, |node, name| self.child(node, name))
    }

    /// Returns the value of a path.
    pub fn value_at(&self, path: &RelPath) -> Option<&T> {
        self.find(path).and_then(|node| self.get(node))
    }

    /// Returns the value of a node; `None` too if the node is gone.
    pub fn get(&self, node: NodeId) -> Option<&T> {
        self.nodes.get(node.0 as usize)?.value.as_ref()
    }

    /// Returns the value of a node; `None` too if the node is gone.
    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut T> {
        self.nodes.get_mut(node.0 as usize)?.value.as_mut()
    }

    /// Returns the path that a node has now.
    pub fn path(&self, node: NodeId) -> RelPath {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = node;
        while at != ROOT {
            names.push(&self.node(at).name);
            at = self.node(at).parent;
        }
        names.reverse();
        // Each of them was a component of a path.
        RelPath::new(names.join(&b'/')).unwrap_or_default()
    }

    /// Returns the nodes above one, nearest first, the root included.
    pub fn above(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let up = |at: NodeId| (at != ROOT).then(|| self.node(at).parent);
        std::iter::successors(up(node), move |at| up(*at))
    }

    /// Returns the nodes above a path that exist, nearest first, the root included.
    pub fn above_path(&self, path: &RelPath) -> Vec<NodeId> {
        let mut found = Vec::new();
        let mut at = Some(ROOT);
        for name in path.components() {
            let Some(node) = at else { break };
            found.push(node);
            at = self.child(node, name);
        }
        found.reverse();
        found
    }

    /// Returns the nodes with a value at a node and below it, a directory before what it holds.
    pub fn within(&self, top: NodeId) -> Vec<NodeId> {
        self.walk(top).collect()
    }

    /// Goes through the nodes with a value at a node and below it, a directory before what it holds.
    pub fn walk(&self, top: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let mut stack = vec![top];
        let all = std::iter::from_fn(move || {
            let at = stack.pop()?;
            stack.extend(self.children(at));
            Some(at)
        });
        all.filter(|at| self.node(*at).value.is_some())
    }

    fn children(&self, of: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let there = |at: NodeId| (at != NOWHERE).then_some(at);
        std::iter::successors(there(self.node(of).first), move |at| there(self.node(*at).next))
    }

    fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let hash = self.hasher.hash_one((parent, name));
        let is_it = |id: &NodeId| {
            let node = self.node(*id);
            node.parent == parent && *node.name == *name
        };
        self.by_name.find(hash, is_it).copied()
    }

    /// Returns the nodes with a value, a directory before what it holds.
    pub fn all(&self) -> Vec<NodeId> {
        self.within(ROOT)
    }

    /// Returns the values in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().filter_map(|node| node.value.as_ref())
    }

    /// Whether a node below this one has a value.
    pub fn has_below(&self, node: NodeId) -> bool {
        // A node without a value has children, and so a value below it.
        self.node(node).first != NOWHERE
    }

    /// Returns the node of a path with its value; a new one has the value that `new` makes.
    pub fn at(&mut self, path: &RelPath, new: impl FnOnce() -> T) -> (NodeId, &mut T) {
        let node = self.make(path);
        let slot = &mut self.nodes[node.0 as usize].value;
        if slot.is_none() {
            self.values += 1;
        }
        (node, slot.get_or_insert_with(new))
    }

    /// Takes a node's value out. The node is gone unless there are values below it.
    pub fn take(&mut self, node: NodeId) -> Option<T> {
        let value = self.nodes.get_mut(node.0 as usize)?.value.take()?;
        self.values -= 1;
        self.prune(node);
        Some(value)
    }

    /// Gives everything at and below `from` the name `to`. What was at and below `to` made way: it is returned
    /// under the paths that it had, a directory before what it held. Nothing happens if the names are equal, or
    /// if `to` is below `from`, which no rename does.
    pub fn rename(&mut self, from: &RelPath, to: &RelPath) -> Vec<(RelPath, T)> {
        if from.is_root() || to.is_root() || to.is_within(from) {
            return Vec::new();
        }
        let moved = self.find(from);
        let old_parent = moved.map(|node| self.unlink(node));
        let replaced = self.cut(to);
        if let Some(node) = moved {
            self.link(node, to);
        }
        if let Some(parent) = old_parent {
            self.prune(parent);
        }
        replaced
    }

    /// Gives everything at and below each of two names the other. Neither may be above the other.
    pub fn swap(&mut self, one: &RelPath, other: &RelPath) {
        if one.is_within(other) || other.is_within(one) {
            return;
        }
        let first = self.find(one).map(|node| (node, self.unlink(node)));
        self.rename(other, one);
        let Some((node, old_parent)) = first else { return };
        self.link(node, other);
        self.prune(old_parent);
    }

    /// Removes everything at and below a path and returns it, a directory before what it held.
    pub fn cut(&mut self, path: &RelPath) -> Vec<(RelPath, T)> {
        let Some(top) = self.find(path) else { return Vec::new() };
        let mut found = Vec::new();
        let mut stack = vec![(top, path.clone())];
        let parent = (top != ROOT).then(|| self.unlink(top));
        while let Some((at, path)) = stack.pop() {
            let children: Vec<NodeId> = self.children(at).collect();
            for child in children {
                let below = path.join(&self.node(child).name);
                self.unlink(child);
                stack.push((child, below));
            }
            if let Some(value) = self.nodes[at.0 as usize].value.take() {
                self.values -= 1;
                found.push((path, value));
            }
            if at != ROOT {
                self.release(at);
            }
        }
        if let Some(parent) = parent {
            self.prune(parent);
        }
        found
    }

    fn node(&self, node: NodeId) -> &Node<T> {
        &self.nodes[node.0 as usize]
    }

    /// Takes a node out of its parent's names and returns the parent, which may be empty now.
    fn unlink(&mut self, id: NodeId) -> NodeId {
        let Node { parent, next, before, ref name, .. } = self.nodes[id.0 as usize];
        let hash = self.hasher.hash_one((parent, &**name));
        if let Ok(entry) = self.by_name.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        if next != NOWHERE {
            self.nodes[next.0 as usize].before = before;
        }
        if before == NOWHERE {
            self.nodes[parent.0 as usize].first = next;
        } else {
            self.nodes[before.0 as usize].next = next;
        }
        parent
    }

    fn link(&mut self, node: NodeId, path: &RelPath) {
        let parent = self.make(&path.parent().unwrap_or_default());
        self.nodes[node.0 as usize].name = path.name().into();
        self.put_below(parent, node);
    }

    /// Makes a node, whose name it has, the first child of another.
    fn put_below(&mut self, parent: NodeId, id: NodeId) {
        let first = std::mem::replace(&mut self.nodes[parent.0 as usize].first, id);
        if first != NOWHERE {
            self.nodes[first.0 as usize].before = id;
        }
        let node = &mut self.nodes[id.0 as usize];
        (node.parent, node.next, node.before) = (parent, first, NOWHERE);
        let Self { nodes, by_name, hasher, .. } = self;
        let hash = |id: &NodeId| {
            let node = &nodes[id.0 as usize];
            hasher.hash_one((node.parent, &*node.name))
        };
        by_name.insert_unique(hash(&id), id, hash);
    }

    fn release(&mut self, node: NodeId) {
        let gone = &mut self.nodes[node.0 as usize];
        (gone.parent, gone.name) = (NOWHERE, Box::default());
        self.free.push(node);
    }

    fn make(&mut self, path: &RelPath) -> NodeId {
        let mut at = ROOT;
        for name in path.components() {
            at = self.child(at, name).unwrap_or_else(|| self.add(at, name));
        }
        at
    }

    fn add(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        let node = Node::new(parent, name);
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id.0 as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                NodeId(u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.put_below(parent, id);
        id
    }

    /// Removes a node, and those above it, as long as they carry nothing.
    fn prune(&mut self, node: NodeId) {
        let mut at = node;
        while at != ROOT && self.node(at).value.is_none() && self.node(at).first == NOWHERE {
            if self.node(at).parent == NOWHERE {
                return;
            }
            let parent = self.unlink(at);
            self.release(at);
            at = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect("a path")
    }

    #[test]
    fn a_rename_takes_along_what_is_below_and_returns_what_made_way() {
        let mut tree = NameTree::default();
        let (id, _) = tree.at(&path("a/y/z"), || 1);
        tree.at(&path("a/x"), || 2);
        tree.at(&path("b/old"), || 3);
        assert_eq!(tree.rename(&path("a"), &path("b")), [(path("b/old"), 3)]);
        assert_eq!(tree.path(id), path("b/y/z"));
        assert_eq!((tree.value_at(&path("b/x")), tree.find(&path("a")), tree.len()), (Some(&2), None, 2));
    }

    #[test]
    fn what_carries_nothing_is_not_kept() {
        let mut tree = NameTree::default();
        let (id, _) = tree.at(&path("a/b/c"), || ());
        assert_eq!(tree.take(id), Some(()));
        assert!(tree.is_empty() && tree.find(&path("a")).is_none());
        assert_eq!(tree.free.len(), 3);
    }

    /// Takes out of a map what is within a path, a directory before what it holds.
    fn cut(map: &mut BTreeMap<RelPath, u32>, top: &RelPath) -> Vec<(RelPath, u32)> {
        let (out, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(map).into_iter().partition(|(path, _)| path.is_within(top));
        *map = rest;
        out.into_iter().collect()
    }

    fn a_path() -> impl Strategy<Value = RelPath> {
        proptest::collection::vec(0_u8..3, 1..4).prop_map(|names| {
            let names: Vec<String> = names.iter().map(|name| char::from(b'a' + name).to_string()).collect();
            path(&names.join("/"))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn it_is_a_map_of_paths(steps in proptest::collection::vec((0_u8..6, a_path(), a_path()), 1..60)) {
            let (mut tree, mut naive) = (NameTree::default(), BTreeMap::new());
            let mut ids: BTreeMap<u32, NodeId> = BTreeMap::new();
            for (number, (kind, one, other)) in (0_u32..).zip(steps) {
                match kind {
                    0..=2 => {
                        let (id, value) = tree.at(&one, || number);
                        ids.insert(*value, id);
                        naive.entry(one).or_insert(number);
                    }
                    3 => {
                        let taken = tree.find(&one).and_then(|id| tree.take(id));
                        prop_assert_eq!(taken, naive.remove(&one));
                    }
                    4 if !other.is_within(&one) => {
                        let moved = cut(&mut naive, &one);
                        let mut replaced = cut(&mut naive, &other);
                        replaced.retain(|(path, _)| !path.is_within(&one));
                        naive.extend(moved.into_iter().filter_map(|(p, v)| Some((p.rebase(&one, &other)?, v))));
                        let mut returned = tree.rename(&one, &other);
                        let above = |at: usize| returned[at + 1..].iter().any(|(p, _)| returned[at].0.is_within(p));
                        prop_assert!(!(0..returned.len()).any(above));
                        returned.sort();
                        prop_assert_eq!(returned, replaced);
                    }
                    5 if !other.is_within(&one) && !one.is_within(&other) => {
                        let (a, b) = (cut(&mut naive, &one), cut(&mut naive, &other));
                        naive.extend(a.into_iter().filter_map(|(p, v)| Some((p.rebase(&one, &other)?, v))));
                        naive.extend(b.into_iter().filter_map(|(p, v)| Some((p.rebase(&other, &one)?, v))));
                        tree.swap(&one, &other);
                    }
                    _ => {}
                }
                prop_assert_eq!(tree.len(), naive.len());
                for (path, value) in &naive {
                    prop_assert_eq!(tree.value_at(path), Some(value));
                    prop_assert_eq!(tree.path(ids[value]), path.clone());
                }
                let all: Vec<RelPath> = tree.all().into_iter().map(|id| tree.path(id)).collect();
                prop_assert_eq!(all.len(), naive.len());
                let carried = tree.nodes.len() - tree.free.len() - 1;
                let mut wanted = std::collections::BTreeSet::new();
                for path in naive.keys() {
                    wanted.extend(std::iter::successors(Some(path.clone()), RelPath::parent));
                }
                prop_assert_eq!(carried, wanted.iter().filter(|path| !path.is_root()).count());
            }
        }
    }
}
