//! Is this the host that we know?
//!
//! **In → Out:** the lines of the known_hosts files, a host's names and the key that it shows; a
//! [`Verdict`]. **Invariants:** pure but for [`Files::read`] and [`add`]; a key is taken for known
//! only if a line names the host and holds that very key; `@revoked` refuses whatever else is said.
//! **Not here:** certificates of hosts: `@cert-authority` lines vouch for none, so such a host needs
//! a line of its own. **Sources:** sshd(8) "SSH_KNOWN_HOSTS FILE FORMAT", ssh(1).

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A line in a file; lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileLine {
    /// The file.
    pub(super) file: PathBuf,
    /// The line.
    pub(super) line: usize,
}

/// What the files say about a host and the key that it showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This very key is noted for it.
    Known,
    /// Nothing is noted for it.
    Unknown,
    /// Another key is noted for it, there.
    Mismatch(FileLine),
    /// This very key is revoked, there.
    Revoked(FileLine),
}

/// A key as it stands in the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Its type, `ssh-ed25519`.
    pub(super) kind: String,
    /// The key in base64.
    pub(super) base64: String,
}

impl Key {
    /// Returns the key of a blob as the protocol carries it, `None` if it names no type.
    pub(super) fn of_blob(blob: &[u8]) -> Option<Self> {
        let (len, rest) = blob.split_first_chunk::<4>()?;
        let kind = rest.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        Some(Self { kind: std::str::from_utf8(kind).ok()?.to_owned(), base64: base64(blob) })
    }
}

/// Under which names a host stands in the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// `host`, or `[host]:port` where the port is not 22.
    pub(super) full: String,
    /// `host` alone, where `full` has a port: as in ssh, the key that is noted for it will do, and
    /// another key that is noted for it says nothing.
    bare: Option<String>,
}

impl Names {
    /// Returns the names of a host; an alias stands for itself, whatever the port.
    pub(super) fn new(host: &str, port: u16, alias: Option<&str>) -> Self {
        let host = alias.unwrap_or(host).to_ascii_lowercase();
        if alias.is_some() || port == 22 {
            return Self { full: host, bare: None };
        }
        Self { full: format!("[{host}]:{port}"), bare: Some(host) }
    }
}

/// Answers whether a hashed name (`|1|SALT|HASH`) is the hash of a plain one.
pub(super) trait NameHash {
    /// Returns whether `hashed` is the hash of `name`.
    fn is_of(&self, hashed: &str, name: &str) -> bool;
}

/// The content of the files, in the order in which they are asked.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: Vec<(PathBuf, String)>,
}

impl Files {
    /// Reads the files; one that does not exist is empty.
    ///
    /// # Errors
    /// The system's, with the file: an unreadable file may hold a revocation.
    pub(super) fn read<'p>(paths: impl Iterator<Item = &'p PathBuf>) -> Result<Self, (PathBuf, io::Error)> {
        let mut files = Vec::new();
        for path in paths {
            match std::fs::read(path) {
                Ok(bytes) => files.push((path.clone(), String::from_utf8_lossy(&bytes).into_owned())),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err((path.clone(), error)),
            }
        }
        Ok(Self { files })
    }

    /// Judges the key that a host shows.
    pub(super) fn judge(&self, names: &Names, key: &Key, hash: &dyn NameHash) -> Verdict {
        let mut mismatch = None;
        let mut known = false;
        for (place, line) in self.lines() {
            let same = line.key == key.base64;
            let named = line.names(&names.full, hash);
            let named_bare = || names.bare.as_deref().is_some_and(|bare| line.names(bare, hash));
            match line.marker {
                Some("@revoked") if same && (named || named_bare()) => return Verdict::Revoked(place()),
                Some(_) => {}
                None if same => known |= named || named_bare(),
                None if named => mismatch = mismatch.or_else(|| Some(place())),
                None => {}
            }
        }
        match mismatch {
            _ if known => Verdict::Known,
            Some(place) => Verdict::Mismatch(place),
            None => Verdict::Unknown,
        }
    }

    /// Returns the types of the keys that are noted for a host: those it should be asked to show.
    pub(super) fn kinds(&self, names: &Names, hash: &dyn NameHash) -> Vec<String> {
        let of = |name: &str| -> Vec<String> {
            let lines = self.lines().map(|(_, line)| line).filter(|line| line.marker.is_none());
            lines.filter(|line| line.names(name, hash)).map(|line| line.kind.to_owned()).collect()
        };
        let kinds = of(&names.full);
        match &names.bare {
            Some(bare) if kinds.is_empty() => of(bare),
            _ => kinds,
        }
    }

    fn lines(&self) -> impl Iterator<Item = (impl Fn() -> FileLine, Line<'_>)> {
        self.files.iter().flat_map(|(file, text)| {
            text.lines().enumerate().filter_map(move |(at, text)| {
                let place = move || FileLine { file: file.clone(), line: at.saturating_add(1) };
                Line::parse(text).map(|line| (place, line))
            })
        })
    }
}

