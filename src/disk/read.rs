//! Reading ranges of a file, and hashing the zeros of its holes.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{SeekFrom, fstat, seek};
use rustix::io::{Errno, pread, retry_on_intr};

/// What a reader sees of a hole.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

fn read_range(
    file: impl AsFd,
    (mut at, end): (u64, u64),
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    while at < end {
        let want = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let room = buffer.get_mut(..want).unwrap_or_default();
        let got = retry_on_intr(|| pread(&file, &mut *room, at))?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        each(room.get(..got).unwrap_or_default());
        at += got as u64;
    }
    Ok(())
}

/// Lets `each` see the bytes from `at` to `end` of an open file, in order, read into `buffer`; holes are not
/// read. Moves the position of the file.
///
/// # Errors
/// What pread(2) says; `UnexpectedEof` if the file ends before.
pub fn read_over_holes(
    file: impl AsFd,
    (mut at, end): (u64, u64),
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let sparse = is_sparse(&file)?;
    while at < end {
        if let Some(hole) = sparse.then(|| hole_end(&file, at)).flatten() {
            let hole = hole.min(end);
            zeros(hole - at, &mut each);
            at = hole;
            continue;
        }
        let stop = at.saturating_add(buffer.len() as u64).min(end);
        read_range(&file, (at, stop), buffer, &mut each)?;
        at = stop;
    }
    Ok(())
}

/// Reads as much of `data` as there is from `offset` on, and returns how much that is.
///
/// # Errors
/// What pread(2) says.
pub fn read_fully(file: impl AsFd, data: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = data.get_mut(filled..).filter(|room| !room.is_empty()) {
        match retry_on_intr(|| pread(&file, &mut *room, offset + filled as u64))? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}

/// Reads some bytes from `offset` on; none at the end of the file.
///
/// # Errors
/// What pread(2) says.
pub fn read_some(file: impl AsFd, data: &mut [u8], offset: u64) -> io::Result<usize> {
    Ok(retry_on_intr(|| pread(&file, &mut *data, offset))?)
}

/// Whether an open file takes less room than its size: it has holes, or is compressed.
///
/// # Errors
/// What fstat(2) says.
pub fn is_sparse(file: impl AsFd) -> io::Result<bool> {
    let stat = fstat(file)?;
    let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    Ok(allocated < u64::try_from(stat.st_size).unwrap_or(0))
}

/// Returns where the hole at `offset` of an open file ends; `None` if there is data, nothing at all, or no
/// telling. Moves the position of the file.
pub fn hole_end(file: impl AsFd, offset: u64) -> Option<u64> {
    let end = match seek(&file, SeekFrom::Data(offset)) {
        Ok(data) => data,
        Err(Errno::NXIO) => u64::try_from(fstat(&file).ok()?.st_size).ok()?,
        Err(_) => return None,
    };
    (end > offset).then_some(end)
}

/// Hashes `len` zeros: what a reader sees of a hole.
pub fn hash_zeros(hasher: &mut blake3::Hasher, len: u64) {
    zeros(len, |zeros| {
        hasher.update(zeros);
    });
}

/// Lets `each` see `len` zeros.
fn zeros(mut len: u64, mut each: impl FnMut(&[u8])) {
    while len > 0 {
        let step = usize::try_from(len).map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
        each(ZEROS.get(..step).unwrap_or_default());
        len -= step as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_range_is_seen_as_a_reader_sees_it_and_its_holes_are_not_read() {
        const LEN: u64 = 8 << 20;
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(LEN).unwrap();
        let seen = |range, buffer: &mut [u8]| {
            let mut seen = Vec::new();
            read_over_holes(&file, range, buffer, |data| seen.extend_from_slice(data)).map(|()| seen)
        };
        let mut buffer = vec![7; 4096];
        assert_eq!(seen((5, LEN), &mut buffer).unwrap(), vec![0; LEN as usize - 5]);
        assert!(buffer.iter().all(|byte| *byte == 7), "a hole was read");
        file.write_all_at(b"content", 3 << 20).unwrap();
        let mut whole = vec![0; LEN as usize];
        whole[3 << 20..(3 << 20) + 7].copy_from_slice(b"content");
        for (from, to) in [(0, LEN), (1 << 20, (3 << 20) + 3), ((3 << 20) + 2, 5 << 20)] {
            assert!(seen((from, to), &mut buffer).unwrap() == whole[from as usize..to as usize], "{from}");
        }
        assert_eq!(seen((0, LEN + 1), &mut buffer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
