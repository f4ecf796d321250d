//! What the target has not done, and what has come otherwise: looked at again.

use std::time::{Duration, Instant};

use super::changes::Done;
use super::operations::Answered;
use super::session::Session;
use crate::batch::Change;
use crate::event::{Age, RescanReason};
use crate::protocol::Why;
use crate::tree::{Kind, Mask, RelPath};

/// Mismatches of one path after which it counts as a Problem, within [`MISMATCH_SPAN`] or the time that
/// so many sendings take.
const MISMATCHES_MAX: u32 = 16;
/// Pause after which a file is sent again whose directory the target did not have.
const PARENT_AGAIN: Duration = Duration::from_secs(1);
/// Paths with mismatches that are remembered for longer.
const MISMATCHED_MAX: usize = 1024;
const MISMATCH_SPAN: Duration = Duration::from_secs(10);

impl Session {
    /// Takes in that the target has not done what was sent.
    pub(super) fn undone(&mut self, answered: &Answered, why: Why) -> Done {
        if why == Why::NotEmpty && self.operations.take_final(answered) {
            // What is left there is protected by a filter, or new: the next pass knows.
            return Ok(());
        }
        let age = self.age_sent(&answered.path);
        let path = self.operations.name(answered);
        if why == Why::NotEmpty && self.stands_in_the_way(&path) {
            self.fail_there(&path, "replace directory", libc::ENOTEMPTY, age);
            return Ok(());
        }
        let renamed = self.operations.names_of_rename(answered);
        self.end_streams_of(&renamed)?;
        let count = self.count_mismatch(&path);
        if count > MISMATCHES_MAX {
            // From here on only the clock has it tried again; what went with it is found beside it, once.
            let errno = if why == Why::NotEmpty { libc::ENOTEMPTY } else { libc::EBUSY };
            self.fail_there(&path, "update", errno, age);
            if count == MISMATCHES_MAX + 1 {
                self.start_pass(path.parent().unwrap_or_default(), RescanReason::Mismatch, age);
            }
            for name in renamed.into_iter().filter(|name| *name != path) {
                self.look_again(name, RescanReason::Arrived, age);
            }
            return Ok(());
        }
        if why == Why::Torn {
            self.whole.insert(path.clone());
        }
        // What was not done may have been renamed since it was sent: its new names want a look too.
        self.touch_answered(answered);
        if self.shared.options.live && self.has_read(&answered.path) {
            self.follow_undone(answered, why, age);
        }
        let mut names = match why {
            Why::NoParent => self.operations.names(&answered.parent()),
            _ => self.operations.names(answered),
        };
        names.extend(renamed.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
        for name in names {
            let reason = if renamed.contains(&name) { RescanReason::Arrived } else { RescanReason::Mismatch };
            match why {
                // Whatever it is here: what stands below it there must go first, which a comparison finds.
                Why::NotEmpty if self.shared.offers(&name, false) => {
                    let top = self.missing_top(name);
                    self.start_pass(top, reason, age);
                }
                _ => self.look_again(name, reason, age),
            }
        }
        Ok(())
    }

    /// Ends the large files that are in flight below a directory whose rename was not done: their streams
    /// would put them where they were begun, under the old name. They are sent again under the new one.
    fn end_streams_of(&mut self, renamed: &[RelPath]) -> Done {
        for name in renamed {
            for change in self.abandon_jobs_below(name)? {
                // The comparison that follows makes the directory and brings what is in it.
                let Change { age, kind } = change;
                self.shared.feedback.again(kind.path(), PARENT_AGAIN, age.since, (age, true));
            }
        }
        Ok(())
    }

    /// Counts a mismatch of a path; returns how many it has had lately.
    fn count_mismatch(&mut self, path: &RelPath) -> u32 {
        let now = Instant::now();
        // What takes long to send fails as often in a longer time.
        let took = self.recent.get(path).map_or(Duration::ZERO, |sent| sent.began.elapsed());
        let span = MISMATCH_SPAN.max(took.saturating_mul(MISMATCHES_MAX + 2));
        if self.mismatches.len() % MISMATCHED_MAX == MISMATCHED_MAX - 1 {
            self.mismatches.retain(|_, (_, first)| now.duration_since(*first) <= MISMATCH_SPAN);
        }
        let (count, first) = self.mismatches.entry(path.clone()).or_insert((0, now));
        if now.duration_since(*first) > span {
            (*count, *first) = (0, now);
        }
        *count += 1;
        *count
    }

    /// Whether the target has a directory that holds something where the source has something else, and nobody
    /// will empty it.
    fn stands_in_the_way(&self, path: &RelPath) -> bool {
        let here = self.shared.source.entry(path, &Mask::nothing()).ok().flatten();
        !self.shared.options.sync.delete.in_passes()
            && here.is_some_and(|entry| entry.attrs.meta.kind != Kind::Dir)
    }

    /// Takes in that what was sent has failed on the target.
    pub(super) fn failed(&mut self, answered: &Answered, operation: &str, errno: i32) -> Done {
        let age = self.age_sent(&answered.path);
        let path = self.operations.name(answered);
        let renamed = self.operations.names_of_rename(answered);
        self.end_streams_of(&renamed)?;
        self.touch_answered(answered);
        if errno == libc::EXDEV && matches!(operation, "rename" | "link") {
            // Two filesystems on the target, or two layers of one: what cannot be moved or linked is sent.
            self.shared.part(&path);
            if operation == "link" {
                // It may be there, as a file of its own.
                self.start_pass(path, RescanReason::Mismatch, age);
            } else {
                self.look_again(path, RescanReason::Mismatch, age);
            }
            return Ok(());
        }
        self.fail_there(&path, operation, errno, age);
        // Under the old name nothing is tried again.
        for name in self.operations.names(answered).into_iter().filter(|name| *name != path) {
            self.look_again(name, RescanReason::Problem, age);
        }
        for name in renamed.into_iter().filter(|name| *name != path) {
            self.look_again(name, RescanReason::Arrived, age);
        }
        Ok(())
    }

    /// Has the times of the directories set in which the target has not done what was sent.
    fn touch_answered(&mut self, answered: &Answered) {
        self.operations.names(answered).iter().for_each(|name| self.touch_again(name));
        // What was begun came and went in the directory under which it was sent, whatever that is called now.
        // The root's own time is not sent again for itself: where it cannot be set, that has no end.
        if answered.path.parent().is_some() {
            let dir = self.operations.name(&answered.parent());
            self.touched.insert(dir);
        }
    }

    /// Has a content that the target has not taken read where a comparison would not see that it is new.
    fn follow_undone(&mut self, answered: &Answered, why: Why, age: Age) {
        let name = self.operations.last_name(answered);
        let there = self.shared.source.entry(&name, &Mask::nothing());
        match there.map(|there| there.map(|entry| entry.attrs.meta.kind)) {
            // A rename is still to be sent.
            Ok(None) => self.owe_vanished(&name, age, true),
            // Its directory may come by a rename, with what it held before.
            Ok(Some(kind)) if kind != Kind::Dir && why == Why::NoParent => {
                self.shared.feedback.again(&name, PARENT_AGAIN, age.since, (age, true));
            }
            _ => {}
        }
    }

    /// Has a path brought up to date whatever it is: a directory, or nothing, by a comparison.
    pub(super) fn look_again(&mut self, path: RelPath, reason: RescanReason, age: Age) {
        let file = self.shared.source.entry(&path, &Mask::nothing()).ok().flatten();
        let kind = file.map(|entry| entry.attrs.meta.kind);
        if !self.shared.offers(&path, kind.is_none_or(|kind| kind == Kind::Dir)) {
            return;
        }
        match kind {
            Some(Kind::Dir) => self.start_pass(path, reason, age),
            None => {
                let top = self.missing_top(path);
                self.start_pass(top, reason, age);
            }
            Some(_) => {
                self.soon.push(Change::read(path, age));
            }
        }
    }

    /// Returns the highest directory at or above a path of which the source has nothing, or the path itself.
    /// As long as something is left below them on the target, its directories there do not go either.
    fn missing_top(&self, path: RelPath) -> RelPath {
        let lacks = |path: &RelPath| {
            !path.is_root() && matches!(self.shared.source.entry(path, &Mask::nothing()), Ok(None))
        };
        if !lacks(&path) {
            return path;
        }
        // Below what is missing everything is: a path may be ten thousand directories deep.
        let bytes = path.as_bytes();
        let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'/').collect();
        let above = |at: usize| RelPath::new(&bytes[..at]).unwrap_or_default();
        let first = ends.partition_point(|at| !lacks(&above(*at)));
        ends.get(first).map_or(path.clone(), |at| above(*at))
    }
}
