//! Files that may hold something else than their size and time say: found by a comparison, and verified.
//!
//! **Invariants:** a comparison sends first what differs by size or time. What looks equal and is doubted waits in
//! `Suspects`, and is hashed on both sides: at the rate of a scrub, and as fast as it goes while somebody waits.
//! What differs is sent, and is no lag.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::{Moot, Pass, PassReply};
use crate::batch::{Change, ChangeKind, Extent};
use crate::config::Verify;
use crate::event::{Age, Moment, RescanReason};
use crate::monitor::Counters;
use crate::protocol::{PassId, ScanOptions, Settled, ToReceiver, VERSION_KEPT};
use crate::reconcile::{Difference, Rules, compare};
use crate::scan::{self, Doubt};
use crate::sender::session::Session;
use crate::sender::shared::Shared;
use crate::sender::suspects::{Doubtful, Verifying};
use crate::tree::{Entry, Kind, RelPath};

/// Suspects that are taken out at once.
const TAKEN_MAX: usize = 1024;
/// Hashes that are asked for ahead, and bytes of files in them while nobody waits.
const AHEAD: usize = 64;
const AHEAD_BYTES: u64 = 1 << 20;
/// Between two looks at whether somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Returns which files a comparison doubts; none where nothing was missed, or contents are compared anyway.
/// `apart`: the trees may differ since neither saw the other.
pub(super) fn doubt_of(
    shared: &Shared,
    (top, apart): (&RelPath, bool),
    (reason, age): (RescanReason, Age),
) -> Option<Doubt> {
    let reads = reason.reads() || shared.options.sync.reconcile.verify != Verify::Quick;
    if reads || shared.mask.checksum || shared.rules.size_only {
        return None;
    }
    let missed = missed(shared, top, (reason, age));
    if apart { Some(shared.leading.apart.or(missed)) } else { missed }
}

/// Returns which files a comparison doubts because events were lost.
fn missed(shared: &Shared, top: &RelPath, (reason, age): (RescanReason, Age)) -> Option<Doubt> {
    let settled = if top.is_root() { shared.known.settled() } else { Settled::Unknown };
    if age.change == Moment::NEVER {
        return match settled {
            Settled::Unknown => None,
            // Nobody was watching.
            Settled::Until(since) => {
                Some(Doubt { since, whole: false, unwatched: true, strict: false, root: None })
            }
            Settled::Never => Some(Doubt::WHOLE),
        };
    }
    if age.change == Moment::UNKNOWN {
        return Some(Doubt::WHOLE);
    }
    let unwatched = matches!(reason, RescanReason::Start | RescanReason::Unwatched | RescanReason::Root);
    let since = shared.source.stamp(age.change);
    let doubt = Doubt { since, whole: false, unwatched, strict: false, root: None };
    Some(match settled {
        Settled::Unknown => doubt,
        Settled::Until(since) => Doubt { since: since.min(doubt.since), unwatched: true, ..doubt },
        Settled::Never => Doubt::WHOLE,
    })
}

impl Pass {
    /// Whether a difference is none, and was asked for only because of what is doubted beside it.
    pub(super) fn is_none(&self, path: &RelPath, difference: &Difference<'_>) -> bool {
        match difference {
            Difference::Alike(file, theirs) if !self.reads => {
                let doubted = self.apart && self.doubt.is_some() && theirs.is_doubted();
                !doubted && !self.local.doubts.doubts(&path.parent().unwrap_or_default(), file)
            }
            Difference::Below(ours, theirs) if !self.reads => {
                let same = ours.digest.is_some() && ours.digest == theirs.digest;
                same && !self.shared.rules.may_differ() && !self.local.doubts.is_doubted(path)
            }
            _ => false,
        }
    }

    /// Whether a file looks equal and is doubted: it waits to be verified.
    pub(super) fn is_suspect(&self, path: &RelPath, difference: &Difference<'_>) -> bool {
        let Difference::Alike(file, _) = difference else { return false };
        if !self.reads {
            // Where everything that is heard is believed, it was doubted for what happened before.
            let heard = self.age.change != Moment::NEVER && !self.shared.leading.adopts();
            let age = if heard { self.age } else { self.shared.known.before_all() };
            self.shared.status.suspects.add(path.clone(), file.attrs.meta.size, age);
        }
        !self.reads
    }

