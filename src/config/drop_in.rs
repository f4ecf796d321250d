//! Reads a configuration in lsyncd's language as lsyncd reads it.
//!
//! **Purpose:** files and the command line's syncs in → [`LsyncdConfig`] out: every sync with its
//! inheritance settled and checked, and the Lua state that its functions live in.
//! **Invariants:** what is refused is refused with lsyncd's own words, so that scripts that look for them
//! find them; after [`LsyncdConfig::lock`] no global name can be made. **Not here:** running anything
//! (`action`); mapping a block to speil's own mirror (`config/lsyncd`).
//! **Sources:** lsyncd's manual; lsyncd 2.2.3 and 2.3.1 as observed.

mod crontab;
mod exit;
mod flags;
mod native;
mod risks;
mod spec;
#[cfg(test)]
mod tests;
mod trace;

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, Table, Value};

use crate::config::suggest::nearest;
use crate::error::{Consequence, Consequential, io_text};
pub use crontab::{Crontab, Fields as CrontabFields};
pub use exit::{ExitCodes, Verdict};
#[cfg(test)]
pub use flags::SHORT;
pub use flags::{RsyncFlags, SshFlags};
pub use native::{Engine, Native};
pub use risks::lsyncd_risks;
pub use spec::{Handler, LsyncdSettings, LsyncdSync, TunnelSpec};

const PRELUDE: &str = include_str!("../../lua/lsyncd.lua");
const SHARED_VALUES: &str = include_str!("../../lua/values.lua");
const OLDER: &str = include_str!("../../lua/older.lua");

/// The name in the Lua registry of what a file and the functions of its syncs share.
pub const VALUES: &str = "speil.values";

/// Returns the moment from which scripts count time.
pub fn script_epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Who hears what a file logs while it runs: the category and the words.
#[derive(Clone, Default)]
pub struct Said(pub Option<SaidTo>);

/// What [`Said`] holds.
pub type SaidTo = Arc<dyn Fn(&str, &str) + Send + Sync>;

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Said").field(&self.0.is_some()).finish()
    }
}

/// What the version that scripts ask for says; the interface is this one's.
pub const LSYNCD_VERSION: &str = "2.2.3";

/// A sync that was given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliSync {
    /// `rsync`, `rsyncssh` or `direct`.
    pub layer: &'static str,
    /// The source, and then what the layer takes: the target, or the host and its directory.
    pub words: Vec<PathBuf>,
}

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct LsyncdOptions {
    /// The file; `None` where the syncs are on the command line.
    pub file: Option<PathBuf>,
    /// Lua files that run before it.
    pub scripts: Vec<PathBuf>,
    /// Syncs of the command line, in order.
    pub syncs: Vec<CliSync>,
    /// Delay of every sync, in seconds.
    pub delay: Option<f64>,
    /// Options of ssh for the command line's rsyncssh syncs.
    pub ssh_options: Vec<String>,
    /// Engine of every sync.
    pub engine: Option<Engine>,
    /// Who hears what the file logs.
    pub said: Said,
}

/// Why a configuration is no configuration. Consequence: die. `Display` is what stands behind `Error: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LsyncdError {
    /// There is no such file.
    #[error("Cannot find config file at '{0}'.")]
    Missing(String),
    /// The file is no Lua program, or cannot be read.
    #[error("error loading {file}: {text}")]
    Loading {
        /// The file.
        file: String,
        /// Lua's words.
        text: String,
    },
    /// The program failed, or a check refused what it says.
    #[error("error preparing {file}: {text}")]
    Preparing {
        /// The file.
        file: String,
        /// The words, with their place.
        text: String,
    },
    /// A sync of the command line was refused, or the Lua state cannot be made.
    #[error("{0}")]
    Plain(String),
    /// There is no sync.
    #[error("Nothing to watch!")]
    Nothing,
    /// The file ended the program.
    #[error("the configuration ended itself with {0}")]
    Exit(i32),
    /// A sync that must be native cannot be.
    #[error("{sync}: engine \"native\" is asked for, but {why}; write engine = \"rsync\" or \"auto\"")]
    Engine {
        /// The sync.
        sync: String,
        /// What stands in the way.
        why: String,
    },
}

impl Consequential for LsyncdError {
    fn consequence(&self) -> Consequence {
        Consequence::Die
    }
}

