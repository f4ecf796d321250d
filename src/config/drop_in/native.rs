//! Which engine a sync asks for, and what it comes to as a mirror of speil's own.
//!
//! **In → out:** a settled table of lsyncd's → a [`Sync`], or why there is none.
//! **Invariants:** a sync is native only if every option of it has the same meaning there; excludes and
//! filters are those that a running lsyncd asks; without `agent = "deploy"` nothing is ever uploaded.
//! **Not here:** whether an agent answers at the target, which decides `"auto"` (`action`).

use mlua::{Function, Table, Value};

use super::Builtin;
use crate::config::conflict;
use crate::config::error::FilePosition;
use crate::config::lsyncd::{is_foreign, is_mapped, map_settled};
use crate::config::lua::read_table;
use crate::config::raw::{Block, Raw, RawTable, Section};
use crate::config::{AgentSource, Sync, mirror};
use crate::filter::LsyncdFilter;

/// What carries a sync's changes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// speil where it can, else rsync.
    #[default]
    Auto,
    /// speil's sender and agent.
    Native,
    /// rsync and ssh, called as lsyncd calls them.
    Rsync,
}

impl Engine {
    /// Returns the engine of this name; `None` if there is none.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "auto" => Some(Self::Auto),
            "native" => Some(Self::Native),
            "rsync" => Some(Self::Rsync),
            _ => None,
        }
    }
}

/// A sync as a mirror of speil's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Native {
    /// The mirror.
    pub sync: Sync,
    /// What is said in the configuration and changes nothing here, in words.
    pub notes: Vec<String>,
}

/// Parts of the layer itself, which a configuration inherits and nobody wrote.
fn is_own_part(value: &Value, builtins: &[(Function, Builtin)]) -> bool {
    matches!(value, Value::Function(function) if builtins.iter().any(|(known, _)| known == function))
}

/// Leaves what has a meaning here, and names what only lsyncd's way of working can serve.
fn gather(table: &Table, builtins: &[(Function, Builtin)]) -> mlua::Result<(RawTable, Vec<String>)> {
    let (mut block, mut foreign) = (lua_copy(table)?, Vec::new());
    for pair in table.pairs::<String, Value>().flatten() {
        let (key, value) = pair;
        // What `prepare` changed stands in the table; `crontab` is kept by the engine.
        if is_own_part(&value, builtins) || matches!(key.as_str(), "prepare" | "crontab") {
            continue;
        }
        if block.named.get(&key).is_some_and(|given| is_foreign(&key, given)) {
            foreign.push(key);
        }
    }
    foreign.sort_unstable();
    block.items.clear();
    for (key, program) in [("rsync", &b"/usr/bin/rsync"[..]), ("ssh", b"/usr/bin/ssh")] {
        if let Some(Raw::Table(flags)) = block.named.get_mut(key) {
            // `prepare` put it there.
            flags.named.remove("_computed");
            flags
                .named
                .retain(|key, value| key != "binary" || !matches!(value, Raw::Text(text) if text == program));
        }
    }
    block.named.retain(|key, _| {
        is_mapped(key)
            && !matches!(key.as_str(), "name" | "exclude" | "excludeFrom" | "filter" | "filterFrom")
    });
    Ok((block, foreign))
}

/// Copies the keys that are looked at; others may hold anything, tables that contain themselves too.
fn lua_copy(table: &Table) -> mlua::Result<RawTable> {
    let mut copy = RawTable::default();
    for (key, value) in table.pairs::<String, Value>().flatten() {
        let raw = match &value {
            Value::Table(inner) if is_mapped(&key) => Raw::Table(read_table(inner, 0)?),
            Value::Boolean(on) => Raw::Bool(*on),
            Value::Integer(number) => Raw::Int(*number),
            Value::Number(number) => Raw::Float(*number),
            Value::String(text) => Raw::Text(text.as_bytes().to_vec()),
            other => Raw::Other(other.type_name()),
        };
        copy.named.insert(key, raw);
    }
    Ok(copy)
}

