//! The near side of a pull: the receiver here, and the sender at the far end of a connection.
//!
//! **Purpose:** [`pull`] starts `speil agent --send` on the source's host and an ordinary agent on this one, hands the
//! bytes of the session on between the two, and has what the far side tells heard by the monitor here.
//! **In → Out:** a sync whose source is on another host; how it went.
//! **Invariants:** the far side decides what is sent, and nothing else: which directory is written, what is kept, with
//! which filters, and whether anything is written at all is said by the hello that is made here; what it tells is shown
//! in one line each, without control characters; its account counts only if it has come as a whole.
//! **Not here:** what is checked of each message of the session (`receiver`), in a process of its own as for any target
//! on this host.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_bytes::ByteBuf;

use super::hearsay::{clean_failure, heard_of, notice_of};
use super::mirror_id;
use super::route::{told, transport_from};
use crate::config::{DeleteMode, Sync, Target};
use crate::monitor::{Monitor, Notice, Scope};
use crate::protocol::{
    Account, FRAME_LEN_MAX, FrameError, FrameReader, FrameWriter, FromFar, Hello, MAGIC, Means,
    ORDER_LEN_MAX, Origin, PULL_EDITION, PULL_PIECE_MAX, PullLive, PullOrder, ToFar, ToReceiver, ToSender,
    TrashLimits, Unsent, Volume, Word, read_magic,
};
use crate::sender::{Before, Identity, SessionError, SessionOptions, hello, without_merges};
use crate::transport::{Control, Ended, Link, Local, Transport, TransportError, Uploads, ended_soon};
use crate::tree::RelPath;

/// Frames of the far side's that wait to be looked at.
const FRAMES_MAX: usize = 4;
/// How long the far side may take to end once it was asked to.
const STOP_WAIT: Duration = Duration::from_secs(12);
/// Names of files that went which are kept.
const VANISHED_MAX: usize = 10_000;

/// How a pull is made.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// The source was written without a slash at its end.
    pub is_named: bool,
    /// Changes nothing.
    pub dry_run: bool,
    /// What is asked before an agent is uploaded.
    pub uploads: Uploads,
    /// Nothing is written but what bears this name.
    pub alone: Option<RelPath>,
}

/// Who keeps a live pull, one session after the other.
pub(super) trait Keeper: Send + std::marker::Sync {
    /// What the order says of it.
    fn live(&self) -> PullLive;
    /// Which mirror it is.
    fn mirror(&self) -> Identity;
    /// Which filesystem the target was on, if that is known.
    fn before(&self) -> Option<Before>;
    /// The source's host sends; the agent on this one is being started.
    fn begins(&self);
    /// The agent has taken the session, on this filesystem.
    fn accepted(&self, volume: Option<Volume>);
    /// Something happened.
    fn happened(&self, notice: &Notice);
    /// A request is answered.
    fn answered(&self, id: u64, answer: &[u8]);
}

/// How a pull ended.
#[derive(Debug)]
pub enum Pulled {
    /// The far side sends nothing.
    Unsent(Unsent),
    /// It ended in order, also with a failure that the far side tells.
    Done {
        /// What the far side says of it.
        account: Box<Account>,
        /// Files that went before they were sent; the first of very many.
        vanished: Vec<RelPath>,
    },
    /// It broke.
    Broken(SessionError),
}

type FarWriter = FrameWriter<Box<dyn Write + Send>>;

/// Ends a pull early.
#[derive(Clone)]
pub struct Stopper(Arc<Stopping>);

struct Stopping {
    transport: Arc<dyn Transport>,
    writer: Mutex<Option<FarWriter>>,
    /// The far side has answered.
    answered: AtomicBool,
}

impl Stopper {
    /// Asks the far side to end, and ends the connection if that does not come in time. Does not block.
    pub fn stop(&self) {
        let stopping = Arc::clone(&self.0);
        if !stopping.answered.load(Ordering::Acquire) {
            return stopping.transport.cancel();
        }
        let late = Arc::clone(&self.0);
        std::thread::spawn(move || {
            std::thread::sleep(STOP_WAIT);
            late.transport.cancel();
        });
        std::thread::spawn(move || {
            let _ = stopping.send(&ToFar::Stop);
        });
    }
}

