//! Durations, sizes and word lists as people write them.
//!
//! **Purpose:** the one reading of `"15m"`, `"20M"` and `"ssh -i key"` for configuration files and the
//! command line. **Sources:** rsync(1) `--max-size`, `--bwlimit`, `--rsh`.

use std::time::Duration;

use crate::config::MaxDelete;

/// Longest duration that may be configured: ten years, in seconds.
const SECONDS_MAX: f64 = 10.0 * 366.0 * 86400.0;

/// Smallest rate that rsync takes, in bytes a second.
const RATE_MIN: f64 = 512.0;

/// Connections to one target at most, the first one included.
pub const CONNECTIONS_MAX: u8 = 16;

/// A text that is no quantity. Consequence: die; the configuration is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No duration.
    #[error("expected a duration such as 500ms, 30s, 15m or 1h30m")]
    Duration,
    /// Negative, or more than ten years.
    #[error("a duration must lie between 0 and ten years")]
    DurationRange,
    /// No size.
    #[error("expected a size such as 4096, 20M or 1.5G")]
    Size,
    /// No rate.
    #[error("expected a rate in KiB a second, or with a suffix: 500, 1.5m, 10MB")]
    Rate,
    /// A rate too low to move anything.
    #[error("too small: at least 512 bytes a second, or 0 for no limit")]
    RateTooSmall,
    /// No number of connections.
    #[error("expected a number from 1 to {CONNECTIONS_MAX}")]
    Connections,
    /// No limit on deletes.
    #[error("expected a number such as 100, a share such as 20%, or none")]
    MaxDelete,
    /// A quote without its partner.
    #[error("a quote ({0}) is not closed")]
    Quote(char),
    /// No word at all.
    #[error("it is empty")]
    Empty,
}

/// Returns the duration of `seconds`.
///
/// # Errors
/// [`UnitError::DurationRange`] for a negative number, no number, or more than ten years.
pub fn seconds(seconds: f64) -> Result<Duration, UnitError> {
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(UnitError::DurationRange);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| UnitError::DurationRange)
}

/// Returns the duration of a text: numbers with the units `ms`, `s`, `m`, `h`, `d`, `w`, one after
/// the other, or a plain number of seconds.
///
/// # Errors
/// [`UnitError::Duration`] for anything else, [`UnitError::DurationRange`] beyond ten years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(UnitError::Duration);
    }
    let mut total = 0.0;
    let mut last_unit = f64::INFINITY;
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or(UnitError::Duration)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let factor = match unit {
            "" if last_unit.is_infinite() && after.is_empty() => 1.0,
            "ms" => 0.001,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            "w" => 604_800.0,
            _ => return Err(UnitError::Duration),
        };
        // `1m1h` is a slip, not a duration.
        if factor >= last_unit {
            return Err(UnitError::Duration);
        }
        last_unit = factor;
        total += number * factor;
        rest = after.trim_start();
    }
    seconds(total)
}

/// Returns the duration of a text, `None` for `never`, `off` and `0`.
///
/// # Errors
/// As [`parse_duration`].
pub fn parse_interval(text: &str) -> Result<Option<Duration>, UnitError> {
    match text.trim() {
        "never" | "off" => Ok(None),
        text => Ok(Some(parse_duration(text)?).filter(|interval| !interval.is_zero())),
    }
}

/// Returns the bytes of a text: a plain number is bytes; `K M G T P` and `KiB …` count in 1024,
/// `KB …` in 1000, as rsync does.
///
/// # Errors
/// [`UnitError::Size`] for anything else, or more than 2^63.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let bytes = scaled(text, 1.0).ok_or(UnitError::Size)?;
    Ok(bytes.round() as u64)
}

