//! Files that people name: opened so that no link of an untrusted owner is followed.
//!
//! **Purpose:** root reads lists and appends to logs in directories where others may write; a link that
//! somebody else has put there must not lead it to another file. **In → Out:** a path; a file.
//! **Invariants:** each component is looked at and used through the same descriptor, so that nothing can
//! be swapped in between; a link is followed only if root or the caller owns it, as rsync 3.5 does.
//! **Not here:** paths beneath a root, which follow no link at all (`root`).
//! **Sources:** path_resolution(7), symlink(7); rsync 3.5.0 as observed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::tree::quote;

/// Most links on the way of one path, as the kernel has it.
const LINKS_MAX: usize = 40;

/// Opens a file for reading.
///
/// # Errors
/// What the system says; also for a link that belongs neither to root nor to the caller.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OFlags::RDONLY, Mode::empty())
}

/// Opens a file for appending, and makes it if it is missing.
///
/// # Errors
/// As [`open_to_read`].
pub fn open_to_append(path: &Path) -> io::Result<File> {
    open(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE, Mode::from(0o666))
}

/// Opens a file for writing, and makes it if it is missing; what it holds stays.
///
/// # Errors
/// As [`open_to_read`].
pub fn open_to_write(path: &Path) -> io::Result<File> {
    open(path, OFlags::WRONLY | OFlags::CREATE, Mode::from(0o666))
}

/// Writes a whole file anew.
///
/// # Errors
/// As [`open_to_read`], and what writing says.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut file = open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, Mode::from(0o666))?;
    file.write_all(content)
}

/// Reads a whole file.
///
/// # Errors
/// As [`open_to_read`], and what reading says.
pub fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut content = Vec::new();
    open_to_read(path)?.read_to_end(&mut content)?;
    Ok(content)
}

/// Whether an open file is the one that is under a path now.
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: io::Result<std::fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
    id(file.metadata()) == id(std::fs::metadata(path))
}

fn open(path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC;
    let bytes = path.as_os_str().as_bytes();
    let mut at = start(bytes)?;
    let mut left = components(bytes);
    let mut links = 0;
    while let Some(name) = left.pop() {
        let place = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let is_last = left.is_empty();
        let there = match rustix::fs::openat(&at, name.as_slice(), place, Mode::empty()) {
            Ok(there) => there,
            Err(Errno::NOENT) if is_last => {
                return Ok(rustix::fs::openat(&at, name, flags | OFlags::NOFOLLOW, mode)?.into());
            }
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&there)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            if is_last {
                return Ok(rustix::fs::openat(&at, name, flags | OFlags::NOFOLLOW, mode)?.into());
            }
            at = there;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(untrusted(&name, stat.st_uid));
        }
        if is_of_proc(at.as_fd()) {
            // What such a link names is no path: `/dev/fd/63`.
            left.push(name);
            left.reverse();
            return Ok(rustix::fs::openat(&at, left.join(&b'/'), flags, mode)?.into());
        }
        let to = rustix::fs::readlinkat(&there, "", Vec::new())?;
        let to = to.as_bytes();
        if to.first() == Some(&b'/') {
            at = start(to)?;
        }
        left.extend(components(to));
    }
    // The path is a directory's: `/`, or a link to it.
    Ok(rustix::fs::openat(&at, ".", flags, mode)?.into())
}

/// Opens where a path begins.
fn start(path: &[u8]) -> io::Result<OwnedFd> {
    let from = if path.first() == Some(&b'/') { "/" } else { "." };
    Ok(rustix::fs::open(from, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Returns the components of a path, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let all = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let mut all: Vec<_> = all.map(<[u8]>::to_vec).collect();
    all.reverse();
    all
}

fn untrusted(name: &[u8], owner: u32) -> io::Error {
    let name = quote(name);
    io::Error::other(format!(
        "{name} is a link that belongs to user {owner}; only links of root and your own are followed"
    ))
}

fn is_of_proc(dir: BorrowedFd<'_>) -> bool {
    const PROC_SUPER_MAGIC: rustix::fs::FsWord = 0x9fa0;
    rustix::fs::fstatfs(dir).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn a_link_of_an_untrusted_owner_is_not_followed_wherever_it_is_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/file"), "text").unwrap();
        symlink("d/file", at("own")).unwrap();
        symlink("own", at("twice")).unwrap();
        symlink(at("d"), at("way")).unwrap();
        symlink("d/file", at("planted")).unwrap();
        symlink("d", at("planted-way")).unwrap();
        symlink("planted", at("behind")).unwrap();
        symlink("round", at("round")).unwrap();
        for planted in ["planted", "planted-way"] {
            lchown(at(planted), Some(1), Some(1)).unwrap();
        }
        for name in ["d/file", "own", "twice", "way/file", "way/../own", "./d/./file"] {
            assert_eq!(read_whole(&at(name)).unwrap(), b"text", "{name}");
        }
        for name in ["planted", "planted-way/file", "behind", "round"] {
            let error = read_whole(&at(name)).unwrap_err();
            let told = if name == "round" { "ELOOP" } else { "belongs to user 1;" };
            assert!(crate::error::io_text(&error).contains(told), "{name}: {error}");
            assert!(open_to_append(&at(name)).is_err() && write_whole(&at(name), b"lost").is_err(), "{name}");
        }
        assert_eq!(std::fs::read(at("d/file")).unwrap(), b"text");
        write_whole(&at("way/new"), b"more").unwrap();
        assert_eq!(std::fs::read(at("d/new")).unwrap(), b"more");
        // What a shell hands over as a file.
        let (from, to) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&to, b"piped").unwrap();
        drop(to);
        use std::os::fd::AsRawFd;
        assert_eq!(read_whole(Path::new(&format!("/dev/fd/{}", from.as_raw_fd()))).unwrap(), b"piped");
    }
}
