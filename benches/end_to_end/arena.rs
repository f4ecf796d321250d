//! Where one row takes place: a directory in memory, an sshd, a way to reach it.

use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::command::Environment;
use crate::support::proxy::{Link, Proxy};
use crate::support::sshd::Sshd;

/// Why a run gives no figures.
pub type Failure = Box<dyn std::error::Error>;

/// One row's place; everything in it ends and is removed with it.
pub struct Arena {
    /// The daemon that every contender logs in to.
    pub sshd: Sshd,
    /// Hides the user's own configuration from every contender.
    pub environment: Environment,
    /// Whether one short look is enough.
    pub quick: bool,
    dir: TempDir,
}

impl Arena {
    /// Starts a daemon and makes an empty directory in memory.
    ///
    /// # Panics
    /// If there is no `/dev/shm`, or sshd does not start.
    pub fn new(quick: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("speil-bench-").tempdir_in("/dev/shm").expect("/dev/shm");
        Self { sshd: Sshd::start(), environment: Environment::new(), quick, dir }
    }

    /// Returns the path of `name` in the arena; nothing need stand there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns `name` as an empty directory; what stood there is removed.
    ///
    /// # Errors
    /// The system's.
    pub fn empty_dir(&self, name: &str) -> std::io::Result<PathBuf> {
        let path = self.path(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    /// Returns where a live mirror of the arena is spoken to.
    pub fn control(&self) -> PathBuf {
        self.path("control")
    }

    /// Starts a counting proxy in front of the daemon.
    pub fn proxy(&self, link: Link) -> Proxy {
        Proxy::start(self.sshd.address(), link)
    }

    /// Returns how to log in through `address`.
    pub fn ssh_through(&self, address: SocketAddr) -> String {
        self.sshd.ssh_command_through(address)
    }
}
