//! `settings{}` into [`Settings`].
//!
//! **Invariants:** later values replace earlier ones; keys of lsyncd's that mean nothing to speil are
//! accepted with a warning, so that an old file starts.

use std::path::PathBuf;

use crate::config::error::{ConfigError, Warning};
use crate::config::hooks::HOOKS;
use crate::config::parse_size;
use crate::config::raw::{Block, Raw, Section, lit, plain, word};
use crate::config::{AgentCheck, Allowed, Http, LogFormat, Settings, Token};

const KEYS: [&str; 27] = [
    "agentCheck",
    "allowTargets",
    "control",
    "history",
    "hookTimeout",
    "host",
    "http",
    "inotifyMode",
    "insist",
    "logFormat",
    "logfacility",
    "logfile",
    "logident",
    "maxDelays",
    "maxProcesses",
    "nodaemon",
    "notify",
    "onBatch",
    "onHeld",
    "onProblem",
    "onRole",
    "onState",
    "onepass",
    "pidfile",
    "statusFile",
    "statusInterval",
    "statusIntervall",
];

/// lsyncd's keys that steer what speil does not have: child processes and a queue of events.
const FOREIGN: [&str; 3] = ["inotifyMode", "maxDelays", "maxProcesses"];

const NETWORKS: &str = "networks and names: { \"10.8.0.0/24\", \"*.example.no\" }";

/// Adds what a block says to `settings`; returns what was noticed.
///
/// # Errors
/// [`ConfigError`] (die) for unknown keys and values of the wrong type.
pub(super) fn add(block: &Block, settings: &mut Settings) -> Result<Vec<Warning>, ConfigError> {
    let section = Section::of(block);
    section.only(&KEYS, "settings{}")?;
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(Warning { place: block.place.clone(), text });
    files(&section, settings, &mut warn)?;
    for key in ["statusIntervall", "statusInterval"] {
        if let Some(interval) = section.duration(key)? {
            settings.status_interval = interval;
        }
    }
    if section.get("statusIntervall").is_some() {
        warn("\"statusIntervall\" is the old spelling of \"statusInterval\"".to_owned());
    }
    for (key, into) in [
        ("nodaemon", &mut settings.nodaemon),
        ("insist", &mut settings.insist),
        ("onepass", &mut settings.onepass),
    ] {
        // As in lsyncd, only `false` is false: files say `insist = 1`.
        if let Some(given) = section.get(key) {
            *into = *given != Raw::Bool(false);
        }
    }
    for (key, into) in [("logident", &mut settings.log_ident), ("logfacility", &mut settings.log_facility)] {
        if let Some(given) = section.get(key) {
            *into = Some(plain(given).ok_or_else(|| section.wrong(key, given, "a string or a number"))?);
        }
    }
    if let Some(host) = section.text("host", "a name that hosts has")? {
        settings.host = Some(host);
    }
    served(&section, settings)?;
    for key in HOOKS {
        if let Some(given) = section.get(key).filter(|&given| *given != Raw::Other("function")) {
            return Err(section.wrong(key, given, "a function"));
        }
    }
    if let Some(limit) = section.duration("hookTimeout")? {
        settings.hook_timeout = limit;
    }
    allowed(&section, settings)?;
    section.choice(
        "logFormat",
        &[
            (lit("human"), LogFormat::Human),
            (lit("json"), LogFormat::Json),
            (lit("syslog"), LogFormat::Syslog),
        ],
        "\"human\", \"json\" or \"syslog\"",
        &mut settings.log_format,
    )?;
    for key in FOREIGN.iter().filter(|key| section.get(key).is_some()) {
        warn(format!("\"{key}\" changes nothing here"));
    }
    Ok(warnings)
}

/// The smallest history that holds anything worth reading.
const HISTORY_MIN: u64 = 64 << 10;
const HISTORY: &str = "a size of 64K or more for each target (\"16M\"), or false";

fn history(given: &Raw) -> Option<u64> {
    if *given == Raw::Bool(false) {
        return Some(0);
    }
    plain(given).and_then(|text| parse_size(&text).ok()).filter(|size| *size >= HISTORY_MIN)
}

/// Reads where the daemon writes and listens on this host.
fn files(
    section: &Section<'_>,
    settings: &mut Settings,
    mut warn: impl FnMut(String),
) -> Result<(), ConfigError> {
    let table = match section.get("control") {
        Some(Raw::Table(_)) => section.section("control", CONTROL)?,
        _ => None,
    };
    if let Some(table) = &table {
        table.only(&["group", "path"], "control")?;
        settings.control_group =
            table.text("group", "the name of a group")?.or(settings.control_group.take());
    }
    let control = table.as_ref().map_or((section, "control", CONTROL), |table| (table, "path", FILE));
    for (key, (section, name, allowed), into) in [
        ("logfile", (section, "logfile", FILE), &mut settings.logfile),
        ("pidfile", (section, "pidfile", FILE), &mut settings.pidfile),
        ("statusFile", (section, "statusFile", FILE), &mut settings.status_file),
        ("control", control, &mut settings.control),
    ] {
        let Some(path) = section.path(name, allowed)? else { continue };
        if path.is_relative() {
            warn(format!("\"{key}\" is relative: a daemon starts in \"/\""));
        }
        replace(into, path, || warn(format!("\"{key}\" was set before; this value holds")));
    }
    Ok(())
}

