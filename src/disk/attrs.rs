//! Reading what a file is, and making a file so.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::c_string;
use super::listing::list_at;
use crate::tree::{ACL_ACCESS, ACL_DEFAULT, Acl, Attrs, Entry, FileId, Kind, Mask, Meta, Time, Xattr};

/// Reads the entry `name` of an open directory, without following a symlink; `None` if there is none.
///
/// # Errors
/// What statx(2), readlinkat(2) and listxattr(2) say, `ENOENT` excepted.
pub fn read_entry(dir: BorrowedFd<'_>, name: &[u8], mask: &Mask) -> io::Result<Option<Entry>> {
    let flags = StatxFlags::BASIC_STATS;
    // The empty name asks for `dir` itself.
    let at = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    let stat = match rustix::fs::statx(dir, name, at | AtFlags::NO_AUTOMOUNT, flags) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let Some(mut entry) = entry_of(name, &stat) else {
        return Err(Errno::OPNOTSUPP.into());
    };
    if entry.attrs.meta.kind == Kind::Symlink {
        match rustix::fs::readlinkat(dir, name, Vec::new()) {
            Ok(link) => entry.attrs.symlink = link.into_bytes(),
            // Replaced in between; the caller's event or the next pass sees the new one.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    if mask.acl_modes && entry.attrs.meta.kind != Kind::Symlink {
        take_acl_mode(&mut entry, &magic_path(dir, name), name.is_empty());
    }
    if mask.wants_xattrs() {
        // Few entries have any, and the way through /proc is a long one.
        if name.is_empty() || !has_none(dir, name, mask) {
            entry.attrs.xattrs = read_xattrs(&magic_path(dir, name), mask)?;
        }
    }
    Ok(Some(entry))
}

/// Reads what an open regular file or directory is, without a name, and how many bytes it takes on the
/// disk. The descriptor must not be a mere place (`O_PATH`).
///
/// # Errors
/// What statx(2) and flistxattr(2) say; `EOPNOTSUPP` for an unknown type.
pub fn read_open(file: BorrowedFd<'_>, mask: &Mask) -> io::Result<(Entry, u64)> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    let mut entry = entry_of(b"", &stat).ok_or(Errno::OPNOTSUPP)?;
    if mask.acl_modes {
        take_acl_mode(&mut entry, &magic_path(file, b""), true);
    }
    if mask.wants_xattrs() {
        entry.attrs.xattrs = read_open_xattrs(file, mask)?;
    }
    Ok((entry, stat.stx_blocks.saturating_mul(512)))
}

/// Gives an entry that has an ACL the mode that it is to have without.
fn take_acl_mode(entry: &mut Entry, path: &[u8], own: bool) {
    let value = read_xattr(&c_string(path), ACL_ACCESS, own).ok().flatten();
    if let Some(acl) = value.and_then(|value| Acl::parse(&value)) {
        let mode = &mut entry.attrs.meta.mode;
        *mode = *mode & 0o7000 | acl.mode_without();
    }
}

/// Whether the kernel says at once that an entry has no xattrs that are carried.
fn has_none(dir: BorrowedFd<'_>, name: &[u8], mask: &Mask) -> bool {
    let mut names = [0; 512];
    let Some(Ok(len)) = list_at(dir, &c_string(name), &mut names) else { return false };
    let names = names.get(..len).unwrap_or_default();
    !names.split(|&byte| byte == 0).any(|name| mask.carries_xattr(name))
}

fn entry_of(name: &[u8], stat: &Statx) -> Option<Entry> {
    let mode = u32::from(stat.stx_mode);
    let kind = Kind::from_mode(mode)?;
    let time = |t: rustix::fs::StatxTimestamp| Time { secs: t.tv_sec, nanos: t.tv_nsec };
    Some(Entry {
        name: name.to_vec(),
        attrs: Attrs {
            meta: Meta {
                kind,
                mode: mode & 0o7777,
                uid: stat.stx_uid,
                gid: stat.stx_gid,
                size: if kind == Kind::File { stat.stx_size } else { 0 },
                mtime: time(stat.stx_mtime),
                rdev: if kind.is_device() {
                    rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor)
                } else {
                    0
                },
            },
            symlink: Vec::new(),
            xattrs: Vec::new(),
        },
        ctime: time(stat.stx_ctime),
        id: FileId { dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), ino: stat.stx_ino },
        nlink: if kind == Kind::Dir { 1 } else { stat.stx_nlink },
        hash: None,
        digest: None,
    })
}

