//! speil's own layer: `sync { default.mirror, … }` into a [`Sync`].
//!
//! **In → out:** a block whose inheritance is settled → the model. **Invariants:** every key is either
//! mapped or refused; `false` always means off. **Not here:** what concerns several syncs at once
//! (`config::conflict`), and whether the source exists (`config::validate`).

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::error::{ConfigError, Fault};
use crate::config::hosts::{ThisHost, hosts};
use crate::config::raw::{Block, Raw, Section, duration, lit, plain, word};
use crate::config::rules::{check, lines, patterns, rule};
use crate::config::switches::SWITCHES;
use crate::config::target::{TARGETS, clean, name_targets, parse_target};
use crate::config::target_list::listed;
use crate::config::units::{parse_connections, parse_max_delete, parse_size, split_words};
use crate::config::{
    AgentSource, Backend, Compress, DeleteMode, Durability, MaxDelete, Reconcile, Selection, Ssh, Sync,
    Transport, Verify, is_remote,
};
use crate::error::io_text;
use crate::tree::{Chmod, Chown, OwnerMap, quote};

/// Every key of the layer but those of [`SWITCHES`].
pub const KEYS: [&str; 46] = [
    "_layer",
    "acls",
    "agent",
    "bwlimit",
    "chmod",
    "chown",
    "compress",
    "connections",
    "delay",
    "delete",
    "deleteExcluded",
    "deleteGuard",
    "dirTimes",
    "durability",
    "exclude",
    "excludeFrom",
    "filter",
    "forceRoot",
    "groupmap",
    "hosts",
    "include",
    "linkTimes",
    "maxDelay",
    "maxDelete",
    "maxOpen",
    "maxSize",
    "minSize",
    "modifyWindow",
    "name",
    "oneFileSystem",
    "pollInterval",
    "reconcile",
    "scrub",
    "source",
    "ssh",
    "target",
    "targets",
    "targetsFile",
    "timeout",
    "times",
    "transport",
    "trash",
    "usermap",
    "watch",
    "xattrs",
    "privilegedXattrs",
];

const SSH_KEYS: [&str; 6] = ["_extra", "command", "extra", "identityFile", "options", "port"];

const PATTERNS: &str = "a pattern or a list of patterns";
const EXTRA: &str = "a list of arguments for ssh";
const COMMAND: &str = "a command or a list of words";

/// Commands that run another one; an agent that begins with one of them and names no agent is a prefix.
const WRAPPERS: [&str; 6] = ["sudo", "doas", "nice", "ionice", "chrt", "env"];

/// Maps a block. The name is empty if none is given.
///
/// # Errors
/// [`ConfigError`] (die) at the place of the block, for the first thing that is wrong in it.
pub(super) fn sync(block: &Block, this: &ThisHost) -> Result<Sync, ConfigError> {
    let section = Section::of(block);
    let switches = SWITCHES.iter().filter_map(|switch| switch.key);
    section.only(&KEYS.into_iter().chain(switches).collect::<Vec<_>>(), "sync{}")?;
    let mut sync = Sync::new("", source(&section)?, Vec::new());
    sync.name = name(&section)?.unwrap_or_default();
    match hosts(&section, &sync.source, this)? {
        Some(held) => (sync.source, sync.targets, sync.hosts) = (held.source, held.targets, Some(held.hosts)),
        None => sync.targets = targets(&section)?,
    }
    sync.targets_file = targets_file(&section)?;
    filters(&section, &mut sync)?;
    deletes(&section, &mut sync)?;
    timing(&section, &mut sync)?;
    properties(&section, &mut sync)?;
    working(&section, &mut sync)?;
    sync.ssh = ssh(&section)?;
    sync.agent = agent(&section)?;
    Ok(sync)
}

fn source(section: &Section) -> Result<PathBuf, ConfigError> {
    const ALLOWED: &str = "the absolute path of a directory";
    let path = section.path("source", ALLOWED)?.ok_or_else(|| section.error(Fault::Missing("source")))?;
    if is_remote(path.as_os_str().as_bytes()) {
        return Err(section.error(Fault::RemoteSource(quote(path.as_os_str().as_bytes()))));
    }
    if path.is_relative() {
        let given = Raw::Text(path.as_os_str().as_bytes().to_vec());
        return Err(section.wrong("source", &given, ALLOWED));
    }
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&clean(path.as_os_str().as_bytes()))))
}

