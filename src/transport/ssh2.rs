//! SSH inside this process, over libssh2: for hosts where no `ssh` command is wanted.
//!
//! **Purpose:** the same as [`super::Ssh`], without the child process.
//! **Invariants:** one thread owns the session; host keys are checked as ssh checks them and the
//! check is never weakened; what `ssh_config` says and libssh2 cannot do is refused by name.
//! **Not here:** jump hosts, passwords and passphrases, security keys, certificates of hosts: `ssh`
//! has them.

mod known_hosts;
mod login;
mod settings;
mod shuttle;

use super::cancel::Cancel;
use super::remote;
use super::shell::Shell;
use super::{Copies, Ended, Link, Transport, TransportError, Uploads, copies};
use crate::config::{AgentSource, Allowed, Ssh as Options};
use crate::error::io_text;

use login::{Login, text_of};

/// Bytes that the host may send before they are read here; libssh2 keeps them in memory.
const WINDOW: u32 = 4 << 20;
/// Longest piece of data in one message of the host's.
const PACKET: u32 = 32 << 10;

/// An agent behind an SSH connection of this process.
#[derive(Debug)]
pub struct Ssh2 {
    /// `[USER@]HOST`.
    pub host: String,
    /// What the user set; `command` and `extra` are refused.
    pub options: Options,
    /// Where the agent comes from.
    pub agent: AgentSource,
    /// Where data may go.
    pub allowed: Allowed,
    sends: bool,
    uploads: Uploads,
    cancel: Cancel,
}

impl Ssh2 {
    /// Returns the transport to `[USER@]HOST`.
    pub fn new(host: String, options: Options, agent: AgentSource, allowed: Allowed) -> Self {
        let (uploads, cancel) = (Uploads::default(), Cancel::default());
        Self { host, options, agent, allowed, sends: false, uploads, cancel }
    }

    /// Has the agent send, if `sends`.
    pub fn that_sends(self, sends: bool) -> Self {
        Self { sends, ..self }
    }

    /// Asks `uploads` before the agent is uploaded.
    pub fn asking(self, uploads: Uploads) -> Self {
        Self { uploads, ..self }
    }
}

impl Shell for Ssh2 {
    fn open(&self, line: &str) -> Result<Link, TransportError> {
        let host = remote::checked_host(&self.host)?;
        let (name, options) = (host.to_owned(), self.options.clone());
        // It asks `ssh -G`, which may ask name servers.
        let load = move || settings::load(&name, &options, &settings::Local::of_process());
        let settings = self.cancel.run(load)?;
        // In this order: the socket must outlive the session.
        let Login { socket, session } = login::login(&settings, &self.allowed, &self.cancel)?;
        let failed =
            |error: &ssh2::Error| TransportError::Connect(format!("open a channel: {}", text_of(error)));
        let mut channel =
            session.channel_open("session", WINDOW, PACKET, None).map_err(|error| failed(&error))?;
        channel.exec(line).map_err(|error| failed(&error))?;
        // Answers would pile up in libssh2; that nobody acknowledges the question shows as well.
        session.set_keepalive(false, settings.alive_interval);
        shuttle::start(socket, session, channel, &self.cancel)
            .map_err(|error| TransportError::Connect(format!("start the link: {}", io_text(&error))))
    }
}

impl Transport for Ssh2 {
    fn connect(&self) -> Result<Link, TransportError> {
        self.open(&remote::line(&self.agent, self.sends))
    }

    fn cancel(&self) {
        self.cancel.cancel();
    }

    fn mend(&self, ended: &Ended) -> Result<bool, TransportError> {
        remote::mend(self, &self.agent, ended, &|len| {
            let uploads = self.uploads.clone();
            self.cancel.run(move || uploads.begin(len))
        })
    }

    fn copies(&self, remove: bool) -> Option<Result<Copies, TransportError>> {
        Some(copies::ask(self, remove))
    }
}
