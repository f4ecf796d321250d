//! Listing what is kept, and putting it back.
//!
//! **In → Out:** an [`Order`]; the entries, in pieces. **Invariants:** of several versions of one path
//! since a moment the oldest comes back: it is what stood there at that moment; what stands there now
//! goes into the trash, never away; a name is absent at no moment. **Not here:** a mirror's opinion of
//! what was put back: what it does not know it sets aside as a stranger's work.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, RenameFlags};
use rustix::io::Errno;

use super::kept::{Kept, open_dir};
use super::reply::Reply;
use super::{strangers, trash};
use crate::disk::{Handle, Root, apply_attrs, names, read_entry};
use crate::error::errno_of;
use crate::protocol::{FrameError, Keeping, KeptEntry, Order, Since, ToSender};
use crate::tree::{Entry, Kind, Mask, RelPath, Time};

/// Bytes, about, of one piece of an answer.
const PIECE_LEN: usize = 128 * 1024;

/// Tells what is kept.
pub(super) fn list(root: &Arc<Root>, order: &Order, reply: &Reply) -> Result<(), FrameError> {
    let mut answer = Answer::new(reply);
    let mut lister = Lister { root, order, answer: &mut answer };
    if let Err(error) = lister.run() {
        lister.answer.failed(&RelPath::root(), &error)?;
    }
    answer.finish()
}

/// Puts back what is kept.
pub(super) fn undo(root: &Arc<Root>, order: &Order, reply: &Reply) -> Result<(), FrameError> {
    let mut answer = Answer::new(reply);
    let kept = Kept::existing(root, name_of(order.place));
    // What gives way needs a place; where nothing is kept, nothing does.
    let places =
        kept.and_then(|kept| kept.map(|kept| Ok((kept, Kept::open(root, trash::PLACE)?))).transpose());
    let done = match places {
        Ok(None) => Ok(()),
        Err(error) => Err(error),
        Ok(Some((kept, aside))) => {
            let mut undo =
                Undo { root, order, aside, done: HashSet::new(), above: HashSet::new(), answer: &mut answer };
            let done = undo.run(&kept);
            let _ = rustix::fs::syncfs(&**root);
            done
        }
    };
    if let Err(error) = done {
        answer.failed(&RelPath::root(), &error)?;
    }
    answer.finish()
}

fn name_of(place: Keeping) -> &'static str {
    match place {
        Keeping::Trash => trash::PLACE,
        Keeping::Strangers => strangers::PLACE,
    }
}

/// Returns the moments that an order is about.
fn moments(kept: &Kept, since: Since) -> io::Result<Vec<(Time, Vec<u8>)>> {
    let since = match since {
        Since::At(time) => time,
        Since::Ago(millis) => {
            let ago = Duration::from_millis(millis);
            let now = Time::now();
            let secs = now.secs.saturating_sub(i64::try_from(ago.as_secs()).unwrap_or(i64::MAX));
            let borrow = u32::from(now.nanos < ago.subsec_nanos());
            let nanos = now.nanos + borrow * 1_000_000_000 - ago.subsec_nanos();
            Time { secs: secs.saturating_sub(borrow.into()), nanos }
        }
    };
    let mut slots = kept.slots()?;
    slots.retain(|(time, _)| *time >= since);
    Ok(slots)
}

/// Whether an order is about a path, or about something below it.
fn asks_for(order: &Order, path: &RelPath) -> Asked {
    if order.paths.is_empty() || order.paths.iter().any(|asked| path.is_within(asked)) {
        Asked::Yes
    } else if order.paths.iter().any(|asked| asked.is_within(path)) {
        Asked::Below
    } else {
        Asked::No
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    Below,
    No,
}

/// Entries on their way to who asked.
struct Answer<'a> {
    reply: &'a Reply,
    entries: Vec<KeptEntry>,
    bytes: usize,
    /// Why nobody hears any more.
    deaf: Option<FrameError>,
}

