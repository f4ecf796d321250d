//! Trying a target out, for `speil doctor`: what its root takes, how fast, and how much.
//!
//! **Invariants:** leaves nothing behind but the atime; works beside a live mirror on the same root,
//! for its files bear temporary names and are removed before the answer; bounded in time and in bytes.

use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::install::temp_name;
use crate::disk::{Root, read_entry, set_times};
use crate::protocol::{Examination, RootPlace};
use crate::tree::{Mask, NAME_LEN_MAX, Time};

/// Small durable writes that are timed at most, and for how long.
const SMALL_WRITES: usize = 32;
const SMALL_SPAN: Duration = Duration::from_millis(400);
/// Size of a small write in bytes: a page.
const SMALL_LEN: usize = 4096;
/// Size of the large write in bytes, and of its pieces.
const LARGE_LEN: usize = 16 << 20;
const PIECE_LEN: usize = 1 << 20;

/// Tries the root out. The user and the boot id are left to those who may still look them up.
pub(super) fn examine(root: &Root, wanted: &Mask, tag: u32) -> Examination {
    let before = read_entry(root.as_fd(), b"", &Mask::nothing()).ok().flatten();
    let writing = try_writing(root, tag);
    let works = writing.is_ok();
    let lacks = if works { super::profile::probe(root, wanted, tag).lacks } else { Vec::new() };
    let names = if works { try_names(root, tag) } else { Names::default() };
    if let Some(before) = before {
        let _ = set_times(root.as_fd(), before.attrs.meta.mtime);
    }
    let space = rustix::fs::fstatvfs(root).ok();
    let bytes = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
        space.as_ref().map_or(0, |stat| blocks(stat).saturating_mul(stat.f_frsize))
    };
    Examination {
        place: place_of(root),
        clock: now(),
        user: String::new(),
        write_errno: writing.as_ref().err().map_or(0, |errno| errno.raw_os_error()),
        lacks,
        name_len: names.longest,
        folds_case: names.folds_case,
        any_bytes: names.any_bytes,
        total_bytes: bytes(|stat| stat.f_blocks),
        free_bytes: bytes(|stat| stat.f_bavail),
        free_inodes: space.as_ref().filter(|stat| stat.f_files > 0).map(|stat| stat.f_favail),
        small_write_us: writing.as_ref().map_or(0, |speed| speed.small_us),
        large_write_rate: writing.as_ref().map_or(0, |speed| speed.large_rate),
    }
}

fn place_of(root: &Root) -> RootPlace {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", root.as_fd().as_raw_fd());
    let real = std::fs::read_link(&path).unwrap_or_else(|_| path.into());
    super::place::place(&real).unwrap_or(RootPlace { boot_id: String::new(), lineage: Vec::new() })
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}

struct Speed {
    small_us: u64,
    large_rate: u64,
}

/// A file of the trial, removed with its guard.
struct Trial<'a> {
    root: &'a Root,
    name: Vec<u8>,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(self.root, self.name.as_slice(), AtFlags::empty());
    }
}

fn try_writing(root: &Root, tag: u32) -> Result<Speed, Errno> {
    let name = temp_name(tag);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(root, name.as_slice(), flags, Mode::from(0o600))?;
    let _trial = Trial { root, name };
    let page = [0x5a; SMALL_LEN];
    let mut took = Vec::with_capacity(SMALL_WRITES);
    let began = Instant::now();
    while took.len() < SMALL_WRITES && (took.is_empty() || began.elapsed() < SMALL_SPAN) {
        let one = Instant::now();
        write_at(file.as_fd(), &page, ((took.len() % 4) * SMALL_LEN) as u64)?;
        rustix::fs::fdatasync(&file)?;
        took.push(one.elapsed());
    }
    took.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    Ok(Speed {
        small_us: u64::try_from(median.as_micros()).unwrap_or(u64::MAX).max(1),
        // A nearly full disk takes small files yet.
        large_rate: large_rate(file.as_fd()).unwrap_or(0),
    })
}

fn large_rate(file: std::os::fd::BorrowedFd<'_>) -> Result<u64, Errno> {
    // Never the last of the room: others live there as well.
    let space = rustix::fs::fstatvfs(file)?;
    if space.f_bavail.saturating_mul(space.f_frsize) < 8 * LARGE_LEN as u64 {
        return Ok(0);
    }
    let mut piece = vec![0; PIECE_LEN];
    // What a disk could compress or deduplicate would flatter it.
    let _ = rustix::rand::getrandom(&mut piece, rustix::rand::GetRandomFlags::empty());
    let began = Instant::now();
    for at in (0..LARGE_LEN).step_by(PIECE_LEN) {
        write_at(file, &piece, at as u64)?;
    }
    rustix::fs::fdatasync(file)?;
    let took = began.elapsed().as_secs_f64().max(1e-6);
    Ok((LARGE_LEN as f64 / took) as u64)
}

fn write_at(file: std::os::fd::BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[derive(Default)]
struct Names {
    longest: u32,
    folds_case: bool,
    any_bytes: bool,
}

fn try_names(root: &Root, tag: u32) -> Names {
    let stem = temp_name(tag);
    let takes = |name: &[u8]| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(root, name, flags, Mode::from(0o600));
        made.is_ok().then(|| Trial { root, name: name.to_vec() })
    };
    let padded = |len: usize| {
        let mut name = stem.clone();
        name.resize(len.max(name.len()), b'n');
        name
    };
    let mut longest = NAME_LEN_MAX;
    // eCryptfs takes 143, some network filesystems fewer.
    while longest > stem.len() && takes(&padded(longest)).is_none() {
        longest -= 1;
    }
    let mut odd = stem.clone();
    odd.extend_from_slice(b"\xff\xfe");
    let any_bytes = takes(&odd).is_some();
    let kept = takes(&stem);
    let upper = stem.to_ascii_uppercase();
    let folded = read_entry(root.as_fd(), &upper, &Mask::nothing()).ok().flatten().is_some();
    Names { longest: longest as u32, folds_case: kept.is_some() && folded, any_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_tried_out_and_looks_as_before() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let stamp = std::fs::metadata(dir.path()).unwrap().modified().unwrap();
        let found = examine(&root, &Mask::everything(), 7);
        assert_eq!((found.write_errno, found.name_len), (0, 255));
        assert!(found.any_bytes && !found.folds_case && found.small_write_us > 0, "{found:?}");
        assert!(found.free_bytes > 0 && found.total_bytes >= found.free_bytes);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(dir.path()).unwrap().modified().unwrap(), stamp);
    }
}