/// Reads `name`.
pub(super) fn name(section: &Section) -> Result<Option<String>, ConfigError> {
    const ALLOWED: &str = "a word of at most 64 characters without blanks, \"/\" and \":\"";
    let Some(name) = section.text("name", ALLOWED)? else { return Ok(None) };
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '"' | '\\');
    if name.chars().count() > 64 || name.chars().any(odd) || name.starts_with('-') {
        return Err(section.wrong("name", &lit(&name), ALLOWED));
    }
    Ok(Some(name))
}

fn targets(section: &Section) -> Result<Vec<crate::config::Target>, ConfigError> {
    const ALLOWED: &str = "\"host:/dir/\", \"user@host:/dir/\", \"/dir/\", or a list of them";
    let given = |key: &&&str| section.get(key).is_some();
    let mut keys = TARGETS.iter().filter(given);
    let key = match (keys.next(), keys.next()) {
        (Some(one), Some(other)) => return Err(section.error(Fault::Both(one, other))),
        (one, _) => *one.unwrap_or(&"targets"),
    };
    if let Some(file) = targets_file(section)? {
        return from_file(section, &file);
    }
    let mut targets = Vec::new();
    for given in section.list(key, ALLOWED)? {
        let Raw::Text(spec) = given else { return Err(section.wrong(key, given, ALLOWED)) };
        let target = parse_target(spec).map_err(|error| section.error(Fault::Target(error)))?;
        if target.host.is_none() && !target.path.starts_with(b"/") {
            return Err(section.wrong(key, given, "with its host, or absolute"));
        }
        targets.push(target);
    }
    if targets.is_empty() {
        return Err(section.error(Fault::Missing("targets")));
    }
    name_targets(&mut targets);
    Ok(targets)
}

/// Returns the file that lists the targets. A relative name is looked for beside the configuration file.
fn targets_file(section: &Section) -> Result<Option<PathBuf>, ConfigError> {
    let file = section.path("targetsFile", "the path of a file with a target in each line")?;
    let beside = Path::new(&section.place.file).parent().unwrap_or(Path::new(""));
    // However the configuration was named, it is the same file.
    let whole = |file: PathBuf| std::path::absolute(&file).unwrap_or(file);
    Ok(file.map(|file| whole(beside.join(file))))
}

fn from_file(section: &Section, file: &Path) -> Result<Vec<crate::config::Target>, ConfigError> {
    let fail = |cause: String| {
        let path = quote(file.as_os_str().as_bytes());
        section.error(Fault::File { key: "targetsFile", path, cause })
    };
    let text = crate::disk::read_whole(file).map_err(|error| fail(io_text(&error)))?;
    let targets = listed(&text).map_err(|(line, error)| fail(format!("line {line}: {error}")))?;
    let relative = |target: &&crate::config::Target| target.host.is_none() && !target.path.starts_with(b"/");
    if let Some(target) = targets.iter().find(relative) {
        return Err(fail(format!("{target} has no host and is not absolute")));
    }
    if targets.is_empty() {
        return Err(fail("it names no target".to_owned()));
    }
    Ok(targets)
}

/// Rules in the order in which they are asked: `filter`, `include`, `exclude`, `excludeFrom`.
fn filters(section: &Section, sync: &mut Sync) -> Result<(), ConfigError> {
    const RULES: &str = "a rule such as \"- *.tmp\" or \"+ /keep/\", or a list of them";
    let rules = &mut sync.filters;
    for (key, sign, allowed) in
        [("filter", None, RULES), ("include", Some('+'), PATTERNS), ("exclude", Some('-'), PATTERNS)]
    {
        let read = patterns(section, key, allowed)?.into_iter();
        rules.extend(read.map(|pattern| sign.map_or_else(|| pattern.clone(), |sign| rule(sign, &pattern))));
        sync.origins.fill(rules.len(), &format!("{}, {key}", section.place));
    }
    for file in section.words("excludeFrom", "a file or a list of files")? {
        for (place, rule) in exclude_from(section, &file)? {
            rules.push(rule);
            sync.origins.fill(rules.len(), &place);
        }
    }
    check(section, rules)
}

