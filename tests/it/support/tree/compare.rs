//! Compares two trees and names every difference.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use speil::tree::quote;
use walkdir::WalkDir;

/// In what an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// Only the first tree has it.
    Missing,
    /// Only the second tree has it.
    Extra,
    /// One side could not be read: it vanished, or access was refused.
    Unreadable,
    /// File, directory, symlink, …
    Type,
    /// The bytes of a file.
    Content,
    /// Permission, set-id and sticky bits.
    Mode,
    /// The user id.
    Owner,
    /// The group id.
    Group,
    /// The modification time, in nanoseconds.
    Time,
    /// Where a symlink points.
    Link,
    /// Extended attributes, ACLs among them.
    Xattrs,
    /// Major and minor number of a device.
    Device,
    /// Which names share the inode.
    HardLinks,
    /// The second side stores data where the first has a hole.
    Holes,
}

/// One aspect in which one entry differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path below both roots; empty for the root.
    pub path: Vec<u8>,
    /// In what.
    pub aspect: Aspect,
    /// Both values, for people.
    pub detail: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", quote(&self.path), self.aspect, self.detail)
    }
}

/// What a comparison looks at, besides names, types, contents and symlink targets.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// Modes.
    pub modes: bool,
    /// Owners and groups.
    pub owners: bool,
    /// Modification times.
    pub times: bool,
    /// Extended attributes and ACLs.
    pub xattrs: bool,
    /// Which names share an inode.
    pub hard_links: bool,
    /// Whether holes stayed holes.
    pub holes: bool,
    /// The metadata of the roots themselves.
    pub root: bool,
}

impl Default for Comparison {
    /// Everything but holes.
    fn default() -> Self {
        Self {
            modes: true,
            owners: true,
            times: true,
            xattrs: true,
            hard_links: true,
            holes: false,
            root: true,
        }
    }
}

/// Returns every difference between two trees, by path; `.speil` in a root is not looked at.
pub fn compare(a: &Path, b: &Path) -> Vec<Difference> {
    Comparison::default().compare(a, b)
}

/// Fails unless two trees are equal in everything but holes.
///
/// # Panics
/// With the first differences.
#[track_caller]
pub fn assert_same(a: &Path, b: &Path) {
    let differences = compare(a, b);
    let shown: Vec<String> = differences.iter().take(30).map(Difference::to_string).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), shown.join("\n"));
}

/// One entry of one tree.
struct Node {
    path: PathBuf,
    meta: Metadata,
}

/// One tree as it was read.
#[derive(Default)]
struct Side {
    nodes: BTreeMap<Vec<u8>, Node>,
    /// The names of every inode that has more than one inside the tree, by each of them.
    fellows: HashMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    problems: Vec<(Vec<u8>, String)>,
}

impl Comparison {
    /// Returns names, types, contents and symlink targets only.
    pub const fn contents_only() -> Self {
        Self {
            modes: false,
            owners: false,
            times: false,
            xattrs: false,
            hard_links: false,
            holes: false,
            root: false,
        }
    }

    /// Returns every difference between two trees, by path.
    pub fn compare(&self, a: &Path, b: &Path) -> Vec<Difference> {
        let (a, b) = (Side::read(a), Side::read(b));
        let mut found = Vec::new();
        for (side, name) in [(&a, "first"), (&b, "second")] {
            for (path, problem) in &side.problems {
                note(&mut found, path, Aspect::Unreadable, format!("{name}: {problem}"));
            }
        }
        for (path, node) in &a.nodes {
            match b.nodes.get(path) {
                Some(other) => self.compare_nodes(path, node, other, &mut found),
                None => note(&mut found, path, Aspect::Missing, type_name(&node.meta)),
            }
            let (ours, theirs) = (a.fellows.get(path), b.fellows.get(path));
            if self.hard_links && ours != theirs && b.nodes.contains_key(path) {
                note(&mut found, path, Aspect::HardLinks, format!("{} / {}", names(ours), names(theirs)));
            }
        }
        for (path, node) in &b.nodes {
            if !a.nodes.contains_key(path) {
                note(&mut found, path, Aspect::Extra, type_name(&node.meta));
            }
        }
        found.sort_by(|x, y| (&x.path, x.aspect).cmp(&(&y.path, y.aspect)));
        found
    }

    fn compare_nodes(&self, path: &[u8], a: &Node, b: &Node, found: &mut Vec<Difference>) {
        if a.meta.file_type() != b.meta.file_type() {
            let detail = format!("{} / {}", type_name(&a.meta), type_name(&b.meta));
            return note(found, path, Aspect::Type, detail);
        }
        if !path.is_empty() || self.root {
            self.compare_metadata(path, a, b, found);
        }
        let kind = a.meta.file_type();
        let checked = if kind.is_symlink() {
            compare_links(path, a, b, found)
        } else if kind.is_file() {
            self.compare_files(path, a, b, found)
        } else {
            Ok(())
        };
        if let Err(error) = checked {
            note(found, path, Aspect::Unreadable, error.to_string());
        }
    }

