//! Values of options that are words, checked one by one.

use std::ffi::OsStr;
use std::time::Duration;

use super::output::{Output, Progress};
use crate::config::{self, AgentSource, MaxDelete, UnitError, parse_size, split_words};
use crate::tree::Chmod;

/// Why a value was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Bytes that are no UTF-8 where text is needed.
    #[error("not valid UTF-8")]
    Utf8,
    /// No number of the needed kind.
    #[error("expected a whole number")]
    Number,
    /// None of the known words.
    #[error("expected one of {0}")]
    Word(&'static str),
    /// A shell line where words are expected.
    #[error("{0} would need a shell; speil runs none on the target")]
    Shell(char),
    /// A program in front of rsync that speil does not pass on.
    #[error("only sudo, doas, nice and ionice may come before the program, not \"{0}\"")]
    Leader(String),
    /// Arguments for the remote program.
    #[error("\"{0}\" is an argument for rsync itself; the agent on the target is speil")]
    RemoteArgument(String),
    /// A leader without the program.
    #[error("the program after \"{0}\" is missing")]
    NoProgram(String),
    /// A list on another host.
    #[error("a list on another host is not read; copy it here, or use \"-\" for standard input")]
    RemoteList,
    /// Standard input asked for twice.
    #[error("standard input can be read only once")]
    StdinTwice,
    /// Files of rules that name each other.
    #[error("files of rules name each other, more than 16 within each other")]
    Merges,
    /// A path of which a part is not to be made on the target.
    #[error(
        "line \"{0}\" has /./ in it, which leaves out what is before it on the target; name that directory as SOURCE"
    )]
    Dotted(String),
    /// No quantity, or no words.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// A path in a list that is unusable.
    #[error(transparent)]
    Path(#[from] crate::tree::PathError),
    /// An escape of `--out-format`.
    #[error(transparent)]
    Format(#[from] super::format::FormatError),
    /// A part of `--chmod`.
    #[error("\"{0}\" is no mode change; expected forms such as u=rwX,go-w, D2755 or F640")]
    Chmod(String),
    /// A flag of `--info`.
    #[error(
        "\"{0}\" is not available; speil has progress, progress2, stats, name, del and none, and turns others off"
    )]
    Info(String),
    /// An owner and group.
    #[error(transparent)]
    Chown(#[from] crate::tree::ChownError),
    /// A filter rule that means something else once the source's name is part of the target.
    #[error(
        "it may match SOURCE itself, whose name is part of every path when SOURCE has no trailing slash; \
         add the slash to SOURCE and the name to TARGET, and write the pattern from there"
    )]
    Anchor,
}

/// Returns `value` as text.
///
/// # Errors
/// [`ValueError::Utf8`] for other bytes.
pub(super) fn text(value: &OsStr) -> Result<&str, ValueError> {
    value.to_str().ok_or(ValueError::Utf8)
}

/// Parses a size in bytes as rsync's `--max-size`: `1.5m`, `10K`, and one byte more or less with `+1` or `-1`.
///
/// # Errors
/// [`UnitError::Size`] for anything else.
pub(super) fn parse_bytes(text: &str) -> Result<u64, ValueError> {
    let less = text.strip_suffix("-1").map(|text| parse_size(text).map(|bytes| bytes.saturating_sub(1)));
    let more = text.strip_suffix("+1").map(|text| parse_size(text).map(|bytes| bytes.saturating_add(1)));
    Ok(less.or(more).unwrap_or_else(|| parse_size(text))?)
}

/// Parses a whole number of seconds as rsync's `--timeout`; 0 is no limit, which is a duration of 136
/// years.
///
/// # Errors
/// [`ValueError::Number`] for anything else.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, ValueError> {
    let seconds: u32 = text.parse().map_err(|_| ValueError::Number)?;
    Ok(Duration::from_secs(u64::from(if seconds == 0 { u32::MAX } else { seconds })))
}

/// Parses rsync's `--modify-window`: seconds; a negative number asks for nanoseconds, which speil
/// compares in any case.
///
/// # Errors
/// [`ValueError::Number`] for anything else.
pub(super) fn parse_window(text: &str) -> Result<Duration, ValueError> {
    let seconds: i32 = text.parse().map_err(|_| ValueError::Number)?;
    Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Parses `--max-delete`: as [`config::parse_max_delete`](crate::config::parse_max_delete), and a negative
/// number for 0, as in rsync.
///
/// # Errors
/// [`UnitError::MaxDelete`] for anything else.
pub(super) fn parse_max_delete(text: &str) -> Result<MaxDelete, ValueError> {
    if text.parse::<i64>().is_ok_and(i64::is_negative) {
        return Ok(MaxDelete::Count(0));
    }
    Ok(config::parse_max_delete(text)?)
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
            "del" => output.deletes = Some(level > 0),
            "none" | "all" if level == 0 || name == "none" => {
                (output.progress, output.stats) = (Progress::Never, 0);
                (output.names, output.deletes) = (Some(false), Some(false));
            }
            // What speil does not tell at all, and what it tells under another name.
            "flist" | "misc" | "copy" | "backup" | "mount" | "nonreg" | "remove" | "skip" | "symsafe"
                if level == 0 => {}
            _ => return Err(ValueError::Info(flag.escape_debug().to_string())),
        }
    }
    Ok(())
}

/// Returns the single changes of `--chmod`.
///
/// # Errors
/// [`ValueError::Chmod`] for a change in neither of the forms `D2755` and `Fug+rwX,o-w`.
pub(super) fn check_chmod(value: &str) -> Result<Vec<String>, ValueError> {
    value
        .split(',')
        .map(|part| match Chmod::parse(part, 0) {
            Ok(chmod) if !chmod.is_empty() => Ok(part.to_owned()),
            _ => Err(ValueError::Chmod(part.escape_debug().to_string())),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_delete_zero_is_a_limit_and_a_negative_one_is_zero() {
        assert_eq!(parse_max_delete("0"), Ok(MaxDelete::Count(0)));
        assert_eq!(parse_max_delete("-1"), Ok(MaxDelete::Count(0)));
        assert_eq!(parse_max_delete("12.5%"), Ok(MaxDelete::Percent(12.5)));
        for bad in ["", "101%", "x", "-1%", "nan%"] {
            assert_eq!(parse_max_delete(bad), Err(UnitError::MaxDelete.into()), "{bad}");
        }
    }

    #[test]
    fn zero_seconds_is_no_timeout_and_a_negative_window_is_exact() {
        assert!(parse_seconds("0").unwrap() > Duration::from_secs(1_000_000_000));
        assert_eq!(parse_seconds("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_window("-1"), Ok(Duration::ZERO));
        assert_eq!(parse_window("2"), Ok(Duration::from_secs(2)));
    }
}
