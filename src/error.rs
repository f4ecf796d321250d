//! What follows from a failure.
//!
//! Every module has its own error type; each answers [`Consequence`], which separates what speil
//! does next from how the failure is told. Extends lsyncd's ok/again/die exit-code table.

use std::io;

/// What speil does after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consequence {
    /// One path fails: it becomes a Problem, the others go on.
    Skip,
    /// Back off, then try the same again.
    Again,
    /// What stands on the target is unknown: compare the smallest subtree that covers it.
    Rescan,
    /// Nobody can go on without a human.
    Die,
}

/// An error that knows what follows from it.
pub trait Consequential: std::error::Error {
    /// Returns what speil does next.
    fn consequence(&self) -> Consequence;
}

/// Returns the symbolic name of an errno (`ENOSPC`), or `errno N` for a rare one.
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EINTR => "EINTR",
        libc::EIO => "EIO",
        libc::ENXIO => "ENXIO",
        libc::E2BIG => "E2BIG",
        libc::EBADF => "EBADF",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::EXDEV => "EXDEV",
        libc::ENODEV => "ENODEV",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EINVAL => "EINVAL",
        libc::ENFILE => "ENFILE",
        libc::EMFILE => "EMFILE",
        libc::ETXTBSY => "ETXTBSY",
        libc::EFBIG => "EFBIG",
        libc::ENOSPC => "ENOSPC",
        libc::EROFS => "EROFS",
        libc::EMLINK => "EMLINK",
        libc::EPIPE => "EPIPE",
        libc::ERANGE => "ERANGE",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::ENOSYS => "ENOSYS",
        libc::ENOTEMPTY => "ENOTEMPTY",
        libc::ELOOP => "ELOOP",
        libc::ENODATA => "ENODATA",
        libc::EOVERFLOW => "EOVERFLOW",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EADDRINUSE => "EADDRINUSE",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ECONNRESET => "ECONNRESET",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::ESTALE => "ESTALE",
        libc::EDQUOT => "EDQUOT",
        _ => return format!("errno {errno}"),
    };
    name.to_owned()
}

/// Returns what the system says of an errno, in lower case with its name:
/// `no space left on device (ENOSPC)`.
pub fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let lower = chars.next().map(|c| c.to_lowercase().chain(chars).collect::<String>()).unwrap_or_default();
    format!("{lower} ({})", errno_name(errno))
}

/// Returns why an operation on a path failed. Two are speil's own words, with an errno that tells no
/// administrator anything: a path that is another one each time it has been sent, and a file that is another one
/// each time it has been read.
pub fn failure_text(operation: &str, errno: i32) -> String {
    match (operation, errno) {
        ("update", libc::EBUSY) => "changes faster than it can be mirrored (EBUSY)".to_owned(),
        ("read", libc::ENOLINK) => "symlink has no referent".to_owned(),
        ("read", libc::EMLINK) => "symlink leads back to a directory that holds it".to_owned(),
        ("read", libc::EXDEV) => "symlink leads out of the directory that this agent may read".to_owned(),
        ("remove", libc::EBUSY) => "it has changed since, or is being written; it stays".to_owned(),
        ("read", libc::EBUSY) => "changes faster than it can be read (EBUSY)".to_owned(),
        _ => errno_text(errno),
    }
}

/// Returns the errno of an I/O error, `EIO` where it carries none.
pub fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Returns `error` as text: by errno where it has one, else its own words in one line.
pub fn io_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => errno_text(errno),
        None => error.to_string().replace('\n', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_text_names_the_number() {
        assert_eq!(errno_text(libc::ENOSPC), "no space left on device (ENOSPC)");
        assert_eq!(errno_text(libc::EACCES), "permission denied (EACCES)");
        assert_eq!(errno_name(9999), "errno 9999");
        assert_eq!(failure_text("read", libc::EACCES), errno_text(libc::EACCES));
        assert_eq!(failure_text("update", libc::EBUSY), "changes faster than it can be mirrored (EBUSY)");
    }
}
