//! Which mounts stand below the source, and when that changes.
//!
//! **Sources:** proc(5) on `/proc/[pid]/mountinfo`, which is ready for `POLLPRI` after every change.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use crate::tree::RelPath;

/// One mount: its number, and where it stands relative to the source.
type Mount = (u64, RelPath);

/// The list, where it was opened before the process took the way to it from itself. One watcher reads it then.
static OPENED: OnceLock<File> = OnceLock::new();

/// Opens the list for a watcher of a process that is about to confine itself.
///
/// # Errors
/// What opening it says.
pub(super) fn open_early() -> std::io::Result<()> {
    let file = File::open(LIST)?;
    OPENED.get_or_init(|| file);
    Ok(())
}

const LIST: &str = "/proc/self/mountinfo";

/// The mounts below the source as last seen.
pub(super) struct Mounts {
    file: File,
    seen: BTreeSet<Mount>,
}

impl Mounts {
    /// Opens the list.
    pub(super) fn open() -> std::io::Result<Self> {
        let file = OPENED.get().map_or_else(|| File::open(LIST), File::try_clone)?;
        Ok(Self { file, seen: BTreeSet::new() })
    }

    /// Reads the list again and returns where below `root` (an absolute path without symlinks) a mount
    /// came or went since the last call, topmost first.
    pub(super) fn changes(&mut self, root: &[u8]) -> Vec<RelPath> {
        let mut text = Vec::new();
        if self.file.seek(SeekFrom::Start(0)).is_err() || self.file.read_to_end(&mut text).is_err() {
            return Vec::new();
        }
        let now = parse(&text, root);
        let changed: BTreeSet<RelPath> =
            now.symmetric_difference(&self.seen).map(|(_, path)| path.clone()).collect();
        self.seen = now;
        changed.into_iter().collect()
    }
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Returns the mounts strictly below `root`.
fn parse(text: &[u8], root: &[u8]) -> BTreeSet<Mount> {
    text.split(|&b| b == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|&b| b == b' ');
            let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
            let point = unescape(fields.nth(3)?);
            let root = root.strip_suffix(b"/").unwrap_or(root);
            let below = point.strip_prefix(root)?.strip_prefix(b"/")?;
            let path = RelPath::new(below).ok().filter(|path| !path.is_root())?;
            Some((id, path))
        })
        .collect()
}

/// Undoes the kernel's `\ooo` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"22 1 0:20 / / rw - ext4 /dev/vda rw\n\
        31 22 0:30 / /srv/www rw shared:1 - tmpfs x rw\n\
        40 31 0:31 / /srv/www/a\\040b/c rw - tmpfs x rw\n\
        41 22 0:31 / /srv/wwwx/c rw - tmpfs x rw\nrubbish\n";

    fn points(root: &str) -> Vec<String> {
        parse(TEXT, root.as_bytes())
            .into_iter()
            .map(|(_, path)| String::from_utf8_lossy(path.as_bytes()).into_owned())
            .collect()
    }

    #[test]
    fn only_mounts_strictly_below_the_source_count() {
        assert_eq!(points("/srv/www"), ["a b/c"]);
        assert_eq!(points("/srv"), ["www", "www/a b/c", "wwwx/c"]);
        assert_eq!(points("/"), ["srv/www", "srv/www/a b/c", "srv/wwwx/c"]);
    }

    #[test]
    fn escapes_of_the_kernel_are_undone_and_others_kept() {
        assert_eq!(unescape(b"a\\012\\134b\\9\\"), b"a\n\\b\\9\\");
    }
}
