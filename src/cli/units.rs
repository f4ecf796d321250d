//! Durations, rates and counts as people write them.

use std::time::Duration;

use crate::config::MaxDelete;

/// Longest duration that is taken, in seconds: far beyond any use, and safe to add to a clock.
const SECONDS_MAX: f64 = 4_000_000_000.0;

/// Smallest rate that rsync takes, in bytes a second.
const RATE_MIN: f64 = 512.0;

/// Why a value was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Bytes that are no UTF-8 where text is needed.
    #[error("not valid UTF-8")]
    Utf8,
    /// No number of the needed kind.
    #[error("expected a whole number")]
    Number,
    /// No duration.
    #[error("expected a duration such as 30s, 5m, 1h or 500ms")]
    Duration,
    /// No rate.
    #[error("expected a rate in KiB a second, or with a suffix: 500, 1.5m, 10MB")]
    Rate,
    /// A rate too low to move anything.
    #[error("too small: at least 512 bytes a second, or 0 for no limit")]
    RateTooSmall,
    /// No count or share.
    #[error("expected a number, or a share such as 20%")]
    MaxDelete,
    /// None of the known words.
    #[error("expected one of {0}")]
    Word(&'static str),
    /// A quote that is never closed.
    #[error("a quote ({0}) is not closed")]
    Quote(char),
    /// No word at all.
    #[error("it is empty")]
    Empty,
    /// A shell line where words are expected.
    #[error("{0} would need a shell; speil runs none on the target")]
    Shell(char),
    /// A program in front of rsync that speil does not pass on.
    #[error("only sudo, doas, nice and ionice may stand before the program, not \"{0}\"")]
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
    /// A directory whose immediate content is asked for.
    #[error("line \"{0}\" ends in a slash, which asks for one level of the directory; add -r for all of it")]
    OneLevel(String),
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
    #[error("\"{0}\" is not available; speil has progress, progress2, stats and name")]
    Info(String),
    /// An owner and group.
    #[error("expected USER, USER:GROUP or :GROUP")]
    Chown,
    /// A filter rule that means something else once the source's name is part of the target.
    #[error(
        "it may match SOURCE itself, whose name is part of every path when SOURCE has no trailing slash; \
         add the slash to SOURCE and the name to TARGET, and write the pattern from there"
    )]
    Anchor,
}

/// Parses a duration: `90`, `90s`, `1.5h`, `1h30m`, `500ms`, `2d`, `1w`. A bare number is seconds.
///
/// # Errors
/// [`ValueError::Duration`] for anything else, and for more than about 126 years.
pub(super) fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let text = text.trim();
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let number: f64 = number.parse().map_err(|_| ValueError::Duration)?;
        total += number * seconds_per(unit, rest.len() == text.len() && tail.is_empty())?;
        rest = tail;
    }
    if text.is_empty() || !(0.0..=SECONDS_MAX).contains(&total) {
        return Err(ValueError::Duration);
    }
    Duration::try_from_secs_f64(total).map_err(|_| ValueError::Duration)
}

/// Returns the seconds of one `unit`; none is seconds where the number stands `alone`.
fn seconds_per(unit: &str, alone: bool) -> Result<f64, ValueError> {
    Ok(match unit.trim() {
        "" if alone => 1.0,
        "ms" => 0.001,
        "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return Err(ValueError::Duration),
    })
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

/// Parses rsync's `--bwlimit`: a decimal number with a suffix B, K, M, G, T or P (KiB without one;
/// `KB` is 1000 bytes, `K` and `KiB` are 1024), and `+1` or `-1` byte. Returns bytes a second, `None` for
/// no limit.
///
/// # Errors
/// [`ValueError::Rate`] for anything else, [`ValueError::RateTooSmall`] below 512 bytes a second.
pub(super) fn parse_rate(text: &str) -> Result<Option<u64>, ValueError> {
    let (text, shift) = match text {
        text if text.ends_with("+1") => (text.trim_end_matches("+1"), 1.0),
        text if text.ends_with("-1") => (text.trim_end_matches("-1"), -1.0),
        text => (text, 0.0),
    };
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| ValueError::Rate)?;
    let suffix = suffix.to_ascii_lowercase();
    let mut letters = suffix.chars();
    let power = match letters.next() {
        Some('b') => 0,
        None | Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return Err(ValueError::Rate),
    };
    let base: f64 = match letters.as_str() {
        "" | "ib" => 1024.0,
        "b" if power > 0 => 1000.0,
        _ => return Err(ValueError::Rate),
    };
    let bytes = number * base.powi(power) + shift;
    if bytes == 0.0 {
        return Ok(None);
    }
    if bytes < RATE_MIN {
        return Err(ValueError::RateTooSmall);
    }
    // The cast saturates.
    Ok(Some(bytes as u64))
}

/// Parses `--max-delete`: a count as in rsync (negative for no limit), or a share of the tree in percent.
///
/// # Errors
/// [`ValueError::MaxDelete`] for anything else.
pub(super) fn parse_max_delete(text: &str) -> Result<MaxDelete, ValueError> {
    if let Some(share) = text.strip_suffix('%') {
        let share: f64 = share.parse().map_err(|_| ValueError::MaxDelete)?;
        if !(0.0..=100.0).contains(&share) {
            return Err(ValueError::MaxDelete);
        }
        return Ok(MaxDelete::Percent(share));
    }
    let count: i64 = text.parse().map_err(|_| ValueError::MaxDelete)?;
    Ok(u64::try_from(count).map_or(MaxDelete::Unlimited, MaxDelete::Count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units_and_bare_seconds() {
        for (text, ms) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("0.5", 500),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "h", "-1", "1x", "1h30", "1.2.3s", "nan", "inf", "99999999999999999999w", "1 2"] {
            assert_eq!(parse_duration(bad), Err(ValueError::Duration), "{bad}");
        }
    }

    #[test]
    fn rates_are_kib_unless_a_suffix_says_otherwise() {
        for (text, bytes) in [
            ("1", 1024),
            ("1.5m", 1_572_864),
            ("1MB", 1_000_000),
            ("1MiB", 1_048_576),
            ("1K", 1024),
            ("600b", 600),
            ("2m+1", 2_097_153),
            ("1g-1", 1_073_741_823),
        ] {
            assert_eq!(parse_rate(text), Ok(Some(bytes)), "{text}");
        }
        assert_eq!(parse_rate("0"), Ok(None));
        assert_eq!(parse_rate("100b"), Err(ValueError::RateTooSmall));
        for bad in ["", "x", "1x", "1kb2", "-5", "1bb"] {
            assert_eq!(parse_rate(bad), Err(ValueError::Rate), "{bad}");
        }
    }

    #[test]
    fn max_delete_zero_is_a_limit_and_a_negative_one_is_none() {
        assert_eq!(parse_max_delete("0"), Ok(MaxDelete::Count(0)));
        assert_eq!(parse_max_delete("-1"), Ok(MaxDelete::Unlimited));
        assert_eq!(parse_max_delete("12.5%"), Ok(MaxDelete::Percent(12.5)));
        for bad in ["", "101%", "x", "-1%", "nan%"] {
            assert_eq!(parse_max_delete(bad), Err(ValueError::MaxDelete), "{bad}");
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
