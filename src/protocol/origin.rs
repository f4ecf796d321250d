//! Where a session comes from, for a receiver that has to judge whether it may take it.
//!
//! **In → Out:** what a hello says of the sending daemon and of the trees before it; what a receiver notes of
//! the session that holds its root. **Invariants:** everything in it is bounded, whoever wrote it.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::place::RootPlace;

/// Most former identities that a hello carries.
pub const FORMER_MAX: usize = 32;
/// Most trees in a chain of mirrors.
pub const CHAIN_MAX: usize = 16;
/// Where a receiver notes its [`Holder`], in its state directory.
pub const HOLDER_FILE: &str = "holder";
/// Longest name of a daemon or a tree, in bytes.
const NAME_LEN_MAX: usize = 300;

/// A tree in a chain of mirrors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Where it is.
    pub place: RootPlace,
    /// What people call it: `HOST:PATH`.
    pub name: String,
}

/// What a sender says of itself besides; one that says nothing of it is an older one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Identities that earlier versions gave this mirror, which depended on how its paths were written. A
    /// tree that carries one of them is this mirror's, and takes the present one.
    pub former: Vec<[u8; 16]>,
    /// Random; the same for every session of one start of the daemon.
    pub start: [u8; 16],
    /// What people call the daemon: its process and its host.
    pub who: String,
    /// What people call the source.
    pub name: String,
    /// The trees from which the source itself is mirrored now, the first one first.
    pub upstream: Vec<Tree>,
}

/// What a receiver notes of the live session that holds its root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Number of the session.
    pub session: u64,
    /// As in [`Origin::start`].
    pub start: [u8; 16],
    /// As in [`Origin::who`].
    pub who: String,
    /// The trees from which the root is mirrored, the source of the session last.
    pub chain: Vec<Tree>,
    /// The session's filters: what they exclude is not mirrored to the root.
    pub filters: Vec<ByteBuf>,
    /// What they exclude is deleted from the root all the same.
    #[serde(default)]
    pub delete_excluded: bool,
}

impl Origin {
    /// Returns the same within its bounds.
    fn bounded(mut self) -> Self {
        self.former.truncate(FORMER_MAX);
        self.upstream.truncate(CHAIN_MAX);
        cut(&mut self.who);
        cut(&mut self.name);
        self.upstream.iter_mut().for_each(|tree| cut(&mut tree.name));
        self
    }
}

/// Reads what may be missing at the end of a hello.
pub(super) fn origin_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Origin, D::Error> {
    Ok(Origin::deserialize(from).unwrap_or_default().bounded())
}

/// Returns the names of a circle of mirrors that a mirror along `chain` to `root` would close, from the tree
/// that is mirrored onto itself; `None` if there is none.
pub fn circle(chain: &[Tree], root: &RootPlace) -> Option<Vec<String>> {
    let at = chain.iter().position(|tree| tree.place.overlaps(root))?;
    Some(chain.iter().skip(at).map(|tree| tree.name.clone()).collect())
}

fn cut(text: &mut String) {
    while text.len() > NAME_LEN_MAX {
        text.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::FileId;

    fn tree(host: &str, inodes: &[u64]) -> Tree {
        let lineage = inodes.iter().map(|&ino| FileId { dev: 1, ino }).collect();
        Tree { place: RootPlace { boot_id: host.to_owned(), lineage }, name: format!("{host}:{inodes:?}") }
    }

    #[test]
    fn a_circle_is_named_from_the_tree_that_it_comes_back_to() {
        let (a, b, c) = (tree("one", &[5, 2]), tree("two", &[5, 2]), tree("three", &[9, 2]));
        let names = |trees: &[&Tree]| Some(trees.iter().map(|tree| tree.name.clone()).collect::<Vec<_>>());
        let chain = [a.clone(), b.clone(), c.clone()];
        for (root, wanted) in [
            (tree("one", &[5, 2]), names(&[&a, &b, &c])),
            (tree("two", &[5, 2]), names(&[&b, &c])),
            // Below one of them, and above.
            (tree("two", &[7, 5, 2]), names(&[&b, &c])),
            (tree("three", &[2]), names(&[&c])),
            (tree("one", &[6, 2]), None),
            (tree("four", &[5, 2]), None),
            (tree("", &[5, 2]), None),
        ] {
            assert_eq!(circle(&chain, &root.place), wanted, "{}", root.name);
        }
    }

    #[test]
    fn what_a_stranger_says_of_itself_is_bounded() {
        let long = "é".repeat(10_000);
        let upstream = vec![Tree { name: long.clone(), ..tree("h", &[1]) }; 100];
        let origin =
            Origin { former: vec![[0; 16]; 1000], who: long, upstream, ..Origin::default() }.bounded();
        assert_eq!((origin.former.len(), origin.upstream.len()), (FORMER_MAX, CHAIN_MAX));
        assert!(origin.who.len() <= NAME_LEN_MAX && origin.upstream[0].name.len() <= NAME_LEN_MAX);
    }
}
