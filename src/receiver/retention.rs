//! Listing what is kept, and what an order to put it back is about.
//!
//! **In → Out:** an [`Order`]; the entries, in pieces. **Not here:** putting it back (`undo`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::reply::Reply;
use super::retained::{Retained, is_nothing, open_dir};
use super::trash;
use crate::disk::{Root, names, read_entry};
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

pub(super) fn name_of(place: Keeping) -> &'static str {
    match place {
        Keeping::Trash => trash::PLACE,
        Keeping::Strangers => crate::disk::FOREIGN,
    }
}

/// Returns the moment that an order names, on this host's clock.
pub(super) fn moment_of(since: Since) -> Time {
    match since {
        Since::At(time) => time,
        Since::Ago(millis) => {
            let ago = Duration::from_millis(millis);
            let now = Time::now();
            let secs = now.secs.saturating_sub(i64::try_from(ago.as_secs()).unwrap_or(i64::MAX));
            let borrow = u32::from(now.nanos < ago.subsec_nanos());
            let nanos = now.nanos + borrow * 1_000_000_000 - ago.subsec_nanos();
            Time { secs: secs.saturating_sub(borrow.into()), nanos }
        }
    }
}

/// Returns the moments from one on below which something is kept, the oldest first.
pub(super) fn moments(kept: &Retained, since: Time) -> io::Result<Vec<(Time, Vec<u8>)>> {
    let mut slots = kept.slots()?;
    slots.retain(|(time, _)| *time >= since);
    Ok(slots)
}

/// Whether an order is about a path, or about something below it.
pub(super) fn asks_for(order: &Order, path: &RelPath) -> Asked {
    if order.paths.is_empty() || order.paths.iter().any(|asked| path.is_within(asked)) {
        Asked::Yes
    } else if order.paths.iter().any(|asked| asked.is_within(path)) {
        Asked::Below
    } else {
        Asked::No
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Yes,
    Below,
    No,
}

/// Entries on their way to who asked.
pub(super) struct Answer<'a> {
    reply: &'a Reply,
    entries: Vec<KeptEntry>,
    /// What was taken away, where whoever asked knows of that.
    gone: Option<Vec<KeptEntry>>,
    already: u64,
    bytes: usize,
    /// Why nobody hears any more.
    deaf: Option<FrameError>,
}

impl<'a> Answer<'a> {
    pub fn new(reply: &'a Reply) -> Self {
        Self { reply, entries: Vec::new(), gone: None, already: 0, bytes: 0, deaf: None }
    }

    /// Answers somebody who knows [`ToSender::AsItWas`].
    pub fn in_full(self) -> Self {
        Self { gone: Some(Vec::new()), ..self }
    }

    pub fn add(&mut self, entry: KeptEntry) {
        self.bytes += entry.path.as_bytes().len() + 64;
        self.entries.push(entry);
        if self.bytes > PIECE_LEN {
            self.send(false);
        }
    }

    /// Tells of an entry that was taken away.
    pub fn add_gone(&mut self, entry: KeptEntry) {
        let Some(gone) = &mut self.gone else { return self.add(entry) };
        self.bytes += entry.path.as_bytes().len() + 64;
        gone.push(entry);
        if self.bytes > PIECE_LEN {
            self.send(false);
        }
    }

    /// Counts a path that is as it was.
    pub fn add_already(&mut self) {
        self.already += 1;
    }

    fn send(&mut self, last: bool) {
        self.bytes = 0;
        if let Some(gone) = self.gone.as_mut().map(std::mem::take)
            && !(gone.is_empty() && self.already == 0)
            && self.deaf.is_none()
        {
            let already = std::mem::take(&mut self.already);
            self.deaf = self.reply.send(&ToSender::AsItWas { gone, already }).err();
        }
        let entries = std::mem::take(&mut self.entries);
        if self.deaf.is_none() {
            self.deaf = self.reply.send(&ToSender::Kept { entries, last }).err();
        }
    }

    pub fn failed(&self, path: &RelPath, error: &io::Error) -> Result<(), FrameError> {
        self.reply.problem(path.clone(), "look for what is kept", errno_of(error))
    }

    pub fn finish(mut self) -> Result<(), FrameError> {
        self.send(true);
        self.deaf.map_or(Ok(()), Err)
    }
}

pub(super) fn entry_of(time: Time, path: RelPath, entry: &Entry) -> KeptEntry {
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
        let Some(kept) = Retained::existing(self.root, name_of(self.order.place))? else { return Ok(()) };
        for (time, name) in moments(&kept, moment_of(self.order.since))? {
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
            Err(error) if is_nothing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
