//! The control socket: one JSON line asks, one JSON line answers.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::status::{Answer, Request};

/// Asks a running daemon.
///
/// # Errors
/// What connecting or reading says; `TimedOut` if there is no answer within `limit`.
pub fn ask(socket: &Path, request: &Request, limit: Option<Duration>) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(limit)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}

/// Returns the socket of the daemon that runs here, if there is no doubt which it is.
pub fn find_socket() -> Option<PathBuf> {
    let dir = super::lock::runtime_dir();
    let standard = dir.join("control");
    if UnixStream::connect(&standard).is_ok() {
        return Some(standard);
    }
    let entries = std::fs::read_dir(dir).ok()?;
    let sockets = entries.flatten().map(|entry| entry.path());
    let mut alive: Vec<PathBuf> = sockets
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("control")))
        .filter(|path| UnixStream::connect(path).is_ok())
        .collect();
    if alive.len() == 1 { alive.pop() } else { None }
}

/// Returns where a daemon listens that was not told where: the standard place, or one of its own if
/// another daemon is there.
pub(super) fn default_socket() -> PathBuf {
    let dir = super::lock::runtime_dir();
    let standard = dir.join("control");
    if UnixStream::connect(&standard).is_ok() {
        return dir.join(format!("control-{}", std::process::id()));
    }
    standard
}
