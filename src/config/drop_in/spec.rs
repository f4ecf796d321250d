//! One settled `sync{}`, and `settings{}`, as typed values.

use std::path::PathBuf;
use std::time::Duration;

use mlua::{Function, Table, Value};

use super::crontab::Crontab;
use super::exit::ExitCodes;
use super::flags::{RsyncFlags, SshFlags};
use super::native::{self, Engine, Native};
use super::{Builtin, to_path};

/// What stands behind a key that may hold a function.
#[derive(Debug, Clone, PartialEq)]
pub enum Handler {
    /// Nothing, or `false`.
    Absent,
    /// `true`: declares that the sync sees to this.
    Flag,
    /// A part of a layer.
    Builtin(Builtin),
    /// The user's own function.
    Lua(Function),
    /// A command line with variables.
    Command(Vec<u8>),
}

impl Handler {
    fn of(value: &Value, builtins: &[(Function, Builtin)]) -> Self {
        match value {
            Value::Nil | Value::Boolean(false) => Self::Absent,
            Value::Function(function) => match builtins.iter().find(|(known, _)| known == function) {
                Some((_, builtin)) => Self::Builtin(*builtin),
                None => Self::Lua(function.clone()),
            },
            Value::String(text) => Self::Command(text.as_bytes().to_vec()),
            _ => Self::Flag,
        }
    }

    /// Whether anything stands there.
    pub fn is_some(&self) -> bool {
        *self != Self::Absent
    }
}

/// When deletes are carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete {
    /// In the first pass.
    pub startup: bool,
    /// Afterwards.
    pub running: bool,
}

/// The handlers of the kinds of events.
#[derive(Debug, Clone, PartialEq)]
pub struct OnEvent {
    /// `onCreate`.
    pub create: Handler,
    /// `onModify`.
    pub modify: Handler,
    /// `onDelete`.
    pub delete: Handler,
    /// `onMove`.
    pub r#move: Handler,
    /// `onAttrib`.
    pub attrib: Handler,
    /// `onStartup`.
    pub startup: Handler,
}

/// What `tunnel{ … }` made.
#[derive(Debug, Clone, PartialEq)]
pub struct TunnelSpec {
    /// The same for every sync that uses it.
    pub id: i64,
    /// What the log calls it.
    pub name: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Whether each process has a port of its own.
    pub pool: bool,
    /// How many processes there are, 1 to 64.
    pub parallel: usize,
    /// How long a process that ended stays down.
    pub retry_delay: Duration,
    /// How long a process lives before it counts as up.
    pub ready_delay: Duration,
    /// What stands for `^localhost`.
    pub localhost: String,
}

/// One sync with its inheritance settled and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct LsyncdSync {
    /// `Sync` and its number, counted from 1, where none is given.
    pub name: String,
    /// Absolute, without symlinks, with a slash at the end.
    pub source: Vec<u8>,
    /// The target as rsync is given it; for a sync without a layer as it was written.
    pub target: Option<Vec<u8>>,
    /// How long an event waits; `None` not at all.
    pub delay: Option<Duration>,
    /// From how many events on nobody waits.
    pub delays_max: usize,
    /// Most children at once.
    pub processes_max: usize,
    /// Which phases delete.
    pub delete: Delete,
    /// Patterns that exclude.
    pub excludes: Vec<Vec<u8>>,
    /// `+ PATTERN` and `- PATTERN`.
    pub filters: Vec<Vec<u8>>,
    /// Whether directories below the source are watched.
    pub subdirs: bool,
    /// rsync's options.
    pub rsync: RsyncFlags,
    /// ssh's options, and the host and its directory, of `default.rsyncssh`.
    pub ssh: Option<(SshFlags, Vec<u8>, Vec<u8>)>,
    /// `exitcodes`.
    pub exit_codes: ExitCodes,
    /// `rsyncExitCodes`.
    pub rsync_codes: ExitCodes,
    /// `sshExitCodes`.
    pub ssh_codes: ExitCodes,
    /// `action`.
    pub action: Handler,
    /// `collect`.
    pub collect: Handler,
    /// `init`.
    pub init: Handler,
    /// `full`.
    pub full: Handler,
    /// `onCreate` and its like.
    pub on: OnEvent,
    /// Files with more bytes than this have an rsync of their own.
    pub batch_limit: Option<u64>,
    /// What must be up before anything is done.
    pub tunnel: Option<TunnelSpec>,
    /// When everything is passed over.
    pub crontab: Vec<Crontab>,
    /// Whether it is one of the built-in layers, and no commands of the user's alone.
    pub layer: bool,
    /// Which engine is asked for.
    pub engine: Engine,
    /// What the sync comes to as a mirror of speil's own, or why it cannot be one.
    pub native: Result<Box<Native>, String>,
    /// The settled table, which the user's functions see.
    pub table: Table,
}

