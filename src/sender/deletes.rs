//! Sending one delete, once the source has nothing under the name.

use std::sync::atomic::Ordering;

use super::error::SessionError;
use super::session::Session;
use crate::batch::Identity;
use crate::error::errno_of;
use crate::event::RescanReason;
use crate::monitor::{Counters, Itemized};
use crate::protocol::{Expect, ToReceiver};
use crate::scan;
use crate::tree::{Kind, Mask, RelPath};

impl Session {
    /// Whether what is to be deleted has made way for something of another type, which the rules leave out (as
    /// `- d/` does a directory): the target is offered nothing in its place.
    fn is_another(&self, path: &RelPath, expected: &Identity) -> bool {
        let (source, was_dir) = (&self.shared.source, expected.is_dir());
        let is_dir = source.entry(path, &Mask::nothing()).ok().flatten();
        let is_dir = is_dir.map(|entry| entry.attrs.meta.kind == Kind::Dir);
        *expected != Identity::Any
            && is_dir == Some(!was_dir)
            && self.shared.offers(path, was_dir)
            && !self.shared.offers(path, !was_dir)
            && source.is_in_place()
    }

    /// Whether a pass has found that what the target has may be deleted though the source has the same: the
    /// rules hide it (`H`, `--delete-excluded`), or it holds no file (`-m`).
    fn is_hidden(&self, path: &RelPath, expected: &Identity) -> bool {
        let source = &self.shared.source;
        let there = source.entry(path, &Mask::nothing()).ok().flatten();
        let options = self.shared.walk_options(false);
        let prunes = |is_dir| options.prune && is_dir && scan::is_hollow(&source.root(), path, &options);
        let hidden = |is_dir| self.shared.filter.excludes(path, is_dir) || prunes(is_dir);
        matches!(expected, Identity::Exactly(..))
            && there.is_some_and(|entry| hidden(entry.attrs.meta.kind == Kind::Dir))
            && source.is_in_place()
    }

    /// Takes the target for this mirror's once somebody has approved what was held of it, if the whole tree had
    /// been judged by then.
    pub(super) fn adopt_approved(&mut self) -> Result<(), SessionError> {
        let judged = self.shared.held.was_approved() && self.shared.first_pass_done.load(Ordering::Acquire);
        if judged && self.shared.strange.swap(false, Ordering::AcqRel) {
            self.shared.outbox.send(&ToReceiver::Adopt)?;
            self.shared.outbox.flush()?;
        }
        Ok(())
    }

    /// Sends a delete if the source has nothing there now; returns whether it was sent.
    pub(super) fn send_delete(&mut self, path: &RelPath, expected: &Identity) -> Result<bool, SessionError> {
        match self.shared.source.vanished_by(&mut self.gone, path) {
            Ok(true) => {}
            Ok(false) if self.is_another(path, expected) || self.is_hidden(path, expected) => {}
            // Of an exchange with a name that nobody watches, the half that takes away comes last.
            Ok(false) => {
                if self.shared.source.is_in_place() {
                    self.look_again(path.clone(), RescanReason::Mismatch, self.age);
                }
                return Ok(false);
            }
            // A symlink that leads nowhere, and is hidden whatever it would lead to.
            Err(error)
                if errno_of(&error) == libc::ENOLINK
                    && matches!(expected, Identity::Exactly(..))
                    && !self.shared.offers(path, false)
                    && !self.shared.offers(path, true) => {}
            Err(error) => {
                self.fail(path, "delete", errno_of(&error));
                return Ok(false);
            }
        }
        if self.shared.is_unmounted_above(path) || self.shared.is_beyond(path) {
            return Ok(false);
        }
        self.abandon_jobs_below(path)?;
        let expect = match expected {
            Identity::Dir(dir) => Expect::Dir(*dir),
            Identity::Any => Expect::Any,
            Identity::Exactly(kind, meta) => {
                Expect::Version { kind: *kind, size: meta.size, mtime: meta.mtime }
            }
        };
        // Where nobody knows what stood there, most likely nothing did, and nothing is to be told.
        let known = *expected != Identity::Any;
        Counters::add(&self.shared.status.counters.deletes, u64::from(known));
        self.forget_links(path);
        let keep_strangers = self.shared.options.live;
        self.send(&ToReceiver::Delete { path: path.clone(), expect, keep_strangers })?;
        if matches!(expected, Identity::Exactly(..)) {
            self.operations.note_final();
        }
        self.touch_parent(path);
        if known && self.shared.monitor.itemizes() {
            let deleted = Itemized::Deleted { path: path.clone(), kind: expected.kind() };
            self.shared.monitor.itemized(&self.shared.about, &deleted);
        }
        Ok(true)
    }
}
