//! What was put back, and when: `.speil/undone/MOMENT`, one record for each path.
//!
//! **Purpose:** a version that was put back has left the trash, and what gave way to it has come there.
//! The records keep a path's moments in order all the same. **In → Out:** records; what a path was at a
//! moment. **Example:** `f` was "one", and was replaced by "two" at t1. An undo to before t1 at t2 takes
//! "one" out of t1 and puts "two" under t2. The record (t1 → t2) says: whoever asks for a moment up to t1
//! means what `f` was just after t2. **Invariants:** a record is written before what it tells of is done;
//! where the version is still below its moment, that counts and not the record.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::retained::{made_dir, open_dir};
use crate::disk::{Root, names, slot_name, slot_time};
use crate::protocol::Keeping;
use crate::scan::STATE_DIR;
use crate::tree::{RelPath, Time};

/// Its place below the state directory.
const PLACE: &[u8] = b"undone";
/// Most bytes of a record.
const RECORD_LEN_MAX: usize = 64 << 10;

/// One path that was put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Where its version was kept.
    pub place: Keeping,
    /// The path.
    pub path: RelPath,
    /// The moment below which it was kept.
    pub from: Time,
    /// When it was put back.
    pub at: Time,
    /// Nothing was there until then.
    pub absent: bool,
    /// It is a directory.
    pub dir: bool,
}

/// The records of one undo, as they are written.
pub(super) struct Journal {
    root: Arc<Root>,
    file: Option<OwnedFd>,
}

impl Journal {
    /// Opens nothing yet: an undo that finds nothing leaves nothing.
    pub fn new(root: &Arc<Root>) -> Self {
        Self { root: Arc::clone(root), file: None }
    }

    /// Writes a record.
    pub fn note(&mut self, record: &Record) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let state = made_dir(self.root.as_fd(), STATE_DIR)?;
                let all = made_dir(state.as_fd(), PLACE)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW;
                let name = slot_name(Time::now());
                rustix::fs::openat(&all, name, flags | OFlags::CLOEXEC, Mode::from(0o600))?
            }
        };
        let record = postcard::to_stdvec(record).map_err(io::Error::other)?;
        let mut bytes = u32::try_from(record.len()).map_err(io::Error::other)?.to_le_bytes().to_vec();
        bytes.extend(record);
        let written = rustix::io::write(&file, &bytes);
        self.file = Some(file);
        if written? == bytes.len() { Ok(()) } else { Err(rustix::io::Errno::NOSPC.into()) }
    }
}

