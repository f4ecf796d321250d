//! A pass: compares a subtree on both sides and hands what differs to the session.

mod agreed;
mod aligned;
mod beside;
mod deletes;
mod doubts;
mod linked;
mod listed;
mod mounts;
mod moves;
mod named;
mod proof;
mod removal;
mod same;
mod sought;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crossbeam_channel::Receiver;

use agreed::Agreement;
use moves::Moves;

use super::mailbox::{Mailbox, is_of_events};
use super::replies::PassReply;
use super::shared::Shared;
use super::source::is_absence;
use super::status::Failure;
use crate::batch::{Change, ChangeKind, Extent};
use crate::config::Verify;
use crate::error::errno_of;
use crate::event::{Age, RescanReason};
use crate::monitor::{Counters, Notice, PassSummary};
use crate::protocol::{PassId, ScanOptions, ToReceiver};
use crate::reconcile::{Difference, compare};
use crate::scan::{self, DirEntries, Doubt, Found, Options, Scan};
use crate::tree::{Digest, DirDigest, Entry, Kind, LinkDigest, RelPath};

/// Listings that are asked for ahead, at most, and entries in them, about: half a kilobyte each.
const LISTS_AHEAD: usize = 64;
const ENTRIES_AHEAD: usize = 8192;

/// The pass that a session begins with.
const FIRST: PassId = 1;

/// The connection ended, or the session was told to stop: the pass is moot.
struct Moot;

/// What is known of a directory that is to be listed.
enum Task {
    /// Both sides have it.
    Compare,
    /// As [`Task::Compare`], and on the target it lies on another filesystem (`-x`): what the source lacks
    /// there stays.
    Keep,
    /// The source lacks it, or has something else there: all of it goes.
    Empty,
    /// Both have a file there that looks the same: its content is compared.
    Hash(Box<Entry>),
}

struct Pass {
    shared: Arc<Shared>,
    id: PassId,
    top: RelPath,
    options: Options,
    began: Instant,
    /// How old the comparison is: what it finds is as old, and counts as lag or does not.
    age: Age,
    counts: bool,
    replies: Receiver<PassReply>,
    /// Bytes, about, that wait there.
    waiting: Arc<AtomicU64>,
    local: Scan,
    /// Deletes, in the order in which they were found.
    deletes: Vec<Change>,
    /// What takes the place of directories once they are empty.
    after_deletes: Vec<Change>,
    /// Directories of the target that cannot be deleted, since something in them stays.
    staying: HashSet<RelPath>,
    /// Moves are looked for, among these.
    moves: Option<Moves>,
    /// What was mounted and is not: nothing is known of what belongs there.
    unmounted: Vec<RelPath>,
    /// The whole source was.
    root_unmounted: bool,
    summary: PassSummary,
    /// A directory of a list holds nothing, and does on the target.
    emptied: bool,
    /// Contents are compared where sizes and times are equal.
    reads: bool,
    /// Which files are suspect although they look equal.
    doubt: Option<Doubt>,
    /// The first comparison with a target that is adopted: afterwards the agent alone changes it, and what that comparison
    /// doubted waits to be verified.
    apart: bool,
    /// Names of files with several that the target lacks, and how many bytes each holds: the comparison of links
    /// decides what they are linked to.
    lacking: HashMap<RelPath, u64>,
    /// Names of files with several that were handed on with their content.
    sent_links: HashSet<RelPath>,
    /// Names at and below which the target stays as it is.
    spared: HashSet<RelPath>,
    agreement: Agreement,
    sides: beside::Sides,
}