/// Returns the bytes per second of a text as rsync's `--bwlimit` reads it: a plain number is KiB a
/// second, suffixes as in [`parse_size`], then `+1` or `-1` byte; `None` for 0, which is no limit.
///
/// # Errors
/// [`UnitError::Rate`] for anything else, [`UnitError::RateTooSmall`] below 512 bytes a second.
pub fn parse_bwlimit(text: &str) -> Result<Option<u64>, UnitError> {
    let text = text.trim();
    let (text, shift) = match (text.strip_suffix("+1"), text.strip_suffix("-1")) {
        (Some(text), _) => (text, 1.0),
        (_, Some(text)) => (text, -1.0),
        _ => (text, 0.0),
    };
    let rate = scaled(text, 1024.0).ok_or(UnitError::Rate)? + shift;
    if rate == 0.0 {
        return Ok(None);
    }
    if rate < RATE_MIN { Err(UnitError::RateTooSmall) } else { Ok(Some(rate.round() as u64)) }
}

/// Returns a number of connections to one target.
///
/// # Errors
/// [`UnitError::Connections`] for anything but 1 to 16.
pub fn parse_connections(text: &str) -> Result<u8, UnitError> {
    let count = text.trim().parse().ok().filter(|count| (1..=CONNECTIONS_MAX).contains(count));
    count.ok_or(UnitError::Connections)
}

/// Returns a number times its unit; one without a unit times `plain`.
fn scaled(text: &str, plain: f64) -> Option<f64> {
    let (number, unit) = split_number(text.trim())?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor = if unit.is_empty() {
        plain
    } else if unit == "b" {
        1.0
    } else {
        let base: f64 = match unit.get(1..) {
            Some("" | "ib") => 1024.0,
            Some("b") => 1000.0,
            _ => return None,
        };
        let power = unit.get(..1).and_then(|letter| "kmgtp".find(letter));
        base.powi(i32::try_from(power?).ok()?.saturating_add(1))
    };
    // Beyond 2^63 a float no longer says what was written.
    Some(number * factor).filter(|bytes| bytes.is_finite() && *bytes < 9.2e18)
}

/// Splits a leading decimal number off.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest.trim_start()))
}

/// Returns the limit of a text: a number of entries, a share (`50%`), or `none`.
///
/// # Errors
/// [`UnitError::MaxDelete`] for anything else, or a share beyond 100 %.
pub fn parse_max_delete(text: &str) -> Result<MaxDelete, UnitError> {
    let text = text.trim();
    if text == "none" {
        return Ok(MaxDelete::Unlimited);
    }
    let Some(share) = text.strip_suffix('%') else {
        return text.parse().map(MaxDelete::Count).map_err(|_| UnitError::MaxDelete);
    };
    match split_number(share.trim()) {
        Some((share, "")) if share <= 100.0 => Ok(MaxDelete::Percent(share)),
        _ => Err(UnitError::MaxDelete),
    }
}