fn bytes(table: &Table, key: &str) -> mlua::Result<Option<Vec<u8>>> {
    Ok(match table.get::<Value>(key)? {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        value @ (Value::Integer(_) | Value::Number(_)) => Some(value.to_string()?.into_bytes()),
        _ => None,
    })
}

fn number(table: &Table, key: &str) -> mlua::Result<Option<f64>> {
    Ok(match table.get::<Value>(key)? {
        Value::Integer(number) => Some(number as f64),
        Value::Number(number) => Some(number),
        _ => None,
    })
}

fn byte_list(table: &Table, key: &str) -> mlua::Result<Vec<Vec<u8>>> {
    let list: Vec<mlua::LuaString> = table.get(key)?;
    Ok(list.iter().map(|text| text.as_bytes().to_vec()).collect())
}

fn tunnel(table: &Table) -> mlua::Result<Option<TunnelSpec>> {
    let Value::Table(tunnel) = table.get::<Value>("tunnel")? else { return Ok(None) };
    let seconds = |key: &str| Ok::<_, mlua::Error>(span(&tunnel, key)?.unwrap_or_default());
    Ok(Some(TunnelSpec {
        id: tunnel.get("_tunnel")?,
        name: tunnel.get("name")?,
        command: tunnel.get("command")?,
        pool: tunnel.get("pool")?,
        parallel: count(number(&tunnel, "parallel")?.unwrap_or(1.0)).clamp(1, 64),
        retry_delay: seconds("retryDelay")?,
        ready_delay: seconds("readyDelay")?,
        localhost: tunnel.get("localhost")?,
    }))
}

fn crontab(table: &Table) -> mlua::Result<Vec<Crontab>> {
    let Value::Table(patterns) = table.get::<Value>("crontab")? else { return Ok(Vec::new()) };
    let texts = patterns.sequence_values::<String>();
    texts.map(|text| Crontab::parse(&text?).map_err(mlua::Error::runtime)).collect()
}

/// Returns a count; what no machine has counts as without bound.
fn count(number: f64) -> usize {
    number.clamp(0.0, 1e15) as usize
}

