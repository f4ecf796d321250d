//! Digests that prove two directories equal without listing them.
//!
//! The digest of a directory folds, in the order of names, every entry's name, type, metadata and
//! (for directories) digest, as far as the [`Mask`] keeps them. It does not contain the
//! directory's own name, so a renamed directory keeps its digest.

use super::{Attrs, Entry, FileId, Kind, Mask, RelPath};

/// A BLAKE3 digest, 32 bytes.
pub type Digest = [u8; 32];

/// Folds the entries of one directory, which must come in the order of their names.
pub struct DirDigest {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    mask: Mask,
}

impl DirDigest {
    /// Starts the digest of one directory under `mask`.
    pub fn new(mask: Mask) -> Self {
        Self { hasher: blake3::Hasher::new(), buffer: Vec::with_capacity(4096), mask }
    }

    /// Adds one entry. An entry of a type that the mask does not carry adds nothing.
    pub fn add(&mut self, entry: &Entry) {
        if !self.mask.carries(entry.attrs.meta.kind) {
            return;
        }
        put_bytes(&mut self.buffer, &entry.name);
        put_attrs(&mut self.buffer, &self.mask, &entry.attrs);
        if let Some(hash) = entry.hash.filter(|_| self.mask.checksum) {
            self.buffer.extend_from_slice(&hash);
        }
        if entry.attrs.meta.kind == Kind::Dir {
            // A directory that was not walked (another filesystem) counts as an empty one.
            self.buffer.extend_from_slice(&entry.digest.unwrap_or_default());
        }
        if self.buffer.len() > 4096 - 512 {
            self.flush();
        }
    }

    /// Returns the digest of everything that was added.
    pub fn finish(mut self) -> Digest {
        self.flush();
        *self.hasher.finalize().as_bytes()
    }

    fn flush(&mut self) {
        self.hasher.update(&self.buffer);
        self.buffer.clear();
    }
}

/// Returns the digest of one entry with everything below it: what the root of a pass is compared by.
pub fn entry_digest(mask: &Mask, attrs: &Attrs, below: &Digest) -> Digest {
    let mut buffer = Vec::with_capacity(256);
    put_attrs(&mut buffer, mask, attrs);
    buffer.extend_from_slice(below);
    *blake3::hash(&buffer).as_bytes()
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    buffer.extend_from_slice(bytes);
}

fn put_attrs(buffer: &mut Vec<u8>, mask: &Mask, attrs: &Attrs) {
    let meta = &attrs.meta;
    buffer.push(meta.kind as u8);
    if mask.perms && meta.kind != Kind::Symlink {
        let bits = if mask.set_id { 0o7777 } else { 0o777 };
        buffer.extend_from_slice(&(meta.mode & bits).to_le_bytes());
    }
    if mask.owner {
        buffer.extend_from_slice(&meta.uid.to_le_bytes());
    }
    if mask.group {
        buffer.extend_from_slice(&meta.gid.to_le_bytes());
    }
    // Without -t the time still tells a file that may have changed (rsync's quick check).
    let times =
        if meta.kind == Kind::File { !mask.checksum || mask.times } else { mask.keeps_time(meta.kind) };
    if times {
        let time = meta.mtime.truncated(mask.granularity_ns);
        buffer.extend_from_slice(&time.secs.to_le_bytes());
        buffer.extend_from_slice(&time.nanos.to_le_bytes());
    }
    match meta.kind {
        Kind::File => buffer.extend_from_slice(&meta.size.to_le_bytes()),
        Kind::Symlink => put_bytes(buffer, &attrs.symlink),
        Kind::CharDevice | Kind::BlockDevice => buffer.extend_from_slice(&meta.rdev.to_le_bytes()),
        Kind::Dir | Kind::Fifo | Kind::Socket => {}
    }
    if mask.wants_xattrs() {
        for xattr in mask.compared_xattrs(attrs) {
            put_bytes(buffer, &xattr.name);
            put_bytes(buffer, &xattr.value);
        }
        buffer.extend_from_slice(&u32::MAX.to_le_bytes());
    }
}

/// The second root digest: which names inside the tree are hard links of one file.
///
/// Groups of one name do not count: links from outside the tree are nobody's business.
#[derive(Debug, Default, Clone)]
pub struct LinkDigest {
    /// In one piece: there may be millions.
    names: Vec<(FileId, RelPath)>,
}