/// Returns a path of one component below a held fd: `/proc/self/fd/N/name`. Resolves to nothing but
/// that entry, whatever happens to the directory's own path.
fn magic_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", dir.as_raw_fd()).into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// Returns the ACL that a directory gives to what is made in it, if it has one.
pub fn default_acl(dir: BorrowedFd<'_>) -> Option<Acl> {
    let value = read_xattr(&c_string(&magic_path(dir, b"")), ACL_DEFAULT, true).ok().flatten()?;
    Acl::parse(&value)
}

/// Reads the xattrs of a file that is open for reading or writing.
fn read_open_xattrs(file: BorrowedFd<'_>, mask: &Mask) -> io::Result<Vec<Xattr>> {
    let mut names = [0; 512];
    match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        // Few files have any.
        _ => read_xattrs(&magic_path(file, b""), mask),
    }
}

fn read_xattrs(path: &[u8], mask: &Mask) -> io::Result<Vec<Xattr>> {
    let path = c_string(path);
    // A magic link without a name is followed to the object itself.
    let own = !path.as_bytes().iter().skip("/proc/self/fd/".len()).any(|&b| b == b'/');
    let list = |buffer: &mut [u8]| {
        if own { rustix::fs::listxattr(&path, buffer) } else { rustix::fs::llistxattr(&path, buffer) }
    };
    let mut names = vec![0; 512];
    let len = loop {
        match list(&mut names) {
            Ok(len) => break len,
            Err(Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 4, 0),
            // No xattrs on this filesystem, or the entry went: nothing to carry.
            Err(Errno::OPNOTSUPP | Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let mut xattrs = Vec::new();
    for name in names[..len].split(|&b| b == 0).filter(|name| mask.carries_xattr(name)) {
        if let Some(value) = read_xattr(&path, name, own)? {
            xattrs.push(Xattr { name: name.to_vec(), value });
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

fn read_xattr(path: &std::ffi::CStr, name: &[u8], own: bool) -> io::Result<Option<Vec<u8>>> {
    let name = c_string(name);
    let mut value = vec![0; 256];
    loop {
        let read = if own {
            rustix::fs::getxattr(path, &name, &mut value[..])
        } else {
            rustix::fs::lgetxattr(path, &name, &mut value[..])
        };
        match read {
            Ok(len) => {
                value.truncate(len);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < 1 << 17 => value.resize(value.len() * 8, 0),
            Err(Errno::NODATA | Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// An entry of any type, held by an `O_PATH` fd: metadata goes to it and to nothing else.
#[derive(Debug)]
pub struct Handle(OwnedFd);

impl Handle {
    /// Holds the entry `name` of `dir`; the empty name holds `dir` itself.
    ///
    /// # Errors
    /// What openat(2) says.
    pub fn open(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        let name = if name.is_empty() { b".".as_slice() } else { name };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(dir, name, flags, Mode::empty())?))
    }

    /// Reads the entry that is held.
    ///
    /// # Errors
    /// As [`read_entry`].
    pub fn read(&self, mask: &Mask) -> io::Result<Entry> {
        let mut entry =
            read_entry(self.0.as_fd(), b"", &Mask { xattrs: false, acls: false, acl_modes: false, ..*mask })?
                .ok_or(io::Error::from(Errno::NOENT))?;
        if mask.wants_xattrs() {
            entry.attrs.xattrs = read_xattrs(&magic_path(self.0.as_fd(), b""), mask)?;
        }
        Ok(entry)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The first attribute that could not be set; all others were.
#[derive(Debug)]
pub struct Unset {
    /// What was tried, as a verb and its object.
    pub what: &'static str,
    /// What the system said.
    pub error: io::Error,
}

impl From<Unset> for io::Error {
    fn from(unset: Unset) -> Self {
        unset.error
    }
}

/// Makes the metadata of a held entry equal to `wanted` as far as `mask` keeps it, in the order in which one
/// step does not undo another: owner, mode and ACL, other xattrs, time last. What cannot be set is left, and
/// the file then has fewer rights rather than more: no set-id bits without its owner; without its ACL the
/// group's bits are those of the `group::` entry.
///
/// # Errors
/// [`Unset`], after everything else is done; a file that cannot be looked at stays as it is.
pub fn apply_attrs(handle: &Handle, wanted: &Attrs, mask: &Mask) -> Result<(), Unset> {
    let now = handle.read(mask).map_err(|error| Unset { what: "read attributes", error })?;
    let fd = handle.as_fd();
    let path = c_string(&magic_path(fd, b""));
    let chmod = |mode| rustix::fs::chmod(&path, mode);
    Dressing::new(fd, &chmod, mask).apply(&now.attrs, wanted)
}

/// As [`apply_attrs`], for a regular file that is open for writing: no path is resolved on the way.
///
/// # Errors
/// As [`apply_attrs`].
pub fn apply_attrs_to_file(file: BorrowedFd<'_>, wanted: &Attrs, mask: &Mask) -> Result<(), Unset> {
    let (now, _) = read_open(file, mask).map_err(|error| Unset { what: "read attributes", error })?;
    let chmod = |mode| rustix::fs::fchmod(file, mode);
    Dressing::new(file, &chmod, mask).apply(&now.attrs, wanted)
}

/// One entry that gets attributes.
struct Dressing<'a> {
    fd: BorrowedFd<'a>,
    path: std::ffi::CString,
    chmod: &'a dyn Fn(Mode) -> rustix::io::Result<()>,
    mask: &'a Mask,
    unset: Option<Unset>,
}

impl<'a> Dressing<'a> {
    fn new(fd: BorrowedFd<'a>, chmod: &'a dyn Fn(Mode) -> rustix::io::Result<()>, mask: &'a Mask) -> Self {
        Self { fd, path: c_string(&magic_path(fd, b"")), chmod, mask, unset: None }
    }

    fn apply(mut self, now: &Attrs, wanted: &Attrs) -> Result<(), Unset> {
        let (meta, have) = (&wanted.meta, &now.meta);
        let uid = (self.mask.owner && meta.uid != have.uid).then_some(meta.uid);
        let gid = (self.mask.group && meta.gid != have.gid).then_some(meta.gid);
        let chowned = uid.is_some() || gid.is_some();
        let owned = self.own(uid, gid);
        let bits = if owned && self.mask.set_id { 0o7777 } else { 0o1777 };
        let bits = if self.mask.set_id { bits } else { 0o777 };
        if meta.kind != Kind::Symlink {
            self.permit(now, wanted, (bits, chowned));
        }
        if self.mask.wants_xattrs() && !(now.xattrs.is_empty() && wanted.xattrs.is_empty()) {
            // A chown drops capabilities: after one, everything is set again.
            self.annotate(now, wanted, chowned);
        }
        if self.mask.keeps_time(meta.kind) {
            let set = set_times(self.fd, meta.mtime);
            self.note("set time", set);
        }
        self.unset.map_or(Ok(()), Err)
    }

    /// Keeps the first failure; `true` if there was none.
    fn note(&mut self, what: &'static str, done: Result<(), impl Into<io::Error>>) -> bool {
        match done {
            Ok(()) => true,
            Err(error) => {
                let error = error.into();
                self.unset.get_or_insert(Unset { what, error });
                false
            }
        }
    }

    /// Sets owner and group; `true` if both are as they should be.
    fn own(&mut self, uid: Option<u32>, gid: Option<u32>) -> bool {
        let chown = |uid: Option<u32>, gid: Option<u32>| {
            // To chown(2) the highest number means "leave it".
            if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
                return Err(Errno::INVAL);
            }
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            rustix::fs::chownat(self.fd, c"", uid, gid, AtFlags::EMPTY_PATH)
        };
        let both = match (uid, gid) {
            (None, None) => Ok(()),
            (uid, gid) => chown(uid, gid),
        };
        if both.is_err() && uid.is_some() && gid.is_some() {
            // Of the two, one may be possible.
            let _ = (chown(None, gid), chown(uid, None));
        }
        self.note("set owner", both)
    }

    /// Sets the mode and the ACL, which are one value.
    fn permit(&mut self, now: &Attrs, wanted: &Attrs, (bits, chowned): (u32, bool)) {
        let mode = wanted.meta.mode & bits;
        let chmod = |mode: u32| (self.chmod)(Mode::from(mode));
        let old = acl_of(now).filter(|_| self.mask.acls);
        let acl = acl_of(wanted).filter(|_| self.mask.acls).cloned().map(|mut acl| {
            if !self.mask.perms {
                acl.set_acl_mode(now.meta.mode);
            }
            acl
        });
        if old == acl.as_ref() {
            if self.mask.perms && (chowned || mode != now.meta.mode & bits) {
                let set = chmod(mode);
                self.note("set mode", set);
            }
            return;
        }
        // As it is to be without the ACL: with the mask in the place of its group's bits it would be open
        // for a moment, or for as long as the ACL cannot be set.
        let kept = if self.mask.perms { mode } else { now.meta.mode & bits };
        let bare = |acl: &Xattr| {
            Acl::parse(&acl.value).map_or(kept & 0o7700, |acl| kept & (acl.mode_without() | 0o7000))
        };
        let first = match (&acl, self.mask.perms) {
            (Some(acl), _) => bare(acl),
            (None, true) => kept,
            (None, false) => old.map_or(kept, bare),
        };
        if old.is_some() {
            let removed = remove(&self.path, ACL_ACCESS);
            self.note("set ACL", removed);
        }
        let closed = chmod(first);
        if !self.note("set mode", closed) {
            return;
        }
        let Some(acl) = acl else { return };
        let name = c_string(ACL_ACCESS);
        let set = rustix::fs::setxattr(&self.path, name.as_c_str(), &acl.value, XattrFlags::empty());
        if self.note("set ACL", set) && self.mask.perms {
            // Setting an ACL may have taken the set-gid bit.
            let set = chmod(mode);
            self.note("set mode", set);
        }
    }

    /// Sets the extended attributes, each for itself.
    fn annotate(&mut self, now: &Attrs, wanted: &Attrs, all: bool) {
        let mask = self.mask;
        let named = |xattr: &&Xattr| xattr.name != ACL_ACCESS;
        for xattr in mask.kept_xattrs(now).filter(named) {
            if !wanted.xattrs.iter().any(|other| other.name == xattr.name) {
                let removed = remove(&self.path, &xattr.name);
                self.note("remove extended attribute", removed);
            }
        }
        for xattr in mask.kept_xattrs(wanted).filter(named) {
            if !all && now.xattrs.contains(xattr) {
                continue;
            }
            let name = c_string(&xattr.name);
            let set = rustix::fs::setxattr(&self.path, name.as_c_str(), &xattr.value, XattrFlags::empty());
            let is_acl = xattr.name == ACL_DEFAULT;
            if !self.note(if is_acl { "set ACL" } else { "set extended attribute" }, set) && is_acl {
                // The one before may allow more.
                let _ = remove(&self.path, ACL_DEFAULT);
            }
        }
    }
}

fn acl_of(attrs: &Attrs) -> Option<&Xattr> {
    attrs.xattrs.iter().find(|xattr| xattr.name == ACL_ACCESS)
}

fn remove(path: &std::ffi::CStr, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::removexattr(path, c_string(name).as_c_str()) {
        Err(Errno::NODATA) => Ok(()),
        done => done,
    }
}

/// Sets the modification time of what `fd` holds; the access time stays.
///
/// # Errors
/// What utimensat(2) says.
pub fn set_times(fd: BorrowedFd<'_>, mtime: Time) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() },
    };
    Ok(rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)?)
}

#[cfg(test)]
mod tests {
    use super::super::listing::without;
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    fn dir() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = File::open(dir.path()).unwrap().into();
        (dir, fd)
    }

    #[test]
    fn attributes_of_every_settable_type_survive_a_round_trip() {
        let (dir, fd) = dir();
        fs::write(dir.path().join("file"), b"abc").unwrap();
        fs::create_dir(dir.path().join("dir")).unwrap();
        symlink("no where", dir.path().join("link")).unwrap();
        rustix::fs::mknodat(&fd, "fifo", rustix::fs::FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let root = rustix::process::geteuid().is_root();
        for name in ["file", "dir", "link", "fifo"] {
            let mask = Mask::everything();
            let handle = Handle::open(fd.as_fd(), name.as_bytes()).unwrap();
            let mut wanted = handle.read(&mask).unwrap().attrs;
            wanted.meta.mtime = Time { secs: -5, nanos: 123_456_789 };
            if name != "link" {
                wanted.meta.mode = 0o751;
            }
            if root {
                (wanted.meta.uid, wanted.meta.gid) = (1234, 5678);
            }
            if name == "file" || name == "dir" {
                wanted.xattrs = vec![Xattr { name: b"user.note".to_vec(), value: b"\0x".to_vec() }];
            }
            apply_attrs(&handle, &wanted, &mask).unwrap();
            let now = read_entry(fd.as_fd(), name.as_bytes(), &mask).unwrap().unwrap();
            assert_eq!(now.attrs, wanted, "{name}");
            wanted.xattrs.clear();
            apply_attrs(&handle, &wanted, &mask).unwrap();
            assert_eq!(handle.read(&mask).unwrap().attrs, wanted, "{name}");
        }
        assert_eq!(read_entry(fd.as_fd(), b"none", &Mask::everything()).unwrap(), None);
    }

    #[test]
    fn both_ways_to_list_xattrs_find_the_same() {
        let (dir, fd) = dir();
        for (name, len) in [("none", 0), ("one", 1), ("many", 60)] {
            fs::write(dir.path().join(name), b"").unwrap();
            for nth in 0..len {
                // Sixty of these names are longer than the first buffer.
                let path = dir.path().join(name);
                rustix::fs::setxattr(&path, format!("user.note-{nth:04}"), b"x", XattrFlags::empty())
                    .unwrap();
            }
        }
        symlink("one", dir.path().join("link")).unwrap();
        let mask = Mask::everything();
        for (name, count) in [("none", 0), ("one", 1), ("many", 60), ("link", 0)] {
            let read = || read_entry(fd.as_fd(), name.as_bytes(), &mask).unwrap().unwrap().attrs.xattrs;
            let (direct, through_proc) = (read(), without(read));
            assert_eq!(direct, through_proc, "{name}");
            assert_eq!(direct.iter().filter(|xattr| xattr.name.starts_with(b"user.")).count(), count);
        }
        // What is listed and not carried is none.
        let nothing = Mask { xattrs: false, ..mask };
        let knows = list_at(fd.as_fd(), c"one", &mut [0; 99]).is_some();
        assert_eq!(
            (knows, false),
            (has_none(fd.as_fd(), b"one", &nothing), has_none(fd.as_fd(), b"one", &mask))
        );
    }

    #[test]
    fn an_open_file_takes_the_same_attributes_as_one_that_is_held() {
        let (dir, fd) = dir();
        let mask = Mask::everything();
        for name in ["held", "open"] {
            fs::write(dir.path().join(name), b"abc").unwrap();
        }
        let mut wanted = read_entry(fd.as_fd(), b"held", &mask).unwrap().unwrap().attrs;
        (wanted.meta.mode, wanted.meta.mtime) = (0o2751, Time { secs: 9, nanos: 8 });
        if rustix::process::geteuid().is_root() {
            (wanted.meta.uid, wanted.meta.gid) = (1234, 5678);
        }
        wanted.xattrs = vec![Xattr { name: b"user.note".to_vec(), value: b"x".to_vec() }];
        for again in [false, true] {
            if again {
                wanted.xattrs.clear();
            }
            apply_attrs(&Handle::open(fd.as_fd(), b"held").unwrap(), &wanted, &mask).unwrap();
            let file = File::options().write(true).open(dir.path().join("open")).unwrap();
            apply_attrs_to_file(file.as_fd(), &wanted, &mask).unwrap();
            for name in ["held", "open"] {
                let now = read_entry(fd.as_fd(), name.as_bytes(), &mask).unwrap().unwrap();
                assert_eq!(now.attrs, wanted, "{name}");
            }
        }
    }

    #[test]
    fn set_id_bits_survive_a_change_of_owner() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (dir, fd) = dir();
        fs::write(dir.path().join("file"), b"abc").unwrap();
        let handle = Handle::open(fd.as_fd(), b"file").unwrap();
        let mut wanted = handle.read(&Mask::everything()).unwrap().attrs;
        (wanted.meta.uid, wanted.meta.mode) = (1234, 0o6755);
        apply_attrs(&handle, &wanted, &Mask::everything()).unwrap();
        assert_eq!(handle.read(&Mask::everything()).unwrap().attrs.meta.mode, 0o6755);
    }
}