/// Removes the records of undos that ended before a moment.
pub(super) fn expire(root: &Root, before: Time) -> io::Result<()> {
    let Some(all) = existing(root)? else { return Ok(()) };
    for name in names(all.as_fd())? {
        let ended = rustix::fs::statat(&all, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?.st_mtime;
        if slot_time(&name).is_some() && ended < before.secs {
            rustix::fs::unlinkat(&all, name.as_slice(), AtFlags::empty())?;
        }
    }
    Ok(())
}

fn existing(root: &Root) -> io::Result<Option<OwnedFd>> {
    match open_dir(root.as_fd(), STATE_DIR).and_then(|state| open_dir(state.as_fd(), PLACE)) {
        Ok(all) => Ok(Some(all)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What was undone from a moment on.
#[derive(Debug, Default)]
pub(super) struct History {
    since: Time,
    steps: HashMap<RelPath, Vec<Step>>,
    above: HashSet<RelPath>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    time: Time,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// Nothing was there until this moment.
    Absent,
    /// The version that was kept below this moment is what the path was just after another one; whether it
    /// is a directory.
    Back(Time, bool),
}

/// What a path was at the moment that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Was {
    /// What is kept.
    Kept,
    /// What is there now, as far as is known.
    There,
    /// Nothing.
    Absent,
}

impl History {
    /// Reads what was undone from `since` on of the paths that `asks` names.
    pub fn read(
        root: &Root,
        place: Keeping,
        since: Time,
        asks: impl Fn(&RelPath) -> bool,
    ) -> io::Result<Self> {
        let mut history = Self { since, ..Self::default() };
        let Some(all) = existing(root)? else { return Ok(history) };
        for name in names(all.as_fd())?.iter().filter(|name| slot_time(name).is_some()) {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&all, name.as_slice(), flags, Mode::empty())?;
            let mut file = BufReader::new(File::from(file));
            while let Some(record) = next_record(&mut file)? {
                if record.at >= since && asks(&record.path) {
                    history.take(place, record);
                }
            }
        }
        Ok(history)
    }

    fn take(&mut self, place: Keeping, record: Record) {
        let Record { path, from, at, dir, .. } = record;
        let mut steps = Vec::new();
        if record.place == place {
            steps.push(Step { time: from, what: What::Back(at, dir) });
        }
        if record.absent && place == Keeping::Trash {
            steps.push(Step { time: at, what: What::Absent });
        }
        let mut above = path.parent();
        while let Some(dir) = above.filter(|_| !steps.is_empty()) {
            above = dir.parent();
            if !self.above.insert(dir) {
                break;
            }
        }
        self.steps.entry(path).or_default().extend(steps);
    }

    /// Returns what a path was, if what is kept below the moment `kept` is its oldest version since then.
    pub fn says(&self, path: &RelPath, kept: Option<Time>) -> Was {
        let mut from = (self.since, true);
        loop {
            match self.step(path, from, kept) {
                Some(What::Absent) => return Was::Absent,
                Some(What::Back(at, _)) => from = (at, false),
                None if kept.is_some_and(|kept| is_behind(kept, from)) => return Was::Kept,
                None => return Was::There,
            }
        }
    }

    /// Whether something at a path that holds nothing was undone since, and before `kept`: whatever is
    /// kept below the path from then on, it was not there at the moment that is asked for.
    pub fn says_empty(&self, path: &RelPath, kept: Time) -> bool {
        let first = self.step(path, (self.since, true), Some(kept));
        matches!(first, Some(What::Absent | What::Back(_, false)))
    }

    /// Returns the first step of a path behind a moment and before `kept`.
    fn step(&self, path: &RelPath, from: (Time, bool), kept: Option<Time>) -> Option<What> {
        let steps = self.steps.get(path)?.iter();
        let behind = steps.filter(|step| is_behind(step.time, from));
        let before = behind.filter(|step| kept.is_none_or(|kept| step.time < kept));
        // Of several attempts to put one version back the last one has done it.
        let first = before.min_by_key(|step| match step.what {
            What::Absent => (step.time, None),
            What::Back(at, _) => (step.time, Some(std::cmp::Reverse(at))),
        });
        first.map(|step| step.what)
    }

    /// Whether nothing at a path or below it was undone since.
    pub fn is_silent(&self, path: &RelPath) -> bool {
        !self.steps.contains_key(path) && !self.above.contains(path)
    }

    /// Returns the paths of which something was undone, what is below a directory before it.
    pub fn paths(&self) -> Vec<RelPath> {
        let mut all: Vec<_> = self.steps.keys().cloned().collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all
    }
}

/// Whether a moment comes behind another one, or, if so it is said, is the same.
fn is_behind(moment: Time, (from, or_same): (Time, bool)) -> bool {
    moment > from || or_same && moment == from
}

/// Reads a record; `None` at the end, and where an agent was killed while it wrote one.
fn next_record(file: &mut impl Read) -> io::Result<Option<Record>> {
    let mut len = [0; 4];
    let mut record = Vec::new();
    let whole = file.read_exact(&mut len).and_then(|()| {
        let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        record.resize(len.min(RECORD_LEN_MAX), 0);
        file.read_exact(&mut record)
    });
    match whole {
        Ok(()) => Ok(postcard::from_bytes(&record).ok()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time { secs, nanos: 0 }
    }

    fn record(path: &str, from: i64, to: i64, absent: bool) -> Record {
        let path = RelPath::try_from(path).unwrap();
        Record { place: Keeping::Trash, path, from: at(from), at: at(to), absent, dir: false }
    }

    #[test]
    fn a_version_that_was_put_back_is_found_where_it_went() {
        let dir = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let mut journal = Journal::new(&root);
        // "one" was replaced at 10, put back at 20; nothing was at "d/new" between 12 and 20.
        journal.note(&record("f", 10, 20, false)).unwrap();
        journal.note(&record("d/new", 12, 20, true)).unwrap();
        // The end of a record that an agent did not finish.
        rustix::io::write(journal.file.as_ref().unwrap(), &[9, 0, 0, 0, 1]).unwrap();
        let says = |since, path: &str, kept: Option<i64>| {
            let history = History::read(&root, Keeping::Trash, at(since), |_| true).unwrap();
            history.says(&RelPath::try_from(path).unwrap(), kept.map(at))
        };
        assert_eq!(says(5, "f", None), Was::There, "it is there");
        assert_eq!(says(5, "f", Some(20)), Was::There, "what gave way was not there then");
        assert_eq!(says(5, "f", Some(8)), Was::Kept, "an older version");
        assert_eq!(says(5, "f", Some(10)), Was::Kept, "the version itself: it was not put back after all");
        assert_eq!(says(5, "f", Some(25)), Was::Kept, "it was replaced again");
        assert_eq!(says(15, "f", Some(20)), Was::Kept, "what gave way was there then");
        assert_eq!(says(11, "d/new", None), Was::There);
        assert_eq!(says(15, "d/new", None), Was::Absent);
        assert_eq!(says(15, "d/new", Some(25)), Was::Absent);
        assert_eq!(says(21, "d/new", None), Was::There);
        expire(&root, at(Time::now().secs - 60)).unwrap();
        assert_eq!(says(15, "d/new", None), Was::Absent);
        expire(&root, at(Time::now().secs + 60)).unwrap();
        assert_eq!(says(15, "d/new", None), Was::There);
    }
}
