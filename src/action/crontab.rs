//! Passes over everything at the times that a sync's `crontab` names.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::core::Core;
use super::delays::{Etype, Status};
use super::native::State;
use crate::config::{Crontab, CrontabFields};

/// The wall clock may be set: it is looked at this often.
const LOOK: Duration = Duration::from_secs(60);

/// When each sync is due next.
#[derive(Default)]
pub struct Schedule {
    /// The sync and the second since the epoch.
    next: Vec<(usize, i64)>,
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Returns what a moment is called here.
fn local(at: i64) -> CrontabFields {
    // SAFETY: `tm` is plain data that localtime_r fills.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&at, &mut tm);
        tm
    };
    let parts = [tm.tm_sec, tm.tm_min, tm.tm_hour, tm.tm_mday, tm.tm_mon + 1, tm.tm_wday];
    CrontabFields { parts: parts.map(|part| u32::try_from(part).unwrap_or(0)) }
}

fn next(patterns: &[Crontab], after: i64) -> Option<i64> {
    patterns.iter().filter_map(|pattern| pattern.next(after, local)).min()
}

impl Schedule {
    /// Makes the schedule of the syncs of `core`.
    pub fn new(core: &Core) -> Self {
        let now = now();
        let due = |(at, sync): (usize, &super::core::Running)| Some((at, next(&sync.spec.crontab, now)?));
        Self { next: core.syncs.iter().enumerate().filter_map(due).collect() }
    }

    /// Queues a pass where one is due.
    pub fn run(&mut self, core: &mut Core) {
        let now = now();
        for (at, due) in &mut self.next {
            if *due > now {
                continue;
            }
            let Some(sync) = core.syncs.get_mut(*at) else { continue };
            *due = next(&sync.spec.crontab, now).unwrap_or(i64::MAX);
            let name = sync.spec.name.clone();
            match &sync.state {
                State::Mirror(mirror, _) => mirror.reconcile(),
                State::Commands => {
                    let waits = |entry: &super::delays::Delay| {
                        entry.etype == Etype::Full && entry.status != Status::Active
                    };
                    if !sync.delays.iter().any(|(_, entry)| waits(entry)) {
                        sync.delays.push_whole(Etype::Full, None);
                    }
                }
                State::Asking | State::Failed(_) => continue,
            }
            core.log.line("Info", &format!("{name}: a pass over everything is due"));
        }
    }

    /// Returns when to look next.
    pub fn due(&self) -> Option<Instant> {
        let first = self.next.iter().map(|(_, due)| *due).min()?;
        let left = u64::try_from(first.saturating_sub(now())).unwrap_or(0);
        // Whole seconds are compared: a little late is on time.
        Some(Instant::now() + Duration::from_secs(left).min(LOOK) + Duration::from_millis(5))
    }
}
