//! Edits of names, types and metadata.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, Timespec, XattrFlags, makedev};

use super::content::write;
use super::{Churn, Kind};
use crate::support::tree::set_times;

/// What symlinks point to; the same for every root, so that a seed makes one tree.
///
/// A path of an old listing may lead through one of them: none leads to a directory outside the
/// root in which an edit could do harm.
const LINK_TARGETS: &[&str] = &[
    ".",
    "nowhere",
    "f1",
    "d1",
    "d1/f3",
    "../speil-churn-nowhere",
    "/speil-churn-nowhere/file",
    "/dev/null",
    "/proc/tty",
    "\n",
];

/// Fails for a path that is not a directory, so that nothing is done to the wrong type.
fn must_be_dir(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

fn must_not_be_dir(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(()) }
}

/// Returns a third name beside `path`.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name("third name")
}

pub fn rename_file(churn: &mut Churn) -> io::Result<()> {
    let (from, to) = (churn.some(|_, kind| kind != Kind::Dir)?, churn.some_place());
    fs::rename(from, to)
}

pub fn rename_over_file(churn: &mut Churn) -> io::Result<()> {
    let (from, to) = (churn.some_file()?, churn.some(|_, kind| kind != Kind::Dir)?);
    must_not_be_dir(&to)?;
    if from == to { Err(io::ErrorKind::InvalidInput.into()) } else { fs::rename(from, to) }
}

