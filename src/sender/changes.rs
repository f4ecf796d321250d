//! Sending one change: what the source holds under its path now.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::error::SessionError;
use super::mailbox::{Lane, Parcel};
use super::operations::Answered;
use super::outbox::Content;
use super::recent::{Delivered, Sent};
use super::replies::{About, Reply};
use super::room::Need;
use super::session::Session;
use super::source::{End, PIECE_LEN, Piece, SourceFile, is_absence};
use super::status::Failure;
use crate::batch::{Change, ChangeKind, Extent};
use crate::error::errno_of;
use crate::event::{Age, RescanReason};
use crate::monitor::{Counters, Itemized, Notice};
use crate::protocol::{Expect, ToReceiver};
use crate::scan::View;
use crate::tree::{Entry, Kind, RelPath};

/// Files up to this size in bytes travel in one message: a round trip for a signature costs more.
const SMALL_LEN: u64 = PIECE_LEN as u64;
/// Files over this size that are open for writing wait for the close.
const LARGE_LEN: u64 = 8 << 20;
/// After this a provisional version is read again.
const PROVISIONAL_AGAIN: Duration = Duration::from_millis(200);
/// After this a file that changed while it was read is tried again.
const BUSY_AGAIN: Duration = Duration::from_millis(100);
/// A stamp this close to the reading may be shared by a later write.
const RACY: Duration = Duration::from_millis(20);

pub(super) type Done = Result<(), SessionError>;