/// Reads who is served and told.
fn served(section: &Section<'_>, settings: &mut Settings) -> Result<(), ConfigError> {
    if let Some(given) = section.get("http") {
        settings.http = Some(http(section, given)?);
    }
    if let Some(given) = section.get("agentCheck") {
        settings.agent_checks = agent_checks(section, given)?;
    }
    if let Some(given) = section.get("history") {
        settings.history = history(given).ok_or_else(|| section.wrong("history", given, HISTORY))?;
    }
    if section.get("notify").is_some() {
        settings.notify = super::notify::notify(section)?;
    }
    Ok(())
}

const FILE: &str = "the path of a file";
const CONTROL: &str = "the path of a file, or { path = …, group = \"adm\" }";
const HTTP: &str = "\"HOST:PORT\", or { listen = \"HOST:PORT\", token = … or tokenFile = … }";
const AGENT_CHECK: &str = "{ listen = \"HOST:PORT\", maxLag = … }, or a list of such tables";
const TOKEN: &str = "a secret of at least 16 characters";

fn http(section: &Section<'_>, given: &Raw) -> Result<Http, ConfigError> {
    if let Some(listen) = word(given) {
        return Ok(Http { listen, token: None });
    }
    let Some(table) = section.section("http", HTTP)? else { return Err(section.wrong("http", given, HTTP)) };
    table.only(&["listen", "token", "tokenFile"], "http")?;
    let Some(listen) = table.text("listen", "\"HOST:PORT\"")? else {
        return Err(section.wrong("http", given, HTTP));
    };
    let mut token = table.text("token", TOKEN)?;
    if let (Some(path), Some(raw)) = (table.path("tokenFile", "the path of a file")?, table.get("tokenFile"))
    {
        let text = crate::disk::read_whole(&path).ok().and_then(|text| String::from_utf8(text).ok());
        let text = text.ok_or_else(|| table.wrong("tokenFile", raw, "a file that can be read"))?;
        let line = text.trim_start_matches('\u{feff}').lines().next();
        token = Some(line.unwrap_or_default().trim().to_owned());
    }
    let short = token.as_ref().is_some_and(|token| token.chars().count() < 16);
    if short {
        // Not the token itself: messages end in logs.
        return Err(table.wrong("token", &Raw::Other("shorter text"), TOKEN));
    }
    Ok(Http { listen, token: token.map(Token) })
}

fn agent_checks(section: &Section<'_>, given: &Raw) -> Result<Vec<AgentCheck>, ConfigError> {
    let wrong = |given: &Raw| section.wrong("agentCheck", given, AGENT_CHECK);
    let Raw::Table(table) = given else { return Err(wrong(given)) };
    let tables = if table.named.is_empty() { section.list("agentCheck", AGENT_CHECK)? } else { vec![given] };
    let one = |raw: &Raw| {
        let Raw::Table(table) = raw else { return Err(wrong(raw)) };
        let check = Section { place: section.place, prefix: "agentCheck.".to_owned(), table };
        check.only(&["listen", "target", "maxLag", "downLag"], "agentCheck")?;
        let listen = check.text("listen", "\"HOST:PORT\"")?.ok_or_else(|| wrong(raw))?;
        Ok(AgentCheck {
            listen,
            target: check.text("target", "the name of a target")?,
            max_lag: check.duration("maxLag")?.unwrap_or(AgentCheck::MAX_LAG),
            down_lag: check.duration("downLag")?,
        })
    };
    tables.into_iter().map(one).collect()
}

fn allowed(section: &Section<'_>, settings: &mut Settings) -> Result<(), ConfigError> {
    let Some(given) = section.get("allowTargets") else { return Ok(()) };
    let rules = section.words("allowTargets", NETWORKS)?;
    settings.allowed = Allowed::parse(&rules).map_err(|bad| {
        let given = if rules.len() > 1 { lit(&bad) } else { given.clone() };
        section.wrong("allowTargets", &given, NETWORKS)
    })?;
    Ok(())
}

fn replace(into: &mut Option<PathBuf>, path: PathBuf, other: impl FnOnce()) {
    if into.as_ref().is_some_and(|before| *before != path) {
        other();
    }
    *into = Some(path);
}
