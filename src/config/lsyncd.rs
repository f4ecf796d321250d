//! lsyncd's layers `default.rsync`, `default.rsyncssh` and `default.direct`, as far as speil's own
//! mirroring does the same.
//!
//! **In → out:** a block whose inheritance is settled → a [`Sync`], the keys that have no like in speil
//! by name, and notes. **Invariants:** a sync is run natively only if nothing of it is unmapped; what
//! lsyncd refuses as unknown is refused. **Not here:** running such a block as lsyncd does, with rsync
//! and the user's own functions, which `action` does; lsyncd's reading of patterns, which differs from
//! rsync's in a few cases that `filter` knows. **Sources:** the lsyncd manual.

mod rsync;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::error::{ConfigError, Fault};
use crate::config::raw::{Block, Raw, Section, lit, plain};
use crate::config::rules::{check, lines, patterns, rule};
use crate::config::target::{TargetError, name_targets, parse_target};
use crate::config::{Compress, DeleteMode, Ssh, Sync, Target, mirror, spelling};
use crate::tree::Mask;

/// Keys that are mapped.
const MAPPED: [&str; 14] = [
    "_layer",
    "delay",
    "delete",
    "exclude",
    "excludeFrom",
    "filter",
    "filterFrom",
    "host",
    "name",
    "rsync",
    "source",
    "ssh",
    "target",
    "targetdir",
];

/// Keys that steer how lsyncd works, not what stands on the target.
const MOOT: [&str; 9] = [
    "batchSizeLimit",
    "checkgauge",
    "exitcodes",
    "maxDelays",
    "maxProcesses",
    "monitor",
    "rsyncExitCodes",
    "sshExitCodes",
    "xargs",
];

/// Keys that only lsyncd's own way of working can serve.
const FOREIGN: [&str; 17] = [
    "action",
    "collect",
    "crontab",
    "full",
    "init",
    "onAttrib",
    "onCreate",
    "onDelete",
    "onFull",
    "onModify",
    "onMove",
    "onStartup",
    "prepare",
    "rsyncOps",
    "rsyncOpts",
    "subdirs",
    "tunnel",
];

const SSH_KEYS: [&str; 5] = ["_extra", "binary", "identityFile", "options", "port"];

/// A block of lsyncd's in speil's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// The sync; it may be run only if `unmapped` is empty.
    pub sync: Sync,
    /// Keys that have no like in speil, as `rsync.inplace`.
    pub unmapped: Vec<String>,
    /// Keys that change nothing in the result, in words.
    pub notes: Vec<String>,
}

/// What is noticed while a block is mapped.
#[derive(Default)]
struct Findings {
    unmapped: Vec<String>,
    notes: Vec<String>,
}

/// Maps a block of the layer `rsync`, `rsyncssh` or `direct`. The name is empty if none is given.
///
/// # Errors
/// [`ConfigError`] (die) for what lsyncd would refuse as well.
pub(super) fn map(block: &Block, layer: &str) -> Result<Mapped, ConfigError> {
    let mut found = Findings::default();
    known(&Section::of(block), &mut found)?;
    translate(block, layer, found)
}

/// As [`map`], for a block that lsyncd's own checks have passed and whose other keys were looked at:
/// only those that have a meaning here are left in it.
///
/// # Errors
/// [`ConfigError`] (die) for values that speil cannot read.
pub(super) fn map_settled(block: &Block, layer: &str) -> Result<Mapped, ConfigError> {
    translate(block, layer, Findings::default())
}

/// Whether a key of a block has a meaning in speil's own mirroring.
pub(super) fn is_mapped(key: &str) -> bool {
    MAPPED.contains(&key)
}

/// Whether only lsyncd's own way of working can serve `key` where it stands with `given`.
pub(super) fn is_foreign(key: &str, given: &Raw) -> bool {
    // lsyncd writes `onMove = true` for "I can handle moves", and `= false` for "not at all".
    let is_switch = matches!(given, Raw::Bool(_)) && key.starts_with("on");
    FOREIGN.contains(&key) && !is_switch
}

