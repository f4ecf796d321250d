//! The log, in lsyncd's format.
//!
//! **Invariants:** a line is written whole; the log file is opened for each line, so it may be rotated at
//! any time. **Sources:** lsyncd 2.2.3 as observed; strftime(3), syslog(3).

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// Which categories are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Categories {
    /// All of them.
    pub all: bool,
    /// Not even `Normal`.
    pub scarce: bool,
    /// These as well.
    pub more: BTreeSet<String>,
}

impl Categories {
    fn shows(&self, category: &str) -> bool {
        match category {
            "Error" | "Warn" => true,
            "Normal" if !self.scarce => true,
            _ => self.all || self.more.contains(category),
        }
    }
}

/// Where lines go.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// What is shown.
    pub categories: Categories,
    /// Appended to.
    pub file: Option<PathBuf>,
    /// Whether standard output and standard error are the administrator's.
    pub foreground: bool,
    /// Facility of the syslog, where it is used.
    pub syslog: Option<i32>,
    /// Whether the syncs run; before, every line goes to standard error.
    pub running: bool,
}

/// Returns the local time in the format of strftime(3).
pub fn stamp(format: &str) -> String {
    let Ok(format) = CString::new(format) else { return String::new() };
    let mut buffer = [0_u8; 64];
    // SAFETY: `tm` is plain data that localtime_r fills; the buffer's length is handed over.
    let length = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&now, &mut tm);
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &tm)
    };
    String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned()
}

/// Returns the number of a syslog facility.
pub fn facility(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<f64>() {
        return Some((number as i32) << 3);
    }
    let number = match name.to_ascii_lowercase().as_str() {
        "kern" => libc::LOG_KERN,
        "user" => libc::LOG_USER,
        "mail" => libc::LOG_MAIL,
        "daemon" => libc::LOG_DAEMON,
        "auth" => libc::LOG_AUTH,
        "syslog" => libc::LOG_SYSLOG,
        "lpr" => libc::LOG_LPR,
        "news" => libc::LOG_NEWS,
        "uucp" => libc::LOG_UUCP,
        "cron" => libc::LOG_CRON,
        "authpriv" => libc::LOG_AUTHPRIV,
        "ftp" => libc::LOG_FTP,
        "local0" => libc::LOG_LOCAL0,
        "local1" => libc::LOG_LOCAL1,
        "local2" => libc::LOG_LOCAL2,
        "local3" => libc::LOG_LOCAL3,
        "local4" => libc::LOG_LOCAL4,
        "local5" => libc::LOG_LOCAL5,
        "local6" => libc::LOG_LOCAL6,
        "local7" => libc::LOG_LOCAL7,
        _ => return None,
    };
    Some(number)
}

/// Opens the syslog under `ident`.
pub fn open_syslog(ident: &str, facility: i32) {
    let Ok(ident) = CString::new(ident) else { return };
    // SAFETY: openlog keeps the pointer, so the string is never freed.
    unsafe { libc::openlog(ident.into_raw(), libc::LOG_CONS | libc::LOG_PID, facility) };
}

/// Hands a line to the syslog, under a facility and a level.
pub fn to_syslog(priority: i32, line: &str) {
    let Ok(line) = CString::new(line.replace('\0', "?")) else { return };
    // SAFETY: both strings end with NUL; the format takes one string.
    unsafe { libc::syslog(priority, c"%s".as_ptr(), line.as_ptr()) };
}

impl Log {
    /// Opens the log file for appending.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(&self) -> std::io::Result<Option<File>> {
        self.file.as_ref().map(|file| crate::disk::open_to_append(file.as_ref())).transpose()
    }

    /// Writes a line.
    pub fn line(&self, category: &str, text: &str) {
        if !self.categories.shows(category) {
            return;
        }
        if !self.running {
            let _ = writeln!(std::io::stderr(), "{category}: {text}");
            return;
        }
        if self.foreground {
            let line = format!("{} {category}: {text}\n", stamp("%H:%M:%S"));
            if category == "Error" {
                let _ = std::io::stderr().write_all(line.as_bytes());
            } else {
                let _ = std::io::stdout().write_all(line.as_bytes());
            }
        }
        if let Ok(Some(mut file)) = self.open() {
            let line = format!("{} {category}: {text}\n", stamp("%a %b %e %H:%M:%S %Y"));
            let _ = file.write_all(line.as_bytes());
        }
        if let Some(facility) = self.syslog {
            let level = match category {
                "Error" => libc::LOG_ERR,
                "Warn" => libc::LOG_WARNING,
                "Normal" => libc::LOG_NOTICE,
                _ => libc::LOG_DEBUG,
            };
            to_syslog(facility | level, &format!("{category}, {text}"));
        }
    }
}
