//! The control socket: one JSON line asks, one JSON line answers.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixListener;

use super::error::DaemonError;
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

/// A control socket that is listened at; dropping it removes it, if it is still this one.
pub(super) struct Control {
    pub listener: UnixListener,
    path: PathBuf,
    /// Its device and inode.
    id: (u64, u64),
}

impl Control {
    /// Makes a control socket that this user alone can reach. Within a tokio runtime.
    ///
    /// # Errors
    /// [`DaemonError::Taken`] if another daemon answers there, [`DaemonError::Control`] if there can be none.
    pub fn listen(path: &Path) -> Result<Self, DaemonError> {
        let fail = |error| DaemonError::Control { path: path.to_owned(), error };
        if let Some(dir) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
        }
        if let Ok(other) = UnixStream::connect(path) {
            let peer = rustix::net::sockopt::socket_peercred(&other);
            let pid = peer.map_or(0, |peer| peer.pid.as_raw_nonzero().get());
            return Err(DaemonError::Taken { path: path.to_owned(), pid });
        }
        // Left by a daemon that was killed. Anything but a socket is somebody's file.
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
            let _ = std::fs::remove_file(path);
        }
        let listener = UnixListener::bind(path).map_err(fail)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
        let meta = std::fs::symlink_metadata(path).map_err(fail)?;
        Ok(Self { listener, path: path.to_owned(), id: (meta.dev(), meta.ino()) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let own = std::fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.id);
        if own {
            let _ = std::fs::remove_file(&self.path);
        }
    }
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