impl Stopper {
    /// Asks the far side something. May block.
    ///
    /// # Errors
    /// [`FrameError`]: it does not hear it.
    pub(super) fn ask(&self, id: u64, request: &[u8]) -> Result<(), FrameError> {
        self.0.send(&ToFar::Ask { id, request: Cow::Borrowed(request) })
    }
}

impl Stopping {
    fn send(&self, message: &ToFar<'_>) -> Result<(), FrameError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = writer.as_mut().ok_or(FrameError::Closed)?;
        writer.send(message)?;
        writer.flush()
    }
}

/// Brings the first target of `sync`, which is on this host, up to what its source on `host` holds. `monitor` hears what
/// the far side tells; `started` gets what ends it early.
pub fn pull(
    (sync, host): (&Sync, &str),
    options: &PullOptions,
    monitor: &Arc<dyn Monitor>,
    started: impl FnOnce(Stopper),
) -> Pulled {
    pull_for(None, (sync, host), options, monitor, started)
}

/// The same for who keeps a live pull: until the connection ends.
pub(super) fn pull_for(
    keeper: Option<&Arc<dyn Keeper>>,
    (sync, host): (&Sync, &str),
    options: &PullOptions,
    monitor: &Arc<dyn Monitor>,
    started: impl FnOnce(Stopper),
) -> Pulled {
    let Some(target) = sync.targets.first() else {
        return Pulled::Broken(SessionError::Option("no target".to_owned()));
    };
    let there = Target { host: Some(host.to_owned()), name: host.to_owned(), ..target.clone() };
    let uploads = options.uploads.clone().then(told(monitor, sync, &there));
    let transport: Arc<dyn Transport> = Arc::from(transport_from(sync, host, uploads));
    let stopping = Arc::new(Stopping {
        transport: Arc::clone(&transport),
        writer: Mutex::default(),
        answered: AtomicBool::new(false),
    });
    started(Stopper(Arc::clone(&stopping)));
    let scope = Scope::new(&sync.name, &target.name);
    let near = Near { sync, target, options, monitor, stopping, scope, keeper };
    let ended = match near.attempt(&*transport) {
        Err(SessionError::Ended(ended)) => match transport.mend(&ended) {
            Ok(true) => near.attempt(&*transport),
            Ok(false) => Err(SessionError::Ended(ended)),
            Err(error) => Err(error.into()),
        },
        other => other,
    };
    ended.unwrap_or_else(Pulled::Broken)
}

/// Whether the agent there knows no option that has it send.
pub fn is_older(error: &SessionError) -> bool {
    let SessionError::Ended(ended) = error else { return false };
    ended.stderr.iter().any(|line| line.contains("unknown option --send"))
}

/// The near side of one pull.
struct Near<'a> {
    sync: &'a Sync,
    target: &'a Target,
    options: &'a PullOptions,
    monitor: &'a Arc<dyn Monitor>,
    stopping: Arc<Stopping>,
    scope: Scope,
    /// Of a live pull.
    keeper: Option<&'a Arc<dyn Keeper>>,
}

/// A message of the far side's.
enum FarWord {
    Unsent(Unsent),
    Data(Vec<u8>),
    Closed,
    Told(Box<Word>),
    Done(Box<Account>),
    Answer(u64, Vec<u8>),
}

/// The agent on this host.
struct Agent {
    /// Until the far side says no more.
    writer: Option<Box<dyn Write + Send>>,
    control: Arc<dyn Control>,
    answers: std::thread::JoinHandle<()>,
}

