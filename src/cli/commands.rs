//! The other commands: the daemon, its control, and the agent.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::arrivals::ARRIVALS_HELP;
pub use super::arrivals::ArrivalsOf;
use super::daily::{AGENTS_HELP, LOG_HELP, NOTIFY_HELP, TARGET_HELP};
pub use super::daily::{Agents, Notify, Past, TargetVerb, Targets};
use super::examples::{
    AGENT_HELP, DOCTOR_HELP, PAUSE_HELP, RELOAD_HELP, RETRY_HELP, STATUS_HELP, TRASH_HELP, UNDO_HELP,
    VERIFY_HELP,
};
use super::health::{HEALTH_HELP, POSITION_HELP};
pub use super::health::{Health, Position};
use super::init::INIT_HELP;
pub use super::init::Init;
pub use super::reach::{Control, Reach};
use super::verbs::{DEMOTE_HELP, PROMOTE_HELP, REJOIN_HELP};
pub use super::verbs::{Demote, Promote, Rejoin};

use crate::config::{LogFormat, parse_duration, parse_size};
use crate::monitor::Level;
use crate::protocol::Since;
use crate::status::Quorum;

/// The commands besides `sync` and `mirror`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(super) enum Plain {
    /// Set up a standby: key, login, configuration and service, step by step
    #[command(after_help = INIT_HELP)]
    Init(Init),
    /// Run the syncs of Lua configurations until stopped
    Run(Run),
    /// Check a configuration and explain it in plain English; start nothing
    Check(Check),
    /// Say what would stop a mirror from working, and what to do
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Doctor),
    /// List what a target keeps: what was removed and replaced there, or written by others
    #[command(after_help = TRASH_HELP)]
    Trash(Trash),
    /// Put back on a target what was removed and replaced there since a moment
    #[command(after_help = UNDO_HELP)]
    Undo(Undo),
    /// Read every byte on both sides and tell each difference; change nothing
    #[command(after_help = VERIFY_HELP)]
    Verify(Verify),
    /// Show each target's state, lag and problems
    #[command(after_help = STATUS_HELP)]
    Status(Status),
    /// Say why a path is, or is not, on the targets
    Explain(Explain),
    /// List what arrived on the targets, when, and how long it took
    #[command(after_help = LOG_HELP)]
    Log(Past),
    /// Wait until every change made so far is on the targets
    Wait(Wait),
    /// Compare and repair the whole tree now
    Reconcile(Reconcile),
    /// Hold changes back, keep watching
    #[command(after_help = PAUSE_HELP)]
    Pause(Pause),
    /// Send again after a pause
    Resume(Named),
    /// Try again now what fails, and connect to targets that are down
    #[command(after_help = RETRY_HELP)]
    Retry(Retry),
    /// Read the configuration again, and say what it changed
    #[command(after_help = RELOAD_HELP)]
    Reload(Reload),
    /// Add, remove or list the targets of a sync while the daemon runs
    #[command(after_help = TARGET_HELP)]
    Target(Targets),
    /// List which speil each host has, and the copies that were uploaded there
    #[command(after_help = AGENTS_HELP)]
    Agents(Agents),
    /// Send a test to whom notify in the configuration names, and say whether it left
    #[command(after_help = NOTIFY_HELP)]
    Notify(Notify),
    /// Write more or less of a sync into the log, until the daemon ends
    LogLevel(LogLevel),
    /// Carry out held deletes, or accept the volume that a target is on now
    Approve(Approve),
    /// Dismiss held deletes: the files stay until the next pass finds and judges them again
    Discard(HeldOf),
    /// Say whether a tree may serve: a standby by its lag, a primary if no younger one is known
    #[command(after_help = HEALTH_HELP)]
    Health(Health),
    /// On a primary: print a token for all that was written so far; standbys say when they have that
    #[command(after_help = POSITION_HELP)]
    Position(Position),
    /// On a standby: run a command after each batch that has arrived, or print its paths
    #[command(after_help = ARRIVALS_HELP)]
    Arrivals(ArrivalsOf),
    /// Make a tree on this host primary: it sends, and takes nothing
    #[command(after_help = PROMOTE_HELP)]
    Promote(Promote),
    /// Make a tree on this host a standby: it takes what its primary sends, and sends nothing
    #[command(after_help = DEMOTE_HELP)]
    Demote(Demote),
    /// Bring a tree on this host, whose history went another way, to what another host leads
    #[command(after_help = REJOIN_HELP)]
    Rejoin(Rejoin),
    /// Write the man pages into a directory
    #[command(hide = true)]
    Manual(Manual),
    /// Print the completions of a shell
    #[command(hide = true)]
    Completions(Completions),
    /// Say what can come next on a command line, for the completions
    #[command(hide = true)]
    Complete(Complete),
    /// Receive on standard input and output; started by the source over ssh
    #[command(after_help = AGENT_HELP)]
    Agent(Agent),
}

