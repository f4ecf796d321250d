//! What a file is besides its content.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{ACL_ACCESS, ACL_DEFAULT, Acl};

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// Returns the type that the file type bits of `st_mode` state; `None` for bits that Linux lacks.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Dir,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            _ => return None,
        })
    }

    /// Whether the type is a device node.
    pub fn is_device(self) -> bool {
        matches!(self, Self::CharDevice | Self::BlockDevice)
    }

    /// Whether the type is a FIFO or a socket.
    pub fn is_special(self) -> bool {
        matches!(self, Self::Fifo | Self::Socket)
    }

    /// Returns the noun for messages.
    pub fn noun(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
        }
    }
}

/// A point in time of a file: seconds since the epoch, and nanoseconds (0 to 999,999,999).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time {
    /// Whole seconds since the epoch; negative before it.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

impl Time {
    /// The latest one that there is: no clock shows it.
    pub const LATEST: Self = Self { secs: i64::MAX, nanos: 999_999_999 };

    /// Returns the time cut to a multiple of `granularity_ns` nanoseconds; 1 keeps it.
    #[must_use]
    pub fn truncated(self, granularity_ns: u64) -> Self {
        if granularity_ns <= 1 {
            return self;
        }
        let total = i128::from(self.secs) * 1_000_000_000 + i128::from(self.nanos);
        let cut = total - total.rem_euclid(i128::from(granularity_ns));
        Self {
            secs: i64::try_from(cut.div_euclid(1_000_000_000)).unwrap_or(self.secs),
            nanos: u32::try_from(cut.rem_euclid(1_000_000_000)).unwrap_or(0),
        }
    }

    /// Returns the current time of this host's clock.
    pub fn now() -> Self {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { secs: i64::try_from(since.as_secs()).unwrap_or(0), nanos: since.subsec_nanos() }
    }

    /// Returns year, month (1 to 12) and day (1 to 31) in UTC. Source: Howard Hinnant,
    /// "chrono-Compatible Low-Level Date Algorithms".
    pub fn date(self) -> (i64, u32, u32) {
        let z = self.secs.div_euclid(86_400) + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
        let year = yoe + era * 400 + i64::from(month <= 2);
        (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
    }

    /// Returns the distance to `other` in nanoseconds.
    pub fn distance_ns(self, other: Self) -> u128 {
        let total = |t: Self| i128::from(t.secs) * 1_000_000_000 + i128::from(t.nanos);
        (total(self) - total(other)).unsigned_abs()
    }
}

/// Device and inode: one file on one host while somebody holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// What tells two versions of one file apart without reading it. Equal versions prove nothing
/// while a writer has the file open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Which inode.
    pub id: FileId,
    /// Bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Change time.
    pub ctime: Time,
}

/// Type, rights, owner, size and time of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The type.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits (0 to 0o7777).
    pub mode: u32,
    /// Owner, as the target numbers it when the value travels.
    pub uid: u32,
    /// Group, as the target numbers it when the value travels.
    pub gid: u32,
    /// Bytes of a regular file, else 0.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Device number of a device node as `st_rdev`, else 0.
    pub rdev: u64,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// Full name with its namespace, `user.comment`.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// The value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

impl Xattr {
    /// Makes an ACL that of a file of another mode; any other value stays as it is.
    pub fn set_acl_mode(&mut self, mode: u32) {
        if let Some(mut acl) = Acl::parse(&self.value).filter(|_| self.name == ACL_ACCESS) {
            acl.set_mode(mode);
            self.value = acl.into_value();
        }
    }
}

/// Everything of a file besides its name and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attrs {
    /// Type, rights, owner, size and time.
    pub meta: Meta,
    /// What a symlink points at, verbatim; empty for every other type.
    #[serde(with = "serde_bytes")]
    pub symlink: Vec<u8>,
    /// Extended attributes by name, POSIX ACLs and capabilities among them. Sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The file name, one component.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// What the file is.
    pub attrs: Attrs,
    /// Change time, on the clock of the host that reports it; [`Time::LATEST`] in a listing if that host doubts the
    /// file: it may hold something else than its size and time say.
    pub ctime: Time,
    /// Which inode.
    pub id: FileId,
    /// Number of names of the inode; 1 for a directory.
    pub nlink: u32,
    /// BLAKE3 of the content where the pass compares contents.
    pub hash: Option<[u8; 32]>,
    /// Digest of everything below, for a directory that was walked.
    pub digest: Option<super::Digest>,
}

impl Entry {
    /// Whether the host that reports it doubts it.
    pub fn is_doubted(&self) -> bool {
        self.ctime == Time::LATEST
    }

    /// Returns what tells this version apart from another one.
    pub fn version(&self) -> Version {
        Version { id: self.id, size: self.attrs.meta.size, mtime: self.attrs.meta.mtime, ctime: self.ctime }
    }
}

/// Which properties two trees are compared and kept by: what the user asked for, less what the
/// target cannot hold. Settled in the handshake; the rest is neither sent nor digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "one flag per rsync option; the field's own vocabulary")]
pub struct Mask {
    /// Permission bits (`-p`).
    pub perms: bool,
    /// Owner (`-o`).
    pub owner: bool,
    /// Group (`-g`).
    pub group: bool,
    /// Modification times (`-t`).
    pub times: bool,
    /// Modification times of directories (`-t` without `-O`).
    pub dir_times: bool,
    /// Modification times of symlinks.
    pub link_times: bool,
    /// Set-id and sticky bits survive a `chmod` on the target.
    pub set_id: bool,
    /// Symlinks (`-l`).
    pub symlinks: bool,
    /// Hard links stay links (`-H`).
    pub hard_links: bool,
    /// Device nodes.
    pub devices: bool,
    /// FIFOs and sockets.
    pub specials: bool,
    /// Extended attributes (`-X`) of the `user` namespace.
    pub xattrs: bool,
    /// Extended attributes of the privileged namespaces `trusted` and `security`.
    pub privileged_xattrs: bool,
    /// POSIX ACLs (`-A`).
    pub acls: bool,
    /// Compare contents by BLAKE3 (`-c`).
    pub checksum: bool,
    /// Smallest step of a modification time that both sides hold, in nanoseconds (1 or more).
    pub granularity_ns: u64,
    /// ACLs are wanted, and the other side cannot hold them: what has one counts as a file without it, whose
    /// group has the rights of the `group::` entry and not those of the mask. Of this side alone.
    #[serde(skip)]
    pub acl_modes: bool,
}

