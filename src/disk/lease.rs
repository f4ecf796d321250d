//! Whether anybody has a file open for writing.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Who may be writing to an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Nobody has it open for writing, nor mapped shared and writable.
    None,
    /// Somebody has.
    Some,
    /// A lease cannot be had here (another user's file without `CAP_LEASE`, NFS, FUSE, …).
    Unknown,
}

/// Asks the kernel whether anybody has the file open for writing, by taking a read lease and
/// releasing it at once (4 µs). The caller must ignore `SIGIO`, which a lease holder gets when a
/// writer comes in between.
pub fn writers(fd: BorrowedFd<'_>) -> Writers {
    // SAFETY: F_SETLEASE takes an int by value and touches no memory of ours.
    let taken = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    if taken == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
        return Writers::None;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN | libc::EBUSY) => Writers::Some,
        _ => Writers::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn a_writer_is_seen_while_it_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert_ne!(writers(reader.as_fd()), Writers::None);
        drop(writer);
        assert_eq!(writers(reader.as_fd()), Writers::None);
    }
}