fn translate(block: &Block, layer: &str, mut found: Findings) -> Result<Mapped, ConfigError> {
    let section = Section::of(block);
    let mut sync = defaults(layer);
    sync.source = source(&section)?;
    sync.name = mirror::name(&section)?.unwrap_or_default();
    deletes(&section, &mut sync, &mut found);
    if let Some(rsync) = section.section("rsync", "a table of rsync's options")? {
        rsync::apply(&rsync, &mut sync, &mut found)?;
    }
    sync.targets = targets(&section, layer, &mut found)?;
    // lsyncd asks its own rules before rsync's.
    let mut rules = rules(&section)?;
    rules.append(&mut sync.filters);
    sync.filters = rules;
    check(&section, &sync.filters)?;
    delays(&section, &mut sync)?;
    if layer == "rsyncssh" {
        ssh(&section, &mut sync, &mut found)?;
    }
    Ok(Mapped { sync, unmapped: found.unmapped, notes: found.notes })
}

/// Sorts the keys into known and unknown ones. A block that declares keys of its own by `checkgauge`
/// may have any.
fn known(section: &Section, found: &mut Findings) -> Result<(), ConfigError> {
    let declares = section.get("checkgauge").is_some();
    let all: Vec<&str> = [&MAPPED[..], &MOOT, &FOREIGN].concat();
    if !declares {
        section.only(&all, "sync{}")?;
    }
    for (key, given) in &section.table.named {
        if is_foreign(key, given) {
            found.unmapped.push(key.clone());
        } else if (MOOT.contains(&key.as_str()) && key != "checkgauge") || !all.contains(&key.as_str()) {
            found.notes.push(format!("{key} changes nothing here"));
        }
    }
    Ok(())
}

/// Returns a sync as lsyncd's layer without any key: `-lts`, and for direct what `cp -p` keeps.
fn defaults(layer: &str) -> Sync {
    let mut sync = Sync::new("", "", Vec::new());
    let direct = layer == "direct";
    sync.mask = Mask {
        symlinks: true,
        times: true,
        dir_times: true,
        link_times: true,
        perms: direct,
        owner: direct,
        group: direct,
        ..Mask::nothing()
    };
    sync.compress = Compress::Never;
    sync.delay = Duration::from_secs(if direct { 1 } else { 15 });
    sync
}

/// lsyncd takes a relative source from the directory that it is started in.
fn source(section: &Section) -> Result<PathBuf, ConfigError> {
    let path = section.path("source", "the path of a directory")?;
    let path = path.ok_or_else(|| section.error(Fault::Missing("source")))?;
    Ok(spelling::local_path(&path))
}

fn targets(section: &Section, layer: &str, found: &mut Findings) -> Result<Vec<Target>, ConfigError> {
    const ALLOWED: &str = "\"host:/dir/\" or \"/dir/\"";
    let bytes = |key: &'static str| match section.get(key) {
        None => Err(section.error(Fault::Missing(key))),
        Some(Raw::Text(text)) => Ok(text.clone()),
        Some(given) => Err(section.wrong(key, given, ALLOWED)),
    };
    let spec = if layer == "rsyncssh" {
        if section.get("target").is_some() {
            return Err(section.error(Fault::Both("target", "targetdir")));
        }
        let mut host = bytes("host")?;
        // Brackets keep the colons of an address apart from the one before the path.
        if host.contains(&b':') && !host.contains(&b'[') {
            let at = host.iter().position(|&b| b == b'@').map_or(0, |at| at + 1);
            host.insert(at, b'[');
            host.push(b']');
        }
        [host, b":".to_vec(), bytes("targetdir")?].concat()
    } else {
        bytes("target")?
    };
    let mut target = match parse_target(&spec) {
        Ok(target) => target,
        Err(TargetError::RsyncUrl(shown) | TargetError::RsyncModule(shown)) => {
            found.unmapped.push(format!("target = {shown}"));
            return Ok(Vec::new());
        }
        Err(error) => return Err(section.error(Fault::Target(error))),
    };
    if target.host.is_none() && !target.path.starts_with(b"/") {
        target.path = spelling::local(&target.path);
    }
    if layer == "direct" && target.host.is_some() {
        return Err(section.wrong("target", &Raw::Text(spec), "a directory of this host"));
    }
    let mut targets = vec![target];
    name_targets(&mut targets);
    Ok(targets)
}

