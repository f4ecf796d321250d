//! `.speil/role`: the role of a tree on its disk.
//!
//! **Purpose:** whoever reads it finds the old record or the new one, whatever ends the process or the host while it is
//! written. **In → Out:** an open root; a [`Record`], and the [`TreeId`] where one would hold.
//! **Invariants:** it is written new, flushed, renamed, and the directory is flushed; whoever changes it holds
//! `.speil/role.lock` from the reading to the rename, so that what an agent has heard does not undo what somebody typed;
//! what is there and cannot be trusted or read is an error, and never a tree without a role.
//! **Not here:** what a record means and what is made of it (`role`).
//!
//! Beside it are what was intended last (`turn`), during which boot another host has answered (`host`), and up to where
//! other trees held the same (`cuts`).

mod cuts;
mod handed;
mod host;
mod rivals;
mod stepped;
mod turn;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, StatxFlags, Uid};
use rustix::io::Errno;

use crate::error::{Consequence, Consequential, io_text};
use crate::role::{BadRecord, RECORD_LEN_MAX, Record, TreeId};
use crate::scan::STATE_DIR;

pub use cuts::clock;
pub use handed::{AsksHandOver, Handed};
pub use host::{boot, know_host};
pub use turn::{Turn, TurnError};

const NAME: &str = "role";
const NEW: &str = "role.new";
const LOCK: &str = "role.lock";
/// What others than the owner may not do with it.
const OTHERS_WRITE: u32 = 0o022;

/// Why a role cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RoleFileError {
    /// The system refuses something.
    #[error("{operation} .speil/{name}: {}", io_text(.error))]
    Io {
        /// What was done.
        operation: &'static str,
        /// To which file.
        name: &'static str,
        /// What the system says. Not the source of this error: its text is in the message.
        error: io::Error,
    },
    /// Somebody else may have written it.
    #[error("read .speil/{name}: {why}; it is not believed")]
    Untrusted {
        /// Which file.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// It holds no record.
    #[error("read .speil/role: {0}")]
    Bad(BadRecord),
}

impl Consequential for RoleFileError {
    fn consequence(&self) -> Consequence {
        Consequence::Die
    }
}

/// The open state directory of a tree.
#[derive(Debug)]
pub struct RoleFile {
    dir: OwnedFd,
    owner: (u32, u32),
}

