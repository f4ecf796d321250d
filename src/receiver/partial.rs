//! What has arrived of large files when a connection ends: kept for the session that goes on.
//!
//! **Purpose:** a large file grows under `.speil/partial/`, under a name made of its path's hash, and
//! moves into its directory when it is whole. Whatever ends the session, even a killed agent, what has
//! arrived stays there. **In → Out:** a path; a file, and the BLAKE3 of each of its chunks.
//! **Invariants:** nothing here is believed: the sender compares every chunk with what the source holds
//! now, and the BLAKE3 of the whole decides before anything is installed; what nobody goes on with
//! expires.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::install::Undone;
use super::retained::{made_dir, open_dir};
use crate::disk::{Root, names, read_entry, read_over_holes};
use crate::protocol::{StreamId, Why};
use crate::scan::STATE_DIR;
use crate::tree::{Kind, Mask, RelPath, Time};

/// Its place below the state directory.
const PLACE: &[u8] = b"partial";
/// How long a partial waits for who goes on with it, in seconds.
const KEPT_SECS: i64 = 3 * 86_400;
/// Shortest chunk, in bytes, and most chunks of one file.
const CHUNK_LEN_MIN: u64 = 256 << 10;
const CHUNKS_MAX: u64 = 16_384;
/// Files whose chunks were told and that were not begun yet, at most.
const TOLD_MAX: usize = 256;
/// Bytes read at once.
const READ_LEN: usize = 256 << 10;

/// What is known of the chunks that were told: how many bytes they are, and the state of a hash over them.
pub(super) type Told = Arc<Mutex<HashMap<StreamId, (u64, blake3::Hasher)>>>;

/// The partial files of a session.
pub(super) struct Partials {
    root: Arc<Root>,
    dir: Option<Arc<OwnedFd>>,
    traceless: bool,
    told: Told,
}

/// One partial file.
pub(super) struct Partial {
    pub dir: Arc<OwnedFd>,
    pub name: String,
    pub file: OwnedFd,
    /// What it holds, and the hash over it.
    pub len: u64,
    pub hasher: blake3::Hasher,
}

impl Partials {
    /// Looks at what there is; what waited too long goes. `Some` if the session may keep any.
    pub fn open(root: &Arc<Root>, traceless: bool) -> Self {
        let state = open_dir(root.as_fd(), STATE_DIR);
        let dir = state.and_then(|state| open_dir(state.as_fd(), PLACE)).ok().map(Arc::new);
        if let Some(dir) = &dir {
            // What cannot be removed now is tried again by the next session.
            let _ = expire(dir.as_fd());
        }
        Self { root: Arc::clone(root), dir, traceless, told: Told::default() }
    }

    /// Returns the marks of the paths of which something is there.
    pub fn marks(&self) -> Vec<[u8; 16]> {
        let Some(dir) = &self.dir else { return Vec::new() };
        let all = open_dir(dir.as_fd(), b".").and_then(|dir| names(dir.as_fd())).unwrap_or_default();
        all.iter().filter_map(|name| mark_of(name)).collect()
    }

    /// Opens what there is of a path, for telling its chunks.
    pub fn look(&self, path: &RelPath) -> Option<(OwnedFd, u64, Told)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.dir.as_ref()?, name_of(path), flags, Mode::empty()).ok()?;
        let len = u64::try_from(rustix::fs::fstat(&file).ok()?.st_size).ok()?;
        Some((file, len, Arc::clone(&self.told)))
    }

    /// Opens the partial file of a path with its first `from` bytes, which the sender has compared; `None`
    /// where it must grow beside its name: on another filesystem, or below what new files inherit from.
    pub fn begin(
        &mut self,
        (stream, path): (StreamId, &RelPath),
        into: BorrowedFd<'_>,
        from: u64,
        mask: &Mask,
    ) -> Result<Option<Partial>, Undone> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&stream);
        let os = Undone::os("open");
        if inherits(into, mask) {
            return Ok(None);
        }
        let dir = match self.dir.take() {
            Some(dir) => dir,
            None => {
                let state = made_dir(self.root.as_fd(), STATE_DIR).map_err(&os)?;
                Arc::new(made_dir(state.as_fd(), PLACE).map_err(&os)?)
            }
        };
        self.dir = Some(Arc::clone(&dir));
        let dev = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
        if dev(dir.as_fd()).ok() != dev(into).ok() {
            return Ok(None);
        }
        let name = name_of(path);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*dir, name.as_str(), flags, Mode::from(0o600));
        let file = file.map_err(|error| Undone::os("create")(error.into()))?;
        let there = rustix::fs::fstat(&file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
        if there < from {
            return Err(Undone::Why(Why::Torn));
        }
        rustix::fs::ftruncate(&file, from).map_err(|error| Undone::os("write")(error.into()))?;
        let hasher = match told.filter(|(len, _)| *len == from) {
            Some((_, hasher)) => hasher,
            None => hash(file.as_fd(), from).map_err(Undone::os("read partial"))?,
        };
        Ok(Some(Partial { dir, name, file, len: from, hasher }))
    }

    /// Leaves nothing behind where nothing is kept.
    pub fn finish(&mut self) {
        self.dir = None;
        if let Ok(state) = open_dir(self.root.as_fd(), STATE_DIR) {
            let _ = rustix::fs::unlinkat(&state, PLACE, AtFlags::REMOVEDIR);
        }
        if self.traceless {
            // Only if it holds nothing.
            let _ = rustix::fs::unlinkat(&*self.root, STATE_DIR, AtFlags::REMOVEDIR);
        }
    }
}

