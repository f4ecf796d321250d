//! A record as the journal takes it: its parts as fields.
//!
//! **Invariants:** a value is written with its length or holds no end of line, so it can begin no field of
//! its own. **Sources:** the journal's native protocol, as systemd documents it for other writers.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::Record;
use super::format::{fields, priority, text};
use crate::monitor::Level;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Connects to the journal.
///
/// # Errors
/// What the system says; the lines can go to standard error instead.
pub(super) fn connect(socket: &Path) -> io::Result<UnixDatagram> {
    let to = UnixDatagram::unbound()?;
    to.connect(socket)?;
    // A journal that does not read must not stall the mirror.
    to.set_nonblocking(true)?;
    Ok(to)
}

/// Returns the fields of a record: `MESSAGE`, `PRIORITY`, and `SPEIL_SYNC`, `SPEIL_PATH` and the like.
pub(super) fn entry(record: &Record) -> Vec<u8> {
    let level = record.level.unwrap_or(Level::Info);
    let mut entry = Vec::new();
    let mut put = |name: &str, value: &str| {
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    };
    put("MESSAGE", &text(record));
    put("PRIORITY", &priority(level).to_string());
    put("SYSLOG_IDENTIFIER", "speil");
    for (name, value) in fields(record).iter().filter(|(name, _)| *name != "message") {
        // The journal's names are letters, digits and underscores.
        let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        put(&format!("SPEIL_{}", name.chars().map(word).collect::<String>()), value);
    }
    entry
}
