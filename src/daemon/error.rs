//! Why a daemon cannot run.

use std::io;
use std::path::PathBuf;

use super::pulled::Unstarted;
use crate::sender::SessionError;

/// Why a daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The control socket cannot be made. Consequence: die.
    #[error("control socket {}: {}", .path.display(), crate::error::io_text(.error))]
    Control {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another daemon answers at the control socket. Consequence: die.
    #[error("control socket {}: another speil (process {pid}) answers there", .path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
        /// Its process; 0 if it is not known.
        pid: i32,
    },
    /// The runtime cannot be made. Consequence: die.
    #[error("start: {}", crate::error::io_text(.0))]
    Runtime(io::Error),
    /// A source on another host is not sent. Consequence: die.
    #[error("nothing is sent from the source's host: {0:?}")]
    Unstarted(Unstarted),
    /// Not one sync could be started. Consequence: die.
    #[error("{0}")]
    Nothing(SessionError),
}
