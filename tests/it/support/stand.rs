//! A source, standbys behind a real sshd, and the mirror between them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::command::{Background, Environment, agent_command, holds_within};
use super::sshd::Sshd;

/// A source, a standby behind a real sshd, and the mirror between them.
pub struct Stand {
    dir: TempDir,
    /// Where speil runs.
    pub environment: Environment,
    /// The standby's sshd.
    pub sshd: Sshd,
    /// What `-e` says; by default straight to the sshd.
    pub ssh_command: String,
}

impl Stand {
    /// Makes an empty source and starts an sshd.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("speil-live").tempdir_in(scratch()).unwrap();
        std::fs::create_dir(dir.path().join("source")).unwrap();
        let sshd = Sshd::start();
        let ssh_command = sshd.ssh_command();
        Self { dir, environment: Environment::new(), sshd, ssh_command }
    }

    /// Returns the source directory.
    pub fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    /// Returns the directory of a target.
    pub fn target(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the daemon's control socket.
    pub fn control(&self) -> PathBuf {
        self.dir.path().join("control")
    }

    /// Returns a path beside the source.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the mirror to the named targets and waits until each is live.
    ///
    /// # Panics
    /// If it ends, or is not live within a minute.
    pub fn mirror(&self, targets: &[&str], options: &[&str]) -> Background {
        let mut arguments: Vec<String> = ["mirror", "--no-delete-guard", "-e"].map(str::to_owned).to_vec();
        arguments.push(self.ssh_command.clone());
        arguments.push(format!("--agent={}", agent_command()));
        arguments.push(format!("--control={}", self.control().display()));
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        arguments.push(format!("{}/", self.source().display()));
        arguments.extend(targets.iter().map(|name| self.sshd.target(&self.target(name))));
        let mirror = self.environment.spawn(arguments);
        for name in targets {
            let live = holds_within(Duration::from_secs(60), || {
                assert!(mirror.is_running(), "ended: {:?}", mirror.stderr());
                mirror.stdout().iter().filter(|line| line.ends_with(": live")).count() >= targets.len()
            });
            assert!(live, "{name}: not live: {:?} {:?}", mirror.stdout(), mirror.stderr());
        }
        mirror
    }

    /// Starts a daemon with a Lua configuration of one sync, `keys` among its own and `settings` among the
    /// daemon's, and waits until each target is live. The agents run on this host, without ssh.
    ///
    /// # Panics
    /// If it ends, or is not live within a minute.
    pub fn run(&self, targets: &[&str], keys: &str, settings: &str) -> Background {
        let daemon = self.start(targets, keys, settings);
        let live = holds_within(Duration::from_secs(60), || {
            assert!(daemon.is_running(), "ended: {:?}", daemon.stderr());
            daemon.stderr().iter().filter(|line| line.ends_with(": live")).count() >= targets.len()
        });
        assert!(live, "not live: {:?}", daemon.stderr());
        daemon
    }

    /// As [`Stand::run`], without waiting.
    pub fn start(&self, targets: &[&str], keys: &str, settings: &str) -> Background {
        let names: Vec<String> = targets.iter().map(|name| format!("{:?}", self.target(name))).collect();
        let text = format!(
            "settings {{ {settings} }}\nsync {{ default.mirror, name = \"stand\", source = {:?}, \
             targets = {{ {} }}, agent = {:?}, {keys} }}\n",
            self.source(),
            names.join(", "),
            agent_command()
        );
        let config = self.path("speil.lua");
        std::fs::write(&config, text).expect("a configuration");
        let control = format!("--control={}", self.control().display());
        self.environment.spawn(["run", &control, &config.display().to_string()])
    }
}

impl Default for Stand {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns where trees are made: in memory where there is such a place.
pub fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// Returns a port on 127.0.0.1 that is free now.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("the address of a bound socket").port()
}
