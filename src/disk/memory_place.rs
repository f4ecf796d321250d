//! Where what an agent remembers of a root is kept between sessions: in `.speil/` in the root, or outside of it.
//!
//! **In → Out:** an open root; the path of a directory, as openat(2) takes it beneath that root.
//! **Invariants:** a root that has its memory in `.speil/` keeps it there. One outside is found by the filesystem, inode
//! and birth time of the root: it follows a root that is renamed, and a directory made anew has none.
//! **Not here:** what the memory holds (`receiver::state`); what has to be on the root's own filesystem, such as the trash,
//! which is always in `.speil/`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};

use crate::tree::STATE_DIR;

/// A file that every memory holds.
const SESSION: &str = "session";
/// What names the root for people, in a memory outside of it.
const ROOT: &str = "root";
/// Where the system's own state is.
const SYSTEM: &str = "/var/lib/speil";
/// Roots in a state directory.
const TARGETS: &str = "targets";

/// Returns where what this user's processes remember over restarts of the host is kept: `$XDG_STATE_HOME/speil`, else
/// `/var/lib/speil` for root and `~/.local/state/speil` for others; `None` without a home.
pub fn state_home() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    match (variable("XDG_STATE_HOME"), variable("HOME")) {
        (Some(dir), _) => Some(PathBuf::from(dir).join("speil")),
        (None, _) if rustix::process::geteuid().is_root() => Some(PathBuf::from(SYSTEM)),
        (None, home) => home.map(|home| below(Path::new(&home))),
    }
}

fn below(home: &Path) -> PathBuf {
    home.join(".local/state/speil")
}

/// Returns the directory that holds the memory of a root: `.speil` unless there is one outside, also where there is none
/// yet.
pub fn memory_place(root: impl AsFd) -> PathBuf {
    existing(root.as_fd()).unwrap_or_else(inside)
}

/// As [`memory_place`], and makes a directory outside of a root that has no memory yet.
///
/// # Errors
/// Why there can be none outside. Consequence: it is in `.speil`.
pub fn memory_place_outside(root: impl AsFd) -> io::Result<PathBuf> {
    existing(root.as_fd()).map_or_else(|| make_outside(root.as_fd()), Ok)
}

fn inside() -> PathBuf {
    PathBuf::from(OsStr::from_bytes(STATE_DIR))
}

/// Returns the directory that holds the memory of a root; `None` if it has none yet.
fn existing(root: BorrowedFd<'_>) -> Option<PathBuf> {
    if rustix::fs::statat(root, inside().join(SESSION), AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Some(inside());
    }
    let name = name_of(root)?;
    let homes = [state_home(), Some(PathBuf::from(SYSTEM)), state_of_owner(root)];
    let mut places = homes.into_iter().flatten().map(|home| home.join(TARGETS).join(&name));
    places.find(|place| is_memory(place))
}

/// Whether a directory holds a memory, also one that this user may not read.
fn is_memory(place: &Path) -> bool {
    match place.join(SESSION).symlink_metadata() {
        Ok(found) => found.is_file(),
        // Of a directory above it nothing follows.
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied && place.symlink_metadata().is_ok(),
    }
}

fn make_outside(root: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let missing = |what| io::Error::new(io::ErrorKind::NotFound, what);
    let all = state_home().ok_or_else(|| missing("no HOME"))?.join(TARGETS);
    let place = all.join(name_of(root).ok_or_else(|| missing("no statx"))?);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
    // For people; and a directory that nothing can be written into is none.
    let path = std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()))?;
    std::fs::write(place.join(ROOT), [path.as_os_str().as_bytes(), b"\n"].concat())?;
    std::fs::File::open(all)?.sync_all()?;
    Ok(place)
}

/// Returns what tells a root from every other one on this host.
fn name_of(root: BorrowedFd<'_>) -> Option<String> {
    let (dev, _, id) = super::filesystem(root).ok()?;
    let found = rustix::fs::statx(root, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::BTIME).ok()?;
    let born = &found.stx_btime;
    let volume = if id == 0 { dev } else { id };
    Some(format!("{volume:016x}-{:x}-{:x}.{:x}", found.stx_ino, born.tv_sec, born.tv_nsec))
}

/// Returns the state directory of a root's owner, for who may look into those of others.
fn state_of_owner(root: BorrowedFd<'_>) -> Option<PathBuf> {
    let owner = rustix::fs::fstat(root).ok()?.st_uid;
    if owner == 0 || !rustix::process::geteuid().is_root() {
        return None;
    }
    let dir = below(&nix::unistd::User::from_uid(owner.into()).ok()??.dir);
    // Whoever else could write there could have this process write anywhere.
    dir.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == owner).then_some(dir)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_root_has_one_name_wherever_it_is_and_a_new_one_when_it_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let name = |path: &Path| name_of(File::open(path).unwrap().as_fd()).unwrap();
        let first = name(&root);
        std::fs::rename(&root, dir.path().join("moved")).unwrap();
        assert_eq!(name(&dir.path().join("moved")), first);
        std::fs::remove_dir(dir.path().join("moved")).unwrap();
        // Within one tick of the kernel's clock the inode may be used again, born at the same moment.
        let mut made = std::iter::repeat_with(|| {
            std::fs::create_dir(&root).unwrap();
            let name = name(&root);
            std::fs::remove_dir(&root).unwrap();
            name
        });
        assert!(made.by_ref().take(1_000_000).any(|name| name != first));
    }

    #[test]
    fn memory_that_is_in_the_root_stays_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".speil")).unwrap();
        std::fs::write(dir.path().join(".speil/session"), "").unwrap();
        let root = File::open(dir.path()).unwrap();
        assert_eq!(memory_place_outside(&root).unwrap(), PathBuf::from(".speil"));
    }
}
