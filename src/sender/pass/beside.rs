//! Directories beside the target that may hold what it lacks: `--link-dest` and its kin.
//!
//! **Invariants:** they are walked when the first thing is missing, and not before; a directory that has the digest of the
//! source's is not listed, since everything in it is known to be equal.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Receiver;

use super::{Moot, Pass, PassReply};
use crate::batch::Extent;
use crate::config::Borrow;
use crate::monitor::Notice;
use crate::protocol::{Listing, PassId, ScanOptions, ToReceiver};
use crate::reconcile::{Difference, Rules, compare};
use crate::sender::shared::Borrowed;
use crate::tree::{Entry, Kind, RelPath, quote};

/// Listings that are remembered of each directory.
const LISTS_MAX: usize = 256;
/// Passes for each pass of the session.
const IDS: PassId = 32;

/// What is known of one directory below one beside the target.
#[derive(Clone)]
enum DirBeside {
    /// It holds what the source's holds.
    Equal,
    /// It is not there.
    Absent,
    /// It holds this, in the order of the names.
    Holds(Arc<Vec<Entry>>),
}

/// One directory beside the target.
struct Side {
    which: u8,
    id: PassId,
    replies: Receiver<PassReply>,
    /// Bytes, about, that wait there.
    waiting: Arc<AtomicU64>,
    top: Option<Entry>,
    known: HashMap<RelPath, DirBeside>,
}

impl Side {
    fn reply(&self) -> Result<PassReply, Moot> {
        let reply = self.replies.recv().map_err(|_| Moot)?;
        self.waiting.fetch_sub(reply.weight(), Ordering::AcqRel);
        Ok(reply)
    }
}

/// All of them, once they are walked.
#[derive(Default)]
pub(super) struct Sides(Option<Vec<Side>>);

impl Pass {
    /// Notes what a directory beside the target holds of something that the target lacks. Returns whether that is
    /// enough, so that nothing is sent.
    pub(super) fn borrows(&mut self, path: &RelPath, ours: &Entry) -> Result<bool, Moot> {
        let Some(beside) = &self.shared.options.sync.beside else { return Ok(false) };
        let (borrow, dirs) = (beside.borrow, beside.dirs.clone());
        let mut sides = match self.sides.0.take() {
            Some(sides) => sides,
            None => self.walk_beside(&dirs)?,
        };
        let mut best: Option<Borrowed> = None;
        for side in &mut sides {
            let Some(found) = self.look_beside(side, path, ours)? else { continue };
            let rank = |borrowed: &Borrowed| match borrowed.differs {
                None => 2,
                Some(Extent::Attributes) => 1,
                Some(_) => 0,
            };
            if best.as_ref().is_none_or(|best| rank(&found) > rank(best)) {
                best = Some(found);
            }
        }
        self.sides.0 = Some(sides);
        let Some(best) = best else { return Ok(false) };
        let is_enough =
            borrow == Borrow::Leave && best.differs.is_none() && ours.attrs.meta.kind != Kind::Dir;
        if !is_enough {
            let mut borrowed = self.shared.borrowed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            borrowed.insert(path.clone(), best);
        }
        Ok(is_enough)
    }

    /// Has every directory walked, side by side.
    fn walk_beside(&mut self, dirs: &[serde_bytes::ByteBuf]) -> Result<Vec<Side>, Moot> {
        let mut sides = Vec::new();
        let options = ScanOptions { checksum: self.options.checksum, recursive: self.options.recursive };
        for which in (0..=u8::MAX).take(dirs.len()) {
            let id = PassId::MAX - self.id.wrapping_mul(IDS) - PassId::from(which);
            let (replies, waiting) = self.shared.begin_pass(id);
            self.send(&ToReceiver::Beside { pass: id, which })?;
            self.send(&ToReceiver::Scan { pass: id, top: RelPath::root(), options })?;
            sides.push(Side { which, id, replies, waiting, top: None, known: HashMap::new() });
        }
        self.flush()?;
        for (side, dir) in sides.iter_mut().zip(dirs) {
            let PassReply::Scanned { top, .. } = side.reply()? else { return Err(Moot) };
            if top.is_none() {
                let text = format!("nothing is at {}, beside the target: it saves nothing", quote(dir));
                self.shared.notice(&Notice::Warning { text, hint: None });
            }
            side.top = top.map(|top| *top);
        }
        Ok(sides)
    }

