//! The ring on the disk: `arrived`, and `arrived.old` before it, in the target's state directory.
//!
//! **Invariants:** a record is one write, names the record before it, and has a checksum; numbers grow, also over a
//! ring that is made anew (they are moments in nanoseconds). So a reader that misses a record knows it. Each of the two
//! files holds at most [`FILE_LEN_MAX`] bytes and one record. What is read is a claim of the user that the agent runs
//! as: lengths are checked, symlinks are not followed, and paths stay below the root.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, inotify};
use serde::{Deserialize, Serialize};

use crate::disk::{Root, id_of, memory_place};
use crate::tree::{RelPath, STATE_DIR};

/// The file that grows, and the one before it.
const NAME: &str = "arrived";
const OLD_NAME: &str = "arrived.old";
/// A file of this length is followed by another one.
const FILE_LEN_MAX: u64 = 512 << 10;
/// Most bytes of a record.
const RECORD_LEN_MAX: usize = 1 << 20;
/// Most bytes of a file that are read at once.
const READ_LEN_MAX: u64 = FILE_LEN_MAX + 2 * RECORD_LEN_MAX as u64;
/// Bytes before a record: its length, and the beginning of its BLAKE3.
const HEAD_LEN: usize = 8;

/// A path at which something is new, or gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Changed {
    /// The path.
    pub path: RelPath,
    /// It is a directory that was moved or removed with everything below it.
    pub whole: bool,
}

/// What arrived with one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// Nobody can say what: look at everything.
    Everything,
    /// These paths.
    Paths(Vec<Changed>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// A session is about to change something.
    Begun,
    /// Everything that a session has changed is told.
    Ended,
    Everything,
    Paths(Vec<Changed>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    number: u64,
    /// The number of the record before; 0 if there is none.
    previous: u64,
    what: What,
}

/// Takes the records from bytes; returns them, and how many bytes they take. What follows is not whole.
fn records(bytes: &[u8]) -> (Vec<Record>, usize) {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some((head, rest)) = bytes[at..].split_at_checked(HEAD_LEN) {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(body) = rest.get(..len).filter(|_| len <= RECORD_LEN_MAX) else { break };
        if blake3::hash(body).as_bytes()[..4] != head[4..] {
            break;
        }
        let Ok(record) = postcard::from_bytes(body) else { break };
        all.push(record);
        at += HEAD_LEN + len;
    }
    (all, at)
}

fn framed(record: &Record) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let mut bytes = u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes().to_vec();
    bytes.extend_from_slice(&blake3::hash(&body).as_bytes()[..4]);
    bytes.extend(body);
    Ok(bytes)
}

pub(super) fn open_dir(root: &Root, place: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(root, place, flags, Mode::empty())?)
}

fn open_file(dir: &OwnedFd, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from(0o600))?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other(format!("{name} is no regular file")));
    }
    Ok(File::from(file))
}

/// The ring as the agent writes it.
pub(super) struct Ring {
    dir: OwnedFd,
    file: Option<File>,
    last: u64,
    /// Something was not written down.
    lacks: bool,
}

impl Ring {
    pub fn new(dir: OwnedFd) -> Self {
        Self { dir, file: None, last: 0, lacks: false }
    }

    /// Whether there is a ring; opens the one that is there now.
    pub fn look(&mut self) -> bool {
        self.file.take_if(|file| file.metadata().is_ok_and(|there| there.nlink() == 0));
        if self.file.is_none() {
            self.open();
        }
        self.file.is_some()
    }

    fn open(&mut self) {
        let Ok(file) = open_file(&self.dir, NAME, OFlags::RDWR | OFlags::APPEND) else { return };
        let mut bytes = Vec::new();
        let Ok(_) = (&file).take(READ_LEN_MAX).read_to_end(&mut bytes) else { return };
        let (all, len) = records(&bytes);
        // The end of a record that was not finished, by a power cut or on a full disk.
        if len < bytes.len() && file.set_len(len as u64).is_err() {
            return;
        }
        let last = all.last();
        self.last = last.map_or(0, |record| record.number);
        self.lacks = last.is_some_and(|record| record.what != What::Ended);
        self.file = Some(file);
    }

    /// Writes a record. One that cannot be written makes the next one "everything".
    pub fn append(&mut self, what: What) {
        let what = match what {
            What::Paths(_) | What::Everything if self.lacks => What::Everything,
            // Still owed: the end of this session must not hide it.
            What::Ended if self.lacks => return,
            what => what,
        };
        let told = what == What::Everything;
        match self.write(what) {
            Ok(()) if told => self.lacks = false,
            Ok(()) => {}
            Err(_) => self.lacks = true,
        }
    }

    fn write(&mut self, what: What) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut file = file;
        let fresh;
        if file.metadata()?.len() > FILE_LEN_MAX {
            rustix::fs::renameat(&self.dir, NAME, &self.dir, OLD_NAME)?;
            fresh = open_file(&self.dir, NAME, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE)?;
            file = &fresh;
            self.file = Some(fresh.try_clone()?);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = u64::try_from(now.as_nanos()).unwrap_or(0).max(self.last + 1);
        let bytes = framed(&Record { number, previous: self.last, what })?;
        let before = file.metadata()?.len();
        match rustix::io::write(file, &bytes) {
            Ok(len) if len == bytes.len() => {
                self.last = number;
                Ok(())
            }
            other => {
                // What is half there must not hide what follows.
                file.set_len(before)?;
                Err(other.err().unwrap_or(rustix::io::Errno::NOSPC).into())
            }
        }
    }
}

