//! What the target has and the source lacks.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::held::first_of;
use super::super::status::Failure;
use super::{Moot, Pass, Task};
use crate::batch::{Change, ChangeKind, Identity};
use crate::event::{Age, RescanReason};
use crate::monitor::Notice;
use crate::protocol::ToReceiver;
use crate::reconcile::{Count, Doubt, Facts, Verdict, in_rsyncs_order, judge};
use crate::tree::{Entry, Kind, RelPath};

impl Pass {
    /// Notes that the source lacks an entry; a directory is to be emptied first. `removed` says that the
    /// directory that holds it is to be deleted as well.
    pub(super) fn extra(
        &mut self,
        path: &RelPath,
        entry: &Entry,
        removed: bool,
    ) -> Result<Vec<(RelPath, Task)>, Moot> {
        if !self.deletes(removed) {
            return Ok(Vec::new());
        }
        let (meta, filter) = (&entry.attrs.meta, &self.options.filter);
        let is_dir = meta.kind == Kind::Dir;
        let protected = match removed {
            true => filter.protects_entry_of_removed(path, is_dir),
            false => filter.protects_entry(path, is_dir),
        };
        if protected || self.is_mount(entry) {
            self.stays(path);
            return Ok(Vec::new());
        }
        if self.unmounted.iter().any(|lost| path.is_within(lost) || lost.is_within(path)) {
            return Ok(Vec::new());
        }
        let apart = self.shared.is_apart(path);
        if !apart && self.moves.as_mut().is_some_and(|moves| moves.offer(path, entry)) {
            return Ok(Vec::new());
        }
        let kind = ChangeKind::Delete {
            path: path.clone(),
            expected: Identity::Exactly(meta.kind, Box::new(meta.clone())),
        };
        self.deletes.push(Change { age: self.age, kind });
        Ok(if is_dir { vec![(path.clone(), Task::Empty)] } else { Vec::new() })
    }

    /// Whether what the source lacks is removed; `removed`: in a directory that gives way.
    pub(super) fn deletes(&self, removed: bool) -> bool {
        let sync = &self.shared.options.sync;
        sync.delete.in_passes() || removed && sync.selection.force
    }

    /// Whether an entry of the target is a directory that the target's walk has not entered, since it lies on
    /// another filesystem than the target's root (`-x`). One that came since the walk counts as one as well:
    /// it waits for the next pass.
    pub(super) fn is_mount(&self, entry: &Entry) -> bool {
        let options = &self.options;
        let walks = options.one_file_system && options.recursive;
        walks && entry.attrs.meta.kind == Kind::Dir && entry.digest.is_none()
    }

    /// Notes that an entry stays on the target, and so do the directories that hold it.
    pub(super) fn stays(&mut self, path: &RelPath) {
        let above = std::iter::successors(path.parent(), RelPath::parent);
        for dir in above.take_while(|dir| !dir.is_root()) {
            if !self.staying.insert(dir) {
                break;
            }
        }
    }

