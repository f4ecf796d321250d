//! One version of a regular file.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::read_cache::Rooms;
use super::{BEHIND_MAX, PIECE_LEN};
use crate::disk::{Writers, hash_zeros, read_fully, read_open, writers};
use crate::tree::{Entry, FileId, Kind, Mask, Version};

/// One version of a regular file, read once in order by whoever comes first.
pub struct SourceFile {
    /// When reading began.
    pub began: Instant,
    /// What the file was when it was opened.
    pub entry: Entry,
    number: u64,
    writers_before: Writers,
    sparse: bool,
    allocated: u64,
    pub(super) reading: Mutex<Reading>,
    rooms: Arc<Rooms>,
}

pub(super) struct Reading {
    /// Given up once all was read and is kept: tens of thousands of small files may be.
    pub(super) open: Option<Open>,
    /// Of all of it, once it was read in one piece.
    hash: Option<[u8; 32]>,
    next: u64,
    /// Whether pieces are kept for others who read the same version.
    shared: bool,
    /// The last piece that is not kept: room for the next.
    last: Arc<Vec<u8>>,
    pub(super) behind: VecDeque<(u64, Piece)>,
    behind_bytes: usize,
    end: Option<End>,
}

pub(super) struct Open {
    pub(super) file: OwnedFd,
    /// Made with the first piece: it is large, and most files are small.
    hasher: Option<Box<blake3::Hasher>>,
}

impl Open {
    fn hasher(&mut self) -> &mut blake3::Hasher {
        self.hasher.get_or_insert_with(|| Box::new(blake3::Hasher::new()))
    }
}

/// A piece of a file.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Bytes.
    Data(Arc<Vec<u8>>),
    /// A hole of this many bytes.
    Hole(u64),
    /// Nothing more.
    End,
}

/// What a whole read amounts to.
#[derive(Debug, Clone)]
pub enum End {
    /// The bytes are a version of the file.
    Version {
        /// What the file is; its size is what was read.
        entry: Box<Entry>,
        /// BLAKE3 of what was read.
        hash: [u8; 32],
        /// A writer may be at work: the bytes held still for two readings, and are read again later.
        provisional: bool,
    },
    /// The bytes changed while they were read twice.
    Busy,
}

impl SourceFile {
    pub(super) fn open(
        file: OwnedFd,
        name: &[u8],
        mask: &Mask,
        (shared, rooms): (bool, &Arc<Rooms>),
    ) -> io::Result<Self> {
        let began = Instant::now();
        let writers_before = writers(file.as_fd());
        let (mut entry, allocated) = read_open(file.as_fd(), mask)?;
        if entry.attrs.meta.kind != Kind::File {
            return Err(Errno::NOENT.into());
        }
        entry.name = name.to_vec();
        let sparse = allocated < entry.attrs.meta.size;
        let reading = Reading {
            open: Some(Open { file, hasher: None }),
            hash: None,
            next: 0,
            shared,
            last: Arc::default(),
            behind: VecDeque::new(),
            behind_bytes: 0,
            end: None,
        };
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        let (reading, rooms) = (Mutex::new(reading), Arc::clone(rooms));
        Ok(Self { began, entry, number, writers_before, sparse, allocated, reading, rooms })
    }

    /// Bytes of the version, as they were when it was opened.
    pub fn size(&self) -> u64 {
        self.entry.attrs.meta.size
    }

    /// Bytes of the version that take room, its holes left out.
    pub fn allocated(&self) -> u64 {
        self.allocated.min(self.size())
    }

    /// Which reading it is, of all in this process.
    pub(in crate::sender) fn number(&self) -> u64 {
        self.number
    }

    /// Which inode it is.
    pub fn id(&self) -> FileId {
        self.entry.id
    }

    /// Whether somebody had the file open for writing when it was opened here.
    pub fn is_being_written(&self) -> bool {
        self.writers_before == Writers::Some
    }