impl Mask {
    /// Returns the mask of `-aHAX`, the default of the live modes.
    pub const fn everything() -> Self {
        Self {
            perms: true,
            owner: true,
            group: true,
            times: true,
            dir_times: true,
            link_times: true,
            set_id: true,
            symlinks: true,
            hard_links: true,
            devices: true,
            specials: true,
            xattrs: true,
            privileged_xattrs: true,
            acls: true,
            checksum: false,
            granularity_ns: 1,
            acl_modes: false,
        }
    }

    /// Returns the mask of no option at all: names, types, sizes and contents.
    pub const fn nothing() -> Self {
        Self {
            perms: false,
            owner: false,
            group: false,
            times: false,
            dir_times: false,
            link_times: false,
            set_id: true,
            symlinks: false,
            hard_links: false,
            devices: false,
            specials: false,
            xattrs: false,
            privileged_xattrs: false,
            acls: false,
            checksum: false,
            granularity_ns: 1,
            acl_modes: false,
        }
    }

    /// Returns what both masks keep, with the coarser time step.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self {
            perms: self.perms && other.perms,
            owner: self.owner && other.owner,
            group: self.group && other.group,
            times: self.times && other.times,
            dir_times: self.dir_times && other.dir_times,
            link_times: self.link_times && other.link_times,
            set_id: self.set_id && other.set_id,
            symlinks: self.symlinks && other.symlinks,
            hard_links: self.hard_links && other.hard_links,
            devices: self.devices && other.devices,
            specials: self.specials && other.specials,
            xattrs: self.xattrs && other.xattrs,
            privileged_xattrs: self.privileged_xattrs && other.privileged_xattrs,
            acls: self.acls && other.acls,
            checksum: self.checksum,
            granularity_ns: self.granularity_ns.max(other.granularity_ns),
            acl_modes: self.acl_modes || (self.acls && !other.acls),
        }
    }

    /// Whether entries of this type are mirrored at all.
    pub fn carries(&self, kind: Kind) -> bool {
        match kind {
            Kind::File | Kind::Dir => true,
            Kind::Symlink => self.symlinks,
            Kind::Fifo | Kind::Socket => self.specials,
            Kind::CharDevice | Kind::BlockDevice => self.devices,
        }
    }

    /// Whether the extended attribute `name` is mirrored. `security.selinux` never is: labels belong
    /// to the host's policy.
    pub fn carries_xattr(&self, name: &[u8]) -> bool {
        if name == ACL_ACCESS || name == ACL_DEFAULT {
            self.acls
        } else if name.starts_with(b"user.") {
            self.xattrs
        } else if name == b"security.selinux" {
            false
        } else if name.starts_with(b"security.") || name.starts_with(b"trusted.") {
            self.xattrs && self.privileged_xattrs
        } else {
            false
        }
    }

    /// Whether any extended attribute is mirrored.
    pub fn wants_xattrs(&self) -> bool {
        self.xattrs || self.acls
    }

    /// Whether the modification time of an entry of this type is kept.
    pub fn keeps_time(&self, kind: Kind) -> bool {
        self.times
            && match kind {
                Kind::Dir => self.dir_times,
                Kind::Symlink => self.link_times,
                _ => true,
            }
    }

    /// Whether two files of one type differ in a property other than content that this mask keeps.
    /// Sizes and the times of regular files are left to the content comparison.
    pub fn attrs_differ(&self, a: &Attrs, b: &Attrs) -> bool {
        let (m, n) = (&a.meta, &b.meta);
        if m.kind != n.kind || m.rdev != n.rdev || a.symlink != b.symlink {
            return true;
        }
        let symlink = m.kind == Kind::Symlink;
        let bits = if self.set_id { 0o7777 } else { 0o777 };
        (self.perms && !symlink && m.mode & bits != n.mode & bits)
            || (self.owner && m.uid != n.uid)
            || (self.group && m.gid != n.gid)
            || (self.keeps_time(m.kind)
                && m.mtime.truncated(self.granularity_ns) != n.mtime.truncated(self.granularity_ns))
            || (self.wants_xattrs() && !self.compared_xattrs(a).eq(self.compared_xattrs(b)))
    }

    /// Returns the extended attributes that this mask keeps, as they are compared. Without permission bits the
    /// part of an ACL that is one value with them is left out.
    pub fn compared_xattrs<'a>(&'a self, attrs: &'a Attrs) -> impl Iterator<Item = Cow<'a, Xattr>> {
        self.kept_xattrs(attrs).map(|xattr| {
            if self.perms || xattr.name != ACL_ACCESS {
                return Cow::Borrowed(xattr);
            }
            let mut bare = xattr.clone();
            bare.set_acl_mode(0);
            Cow::Owned(bare)
        })
    }

    /// Returns the extended attributes that this mask keeps.
    pub fn kept_xattrs<'a>(&'a self, attrs: &'a Attrs) -> impl Iterator<Item = &'a Xattr> {
        attrs.xattrs.iter().filter(|xattr| self.carries_xattr(&xattr.name))
    }
}