    /// Ends the walks.
    pub(super) fn end_beside(&mut self) {
        for side in self.sides.0.take().into_iter().flatten() {
            self.shared.end_pass(side.id);
            let _ = self.send(&ToReceiver::EndPass { pass: side.id });
        }
    }

    /// Returns what one directory beside the target holds at a path, if it is of the kind that the source has there.
    fn look_beside(&self, side: &mut Side, path: &RelPath, ours: &Entry) -> Result<Option<Borrowed>, Moot> {
        let which = side.which;
        let found = match path.parent() {
            None => side.top.clone(),
            Some(dir) => match self.known_beside(side, &dir)? {
                DirBeside::Absent => None,
                DirBeside::Equal => {
                    return Ok(Some(Borrowed { which, entry: Box::new(ours.clone()), differs: None }));
                }
                DirBeside::Holds(entries) => {
                    let at = entries.binary_search_by(|entry| entry.name.as_slice().cmp(path.name()));
                    at.ok().and_then(|at| entries.get(at)).cloned()
                }
            },
        };
        let Some(theirs) = found else { return Ok(None) };
        if theirs.attrs.meta.kind != ours.attrs.meta.kind {
            return Ok(None);
        }
        let rules = &self.shared.rules;
        let rules = Rules {
            size_only: rules.size_only,
            ignore_times: rules.ignore_times,
            modify_window: rules.modify_window,
            ..Rules::default()
        };
        let mut named = ours.clone();
        named.name.clone_from(&theirs.name);
        let differs = compare(&[named], std::slice::from_ref(&theirs), &self.options.mask, &rules)
            .iter()
            .find_map(|difference| match difference {
                Difference::Changed { scope, .. } => Some(*scope),
                _ => None,
            });
        Ok(Some(Borrowed { which, entry: Box::new(theirs), differs }))
    }

    /// Returns what is known of a directory there, and asks for what is not.
    fn known_beside(&self, side: &mut Side, dir: &RelPath) -> Result<DirBeside, Moot> {
        if let Some(known) = side.known.get(dir) {
            return Ok(known.clone());
        }
        let entry = match dir.parent() {
            None => side.top.clone(),
            Some(above) => match self.known_beside(side, &above)? {
                DirBeside::Equal => return Ok(DirBeside::Equal),
                DirBeside::Absent => None,
                DirBeside::Holds(entries) => {
                    let at = entries.binary_search_by(|entry| entry.name.as_slice().cmp(dir.name()));
                    at.ok().and_then(|at| entries.get(at)).cloned()
                }
            },
        };
        let entry = entry.filter(|entry| entry.attrs.meta.kind == Kind::Dir);
        // Without times a digest says nothing of what a file holds.
        let tells = self.options.mask.times && !self.shared.rules.ignore_times;
        let known = match entry {
            None => DirBeside::Absent,
            Some(entry)
                if tells
                    && entry.digest.is_some()
                    && entry.digest.as_ref() == self.local.digests.get(dir) =>
            {
                DirBeside::Equal
            }
            Some(_) => DirBeside::Holds(Arc::new(self.list_beside(side, dir)?)),
        };
        if side.known.len() >= LISTS_MAX {
            side.known.clear();
        }
        side.known.insert(dir.clone(), known.clone());
        Ok(known)
    }

    fn list_beside(&self, side: &Side, dir: &RelPath) -> Result<Vec<Entry>, Moot> {
        self.send(&ToReceiver::List { pass: side.id, dir: dir.clone() })?;
        self.flush()?;
        let mut all = Vec::new();
        loop {
            let PassReply::Listing(Listing { dir: of, entries, last, .. }) = side.reply()? else {
                return Err(Moot);
            };
            if of != *dir || all.len() + entries.len() > super::listed::LISTING_MAX {
                return Err(Moot);
            }
            all.extend(entries);
            if last {
                all.sort_by(|a: &Entry, b: &Entry| a.name.cmp(&b.name));
                return Ok(all);
            }
        }
    }
}
