//! What becomes of an entry whose name is taken away or given to another.
//!
//! **Purpose:** nothing that somebody else wrote is destroyed, nothing that the trash takes is lost, and the
//! agent's own files are known to be its own afterwards.
//! **Invariants:** what somebody else wrote has a second name among what is kept before it loses its own; what
//! comes under a name between the look at it and the operation is noticed by the operation itself.
//! **Not here:** who wrote what (`own`), where it is kept (`foreign`, `trash`, `kept`). Two gaps are left: a
//! name that is written to between the look and a rename of another entry over it, and a file that somebody
//! opened before it was replaced and writes to afterwards.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::apply::{Applied, Applier};
use super::install::{Undone, install, look, remove, temp_name};
use super::trash::Trash;
use crate::disk::Handle;
use crate::protocol::{Expect, ToSender, Why};
use crate::tree::{Attrs, Entry, Kind, Mask, RelPath};

/// Whether what has a name now is kept.
#[derive(PartialEq, Eq)]
pub(super) enum Spared {
    /// It is, or need not be.
    Yes,
    /// It goes into the trash as it is replaced.
    NotYet,
}

/// What comes to a name. Where that is what is there already, nothing is lost.
pub(super) enum Comes<'a> {
    /// A file of this size with this BLAKE3.
    Content(u64, [u8; 32]),
    /// A link, a device or another entry without content.
    Node(&'a Attrs),
    /// A further name of this file.
    Name(&'a RelPath),
    /// Something else.
    Other,
}

/// Longest file that is read to see whether what comes is what is there.
const SAME_LEN_MAX: u64 = 256 << 20;

/// A file of the agent's own that loses one of its names.
pub(super) struct Losing {
    before: Entry,
    /// Where it has others.
    handle: Option<Handle>,
}

impl Applier {
    /// Puts a finished temporary entry under a name that is `standing` so far.
    pub(super) fn supplant(
        &mut self,
        (dir, temp, path): (BorrowedFd<'_>, &[u8], &RelPath),
        is_dir: bool,
        standing: Option<&Entry>,
        comes: &Comes<'_>,
    ) -> Applied {
        let spared = self.spare(dir, standing, path, comes)?;
        let losing = self.losing(dir, path.name(), standing);
        self.check_session()?;
        match standing {
            _ if spared == Spared::NotYet => self.swap(dir, temp, path)?,
            Some(old) if self.foreign.is_some() && !is_dir && old.attrs.meta.kind != Kind::Dir => {
                self.exchange(dir, temp, path, old)?;
            }
            _ => install(dir, temp, path.name(), is_dir)?,
        }
        self.lost(losing);
        Ok(())
    }

    /// Keeps what somebody else wrote, or what the trash takes, of a name that is about to be taken by
    /// something else.
    pub(super) fn spare(
        &mut self,
        dir: BorrowedFd<'_>,
        standing: Option<&Entry>,
        path: &RelPath,
        comes: &Comes<'_>,
    ) -> Result<Spared, Undone> {
        let Some(entry) = standing else { return Ok(Spared::Yes) };
        self.back_up(dir, path, entry)?;
        let is_dir = entry.attrs.meta.kind == Kind::Dir;
        if is_dir && self.trash.is_some() && super::install::is_empty_dir(dir, path.name()) {
            // No directory has two names.
            return Ok(Spared::NotYet);
        }
        if self.wrote(entry) {
            if !self.is_there(path, entry, comes) {
                self.set_aside(dir, path, entry)?;
            }
            return Ok(Spared::Yes);
        }
        let worth = |trash: &&mut Trash| !is_dir && trash.takes(entry);
        let Some(trash) = self.trash.as_mut().filter(worth) else { return Ok(Spared::Yes) };
        match trash.link_aside(dir, path, entry) {
            Ok(()) => Ok(Spared::Yes),
            Err(error) if has_no_links(&error) => Ok(Spared::NotYet),
            Err(error) => Err(Undone::os("set aside")(error)),
        }
    }

    /// Whether somebody else wrote an entry, as far as that counts in this session.
    fn wrote(&self, entry: &Entry) -> bool {
        self.foreign.as_ref().is_some_and(|foreign| foreign.wrote(entry))
    }

    fn set_aside(&mut self, dir: BorrowedFd<'_>, path: &RelPath, entry: &Entry) -> Applied {
        let Some(foreign) = self.foreign.as_mut() else { return Ok(()) };
        let done = match foreign.link_aside(dir, path, entry) {
            // Without links there is a moment in which nothing has the name.
            Err(error) if has_no_links(&error) => foreign.move_aside(dir, path.name(), path),
            other => other,
        };
        done.map_err(Undone::os("set aside"))?;
        self.told_aside(path)
    }

    /// Whether what comes to a path is what it has.
    fn is_there(&self, path: &RelPath, old: &Entry, comes: &Comes<'_>) -> bool {
        let meta = &old.attrs.meta;
        let hash = |path| crate::scan::hash(&self.root, path).ok();
        let readable = meta.kind == Kind::File && meta.size <= SAME_LEN_MAX;
        match comes {
            Comes::Content(size, new) => readable && meta.size == *size && hash(path) == Some(*new),
            Comes::Name(other) => readable && hash(other).is_some_and(|new| hash(path) == Some(new)),
            Comes::Node(attrs) => {
                let same = attrs.symlink == old.attrs.symlink && attrs.meta.rdev == meta.rdev;
                attrs.meta.kind == meta.kind && same
            }
            Comes::Other => false,
        }
    }

    /// Gives a temporary entry the name of `old`, and removes that, if nobody has put something else there
    /// since it was looked at.
    fn exchange(&mut self, dir: BorrowedFd<'_>, temp: &[u8], path: &RelPath, old: &Entry) -> Applied {
        match rustix::fs::renameat_with(dir, temp, dir, path.name(), RenameFlags::EXCHANGE) {
            Ok(()) => self.dispose(dir, temp, path, old).inspect_err(|_| {
                let _ = rustix::fs::renameat_with(dir, temp, dir, path.name(), RenameFlags::EXCHANGE);
            }),
            // Gone meanwhile, or this filesystem exchanges nothing.
            Err(_) => install(dir, temp, path.name(), false),
        }
    }

    /// Removes what was at a path and has a temporary name by now; what is not `old` was written in between.
    fn dispose(&mut self, dir: BorrowedFd<'_>, temp: &[u8], path: &RelPath, old: &Entry) -> Applied {
        let Some(now) = look(dir, temp)? else { return Ok(()) };
        let (a, b) = (&now.attrs.meta, &old.attrs.meta);
        if (now.id, a.size, a.mtime) == (old.id, b.size, b.mtime) {
            return remove(dir, temp, false).map_err(Undone::os("remove"));
        }
        let Some(foreign) = self.foreign.as_mut() else { return Ok(()) };
        foreign.move_aside(dir, temp, path).map_err(Undone::os("set aside"))?;
        self.told_aside(path)
    }

    /// Removes an entry that is not a directory that holds something; with `keep` not what somebody else wrote.
    pub(super) fn take_away(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &RelPath,
        old: &Entry,
        keep: bool,
    ) -> Applied {
        let name = path.name();
        if keep && self.wrote(old) {
            if let Some(foreign) = self.foreign.as_mut() {
                foreign.move_aside(dir, name, path).map_err(Undone::os("set aside"))?;
            }
            return self.told_aside(path);
        }
        if self.move_to_backup(dir, path, old)? {
            return Ok(());
        }
        let is_dir = old.attrs.meta.kind == Kind::Dir;
        let losing = self.losing(dir, name, Some(old));
        let done = if self.trash.as_ref().is_some_and(|trash| trash.takes(old)) {
            if is_dir && !super::install::is_empty_dir(dir, name) {
                return Err(Undone::Why(Why::NotEmpty));
            }
            self.discard(dir, name, path)
        } else if is_dir || !keep || self.foreign.is_none() {
            let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            self.deleted(rustix::fs::unlinkat(dir, name, flags))
        } else {
            let temp = temp_name(self.tag);
            match rustix::fs::renameat(dir, name, dir, temp.as_slice()) {
                Ok(()) => self.dispose(dir, &temp, path, old),
                other => self.deleted(other),
            }
        };
        done?;
        self.lost(losing);
        Ok(())
    }

    fn deleted(&self, done: Result<(), Errno>) -> Applied {
        match done {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(Undone::Why(Why::NotEmpty)),
            // A mount point.
            Err(Errno::BUSY) if self.passes.stays_on_one() => Err(Undone::Why(Why::NotEmpty)),
            Err(error) => Err(Undone::os("delete")(error.into())),
        }
    }

    /// Gives what has a name a second one among what is kept; once.
    pub(super) fn keep_aside(&mut self, path: &RelPath, expect: &Expect) -> Applied {
        let parent = self.root.parent(path).map_err(Undone::parent)?;
        let dir = std::os::fd::AsFd::as_fd(&parent.fd);
        let Some(now) = look(dir, parent.name)?.filter(|now| self.fits(now, expect)) else {
            return Err(Undone::Why(Why::Differs));
        };
        self.plan_own(&now);
        let Some(foreign) = self.foreign.as_mut() else { return Ok(()) };
        foreign.link_aside(dir, path, &now).map_err(Undone::os("set aside"))?;
        self.still_own(&now, dir, parent.name);
        Ok(())
    }

    /// Notes what a name is about to lose, if it is the agent's own.
    pub(super) fn losing(&self, dir: BorrowedFd<'_>, name: &[u8], entry: Option<&Entry>) -> Option<Losing> {
        let entry = entry.filter(|entry| entry.attrs.meta.kind != Kind::Dir)?;
        if self.foreign.is_none() || self.wrote(entry) {
            return None;
        }
        let handle = if entry.nlink > 1 { Handle::open(dir, name).ok() } else { None };
        if handle.is_some() {
            self.plan_own(entry);
        }
        Some(Losing { before: entry.clone(), handle })
    }

    /// Takes in that a name is lost: of the same file others may be left.
    pub(super) fn lost(&self, losing: Option<Losing>) {
        let (Some(Losing { before, handle }), Some(foreign)) = (losing, &self.foreign) else { return };
        match handle.and_then(|handle| handle.read(&Mask::nothing()).ok()) {
            Some(after) if after.nlink > 0 => foreign.own.again(&before, &after),
            _ => drop(foreign.own.forget(&before)),
        }
    }

    /// Notes that an entry is about to get another change time, if it is the agent's own.
    pub(super) fn plan_own(&self, entry: &Entry) {
        if let Some(foreign) = self.foreign.as_ref().filter(|foreign| !foreign.wrote(entry)) {
            foreign.own.plan(entry);
        }
    }

    /// Notes what is about to lose its temporary name.
    pub(super) fn plan_made(&self, made: Option<&Entry>) {
        if let (Some(foreign), Some(made)) = (&self.foreign, made) {
            foreign.own.plan(made);
        }
    }

    /// Takes in that an entry of the agent's own has another change time, under this name.
    pub(super) fn still_own(&self, before: &Entry, dir: BorrowedFd<'_>, name: &[u8]) {
        if let Some(foreign) = &self.foreign
            && let Ok(Some(after)) = look(dir, name)
        {
            foreign.own.again(before, &after);
        }
    }

    /// Takes in that the agent has made an entry: `before` is how it was under its temporary name.
    pub(super) fn made(&self, before: Option<&Entry>, after: impl FnOnce() -> Option<Entry>) {
        if let (Some(foreign), Some(before)) = (&self.foreign, before)
            && let Some(after) = after()
        {
            foreign.own.add(before, &after);
        }
    }

    /// Writes down what is the agent's own.
    pub(super) fn save_own(&self) {
        if let Some(foreign) = &self.foreign {
            foreign.own.save();
        }
    }

    /// Puts a finished temporary entry under a name, and what had it into the trash.
    fn swap(&mut self, dir: BorrowedFd<'_>, temp: &[u8], path: &RelPath) -> Applied {
        let exchange = || {
            rustix::fs::renameat_with(dir, temp, dir, path.name(), RenameFlags::EXCHANGE)
                .map_err(|error| Undone::os("rename")(error.into()))
        };
        exchange()?;
        self.discard(dir, temp, path).inspect_err(|_| {
            let _ = exchange();
        })
    }

    /// Moves what has a name into the trash, as what was at `path`.
    pub(super) fn discard(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &RelPath) -> Applied {
        let (Some(trash), Some(entry)) = (self.trash.as_mut(), look(dir, name)?) else { return Ok(()) };
        trash.move_aside(dir, name, (path, &entry)).map_err(Undone::os("set aside"))
    }

    fn told_aside(&mut self, path: &RelPath) -> Applied {
        if let Some(place) = self.foreign.as_ref().and_then(super::foreign::Foreign::last_place) {
            self.durable.dir(place);
        }
        let told = self.reply.send(&ToSender::SetAside { path: path.clone() });
        told.map_err(|_| Undone::Os("answer", libc::EPIPE))
    }
}

/// Whether there are no links on this filesystem, or none of this file to be had.
fn has_no_links(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EMLINK | libc::EOPNOTSUPP))
}
