//! Opening and listing directories, each relative to the fd of its parent.
//!
//! **Invariants:** no symlink below the root is followed; paths beyond `PATH_MAX` work.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, fstat, fstatfs, open, openat, openat2,
    statat, statx,
};
use rustix::io::Errno;

use crate::tree::{FileId, RelPath};

/// Longest path handed to the kernel at once; `PATH_MAX` is 4096 with the final NUL.
const STRIDE: usize = 4000;
/// Buffer for directory entries, in bytes.
const LISTING_BYTES: usize = 32 * 1024;

fn reading() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK
}

/// Opens a directory by path, following symlinks: for roots only.
pub(super) fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, reading(), Mode::empty())
}

/// Opens the directory `name` in `parent` for reading; a symlink is refused.
pub(super) fn open_dir(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(parent, name, reading() | OFlags::NOFOLLOW, Mode::empty())
}

/// Opens the directory `path` below `root` for reading, without following a symlink.
pub(super) fn open_below(root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd, Errno> {
    if path.is_root() {
        return open_dir(root, b".");
    }
    let mut at: Option<OwnedFd> = None;
    let mut rest = path.as_bytes();
    while !rest.is_empty() {
        let cut = if rest.len() <= STRIDE {
            rest.len()
        } else {
            // A component has at most 255 bytes, so there is a slash.
            rest[..STRIDE].iter().rposition(|&b| b == b'/').unwrap_or(STRIDE)
        };
        let base = at.as_ref().map_or(root, |fd| fd.as_fd());
        let next = descend(base, &rest[..cut])?;
        rest = rest[cut..].strip_prefix(b"/").unwrap_or(&rest[cut..]);
        at = Some(next);
    }
    at.ok_or(Errno::NOENT)
}

/// Opens a path of less than `PATH_MAX` bytes: at once where the kernel can, else name by name.
fn descend(base: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(base, path, reading(), Mode::empty(), resolve) {
        // Refused by a kernel before 5.6 or a seccomp filter; EAGAIN by a rename elsewhere.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
        done => return done,
    }
    let mut at: Option<OwnedFd> = None;
    for name in path.split(|&b| b == b'/') {
        let base = at.as_ref().map_or(base, |fd| fd.as_fd());
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = Some(openat(base, name, step, Mode::empty())?);
    }
    match at {
        Some(dir) => open_dir(dir, b"."),
        None => Err(Errno::NOENT),
    }
}

/// Returns which inode an fd is.
pub(super) fn id_of(fd: impl AsFd) -> Result<FileId, Errno> {
    let stat = fstat(fd)?;
    Ok(FileId { dev: stat.st_dev, ino: stat.st_ino })
}

/// Returns when a directory, or `name` in it, was made, in nanoseconds since 1970, where the filesystem tells.
pub(super) fn born_at(dir: impl AsFd, name: &[u8]) -> Option<i64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let stat = statx(dir, name, flags, StatxFlags::BTIME).ok()?;
    let told = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let born = stat.stx_btime;
    told.then(|| born.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(born.tv_nsec)))
}

/// Returns which directory `name` in `parent` is; `ENOTDIR` if it is something else.
pub(super) fn dir_id_at(parent: impl AsFd, name: &[u8]) -> Result<FileId, Errno> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    Ok(FileId { dev: stat.st_dev, ino: stat.st_ino })
}

/// Whether `name` in `parent` is a directory; `ENOENT` if nothing stands there.
pub(super) fn is_dir_at(parent: impl AsFd, name: &[u8]) -> Result<bool, Errno> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Calls `visit` with each name and whether it is a directory.
pub(super) fn list(dir: impl AsFd, mut visit: impl FnMut(&[u8], bool)) -> Result<(), Errno> {
    let dir = dir.as_fd();
    let mut buffer: Vec<u8> = Vec::with_capacity(LISTING_BYTES);
    let spare: &mut [MaybeUninit<u8>] = buffer.spare_capacity_mut();
    let mut entries = RawDir::new(dir, spare);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let is_dir = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => dir_id_at(dir, name).is_ok(),
            _ => false,
        };
        visit(name, is_dir);
    }
    Ok(())
}

/// Whether the filesystem reports every change to this host: not those that other hosts or a daemon
/// behind it can change.
pub(super) fn has_events(fd: impl AsFd) -> bool {
    const SILENT: [u64; 17] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x6573_5546, // FUSE, virtiofs
        0x0102_1997, // 9p
        0x5346_414f, // OpenAFS
        0x6b41_4653, // kAFS
        0x7375_7245, // Coda
        0x00c3_6400, // Ceph
        0x564c,      // NCP
        0x0bd0_0bd0, // Lustre
        0x786f_4256, // vboxsf
        0x1983_0326, // BeeGFS
        0x4750_4653, // GPFS
        0x0116_1970, // GFS2
        0x7461_636f, // OCFS2
    ];
    match fstatfs(fd) {
        // Magic numbers are 32 bits wide; `f_type` is signed on some machines.
        Ok(stat) => !SILENT.contains(&(stat.f_type as u64 & 0xffff_ffff)),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_below_refuses_a_symlink_at_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let root = open_path(dir.path()).unwrap();
        let open = |text: &str| open_below(root.as_fd(), &RelPath::try_from(text).unwrap());
        assert!(open("a/b").is_ok());
        assert!(open("link/b").is_err());
        assert!(open("link").is_err());
        assert_eq!(open("a/none").unwrap_err(), Errno::NOENT);
    }

    #[test]
    fn open_below_reaches_beyond_path_max() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_path(dir.path()).unwrap();
        let name = [b'n'; 200];
        let (mut path, mut at) = (RelPath::root(), open_dir(&root, b".").unwrap());
        for _ in 0..30 {
            rustix::fs::mkdirat(&at, &name[..], Mode::RWXU).unwrap();
            at = open_dir(&at, &name).unwrap();
            path = path.join(&name);
        }
        assert_eq!(id_of(open_below(root.as_fd(), &path).unwrap()), id_of(at));
    }

    #[test]
    fn proc_counts_as_a_filesystem_with_events_and_the_list_is_by_magic() {
        assert!(has_events(open_path(Path::new("/proc")).unwrap()));
    }
}
