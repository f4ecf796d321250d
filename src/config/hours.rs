//! A rate by day of the week and time of day.
//!
//! **In → Out:** `["mon-fri 08:00-18:00"] = "5M"` → [`Hours`]; a local time → the rate that holds. Pure.

use super::error::ConfigError;
use super::raw::{Raw, Section, plain};
use super::units::parse_bwlimit;

const RATE: &str =
    "KiB a second (500), a size a second (\"20M\"), or { \"50M\", [\"mon-fri 08:00-18:00\"] = \"5M\" }";
const HOURS: &str = "[\"08:00-18:00\"] or [\"mon-fri 08:00-18:00\"], with a rate or false";
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DAY: u16 = 24 * 60;

/// Hours in which a rate of their own holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// Days on which they begin, from Sunday on.
    pub days: [bool; 7],
    /// The first minute of the day.
    pub from: u16,
    /// The minute after the last; before `from`, it is of the next day.
    pub to: u16,
    /// Most bytes a second; no limit if `None`.
    pub rate: Option<u64>,
}

impl Hours {
    /// Whether they hold at a minute of a day of the week, 0 for Sunday.
    fn hold(&self, weekday: usize, minute: u16) -> bool {
        let on = |day: usize| self.days.get(day % 7).copied().unwrap_or(false);
        if self.from < self.to {
            return on(weekday) && (self.from..self.to).contains(&minute);
        }
        (on(weekday) && minute >= self.from) || (on(weekday + 6) && minute < self.to)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (days, span) = match (words.next()?, words.next(), words.next()) {
            (span, None, None) => ([true; 7], span),
            (days, Some(span), None) => (parse_days(days)?, span),
            _ => return None,
        };
        let (from, to) = span.split_once('-')?;
        let (from, to) = (parse_minute(from)?, parse_minute(to)?);
        (from < DAY && from != to).then_some(Self { days, from, to, rate: None })
    }
}

/// Returns the rate that holds: `rate` where no hours say otherwise, of several the lowest.
pub fn rate_at(rate: Option<u64>, hours: &[Hours], weekday: usize, minute: u16) -> Option<u64> {
    let holding: Vec<&Hours> = hours.iter().filter(|hours| hours.hold(weekday, minute)).collect();
    if holding.is_empty() { rate } else { holding.iter().filter_map(|hours| hours.rate).min() }
}

/// Returns hours as a clause: `mon-fri 08:00-18:00`.
pub(super) fn shown(hours: &Hours) -> String {
    let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    let days: Vec<&str> = DAYS.iter().zip(hours.days).filter(|(_, on)| *on).map(|(day, _)| *day).collect();
    let days = if days.len() == 7 { String::new() } else { format!("{} ", days.join(",")) };
    format!("{days}{}-{}", clock(hours.from), clock(hours.to))
}

/// Reads `bwlimit`: one rate, or a table with one at its first position and others under hours.
///
/// # Errors
/// [`ConfigError`] (die) for what is neither.
pub(super) fn bwlimit(section: &Section) -> Result<(Option<u64>, Vec<Hours>), ConfigError> {
    let Some(given) = section.get("bwlimit") else { return Ok((None, Vec::new())) };
    let Raw::Table(table) = given else {
        let rate = rate(given).ok_or_else(|| section.wrong("bwlimit", given, RATE))?;
        return Ok((rate, Vec::new()));
    };
    if let Some((_, stray)) = table.items.iter().find(|(position, _)| **position != 1) {
        return Err(section.wrong("bwlimit", stray, RATE));
    }
    let first = table.items.get(&1);
    let base = first
        .map_or(Some(None), rate)
        .ok_or_else(|| section.wrong("bwlimit", first.unwrap_or(given), RATE))?;
    let mut all = Vec::new();
    for (key, raw) in &table.named {
        let hours =
            Hours::parse(key).ok_or_else(|| section.wrong("bwlimit", &super::raw::lit(key), HOURS))?;
        let rate = rate(raw).ok_or_else(|| section.wrong(&format!("bwlimit[\"{key}\"]"), raw, RATE))?;
        all.push(Hours { rate, ..hours });
    }
    Ok((base, all))
}

fn rate(given: &Raw) -> Option<Option<u64>> {
    match given {
        Raw::Bool(false) => Some(None),
        given => plain(given).and_then(|text| parse_bwlimit(&text).ok()),
    }
}

fn parse_days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|day| name.eq_ignore_ascii_case(day));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        (0..=(last + 7 - first) % 7).for_each(|at| days[(first + at) % 7] = true);
    }
    Some(days)
}

fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| -> Option<u16> {
        let digits = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let at = number(hour)? * 60 + number(minute).filter(|minute| *minute < 60)?;
    (at <= DAY).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_hold_on_their_days_also_past_midnight() {
        let office = Hours { rate: Some(5), ..Hours::parse("mon-fri 08:00-18:00").unwrap() };
        let night = Hours { rate: None, ..Hours::parse("fri,sat 22:00-06:00").unwrap() };
        let slow = Hours { rate: Some(3), ..Hours::parse("12:00-13:00").unwrap() };
        let all = [office, night, slow];
        for (weekday, clock, rate) in [
            (1, (7, 59), Some(50)),
            (1, (8, 0), Some(5)),
            (5, (17, 59), Some(5)),
            (5, (18, 0), Some(50)),
            (0, (12, 30), Some(3)),
            (1, (12, 30), Some(3)),
            (5, (22, 0), None),
            (6, (5, 59), None),
            (0, (5, 59), None),
            (1, (5, 59), Some(50)),
            (5, (5, 59), Some(50)),
        ] {
            assert_eq!(rate_at(Some(50), &all, weekday, clock.0 * 60 + clock.1), rate, "{weekday} {clock:?}");
        }
        let always = Hours { rate: Some(1), ..Hours::parse("00:00-24:00").unwrap() };
        assert!((0..7).all(|day| {
            [0, 719, 1439].iter().all(|at| rate_at(None, std::slice::from_ref(&always), day, *at) == Some(1))
        }));
        assert_eq!(shown(&Hours::parse("Fri-Sun 9:00-24:00").unwrap()), "sun,fri,sat 09:00-24:00");
    }

    #[test]
    fn what_is_no_span_of_hours_is_refused() {
        for bad in [
            "",
            "08:00",
            "8-18",
            "08:00-08:00",
            "24:00-08:00",
            "08:60-09:00",
            "08:00-25:00",
            "mon",
            "moon 08:00-09:00",
            "mon- 08:00-09:00",
            "mon 08:00-09:00 x",
            "08:00 - 09:00",
            "+8:00-09:00",
        ] {
            assert_eq!(Hours::parse(bad), None, "{bad}");
        }
    }
}