impl RoleFile {
    /// Opens the state directory of a tree; `None` if it has none, and so no role.
    ///
    /// # Errors
    /// If it is no directory, belongs to a stranger, or cannot be opened.
    pub fn open(root: impl AsFd) -> Result<Option<Self>, RoleFileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::openat(&root, STATE_DIR, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(failed("open", ""))?,
        };
        let (of_root, of_dir) = (stat(root.as_fd(), "")?, stat(dir.as_fd(), "")?);
        let believed = [0, rustix::process::geteuid().as_raw(), of_root.st_uid];
        if !believed.contains(&of_dir.st_uid) {
            return Err(untrusted("", format!("it belongs to user {}", of_dir.st_uid)));
        }
        if of_dir.st_mode & OTHERS_WRITE != 0 {
            return Err(untrusted("", "others than its owner may write in it".to_owned()));
        }
        Ok(Some(Self { dir, owner: (of_dir.st_uid, of_dir.st_gid) }))
    }

    /// As [`open`](Self::open), and makes the directory if it is missing, for the owner of the tree.
    ///
    /// # Errors
    /// As `open`, and what making it says.
    pub fn make(root: impl AsFd) -> Result<Self, RoleFileError> {
        match rustix::fs::mkdirat(&root, STATE_DIR, Mode::from(0o700)) {
            Ok(()) => {
                let of_root = stat(root.as_fd(), "")?;
                if rustix::process::geteuid().is_root() {
                    let (uid, gid) = (Uid::from_raw(of_root.st_uid), Gid::from_raw(of_root.st_gid));
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    rustix::fs::chownat(&root, STATE_DIR, Some(uid), Some(gid), flags)
                        .map_err(failed("chown", ""))?;
                }
                rustix::fs::fsync(&root).map_err(failed("flush the directory of", ""))?;
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make", "")(error)),
        }
        Self::open(root)?.ok_or_else(|| failed("open", "")(Errno::NOENT))
    }

    /// Returns where a record that is written now holds.
    ///
    /// # Errors
    /// What statx(2) says.
    pub fn place(&self) -> Result<TreeId, RoleFileError> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let flags = AtFlags::EMPTY_PATH;
        let stat = rustix::fs::statx(&self.dir, c"", flags, wanted).map_err(failed("look at", ""))?;
        let born = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME).then(|| {
            stat.stx_btime.tv_sec.saturating_mul(1_000_000_000).saturating_add(stat.stx_btime.tv_nsec.into())
        });
        Ok(TreeId { machine: host::machine(), inode: stat.stx_ino, born })
    }

    /// Reads the record; `None` if the tree has no role.
    ///
    /// # Errors
    /// If there is one that cannot be read, belongs to a stranger, or is damaged.
    pub fn read(&self) -> Result<Option<Record>, RoleFileError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, NAME, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(failed("open", NAME))?,
        };
        let found = stat(file.as_fd(), NAME)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(untrusted(NAME, "it is no regular file".to_owned()));
        }
        if found.st_uid != 0 && found.st_uid != self.owner.0 {
            return Err(untrusted(NAME, format!("it belongs to user {}", found.st_uid)));
        }
        if found.st_mode & OTHERS_WRITE != 0 {
            return Err(untrusted(NAME, "others than its owner may write it".to_owned()));
        }
        let mut bytes = Vec::new();
        let limit = RECORD_LEN_MAX as u64 + 1;
        File::from(file).take(limit).read_to_end(&mut bytes).map_err(|error| RoleFileError::Io {
            operation: "read",
            name: NAME,
            error,
        })?;
        Record::from_text(&bytes).map(Some).map_err(RoleFileError::Bad)
    }

    /// Reads the record under the lock and writes what `change` makes of it; returns what is on the disk then, `None`
    /// for no role. What cannot be read is handed over as it is: a verb may overwrite it.
    ///
    /// # Errors
    /// If it cannot be read and `change` makes nothing of it, or cannot be written: then the old record is there.
    pub fn update(
        &self,
        change: impl FnOnce(Result<Option<&Record>, &RoleFileError>) -> Option<Record>,
    ) -> Result<Option<Record>, RoleFileError> {
        let lock = self.lock_file(LOCK)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(failed("lock", LOCK))?;
        let old = self.read();
        let new = change(old.as_ref().map(Option::as_ref));
        match new {
            None => old,
            Some(new) => {
                self.write(&new)?;
                Ok(Some(new))
            }
        }
    }

    fn write(&self, record: &Record) -> Result<(), RoleFileError> {
        self.replace((NAME, NEW), record.to_text().as_bytes())?;
        rustix::fs::fsync(&self.dir).map_err(failed("flush the directory of", NAME))
    }

    /// Writes a file whole, flushed, under a new name, and gives it its own.
    fn replace(&self, (name, new): (&str, &'static str), bytes: &[u8]) -> Result<(), RoleFileError> {
        // What an earlier write left is nobody's, and might be a link.
        match rustix::fs::unlinkat(&self.dir, new, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("remove", new)(error)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&self.dir, new, flags, Mode::from(0o600)).map_err(failed("make", new))?;
        self.hand_to_owner(file.as_fd(), new)?;
        let mut file = File::from(file);
        let flushed = file.write_all(bytes).and_then(|()| file.sync_all());
        flushed.map_err(|error| RoleFileError::Io { operation: "write", name: new, error })?;
        rustix::fs::renameat(&self.dir, new, &self.dir, name).map_err(failed("rename", new))
    }

    /// Opens a lock of its own beside the record.
    fn lock_file(&self, name: &'static str) -> Result<OwnedFd, RoleFileError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.dir, name, flags, Mode::from(0o600));
        let lock = lock.map_err(failed("open", name))?;
        self.hand_to_owner(lock.as_fd(), name)?;
        Ok(lock)
    }

    /// When root runs a verb, the agent's user still reads and writes what is there.
    fn hand_to_owner(&self, file: BorrowedFd<'_>, name: &'static str) -> Result<(), RoleFileError> {
        if !rustix::process::geteuid().is_root() || self.owner.0 == 0 {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(failed("chown", name))
    }
}

fn failed(operation: &'static str, name: &'static str) -> impl Fn(Errno) -> RoleFileError {
    move |errno| RoleFileError::Io { operation, name, error: errno.into() }
}

fn untrusted(name: &'static str, why: String) -> RoleFileError {
    RoleFileError::Untrusted { name, why }
}

fn stat(fd: BorrowedFd<'_>, name: &'static str) -> Result<rustix::fs::Stat, RoleFileError> {
    rustix::fs::fstat(fd).map_err(failed("look at", name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::Path;

    use super::*;
    use crate::role::Tree;

    fn root(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_record_is_read_back_and_what_is_missing_is_no_role() {
        let dir = tempfile::tempdir().unwrap();
        assert!(RoleFile::open(root(dir.path())).unwrap().is_none());
        let file = RoleFile::make(root(dir.path())).unwrap();
        assert!(file.read().unwrap().is_none());
        let record = Record::joined(file.place().unwrap());
        let made = file.update(|old| {
            assert!(old.unwrap().is_none());
            Some(record.clone())
        });
        assert_eq!(made.unwrap().as_ref(), Some(&record));
        assert_eq!(file.read().unwrap().as_ref(), Some(&record));
        assert_eq!(file.update(|_| None).unwrap().as_ref(), Some(&record));
        let again = RoleFile::open(root(dir.path())).unwrap().unwrap();
        assert!(matches!(Tree::of(Some(&record), &again.place().unwrap(), false), Tree::Placed(_)));
        // A copy of the tree, with everything in it.
        let copy = tempfile::tempdir().unwrap();
        RoleFile::make(root(copy.path())).unwrap();
        std::fs::copy(dir.path().join(".speil/role"), copy.path().join(".speil/role")).unwrap();
        let copied = RoleFile::open(root(copy.path())).unwrap().unwrap();
        let (read, place) = (copied.read().unwrap(), copied.place().unwrap());
        assert!(matches!(Tree::of(read.as_ref(), &place, false), Tree::Transplanted(_)));
    }

    #[test]
    fn what_cannot_be_trusted_or_read_is_an_error_and_never_no_role() {
        let dir = tempfile::tempdir().unwrap();
        let file = RoleFile::make(root(dir.path())).unwrap();
        let record = Record::joined(file.place().unwrap());
        let path = dir.path().join(".speil/role");
        let good = record.to_text();
        let said = |wanted: &str| {
            let error = file.read().unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains('\n'), "{error}");
        };
        for (bad, wanted) in
            [("", "first line"), ("speil role 9\n", "later version"), (&good[..good.len() - 9], "damaged")]
        {
            std::fs::write(&path, bad).unwrap();
            said(wanted);
        }
        std::fs::write(&path, "x".repeat(RECORD_LEN_MAX + 1)).unwrap();
        said("longer than");
        std::fs::write(&path, &good).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        said("others than its owner may write it");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        said("no regular file");
        std::fs::remove_dir(&path).unwrap();
        symlink("elsewhere", &path).unwrap();
        said("ELOOP");
        std::fs::remove_file(&path).unwrap();
        if rustix::process::geteuid().is_root() {
            std::fs::write(&path, &good).unwrap();
            chown(&path, Some(1234), None).unwrap();
            said("belongs to user 1234");
            // A verb may overwrite it.
            let made = file.update(|old| old.is_err().then(|| record.clone()));
            assert_eq!(made.unwrap(), Some(record));
            chown(dir.path().join(".speil"), Some(1234), None).unwrap();
            assert!(RoleFile::open(root(dir.path())).is_err(), "a stranger made the directory");
        }
    }

    #[test]
    fn root_leaves_the_files_to_the_owner_of_the_tree() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(1234), Some(1235)).unwrap();
        let file = RoleFile::make(root(dir.path())).unwrap();
        file.update(|_| Some(Record::joined(file.place().unwrap()))).unwrap();
        for name in [".speil", ".speil/role", ".speil/role.lock"] {
            let found = std::fs::metadata(dir.path().join(name)).unwrap();
            use std::os::unix::fs::MetadataExt;
            assert_eq!((found.uid(), found.gid()), (1234, 1235), "{name}");
        }
    }

    #[test]
    fn changes_wait_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = RoleFile::make(root(dir.path())).unwrap();
        let first = Record::joined(file.place().unwrap());
        file.update(|_| Some(first.clone())).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mine = RoleFile::open(root(dir.path())).unwrap().unwrap();
                    for _ in 0..25 {
                        let more = |old: Result<Option<&Record>, &RoleFileError>| {
                            let old = old.unwrap()?;
                            Some(Record { heard: old.heard + 1, ..old.clone() })
                        };
                        mine.update(more).unwrap();
                    }
                });
            }
        });
        assert_eq!(file.read().unwrap().unwrap().heard, 100);
    }
}
