//! What a receiver keeps of what it replaces and removes, and the errands of people who look for it.

use serde::{Deserialize, Serialize};

use crate::tree::{Kind, RelPath, Time};

/// How much of what is removed and replaced is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashLimits {
    /// Seconds for which an entry is kept.
    pub keep_secs: u64,
    /// Bytes that all of them may take.
    pub max_bytes: u64,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errand {
    /// To mirror.
    #[default]
    Mirror,
    /// To look at a target, or to put back what is kept there. No root is made for it, and a closed
    /// target does not refuse it.
    Keeper,
    /// To say what a pass would do. Where no root is, an empty one stands for it.
    Rehearsal,
}

/// What a sender asks for besides; one that says nothing of it asks for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What the session is for.
    pub errand: Errand,
    /// What is removed and replaced is kept, within these limits.
    pub trash: Option<TrashLimits>,
    /// What has arrived of a file when the connection ends is kept for the next session.
    pub partial: bool,
}

/// Reads what may be missing at the end of a hello.
pub(super) fn terms_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Terms, D::Error> {
    Ok(Terms::deserialize(from).unwrap_or_default())
}

/// Returns what a partial file is called by: BLAKE3 of its path, the first 16 bytes.
pub fn partial_mark(path: &RelPath) -> [u8; 16] {
    let hash = *blake3::hash(path.as_bytes()).as_bytes();
    let mut mark = [0; 16];
    mark.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    mark
}

/// Where a receiver keeps something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keeping {
    /// What the mirror removed or replaced.
    Trash,
    /// What someone else wrote on the target.
    Strangers,
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Since {
    /// So many milliseconds before now, on the receiver's clock.
    Ago(u64),
    /// This one.
    At(Time),
}

/// What is to be put back, or listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Where it is kept.
    pub place: Keeping,
    /// What was put there from this moment on.
    pub since: Since,
    /// Only these paths and what is below them; everything if there are none.
    pub paths: Vec<RelPath>,
}

/// One entry that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptEntry {
    /// When it was put there, on the receiver's clock.
    pub time: Time,
    /// Where it stood.
    pub path: RelPath,
    /// What it is.
    pub kind: Kind,
    /// Bytes of a regular file.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Whether something stands at its path, which gives way to it.
    pub replaces: bool,
    /// Why it could not be put back, as errno; 0 if nothing was wrong.
    pub errno: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Hello {
        number: u8,
        #[serde(deserialize_with = "terms_or_none")]
        terms: Terms,
    }

    #[test]
    fn a_hello_that_ends_before_its_terms_has_none() {
        let trash = Some(TrashLimits { keep_secs: 7, max_bytes: 9 });
        let new = Hello { number: 7, terms: Terms { trash, ..Terms::default() } };
        let bytes = postcard::to_stdvec(&new).unwrap();
        assert_eq!(postcard::from_bytes::<Hello>(&bytes).unwrap(), new);
        let old: Hello = postcard::from_bytes(&bytes[..1]).unwrap();
        assert_eq!(old, Hello { number: 7, terms: Terms::default() });
    }
}
