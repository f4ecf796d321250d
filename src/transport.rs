//! How an agent is reached: an ordered duplex byte stream.
//!
//! **Purpose:** [`Transport`] hides whether the agent runs behind `ssh`, behind libssh2 or on a pipe.
//! **In → Out:** a target's address; a [`Link`] with a reader, a writer and a way to end it.
//! **Invariants:** no shell on our side; a host is never taken for an option; host-key checks are the
//! administrator's and never weakened.
//! **Not here:** what travels on the link (`protocol`).

mod allow;
mod cancel;
mod copies;
mod deploy;
mod process;
mod remote;
mod shell;
mod ssh;
mod ssh2;
mod tail;

pub use copies::{AgentCopy, Copies};
pub use deploy::{Uploads, own_hash};
pub use process::{AGENT_WORD, Local};
pub use ssh::Ssh;
pub use ssh2::Ssh2;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::error::{Consequence, Consequential, io_text};
use crate::tree::quote;

/// How long a carrier may take to end once its peer is done.
const END_WAIT: Duration = Duration::from_secs(5);

/// Makes connections to one agent.
pub trait Transport: Send + Sync {
    /// Starts an agent and returns the link to it.
    ///
    /// # Errors
    /// [`TransportError`]; consequence by variant.
    fn connect(&self) -> Result<Link, TransportError>;

    /// Ends what this transport is doing and the links that it has made, and makes no more. Whoever waits for it
    /// learns soon: a stop does not wait for a host that does not answer. Does not block.
    fn cancel(&self) {}

    /// Mends what kept the agent of a link that has ended from answering, if this transport can:
    /// brings the agent to a target that has none. `Ok(true)` means that connecting again may help.
    ///
    /// # Errors
    /// [`TransportError::Deploy`] with what stopped it.
    fn mend(&self, _ended: &Ended) -> Result<bool, TransportError> {
        Ok(false)
    }

    /// Has the agents' copies on the target listed, or the others than this program's removed; `None` where
    /// there is no shell to ask, and so no copy.
    fn copies(&self, _remove: bool) -> Option<Result<Copies, TransportError>> {
        None
    }
}

/// A link to a running agent.
pub struct Link {
    /// What the agent writes.
    pub reader: Box<dyn Read + Send>,
    /// What the agent reads.
    pub writer: Box<dyn Write + Send>,
    /// The link as a whole.
    pub control: Box<dyn Control>,
}

/// The link as a whole.
pub trait Control: Send + Sync {
    /// Ends the link at once: blocked readers and writers return.
    fn kill(&self);
    /// Waits for the end of the agent's carrier and says how it ended: its exit status where it has
    /// one, and the last lines that it wrote on standard error.
    fn ended(&self) -> Ended;
}

/// Does `before`, and waits for the end of a carrier whose peer is done; one that stays is ended.
pub fn ended_soon(control: &Arc<dyn Control>, before: impl FnOnce()) -> Ended {
    let (done, waiting) = bounded::<()>(0);
    let carrier = Arc::clone(control);
    let killer = std::thread::Builder::new().name("end".to_owned()).spawn(move || {
        if waiting.recv_timeout(END_WAIT) == Err(RecvTimeoutError::Timeout) {
            carrier.kill();
        }
    });
    if killer.is_err() {
        control.kill();
    }
    before();
    let ended = control.ended();
    drop(done);
    ended
}

impl<T: Control + ?Sized> Control for std::sync::Arc<T> {
    fn kill(&self) {
        (**self).kill();
    }

    fn ended(&self) -> Ended {
        (**self).ended()
    }
}

/// How a carrier (ssh, a local agent) ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Exit status; `None` if it was killed or has none.
    pub status: Option<i32>,
    /// Last lines of its standard error, control characters escaped.
    pub stderr: Vec<String>,
}

/// Why no link could be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The program that carries the link does not start. Consequence: again.
    #[error("start {program}: {}", io_text(.error))]
    Start {
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// The host begins with `-` and would be taken for an option. Consequence: die.
    #[error("host {} is no host name", quote(.0.as_bytes()))]
    Host(String),
    /// Data may not go there (`allowTargets`). Consequence: die.
    #[error("allowTargets: host {} {why}; nothing was sent", quote(.host.as_bytes()))]
    Forbidden {
        /// The host.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// The agent could not be brought to the target. Consequence: again.
    #[error("deploy agent: {0}")]
    Deploy(String),
    /// The agent is missing, and nobody allowed to upload it. Consequence: die.
    #[error("speil is not installed on the target, and {0}")]
    Unasked(&'static str),
    /// The in-process SSH could not log in. Consequence: again.
    #[error("connect: {0}")]
    Connect(String),
    /// The host's key is not the one it should be, or not known. Consequence: again.
    #[error("connect: host key verification failed: {0}")]
    HostKey(String),
    /// A setting that the in-process SSH does not have. Consequence: die.
    #[error("{0}; use transport = \"ssh\"")]
    Setting(String),
}

impl Consequential for TransportError {
    fn consequence(&self) -> Consequence {
        match self {
            Self::Host(_) | Self::Forbidden { .. } | Self::Setting(_) | Self::Unasked(_) => Consequence::Die,
            _ => Consequence::Again,
        }
    }
}
