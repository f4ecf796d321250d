//! The fanotify system calls, and the file handles that events and directories are known by.
//!
//! **In → Out:** bytes of the kernel to [`Raw`] events; a directory fd to its [`Handle`].
//! **Invariants:** every length of an event is checked before it is used. A handle is compared and never
//! opened, so nothing of the source is held and no path leads elsewhere.
//! **Sources:** fanotify(7), fanotify_init(2), fanotify_mark(2), name_to_handle_at(2).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

use rustix::fs::fstatvfs;
use rustix::io::Errno;

use super::super::marks::Marks;
use crate::event::Moment;

/// Bytes read from the kernel at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes before the first information record of an event.
const HEAD_BYTES: usize = 24;
/// Bytes of an information record before its file handle: header and filesystem.
const INFO_BYTES: usize = 12;
/// The longest file handle kept here; btrfs has 20. Filesystems with longer ones cannot be marked.
pub(super) const HANDLE_MAX: usize = 20;
/// What is asked about a filesystem.
const MASK: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_RENAME
    | libc::FAN_MODIFY
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_ATTRIB
    | libc::FAN_ONDIR;

/// A filesystem among those that are marked, by its place in the list.
pub(super) type FsIndex = u8;

/// What the kernel calls a file for as long as it exists, and no other after it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Handle {
    fs: FsIndex,
    kind: i16,
    len: u8,
    bytes: [u8; HANDLE_MAX],
}

impl Handle {
    /// Stands for no file.
    pub(super) const NONE: Self = Self { fs: u8::MAX, kind: 0, len: 0, bytes: [0; HANDLE_MAX] };

    /// `None` if it is longer than is kept here.
    pub(super) fn new(fs: FsIndex, kind: i32, bytes: &[u8]) -> Option<Self> {
        let mut kept = [0; HANDLE_MAX];
        kept.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self { fs, kind: kind.try_into().ok()?, len: u8::try_from(bytes.len()).ok()?, bytes: kept })
    }

    /// Which filesystem it is on.
    pub(super) fn fs(self) -> FsIndex {
        self.fs
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = &self.bytes[..usize::from(self.len).min(HANDLE_MAX)];
        write!(f, "{}:{}:{bytes:02x?}", self.fs, self.kind)
    }
}

/// One event as the kernel gave it. Equal events of one process that nobody has read yet are one, at the
/// place of the first, and so are those that differ in nothing but what happened: `mask` says it all.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    /// When it was read.
    pub at: Instant,
    /// What happened: bits `FAN_*`.
    pub mask: u64,
    /// The directory; the one that a rename left.
    pub dir: Handle,
    /// The name in it; `.` for the directory itself.
    pub name: Box<[u8]>,
    /// The directory and name that a rename led to.
    pub to: Option<Box<(Handle, Box<[u8]>)>>,
    /// Which file.
    pub target: Handle,
}

impl Raw {
    /// Whether one of these things happened.
    pub(super) fn has(&self, mask: u64) -> bool {
        self.mask & mask != 0
    }

    /// Whether it is about a directory.
    pub(super) fn is_dir(&self) -> bool {
        self.has(libc::FAN_ONDIR)
    }
}

/// What a read of the group brings.
#[derive(Debug)]
pub(super) enum Said {
    /// An event.
    Event(Raw),
    /// What waited when the clock showed that moment was read.
    Mark(Moment),
}

/// What a read of the group found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Events; more may follow.
    Some,
    /// Nothing is left.
    Dry,
    /// The kernel dropped events.
    Overflow,
}

/// One fanotify group.
pub(super) struct Group {
    fd: OwnedFd,
    buffer: Vec<u8>,
    pub marks: Marks,
    /// The filesystems that are or were marked, by the number that statfs(2) gives.
    known: Vec<u64>,
}

