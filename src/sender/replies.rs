//! The thread that hears the receiver.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use serde_bytes::ByteBuf;

use super::error::SessionError;
use super::resume::Chunks;
use super::scrub::Rotten;
use super::shared::Shared;
use crate::delta::{Index, Signature};
use crate::protocol::{
    CHAIN_MAX, FrameReader, HandOver, Listing, PassId, Refusal, ReplyHello, StreamId, Subject, ToSender,
    VERSION_HAND_OVER, Why, read_magic,
};
use crate::tree::{Digest, Entry, RelPath};

/// What an answer says that it is about.
pub(super) enum About {
    /// What was sent for a path, says a peer that knows no numbers.
    Path(RelPath),
    /// This.
    Subject(Subject),
}

/// What a session must look at.
pub(super) enum Reply {
    /// An operation failed on the target.
    Problem(About, String, i32),
    /// An operation was not done.
    Undone(About, Why),
    /// Something of a stranger's was set aside.
    SetAside(RelPath),
    /// The signature of a basis is complete.
    Signature(StreamId, Arc<Index>),
    /// There is no basis.
    NoBasis(StreamId),
    /// A stream has failed; why was said for its path.
    Stopped(StreamId),
    /// What the target has of a file from before.
    Partial(StreamId, Option<Chunks>),
    /// A scrub, which is on this side, found other bytes.
    Rotten(Box<Rotten>),
    /// The standby is being promoted.
    HandOver(Box<HandOver>),
}

/// What a pass waits for.
pub(super) enum PassReply {
    /// The target's walk.
    Scanned { top: Option<Box<Entry>>, links: Digest, entries: u64, problems: Vec<(RelPath, i32)> },
    /// A piece of a listing.
    Listing(Listing),
    /// A piece of the groups of hard links.
    Links(Vec<Vec<RelPath>>, bool),
    /// BLAKE3 of a file of the target.
    Hashed(Option<[u8; 32]>),
}

/// Most replies that wait for a session; a hostile agent gets no more memory than this.
const REPLIES_MAX: usize = 200_000;

/// Bytes, about, that may wait for a session or for one pass.
const WAITING_BYTES_MAX: u64 = 512 << 20;
/// Signatures under way at once; a session asks for fewer.
const SIGNATURES_MAX: usize = 64;
/// Partial files that a target may name.
const PARTIALS_MAX: usize = 10_000;
/// Longest text of the agent's that is shown, in characters.
const TEXT_LEN_MAX: usize = 200;
/// What an entry of a listing costs in memory, about, besides its name and attributes.
const ENTRY_LEN: u64 = 256;

/// The way to a pass, and how much waits on it.
#[derive(Clone)]
pub(super) struct PassInbox {
    pub to: Sender<PassReply>,
    pub waiting: Arc<AtomicU64>,
}

impl PassReply {
    /// Returns what it costs in memory, about, in bytes.
    pub fn weight(&self) -> u64 {
        let of_paths = |paths: &mut dyn Iterator<Item = usize>| paths.map(|len| len as u64 + 32).sum::<u64>();
        match self {
            Self::Scanned { problems, .. } => {
                of_paths(&mut problems.iter().map(|(path, _)| path.as_bytes().len()))
            }
            Self::Listing(listing) => listing
                .entries
                .iter()
                .map(|entry| {
                    let values = entry.attrs.xattrs.iter().map(|xattr| xattr.value.len() + 64);
                    ENTRY_LEN + (entry.attrs.symlink.len() + values.sum::<usize>()) as u64
                })
                .sum(),
            Self::Links(groups, _) => {
                of_paths(&mut groups.iter().flatten().map(|path| path.as_bytes().len()))
            }
            Self::Hashed(_) => 64,
        }
    }
}

