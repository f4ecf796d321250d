//! One message after the other.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::access::Access;
use super::answers::Answers;
use super::arrived::Gathering;
use super::cases::{self, Instead};
use super::dir_cache::{Content, DirCache};
use super::durable::Durable;
use super::elsewhere::Elsewhere;
use super::foreign::Foreign;
use super::greeting::Session;
use super::ground::{Ground, keep_watch};
use super::install::Undone;
use super::left_out::left_out;
use super::owners::Names;
use super::partial::Partials;
use super::passes::Passes;
use super::policy::Policy;
use super::remembering::Remembering;
use super::reply::Reply;
use super::retention::Answer;
use super::roles::Led;
use super::sign::Signing;
use super::state::State;
use super::streams::{Stream, Streams};
use super::trash::Trash;
use super::{ReceiverError, policy};
use crate::disk::Root;
use crate::filter::Filter;
use crate::protocol::{
    Errand, FrameError, Hello, StateMode, StreamId, Subject, ToReceiver, ToSender, VERSION_KEPT,
    VERSION_STAYS,
};
use crate::tree::{Mask, RelPath};

/// Applies what a sender says.
pub(super) struct Applier {
    pub(super) root: Arc<Root>,
    ground: Arc<Ground>,
    pub(super) reply: Arc<Reply>,
    answers: Answers,
    pub(super) mask: Mask,
    pub(super) tag: u32,
    pub(super) dry_run: bool,
    pub(super) state: Option<Arc<State>>,
    pub(super) foreign: Option<Foreign>,
    pub(super) trash: Option<Trash>,
    errand: Errand,
    pub(super) partials: Option<Partials>,
    pub(super) remembering: Arc<Remembering>,
    pub(super) durable: Durable,
    pub(super) signing: Signing,
    pub(super) streams: Streams,
    pub(super) passes: Passes,
    pub(super) policy: Policy,
    /// What the sender is held to.
    kept_to: Option<Filter>,
    pub(super) elsewhere: Elsewhere,
    pub(super) way: Option<DirCache>,
    /// This session has made the root, which has no attributes of the source's yet.
    pub(super) fresh: Arc<AtomicBool>,
    names: Names,
    boot_id: String,
    led: Option<Led>,
    arrived: Gathering,
}

pub(super) type Applied = Result<(), Undone>;

/// Returns what keeps what has arrived of large files, where the session is one of those that go on from it.
fn partials_of(hello: &Hello, version: u32, root: &Arc<Root>) -> Option<Partials> {
    let keeps = hello.state == StateMode::Keep || hello.terms.partial;
    let speaks = version >= VERSION_KEPT && hello.terms.errand == Errand::Mirror;
    let traceless = hello.outside || hello.state == StateMode::Traceless;
    (keeps && speaks && !hello.dry_run).then(|| Partials::open(root, traceless))
}

impl Applier {
    pub fn new(
        session: Session,
        hello: &Hello,
        reply: Arc<Reply>,
        names: Names,
    ) -> Result<Self, ReceiverError> {
        let own = |what| move |error| ReceiverError::Own { what, error };
        let Session {
            root,
            ground,
            state,
            foreign,
            trash,
            memory,
            filter,
            tag,
            policy,
            reply: greeting,
            fresh,
            led,
            elsewhere,
            ..
        } = session;
        let fresh = Arc::new(AtomicBool::new(fresh));
        let filter = if hello.delete_excluded { filter.with_delete_excluded() } else { filter };
        let kept_to = policy.keeps_to_filter().then(|| filter.clone());
        let mask = hello.mask.both(greeting.profile);
        if !hello.dry_run {
            let (ours, asking) = ((Arc::clone(&ground), Arc::clone(&reply)), led.as_ref().map(Led::asking));
            keep_watch(ours.0, state.clone(), ours.1, asking).map_err(own("watch the session"))?;
        }
        let partials = partials_of(hello, greeting.version, &root);
        if let Some(partials) = &partials {
            reply.send(&ToSender::Partials(partials.marks()))?;
        }
        let remembering = Remembering::new(state.clone(), memory);
        let arrived = Gathering::new(&root, state.as_deref(), hello.dry_run);
        let done = arrived.and_then(Arc::clone(&remembering));
        let durable = Durable::new(hello, Arc::clone(&ground), Arc::clone(&reply), done)
            .map_err(own("start a thread"))?;
        let signing = Signing::new(Arc::clone(&reply)).map_err(own("start a thread"))?;
        let passes = Passes::new(Arc::clone(&root), Arc::clone(&reply), filter, mask, tag)
            .one_file_system(hello.one_file_system)
            .whole(greeting.version >= VERSION_STAYS)
            .fresh(Arc::clone(&fresh))
            .alone(!hello.dry_run)
            .own(foreign.as_ref().map(|foreign| foreign.own.clone()))
            .doubting(led.as_ref().and_then(Led::doubt));
        Ok(Self {
            root,
            ground,
            answers: Answers::new(Arc::clone(&reply), greeting.version),
            reply,
            mask,
            tag,
            dry_run: hello.dry_run,
            state,
            foreign,
            trash,
            errand: hello.terms.errand,
            partials,
            remembering,
            durable,
            signing,
            streams: Streams::default(),
            passes,
            names,
            policy,
            kept_to,
            elsewhere,
            way: None,
            fresh,
            boot_id: greeting.boot_id,
            led,
            arrived,
        })
    }

