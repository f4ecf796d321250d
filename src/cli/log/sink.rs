//! Where lines go.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::{Arc, Mutex};

use super::format::priority;
use super::{Record, journal};
use crate::action::{facility, open_syslog, to_syslog};
use crate::monitor::Level;

/// Where lines go.
pub(in crate::cli) enum Sink {
    /// Standard error.
    Stderr,
    /// The journal, with fields; standard error while it does not take them.
    Journal(UnixDatagram),
    /// A file, appended to, and its absolute path.
    File(PathBuf, File),
    /// syslog(3), with this facility.
    Syslog(i32),
    /// Kept, for tests.
    #[cfg(test)]
    Memory(Arc<Mutex<Vec<u8>>>),
}

impl Sink {
    /// Opens a file for appending.
    ///
    /// # Errors
    /// What the system says.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = crate::disk::open_to_append(path)?;
        Ok(Self::File(std::path::absolute(path)?, file))
    }

    /// Opens the log file anew, where there is one.
    ///
    /// # Errors
    /// What to tell about a file that cannot be opened; the old one is written to as before.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        let Self::File(path, _) = self else { return Ok(()) };
        let path = path.clone();
        self.write_to(&path)
    }

    /// Writes into the file `path` from now on, where lines go into a file.
    ///
    /// # Errors
    /// As [`Sink::reopen`].
    pub(super) fn write_to(&mut self, path: &Path) -> Result<(), String> {
        if let Self::File(..) = self {
            *self = Self::file(path).map_err(|error| not_reopened(path, &error))?;
        }
        Ok(())
    }

    /// Opens the syslog under `ident`; `None` if there is no such facility.
    pub fn syslog(ident: &str, name: &str) -> Option<Self> {
        let facility = facility(name)?;
        open_syslog(ident, facility);
        Some(Self::Syslog(facility))
    }

    /// The journal with fields where it answers, else standard error, which it reads as well.
    pub fn journal() -> Self {
        Self::journal_at(Path::new(journal::SOCKET))
    }

    pub(super) fn journal_at(socket: &Path) -> Self {
        journal::connect(socket).map_or(Self::Stderr, Self::Journal)
    }

    #[cfg(test)]
    pub fn memory(kept: Arc<Mutex<Vec<u8>>>) -> Self {
        Self::Memory(kept)
    }

    /// Writes a record, which as a line is `line`. A full disk or a closed stream is no reason to stop
    /// mirroring.
    pub(super) fn write(&mut self, record: &Record, line: &str) {
        let mut bytes = line.as_bytes().to_vec();
        bytes.push(b'\n');
        match self {
            Self::Journal(socket) if socket.send(&journal::entry(record)).is_ok() => {}
            Self::Stderr | Self::Journal(_) => drop(io::stderr().lock().write_all(&bytes)),
            Self::File(_, file) => drop(file.write_all(&bytes)),
            Self::Syslog(facility) => {
                let level = record.level.unwrap_or(Level::Info);
                to_syslog(*facility | i32::from(priority(level)), line);
            }
            #[cfg(test)]
            Self::Memory(kept) => kept.lock().unwrap().extend_from_slice(&bytes),
        }
    }
}

/// Says that a log file could not be opened while another is open.
pub(in crate::cli) fn not_reopened(path: &Path, error: &io::Error) -> String {
    let path = crate::tree::quote(path.as_os_str().as_bytes());
    format!("log file {path} cannot be opened: {}; the old one is written to", crate::error::io_text(error))
}

/// Whether standard error is the journal, as systemd.exec(5) "$JOURNAL_STREAM" says.
pub(in crate::cli) fn is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else { return false };
    stream.to_string_lossy() == format!("{}:{}", stat.st_dev, stat.st_ino)
}
