//! What the receiver remembers between sessions, in `.speil/` below the root or where `disk::memory_place` says.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::knock;
use crate::disk::{Root, memory_place};
use crate::protocol::{CHAIN_MAX, HOLDER_FILE, Holder, Mark, Reached, Stated, Tree, Watermark};
use crate::scan::STATE_DIR;
use crate::tree::RelPath;

/// Which mirror a tree belongs to, and what its receiver remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// The mirror, as 32 hex digits.
    pub mirror: String,
    /// What people call it.
    pub label: String,
    /// Where its source is, `HOST:PATH`, and the path by which it reached this tree last.
    #[serde(default)]
    pub source: String,
    /// See `source`.
    #[serde(default)]
    pub target: String,
    /// Last commit that was acknowledged, and the session that it belongs to.
    pub last_batch: (u64, u64),
    /// Paths whose installed version is provisional.
    pub provisional: Vec<RelPath>,
    /// Directories of the source that were mount points.
    #[serde(default)]
    pub mounts: Vec<RelPath>,
    /// The tree held entries when the mirror took it, and nobody has said that they may go.
    #[serde(default)]
    pub strange: bool,
    /// Up to when the target has everything of the source.
    #[serde(default)]
    pub watermark: Option<Watermark>,
}

impl Memory {
    /// Says whose the tree is: the mirror, its paths, and when it was here last.
    pub fn who(&self, last: Option<SystemTime>) -> String {
        let mut text = self.label.clone();
        if !self.source.is_empty() {
            text.push_str(&format!(", from {} to {}", self.source, self.target));
        }
        if let Some(age) = last.and_then(|last| SystemTime::now().duration_since(last).ok()) {
            text.push_str(&format!(", last here {} ago", ago(age.as_secs())));
        }
        text
    }
}

