//! The names in one directory, in one piece of memory.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::RawDir;

/// Names in their order: their bytes, and 8 more for each.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    /// Where each begins, and how long it is.
    spans: Vec<Span>,
}

/// A name is 255 bytes at most, and a directory's names are less than 2^48 bytes.
#[derive(Debug, Clone, Copy)]
struct Span(u64);

impl Span {
    fn new(from: usize, len: usize) -> Self {
        Self((from as u64) << 16 | (len as u64 & 0xffff))
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        let (from, len) = ((self.0 >> 16) as usize, (self.0 & 0xffff) as usize);
        bytes.get(from..from + len).unwrap_or_default()
    }
}

impl Names {
    /// Returns the name with this number.
    pub fn get(&self, at: usize) -> Option<&[u8]> {
        self.spans.get(at).map(|span| span.of(&self.bytes))
    }

    /// Returns the names in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| span.of(&self.bytes))
    }
}

/// Returns the names in an open directory, sorted. The directory's own position moves.
///
/// # Errors
/// What getdents64(2) says.
pub fn names_of(dir: BorrowedFd<'_>) -> io::Result<Names> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let Names { mut bytes, mut spans } = Names::default();
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            spans.push(Span::new(bytes.len(), name.len()));
            bytes.extend_from_slice(name);
        }
    }
    spans.sort_unstable_by(|one, other| one.of(&bytes).cmp(other.of(&bytes)));
    Ok(Names { bytes, spans })
}

/// As [`names_of`], each name by itself: for directories of a few.
///
/// # Errors
/// As [`names_of`].
pub fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    Ok(names_of(dir)?.iter().map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn names_are_given_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let long = "n".repeat(255);
        for name in ["b", "a", "ab", "å", long.as_str()] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names = names_of(std::fs::File::open(dir.path()).unwrap().as_fd()).unwrap();
        let all: Vec<&[u8]> = (0..).map_while(|at| names.get(at)).collect();
        assert_eq!(all, ["a", "ab", "b", &long, "å"].map(str::as_bytes));
        assert!(names.iter().eq(all));
    }
}
