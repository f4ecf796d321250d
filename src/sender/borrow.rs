//! What a directory beside the target holds of what that lacks: linked or copied there, not sent.

use std::sync::PoisonError;
use std::time::Instant;

use super::changes::{Done, version_of};
use super::error::SessionError;
use super::mailbox::{Lane, Parcel};
use super::recent::Sent;
use super::session::Session;
use super::shared::Borrowed;
use crate::batch::Extent;
use crate::config::Borrow;
use crate::monitor::Itemized;
use crate::protocol::{Expect, StreamId, ToReceiver};
use crate::scan::View;
use crate::tree::{Entry, Kind, RelPath};

impl Session {
    /// Has the target take what it lacks from beside it, where that is known to be the same. Whatever stops that there,
    /// the content itself is sent then.
    pub(super) fn send_borrowed(
        &mut self,
        path: &RelPath,
        entry: &Entry,
        (scope, parcel): (Extent, &Parcel),
    ) -> Result<bool, SessionError> {
        let Some(beside) = &self.shared.options.sync.beside else { return Ok(false) };
        if scope != Extent::Absent || parcel.lane != Lane::Bulk || entry.attrs.meta.kind == Kind::Dir {
            return Ok(false);
        }
        let is_file = entry.attrs.meta.kind == Kind::File;
        let links = beside.borrow == Borrow::Link;
        let borrowed = self.borrowed(path);
        let Some(Borrowed { which, entry: there, differs }) = borrowed else { return Ok(false) };
        let whole = differs.is_none() && (is_file || links) || differs == Some(Extent::Attributes) && is_file;
        // By the time of the sending it may be another one.
        let is_stale = is_file && version_of(entry) != version_of(&there) && !self.is_like(entry, &there);
        if !whole || is_stale {
            self.note_borrowed(path, Borrowed { which, entry: there, differs });
            return Ok(false);
        }
        let mut attrs = entry.attrs.clone();
        self.shared.view.adjust(&mut attrs);
        let link = links && differs.is_none();
        let expect = if is_file { version_of(&there) } else { Expect::Kind(attrs.meta.kind) };
        self.send(&ToReceiver::Borrow { path: path.clone(), which, link, attrs, expect })?;
        self.shared.status.tried(path, self.batch);
        self.touch_parent(path);
        if entry.nlink > 1 && self.shared.mask.hard_links && !self.shared.is_apart(path) {
            let sent =
                Sent { version: entry.version(), began: Instant::now(), hash: [0; 32], provisional: 0 };
            self.begin_group(path, entry, sent)?;
        }
        if differs.is_some() {
            self.itemize_borrowed(path, entry, there);
        }
        Ok(true)
    }

    /// Whether the same file is still there as was compared: by size and time, or by what a rule counts.
    fn is_like(&self, now: &Entry, there: &Entry) -> bool {
        let rules = &self.shared.rules;
        let loose = rules.size_only || !rules.modify_window.is_zero() || self.shared.mask.checksum;
        let coarse = self.shared.mask.granularity_ns > 1;
        (loose || coarse) && now.attrs.meta.size == there.attrs.meta.size
    }

    fn borrowed(&self, path: &RelPath) -> Option<Borrowed> {
        self.shared.borrowed.lock().unwrap_or_else(PoisonError::into_inner).remove(path)
    }

    fn note_borrowed(&self, path: &RelPath, borrowed: Borrowed) {
        let mut all = self.shared.borrowed.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(path.clone(), borrowed);
    }

    /// Returns what is beside the target under a path that is itemized: that is what its line is about.
    pub(super) fn beside(&self, path: &RelPath) -> Option<Box<Entry>> {
        self.shared.options.sync.beside.as_ref()?;
        self.borrowed(path).map(|borrowed| borrowed.entry)
    }

    /// Tells of what was made from beside the target, if it is not just that.
    pub(super) fn itemize_borrowed(&self, path: &RelPath, entry: &Entry, old: Box<Entry>) {
        let mut new = entry.clone();
        self.shared.view.adjust(&mut new.attrs);
        if !self.shared.monitor.itemizes() || !self.shared.mask.attrs_differ(&new.attrs, &old.attrs) {
            return;
        }
        let item = Itemized::Borrowed { path: path.clone(), new: Box::new(new), old };
        self.shared.monitor.itemized(&self.shared.about, &item);
    }

    /// Asks for the signature of what is beside the target, as the basis of a file that it lacks.
    pub(super) fn sign_beside(&mut self, stream: StreamId, path: &RelPath) -> Result<bool, SessionError> {
        let all = self.shared.borrowed.lock().unwrap_or_else(PoisonError::into_inner);
        let which = all.get(path).map(|borrowed| borrowed.which);
        drop(all);
        let Some(which) = which else { return Ok(false) };
        let asked: Done = self.send(&ToReceiver::SignBeside { stream, path: path.clone(), which });
        asked.map(|()| true)
    }
}
