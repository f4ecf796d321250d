//! Values of options that are words, checked one by one.

use std::ffi::OsStr;

use super::output::{Output, Progress};
use super::units::ValueError;
use super::words::split_words;
use crate::config::AgentSource;

/// Returns `value` as text.
///
/// # Errors
/// [`ValueError::Utf8`] for other bytes.
pub(super) fn text(value: &OsStr) -> Result<&str, ValueError> {
    value.to_str().ok_or(ValueError::Utf8)
}

/// Parses `--agent`.
///
/// # Errors
/// [`ValueError`] for an empty command or an open quote.
pub(super) fn parse_agent(value: &str) -> Result<AgentSource, ValueError> {
    Ok(match value {
        "auto" => AgentSource::Auto,
        "path" => AgentSource::Path,
        "deploy" => AgentSource::Deploy,
        command => AgentSource::Command(split_words(command)?),
    })
}

/// Parses `--info`: `progress2,stats0,name`.
///
/// # Errors
/// [`ValueError::Info`] for a flag that speil lacks.
pub(super) fn parse_info(flags: &str, output: &mut Output) -> Result<(), ValueError> {
    for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
        let name = flag.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
        let level = flag.get(name.len()..).unwrap_or_default();
        let level = if level.is_empty() { 1 } else { level.parse::<u8>().unwrap_or(u8::MAX) };
        match name.as_str() {
            "progress" if level == 0 => output.progress = Progress::Never,
            "progress" => output.progress = Progress::Lines,
            "stats" => output.stats = level,
            "name" => output.names = Some(level > 0),
            // It announces the file list, which speil does not do.
            "flist" if level == 0 => {}
            _ => return Err(ValueError::Info(flag.escape_debug().to_string())),
        }
    }
    Ok(())
}

/// Returns whether `--chown` names a user and a group.
///
/// # Errors
/// [`ValueError::Chown`] if it names neither, or more.
pub(super) fn check_chown(value: &str) -> Result<(bool, bool), ValueError> {
    let (user, group) = value.split_once(':').unwrap_or((value, ""));
    if (user.is_empty() && group.is_empty()) || group.contains(':') {
        return Err(ValueError::Chown);
    }
    Ok((!user.is_empty(), !group.is_empty()))
}

/// Returns the single changes of `--chmod`.
///
/// # Errors
/// [`ValueError::Chmod`] for a change in neither of the forms `D2755` and `Fug+rwX,o-w`.
pub(super) fn check_chmod(value: &str) -> Result<Vec<String>, ValueError> {
    value
        .split(',')
        .map(|part| if is_chmod(part) { Ok(part.to_owned()) } else { Err(bad_chmod(part)) })
        .collect()
}

fn bad_chmod(part: &str) -> ValueError {
    ValueError::Chmod(part.escape_debug().to_string())
}

fn is_chmod(part: &str) -> bool {
    let body = part.trim_start_matches(['D', 'F']);
    if !body.is_empty() && body.chars().all(|c| ('0'..='7').contains(&c)) {
        return body.len() <= 4;
    }
    let actions = body.trim_start_matches(['u', 'g', 'o', 'a']);
    actions.starts_with(['+', '-', '=']) && actions.chars().all(|c| "+-=rwxXstugo".contains(c))
}