/// `speil run`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Run {
    /// Lua configurations; lsyncd's are run as they are
    #[arg(required = true, value_name = "CONFIG")]
    pub configs: Vec<PathBuf>,
    /// Say what the first pass would do, deletes first; change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Start nothing if any sync is wrong or cannot be started; else the others run
    #[arg(long)]
    pub strict: bool,
    /// More in the log; up to three times
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Append the log to FILE, whatever the configuration says
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// What a line of the log looks like, and where it goes: human, json or syslog
    #[arg(long, value_name = "FORMAT", value_parser = log_format)]
    pub log_format: Option<LogFormat>,
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

/// `speil doctor`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Doctor {
    /// What to look at.
    #[arg(
        value_name = "CONFIG|TARGET",
        help = "Lua configurations, or targets: [USER@]HOST:PATH, or PATH on this host"
    )]
    pub what: Vec<PathBuf>,
    /// The source of the targets that are named: does it fit there?
    #[arg(long, value_name = "DIR")]
    pub source: Option<PathBuf>,
    /// How targets that are named are reached.
    #[command(flatten)]
    pub reach: Reach,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the kernel tells of itself
    #[arg(long, value_name = "DIR", default_value = "/proc", hide = true)]
    pub proc: PathBuf,
}

/// `speil verify`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Verify {
    /// The source, a directory on this host; what it holds is compared, with or without a slash at its end
    #[arg(value_name = "SOURCE")]
    pub source: PathBuf,
    /// The target
    #[arg(value_name = "TARGET", help = "[USER@]HOST:PATH, or PATH on this host")]
    pub target: PathBuf,
    /// Leave out what matches PATTERN, as rsync does
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// A filter rule, as rsync's: '- *.tmp', '+ /keep/'
    #[arg(short = 'f', long, value_name = "RULE")]
    pub filter: Vec<String>,
    /// Owners as numbers, not by name
    #[arg(long)]
    pub numeric_ids: bool,
    /// Give up after this much silence
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
    /// Tell what was compared as well
    #[arg(short, long)]
    pub verbose: bool,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How it is reached.
    #[command(flatten)]
    pub reach: Reach,
}

/// `speil trash`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Trash {
    /// The target
    #[arg(value_name = "TARGET", help = "[USER@]HOST:PATH, or PATH on this host")]
    pub target: PathBuf,
    /// Only these paths, and what is below them
    #[arg(value_name = "PATH", help = "Only these, and what is below them; relative to the target's root")]
    pub paths: Vec<PathBuf>,
    /// Only what was removed or replaced since then
    #[arg(long, value_name = "TIME", value_parser = super::moment::since)]
    pub since: Option<Since>,
    /// What someone else wrote there, in place of the trash
    #[arg(long)]
    pub strangers: bool,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How it is reached.
    #[command(flatten)]
    pub reach: Reach,
}

/// `speil undo`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Undo {
    /// The target
    #[arg(value_name = "TARGET", help = "[USER@]HOST:PATH, or PATH on this host")]
    pub target: PathBuf,
    /// Only these paths, and what is below them
    #[arg(value_name = "PATH", help = "Only these, and what is below them; relative to the target's root")]
    pub paths: Vec<PathBuf>,
    /// The moment to go back to
    #[arg(long, value_name = "TIME", value_parser = super::moment::since, required_unless_present = "list")]
    pub since: Option<Since>,
    /// List what could be put back, as speil trash does; change nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub list: bool,
    /// What someone else wrote there, in place of the trash
    #[arg(long)]
    pub strangers: bool,
    /// Say what would be put back, change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How it is reached.
    #[command(flatten)]
    pub reach: Reach,
}

/// `speil pause`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Pause {
    /// Go on by itself after this time: 90s, 30m, 1h
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub span: Option<Duration>,
    /// What is paused.
    #[command(flatten)]
    pub named: Named,
}