/// Reads patterns as rsync's `--exclude-from`: one a line, `#` and `;` begin a comment, a line may
/// begin with `- ` or `+ `. A relative name is looked for beside the configuration file. Each rule comes
/// with its file and line.
fn exclude_from(section: &Section, file: &str) -> Result<Vec<(String, Vec<u8>)>, ConfigError> {
    let path = match Path::new(&section.place.file).parent() {
        Some(dir) => dir.join(file),
        None => PathBuf::from(file),
    };
    let signed = |line: &[u8]| line.starts_with(b"- ") || line.starts_with(b"+ ") || line == b"!";
    let lines = lines(section, "excludeFrom", &path, b"#;")?;
    let placed = lines.into_iter().map(|(number, line)| {
        let rule = if signed(&line) { line } else { rule('-', line) };
        (format!("{}:{number}", path.display()), rule)
    });
    Ok(placed.collect())
}

fn deletes(section: &Section, sync: &mut Sync) -> Result<(), ConfigError> {
    section.choice(
        "delete",
        &[
            (Raw::Bool(true), DeleteMode::Always),
            (Raw::Bool(false), DeleteMode::Never),
            (lit("startup"), DeleteMode::Startup),
            (lit("running"), DeleteMode::Running),
        ],
        "true, false, \"startup\" or \"running\"",
        &mut sync.delete,
    )?;
    section.flag("deleteGuard", &mut sync.guard.enabled)?;
    section.flag("deleteExcluded", &mut sync.guard.delete_excluded)?;
    if let Some(given) = section.get("maxDelete") {
        let limit = match given {
            Raw::Int(count) => u64::try_from(*count).ok().map(MaxDelete::Count),
            Raw::Text(text) => std::str::from_utf8(text).ok().and_then(|text| parse_max_delete(text).ok()),
            _ => None,
        };
        sync.guard.max_delete = limit
            .ok_or_else(|| section.wrong("maxDelete", given, "a number, a share (\"50%\") or \"none\""))?;
    }
    Ok(())
}

fn timing(section: &Section, sync: &mut Sync) -> Result<(), ConfigError> {
    sync.delay = section.duration("delay")?.unwrap_or(sync.delay);
    match section.duration("maxDelay")? {
        Some(max) if max < sync.delay => {
            let given = section.get("maxDelay").unwrap_or(&Raw::Bool(false));
            return Err(section.wrong("maxDelay", given, "no less than delay"));
        }
        Some(max) => sync.max_delay = max,
        None => sync.max_delay = sync.max_delay.max(sync.delay),
    }
    sync.max_open = section.duration("maxOpen")?.unwrap_or(sync.max_open);
    for (key, into) in [("pollInterval", &mut sync.poll_interval), ("timeout", &mut sync.timeout)] {
        match (section.duration(key)?, section.get(key)) {
            (Some(time), Some(given)) if time.is_zero() => {
                return Err(section.wrong(key, given, "more than 0"));
            }
            (Some(time), _) => *into = time,
            (None, _) => {}
        }
    }
    sync.reconcile = reconcile(section)?;
    sync.trash = super::keeping::trash(section)?;
    sync.scrub = super::keeping::scrub(section)?;
    Ok(())
}

/// Reads `reconcile`.
///
/// # Errors
/// [`ConfigError`] (die) for anything but a table of what a pass can be told.
pub(super) fn reconcile(section: &Section) -> Result<Reconcile, ConfigError> {
    const ALLOWED: &str = "{ interval = \"15m\", verify = \"quick\", \"stamps\" or \"checksum\" }";
    const INTERVAL: &str = "a duration (\"15m\"), or false or \"never\"";
    let mut reconcile = Reconcile::default();
    let Some(section) = section.section("reconcile", ALLOWED)? else { return Ok(reconcile) };
    section.only(&["interval", "verify"], "reconcile")?;
    let verify =
        [(lit("quick"), Verify::Quick), (lit("stamps"), Verify::Stamps), (lit("checksum"), Verify::Checksum)];
    section.choice("verify", &verify, "\"quick\", \"stamps\" or \"checksum\"", &mut reconcile.verify)?;
    match section.get("interval") {
        None => {}
        Some(Raw::Bool(false)) => reconcile.interval = None,
        Some(given) if *given == lit("never") => reconcile.interval = None,
        Some(given) => {
            let interval = duration(given).ok_or_else(|| section.wrong("interval", given, INTERVAL))?;
            reconcile.interval = Some(interval).filter(|interval| !interval.is_zero());
        }
    }
    Ok(reconcile)
}

