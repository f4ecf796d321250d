//! Which files on the target are the agent's own: a mark for each, in `own` beside the session's state.
//!
//! **Purpose:** telling what others wrote from what the agent wrote, without comparing moments.
//! **In → Out:** entries as they are on the target; yes or no.
//! **Invariants:** a mark is a hash over inode, change time, modification time and size, so that every change
//! that anybody makes to a file takes its mark away; what has no mark was written by somebody else, and so
//! is everything where the file is missing. Lost marks cost copies, never anybody's work.
//! An agent that is killed has noted what it was about to make (`plans`), so that this is its own as well.
//! **Not here:** what becomes of what others wrote (`foreign`); finding out that a file is as the source has
//! it, whoever wrote it (`passes`).

mod plans;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use self::plans::Plans;
use super::retained::open_dir;
use crate::disk::Root;
use crate::tree::{Entry, Kind, Time};

/// Its name in the state directory.
const NAME: &str = "own";
const NEW: &str = "own.new";
/// What the file begins with; the marks follow, 8 bytes each, in the order of the little end.
const MAGIC: [u8; 8] = *b"speilo1\n";
/// So many marks more than needed are worth no clearing.
const SLACK: usize = 65_536;
/// Most marks that wait to be written; a disk that is full for longer loses some.
const FRESH_MAX: usize = 1 << 20;
/// Filesystems whose inode numbers may change while a file stays the same: FAT, exFAT, SMB, FUSE, 9p.
const LOOSE_INODES: [u64; 6] = [0x4d44, 0x2011_bab0, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997];

/// The marks of one target, for the threads of its agent.
#[derive(Clone)]
pub(super) struct Own(Arc<Mutex<Marks>>);

/// What the agent wrote, as far as it is known.
struct Marks {
    all: HashTable<u64>,
    dir: OwnedFd,
    file: OwnedFd,
    /// Bytes of the file that are written whole.
    len: u64,
    /// What is not in the file yet.
    fresh: Vec<u64>,
    /// Inode numbers are part of a mark.
    inodes: bool,
    /// More marks than files: the next pass over the whole tree clears them.
    bloated: bool,
    /// What came since that pass began.
    since: Option<Vec<u64>>,
    plans: Plans,
}

impl Own {
    /// Reads the marks of a target whose state directory this is.
    pub fn open(root: &Root, dir: BorrowedFd<'_>) -> io::Result<Self> {
        let dir = dir.try_clone_to_owned()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, NAME, flags, Mode::from(0o600))?;
        let inodes = rustix::fs::fstatfs(root).map_or(true, |fs| {
            !LOOSE_INODES.contains(&(u64::try_from(fs.f_type).unwrap_or(0) & 0xffff_ffff))
        });
        let (all, len) = read(&file)?;
        let plans = Plans::open(&dir)?;
        let marks =
            Marks { all, dir, file, len, fresh: Vec::new(), inodes, bloated: false, since: None, plans };
        Ok(Self(Arc::new(Mutex::new(marks))))
    }

    /// Forgets all marks of a target, for good: whatever it holds is worth keeping.
    pub fn disown(root: &Root, place: &Path) -> io::Result<()> {
        let dir = open_dir(root.as_fd(), place.as_os_str().as_bytes())?;
        for name in [NAME, NEW, plans::NAME] {
            match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rustix::fs::fsync(&dir)?)
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the mark of an entry, and whether somebody else wrote that; `None` for a directory, which is
    /// nobody's: what it holds counts.
    pub fn mark(&self, entry: &Entry) -> Option<(u64, bool)> {
        let mut marks = self.lock();
        let mark = marks.mark(entry)?;
        let asks = marks.plans.are_left() && !marks.has(mark);
        let half = if asks { marks.half(entry) } else { None };
        if half.is_some_and(|half| marks.plans.take(half)) {
            marks.add(mark);
        }
        Some((mark, !marks.has(mark)))
    }

    /// Notes what the agent is about to put under a name, or to change otherwise than by its content, as it is
    /// now but for its change time.
    pub fn plan(&self, entry: &Entry) {
        let mut marks = self.lock();
        if let Some(half) = marks.half(entry) {
            marks.plans.add(half);
        }
    }

    /// Takes in what the agent has made: `before` is how it was where nobody else could reach it, `after`
    /// how it is now. If somebody has written to it in between, it is his.
    pub fn add(&self, before: &Entry, after: &Entry) {
        let same = before.id == after.id
            && before.attrs.meta.size == after.attrs.meta.size
            && before.attrs.meta.mtime == after.attrs.meta.mtime;
        let mut marks = self.lock();
        if let Some(mark) = marks.mark(after).filter(|_| same) {
            marks.add(mark);
        }
    }

    /// As [`Own::add`], for what was the agent's own `before` and has another change time `after`.
    pub fn again(&self, before: &Entry, after: &Entry) {
        if self.forget(before) {
            self.add(before, after);
        }
    }

    /// As [`Own::again`], where the agent may have set the modification time to `mtime`, which the filesystem
    /// cuts to multiples of `step` nanoseconds.
    pub fn dressed(&self, before: &Entry, after: &Entry, mtime: Time, step: u64) {
        if self.forget(before) {
            let mut before = before.clone();
            if after.attrs.meta.mtime.truncated(step) == mtime.truncated(step) {
                before.attrs.meta.mtime = after.attrs.meta.mtime;
            }
            self.add(&before, after);
        }
    }

    /// Takes the mark of an entry away; `false` if it has none.
    pub fn forget(&self, entry: &Entry) -> bool {
        let mut marks = self.lock();
        let Some(mark) = marks.mark(entry) else { return false };
        let found = marks.all.find_entry(mark, |other| *other == mark).map(|found| found.remove());
        found.is_ok()
    }

    /// Takes in marks of what is as the source has it.
    pub fn agree(&self, agreed: &[u64]) {
        let mut marks = self.lock();
        agreed.iter().for_each(|mark| marks.add(*mark));
    }

    /// Begins a walk over the whole tree; `true` if it is to gather the marks that it meets, for there are
    /// many more than files.
    pub fn begin_clearing(&self) -> bool {
        let mut marks = self.lock();
        let clears = std::mem::take(&mut marks.bloated);
        if clears {
            marks.since = Some(Vec::new());
        }
        clears
    }

    /// Takes in that a walk over the whole tree has met so many of the agent's own. Where it gathered them, no
    /// others are kept; `Some(None)` if it saw too little for that.
    pub fn walked(&self, met: usize, gathered: Option<Option<Vec<u64>>>) {
        let mut marks = self.lock();
        marks.plans.walked();
        if let Some(gathered) = gathered {
            let since = marks.since.take().unwrap_or_default();
            if let Some(gathered) = gathered {
                marks.all = HashTable::with_capacity(gathered.len() + since.len());
                gathered.into_iter().chain(since).for_each(|mark| marks.insert(mark));
            }
        }
        marks.bloated = marks.since.is_none() && marks.all.len() > 2 * met + SLACK;
    }

    /// Writes what is new to the file. It may be lost with the host; what cannot be written is tried again.
    pub fn save(&self) {
        let _ = self.lock().save();
    }
}