impl LsyncdSync {
    /// Reads a table that the prelude settled.
    pub(super) fn read(table: Table, builtins: &[(Function, Builtin)]) -> mlua::Result<Self> {
        let handler = |key: &str| Ok::<_, mlua::Error>(Handler::of(&table.get::<Value>(key)?, builtins));
        let delete = match table.get::<Value>("delete")? {
            Value::Boolean(true) => Delete { startup: true, running: true },
            Value::String(word) if word == "startup" => Delete { startup: true, running: false },
            Value::String(word) if word == "running" => Delete { startup: false, running: true },
            _ => Delete { startup: false, running: false },
        };
        let rsync: Option<Table> = table.get("rsync")?;
        let ssh = match (bytes(&table, "host")?, bytes(&table, "targetdir")?) {
            (Some(host), Some(dir)) => {
                let flags: Option<Table> = table.get("ssh")?;
                Some((SshFlags::read(flags.as_ref())?, host, dir))
            }
            _ => None,
        };
        let target = match bytes(&table, "_rsync_target")? {
            Some(target) => Some(target),
            None => bytes(&table, "target")?,
        };
        let name = bytes(&table, "name")?
            .map_or_else(String::new, |name| String::from_utf8_lossy(&name).into_owned());
        let (filters, excludes) = (byte_list(&table, "_filters")?, byte_list(&table, "_excludes")?);
        let mut native = native::read(&table, builtins, &name, (&filters, &excludes))?;
        let mut flags = RsyncFlags::of(&table)?;
        let shell = ssh.as_ref().and_then(|(flags, ..)| flags.rsh.as_ref());
        if let Some(rsync) = &rsync
            && flags.recompute(rsync, shell)?
        {
            native = Err("its prepare changes rsync._computed".to_owned());
        }
        let delay = number(&table, "delay")?.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        Ok(Self {
            name,
            source: bytes(&table, "source")?.unwrap_or_default(),
            target,
            delay,
            delays_max: count(number(&table, "maxDelays")?.unwrap_or(1000.0)),
            processes_max: count(number(&table, "maxProcesses")?.unwrap_or(1.0)),
            delete,
            excludes,
            filters,
            subdirs: table.get::<Value>("subdirs")? != Value::Boolean(false),
            rsync: flags,
            ssh,
            exit_codes: ExitCodes::read(&table, "exitcodes")?,
            rsync_codes: ExitCodes::read(&table, "rsyncExitCodes")?,
            ssh_codes: ExitCodes::read(&table, "sshExitCodes")?,
            action: handler("action")?,
            collect: handler("collect")?,
            init: handler("init")?,
            full: handler("full")?,
            on: OnEvent {
                create: handler("onCreate")?,
                modify: handler("onModify")?,
                delete: handler("onDelete")?,
                r#move: handler("onMove")?,
                attrib: handler("onAttrib")?,
                startup: handler("onStartup")?,
            },
            batch_limit: number(&table, "batchSizeLimit")?.map(|bytes| count(bytes) as u64),
            tunnel: tunnel(&table)?,
            crontab: crontab(&table)?,
            layer: table.contains_key("_kind")?,
            engine: text(&table, "_engine")?.and_then(|word| Engine::from_word(&word)).unwrap_or_default(),
            native,
            table,
        })
    }
}

/// What `settings` says. `None` is "not said".
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LsyncdSettings {
    /// Where lines are appended.
    pub logfile: Option<PathBuf>,
    /// Where the process id stands.
    pub pidfile: Option<PathBuf>,
    /// Whether the process stays in the foreground.
    pub nodaemon: bool,
    /// Where the status stands.
    pub status_file: Option<PathBuf>,
    /// How often at most it is written.
    pub status_interval: Option<Duration>,
    /// Name or number of the syslog facility.
    pub logfacility: Option<String>,
    /// Name in the syslog.
    pub logident: Option<String>,
    /// Whether a first pass that fails is tried again.
    pub insist: bool,
    /// Which of the kernel's events count as a change of content.
    pub inotify_mode: Option<String>,
    /// Most children of all syncs together.
    pub processes_max: Option<usize>,
    /// Whether to leave after the first passes.
    pub onepass: bool,
    /// How long the end waits for children.
    pub shutdown_wait: Option<Duration>,
}

fn text(table: &Table, key: &str) -> mlua::Result<Option<String>> {
    Ok(bytes(table, key)?.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

fn file(table: &Table, key: &str) -> mlua::Result<Option<PathBuf>> {
    Ok(table.get::<Option<mlua::LuaString>>(key)?.map(|text| to_path(&text)))
}

fn truth(table: &Table, key: &str) -> mlua::Result<bool> {
    Ok(!matches!(table.get::<Value>(key)?, Value::Nil | Value::Boolean(false)))
}

fn span(table: &Table, key: &str) -> mlua::Result<Option<Duration>> {
    Ok(number(table, key)?.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 1e9))))
}

impl LsyncdSettings {
    /// Reads the prelude's table.
    pub(super) fn read(table: &Table) -> mlua::Result<Self> {
        Ok(Self {
            logfile: file(table, "logfile")?,
            pidfile: file(table, "pidfile")?,
            nodaemon: truth(table, "nodaemon")?,
            status_file: file(table, "statusFile")?,
            status_interval: span(table, "statusInterval")?,
            logfacility: text(table, "logfacility")?,
            logident: text(table, "logident")?,
            insist: truth(table, "insist")?,
            inotify_mode: text(table, "inotifyMode")?,
            processes_max: number(table, "maxProcesses")?.map(count),
            onepass: truth(table, "onepass")?,
            shutdown_wait: span(table, "shutdownWait")?,
        })
    }
}
