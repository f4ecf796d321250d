//! Runs configuration files, which are Lua programs.
//!
//! **Purpose:** files in → [`Block`]s out, with the place of each call. **Invariants:** one Lua state
//! for all files of a configuration, so that one may use what an earlier one defined; a program ends
//! within [`Limits`], whatever it does in Lua itself. **Not here:** what a key means; the inheritance,
//! which is `lua/prelude.lua`. **Sources:** Lua 5.4 reference manual.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, Table, Value, VmState};

use crate::config::error::{ConfigError, Fault, FilePosition, Warning};
use crate::config::hooks::{HOOKS, Hooks};
use crate::config::raw::{Block, Raw, RawTable};
use crate::error::io_text;
use crate::tree::quote;

const PRELUDE: &str = include_str!("../../lua/prelude.lua");

/// Instructions between two looks at the count.
const STEP: u32 = 10_000;

/// Deepest table that is read; the prelude refuses deeper ones before.
const DEPTH_MAX: usize = 40;

/// Names that portable Lua code reads to see which Lua runs it; they may be undefined.
const PROBED: [&str; 9] =
    ["arg", "bit", "bit32", "debug", "jit", "loadstring", "module", "setfenv", "unpack"];

/// How much a configuration may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most Lua instructions of all files together.
    pub instructions: u64,
    /// Most memory, in bytes.
    pub memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { instructions: 1_000_000_000, memory_bytes: 512 << 20 }
    }
}

/// What the files said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluated {
    /// Every `settings{}`, in order.
    pub settings: Vec<Block>,
    /// Every `sync{}`, in order.
    pub syncs: Vec<Block>,
    /// What was noticed on the way.
    pub warnings: Vec<Warning>,
    /// The layer that was read last and does not exist.
    pub asked_layer: Option<String>,
    /// What is to be called while the daemon runs.
    pub hooks: Hooks,
}

/// What the running program has said so far; shared with the functions that it calls.
#[derive(Default)]
struct Gathered {
    evaluated: Evaluated,
    /// The hooks that were set so far.
    hooks: BTreeMap<&'static str, Function>,
    /// Why the program was stopped, and where.
    stopped: Option<ConfigError>,
}

type Gathering = Arc<Mutex<Gathered>>;

