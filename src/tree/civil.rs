//! Moments as people write them: RFC 3339, in UTC.

use super::Time;

impl Time {
    /// Returns the moment of a time of day in UTC; months and days count from 1.
    /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    pub fn from_civil(date: (i64, u32, u32), second_of_day: i64, nanos: u32) -> Self {
        let (year, month, day) = date;
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let yoe = year.rem_euclid(400);
        let month = i64::from(month);
        let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + i64::from(day) - 1;
        let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
        let days = era * 146_097 + doe - 719_468;
        Self { secs: days * 86_400 + second_of_day, nanos }
    }

    /// Returns the moment as RFC 3339 in UTC, to the microsecond: `2026-03-01T12:00:00.000000Z`.
    pub fn rfc3339(self) -> String {
        let (year, month, day) = self.date();
        let second = self.secs.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let micros = self.nanos / 1000;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }

    /// Returns the moment that a text of RFC 3339 names, with a zone (`Z`, `+02:00`); blanks may stand
    /// for the `T`. `None` for anything else.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once(['T', 't', ' '])?;
        let mut date = date.split('-').map(number);
        let (year, month, day) = (date.next()??, date.next()??, date.next()??);
        if date.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 9999 {
            return None;
        }
        let zone_at = rest.find(['Z', 'z', '+', '-'])?;
        let (clock, zone) = (rest.get(..zone_at)?, rest.get(zone_at..)?);
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let mut clock = clock.split(':').map(number);
        let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
        if clock.next().is_some() || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        let day_second = hour * 3600 + minute * 60 + second;
        let at =
            Self::from_civil((year, u32::try_from(month).ok()?, u32::try_from(day).ok()?), day_second, nanos);
        Some(Self { secs: at.secs - offset(zone)?, nanos })
    }
}

/// Returns the digits of a text as a number.
fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Returns the seconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_survive_being_written_and_read() {
        for secs in [0, -1, 951_782_400, 1_709_208_000, 4_102_444_799, 253_402_300_799] {
            let time = Time { secs, nanos: 123_456_000 };
            assert_eq!(Time::from_rfc3339(&time.rfc3339()), Some(time), "{}", time.rfc3339());
        }
        assert_eq!(Time { secs: 951_827_696, nanos: 7_000 }.rfc3339(), "2000-02-29T12:34:56.000007Z");
    }

    #[test]
    fn zones_count_and_what_is_no_moment_is_refused() {
        let noon = Some(Time { secs: 951_825_600, nanos: 0 });
        for text in ["2000-02-29T12:00:00Z", "2000-02-29 14:30:00+02:30", "2000-02-29t11:00:00.0-01:00"] {
            assert_eq!(Time::from_rfc3339(text), noon, "{text}");
        }
        for bad in
            ["", "2000-02-29", "2000-02-29T12:00:00", "2000-13-01T00:00:00Z", "2000-01-01T00:00:00.Z", "xT1Z"]
        {
            assert_eq!(Time::from_rfc3339(bad), None, "{bad}");
        }
    }
}
