//! What the target can hold, found by trying on temporary files.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::install::temp_name;
use crate::disk::{Handle, Root, c_string, read_entry, set_times};
use crate::tree::{Mask, Time};

/// What the target holds, and in words what it does not.
pub(super) struct Profile {
    pub mask: Mask,
    pub lacks: Vec<String>,
    /// Names that differ in case only are one.
    pub folds_case: bool,
}

/// An odd second and a fraction whose digits all count, for finding the time step.
const PROBE: Time = Time { secs: 1_000_000_001, nanos: 123_456_789 };

/// Tries everything that `wanted` asks for. A root that cannot be written to keeps what was wanted:
/// every operation will say why it fails.
pub(super) fn probe(root: &Root, wanted: &Mask, tag: u32) -> Profile {
    let mut profile = Profile { mask: *wanted, lacks: Vec::new(), folds_case: false };
    let name = temp_name(tag);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(root, name.as_slice(), flags, Mode::from(0o600)) else {
        return profile;
    };
    probe_times(&mut profile, &file);
    probe_owner(&mut profile, &file);
    probe_xattrs(&mut profile, &file);
    probe_nodes(&mut profile, root, &name, tag);
    let upper: Vec<u8> = name.to_ascii_uppercase();
    if read_entry(root.as_fd(), &upper, &Mask::nothing()).ok().flatten().is_some() {
        profile.folds_case = true;
        profile.lacks.push("names that differ in case only".to_owned());
    }
    let _ = rustix::fs::unlinkat(root, name.as_slice(), AtFlags::empty());
    profile
}

/// Whether the target says that it cannot do something. A full, failing or overtaxed host says nothing of
/// what it can: every operation will say why it fails.
fn refuses(tried: Result<(), Errno>) -> bool {
    use Errno as E;
    !matches!(
        tried,
        Ok(())
            | Err(E::IO
                | E::NOSPC
                | E::DQUOT
                | E::ROFS
                | E::MFILE
                | E::NFILE
                | E::NOMEM
                | E::NOBUFS
                | E::STALE)
    )
}

fn probe_times(profile: &mut Profile, file: &OwnedFd) {
    let read = set_times(file.as_fd(), PROBE).and_then(|()| read_entry(file.as_fd(), b"", &Mask::nothing()));
    let Ok(Some(entry)) = read else { return };
    let step = match entry.attrs.meta.mtime {
        time if time == PROBE => 1,
        Time { secs, nanos } if secs == PROBE.secs && nanos % 1000 == 0 && nanos > 0 => {
            if nanos == 123_456_000 {
                1000
            } else if nanos == 123_456_700 {
                100
            } else {
                1_000_000
            }
        }
        Time { secs, .. } if secs == PROBE.secs => 1_000_000_000,
        _ => 2_000_000_000,
    };
    profile.mask.granularity_ns = profile.mask.granularity_ns.max(step);
    if step >= 1_000_000_000 {
        profile.lacks.push(format!("times finer than {} s", step / 1_000_000_000));
    }
}

