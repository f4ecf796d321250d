//! Numbers in text, as rsync's `-h` levels write them.

/// How numbers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Numbers {
    /// `1234567` (`--no-h`).
    Plain,
    /// `1,234,567`.
    #[default]
    Grouped,
    /// `1.23M`, in units of 1000 (`-h`).
    Thousand,
    /// `1.18M`, in units of 1024 (`-hh`).
    Binary,
}

const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];

/// Returns a whole number.
pub(super) fn whole(number: u64, numbers: Numbers) -> String {
    match scaled(number as f64, numbers) {
        Some(text) => text,
        None if numbers == Numbers::Plain => number.to_string(),
        None => grouped(&number.to_string()),
    }
}

/// Returns a number with two decimals.
pub(super) fn decimal(number: f64, numbers: Numbers) -> String {
    if let Some(text) = scaled(number, numbers) {
        return text;
    }
    let text = format!("{number:.2}");
    match text.split_once('.') {
        Some((integer, rest)) if numbers != Numbers::Plain => format!("{}.{rest}", grouped(integer)),
        _ => text,
    }
}

/// Returns the number with a unit letter, where it is large enough for one.
fn scaled(number: f64, numbers: Numbers) -> Option<String> {
    let base = match numbers {
        Numbers::Plain | Numbers::Grouped => return None,
        Numbers::Thousand => 1000.0,
        Numbers::Binary => 1024.0,
    };
    if number < base {
        return None;
    }
    let (mut number, mut unit) = (number / base, 'K');
    for letter in UNITS.into_iter().skip(1) {
        if number < base {
            break;
        }
        (number, unit) = (number / base, letter);
    }
    Some(format!("{number:.2}{unit}"))
}

/// Puts a comma between groups of three digits.
fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len().saturating_mul(2));
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_write_what_rsync_writes() {
        for (number, plain, commas, thousand, binary) in [
            (35, "35", "35", "35", "35"),
            (1000, "1000", "1,000", "1.00K", "1,000"),
            (1_234_567, "1234567", "1,234,567", "1.23M", "1.18M"),
            (30_000_000, "30000000", "30,000,000", "30.00M", "28.61M"),
        ] {
            assert_eq!(whole(number, Numbers::Plain), plain);
            assert_eq!(whole(number, Numbers::Grouped), commas);
            assert_eq!(whole(number, Numbers::Thousand), thousand);
            assert_eq!(whole(number, Numbers::Binary), binary);
        }
        assert!(whole(u64::MAX, Numbers::Thousand).ends_with('P'));
        assert_eq!(decimal(60_014_904.0, Numbers::Grouped), "60,014,904.00");
        assert_eq!(decimal(60_014_904.0, Numbers::Thousand), "60.01M");
        assert_eq!(decimal(322.0, Numbers::Thousand), "322.00");
    }
}