/// A part of a built-in layer, as the value of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// The action of a sync without a layer: one command per event.
    Action,
    /// The judge of exit codes of a sync without a layer, and of `default.rsync`.
    Collect,
    /// Runs `onStartup`.
    Init,
    /// One rsync with a list.
    RsyncAction,
    /// One rsync of everything.
    RsyncInit,
    /// The same on a schedule.
    RsyncFull,
    /// rsync with a list, ssh for moves.
    SshAction,
    /// The judge of both.
    SshCollect,
    /// `cp`, `mkdir`, `rm`, `mv`.
    DirectAction,
    /// Their judge.
    DirectCollect,
}

impl Builtin {
    fn named(layer: &str, part: &str) -> Option<Self> {
        Some(match (layer, part) {
            ("default", "action") => Self::Action,
            ("default", "collect") => Self::Collect,
            ("default", "init") => Self::Init,
            ("rsync", "action") => Self::RsyncAction,
            ("rsync", "init") => Self::RsyncInit,
            ("rsync", "full") => Self::RsyncFull,
            ("rsyncssh", "action") => Self::SshAction,
            ("rsyncssh", "collect") => Self::SshCollect,
            ("direct", "action") => Self::DirectAction,
            ("direct", "collect") => Self::DirectCollect,
            _ => return None,
        })
    }
}

/// The name in the Lua registry of the function that runs a built-in part for a user's program:
/// `f(name, ...)`, where `name` is the `Debug` form of [`Builtin`].
pub const DISPATCH: &str = "speil.dispatch";

#[derive(Default)]
struct Gathered {
    syncs: Vec<LsyncdSync>,
    warnings: Vec<String>,
    builtins: Vec<(Function, Builtin)>,
    exit: Option<i32>,
}

type Gathering = Arc<Mutex<Gathered>>;

fn with<R>(shared: &Gathering, f: impl FnOnce(&mut Gathered) -> R) -> R {
    f(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A configuration that may be run.
pub struct LsyncdConfig {
    /// The state that the functions of the syncs live in.
    pub lua: Lua,
    /// What `settings` says.
    pub settings: LsyncdSettings,
    /// Every sync, in order.
    pub syncs: Vec<LsyncdSync>,
    /// What works but is of old; lines for the log.
    pub warnings: Vec<String>,
    hooks: Table,
}

impl std::fmt::Debug for LsyncdConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsyncdConfig")
            .field("settings", &self.settings)
            .field("syncs", &self.syncs)
            .finish_non_exhaustive()
    }
}

impl LsyncdConfig {
    /// Refuses new global names from now on, and reading undefined ones.
    ///
    /// # Errors
    /// [`LsyncdError`] (die) if the Lua state is out of memory.
    pub fn lock(&self) -> Result<(), LsyncdError> {
        let lock = self.hooks.get::<Function>("lock").and_then(|lock| lock.call::<()>(()));
        lock.map_err(|error| LsyncdError::Plain(text_of(&error)))
    }
}

/// Loads what the command line names.
///
/// # Errors
/// [`LsyncdError`] (die) for the first thing that lsyncd would refuse.
pub fn load_lsyncd(options: &LsyncdOptions) -> Result<LsyncdConfig, LsyncdError> {
    let shared = Gathering::default();
    let lua = Lua::new();
    let plain = |error: mlua::Error| LsyncdError::Plain(text_of(&error));
    let hooks: Table = prepare(&lua, &shared, &options.said).map_err(plain)?;
    let call = |name: &str, value: Value| hooks.get::<Function>(name).and_then(|f| f.call::<()>(value));
    call("options", options.delay.map_or(Value::Nil, Value::Number)).map_err(plain)?;
    for file in options.scripts.iter().chain(&options.file) {
        let ran = run_file(&lua, file);
        if let Some(code) = with(&shared, |all| all.exit) {
            return Err(LsyncdError::Exit(code));
        }
        ran?;
    }
    for sync in &options.syncs {
        add_cli(&lua, &hooks, sync, &options.ssh_options).map_err(plain)?;
    }
    call("close", Value::Nil).map_err(plain)?;
    let settings = hooks.get::<Table>("settings").and_then(|table| LsyncdSettings::read(&table));
    let settings = settings.map_err(plain)?;
    let (mut syncs, warnings) =
        with(&shared, |all| (std::mem::take(&mut all.syncs), std::mem::take(&mut all.warnings)));
    if syncs.is_empty() {
        return Err(LsyncdError::Nothing);
    }
    for (at, sync) in syncs.iter_mut().enumerate() {
        if sync.name.is_empty() {
            sync.name = format!("Sync{}", at + 1);
            sync.table.set("name", sync.name.as_str()).map_err(plain)?;
        }
        if let Ok(native) = &mut sync.native {
            native.sync.name.clone_from(&sync.name);
        }
        if let Some(engine) = options.engine {
            sync.engine = engine;
        }
    }
    native::part(syncs.iter_mut().filter(|sync| sync.engine != Engine::Rsync));
    for sync in syncs.iter().filter(|sync| sync.engine == Engine::Native) {
        if let Err(why) = &sync.native {
            return Err(LsyncdError::Engine { sync: sync.name.clone(), why: why.clone() });
        }
    }
    Ok(LsyncdConfig { lua, settings, syncs, warnings, hooks })
}