/// Returns a span in its largest whole unit.
fn ago(secs: u64) -> String {
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7199 => format!("{} min", secs / 60),
        7200..=172_799 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

/// The open state directory.
#[derive(Debug)]
pub(super) struct State {
    dir: OwnedFd,
    session_file: OwnedFd,
    /// Number of this session.
    pub session: u64,
    /// The daemon's start that it belongs to.
    start: [u8; 16],
}

/// Where the sender's last statement is kept.
pub(super) const LAST_STATED: &str = "stated";
/// What is a file in the state directory, and what is a directory.
const OWN_FILES: [&str; 13] = [
    "session",
    "memory",
    "memory.new",
    LAST_STATED,
    REACHED,
    HOLDER_FILE,
    "holder.new",
    "own",
    "own.new",
    "own.next",
    "refuse",
    "arrived",
    "arrived.old",
];
const OWN_DIRS: [&str; 4] = ["partial", "strangers", "trash", "undone"];
/// Bytes of that file.
const STATED_LEN: usize = 128;
/// Where the newest mark of the source is kept that was reached.
const REACHED: &str = "reached";
/// Bytes of that file.
const REACHED_LEN: usize = 512;
/// Most bytes of a state file that are read.
const FILE_LEN_MAX: u64 = 64 << 20;

impl State {
    /// Whether a root has a state directory.
    pub fn exists(root: &Root, place: &Path) -> bool {
        rustix::fs::statat(root, place, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Returns what is in the place of the state directory, or of something in it, and is of another kind: its
    /// path below the root; `ELOOP` for a symlink, `EISDIR` for a directory, `ENOTDIR` for what should be one.
    pub fn obstacle(root: &Root) -> Option<(PathBuf, i32)> {
        let state = Path::new(OsStr::from_bytes(STATE_DIR));
        let files = OWN_FILES.map(|name| (state.join(name), false));
        let dirs = OWN_DIRS.map(|name| (state.join(name), true));
        let all = std::iter::once((state.to_owned(), true)).chain(files).chain(dirs);
        all.filter_map(|(path, is_dir)| {
            let there = rustix::fs::statat(root, &path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let errno = match (FileType::from_raw_mode(there.st_mode), is_dir) {
                (FileType::Directory, true) | (FileType::RegularFile, false) => return None,
                (FileType::Symlink, _) => libc::ELOOP,
                (FileType::Directory, false) => libc::EISDIR,
                _ => libc::ENOTDIR,
            };
            Some((path, errno))
        })
        .next()
    }

    /// Opens the state directory, and makes it if `make` says so; `None` if there is none that can be
    /// opened and it need not be made. `place`: [`memory_place`].
    pub fn open((root, place): (&Root, &Path), make: bool) -> io::Result<Option<Self>> {
        if make && place.is_relative() {
            match rustix::fs::mkdirat(root, place, Mode::from(0o700)) {
                // Whose the tree is outlives a power cut.
                Ok(()) => rustix::fs::fsync(root)?,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match Self::open_files((root, place), make) {
            Err(_) if !make => Ok(None),
            other => other.map(Some),
        }
    }

    fn open_files((root, place): (&Root, &Path), make: bool) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(root, place, flags, Mode::empty())?;
        let create = if make { OFlags::CREATE } else { OFlags::empty() };
        let file = OFlags::RDWR | create | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let session_file = rustix::fs::openat(&dir, "session", file, Mode::from(0o600))?;
        if make {
            // Earlier versions told by its time what others wrote; without it, a downgrade tells nothing wrong.
            let _ = rustix::fs::unlinkat(&dir, "clock", AtFlags::empty());
        }
        Ok(Self { dir, session_file, session: 0, start: [0; 16] })
    }

    /// Takes the next session number, which evicts the session before, and notes who holds the root now.
    pub fn begin(&mut self, holder: Holder) -> io::Result<()> {
        // Two agents may start at once: the number is taken under a lock of its own.
        rustix::fs::flock(&self.session_file, FlockOperation::LockExclusive)?;
        self.session = read_counter(self.session_file.as_fd())? + 1;
        self.start = holder.start;
        // Before the number: who is evicted reads by whom.
        self.note_holder(&Holder { session: self.session, ..holder })?;
        rustix::io::pwrite(&self.session_file, &self.session.to_le_bytes(), 0)?;
        knock::knock(self.dir.as_fd());
        Ok(rustix::fs::flock(&self.session_file, FlockOperation::Unlock)?)
    }

    /// Opens the state of a root to which somebody has mirrored.
    ///
    /// # Errors
    /// `NotFound` if nobody has.
    pub fn of_sessions(root: &Root) -> io::Result<Self> {
        Self::open_files((root, &memory_place(root)), false)
    }

    /// Takes the next session number for who is no session: the one before leaves.
    pub fn evict(&mut self) -> io::Result<()> {
        rustix::fs::flock(&self.session_file, FlockOperation::LockExclusive)?;
        self.session = read_counter(self.session_file.as_fd())? + 1;
        let _ = rustix::fs::unlinkat(&self.dir, HOLDER_FILE, AtFlags::empty());
        rustix::io::pwrite(&self.session_file, &self.session.to_le_bytes(), 0)?;
        knock::knock(self.dir.as_fd());
        Ok(rustix::fs::flock(&self.session_file, FlockOperation::Unlock)?)
    }

    /// Wakes the session that works on the root.
    pub fn knock(&self) {
        knock::knock(self.dir.as_fd());
    }

    /// Returns who holds the root, if its agent has noted it: an older one does not, nor does one that has ended
    /// in order.
    pub fn holder(&self) -> Option<Holder> {
        let holder: Holder = serde_json::from_slice(&read(&self.dir, HOLDER_FILE)?).ok()?;
        (holder.session == read_counter(self.session_file.as_fd()).ok()?).then_some(holder)
    }

    /// Returns the daemon by which this session was evicted; `None` if that is its own.
    pub fn evicted_by(&self) -> Option<String> {
        self.holder().filter(|holder| holder.start != self.start).map(|holder| holder.who)
    }

    /// Notes from where the source of this session is mirrored by now.
    pub fn note_upstream(&self, upstream: Vec<Tree>) -> io::Result<()> {
        let Some(mut holder) = self.holder().filter(|holder| holder.session == self.session) else {
            return Ok(());
        };
        let source = holder.chain.pop();
        holder.chain = upstream.into_iter().take(CHAIN_MAX).chain(source).collect();
        self.note_holder(&holder)
    }

    /// Forgets the holder: this session ends in order.
    pub fn forget_holder(&self) {
        if self.is_current().unwrap_or(false) {
            let _ = rustix::fs::unlinkat(&self.dir, HOLDER_FILE, AtFlags::empty());
        }
    }

    fn note_holder(&self, holder: &Holder) -> io::Result<()> {
        let bytes = serde_json::to_vec(holder).map_err(io::Error::other)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, "holder.new", flags, Mode::from(0o600))?;
        io::Write::write_all(&mut File::from(file), &bytes)?;
        Ok(rustix::fs::renameat(&self.dir, "holder.new", &self.dir, HOLDER_FILE)?)
    }

    /// Returns what changes with every statement of the sender that holds the root.
    pub fn stated_stamp(&self) -> Option<(i64, u32)> {
        let stat = rustix::fs::statat(&self.dir, LAST_STATED, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((stat.st_mtime as i64, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)))
    }

    /// Returns when the mirror that the tree belongs to was at work here last, by this host's clock.
    pub fn last_at_work(&self) -> Option<SystemTime> {
        [LAST_STATED, "memory"].iter().filter_map(|name| modified(&self.dir, name)).max()
    }

    /// Whether no newer session of this mirror has begun.
    pub fn is_current(&self) -> io::Result<bool> {
        Ok(read_counter(self.session_file.as_fd())? == self.session)
    }

    /// Returns what becomes readable when a newer session has begun.
    pub fn listen(&self) -> Option<OwnedFd> {
        knock::listen(self.dir.as_fd())
    }

    /// Reads what the last session left; nothing at all where there is none or it does not parse.
    pub fn memory(&self) -> Memory {
        memory(&self.dir)
    }

    /// Writes the memory, whole or not at all; a power cut does not take it away again.
    pub fn remember(&self, memory: &Memory) -> io::Result<()> {
        let bytes = serde_json::to_vec(memory).map_err(io::Error::other)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, "memory.new", flags, Mode::from(0o600))?;
        let mut file = File::from(file);
        io::Write::write_all(&mut file, &bytes)?;
        file.sync_data()?;
        rustix::fs::renameat(&self.dir, "memory.new", &self.dir, "memory")?;
        Ok(rustix::fs::fsync(&self.dir)?)
    }

    /// Keeps what the sender states of the mirror, in one write; it may be lost with the host.
    pub fn note(&self, stated: &Stated) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, LAST_STATED, flags, Mode::from(0o600))?;
        // A daemon that has just started does not know the lag: what was known before is older by now.
        let lag_ms = stated.lag_ms.or_else(|| {
            let lag_ms = self.last_stated()?.lag_ms?;
            let since = modified(&self.dir, LAST_STATED).and_then(|at| at.elapsed().ok()).unwrap_or_default();
            Some(lag_ms.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
        });
        let kept = Stated { lag_ms, ..*stated };
        write_line(&file, &kept, STATED_LEN)
    }

    /// Keeps which mark of the source was reached, in one write; it may be lost with the host, as what others ask then
    /// is not answered with yes.
    pub fn reach(&self, mark: Mark) -> io::Result<()> {
        let mut reached = reached(&self.dir);
        reached.advance(mark);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, REACHED, flags, Mode::from(0o600))?;
        write_line(&file, &reached, REACHED_LEN)
    }

    /// Returns the state directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Opens the state directory of a target for reading alone.
    pub fn read_only(root: &Root) -> io::Result<ReadOnly> {
        Self::read_only_at(root, &memory_place(root))
    }

    /// As [`State::read_only`], where the place is known.
    pub fn read_only_at(root: &Root, place: &Path) -> io::Result<ReadOnly> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(ReadOnly { dir: rustix::fs::openat(root, place, flags, Mode::empty())? })
    }

    fn last_stated(&self) -> Option<Stated> {
        last_stated(&self.dir)
    }

    /// Returns the text of `.speil/refuse`, if an administrator has put it there.
    pub fn refusal(root: &Root) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(root, STATE_DIR, flags, Mode::empty()).ok()?;
        let text = read(&dir, "refuse")?;
        Some(crate::tree::quote(text.trim_ascii()).trim_matches('"').to_owned())
    }
}

