//! Which filesystem a directory is on, and which set the change time of a file as local ones do.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// ext2, ext3 and ext4; XFS, Btrfs, tmpfs, F2FS. Their times are no coarser than a second.
const STAMPING: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010];
const OVERLAY: u64 = 0x794c_7630;

/// Whether every write to a file on this filesystem, and every change of its metadata or names, sets its change
/// time, by the clock of this host: of all others nothing is concluded from it. An overlay does what the
/// filesystem of its upper directory does.
pub fn stamps_changes(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    match kind(fd) {
        Some(OVERLAY) => upper_of(fd)
            .and_then(|upper| std::fs::File::open(upper).ok())
            .is_some_and(|upper| kind(&upper).is_some_and(|kind| STAMPING.contains(&kind))),
        kind => kind.is_some_and(|kind| STAMPING.contains(&kind)),
    }
}

/// Returns which filesystem a directory is on: its device number, its type as statfs(2) numbers it, and its own
/// identity as statvfs(3) tells, 0 where it has none.
///
/// # Errors
/// What the system says.
pub fn filesystem(dir: impl AsFd) -> io::Result<(u64, u64, u64)> {
    let dir = dir.as_fd();
    let kind = u64::try_from(rustix::fs::fstatfs(dir)?.f_type).unwrap_or(0);
    Ok((super::id_of(dir)?.dev, kind, rustix::fs::fstatvfs(dir)?.f_fsid))
}

fn kind(fd: impl AsFd) -> Option<u64> {
    // Magic numbers are 32 bits wide; `f_type` is signed on some machines.
    rustix::fs::fstatfs(fd).ok().map(|stat| stat.f_type as u64 & 0xffff_ffff)
}

/// Returns the upper directory of the overlay that a descriptor is on, if this process may see it.
fn upper_of(fd: std::os::fd::BorrowedFd<'_>) -> Option<PathBuf> {
    let dev = rustix::fs::fstat(fd).ok()?.st_dev;
    let device = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    mounts.split(|&b| b == b'\n').find_map(|line| upper_in(line, device.as_bytes()))
}

/// Returns the upper directory in a line of mountinfo that is of this device.
fn upper_in(line: &[u8], device: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|&b| b == b' ');
    if fields.nth(2)? != device {
        return None;
    }
    let options = fields.next_back()?;
    let upper = options.split(|&b| b == b',').find_map(|option| option.strip_prefix(b"upperdir="))?;
    Some(Path::new(std::ffi::OsStr::from_bytes(upper)).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_directory_of_an_overlay_is_found_by_its_device() {
        let line = b"812 700 0:55 / / rw,relatime - overlay overlay rw,lowerdir=/a:/b,upperdir=/c/diff,workdir=/c/work";
        assert_eq!(upper_in(line, b"0:55"), Some(PathBuf::from("/c/diff")));
        assert_eq!(upper_in(line, b"0:56"), None);
        assert_eq!(upper_in(b"22 1 0:20 / / rw - ext4 /dev/vda rw", b"0:20"), None);
    }

    #[test]
    fn tmpfs_stamps_changes_and_proc_is_not_relied_on() {
        let open = |path: &str| std::fs::File::open(path).unwrap();
        assert!(stamps_changes(open("/dev/shm")));
        assert!(!stamps_changes(open("/proc")));
    }
}
