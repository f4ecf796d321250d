//! The end of a session, and what is left to the next one.

use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::error::SessionError;
use super::names::Names;
use super::session::Session;
use crate::batch::{Change, ChangeKind};
use crate::event::{Age, RescanReason};
use crate::protocol::ToReceiver;
use crate::transport::{Ended, ended_soon};
use crate::tree::{FileId, RelPath};

/// Time that a stop waits for what is in flight.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// Names that the changes left may have by now: so many, and so many more for each change. Beyond, everything
/// is compared and read.
const NAMES_SLACK: usize = 1024;
const NAMES_PER_CHANGE: usize = 4;

impl Session {
    /// Takes the connection down and returns what must be sent again.
    pub(super) fn end(&mut self, broken: bool) -> (Vec<Change>, Ended) {
        self.shared.outbox.close();
        if broken {
            self.control.kill();
        }
        self.shared.view.close();
        let unread = self.shared.mailbox.clear_bulk();
        self.shared.passes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let replies = self.replies.take();
        let ended = ended_soon(&self.control, || drop(replies.map(std::thread::JoinHandle::join)));
        let left = self.unacked.drain(..).flat_map(|(_, parcels)| parcels);
        let left = left.chain(self.open.drain(..)).chain(self.jobs.take_parcels());
        // These are known by the names that they had after every rename.
        let unseen = self.debts.take_unseen();
        let left = left.map(|parcel| parcel.change).chain(unseen);
        let left = left.chain(unread).chain(self.soon.drain(..));
        let left = unfinished(left, &self.shared.links());
        self.shared.known.leave_sought(self.shared.view.seeking());
        (left, ended)
    }

    /// Stops in order: the file in flight is finished, what was sent is acknowledged.
    pub(super) fn leave(&mut self) -> Result<(), SessionError> {
        let deadline = Instant::now() + STOP_WAIT;
        let sync = &self.shared.options.sync;
        let limited = sync.bwlimit.is_some() || !sync.bwlimit_hours.is_empty();
        while !limited && self.jobs.is_sending() && Instant::now() < deadline {
            self.step_job()?;
        }
        if !self.resumes() {
            self.abandon_jobs()?;
        }
        self.commit()?;
        let mut seen = 0;
        while !self.unacked.is_empty() && Instant::now() < deadline {
            self.look_at_answers()?;
            if self.unacked.is_empty() {
                break;
            }
            // A closed mailbox does not wait for wake-ups: this is the one place that asks again.
            self.shared.mailbox.wait_closed(&mut seen, deadline);
        }
        // Nothing new is handed over any more: what was told is done if nothing is owed.
        self.state_watermark(Instant::now(), true)?;
        self.state_cut(Instant::now())?;
        self.shared.outbox.send(&ToReceiver::Bye)?;
        Ok(self.shared.outbox.flush()?)
    }
}

/// Returns what is to be read again of changes whose fate on the target is unknown, in their order, and of
/// what `names` says is unread. Renames and deletes are left to the pass that follows a reconnect, which
/// sees no edit that kept size and time, and not that two files of equal size and time have changed places:
/// so what was changed is looked at under each name that it may have by now, and so is what was renamed, a
/// directory with everything below it.
pub(super) fn unfinished(changes: impl Iterator<Item = Change>, names: &Names) -> Vec<Change> {
    let (mut left, mut dirs) = (Waits::new(), Waits::new());
    for (seen, Change { age, kind }) in changes.enumerate() {
        // Directories that are renamed into each other double the names each time.
        if left.len() + dirs.len() > NAMES_SLACK + NAMES_PER_CHANGE * seen {
            let oldest = left.values().chain(dirs.values()).copied().fold(age, Age::join);
            return vec![Change::compare(RelPath::root(), RescanReason::Arrived, oldest)];
        }
        match kind {
            ChangeKind::Update { path, .. } => note(&mut left, path, age),
            ChangeKind::Rename { from, to, dir } => {
                follow(&mut left, &from, &to);
                follow(&mut dirs, &from, &to);
                note(if dir { &mut dirs } else { &mut left }, to, age);
            }
            ChangeKind::Rescan { path, reason } if reason.reads() => note(&mut dirs, path, age),
            _ => {}
        }
    }
    // By file: where thousands of names of one are left, each would bring all the others.
    let mut by_file = HashMap::<FileId, Age>::new();
    let at = left.iter().flat_map(|(path, age)| names.files_at(path).map(|id| (id, *age)));
    for (id, age) in at.chain(names.unread().into_iter().map(|id| (id, Age::unknown(Instant::now())))) {
        let known = by_file.entry(id).or_insert(age);
        *known = age.join(*known);
    }
    for (id, age) in by_file {
        names.of(id).into_iter().for_each(|name| note(&mut left, name, age));
    }
    let files = left.into_iter().map(|(path, age)| Change::read(path, age));
    let dirs = dirs.into_iter().map(|(path, age)| Change::compare(path, RescanReason::Arrived, age));
    files.chain(dirs).collect()
}

