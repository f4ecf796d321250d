//! What a tree remembers of cuts: `.speil/cuts`, for this place alone.
//!
//! **Invariant:** what cannot be read, or was written for another place, is nothing: then everything is doubtful.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::{LOCK, RoleFile, RoleFileError, boot, failed, stat};
use crate::disk::read_clock;
use crate::role::{CUTS_LEN_MAX, Cut, Cuts, Shown};

const NAME: &str = "cuts";
const NEW: &str = "cuts.new";
const SECOND: i64 = 1_000_000_000;

/// Returns what the clock shows that files are stamped by, less a second: what is changed from now on has no earlier
/// change time.
pub fn clock() -> Shown {
    let reading = read_clock();
    let now = i64::try_from(reading.at.0).unwrap_or(i64::MAX).saturating_add(reading.offset);
    Shown { secs: now.div_euclid(SECOND) - 1, offset: reading.offset, boot: boot() }
}

impl RoleFile {
    /// Returns what is remembered.
    pub fn cuts(&self) -> Cuts {
        let Ok(place) = self.place() else { return Cuts::default() };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(&self.dir, NAME, flags, Mode::empty()) else {
            return Cuts::default();
        };
        let believed = stat(file.as_fd(), NAME).is_ok_and(|found| {
            (found.st_uid == 0 || found.st_uid == self.owner.0) && found.st_mode & 0o022 == 0
        });
        let mut text = String::new();
        let read = File::from(file).take(CUTS_LEN_MAX as u64).read_to_string(&mut text);
        if believed && read.is_ok() { Cuts::from_text(&text, &place) } else { Cuts::default() }
    }

    /// Notes a cut.
    ///
    /// # Errors
    /// If it cannot be written; then the one before counts.
    pub fn note_cut(&self, cut: Cut, shown: Shown) -> Result<(), RoleFileError> {
        self.change_cuts(|cuts| {
            cuts.add(cut, shown);
            true
        })
    }

    /// Looks whether the clock went back since the last note, and notes that.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn look_at_clock(&self) -> Result<(), RoleFileError> {
        // Nothing is made where nothing is to be noted.
        if self.cuts().look(clock()) { self.change_cuts(|cuts| cuts.look(clock())) } else { Ok(()) }
    }

    fn change_cuts(&self, change: impl FnOnce(&mut Cuts) -> bool) -> Result<(), RoleFileError> {
        let lock = self.lock_file(LOCK)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(failed("lock", LOCK))?;
        let (place, mut cuts) = (self.place()?, self.cuts());
        if change(&mut cuts) { self.replace((NAME, NEW), cuts.to_text(&place).as_bytes()) } else { Ok(()) }
    }
}