impl LinkDigest {
    /// Adds a name of a file that has several.
    pub fn add(&mut self, id: FileId, path: RelPath) {
        self.names.push((id, path));
    }

    /// Returns the groups of two or more names, each sorted, in the order of their first names.
    pub fn groups(&self) -> Vec<Vec<RelPath>> {
        self.with_groups(|group| group.iter().map(|(_, path)| path.clone()).collect())
    }

    /// Whether no file with several names was added.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Gives back the room for names to come.
    pub fn fit(&mut self) {
        self.names.shrink_to_fit();
    }

    /// Returns the names with their files, in no particular order.
    pub fn names(&self) -> &[(FileId, RelPath)] {
        &self.names
    }

    /// Returns the digest over all groups; the same on both sides if the same names are linked.
    pub fn finish(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = Vec::new();
        self.with_groups(|group| {
            buffer.clear();
            for (_, name) in group {
                put_bytes(&mut buffer, name.as_bytes());
            }
            buffer.extend_from_slice(&u32::MAX.to_le_bytes());
            hasher.update(&buffer);
        });
        *hasher.finalize().as_bytes()
    }

    /// Returns what `each` makes of the groups of two or more names, each sorted, in the order of their
    /// first names.
    pub fn with_groups<T>(&self, each: impl FnMut(&[&(FileId, RelPath)]) -> T) -> Vec<T> {
        let mut sorted: Vec<&(FileId, RelPath)> = self.names.iter().collect();
        sorted.sort_unstable();
        let groups = sorted.chunk_by(|(one, _), (other, _)| one == other);
        let mut groups: Vec<_> = groups.filter(|group| group.len() > 1).collect();
        groups.sort_unstable_by_key(|group| group.first().map(|(_, path)| path));
        groups.into_iter().map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, Time};

    fn file(name: &str, size: u64, nanos: u32) -> Entry {
        Entry {
            name: name.as_bytes().to_vec(),
            attrs: Attrs {
                meta: Meta {
                    kind: Kind::File,
                    mode: 0o644,
                    uid: 1,
                    gid: 2,
                    size,
                    mtime: Time { secs: 1_700_000_000, nanos },
                    rdev: 0,
                },
                symlink: Vec::new(),
                xattrs: Vec::new(),
            },
            ctime: Time::default(),
            id: FileId { dev: 1, ino: 1 },
            nlink: 1,
            hash: None,
            digest: None,
        }
    }

    fn digest<'a>(mask: Mask, entries: impl IntoIterator<Item = &'a Entry>) -> Digest {
        let mut digest = DirDigest::new(mask);
        entries.into_iter().for_each(|entry| digest.add(entry));
        digest.finish()
    }

    #[test]
    fn a_property_counts_only_if_the_mask_keeps_it() {
        let mut mask = Mask::everything();
        let (a, b) = (file("a", 1, 5), file("a", 1, 6));
        assert_ne!(digest(mask, [&a]), digest(mask, [&b]));
        mask.granularity_ns = 1_000_000_000;
        assert_eq!(digest(mask, [&a]), digest(mask, [&b]));
        let mut other = a.clone();
        other.attrs.meta.uid = 7;
        assert_ne!(digest(mask, [&a]), digest(mask, [&other]));
        mask.owner = false;
        assert_eq!(digest(mask, [&a]), digest(mask, [&other]));
    }

    #[test]
    fn names_and_sizes_always_count() {
        let mask = Mask::nothing();
        assert_ne!(digest(mask, &[file("a", 1, 0)]), digest(mask, &[file("b", 1, 0)]));
        assert_ne!(digest(mask, &[file("a", 1, 0)]), digest(mask, &[file("a", 2, 0)]));
        assert_ne!(digest(mask, &[file("a", 1, 0)]), digest(mask, &[file("a", 1, 0), file("b", 1, 0)]));
    }

    #[test]
    fn link_digest_ignores_inode_numbers_and_single_names() {
        let path = |text: &str| RelPath::try_from(text).unwrap();
        let id = |ino| FileId { dev: 1, ino };
        let mut a = LinkDigest::default();
        a.add(id(5), path("x"));
        a.add(id(5), path("y"));
        a.add(id(6), path("z"));
        let mut b = LinkDigest::default();
        b.add(id(9), path("y"));
        b.add(id(9), path("x"));
        assert_eq!(a.finish(), b.finish());
        b.add(id(9), path("z"));
        assert_ne!(a.finish(), b.finish());
    }
}
