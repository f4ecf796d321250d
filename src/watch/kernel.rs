//! The inotify system calls, and the small helpers around waiting.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::marks::Marks;
use crate::event::Moment;

/// A watch descriptor. The kernel never gives a number twice within one instance.
pub(super) type Wd = i32;

/// Bytes read from the kernel at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Bytes of an event before the name.
const HEAD_BYTES: usize = 16;

/// What is asked about a directory of the tree. `IN_DONT_FOLLOW` is left to the `O_NOFOLLOW` of the open,
/// since the watch goes through a magic link.
pub(super) fn tree_mask() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MODIFY
        | WatchFlags::ATTRIB
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::EXCL_UNLINK
        | WatchFlags::ONLYDIR
}

/// What is asked about the directory of the marks.
pub(super) fn mark_mask() -> WatchFlags {
    WatchFlags::CREATE | WatchFlags::ONLYDIR
}

/// One event as the kernel gave it.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    /// When it was read.
    pub at: Instant,
    /// Which watch.
    pub wd: Wd,
    /// What happened.
    pub mask: ReadFlags,
    /// Joins the two halves of a rename.
    pub cookie: u32,
    /// The name in the directory; empty for the directory itself.
    pub name: Box<[u8]>,
}

/// What a read of the queue brings.
#[derive(Debug)]
pub(super) enum Said {
    /// An event.
    Event(Raw),
    /// What waited when the clock showed that moment was read.
    Mark(Moment),
}

/// One inotify instance.
pub(super) struct Kernel {
    fd: Arc<OwnedFd>,
    buffer: Vec<u8>,
    pub marks: Marks,
}

impl Kernel {
    /// Makes an instance.
    pub(super) fn new() -> Result<Self, Errno> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { fd: Arc::new(fd), buffer: Vec::new(), marks: Marks::default() })
    }

    /// Returns what is readable while the kernel holds something.
    pub(super) fn ear(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Watches the directory at a path.
    pub(super) fn add(&self, path: &Path, mask: WatchFlags) -> Result<Wd, Errno> {
        inotify::add_watch(&self.fd, path, mask)
    }

    /// Drops a watch; one that the kernel dropped already is no error.
    pub(super) fn remove(&self, wd: Wd) {
        let _ = inotify::remove_watch(&self.fd, wd);
    }

    /// Hands over what the kernel holds, up to `reads` buffers of it, and says whether it held anything.
    pub(super) fn drain(&mut self, reads: usize, mut visit: impl FnMut(Said)) -> bool {
        self.marks.begin(&self.fd);
        self.buffer.resize(BUFFER_BYTES, 0);
        let (mut done, mut any) = (0, false);
        while done < reads {
            let len = match rustix::io::read(&self.fd, &mut self.buffer[..]) {
                Ok(len) if len > 0 => len,
                Err(Errno::INTR) => continue,
                // Nothing more. Any other failure of a read of our own fd would repeat for ever.
                Ok(_) | Err(_) => {
                    self.marks.dry().into_iter().for_each(|moment| visit(Said::Mark(moment)));
                    return any;
                }
            };
            (done, any) = (done + 1, true);
            let at = Instant::now();
            let mut rest = self.buffer.get(..len).unwrap_or_default();
            while let Some((raw, tail)) = split_event(rest, at) {
                let read = (rest.len() - tail.len()) as u64;
                rest = tail;
                visit(Said::Event(raw));
                self.marks.advance(read).into_iter().for_each(|moment| visit(Said::Mark(moment)));
            }
        }
        any
    }
}

/// Cuts the first event off.
fn split_event(bytes: &[u8], at: Instant) -> Option<(Raw, &[u8])> {
    let number = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let len = usize::try_from(number(12)?).ok()?;
    let (event, tail) = bytes.split_at_checked(HEAD_BYTES.checked_add(len)?)?;
    let name = event.get(HEAD_BYTES..)?.split(|&b| b == 0).next().unwrap_or_default();
    let raw = Raw {
        at,
        wd: number(0)?.cast_signed(),
        mask: ReadFlags::from_bits_retain(number(4)?),
        cookie: number(8)?,
        name: name.into(),
    };
    Some((raw, tail))
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns a path to an open directory.
pub(super) fn fd_path(dir: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", dir.as_raw_fd()).into()
}

/// Returns how many watches one user may have, where the system tells.
pub(super) fn watch_limit() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?.trim().parse().ok()
}

/// Makes an eventfd readable.
pub(super) fn signal(fd: impl AsFd) {
    // Any number but 0 will do; fails only if the sum is readable already.
    let _ = rustix::io::write(fd, &[1; 8]);
}

/// Makes an eventfd unreadable again.
pub(super) fn unsignal(fd: impl AsFd) {
    let _ = rustix::io::read(fd, &mut [0_u8; 8]);
}

/// Whether an fd is readable now.
pub(super) fn readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
}

/// Waits until one of the fds is ready or the deadline passes; says which are ready. `None` waits for
/// ever, without waking up.
pub(super) fn wait<const N: usize>(
    fds: [(BorrowedFd<'_>, PollFlags); N],
    until: Option<Instant>,
) -> [bool; N] {
    let mut list = fds.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags));
    let timeout = until.map(|until| {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, or the last fraction of a millisecond would be spent spinning.
        Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        }
    });
    match poll(&mut list, timeout.as_ref()) {
        Ok(_) => list.map(|fd| !fd.revents().is_empty()),
        Err(_) => [false; N],
    }
}
