//! Progress of a pass: a bar on a terminal, rsync's line elsewhere if asked for.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::numbers;
use super::numbers::Numbers;
use super::output::{Output, Progress};
use crate::monitor::{sized, spanned};

/// Shortest time between two lines on a pipe.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// No estimate is given before.
const EARLY: Duration = Duration::from_secs(5);

/// Bytes of one kB in rsync's rates.
const KIB: f64 = 1024.0;

/// How far a pass has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// Files whose content was sent.
    pub sent_files: u64,
    /// Entries that are done.
    pub entries: u64,
    /// Entries that are known so far.
    pub entries_known: u64,
    /// Bytes of content that are done.
    pub bytes: u64,
    /// Bytes of content that are known so far.
    pub bytes_known: u64,
    /// Whether the walk is over, so that what is known is all there is.
    pub complete: bool,
    /// Since the start.
    pub elapsed: Duration,
    /// The large file that is being sent, quoted.
    pub current: Option<String>,
}

impl Passed {
    /// Returns rsync's progress line, without its leading carriage return.
    pub fn line(&self, numbers: Numbers, last: bool) -> String {
        let percent = match self.bytes_known {
            0 => 100,
            known => u128::from(self.bytes).saturating_mul(100) / u128::from(known),
        };
        let rate = self.bytes as f64 / self.elapsed.as_secs_f64().max(0.001);
        let left = self.bytes_known.saturating_sub(self.bytes) as f64;
        let seconds = match (last, rate > 0.0) {
            (true, _) => self.elapsed.as_secs(),
            (false, true) => (left / rate) as u64,
            (false, false) => 0,
        };
        let (rate, unit) = rate_text(rate);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let mut line = format!(
            "{:>15} {:>3}% {rate:>7.2}{unit}/s {hours:>4}:{minutes:02}:{:02}",
            numbers::whole(self.bytes, numbers),
            percent.min(100),
            seconds % 60,
        );
        if last {
            let left = self.entries_known.saturating_sub(self.entries);
            let check = if self.complete { "to" } else { "ir" };
            line.push_str(&format!(" (xfr#{}, {check}-chk={left}/{})", self.sent_files, self.entries_known));
        } else {
            line.push_str("  ");
        }
        line
    }
}

impl Passed {
    /// Returns what stands behind the bar, or in its place while nobody knows how much there is.
    fn words(&self) -> String {
        let grouped = |number| numbers::whole(number, Numbers::Grouped);
        let mut words = Vec::new();
        if !self.is_measured() {
            if self.entries_known == 0 {
                return "connecting".to_owned();
            }
            words.push(format!("{} entries read", grouped(self.entries_known)));
            if self.bytes > 0 {
                words.push(format!("{} sent", sized(self.bytes)));
            }
        } else {
            let rate = (self.bytes as f64 / self.elapsed.as_secs_f64().max(0.001)) as u64;
            let percent = self.percent();
            let share =
                if percent > 0 { format!("{percent}% of ") } else { format!("{} of ", sized(self.bytes)) };
            words.push(format!("{share}{}", sized(self.bytes_known)));
            words.push(format!("{} of {} entries", grouped(self.entries), grouped(self.entries_known)));
            words.push(format!("{}/s", sized(rate)));
            let left = self.bytes_known.saturating_sub(self.bytes);
            // An estimate made from too little is none.
            let early = self.elapsed < EARLY || percent == 0;
            words.extend(
                left.checked_div(rate)
                    .filter(|_| !early && left > 0)
                    .map(|left| format!("{} left", spanned(left.max(1)))),
            );
        }
        words.extend(self.current.clone());
        words.join(", ")
    }

    /// Whether it is known how much there is.
    fn is_measured(&self) -> bool {
        self.complete && self.bytes_known > 0
    }

    fn percent(&self) -> u64 {
        let share = u128::from(self.bytes).saturating_mul(100) / u128::from(self.bytes_known.max(1));
        u64::try_from(share).unwrap_or(100).min(100)
    }
}

fn rate_text(rate: f64) -> (f64, &'static str) {
    let kilo = rate / KIB;
    if kilo > KIB * KIB {
        (kilo / KIB / KIB, "GB")
    } else if kilo > KIB {
        (kilo / KIB, "MB")
    } else {
        (kilo, "kB")
    }
}

/// Shows progress.
#[derive(Debug)]
pub struct Meter {
    shown: Shown,
    numbers: Numbers,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines {
        last: Option<Duration>,
        /// A line stands without its end.
        open: bool,
    },
}

impl Meter {
    /// Returns the meter that `output` asks for; `terminal` says whether standard error is one.
    pub fn new(output: &Output, terminal: bool) -> Self {
        let silent = output.quiet || output.json;
        let shown = match output.progress {
            Progress::Never => Shown::Nothing,
            Progress::Auto | Progress::Lines if terminal && !silent => Shown::Bar(bar()),
            Progress::Lines if !silent => Shown::Lines { last: None, open: false },
            Progress::Auto | Progress::Lines => Shown::Nothing,
        };
        Self { shown, numbers: output.numbers }
    }

    /// Whether anything is shown.
    pub fn is_shown(&self) -> bool {
        !matches!(self.shown, Shown::Nothing)
    }

