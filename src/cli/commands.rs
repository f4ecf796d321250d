//! The other commands: the daemon, its control, and the agent.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::config::parse_duration;

/// The commands besides `sync` and `mirror`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(super) enum Plain {
    /// Run the syncs of Lua configurations until stopped
    Run(Run),
    /// Check a configuration, print what it comes to, start nothing
    Check(Check),
    /// Show each target's state, lag and problems
    Status(Status),
    /// Wait until every change made so far stands on the targets
    Wait(Wait),
    /// Compare and repair the whole tree now
    Reconcile(Reconcile),
    /// Hold changes back, keep watching
    Pause(Named),
    /// Send again after a pause
    Resume(Named),
    /// Let held deletes go
    Approve(Held),
    /// Drop held deletes; the files stay on the target
    Discard(Held),
    /// Receive on standard input and output; started by the source over ssh
    #[command(after_help = AGENT_HELP)]
    Agent(Agent),
}

const AGENT_HELP: &str = "\
For a key that may do nothing else, in ~/.ssh/authorized_keys on the target:
  command=\"speil agent --root /srv/uploads\",restrict ssh-ed25519 AAAA… source

With --root the agent serves this directory alone, whatever the source asks for.";

/// `speil run`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Run {
    /// Lua configurations; lsyncd's run as they stand
    #[arg(required = true, value_name = "CONFIG")]
    pub configs: Vec<PathBuf>,
    /// Say what the first pass would do, deletes first; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// More in the log; up to three times
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Append the log to FILE, whatever the configuration says
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Write the process id to FILE, whatever the configuration says
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// The control socket, whatever the configuration says
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
}

/// `speil check`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Check {
    /// A Lua configuration, speil's or lsyncd's
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
    /// For lsyncd's: what it would run, beside what speil will do
    #[arg(long)]
    pub diff: bool,
}

/// How a running daemon is reached.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Control {
    /// The control socket [default: in the runtime directory]
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
}

/// `speil status`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Status {
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil wait`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Wait {
    /// This sync only
    #[arg(value_name = "SYNC")]
    pub sync: Option<String>,
    /// Give up after this time, exit code 30 [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// These targets only
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub targets: Vec<String>,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil reconcile`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Reconcile {
    /// This sync only
    #[arg(value_name = "SYNC")]
    pub sync: Option<String>,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil pause` and `speil resume`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Named {
    /// This sync only
    #[arg(value_name = "SYNC")]
    pub sync: Option<String>,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil approve` and `speil discard`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Held {
    /// This sync only
    #[arg(value_name = "SYNC")]
    pub sync: Option<String>,
    /// This target of it only
    #[arg(value_name = "TARGET", requires = "sync")]
    pub target: Option<String>,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil agent`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Agent {
    /// Print the hash of this program and end: how a deployed copy is verified
    #[arg(long, hide = true)]
    pub identify: bool,
    /// Serve this directory, whatever the source asks for
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Returns the text of `--version`; with `verbose` what this build and this kernel can do.
pub(super) fn version(verbose: bool) -> String {
    let mut text = format!("speil {}\n", env!("CARGO_PKG_VERSION"));
    if verbose {
        let kernel = rustix::system::uname();
        text.push_str(&format!(
            "system      {} {} {}\n",
            kernel.sysname().to_string_lossy(),
            kernel.release().to_string_lossy(),
            kernel.machine().to_string_lossy()
        ));
        for (name, what) in FEATURES {
            text.push_str(&format!("{name:<12}{what}\n"));
        }
    }
    text
}

const FEATURES: [(&str, &str); 7] = [
    ("transports", "ssh, ssh2 (libssh2), local"),
    ("watch", "inotify, notify, poll"),
    ("hash", "BLAKE3 decides; rolling sums and MD4 find what a delta can reuse"),
    ("compress", "zstd"),
    ("config", "Lua 5.4"),
    ("kept", "hard links, owners, ACLs, xattrs, capabilities, devices, times in nanoseconds"),
    ("kernel", "openat2 from 5.6; older ones are walked component by component"),
];
