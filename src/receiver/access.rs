//! Changing what lies in directories whose mode forbids it, as their owner.
//!
//! Root needs none of this. An agent that runs as an ordinary user owns the directories that it made,
//! some of which bear a mode without `u+w`: for the time of one operation they get it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::Mode;

use super::streams::Streams;
use crate::disk::Root;
use crate::protocol::ToReceiver;
use crate::tree::RelPath;

/// Search and write for the owner.
const NEEDED: u32 = 0o300;

/// Whether no mode stops this process. An agent never changes its user.
fn is_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| rustix::process::geteuid().is_root())
}

/// Directories that are open to their owner for as long as this lives.
#[derive(Default)]
pub(super) struct Access {
    widened: Vec<(OwnedFd, u32)>,
}

impl Access {
    /// Opens what an operation changes. What cannot be opened is left for the operation to fail on.
    pub fn for_message(root: &Root, streams: &Streams, message: &ToReceiver<'_>) -> Self {
        let mut access = Self::default();
        if is_root() {
            return access;
        }
        match message {
            ToReceiver::Close { stream, .. } => {
                let dir = streams.open.get(stream).and_then(|stream| stream.dir.try_clone().ok());
                dir.into_iter().for_each(|dir| access.widen(dir));
            }
            // Every other operation reaches its paths through their directories. A directory that is moved
            // changes as well: its own `..`.
            operation => {
                operation.paths().into_iter().flatten().for_each(|path| access.parent_of(root, path));
                if let ToReceiver::Rename { from, .. } = operation
                    && let Ok(dir) = root.place(from)
                {
                    access.widen(dir);
                }
            }
        }
        access
    }

    fn parent_of(&mut self, root: &Root, path: &RelPath) {
        if let Some(dir) = path.parent().and_then(|parent| root.place(&parent).ok()) {
            self.widen(dir);
        }
    }

    fn widen(&mut self, dir: OwnedFd) {
        let Ok(stat) = rustix::fs::fstat(&dir) else { return };
        let mode = stat.st_mode & 0o7777;
        let ours = stat.st_uid == rustix::process::geteuid().as_raw();
        if ours && mode & NEEDED != NEEDED && chmod(&dir, mode | NEEDED).is_ok() {
            self.widened.push((dir, mode));
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        // The last that was widened first: a directory may be there twice.
        for (dir, mode) in self.widened.drain(..).rev() {
            let _ = chmod(&dir, mode);
        }
    }
}

/// Sets the mode of a directory that may be held as a place only.
fn chmod(dir: &OwnedFd, mode: u32) -> rustix::io::Result<()> {
    rustix::fs::chmod(format!("/proc/self/fd/{}", dir.as_raw_fd()), Mode::from(mode))
}