/// `speil retry`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Retry {
    /// This sync only
    #[arg(value_name = "SYNC")]
    pub sync: Option<String>,
    /// This target of it only
    #[arg(value_name = "TARGET", requires = "sync")]
    pub target: Option<String>,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil reload`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Reload {
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil status`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Status {
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// One line and an exit code, for monitoring: 0 where every target is in step
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    pub check: bool,
    /// With --check: more lag than this is too much
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, requires = "check")]
    pub max_lag: Duration,
    /// Full-screen, with graphs of lag and throughput, until q
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil explain`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Explain {
    /// The sync
    #[arg(value_name = "SYNC")]
    pub sync: String,
    /// The path: below the source, or absolute
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Ask no daemon: what this configuration says of the path
    #[arg(long, value_name = "CONFIG", conflicts_with = "control")]
    pub config: Option<PathBuf>,
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
    /// Which targets of each sync: all, any, a number of them, or names
    #[arg(long, value_name = "all|any|N|NAME,...", default_value = "all", value_parser = quorum)]
    pub targets: Quorum,
    /// Do not wait for paths that fail and for deletes that are held
    #[arg(long)]
    pub despite_problems: bool,
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

/// Which sync is paused or goes on.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Named {
    /// This sync only
    #[arg(value_name = "SYNC")]
    pub sync: Option<String>,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil log-level`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct LogLevel {
    /// This sync only
    #[arg(value_name = "SYNC", conflicts_with = "all", required_unless_present = "all")]
    pub sync: Option<String>,
    /// error, warn, info, debug or trace
    #[arg(value_name = "LEVEL", value_parser = level, required_unless_present = "all")]
    pub level: Option<Level>,
    /// Every sync, and what belongs to none
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub all: Option<Level>,
    /// How the daemon is reached.
    #[command(flatten)]
    pub control: Control,
}

/// `speil approve`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Approve {
    /// Begin anew in the directory that is under the target's path now, on whatever filesystem; the held
    /// deletes stay held
    #[arg(long, requires = "target")]
    pub volume: bool,
    /// What is approved.
    #[command(flatten)]
    pub held: HeldOf,
}

/// `speil approve` and `speil discard`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct HeldOf {
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

/// `speil manual`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Manual {
    /// Where speil.1 and the others go; it is made
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// The shells that have a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Script {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// `speil completions`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Completions {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub shell: Script,
}

/// `speil complete`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Complete {
    /// The words behind speil, the last one unfinished
    #[arg(value_name = "WORD", allow_hyphen_values = true, trailing_var_arg = true)]
    pub words: Vec<OsString>,
}

/// `speil agent`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Agent {
    /// Print the hash of this program and end: how a deployed copy is verified
    #[arg(long, hide = true)]
    pub identify: bool,
    /// Serve this directory, whatever the source asks for; with --send, read nothing outside of it
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Send to a target that pulls, and write nothing
    #[arg(long, conflicts_with_all = ["min_free", "no_devices", "no_setid", "no_chown", "fold_case"])]
    pub send: bool,
    /// Make and change nothing that the filters leave out: for a target that pulls
    #[arg(long, hide = true)]
    pub keep_to_filters: bool,
    /// Remove and rename nothing: for a target that pulls without --delete
    #[arg(long, hide = true)]
    pub keep_entries: bool,
    /// With --send: hide what this rule of rsync's says, whatever the target asks for
    #[arg(short = 'f', long, value_name = "RULE", requires = "send")]
    pub filter: Vec<String>,
    /// With --send: hide what matches PATTERN, behind the rules of --filter
    #[arg(long, value_name = "PATTERN", requires = "send")]
    pub exclude: Vec<String>,
    /// Keep this much of the filesystem free: 5G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub min_free: Option<u64>,
    /// Make no device nodes
    #[arg(long)]
    pub no_devices: bool,
    /// Set no set-id bits, capabilities or other privileged attributes
    #[arg(long)]
    pub no_setid: bool,
    /// Leave everything to the agent's own user and group
    #[arg(long)]
    pub no_chown: bool,
    /// Take no two names that differ in case only: for copies that go where case does not count
    #[arg(long)]
    pub fold_case: bool,
    /// Keep the rights that are not needed: no Landlock, no no_new_privs
    #[arg(long)]
    pub no_confine: bool,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

fn quorum(text: &str) -> Result<Quorum, String> {
    let names = || Quorum::Named(text.split(',').map(str::to_owned).collect());
    match text {
        "all" => Ok(Quorum::All),
        "any" => Ok(Quorum::Count(1)),
        "" => Err("all, any, a number, or names".to_owned()),
        "0" => Err("at least one target".to_owned()),
        _ => Ok(text.parse().map_or_else(|_| names(), Quorum::Count)),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    LogFormat::parse(text).ok_or_else(|| "human, json or syslog".to_owned())
}

fn level(text: &str) -> Result<Level, String> {
    Level::parse(text).ok_or_else(|| "error, warn, info, debug or trace".to_owned())
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

const FEATURES: [(&str, &str); 8] = [
    ("transports", "ssh, ssh2 (libssh2), local"),
    ("watch", "inotify, fanotify, notify, poll"),
    ("hash", "BLAKE3 decides; rolling sums and MD4 find what a delta can reuse"),
    ("compress", "zstd"),
    ("config", "Lua 5.4"),
    ("kept", "hard links, owners, ACLs, xattrs, capabilities, devices, times in nanoseconds"),
    ("kernel", "openat2 from 5.6; older ones are walked component by component"),
    ("kernel", "listxattrat from 6.13; older ones list extended attributes through /proc/self/fd"),
];