/// Starts a pass on a thread of its own.
pub(super) fn start(shared: &Arc<Shared>, id: PassId, top: RelPath, why: (RescanReason, Age)) {
    let (reason, age) = why;
    let answers = shared.begin_pass(id);
    shared.passes_running.fetch_add(1, Ordering::AcqRel);
    Counters::add(&shared.status.counters.rescans, 1);
    shared.status.rescanned(reason);
    let pass = Pass::new(shared, id, top, (reason, age), answers);
    let kept = Arc::clone(shared);
    let started = std::thread::Builder::new()
        .name("pass".to_owned())
        // Walks recurse, a level of the tree each.
        .stack_size(64 << 20)
        .spawn(move || {
            if matches!(reason, RescanReason::Interval | RescanReason::Request) {
                scan::give_way();
            }
            pass.run(reason);
        });
    if started.is_err() {
        kept.end_pass(id);
        kept.passes_running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pass {
    fn new(
        shared: &Arc<Shared>,
        id: PassId,
        top: RelPath,
        (reason, age): (RescanReason, Age),
        (replies, waiting): (Receiver<PassReply>, Arc<AtomicU64>),
    ) -> Self {
        let apart = id == FIRST && shared.leading.adopts();
        let doubt = doubts::doubt_of(shared, (&top, apart), (reason, age));
        let checksum = shared.mask.checksum || shared.options.sync.reconcile.verify == Verify::Checksum;
        Self {
            options: shared.walk_options(checksum),
            shared: Arc::clone(shared),
            id,
            top,
            began: Instant::now(),
            // What is found to differ where contents are compared shows in no change time.
            age: if reason.reads() { Age::unknown(age.since) } else { age },
            doubt,
            apart,
            counts: is_of_events(reason),
            replies,
            waiting,
            local: Scan::default(),
            deletes: Vec::new(),
            after_deletes: Vec::new(),
            staying: HashSet::new(),
            moves: None,
            unmounted: Vec::new(),
            root_unmounted: false,
            summary: PassSummary::default(),
            emptied: false,
            reads: reason.reads(),
            lacking: HashMap::new(),
            sent_links: HashSet::new(),
            spared: HashSet::new(),
            agreement: Agreement::of(shared),
            sides: beside::Sides::default(),
        }
    }

    fn run(mut self, reason: RescanReason) {
        let small = [RescanReason::Moved, RescanReason::Mismatch, RescanReason::Arrived];
        let told = self.top.is_root() || !small.contains(&reason);
        if told {
            self.shared.notice(&Notice::PassBegan { top: self.top.clone(), reason });
        }
        let done = self.work();
        self.end_beside();
        self.shared.end_pass(self.id);
        let _ = self.send(&ToReceiver::EndPass { pass: self.id });
        if done.is_ok() {
            self.summary.elapsed = self.began.elapsed();
            self.summary.problems = self.local.problems.len() as u64;
            Counters::add(&self.shared.status.counters.repairs, self.summary.different);
            if self.top.is_root() {
                self.shared.status.passed(self.summary.clone());
                self.shared.known.was_settled();
                self.shared.first_pass_done.store(true, Ordering::Release);
            }
            if told {
                let (top, summary) = (self.top.clone(), self.summary.clone());
                self.shared.notice(&Notice::PassDone { top, reason, summary });
            }
        }
        self.shared.passes_running.fetch_sub(1, Ordering::AcqRel);
        self.shared.mailbox.wake();
    }

    fn unreadable(&self, path: &RelPath, errno: i32, on_target: bool) {
        let failure =
            Failure { operation: "read", errno, on_target, unseen: true, age: self.age, need: None };
        self.shared.problem(path, failure);
    }

    fn send(&self, message: &ToReceiver<'_>) -> Result<(), Moot> {
        self.shared.outbox.send(message).map_err(|_| Moot)
    }

    fn flush(&self) -> Result<(), Moot> {
        self.shared.outbox.flush().map_err(|_| Moot)
    }

    fn work(&mut self) -> Result<(), Moot> {
        if let Some(files) = self.shared.options.sync.selection.files_from.clone() {
            return self.only(&files);
        }
        let entries = self.compare_top()?;
        self.send_deletes(entries)
    }

    /// Compares the subtree at the top, and returns how many entries the target has there. Deletes are noted.
    fn compare_top(&mut self) -> Result<u64, Moot> {
        let options = ScanOptions { checksum: self.options.checksum, recursive: self.options.recursive };
        self.send(&ToReceiver::Scan { pass: self.id, top: self.top.clone(), options })?;
        self.flush()?;
        // The target's walk may go on meanwhile.
        self.began = self.shared.gate.pass().then(Instant::now).ok_or(Moot)?;
        if self.shared.is_beyond(&self.top) {
            return self.reply().map(|_| 0);
        }
        let root = self.shared.source.root();
        let sought = self.shared.view.seeking();
        self.local = scan::walk_doubting(&root, &self.top, &self.options, (&self.shared.view, self.doubt));
        self.summary.entries += self.local.entries;
        self.summary.kinds.add_all(&self.local.kinds);
        self.summary.bytes += self.local.bytes;
        self.note_links();
        self.look_at_sought(&sought)?;
        self.look_at_mounts()?;
        for (path, errno) in &self.local.problems {
            if !is_absence(&std::io::Error::from_raw_os_error(*errno)) {
                self.unreadable(path, *errno, false);
            }
        }
        let PassReply::Scanned { top, links, entries, problems } = self.reply()? else { return Err(Moot) };
        for (path, errno) in &problems {
            // Nobody knows whether it can be deleted.
            self.staying.insert(path.clone());
            self.stays(path);
            if !is_absence(&std::io::Error::from_raw_os_error(*errno)) {
                self.unreadable(path, *errno, true);
            }
        }
        // Where the target has nothing, every name is handed on, and joined to the others as it is sent.
        let links_differ = entries > 0 && self.options.mask.hard_links && links != self.local.links.finish();
        if links_differ {
            self.local.links.fit();
        } else {
            self.local.links = LinkDigest::default();
        }
        self.moves = (entries > 0 && self.looks_for_moves()).then(Moves::default);
        self.top_differences(top)?;
        let news = self.settle_moves()?;
        if links_differ {
            self.link_differences(&news)?;
        }
        if let Some(moves) = self.moves.take() {
            self.deletes.retain(|change| !moves.is_taken(change.kind.path()));
        }
        Ok(entries)
    }

    fn reply(&self) -> Result<PassReply, Moot> {
        let reply = self.replies.recv().map_err(|_| Moot)?;
        self.waiting.fetch_sub(reply.weight(), Ordering::AcqRel);
        Ok(reply)
    }

    fn top_differences(&mut self, theirs: Option<Box<Entry>>) -> Result<(), Moot> {
        let ours = self.local.top.take();
        let unreadable = self.local.problems.iter().any(|(path, _)| *path == self.top);
        match (ours, theirs) {
            (None, None) => Ok(()),
            (None, Some(_)) if unreadable || self.top.is_root() => Ok(()),
            (None, Some(theirs)) => {
                self.extra(&self.top.clone(), &theirs, false).and_then(|tasks| self.descend(tasks))
            }
            // A root that the target has just made is like the source's, whatever stays away from it.
            (Some(ours), None)
                if self.shared.rules.existing && self.top.is_root() && !self.shared.options.dry_run =>
            {
                self.absent(&self.top.clone(), &ours)
            }
            (Some(ours), None) if self.shared.rules.existing || self.has_odd_size(&ours) => Ok(()),
            (Some(ours), None) => self.missing(&self.top.clone(), &ours),
            (Some(mut ours), Some(mut theirs)) => {
                // The two tops may bear the same name only because nobody has named them.
                ours.name.clone_from(&theirs.name);
                theirs.name.clone_from(&ours.name);
                let parent = self.top.parent();
                self.agreement.begin();
                let tasks = self.differences(
                    parent.as_ref(),
                    std::slice::from_ref(&ours),
                    std::slice::from_ref(&theirs),
                )?;
                if ours.attrs.meta.kind == Kind::Dir && self.agreement.is_whole() {
                    self.agree(self.top.clone())?;
                }
                self.descend(tasks)
            }
        }
    }

    /// Returns the path of an entry in a listing of `dir`; without a directory the listing is of the root itself.
    fn at(&self, dir: Option<&RelPath>, entry: &Entry) -> RelPath {
        match dir {
            None => RelPath::root(),
            Some(_) if entry.name.is_empty() => self.top.clone(),
            Some(dir) => dir.join(&entry.name),
        }
    }

    /// Returns the differences of two listings of `dir` that something is to be done about.
    fn work_of<'a>(
        &mut self,
        dir: Option<&RelPath>,
        ours: &'a [Entry],
        theirs: &'a [Entry],
    ) -> Vec<(RelPath, Difference<'a>)> {
        let rules = self.rules_in(dir, ours);
        let found: Vec<_> = compare(ours, theirs, &self.options.mask, &rules)
            .into_iter()
            .map(|difference| (self.at(dir, difference.entry()), difference))
            .filter(|(path, difference)| !self.is_none(path, difference))
            .collect();
        self.tell_same(dir, (ours, theirs), &found);
        found.iter().for_each(|(_, difference)| self.agreement.differs(difference));
        found.into_iter().filter(|(path, difference)| !self.is_suspect(path, difference)).collect()
    }

    /// Hands the differences of two listings of `dir` on, and returns what must be listed next.
    fn differences(
        &mut self,
        dir: Option<&RelPath>,
        ours: &[Entry],
        theirs: &[Entry],
    ) -> Result<Vec<(RelPath, Task)>, Moot> {
        let mut tasks = Vec::new();
        let work = self.work_of(dir, ours, theirs);
        for (path, difference) in work {
            if self.is_left_by_size(&difference) {
                continue;
            }
            match difference {
                Difference::Missing(entry) => match &mut self.moves {
                    Some(moves) if moves.has_room() => moves.missing.push((path, entry.clone())),
                    _ => self.missing(&path, entry)?,
                },
                Difference::Changed { source, target, scope } => {
                    let scope = self.apart_from_others(scope, target);
                    self.expect(source, scope);
                    self.shared.feedback.found(&path);
                    if scope == Extent::Content {
                        self.is_sent(&path, source);
                        self.gives_way(&path, target);
                    }
                    self.update(path.clone(), scope, Some(target))?;
                    if target.attrs.meta.kind != Kind::Dir {
                        // Where a directory takes the place of something else, nothing is below it yet.
                        self.missing_below(&path, source)?;
                    }
                }
                Difference::Alike(entry, _) => tasks.push((path, Task::Hash(Box::new(entry.clone())))),
                Difference::Below(source, target) => {
                    let enters = self.options.recursive || path == self.top;
                    if enters && !scan::stops_at(&self.shared.source.root(), &self.options, source) {
                        let task = if self.is_mount(target) { Task::Keep } else { Task::Compare };
                        tasks.push((path, task));
                    }
                }
                Difference::Retyped { source, target } => {
                    self.shared.feedback.found(&path);
                    self.is_sent(&path, source);
                    if !self.deletes(true) {
                        // An empty directory makes way; a full one is a Problem.
                        let empty = DirDigest::new(self.options.mask).finish();
                        let is_full = target.digest.is_some_and(|digest| digest != empty);
                        if is_full && !self.shared.options.live {
                            self.is_in_the_way(&path);
                            continue;
                        }
                        self.expect(source, Extent::Content);
                        self.update(path, Extent::Content, Some(target))?;
                    } else if !self.shared.options.live && self.options.filter.protects_entry(&path, true) {
                        self.is_in_the_way(&path);
                    } else {
                        self.was_there(&path, target);
                        self.after_deletes.push(Change::read(path.clone(), self.age));
                        self.summary.different += 1;
                        if target.digest.is_some() {
                            tasks.push((path, Task::Empty));
                        }
                    }
                }
                Difference::Spared(_) => {
                    self.spared.insert(path);
                }
                Difference::Extra(entry) => match &mut self.moves {
                    Some(moves) if moves.has_room() => moves.spare.push((path, entry.clone())),
                    _ => tasks.extend(self.extra(&path, entry, false)?),
                },
            }
        }
        Ok(tasks)
    }

    /// Hands an entry on that the target lacks, and everything below it.
    fn missing(&mut self, path: &RelPath, entry: &Entry) -> Result<(), Moot> {
        if self.moved(path, entry)? {
            return Ok(());
        }
        self.absent(path, entry)?;
        self.missing_below(path, entry)
    }

    /// Whether what is missing at a path stands on the target under another name, and is renamed.
    fn moved(&mut self, path: &RelPath, entry: &Entry) -> Result<bool, Moot> {
        let Some((from, old)) = self.moves.as_mut().and_then(|moves| moves.of(path)) else {
            return Ok(false);
        };
        self.summary.different += 1;
        self.shared.feedback.found(path);
        let dir = entry.attrs.meta.kind == Kind::Dir;
        let kind = ChangeKind::Rename { from, to: path.clone(), dir };
        self.push(Change { age: self.age, kind })?;
        if self.options.mask.attrs_differ(&entry.attrs, &old.attrs) {
            self.update(path.clone(), Extent::Attributes, Some(&old))?;
        }
        Ok(true)
    }

    fn missing_below(&mut self, path: &RelPath, entry: &Entry) -> Result<(), Moot> {
        let asked = self.options.recursive || *path == self.top;
        let enter = entry.attrs.meta.kind == Kind::Dir && asked && entry.digest.is_some();
        // Where nothing new is made, nothing is below what has just become a directory.
        if !enter || self.shared.rules.existing {
            self.spared.extend(self.shared.rules.existing.then(|| path.clone()));
            return Ok(());
        }
        let mut waiting = vec![path.clone()];
        while let Some(dir) = waiting.pop() {
            let shared = Arc::clone(&self.shared);
            let (options, root) = (self.options.clone(), shared.source.root());
            let found = match scan::entries(&root, &dir, &options, &shared.view) {
                Ok(found) => found,
                Err(error) if is_absence(&error) => continue,
                Err(error) => {
                    self.unreadable(&dir, errno_of(&error), false);
                    continue;
                }
            };
            for found in found {
                let Found::Entry(mut entry) = found else { continue };
                let path = dir.join(&entry.name);
                entry.digest = self.digest_of(&path, &entry);
                if self.is_left_by_size(&Difference::Missing(&entry)) || self.moved(&path, &entry)? {
                    continue;
                }
                self.absent(&path, &entry)?;
                if entry.attrs.meta.kind == Kind::Dir && self.local.digests.contains_key(&path) {
                    waiting.push(path);
                }
            }
        }
        Ok(())
    }

    /// Hands one entry on that the target lacks.
    fn absent(&mut self, path: &RelPath, entry: &Entry) -> Result<(), Moot> {
        if self.borrows(path, entry)? {
            self.is_sent(path, entry);
            return Ok(());
        }
        if self.is_put_off(path, entry) {
            return Ok(());
        }
        self.expect(entry, Extent::Absent);
        self.shared.feedback.found(path);
        self.update(path.clone(), Extent::Absent, None)
    }

    /// Whether a file of the source is too large or too small to be sent: what the target has or lacks stays so.
    fn is_left_by_size(&self, difference: &Difference<'_>) -> bool {
        !matches!(difference, Difference::Extra(_) | Difference::Spared(_))
            && self.has_odd_size(difference.entry())
    }

    fn has_odd_size(&self, entry: &Entry) -> bool {
        let meta = &entry.attrs.meta;
        meta.kind == Kind::File && !self.shared.options.sync.selection.sends_size(meta.size)
    }

    /// Has a file made anew whose attributes alone differ, where its other names may be those of an older copy.
    fn apart_from_others(&self, scope: Extent, target: &Entry) -> Extent {
        let is_shared = target.nlink > 1 && target.attrs.meta.kind == Kind::File;
        let options = &self.shared.options;
        let others = options.sync.beside.is_some() || !self.options.mask.hard_links && !options.live;
        if scope == Extent::Attributes && is_shared && others { Extent::Content } else { scope }
    }

    /// Notes for the progress what is about to be handed on.
    fn expect(&self, entry: &Entry, scope: Extent) {
        let content = scope != Extent::Attributes && entry.attrs.meta.kind == Kind::File;
        self.shared.found.expects(if content { entry.attrs.meta.size } else { 0 });
    }

    fn update(&mut self, path: RelPath, scope: Extent, old: Option<&Entry>) -> Result<(), Moot> {
        self.summary.different += 1;
        if let Some(old) = old {
            self.was_there(&path, old);
        }
        self.push(Change { age: self.age, kind: ChangeKind::Update { path, scope } })
    }

    /// Notes what the target holds under a path, for the line that tells of its change.
    fn was_there(&self, path: &RelPath, old: &Entry) {
        if self.shared.monitor.itemizes() {
            let mut known = self.shared.old.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(path.clone(), Box::new(old.clone()));
        }
    }

    fn push(&self, change: Change) -> Result<(), Moot> {
        let mailbox: &Mailbox = &self.shared.mailbox;
        if mailbox.push_bulk(change, self.began, self.counts) { Ok(()) } else { Err(Moot) }
    }

    /// Lists a directory of the source; one that cannot be read gives nothing, and a Problem.
    fn list(&mut self, dir: &RelPath) -> DirEntries {
        let root = self.shared.source.root();
        match scan::list(&root, dir, &self.options, &self.shared.view) {
            Ok(mut found) => {
                for entry in &mut found.entries {
                    entry.digest = self.local.digests.get(&dir.join(&entry.name)).copied();
                }
                found
            }
            Err(error) if is_absence(&error) => DirEntries::default(),
            Err(error) => {
                self.unreadable(dir, errno_of(&error), false);
                DirEntries::default()
            }
        }
    }

    /// Compares directories, asking for listings ahead.
    fn descend(&mut self, tasks: Vec<(RelPath, Task)>) -> Result<(), Moot> {
        let mut waiting: VecDeque<(RelPath, Task)> = tasks.into();
        let mut asked: VecDeque<(RelPath, Task)> = VecDeque::new();
        // As the last one was, so may the next ones be.
        let mut ahead = LISTS_AHEAD / 8;
        loop {
            while asked.len() < ahead {
                let Some((path, task)) = waiting.pop_front() else { break };
                self.send(&match task {
                    Task::Hash(_) => ToReceiver::Hash { pass: self.id, path: path.clone() },
                    _ => ToReceiver::List { pass: self.id, dir: path.clone() },
                })?;
                asked.push_back((path, task));
            }
            let Some((path, task)) = asked.pop_front() else { return Ok(()) };
            self.flush()?;
            if let Task::Hash(entry) = task {
                self.compare_content(path, &entry)?;
                continue;
            }
            let (count, tasks) = self.compare_dir(&path, &task)?;
            ahead = (ENTRIES_AHEAD / count.max(1)).clamp(2, LISTS_AHEAD);
            for (path, task) in tasks {
                // Files first: no more of them wait than a few directories hold.
                match task {
                    Task::Hash(_) => waiting.push_front((path, task)),
                    _ => waiting.push_back((path, task)),
                }
            }
        }
    }

    /// Returns the digest of a directory that the walk has met.
    fn digest_of(&self, path: &RelPath, entry: &Entry) -> Option<Digest> {
        if entry.attrs.meta.kind == Kind::Dir { self.local.digests.get(path).copied() } else { None }
    }
}
