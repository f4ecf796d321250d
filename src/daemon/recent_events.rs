//! The latest events of a sync, for people who ask.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::event::EventKind;
use crate::sender::Lru;
use crate::tree::RelPath;

/// The latest events, by path.
#[derive(Debug, Default)]
pub struct RecentEvents {
    latest: Mutex<Lru<(&'static str, SystemTime)>>,
}

impl RecentEvents {
    /// Notes an event.
    pub(super) fn note(&self, event: &EventKind) {
        let what = match event {
            EventKind::Modify(_) => "written to",
            EventKind::CloseWrite(_) => "closed after writing",
            EventKind::Create { .. } => "created",
            EventKind::Attrib { .. } => "its metadata changed",
            EventKind::Delete { .. } => "deleted",
            EventKind::Move { .. } => "renamed",
            EventKind::Rescan { .. } => "everything below to be compared",
        };
        let at = SystemTime::now();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let EventKind::Move { from, .. } = event {
            latest.insert(from.clone(), ("renamed away", at));
        }
        latest.insert(event.path().clone(), (what, at));
    }

    /// Returns what was heard of a path last, and when.
    pub(super) fn of(&self, path: &RelPath) -> Option<(&'static str, SystemTime)> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }
}
