//! Keys of speil's own layer about what the targets keep and prove.

use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::raw::{Raw, Section, lit, plain};
use crate::config::units::{UnitError, parse_duration, parse_size};
use crate::config::{Scrub, Trash};

/// Reads `trash`.
///
/// # Errors
/// [`ConfigError`] (die) for anything but what can be kept.
pub(super) fn trash(section: &Section) -> Result<Option<Trash>, ConfigError> {
    const ALLOWED: &str = "{ keep = \"7d\", max = \"10G\" }, true or false";
    let mut trash = Trash::default();
    match section.get("trash") {
        None | Some(Raw::Bool(false)) => return Ok(None),
        Some(Raw::Bool(true)) => return Ok(Some(trash)),
        Some(_) => {}
    }
    let Some(section) = section.section("trash", ALLOWED)? else { return Ok(None) };
    section.only(&["keep", "max"], "trash")?;
    match (section.duration("keep")?, section.get("keep")) {
        (Some(Duration::ZERO), Some(given)) => return Err(section.wrong("keep", given, "more than 0")),
        (Some(keep), _) => trash.keep = keep,
        (None, _) => {}
    }
    if let Some(given) = section.get("max") {
        let size = plain(given).and_then(|text| parse_size(&text).ok()).filter(|&size| size > 0);
        trash.max = size.ok_or_else(|| section.wrong("max", given, "a size (\"10G\")"))?;
    }
    Ok(Some(trash))
}

/// Reads `scrub`.
///
/// # Errors
/// [`ConfigError`] (die) for anything but a mode, or a table of what a scrub can be told.
pub(super) fn scrub(section: &Section) -> Result<Option<Scrub>, ConfigError> {
    const MODE: &str = "\"report\", \"repair\" or \"off\"";
    const ALLOWED: &str =
        "\"report\", \"repair\", \"off\" or { mode = \"report\", interval = \"7d\", rate = \"20M\" }";
    let modes = [
        (lit("report"), Some(false)),
        (lit("repair"), Some(true)),
        (lit("off"), None),
        (Raw::Bool(false), None),
    ];
    let (mut mode, mut scrub) = (None, Scrub::default());
    if !matches!(section.get("scrub"), Some(Raw::Table(_))) {
        section.choice("scrub", &modes, ALLOWED, &mut mode)?;
        return Ok(mode.map(|repair| Scrub { repair, ..scrub }));
    }
    let Some(section) = section.section("scrub", ALLOWED)? else { return Ok(None) };
    section.only(&["interval", "mode", "rate"], "scrub")?;
    mode = Some(false);
    section.choice("mode", &modes, MODE, &mut mode)?;
    match (section.duration("interval")?, section.get("interval")) {
        (Some(Duration::ZERO), Some(given)) => return Err(section.wrong("interval", given, "more than 0")),
        (Some(interval), _) => scrub.interval = interval,
        (None, _) => {}
    }
    if let Some(given) = section.get("rate") {
        let rate = plain(given).and_then(|text| parse_size(&text).ok()).filter(|&rate| rate > 0);
        scrub.rate = rate.ok_or_else(|| section.wrong("rate", given, "a size a second (\"20M\")"))?;
    }
    Ok(mode.map(|repair| Scrub { repair, ..scrub }))
}

/// Returns what a text says of the trash: `7d`, `7d,10G`, or `off`.
///
/// # Errors
/// [`UnitError`] for what is no duration or no size, or is 0.
pub fn parse_trash(text: &str) -> Result<Option<Trash>, UnitError> {
    if matches!(text, "off" | "0") {
        return Ok(None);
    }
    let (keep, max) = text.split_once(',').map_or((text, None), |(keep, max)| (keep, Some(max)));
    let keep = parse_duration(keep)?;
    let max = max.map_or(Ok(Trash::default().max), parse_size)?;
    if keep.is_zero() {
        return Err(UnitError::Duration);
    }
    if max == 0 { Err(UnitError::Size) } else { Ok(Some(Trash { keep, max })) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trash_has_an_age_and_a_size() {
        let trash = |days: u64, max| Some(Trash { keep: Duration::from_secs(days * 86_400), max });
        assert_eq!(parse_trash("7d"), Ok(Some(Trash::default())));
        assert_eq!(parse_trash("2d,1G"), Ok(trash(2, 1 << 30)));
        assert_eq!(parse_trash("off"), Ok(None));
        for bad in ["", "7x", "7d,", "7d,0", "0s,1G"] {
            assert!(parse_trash(bad).is_err(), "{bad}");
        }
    }
}
