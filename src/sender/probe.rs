//! A look at a target, for `speil doctor`: the handshake as for a dry run, then questions.
//!
//! **In → Out:** a transport and what a session would be told; a [`Survey`].
//! **Invariants:** nothing on the target changes but an agent that is brought where that is allowed;
//! takes no lock, so a live mirror goes on; every wait has a limit.

use std::time::{Duration, Instant, SystemTime};

use super::dialogue::{Dialogue, Heard, odd};
use super::error::SessionError;
use super::hello::hello;
use super::owners::TargetView;
use super::session::SessionOptions;
use crate::protocol::{Examination, ReplyHello, RootPlace, ToReceiver};
use crate::transport::Transport;
use crate::tree::{Chmod, Chown};

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
    /// Fixed owners of the sync that the target lacks, in words.
    pub unknown_owners: Vec<String>,
}

/// Looks at a target. `source` is where the source stands; an empty place if it is not known.
///
/// # Errors
/// [`SessionError`], as for a session.
pub fn survey(
    transport: &dyn Transport,
    options: &SessionOptions,
    source: RootPlace,
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
    source: RootPlace,
) -> Result<Survey, SessionError> {
    let began = Instant::now();
    Dialogue::hold(transport, options.sync.timeout, |talk| talk.run(options, source.clone(), began))
}

impl Dialogue {
    fn run(
        &mut self,
        options: &SessionOptions,
        source: RootPlace,
        began: Instant,
    ) -> Result<Survey, SessionError> {
        let greeting = self.greet(hello(options, source))?;
        let connect = began.elapsed();
        let round_trip = self.round_trip()?;
        let unknown_owners = self.unknown_owners(options)?;
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
            unknown_owners,
        })
    }

    fn unknown_owners(&mut self, options: &SessionOptions) -> Result<Vec<String>, SessionError> {
        let sync = &options.sync;
        let chown = sync.selection.chown.as_deref().map(Chown::parse).transpose();
        let chown = chown.map_err(|error| SessionError::Option(format!("--chown: {error}")))?;
        let Some(chown) = chown else { return Ok(Vec::new()) };
        self.keep_alive(|ask| TargetView::new(sync.mask, Chmod::default(), chown.into(), true, ask))?
            .unknown_owners()
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
        self.plain();
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

fn ahead_ms(found: &Examination, heard: SystemTime, round_trip: Duration) -> i64 {
    let here = heard.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let here = here.saturating_sub(round_trip / 2);
    let here = i64::try_from(here.as_millis()).unwrap_or(i64::MAX);
    let there =
        found.clock.secs.saturating_mul(1000).saturating_add(i64::from(found.clock.nanos / 1_000_000));
    there.saturating_sub(here)
}