pub fn rename_dir(churn: &mut Churn) -> io::Result<()> {
    let from = churn.some_dir()?;
    let to = churn.some_parent().join(churn.dir_name());
    if churn.fits(&from, &to) { fs::rename(from, to) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

pub fn rename_over_dir(churn: &mut Churn) -> io::Result<()> {
    let from = churn.some_dir()?;
    let to = churn.some_parent().join(churn.dir_name());
    let _ = fs::create_dir(&to);
    if !churn.fits(&from, &to) || from == to {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fs::rename(from, to)
}

/// `write d/f; mv d e; mkdir d; write d/f`: two files of one path, the first of which moved on.
pub fn rename_and_make_again(churn: &mut Churn) -> io::Result<()> {
    let dir = churn.some_dir()?;
    let to = churn.some_parent().join(churn.dir_name());
    if !churn.fits(&dir, &to) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let name = churn.file_name();
    write(&dir.join(&name), b"first")?;
    fs::rename(&dir, to)?;
    fs::create_dir(&dir)?;
    write(&dir.join(&name), b"second")
}

pub fn swap_by_third_name(churn: &mut Churn) -> io::Result<()> {
    let (a, b) = two_of_a_kind(churn)?;
    let third = beside(&a);
    fs::rename(&a, &third)?;
    fs::rename(&b, &a).and_then(|()| fs::rename(&third, &b))
}

pub fn swap_at_once(churn: &mut Churn) -> io::Result<()> {
    // A file and a directory may change places as well.
    let (a, b) =
        if churn.rng.one_in(3) { (churn.some_file()?, churn.some_dir()?) } else { two_of_a_kind(churn)? };
    if !churn.fits(&a, &b) || !churn.fits(&b, &a) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

/// Returns two different files, or two directories of which neither holds the other.
fn two_of_a_kind(churn: &mut Churn) -> io::Result<(PathBuf, PathBuf)> {
    let kind = if churn.rng.one_in(2) { Kind::File } else { Kind::Dir };
    let (a, b) = (churn.some(|_, k| k == kind)?, churn.some(|_, k| k == kind)?);
    let nested = a.starts_with(&b) || b.starts_with(&a);
    if nested || !churn.fits(&a, &b) || !churn.fits(&b, &a) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    a.symlink_metadata()?;
    b.symlink_metadata()?;
    Ok((a, b))
}

pub fn hard_link(churn: &mut Churn) -> io::Result<()> {
    let (from, to) = (churn.some_file()?, churn.some_place());
    fs::hard_link(from, to)
}

/// Renames one name of an inode over another of it, which by the rules does nothing at all.
pub fn rename_over_fellow(churn: &mut Churn) -> io::Result<()> {
    let from = churn.some_file()?;
    let to = from.with_file_name("fellow");
    let _ = fs::hard_link(&from, &to);
    fs::rename(from, to)
}

pub fn symlink(churn: &mut Churn) -> io::Result<()> {
    let to = churn.some_place();
    let target = churn.rng.pick(LINK_TARGETS).copied().unwrap_or(".");
    std::os::unix::fs::symlink(target, to)
}

pub fn make_dir(churn: &mut Churn) -> io::Result<()> {
    let parent = churn.some_parent();
    fs::create_dir(parent.join(churn.dir_name()))
}

/// `mkdir -p` with a file at the end at once: the lower levels stand before anyone can watch them.
pub fn make_chain(churn: &mut Churn) -> io::Result<()> {
    let mut dir = churn.some_parent();
    for _ in 0..1 + churn.rng.below(4) {
        dir.push(churn.dir_name());
    }
    fs::create_dir_all(&dir)?;
    write(&dir.join(churn.file_name()), b"at the end of a chain")
}

pub fn make_special(churn: &mut Churn) -> io::Result<()> {
    let path = churn.some_place();
    let (kind, device) = match churn.rng.below(3) {
        0 if rustix::process::geteuid().is_root() => (FileType::CharacterDevice, makedev(1, 3)),
        _ => (FileType::Fifo, 0),
    };
    Ok(rustix::fs::mknodat(CWD, path, kind, Mode::from(0o640), device)?)
}

pub fn remove_file(churn: &mut Churn) -> io::Result<()> {
    fs::remove_file(churn.some(|_, kind| kind != Kind::Dir)?)
}

pub fn remove_tree(churn: &mut Churn) -> io::Result<()> {
    fs::remove_dir_all(churn.some_dir()?)
}

pub fn change_type(churn: &mut Churn) -> io::Result<()> {
    let path = churn.some_entry()?;
    if path.symlink_metadata()?.is_dir() {
        fs::remove_dir_all(&path)?
    } else {
        fs::remove_file(&path)?
    }
    match churn.rng.below(4) {
        0 => write(&path, b"was something else"),
        1 => std::os::unix::fs::symlink("elsewhere", path),
        2 => fs::create_dir(path),
        _ => fs::create_dir(&path).and_then(|()| write(&path.join("inside"), b"a new directory")),
    }
}

pub fn change_mode(churn: &mut Churn) -> io::Result<()> {
    let path = churn.some(|_, kind| kind != Kind::Other)?;
    let meta = path.symlink_metadata()?;
    if meta.is_symlink() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let readable = if meta.is_dir() { 0o700 } else { 0o600 };
    let mode = u32::try_from(churn.rng.below(0o10000)).unwrap_or(0) | readable;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

pub fn change_owner(churn: &mut Churn) -> io::Result<()> {
    let path = churn.some_entry()?;
    let mut id = || u32::try_from(churn.rng.below(3)).ok();
    let (owner, group) = (id(), id());
    lchown(path, owner, group)
}

pub fn change_time(churn: &mut Churn) -> io::Result<()> {
    let path = churn.some_entry()?;
    // From 1965 on: times before 1970 are legal.
    let seconds = i64::try_from(churn.rng.below(2_000_000_000)).unwrap_or(0) - 150_000_000;
    let nanoseconds = if churn.rng.one_in(3) { 0 } else { churn.rng.below(1_000_000_000) };
    set_times(&path, Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ })
}

pub fn change_xattr(churn: &mut Churn) -> io::Result<()> {
    let path = churn.some(|_, kind| kind != Kind::Other)?;
    let key = OsString::from(format!("user.k{}", churn.rng.below(3)));
    must_be_plain(&path)?;
    if churn.rng.one_in(4) {
        return Ok(rustix::fs::lremovexattr(path, key)?);
    }
    let len = churn.rng.below(200);
    let value = churn.rng.bytes(len);
    Ok(rustix::fs::lsetxattr(path, key, &value, XattrFlags::empty())?)
}

/// Fails for what stands elsewhere or is no file or directory by now.
fn must_be_plain(path: &Path) -> io::Result<()> {
    let meta = path.symlink_metadata()?;
    if meta.is_dir() || meta.is_file() { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Sets an access list, or on a directory at times the one that new entries inherit.
pub fn change_acl(churn: &mut Churn) -> io::Result<()> {
    let path = churn.some(|_, kind| kind != Kind::Other)?;
    must_be_plain(&path)?;
    let inherited = must_be_dir(&path).is_ok() && churn.rng.one_in(2);
    let key = if inherited { "system.posix_acl_default" } else { "system.posix_acl_access" };
    let mode = u16::try_from(path.symlink_metadata()?.mode() & 0o777).unwrap_or(0);
    let named = u32::try_from(1 + churn.rng.below(4)).unwrap_or(1);
    // acl(5) in the kernel's form, version 2: tag, permissions, id; sorted by tag.
    let none = u32::MAX;
    let entries = [
        (0x01, mode >> 6 | 6, none),
        (0x02, 4, named),
        (0x04, mode >> 3 & 7, none),
        (0x10, 7, none),
        (0x20, mode & 7, none),
    ];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&u16::to_le_bytes(tag));
        value.extend_from_slice(&u16::to_le_bytes(permissions));
        value.extend_from_slice(&u32::to_le_bytes(id));
    }
    Ok(rustix::fs::lsetxattr(path, key, &value, XattrFlags::empty())?)
}