impl Near<'_> {
    fn attempt(&self, transport: &dyn Transport) -> Result<Pulled, SessionError> {
        let link = transport.connect()?;
        let control: Arc<dyn Control> = Arc::from(link.control);
        let (to, heard) = bounded(FRAMES_MAX);
        let reader = link.reader;
        let thread = std::thread::Builder::new().name("far".to_owned());
        thread.spawn(move || hear(reader, &to)).map_err(|error| no_thread(&error))?;
        let limit = self.sync.timeout.max(Duration::from_secs(10));
        let mut agent = None;
        let ended = self.order(link.writer).and_then(|()| self.relay(&heard, limit, &mut agent));
        let answered = self.stopping.answered.load(Ordering::Acquire);
        if matches!(ended, Err(SessionError::Silent(_))) {
            control.kill();
        }
        if let Some(agent) = agent {
            agent.end();
        }
        // Who waits there for more hears that there is none.
        *self.stopping.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let carrier = ended_soon(&control, || ());
        match ended {
            // What its carrier says tells more.
            Err(SessionError::Frame(FrameError::Closed | FrameError::Io(_))) if !answered => {
                Err(SessionError::Ended(carrier))
            }
            other => other,
        }
    }

    /// Tells the far side what is wanted.
    fn order(&self, writer: Box<dyn Write + Send>) -> Result<(), SessionError> {
        let order = postcard::to_stdvec(&self.wanted()).map_err(FrameError::from)?;
        if order.len() > ORDER_LEN_MAX {
            return Err(SessionError::Option(format!(
                "filters and lists take {} MiB, and {} are allowed",
                order.len() >> 20,
                ORDER_LEN_MAX >> 20
            )));
        }
        let mut writer = FrameWriter::new(writer);
        writer.raw(&MAGIC)?;
        writer.send(&ToReceiver::Wanted { edition: PULL_EDITION, len: order.len() as u64 })?;
        for piece in order.chunks(PULL_PIECE_MAX) {
            writer.send(&ToFar::Data(Cow::Borrowed(piece)))?;
        }
        writer.flush()?;
        *self.stopping.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        Ok(())
    }

    fn wanted(&self) -> PullOrder {
        let sync = self.sync;
        PullOrder {
            source: std::os::unix::ffi::OsStrExt::as_bytes(sync.source.as_os_str()).to_vec(),
            is_named: self.options.is_named,
            mask: sync.mask,
            selection: sync.selection.clone(),
            filters: sync.filters.iter().map(|rule| ByteBuf::from(rule.as_slice())).collect(),
            deletes: sync.delete != DeleteMode::Never,
            guard: sync.guard.clone(),
            verify: sync.reconcile.verify,
            means: Means {
                compress: sync.compress,
                bwlimit: sync.bwlimit,
                timeout_ms: u64::try_from(sync.timeout.as_millis()).unwrap_or(u64::MAX),
                durability: sync.durability,
                trash: sync
                    .trash
                    .map(|trash| TrashLimits { keep_secs: trash.keep.as_secs(), max_bytes: trash.max }),
                partial: sync.partial,
                dry_run: self.options.dry_run,
                removes: sync.removes,
            },
            itemizes: self.monitor.itemizes(),
            itemizes_same: self.monitor.itemizes_same(),
            sources: sync.sources.clone(),
            beside: sync.beside.clone(),
            backup: sync.backup.clone(),
            live: self.keeper.map(|keeper| keeper.live()),
        }
    }

    /// Hands everything on until the far side is done.
    fn relay(
        &self,
        heard: &Receiver<Result<FarWord, FrameError>>,
        limit: Duration,
        agent: &mut Option<Agent>,
    ) -> Result<Pulled, SessionError> {
        let (mut head, mut vanished) = (Head::default(), Vec::new());
        loop {
            let message = match heard.recv_timeout(limit) {
                Ok(message) => message?,
                Err(RecvTimeoutError::Timeout) => return Err(SessionError::Silent(limit)),
                Err(RecvTimeoutError::Disconnected) => return Err(FrameError::Closed.into()),
            };
            self.stopping.answered.store(true, Ordering::Release);
            match message {
                FarWord::Unsent(why) => return Ok(Pulled::Unsent(why)),
                FarWord::Done(mut account) => {
                    account.failure = account.failure.map(clean_failure);
                    return Ok(Pulled::Done { account, vanished });
                }
                FarWord::Told(word) => self.tell(*word, &mut vanished),
                FarWord::Answer(id, answer) => {
                    if let Some(keeper) = self.keeper {
                        keeper.answered(id, &answer);
                    }
                }
                FarWord::Closed => {
                    if let Some(agent) = agent {
                        agent.writer = None;
                    }
                }
                FarWord::Data(data) => match agent {
                    Some(agent) => agent.take(&data),
                    None => {
                        let Some((theirs, rest)) = head.add(&data)? else { continue };
                        if let Some(keeper) = self.keeper {
                            keeper.begins();
                        }
                        let started = agent.insert(self.start()?);
                        started.take(&greeting(&self.own_hello(*theirs))?);
                        started.take(&rest);
                    }
                },
            }
        }
    }

    /// Starts the agent on this host.
    fn start(&self) -> Result<Agent, SessionError> {
        let mut local = Local::this_program()?;
        local.command.push("--keep-to-filters".to_owned());
        if self.sync.delete == DeleteMode::Never && !self.sync.selection.force {
            local.command.push("--keep-entries".to_owned());
        }
        let Link { mut reader, writer, control } = local.connect()?;
        let control: Arc<dyn Control> = Arc::from(control);
        let (stopping, carrier) = (Arc::clone(&self.stopping), Arc::clone(&control));
        let mut greeted = self.keeper.map(|keeper| (Arc::clone(keeper), Head::default()));
        let answer = move || {
            let mut bytes = vec![0; PULL_PIECE_MAX];
            while let Ok(len @ 1..) = reader.read(&mut bytes) {
                let piece = bytes.get(..len).unwrap_or_default();
                if let Some((keeper, head)) = &mut greeted
                    && let Some(volume) = head.volume(piece)
                {
                    keeper.accepted(volume);
                    greeted = None;
                }
                if stopping.send(&ToFar::Data(Cow::Borrowed(piece))).is_err() {
                    break;
                }
            }
            let Ended { status, stderr } = carrier.ended();
            let _ = stopping.send(&ToFar::Ended { status, stderr });
        };
        let thread = std::thread::Builder::new().name("answers".to_owned());
        let answers = thread.spawn(answer).map_err(|error| no_thread(&error))?;
        Ok(Agent { writer: Some(writer), control, answers })
    }

    /// Returns what the agent here is told first: what is known of the source alone is the far side's word.
    fn own_hello(&self, theirs: Hello) -> Hello {
        let mut sync = self.sync.clone();
        // Its directories are there, and what their files say is for the other side to keep to.
        sync.filters = without_merges(&sync.filters);
        if let Some(name) = &self.options.alone {
            sync.filters = only(name);
        }
        let options = SessionOptions {
            sync,
            target: self.target.clone(),
            mirror: self.keeper.map_or_else(|| mirror_id(self.sync, self.target), |keeper| keeper.mirror()),
            live: self.keeper.is_some(),
            dry_run: self.options.dry_run,
            rehearsal: self.options.dry_run,
        };
        let Hello { version, version_min, program, label, source, origin, .. } = theirs;
        let own = hello(&options, source);
        let Some(keeper) = self.keeper else {
            return Hello { version, version_min, program, label, origin, ..own };
        };
        // Whose session this is, and which filesystem its target was on, is known here alone.
        let Origin { name, upstream, .. } = origin;
        let origin = Origin { name, upstream, ..own.origin };
        let (before, noted) = keeper.before().map_or((None, false), |it| (Some(it.volume), it.noted));
        Hello { version, version_min, program, label, origin, before, noted, ..own }
    }

    fn tell(&self, word: Word, vanished: &mut Vec<RelPath>) {
        match word {
            Word::Itemized(entry) => self.monitor.itemized(&self.scope, &entry),
            Word::Progress(progress) => self.monitor.progress(&self.scope, &progress),
            Word::Vanished(path) if vanished.len() < VANISHED_MAX => vanished.push(path),
            Word::Arrived(arrivals) if self.keeper.is_some() => {
                self.monitor.arrived(&self.scope, &heard_of(&arrivals));
            }
            other => {
                let Some(notice) = notice_of(other, self.keeper.is_some()) else { return };
                if let Some(keeper) = self.keeper {
                    keeper.happened(&notice);
                }
                self.monitor.notice(&self.scope, &notice);
            }
        }
    }
}