/// Rules in lsyncd's order: `filter`, `filterFrom`, `exclude`, `excludeFrom`.
fn rules(section: &Section) -> Result<Vec<Vec<u8>>, ConfigError> {
    const RULES: &str = "\"+ PATTERN\" or \"- PATTERN\", or a list of them";
    let mut rules = patterns(section, "filter", RULES)?;
    for file in section.words("filterFrom", "a file")? {
        rules.extend(read(section, "filterFrom", &file)?);
    }
    if let Some(rule) = rules.iter().find(|rule| !rule.starts_with(b"+ ") && !rule.starts_with(b"- ")) {
        return Err(section.wrong("filter", &Raw::Text(rule.clone()), RULES));
    }
    let mut excludes = patterns(section, "exclude", "a pattern or a list of patterns")?;
    for file in section.words("excludeFrom", "a file")? {
        // lsyncd knows no includes there: it skips them.
        let lines = read(section, "excludeFrom", &file)?.into_iter().filter(|line| !line.starts_with(b"+"));
        excludes.extend(lines.map(|line| line.strip_prefix(b"- ").unwrap_or(&line).to_vec()));
    }
    rules.extend(excludes.into_iter().map(|pattern| rule('-', pattern)));
    Ok(rules)
}

/// Reads a file of patterns: lsyncd looks in the working directory; beside the file is looked next.
fn read(section: &Section, key: &'static str, file: &str) -> Result<Vec<Vec<u8>>, ConfigError> {
    let here = PathBuf::from(file);
    let beside = Path::new(&section.place.file).parent().map(|dir| dir.join(file));
    let path = beside.filter(|beside| !here.exists() && beside.exists()).unwrap_or(here);
    Ok(lines(section, key, &path, b"#")?.into_iter().map(|(_, line)| line).collect())
}

/// lsyncd sends what is `delay` old; speil sends a quiet path at once and a busy one that often.
fn delays(section: &Section, sync: &mut Sync) -> Result<(), ConfigError> {
    sync.delay = match section.get("delay") {
        None => sync.delay,
        Some(given @ (Raw::Int(_) | Raw::Float(_))) => crate::config::raw::duration(given)
            .ok_or_else(|| section.wrong("delay", given, "a number of seconds, 0 or more"))?,
        Some(given) => return Err(section.wrong("delay", given, "a number of seconds, 0 or more")),
    };
    sync.max_delay = sync.delay;
    Ok(())
}

fn deletes(section: &Section, sync: &mut Sync, found: &mut Findings) {
    sync.delete = match section.get("delete") {
        None | Some(Raw::Bool(true)) => DeleteMode::Always,
        Some(Raw::Bool(false)) => DeleteMode::Never,
        Some(given) if *given == lit("startup") => DeleteMode::Startup,
        Some(given) if *given == lit("running") => DeleteMode::Running,
        Some(given) => {
            found.notes.push(format!("delete = {} counts as false, as in lsyncd", given.describe()));
            DeleteMode::Never
        }
    };
}

/// lsyncd gives rsync its own `ssh` as soon as one of these keys is there, whatever `rsync.rsh` says.
fn ssh(section: &Section, sync: &mut Sync, found: &mut Findings) -> Result<(), ConfigError> {
    let Some(section) = section.section("ssh", "a table, { port = 22 }")? else { return Ok(()) };
    section.only(&SSH_KEYS, "ssh")?;
    let given = SSH_KEYS.iter().any(|&key| key != "binary" && section.get(key).is_some());
    if given && sync.ssh.command.take().is_some() {
        found.notes.push("rsync.rsh is overruled by the keys of ssh, as in lsyncd".to_owned());
    }
    let options = mirror::ssh_keys(&section)?;
    let binary = section.get("binary").and_then(plain);
    sync.ssh = Ssh {
        command: sync.ssh.command.take().or(binary.map(|binary| vec![binary])),
        extra: [std::mem::take(&mut sync.ssh.extra), options.extra].concat(),
        ..options
    };
    Ok(())
}

#[cfg(test)]
mod tests;