    /// Does what one message asks for.
    pub fn handle(&mut self, message: ToReceiver<'_>) -> Result<(), ReceiverError> {
        if !matches!(message, ToReceiver::Put { .. } | ToReceiver::Delete { .. }) {
            self.way = None;
        }
        self.answers.count(&message);
        self.look_around(&message)?;
        match message {
            ToReceiver::Owners(names) => {
                let owners = self.names.owners(names);
                self.reply.send(&ToSender::Owners(owners))?;
            }
            ToReceiver::Commit { batch } => {
                self.save_own();
                self.durable.commit(batch, self.arrived.commit());
            }
            asked if is_of_pass(&asked) => self.compare(asked)?,
            ToReceiver::State(stated) => {
                if let Some(state) = &self.state {
                    // Who asks on the target learns of it; the mirror does not depend on it.
                    let _ = state.note(&stated);
                }
            }
            ToReceiver::Position(mark) => {
                if let Some(state) = self.state.as_ref().filter(|_| self.check_session().is_ok()) {
                    // As above.
                    let _ = state.reach(mark);
                }
            }
            ToReceiver::Watermark(watermark) => {
                self.remembering.remember(|memory| memory.watermark = Some(*watermark));
            }
            ToReceiver::Cut(_) | ToReceiver::Handing(_) => self.told_as_standby(message),
            ToReceiver::Upstream(trees) => {
                if let Some(state) = &self.state {
                    // As above: what is unknown here is refused by the sender that knows it.
                    let _ = state.note_upstream(trees);
                }
            }
            ToReceiver::Ping(number) => self.reply.send(&ToSender::Pong(number))?,
            ToReceiver::Sign { stream, path } => self.sign(stream, &path, Some(Arc::clone(&self.root)))?,
            ToReceiver::SignBeside { stream, path, which } => {
                self.sign(stream, &path, self.elsewhere.besides.get(which).cloned())?;
            }
            ToReceiver::Resume { stream, path } => {
                let there = self.partials.as_ref().and_then(|partials| partials.look(&path));
                self.signing.order_chunks(stream, there);
            }
            ToReceiver::Examine if self.dry_run => {
                let mut found = super::examine::examine(&self.root, &self.mask, self.tag);
                found.user = self.names.own();
                found.place.boot_id.clone_from(&self.boot_id);
                found.lacks.extend(self.policy.lacks());
                found.free_bytes = self.policy.leaves(found.free_bytes);
                self.reply.send(&ToSender::Examined(Box::new(found)))?;
            }
            ToReceiver::Discard(_) if self.dry_run => {}
            ToReceiver::Kept(order) => super::retention::list(&self.root, &order, &self.reply)?,
            ToReceiver::Undo(order) if self.errand == Errand::Keeper && !self.dry_run => {
                super::undo::undo(&self.root, &order, Answer::new(&self.reply), false)?;
                self.arrived.everything();
            }
            ToReceiver::Restore(order) if self.errand == Errand::Keeper => {
                let answer = Answer::new(&self.reply).in_full();
                super::undo::undo(&self.root, &order, answer, self.dry_run)?;
                self.arrived.everything();
            }
            ToReceiver::Undo(_) | ToReceiver::Restore(_) => return Err(ReceiverError::Unexpected),
            ToReceiver::Hello(_) | ToReceiver::Bye | ToReceiver::Widen { .. } | ToReceiver::Wanted { .. } => {
                return Err(ReceiverError::Unexpected);
            }
            _ if self.dry_run => return Err(ReceiverError::Unexpected),
            change => self.change(change)?,
        }
        Ok(())
    }