    /// Shows how far the pass has come; lines go to `out`, at most one a second.
    ///
    /// # Errors
    /// That of writing to `out`; consequence: skip, the pass goes on.
    pub fn update(&mut self, passed: &Passed, out: &mut impl Write) -> io::Result<()> {
        match &mut self.shown {
            Shown::Nothing => Ok(()),
            Shown::Bar(bar) => {
                let measured = passed.is_measured();
                bar.set_message(passed.words());
                if measured && bar.length() == Some(0) {
                    bar.set_style(style("{bar:30} {msg}"));
                }
                bar.set_length(if measured { passed.bytes_known.max(passed.bytes) } else { 0 });
                bar.set_position(passed.bytes);
                Ok(())
            }
            Shown::Lines { last, open } => {
                if last.is_some_and(|last| passed.elapsed.saturating_sub(last) < LINE_EVERY) {
                    return Ok(());
                }
                (*last, *open) = (Some(passed.elapsed), true);
                write!(out, "\r{}", passed.line(self.numbers, false))?;
                out.flush()
            }
        }
    }

    /// Ends the progress: the bar goes, the last line stays.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn finish(&mut self, passed: &Passed, out: &mut impl Write) -> io::Result<()> {
        match std::mem::replace(&mut self.shown, Shown::Nothing) {
            Shown::Nothing => Ok(()),
            Shown::Bar(bar) => {
                bar.finish_and_clear();
                Ok(())
            }
            Shown::Lines { .. } => {
                writeln!(out, "\r{}", passed.line(self.numbers, true))?;
                out.flush()
            }
        }
    }

    /// Ends a line that stands without its end, before another one is printed.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn make_room(&mut self, out: &mut impl Write) -> io::Result<()> {
        match &mut self.shown {
            Shown::Lines { open, .. } if *open => {
                *open = false;
                writeln!(out)
            }
            _ => Ok(()),
        }
    }

    /// Runs `print` with the bar out of the way.
    pub fn print<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(print),
            _ => print(),
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.set_style(style("{msg}"));
    bar.set_message(Passed::default().words());
    bar
}

/// The template is a constant; if indicatif took it no more, its own style would be shown.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(bytes: u64, seconds: u64) -> Passed {
        Passed {
            sent_files: 1,
            entries: 1,
            entries_known: 2,
            bytes,
            bytes_known: 30_000_000,
            complete: true,
            elapsed: Duration::from_secs(seconds),
            current: None,
        }
    }

    #[test]
    fn what_is_not_known_yet_is_not_estimated() {
        assert_eq!(Passed::default().words(), "connecting");
        let walking = Passed { entries_known: 12_000, ..Passed::default() };
        assert_eq!(walking.words(), "12,000 entries read");
        let sending = Passed { bytes: 5_000, ..walking };
        assert_eq!(sending.words(), "12,000 entries read, 5.0 kB sent");
        assert_eq!(passed(0, 0).words(), "0 bytes of 30.0 MB, 1 of 2 entries, 0 bytes/s");
        assert_eq!(passed(15_000_000, 4).words(), "50% of 30.0 MB, 1 of 2 entries, 3.8 MB/s");
        assert_eq!(passed(15_000_000, 5).words(), "50% of 30.0 MB, 1 of 2 entries, 3.0 MB/s, 5 s left");
        assert!(!passed(299_999, 5).words().contains("left"), "less than a hundredth");
        let named = Passed { current: Some("\"big\"".into()), ..passed(30_000_000, 10) };
        assert_eq!(named.words(), "100% of 30.0 MB, 1 of 2 entries, 3.0 MB/s, \"big\"");
    }

    #[test]
    fn lines_are_those_of_rsync() {
        assert_eq!(
            passed(0, 0).line(Numbers::Grouped, false),
            "              0   0%    0.00kB/s    0:00:00  "
        );
        assert_eq!(
            passed(15_000_000, 1).line(Numbers::Grouped, false),
            "     15,000,000  50%   14.31MB/s    0:00:01  "
        );
        assert_eq!(
            passed(30_000_000, 3725).line(Numbers::Thousand, true),
            "         30.00M 100%    7.86kB/s    1:02:05 (xfr#1, to-chk=1/2)"
        );
        assert_eq!(Passed::default().line(Numbers::Plain, true).split_whitespace().nth(1), Some("100%"));
    }

    #[test]
    fn pipe_shows_nothing_unless_asked_and_then_a_line_a_second() {
        let mut out = Vec::new();
        let mut meter = Meter::new(&Output::default(), false);
        meter.update(&passed(1, 1), &mut out).unwrap();
        meter.finish(&passed(1, 1), &mut out).unwrap();
        assert!(out.is_empty() && !meter.is_shown());

        let asked = Output { progress: Progress::Lines, ..Output::default() };
        let mut meter = Meter::new(&asked, false);
        for bytes in 0..10 {
            meter.update(&passed(bytes, 1), &mut out).unwrap();
        }
        meter.update(&passed(11, 2), &mut out).unwrap();
        meter.finish(&passed(30_000_000, 2), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\r').count(), 3, "{text:?}");
        assert!(text.ends_with("(xfr#1, to-chk=1/2)\n"), "{text:?}");
    }

    #[test]
    fn other_lines_begin_in_a_row_of_their_own() {
        let asked = Output { progress: Progress::Lines, ..Output::default() };
        let (mut meter, mut out) = (Meter::new(&asked, false), Vec::new());
        meter.make_room(&mut out).unwrap();
        assert!(out.is_empty());
        meter.update(&passed(1, 1), &mut out).unwrap();
        meter.make_room(&mut out).unwrap();
        meter.make_room(&mut out).unwrap();
        assert_eq!(out.iter().filter(|&&b| b == b'\n').count(), 1);
    }

    #[test]
    fn quiet_and_json_silence_the_meter() {
        for output in [
            Output { quiet: true, progress: Progress::Lines, ..Output::default() },
            Output { json: true, progress: Progress::Lines, ..Output::default() },
            Output { progress: Progress::Never, ..Output::default() },
        ] {
            assert!(!Meter::new(&output, true).is_shown());
            assert!(!Meter::new(&output, false).is_shown());
        }
    }
}