fn with<R>(shared: &Gathering, f: impl FnOnce(&mut Gathered) -> R) -> R {
    f(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs `files`, in their order, in one Lua state.
///
/// # Errors
/// [`ConfigError`] (die) if a file cannot be read or compiled, raises an error, or exceeds `limits`.
pub fn evaluate(files: &[PathBuf], limits: Limits) -> Result<Evaluated, ConfigError> {
    let shared = Gathering::default();
    let whole = FilePosition { file: "speil".to_owned(), line: None };
    let lua = prepare(&shared, limits).map_err(|error| lua_error(&error, &whole))?;
    let search = package_path(&lua).unwrap_or_default();
    for file in files {
        let name = file.to_string_lossy().into_owned();
        let place = FilePosition { file: name.clone(), line: None };
        let mut source =
            std::fs::read(file).map_err(|error| ConfigError::new(&place, Fault::Read(io_text(&error))))?;
        hide_first_line(&mut source);
        let run = || {
            set_package_path(&lua, file, &search)?;
            lua.load(source).set_name(format!("@{name}")).set_mode(ChunkMode::Text).exec()
        };
        let outcome = run();
        if let Some(stopped) = with(&shared, |gathered| gathered.stopped.take()) {
            return Err(stopped);
        }
        outcome.map_err(|error| match cause(&error) {
            mlua::Error::MemoryError(_) => ConfigError::new(&place, Fault::Memory(limits.memory_bytes >> 20)),
            error => lua_error(error, &place),
        })?;
    }
    let (mut evaluated, hooks) = with(&shared, |gathered| {
        (std::mem::take(&mut gathered.evaluated), std::mem::take(&mut gathered.hooks))
    });
    evaluated.hooks = Hooks::new(lua, hooks);
    Ok(evaluated)
}

/// Makes the state: the library, the bounds, and what the prelude defines.
fn prepare(shared: &Gathering, limits: Limits) -> mlua::Result<Lua> {
    let lua = Lua::new();
    let host = host(&lua, shared)?;
    lua.load(PRELUDE).set_name("=prelude").set_mode(ChunkMode::Text).call::<()>(host)?;
    lua.set_memory_limit(limits.memory_bytes)?;
    bound(&lua, shared, limits.instructions)?;
    Ok(lua)
}

/// Stops the program after `limit` instructions, also when it catches errors.
fn bound(lua: &Lua, shared: &Gathering, limit: u64) -> mlua::Result<()> {
    let shared = Arc::clone(shared);
    let spent = AtomicU64::new(0);
    let triggers = HookTriggers::new().every_nth_instruction(STEP);
    lua.set_global_hook(triggers, move |lua, _| {
        if spent.fetch_add(u64::from(STEP), Ordering::Relaxed) < limit {
            return Ok(VmState::Continue);
        }
        stop(lua, &shared, Fault::Runaway(limit / 1_000_000))
    })
}

/// Ends the program with `fault`. A `pcall` in it may catch the error, so every further instruction
/// raises it again.
fn stop<T>(lua: &Lua, shared: &Gathering, fault: Fault) -> mlua::Result<T> {
    let error = ConfigError::new(&caller(lua), fault);
    let error = with(shared, |gathered| gathered.stopped.get_or_insert(error).clone());
    let again = error.clone();
    lua.set_global_hook(HookTriggers::new().every_nth_instruction(1), move |_, _| {
        Err(mlua::Error::external(again.clone()))
    })?;
    Err(mlua::Error::external(error))
}

/// Returns the functions that the prelude calls.
fn host(lua: &Lua, shared: &Gathering) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    let gathered = Arc::clone(shared);
    host.set(
        "sync",
        lua.create_function(move |lua, table: Table| {
            let block = Block { place: caller(lua), table: read_table(&table, 0)? };
            with(&gathered, |gathered| gathered.evaluated.syncs.push(block));
            Ok(())
        })?,
    )?;
    let gathered = Arc::clone(shared);
    host.set(
        "settings",
        lua.create_function(move |lua, table: Table| {
            let block = Block { place: caller(lua), table: read_table(&table, 0)? };
            for name in HOOKS {
                if let Value::Function(hook) = table.get(name)? {
                    with(&gathered, |gathered| gathered.hooks.insert(name, hook));
                }
            }
            with(&gathered, |gathered| gathered.evaluated.settings.push(block));
            Ok(())
        })?,
    )?;
    let gathered = Arc::clone(shared);
    host.set(
        "warn",
        lua.create_function(move |lua, text: mlua::LuaString| {
            warn(lua, &gathered, text.to_string_lossy());
            Ok(())
        })?,
    )?;
    let gathered = Arc::clone(shared);
    host.set(
        "undefined",
        lua.create_function(move |lua, name: Value| {
            let name = name.to_string().unwrap_or_default();
            if !name.starts_with('_') && !PROBED.contains(&name.as_str()) {
                warn(lua, &gathered, format!("{} is not defined and counts as nil", quote(name.as_bytes())));
            }
            Ok(())
        })?,
    )?;
    let gathered = Arc::clone(shared);
    host.set(
        "no_layer",
        lua.create_function(move |lua, name: Value| {
            let name = one_line(&name.to_string()?);
            warn(lua, &gathered, format!("default.{name} does not exist"));
            with(&gathered, |gathered| gathered.evaluated.asked_layer = Some(name));
            Ok(())
        })?,
    )?;
    host.set("beside", lua.create_function(beside)?)?;
    host.set("place", lua.create_function(|lua, ()| Ok(caller(lua).to_string()))?)?;
    let gathered = Arc::clone(shared);
    host.set(
        "exit",
        lua.create_function(move |lua, code: i64| stop::<()>(lua, &gathered, Fault::Exit(code)))?,
    )?;
    Ok(host)
}

/// Records a warning at the line that runs, once.
fn warn(lua: &Lua, shared: &Gathering, text: String) {
    let warning = Warning { place: caller(lua), text };
    with(shared, |gathered| {
        if !gathered.evaluated.warnings.contains(&warning) {
            gathered.evaluated.warnings.push(warning);
        }
    });
}

/// Returns the innermost line of a file that is running.
fn caller(lua: &Lua) -> FilePosition {
    match running_line(lua) {
        Some((file, line)) => FilePosition { file, line: u32::try_from(line).ok() },
        None => FilePosition { file: "configuration".to_owned(), line: None },
    }
}

/// Returns file and line of the innermost frame that belongs to a file.
pub(super) fn running_line(lua: &Lua) -> Option<(String, usize)> {
    for level in 0..64 {
        let frame = lua.inspect_stack(level, |debug| {
            let source = debug.source();
            let file = source.source.as_deref().and_then(|name| name.strip_prefix('@')).map(str::to_owned);
            file.zip(debug.current_line())
        });
        match frame {
            None => break,
            Some(None) => {}
            Some(Some(found)) => return Some(found),
        }
    }
    None
}

/// Returns `name` below the directory of the running file, if it exists there.
fn beside(lua: &Lua, name: mlua::LuaString) -> mlua::Result<mlua::LuaString> {
    let relative = Path::new(std::ffi::OsStr::from_bytes(&name.as_bytes())).to_path_buf();
    let near = Path::new(&caller(lua).file).parent().map(|dir| dir.join(&relative));
    match near {
        Some(near) if relative.is_relative() && near.exists() => {
            lua.create_string(near.into_os_string().into_vec())
        }
        _ => Ok(name),
    }
}

fn package_path(lua: &Lua) -> mlua::Result<Vec<u8>> {
    let path: mlua::LuaString = lua.globals().get::<Table>("package")?.get("path")?;
    Ok(path.as_bytes().to_vec())
}

/// Lets `require` look beside `file` first.
fn set_package_path(lua: &Lua, file: &Path, search: &[u8]) -> mlua::Result<()> {
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let dir = dir.as_os_str().as_bytes();
    let path = [dir, b"/?.lua;", dir, b"/?/init.lua;", search].concat();
    lua.globals().get::<Table>("package")?.set("path", lua.create_string(path)?)
}

/// Makes a first line that begins with `#` a comment, and takes off a byte order mark, as the
/// stand-alone interpreter does. Lines keep their numbers.
pub(super) fn hide_first_line(source: &mut Vec<u8>) {
    if source.starts_with(b"\xef\xbb\xbf") {
        source.drain(..3);
    }
    if source.starts_with(b"#") {
        source.splice(..1, *b"--");
    }
}

/// Returns a table as plain values.
///
/// # Errors
/// Lua's, for a key that has no text.
pub(super) fn read_table(table: &Table, depth: usize) -> mlua::Result<RawTable> {
    let mut named = BTreeMap::new();
    let mut items = BTreeMap::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let value = read(&value, depth)?;
        match key {
            Value::Integer(key) => {
                items.insert(key, value);
            }
            Value::String(key) => {
                named.insert(key.to_string_lossy(), value);
            }
            key => {
                named.insert(key.to_string()?, value);
            }
        }
    }
    Ok(RawTable { named, items })
}

