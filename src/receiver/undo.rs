//! Putting back what is kept.
//!
//! **In → Out:** an [`Order`]; what was put back, by way of an [`Answer`]. **Invariants:** a path of which
//! something was removed or replaced since the moment that is named comes back as it was then: the oldest
//! version that came here since, unless an earlier undo has put it back (`undone`). What left nothing here,
//! a rename or a change of attributes alone, is not undone. So a second run changes nothing, and a later moment undoes an undo.
//! What is there now goes into the trash; what was made since then stays; a name of a file is absent at
//! no moment; of a path that failed no later version is tried. A dry run only tells. **Not here:** a
//! mirror's opinion of what was put back: what it does not know it sets aside as a stranger's work.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, RenameFlags};
use rustix::io::Errno;

use super::install::is_empty_dir;
use super::retained::{Retained, is_nothing, open_dir};
use super::retention::{Answer, Asked, asks_for, entry_of, moment_of, moments, name_of};
use super::trash;
use super::undone::{History, Journal, Record, Was};
use crate::disk::{Handle, Root, Unset, apply_attrs, names, read_entry};
use crate::error::errno_of;
use crate::protocol::{FrameError, Keeping, KeptEntry, Order};
use crate::tree::{Entry, Kind, Mask, RelPath, Time};

/// Puts back what an order asks for.
pub(super) fn undo(
    root: &Arc<Root>,
    order: &Order,
    mut answer: Answer<'_>,
    dry_run: bool,
) -> Result<(), FrameError> {
    if let Err(error) = attempt(root, order, &mut answer, dry_run) {
        answer.failed(&RelPath::root(), &error)?;
    }
    answer.finish()
}

fn attempt(root: &Arc<Root>, order: &Order, answer: &mut Answer<'_>, dry_run: bool) -> io::Result<()> {
    let since = moment_of(order.since);
    let asks = |path: &RelPath| asks_for(order, path) != Asked::No;
    let history = History::read(root, order.place, since, asks)?;
    let kept = Retained::existing(root, name_of(order.place))?;
    // What gives way needs a place; where nothing is kept, nothing does.
    let idle = kept.is_none() && history.paths().is_empty();
    let aside = match dry_run || idle {
        true => None,
        false => Some((Retained::open(root, trash::PLACE)?, Journal::new(root))),
    };
    let (done, above, gone) = Default::default();
    let mut undo = Undo { root, order, since, history, aside, done, above, gone, answer };
    let done = kept.map_or(Ok(()), |kept| undo.run(&kept)).and_then(|()| undo.take_away());
    if !dry_run {
        let _ = rustix::fs::syncfs(&**root);
    }
    done
}

struct Undo<'a, 'b> {
    root: &'a Arc<Root>,
    order: &'a Order,
    since: Time,
    history: History,
    /// Where what gives way is kept, and where it is noted; in a dry run nothing is.
    aside: Option<(Retained, Journal)>,
    /// What came back from an earlier moment or failed, and what holds what came back.
    done: HashSet<RelPath>,
    above: HashSet<RelPath>,
    /// What was taken away.
    gone: HashSet<RelPath>,
    answer: &'a mut Answer<'b>,
}

/// A directory of the kept place, and the one of the tree that belongs to it, if there is one.
struct Pair<'a> {
    time: Time,
    kept: BorrowedFd<'a>,
    live: Option<BorrowedFd<'a>>,
}

impl Pair<'_> {
    fn live(&self, name: &[u8]) -> io::Result<Option<Entry>> {
        self.live.map_or(Ok(None), |live| read_entry(live, name, &Mask::nothing()))
    }
}

