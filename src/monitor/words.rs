//! Counts, sizes and spans as people read them.

use std::time::Duration;

/// Returns a count with its noun: `1 entry`, `2 entries`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Returns a number of bytes in the largest unit of 1000 that leaves something before the point.
pub fn sized(bytes: u64) -> String {
    if bytes < 1000 {
        return counted(bytes, "byte", "bytes");
    }
    let (mut value, mut unit) = (bytes as f64 / 1000.0, "kB");
    for larger in ["MB", "GB", "TB", "PB"] {
        // What would be rounded up to 1000.0 is 1.0 of the next.
        if value < 999.95 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    format!("{value:.1} {unit}")
}

/// Returns how long `left` bytes take if that goes on as fast as it went, of `first` bytes, for as long as it `took`;
/// `None` if nothing is done yet, or if no span is as long.
pub fn time_left(first: u64, left: u64, took: Duration) -> Option<Duration> {
    let done = first.saturating_sub(left);
    if done == 0 || took.is_zero() {
        return None;
    }
    // The bytes may be another host's word.
    Duration::try_from_secs_f64(took.as_secs_f64() * left as f64 / done as f64).ok()
}

/// Returns a span in its largest unit that counts more than one.
pub fn spanned(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done_tells() {
        let second = Duration::from_secs(1);
        assert_eq!(time_left(300, 200, second), Some(2 * second));
        assert_eq!(time_left(300, 300, second), None);
        assert_eq!(time_left(200, 300, second), None);
        assert_eq!(time_left(300, 200, Duration::ZERO), None);
        assert_eq!(time_left(u64::MAX, u64::MAX - 1, Duration::from_secs(86_400)), None);
    }

    #[test]
    fn a_noun_agrees_with_its_count_and_units_with_what_they_measure() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "entry", "entries")), ["0 entries", "1 entry", "2 entries"]);
        let sizes = [1, 999, 1000, 48_203_911, 999_949_999, 999_950_000, u64::MAX].map(sized);
        assert_eq!(sizes, ["1 byte", "999 bytes", "1.0 kB", "48.2 MB", "999.9 MB", "1.0 GB", "18446.7 PB"]);
        assert_eq!([0, 119, 120, 7200, 172_800].map(spanned), ["0 s", "119 s", "2 min", "2 h", "2 days"]);
    }
}
