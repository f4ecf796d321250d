//! What is replaced or removed, kept as rsync's `--backup` keeps it: beside itself with a suffix, or in a directory.
//!
//! **Invariants:** a name keeps its old version until the new one takes it; what cannot be kept is not replaced and not
//! removed.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::AtFlags;

use super::apply::{Applied, Applier};
use super::install::{Undone, temp_name};
use crate::tree::{Entry, Kind, RelPath};

impl Applier {
    /// Gives what is about to be replaced its second name.
    pub(super) fn back_up(&mut self, dir: BorrowedFd<'_>, path: &RelPath, entry: &Entry) -> Applied {
        let Some(backups) = self.elsewhere.backups.as_ref().filter(|_| entry.attrs.meta.kind != Kind::Dir)
        else {
            return Ok(());
        };
        let failed = Undone::os("back up");
        let (place, name) = backups.place(&self.root, dir, path).map_err(&failed)?;
        let temp = temp_name(self.tag);
        let link = rustix::fs::linkat(dir, path.name(), &place, temp.as_slice(), AtFlags::empty());
        link.map_err(|error| failed(error.into()))?;
        let kept = rustix::fs::renameat(&place, temp.as_slice(), &place, name.as_slice());
        // Two names of one file: the rename does nothing then.
        let _ = rustix::fs::unlinkat(&place, temp.as_slice(), AtFlags::empty());
        kept.map_err(|error| failed(error.into()))?;
        self.durable.dir(place.as_fd());
        Ok(())
    }

    /// Moves what is to be removed to where it is kept. Returns whether it was.
    pub(super) fn move_to_backup(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &RelPath,
        entry: &Entry,
    ) -> Result<bool, Undone> {
        let Some(backups) = self.elsewhere.backups.as_ref().filter(|_| entry.attrs.meta.kind != Kind::Dir)
        else {
            return Ok(false);
        };
        let failed = Undone::os("back up");
        let (place, name) = backups.place(&self.root, dir, path).map_err(&failed)?;
        rustix::fs::renameat(dir, path.name(), &place, name.as_slice())
            .map_err(|error| failed(error.into()))?;
        self.durable.dir(place.as_fd());
        Ok(true)
    }
}
