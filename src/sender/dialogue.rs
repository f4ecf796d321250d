//! A conversation with an agent that mirrors nothing: one question, one answer.
//!
//! **In → Out:** a transport; messages, each way. **Invariants:** every wait has a limit; what the agent
//! says is cleaned before anybody sees it, and what it was not asked ends the conversation.

use std::io::{BufWriter, Read, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::error::SessionError;
use super::owners::{Ask, TargetView};
use super::replies::{PassReply, clean_greeting, clean_refusal, shown};
use crate::protocol::{
    Examination, FrameError, FrameReader, FrameWriter, Hello, KeptEntry, MAGIC, ReplyHello, ToReceiver,
    ToSender, read_magic,
};
use crate::transport::Transport;

/// What an agent said.
pub(super) enum Heard {
    Hello(Box<ReplyHello>),
    Pong,
    Examined(Box<Examination>, SystemTime),
    Kept(Vec<KeptEntry>, bool),
    AsItWas(Vec<KeptEntry>, u64),
    /// What a pass answers.
    Pass(PassReply),
    Problem(String),
    Ended(SessionError),
}

/// Where frames are written; shared with who keeps the connection alive.
type Pen = Arc<Mutex<FrameWriter<BufWriter<Box<dyn Write + Send>>>>>;
/// Number of a ping that only shows life.
const LIFE: u64 = u64::MAX;

/// A connection to an agent.
pub(super) struct Dialogue {
    pen: Pen,
    heard: Receiver<Heard>,
    limit: Duration,
    ear: Arc<Ear>,
    /// Ends the thread that keeps the connection alive.
    alive: Option<Sender<()>>,
}

/// What the listening thread does besides handing on.
#[derive(Default)]
struct Ear {
    at: Mutex<Option<Instant>>,
    view: OnceLock<Arc<TargetView>>,
}

impl Dialogue {
    /// Connects, has `with` talk, and hangs up. Nobody waits longer than `limit` for one word.
    pub fn hold<T>(
        transport: &dyn Transport,
        limit: Duration,
        with: impl FnOnce(&mut Self) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let link = transport.connect()?;
        let (told, heard) = bounded(16);
        let (reader, ear) = (link.reader, Arc::new(Ear::default()));
        let own = Arc::clone(&ear);
        std::thread::Builder::new()
            .name("talk".to_owned())
            .spawn(move || listen(reader, &own, |word| told.send(word).is_ok()))
            .map_err(|error| SessionError::Source(format!("start a thread: {error}")))?;
        let writer: Box<dyn Write + Send> = link.writer;
        let pen = Arc::new(Mutex::new(FrameWriter::new(BufWriter::new(writer))));
        let mut talk = Self { pen, heard, limit, ear, alive: None };
        match with(&mut talk) {
            Ok(told) => Ok(told),
            // The carrier's own words say more than a closed pipe.
            Err(SessionError::Frame(FrameError::Closed | FrameError::Io(_))) => {
                drop(talk);
                Err(SessionError::Ended(link.control.ended()))
            }
            Err(error) => {
                link.control.kill();
                Err(error)
            }
        }
    }

    /// Says hello and returns the answer.
    pub fn greet(&mut self, hello: Hello) -> Result<ReplyHello, SessionError> {
        let said = {
            let mut pen = self.pen.lock().unwrap_or_else(PoisonError::into_inner);
            let said = pen.raw(&MAGIC).and_then(|()| pen.send(&ToReceiver::Hello(Box::new(hello))));
            said.and_then(|()| pen.flush())
        };
        // Why the peer does not listen is on the way back.
        match self.hear()? {
            Heard::Hello(greeting) => said.map(|()| *greeting).map_err(SessionError::from),
            _ => Err(odd()),
        }
    }

    /// Sends one message at once.
    pub fn say(&mut self, message: &ToReceiver<'_>) -> Result<(), SessionError> {
        Ok(say(&self.pen, message)?)
    }

    /// Sends what follows as it is, without compression.
    pub fn plain(&self) {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner).set_compress(false);
    }

    /// From now on the agent hears a sign of life now and then, and owners' names are looked up for `view`,
    /// which this returns.
    pub fn keep_alive(
        &mut self,
        view: impl FnOnce(Ask) -> TargetView,
    ) -> Result<Arc<TargetView>, SessionError> {
        let pen = Arc::clone(&self.pen);
        let view = Arc::new(view(Box::new(move |names| say(&pen, &ToReceiver::Owners(names)).is_ok())));
        let view = Arc::clone(self.ear.view.get_or_init(|| view));
        let (alive, ended) = bounded::<()>(0);
        let (pen, pause) = (Arc::clone(&self.pen), self.limit / 3);
        std::thread::Builder::new()
            .name("alive".to_owned())
            .spawn(move || {
                while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
                    && say(&pen, &ToReceiver::Ping(LIFE)).is_ok()
                {}
            })
            .map_err(|error| SessionError::Source(format!("start a thread: {error}")))?;
        self.alive = Some(alive);
        Ok(view)
    }

    /// Waits for the next word for as long as the agent shows life.
    pub fn hear_at_last(&mut self) -> Result<Heard, SessionError> {
        loop {
            match self.heard.recv_timeout(self.limit) {
                Ok(Heard::Ended(error)) => return Err(error),
                Ok(heard) => return Ok(heard),
                Err(RecvTimeoutError::Disconnected) => return Err(FrameError::Closed.into()),
                Err(RecvTimeoutError::Timeout) => {
                    let at = *self.ear.at.lock().unwrap_or_else(PoisonError::into_inner);
                    if at.is_none_or(|at| at.elapsed() > self.limit) {
                        return Err(SessionError::Silent(self.limit));
                    }
                }
            }
        }
    }

    /// Waits for the next word.
    pub fn hear(&mut self) -> Result<Heard, SessionError> {
        match self.heard.recv_timeout(self.limit) {
            Ok(Heard::Ended(error)) => Err(error),
            Ok(heard) => Ok(heard),
            Err(RecvTimeoutError::Timeout) => Err(SessionError::Silent(self.limit)),
            Err(RecvTimeoutError::Disconnected) => Err(FrameError::Closed.into()),
        }
    }
}

