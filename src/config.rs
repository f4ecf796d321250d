//! What to mirror, and how: the model that the command line and the Lua files both fill.
//!
//! **Purpose:** plain values without behaviour of their own. **In → out:** configuration files, which
//! are Lua programs → [`Loaded`]; `cli` fills the same model from arguments. **Invariants:** nothing is
//! ignored silently; an error is one line with its place, and its hint apart. **Not here:** defaults of
//! other modules' tuning; whether the sources exist, which [`Config::validate`] asks.

mod allow;
mod beside;
mod conflict;
mod drop_in;
mod error;
mod explain;
mod hooks;
mod hosts;
mod hours;
mod keeping;
mod lsyncd;
mod lua;
mod mirror;
mod model;
mod notify;
mod program;
mod raw;
mod rules;
mod settings;
mod sources;
pub mod spelling;
mod suggest;
pub mod switches;
mod target;
mod target_list;
mod units;
mod validate;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub use mirror::KEYS;

use std::path::{Path, PathBuf};

pub use allow::Allowed;
pub use beside::{Backup, Beside, Borrow};
pub use drop_in::{
    Builtin, CliSync, Crontab, CrontabFields, DISPATCH, Engine, ExitCodes, Handler, LSYNCD_VERSION,
    LsyncdConfig, LsyncdError, LsyncdOptions, LsyncdSettings, LsyncdSync, Native, RsyncFlags, Said, SaidTo,
    SshFlags, TunnelSpec, VALUES, Verdict, load_lsyncd, lsyncd_risks, read_directory, script_epoch, text_of,
};
pub use error::{ConfigError, Fault, FilePosition, Warning};
pub use explain::{explain, risks};
pub use hooks::{HookField, HookValue, Hooks};
pub use hours::{Hours, rate_at};
pub use keeping::parse_trash;
pub use lua::Limits;
pub use model::{
    AgentCheck, AgentSource, Backend, Compress, Config, DeleteMode, Durability, Guard, Hosts, Http, Listed,
    LogFormat, MaxDelete, Reconcile, Scrub, Selection, Settings, Ssh, Sync, Target, Token, Transport, Trash,
    Verify,
};
pub use notify::Notify;
pub use program::Program;
pub use rules::{Deciding, Origins, deciding};
pub use sources::{Leads, Sources};
pub(crate) use suggest::nearest;
pub use target::{TargetError, is_remote, name_targets, parse_target, remote_path};
pub use target_list::{with as with_target, without as without_target};
pub use units::{
    CONNECTIONS_MAX, UnitError, parse_bwlimit, parse_connections, parse_duration, parse_interval,
    parse_max_delete, parse_size, seconds, split_words,
};
pub use validate::Invalid;

use crate::error::io_text;
use hosts::ThisHost;
use raw::{Block, Raw};

/// A configuration, and what was noticed while it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What the files say.
    pub config: Config,
    /// What works but is hardly meant.
    pub warnings: Vec<Warning>,
    /// What is to be called while the daemon runs.
    pub hooks: Hooks,
    /// Syncs that were left out, by their names or places, and what is wrong with them; see [`load_whole`].
    pub broken: Vec<(String, ConfigError)>,
}

/// Loads one configuration file, or the `*.lua` files of a directory.
///
/// # Errors
/// [`ConfigError`] (die), see [`load_all`].
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    load_all(std::slice::from_ref(&path))
}

/// Loads several configuration files as one, in their order; a directory stands for its `*.lua` files
/// in the order of their names. They share their global variables.
///
/// # Errors
/// [`ConfigError`] (die) for files that cannot be read, Lua errors, unknown keys, wrong values, and
/// targets that work against each other. The first one is told.
pub fn load_all<P: AsRef<Path>>(paths: &[P]) -> Result<Loaded, ConfigError> {
    load_within(paths, Limits::default(), false)
}

/// Loads as [`load_all`], but leaves out each sync that is wrong, and tells of it beside the others.
///
/// # Errors
/// [`ConfigError`] (die) as [`load_all`], for what concerns more than one sync, and if no sync is left.
pub fn load_whole<P: AsRef<Path>>(paths: &[P]) -> Result<Loaded, ConfigError> {
    let loaded = load_within(paths, Limits::default(), true)?;
    match loaded.broken.first() {
        Some((_, error)) if loaded.config.syncs.is_empty() => Err(error.clone()),
        _ => Ok(loaded),
    }
}