/// Paths, and how old what is left of each is.
type Waits = BTreeMap<RelPath, Age>;

fn note(left: &mut Waits, path: RelPath, age: Age) {
    let known = left.entry(path).or_insert(age);
    *known = age.join(*known);
}

/// Adds the names that a rename has given to what is left.
fn follow(left: &mut Waits, from: &RelPath, to: &RelPath) {
    let (low, high) = from.below_range();
    let below = left.range(low..high).chain(left.get_key_value(from));
    let moved: Vec<_> = below.filter_map(|(path, age)| Some((path.rebase(from, to)?, *age))).collect();
    moved.into_iter().for_each(|(path, age)| note(left, path, age));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Extent;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    #[test]
    fn what_was_not_acknowledged_is_looked_at_under_every_name_that_it_may_have() {
        let age = Age::believed(Instant::now());
        let update = |text: &str| ChangeKind::Update { path: path(text), scope: Extent::Absent };
        let rename = |from: &str, to: &str| ChangeKind::Rename { from: path(from), to: path(to), dir: true };
        let rename_file =
            |from: &str, to: &str| ChangeKind::Rename { from: path(from), to: path(to), dir: false };
        let kinds = [
            update("d/f"),
            rename("d", "e"),
            update("d/late"),
            rename_file("e/f", "g"),
            rename_file("swapped", "with"),
            update("linked"),
            rename("e", "x"),
        ];
        let mut names = Names::default();
        let (one, two) = (FileId { dev: 1, ino: 1 }, FileId { dev: 1, ino: 2 });
        for (id, name) in [(one, "linked"), (one, "other"), (two, "unread"), (two, "beside"), (two, "d")] {
            names.add(id, &path(name));
        }
        names.mark(two, &path("unread"), true);
        let left = unfinished(kinds.into_iter().map(|kind| Change { age, kind }), &names);
        let told = |change: &Change| {
            let path = String::from_utf8_lossy(change.kind.path().as_bytes()).into_owned();
            if matches!(change.kind, ChangeKind::Rescan { .. }) { path + "/" } else { path }
        };
        let left: Vec<String> = left.iter().map(told).collect();
        let files = ["beside", "d", "d/f", "d/late", "e/f", "g", "linked", "other", "unread", "with", "x/f"];
        assert_eq!(left, [&files[..], &["e/", "x/"]].concat());
    }

    #[test]
    fn of_thirty_thousand_names_of_one_file_each_is_looked_at_once() {
        let (age, id) = (Age::believed(Instant::now()), FileId { dev: 1, ino: 1 });
        let paths: Vec<RelPath> = (0..30_000).map(|at| path(&format!("d/{at}"))).collect();
        let mut names = Names::default();
        paths.iter().for_each(|path| names.add(id, path));
        names.mark(id, &paths[7], true);
        let left = paths.iter().map(|path| Change::read(path.clone(), age));
        // If each brought all the others, that would be 900 million.
        assert_eq!(unfinished(left, &names).len(), paths.len());
    }

    #[test]
    fn directories_that_are_renamed_into_each_other_end_in_one_comparison_of_everything() {
        let age = Age::believed(Instant::now());
        let kinds = (0..200).flat_map(|at| {
            let (one, other) = (path(&format!("a/{at}")), path(&format!("b/{at}")));
            let rename = |from: &str, to: RelPath| ChangeKind::Rename { from: path(from), to, dir: true };
            let file = ChangeKind::Update { path: path("a/f"), scope: Extent::Content };
            [file, rename("a", other), rename("b", one)]
        });
        let left = unfinished(kinds.map(|kind| Change { age, kind }), &Names::default());
        let kinds: Vec<_> = left.into_iter().map(|change| change.kind).collect();
        let all = ChangeKind::Rescan { path: RelPath::root(), reason: RescanReason::Arrived };
        assert_eq!(kinds, [all]);
    }
}