    /// Returns the rules by which a directory is compared: where something is doubted, files that look alike are
    /// told.
    pub(super) fn rules_in(&self, dir: Option<&RelPath>, ours: &[Entry]) -> Rules {
        let doubted = |entry: &Entry| {
            let at = self.at(dir, entry);
            match entry.attrs.meta.kind {
                Kind::Dir => self.local.doubts.is_doubted(&at),
                _ => self.local.doubts.doubts(&at.parent().unwrap_or_default(), entry),
            }
        };
        let whole = self.reads || ours.iter().any(doubted);
        Rules { whole, ..self.shared.rules }
    }

    /// Verifies until nothing is left to verify, or somebody begins to wait.
    fn verify_all(&mut self) -> Result<(), Moot> {
        let options = ScanOptions { checksum: false, recursive: false };
        self.send(&ToReceiver::Scan { pass: self.id, top: RelPath::root(), options })?;
        self.flush()?;
        self.began = self.shared.gate.pass().then(Instant::now).ok_or(Moot)?;
        let PassReply::Scanned { .. } = self.reply()? else { return Err(Moot) };
        loop {
            let shared = Arc::clone(&self.shared);
            let taken = shared.status.suspects.some(TAKEN_MAX);
            if taken.is_empty() {
                return Ok(());
            }
            let (dirs, files): (Vec<Doubtful>, Vec<Doubtful>) =
                taken.into_iter().partition(|suspect| suspect.what == Verifying::Dir);
            for dir in dirs {
                let files = self.doubtful_in(&dir)?;
                self.verify_files(files)?;
                shared.status.suspects.verified(&dir);
            }
            self.verify_files(files)?;
        }
    }

    fn is_hurried(&self) -> bool {
        let oldest = self.shared.status.suspects.oldest();
        // While a target is adopted it can not be promoted.
        !self.shared.options.live
            || self.shared.leading.adopts()
            || oldest.is_some_and(|since| self.shared.mailbox.is_awaited(since))
    }

    fn rate(&self) -> u64 {
        self.shared.options.sync.scrub.unwrap_or_default().rate.max(1)
    }

