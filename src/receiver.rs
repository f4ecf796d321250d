//! The agent's side: takes what a sender says and makes the target so.
//!
//! **Purpose:** one call, [`serve`], runs a session from the magic bytes to the end of the stream.
//! **In → Out:** a byte stream each way; a directory tree.
//! **Invariants:** a name is at every moment its old whole version or its new whole version; nothing
//! outside the root is touched; every operation happens in the order in which it was sent, while
//! signatures, walks and disk flushes run beside it; an evicted session changes nothing any more.
//! **Not here:** how the bytes arrive (`transport`), what ought to be mirrored (`sender`).

mod access;
mod agreed;
mod answers;
mod apply;
mod arrived;
mod backup;
mod beside;
mod bundle;
mod cases;
mod dir_cache;
mod durable;
mod elsewhere;
mod examine;
mod foreign;
mod greeting;
mod ground;
mod handing;
mod install;
mod knock;
mod left_out;
mod operations;
mod outer;
mod own;
mod owners;
mod partial;
mod passes;
mod place;
mod policy;
mod profile;
mod reached;
mod remembering;
mod reply;
mod retained;
mod retention;
mod rivals;
mod roles;
mod seize;
mod sign;
mod sparing;
mod standing;
mod state;
mod streams;
mod trash;
mod undo;
mod undone;

use std::ffi::OsStr;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_bytes::ByteBuf;

use crate::confine;
use crate::error::io_text;
use crate::protocol::{FrameError, FrameReader, MAGIC, ToReceiver, ToSender, Unsent, read_magic};

pub use arrived::{Arrival, Arrivals, Changed};
pub use reached::{Asked, has_reached};
pub use seize::{Seized, is_live, seize, wake};
pub use standing::{Ranked, Standing, standing};

use apply::Applier;
use bundle::{Input, Places};
use owners::Names;
use reply::Reply;

/// How an agent is confined, by its own side alone.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The root, whatever the sender asks for: for forced commands.
    pub root: Option<PathBuf>,
    /// The process takes away from itself what it does not need; threads that run already keep it.
    pub confine: bool,
    /// Bytes of the root's filesystem that stay free.
    pub min_free: u64,
    /// What is never made, whatever the sender asks for.
    pub refused: Refused,
    /// Names that differ in case only are one, also where the filesystem keeps them apart.
    pub fold_case: bool,
    /// What the filters leave out is not made or changed, whatever the sender says.
    pub keep_to_filters: bool,
    /// Nothing is removed or renamed, whatever the sender says.
    pub keep_entries: bool,
}

impl Options {
    /// Returns the root that a sender gets who asks for one.
    fn root_for(&self, asked: &[u8]) -> PathBuf {
        self.root.clone().unwrap_or_else(|| PathBuf::from(OsStr::from_bytes(asked)))
    }
}

/// What an agent never makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Character and block devices.
    pub devices: bool,
    /// Set-id and sticky bits, capabilities and other privileged attributes.
    pub set_id: bool,
    /// Owners and groups other than the agent's own.
    pub owners: bool,
}

/// Why a session ended other than by the sender's goodbye. The agent's process ends with it.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The stream broke or was not speil's.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The session was refused; the sender was told why.
    #[error("session refused: {0:?}")]
    Refused(Box<crate::protocol::Refusal>),
    /// The agent's own machinery failed.
    #[error("{what}: {}", io_text(.error))]
    Own {
        /// What failed.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// A message came that has no place here.
    #[error("unexpected message from the sender")]
    Unexpected,
}

/// Exit status of an agent that a newer session of its mirror has evicted.
pub const EVICTED_STATUS: i32 = 12;

