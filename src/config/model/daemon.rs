//! The settings of the daemon.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Allowed, Notify};

/// What concerns the daemon as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where log lines go; standard error if `None`.
    pub logfile: Option<PathBuf>,
    /// Where the process id is written.
    pub pidfile: Option<PathBuf>,
    /// Where the status report is written.
    pub status_file: Option<PathBuf>,
    /// Shortest time between two status reports and between two summary lines.
    pub status_interval: Duration,
    /// The control socket; `None` for the default in the runtime directory.
    pub control: Option<PathBuf>,
    /// The group whose members may ask there, and change nothing.
    pub control_group: Option<String>,
    /// Stay in the foreground (lsyncd's `nodaemon`).
    pub nodaemon: bool,
    /// Start although a target cannot be reached (lsyncd's `insist`).
    pub insist: bool,
    /// Leave after the first pass (lsyncd's `onepass`).
    pub onepass: bool,
    /// How long one call of a hook may take.
    pub hook_timeout: Duration,
    /// What a line of the log looks like.
    pub log_format: LogFormat,
    /// The name in syslog (lsyncd's `logident`).
    pub log_ident: Option<String>,
    /// The facility in syslog, by name or number (lsyncd's `logfacility`).
    pub log_facility: Option<String>,
    /// Where data may go; every sync has a copy.
    pub allowed: Allowed,
    /// Which key of `hosts` means this host, where its name does not say it.
    pub host: Option<String>,
    /// Where status, metrics and the page are served.
    pub http: Option<Http>,
    /// Where HAProxy's agent checks are answered.
    pub agent_checks: Vec<AgentCheck>,
    /// Who is told when something gets worse, or well again.
    pub notify: Option<Notify>,
    /// Bytes that the history of what arrived on a target takes at most; 0 for none.
    pub history: u64,
}

/// The HTTP listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http {
    /// `HOST:PORT`.
    pub listen: String,
    /// What a client must present to act; without it the listener only tells.
    pub token: Option<Token>,
}

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl AgentCheck {
    /// The lag above which a standby is drained, where nothing else is said.
    pub const MAX_LAG: Duration = Duration::from_secs(10);
}

/// One port that answers HAProxy's agent checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCheck {
    /// `HOST:PORT`.
    pub listen: String,
    /// The target that is judged, by its name; all of them if `None` and the check sends none.
    pub target: Option<String>,
    /// Above this lag the standby is drained.
    pub max_lag: Duration,
    /// Above this lag it is down; never if `None`.
    pub down_lag: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            logfile: None,
            pidfile: None,
            status_file: None,
            status_interval: Duration::from_secs(10),
            control: None,
            control_group: None,
            nodaemon: false,
            insist: false,
            onepass: false,
            hook_timeout: Duration::from_secs(10),
            log_format: LogFormat::Human,
            log_ident: None,
            log_facility: None,
            http: None,
            agent_checks: Vec::new(),
            notify: None,
            history: 16 << 20,
            allowed: Allowed::default(),
            host: None,
        }
    }
}

/// What a line of the log looks like, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; under systemd with priorities for the journal.
    Human,
    /// One JSON object a line.
    Json,
    /// To syslog.
    Syslog,
}

impl LogFormat {
    /// Returns the format of this name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "human" => Some(Self::Human),
            "json" => Some(Self::Json),
            "syslog" => Some(Self::Syslog),
            _ => None,
        }
    }
}
