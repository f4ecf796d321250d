//! Files that arrive in pieces.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::install::{Undone, temp_name};
use super::partial::Partial;
use crate::disk::{Root, hash_zeros};
use crate::protocol::{StreamId, Why};
use crate::tree::RelPath;

/// Files in flight at once.
pub(super) const STREAMS_MAX: u32 = 64;
/// Bytes copied from a basis at once: they are read, hashed and written while they are in the cache.
const COPY_LEN: usize = 256 << 10;
/// What has arrived of a file is kept from this many bytes on.
const KEPT_LEN_MIN: u64 = 256 << 10;

/// A file on its way: a temporary file in the directory where it will stand.
pub(super) struct Stream {
    /// The path as it was when the stream began, for messages.
    pub path: RelPath,
    /// The directory; a rename of it takes the stream along.
    pub dir: OwnedFd,
    /// The temporary name in it.
    pub temp: Vec<u8>,
    /// The temporary file.
    pub file: OwnedFd,
    basis: Option<OwnedFd>,
    hasher: blake3::Hasher,
    len: u64,
    /// Room for what is copied.
    buffer: Vec<u8>,
    /// Where it grows, if it is kept when the session ends.
    kept: Option<(Arc<OwnedFd>, String)>,
}

impl Stream {
    /// Makes the temporary file.
    pub fn open(root: &Root, path: RelPath, basis: Option<OwnedFd>, tag: u32) -> Result<Self, Undone> {
        let parent = root.parent(&path).map_err(Undone::parent)?;
        let temp = temp_name(tag);
        let file = create_temp(&parent.fd, &temp)?;
        let dir = parent.fd;
        let (hasher, buffer) = (blake3::Hasher::new(), Vec::new());
        Ok(Self { path, dir, temp, file, basis, hasher, len: 0, buffer, kept: None })
    }

    /// Goes on with a partial file, whose directory is to be `dir`.
    pub fn go_on(
        path: RelPath,
        dir: OwnedFd,
        partial: Partial,
        (basis, tag): (Option<OwnedFd>, u32),
    ) -> Self {
        let Partial { dir: place, name, file, len, hasher } = partial;
        let (temp, buffer, kept) = (temp_name(tag), Vec::new(), Some((place, name)));
        Self { path, dir, temp, file, basis, hasher, len, buffer, kept }
    }

    /// Brings the file into its directory, under its temporary name.
    pub fn settle(&mut self) -> Result<(), Undone> {
        let Some((place, name)) = &self.kept else { return Ok(()) };
        rustix::fs::renameat(&**place, name.as_str(), &self.dir, self.temp.as_slice())
            .map_err(|error| Undone::Os("rename", error.raw_os_error()))?;
        self.kept = None;
        Ok(())
    }

    /// Whether it grows under this name.
    fn is_kept_as(&self, path: &RelPath) -> bool {
        self.kept.is_some() && self.path == *path
    }

    /// Returns how many bytes it has so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends literal bytes.
    pub fn data(&mut self, data: &[u8]) -> Result<(), Undone> {
        self.hasher.update(data);
        self.write(data)
    }

    /// Appends a run of the basis.
    pub fn copy(&mut self, offset: u64, len: u64) -> Result<(), Undone> {
        let Some(basis) = self.basis.take() else { return Err(Undone::Why(Why::Torn)) };
        let mut buffer = std::mem::take(&mut self.buffer);
        let copied = self.copy_from(&basis, (offset, len), &mut buffer);
        (self.basis, self.buffer) = (Some(basis), buffer);
        copied
    }

    fn copy_from(&mut self, basis: &OwnedFd, run: (u64, u64), buffer: &mut Vec<u8>) -> Result<(), Undone> {
        let (mut offset, mut len) = run;
        buffer.resize(COPY_LEN, 0);
        while len > 0 {
            let want = usize::try_from(len).map_or(buffer.len(), |len| len.min(buffer.len()));
            let got = rustix::io::pread(basis, &mut buffer[..want], offset)
                .map_err(|error| Undone::Os("read basis", error.raw_os_error()))?;
            if got == 0 {
                return Err(Undone::Why(Why::Torn));
            }
            self.hasher.update(&buffer[..got]);
            self.write(&buffer[..got])?;
            offset = offset.saturating_add(got as u64);
            len -= got as u64;
        }
        Ok(())
    }