/// Loads as [`load_all`], with bounds on what the programs may use up.
fn load_within<P: AsRef<Path>>(paths: &[P], limits: Limits, lenient: bool) -> Result<Loaded, ConfigError> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(files_of(path.as_ref())?);
    }
    let evaluated = lua::evaluate(&files, limits)?;
    let mut warnings = evaluated.warnings;
    let mut settings = Settings::default();
    for block in &evaluated.settings {
        warnings.extend(settings::add(block, &mut settings)?);
    }
    let this = ThisHost { name: crate::disk::host_name(), chosen: settings.host.clone() };
    let mut broken = Vec::new();
    let (mut syncs, mut places) = (Vec::new(), Vec::new());
    for block in &evaluated.syncs {
        match read_sync(block, evaluated.asked_layer.as_deref(), &this, &mut warnings) {
            Ok(sync) => {
                syncs.push(Sync { allowed: settings.allowed.clone(), ..sync });
                places.push(&block.place);
            }
            Err(error) if lenient => broken.push((name_of(block), error)),
            Err(error) => return Err(error),
        }
    }
    loop {
        let settled = settle(&mut syncs, &places);
        let error = match settled {
            Ok(more) => {
                warnings.extend(more);
                break;
            }
            Err(error) => error,
        };
        let at = places.iter().rposition(|place| **place == error.place).filter(|_| lenient);
        let Some(at) = at else { return Err(error) };
        broken.push((syncs.remove(at).name, error));
        places.remove(at);
    }
    if syncs.is_empty() && broken.is_empty() {
        let file = files.first().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        return Err(ConfigError::new(&FilePosition { file, line: None }, Fault::NoSync));
    }
    Ok(Loaded { config: Config { settings, syncs }, warnings, hooks: evaluated.hooks, broken })
}

/// Names the syncs, and sees that they do not work against each other.
fn settle(syncs: &mut [Sync], places: &[&FilePosition]) -> Result<Vec<Warning>, ConfigError> {
    name_syncs(syncs, places)?;
    check_conflicts(syncs, places)
}

/// Returns the files that `path` stands for.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let place = FilePosition { file: path.to_string_lossy().into_owned(), line: None };
    let failed = |error: std::io::Error| ConfigError::new(&place, Fault::Read(io_text(&error)));
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && file.extension().is_some_and(|end| end == "lua") && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() { Err(ConfigError::new(&place, Fault::EmptyDirectory)) } else { Ok(files) }
}

/// Hands a block to the layer that it names; `asked` is a layer that does not exist.
/// Returns what a sync is called, or where it is written if it has no name.
fn name_of(block: &Block) -> String {
    match block.table.named.get("name") {
        Some(Raw::Text(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => block.place.to_string(),
    }
}

fn read_sync(
    block: &Block,
    asked: Option<&str>,
    this: &ThisHost,
    warnings: &mut Vec<Warning>,
) -> Result<Sync, ConfigError> {
    let layer = match block.table.named.get("_layer") {
        Some(Raw::Text(layer)) => String::from_utf8_lossy(layer).into_owned(),
        _ => {
            let asked = asked.map(str::to_owned);
            return Err(ConfigError::new(&block.place, Fault::NoLayer { asked }));
        }
    };
    if layer == "mirror" {
        return mirror::sync(block, this);
    }
    let mapped = lsyncd::map(block, &layer)?;
    if !mapped.unmapped.is_empty() {
        return Err(ConfigError::new(&block.place, Fault::Unmapped { layer, keys: mapped.unmapped }));
    }
    warnings.extend(mapped.notes.into_iter().map(|text| Warning { place: block.place.clone(), text }));
    let mut sync = mapped.sync;
    sync.origins.fill(sync.filters.len(), &block.place.to_string());
    Ok(sync)
}

/// Names the syncs that have no name after the last component of their source.
fn name_syncs(syncs: &mut [Sync], places: &[&FilePosition]) -> Result<(), ConfigError> {
    let mut taken: Vec<(String, &FilePosition)> = Vec::new();
    for (sync, place) in syncs.iter().zip(places).filter(|(sync, _)| !sync.name.is_empty()) {
        if let Some((name, other)) = taken.iter().find(|(name, _)| *name == sync.name) {
            let fault = Fault::NameTaken { name: name.clone(), other: (*other).clone() };
            return Err(ConfigError::new(place, fault));
        }
        taken.push((sync.name.clone(), place));
    }
    let mut taken: Vec<String> = taken.into_iter().map(|(name, _)| name).collect();
    for sync in syncs.iter_mut().filter(|sync| sync.name.is_empty()) {
        let last = sync.source.file_name().map(|name| name.to_string_lossy().into_owned());
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '"' | '\\' | '\u{fffd}');
        let name = last.unwrap_or_else(|| "root".to_owned()).replace(odd, "_");
        sync.name = target::unique(&name, &taken);
        taken.push(sync.name.clone());
    }
    Ok(())
}

fn check_conflicts(syncs: &[Sync], places: &[&FilePosition]) -> Result<Vec<Warning>, ConfigError> {
    let mut warnings = Vec::new();
    for (at, (sync, place)) in syncs.iter().zip(places).enumerate() {
        conflict::within(sync).map_err(|fault| ConfigError::new(place, fault))?;
        for before in syncs.iter().take(at) {
            let texts = conflict::between(before, sync).map_err(|fault| ConfigError::new(place, fault))?;
            warnings.extend(texts.into_iter().map(|text| Warning { place: (*place).clone(), text }));
        }
    }
    Ok(warnings)
}