fn read(value: &Value, depth: usize) -> mlua::Result<Raw> {
    Ok(match value {
        Value::Boolean(value) => Raw::Bool(*value),
        Value::Integer(value) => Raw::Int(*value),
        Value::Number(value) => Raw::Float(*value),
        Value::String(text) => Raw::Text(text.as_bytes().to_vec()),
        Value::Table(table) if depth < DEPTH_MAX => Raw::Table(read_table(table, depth + 1)?),
        other => Raw::Other(other.type_name()),
    })
}

/// Returns the error below those of the functions that it passed through.
fn cause(mut error: &mlua::Error) -> &mlua::Error {
    while let mlua::Error::CallbackError { cause, .. } = error {
        error = cause;
    }
    error
}

/// Returns what Lua says as one line, at the place that it names.
fn lua_error(error: &mlua::Error, file: &FilePosition) -> ConfigError {
    let text = match cause(error) {
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        mlua::Error::RuntimeError(message) => message.clone(),
        other => other.to_string(),
    };
    let text = text.split("\nstack traceback:").next().unwrap_or_default().trim_end();
    // `require` goes on with every place where it looked.
    let text = text.split(":\n\tno ").next().unwrap_or_default();
    let (place, message) = split_place(text, file);
    let message = match message.split_once(": 0x") {
        Some((kind, address)) if address.chars().all(|c| c.is_ascii_hexdigit()) => {
            format!("the program raised a {kind} as its error")
        }
        _ => one_line(message),
    };
    ConfigError::new(&place, Fault::Lua(message))
}

/// Returns a message without line breaks and control characters.
fn one_line(message: &str) -> String {
    let message = message.split('\n').map(str::trim).collect::<Vec<_>>().join("; ");
    message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Splits `FILE:LINE: MESSAGE`. Lua shortens long names at the front, with dots.
fn split_place<'a>(text: &'a str, file: &FilePosition) -> (FilePosition, &'a str) {
    let parts = text.split_once(": ").and_then(|(front, message)| {
        let (name, line) = front.rsplit_once(':')?;
        Some((name, line.parse().ok()?, message))
    });
    let Some((name, line, message)) = parts else { return (file.clone(), text) };
    let name = match name.strip_prefix("...") {
        Some(end) if file.file.ends_with(end) => file.file.clone(),
        _ => name.to_owned(),
    };
    (FilePosition { file: name, line: Some(line) }, message)
}