fn properties(section: &Section, sync: &mut Sync) -> Result<(), ConfigError> {
    for switch in SWITCHES {
        let Some(key) = switch.key.filter(|key| section.get(key).is_some()) else { continue };
        let mut on = false;
        section.flag(key, &mut on)?;
        (switch.set)(sync, on);
    }
    let mask = &mut sync.mask;
    section.flag("times", &mut mask.times)?;
    section.flag("dirTimes", &mut mask.dir_times)?;
    section.flag("linkTimes", &mut mask.link_times)?;
    section.flag("xattrs", &mut mask.xattrs)?;
    section.flag("privilegedXattrs", &mut mask.privileged_xattrs)?;
    section.flag("acls", &mut mask.acls)?;
    let selection = &mut sync.selection;
    section.flag("oneFileSystem", &mut selection.one_file_system)?;
    const CHMOD: &str = "a mode such as \"D2775,F664\", or a list of them";
    selection.chmod = section.words("chmod", CHMOD)?;
    let fits = |text: &String| Chmod::parse(text, 0).is_ok();
    if let Some(given) = section.get("chmod").filter(|_| !selection.chmod.iter().all(fits)) {
        return Err(section.wrong("chmod", given, CHMOD));
    }
    selection.chown =
        section.fitting("chown", "\"USER:GROUP\", names or numbers below 4294967295", |text| {
            Chown::parse(text).is_ok()
        })?;
    owners_and_sizes(section, selection)
}

fn owners_and_sizes(section: &Section, selection: &mut Selection) -> Result<(), ConfigError> {
    const MAP: &str = "\"FROM:TO\" pairs with commas between them, \"www-data:deploy,1000-1999:nobody\"";
    const SIZE: &str = "a size, \"10M\"";
    let is_map = |text: &str| OwnerMap::parse(text).is_ok();
    selection.usermap = section.fitting("usermap", MAP, is_map)?;
    selection.groupmap = section.fitting("groupmap", MAP, is_map)?;
    for (key, map) in [("usermap", &selection.usermap), ("groupmap", &selection.groupmap)] {
        if map.is_some() && selection.chown.is_some() {
            return Err(section.error(Fault::Both("chown", key)));
        }
    }
    for (key, size) in [("maxSize", &mut selection.max_size), ("minSize", &mut selection.min_size)] {
        *size = match section.get(key) {
            None | Some(Raw::Bool(false)) => None,
            Some(given) => {
                let bytes = plain(given).and_then(|text| parse_size(&text).ok());
                Some(bytes.ok_or_else(|| section.wrong(key, given, SIZE))?)
            }
        };
    }
    selection.modify_window = section.duration("modifyWindow")?.unwrap_or_default();
    Ok(())
}

fn working(section: &Section, sync: &mut Sync) -> Result<(), ConfigError> {
    section.choice(
        "durability",
        &[
            (lit("batch"), Durability::Batch),
            (lit("file"), Durability::File),
            (lit("none"), Durability::None),
        ],
        "\"batch\", \"file\" or \"none\"",
        &mut sync.durability,
    )?;
    section.choice(
        "compress",
        &[
            (lit("auto"), Compress::Auto),
            (lit("always"), Compress::Always),
            (Raw::Bool(true), Compress::Always),
            (lit("never"), Compress::Never),
            (Raw::Bool(false), Compress::Never),
        ],
        "true, false, \"auto\", \"always\" or \"never\"",
        &mut sync.compress,
    )?;
    section.choice(
        "watch",
        &[
            (lit("auto"), Backend::Auto),
            (lit("inotify"), Backend::Inotify),
            (lit("fanotify"), Backend::Fanotify),
            (lit("notify"), Backend::Notify),
            (lit("poll"), Backend::Poll),
        ],
        "\"auto\", \"inotify\", \"fanotify\", \"notify\" or \"poll\"",
        &mut sync.watch,
    )?;
    section.choice(
        "transport",
        &[(lit("ssh"), Transport::Ssh), (lit("ssh2"), Transport::Ssh2)],
        "\"ssh\" or \"ssh2\"",
        &mut sync.transport,
    )?;
    section.flag("forceRoot", &mut sync.force_root)?;
    if let Some(given) = section.get("connections") {
        let count = plain(given).and_then(|text| parse_connections(&text).ok());
        sync.connections =
            count.ok_or_else(|| section.wrong("connections", given, "a number from 1 to 16"))?;
    }
    (sync.bwlimit, sync.bwlimit_hours) = super::hours::bwlimit(section)?;
    Ok(())
}

