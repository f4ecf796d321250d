//! Links that are a child process: ssh, or the agent itself.

use std::io::{BufReader, BufWriter, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::cancel::Cancel;
use super::tail::Tail;
use super::{Control, Ended, Link, Transport, TransportError};

/// Asked of the kernel for the pipe to the carrier, in bytes.
const PIPE_LEN: usize = 1 << 20;

/// The agent as a child of this process: the same path as over SSH, without the SSH.
#[derive(Debug, Default)]
pub struct Local {
    /// The agent's command line.
    pub command: Vec<String>,
    cancel: Cancel,
}

/// The word that has an executable called `lsyncd` or `rsync` be the agent.
pub const AGENT_WORD: &str = "--speil-agent";

impl From<Vec<String>> for Local {
    fn from(command: Vec<String>) -> Self {
        Self { command, cancel: Cancel::default() }
    }
}

impl Local {
    /// Returns the transport that runs this very executable as the agent.
    ///
    /// # Errors
    /// [`TransportError::Start`] if the executable cannot be found.
    pub fn this_program() -> Result<Self, TransportError> {
        let exe: PathBuf = std::env::current_exe()
            .map_err(|error| TransportError::Start { program: "speil".to_owned(), error })?;
        let named = exe.file_name().is_some_and(|name| {
            let name = name.as_encoded_bytes();
            name.ends_with(b"lsyncd") || name.ends_with(b"rsync")
        });
        let word = if named { AGENT_WORD } else { "agent" };
        Ok(vec![exe.to_string_lossy().into_owned(), word.to_owned()].into())
    }
}

impl Transport for Local {
    fn connect(&self) -> Result<Link, TransportError> {
        spawn(&self.command, true, &self.cancel)
    }

    fn cancel(&self) {
        self.cancel.cancel();
    }
}

/// Starts `command` and returns the link to it.
///
/// With `apart` it gets a process group of its own: Ctrl-C in a terminal is for speil, which ends its
/// links itself. Without, it may ask the terminal for a password.
pub(super) fn spawn(command: &[String], apart: bool, cancel: &Cancel) -> Result<Link, TransportError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(TransportError::Deploy("the agent's command is empty".to_owned()));
    };
    let mut process = Command::new(program);
    process.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if apart {
        std::os::unix::process::CommandExt::process_group(&mut process, 0);
    }
    let mut child =
        process.spawn().map_err(|error| TransportError::Start { program: program.clone(), error })?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(TransportError::Deploy("no pipes to the agent".to_owned()));
    };
    // A larger pipe saves switches; a refusal (pipe-user-pages-soft) costs only speed.
    let _ = rustix::pipe::fcntl_setpipe_size(stdin.as_fd(), PIPE_LEN);
    let _ = rustix::pipe::fcntl_setpipe_size(stdout.as_fd(), PIPE_LEN);
    let lines = Arc::new(Tail::default());
    let keep = Arc::clone(&lines);
    let collector = std::thread::Builder::new()
        .name("stderr".to_owned())
        .spawn(move || collect(stderr, &keep))
        .map_err(|error| TransportError::Start { program: program.clone(), error })?;
    let pid = child.id();
    let inner = Mutex::new(Inner { child, collector: Some(collector) });
    let control = Arc::new(ChildControl { pid, inner, lines });
    cancel.add_link(&control);
    Ok(Link {
        reader: Box::new(BufReader::with_capacity(256 * 1024, stdout)),
        writer: Box::new(BufWriter::with_capacity(256 * 1024, stdin)),
        control: Box::new(control),
    })
}

fn collect(mut from: impl Read, tail: &Tail) {
    let mut bytes = [0; 4096];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return,
            Ok(len) => tail.feed(bytes.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

struct Inner {
    child: Child,
    collector: Option<JoinHandle<()>>,
}

struct ChildControl {
    pid: u32,
    inner: Mutex<Inner>,
    lines: Arc<Tail>,
}

impl Control for ChildControl {
    fn kill(&self) {
        // `ended` may hold the lock while it waits; then the child is signalled by its pid, which
        // stays its own until it is waited for.
        match self.inner.try_lock() {
            Ok(mut inner) => {
                let _ = inner.child.kill();
            }
            Err(_) => {
                if let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    }

    fn ended(&self) -> Ended {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let status = inner.child.wait().ok().and_then(|status| status.code());
        if let Some(collector) = inner.collector.take() {
            let _ = collector.join();
        }
        Ended { status, stderr: self.lines.lines() }
    }
}

impl Drop for ChildControl {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = inner.child.kill();
        let _ = inner.child.wait();
    }
}