impl Undo<'_, '_> {
    fn run(&mut self, kept: &Retained) -> io::Result<()> {
        // What gives way now comes to moments behind these.
        for (time, name) in moments(kept, self.since)? {
            let slot = match kept.slot(&name) {
                // Expired while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                slot => slot?,
            };
            let live = self.root.place(&RelPath::root())?;
            self.dir(&Pair { time, kept: slot.as_fd(), live: Some(live.as_fd()) }, &RelPath::root())?;
            if self.aside.is_some() {
                kept.close_slot(&name);
            }
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
                self.directory(at, (&path, &entry), asked)
            } else if asked == Asked::Yes && self.is_due(&path, at.time) {
                self.leaf(at, &path, &entry)
            } else {
                Ok(())
            };
            if let Err(error) = done {
                self.done.insert(path.clone());
                self.answer.add(KeptEntry { errno: errno_of(&error), ..entry_of(at.time, path, &entry) });
            }
        }
        Ok(())
    }

    /// Whether what is kept of a path below a moment is what the path was.
    fn is_due(&self, path: &RelPath, moment: Time) -> bool {
        !self.done.contains(path)
            && !self.above.contains(path)
            && self.history.says(path, Some(moment)) == Was::Kept
    }

    /// Puts one entry back that is no directory.
    fn leaf(&mut self, at: &Pair<'_>, path: &RelPath, entry: &Entry) -> io::Result<()> {
        let replaces = at.live(path.name())?.is_some();
        self.bring(at, path, (false, replaces))?;
        self.note(path);
        self.answer.add(KeptEntry { replaces, ..entry_of(at.time, path.clone(), entry) });
        Ok(())
    }

    /// Renames what is kept to where it was.
    fn bring(&mut self, at: &Pair<'_>, path: &RelPath, (dir, replaces): (bool, bool)) -> io::Result<()> {
        let (Some((aside, journal)), Some(live)) = (&mut self.aside, at.live) else { return Ok(()) };
        let (place, name) = (self.order.place, path.name());
        if replaces {
            return aside.swap_aside(at.kept, live, path, &mut |moment| {
                journal.note(&Record { dir, ..record(place, at.time, path, Some(moment)) })
            });
        }
        journal.note(&Record { dir, ..record(place, at.time, path, None) })?;
        Ok(rustix::fs::renameat_with(at.kept, name, live, name, RenameFlags::NOREPLACE)?)
    }

    fn directory(
        &mut self,
        at: &Pair<'_>,
        (path, entry): (&RelPath, &Entry),
        asked: Asked,
    ) -> io::Result<()> {
        let name = path.name();
        let holds = self.above.contains(path);
        if !holds && (self.done.contains(path) || self.history.says_empty(path, at.time)) {
            return Ok(());
        }
        let live = at.live(name)?;
        let is_there = live.as_ref().is_some_and(|live| live.attrs.meta.kind == Kind::Dir);
        // In a dry run what has come back is not there.
        let comes = !is_there && !holds;
        if comes && asked == Asked::Yes && self.history.is_silent(path) {
            return self.whole(at, path, live.is_some());
        }
        let unset = if comes { self.make(at, path, live.is_some())? } else { None };
        // What could not be set is told once what the directory holds is back.
        let dressed = || unset.map_or(Ok(()), |unset| Err(unset.into()));
        // Now no file is put back here.
        self.above.insert(path.clone());
        let inner = open_dir(at.kept, name)?;
        if comes && is_empty_dir(at.kept, name) {
            let replaces = live.is_some();
            self.answer.add(KeptEntry { replaces, ..entry_of(at.time, path.clone(), entry) });
        }
        let there = match at.live.filter(|_| is_there || self.aside.is_some()) {
            Some(live) => Some(place(live, name)?),
            None => None,
        };
        self.dir(&Pair { time: at.time, kept: inner.as_fd(), live: there.as_ref().map(AsFd::as_fd) }, path)?;
        let Some((_, journal)) = self.aside.as_mut().filter(|_| is_empty_dir(at.kept, name)) else {
            return dressed();
        };
        journal.note(&Record { dir: true, ..record(self.order.place, at.time, path, Some(at.time)) })?;
        match rustix::fs::unlinkat(at.kept, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => dressed(),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a directory back with all that is kept in it.
    fn whole(&mut self, at: &Pair<'_>, path: &RelPath, replaces: bool) -> io::Result<()> {
        let mut all = Vec::new();
        self.look_below((at.time, at.kept), (path, path), &mut all)?;
        self.bring(at, path, (true, replaces))?;
        for (entry, leaf) in all {
            self.note(&entry.path);
            if entry.kind == Kind::Dir {
                self.above.insert(entry.path.clone());
            }
            if leaf {
                self.answer.add(entry);
            }
        }
        Ok(())
    }

    /// Makes a directory of the tree that looks as the one that is kept; returns what could not be set.
    fn make(&mut self, at: &Pair<'_>, path: &RelPath, replaces: bool) -> io::Result<Option<Unset>> {
        let (Some((aside, journal)), Some(live)) = (&mut self.aside, at.live) else { return Ok(None) };
        let name = path.name();
        if replaces {
            aside.move_aside(live, name, path)?;
        }
        let moment = replaces.then(Time::now);
        journal.note(&Record { dir: true, ..record(self.order.place, at.time, path, moment) })?;
        rustix::fs::mkdirat(live, name, Mode::from(0o700))?;
        let attrs = Handle::open(open_dir(at.kept, name)?.as_fd(), b"")?.read(&Mask::everything())?.attrs;
        Ok(apply_attrs(&Handle::open(live, name)?, &attrs, &Mask::everything()).err())
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

    /// Notes what comes back below a directory, and collects all of it, and whether it is told.
    fn look_below(
        &mut self,
        (time, at): (Time, BorrowedFd<'_>),
        (top, path): (&RelPath, &RelPath),
        all: &mut Vec<(KeptEntry, bool)>,
    ) -> io::Result<()> {
        let Some(entry) = read_entry(at, path.name(), &Mask::nothing())? else { return Ok(()) };
        let mut leaf = true;
        if entry.attrs.meta.kind == Kind::Dir {
            let inner = open_dir(at, path.name())?;
            let mut names = names(inner.as_fd())?;
            names.sort();
            leaf = names.is_empty();
            for path in names.iter().map(|name| path.join(name)) {
                self.look_below((time, inner.as_fd()), (top, &path), all)?;
            }
        }
        if let Some((_, journal)) = self.aside.as_mut().filter(|_| path != top) {
            let dir = entry.attrs.meta.kind == Kind::Dir;
            journal.note(&Record { dir, ..record(self.order.place, time, path, None) })?;
        }
        all.push((entry_of(time, path.clone(), &entry), leaf));
        Ok(())
    }

    /// Moves into the trash what an undo has brought that was not there at the moment, and counts what
    /// is as it was.
    fn take_away(&mut self) -> io::Result<()> {
        for path in self.history.paths() {
            let asked = asks_for(self.order, &path) == Asked::Yes;
            if !asked || self.done.contains(&path) || self.above.contains(&path) {
                continue;
            }
            let gone = match self.history.says(&path, None) {
                Was::Absent => self.take_one_away(&path),
                Was::There | Was::Kept => Ok(None),
            };
            match gone {
                Ok(None) => self.answer.add_already(),
                Ok(Some(entry)) => {
                    self.answer.add_gone(entry_of(Time::now(), path.clone(), &entry));
                    self.gone.insert(path);
                }
                Err(error) => {
                    let errno = errno_of(&error);
                    let (time, kind) = (Time::now(), Kind::File);
                    let (size, mtime) = (0, Time::default());
                    self.answer.add(KeptEntry { time, path, kind, size, mtime, replaces: false, errno });
                }
            }
        }
        Ok(())
    }

    fn take_one_away(&mut self, path: &RelPath) -> io::Result<Option<Entry>> {
        let mut above = std::iter::successors(path.parent(), RelPath::parent);
        if above.any(|dir| self.done.contains(&dir) && !self.above.contains(&dir)) {
            // It has gone with the directory that gave way.
            return Ok(None);
        }
        let parent = match self.root.parent(path) {
            Ok(parent) => parent,
            Err(error) if is_nothing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let dir = parent.fd.as_fd();
        let Some(entry) = read_entry(dir, parent.name, &Mask::nothing())? else { return Ok(None) };
        if entry.attrs.meta.kind == Kind::Dir {
            // What was made in it since then stays, and so does the directory.
            let names = names(open_dir(dir, parent.name)?.as_fd())?;
            if names.iter().any(|name| !self.gone.contains(&path.join(name))) {
                return Ok(None);
            }
        }
        if let Some((aside, _)) = &mut self.aside {
            aside.move_aside(dir, parent.name, path)?;
        }
        Ok(Some(entry))
    }
}

/// Returns the record of a path that comes back; what gives way to it comes below `aside`.
fn record(place: Keeping, from: Time, path: &RelPath, aside: Option<Time>) -> Record {
    let at = Time::now().max(aside.unwrap_or_default());
    Record { place, path: path.clone(), from, at, absent: aside.is_none(), dir: false }
}

/// Opens a directory of the tree as a place for `*at` calls.
fn place(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    use rustix::fs::OFlags;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}