impl Group {
    /// Makes a group.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` before kernel 5.17, `EMFILE` beyond
    /// `fs.fanotify.max_user_groups`.
    pub(super) fn new() -> Result<Self, Errno> {
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        // Directory and name, and the file that it is about.
        let flags = flags | libc::FAN_REPORT_DFID_NAME_TARGET;
        // SAFETY: takes two numbers and returns a descriptor of ours or -1.
        let fd = unsafe { libc::fanotify_init(flags, libc::O_RDONLY as libc::c_uint) };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: the kernel just made it, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, buffer: Vec::new(), marks: Marks::default(), known: Vec::new() })
    }

    /// Marks the whole filesystem that a directory is on; to do it again changes nothing.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EXDEV` or `ENODEV` if the filesystem has no handles or no number of its own.
    pub(super) fn mark(&mut self, dir: BorrowedFd<'_>) -> Result<FsIndex, Errno> {
        let number = fstatvfs(dir)?.f_fsid;
        let at = self.known.iter().position(|&known| known == number).unwrap_or(self.known.len());
        // The last number is that of no filesystem.
        let index = FsIndex::try_from(at).ok().filter(|&at| at < FsIndex::MAX).ok_or(Errno::NOSPC)?;
        self.mark_as(dir, libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM, MASK)?;
        if at == self.known.len() {
            self.known.push(number);
        }
        Ok(index)
    }

    /// Takes all marks away.
    pub(super) fn unmark_all(&mut self) {
        let root = rustix::fs::CWD;
        let _ = self.mark_as(root, libc::FAN_MARK_FLUSH | libc::FAN_MARK_FILESYSTEM, 0);
    }

    /// Returns how many filesystems are marked now: the kernel takes a mark away with its filesystem, and
    /// says nothing.
    pub(super) fn marked(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.fd.as_raw_fd()));
        text.map_or(0, |text| text.lines().filter(|line| line.starts_with("fanotify sdev:")).count())
    }

    fn mark_as(&self, dir: BorrowedFd<'_>, flags: libc::c_uint, mask: u64) -> Result<(), Errno> {
        // SAFETY: the descriptors are open, and without a path the directory itself is meant.
        let done = unsafe {
            libc::fanotify_mark(self.fd.as_raw_fd(), flags, mask, dir.as_raw_fd(), std::ptr::null())
        };
        if done < 0 { Err(last_errno()) } else { Ok(()) }
    }

    /// Reads one buffer and hands over what concerns a name on a marked filesystem.
    pub(super) fn read(&mut self, mut visit: impl FnMut(Said)) -> Read {
        self.marks.begin(&self.fd);
        self.buffer.resize(BUFFER_BYTES, 0);
        let len = loop {
            match rustix::io::read(&self.fd, &mut self.buffer[..]) {
                Ok(len) if len > 0 => break len,
                Err(Errno::INTR) => {}
                // Nothing more. Any other failure of a read of our own fd would repeat for ever.
                Ok(_) | Err(_) => {
                    self.marks.dry().into_iter().for_each(|moment| visit(Said::Mark(moment)));
                    return Read::Dry;
                }
            }
        };
        let (at, mut found) = (Instant::now(), Read::Some);
        let mut rest = self.buffer.get(..len).unwrap_or_default();
        while let Some((event, tail)) = split_event(rest) {
            rest = tail;
            match parse(event, at, &self.known) {
                Some(Parsed::Event(raw)) => visit(Said::Event(raw)),
                Some(Parsed::Overflow) => found = Read::Overflow,
                None => {}
            }
            // The kernel counts no more of an event that waits than its head.
            self.marks.advance(HEAD_BYTES as u64).into_iter().for_each(|moment| visit(Said::Mark(moment)));
        }
        found
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

enum Parsed {
    Event(Raw),
    Overflow,
}

/// Cuts the first event off.
fn split_event(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = usize::try_from(u32_at(bytes, 0)?).ok().filter(|&len| len >= HEAD_BYTES)?;
    bytes.split_at_checked(len)
}

/// Returns `None` for what names nothing: the number of a file's links, filesystems that are not marked.
fn parse(event: &[u8], at: Instant, known: &[u64]) -> Option<Parsed> {
    let mask = u64_at(event, 8)?;
    if mask & libc::FAN_Q_OVERFLOW != 0 {
        return Some(Parsed::Overflow);
    }
    let mut rest = event.get(usize::from(u16_at(event, 6)?)..)?;
    let (mut from, mut to, mut target) = (None, None, Handle::NONE);
    while let Some(len) = u16_at(rest, 2).map(usize::from).filter(|&len| len >= INFO_BYTES) {
        let (info, tail) = rest.split_at_checked(len)?;
        rest = tail;
        let (handle, name) = parse_info(info, known)?;
        match *info.first()? {
            libc::FAN_EVENT_INFO_TYPE_DFID_NAME | libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME => {
                from = Some((handle, name))
            }
            libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME => to = Some(Box::new((handle, name.into()))),
            libc::FAN_EVENT_INFO_TYPE_FID => target = handle,
            _ => {}
        }
    }
    let (dir, name) = from?;
    (mask & libc::FAN_RENAME == 0 || to.is_some())
        .then(|| Parsed::Event(Raw { at, mask, dir, name: name.into(), to, target }))
}

/// Returns the file handle in a record, and the name behind it.
fn parse_info<'a>(info: &'a [u8], known: &[u64]) -> Option<(Handle, &'a [u8])> {
    let number = u64::from(u32_at(info, 4)?) | (u64::from(u32_at(info, 8)?) << 32);
    let fs = known.iter().position(|&known| known == number)?;
    let len = usize::try_from(u32_at(info, INFO_BYTES)?).ok()?;
    let kind = u32_at(info, INFO_BYTES + 4)?.cast_signed();
    let (bytes, name) = info.get(INFO_BYTES + 8..)?.split_at_checked(len)?;
    let name = CStr::from_bytes_until_nul(name).map_or(&b""[..], CStr::to_bytes);
    Some((Handle::new(fs.try_into().ok()?, kind, bytes)?, name))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// A handle as name_to_handle_at(2) writes it.
#[repr(C)]
struct Buffer {
    len: u32,
    kind: i32,
    bytes: [u8; HANDLE_MAX],
}

/// A file's handle, before it is known which of the marked filesystems it is on.
pub(super) struct Found {
    kind: i32,
    len: usize,
    bytes: [u8; HANDLE_MAX],
    /// The mount through which it was found.
    pub mount: i32,
}

impl Found {
    /// Returns the handle as that of a file on a marked filesystem.
    pub(super) fn on(&self, fs: FsIndex) -> Option<Handle> {
        Handle::new(fs, self.kind, self.bytes.get(..self.len)?)
    }
}

/// Returns the handle of an open directory, or of `name` in it; symlinks are not followed.
///
/// # Errors
/// `EOPNOTSUPP` if the filesystem has none, `EOVERFLOW` if they are longer than is kept here.
pub(super) fn handle_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Found, Errno> {
    let name = std::ffi::CString::new(name).map_err(|_| Errno::INVAL)?;
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let mut buffer = Buffer { len: HANDLE_MAX as u32, kind: 0, bytes: [0; HANDLE_MAX] };
    let mut mount: libc::c_int = 0;
    // SAFETY: the name ends with NUL; the buffer has room for as many bytes as it says, and the kernel
    // writes no more of them; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            name.as_ptr(),
            std::ptr::from_mut(&mut buffer),
            std::ptr::from_mut(&mut mount),
            flags,
        )
    };
    if done < 0 {
        return Err(last_errno());
    }
    let len = usize::try_from(buffer.len).unwrap_or(0).min(HANDLE_MAX);
    Ok(Found { kind: buffer.kind, len, bytes: buffer.bytes, mount })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FS: u64 = 0x0000_0002_0000_0001;

    /// One record: kind, filesystem, handle, name.
    #[expect(clippy::host_endian_bytes, reason = "as the kernel does")]
    fn info(kind: u8, handle: &[u8], name: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 0, 0, 0];
        record.extend([1_u32, 2].iter().flat_map(|half| half.to_ne_bytes()));
        record.extend(u32::try_from(handle.len()).unwrap().to_ne_bytes());
        record.extend(1_i32.to_ne_bytes());
        record.extend(handle);
        record.extend(name);
        record.resize(record.len().next_multiple_of(4), 0);
        let len = u16::try_from(record.len()).unwrap().to_ne_bytes();
        record[2..4].copy_from_slice(&len);
        record
    }

    #[expect(clippy::host_endian_bytes, reason = "as the kernel does")]
    fn event(mask: u64, infos: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes[6..8].copy_from_slice(&24_u16.to_ne_bytes());
        bytes[8..16].copy_from_slice(&mask.to_ne_bytes());
        bytes.extend(infos.iter().flatten());
        let len = u32::try_from(bytes.len()).unwrap().to_ne_bytes();
        bytes[..4].copy_from_slice(&len);
        bytes
    }

    fn handle(bytes: &[u8]) -> Handle {
        Handle::new(0, 1, bytes).unwrap()
    }

    #[test]
    fn a_rename_has_both_names_and_the_file() {
        let bytes = event(
            libc::FAN_RENAME,
            &[info(10, b"dir1", b"old\0"), info(12, b"dir2", b"new\0"), info(1, b"file", b"")],
        );
        let Some(Parsed::Event(raw)) = parse(&bytes, Instant::now(), &[7, FS, 9]) else {
            panic!("no event");
        };
        let on = |bytes: &[u8]| Handle::new(1, 1, bytes).unwrap();
        assert_eq!((raw.dir, &*raw.name, raw.target), (on(b"dir1"), &b"old"[..], on(b"file")));
        let to = raw.to.unwrap();
        assert_eq!((to.0, &*to.1), (on(b"dir2"), &b"new"[..]));
    }

    #[test]
    fn what_names_nothing_or_is_on_no_marked_filesystem_is_nothing() {
        let links = event(libc::FAN_ATTRIB, &[info(1, b"file", b"")]);
        assert!(parse(&links, Instant::now(), &[FS]).is_none());
        let create = event(libc::FAN_CREATE, &[info(2, b"dir", b"f\0")]);
        assert!(parse(&create, Instant::now(), &[FS]).is_some());
        assert!(parse(&create, Instant::now(), &[FS + 1]).is_none());
        let long = event(libc::FAN_CREATE, &[info(2, &[7; HANDLE_MAX + 1], b"f\0")]);
        assert!(parse(&long, Instant::now(), &[FS]).is_none());
    }

    #[test]
    fn no_length_in_an_event_leads_beyond_it() {
        let whole = event(libc::FAN_CREATE, &[info(2, b"dir", b"name\0"), info(1, b"file", b"")]);
        for at in 0..whole.len() {
            let _ = parse(&whole[..at], Instant::now(), &[FS]);
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let mut rest = &bytes[..];
                while let Some((event, tail)) = split_event(rest) {
                    let _ = parse(event, Instant::now(), &[FS]);
                    assert!(tail.len() < rest.len());
                    rest = tail;
                }
            }
        }
    }

    #[test]
    fn a_directory_has_one_handle_by_fd_and_by_name_and_another_has_another() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let child = std::fs::File::open(dir.path().join("a")).unwrap();
        let Ok(by_name) = handle_at(root.as_fd(), b"a") else {
            eprintln!("skipped: no file handles on this filesystem");
            return;
        };
        let by_fd = handle_at(child.as_fd(), b"").unwrap();
        assert_eq!(by_name.on(0), by_fd.on(0));
        assert_ne!(by_fd.on(0), handle_at(root.as_fd(), b"").unwrap().on(0));
        assert_ne!(by_fd.on(0), by_fd.on(1));
        assert_ne!(by_fd.on(0), Some(handle(b"")));
    }
}