    /// Takes in what only a primary says.
    fn told_as_standby(&self, message: ToReceiver<'_>) {
        let Some(led) = self.led.as_ref().filter(|_| self.check_session().is_ok()) else { return };
        match message {
            ToReceiver::Cut(cut) => led.cut(cut),
            ToReceiver::Handing(handing) => led.handing(handing),
            _ => {}
        }
    }

    /// Does what a message of a pass asks for.
    fn compare(&mut self, message: ToReceiver<'_>) -> Result<(), ReceiverError> {
        match message {
            ToReceiver::Beside { pass, which } => {
                self.passes.beside(pass, self.elsewhere.besides.get(which).cloned())
            }
            ToReceiver::Scan { pass, top, options } => self.passes.start(pass, top, options)?,
            ToReceiver::List { pass, dir } => self.passes.list(pass, dir),
            ToReceiver::Links { pass } => self.passes.links(pass),
            ToReceiver::Agreed { pass, dir, except } => self.passes.agreed(pass, dir, except),
            ToReceiver::Hash { pass, path } => self.passes.hash(pass, path),
            ToReceiver::Prove { pass, path, rate } => self.passes.prove(pass, path, rate),
            ToReceiver::EndPass { pass } => self.passes.end(pass),
            _ => return Err(ReceiverError::Unexpected),
        }
        Ok(())
    }

    /// Ends the session before a message that may not be heeded any more. The path is looked up where
    /// something is stated, compared or to be made durable; a change asks only whether it is wanted.
    fn look_around(&self, message: &ToReceiver<'_>) -> Result<(), ReceiverError> {
        if self.dry_run {
            return Ok(());
        }
        let why = match message {
            ToReceiver::State(_)
            | ToReceiver::Scan { .. }
            | ToReceiver::EndPass { .. }
            | ToReceiver::Commit { .. } => self.ground.ended(),
            _ => self.ground.closed(),
        };
        let Some(why) = why else { return Ok(()) };
        self.ground.tell(&self.reply, why);
        Err(ReceiverError::Unexpected)
    }

    /// Ends the session: what is in flight is given up, what was committed is flushed.
    pub fn finish(&mut self) {
        self.streams.abandon_all();
        self.signing.finish();
        self.save_own();
        self.durable.finish();
        self.arrived.finish();
        if let Some(state) = &self.state {
            state.forget_holder();
        }
        if let Some(partials) = &mut self.partials {
            partials.finish();
        }
    }

    /// What is the agent's own under the root is nobody else's to change, and what this side leaves out neither.
    fn refuse_own(&mut self, operation: &ToReceiver<'_>, path: RelPath) -> Result<(), ReceiverError> {
        self.refuse(operation, path, Undone::Os("change", libc::EPERM))
    }

    fn refuse(
        &mut self,
        operation: &ToReceiver<'_>,
        path: RelPath,
        why: Undone,
    ) -> Result<(), ReceiverError> {
        match operation {
            ToReceiver::Open { stream, .. } | ToReceiver::OpenKept { stream, .. } => {
                self.reply.send(&ToSender::Stopped { stream: *stream })?;
            }
            ToReceiver::Close { stream, .. } => self.streams.abandon(*stream),
            _ => {}
        }
        self.answer(self.answers.subject(operation), path, Err(why))
    }

    /// Answers an operation on a name that stands there in other case; `true` if it was one.
    fn is_of_other_case(&mut self, operation: &ToReceiver<'_>) -> Result<bool, ReceiverError> {
        if !self.policy.folds_case() {
            return Ok(false);
        }
        let closing = match operation {
            ToReceiver::Close { stream, .. } => self.streams.open.get(stream).map(|stream| &stream.path),
            _ => None,
        };
        match cases::instead(&self.root, operation, closing) {
            None => return Ok(false),
            Some(Instead::Nothing) => {}
            Some(Instead::Fail(path, why)) => self.refuse(operation, path, why)?,
        }
        Ok(true)
    }

