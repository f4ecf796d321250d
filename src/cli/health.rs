//! `speil health` and `speil position`: what may be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::reach::Control;
use crate::config::parse_duration;
use crate::role::Role;

pub(super) const HEALTH_HELP: &str = "\
Examples:
  speil health --root /srv/uploads                          one answer, for a script
  speil health --root /srv/uploads --listen 127.0.0.1:8088  answers for HAProxy and nginx, until stopped
  speil health --root /srv/uploads --at \"$TOKEN\" --timeout 2s

Exit codes: 0 it may serve, 11 the state cannot be read, 30 it may not, and the line says why; with
--at: 0 everything is here, 30 not yet.";

pub(super) const POSITION_HELP: &str = "\
Examples:
  TOKEN=$(speil position)                 after an upload; with several syncs: speil position uploads
  curl -X POST http://127.0.0.1:8080/position          the same, from the daemon's http listener
  curl 'http://standby:8088/position?at=TOKEN&timeout=200ms'
                                          200 when the standby has it all, else 503

A standby that has everything up to the token has the upload. One that cannot know, because the token
is of another generation, or its source was started anew and is not compared yet, says no.

Exit codes: 0 printed; 1 wrong usage, or several syncs and none is named; 12 no daemon answers, or
nothing is sent from here; 30 the watch does not answer.";

/// `speil health`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Health {
    /// The target's directory on this host
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// More lag than this is too much
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub max_lag: Duration,
    /// Longer silence of the primary than this is too much [default: silence does not count as lag]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_silence: Option<Duration>,
    /// The tree must have this role: for a pool that writes, primary
    #[arg(long, value_name = "primary|standby", value_parser = role)]
    pub role: Option<Role>,
    /// The host must be one that may lead: not where the configuration has mayLead = false for it
    #[arg(long)]
    pub may_lead: bool,
    /// The configuration that may say so
    #[arg(long, value_name = "CONFIG", default_value = "/etc/speil/speil.lua", requires = "may_lead")]
    pub config: PathBuf,
    /// Answer over HTTP until stopped: /readyz, /target/NAME, /healthz, /metrics, /status.json
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Answer HAProxy's agent checks until stopped
    #[arg(long, value_name = "HOST:PORT")]
    pub agent_check: Option<String>,
    /// Say whether everything is here that was written before speil position printed TOKEN
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["listen", "agent_check", "role", "may_lead"])]
    pub at: Option<String>,
    /// With --at: wait so long for it
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration, requires = "at")]
    pub timeout: Duration,
}

/// `speil position`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Position {
    /// Of which sync; needed where there are several
    #[arg(value_name = "SYNC")]
    pub sync: Option<String>,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn role(text: &str) -> Result<Role, String> {
    let known = [Role::Primary, Role::Standby].into_iter().find(|role| role.word() == text);
    known.ok_or_else(|| "primary or standby".to_owned())
}
