//! Where the sessions of this process come from.
//!
//! **In → Out:** a source tree; what a hello says of this daemon and of the trees from which the source itself
//! is mirrored. **Invariants:** only a mirror that is at work now counts: its agent holds the lock of its
//! root. **Not here:** the other side's notes (`receiver::state`).

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::session::SessionOptions;
use crate::config::spelling;
use crate::filter::Filter;
use crate::protocol::{HOLDER_FILE, Holder, Origin};
use crate::scan::STATE_DIR;
use crate::tree::{RelPath, quote};

/// Most bytes of a holder's notes that are read.
const HOLDER_LEN_MAX: u64 = 4 << 20;

/// Returns what a hello says of where it comes from.
pub(super) fn origin(options: &SessionOptions) -> Origin {
    let source = spelling::local_path(&options.sync.source);
    let path = quote(source.as_os_str().as_bytes());
    Origin {
        former: options.mirror.former.clone(),
        start: start(),
        who: format!("speil (process {}) on {}", std::process::id(), host_name()),
        name: format!("{}:{}", host_name(), path.trim_matches('"')),
        upstream: if options.live {
            upstream(&source).map_or_else(Vec::new, |it| it.chain)
        } else {
            Vec::new()
        },
    }
}

/// Returns this host's name.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns what is the same for every session of this process, and for no other process.
pub(super) fn start() -> [u8; 16] {
    static START: OnceLock<[u8; 16]> = OnceLock::new();
    *START.get_or_init(|| {
        let mut id = [0; 16];
        let _ = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
        // A kernel without randomness still tells its processes apart.
        id.iter_mut().zip(std::process::id().to_le_bytes()).for_each(|(byte, own)| *byte ^= own);
        id
    })
}

/// Returns who mirrors to `source` at this moment, or to a directory that it is in; `None` where nobody does,
/// and where the notes may not be read.
pub(super) fn upstream(source: &Path) -> Option<Holder> {
    let source = source.canonicalize().ok()?;
    source.ancestors().find_map(|dir| {
        let holder = holder(dir)?;
        let below = source.strip_prefix(dir).ok()?;
        (is_locked(dir) && is_mirrored(&holder, below)).then_some(holder)
    })
}

fn holder(root: &Path) -> Option<Holder> {
    let file = root.join(std::ffi::OsStr::from_bytes(STATE_DIR)).join(HOLDER_FILE);
    let file =
        File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(file).ok()?;
    // In a directory where everybody may write, such as /tmp, anybody could forge it.
    let (owner, dir) = (file.metadata().ok()?.uid(), root.metadata().ok()?.uid());
    if ![0, dir, rustix::process::geteuid().as_raw()].contains(&owner) {
        return None;
    }
    let mut text = Vec::new();
    file.take(HOLDER_LEN_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Whether an agent is at work on a root.
fn is_locked(root: &Path) -> bool {
    let Ok(dir) = File::open(root) else { return false };
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Whether a mirror to a root brings what is `below` it: its filters may leave that out.
fn is_mirrored(holder: &Holder, below: &Path) -> bool {
    let Ok(filter) = Filter::new(&holder.filters) else { return true };
    below
        .ancestors()
        .filter_map(|dir| RelPath::new(dir.as_os_str().as_bytes().to_vec()).ok())
        .all(|dir| dir.is_root() || !filter.excludes(&dir, true))
}
