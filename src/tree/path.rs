//! Relative paths as bytes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest file name that Linux filesystems store, in bytes.
pub const NAME_LEN_MAX: usize = 255;

/// How the names of speil's own temporary files begin; no mirrored name may.
pub const TEMP_PREFIX: &[u8] = b".speil-";
/// Name of the directory in a target's root that holds the receiver's state.
pub const STATE_DIR: &[u8] = b".speil";

/// A path below a root, as bytes: components joined by `/`, no leading or trailing slash.
///
/// The empty path is the root itself. Orders bytewise, so everything below `d` lies between
/// `d/` and `d0`. A copy shares the bytes: every stage has tables of the same paths.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
pub struct RelPath(Arc<[u8]>);

/// Why bytes are no [`RelPath`]. Consequence: skip; the peer or the file name is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component is empty, `.` or `..`.
    #[error("path {} has an empty, \".\" or \"..\" component", quote(.0))]
    Component(Vec<u8>),
    /// A component holds a NUL byte.
    #[error("path {} holds a NUL byte", quote(.0))]
    Nul(Vec<u8>),
    /// A component is longer than [`NAME_LEN_MAX`].
    #[error("path {} has a component of more than 255 bytes", quote(.0))]
    Long(Vec<u8>),
}

/// Checks one file name.
///
/// # Errors
/// [`PathError`] for an empty name, `.`, `..`, a slash, a NUL, or more than 255 bytes.
pub fn check_name(name: &[u8]) -> Result<(), PathError> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(PathError::Component(name.to_vec()));
    }
    if name.contains(&0) {
        return Err(PathError::Nul(name.to_vec()));
    }
    if name.len() > NAME_LEN_MAX {
        return Err(PathError::Long(name.to_vec()));
    }
    Ok(())
}

impl RelPath {
    /// Returns the root itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks `bytes` and returns them as a path; empty bytes are the root.
    ///
    /// # Errors
    /// [`PathError`] if a component is empty, `.`, `..`, too long or holds a NUL.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            for name in bytes.split(|&b| b == b'/') {
                check_name(name).map_err(|error| match error {
                    PathError::Component(_) => PathError::Component(bytes.clone()),
                    PathError::Nul(_) => PathError::Nul(bytes.clone()),
                    PathError::Long(_) => PathError::Long(bytes.clone()),
                })?;
            }
        }
        Ok(Self(bytes.into()))
    }

    /// Returns the path of `name` below this one. The name must have passed [`check_name`].
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        debug_assert!(check_name(name).is_ok());
        if self.is_root() { Self(name.into()) } else { Self::of_parts(&self.0, b'/', name) }
    }

    /// Returns both parts with a byte in between, by way of the stack where they are as short as most.
    fn of_parts(head: &[u8], between: u8, tail: &[u8]) -> Self {
        let mut short = [0; 256];
        let len = head.len() + 1 + tail.len();
        if let Some((whole, _)) = short.split_at_mut_checked(len) {
            let (first, rest) = whole.split_at_mut(head.len());
            first.copy_from_slice(head);
            rest[0] = between;
            rest[1..].copy_from_slice(tail);
            return Self((&*whole).into());
        }
        Self([head, &[between], tail].concat().into())
    }

    /// Returns the directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        Some(Self(self.parent_bytes().into()))
    }

    /// Returns the path of the directory that holds this path, as bytes; empty for the root itself.
    pub fn parent_bytes(&self) -> &[u8] {
        let cut = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        &self.0[..cut]
    }

    /// Returns the last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(cut) => &self.0[cut + 1..],
            None => &self.0,
        }
    }

    /// Returns the components from the top; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|name| !name.is_empty())
    }

    /// Returns how many components the path has.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this path is `above` or lies below it.
    pub fn is_within(&self, above: &Self) -> bool {
        above.is_root()
            || (self.0.starts_with(&above.0)
                && (self.0.len() == above.0.len() || self.0[above.0.len()] == b'/'))
    }

    /// Returns this path with the leading `from` replaced by `to`; `None` if it is not within `from`.
    pub fn rebase(&self, from: &Self, to: &Self) -> Option<Self> {
        if !self.is_within(from) {
            return None;
        }
        let rest = &self.0[from.0.len()..];
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        if rest.is_empty() {
            return Some(to.clone());
        }
        Some(if to.is_root() { Self(rest.into()) } else { Self::of_parts(&to.0, b'/', rest) })
    }

    /// Returns the part of this path below `above`; `None` if it is not within it.
    pub fn below(&self, above: &Self) -> Option<Self> {
        self.rebase(above, &Self::root())
    }

    /// Returns the half-open range of byte strings that holds every path strictly below this one,
    /// for range queries over sorted maps. Not meaningful for the root, below which everything lies.
    pub fn below_range(&self) -> (Self, Self) {
        (Self::of_parts(&self.0, b'/', b""), Self::of_parts(&self.0, b'/' + 1, b""))
    }

    /// Returns the bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<serde_bytes::ByteBuf> for RelPath {
    type Error = PathError;
    fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, PathError> {
        Self::new(bytes.into_vec())
    }
}

