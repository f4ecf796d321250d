//! A look at a target, for `speil doctor`: the handshake as for a dry run, then questions.
//!
//! **In → Out:** a transport and what a session would be told; a [`Survey`].
//! **Invariants:** nothing on the target changes but an agent that is brought where that is allowed;
//! takes no lock, so a live mirror goes on; every wait has a limit.

use std::io::{BufWriter, Read, Write};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::error::SessionError;
use super::hello::hello;
use super::replies::{clean_greeting, clean_refusal, shown};
use super::session::SessionOptions;
use crate::protocol::{
    Examination, FrameError, FrameReader, FrameWriter, MAGIC, Place, ReplyHello, ToReceiver, ToSender,
    read_magic,
};
use crate::transport::Transport;

/// Round trips that are timed.
const PINGS: u64 = 5;
/// Bytes of one piece of the throughput's measurement, and of all at most.
const PIECE_LEN: usize = 256 * 1024;
const UPLOAD_LEN_MAX: usize = 64 << 20;
/// Longest time that the measurement sends.
const UPLOAD_SPAN: Duration = Duration::from_millis(700);

/// What a look at a target told.
#[derive(Debug, Clone)]
pub struct Survey {
    /// What the agent greeted with.
    pub greeting: ReplyHello,
    /// Whether the agent was brought to the target for this.
    pub deployed: bool,
    /// From the start of the connection to the greeting.
    pub connect: Duration,
    /// Shortest of several round trips.
    pub round_trip: Duration,
    /// Bytes a second to the target, after the round trip is taken off.
    pub upload_rate: u64,
    /// What the target is like.
    pub examination: Examination,
    /// How far the target's clock is ahead, in milliseconds, give or take half a round trip.
    pub clock_ahead_ms: i64,
}

enum Heard {
    Hello(Box<ReplyHello>),
    Pong,
    Examined(Box<Examination>, SystemTime),
    Ended(SessionError),
}

/// Looks at a target. `source` is where the source stands; an empty place if it is not known.
///
/// # Errors
/// [`SessionError`], as for a session.
pub fn survey(
    transport: &dyn Transport,
    options: &SessionOptions,
    source: Place,
) -> Result<Survey, SessionError> {
    match attempt(transport, options, source.clone()) {
        Err(SessionError::Ended(ended)) if transport.mend(&ended)? => {
            attempt(transport, options, source).map(|survey| Survey { deployed: true, ..survey })
        }
        other => other,
    }
}

