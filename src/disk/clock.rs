//! The clock that files are stamped by.
//!
//! The kernel stamps a file when a write begins, and tells of the write when it ends: 625 ms later for 256 MiB.
//! It stamps by a clock that moves with its tick, behind the precise one.

use rustix::time::{ClockId, clock_gettime};

use crate::event::{Moment, Reading};

/// A write may be told of so long after its file was stamped, in nanoseconds.
const MARGIN: u64 = 1_000_000_000;
/// Two clocks are read at one moment if that took no longer, in nanoseconds.
const AT_ONCE: i64 = 1_000_000;
/// How often that is tried.
const TRIES: u32 = 16;

/// Returns a moment such that whatever is told of later was stamped then or later.
pub fn mark() -> (Moment, Reading) {
    let mut tries = 0;
    loop {
        tries += 1;
        let coarse = nanos(ClockId::RealtimeCoarse);
        let (before, reading) = read_both();
        let now = i64::try_from(reading.at.0).unwrap_or(i64::MAX).saturating_add(reading.offset);
        let behind = now.saturating_sub(coarse);
        // Unless it was set between.
        if (0..MARGIN.cast_signed()).contains(&behind) || tries == TRIES {
            let moment = before.less(behind.max(0).unsigned_abs().saturating_add(MARGIN));
            return (moment, reading);
        }
    }
}

/// Returns what the clock shows.
pub fn read_clock() -> Reading {
    read_both().1
}

/// Reads both clocks; the moment before that as well.
fn read_both() -> (Moment, Reading) {
    let mut tries = 0;
    loop {
        tries += 1;
        let before = nanos(ClockId::Boottime);
        let time = nanos(ClockId::Realtime);
        let at = nanos(ClockId::Boottime);
        if at.saturating_sub(before) < AT_ONCE || tries == TRIES {
            let moment = |nanos: i64| Moment(u64::try_from(nanos).unwrap_or(0));
            return (moment(before), Reading { at: moment(at), offset: time.saturating_sub(at) });
        }
    }
}

fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Offsets;

    #[test]
    fn a_file_that_is_made_after_a_mark_is_stamped_after_it() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let mut offsets = Offsets::default();
        for at in 0..200 {
            let (moment, reading) = mark();
            offsets.add(reading);
            let path = dir.path().join(at.to_string());
            std::fs::write(&path, "x").unwrap();
            let meta = std::fs::metadata(&path).unwrap();
            let changed = meta.ctime() * 1_000_000_000 + meta.ctime_nsec();
            let stamp = offsets.stamp(moment).unwrap();
            assert!(changed >= stamp && changed < stamp + 3_000_000_000, "{changed} {stamp}");
        }
    }
}
