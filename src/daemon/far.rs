//! The far side's end of a pull: the connection that this process was started on, as a transport to the receiver on
//! the side that pulls, with a way beside it for what is to be told there.
//!
//! **Invariants:** whoever tells something never waits for the connection: only who sends to the receiver does, and
//! takes along what is to be told; the thread that hears the receiver must not wait for what the receiver waits for.
//! What waits to be told is no more than what the sender has sent and the receiver has answered since.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, BufWriter, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::monitor::Itemized;
use crate::protocol::{FrameError, FrameReader, FrameWriter, FromFar, PULL_PIECE_MAX, ToFar, Word};
use crate::transport::{Control, Ended, Link, Transport, TransportError};

/// Pieces of what the receiver says that wait to be read.
const PIECES_MAX: usize = 16;
/// How long this process may take to end once its connection is given up.
const END_WAIT: Duration = Duration::from_secs(10);
/// What it ends with then.
const END_STATUS: i32 = 12;

type Writer = FrameWriter<BufWriter<Box<dyn Write + Send>>>;

/// The way to the side that pulls.
pub(super) struct Wire {
    writer: Mutex<Writer>,
    words: Mutex<VecDeque<Word>>,
    bell: Condvar,
}

impl Wire {
    pub fn new(output: Box<dyn Write + Send>) -> Self {
        let writer = FrameWriter::new(BufWriter::with_capacity(PULL_PIECE_MAX, output));
        Self { writer: Mutex::new(writer), words: Mutex::default(), bell: Condvar::new() }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn raw(&self, bytes: &[u8]) -> Result<(), FrameError> {
        let mut writer = self.writer();
        writer.raw(bytes)?;
        writer.flush()
    }

    /// Sends a message, behind everything that was to be told.
    pub fn send(&self, message: &FromFar<'_>) -> Result<(), FrameError> {
        let mut writer = self.writer();
        self.tell_all(&mut writer)?;
        writer.send(message)?;
        writer.flush()
    }

    /// Has something told soon.
    pub fn tell(&self, word: Word) {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).push_back(word);
        self.bell.notify_one();
    }

    fn tell_all(&self, writer: &mut Writer) -> Result<(), FrameError> {
        let words = std::mem::take(&mut *self.words.lock().unwrap_or_else(PoisonError::into_inner));
        for word in words {
            let message = FromFar::Told(Box::new(word));
            match writer.send(&message) {
                Err(FrameError::TooLong(_)) => writer.send(&shortened(message))?,
                other => other?,
            }
        }
        Ok(())
    }

    /// Tells what is to be told, whenever nothing else goes there; for ever.
    pub fn keep_telling(&self) {
        loop {
            let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.bell.wait_while(words, |words| words.is_empty()));
            // Taken out under this lock alone, so that their order stays.
            let mut writer = self.writer();
            if self.tell_all(&mut writer).and_then(|()| writer.flush()).is_err() {
                return;
            }
        }
    }
}

/// Returns a word without what can be long and is not shown.
fn shortened(message: FromFar<'_>) -> FromFar<'_> {
    let FromFar::Told(mut word) = message else { return message };
    if let Word::Itemized(Itemized::Changed { new, old, .. } | Itemized::Linked { new, old, .. }) = &mut *word
    {
        new.attrs.xattrs.clear();
        old.iter_mut().for_each(|old| old.attrs.xattrs.clear());
    }
    FromFar::Told(word)
}

/// What the sender writes to the receiver.
struct Outlet(Arc<Wire>);

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..PULL_PIECE_MAX).unwrap_or(bytes);
        let mut writer = self.0.writer();
        let sent = self
            .0
            .tell_all(&mut writer)
            .and_then(|()| writer.send_with(&FromFar::Data(Cow::Borrowed(&[])), piece));
        sent.map(|()| piece.len()).map_err(broken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.writer().flush().map_err(broken)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let _ = self.0.send(&FromFar::Closed);
    }
}

