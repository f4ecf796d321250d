//! `speil log`, `speil notify` and `speil agents`: what may be typed.

use std::path::PathBuf;

use clap::Args;

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