fn prepare(lua: &Lua, shared: &Gathering, said: &Said) -> mlua::Result<Table> {
    let chunk = |text: &'static str| lua.load(text).set_name("=lsyncd").set_mode(ChunkMode::Text);
    let values: Table = chunk(SHARED_VALUES).call(())?;
    lua.set_named_registry_value(VALUES, &values)?;
    let host = host(lua, shared)?;
    system(lua, &host, shared, said)?;
    flags::serve(lua, &host)?;
    trace::serve(lua, &host)?;
    chunk(OLDER).call::<()>(&host)?;
    chunk(PRELUDE).call((host, values))
}

/// Adds the functions that reach the system to those that the prelude calls.
fn system(lua: &Lua, host: &Table, shared: &Gathering, said: &Said) -> mlua::Result<()> {
    let said = said.clone();
    host.set(
        "log",
        lua.create_function(move |_, (category, text): (String, mlua::LuaString)| {
            if let Some(say) = &said.0 {
                say(&category, &text.to_string_lossy());
            }
            Ok(())
        })?,
    )?;
    host.set("now", lua.create_function(|_, ()| Ok(script_epoch().elapsed().as_secs_f64()))?)?;
    host.set("readdir", lua.create_function(read_directory)?)?;
    let gathered = Arc::clone(shared);
    host.set(
        "exit",
        lua.create_function(move |_, code: i32| -> mlua::Result<()> {
            with(&gathered, |all| all.exit.get_or_insert(code & 255).to_owned());
            Err(mlua::Error::runtime("the configuration ended itself"))
        })?,
    )
}

/// Returns the names in a directory and whether each is one; nil for what is none.
///
/// # Errors
/// Lua's, if the state is out of memory.
pub fn read_directory(lua: &Lua, path: mlua::LuaString) -> mlua::Result<Option<Table>> {
    let Ok(entries) = std::fs::read_dir(to_path(&path)) else { return Ok(None) };
    let table = lua.create_table()?;
    for entry in entries.flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        table.set(lua.create_string(entry.file_name().into_vec())?, is_dir)?;
    }
    Ok(Some(table))
}

fn run_file(lua: &Lua, file: &Path) -> Result<(), LsyncdError> {
    let given = file.to_string_lossy().into_owned();
    if !file.exists() {
        return Err(LsyncdError::Missing(given));
    }
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let name = absolute.to_string_lossy().into_owned();
    let mut source = std::fs::read(file)
        .map_err(|error| LsyncdError::Loading { file: name.clone(), text: io_text(&error) })?;
    super::lua::hide_first_line(&mut source);
    let chunk = lua.load(source).set_name(format!("@{name}")).set_mode(ChunkMode::Text);
    let function = chunk
        .into_function()
        .map_err(|error| LsyncdError::Loading { file: name.clone(), text: text_of(&error) })?;
    function.call::<()>(()).map_err(|error| LsyncdError::Preparing { file: name, text: text_of(&error) })
}

