//! What the service manager is told: ready, reloading, stopping, a line of status, signs of life.
//!
//! **In → out:** the daemon's state → datagrams to `NOTIFY_SOCKET`; nothing where there is none.
//! **Invariant:** never blocks and never fails the daemon. **Sources:** sd_notify(3),
//! sd_watchdog_enabled(3), systemd.service(5) "Type=notify-reload".

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::monitor::counted;
use crate::status::{Report, TargetReport};

/// The way to the service manager.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Returns the notifier that the environment asks for.
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(name.as_bytes()));
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|&limit| ours && limit > 0);
        Self { watchdog: limit.filter(|_| socket.is_some()).map(Duration::from_micros), socket }
    }

    /// Returns how often a sign of life is due: twice within the manager's limit, and once more.
    pub fn sign_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 3)
    }

    /// Every watch stands, every link is being made.
    pub fn ready(&self) {
        self.send("READY=1\n");
    }

    /// A new configuration is being read; [`Notifier::ready`] follows.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}{:06}\n", now.tv_sec, now.tv_nsec / 1000));
    }

    /// The daemon is on its way out.
    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.send("WATCHDOG=1\n");
    }

    /// The line that `systemctl status` shows.
    pub fn status(&self, report: &Report) {
        if self.socket.is_some() {
            self.send(&format!("STATUS={}\n", summary(report)));
        }
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket {
            // A manager that does not listen is no reason to stop mirroring.
            let _ = socket.send(text.as_bytes());
        }
    }
}

fn connect(name: &[u8]) -> Option<UnixDatagram> {
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok()?,
        [b'/', ..] => {
            SocketAddr::from_pathname(std::path::Path::new(std::ffi::OsStr::from_bytes(name))).ok()?
        }
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect_addr(&address).ok()?;
    Some(socket)
}

/// Returns all targets in one line: `3 targets: 2 live, 1 down; lag 0.2 s; 1 problem`.
fn summary(report: &Report) -> String {
    let targets: Vec<&TargetReport> = report.syncs.iter().flat_map(|sync| &sync.targets).collect();
    let mut states: Vec<(&str, usize)> = Vec::new();
    for target in &targets {
        match states.iter_mut().find(|(state, _)| *state == target.state) {
            Some((_, count)) => *count += 1,
            None => states.push((&target.state, 1)),
        }
    }
    let states: Vec<String> =
        states.iter().map(|(state, count)| format!("{count} {}", state.replace('_', " "))).collect();
    let word = if targets.len() == 1 { "target" } else { "targets" };
    let mut text = format!("{} {word}: {}", targets.len(), states.join(", "));
    match targets.iter().filter(|target| target.known).map(|target| target.lag_ms).max() {
        Some(lag) => text.push_str(&format!("; lag {:.1} s", Duration::from_millis(lag).as_secs_f64())),
        None => text.push_str("; lag unknown"),
    }
    let problems = targets.iter().map(|target| target.failing()).sum::<u64>();
    let held: usize = targets.iter().map(|target| target.held).sum();
    let missing = report.syncs.iter().filter(|sync| !sync.running).count();
    let wrong = [
        (problems, "path fails", "paths fail"),
        (held as u64, "delete held", "deletes held"),
        (missing as u64, "sync not started", "syncs not started"),
    ];
    for (count, one, many) in wrong.into_iter().filter(|(count, ..)| *count > 0) {
        text.push_str(&format!("; {}", counted(count, one, many)));
    }
    if report.refused_reload.is_some() {
        text.push_str("; new configuration refused");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::SyncReport;

    #[test]
    fn the_line_of_status_counts_states_and_tells_the_largest_lag() {
        let target = |state: &str, lag_ms, held| TargetReport {
            state: state.to_owned(),
            lag_ms,
            held,
            known: true,
            ..TargetReport::default()
        };
        let targets = vec![target("live", 20, 0), target("down", 2500, 7), target("live", 0, 0)];
        let report = Report {
            syncs: vec![
                SyncReport { targets, running: true, ..SyncReport::default() },
                SyncReport::default(),
            ],
            ..Report::default()
        };
        assert_eq!(
            summary(&report),
            "3 targets: 2 live, 1 down; lag 2.5 s; 7 deletes held; 1 sync not started"
        );
    }
}
