//! A conversation with an agent that mirrors nothing: one question, one answer.
//!
//! **In → Out:** a transport; messages, each way. **Invariants:** every wait has a limit; what the agent
//! says is cleaned before anybody sees it, and what it was not asked ends the conversation.

use std::io::{BufWriter, Read, Write};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::error::SessionError;
use super::replies::{clean_greeting, clean_refusal, shown};
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
    Problem(String),
    Ended(SessionError),
}

/// A connection to an agent.
pub(super) struct Talk {
    pub writer: FrameWriter<BufWriter<Box<dyn Write + Send>>>,
    heard: Receiver<Heard>,
    limit: Duration,
}

impl Talk {
    /// Connects, has `with` talk, and hangs up. Nobody waits longer than `limit` for one word.
    pub fn hold<T>(
        transport: &dyn Transport,
        limit: Duration,
        with: impl FnOnce(&mut Self) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let link = transport.connect()?;
        let (told, heard) = bounded(16);
        let reader = link.reader;
        std::thread::Builder::new()
            .name("talk".to_owned())
            .spawn(move || listen(reader, |word| told.send(word).is_ok()))
            .map_err(|error| SessionError::Source(format!("start a thread: {error}")))?;
        let writer: Box<dyn Write + Send> = link.writer;
        let mut talk = Self { writer: FrameWriter::new(BufWriter::new(writer)), heard, limit };
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
        let said =
            self.writer.raw(&MAGIC).and_then(|()| self.writer.send(&ToReceiver::Hello(Box::new(hello))));
        let said = said.and_then(|()| self.writer.flush());
        // Why the peer does not listen is on the way back.
        match self.hear()? {
            Heard::Hello(greeting) => said.map(|()| *greeting).map_err(SessionError::from),
            _ => Err(odd()),
        }
    }

    /// Sends one message at once.
    pub fn say(&mut self, message: &ToReceiver<'_>) -> Result<(), SessionError> {
        self.writer.send(message)?;
        Ok(self.writer.flush()?)
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

fn listen(mut reader: Box<dyn Read + Send>, tell: impl Fn(Heard) -> bool) {
    if let Err(error) = read_magic(&mut reader) {
        tell(Heard::Ended(error.into()));
        return;
    }
    let mut reader = FrameReader::new(reader);
    loop {
        let word = match reader.read::<ToSender<'_>>() {
            Ok(message) => word_of(message),
            Err(error) => Heard::Ended(error.into()),
        };
        let last = matches!(word, Heard::Ended(_));
        if !tell(word) || last {
            return;
        }
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