    /// Returns the files of a directory that look alike and may have changed.
    fn doubtful_in(&mut self, suspect: &Doubtful) -> Result<Vec<Doubtful>, Moot> {
        let dir = &suspect.path;
        self.send(&ToReceiver::List { pass: self.id, dir: dir.clone() })?;
        self.flush()?;
        let theirs = self.listing(dir)?;
        let root = self.shared.source.root();
        // Gone or unreadable: the event that says so has come or will, and a pass tells.
        let Ok(ours) = scan::list(&root, dir, &self.options, &self.shared.view) else {
            return Ok(Vec::new());
        };
        let since = match suspect.age.change {
            Moment::UNKNOWN => Doubt::WHOLE.since,
            change => self.shared.source.stamp(change),
        };
        let rules = Rules { whole: true, ..self.shared.rules };
        let alike = |difference: Difference<'_>| match difference {
            Difference::Alike(file, _) if file.ctime >= since => {
                Some(Doubtful::file(dir.join(&file.name), file.attrs.meta.size, suspect.age))
            }
            _ => None,
        };
        let differences = compare(&ours.entries, &theirs, &self.options.mask, &rules);
        Ok(differences.into_iter().filter_map(alike).collect())
    }

    /// Hashes files on both sides.
    fn verify_files(&mut self, files: Vec<Doubtful>) -> Result<(), Moot> {
        let mut waiting = VecDeque::from(files);
        let mut asked: VecDeque<(Doubtful, bool)> = VecDeque::new();
        let mut bytes = 0;
        loop {
            let hurried = self.is_hurried();
            while let Some(suspect) = waiting.front() {
                let len = suspect.len();
                let fits = asked.len() < AHEAD && (hurried || bytes + len <= AHEAD_BYTES);
                if !asked.is_empty() && !fits {
                    break;
                }
                let paced = !hurried && len > AHEAD_BYTES && self.shared.version >= VERSION_KEPT;
                let (pass, path, rate) = (self.id, suspect.path.clone(), self.rate());
                self.send(&if paced {
                    ToReceiver::Prove { pass, path, rate }
                } else {
                    ToReceiver::Hash { pass, path }
                })?;
                bytes += len;
                asked.extend(waiting.pop_front().map(|suspect| (suspect, paced)));
            }
            let Some((suspect, paced)) = asked.pop_front() else { return Ok(()) };
            self.flush()?;
            bytes -= suspect.len();
            self.verify_file(&suspect, paced)?;
            self.shared.status.suspects.verified(&suspect);
            if !hurried && !paced {
                self.rest(suspect.len());
            }
        }
    }

    fn verify_file(&mut self, suspect: &Doubtful, paced: bool) -> Result<(), Moot> {
        let (root, path) = (self.shared.source.root(), &suspect.path);
        let began = Instant::now();
        let ours = if paced {
            scan::prove(&root, path, self.rate(), &|| self.is_over() || self.is_hurried())
        } else {
            scan::hash(&root, path)
        };
        let PassReply::Hashed(theirs) = self.reply_soon(paced)? else { return Err(Moot) };
        Counters::add(&self.shared.status.counters.hashed, 1);
        match ours {
            Ok(ours) if Some(ours) == theirs => return Ok(()),
            // A rename or a delete that was not heard of yet.
            Err(error) if super::is_absence(&error) => return Ok(()),
            _ => {}
        }
        let age = Age::unknown(suspect.age.since);
        let kind = ChangeKind::Update { path: path.clone(), scope: Extent::Content };
        self.summary.different += 1;
        let pushed = self.shared.mailbox.push_bulk(Change { age, kind }, began, false);
        if pushed { Ok(()) } else { Err(Moot) }
    }

    fn is_over(&self) -> bool {
        self.shared.is_pass_over(self.id)
    }

    /// Waits for an answer. Somebody who begins to wait meanwhile does not wait for the pace: it is asked anew.
    fn reply_soon(&self, paced: bool) -> Result<PassReply, Moot> {
        if !paced {
            return self.reply();
        }
        loop {
            match self.replies.recv_timeout(LOOK_EVERY) {
                Ok(reply) => {
                    self.waiting.fetch_sub(reply.weight(), Ordering::AcqRel);
                    return Ok(reply);
                }
                Err(RecvTimeoutError::Timeout) if !self.is_over() && !self.is_hurried() => {}
                Err(_) => return Err(Moot),
            }
        }
    }

    /// Waits as long as a file of this size takes at the rate, unless somebody begins to wait.
    fn rest(&self, len: u64) {
        let until = Instant::now() + Duration::from_secs_f64(len as f64 / self.rate() as f64);
        while !self.is_over() && !self.is_hurried() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

impl Session {
    /// Begins to verify what is suspect, on a thread of its own, once comparisons have found what they see to
    /// differ.
    pub(in crate::sender) fn pump_suspects(&mut self) {
        let compares = self.shared.passes_running.load(Ordering::Acquire) > 0;
        if compares || !self.debts.passes_waiting.is_empty() || !self.shared.status.suspects.begin() {
            return;
        }
        self.debts.passes_begun += 1;
        start(&self.shared, self.debts.passes_begun);
    }
}

fn start(shared: &Arc<Shared>, id: PassId) {
    let answers = shared.begin_pass(id);
    let age = Age::believed(Instant::now());
    let mut pass = Pass::new(shared, id, RelPath::root(), (RescanReason::Mismatch, age), answers);
    let verify = move || {
        let _ = pass.verify_all();
        let shared = Arc::clone(&pass.shared);
        shared.end_pass(id);
        let _ = pass.send(&ToReceiver::EndPass { pass: id });
        let _ = pass.flush();
        shared.status.suspects.end();
        shared.mailbox.wake();
    };
    if std::thread::Builder::new().name("verify".to_owned()).spawn(verify).is_err() {
        shared.end_pass(id);
        shared.status.suspects.end();
    }
}