/// The ring as `speil arrivals` reads it.
#[derive(Debug)]
pub struct Arrivals {
    root: Root,
    dir: OwnedFd,
    file: Option<File>,
    /// How much of the file was taken.
    offset: u64,
    /// The number of the last record that was taken.
    at: u64,
    bell: Option<OwnedFd>,
}

impl Arrivals {
    /// Opens the ring of a target's root at its end, and makes it if there is none: the agent writes from then on.
    ///
    /// # Errors
    /// `ENOENT` for a root that is not there; `EACCES` for who is neither root nor the user that the agent runs as.
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = Root::open(root)?;
        let place = memory_place(&root);
        if place == Path::new(OsStr::new(".speil")) {
            make_state_dir(&root)?;
        }
        let dir = open_dir(&root, &place)?;
        make_ring(&dir)?;
        let bell = listen(&dir);
        let mut this = Self { root, dir, file: None, offset: 0, at: 0, bell };
        this.file = Some(open_file(&this.dir, NAME, OFlags::RDONLY)?);
        let (all, len) = records(&this.read()?);
        (this.offset, this.at) = (len as u64, all.last().map_or(0, |record| record.number));
        Ok(this)
    }

    /// Goes back to where a reader has been before.
    ///
    /// # Errors
    /// What opening the ring says.
    pub fn go_on(&mut self, position: u64) -> io::Result<()> {
        (self.at, self.offset) = (position, 0);
        self.file = match open_file(&self.dir, OLD_NAME, OFlags::RDONLY) {
            Ok(file) => Some(file),
            Err(_) => Some(open_file(&self.dir, NAME, OFlags::RDONLY)?),
        };
        Ok(())
    }

    /// Returns how far the ring was read.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether an agent was ever at work here.
    pub fn has_agent(&self) -> bool {
        rustix::fs::statat(&self.dir, "session", rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether the directory under `path` is still the one whose ring this is.
    pub fn is_of(&self, path: &Path) -> bool {
        Root::open(path).is_ok_and(|there| id_of(there.as_fd()).ok() == id_of(self.root.as_fd()).ok())
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let Some(file) = &mut self.file else { return Ok(bytes) };
        if file.metadata()?.len() < self.offset {
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        file.take(READ_LEN_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns what has arrived since the last call, in order.
    ///
    /// # Errors
    /// What reading the ring says.
    pub fn take(&mut self) -> io::Result<Vec<Arrival>> {
        let mut all = Vec::new();
        loop {
            // Before reading: whoever has moved the file away wrote to it before.
            let next = self.is_followed();
            let (found, len) = records(&self.read()?);
            self.offset += len as u64;
            for record in found {
                if record.number <= self.at {
                    continue;
                }
                let missed = record.previous != self.at;
                self.at = record.number;
                match record.what {
                    _ if missed => all.push(Arrival::Everything),
                    What::Begun | What::Ended => {}
                    What::Everything => all.push(Arrival::Everything),
                    What::Paths(paths) => all.push(Arrival::Paths(paths)),
                }
            }
            let Some(next) = next else { return Ok(all) };
            (self.file, self.offset) = (Some(next), 0);
        }
    }

    /// Returns the file that has taken the place of the one that is read, if one has.
    fn is_followed(&self) -> Option<File> {
        let next = open_file(&self.dir, NAME, OFlags::RDONLY).ok()?;
        let same =
            self.file.as_ref().is_some_and(|file| id_of(file.as_fd()).ok() == id_of(next.as_fd()).ok());
        (!same).then_some(next)
    }

    /// Waits until something may have arrived, at most so long.
    pub fn wait(&self, limit: Duration) {
        let limit = Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let Some(bell) = &self.bell else {
            let short = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let _ = poll(&mut [], Some(&limit.min(short)));
            return;
        };
        if poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&limit)).is_ok_and(|woken| woken > 0) {
            let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
            let mut events = inotify::Reader::new(bell, &mut buffer);
            while events.next().is_ok() {}
        }
    }
}

/// Wakes who waits when a file in the directory changes. Without, the ring is looked at now and then.
fn listen(dir: &OwnedFd) -> Option<OwnedFd> {
    let bell = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).ok()?;
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(dir));
    inotify::add_watch(&bell, path, flags).ok()?;
    Some(bell)
}

/// Makes the state directory as the agent would: root makes it for the owner of the tree.
fn make_state_dir(root: &Root) -> io::Result<()> {
    match rustix::fs::mkdirat(root, STATE_DIR, Mode::from(0o700)) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let dir = open_dir(root, Path::new(".speil"))?;
    give(&dir, &rustix::fs::fstat(root)?)
}

/// Makes an empty ring. It belongs to whoever the directory belongs to: the agent.
fn make_ring(dir: &OwnedFd) -> io::Result<()> {
    let made = open_file(dir, NAME, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL);
    match made {
        Ok(file) => give(&file, &rustix::fs::fstat(dir)?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn give(to: impl AsFd, like: &rustix::fs::Stat) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Ok(rustix::fs::fchown(to, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)))?)
}