/// Time for the whole handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(60);
/// Longest silence that a sender may ask for.
const IDLE_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Runs one session over `input` and `output` until the sender says goodbye or the stream ends.
///
/// # Errors
/// [`ReceiverError`]; what was applied stays applied, temporary files are removed by the next session.
pub fn serve(input: OwnedFd, output: Box<dyn Write + Send>, options: &Options) -> Result<(), ReceiverError> {
    let own = |what| move |error| ReceiverError::Own { what, error };
    // Before anything is taken away, and before anything was said.
    let names = Names::start().map_err(own("start a thread"))?;
    if options.confine {
        confine::no_new_privileges();
    }
    let reply = Arc::new(Reply::new(output));
    reply.raw(&MAGIC)?;
    let patient = IdleReader { input, limit: HANDSHAKE_LIMIT, until: Some(Instant::now() + HANDSHAKE_LIMIT) };
    let mut input = BufReader::with_capacity(256 * 1024, patient);
    read_magic(&mut input)?;
    let mut reader = FrameReader::new(Input::One(input));
    let hello = match reader.read::<ToReceiver<'_>>()? {
        ToReceiver::Hello(hello) => hello,
        ToReceiver::Join { root, place } => return join((&root, &place), reader.get_mut(), &reply, options),
        ToReceiver::Wanted { .. } => {
            reply.unsent(Unsent::Receives)?;
            return Err(ReceiverError::Unexpected);
        }
        _ => return Err(ReceiverError::Unexpected),
    };
    let mut session = match greeting::open(&hello, options) {
        Ok(session) => session,
        Err(refusal) => {
            reply.refuse(&refusal)?;
            return Err(ReceiverError::Refused(Box::new(refusal)));
        }
    };
    if let Some(one) = reader.get_mut().one() {
        let limit = Duration::from_millis(hello.idle_limit_ms).clamp(Duration::from_secs(1), IDLE_LIMIT);
        (one.get_mut().limit, one.get_mut().until) = (limit, None);
    }
    reply.hello(session.reply.clone())?;
    let _stand_in = session.stand_in.take();
    let (root, tag) = (Arc::clone(&session.root), session.tag);
    let mut applier = Applier::new(session, &hello, Arc::clone(&reply), names)?;
    let mut places = None;
    loop {
        match reader.read::<ToReceiver<'_>>() {
            Ok(ToReceiver::Bye) => break,
            Ok(ToReceiver::Widen { connections }) if !hello.dry_run => {
                // A filesystem may have no FIFOs: then one connection must do.
                places = Places::new(&root, tag, connections).ok();
                let names = places.iter().flat_map(Places::names).map(|name| ByteBuf::from(name.as_slice()));
                reply.send(&ToSender::Places(names.collect()))?;
            }
            Ok(ToReceiver::Bundled) => {
                let places = places.take().ok_or(ReceiverError::Unexpected)?;
                reader.get_mut().bundle(places).map_err(own("take in connections"))?;
            }
            Ok(message) => applier.handle(message)?,
            Err(FrameError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    applier.finish();
    Ok(())
}

/// Runs the agent of a further connection until the session that it belongs to is over.
fn join(
    (root, place): (&[u8], &[u8]),
    input: &mut Input,
    reply: &Reply,
    options: &Options,
) -> Result<(), ReceiverError> {
    let own = |what| move |error| ReceiverError::Own { what, error };
    let path = options.root_for(root);
    let root = crate::disk::Root::open(&path).map_err(own("open root"))?;
    if options.confine {
        confine::confine(&[root.as_fd()]);
    }
    // The sender waits for the answer, so that nothing has been read ahead.
    let input = input.one().filter(|one| one.buffer().is_empty()).ok_or(ReceiverError::Unexpected)?;
    let joined = || reply.send(&ToSender::Joined).map_err(|error| io::Error::other(error.to_string()));
    bundle::relay(&root, place, &input.get_ref().input, joined).map_err(own("join"))
}

/// Reads a descriptor, and gives up after a time without a byte, or when a moment has come.
struct IdleReader {
    input: OwnedFd,
    limit: Duration,
    until: Option<Instant>,
}

impl IdleReader {
    fn patience(&self) -> Timespec {
        let left = self.until.map_or(self.limit, |until| until.saturating_duration_since(Instant::now()));
        let left = left.min(self.limit);
        Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        }
    }
}

impl Read for IdleReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut fds = [PollFd::new(&self.input, PollFlags::IN)];
            let over = self.until.is_some_and(|until| Instant::now() >= until);
            match poll(&mut fds, Some(&self.patience())) {
                Ok(0) => return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
                Ok(_) if over => return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            match rustix::io::read(self.input.as_fd(), &mut *buffer) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_that_drips_ends_at_its_deadline_and_silence_at_its_limit() {
        let (input, output) = rustix::pipe::pipe().unwrap();
        let long = Duration::from_secs(3600);
        let mut reader = IdleReader { input, limit: long, until: Some(Instant::now() + long) };
        let mut byte = [0];
        rustix::io::write(&output, b"abc").unwrap();
        assert_eq!(reader.read(&mut byte).unwrap(), 1);
        // A byte is there, and yet the time is over.
        reader.until = Some(Instant::now());
        assert_eq!(reader.read(&mut byte).unwrap_err().kind(), io::ErrorKind::TimedOut);
        (reader.until, reader.limit) = (None, Duration::from_millis(1));
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 2);
        assert_eq!(reader.read(&mut byte).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