fn broken(error: FrameError) -> io::Error {
    match error {
        FrameError::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// What the sender reads of the receiver.
struct Inlet {
    pieces: Receiver<Vec<u8>>,
    killed: Receiver<()>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Inlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let next = select! {
                recv(self.pieces) -> piece => piece.ok(),
                recv(self.killed) -> _ => None,
            };
            let Some(piece) = next else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let mut rest = self.piece.get(self.at..).unwrap_or_default();
        let len = rest.read(buffer)?;
        self.at += len;
        Ok(len)
    }
}

/// The connection as a whole.
struct Carrier {
    kill: Mutex<Option<Sender<()>>>,
    ended: Mutex<Option<Ended>>,
    bell: Condvar,
}

impl Carrier {
    fn end(&self, ended: Ended) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ended);
        self.bell.notify_all();
    }
}

impl Control for Carrier {
    fn kill(&self) {
        if self.kill.lock().unwrap_or_else(PoisonError::into_inner).take().is_none() {
            return;
        }
        self.end(Ended::default());
        // Nothing else can end a write to a connection that takes nothing.
        std::thread::spawn(|| {
            std::thread::sleep(END_WAIT);
            std::process::exit(END_STATUS);
        });
    }

    fn ended(&self) -> Ended {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.bell.wait_while(ended, |ended| ended.is_none());
        ended.unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }
}

/// The transport to the receiver: one link, which is there already.
pub(super) struct Far {
    wire: Arc<Wire>,
    inlet: Mutex<Option<Inlet>>,
    carrier: Arc<Carrier>,
    ear: Mutex<Option<Sender<Vec<u8>>>>,
}

impl Far {
    pub fn new(wire: Arc<Wire>) -> Self {
        let (ear, pieces) = bounded(PIECES_MAX);
        let (kill, killed) = bounded(0);
        let inlet = Inlet { pieces, killed, piece: Vec::new(), at: 0 };
        let carrier = Carrier { kill: Mutex::new(Some(kill)), ended: Mutex::default(), bell: Condvar::new() };
        Self { wire, inlet: Mutex::new(Some(inlet)), carrier: Arc::new(carrier), ear: Mutex::new(Some(ear)) }
    }

    /// Returns what hears the side that pulls; one only.
    pub fn ear(&self) -> Ear {
        let pieces = self.ear.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ear { pieces, carrier: Arc::clone(&self.carrier) }
    }
}

/// What the side that pulls says beside the session.
pub(super) enum Said {
    /// Send no more.
    Stop,
    /// A request, and the number under which it is answered.
    Ask(u64, Vec<u8>),
}

/// What hears the side that pulls.
pub(super) struct Ear {
    pieces: Option<Sender<Vec<u8>>>,
    carrier: Arc<Carrier>,
}

impl Ear {
    /// Hears until the connection ends; `said` is called with what is not for the session, and must be quick.
    pub fn hear(mut self, mut reader: FrameReader<impl Read>, said: impl Fn(Said)) {
        loop {
            match reader.read::<ToFar<'_>>() {
                Ok(ToFar::Data(data)) => {
                    // A sender that reads no more is at its end.
                    let _ = self.pieces.as_ref().map(|pieces| pieces.send(data.into_owned()));
                }
                Ok(ToFar::Ended { status, stderr }) => {
                    self.pieces = None;
                    self.carrier.end(Ended { status, stderr });
                }
                Ok(ToFar::Stop) => said(Said::Stop),
                Ok(ToFar::Ask { id, request }) => said(Said::Ask(id, request.into_owned())),
                Err(_) => break,
            }
        }
        self.pieces = None;
        self.carrier.end(Ended::default());
    }
}

impl Transport for Far {
    fn connect(&self) -> Result<Link, TransportError> {
        let inlet = self.inlet.lock().unwrap_or_else(PoisonError::into_inner).take();
        let inlet =
            inlet.ok_or_else(|| TransportError::Connect("there is one connection only".to_owned()))?;
        Ok(Link {
            reader: Box::new(inlet),
            writer: Box::new(BufWriter::with_capacity(PULL_PIECE_MAX, Outlet(Arc::clone(&self.wire)))),
            control: Box::new(Arc::clone(&self.carrier)),
        })
    }

    fn cancel(&self) {
        self.carrier.kill();
    }
}
