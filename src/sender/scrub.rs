//! Reading everything again in the background, where size and time say that it is equal.
//!
//! **Purpose:** finds bytes that changed although nobody wrote them: a rotten disk, on either side.
//! **In → Out:** both trees; notices, and what a status tells of them. **Invariants:** at no more than the
//! configured rate, one file at a time; what is found was read twice on both sides, and stood still
//! meanwhile; the target's version is kept before anything is sent over it; where the source is the one
//! that changed, nothing is sent. **Not here:** differences that size or time show (`pass`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;

use super::changes::{Done, version_of};
use super::replies::{PassReply, Reply};
use super::scrubbed::{Mismatch, Suspect};
use super::session::Session;
use super::shared::Shared;
use crate::batch::Change;
use crate::config::Scrub;
use crate::event::Age;
use crate::monitor::Notice;
use crate::protocol::{Listing, PassId, ScanOptions, ToReceiver, VERSION_KEPT};
use crate::scan::{self, Options, Role};
use crate::tree::{Entry, Kind, Mask, RelPath};

/// Between two looks at whether to stop, while an answer is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// BLAKE3 of a content, where it could be read.
type Hash = Option<[u8; 32]>;

/// A file of other bytes than its size and time say.
pub(super) struct Rotten {
    pub path: RelPath,
    entry: Entry,
    source: [u8; 32],
    target: [u8; 32],
}

/// It cannot go on: the session ends, or the target does not answer.
struct Moot;

impl Session {
    /// Starts a scrub if it is time; returns when it will be.
    pub(super) fn scrub(&mut self, now: Instant) -> Option<Instant> {
        let scrub = self.shared.options.sync.scrub.filter(|_| self.stepping.is_live())?;
        if self.shared.version < VERSION_KEPT {
            return None;
        }
        let done = match self.shared.status.scrubbed.begin(now, scrub.interval) {
            Ok(done) => done,
            Err(next) => return next,
        };
        self.debts.passes_begun += 1;
        let id = self.debts.passes_begun;
        let (replies, waiting) = self.shared.begin_pass(id);
        let reader = Reader { shared: Arc::clone(&self.shared), id, replies, waiting, scrub };
        let started = std::thread::Builder::new().name("scrub".to_owned()).spawn(move || reader.run(done));
        if started.is_err() {
            self.shared.status.scrubbed.end(false, scrub.interval);
        }
        None
    }

    /// Keeps what the target has, tells, and sends the source's version if that is wanted and right.
    pub(super) fn rotten(&mut self, rotten: &Rotten) -> Done {
        let path = &rotten.path;
        let suspect = match self.recent.get(path) {
            Some(sent) if sent.hash == rotten.source => Suspect::Target,
            Some(sent) if sent.hash == rotten.target => Suspect::Source,
            _ => Suspect::Either,
        };
        let wanted = self.shared.options.sync.scrub.is_some_and(|scrub| scrub.repair);
        let repaired = wanted && suspect != Suspect::Source;
        let (source, target) = (rotten.source, rotten.target);
        let mismatch = Mismatch { source, target, suspect, repaired, at: SystemTime::now() };
        let news = self.shared.status.scrubbed.found(path, mismatch);
        self.send(&ToReceiver::KeepAside { path: path.clone(), expect: version_of(&rotten.entry) })?;
        if repaired {
            self.whole.insert(path.clone());
            self.shared.mailbox.push_live([Change::read(path.clone(), Age::unknown(Instant::now()))]);
        }
        if news {
            let hex = |hash: [u8; 32]| blake3::Hash::from_bytes(hash).to_hex();
            let then = if repaired { "; sent again" } else { "" };
            let text = format!(
                "{path} has the same size and time on both sides and other bytes: source {}, target {}; {}; \
                 the target's version is kept in .speil/strangers{then}",
                hex(source),
                hex(target),
                suspect.words()
            );
            let hint = "compare both with a backup; touch the file on the source to send it";
            let hint = (!repaired).then(|| hint.to_owned());
            self.shared.notice(&Notice::Warning { text, hint });
        }
        Ok(())
    }
}

struct Reader {
    shared: Arc<Shared>,
    id: PassId,
    replies: Receiver<PassReply>,
    /// Bytes, about, that wait there.
    waiting: Arc<AtomicU64>,
    scrub: Scrub,
}

impl Reader {
    fn run(self, done: Option<RelPath>) {
        let whole = self.work(done.as_ref()).is_ok();
        self.shared.end_pass(self.id);
        let _ = self.send(&ToReceiver::EndPass { pass: self.id });
        self.shared.status.scrubbed.end(whole, self.scrub.interval);
        self.shared.mailbox.wake();
    }

    fn send(&self, message: &ToReceiver<'_>) -> Result<(), Moot> {
        let sent = self.shared.outbox.send(message).and_then(|()| self.shared.outbox.flush());
        sent.map_err(|_| Moot)
    }

    fn is_over(&self) -> bool {
        self.shared.is_pass_over(self.id)
    }

