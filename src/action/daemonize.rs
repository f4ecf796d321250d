//! Leaving the terminal, as daemons did before there was systemd.
//!
//! **Sources:** daemon(7) "SysV daemons", lockf(3), lsyncd 2.2.3 as observed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Goes on in a child that belongs to no terminal; the parent ends with 0 once the child is on its own.
/// Call while there is one thread.
///
/// # Errors
/// What the system says.
pub fn detach() -> io::Result<()> {
    let (mut child_left, own) = io::pipe()?;
    // SAFETY: there is one thread, so the child inherits a whole process.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            rustix::process::setsid()?;
            drop(own);
            Ok(())
        }
        _ => {
            drop(own);
            // Ends when the child has left the group, or has died.
            let _ = child_left.read(&mut [0]);
            // SAFETY: ends the parent without running the child's exit handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Gives up the working directory and the standard streams.
///
/// # Errors
/// What the system says.
pub fn settle() -> io::Result<()> {
    std::env::set_current_dir("/")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for stream in 0..=2 {
        // SAFETY: both are open; the standard streams belong to nobody else.
        if unsafe { libc::dup2(null.as_raw_fd(), stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Writes the process id into `file` and locks it for as long as the result lives.
///
/// # Errors
/// What the system says; `EAGAIN` if another process holds the lock.
pub fn pidfile(file: &Path) -> io::Result<File> {
    let mut opened = crate::disk::open_to_write(file)?;
    // SAFETY: the descriptor is open.
    if unsafe { libc::lockf(opened.as_raw_fd(), libc::F_TLOCK, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    opened.set_len(0)?;
    writeln!(opened, "{}", std::process::id())?;
    Ok(opened)
}
