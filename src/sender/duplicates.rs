//! Small files whose content was sent before in this session: they travel as the name of the other.
//!
//! **Invariants:** the receiver compares the hash, so a name that holds something else by now, or
//! nothing, costs a round trip and no more; memory is bounded.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::changes::Done;
use super::outbox::Content;
use super::session::Session;
use super::source::SourceFile;
use crate::monitor::Counters;
use crate::protocol::{ToReceiver, VERSION_DUPLICATE};
use crate::tree::{Attrs, RelPath};

/// Below this length in bytes a content is hardly longer than a name.
const LEN_MIN: usize = 512;
/// Contents that are remembered. Just below where the table would double.
const CONTENTS_MAX: usize = 14_000;

/// Under which names contents were sent.
#[derive(Default)]
pub(super) struct Contents {
    /// By the beginning of their hash: the receiver knows better in the end.
    names: HashMap<u64, RelPath>,
    order: VecDeque<u64>,
}

impl Contents {
    fn get(&self, hash: &[u8; 32]) -> Option<&RelPath> {
        self.names.get(&key(hash))
    }

    fn insert(&mut self, hash: &[u8; 32], path: RelPath) {
        if self.names.insert(key(hash), path).is_none() {
            self.order.push_back(key(hash));
        }
        while self.order.len() > CONTENTS_MAX {
            if let Some(old) = self.order.pop_front() {
                self.names.remove(&old);
            }
        }
    }
}

fn key(hash: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Session {
    /// Sends what a small file holds, or the name of another file that holds the same. A version is its
    /// hash, whether somebody may have been writing, and whether it is its file's only name.
    pub(super) fn put(
        &mut self,
        path: &RelPath,
        attrs: Attrs,
        version: ([u8; 32], bool, bool),
        (file, data): (&SourceFile, &[u8]),
    ) -> Done {
        let (hash, provisional, alone) = version;
        let counters = &self.shared.status.counters;
        // Of the names of one file each may be waiting for the other.
        let remembers = alone && data.len() >= LEN_MIN && self.shared.version >= VERSION_DUPLICATE;
        // What failed before travels whole.
        let like = self.contents.get(&hash).filter(|_| remembers && !self.whole.contains(path));
        if let Some(like) = like.filter(|like| *like != path) {
            Counters::add(&counters.matched_bytes, data.len() as u64);
            let (path, like) = (path.clone(), like.clone());
            return self.send(&ToReceiver::Duplicate { path, like, attrs, hash, provisional });
        }
        Counters::add(&counters.literal_bytes, data.len() as u64);
        if remembers && !provisional {
            self.contents.insert(&hash, path.clone());
        }
        let head = ToReceiver::Put { path: path.clone(), attrs, hash, provisional, data: Cow::Borrowed(&[]) };
        let source = Arc::clone(&self.shared.source);
        self.send_content(&head, &Content { source: &source, file, offset: 0, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_contents_are_forgotten_first_and_the_last_name_counts() {
        let path = |number: usize| RelPath::new(number.to_string()).unwrap();
        let hash = |number: usize| *blake3::hash(&number.to_le_bytes()).as_bytes();
        let mut contents = Contents::default();
        (0..=CONTENTS_MAX).for_each(|number| contents.insert(&hash(number), path(number)));
        assert_eq!((contents.get(&hash(0)), contents.get(&hash(1))), (None, Some(&path(1))));
        contents.insert(&hash(1), path(7));
        assert_eq!(contents.get(&hash(1)), Some(&path(7)));
        assert_eq!(contents.order.len(), CONTENTS_MAX);
    }
}
