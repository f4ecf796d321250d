//! A place below `.speil/` where entries of the tree are kept: `.speil/NAME/MOMENT/PATH`.
//!
//! **Purpose:** the one mechanism behind what others wrote and what the trash holds.
//! **Invariants:** an entry comes here by one rename or one link, under its own path; directories on the
//! way look as they do in the tree; two versions of one path never meet, for they stand below
//! different moments. **Not here:** what is kept and for how long (`foreign`, `trash`), putting it
//! back (`undo`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::disk::{Handle, Root, apply_attrs, names, read_entry, slot_name, slot_time};
use crate::scan::STATE_DIR;
use crate::tree::{Entry, FileId, Kind, Mask, RelPath, Time};

/// Moments that are tried for one entry.
const TRIES: usize = 3;
/// A page: what an entry takes at least.
const PAGE: u64 = 4096;

/// One such place.
pub(super) struct Retained {
    root: Arc<Root>,
    all: OwnedFd,
    slot: Option<Slot>,
}

/// What came within one second of the clock, so that a moment in whole seconds tells exactly what came
/// after it.
struct Slot {
    time: Time,
    dir: OwnedFd,
    /// The directory that was used last.
    recent: Option<(RelPath, OwnedFd)>,
}

impl Retained {
    /// Opens the place of this name, and makes it if it is missing.
    pub fn open(root: &Arc<Root>, name: &str) -> io::Result<Self> {
        let state = made_dir(root.as_fd(), STATE_DIR)?;
        let all = made_dir(state.as_fd(), name.as_bytes())?;
        Ok(Self { root: Arc::clone(root), all, slot: None })
    }

    /// Opens the place of this name, if there is one.
    pub fn existing(root: &Arc<Root>, name: &str) -> io::Result<Option<Self>> {
        let opened =
            open_dir(root.as_fd(), STATE_DIR).and_then(|state| open_dir(state.as_fd(), name.as_bytes()));
        match opened {
            Ok(all) => Ok(Some(Self { root: Arc::clone(root), all, slot: None })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the same place for another thread.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Self { root: Arc::clone(&self.root), all: self.all.try_clone()?, slot: None })
    }

    /// Moves an entry here. An empty directory whose content came before it is removed: it stands here.
    pub fn move_aside(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &RelPath) -> io::Result<()> {
        self.put(path, |place, kept, _| {
            let there = read_entry(place, kept, &Mask::nothing())?;
            match there.map(|there| there.attrs.meta.kind) {
                None => Ok(rustix::fs::renameat(dir, name, place, kept)?),
                Some(Kind::Dir) => match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
                    Ok(()) => Ok(()),
                    Err(_) => Err(Errno::EXIST.into()),
                },
                Some(_) => Err(Errno::EXIST.into()),
            }
        })
    }

    /// Gives an entry a second name here.
    pub fn link_aside(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &RelPath) -> io::Result<()> {
        self.put(path, |place, kept, _| Ok(rustix::fs::linkat(dir, name, place, kept, AtFlags::empty())?))
    }

    /// Puts an entry under the same name in another directory, and moves what stood there here; both or
    /// neither. `note` hears before it is done below which moment.
    pub fn swap_aside(
        &mut self,
        from: BorrowedFd<'_>,
        live: BorrowedFd<'_>,
        path: &RelPath,
        note: &mut dyn FnMut(Time) -> io::Result<()>,
    ) -> io::Result<()> {
        let name = path.name();
        let exchange = || rustix::fs::renameat_with(from, name, live, name, RenameFlags::EXCHANGE);
        self.put(path, |place, kept, moment| {
            if read_entry(place, kept, &Mask::nothing())?.is_some() {
                return Err(Errno::EXIST.into());
            }
            note(moment)?;
            exchange()?;
            // What stood there bears the name of what has come.
            rustix::fs::renameat(from, name, place, kept).map_err(|error| {
                let _ = exchange();
                error.into()
            })
        })
    }

    /// Does `act` with the directory and the name that belong to a path, below a moment where they are free.
    fn put(
        &mut self,
        path: &RelPath,
        mut act: impl FnMut(BorrowedFd<'_>, &[u8], Time) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            let done = self.parent(path).and_then(|(place, moment)| act(place, path.name(), moment));
            match done {
                // Another version of it stands there, or the moment has expired under our hands.
                Err(error) if tries < TRIES && is_in_the_way(&error) => self.slot = None,
                other => return other,
            }
        }
    }