fn say(pen: &Pen, message: &ToReceiver<'_>) -> Result<(), FrameError> {
    let mut pen = pen.lock().unwrap_or_else(PoisonError::into_inner);
    pen.send(message)?;
    pen.flush()
}

fn listen(mut reader: Box<dyn Read + Send>, ear: &Ear, tell: impl Fn(Heard) -> bool) {
    if let Err(error) = read_magic(&mut reader) {
        tell(Heard::Ended(error.into()));
        return;
    }
    let mut reader = FrameReader::new(reader);
    loop {
        let word = reader.read::<ToSender<'_>>();
        *ear.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let word = match (word, ear.view.get()) {
            (Ok(ToSender::Pong(LIFE)), _) => continue,
            (Ok(ToSender::Owners(owners)), Some(view)) => {
                view.answer(&owners);
                continue;
            }
            (Ok(message), _) => word_of(message),
            (Err(error), _) => Heard::Ended(error.into()),
        };
        let last = matches!(word, Heard::Ended(_));
        if !tell(word) || last {
            break;
        }
    }
    if let Some(view) = ear.view.get() {
        view.close();
    }
}

fn word_of(message: ToSender<'_>) -> Heard {
    match message {
        ToSender::Hello(greeting) => Heard::Hello(Box::new(clean_greeting(*greeting))),
        ToSender::Refused(refusal) => Heard::Ended(SessionError::Refused(clean_refusal(refusal))),
        ToSender::Pong(_) => Heard::Pong,
        ToSender::Examined(mut found) => {
            found.user = shown(&found.user);
            found.lacks.truncate(20);
            found.lacks.iter_mut().for_each(|text| *text = shown(text));
            Heard::Examined(found, SystemTime::now())
        }
        ToSender::Kept { entries, last } => Heard::Kept(entries, last),
        ToSender::AsItWas { gone, already } => Heard::AsItWas(gone, already),
        ToSender::Scanned { top, links, entries, problems, .. } => {
            Heard::Pass(PassReply::Scanned { top, links, entries, problems })
        }
        ToSender::Listing(listing) => Heard::Pass(PassReply::Listing(listing)),
        ToSender::Links { groups, last, .. } => Heard::Pass(PassReply::Links(groups, last)),
        ToSender::Problem { path, operation, errno } => {
            Heard::Problem(format!("{} {path}: {}", shown(&operation), crate::error::errno_text(errno)))
        }
        ToSender::Fatal(text) => Heard::Ended(SessionError::Fatal(shown(&text))),
        _ => Heard::Ended(odd()),
    }
}

/// An answer to nothing that was asked.
pub(super) fn odd() -> SessionError {
    SessionError::Fatal("it answers what it was not asked".to_owned())
}
