//! What the kernel says of this process, under the names that Prometheus' own clients use.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What this process uses up.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: Option<f64>,
    pub virtual_bytes: Option<f64>,
    pub threads: Option<f64>,
    pub open_fds: Option<f64>,
    pub max_fds: Option<f64>,
}

impl Process {
    /// Returns that of now.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        // The directory itself is open while it is read.
        let open = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64);
        Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: field(&status, "VmRSS:").map(|kib| kib * 1024.0),
            virtual_bytes: field(&status, "VmSize:").map(|kib| kib * 1024.0),
            threads: field(&status, "Threads:"),
            open_fds: open,
            max_fds: getrlimit(Resource::Nofile).current.map(|max| max as f64),
        }
    }
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_up() {
        let process = Process::now();
        assert!(process.cpu_seconds > 0.0);
        for (name, value) in [
            ("resident", process.resident_bytes),
            ("virtual", process.virtual_bytes),
            ("threads", process.threads),
            ("open", process.open_fds),
            ("max", process.max_fds),
        ] {
            assert!(value.is_some_and(|value| value >= 1.0), "{name}: {value:?}");
        }
        assert_eq!(field("A: 1\nVmRSS:\t  123 kB\n", "VmRSS:"), Some(123.0));
    }
}