impl Agent {
    /// Hands bytes on. An agent that has ended takes none, and the far side is told that it has.
    fn take(&mut self, bytes: &[u8]) {
        let Some(writer) = &mut self.writer else { return };
        if writer.write_all(bytes).and_then(|()| writer.flush()).is_err() {
            self.writer = None;
        }
    }

    /// Waits for its end.
    fn end(self) {
        drop(self.writer);
        ended_soon(&self.control, || ());
        let _ = self.answers.join();
    }
}

/// Returns the rules that leave out everything but what bears this name.
fn only(name: &RelPath) -> Vec<Vec<u8>> {
    let name = name.as_bytes();
    let escapes = |byte: u8| b"*?[\\".contains(&byte);
    let mut pattern = b"+ /".to_vec();
    // A backslash is one of the name's own where nothing is a wildcard.
    let is_pattern = name.iter().any(|byte| b"*?[".contains(byte));
    for byte in name {
        if is_pattern && escapes(*byte) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    vec![pattern, b"- *".to_vec()]
}

/// Reads what the far side says.
fn hear(reader: Box<dyn Read + Send>, to: &Sender<Result<FarWord, FrameError>>) {
    let mut reader = reader;
    if let Err(error) = read_magic(&mut reader) {
        let _ = to.send(Err(error));
        return;
    }
    let mut reader = FrameReader::new(reader);
    loop {
        let heard = reader.read::<FromFar<'_>>().map(|message| match message {
            FromFar::Unsent(why) => FarWord::Unsent(why),
            FromFar::Data(data) => FarWord::Data(data.into_owned()),
            FromFar::Closed => FarWord::Closed,
            FromFar::Told(word) => FarWord::Told(word),
            FromFar::Done(account) => FarWord::Done(account),
            FromFar::Answer { id, answer } => FarWord::Answer(id, answer.into_owned()),
        });
        let is_over = heard.is_err();
        if to.send(heard).is_err() || is_over {
            return;
        }
    }
}