    /// Judges the deletes as one burst, and sends or holds them.
    pub(super) fn send_deletes(&mut self, target_entries: u64) -> Result<(), Moot> {
        let mut deletes = std::mem::take(&mut self.deletes);
        let options = &self.shared.options;
        let beside_itself = options.sync.backup.as_ref().is_some_and(|backup| backup.dir.is_none());
        if beside_itself && !options.dry_run {
            // What is kept beside itself stays in its directory. A dry run of rsync's does not think of that.
            let kept = deletes.iter().filter(|change| !is_of_dir(change));
            kept.map(|change| change.kind.path().clone())
                .collect::<Vec<_>>()
                .iter()
                .for_each(|path| self.stays(path));
        }
        // Children before their parents.
        deletes.sort_by(|a, b| b.kind.path().cmp(a.kind.path()));
        for dir in deletes.extract_if(.., |change| self.staying.contains(change.kind.path())) {
            self.shared.notice(&Notice::Stays { path: dir.kind.path().clone() });
        }
        let staying = std::mem::take(&mut self.staying);
        self.leave_in_the_way(|path| staying.contains(path));
        // What is held stays held until somebody approves or dismisses it, whatever came to the tree meanwhile.
        let adopts = self.shared.leading.adopts();
        let held = (!adopts).then(|| self.shared.held.held_already(&mut deletes));
        let (mut again, before) = held.unwrap_or_default();
        let verdict = match deletes.len() {
            0 => Verdict::Go,
            count => match self.facts(count, target_entries) {
                // Everything that goes is kept aside.
                facts if self.shared.leading.adopts() && facts.doubt.is_none() => Verdict::Go,
                facts => judge(&self.shared.options.sync.guard, &facts),
            },
        };
        match verdict {
            Verdict::Go => {}
            Verdict::Hold(reason) => {
                let all = std::mem::take(&mut deletes).into_iter().chain(again.drain(..));
                self.hold_rest(all.collect(), reason.to_string());
            }
            Verdict::Unknown => {
                // It counts, and judges the same deletes.
                let age = Age::believed(self.age.since);
                return self.push(Change::compare(RelPath::root(), RescanReason::Mismatch, age));
            }
            Verdict::Part(most, reason) => {
                deletes = in_rsyncs_order(deletes, is_of_dir);
                let rest = deletes.split_off(most.min(deletes.len()));
                self.hold_rest(rest, reason.to_string());
            }
        }
        if !again.is_empty() {
            self.hold_rest(again, before);
        }
        if !deletes.is_empty() {
            self.summary.deletes = deletes.len() as u64;
            self.shared.status.went(deletes.len(), Instant::now());
            for change in deletes {
                self.push(change)?;
            }
        }
        if self.top.is_root() {
            if self.summary.held == 0 {
                self.shared.held.take();
            }
            let options = &self.shared.options;
            let keeps = options.live && !options.dry_run;
            if self.summary.held == 0 && self.shared.strange.swap(false, Ordering::AcqRel) && keeps {
                self.send(&ToReceiver::Adopt)?;
            }
        }
        for change in std::mem::take(&mut self.after_deletes) {
            self.push(change)?;
        }
        Ok(())
    }

    /// Holds deletes, and gives up what they are in the way of.
    fn hold_rest(&mut self, deletes: Vec<Change>, reason: String) {
        let full: BTreeSet<RelPath> = deletes
            .iter()
            .flat_map(|held| std::iter::successors(Some(held.kind.path().clone()), RelPath::parent))
            .collect();
        self.leave_in_the_way(|path| full.contains(path));
        let (count, first) = (deletes.len() as u64, first_of(&deletes));
        self.summary.held = count;
        if self.shared.held.hold(&self.top, reason.clone(), deletes) {
            self.shared.notice(&Notice::Held { count, reason, first });
        }
    }

    /// Tells of a directory that holds something and stays, where something else was to be.
    pub(super) fn is_in_the_way(&self, path: &RelPath) {
        let (operation, errno) = ("replace", libc::ENOTEMPTY);
        let failure = Failure { operation, errno, on_target: true, unseen: false, age: self.age, need: None };
        self.shared.problem(path, failure);
    }

    /// Gives up what is to take the place of directories that are not emptied.
    fn leave_in_the_way(&mut self, is_full: impl Fn(&RelPath) -> bool) {
        let (full, rest) = std::mem::take(&mut self.after_deletes)
            .into_iter()
            .partition(|change| is_full(change.kind.path()));
        self.after_deletes = rest;
        let full: Vec<Change> = full;
        full.iter().for_each(|change| self.is_in_the_way(change.kind.path()));
    }

    /// Gathers what the guard judges by.
    fn facts(&self, deletes: usize, target_entries: u64) -> Facts {
        let options = &self.shared.options;
        let doubt = if !self.shared.source.is_in_place() {
            Some(Doubt::RootReplaced)
        } else if self.root_unmounted {
            Some(Doubt::RootUnmounted)
        } else if options.live && self.shared.strange.load(Ordering::Acquire) {
            Some(Doubt::NewTarget)
        } else {
            None
        };
        let all = usize::try_from(target_entries).unwrap_or(usize::MAX);
        let known = self.shared.status.population(Instant::now());
        let (tree, empties_root) = if self.top.is_root() {
            (Count::exactly(all, known.peak), self.emptied || self.summary.entries == 0)
        } else {
            // The whole tree is judged, of which this is a part.
            (known, self.shared.source.is_empty())
        };
        Facts { deletes, tree, empties_root, doubt, in_part: !options.live }
    }
}

fn is_of_dir(change: &Change) -> bool {
    matches!(&change.kind, ChangeKind::Delete { expected, .. } if expected.is_dir())
}
