//! Removing from the source what the target has (`--remove-source-files`).
//!
//! **Invariants:** it begins when everything that was sent is acknowledged, and so durable there. A name goes only if the
//! target lists the same under it: the same size and time where neither has changed since the run began, the same BLAKE3
//! of both otherwise; and only while its inode, size and times are those that were compared. Directories stay, and so does
//! whatever there is any doubt about.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Moot, Pass, PassReply};
use crate::error::errno_of;
use crate::event::{Age, RescanReason};
use crate::protocol::{PassId, ScanOptions, ToReceiver};
use crate::reconcile::{Difference, Rules, compare};
use crate::scan;
use crate::sender::session::Session;
use crate::sender::shared::Shared;
use crate::sender::source::{Removal, is_absence};
use crate::sender::status::Failure;
use crate::tree::{Entry, FileId, Kind, Mask, RelPath, Time, Version};

/// Starts the removal of what the target has from the source, on a thread of its own. `since`: when the run began.
fn start(shared: &Arc<Shared>, id: PassId, since: Age) {
    let answers = shared.begin_pass(id);
    shared.passes_running.fetch_add(1, Ordering::AcqRel);
    let mut pass = Pass::new(shared, id, RelPath::root(), (RescanReason::Request, since), answers);
    let kept = Arc::clone(shared);
    let started = std::thread::Builder::new().name("removal".to_owned()).spawn(move || {
        // A connection that ends says so itself.
        let _ = pass.remove_source_files();
        pass.shared.end_pass(pass.id);
        let _ = pass.send(&ToReceiver::EndPass { pass: pass.id });
        pass.shared.passes_running.fetch_sub(1, Ordering::AcqRel);
        pass.shared.mailbox.wake();
    });
    if started.is_err() {
        kept.end_pass(id);
        kept.passes_running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Session {
    /// Begins the removal from the source, once, if that is asked for: everything that was sent is acknowledged. Returns
    /// whether it has begun.
    pub(in crate::sender) fn begins_removal(&mut self) -> bool {
        let Some(began) = self.removes_since.take() else { return false };
        self.debts.passes_begun += 1;
        start(&self.shared, self.debts.passes_begun, Age::new(Instant::now(), began));
        true
    }
}

/// What a walk over both sides needs to know.
struct Removing {
    /// A file that changed at this time or later is hashed.
    since: Time,
    /// Paths that failed.
    failed: HashSet<RelPath>,
    /// Files of which a name was removed: that changes their change time.
    parted: HashSet<FileId>,
}

/// How long two changes may bear one change time: a tick of the kernel's clock, at most.
const TICK: Duration = Duration::from_millis(20);

/// Returns how much of the tick is left in which a file changed.
fn left_of_tick(changed: Time) -> Duration {
    let at = Duration::new(u64::try_from(changed.secs).unwrap_or(0), changed.nanos.min(999_999_999));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (at + TICK).saturating_sub(now).min(TICK)
}

impl Pass {
    /// Goes over both sides and removes from the source what the target has.
    pub(super) fn remove_source_files(&mut self) -> Result<(), Moot> {
        let options = ScanOptions { checksum: false, recursive: false };
        self.send(&ToReceiver::Scan { pass: self.id, top: RelPath::root(), options })?;
        self.flush()?;
        let PassReply::Scanned { .. } = self.reply()? else { return Err(Moot) };
        let failed = self.shared.status.problems().into_iter().map(|(path, _)| path).collect();
        let since = self.shared.source.stamp(self.age.change);
        let mut removing = Removing { since, failed, parted: HashSet::new() };
        let mut waiting = VecDeque::from([RelPath::root()]);
        while let Some(dir) = waiting.pop_front() {
            waiting.extend(self.remove_in(&dir, &mut removing)?);
        }
        Ok(())
    }

    /// Removes what one directory holds, and returns the directories in it.
    fn remove_in(&mut self, dir: &RelPath, removing: &mut Removing) -> Result<Vec<RelPath>, Moot> {
        self.send(&ToReceiver::List { pass: self.id, dir: dir.clone() })?;
        self.flush()?;
        let theirs = self.listing(dir)?;
        let shared = Arc::clone(&self.shared);
        let selection = &shared.options.sync.selection;
        let ours = match (&selection.files_from, selection.is_one_path()) {
            // It may have another name here.
            (Some(listed), true) => listed
                .iter()
                .filter(|one| one.path.parent().as_ref() == Some(dir))
                .filter_map(|one| shared.source.entry(&one.path, &self.options.mask).ok().flatten())
                .collect(),
            _ => scan::list(&shared.source.root(), dir, &self.options, &shared.view)
                .map(|found| found.entries)
                .unwrap_or_default(),
        };
        let rules = Rules { whole: true, modify_window: selection.modify_window, ..Rules::default() };
        let mut below = Vec::new();
        for entry in ours {
            let path = dir.join(&entry.name);
            if !selection.lists(&path) {
                continue;
            }
            if entry.attrs.meta.kind == Kind::Dir {
                let enters = !scan::stops_at(&shared.source.root(), &self.options, &entry);
                below.extend(enters.then_some(path));
                continue;
            }
            let Ok(at) = theirs.binary_search_by(|other| other.name.cmp(&entry.name)) else { continue };
            let Some(there) = theirs.get(at) else { continue };
            if self.is_there(&path, (&entry, there), &rules, removing)? && !removing.failed.contains(&path) {
                self.remove_one(&path, &entry, removing);
            }
        }
        Ok(below)
    }

    /// Whether the target has what stands at a path.
    fn is_there(
        &self,
        path: &RelPath,
        (ours, theirs): (&Entry, &Entry),
        rules: &Rules,
        removing: &Removing,
    ) -> Result<bool, Moot> {
        let meta = &ours.attrs.meta;
        let sync = &self.shared.options.sync;
        let pair = [std::slice::from_ref(ours), std::slice::from_ref(theirs)];
        let found = compare(pair[0], pair[1], &self.options.mask, rules);
        if meta.kind != Kind::File {
            return Ok(found.is_empty());
        }
        if theirs.attrs.meta.kind != Kind::File
            || meta.size != theirs.attrs.meta.size
            || !sync.selection.sends_size(meta.size)
        {
            return Ok(false);
        }
        let alike = found.iter().all(|one| matches!(one, Difference::Alike(..)));
        let settled = ours.ctime < removing.since && !sync.selection.size_only;
        if alike && settled && self.options.mask.times {
            return Ok(true);
        }
        // A write after this one gets another change time.
        std::thread::sleep(left_of_tick(ours.ctime));
        let now = self.shared.source.entry(path, &Mask::nothing()).ok().flatten();
        let parted = removing.parted.contains(&ours.id);
        let is_same = |now: Entry| {
            let (now, seen) = (now.version(), ours.version());
            now == seen || parted && Version { ctime: seen.ctime, ..now } == seen
        };
        if !now.is_some_and(is_same) {
            return Ok(false);
        }
        self.send(&ToReceiver::Hash { pass: self.id, path: path.clone() })?;
        self.flush()?;
        let here = self.shared.source.hash(path).ok();
        let PassReply::Hashed(there) = self.reply()? else { return Err(Moot) };
        Ok(here.is_some() && here == there)
    }

    fn remove_one(&mut self, path: &RelPath, entry: &Entry, removing: &mut Removing) {
        let parted = removing.parted.contains(&entry.id);
        let errno = match self.shared.source.remove(path, entry, parted) {
            Ok(Removal::Done) => {
                removing.parted.insert(entry.id);
                return;
            }
            Ok(Removal::Changed) => libc::EBUSY,
            Err(error) if is_absence(&error) => return,
            Err(error) => errno_of(&error),
        };
        let failure = Failure {
            operation: "remove",
            errno,
            on_target: false,
            unseen: false,
            age: Age::believed(Instant::now()),
            need: None,
        };
        self.shared.problem(path, failure);
    }
}