/// A state directory that is only read: by who is no agent.
pub(super) struct ReadOnly {
    dir: OwnedFd,
}

impl ReadOnly {
    /// As [`State::memory`].
    pub fn memory(&self) -> Memory {
        memory(&self.dir)
    }

    /// Returns which mark of the source was reached.
    pub fn reached(&self) -> Reached {
        reached(&self.dir)
    }

    /// Returns what the sender stated last.
    pub fn last_stated(&self) -> Option<Stated> {
        last_stated(&self.dir)
    }

    /// Returns when that was, on this host's clock.
    pub fn stated_at(&self) -> Option<SystemTime> {
        modified(&self.dir, LAST_STATED)
    }
}

fn modified(dir: &OwnedFd, name: &str) -> Option<SystemTime> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?;
    File::from(file).metadata().ok()?.modified().ok()
}

fn memory(dir: &OwnedFd) -> Memory {
    read(dir, "memory").and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn reached(dir: &OwnedFd) -> Reached {
    let read = || serde_json::from_slice(read(dir, REACHED)?.trim_ascii()).ok();
    read().unwrap_or_default()
}

/// Writes a line that is always of one length: a reader sees the old line or the new one.
fn write_line(file: &OwnedFd, what: &impl Serialize, len: usize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what).map_err(io::Error::other)?;
    line.resize(len - 1, b' ');
    line.push(b'\n');
    rustix::io::pwrite(file, &line, 0)?;
    Ok(())
}

