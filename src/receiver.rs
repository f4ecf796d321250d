//! The agent's side: takes what a sender says and makes the target so.
//!
//! **Purpose:** one call, [`serve`], runs a session from the magic bytes to the end of the stream.
//! **In → Out:** a byte stream each way; a directory tree.
//! **Invariants:** a name is at every moment its old whole version or its new whole version; nothing
//! outside the root is touched; every operation happens in the order in which it was sent, while
//! signatures, walks and disk flushes run beside it; an evicted session changes nothing any more.
//! **Not here:** how the bytes arrive (`transport`), what ought to be mirrored (`sender`).

mod access;
mod apply;
mod durable;
mod examine;
mod greeting;
mod install;
mod operations;
mod owners;
mod passes;
mod profile;
mod reply;
mod sign;
mod standing;
mod state;
mod strangers;
mod streams;

use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::io_text;
use crate::protocol::{FrameError, FrameReader, MAGIC, ToReceiver, read_magic};

pub use standing::{Standing, standing};

use apply::Applier;
use reply::Reply;

/// How an agent is confined.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The root, whatever the sender asks for: for forced commands.
    pub root: Option<PathBuf>,
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

/// Time for the handshake, in milliseconds.
const HANDSHAKE_LIMIT_MS: u64 = 60_000;

/// Runs one session over `input` and `output` until the sender says goodbye or the stream ends.
///
/// # Errors
/// [`ReceiverError`]; what was applied stays applied, temporary files are removed by the next session.
pub fn serve(input: OwnedFd, output: Box<dyn Write + Send>, options: &Options) -> Result<(), ReceiverError> {
    let reply = Arc::new(Reply::new(output));
    reply.raw(&MAGIC)?;
    let mut input = BufReader::with_capacity(256 * 1024, IdleReader { input, limit_ms: HANDSHAKE_LIMIT_MS });
    read_magic(&mut input)?;
    let mut reader = FrameReader::new(input);
    let hello = match reader.read::<ToReceiver<'_>>()? {
        ToReceiver::Hello(hello) => hello,
        _ => return Err(ReceiverError::Unexpected),
    };
    let session = match greeting::open(&hello, options) {
        Ok(session) => session,
        Err(refusal) => {
            reply.refuse(&refusal)?;
            return Err(ReceiverError::Refused(Box::new(refusal)));
        }
    };
    reader.get_mut().get_mut().limit_ms = hello.idle_limit_ms.max(1000);
    reply.hello(session.reply.clone())?;
    let mut applier = Applier::new(session, &hello, Arc::clone(&reply))?;
    loop {
        match reader.read::<ToReceiver<'_>>() {
            Ok(ToReceiver::Bye) => break,
            Ok(message) => applier.handle(message)?,
            Err(FrameError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    applier.finish();
    Ok(())
}

/// Reads a descriptor, and gives up after a time without a byte.
struct IdleReader {
    input: OwnedFd,
    limit_ms: u64,
}

impl Read for IdleReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = Timespec {
            tv_sec: i64::try_from(self.limit_ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: (self.limit_ms % 1000) as i64 * 1_000_000,
        };
        loop {
            let mut fds = [PollFd::new(&self.input, PollFlags::IN)];
            match poll(&mut fds, Some(&limit)) {
                Ok(0) => return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
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