fn ssh(section: &Section) -> Result<Ssh, ConfigError> {
    let Some(section) = section.section("ssh", "a table, { port = 22 }")? else { return Ok(Ssh::default()) };
    section.only(&SSH_KEYS, "ssh")?;
    let mut ssh = ssh_keys(&section)?;
    if section.get("command").is_some() {
        ssh.command = Some(command(&section, "command")?);
    }
    ssh.extra.extend(section.words("extra", EXTRA)?);
    Ok(ssh)
}

/// Reads the keys of `ssh` that lsyncd has as well: `port`, `identityFile`, `options`, `_extra`.
///
/// # Errors
/// [`ConfigError`] (die) for values that ssh would not take.
pub(super) fn ssh_keys(section: &Section) -> Result<Ssh, ConfigError> {
    const PORT: &str = "a port from 1 to 65535";
    const OPTIONS: &str = "names and values, { StrictHostKeyChecking = \"accept-new\" }";
    let mut ssh = Ssh::default();
    if let Some(given) = section.get("port") {
        let port = plain(given).and_then(|text| text.parse().ok()).filter(|&port| port != 0);
        ssh.port = Some(port.ok_or_else(|| section.wrong("port", given, PORT))?);
    }
    ssh.identity_file = section.path("identityFile", "the path of a private key")?;
    if let Some(options) = section.section("options", OPTIONS)? {
        if let Some(stray) = options.table.items.values().next() {
            return Err(section.wrong("options", stray, OPTIONS));
        }
        for (key, given) in &options.table.named {
            let value = match given {
                Raw::Bool(true) => Some("yes".to_owned()),
                Raw::Bool(false) => Some("no".to_owned()),
                given => plain(given),
            };
            let value =
                value.ok_or_else(|| options.wrong(key, given, "a string, a number, true or false"))?;
            ssh.options.push((key.clone(), value));
        }
    }
    ssh.extra = section.words("_extra", EXTRA)?;
    Ok(ssh)
}

/// Whether a command runs another one: `sudo`, `nice`.
pub(super) fn is_wrapper(command: &str) -> bool {
    WRAPPERS.contains(&command)
}

/// Returns the words under `key`: a list as it stands, a string split at its blanks.
///
/// # Errors
/// [`ConfigError`] (die) for an empty list, or what is no word.
pub(super) fn command(section: &Section, key: &str) -> Result<Vec<String>, ConfigError> {
    let Some(given) = section.get(key) else { return Ok(Vec::new()) };
    let words = match given {
        Raw::Table(_) => section.words(key, COMMAND)?,
        given => word(given)
            .and_then(|text| split_words(&text).ok())
            .ok_or_else(|| section.wrong(key, given, COMMAND))?,
    };
    if words.is_empty() { Err(section.wrong(key, given, COMMAND)) } else { Ok(words) }
}

/// Reads `agent`.
///
/// # Errors
/// [`ConfigError`] (die) for anything but a word or a command.
pub(super) fn agent(section: &Section) -> Result<AgentSource, ConfigError> {
    let words = match section.get("agent") {
        None => return Ok(AgentSource::Auto),
        Some(_) => command(section, "agent")?,
    };
    Ok(match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["auto"] => AgentSource::Auto,
        ["path"] => AgentSource::Path,
        ["deploy"] => AgentSource::Deploy,
        [first, ..] if is_wrapper(first) && !words.iter().any(|word| names_agent(word)) => {
            AgentSource::Prefixed(words)
        }
        _ => AgentSource::Command(words),
    })
}

/// Whether a word is the agent's own executable: `speil`, `/opt/bin/speil-0.2`.
fn names_agent(word: &str) -> bool {
    word.rsplit('/').next().is_some_and(|name| name.starts_with("speil"))
}
