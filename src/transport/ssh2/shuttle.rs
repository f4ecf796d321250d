//! The thread that owns a session, and the link that it serves.
//!
//! **In → Out:** a session with a running command; a [`Link`] of two pipes, so that backpressure is
//! the kernel's. **Invariants:** the session is touched by this thread alone and never blocks it, so
//! that both directions move whatever the other does; a message that libssh2 cannot resume (end of
//! input, keepalive) is only given to it when the socket takes it whole.
//! **Not here:** logging in. **Sources:** libssh2_session_block_directions(3), poll(2).

use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use ssh2::{BlockDirections, Channel, Session};

use crate::transport::cancel::Cancel;
use crate::transport::tail::Tail;
use crate::transport::{Control, Ended, Link};

/// Bytes that are moved at once. The same for every stream of the channel: libssh2 sizes the window
/// adjustment by it, and a stream may finish the one that another has begun.
const CHUNK_LEN: usize = 128 << 10;
/// Asked of the kernel for the pipes, in bytes.
const PIPE_LEN: usize = 1 << 20;
/// Pause of a thread whose socket has bytes that libssh2 takes only when it can write.
const CONGESTED: Duration = Duration::from_millis(20);
/// Longest sleep without a look at the keepalive.
const IDLE: Duration = Duration::from_secs(60);

/// Starts the thread. The parameters stand in this order because they go in the other one: the socket
/// must outlive the session.
///
/// # Errors
/// The system's, if it has no descriptors or threads left.
pub(super) fn start(
    socket: TcpStream,
    session: Session,
    channel: Channel,
    cancel: &Cancel,
) -> io::Result<Link> {
    let (remote_input, writer) = pipe()?;
    let (reader, remote_output) = pipe()?;
    rustix::io::ioctl_fionbio(&remote_input, true)?;
    rustix::io::ioctl_fionbio(&remote_output, true)?;
    let bell = Bell::new()?;
    let tail = Arc::new(Tail::default());
    let control = Arc::new(Signals { bell, tail });
    let shuttle = Shuttle {
        session,
        channel,
        socket,
        shared: Arc::clone(&control),
        input: Input { pipe: Some(remote_input), chunk: Chunk::new(), ended: false },
        output: Output { pipe: Some(remote_output), chunk: Chunk::new(), ended: false },
        errors: vec![0; CHUNK_LEN],
        errors_ended: false,
        congested: false,
    };
    let thread = std::thread::Builder::new().name("ssh2".to_owned()).spawn(move || shuttle.run())?;
    let control = Arc::new(ThreadControl { shared: control, state: Mutex::new(State::Running(thread)) });
    cancel.add_link(&control);
    Ok(Link {
        reader: Box::new(BufReader::with_capacity(256 * 1024, std::fs::File::from(reader))),
        writer: Box::new(BufWriter::with_capacity(256 * 1024, std::fs::File::from(writer))),
        control: Box::new(control),
    })
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // A larger pipe saves switches; a refusal (pipe-user-pages-soft) costs only speed.
    let _ = rustix::pipe::fcntl_setpipe_size(write.as_fd(), PIPE_LEN);
    Ok((read, write))
}

/// Tells the thread to end.
struct Bell {
    rung: AtomicBool,
    hear: OwnedFd,
    ring: OwnedFd,
}

impl Bell {
    fn new() -> io::Result<Self> {
        let (hear, ring) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { rung: AtomicBool::new(false), hear, ring })
    }

    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        // It fails only if it was rung thousands of times already.
        let _ = rustix::io::write(&self.ring, &[0]);
    }

    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }
}

struct Signals {
    bell: Bell,
    tail: Arc<Tail>,
}

enum State {
    Running(JoinHandle<Option<i32>>),
    Ended(Option<i32>),
}

struct ThreadControl {
    shared: Arc<Signals>,
    state: Mutex<State>,
}

impl Control for ThreadControl {
    fn kill(&self) {
        self.shared.bell.ring();
    }

    fn ended(&self) -> Ended {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let status = match std::mem::replace(&mut *state, State::Ended(None)) {
            State::Running(thread) => thread.join().unwrap_or(None),
            State::Ended(status) => status,
        };
        *state = State::Ended(status);
        Ended { status, stderr: self.shared.tail.lines() }
    }
}

impl Drop for ThreadControl {
    fn drop(&mut self) {
        self.kill();
        self.ended();
    }
}