/// Splits a command into words at blanks. Single and double quotes hold a word together; a quote
/// written twice within its own kind is one; a backslash is an ordinary character, as in rsync's `-e`.
///
/// # Errors
/// [`UnitError::Quote`] for a quote without its partner, [`UnitError::Empty`] for no word.
pub fn split_words(text: &str) -> Result<Vec<String>, UnitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(end) if end == c && chars.peek() == Some(&c) => {
                            chars.next();
                            word.push(c);
                        }
                        Some(end) if end == c => break,
                        Some(inside) => word.push(inside),
                        None => return Err(UnitError::Quote(c)),
                    }
                }
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if words.is_empty() { Err(UnitError::Empty) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<u128> {
        parse_duration(text).ok().map(|duration| duration.as_millis())
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("0.5s", 500),
            ("20ms", 20),
            ("15", 15_000),
            ("0", 0),
            ("2d", 172_800_000),
            (" 1w ", 604_800_000),
            ("1m500ms", 60_500),
        ] {
            assert_eq!(millis(text), Some(ms), "{text:?}");
        }
    }

    #[test]
    fn texts_that_are_no_duration_are_refused() {
        for text in
            ["", "m", "15x", "1m1h", "1h30", "-5s", "1.2.3s", "5 minutes", "1s1s", "1 2", "inf", "nan", "1e3"]
        {
            assert_eq!(parse_duration(text), Err(UnitError::Duration), "{text:?}");
        }
        for text in ["999w", "99999999999999999999w"] {
            assert_eq!(parse_duration(text), Err(UnitError::DurationRange), "{text:?}");
        }
        for number in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(seconds(number), Err(UnitError::DurationRange));
        }
    }

    #[test]
    fn an_interval_may_be_never() {
        assert_eq!(parse_interval("never"), Ok(None));
        assert_eq!(parse_interval("0"), Ok(None));
        assert_eq!(parse_interval("15m"), Ok(Some(Duration::from_secs(900))));
        assert!(parse_interval("sometimes").is_err());
    }

    #[test]
    fn sizes_count_in_1024_and_with_b_in_1000() {
        for (text, bytes) in [
            ("4096", 4096),
            ("20M", 20 << 20),
            ("1.5G", 3 << 29),
            ("1k", 1024),
            ("1KiB", 1024),
            ("1KB", 1000),
            ("2T", 2 << 40),
            ("7b", 7),
            ("0", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text:?}");
        }
        for text in ["", "M", "12Q", "1MX", "-1", "9P9", "99999999999P", "1é"] {
            assert_eq!(parse_size(text), Err(UnitError::Size), "{text:?}");
        }
    }

    #[test]
    fn rates_are_kib_unless_a_suffix_says_otherwise() {
        for (text, bytes) in [
            ("1", 1024),
            ("100", 102_400),
            ("1.5m", 1_572_864),
            ("1MB", 1_000_000),
            ("1MiB", 1_048_576),
            ("1K", 1024),
            ("600b", 600),
            ("2m+1", 2_097_153),
            ("1g-1", 1_073_741_823),
        ] {
            assert_eq!(parse_bwlimit(text), Ok(Some(bytes)), "{text}");
        }
        assert_eq!(parse_bwlimit("0"), Ok(None));
        assert_eq!(parse_bwlimit("100b"), Err(UnitError::RateTooSmall));
        for bad in ["", "x", "1x", "1kb2", "-5", "1bb"] {
            assert_eq!(parse_bwlimit(bad), Err(UnitError::Rate), "{bad}");
        }
    }

    #[test]
    fn max_delete_is_a_count_a_share_or_none() {
        assert_eq!(parse_max_delete("100"), Ok(MaxDelete::Count(100)));
        assert_eq!(parse_max_delete("0"), Ok(MaxDelete::Count(0)));
        assert_eq!(parse_max_delete("50%"), Ok(MaxDelete::Percent(50.0)));
        assert_eq!(parse_max_delete("12.5%"), Ok(MaxDelete::Percent(12.5)));
        assert_eq!(parse_max_delete("none"), Ok(MaxDelete::Unlimited));
        for text in ["", "%", "101%", "-1", "-1%", "nan%", "1.5", "half", "5%%"] {
            assert!(parse_max_delete(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn quotes_hold_a_word_together() {
        let words = |text| split_words(text).unwrap();
        assert_eq!(words("ssh -i '/a b/key'  -p 22 "), ["ssh", "-i", "/a b/key", "-p", "22"]);
        assert_eq!(words(r#"a"b c"d "" 'it''s' C:\x"#), ["ab cd", "", "it's", r"C:\x"]);
        assert_eq!(words("  ssh   -o 'ProxyCommand=nc %h %p' "), ["ssh", "-o", "ProxyCommand=nc %h %p"]);
        assert_eq!(words(r#"ssh -i "/my ""key""" -l''x"#), ["ssh", "-i", "/my \"key\"", "-lx"]);
        assert_eq!(words("ssh ''"), ["ssh", ""]);
        assert_eq!(words(r"ssh a\ b"), ["ssh", r"a\", "b"]);
        assert_eq!(split_words("  "), Err(UnitError::Empty));
        assert_eq!(split_words("a 'b"), Err(UnitError::Quote('\'')));
    }
}