    fn parent(&mut self, path: &RelPath) -> io::Result<(BorrowedFd<'_>, Time)> {
        let parent = path.parent().unwrap_or_default();
        let slot = match self.slot.take().filter(|slot| slot.time.secs == Time::now().secs) {
            Some(slot) => slot,
            None => self.new_slot()?,
        };
        let slot = self.slot.insert(slot);
        if parent.is_root() {
            return Ok((slot.dir.as_fd(), slot.time));
        }
        if slot.recent.as_ref().is_none_or(|(of, _)| *of != parent) {
            let dir = way(&self.root, slot.dir.as_fd(), &parent)?;
            slot.recent = Some((parent, dir));
        }
        Ok((slot.recent.as_ref().map_or(slot.dir.as_fd(), |(_, dir)| dir.as_fd()), slot.time))
    }

    fn new_slot(&self) -> io::Result<Slot> {
        let mut now = Time::now();
        loop {
            let name = slot_name(now);
            match rustix::fs::mkdirat(&self.all, name.as_str(), Mode::from(0o700)) {
                Ok(()) => {
                    let dir = open_dir(self.all.as_fd(), name.as_bytes())?;
                    return Ok(Slot { time: now, dir, recent: None });
                }
                Err(Errno::EXIST) => {
                    let nanos = now.nanos + 1000;
                    now = Time {
                        secs: now.secs + i64::from(nanos / 1_000_000_000),
                        nanos: nanos % 1_000_000_000,
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the directory that something was put into last.
    pub fn last_place(&self) -> Option<BorrowedFd<'_>> {
        let slot = self.slot.as_ref()?;
        Some(slot.recent.as_ref().map_or(slot.dir.as_fd(), |(_, dir)| dir.as_fd()))
    }

    /// Returns the moments, oldest first, with their directories' names.
    pub fn slots(&self) -> io::Result<Vec<(Time, Vec<u8>)>> {
        let all = names(open_dir(self.all.as_fd(), b".")?.as_fd())?;
        let mut slots: Vec<_> = all.into_iter().filter_map(|name| Some((slot_time(&name)?, name))).collect();
        slots.sort();
        Ok(slots)
    }

    /// Opens the directory of a moment.
    pub fn slot(&self, name: &[u8]) -> io::Result<OwnedFd> {
        open_dir(self.all.as_fd(), name)
    }

    /// Removes a moment's directory if nothing is left in it.
    pub fn close_slot(&self, name: &[u8]) {
        let _ = rustix::fs::unlinkat(&self.all, name, AtFlags::REMOVEDIR);
    }

    /// Removes what was put here before a moment.
    pub fn expire(&self, before: Time) -> io::Result<()> {
        for (_, name) in self.slots()?.into_iter().filter(|(time, _)| *time < before) {
            shrink(self.slot(&name)?.as_fd(), &mut u64::MAX.clone())?;
            self.close_slot(&name);
        }
        Ok(())
    }

    /// Removes entries, the oldest first, until `excess` bytes are gone; returns how many are.
    pub fn shrink(&self, excess: u64) -> io::Result<u64> {
        let mut left = excess;
        for (_, name) in self.slots()? {
            if left == 0 {
                break;
            }
            shrink(self.slot(&name)?.as_fd(), &mut left)?;
            self.close_slot(&name);
        }
        Ok(excess - left)
    }

    /// Whether this very file is kept as a version of a path.
    pub fn has(&self, path: &RelPath, id: FileId) -> io::Result<bool> {
        for (_, name) in self.slots()? {
            let slot = Root::from_fd(self.slot(&name)?);
            let Ok(parent) = slot.parent(path) else { continue };
            let there = read_entry(parent.fd.as_fd(), parent.name, &Mask::nothing())?;
            if there.is_some_and(|there| there.id == id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns how many entries there are that are no directories on the way, and what they take.
    pub fn tally(&self) -> io::Result<Tally> {
        let mut tally = Tally::default();
        for (_, name) in self.slots()? {
            tally.add_dir(self.slot(&name)?.as_fd())?;
        }
        Ok(tally)
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Entries, directories that hold others not counted.
    pub entries: u64,
    /// Bytes, about.
    pub bytes: u64,
}

impl Tally {
    /// Takes in what a directory holds.
    pub fn add_dir(&mut self, dir: BorrowedFd<'_>) -> io::Result<()> {
        for name in names(dir)? {
            let Some(entry) = read_entry(dir, &name, &Mask::nothing())? else { continue };
            self.bytes = self.bytes.saturating_add(weight(&entry));
            let before = self.entries;
            if entry.attrs.meta.kind == Kind::Dir {
                self.add_dir(open_dir(dir, &name)?.as_fd())?;
            }
            self.entries += u64::from(self.entries == before);
        }
        Ok(())
    }
}

/// Returns about how many bytes an entry takes.
pub(super) fn weight(entry: &Entry) -> u64 {
    entry.attrs.meta.size.max(1).div_ceil(PAGE).saturating_mul(PAGE)
}

fn is_in_the_way(error: &io::Error) -> bool {
    let errno = error.raw_os_error().unwrap_or(0);
    matches!(
        errno,
        libc::EEXIST | libc::ENOTDIR | libc::ENOENT | libc::ENOTEMPTY | libc::EISDIR | libc::ELOOP
    )
}

/// Opens the directory at `path` below a moment; one that is missing is made to look as in the tree.
fn way(root: &Root, slot: BorrowedFd<'_>, path: &RelPath) -> io::Result<OwnedFd> {
    let (mut at, mut walked) = (open_dir(slot, b".")?, RelPath::root());
    for name in path.components() {
        walked = walked.join(name);
        match rustix::fs::mkdirat(&at, name, Mode::from(0o700)) {
            Ok(()) => dress(root, at.as_fd(), name, &walked),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = open_dir(at.as_fd(), name)?;
    }
    Ok(at)
}

/// Makes a directory look as the one in the tree; what cannot be had stays as it is.
fn dress(root: &Root, at: BorrowedFd<'_>, name: &[u8], path: &RelPath) {
    let attrs = root.place(path).and_then(|live| Handle::open(live.as_fd(), b"")?.read(&Mask::everything()));
    if let (Ok(Entry { mut attrs, .. }), Ok(handle)) = (attrs, Handle::open(at, name)) {
        // Its content has yet to come.
        attrs.meta.mode |= 0o700;
        let _ = apply_attrs(&handle, &attrs, &Mask::everything());
    }
}

/// Removes what a directory holds until `excess` bytes are gone.
fn shrink(dir: BorrowedFd<'_>, excess: &mut u64) -> io::Result<()> {
    for name in names(dir)? {
        if *excess == 0 {
            return Ok(());
        }
        let Some(entry) = read_entry(dir, &name, &Mask::nothing())? else { continue };
        let done = if entry.attrs.meta.kind == Kind::Dir {
            let inner = open_dir(dir, &name)?;
            shrink(inner.as_fd(), excess)?;
            rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::REMOVEDIR)
        } else {
            rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::empty())
        };
        match done {
            Ok(()) => *excess = excess.saturating_sub(weight(&entry)),
            // Something came into it meanwhile, or enough is gone.
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether an error says that nothing is at a path.
pub(super) fn is_nothing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

/// Opens a directory; one of ours whose mode forbids it is opened to its owner.
pub(super) fn open_dir(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {}
        other => return Ok(other?),
    }
    let place = rustix::fs::openat(at, name, flags | OFlags::PATH, Mode::empty())?;
    let mode = Mode::from(rustix::fs::fstat(&place)?.st_mode & 0o7777 | 0o700);
    rustix::fs::chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), mode)?;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// Opens a directory, and makes it if it is missing.
pub(super) fn made_dir(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(at, name, Mode::from(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    open_dir(at, name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn keep(root: &Root, kept: &mut Retained, name: &str, content: &str) {
        let at = path(name);
        let top = format!("/proc/self/fd/{}", root.as_fd().as_raw_fd());
        fs::write(format!("{top}/{name}"), content).unwrap();
        let parent = root.parent(&at).unwrap();
        kept.move_aside(parent.fd.as_fd(), parent.name, &at).unwrap();
    }

    fn contents(kept: &Retained, name: &str) -> Vec<String> {
        let slots = kept.slots().unwrap();
        let read = slots.iter().filter_map(|(_, slot)| {
            let dir = kept.slot(slot).unwrap();
            fs::read_to_string(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).ok()
        });
        read.collect()
    }

    #[test]
    fn versions_of_one_path_within_one_moment_do_not_meet_and_the_oldest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let mut kept = Retained::open(&root, "trash").unwrap();
        for version in ["one", "two", "three"] {
            keep(&root, &mut kept, "a/b/file", version);
        }
        // A directory under the name that was a file's.
        keep(&root, &mut kept, "x", "file");
        fs::create_dir(dir.path().join("x")).unwrap();
        keep(&root, &mut kept, "x/y", "below");
        assert_eq!(contents(&kept, "a/b/file"), ["one", "two", "three"]);
        assert_eq!(
            (contents(&kept, "x"), contents(&kept, "x/y")),
            (vec!["file".into()], vec!["below".into()])
        );
        let tally = kept.tally().unwrap();
        assert_eq!(tally.entries, 5);
        assert!(kept.shrink(1).unwrap() >= 1);
        assert_eq!(contents(&kept, "a/b/file"), ["two", "three"]);
        kept.expire(Time { secs: Time::now().secs - 60, nanos: 0 }).unwrap();
        assert_eq!(contents(&kept, "a/b/file").len(), 2, "younger than that");
        kept.expire(Time { secs: Time::now().secs + 60, nanos: 0 }).unwrap();
        assert_eq!(kept.tally().unwrap(), Tally::default());
        // The moment that was open is gone: the next entry finds another.
        keep(&root, &mut kept, "a/b/file", "four");
        assert_eq!(contents(&kept, "a/b/file"), ["four"]);
    }
}