impl Partial {
    /// Removes it.
    pub fn remove(dir: &OwnedFd, name: &str) {
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
    }
}

/// Whether a new file takes something on from its directory that is not set afterwards.
fn inherits(dir: BorrowedFd<'_>, mask: &Mask) -> bool {
    let set_gid = rustix::fs::fstat(dir).is_ok_and(|stat| stat.st_mode & libc::S_ISGID != 0);
    let handle = crate::disk::Handle::open(dir, b"").and_then(|dir| dir.read(&Mask::everything()));
    let acl = handle.is_ok_and(|dir| dir.attrs.xattrs.iter().any(|x| x.name == b"system.posix_acl_default"));
    (set_gid && !mask.group) || (acl && !mask.acls)
}

/// Returns the length of a chunk of a file of `len` bytes.
fn chunk_len(len: u64) -> u64 {
    let mut chunk = CHUNK_LEN_MIN;
    while len / chunk > CHUNKS_MAX {
        chunk *= 2;
    }
    chunk
}

/// Hashes the whole chunks of a partial file: how long one is, and the BLAKE3 of each.
pub(super) fn chunks(stream: StreamId, file: &OwnedFd, len: u64, told: &Told) -> io::Result<(u32, Vec<u8>)> {
    let chunk = chunk_len(len);
    let (mut all, mut hashes, mut at) = (blake3::Hasher::new(), Vec::new(), 0);
    let mut buffer = vec![0; READ_LEN];
    while at + chunk <= len {
        let mut one = blake3::Hasher::new();
        let end = at + chunk;
        read_over_holes(file, (at, end), &mut buffer, |data| {
            one.update(data);
            all.update(data);
        })?;
        at = end;
        hashes.extend_from_slice(one.finalize().as_bytes());
    }
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() >= TOLD_MAX {
        // Nobody goes on with so many: what is forgotten is read again.
        told.clear();
    }
    told.insert(stream, (at, all));
    Ok((u32::try_from(chunk).unwrap_or(u32::MAX), hashes))
}

fn hash(file: BorrowedFd<'_>, len: u64) -> io::Result<blake3::Hasher> {
    let mut hasher = blake3::Hasher::new();
    read_over_holes(file, (0, len), &mut vec![0; READ_LEN], |data| {
        hasher.update(data);
    })?;
    Ok(hasher)
}

fn name_of(path: &RelPath) -> String {
    crate::protocol::partial_mark(path).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mark_of(name: &[u8]) -> Option<[u8; 16]> {
    let text = std::str::from_utf8(name).ok().filter(|text| text.len() == 32)?;
    let mut mark = [0; 16];
    for (at, byte) in mark.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(mark)
}

fn expire(dir: BorrowedFd<'_>) -> io::Result<()> {
    let oldest = Time::now().secs - KEPT_SECS;
    for name in names(open_dir(dir, b".")?.as_fd())? {
        let Some(entry) = read_entry(dir, &name, &Mask::nothing())? else { continue };
        let meta = &entry.attrs.meta;
        if meta.kind != Kind::Dir && (meta.mtime.secs < oldest || mark_of(&name).is_none()) {
            rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::empty())?;
        }
    }
    Ok(())
}
