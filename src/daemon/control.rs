//! The control socket: one JSON line asks, one JSON line answers.

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixListener;

use super::error::DaemonError;
use crate::error::io_text;
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

/// Why it is not known which daemon is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSocket {
    /// None answers.
    #[error("no running speil was found: none answers in {}", .0.display())]
    None(PathBuf),
    /// None of this user answers, and there is one of root, which this user cannot ask.
    #[error("no running speil of this user was found; the one that root runs answers only to root")]
    Roots,
    /// More than one answers.
    #[error("several daemons of speil run here")]
    Several(Vec<PathBuf>),
}

/// Where the daemon of the system has its socket, whoever asks.
const SYSTEM_SOCKET: &str = "/run/speil/control";

/// Returns the socket of the daemon that runs here.
///
/// # Errors
/// [`NoSocket`] if there is none, or any doubt which it is.
pub fn find_socket() -> Result<PathBuf, NoSocket> {
    let dir = super::lock::runtime_dir();
    let standard = dir.join("control");
    if UnixStream::connect(&standard).is_ok() {
        return Ok(standard);
    }
    let sockets = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut alive: Vec<PathBuf> = sockets
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("control")))
        .filter(|path| UnixStream::connect(path).is_ok())
        .collect();
    alive.sort();
    match (alive.len(), alive.pop()) {
        (1, Some(only)) => Ok(only),
        (0, _) | (_, None) => of_the_system().unwrap_or(Err(NoSocket::None(dir))),
        (_, Some(last)) => Err(NoSocket::Several(alive.into_iter().chain([last]).collect())),
    }
}

/// Looks for the daemon that systemd runs: a login has a runtime directory of its own, root's as well.
fn of_the_system() -> Option<Result<PathBuf, NoSocket>> {
    match UnixStream::connect(SYSTEM_SOCKET) {
        Ok(_) => Some(Ok(PathBuf::from(SYSTEM_SOCKET))),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(Err(NoSocket::Roots)),
        Err(_) => None,
    }
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
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(fail)?;
        let meta = std::fs::symlink_metadata(path).map_err(fail)?;
        Ok(Self { listener, path: path.to_owned(), id: (meta.dev(), meta.ino()) })
    }
}

/// Lets the members of a group reach a control socket; in its directory they can do nothing else.
///
/// # Errors
/// Why they cannot reach it, in one line, and what to do.
pub(super) fn admit(path: &Path, group: &str) -> Result<(), (String, Option<String>)> {
    let failed = |path: &Path, error: io::Error| {
        let text = format!("control: group {group:?} cannot ask: {}: {}", path.display(), io_text(&error));
        let hint = (error.kind() == io::ErrorKind::PermissionDenied).then(|| {
            format!(
                "the service needs to be in that group: SupplementaryGroups={group} in a drop-in of its unit"
            )
        });
        (text, hint)
    };
    let gid = match nix::unistd::Group::from_name(group) {
        Ok(Some(found)) => found.gid.as_raw(),
        Ok(None) => {
            return Err((
                format!("control: there is no group {group:?}, so only root and this user can ask"),
                None,
            ));
        }
        Err(error) => return Err(failed(path, error.into())),
    };
    let give = |path: &Path, mode: u32| {
        std::os::unix::fs::chown(path, None, Some(gid))?;
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    };
    if let Some(dir) = path.parent() {
        let meta = std::fs::metadata(dir).map_err(|error| failed(dir, error))?;
        // What everybody may pass through is left alone, and so is what belongs to others.
        if meta.mode() & 0o001 == 0 && meta.uid() == rustix::process::geteuid().as_raw() {
            give(dir, meta.mode() & 0o7700 | 0o010).map_err(|error| failed(dir, error))?;
        }
    }
    give(path, 0o660).map_err(|error| failed(path, error))
}

/// Whether whoever is at the other end may change something: root, or the user that this process is.
pub(super) fn may_act(stream: &tokio::net::UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
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
