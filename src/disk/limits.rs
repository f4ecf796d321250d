//! What the process as a whole needs of the system.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files to what is allowed (a walk holds one per level), and ignores the
/// signal that a lease's holder gets when a writer comes.
pub fn raise_limits() {
    let now = getrlimit(Resource::Nofile);
    // A refusal leaves the limit as it is: deep trees then give Problems, not losses.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    // SAFETY: SIG_IGN is a valid disposition, and nothing in this process handles SIGIO.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

/// Returns the process's umask, from the kernel's own account of it.
pub fn umask() -> u32 {
    static UMASK: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *UMASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022)
    })
}