fn attempt(
    transport: &dyn Transport,
    options: &SessionOptions,
    source: Place,
) -> Result<Survey, SessionError> {
    let began = Instant::now();
    let link = transport.connect()?;
    let (told, heard) = bounded(16);
    let reader = link.reader;
    std::thread::Builder::new()
        .name("survey".to_owned())
        .spawn(move || listen(reader, |word| told.send(word).is_ok()))
        .map_err(|error| SessionError::Source(format!("start a thread: {error}")))?;
    let limit = options.sync.timeout;
    let writer: Box<dyn Write + Send> = link.writer;
    let mut talk = Talk { writer: FrameWriter::new(BufWriter::new(writer)), heard, limit };
    let outcome = talk.run(options, source, began);
    match outcome {
        Ok(survey) => Ok(survey),
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

fn listen(mut reader: Box<dyn Read + Send>, tell: impl Fn(Heard) -> bool) {
    if let Err(error) = read_magic(&mut reader) {
        tell(Heard::Ended(error.into()));
        return;
    }
    let mut reader = FrameReader::new(reader);
    loop {
        let word = match reader.read::<ToSender<'_>>() {
            Ok(ToSender::Hello(greeting)) => Heard::Hello(Box::new(clean_greeting(*greeting))),
            Ok(ToSender::Refused(refusal)) => Heard::Ended(SessionError::Refused(clean_refusal(refusal))),
            Ok(ToSender::Pong(_)) => Heard::Pong,
            Ok(ToSender::Examined(mut found)) => {
                found.user = shown(&found.user);
                found.lacks.truncate(20);
                found.lacks.iter_mut().for_each(|text| *text = shown(text));
                Heard::Examined(found, SystemTime::now())
            }
            Ok(_) => Heard::Ended(SessionError::Fatal("it says what it was not asked".to_owned())),
            Err(error) => Heard::Ended(error.into()),
        };
        let last = matches!(word, Heard::Ended(_));
        if !tell(word) || last {
            return;
        }
    }
}

struct Talk {
    writer: FrameWriter<BufWriter<Box<dyn Write + Send>>>,
    heard: Receiver<Heard>,
    limit: Duration,
}

impl Talk {
    fn run(
        &mut self,
        options: &SessionOptions,
        source: Place,
        began: Instant,
    ) -> Result<Survey, SessionError> {
        let greeting = self.greet(options, source)?;
        let connect = began.elapsed();
        let round_trip = self.round_trip()?;
        self.say(&ToReceiver::Examine)?;
        let Heard::Examined(examination, at) = self.hear()? else { return Err(odd()) };
        let clock_ahead_ms = ahead_ms(&examination, at, round_trip);
        let upload_rate = self.upload(round_trip)?;
        // A goodbye that does not arrive costs nothing.
        let _ = self.say(&ToReceiver::Bye);
        let examination = *examination;
        Ok(Survey {
            greeting,
            deployed: false,
            connect,
            round_trip,
            upload_rate,
            examination,
            clock_ahead_ms,
        })
    }

    fn greet(&mut self, options: &SessionOptions, source: Place) -> Result<ReplyHello, SessionError> {
        let hello = hello(options, source);
        let said =
            self.writer.raw(&MAGIC).and_then(|()| self.writer.send(&ToReceiver::Hello(Box::new(hello))));
        let said = said.and_then(|()| self.writer.flush());
        // Why the peer does not listen is on the way back.
        match self.hear()? {
            Heard::Hello(greeting) => said.map(|()| *greeting).map_err(SessionError::from),
            _ => Err(odd()),
        }
    }

    fn say(&mut self, message: &ToReceiver<'_>) -> Result<(), SessionError> {
        self.writer.send(message)?;
        Ok(self.writer.flush()?)
    }

    fn hear(&mut self) -> Result<Heard, SessionError> {
        match self.heard.recv_timeout(self.limit) {
            Ok(Heard::Ended(error)) => Err(error),
            Ok(heard) => Ok(heard),
            Err(RecvTimeoutError::Timeout) => Err(SessionError::Silent(self.limit)),
            Err(RecvTimeoutError::Disconnected) => Err(FrameError::Closed.into()),
        }
    }

    fn round_trip(&mut self) -> Result<Duration, SessionError> {
        let mut shortest = Duration::MAX;
        for number in 0..PINGS {
            let sent = Instant::now();
            self.say(&ToReceiver::Ping(number))?;
            let Heard::Pong = self.hear()? else { return Err(odd()) };
            shortest = shortest.min(sent.elapsed());
        }
        Ok(shortest)
    }

    fn upload(&mut self, round_trip: Duration) -> Result<u64, SessionError> {
        let mut piece = vec![0; PIECE_LEN];
        // ssh or a tunnel may compress: what it cannot is what counts.
        let _ = rustix::rand::getrandom(&mut piece, rustix::rand::GetRandomFlags::empty());
        self.writer.set_compress(false);
        let began = Instant::now();
        let mut sent = 0;
        while sent < UPLOAD_LEN_MAX && began.elapsed() < UPLOAD_SPAN {
            self.say(&ToReceiver::Discard(piece.as_slice().into()))?;
            sent += PIECE_LEN;
        }
        self.say(&ToReceiver::Ping(PINGS))?;
        let Heard::Pong = self.hear()? else { return Err(odd()) };
        let took = began.elapsed().saturating_sub(round_trip).as_secs_f64().max(1e-6);
        Ok((sent as f64 / took) as u64)
    }
}

fn odd() -> SessionError {
    SessionError::Fatal("it answers what it was not asked".to_owned())
}

fn ahead_ms(found: &Examination, heard: SystemTime, round_trip: Duration) -> i64 {
    let here = heard.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let here = here.saturating_sub(round_trip / 2);
    let here = i64::try_from(here.as_millis()).unwrap_or(i64::MAX);
    let there =
        found.clock.secs.saturating_mul(1000).saturating_add(i64::from(found.clock.nanos / 1_000_000));
    there.saturating_sub(here)
}
