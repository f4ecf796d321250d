//! `speil log`, `speil notify`, `speil agents` and `speil target`: what may be typed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::reach::Control;
use crate::protocol::Since;

pub(super) const AGENTS_HELP: &str = "\
Examples:
  speil agents                            # after an upgrade: which host has which version?
  speil agents --remove                   # what earlier versions have left there
  speil agents --json conf.d | jq '.hosts[] | select(.error)'

Each host of the configuration is asked once, over the same ssh as the mirror. Where no speil is
installed, a mirror uploads its own program, 14 MB, to ~/.cache/speil there; each version leaves one.
A copy that is removed while it runs goes on running. A daemon of another version that uploads its own
does so again when it connects next: restart it first.

Exit codes: 0 done; 1 wrong usage or configuration; 23 a host could not be asked.";

pub(super) const LOG_HELP: &str = "\
Examples:
  speil log --since 1h
  speil log uploads img/2026/a.jpg        # when did this file arrive, and how long did it take?
  speil log uploads --since 14:30 --json | jq '.records[] | select(.took_ms > 1000)'

Each line is a change, at the moment at which the target acknowledged it, and the time that it took from
when speil heard of it; or something that explains a delay: a lost connection, held deletes, a pause.
The daemon keeps this on its own disk, 16 MB for each target (history in the configuration), also over
a restart. Without a daemon the history of this user's daemons is read.

Exit codes: 0 done, also where nothing is found; 1 wrong usage; 11 the history cannot be read; 12 the
daemon that --control names does not answer.";

pub(super) const NOTIFY_HELP: &str = "\
Examples:
  speil notify                            # after notify = { mail = \"ops@example.org\" } and speil reload
  speil notify --json

The daemon itself sends the test, with its own user and rights. A line says of each way whether its
program took the message; whether it arrived, only who gets it can say.

Exit codes: 0 every way took it, 1 one did not, or the configuration has no notify; 12 no daemon
answers.";

pub(super) const TARGET_HELP: &str = "\
Examples:
  speil target add uploads web4:/srv/uploads    # a new web node, from its cloud-init or from here
  speil target remove uploads web4
  speil target list uploads

The sync has targetsFile = \"targets\" in the configuration: a file with a target in each line. The file
is changed, and the running daemon reads it: the other targets go on as they are, and nothing is compared
anew with them. A change that the configuration refuses is taken back. What is on a target that is
removed stays there.

Exit codes: 0 done, also where the target was there, or gone, before; 1 wrong usage or configuration,
or the daemon refused it; 3 the targets are in the configuration itself; 11 the list cannot be read or
written; 12 the daemon that --control names does not answer.";

/// `speil target`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Targets {
    /// What is to be done
    #[arg(value_name = "add|remove|list")]
    pub verb: TargetVerb,
    /// The sync
    #[arg(value_name = "SYNC")]
    pub sync: String,
    /// Targets as in the configuration; to remove one, its name in speil status will do
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// The configuration
    #[arg(long, value_name = "CONFIG", default_value = "/etc/speil/speil.lua")]
    pub config: PathBuf,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// What `speil target` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TargetVerb {
    /// Mirror to it from now on
    Add,
    /// Mirror to it no more
    Remove,
    /// Show them
    List,
}

/// `speil log`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Past {
    /// This sync only
    #[arg(value_name = "SYNC")]
    pub sync: Option<String>,
    /// This path of it only, and what is below it: below the source, or absolute
    #[arg(value_name = "PATH", requires = "sync")]
    pub path: Option<PathBuf>,
    /// Only what happened since then: 1h, 14:30, 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = super::moment::since)]
    pub since: Option<Since>,
    /// The newest N records, at most 100000
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub lines: u32,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil notify`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Notify {
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil agents`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Agents {
    /// Lua configurations, whose hosts are asked [default: /etc/speil/speil.lua]
    #[arg(value_name = "CONFIG")]
    pub configs: Vec<PathBuf>,
    /// Remove the copies there that are not of this very program
    #[arg(long)]
    pub remove: bool,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}