impl Reply {
    fn weight(&self) -> u64 {
        match self {
            Self::Problem(About::Path(path), ..)
            | Self::Undone(About::Path(path), _)
            | Self::SetAside(path) => path.as_bytes().len() as u64 + 128,
            Self::Problem(..) | Self::Undone(..) => 128,
            // Some 40 bytes for each block.
            Self::Signature(_, index) => 40 * (index.basis_len() / u64::from(index.block_len().max(1))),
            Self::NoBasis(_) | Self::Stopped(_) => 64,
            Self::Partial(_, chunks) => chunks.as_ref().map_or(64, Chunks::weight),
            Self::HandOver(asked) => asked.told.record.len() as u64 + 512,
            Self::Rotten(rotten) => rotten.path.as_bytes().len() as u64 + 256,
        }
    }
}

/// Returns a text of the agent's as it may be shown: one line, short, without control characters.
pub(super) fn shown(text: &str) -> String {
    let quoted = crate::tree::quote(text.as_bytes());
    let inside = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
    inside.chars().take(TEXT_LEN_MAX).collect()
}

/// Returns a greeting whose texts may be shown.
pub(super) fn clean_greeting(mut reply: ReplyHello) -> ReplyHello {
    reply.program = shown(&reply.program);
    reply.sent_away = shown(&reply.sent_away);
    reply.lacks.truncate(20);
    reply.lacks.iter_mut().for_each(|text| *text = shown(text));
    reply
}

/// Returns a refusal whose texts may be shown.
pub fn clean_refusal(refusal: Refusal) -> Refusal {
    // Where the words of the refusal quote a text, it need only be short.
    let short = |text: String| text.chars().take(TEXT_LEN_MAX).collect::<String>();
    match refusal {
        Refusal::Version { newest, program } => Refusal::Version { newest, program: short(program) },
        Refusal::Root { path, errno } => Refusal::Root { path: short(path), errno },
        Refusal::Busy { holder } => Refusal::Busy { holder: shown(&holder) },
        // With two paths in it.
        Refusal::Foreign { label } => {
            Refusal::Foreign { label: label.chars().take(4 * TEXT_LEN_MAX).collect() }
        }
        Refusal::Refused(text) => Refusal::Refused(short(text)),
        Refusal::Dangerous(path) => Refusal::Dangerous(shown(&path)),
        Refusal::Filter(text) => Refusal::Filter(shown(&text)),
        Refusal::Lost { path, how } => Refusal::Lost { path: short(path), how },
        Refusal::Nested => Refusal::Nested,
        Refusal::Beside { path, errno } => Refusal::Beside { path: shown(&path), errno },
        // Two generations, or several commands.
        Refusal::Role { line, hint, told } => {
            let long =
                |text: String| text.chars().take(4 * TEXT_LEN_MAX).filter(|c| !c.is_control()).collect();
            Refusal::Role { line: long(line), hint: long(hint), told }
        }
        Refusal::Within { outer, by } => Refusal::Within { outer: shown(&outer), by: shown(&by) },
        Refusal::Circle { trees } => {
            Refusal::Circle { trees: trees.iter().take(CHAIN_MAX + 1).map(|name| shown(name)).collect() }
        }
    }
}

/// Messages that may come before the session listens.
const EARLY_MAX: usize = 16;