    /// Signs what stands at a path in the root, or in a directory beside it.
    fn sign(&mut self, stream: StreamId, path: &RelPath, root: Option<Arc<Root>>) -> Result<(), FrameError> {
        if self.streams.is_full() || crate::scan::is_own(path) {
            return self.reply.send(&ToSender::NoBasis { stream });
        }
        match root.and_then(|root| self.streams.basis(&root, stream, path)) {
            Some((basis, size)) if size > 0 => self.signing.order(stream, basis, size),
            _ => self.reply.send(&ToSender::NoBasis { stream })?,
        }
        Ok(())
    }

    /// Does what belongs to no single path, or hands the message on to [`Applier::operate`].
    fn change(&mut self, message: ToReceiver<'_>) -> Result<(), ReceiverError> {
        if self.is_of_other_case(&message)? {
            return Ok(());
        }
        if let Some(path) = self.policy.kept(&message) {
            return self.refuse_own(&message, path.clone());
        }
        if let Some(filter) = &self.kept_to
            && let Some(path) = left_out(filter, &self.root, &message)
        {
            return self.refuse_own(&message, path.clone());
        }
        let of = self.answers.subject(&message);
        match message {
            ToReceiver::Data { stream, data } => {
                let policy = self.policy;
                return self.stream(stream, |stream| {
                    policy.room_to_grow(stream.file.as_fd(), stream.len(), data.len() as u64)?;
                    stream.data(&data)
                });
            }
            ToReceiver::Copy { stream, offset, len } => {
                let policy = self.policy;
                return self.stream(stream, |stream| {
                    policy.room_to_grow(stream.file.as_fd(), stream.len(), len)?;
                    stream.copy(offset, len)
                });
            }
            ToReceiver::Hole { stream, len } => return self.stream(stream, |stream| stream.hole(len)),
            ToReceiver::Abandon { stream } => self.streams.abandon(stream),
            ToReceiver::DirTime { path, .. } if crate::scan::is_own(&path) => {}
            ToReceiver::DirTime { path, mtime } => {
                let dir = self.root.place(&path);
                match dir.and_then(|dir| crate::disk::set_times(dir.as_fd(), mtime)) {
                    // Gone or replaced meanwhile: a change that is still to come says so.
                    Err(error) if is_absence(&error) => {}
                    Err(error) => {
                        let why = Undone::Os("set time", crate::error::errno_of(&error));
                        return self.answer(of, path, Err(why));
                    }
                    Ok(()) => {}
                }
            }
            ToReceiver::InStep => self.in_step()?,
            ToReceiver::Adopt => self.remembering.remember(|memory| memory.strange = false),
            ToReceiver::Mounts(mounts) => self.remembering.remember(|memory| memory.mounts = mounts),
            ToReceiver::Confirm(paths) => {
                let paths: std::collections::HashSet<RelPath> = paths.into_iter().collect();
                self.remembering.change(|memory| memory.provisional.retain(|path| !paths.contains(path)));
            }
            operation => {
                if let Some(path) = policy::own_path(&operation) {
                    return self.refuse_own(&operation, path.clone());
                }
                let _access = Access::for_message(&self.root, &self.streams, &operation);
                let change = self.arrived.begin(&operation);
                let (path, applied) = self.operate(operation)?;
                if let Some(change) = change.filter(|_| applied.is_ok()) {
                    self.arrived.done(&path, change);
                }
                return self.answer(of, path, applied);
            }
        }
        Ok(())
    }

    /// Takes in that the tree is as its primary's. Where that cannot be written the session ends: it could not be
    /// promoted, and nobody would know.
    fn in_step(&mut self) -> Result<(), ReceiverError> {
        let Some(led) = self.led.as_ref().filter(|_| self.check_session().is_ok()) else {
            return Err(ReceiverError::Unexpected);
        };
        self.save_own();
        let Err(error) = led.in_step() else {
            self.passes.believe();
            return Ok(());
        };
        self.reply.send(&ToSender::Fatal(error.to_string().into()))?;
        Err(ReceiverError::Unexpected)
    }

