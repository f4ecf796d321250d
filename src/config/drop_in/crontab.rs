//! When the patterns of `crontab` are due, on the wall clock.
//!
//! **In → out:** `sec min hour day month weekday`, each `*`, a number, a range, a list, or a step → the next
//! moment. **Invariants:** pure, but for the time zone, which is asked through a function; all six fields must
//! fit. **Sources:** crontab(5); lsyncd's manual.

/// A moment in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// Second, minute, hour, day of the month from 1, month from 1, weekday from Sunday as 0.
    pub parts: [u32; 6],
}

const NAMES: [&str; 6] = ["second", "minute", "hour", "day", "month", "weekday"];
const RANGES: [(u32, u32); 6] = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
/// No pattern is looked for beyond this many days: the 29th of February comes every eight years at worst.
const DAYS_MAX: u32 = 366 * 9;

/// One pattern: the numbers that fit, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crontab {
    bits: [u64; 6],
}

impl Crontab {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.len() != 6 {
            return Err(format!("crontab \"{text}\" has {} fields, not 6", words.len()));
        }
        let mut bits = [0; 6];
        for (((word, bits), range), name) in words.iter().zip(&mut bits).zip(RANGES).zip(NAMES) {
            *bits = field(word, range).ok_or_else(|| format!("crontab \"{text}\": {name} \"{word}\""))?;
        }
        // Sunday is 0 and 7.
        if bits[5] & 1 << 7 != 0 {
            bits[5] |= 1;
        }
        Ok(Self { bits })
    }

    fn fits(&self, at: &Fields, field: usize) -> bool {
        let (Some(bits), Some(part)) = (self.bits.get(field), at.parts.get(field)) else { return false };
        bits & (1 << (*part).min(63)) != 0
    }

    /// Returns the first moment after `after` that fits, in seconds since the epoch; `local` says what a
    /// moment is called here. `None` if none comes.
    pub fn next(&self, after: i64, local: impl Fn(i64) -> Fields) -> Option<i64> {
        let mut at = after + 1;
        let mut days = 0;
        while days <= DAYS_MAX {
            let now = local(at);
            let [second, minute, hour, ..] = now.parts.map(i64::from);
            if (3..6).any(|field| !self.fits(&now, field)) {
                at += 86_400 - (hour * 3600 + minute * 60 + second);
                days += 1;
            } else if !self.fits(&now, 2) {
                at += 3600 - (minute * 60 + second);
            } else if !self.fits(&now, 1) {
                at += 60 - second;
            } else if !self.fits(&now, 0) {
                at += 1;
            } else {
                return Some(at);
            }
        }
        None
    }
}

/// Returns the numbers that a field names, one bit each.
fn field(word: &str, (low, high): (u32, u32)) -> Option<u64> {
    let mut bits = 0;
    for part in word.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => {
                let only = range.parse().ok()?;
                (only, if part.contains('/') { high } else { only })
            }
        };
        if first < low || last > high || first > last {
            return None;
        }
        for number in (first..=last).step_by(step) {
            bits |= 1 << number;
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days are counted from a Thursday; months have 30 days, which is enough to step over.
    fn calendar(at: i64) -> Fields {
        let day = at.div_euclid(86_400);
        let part = |number: i64| u32::try_from(number).unwrap();
        Fields {
            parts: [
                part(at.rem_euclid(60)),
                part(at.rem_euclid(3600) / 60),
                part(at.rem_euclid(86_400) / 3600),
                part(day.rem_euclid(30) + 1),
                part(day.div_euclid(30).rem_euclid(12) + 1),
                part((day + 4).rem_euclid(7)),
            ],
        }
    }

    fn next(text: &str, after: i64) -> Option<i64> {
        Crontab::parse(text).unwrap().next(after, calendar)
    }

    #[test]
    fn the_next_moment_is_the_first_that_fits_all_fields() {
        assert_eq!(next("* * * * * *", 7), Some(8));
        assert_eq!(next("*/5 * * * * *", 5), Some(10));
        assert_eq!(next("0 0 3 * * *", 0), Some(3 * 3600));
        assert_eq!(next("0 0 3 * * *", 3 * 3600), Some(27 * 3600));
        assert_eq!(next("30 15,45 * * * *", 16 * 60), Some(45 * 60 + 30));
        assert_eq!(next("0 0 0 * * 0", 0), Some(3 * 86_400));
        assert_eq!(next("0 0 0 * * 7", 0), Some(3 * 86_400));
        assert_eq!(next("0 0 0 1 2 *", 0), Some(30 * 86_400));
        assert_eq!(next("10-12 5/20 * * * *", 0), Some(5 * 60 + 10));
        assert_eq!(next("0 0 0 31 * *", 0), None);
    }

    #[test]
    fn what_is_no_pattern_is_refused_by_its_field() {
        for (text, says) in [
            ("* * * * *", "has 5 fields"),
            ("60 * * * * *", "second \"60\""),
            ("* * 5-3 * * *", "hour \"5-3\""),
            ("* */0 * * * *", "minute \"*/0\""),
            ("* * * x * *", "day \"x\""),
        ] {
            assert!(Crontab::parse(text).unwrap_err().contains(says), "{text}");
        }
    }
}