/// Reads until the connection ends: the greeting first, then everything for the session.
pub(super) fn run(
    mut reader: Box<dyn Read + Send>,
    greeted: &Sender<Result<ReplyHello, SessionError>>,
    handover: &Receiver<Handover>,
) {
    if let Err(error) = read_magic(&mut reader) {
        let _ = greeted.send(Err(error.into()));
        return;
    }
    let mut reader = FrameReader::new(reader);
    let greeting = match reader.read::<ToSender<'_>>() {
        Ok(ToSender::Hello(reply)) => Ok(clean_greeting(*reply)),
        Ok(ToSender::Refused(refusal)) => Err(SessionError::Refused(clean_refusal(refusal))),
        Ok(_) => Err(SessionError::Fatal("it did not greet".to_owned())),
        Err(error) => Err(error.into()),
    };
    let refused = greeting.is_err();
    let _ = greeted.send(greeting);
    let mut early = Vec::new();
    let shared = loop {
        match handover.recv() {
            Ok(Handover::Places(asked)) => {
                let _ = asked.send(places(&mut reader, &mut early));
            }
            Ok(Handover::Session(shared)) => break shared,
            Err(_) => return,
        }
    };
    if refused {
        return;
    }
    let mut signatures = HashMap::new();
    let error = early.into_iter().try_for_each(|message| deliver(message, &shared, &mut signatures)).err();
    let error = error.unwrap_or_else(|| listen(&mut reader, &shared, &mut signatures));
    shared.inbox().dead = Some(error);
    shared.passes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    shared.view.close();
    shared.mailbox.wake();
}

/// What the thread that hears the replies waits for.
pub(super) enum Handover {
    /// The next answer is of places.
    Places(Sender<Result<Vec<Vec<u8>>, SessionError>>),
    /// Everything is for this session from now on.
    Session(Arc<Shared>),
}

/// Reads up to the places where connections may join; what comes before is for later.
fn places(
    reader: &mut FrameReader<Box<dyn Read + Send>>,
    early: &mut Vec<ToSender<'static>>,
) -> Result<Vec<Vec<u8>>, SessionError> {
    loop {
        match reader.read::<ToSender<'_>>()? {
            ToSender::Places(places) => return Ok(places.into_iter().map(ByteBuf::into_vec).collect()),
            ToSender::Partials(marks) if early.len() < EARLY_MAX => early.push(ToSender::Partials(marks)),
            ToSender::Fatal(text) => return Err(SessionError::Fatal(shown(&text))),
            _ => return Err(SessionError::Fatal("it answers what it was not asked".to_owned())),
        }
    }
}

/// Delivers what comes until the connection ends; returns why it did.
fn listen(
    reader: &mut FrameReader<Box<dyn Read + Send>>,
    shared: &Shared,
    signatures: &mut HashMap<StreamId, Signature>,
) -> SessionError {
    loop {
        let counted = reader.received_bytes();
        match reader.read::<ToSender<'_>>() {
            Ok(message) => {
                if let Err(error) = deliver(message, shared, signatures) {
                    return error;
                }
            }
            Err(error) => return error.into(),
        }
        shared.status.counters.received_bytes.fetch_add(reader.received_bytes() - counted, Ordering::Relaxed);
    }
}

fn problem(about: About, operation: &str, errno: i32) -> Reply {
    Reply::Problem(about, shown(operation), errno)
}