/// A hello, and what follows it.
type Greeted = (Box<Hello>, Vec<u8>);

/// The beginning of what the sender says, until its hello is whole.
#[derive(Default)]
struct Head(Vec<u8>);

impl Head {
    /// Takes in more. Whether the first message is there as a whole.
    fn is_whole(&mut self, bytes: &[u8]) -> Result<bool, FrameError> {
        self.0.extend_from_slice(bytes);
        let rest = self.0.as_slice();
        let Some((header, _)) = rest.get(MAGIC.len()..).and_then(<[u8]>::split_first_chunk::<4>) else {
            return Ok(false);
        };
        // A packed one would begin a stream of which the agent here would not know.
        let len = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if len > FRAME_LEN_MAX {
            return Err(FrameError::TooLong(len));
        }
        Ok(rest.len() >= MAGIC.len() + header.len() + len)
    }

    /// Takes in more of what the agent on this host says. Returns which filesystem it tells of, once it has said so; none
    /// where it refuses.
    fn volume(&mut self, bytes: &[u8]) -> Option<Option<Volume>> {
        match self.is_whole(bytes) {
            Ok(false) => None,
            Ok(true) => {
                let mut rest = self.0.as_slice();
                let reply = read_magic(&mut rest).ok().and_then(|()| {
                    let mut reader = FrameReader::new(rest);
                    match reader.read::<ToSender<'_>>() {
                        Ok(ToSender::Hello(reply)) => reply.volume,
                        _ => None,
                    }
                });
                Some(reply)
            }
            Err(_) => Some(None),
        }
    }

    /// Takes in more. Returns the hello and what follows it, once it is there.
    fn add(&mut self, bytes: &[u8]) -> Result<Option<Greeted>, FrameError> {
        if !self.is_whole(bytes)? {
            return Ok(None);
        }
        let mut rest = self.0.as_slice();
        read_magic(&mut rest)?;
        let mut reader = FrameReader::new(rest);
        let hello = match reader.read::<ToReceiver<'_>>()? {
            ToReceiver::Hello(hello) => hello,
            _ => return Err(FrameError::Unpack),
        };
        let rest = reader.get_mut().to_vec();
        self.0 = Vec::new();
        Ok(Some((hello, rest)))
    }
}

/// Returns the magic and a hello as they travel.
fn greeting(hello: &Hello) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::new();
    let mut writer = FrameWriter::new(&mut bytes);
    writer.raw(&MAGIC)?;
    writer.send(&ToReceiver::Hello(Box::new(hello.clone())))?;
    Ok(bytes)
}

fn no_thread(error: &std::io::Error) -> SessionError {
    SessionError::Transport(TransportError::Connect(format!("start a thread: {error}")))
}