fn probe_owner(profile: &mut Profile, file: &OwnedFd) {
    let mask = &mut profile.mask;
    if mask.owner || mask.group {
        let own = rustix::process::geteuid().as_raw();
        let (mut tried, mut id) = (Err(Errno::INVAL), own);
        for other in OWNERS.into_iter().filter(|&other| other != own) {
            // One that a container does not map says nothing of the others.
            if tried == Err(Errno::INVAL) {
                id = other;
                tried = rustix::fs::fchown(file, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
            }
        }
        let forgotten = || {
            let entry = read_entry(file.as_fd(), b"", &Mask::nothing()).ok().flatten();
            entry.is_some_and(|entry| (entry.attrs.meta.uid, entry.attrs.meta.gid) != (id, id))
        };
        if refuses(tried) || (tried.is_ok() && forgotten()) {
            (mask.owner, mask.group) = (false, false);
            profile.lacks.push("owners and groups (the agent may not chown)".to_owned());
        }
    }
    if mask.perms {
        let tried = rustix::fs::fchmod(file, Mode::from(0o6711));
        let entry = read_entry(file.as_fd(), b"", &Mask::nothing()).ok().flatten();
        let forgotten = entry.is_some_and(|entry| entry.attrs.meta.mode != 0o6711);
        if refuses(tried) || (tried.is_ok() && forgotten) {
            mask.set_id = false;
            profile.lacks.push("set-id bits".to_owned());
        }
        let _ = rustix::fs::fchmod(file, Mode::from(0o600));
    }
}

/// Owners that are tried in turn, until one is mapped.
const OWNERS: [u32; 5] = [12_345, 1000, 65_534, 1, 33];

/// An ACL with one named user, as setfacl(1) would write it.
const ACL: [u8; 44] = [
    2, 0, 0, 0, // version
    1, 0, 6, 0, 255, 255, 255, 255, // user::rw-
    2, 0, 4, 0, 0, 0, 0, 0, // user:ID:r--
    4, 0, 0, 0, 255, 255, 255, 255, // group::---
    16, 0, 4, 0, 255, 255, 255, 255, // mask::r--
    32, 0, 0, 0, 255, 255, 255, 255, // other::---
];

fn probe_xattrs(profile: &mut Profile, file: &OwnedFd) {
    let set = |name: &str, value: &[u8]| {
        let name = c_string(name.as_bytes());
        !refuses(rustix::fs::fsetxattr(file, name.as_c_str(), value, XattrFlags::empty()))
    };
    let mask = &mut profile.mask;
    if mask.xattrs && !set("user.speil", b"1") {
        mask.xattrs = false;
        profile.lacks.push("extended attributes".to_owned());
    }
    if mask.xattrs && mask.privileged_xattrs && !set("trusted.speil", b"1") {
        mask.privileged_xattrs = false;
        profile.lacks.push("privileged extended attributes".to_owned());
    }
    // The agent's own user is one that exists here, also where a container maps few.
    let mut acl = ACL;
    acl[16..20].copy_from_slice(&rustix::process::geteuid().as_raw().to_le_bytes());
    if mask.acls && !set("system.posix_acl_access", &acl) {
        mask.acls = false;
        profile.lacks.push("ACLs".to_owned());
    }
}

fn probe_nodes(profile: &mut Profile, root: &Root, file: &[u8], tag: u32) {
    let mut lost = |flag: &mut bool, word: &str, try_it: &mut dyn FnMut(&[u8]) -> Result<(), Errno>| {
        if !*flag {
            return;
        }
        let name = temp_name(tag);
        if refuses(try_it(&name)) {
            *flag = false;
            profile.lacks.push(word.to_owned());
        }
        let _ = rustix::fs::unlinkat(root, name.as_slice(), AtFlags::empty());
    };
    let node = |name: &[u8], kind, device| rustix::fs::mknodat(root, name, kind, Mode::from(0o600), device);
    let mask = &mut profile.mask;
    lost(&mut mask.hard_links, "hard links", &mut |name| {
        rustix::fs::linkat(root, file, root, name, AtFlags::empty())
    });
    lost(&mut mask.symlinks, "symlinks", &mut |name| rustix::fs::symlinkat("x", root, name));
    lost(&mut mask.specials, "FIFOs and sockets", &mut |name| node(name, FileType::Fifo, 0));
    lost(&mut mask.devices, "devices", &mut |name| {
        node(name, FileType::CharacterDevice, rustix::fs::makedev(1, 3))
    });
    if mask.symlinks {
        lost(&mut mask.link_times, "times of symlinks", &mut |name| {
            rustix::fs::symlinkat("x", root, name)?;
            let set = Handle::open(root.as_fd(), name).and_then(|handle| set_times(handle.as_fd(), PROBE));
            set.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        });
    }
}
