//! What someone else wrote on the target: kept for a month, never destroyed.
//!
//! A change time between the last apply of the session before and the beginning of this one, or after
//! the last apply of this one, is not the agent's. What bears such a time is moved, or linked before
//! it is replaced, into `.speil/strangers/DATE/`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::install::remove;
use super::state::State;
use crate::disk::{names, read_entry};
use crate::tree::{Entry, Kind, Mask, RelPath, Time};

/// How long it is kept.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// Bytes of a path that show in the name of a kept entry.
const SHOWN_LEN: usize = 200;

/// Tells strangers' entries from the agent's own, and keeps them.
pub(super) struct Strangers {
    state: Arc<State>,
    /// The last apply before this session; without one nothing here was ever the agent's.
    before: Option<Time>,
    began: Time,
    kept: u64,
}

impl Strangers {
    /// Begins a session, before it has changed anything; what was kept long enough goes.
    pub fn new(state: Arc<State>) -> Self {
        let (before, began) = (state.last_apply(), state.began().unwrap_or_default());
        let kept = expire(&state).unwrap_or(0);
        Self { state, before, began, kept }
    }

    /// Returns how many entries were kept when the session began.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Whether someone else wrote an entry. Directories are nobody's: what they hold counts.
    pub fn wrote(&self, entry: &Entry) -> bool {
        let Some(before) = self.before.filter(|_| entry.attrs.meta.kind != Kind::Dir) else { return false };
        let last = self.state.last_apply().unwrap_or(before);
        entry.ctime > before && (entry.ctime < self.began || entry.ctime > last)
    }

    /// Moves an entry to where nothing touches it.
    pub fn move_aside(&self, dir: BorrowedFd<'_>, name: &[u8], path: &RelPath) -> io::Result<()> {
        let (place, kept) = self.place(path)?;
        Ok(rustix::fs::renameat(dir, name, place, kept.as_slice())?)
    }

    /// Gives an entry that is about to be replaced a second name there.
    pub fn link_aside(&self, dir: BorrowedFd<'_>, name: &[u8], path: &RelPath) -> io::Result<()> {
        let (place, kept) = self.place(path)?;
        Ok(rustix::fs::linkat(dir, name, place, kept.as_slice(), AtFlags::empty())?)
    }

    /// Returns a directory, and a name in it that is free: the path with its slashes made visible.
    fn place(&self, path: &RelPath) -> io::Result<(OwnedFd, Vec<u8>)> {
        let now = Time::now();
        let (year, month, day) = now.date();
        let all = self.state.sub_dir("strangers")?;
        let place = sub_dir(all.as_fd(), format!("{year}-{month:02}-{day:02}").as_bytes())?;
        let mut kept: Vec<u8> = path.as_bytes().iter().map(|&b| if b == b'/' { b'+' } else { b }).collect();
        kept.truncate(SHOWN_LEN);
        let base = kept.clone();
        let mut number = 1;
        while read_entry(place.as_fd(), &kept, &Mask::nothing())?.is_some() {
            number += 1;
            kept = [&base[..], format!(".{number}").as_bytes()].concat();
        }
        Ok((place, kept))
    }
}

fn sub_dir(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(at, name, Mode::from(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// Removes the days that are over, and counts what is left.
fn expire(state: &State) -> io::Result<u64> {
    let all = state.sub_dir("strangers")?;
    let oldest = Time { secs: Time::now().secs - KEPT.as_secs() as i64, nanos: 0 };
    let mut left = 0;
    for day in names(all.as_fd())? {
        let Some(entry) = read_entry(all.as_fd(), &day, &Mask::nothing())? else { continue };
        if entry.attrs.meta.kind != Kind::Dir {
            left += 1;
        } else if entry.attrs.meta.mtime < oldest {
            remove(all.as_fd(), &day, true)?;
        } else {
            left += names(sub_dir(all.as_fd(), &day)?.as_fd())?.len() as u64;
        }
    }
    Ok(left)
}