impl<'a> Answer<'a> {
    fn new(reply: &'a Reply) -> Self {
        Self { reply, entries: Vec::new(), bytes: 0, deaf: None }
    }

    fn add(&mut self, entry: KeptEntry) {
        self.bytes += entry.path.as_bytes().len() + 64;
        self.entries.push(entry);
        if self.bytes > PIECE_LEN {
            self.send(false);
        }
    }

    fn send(&mut self, last: bool) {
        self.bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        if self.deaf.is_none() {
            self.deaf = self.reply.send(&ToSender::Kept { entries, last }).err();
        }
    }

    fn failed(&self, path: &RelPath, error: &io::Error) -> Result<(), FrameError> {
        self.reply.problem(path.clone(), "look for what is kept", errno_of(error))
    }

    fn finish(mut self) -> Result<(), FrameError> {
        self.send(true);
        self.deaf.map_or(Ok(()), Err)
    }
}

fn entry_of(time: Time, path: RelPath, entry: &Entry) -> KeptEntry {
    let meta = &entry.attrs.meta;
    let (kind, size, mtime) = (meta.kind, meta.size, meta.mtime);
    KeptEntry { time, path, kind, size, mtime, replaces: false, errno: 0 }
}

struct Lister<'a, 'b> {
    root: &'a Arc<Root>,
    order: &'a Order,
    answer: &'a mut Answer<'b>,
}