fn deliver(
    message: ToSender<'_>,
    shared: &Shared,
    signatures: &mut HashMap<StreamId, Signature>,
) -> Result<(), SessionError> {
    shared.inbox().heard = Some(Instant::now());
    let reply = match message {
        ToSender::Acked { batch } => {
            if batch > shared.committed.load(Ordering::Acquire) {
                return Err(SessionError::Fatal("it acknowledges what was not sent".to_owned()));
            }
            shared.acked.fetch_max(batch, Ordering::AcqRel);
            shared.mailbox.wake();
            return Ok(());
        }
        ToSender::Problem { path, operation, errno } => problem(About::Path(path), &operation, errno),
        ToSender::Undone { path, why } => Reply::Undone(About::Path(path), why),
        ToSender::Failed { of, operation, errno } => problem(About::Subject(of), &operation, errno),
        ToSender::NotDone { of, why } => Reply::Undone(About::Subject(of), why),
        ToSender::SetAside { path } => Reply::SetAside(path),
        ToSender::Stopped { stream } => Reply::Stopped(stream),
        ToSender::NoBasis { stream } => {
            signatures.remove(&stream);
            Reply::NoBasis(stream)
        }
        piece @ ToSender::Signature { .. } => match signature(piece, signatures)? {
            Some(reply) => reply,
            None => return Ok(()),
        },
        ToSender::Scanned { pass, top, links, entries, problems } => {
            return to_pass(shared, pass, PassReply::Scanned { top, links, entries, problems });
        }
        ToSender::Listing(listing) => return to_pass(shared, listing.pass, PassReply::Listing(listing)),
        ToSender::Links { pass, groups, last } => {
            return to_pass(shared, pass, PassReply::Links(groups, last));
        }
        ToSender::Hashed { pass, hash } => return to_pass(shared, pass, PassReply::Hashed(hash)),
        ToSender::Owners(owners) => {
            shared.view.answer(&owners);
            return Ok(());
        }
        ToSender::Pong(mark) => {
            shared.received(mark);
            return Ok(());
        }
        ToSender::Fatal(text) => return Err(SessionError::Fatal(shown(&text))),
        ToSender::Refused(refusal) => return Err(SessionError::Refused(clean_refusal(refusal))),
        ToSender::Hello(_) => return Err(SessionError::Fatal("it greeted twice".to_owned())),
        ToSender::Partials(marks) => {
            let mut partials = shared.partials.lock().unwrap_or_else(PoisonError::into_inner);
            partials.get_or_insert_default().extend(marks.into_iter().take(PARTIALS_MAX));
            return Ok(());
        }
        ToSender::Partial { stream, chunk_len, hashes } => {
            Reply::Partial(stream, Chunks::new(chunk_len, &hashes))
        }
        ToSender::HandOver(asked) if shared.version >= VERSION_HAND_OVER => Reply::HandOver(asked),
        ToSender::HandOver(_)
        | ToSender::Examined(_)
        | ToSender::Kept { .. }
        | ToSender::AsItWas { .. }
        | ToSender::Places(_)
        | ToSender::Joined => {
            return Err(SessionError::Fatal("it answers what it was not asked".to_owned()));
        }
    };
    let mut inbox = shared.inbox();
    inbox.weight = inbox.weight.saturating_add(reply.weight());
    if inbox.replies.len() >= REPLIES_MAX || inbox.weight > WAITING_BYTES_MAX {
        return Err(SessionError::Fatal("it answers more than it was asked".to_owned()));
    }
    inbox.replies.push_back(reply);
    drop(inbox);
    shared.mailbox.wake();
    Ok(())
}

/// Takes in a piece of a signature; returns the whole one with its last.
fn signature(
    piece: ToSender<'_>,
    signatures: &mut HashMap<StreamId, Signature>,
) -> Result<Option<Reply>, SessionError> {
    let ToSender::Signature { stream, size, block_len, data, last } = piece else { return Ok(None) };
    let bad = |error: crate::delta::SignatureError| SessionError::Fatal(error.to_string());
    let mut signature = match signatures.remove(&stream) {
        Some(signature) => signature,
        None if signatures.len() >= SIGNATURES_MAX => {
            return Err(SessionError::Fatal("it signs more than it was asked".to_owned()));
        }
        None => Signature::new(size, block_len).map_err(bad)?,
    };
    signature.push(&data).map_err(bad)?;
    if !last {
        signatures.insert(stream, signature);
        return Ok(None);
    }
    Ok(Some(Reply::Signature(stream, Arc::new(signature.index().map_err(bad)?))))
}

fn to_pass(shared: &Shared, pass: PassId, reply: PassReply) -> Result<(), SessionError> {
    let passes = shared.passes.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = passes.get(&pass).cloned();
    drop(passes);
    // A pass that has ended early hears no more.
    if let Some(sender) = sender {
        let weight = reply.weight();
        if sender.waiting.fetch_add(weight, Ordering::AcqRel).saturating_add(weight) > WAITING_BYTES_MAX {
            return Err(SessionError::Fatal("it tells a pass more than it was asked".to_owned()));
        }
        let _ = sender.to.send(reply);
    }
    Ok(())
}
