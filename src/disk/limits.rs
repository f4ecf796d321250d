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
