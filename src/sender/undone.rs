//! What the target has not done, and what has come otherwise: looked at again.

use std::time::{Duration, Instant};

use super::session::{Renaming, Session};
use crate::batch::{Change, name_after, names_after};
use crate::event::RescanReason;
use crate::protocol::Why;
use crate::tree::{Kind, Mask, RelPath};

/// Mismatches of one path after which it counts as a Problem, within [`MISMATCH_SPAN`] or the time that
/// so many sendings take.
const MISMATCHES_MAX: u32 = 16;
/// Pause after which a file is sent again whose directory the target did not have.
const PARENT_AGAIN: Duration = Duration::from_secs(1);
/// Names that something undone may bear by now; more are not followed one by one.
const NAMES_MAX: usize = 16;
/// Paths with mismatches that are remembered for longer.
const MISMATCHED_MAX: usize = 1024;
const MISMATCH_SPAN: Duration = Duration::from_secs(10);

impl Session {
    /// Takes in that the target has not done what was sent for a path.
    pub(super) fn undone(&mut self, path: RelPath, why: Why) {
        if why == Why::NotEmpty && self.final_deletes.remove(&path).is_some() {
            // What is left there is protected by a filter, or new: the next pass knows.
            return;
        }
        if why == Why::NotEmpty && self.stands_in_the_way(&path) {
            self.fail(&path, "replace directory", libc::ENOTEMPTY, true);
            return;
        }
        let now = Instant::now();
        // What takes long to send fails as often in a longer time.
        let took = self.recent.get(&path).map_or(Duration::ZERO, |sent| sent.began.elapsed());
        let span = MISMATCH_SPAN.max(took.saturating_mul(MISMATCHES_MAX + 2));
        if self.mismatches.len() % MISMATCHED_MAX == MISMATCHED_MAX - 1 {
            self.mismatches.retain(|_, (_, first)| now.duration_since(*first) <= MISMATCH_SPAN);
        }
        let (count, first) = self.mismatches.entry(path.clone()).or_insert((0, now));
        if now.duration_since(*first) > span {
            (*count, *first) = (0, now);
        }
        *count += 1;
        let count = *count;
        let since = self.sent_since(&path);
        let renamed = self.names_of_rename(&path);
        if count > MISMATCHES_MAX {
            // From here on only the clock has it tried again; what went with it is found beside it, once.
            let errno = if why == Why::NotEmpty { libc::ENOTEMPTY } else { libc::EBUSY };
            self.fail(&path, "update", errno, true);
            if count == MISMATCHES_MAX + 1 {
                self.start_pass(path.parent().unwrap_or_default(), RescanReason::Mismatch, since);
            }
            for name in renamed.into_iter().filter(|name| *name != path) {
                self.look_again(name, RescanReason::Arrived, since);
            }
            return;
        }
        if why == Why::Torn {
            self.whole.insert(path.clone());
        }
        // What was not done may have been renamed since it was sent: its new names want a look too.
        let names = self.names_since_sent(path.clone());
        names.iter().for_each(|name| self.touch_again(name));
        if self.shared.options.live && self.has_read(&path) {
            self.follow_undone(&path, why, since);
        }
        let path = match why {
            Why::NoParent => path.parent().unwrap_or_default(),
            _ => path,
        };
        let mut names = self.names_since_sent(path);
        names.extend(renamed.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
        for name in names {
            let reason = if renamed.contains(&name) { RescanReason::Arrived } else { RescanReason::Mismatch };
            match why {
                // Whatever it is here: what stands below it there must go first, which a comparison finds.
                Why::NotEmpty if self.shared.offers(&name, false) => {
                    let top = self.missing_top(name);
                    self.start_pass(top, reason, since);
                }
                _ => self.look_again(name, reason, since),
            }
        }
    }

    /// Whether the target has a directory that holds something where the source has something else, and nobody
    /// will empty it.
    fn stands_in_the_way(&self, path: &RelPath) -> bool {
        let here = self.shared.source.entry(path, &Mask::nothing()).ok().flatten();
        !self.shared.options.sync.delete.in_passes()
            && here.is_some_and(|entry| entry.attrs.meta.kind != Kind::Dir)
    }

    /// Takes in that what was sent for a path has failed on the target.
    pub(super) fn failed(&mut self, path: &RelPath, operation: &str, errno: i32) {
        if errno == libc::EXDEV && matches!(operation, "rename" | "link") {
            // Two filesystems on the target, or two layers of one: what cannot be moved or linked is sent.
            self.shared.part(path);
            let since = self.sent_since(path);
            self.touch_again(path);
            if operation == "link" {
                // It may be there, as a file of its own.
                self.start_pass(path.clone(), RescanReason::Mismatch, since);
            } else {
                self.look_again(path.clone(), RescanReason::Mismatch, since);
            }
            return;
        }
        self.touch_again(path);
        self.fail(path, operation, errno, true);
        // Under the old name nothing is tried again.
        let since = self.sent_since(path);
        for name in self.names_since_sent(path.clone()).into_iter().filter(|name| name != path) {
            self.look_again(name, RescanReason::Problem, since);
        }
        for name in self.names_of_rename(path).into_iter().filter(|name| name != path) {
            self.look_again(name, RescanReason::Arrived, since);
        }
    }

    /// Returns where on the target may be what it holds under wrong names, if a rename from or to `path` is on
    /// its way and was not done: the new name, and the names to which later renames have taken it, or something
    /// from below it.
    fn names_of_rename(&self, path: &RelPath) -> Vec<RelPath> {
        let Some(first) = self.renames.iter().position(|rename| rename.to == *path || rename.from == *path)
        else {
            return Vec::new();
        };
        let mut names: Vec<RelPath> = Vec::new();
        for Renaming { from, to, .. } in self.renames.iter().skip(first) {
            let moved: Vec<RelPath> = names.iter().filter_map(|name| name.rebase(from, to)).collect();
            let taken = from == path || to == path || names.iter().any(|name| from.is_within(name));
            let new = moved.into_iter().chain(taken.then(|| to.clone()));
            let new: Vec<RelPath> = new.filter(|name| !names.contains(name)).collect();
            names.extend(new);
            if names.len() > NAMES_MAX {
                return vec![RelPath::root()];
            }
        }
        names
    }

    /// Has a content that the target has not taken read where a comparison would not see that it is new.
    fn follow_undone(&mut self, path: &RelPath, why: Why, since: Instant) {
        let name = name_after(path.clone(), self.unacked_renames());
        let there = self.shared.source.entry(&name, &Mask::nothing());
        match there.map(|there| there.map(|entry| entry.attrs.meta.kind)) {
            // A rename is still to be sent.
            Ok(None) => self.owe_vanished(&name, since, true),
            // Its directory may come by a rename, with what it held before.
            Ok(Some(kind)) if kind != Kind::Dir && why == Why::NoParent => {
                self.shared.feedback.again(&name, PARENT_AGAIN, since, Some(since));
            }
            _ => {}
        }
    }

    /// Returns a path and the names that what was sent for it may bear by now.
    fn names_since_sent(&self, path: RelPath) -> Vec<RelPath> {
        let names = names_after(path, self.unacked_renames(), NAMES_MAX);
        names.unwrap_or_else(|| vec![RelPath::root()])
    }

    fn unacked_renames(&self) -> impl Iterator<Item = (&RelPath, &RelPath)> {
        self.renames.iter().map(|Renaming { from, to, .. }| (from, to))
    }

    /// Has a path brought up to date whatever it is: a directory, or nothing, by a comparison.
    pub(super) fn look_again(&mut self, path: RelPath, reason: RescanReason, since: Instant) {
        let file = self.shared.source.entry(&path, &Mask::nothing()).ok().flatten();
        let kind = file.map(|entry| entry.attrs.meta.kind);
        if !self.shared.offers(&path, kind.is_none_or(|kind| kind == Kind::Dir)) {
            return;
        }
        match kind {
            Some(Kind::Dir) => self.start_pass(path, reason, since),
            None => {
                let top = self.missing_top(path);
                self.start_pass(top, reason, since);
            }
            Some(_) => {
                self.soon.push(Change::read(path, since));
            }
        }
    }

    /// Returns the highest directory at or above a path of which the source has nothing, or the path itself.
    /// As long as something is left below them on the target, its directories there do not go either.
    fn missing_top(&self, path: RelPath) -> RelPath {
        let lacks = |path: &RelPath| {
            !path.is_root() && matches!(self.shared.source.entry(path, &Mask::nothing()), Ok(None))
        };
        let above = std::iter::successors(Some(path.clone()), RelPath::parent);
        above.take_while(lacks).last().unwrap_or(path)
    }
}
