//! Moments as people say them on the command line.

use crate::config::parse_duration;
use crate::protocol::Since;
use crate::tree::Time;

/// Returns the moment that a text names: RFC 3339, `HH:MM` of today here, or a span before now, with or
/// without "ago".
///
/// # Errors
/// What was expected.
pub(super) fn since(text: &str) -> Result<Since, String> {
    let text = text.trim();
    if let Some(time) = Time::from_rfc3339(text) {
        return Ok(Since::At(time));
    }
    if let Some(time) = today(text, Time::now()) {
        return Ok(Since::At(time));
    }
    let span = text.strip_suffix("ago").unwrap_or(text);
    match parse_duration(span) {
        Ok(span) => Ok(Since::Ago(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))),
        Err(_) => Err("expected 2026-03-01T12:00:00Z, 14:30 or 10m".to_owned()),
    }
}

/// Returns a time of day of the local day that `now` lies in; of the day before if it is yet to come.
fn today(text: &str, now: Time) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| -> Option<i32> {
        let digits = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    if hour > 23 || minute > 59 {
        return None;
    }
    let mut at = local(now.secs, hour, minute, 0)?;
    if at > now.secs {
        at = local(now.secs, hour, minute, 1)?;
    }
    Some(Time { secs: at, nanos: 0 })
}

/// Returns the moment of a time of day, so many days before the local day of `now`.
fn local(now: i64, hour: i32, minute: i32, days_before: i32) -> Option<i64> {
    // SAFETY: `parts` is plain data, which localtime_r fills and mktime reads.
    unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut parts).is_null() {
            return None;
        }
        (parts.tm_hour, parts.tm_min, parts.tm_sec) = (hour, minute, 0);
        parts.tm_mday -= days_before;
        // Whether summer is on is for the zone to say.
        parts.tm_isdst = -1;
        Some(libc::mktime(&mut parts)).filter(|&at| at != -1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_a_time_of_day_or_a_span() {
        assert_eq!(since("1970-01-01T00:01:00Z"), Ok(Since::At(Time { secs: 60, nanos: 0 })));
        for span in ["10m", "10m ago", "600"] {
            assert_eq!(since(span), Ok(Since::Ago(600_000)), "{span}");
        }
        for bad in ["", "yesterday", "25:00", "12:60", "12:3x", "2026-03-01"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_of_day_lies_within_the_day_that_is_over() {
        let now = Time { secs: 1_772_000_000, nanos: 0 };
        for text in ["0:00", "12:30", "23:59"] {
            let at = today(text, now).unwrap();
            assert!(at <= now && now.secs - at.secs <= 25 * 3600, "{text}: {at:?}");
        }
    }
}