    fn compare_metadata(&self, path: &[u8], a: &Node, b: &Node, found: &mut Vec<Difference>) {
        let (x, y) = (&a.meta, &b.meta);
        // Linux knows no mode of a symlink.
        if self.modes && !x.is_symlink() && x.mode() != y.mode() {
            note(found, path, Aspect::Mode, format!("{:o} / {:o}", x.mode(), y.mode()));
        }
        if self.owners && x.uid() != y.uid() {
            note(found, path, Aspect::Owner, format!("{} / {}", x.uid(), y.uid()));
        }
        if self.owners && x.gid() != y.gid() {
            note(found, path, Aspect::Group, format!("{} / {}", x.gid(), y.gid()));
        }
        let (ours, theirs) = ((x.mtime(), x.mtime_nsec()), (y.mtime(), y.mtime_nsec()));
        if self.times && ours != theirs {
            let detail = format!("{}.{:09} / {}.{:09}", ours.0, ours.1, theirs.0, theirs.1);
            note(found, path, Aspect::Time, detail);
        }
        let device = x.file_type().is_char_device() || x.file_type().is_block_device();
        if device && x.rdev() != y.rdev() {
            note(found, path, Aspect::Device, format!("{:x} / {:x}", x.rdev(), y.rdev()));
        }
        if self.xattrs {
            match (xattrs(&a.path), xattrs(&b.path)) {
                (Ok(ours), Ok(theirs)) if ours == theirs => {}
                (Ok(ours), Ok(theirs)) => {
                    note(found, path, Aspect::Xattrs, format!("{} / {}", shown(&ours), shown(&theirs)));
                }
                (Err(error), _) | (_, Err(error)) => {
                    note(found, path, Aspect::Unreadable, format!("xattrs: {error}"));
                }
            }
        }
    }

    fn compare_files(&self, path: &[u8], a: &Node, b: &Node, found: &mut Vec<Difference>) -> io::Result<()> {
        if a.meta.len() != b.meta.len() {
            let detail = format!("{} / {} bytes", a.meta.len(), b.meta.len());
            note(found, path, Aspect::Content, detail);
            return Ok(());
        }
        let (ours, theirs) = (File::open(&a.path)?, File::open(&b.path)?);
        if let Some(at) = first_difference(&ours, &theirs)? {
            note(found, path, Aspect::Content, format!("{} bytes, from byte {at}", a.meta.len()));
        }
        if self.holes && data_bytes(&theirs, b.meta.len())? > data_bytes(&ours, a.meta.len())? {
            note(found, path, Aspect::Holes, format!("{} / {} blocks", a.meta.blocks(), b.meta.blocks()));
        }
        Ok(())
    }
}

fn compare_links(path: &[u8], a: &Node, b: &Node, found: &mut Vec<Difference>) -> io::Result<()> {
    let (ours, theirs) = (fs::read_link(&a.path)?, fs::read_link(&b.path)?);
    if ours != theirs {
        let quoted = |link: &Path| quote(link.as_os_str().as_bytes());
        note(found, path, Aspect::Link, format!("{} / {}", quoted(&ours), quoted(&theirs)));
    }
    Ok(())
}

fn note(found: &mut Vec<Difference>, path: &[u8], aspect: Aspect, detail: impl Into<String>) {
    found.push(Difference { path: path.to_vec(), aspect, detail: detail.into() });
}

impl Side {
    fn read(root: &Path) -> Self {
        let mut side = Self::default();
        let mut inodes: HashMap<(u64, u64), BTreeSet<Vec<u8>>> = HashMap::new();
        let below = |path: &Path| {
            path.strip_prefix(root).map(|below| below.as_os_str().as_bytes().to_vec()).unwrap_or_default()
        };
        let walk = WalkDir::new(root).into_iter();
        for entry in walk.filter_entry(|entry| entry.depth() != 1 || entry.file_name() != ".speil") {
            let read = entry.and_then(|entry| Ok((entry.metadata()?, entry.into_path())));
            match read {
                Ok((meta, path)) => {
                    if meta.nlink() > 1 && !meta.is_dir() {
                        inodes.entry((meta.dev(), meta.ino())).or_default().insert(below(&path));
                    }
                    side.nodes.insert(below(&path), Node { path, meta });
                }
                Err(error) => {
                    let path = error.path().map(below).unwrap_or_default();
                    side.problems.push((path, error.to_string()));
                }
            }
        }
        // A fellow outside the tree is nobody's business.
        for group in inodes.into_values().filter(|group| group.len() > 1) {
            for name in &group {
                side.fellows.insert(name.clone(), group.clone());
            }
        }
        side
    }
}

fn names(group: Option<&BTreeSet<Vec<u8>>>) -> String {
    let Some(group) = group else { return "alone".to_owned() };
    let shown: Vec<String> = group.iter().map(|name| quote(name)).collect();
    shown.join(" = ")
}

fn type_name(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() => "character device",
        () if kind.is_block_device() => "block device",
        () => "file",
    }
}

/// Returns the first byte in which two files of one length differ.
fn first_difference(mut a: &File, mut b: &File) -> io::Result<Option<u64>> {
    const PIECE_BYTES: u64 = 1 << 20;
    let (mut ours, mut theirs, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        ours.clear();
        theirs.clear();
        a.by_ref().take(PIECE_BYTES).read_to_end(&mut ours)?;
        b.by_ref().take(PIECE_BYTES).read_to_end(&mut theirs)?;
        if ours != theirs {
            let same = ours.iter().zip(&theirs).take_while(|(x, y)| x == y).count();
            return Ok(Some(at + same as u64));
        }
        if ours.is_empty() {
            return Ok(None);
        }
        at += ours.len() as u64;
    }
}

/// Returns how many bytes of a file are stored, not holes.
fn data_bytes(file: &File, len: u64) -> io::Result<u64> {
    let (mut stored, mut at) = (0, 0);
    while at < len {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        stored += end - start;
        at = end;
    }
    Ok(stored)
}

/// Returns the extended attributes of an entry itself; a filesystem without any has none.
fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut list = vec![0; 64 << 10];
    let len = match rustix::fs::llistxattr(path, &mut list[..]) {
        Ok(len) => len,
        Err(rustix::io::Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in list[..len].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        // A host's labels are its own.
        if name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(len);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

fn shown(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let pairs: Vec<String> =
        xattrs.iter().map(|(name, value)| quote(&[name, &value[..]].join(&b'='))).collect();
    format!("{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests;