impl Session {
    /// Sends changes in their order. What a broken connection keeps from being sent is left to the next.
    pub(super) fn send_all(&mut self, parcels: Vec<Parcel>) -> Done {
        let source = &self.shared.source;
        self.reader.get_or_insert_with(|| source.reader());
        // Resolved anew, after the last of them was issued.
        (self.way, self.gone) = (None, None);
        let mut parcels = VecDeque::from(parcels);
        while let Some(parcel) = parcels.pop_front() {
            let back = self.exchanged(&parcel, &parcels);
            if let Some(back) = back.and_then(|at| parcels.remove(at)) {
                self.read_exchanged([parcel, back]);
            } else if let (unsent, Err(error)) = (parcel.clone(), self.send_one(parcel)) {
                self.open.push(unsent);
                self.open.extend(parcels);
                return Err(error);
            }
            if let Err(error) = self.send_soon() {
                self.open.extend(parcels);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sends what follows from the change that was sent last.
    fn send_soon(&mut self) -> Done {
        while let Some(change) = self.soon.pop() {
            let (issued, counts) = (Instant::now(), self.shared.status.counts(&change));
            let parcel = Parcel { change, issued, lane: Lane::Live, counts };
            let unsent = parcel.change.clone();
            // A look that was taken before is not of what follows.
            self.way = None;
            if let Err(error) = self.send_one(parcel) {
                self.soon.push(unsent);
                return Err(error);
            }
        }
        Ok(())
    }

    fn send_one(&mut self, mut parcel: Parcel) -> Done {
        if !matches!(parcel.change.kind, ChangeKind::Update { .. }) {
            self.way = None;
        }
        if !matches!(parcel.change.kind, ChangeKind::Delete { .. }) {
            self.gone = None;
        }
        self.take_over(&mut parcel);
        parcel.counts &= self.shared.status.counts(&parcel.change);
        self.age = parcel.change.age;
        match &parcel.change.kind {
            ChangeKind::Update { .. } => self.send_update(parcel)?,
            ChangeKind::Rename { from, to, dir } => {
                let (names, dir) = ((from.clone(), to.clone()), *dir);
                self.send_move(names, dir, parcel)?;
            }
            ChangeKind::Delete { path, expected } => {
                let (path, expected) = (path.clone(), expected.clone());
                if self.send_delete(&path, &expected)? {
                    self.keep(parcel);
                }
            }
            ChangeKind::Name { path, naming } => self.take_name(path, naming),
            ChangeKind::Rescan { path, reason } => {
                let (path, reason) = (path.clone(), *reason);
                if reason == RescanReason::Request {
                    // Somebody may have made room on the target.
                    self.shared.status.hurry(Instant::now());
                }
                self.start_pass(path, reason, parcel.change.age);
            }
        }
        Ok(())
    }

    pub(super) fn keep(&mut self, parcel: Parcel) {
        if self.uncommitted {
            self.open.push(parcel);
        }
    }

    pub(super) fn send(&mut self, message: &ToReceiver<'_>) -> Done {
        if self.shared.options.dry_run {
            return Ok(());
        }
        self.operations.add(message, self.batch);
        self.cutting.sends();
        self.shared.outbox.send(message)?;
        self.uncommitted = true;
        self.wait_for_bandwidth()
    }

    /// Sends a message that ends with content, given without it.
    pub(super) fn send_content(&mut self, head: &ToReceiver<'_>, content: &Content<'_>) -> Done {
        if self.shared.options.dry_run {
            return Ok(());
        }
        self.operations.add(head, self.batch);
        self.cutting.sends();
        self.shared.outbox.send_content(head, content)?;
        self.uncommitted = true;
        self.wait_for_bandwidth()
    }

    /// Waits until what was sent is within the bandwidth limit, or until the session is to stop.
    fn wait_for_bandwidth(&self) -> Done {
        let Some(due) = self.shared.outbox.due() else { return Ok(()) };
        self.shared.outbox.flush()?;
        let mut seen = 0;
        while !self.shared.mailbox.is_closed() && Instant::now() < due {
            self.shared.mailbox.wait_closed(&mut seen, due);
        }
        Ok(())
    }

    /// Records a failure of the change that is being sent.
    pub(super) fn fail(&self, path: &RelPath, operation: &str, errno: i32) {
        let (age, need) = (self.age, None);
        self.shared.problem(path, Failure { operation, errno, on_target: false, unseen: false, age, need });
    }

    /// Records a failure on the target, of what was sent for a change of this age.
    pub(super) fn fail_there(&self, path: &RelPath, operation: &str, errno: i32, age: Age) {
        let need = self.need_of(path, errno);
        self.shared.problem(path, Failure { operation, errno, on_target: true, unseen: false, age, need });
    }

    /// Returns what a path needs on the target, where its failure may be for lack of that. A single pass
    /// tries each path once and waits for none.
    fn need_of(&self, path: &RelPath, errno: i32) -> Option<Need> {
        let speaks_of_room = matches!(errno, libc::ENOSPC | libc::EDQUOT) && self.shared.options.live;
        let entry = speaks_of_room.then(|| self.shared.source.entry(path, &self.shared.mask).ok().flatten());
        entry.flatten().map(|entry| self.shared.need(&entry))
    }

    /// Whether what is to be sent waits for room on the target.
    fn waits_for_room(&self, path: &RelPath, entry: &Entry, age: Age) -> bool {
        let tell = |errno| {
            let (path, operation) = (path.clone(), "write".to_owned());
            self.shared.notice(&Notice::Problem { path, operation, errno, on_target: true });
        };
        let need = self.shared.need(entry);
        self.shared.options.live && self.shared.status.waits_for_room(path, need, age, tell)
    }

    pub(super) fn touch_parent(&mut self, path: &RelPath) {
        if let Some(parent) = path.parent() {
            self.touched.insert(parent);
        }
    }

    /// Has the time of a path's directory set where the target has not done what was sent for the path: what
    /// it began came and went there, and what follows may be sent to another directory, or not at all.
    pub(super) fn touch_again(&mut self, path: &RelPath) {
        self.touch_parent(path);
        self.uncommitted = true;
    }

    /// Whether what is at a path now is part of what the target is offered: a rename of a directory above may have
    /// taken it to where a filter leaves it out, and a rule may leave out directories alone.
    fn is_offered(&self, path: &RelPath, kind: Kind, lane: Lane) -> bool {
        // What a list names, and the directories above it, a pass has chosen by itself.
        let chosen = lane == Lane::Bulk && self.shared.options.sync.selection.files_from.is_some();
        chosen || self.shared.offers(path, kind == Kind::Dir)
    }

    fn send_update(&mut self, parcel: Parcel) -> Done {
        let ChangeKind::Update { path, scope } = parcel.change.kind.clone() else { return Ok(()) };
        let began = Instant::now();
        let entry = match self.shared.source.entry_by(&mut self.way, &path, &self.shared.mask) {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                self.look_who(&path, None, scope);
                self.note_vanished(&path, parcel.change.age, scope == Extent::Content);
                return Ok(());
            }
            Err(error) => {
                self.fail(&path, "read", errno_of(&error));
                return Ok(());
            }
        };
        self.look_who(&path, Some(entry.id), scope);
        self.shared.held.is_back(&path);
        let kind = entry.attrs.meta.kind;
        if !self.is_offered(&path, kind, parcel.lane)
            || !self.shared.mask.carries(kind)
            || self.shared.is_beyond(&path)
        {
            return Ok(());
        }
        let rules = &self.shared.rules;
        let selects = rules.selects() || self.shared.options.sync.selection.limits_size();
        if parcel.lane == Lane::Live && selects && (kind != Kind::Dir || rules.existing) {
            // Only a comparison knows whether the target's version is to stay.
            let reads = scope == Extent::Content && kind == Kind::File;
            let reason = if reads { RescanReason::Arrived } else { RescanReason::Mismatch };
            let mut names = std::collections::BTreeSet::from([path]);
            if rules.spare() && entry.nlink > 1 && kind != Kind::Dir && self.shared.mask.hard_links {
                names.extend(self.shared.links().of(entry.id));
            }
            for name in names {
                self.start_pass(name, reason, parcel.change.age);
            }
            return Ok(());
        }
        if kind == Kind::File {
            self.send_file(path.clone(), entry, scope, parcel)?;
        } else {
            let made = scope == Extent::Absent || (kind != Kind::Dir && scope != Extent::Attributes);
            if !self.send_as_link(&path, &entry, &parcel)?
                && !self.send_borrowed(&path, &entry, (scope, &parcel))?
            {
                if made && self.waits_for_room(&path, &entry, parcel.change.age) {
                    return Ok(());
                }
                self.send_entry(&path, entry, scope, began)?;
            }
            self.keep(parcel);
        }
        self.shared.feedback.sent(&path, began.elapsed());
        Ok(())
    }

    /// Sends what is no regular file.
    fn send_entry(&mut self, path: &RelPath, entry: Entry, scope: Extent, began: Instant) -> Done {
        let mut attrs = entry.attrs.clone();
        self.shared.view.adjust(&mut attrs);
        let counters = &self.shared.status.counters;
        let message = if attrs.meta.kind == Kind::Dir {
            Counters::add(&counters.dirs, 1);
            self.touched.insert(path.clone());
            ToReceiver::Mkdir { path: path.clone(), attrs }
        } else if scope == Extent::Attributes {
            Counters::add(&counters.attrs, 1);
            let expect = Expect::Kind(attrs.meta.kind);
            ToReceiver::Attrs { path: path.clone(), attrs, expect }
        } else {
            Counters::add(&counters.nodes, 1);
            ToReceiver::Node { path: path.clone(), attrs }
        };
        self.send(&message)?;
        self.shared.status.tried(path, self.batch);
        // A directory is made where it is gone meanwhile.
        if scope != Extent::Attributes || entry.attrs.meta.kind == Kind::Dir {
            self.touch_parent(path);
        }
        if scope == Extent::Absent {
            Counters::add(&self.shared.status.counters.created, 1);
        }
        let links = entry.nlink > 1 && self.shared.mask.hard_links && !self.shared.is_apart(path);
        self.itemize(path, entry.clone(), scope);
        if links && scope != Extent::Attributes {
            let sent = Sent { version: entry.version(), began, hash: [0; 32], provisional: 0 };
            self.begin_group(path, &entry, sent)?;
        }
        Ok(())
    }

    fn send_file(&mut self, path: RelPath, entry: Entry, scope: Extent, parcel: Parcel) -> Done {
        let several = entry.nlink > 1 && self.shared.mask.hard_links;
        // A name that is new to its group may stand on the target as a file of its own. Where this session has sent
        // the file under no name, what the target holds is as good as before.
        let joins = several && self.shared.links().is_to_join(entry.id, &path);
        if scope == Extent::Attributes && !joins {
            self.send_attrs(&path, entry)?;
            self.keep(parcel);
            return Ok(());
        }
        if self.send_as_link(&path, &entry, &parcel)? {
            self.keep(parcel);
            return Ok(());
        }
        if self.send_borrowed(&path, &entry, (scope, &parcel))? {
            self.keep(parcel);
            return Ok(());
        }
        if self.shared.options.dry_run {
            return self.would_send(&path, &entry, scope);
        }
        if several {
            // Until it was: should the name go before, another one is read.
            self.shared.links().mark(entry.id, &path, true);
        }
        if self.waits_for_room(&path, &entry, parcel.change.age) {
            return Ok(());
        }
        if entry.attrs.meta.size > SMALL_LEN {
            self.jobs.add(path, parcel, scope);
            return Ok(());
        }
        self.send_small(path, scope, parcel)
    }

    /// Tells of a file that would be sent, and reads none of it.
    fn would_send(&mut self, path: &RelPath, entry: &Entry, scope: Extent) -> Done {
        let counters = &self.shared.status.counters;
        Counters::add(&counters.files, 1);
        Counters::add(&counters.file_bytes, entry.attrs.meta.size);
        Counters::add(&counters.created, u64::from(scope == Extent::Absent));
        self.itemize(path, entry.clone(), scope);
        if entry.nlink > 1 && self.shared.mask.hard_links {
            let sent =
                Sent { version: entry.version(), began: Instant::now(), hash: [0; 32], provisional: 0 };
            self.begin_group(path, entry, sent)?;
        }
        Ok(())
    }

    pub(super) fn send_attrs(&mut self, path: &RelPath, entry: Entry) -> Done {
        let mut attrs = entry.attrs.clone();
        self.shared.view.adjust(&mut attrs);
        let rules = &self.shared.rules;
        let expect = if rules.size_only || rules.modify_window > Duration::ZERO || self.shared.mask.checksum {
            Expect::Kind(Kind::File)
        } else {
            version_of(&entry)
        };
        Counters::add(&self.shared.status.counters.attrs, 1);
        self.send(&ToReceiver::Attrs { path: path.clone(), attrs, expect })?;
        self.itemize(path, entry, Extent::Attributes);
        Ok(())
    }

    /// Reads a file whole and sends it in one message.
    fn send_small(&mut self, path: RelPath, scope: Extent, parcel: Parcel) -> Done {
        let (source, mask) = (&self.shared.source, &self.shared.mask);
        let read = source.file_by(&mut self.way, &path, mask, parcel.issued).and_then(|file| {
            let mut content = std::mem::take(&mut self.buffer);
            if source.is_shared() || !file.whole(&mut content)? {
                whole(&file, &mut content)?;
            }
            let end = file.finish()?;
            Ok((file, content, end))
        });
        let (file, content, end) = match read {
            Ok(read) => read,
            Err(error) => return self.read_failed(&path, &error, parcel.change.age),
        };
        let End::Version { entry, hash, provisional } = end else {
            return self.send_again(path, &parcel, BUSY_AGAIN);
        };
        if self.is_known(&path, &entry, &hash) {
            // Read again for certainty's sake, and nothing new: at most it is certain now.
            return self.settle_version(&path, provisional);
        }
        let mut attrs = entry.attrs.clone();
        self.shared.view.adjust(&mut attrs);
        self.put(&path, attrs, (hash, provisional, entry.nlink == 1), (&file, &content))?;
        self.buffer = content;
        let version = Delivered { entry: &entry, hash, provisional };
        self.sent_content(&path, &file, scope, &version)?;
        self.keep(parcel);
        Ok(())
    }

    pub(super) fn read_failed(&mut self, path: &RelPath, error: &io::Error, age: Age) -> Done {
        if is_absence(error) {
            self.note_vanished(path, age, true);
        } else {
            self.fail(path, "read", errno_of(error));
        }
        Ok(())
    }

    /// Has a path looked at once more later; a single pass waits for it here and now.
    pub(super) fn send_again(&mut self, path: RelPath, parcel: &Parcel, after: Duration) -> Done {
        if self.shared.options.live {
            self.shared.feedback.again(&path, after, parcel.issued, (parcel.change.age, true));
            return Ok(());
        }
        let (count, _) = self.mismatches.entry(path.clone()).or_insert((0, Instant::now()));
        *count += 1;
        if *count > 20 {
            self.fail(&path, "read", libc::EBUSY);
            return Ok(());
        }
        // A pass of its own has nothing else to wait on: the writer tells nobody when it is done.
        std::thread::sleep(after.min(BUSY_AGAIN));
        self.shared.mailbox.push_live([Change::read(path, parcel.change.age)]);
        Ok(())
    }

    /// Keeps the books after the content of a file was sent.
    pub(super) fn sent_content(
        &mut self,
        path: &RelPath,
        file: &SourceFile,
        scope: Extent,
        version: &Delivered<'_>,
    ) -> Done {
        let entry = version.entry;
        let counters = &self.shared.status.counters;
        Counters::add(&counters.files, 1);
        Counters::add(&counters.file_bytes, entry.attrs.meta.size);
        if scope == Extent::Absent {
            Counters::add(&counters.created, 1);
        }
        self.touch_parent(path);
        self.whole.remove(path);
        self.shared.status.tried(path, self.batch);
        let before = self.recent.get(path).map_or(0, |sent| sent.provisional);
        let provisional = if version.provisional { before + 1 } else { 0 };
        let sent = Sent { version: file.version(), began: file.began, hash: version.hash, provisional };
        self.recent.insert(path.clone(), sent);
        self.shared.links().mark(entry.id, path, version.provisional);
        let racy = Duration::from_secs(if self.shared.mask.granularity_ns >= 1_000_000_000 { 2 } else { 0 })
            .max(RACY);
        if version.provisional {
            let after = pause(provisional).max(file.began.elapsed() * 10);
            self.shared.feedback.again(path, after, file.began, (self.age, false));
        } else if is_racy(entry, racy) {
            self.shared.feedback.racy(path, version.hash, racy * 2);
        }
        let mut shown = entry.clone();
        shown.name = path.name().to_vec();
        self.itemize(path, shown, scope);
        if entry.nlink > 1 && self.shared.mask.hard_links && !self.shared.is_apart(path) {
            self.begin_group(path, entry, sent)?;
        }
        Ok(())
    }

    /// Whether the target holds just this, as sent in this session: same inode, content and metadata.
    fn is_known(&self, path: &RelPath, entry: &Entry, hash: &[u8; 32]) -> bool {
        self.recent
            .get(path)
            .is_some_and(|sent| sent.provisional > 0 && sent.hash == *hash && sent.version == entry.version())
    }

    /// Keeps the books after a provisional version was read again and was the same.
    fn settle_version(&mut self, path: &RelPath, provisional: bool) -> Done {
        let Some(mut sent) = self.recent.get(path) else { return Ok(()) };
        if provisional {
            sent.provisional += 1;
            self.shared.feedback.again(path, pause(sent.provisional), sent.began, (self.age, false));
        } else {
            sent.provisional = 0;
            self.shared.links().mark(sent.version.id, path, false);
            self.send(&ToReceiver::Confirm(vec![path.clone()]))?;
        }
        self.recent.insert(path.clone(), sent);
        Ok(())
    }

    /// Does what an answer of the target asks for.
    pub(super) fn answer(&mut self, reply: Reply) -> Done {
        match reply {
            Reply::Problem(about, operation, errno) => {
                for answered in self.about(about)? {
                    self.failed(&answered, &operation, errno)?;
                }
            }
            Reply::SetAside(path) => self.shared.notice(&Notice::SetAside { path }),
            Reply::Signature(stream, signature) => self.jobs.signed(stream, Some(signature)),
            Reply::NoBasis(stream) => self.jobs.signed(stream, None),
            Reply::Stopped(stream) => {
                // Owed until it is known why: that is said next.
                if let Some(parcel) = self.jobs.stop(stream) {
                    self.open.push(parcel);
                    self.uncommitted = true;
                }
            }
            Reply::Partial(stream, chunks) => self.jobs.told(stream, chunks),
            Reply::Rotten(rotten) => self.rotten(&rotten)?,
            Reply::HandOver(asked) => self.is_asked_to_hand_over(&asked)?,
            Reply::Undone(about, why) => {
                for answered in self.about(about)? {
                    self.undone(&answered, why)?;
                }
            }
        }
        Ok(())
    }

    /// Returns what an answer is about.
    fn about(&mut self, about: About) -> Result<Vec<Answered>, SessionError> {
        let of = match about {
            About::Path(path) => return Ok(vec![Answered::named(path)]),
            About::Subject(of) => of,
        };
        let unknown = || SessionError::Fatal("it answers what it was not asked".to_owned());
        self.operations.subject(of).ok_or_else(unknown)
    }

    fn itemize(&self, path: &RelPath, mut entry: Entry, scope: Extent) {
        if !self.shared.monitor.itemizes() {
            self.beside(path);
            return;
        }
        let mut old = self.shared.old.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(path);
        let kind = entry.attrs.meta.kind;
        if let Some(beside) = self.beside(path).filter(|_| scope == Extent::Absent) {
            if kind != Kind::File {
                return self.itemize_borrowed(path, &entry, beside);
            }
            old = Some(beside);
        }
        if scope == Extent::Attributes && self.is_told(path, &entry) {
            return;
        }
        if !self.shared.options.live {
            self.shared.note_old(&entry, old.as_deref());
        }
        let created = scope == Extent::Absent && old.is_none();
        // As it is to look there: that is what the target's is compared with.
        crate::scan::View::adjust(&self.shared.view, &mut entry.attrs);
        let item = Itemized::Changed {
            path: self.shared.source.called(path),
            created,
            content: scope != Extent::Attributes && entry.attrs.meta.kind == Kind::File,
            new: Box::new(entry),
            old,
        };
        self.shared.monitor.itemized(&self.shared.about, &item);
    }

    /// Whether a large file had better wait for its writer to close it.
    pub(super) fn must_wait(&self, file: &SourceFile, parcel: &Parcel) -> bool {
        self.shared.options.live
            && parcel.lane == Lane::Live
            && file.size() > LARGE_LEN
            && file.is_being_written()
            && parcel.change.age.since.elapsed() < self.shared.options.sync.max_open
            && !self.shared.mailbox.is_awaited(parcel.change.age.since)
    }
}

/// Reads a small file in pieces, its holes filled with zeros, in place of what `content` held.
fn whole(file: &SourceFile, content: &mut Vec<u8>) -> io::Result<()> {
    content.clear();
    loop {
        match file.piece(content.len() as u64)? {
            Piece::Data(data) => content.extend_from_slice(&data),
            Piece::Hole(len) => {
                let end = content.len() + usize::try_from(len).unwrap_or(0);
                content.resize(end, 0);
            }
            Piece::End => return Ok(()),
        }
    }
}

/// Returns when a version that was provisional `times` times in a row is read again: events tell of
/// most changes, so the pauses grow to a minute.
fn pause(times: u32) -> Duration {
    PROVISIONAL_AGAIN.saturating_mul(1 << times.saturating_sub(1).min(9)).min(Duration::from_secs(60))
}

pub(super) fn version_of(entry: &Entry) -> Expect {
    let meta = &entry.attrs.meta;
    Expect::Version { kind: meta.kind, size: meta.size, mtime: meta.mtime }
}

/// Whether a file was stamped so shortly before now that another write may bear the same stamp.
fn is_racy(entry: &Entry, span: Duration) -> bool {
    let stamp = entry.attrs.meta.mtime;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let stamp = Duration::new(u64::try_from(stamp.secs).unwrap_or(0), stamp.nanos.min(999_999_999));
    now.saturating_sub(stamp) < span
}
