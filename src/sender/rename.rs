//! Renames: what the target holds under the old name gets the new one, where that is right.

use std::collections::VecDeque;

use super::changes::{Done, version_of};
use super::mailbox::{Lane, Parcel};
use super::session::Session;
use crate::batch::{Change, ChangeKind, Identity};
use crate::event::{Age, RescanReason};
use crate::monitor::{Counters, Itemized};
use crate::protocol::{Expect, ToReceiver};
use crate::tree::{Kind, Mask, RelPath};

impl Session {
    /// Sends a rename, or has both names compared.
    pub(super) fn send_move(&mut self, (from, to): (RelPath, RelPath), dir: bool, parcel: Parcel) -> Done {
        // A rename never crosses filesystems: both names lie on the other one.
        if self.shared.is_beyond(&to) {
            return Ok(());
        }
        // Neither what the target keeps of its own nor what is left out is to move along.
        let parts = dir && !self.shared.filter.is_same_below(&from, &to);
        if parcel.lane == Lane::Live
            && (parts || self.shared.rules.selects() || self.shared.options.sync.selection.limits_size())
        {
            self.send_move_by_rules(&from, to, dir, parcel)?;
        } else if parts {
            self.look_at_both(from, to);
        } else if parcel.lane == Lane::Live || self.still_moved(&from, &to) {
            self.send_rename(&from, &to, dir, parcel.lane)?;
            self.keep(parcel);
        }
        Ok(())
    }

    /// Returns which of the changes that come next is the second half of an exchange, if `there` is the first:
    /// events tell of it as of `mv a b; mv b a`, but then both names are there.
    pub(super) fn exchanged(&self, there: &Parcel, next: &VecDeque<Parcel>) -> Option<usize> {
        let ChangeKind::Rename { from, to, .. } = &there.change.kind else { return None };
        // The watch asks for comparisons of both names between.
        let at = next.iter().position(|parcel| !matches!(parcel.change.kind, ChangeKind::Rescan { .. }))?;
        let back = next.get(at)?;
        let ChangeKind::Rename { from: second, to: first, .. } = &back.change.kind else { return None };
        let source = &self.shared.source;
        let exists = |path: &RelPath| matches!(source.entry(path, &Mask::nothing()), Ok(Some(_)));
        let live = there.lane == Lane::Live && back.lane == Lane::Live;
        (live && (from, to) == (first, second) && exists(from) && exists(to)).then_some(at)
    }

    /// Has both names of an exchange read: of the two renames the first would take one of them away from the
    /// target.
    pub(super) fn read_exchanged(&mut self, mut parcels: [Parcel; 2]) {
        for parcel in &mut parcels {
            self.take_over(parcel);
            let (name, age) = (parcel.change.kind.path().clone(), parcel.change.age);
            self.touch_again(&name);
            self.look_again(name, RescanReason::Arrived, age);
        }
    }

    /// Whether a move that a pass has found holds now; if not, both names are looked at anew.
    fn still_moved(&mut self, from: &RelPath, to: &RelPath) -> bool {
        let there = self.shared.source.entry(to, &Mask::nothing()).is_ok_and(|entry| entry.is_some());
        let holds = there && self.shared.source.vanished(from).unwrap_or(false);
        if !holds {
            self.look_at_both(from.clone(), to.clone());
        }
        holds
    }

    /// Has both names of a rename that is not done brought up to date.
    fn look_at_both(&mut self, from: RelPath, to: RelPath) {
        self.look_again(from, RescanReason::Mismatch, self.age);
        self.look_again(to, RescanReason::Mismatch, self.age);
    }

    /// Follows a rename where options choose what the target takes, or rules what is left out: the old name
    /// goes, and what comes of the new one is found by a comparison.
    fn send_move_by_rules(&mut self, from: &RelPath, to: RelPath, dir: bool, mut parcel: Parcel) -> Done {
        // Nothing need be sent for either name: the times of their directories have changed all the same.
        self.touch_again(from);
        self.touch_again(&to);
        // What stood at the new name may have the sizes and times of what came there.
        self.start_pass(to, RescanReason::Arrived, parcel.change.age);
        if self.shared.options.sync.delete.live() {
            let expected = Identity::Dir(dir);
            self.send_delete(from, &expected)?;
            parcel.change.kind = ChangeKind::Delete { path: from.clone(), expected };
            self.keep(parcel);
        }
        Ok(())
    }

    fn send_rename(&mut self, from: &RelPath, to: &RelPath, dir: bool, lane: Lane) -> Done {
        let (ended, anew) = self.jobs.rename(from, to);
        self.soon.extend(anew);
        for stream in ended {
            self.send(&ToReceiver::Abandon { stream })?;
        }
        let now = self.shared.source.entry(to, &self.shared.mask).ok().flatten();
        // Of what is there by now the new name may have been sent ahead; what follows it takes that away.
        let ahead = now.as_ref().filter(|entry| entry.nlink > 1 && self.shared.mask.hard_links);
        let ahead = ahead.is_some_and(|entry| self.shared.links().has(entry.id, to));
        let moved = self.recent.rename(from, to);
        self.rename_links(from, to);
        self.shared.status.rename(from, to);
        if now.is_some() {
            self.shared.held.is_back(to);
        }
        self.shared.held.rename(from, to);
        let (reads, change) = self.follow_rename(from, to, dir);
        let expect = match &now {
            Some(entry) if !dir && entry.attrs.meta.kind == Kind::File => version_of(entry),
            _ => Expect::Dir(dir),
        };
        Counters::add(&self.shared.status.counters.renames, 1);
        self.send(&ToReceiver::Rename { from: from.clone(), to: to.clone(), expect })?;
        self.touch_parent(from);
        self.touch_parent(to);
        if self.shared.monitor.itemizes() {
            let renamed = Itemized::Renamed { from: from.clone(), to: to.clone() };
            self.shared.monitor.itemized(&self.shared.about, &renamed);
        }
        let Some(entry) = now else { return Ok(()) };
        // What was sent under the old name just before it was moved may have been the next file of that
        // name already: then the new name needs its own content. Who has a provisional version read again
        // may know the old name alone.
        let mut again: Vec<RelPath> = ahead.then(|| to.clone()).into_iter().collect();
        for (path, sent) in moved {
            let there = self.shared.source.entry(&path, &Mask::nothing()).ok().flatten();
            if there.is_some_and(|there| there.id != sent.version.id || sent.provisional > 0) {
                again.push(path);
            }
        }
        let age = self.age;
        self.soon.extend(again.into_iter().map(|path| Change::read(path, age)));
        if entry.attrs.meta.kind == Kind::Dir && !self.shared.options.dry_run {
            let reason = if reads { RescanReason::Arrived } else { RescanReason::Moved };
            // What changed below it has events of its own, unless a comparison was to find it.
            self.start_pass(to.clone(), reason, Age { change, ..self.age });
        } else if entry.attrs.meta.kind == Kind::File && lane == Lane::Live {
            self.send_attrs(to, entry)?;
        }
        Ok(())
    }
}