fn last_stated(dir: &OwnedFd) -> Option<Stated> {
    serde_json::from_slice(read(dir, LAST_STATED)?.trim_ascii()).ok()
}

fn read(dir: &OwnedFd, name: &str) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?);
    let mut bytes = Vec::new();
    file.take(FILE_LEN_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn read_counter(file: std::os::fd::BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes = [0; 8];
    let len = rustix::io::pread(file, &mut bytes[..], 0)?;
    Ok(if len == 8 { u64::from_le_bytes(bytes) } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stated_can_be_read_by_others_and_a_lag_that_nobody_knows_grows() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let state = State::open((&root, Path::new(".speil")), true).unwrap().unwrap();
        let reader = State::read_only(&root).unwrap();
        assert_eq!(reader.last_stated(), None);
        state.note(&Stated { lag_ms: Some(123_456), paused: true }).unwrap();
        assert_eq!(reader.last_stated(), Some(Stated { lag_ms: Some(123_456), paused: true }));
        let hour_ago = SystemTime::now() - std::time::Duration::from_secs(3600);
        File::options()
            .write(true)
            .open(dir.path().join(".speil/stated"))
            .unwrap()
            .set_modified(hour_ago)
            .unwrap();
        state.note(&Stated { lag_ms: None, paused: false }).unwrap();
        let lag = reader.last_stated().unwrap().lag_ms.unwrap();
        assert!((3_723_000..4_000_000).contains(&lag), "it grows while nobody knows it: {lag}");
        state.note(&Stated { lag_ms: Some(7), paused: false }).unwrap();
        assert_eq!(reader.last_stated(), Some(Stated { lag_ms: Some(7), paused: false }));
        let len = std::fs::metadata(dir.path().join(".speil/stated")).unwrap().len();
        assert_eq!(len, STATED_LEN as u64, "one write of one length");
    }
}
