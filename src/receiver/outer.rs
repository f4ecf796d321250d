//! Other mirrors to a directory that a root is in.
//!
//! **Purpose:** what this mirror brings, the other one finds to be nowhere in its source: it deletes it, or has
//! those deletes wait for an approval. **In → Out:** the path of a root; a refusal that names the other mirror.
//! **Invariants:** only a live mirror that is at work counts, and none whose filters leave the root out and
//! alone. **Not here:** a *source* within another mirror's target, which is well (`protocol::origin::circle`).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::place::shown;
use crate::disk::{is_locked, memory_place, note};
use crate::filter::Filter;
use crate::protocol::{HOLDER_FILE, Holder, Refusal};
use crate::tree::RelPath;

/// A directory above a root that no mirror was at work on when the session began.
#[derive(Debug)]
struct Free {
    dir: PathBuf,
    /// Through which nothing can be read, not even by a confined agent that is deceived.
    held: OwnedFd,
    noted: Option<Stamp>,
}

/// The file in which a session notes that it holds its root: another one for each session.
type Stamp = (u64, i64, u32);

/// The directories above a root.
#[derive(Debug, Default)]
pub(super) struct Above(Vec<Free>);

impl Above {
    /// Looks at the directories above a root, whose path has no links, before the agent is confined to it.
    ///
    /// # Errors
    /// [`Refusal::Within`].
    pub fn look(root: &Path) -> Result<Self, Refusal> {
        let mut free = Vec::new();
        for dir in root.ancestors().skip(1) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let (Ok(held), Ok(below)) = (rustix::fs::open(dir, flags, Mode::empty()), root.strip_prefix(dir))
            else {
                continue;
            };
            let noted = stamp(&held);
            match holder(dir).filter(|_| File::open(dir).is_ok_and(is_locked)) {
                Some(holder) if spares(&holder, below) => {}
                Some(holder) => {
                    let source = holder.chain.last().map(|tree| tree.name.as_str()).unwrap_or_default();
                    let by = format!("from {source} by {}", holder.who);
                    return Err(Refusal::Within { outer: shown(dir), by });
                }
                None => free.push(Free { dir: dir.to_owned(), held, noted }),
            }
        }
        Ok(Self(free))
    }

    /// Returns why a session must end: a mirror to one of the directories has begun.
    pub fn begun(&self) -> Option<Refusal> {
        let has_begun = |free: &&Free| stamp(&free.held).is_some_and(|now| free.noted != Some(now));
        let free = self.0.iter().find(has_begun)?;
        Some(Refusal::Within { outer: shown(&free.dir), by: String::new() })
    }
}

/// Returns what changes when a session begins on a root; `None` where there is none, or nobody may know.
fn stamp(root: &OwnedFd) -> Option<Stamp> {
    let name = memory_place(root).join(HOLDER_FILE);
    let stat = rustix::fs::statat(root, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some((stat.st_ino, stat.st_ctime as i64, u32::try_from(stat.st_ctime_nsec).unwrap_or(0)))
}

fn holder(root: &Path) -> Option<Holder> {
    serde_json::from_slice(&note(root, HOLDER_FILE)?).ok()
}

/// Whether a mirror neither brings nor deletes what is `below` its root.
fn spares(holder: &Holder, below: &Path) -> bool {
    let below = RelPath::new(below.as_os_str().as_bytes().to_vec());
    let (Ok(filter), Ok(below)) = (Filter::new(&holder.filters), below) else { return false };
    let mut above = std::iter::successors(Some(below), RelPath::parent);
    let is_left = |dir: RelPath| filter.excludes_entry(&dir, true) && filter.protects_entry(&dir, true);
    !holder.delete_excluded && above.any(is_left)
}
