//! What was sent lately, for telling renames of what the target holds from renames of something newer.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::tree::{Entry, RelPath, Version};

/// Versions that are remembered: as many as the table holds before it doubles.
const RECENT_MAX: usize = 7_000;

/// A version that was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub version: Version,
    /// When its reading began.
    pub began: Instant,
    /// BLAKE3 of the content.
    pub hash: [u8; 32],
    /// How often in a row it was provisional.
    pub provisional: u32,
}

/// A version of a file that is on its way.
pub(super) struct Delivered<'a> {
    pub entry: &'a Entry,
    pub hash: [u8; 32],
    pub provisional: bool,
}

/// The versions that were sent last, by path.
#[derive(Default)]
pub(super) struct Recent {
    sent: HashMap<RelPath, Sent>,
    order: VecDeque<RelPath>,
}

impl Recent {
    /// Remembers that `path` was sent.
    pub fn insert(&mut self, path: RelPath, sent: Sent) {
        if self.sent.insert(path.clone(), sent).is_none() {
            self.order.push_back(path);
        }
        while self.order.len() > RECENT_MAX {
            if let Some(old) = self.order.pop_front() {
                self.sent.remove(&old);
            }
        }
    }

    /// Returns what was sent for a path lately.
    pub fn get(&self, path: &RelPath) -> Option<Sent> {
        self.sent.get(path).copied()
    }

    /// Follows a rename; returns the new names of what was sent below the old one.
    pub fn rename(&mut self, from: &RelPath, to: &RelPath) -> Vec<(RelPath, Sent)> {
        let moved: Vec<RelPath> = self.sent.keys().filter(|path| path.is_within(from)).cloned().collect();
        moved
            .into_iter()
            .filter_map(|old| {
                let sent = self.sent.remove(&old)?;
                let new = old.rebase(from, to)?;
                self.insert(new.clone(), sent);
                Some((new, sent))
            })
            .collect()
    }
}
