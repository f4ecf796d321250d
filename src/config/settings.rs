//! `settings{}` into [`Settings`].
//!
//! **Invariants:** later values replace earlier ones; keys of lsyncd's that mean nothing to speil are
//! accepted with a warning, so that an old file starts.

use std::path::PathBuf;

use crate::config::error::{ConfigError, Warning};
use crate::config::hooks::HOOKS;
use crate::config::raw::{Block, Raw, Section, lit, plain};
use crate::config::{LogFormat, Settings};

const KEYS: [&str; 20] = [
    "control",
    "hookTimeout",
    "inotifyMode",
    "insist",
    "logFormat",
    "logfacility",
    "logfile",
    "logident",
    "maxDelays",
    "maxProcesses",
    "nodaemon",
    "onBatch",
    "onHeld",
    "onProblem",
    "onState",
    "onepass",
    "pidfile",
    "statusFile",
    "statusInterval",
    "statusIntervall",
];

/// lsyncd's keys that steer what speil does not have: child processes and a queue of events.
const FOREIGN: [&str; 3] = ["inotifyMode", "maxDelays", "maxProcesses"];

/// Adds what a block says to `settings`; returns what was noticed.
///
/// # Errors
/// [`ConfigError`] (die) for unknown keys and values of the wrong type.
pub(super) fn add(block: &Block, settings: &mut Settings) -> Result<Vec<Warning>, ConfigError> {
    let section = Section::of(block);
    section.only(&KEYS, "settings{}")?;
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(Warning { place: block.place.clone(), text });
    for (key, into) in [
        ("logfile", &mut settings.logfile),
        ("pidfile", &mut settings.pidfile),
        ("statusFile", &mut settings.status_file),
        ("control", &mut settings.control),
    ] {
        let Some(path) = section.path(key, "the path of a file")? else { continue };
        if path.is_relative() {
            warn(format!("\"{key}\" is relative: a daemon starts in \"/\""));
        }
        replace(into, path, || warn(format!("\"{key}\" was set before; this value holds")));
    }
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
    for key in HOOKS {
        if let Some(given) = section.get(key).filter(|&given| *given != Raw::Other("function")) {
            return Err(section.wrong(key, given, "a function"));
        }
    }
    if let Some(limit) = section.duration("hookTimeout")? {
        settings.hook_timeout = limit;
    }
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

fn replace(into: &mut Option<PathBuf>, path: PathBuf, other: impl FnOnce()) {
    if into.as_ref().is_some_and(|before| *before != path) {
        other();
    }
    *into = Some(path);
}
