//! What an agent has noted in a root of this host, for who is no agent of that root.
//!
//! **In → Out:** a directory; a note in it, and whether anybody is at work there. **Invariants:** nothing is
//! followed, waited for or believed that anybody might have put there.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::memory_place;

/// Most bytes of a note that are read.
const NOTE_LEN_MAX: u64 = 4 << 20;

/// Returns the note of this name in the memory of a root; `None` where there is none that may be read, or one of somebody who
/// has no right to the root: in a directory where everybody may write, such as /tmp, anybody could forge it.
pub fn note(root: &Path, name: &str) -> Option<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = memory_place(rustix::fs::open(root, flags, Mode::empty()).ok()?);
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(root.join(place).join(name))
        .ok()?;
    let (owner, dir) = (file.metadata().ok()?.uid(), root.metadata().ok()?.uid());
    if ![0, dir, rustix::process::geteuid().as_raw()].contains(&owner) {
        return None;
    }
    let mut text = Vec::new();
    file.take(NOTE_LEN_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Whether an agent is at work on a root.
pub fn is_locked(root: impl AsFd) -> bool {
    if rustix::fs::flock(&root, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) {
        return true;
    }
    let _ = rustix::fs::flock(&root, FlockOperation::Unlock);
    false
}