/// Bytes on their way; they keep their place until they are gone, since libssh2 wants to be asked
/// again with the very same ones.
struct Chunk {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Chunk {
    fn new() -> Self {
        Self { bytes: vec![0; CHUNK_LEN], start: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn filled(&mut self, len: usize) {
        (self.start, self.end) = (0, len);
    }

    fn taken(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
    }
}

/// From the link's writer to the command.
struct Input {
    pipe: Option<OwnedFd>,
    chunk: Chunk,
    /// The command has been told that nothing follows.
    ended: bool,
}

/// From the command to the link's reader; what follows the reader's end is dropped.
struct Output {
    pipe: Option<OwnedFd>,
    chunk: Chunk,
    /// Nothing follows.
    ended: bool,
}

struct Shuttle {
    channel: Channel,
    session: Session,
    /// Below the session, which knows it by its number: it goes after the session.
    socket: TcpStream,
    shared: Arc<Signals>,
    input: Input,
    output: Output,
    errors: Vec<u8>,
    errors_ended: bool,
    /// The socket had bytes, and nothing came of them: something must go out first.
    congested: bool,
}

impl Shuttle {
    /// Serves the link to its end; returns the command's exit status if it has one.
    fn run(mut self) -> Option<i32> {
        self.session.set_blocking(false);
        let status = match self.serve() {
            Ok(true) => self.status(),
            Ok(false) => None,
            Err(error) => {
                let text = crate::tree::quote(crate::error::io_text(&error).as_bytes());
                self.shared.tail.feed(format!("connection lost: {}\n", text.trim_matches('"')).as_bytes());
                None
            }
        };
        self.finish();
        status
    }

    /// Says goodbye if that costs no waiting, and frees the session without the host.
    ///
    /// libssh2 frees nothing while a message is half sent, and the host may never take the rest: so
    /// the rest goes into a socket of our own, which is put in the place of the connection.
    fn finish(mut self) {
        if self.has_room().unwrap_or(false) {
            let _ = self.channel.close();
            let _ = self.session.disconnect(None, "done", None);
        }
        let _ = self.socket.shutdown(Shutdown::Both);
        let mut socket = OwnedFd::from(self.socket);
        let sink = put_sink_under(&mut socket);
        if sink.is_ok() {
            let _ = self.session.disconnect(None, "done", None);
            let _ = self.channel.write(self.input.chunk.pending());
            let _ = self.channel.stderr().read(&mut self.errors);
        }
        // The session knows the socket by its number alone, so it goes first.
        drop(self.channel);
        drop(self.session);
        drop(socket);
    }

    /// Moves bytes until the command has ended (`true`) or the link is killed (`false`).
    fn serve(&mut self) -> io::Result<bool> {
        loop {
            if self.shared.bell.is_rung() {
                return Ok(false);
            }
            let mut moved = self.take_errors()?;
            moved |= self.take_output()?;
            moved |= self.give_output()?;
            moved |= self.take_input()?;
            moved |= self.give_input()?;
            if self.is_over()? {
                return Ok(true);
            }
            if moved {
                self.congested = false;
            } else {
                self.wait()?;
            }
        }
    }

    /// Standard error; reading it also drains the socket, whatever the reader of the output does.
    fn take_errors(&mut self) -> io::Result<bool> {
        let len = match self.channel.stderr().read(&mut self.errors) {
            Ok(len) => len,
            Err(error) => return blocked(error),
        };
        self.shared.tail.feed(self.errors.get(..len).unwrap_or_default());
        self.errors_ended = len == 0;
        Ok(len > 0)
    }

    fn take_output(&mut self) -> io::Result<bool> {
        if self.output.ended || !self.output.chunk.is_empty() {
            return Ok(false);
        }
        let len = match self.channel.read(&mut self.output.chunk.bytes) {
            Ok(len) => len,
            Err(error) => return blocked(error),
        };
        self.output.chunk.filled(len);
        self.output.ended = len == 0;
        Ok(true)
    }

    fn give_output(&mut self) -> io::Result<bool> {
        let output = &mut self.output;
        let mut moved = false;
        while let (Some(pipe), false) = (&output.pipe, output.chunk.is_empty()) {
            match rustix::io::write(pipe, output.chunk.pending()) {
                Ok(len) => output.chunk.taken(len),
                Err(Errno::AGAIN) => return Ok(moved),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => output.pipe = None,
                Err(error) => return Err(error.into()),
            }
            moved = true;
        }
        if output.pipe.is_none() {
            output.chunk.filled(0);
        } else if output.ended {
            output.pipe = None;
            moved = true;
        }
        Ok(moved)
    }

    fn take_input(&mut self) -> io::Result<bool> {
        let input = &mut self.input;
        let (Some(pipe), true) = (&input.pipe, input.chunk.is_empty()) else { return Ok(false) };
        match rustix::io::read(pipe, &mut input.chunk.bytes) {
            Ok(0) => input.pipe = None,
            Ok(len) => input.chunk.filled(len),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    fn give_input(&mut self) -> io::Result<bool> {
        let mut moved = false;
        while !self.input.chunk.is_empty() {
            match self.channel.write(self.input.chunk.pending()) {
                // The window is closed.
                Ok(0) => return Ok(moved),
                Ok(len) => self.input.chunk.taken(len),
                Err(error) => return blocked(error).map(|_| moved),
            }
            moved = true;
        }
        if self.input.pipe.is_none() && !self.input.ended && self.has_room()? {
            match self.channel.send_eof() {
                Ok(()) => {
                    self.input.ended = true;
                    moved = true;
                }
                Err(error) => {
                    blocked(error.into())?;
                }
            }
        }
        Ok(moved)
    }

    /// Whether the command has ended and all that it wrote is delivered.
    fn is_over(&mut self) -> io::Result<bool> {
        if !(self.errors_ended && self.output.ended && self.output.chunk.is_empty()) {
            return Ok(false);
        }
        match self.channel.wait_close() {
            Ok(()) => Ok(true),
            Err(error) => blocked(error.into()),
        }
    }

    fn status(&self) -> Option<i32> {
        let signal = self.channel.exit_signal().ok().and_then(|signal| signal.exit_signal);
        if let Some(signal) = signal {
            let text = crate::tree::quote(signal.as_bytes());
            self.shared.tail.feed(format!("ended by signal {}\n", text.trim_matches('"')).as_bytes());
            return None;
        }
        self.channel.exit_status().ok()
    }

    /// Whether the socket takes a short message whole: Linux calls a stream writable only when a
    /// third of its buffer is free.
    fn has_room(&self) -> io::Result<bool> {
        let mut socket = [PollFd::new(&self.socket, PollFlags::OUT)];
        let ready = rustix::event::poll(&mut socket, Some(&Timespec::default()));
        Ok(no_interrupt(ready)? > 0)
    }

    /// Sleeps until something can move.
    fn wait(&mut self) -> io::Result<()> {
        let outward =
            matches!(self.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both);
        let congested = self.congested && outward;
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, !congested);
        // The end of input waits for room in the socket.
        let ends = self.input.pipe.is_none() && self.input.chunk.is_empty() && !self.input.ended;
        wanted.set(PollFlags::OUT, outward || ends);
        let mut limit = if congested { CONGESTED } else { IDLE };
        if self.has_room()? {
            let next = self.session.keepalive_send().map_err(io::Error::from)?;
            if next > 0 {
                limit = limit.min(Duration::from_secs(next.into()));
            }
        } else {
            // A keepalive waits for room as well; whoever has unsent bytes needs none to be noticed.
            limit = limit.min(Duration::from_secs(1));
        }
        let mut watched =
            vec![PollFd::new(&self.socket, wanted), PollFd::new(&self.shared.bell.hear, PollFlags::IN)];
        if let (Some(pipe), true) = (&self.input.pipe, self.input.chunk.is_empty()) {
            watched.push(PollFd::new(pipe, PollFlags::IN));
        }
        if let (Some(pipe), false) = (&self.output.pipe, self.output.chunk.is_empty()) {
            watched.push(PollFd::new(pipe, PollFlags::OUT));
        }
        let limit = Timespec::try_from(limit).unwrap_or_default();
        no_interrupt(rustix::event::poll(&mut watched, Some(&limit)))?;
        self.congested = watched.first().is_some_and(|socket| socket.revents().contains(PollFlags::IN));
        Ok(())
    }
}

/// Puts a socket in the place of `socket` that takes some hundred KiB and has nothing to read.
fn put_sink_under(socket: &mut OwnedFd) -> io::Result<UnixStream> {
    let (here, sink) = UnixStream::pair()?;
    here.set_nonblocking(true)?;
    sink.shutdown(Shutdown::Write)?;
    rustix::io::dup2(&here, socket)?;
    Ok(sink)
}

fn no_interrupt(ready: rustix::io::Result<usize>) -> io::Result<usize> {
    match ready {
        Err(Errno::INTR) => Ok(0),
        other => Ok(other?),
    }
}

/// `Ok(false)` for an error that only says that nothing can move now.
fn blocked(error: io::Error) -> io::Result<bool> {
    if error.kind() == ErrorKind::WouldBlock { Ok(false) } else { Err(error) }
}