impl Lister<'_, '_> {
    fn run(&mut self) -> io::Result<()> {
        let Some(kept) = Kept::existing(self.root, name_of(self.order.place))? else { return Ok(()) };
        for (time, name) in moments(&kept, self.order.since)? {
            match kept.slot(&name) {
                Ok(slot) => self.dir(time, slot.as_fd(), &RelPath::root()).map(drop)?,
                // Expired while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells what a directory holds; returns whether it holds anything.
    fn dir(&mut self, time: Time, at: BorrowedFd<'_>, path: &RelPath) -> io::Result<bool> {
        let mut names = names(at)?;
        names.sort();
        for name in &names {
            let path = path.join(name);
            let asked = asks_for(self.order, &path);
            let entry = if asked == Asked::No { None } else { read_entry(at, name, &Mask::nothing())? };
            let Some(entry) = entry else { continue };
            let mut told = KeptEntry { replaces: self.stands(&path)?, ..entry_of(time, path, &entry) };
            if entry.attrs.meta.kind == Kind::Dir {
                match open_dir(at, name).and_then(|inner| self.dir(time, inner.as_fd(), &told.path)) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => told.errno = errno_of(&error),
                }
            }
            if asked == Asked::Yes {
                self.answer.add(told);
            }
        }
        Ok(!names.is_empty())
    }

    /// Whether something stands at a path of the tree.
    fn stands(&self, path: &RelPath) -> io::Result<bool> {
        match self.root.parent(path) {
            Ok(parent) => Ok(read_entry(parent.fd.as_fd(), parent.name, &Mask::nothing())?.is_some()),
            // What stands in the way of its parent is not it.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

struct Undo<'a, 'b> {
    root: &'a Arc<Root>,
    order: &'a Order,
    /// Where what gives way is kept.
    aside: Kept,
    /// What was put back from an earlier moment, and what holds it.
    done: HashSet<RelPath>,
    above: HashSet<RelPath>,
    answer: &'a mut Answer<'b>,
}

/// A directory of the kept place, and the one of the tree that belongs to it.
struct Pair<'a> {
    time: Time,
    kept: BorrowedFd<'a>,
    live: BorrowedFd<'a>,
}

impl Undo<'_, '_> {
    fn run(&mut self, kept: &Kept) -> io::Result<()> {
        // What gives way now comes to moments behind these.
        for (time, name) in moments(kept, self.order.since)? {
            let slot = kept.slot(&name)?;
            let live = self.root.place(&RelPath::root())?;
            self.dir(&Pair { time, kept: slot.as_fd(), live: live.as_fd() }, &RelPath::root())?;
            kept.close_slot(&name);
        }
        Ok(())
    }

    fn dir(&mut self, at: &Pair<'_>, path: &RelPath) -> io::Result<()> {
        let mut names = names(at.kept)?;
        names.sort();
        for name in names {
            let path = path.join(&name);
            let asked = asks_for(self.order, &path);
            let Some(entry) = read_entry(at.kept, &name, &Mask::nothing())?.filter(|_| asked != Asked::No)
            else {
                continue;
            };
            let done = if entry.attrs.meta.kind == Kind::Dir {
                self.directory(at, &path, asked)
            } else if asked == Asked::Yes && !self.done.contains(&path) {
                self.leaf(at, &path, &entry)
            } else {
                Ok(())
            };
            if let Err(error) = done {
                self.answer.add(KeptEntry { errno: errno_of(&error), ..entry_of(at.time, path, &entry) });
            }
        }
        Ok(())
    }

    /// Puts one entry back that is no directory.
    fn leaf(&mut self, at: &Pair<'_>, path: &RelPath, entry: &Entry) -> io::Result<()> {
        let name = path.name();
        let replaces = read_entry(at.live, name, &Mask::nothing())?.is_some();
        if replaces {
            rustix::fs::renameat_with(at.kept, name, at.live, name, RenameFlags::EXCHANGE)?;
            // What stood there bears the kept name now.
            self.aside.move_aside(at.kept, name, path)?;
        } else {
            rustix::fs::renameat_with(at.kept, name, at.live, name, RenameFlags::NOREPLACE)?;
        }
        self.note(path);
        self.answer.add(KeptEntry { replaces, ..entry_of(at.time, path.clone(), entry) });
        Ok(())
    }

    fn directory(&mut self, at: &Pair<'_>, path: &RelPath, asked: Asked) -> io::Result<()> {
        let name = path.name();
        let mut live = read_entry(at.live, name, &Mask::nothing())?;
        if live.as_ref().is_some_and(|live| live.attrs.meta.kind != Kind::Dir) {
            self.aside.move_aside(at.live, name, path)?;
            live = None;
        }
        if live.is_none() && asked == Asked::Yes && !self.above.contains(path) {
            self.tell(at.time, at.kept, path)?;
            return Ok(rustix::fs::renameat_with(at.kept, name, at.live, name, RenameFlags::NOREPLACE)?);
        }
        let inner = open_dir(at.kept, name)?;
        if live.is_none() {
            rustix::fs::mkdirat(at.live, name, Mode::from(0o700))?;
            let attrs = Handle::open(inner.as_fd(), b"")?.read(&Mask::everything())?.attrs;
            apply_attrs(&Handle::open(at.live, name)?, &attrs, &Mask::everything())?;
        }
        let there = place(at.live, name)?;
        self.dir(&Pair { time: at.time, kept: inner.as_fd(), live: there.as_fd() }, path)?;
        match rustix::fs::unlinkat(at.kept, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn note(&mut self, path: &RelPath) {
        self.done.insert(path.clone());
        let mut above = path.parent();
        while let Some(dir) = above {
            above = dir.parent();
            if !self.above.insert(dir) {
                return;
            }
        }
    }

    /// Tells what a directory holds that comes back as a whole.
    fn tell(&mut self, time: Time, at: BorrowedFd<'_>, path: &RelPath) -> io::Result<()> {
        let Some(entry) = read_entry(at, path.name(), &Mask::nothing())? else { return Ok(()) };
        if entry.attrs.meta.kind == Kind::Dir {
            let inner = open_dir(at, path.name())?;
            let mut names = names(inner.as_fd())?;
            names.sort();
            for name in &names {
                self.tell(time, inner.as_fd(), &path.join(name))?;
            }
            if !names.is_empty() {
                return Ok(());
            }
        }
        self.note(path);
        self.answer.add(entry_of(time, path.clone(), &entry));
        Ok(())
    }
}

/// Opens a directory of the tree as a place for `*at` calls.
fn place(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    use rustix::fs::OFlags;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}