fn add_cli(lua: &Lua, hooks: &Table, sync: &CliSync, ssh: &[String]) -> mlua::Result<()> {
    let mut words = mlua::Variadic::new();
    for word in &sync.words {
        words.push(Value::String(lua.create_string(word.as_os_str().as_bytes())?));
    }
    while words.len() < 3 {
        words.push(Value::Nil);
    }
    if !ssh.is_empty() {
        words.push(Value::Table(lua.create_sequence_from(ssh.iter().map(String::as_str))?));
    }
    hooks.get::<Function>("cli_sync")?.call((sync.layer, words))
}

/// Returns Lua's words without its traceback.
pub fn text_of(error: &mlua::Error) -> String {
    let mut error = error;
    while let mlua::Error::CallbackError { cause, .. } = error {
        error = cause;
    }
    let text = match error {
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        mlua::Error::RuntimeError(message) => message.clone(),
        other => other.to_string(),
    };
    text.split("\nstack traceback:").next().unwrap_or_default().trim_end().to_owned()
}

/// Returns the functions that the prelude calls.
fn host(lua: &Lua, shared: &Gathering) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    host.set("version", LSYNCD_VERSION)?;
    let codes = lua.create_table()?;
    for name in ["exitcodes", "rsyncExitCodes", "sshExitCodes"] {
        codes.set(name, true)?;
    }
    host.set("codes", codes)?;
    host.set("place", lua.create_function(|lua, ()| Ok(place(lua)))?)?;
    host.set(
        "nearest",
        lua.create_function(|_, (given, known): (String, Vec<String>)| {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            Ok(nearest(&given, &known))
        })?,
    )?;
    host.set("realdir", lua.create_function(|lua, path: Value| realdir(lua, &path))?)?;
    host.set(
        "read",
        lua.create_function(|lua, path: mlua::LuaString| match std::fs::read(to_path(&path)) {
            Ok(text) => Ok((Some(lua.create_string(text)?), String::new())),
            Err(error) => Ok((None, io_text(&error))),
        })?,
    )?;
    let gathered = Arc::clone(shared);
    host.set(
        "warn",
        lua.create_function(move |_, text: mlua::LuaString| {
            with(&gathered, |all| all.warnings.push(text.to_string_lossy()));
            Ok(())
        })?,
    )?;
    let gathered = Arc::clone(shared);
    host.set(
        "sync",
        lua.create_function(move |lua, table: Table| {
            let builtins = with(&gathered, |all| all.builtins.clone());
            let spec = LsyncdSync::read(table, &builtins)
                .map_err(|error| mlua::Error::runtime(format!("{}{}", place(lua), text_of(&error))))?;
            with(&gathered, |all| all.syncs.push(spec));
            Ok(())
        })?,
    )?;
    let gathered = Arc::clone(shared);
    host.set(
        "builtin",
        lua.create_function(move |lua, (layer, part): (String, String)| {
            let Some(builtin) = Builtin::named(&layer, &part) else { return Ok(Value::Nil) };
            let function = lua.create_function(move |lua, arguments: mlua::MultiValue| {
                let dispatch: Function = lua.named_registry_value(DISPATCH)?;
                let mut all = vec![Value::String(lua.create_string(format!("{builtin:?}"))?)];
                all.extend(arguments);
                dispatch.call::<mlua::MultiValue>(mlua::MultiValue::from_vec(all))
            })?;
            with(&gathered, |all| all.builtins.push((function.clone(), builtin)));
            Ok(Value::Function(function))
        })?,
    )?;
    Ok(host)
}

/// Returns `FILE:LINE: ` of the innermost line of a file that is running, or nothing.
fn place(lua: &Lua) -> String {
    super::lua::running_line(lua).map_or_else(String::new, |(file, line)| format!("{file}:{line}: "))
}

fn to_path(text: &mlua::LuaString) -> PathBuf {
    Path::new(std::ffi::OsStr::from_bytes(&text.as_bytes())).to_path_buf()
}

/// Returns the directory `path` without symlinks and with a slash at its end; nil for anything else.
fn realdir(lua: &Lua, path: &Value) -> mlua::Result<Option<mlua::LuaString>> {
    let Value::String(path) = path else { return Ok(None) };
    let Ok(real) = std::fs::canonicalize(to_path(path)) else { return Ok(None) };
    if !real.is_dir() {
        return Ok(None);
    }
    let mut real = real.into_os_string().into_vec();
    if !real.ends_with(b"/") {
        real.push(b'/');
    }
    lua.create_string(real).map(Some)
}