impl Marks {
    /// Returns what is the same whatever the change time; `None` where that says too little.
    fn half(&self, entry: &Entry) -> Option<u64> {
        if self.inodes { self.mark_at(entry, Time::default()) } else { None }
    }

    fn mark(&self, entry: &Entry) -> Option<u64> {
        self.mark_at(entry, entry.ctime)
    }

    fn mark_at(&self, entry: &Entry, ctime: Time) -> Option<u64> {
        let meta = &entry.attrs.meta;
        let nanos = |time: Time| u64::from(time.nanos);
        let parts = [
            if self.inodes { entry.id.ino } else { 0 },
            ctime.secs.cast_unsigned(),
            nanos(ctime) << 32 | nanos(meta.mtime),
            meta.mtime.secs.cast_unsigned(),
            meta.size,
        ];
        (meta.kind != Kind::Dir).then(|| parts.iter().fold(meta.kind as u64, |hash, part| mixed(hash ^ part)))
    }

    fn has(&self, mark: u64) -> bool {
        self.all.find(mark, |other| *other == mark).is_some()
    }

    fn insert(&mut self, mark: u64) {
        if !self.has(mark) {
            self.all.insert_unique(mark, mark, |mark| *mark);
        }
    }

    fn add(&mut self, mark: u64) {
        if self.has(mark) {
            return;
        }
        self.insert(mark);
        if let Some(since) = &mut self.since {
            since.push(mark);
        }
        if self.fresh.len() < FRESH_MAX {
            self.fresh.push(mark);
        }
    }

    fn save(&mut self) -> io::Result<()> {
        self.write()?;
        self.plans.done();
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let written = usize::try_from(self.len / 8).unwrap_or(usize::MAX);
        if written == 0 || written.saturating_add(self.fresh.len()) > 2 * self.all.len() + SLACK {
            return self.rewrite();
        }
        let bytes: Vec<u8> = self.fresh.iter().flat_map(|mark| mark.to_le_bytes()).collect();
        let mut left = bytes.as_slice();
        let mut at = self.len;
        while !left.is_empty() {
            let len = rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.file, left, at))?;
            (left, at) = (&left[len..], at + len as u64);
        }
        // Not before all of it is there: marks never begin at another byte than a multiple of 8.
        self.len = at;
        self.fresh = Vec::new();
        Ok(())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.dir, NEW, flags, Mode::from(0o600))?);
        let mut writer = BufWriter::with_capacity(1 << 16, &file);
        writer.write_all(&MAGIC)?;
        self.all.iter().try_for_each(|mark| writer.write_all(&mark.to_le_bytes()))?;
        writer.flush()?;
        drop(writer);
        file.sync_data()?;
        rustix::fs::renameat(&self.dir, NEW, &self.dir, NAME)?;
        (self.file, self.len) = (file.into(), 8 * (self.all.len() as u64 + 1));
        self.fresh = Vec::new();
        Ok(())
    }
}

/// Reads the marks, and returns how many bytes of the file are whole: 0 if it is none of this kind.
fn read(file: &OwnedFd) -> io::Result<(HashTable<u64>, u64)> {
    let size = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
    let mut all = HashTable::new();
    let mut reader = BufReader::with_capacity(1 << 16, File::from(file.as_fd().try_clone_to_owned()?));
    let mut bytes = [0; 8];
    if size < 8 || reader.read_exact(&mut bytes).is_err() || bytes != MAGIC {
        return Ok((all, 0));
    }
    all.reserve(usize::try_from(size / 8).unwrap_or(0), |mark| *mark);
    let mut len = 8;
    while len + 8 <= size && reader.read_exact(&mut bytes).is_ok() {
        let mark = u64::from_le_bytes(bytes);
        if all.find(mark, |other| *other == mark).is_none() {
            all.insert_unique(mark, mark, |mark| *mark);
        }
        len += 8;
    }
    Ok((all, len))
}

/// Spreads 64 bits evenly: the last step of MurmurHash3, by Austin Appleby, in the public domain.
fn mixed(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests;
