//! Putting a finished temporary entry under its name.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::disk::{names, read_entry};
use crate::protocol::Why;
use crate::tree::{Entry, Kind, Mask, TEMP_PREFIX};

/// Why an operation was not done.
#[derive(Debug)]
pub(super) enum Undone {
    /// Doing something else helps.
    Why(Why),
    /// The system refused; with the operation as one verb.
    Os(&'static str, i32),
    /// A newer session of this mirror has begun.
    Evicted,
}

impl Undone {
    /// Returns a converter for the error of one operation: a missing or replaced parent is the
    /// sender's to mend, all else is a Problem.
    pub fn os(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Os(operation, crate::error::errno_of(&error))
    }

    /// As [`Undone::os`], for opening the directory that an operation happens in.
    pub fn parent(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => Self::Why(Why::NoParent),
            _ => Self::Os("open parent", crate::error::errno_of(&error)),
        }
    }
}

/// Returns a fresh temporary name: the session's tag, so that leftovers of another session can be
/// told, and a counter mixed with randomness.
pub(super) fn temp_name(tag: u32) -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = TEMP_PREFIX.to_vec();
    name.extend_from_slice(format!("{tag:08x}{number:08x}").as_bytes());
    name
}

/// Whether a temporary name belongs to the session of this tag.
pub(super) fn is_of_session(name: &[u8], tag: u32) -> bool {
    name.get(TEMP_PREFIX.len()..TEMP_PREFIX.len() + 8)
        .is_some_and(|hex| hex == format!("{tag:08x}").as_bytes())
}

/// Moves `temp` to `name` within one directory. A change between file and directory is an exchange,
/// so that the name is never absent; a directory that holds entries is not replaced.
pub(super) fn install(dir: BorrowedFd<'_>, temp: &[u8], name: &[u8], dir_comes: bool) -> Result<(), Undone> {
    let os = Undone::os("rename");
    let existing = read_entry(dir, name, &Mask::nothing()).map_err(Undone::os("stat"))?;
    let dir_stands = existing.as_ref().is_some_and(|entry| entry.attrs.meta.kind == Kind::Dir);
    if existing.is_none() || !(dir_comes || dir_stands) {
        return rustix::fs::renameat(dir, temp, dir, name).map_err(|error| os(error.into()));
    }
    if dir_stands && !is_empty_dir(dir, name) {
        return Err(Undone::Why(Why::NotEmpty));
    }
    rustix::fs::renameat_with(dir, temp, dir, name, RenameFlags::EXCHANGE)
        .map_err(|error| os(error.into()))?;
    // What stood there bears the temporary name now.
    remove(dir, temp, false).map_err(Undone::os("remove"))
}

/// Whether a name is a directory that holds nothing.
pub(super) fn is_empty_dir(at: BorrowedFd<'_>, name: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|fd| names(fd.as_fd()))
        .is_ok_and(|names| names.is_empty())
}

/// Removes an entry; with `whole` a directory goes with what it holds.
pub(super) fn remove(at: BorrowedFd<'_>, name: &[u8], whole: bool) -> io::Result<()> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    if whole {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(at, name, flags, Mode::empty())?;
        for name in names(fd.as_fd())? {
            remove(fd.as_fd(), &name, true)?;
        }
    }
    Ok(rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)?)
}

/// Reads what stands under a name, without xattrs.
pub(super) fn look(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Entry>, Undone> {
    read_entry(dir, name, &Mask::nothing()).map_err(Undone::os("stat"))
}
