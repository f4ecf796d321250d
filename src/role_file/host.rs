//! Which host this is, which run of its kernel, and whether another host has answered during that.

use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};

use super::{RoleFile, RoleFileError};
use crate::role::Id;

const NAME: &str = "confirmed";
const NEW: &str = "confirmed.new";
/// Bytes of the file that are read.
const LEN_MAX: usize = 64;

/// Reads what is not to be had any more when the process has confined itself.
pub fn know_host() {
    machine();
    boot();
}

/// Returns which host this is, without telling the machine id itself, which systemd wants kept.
pub(super) fn machine() -> Id {
    static MACHINE: OnceLock<Id> = OnceLock::new();
    *MACHINE.get_or_init(|| hashed("speil role", "/etc/machine-id"))
}

/// Returns which run of the kernel this is.
pub fn boot() -> Id {
    static BOOT: OnceLock<Id> = OnceLock::new();
    *BOOT.get_or_init(|| hashed("speil boot", "/proc/sys/kernel/random/boot_id"))
}

fn hashed(what: &str, path: &str) -> Id {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(format!("{what} {}", text.trim()).as_bytes()).as_bytes()[..16]);
    Id::from_bytes(bytes)
}

impl RoleFile {
    /// Whether this host has exchanged generations with another one since it was booted.
    pub fn is_confirmed(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(&self.dir, NAME, flags, Mode::empty()) else { return false };
        let mut bytes = [0; LEN_MAX];
        let len = rustix::io::read(&file, &mut bytes[..]).unwrap_or(0);
        bytes[..len] == *boot().to_string().as_bytes()
    }

    /// Notes that it has.
    ///
    /// # Errors
    /// If that cannot be written; the host then stays unconfirmed.
    pub fn confirm(&self) -> Result<(), RoleFileError> {
        if self.is_confirmed() {
            return Ok(());
        }
        self.replace((NAME, NEW), boot().to_string().as_bytes())
    }
}
