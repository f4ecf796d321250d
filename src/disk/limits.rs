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

/// Lets a write that exceeds the limit of a file's size (`ulimit -f`) fail with `EFBIG`, which is a problem of
/// that file alone. The signal that comes with it would end the process. It is handled and not ignored: programs
/// that are started would inherit that.
pub fn outlive_file_limit() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler touches nothing, and the structure is plain data that is filled in before its use.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGXFSZ, &raw const action, std::ptr::null_mut());
    }
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
