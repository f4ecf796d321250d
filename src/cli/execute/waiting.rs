//! What `speil wait` says while it waits for files that are to be verified: how many, how much, and about how long.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::note;
use crate::daemon;
use crate::monitor::{counted, sized, spanned, time_left};
use crate::status::{Answer, Report, Request};

/// A wait that is over sooner prints nothing.
const FIRST_AFTER: Duration = Duration::from_secs(1);
const THEN_EVERY: Duration = Duration::from_secs(5);
/// Longest time that the daemon may take to say how it stands.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What is to be verified of all syncs that are waited for, and when that was so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    files: u64,
    bytes: u64,
    at: Instant,
}

/// Tells now and then what is to be verified, until the process ends. `sync`: of one sync alone.
pub(super) fn tell_of_doubts(socket: PathBuf, sync: Option<String>) {
    // Without a thread nothing is told, which stops nobody.
    let _ = thread::Builder::new().name("doubts".to_owned()).spawn(move || {
        let mut first = None;
        let mut pause = FIRST_AFTER;
        loop {
            thread::sleep(pause);
            pause = THEN_EVERY;
            let Some(now) = left(&socket, sync.as_deref()) else { continue };
            if now.files > 0 {
                note(&said(*first.get_or_insert(now), now));
            }
        }
    });
}

fn left(socket: &Path, sync: Option<&str>) -> Option<Left> {
    let Ok(Answer::Status(report)) = daemon::ask(socket, &Request::Status, Some(ANSWER_MAX)) else {
        return None;
    };
    Some(of(&report, sync))
}

fn of(report: &Report, sync: Option<&str>) -> Left {
    let wanted = report.syncs.iter().filter(|it| sync.is_none_or(|name| it.name == name));
    let (mut files, mut bytes) = (0, 0);
    for target in wanted.flat_map(|it| &it.targets) {
        files += target.unverified_files;
        bytes += target.unverified_bytes;
    }
    Left { files, bytes, at: Instant::now() }
}

/// Says what is left, and from the second time on how long it will take.
fn said(first: Left, now: Left) -> String {
    let what = format!(
        "{}, {}, may have changed while nobody heard, and {} read on both sides first",
        counted(now.files, "file", "files"),
        sized(now.bytes),
        if now.files == 1 { "is" } else { "are" }
    );
    match time_left(first.bytes, now.bytes, now.at.saturating_duration_since(first.at)) {
        None => what,
        Some(left) => format!("{what}: about {}", spanned((left.as_secs_f64().ceil() as u64).max(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_with_its_time_once_that_can_be_said() {
        let at = Instant::now();
        let first = Left { files: 1204, bytes: 4_000_000_000, at };
        let told =
            "1204 files, 4.0 GB, may have changed while nobody heard, and are read on both sides first";
        assert_eq!(said(first, first), told);
        let later = Left { files: 1, bytes: 1_000_000_000, at: at + Duration::from_secs(30) };
        let told = "1 file, 1.0 GB, may have changed while nobody heard, and is read on both sides first: about 10 s";
        assert_eq!(said(first, later), told);
    }
}