impl From<RelPath> for serde_bytes::ByteBuf {
    fn from(path: RelPath) -> Self {
        Self::from(path.0.to_vec())
    }
}

impl TryFrom<&str> for RelPath {
    type Error = PathError;
    fn try_from(text: &str) -> Result<Self, PathError> {
        Self::new(text.as_bytes())
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("\".\"") } else { f.write_str(&quote(&self.0)) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns a word as a shell reads it: as it is, or in single quotes.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Returns `bytes` in double quotes with quotes, backslashes, control characters and bytes that are
/// no UTF-8 escaped, so that a name can forge neither a log line nor terminal output.
pub fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                // Bidirectional controls can reorder what a terminal shows.
                c if c.is_control()
                    || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
                    || ('\u{2066}'..='\u{2069}').contains(&c) =>
                {
                    text.push_str(&format!("\\u{{{:x}}}", c as u32));
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    #[test]
    fn paths_that_could_leave_the_root_are_refused() {
        for bad in ["/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b"] {
            assert!(RelPath::try_from(bad).is_err(), "{bad:?}");
        }
        assert!(RelPath::new(vec![b'x'; 256]).is_err());
        assert!(RelPath::new(vec![b'x'; 255]).is_ok());
        assert!(path("").is_root());
    }

    #[test]
    fn rebase_moves_a_subtree_and_only_it() {
        assert_eq!(path("d/f/g").rebase(&path("d"), &path("e/x")), Some(path("e/x/f/g")));
        assert_eq!(path("d").rebase(&path("d"), &path("e")), Some(path("e")));
        assert_eq!(path("df").rebase(&path("d"), &path("e")), None);
        assert_eq!(path("a/b").rebase(&RelPath::root(), &path("e")), Some(path("e/a/b")));
        assert_eq!(path("d/f").below(&path("d")), Some(path("f")));
    }

    #[test]
    fn below_range_holds_the_children_and_no_sibling() {
        let (low, high) = path("d").below_range();
        for inside in ["d/a", "d/a/b"] {
            assert!(low <= path(inside) && path(inside) < high);
        }
        for outside in ["d", "d-", "d.x", "d0", "da"] {
            assert!(!(low <= path(outside) && path(outside) < high), "{outside}");
        }
    }

    #[test]
    fn quote_shows_no_control_character() {
        assert_eq!(quote(b"a\x1b[2J\n\"\xff\\"), "\"a\\u{1b}[2J\\n\\\"\\xff\\\\\"");
        assert_eq!(quote("blå".as_bytes()), "\"blå\"");
    }

    #[test]
    fn parent_and_name_split_at_the_last_slash() {
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(RelPath::root()));
        assert_eq!(RelPath::root().parent(), None);
        assert_eq!(path("a/b").name(), b"b");
        assert_eq!(path("a/b/c").components().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    }
}