    /// Appends a hole.
    pub fn hole(&mut self, len: u64) -> Result<(), Undone> {
        let end = self.len.checked_add(len).ok_or(Undone::Os("write", libc::EFBIG))?;
        // The hash is over what a reader sees.
        hash_zeros(&mut self.hasher, len);
        self.len = end;
        rustix::fs::ftruncate(&self.file, end).map_err(|error| Undone::Os("write", error.raw_os_error()))
    }

    fn write(&mut self, mut data: &[u8]) -> Result<(), Undone> {
        while !data.is_empty() {
            match rustix::io::pwrite(&self.file, data, self.len) {
                Ok(len) => {
                    self.len += len as u64;
                    data = &data[len..];
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(Undone::Os("write", error.raw_os_error())),
            }
        }
        Ok(())
    }

    /// Ends the content: fails if it is not what the sender read.
    pub fn verify(&self, hash: &[u8; 32]) -> Result<(), Undone> {
        if self.hasher.finalize().as_bytes() == hash { Ok(()) } else { Err(Undone::Why(Why::Torn)) }
    }

    /// Returns BLAKE3 of what was appended.
    pub fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    /// Removes the temporary file.
    pub fn abandon(&self) {
        match &self.kept {
            Some((place, name)) => Partial::remove(place, name),
            None => drop(rustix::fs::unlinkat(&self.dir, self.temp.as_slice(), AtFlags::empty())),
        }
    }
}

/// Makes a temporary file that nobody but the agent's user can open.
pub(super) fn create_temp(dir: &OwnedFd, temp: &[u8]) -> Result<OwnedFd, Undone> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, temp, flags, Mode::from(0o600)).map_err(|error| match error {
        // The directory itself was removed while it was held.
        Errno::NOENT => Undone::Why(Why::NoParent),
        other => Undone::Os("create", other.raw_os_error()),
    })
}

/// Every stream of a session, and the bases that were signed for streams to come.
#[derive(Default)]
pub(super) struct Streams {
    pub open: HashMap<StreamId, Stream>,
    pub bases: HashMap<StreamId, OwnedFd>,
}

impl Streams {
    /// Opens what stands at `path` as the basis of a stream; `None` if it is no regular file.
    pub fn basis(&mut self, root: &Root, stream: StreamId, path: &RelPath) -> Option<(OwnedFd, u64)> {
        let parent = root.parent(path).ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent.fd.as_fd(), parent.name, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return None;
        }
        let for_signing = file.try_clone().ok()?;
        self.bases.insert(stream, file);
        Some((for_signing, u64::try_from(stat.st_size).ok()?))
    }

    /// Whether there are as many as the sender was told it may have.
    pub fn is_full(&self) -> bool {
        self.open.len().saturating_add(self.bases.len()) >= STREAMS_MAX as usize * 2
    }

    /// Gives a stream up, in whatever state it is.
    pub fn abandon(&mut self, stream: StreamId) {
        self.bases.remove(&stream);
        if let Some(stream) = self.open.remove(&stream) {
            stream.abandon();
        }
    }

    /// Whether a file of this path is on its way that is kept.
    pub fn keeps(&self, path: &RelPath) -> bool {
        self.open.values().any(|stream| stream.is_kept_as(path))
    }

    /// Gives all up but what is kept for the next session.
    pub fn abandon_all(&mut self) {
        self.bases.clear();
        let left = self.open.drain().map(|(_, stream)| stream);
        left.filter(|stream| stream.kept.is_none() || stream.len < KEPT_LEN_MIN).for_each(|s| s.abandon());
    }
}