/// Returns what a settled table comes to as a mirror, or why it cannot be one.
///
/// # Errors
/// Lua's, where the table cannot be read.
pub(super) fn read(
    table: &Table,
    builtins: &[(Function, Builtin)],
    name: &str,
    rules: (&[Vec<u8>], &[Vec<u8>]),
) -> mlua::Result<Result<Box<Native>, String>> {
    let layer = match table.get::<Value>("_kind")? {
        Value::String(kind) => kind.to_string_lossy(),
        _ => return Ok(Err("it runs commands and functions of its own".to_owned())),
    };
    let (named, foreign) = gather(table, builtins)?;
    let block = Block { place: FilePosition { file: String::new(), line: None }, table: named };
    let mapped = match map_settled(&block, &layer) {
        Ok(mapped) => mapped,
        Err(error) => return Ok(Err(error.message())),
    };
    let missing: Vec<String> = foreign.into_iter().chain(mapped.unmapped).collect();
    if !missing.is_empty() {
        return Ok(Err(format!("speil has nothing like {}", missing.join(", "))));
    }
    let mut native = Native { sync: mapped.sync, notes: mapped.notes };
    let sync = &mut native.sync;
    match LsyncdFilter::new(rules.0, rules.1) {
        Ok(filter) => sync.filters.splice(..0, filter.as_rules()),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let chosen = &sync.selection;
    if chosen.update || chosen.existing || chosen.ignore_existing || chosen.size_only {
        return Ok(Err("update, existing, ignore_existing and size_only hold in passes only".to_owned()));
    }
    sync.name = name.to_owned();
    sync.adopted = true;
    // default.rsync splits a move into a delete and a create; the other layers move.
    sync.moves = layer != "rsync" || sync.delete.live();
    if let Err(why) = speils_own_keys(table, sync)? {
        return Ok(Err(why));
    }
    Ok(match conflict::within(sync) {
        Ok(()) => Ok(Box::new(native)),
        Err(fault) => Err(fault.to_string()),
    })
}

/// Reads the keys that lsyncd does not have.
fn speils_own_keys(table: &Table, sync: &mut Sync) -> mlua::Result<Result<(), String>> {
    let mut own = RawTable::default();
    let given = read_own(table)?;
    own.named.extend(given);
    let place = FilePosition { file: String::new(), line: None };
    let section = Section { place: &place, prefix: String::new(), table: &own };
    let mut read = || {
        section.flag("deleteGuard", &mut sync.guard.enabled)?;
        if section.get("reconcile").is_some() {
            sync.reconcile.interval = mirror::reconcile(&section)?.interval;
        }
        mirror::agent(&section)
    };
    let agent = match read() {
        Ok(agent) => agent,
        Err(error) => return Ok(Err(error.message())),
    };
    sync.agent = match (agent, std::mem::replace(&mut sync.agent, AgentSource::Path)) {
        (AgentSource::Deploy, asked) => asked,
        (AgentSource::Command(words), _) => AgentSource::Command(words),
        (AgentSource::Prefixed(words) | AgentSource::PathPrefixed(words), _)
        | (_, AgentSource::Prefixed(words)) => AgentSource::PathPrefixed(words),
        (AgentSource::Auto | AgentSource::Path, _) => AgentSource::Path,
    };
    Ok(Ok(()))
}

fn read_own(table: &Table) -> mlua::Result<Vec<(String, Raw)>> {
    let mut found = Vec::new();
    for key in ["agent", "deleteGuard", "reconcile"] {
        let raw = match table.get::<Value>(key)? {
            Value::Nil => continue,
            Value::Table(inner) => Raw::Table(read_table(&inner, 0)?),
            Value::Boolean(on) => Raw::Bool(on),
            Value::String(text) => Raw::Text(text.as_bytes().to_vec()),
            other => Raw::Other(other.type_name()),
        };
        found.push((key.to_owned(), raw));
    }
    Ok(found)
}

/// Takes the native form from syncs whose targets are one tree, or lie in each other: one agent holds
/// one root.
pub(super) fn part<'a>(syncs: impl Iterator<Item = &'a mut super::LsyncdSync>) {
    let mut syncs: Vec<_> = syncs.collect();
    let mut shared: Vec<(usize, String)> = Vec::new();
    for (at, sync) in syncs.iter().enumerate() {
        for (before, other) in syncs.iter().enumerate().take(at) {
            if let (Ok(one), Ok(two)) = (&other.native, &sync.native)
                && let Some(text) = conflict::overlap(&one.sync, &two.sync)
            {
                shared.push((before, format!("{text} with {}", sync.name)));
                shared.push((at, format!("{text} with {}", other.name)));
            }
        }
    }
    for (at, text) in shared {
        if let Some(sync) = syncs.get_mut(at) {
            sync.native = Err(text);
        }
    }
}