    /// Does one operation on one path; returns the path that it is answered for.
    fn operate(&mut self, message: ToReceiver<'_>) -> Result<(RelPath, Applied), ReceiverError> {
        Ok(match message {
            ToReceiver::Open { stream, path, size, basis } => {
                let opened = self.open(stream, &path, size, basis);
                if opened.is_err() {
                    self.reply.send(&ToSender::Stopped { stream })?;
                }
                (path, opened)
            }
            ToReceiver::OpenKept { stream, path, size, basis, from } => {
                let opened = self.open_kept(stream, &path, (size, basis, from));
                if opened.is_err() {
                    self.reply.send(&ToSender::Stopped { stream })?;
                }
                (path, opened)
            }
            ToReceiver::Close { stream, attrs, hash, provisional } => {
                let Some(mut stream) = self.streams.open.remove(&stream) else {
                    return Ok((RelPath::root(), Ok(())));
                };
                let closed = self.close(&mut stream, &attrs, &hash, provisional);
                if closed.is_err() {
                    stream.abandon();
                }
                (stream.path, closed)
            }
            ToReceiver::Mkdir { path, attrs } => (path.clone(), self.mkdir(&path, &attrs)),
            ToReceiver::Node { path, attrs } => (path.clone(), self.node(&path, &attrs)),
            ToReceiver::Attrs { path, attrs, expect } => {
                let done = self.attrs(&path, &attrs, &expect);
                (path, done)
            }
            ToReceiver::Link { path, existing, expect } => {
                let done = self.link(&path, &existing, &expect);
                (path, done)
            }
            ToReceiver::Rename { from, to, expect } => {
                let done = self.rename(&from, &to, &expect);
                // What still stands at the old name is as unknown as the new one.
                if let Err(why @ (Undone::Why(_) | Undone::Os(..))) = &done
                    && self.answers.is_by_name()
                {
                    self.answers.not_done(Subject::Operation(0), from, why)?;
                }
                (to, done)
            }
            ToReceiver::Delete { path, expect, keep_strangers } => {
                let done = self.delete(&path, &expect, keep_strangers);
                (path, done)
            }
            ToReceiver::KeepAside { path, expect } => {
                let kept = self.keep_aside(&path, &expect);
                (path, kept)
            }
            ToReceiver::Borrow { path, which, link, attrs, expect } => {
                let done = self.borrow(&path, (which, link), &attrs, &expect);
                (path, done)
            }
            ToReceiver::Duplicate { path, like, attrs, hash, provisional } => {
                let put = self.duplicate(&path, &like, &attrs, (hash, provisional));
                (path, put)
            }
            ToReceiver::Put { path, attrs, hash, provisional, data } => {
                let put = self.put(&path, &attrs, &Content { hash, provisional, data: &data });
                (path, put)
            }
            _ => return Err(ReceiverError::Unexpected),
        })
    }

    fn answer(&mut self, of: Subject, path: RelPath, applied: Applied) -> Result<(), ReceiverError> {
        let Err(why) = applied else { return Ok(()) };
        self.answers.not_done(of, path, &why)?;
        if matches!(why, Undone::Evicted) { Err(ReceiverError::Unexpected) } else { Ok(()) }
    }

    /// Does one step of a stream; the first that fails ends it, and the sender hears of it at once:
    /// the rest of the file may be 100 GB.
    fn stream(
        &mut self,
        id: StreamId,
        step: impl FnOnce(&mut Stream) -> Applied,
    ) -> Result<(), ReceiverError> {
        // What still comes for a stream that has ended was on its way before.
        let Some(stream) = self.streams.open.get_mut(&id) else { return Ok(()) };
        let Err(failed) = step(stream) else { return Ok(()) };
        let path = stream.path.clone();
        self.streams.abandon(id);
        self.reply.send(&ToSender::Stopped { stream: id })?;
        self.answer(Subject::Stream(id), path, Err(failed))
    }
}

/// Whether a message belongs to a pass.
fn is_of_pass(message: &ToReceiver<'_>) -> bool {
    matches!(
        message,
        ToReceiver::Beside { .. }
            | ToReceiver::Scan { .. }
            | ToReceiver::List { .. }
            | ToReceiver::Links { .. }
            | ToReceiver::Agreed { .. }
            | ToReceiver::Hash { .. }
            | ToReceiver::Prove { .. }
            | ToReceiver::EndPass { .. }
    )
}

fn is_absence(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}
