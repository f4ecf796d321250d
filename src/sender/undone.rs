//! What the target has not done, and what has come otherwise: looked at again.

use std::time::{Duration, Instant};

use super::debts::names_after;
use super::session::{Renaming, Session};
use crate::batch::{Change, ChangeKind, Scope};
use crate::event::RescanReason;
use crate::protocol::Why;
use crate::tree::{Kind, Mask, RelPath};

/// Mismatches of one path after which it counts as a Problem, within [`MISMATCH_SPAN`] or the time that
/// so many sendings take.
const MISMATCHES_MAX: u32 = 16;
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
        if *count > MISMATCHES_MAX {
            let errno = if why == Why::NotEmpty { libc::ENOTEMPTY } else { libc::EBUSY };
            self.fail(&path, "update", errno, true);
            return;
        }
        let since = self.sent_since(&path);
        if why == Why::Torn {
            self.whole.insert(path.clone());
        }
        // What was not done may have been renamed since it was sent: its new names want a look too.
        let renames: Vec<_> =
            self.renames.iter().map(|Renaming { from, to, .. }| (from.clone(), to.clone())).collect();
        let names_of = |path| names_after(path, renames.iter().map(|(from, to)| (from, to)), NAMES_MAX);
        for name in names_of(path.clone()) {
            self.touch_again(&name);
        }
        let path = match why {
            Why::NoParent => path.parent().unwrap_or_default(),
            _ => path,
        };
        for name in names_of(path) {
            match why {
                // Whatever it is here: what stands below it there must go first, which a comparison finds.
                Why::NotEmpty if self.shared.offers(&name, false) => {
                    self.start_pass(name, RescanReason::Mismatch, since);
                }
                _ => self.look_again(name, RescanReason::Mismatch, since),
            }
        }
    }

    /// Has a path brought up to date whatever it is: a directory, or nothing, by a comparison.
    pub(super) fn look_again(&mut self, path: RelPath, reason: RescanReason, since: Instant) {
        let file = self.shared.source.entry(&path, &Mask::nothing()).ok().flatten();
        let kind = file.map(|entry| entry.attrs.meta.kind);
        if !self.shared.offers(&path, kind.is_none_or(|kind| kind == Kind::Dir)) {
            return;
        }
        match kind {
            Some(Kind::Dir) | None => self.start_pass(path, reason, since),
            Some(_) => {
                let kind = ChangeKind::Update { path, scope: Scope::Content };
                self.shared.mailbox.push_live([Change { since, kind }]);
            }
        }
    }
}