    /// Returns the piece at `offset`, which must be where another piece ended.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn piece(&self, offset: u64) -> io::Result<Piece> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, piece)) = reading.behind.iter().rev().find(|(at, _)| *at == offset) {
            return Ok(piece.clone());
        }
        let Some(mut open) = reading.open.take() else { return Ok(Piece::End) };
        let room = self.rooms.take(std::mem::take(&mut reading.last));
        let piece = self.read(&open.file, offset, room);
        let in_order = offset == reading.next;
        if in_order {
            match &piece {
                Ok(Piece::Data(data)) => {
                    open.hasher().update(data);
                    reading.next += data.len() as u64;
                }
                Ok(Piece::Hole(len)) => {
                    hash_zeros(open.hasher(), *len);
                    reading.next += len;
                }
                _ => {}
            }
        }
        reading.open = Some(open);
        let piece = piece?;
        // Too far behind the others, it is read for one; the hash tells if the bytes changed.
        if !in_order || !reading.shared || matches!(piece, Piece::End) {
            if let Piece::Data(data) = &piece {
                reading.last = Arc::clone(data);
            }
            return Ok(piece);
        }
        if let Piece::Data(data) = &piece {
            reading.behind_bytes += data.len();
        }
        reading.behind.push_back((offset, piece.clone()));
        while reading.behind_bytes > BEHIND_MAX || (reading.behind.len() > 1 && reading.behind.len() > 256) {
            if let Some((_, Piece::Data(data))) = reading.behind.pop_front() {
                reading.behind_bytes -= data.len();
                self.rooms.give(data);
            }
        }
        Ok(piece)
    }

    /// Reads `len` bytes out of turn: they are no part of what is hashed and sent.
    ///
    /// # Errors
    /// What read(2) says.
    pub(in crate::sender) fn sample(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let open = reading.open.as_ref().ok_or(Errno::BADF)?;
        let mut sample = vec![0; len];
        let filled = read_fully(&open.file, &mut sample, offset)?;
        sample.truncate(filled);
        Ok(sample)
    }

    /// Reads all of a small file into `buffer`, which it replaces, where nobody else is to share it.
    /// `false` if it cannot be read so: then it is read in pieces.
    ///
    /// # Errors
    /// What read(2) says.
    pub(in crate::sender) fn whole(&self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = reading.open.as_ref().filter(|_| !self.sparse && reading.next == 0) else {
            return Ok(false);
        };
        // Zeroed once: what is read overwrites it.
        let len = usize::try_from(self.size()).map_or(PIECE_LEN, |len| len.min(PIECE_LEN));
        buffer.resize(len, 0);
        let filled = read_fully(&open.file, buffer, 0)?;
        buffer.truncate(filled);
        reading.hash = Some(*blake3::hash(buffer).as_bytes());
        reading.next = filled as u64;
        Ok(true)
    }

    /// Reads one piece, into `room` where nobody holds that any more.
    pub(super) fn read(&self, file: &OwnedFd, offset: u64, mut room: Arc<Vec<u8>>) -> io::Result<Piece> {
        let size = self.size();
        if offset >= size {
            return Ok(Piece::End);
        }
        let mut end = size;
        if self.sparse {
            match rustix::fs::seek(file, SeekFrom::Data(offset)) {
                Ok(data) if data > offset => return Ok(Piece::Hole(data.min(size) - offset)),
                Ok(_) => {
                    if let Ok(hole) = rustix::fs::seek(file, SeekFrom::Hole(offset)) {
                        end = hole.clamp(offset + 1, size);
                    }
                }
                Err(Errno::NXIO) => return Ok(Piece::Hole(size - offset)),
                Err(_) => {}
            }
        }
        let len = usize::try_from(end - offset).map_or(PIECE_LEN, |len| len.min(PIECE_LEN));
        if Arc::get_mut(&mut room).is_none() {
            room = Arc::default();
        }
        // What was filled before is overwritten, not zeroed again.
        if let Some(data) = Arc::get_mut(&mut room) {
            data.resize(len, 0);
            let filled = read_fully(file, data, offset)?;
            data.truncate(filled);
        }
        Ok(if room.is_empty() { Piece::End } else { Piece::Data(room) })
    }

    /// Says what the reading amounts to, once every piece was taken.
    ///
    /// # Errors
    /// What read(2) and statx(2) say.
    pub fn finish(&self) -> io::Result<End> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = &reading.end {
            return Ok(end.clone());
        }
        let (hash, next) = (reading.hash, reading.next);
        let Some(open) = &mut reading.open else { return Ok(End::Busy) };
        let hash = hash.unwrap_or_else(|| *open.hasher().finalize().as_bytes());
        let file = &open.file;
        let (now, _) = read_open(file.as_fd(), &Mask::nothing())?;
        let quiet = self.writers_before == Writers::None && writers(file.as_fd()) == Writers::None;
        let unchanged = now.version() == self.entry.version() && next == self.size();
        let end = if quiet && unchanged {
            End::Version { entry: Box::new(self.entry.clone()), hash, provisional: false }
        } else if self.hash_again(file, next)? == hash {
            let mut entry = self.entry.clone();
            entry.attrs.meta.size = next;
            End::Version { entry: Box::new(entry), hash, provisional: true }
        } else {
            End::Busy
        };
        reading.end = Some(end.clone());
        if self.size() <= PIECE_LEN as u64 {
            reading.open = None;
        }
        Ok(end)
    }

    fn hash_again(&self, file: &OwnedFd, len: u64) -> io::Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        let mut room = Arc::default();
        while offset < len {
            match self.read(file, offset, std::mem::take(&mut room))? {
                Piece::Data(data) => {
                    let take = usize::try_from(len - offset).map_or(data.len(), |rest| rest.min(data.len()));
                    hasher.update(&data[..take]);
                    offset += take as u64;
                    room = data;
                }
                Piece::Hole(hole) => {
                    let take = hole.min(len - offset);
                    hash_zeros(&mut hasher, take);
                    offset += take;
                }
                Piece::End => break,
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// Returns BLAKE3 of what the file holds now, read anew.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn hash_now(&self) -> io::Result<[u8; 32]> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let open = reading.open.as_ref().ok_or(Errno::BADF)?;
        self.hash_again(&open.file, self.size())
    }

    /// Gives up the pieces that are kept, where they can be read again.
    pub(super) fn strip(&self) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if reading.open.is_some() {
            reading.give_rooms(&self.rooms);
        }
    }

    /// Returns what tells this version apart.
    pub fn version(&self) -> Version {
        self.entry.version()
    }
}

impl Reading {
    fn give_rooms(&mut self, rooms: &Rooms) {
        rooms.give(std::mem::take(&mut self.last));
        for (_, piece) in self.behind.drain(..) {
            if let Piece::Data(data) = piece {
                rooms.give(data);
            }
        }
        self.behind_bytes = 0;
    }
}

impl Drop for SourceFile {
    fn drop(&mut self) {
        self.reading.get_mut().unwrap_or_else(PoisonError::into_inner).give_rooms(&self.rooms);
    }
}
