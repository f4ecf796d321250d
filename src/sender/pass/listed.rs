//! Directories that both sides list: held against each other as the target's pieces come.

use super::aligned::{Aligned, Pair};
use super::{Moot, Pass, Task};
use crate::error::errno_of;
use crate::protocol::Listing;
use crate::scan;
use crate::sender::replies::PassReply;
use crate::sender::source::is_absence;
use crate::tree::{Entry, RelPath};

/// Most entries of one directory that a target may list.
pub(super) const LISTING_MAX: usize = 4_000_000;

/// A piece of the target's listing, and whether it is the last one.
type Piece = (Vec<Entry>, bool);

impl Pass {
    /// Takes in one listing as a whole.
    pub(super) fn listing(&mut self, dir: &RelPath) -> Result<Vec<Entry>, Moot> {
        let mut entries = Vec::new();
        loop {
            let (piece, last) = self.piece(dir, entries.len())?;
            entries.extend(piece);
            if last {
                // The order is what the comparison stands on; the receiver is not trusted with it.
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                return Ok(entries);
            }
        }
    }

    /// Takes in the next piece of a listing of which `so_far` entries have come.
    fn piece(&mut self, dir: &RelPath, so_far: usize) -> Result<Piece, Moot> {
        let PassReply::Listing(Listing { dir: of, entries: mut piece, last, errno, .. }) = self.reply()?
        else {
            return Err(Moot);
        };
        if of != *dir {
            return Err(Moot);
        }
        if errno != 0 && !is_absence(&std::io::Error::from_raw_os_error(errno)) {
            self.unreadable(dir, errno, true);
            self.staying.insert(dir.clone());
            self.stays(dir);
        }
        if so_far + piece.len() > LISTING_MAX {
            self.unreadable(dir, libc::E2BIG, true);
            return Err(Moot);
        }
        piece.retain(|entry| crate::tree::check_name(&entry.name).is_ok());
        Ok((piece, last))
    }

    /// Compares a directory, and returns how many entries the target has there and what must be looked at next.
    pub(super) fn compare_dir(
        &mut self,
        dir: &RelPath,
        task: &Task,
    ) -> Result<(usize, Vec<(RelPath, Task)>), Moot> {
        // The target has read its names by then: what it has that the source lacks is no newer than the source.
        let (mut piece, mut last) = self.piece(dir, 0)?;
        let (mut count, mut tasks) = (piece.len(), Vec::new());
        let shared = std::sync::Arc::clone(&self.shared);
        let (options, root) = (self.options.clone(), shared.source.root());
        let ours = match task {
            Task::Empty => None,
            _ => match scan::entries(&root, dir, &options, &shared.view) {
                Ok(ours) => Some(ours),
                Err(error) => {
                    // Gone since: the event that says so has come or will. Else nothing is known of what is
                    // below, and nothing may go.
                    if !is_absence(&error) {
                        self.unreadable(dir, errno_of(&error), false);
                    }
                    while !last {
                        (piece, last) = self.piece(dir, count)?;
                        count += piece.len();
                    }
                    return Ok((count, tasks));
                }
            },
        };
        let mut ours = ours.map(Aligned::new);
        self.agreement.begin();
        loop {
            match &mut ours {
                None => {
                    for entry in &piece {
                        tasks.extend(self.extra(&dir.join(&entry.name), entry, true)?);
                    }
                }
                Some(ours) => {
                    let Some(pairs) = ours.pairs(piece, last) else {
                        self.unreadable(dir, libc::EPROTO, true);
                        return Err(Moot);
                    };
                    for pair in pairs {
                        tasks.extend(self.compare_pair(dir, task, pair)?);
                    }
                }
            }
            if last {
                break;
            }
            (piece, last) = self.piece(dir, count)?;
            count += piece.len();
        }
        if ours.is_some() {
            self.agree(dir.clone())?;
        }
        Ok((count, tasks))
    }

    fn compare_pair(&mut self, dir: &RelPath, task: &Task, pair: Pair) -> Result<Vec<(RelPath, Task)>, Moot> {
        let Pair { ours: mut entries, mut theirs, unknown } = pair;
        for entry in &mut entries {
            entry.digest = self.digest_of(&dir.join(&entry.name), entry);
        }
        theirs.retain(|entry| {
            let whole = !unknown.contains(&entry.name)
                && (!matches!(task, Task::Keep)
                    || entries.binary_search_by(|ours| ours.name.cmp(&entry.name)).is_ok());
            if !whole {
                self.agreement.leaves(&entry.name);
            }
            whole
        });
        self.differences(Some(dir), &entries, &theirs)
    }
}