struct Line<'a> {
    marker: Option<&'a str>,
    patterns: &'a str,
    kind: &'a str,
    key: &'a str,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let first = words.next().filter(|word| !word.starts_with('#'))?;
        let (marker, patterns) =
            if first.starts_with('@') { (Some(first), words.next()?) } else { (None, first) };
        Some(Self { marker, patterns, kind: words.next()?, key: words.next()? })
    }

    /// Whether the line is about `name`: one pattern fits, and none that forbids it.
    fn names(&self, name: &str, hash: &dyn NameHash) -> bool {
        let mut named = false;
        for pattern in self.patterns.split(',') {
            if let Some(pattern) = pattern.strip_prefix('!') {
                if fits(&pattern.to_ascii_lowercase(), name) {
                    return false;
                }
            } else if pattern.starts_with("|1|") {
                named |= hash.is_of(pattern, name);
            } else {
                named |= fits(&pattern.to_ascii_lowercase(), name);
            }
        }
        named
    }
}

/// Whether `name` fits a pattern with `*` and `?`.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0_usize, 0_usize);
    // Where to go on after the last star, should what follows not fit.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p = p.saturating_add(1);
                retry = Some((p, n));
            }
            Some(c) if *c == b'?' || Some(c) == name.get(n) => {
                p = p.saturating_add(1);
                n = n.saturating_add(1);
            }
            _ => {
                let Some((after, taken)) = retry else { return false };
                let taken = taken.saturating_add(1);
                (p, n) = (after, taken);
                retry = Some((after, taken));
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&c| c == b'*'))
}

/// Notes a host's key in `file`, which is made if it does not exist, for nobody else to read.
///
/// # Errors
/// The system's; nothing is noted then.
pub(super) fn add(file: &Path, names: &Names, key: &Key) -> io::Result<()> {
    if let Some(dir) = file.parent().filter(|dir| !dir.exists()) {
        std::fs::DirBuilder::new().mode(0o700).create(dir)?;
    }
    let ends_open = match std::fs::read(file) {
        Ok(content) => content.last().is_some_and(|&byte| byte != b'\n'),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let start = if ends_open { "\n" } else { "" };
    let line = format!("{start}{} {} {}\n", names.full, key.kind, key.base64);
    let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    file.write_all(line.as_bytes())
}

/// Returns the fingerprint of a key as ssh shows it.
pub(super) fn fingerprint(sha256: &[u8]) -> String {
    format!("SHA256:{}", base64(sha256).trim_end_matches('='))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4_u32 {
            let letter =
                usize::try_from(bits >> (18 - 6 * at) & 63).ok().and_then(|index| LETTERS.get(index));
            let shown = usize::try_from(at).is_ok_and(|at| at <= group.len());
            let _ = text.write_char(letter.filter(|_| shown).map_or('=', |&letter| char::from(letter)));
        }
    }
    text
}

#[cfg(test)]
mod tests;