    fn reply(&self) -> Result<PassReply, Moot> {
        loop {
            match self.replies.recv_timeout(LOOK_EVERY) {
                Ok(reply) => {
                    self.waiting.fetch_sub(reply.weight(), std::sync::atomic::Ordering::AcqRel);
                    return Ok(reply);
                }
                Err(crossbeam_channel::RecvTimeoutError::Timeout) if !self.is_over() => {}
                Err(_) => return Err(Moot),
            }
        }
    }

    /// Goes through all directories in order, from behind `done` on.
    fn work(&self, done: Option<&RelPath>) -> Result<(), Moot> {
        let flat = ScanOptions { checksum: false, recursive: false };
        self.send(&ToReceiver::Scan { pass: self.id, top: RelPath::root(), options: flat })?;
        let PassReply::Scanned { .. } = self.reply()? else { return Err(Moot) };
        let sync = &self.shared.options.sync;
        let options = Options {
            mask: Mask { checksum: false, ..self.shared.mask },
            filter: Arc::clone(&self.shared.filter),
            role: Role::Source,
            one_file_system: sync.selection.one_file_system,
            recursive: true,
            checksum: false,
            links: sync.selection.links,
            prune: sync.selection.prune,
        };
        let mut waiting = vec![RelPath::root()];
        while let Some(dir) = waiting.pop() {
            let root = self.shared.source.root();
            // What cannot be read is told by the passes.
            let Ok(ours) = scan::list(&root, &dir, &options, &self.shared.view) else { continue };
            let dirs = ours.entries.iter().filter(|entry| {
                entry.attrs.meta.kind == Kind::Dir && !scan::stops_at(&root, &options, entry)
            });
            waiting.extend(dirs.rev().map(|entry| dir.join(&entry.name)));
            if done.is_none_or(|done| dir.components().gt(done.components())) {
                let files = self.prove_dir(&dir, &ours.entries)?;
                self.shared.status.scrubbed.is_at(&dir, files);
            }
        }
        Ok(())
    }

    fn prove_dir(&self, dir: &RelPath, ours: &[Entry]) -> Result<u64, Moot> {
        let theirs = self.listing(dir)?;
        let scrubbed = &self.shared.status.scrubbed;
        let (root, step) = (self.shared.source.root(), self.shared.mask.granularity_ns);
        let mut files = 0;
        for entry in ours.iter().filter(|entry| entry.attrs.meta.kind == Kind::File) {
            let Some(there) = theirs.get(&entry.name).filter(|there| same_stamp(entry, there, step)) else {
                continue;
            };
            let path = dir.join(&entry.name);
            let (Some(source), Some(target)) = self.hashes(&root, &path)? else { continue };
            files += 1;
            if source == target {
                scrubbed.is_equal(&path);
                continue;
            }
            // Once more, and nothing may have moved meanwhile.
            let again = self.hashes(&root, &path)?;
            let still = self.shared.source.entry(&path, &Mask::nothing()).ok().flatten();
            let held = still.is_some_and(|still| still.version() == entry.version());
            let held_there = self.listing(dir)?.get(&entry.name).is_some_and(|now| {
                (now.id, now.ctime) == (there.id, there.ctime) && same_stamp(entry, now, step)
            });
            if held && held_there && again == (Some(source), Some(target)) {
                let rotten = Rotten { path, entry: entry.clone(), source, target };
                self.shared.inbox().replies.push_back(Reply::Rotten(Box::new(rotten)));
                self.shared.mailbox.wake();
            }
        }
        scrubbed.keep_only(dir, &|path| ours.iter().any(|entry| entry.name == path.name()));
        Ok(files)
    }

    /// Reads a file on both sides at once.
    fn hashes(&self, root: &crate::disk::Root, path: &RelPath) -> Result<(Hash, Hash), Moot> {
        self.send(&ToReceiver::Prove { pass: self.id, path: path.clone(), rate: self.scrub.rate })?;
        let ours = scan::prove(root, path, self.scrub.rate, &|| self.is_over()).ok();
        let PassReply::Hashed(theirs) = self.reply()? else { return Err(Moot) };
        Ok((ours, theirs))
    }

    fn listing(&self, dir: &RelPath) -> Result<HashMap<Vec<u8>, Entry>, Moot> {
        self.send(&ToReceiver::List { pass: self.id, dir: dir.clone() })?;
        let mut entries = HashMap::new();
        loop {
            let PassReply::Listing(Listing { entries: piece, last, .. }) = self.reply()? else {
                return Err(Moot);
            };
            entries.extend(piece.into_iter().map(|entry| (entry.name.clone(), entry)));
            if last {
                return Ok(entries);
            }
        }
    }
}

/// Whether size and time say that two files are equal.
fn same_stamp(a: &Entry, b: &Entry, step: u64) -> bool {
    let (m, n) = (&a.attrs.meta, &b.attrs.meta);
    n.kind == Kind::File && m.size == n.size && m.mtime.truncated(step) == n.mtime.truncated(step)
}
