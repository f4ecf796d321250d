//! Where the sessions of this process come from.
//!
//! **In → Out:** a source tree; what a hello says of this daemon and of the trees from which the source itself
//! is mirrored. **Invariants:** only a mirror that is at work now counts: its agent holds the lock of its
//! root. **Not here:** the other side's notes (`receiver::state`).

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::session::SessionOptions;
use crate::config::spelling;
use crate::disk::{host_name, is_locked, note};
use crate::filter::Filter;
use crate::protocol::{HOLDER_FILE, Holder, Origin};
use crate::tree::{RelPath, quote};

/// How long a daemon waits for another one to give way.
const GIVES_WAY: Duration = Duration::from_secs(5);

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

/// Whether this daemon gives way to `holder`, which has been seen since `since` to mirror from this daemon's target
/// to its source. Two daemons that connect at the same moment may each be accepted by the other's side; each has
/// noted its session by then, so at least one of them finds the other. The one whose number is the larger gives way
/// at once. The other waits for that: where nobody gives way, the other mirror was there before.
pub(super) fn gives_way(holder: &Holder, since: Instant, now: Instant) -> bool {
    start() > holder.start || now.saturating_duration_since(since) >= GIVES_WAY
}

/// Who mirrored to the source before this process took from itself the way to the directories above it; of a process
/// that has one session.
static SEEN: OnceLock<Option<Holder>> = OnceLock::new();

/// Looks who mirrors to `source`, for a process that is about to confine itself and has one session.
pub fn see_upstream(source: &Path) {
    SEEN.get_or_init(|| look_upstream(source));
}

/// Returns who mirrors to `source` at this moment, or to a directory that it is in; `None` where nobody does,
/// and where the notes may not be read.
pub(super) fn upstream(source: &Path) -> Option<Holder> {
    SEEN.get().cloned().unwrap_or_else(|| look_upstream(source))
}

fn look_upstream(source: &Path) -> Option<Holder> {
    let source = source.canonicalize().ok()?;
    source.ancestors().find_map(|dir| {
        let holder = holder(dir)?;
        let below = source.strip_prefix(dir).ok()?;
        (File::open(dir).is_ok_and(is_locked) && is_mirrored(&holder, below)).then_some(holder)
    })
}

fn holder(root: &Path) -> Option<Holder> {
    serde_json::from_slice(&note(root, HOLDER_FILE)?).ok()
}

/// Whether a mirror to a root brings what is `below` it: its filters may leave that out.
fn is_mirrored(holder: &Holder, below: &Path) -> bool {
    let Ok(filter) = Filter::new(&holder.filters) else { return true };
    RelPath::new(below.as_os_str().as_bytes().to_vec()).is_ok_and(|below| !filter.excludes(&below, true))
}
