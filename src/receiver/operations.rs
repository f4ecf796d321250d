//! What each message does to the tree.
//!
//! Parents are resolved beneath the root, then only the last component is used; whatever is new is
//! made under a temporary name, dressed, and moved into place.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::apply::{Applied, Applier};
use super::dir_cache::{Content, DirCache};
use super::install::{Undone, is_empty_dir, look, remove, temp_name};
use super::sparing::{Comes, Spared};
use super::streams::{Stream, create_temp};
use crate::disk::{Handle, Parent, Unset, apply_attrs, apply_attrs_to_file, default_acl, read_open, umask};
use crate::protocol::{Expect, FRAME_LEN_MAX, StreamId, Why};
use crate::tree::{Attrs, Entry, Kind, Mask, Meta, RelPath};

/// The attributes of something new: what could not be set of them keeps nothing away.
#[must_use]
struct Dressed(Option<Unset>);

impl Dressed {
    /// What is said of it, once everything else is done.
    fn told(self) -> Applied {
        match self.0 {
            None => Ok(()),
            Some(Unset { what, error }) => Err(Undone::Os(what, crate::error::errno_of(&error))),
        }
    }
}

impl Applier {
    pub(super) fn open(&mut self, id: StreamId, path: &RelPath, size: u64, basis: bool) -> Applied {
        let held = self.streams.bases.remove(&id);
        if self.streams.is_full() {
            return Err(Undone::Os("open", libc::EMFILE));
        }
        let stream = Stream::open(&self.root, path.clone(), held.filter(|_| basis), self.tag)?;
        // Full is better known now than after the last byte; the floor keeps the host itself alive.
        if let Err(full) = self.policy.room_for(stream.file.as_fd(), size) {
            stream.abandon();
            return Err(full);
        }
        if let Some(old) = self.streams.open.insert(id, stream) {
            old.abandon();
        }
        Ok(())
    }

    /// Opens a stream that is kept if the session ends, behind what has arrived before.
    pub(super) fn open_kept(
        &mut self,
        id: StreamId,
        path: &RelPath,
        (size, basis, from): (u64, bool, u64),
    ) -> Applied {
        let parent = self.root.parent(path).map_err(Undone::parent)?;
        let taken = self.streams.is_full() || self.streams.keeps(path);
        let Some(partials) = self.partials.as_mut().filter(|_| !taken) else {
            return self.open_beside(id, path, (size, basis, from));
        };
        match partials.begin((id, path), parent.fd.as_fd(), from, &self.mask)? {
            None => self.open_beside(id, path, (size, basis, from)),
            Some(partial) => {
                self.policy.room_for(partial.file.as_fd(), size.saturating_sub(from))?;
                let held = self.streams.bases.remove(&id).filter(|_| basis);
                let stream = Stream::go_on(path.clone(), parent.fd, partial, (held, self.tag));
                if let Some(old) = self.streams.open.insert(id, stream) {
                    old.abandon();
                }
                Ok(())
            }
        }
    }

    /// Opens a stream whose file grows beside its name, where nothing of it was told to the sender.
    fn open_beside(
        &mut self,
        id: StreamId,
        path: &RelPath,
        (size, basis, from): (u64, bool, u64),
    ) -> Applied {
        if from > 0 { Err(Undone::Why(Why::Torn)) } else { self.open(id, path, size, basis) }
    }

    pub(super) fn close(
        &mut self,
        stream: &mut Stream,
        attrs: &Attrs,
        hash: &[u8; 32],
        provisional: bool,
    ) -> Applied {
        stream.verify(hash)?;
        stream.settle()?;
        let file = stream.file.try_clone().map_err(Undone::os("clone"))?;
        // The directory may have been renamed meanwhile; it is still the one that is held.
        let dressed = self.install_file(file, (&stream.dir, &stream.temp, &stream.path), attrs, hash)?;
        self.durable.dir(stream.dir.as_fd());
        self.note_version(&stream.path, provisional);
        dressed.told()
    }

    pub(super) fn put(&mut self, path: &RelPath, attrs: &Attrs, content: &Content<'_>) -> Applied {
        if *blake3::hash(content.data).as_bytes() != content.hash {
            return Err(Undone::Why(Why::Torn));
        }
        let way = self.way_to(path).map_err(Undone::parent)?;
        let dressed = self.put_in(&way.fd, path, attrs, content)?;
        self.went(way);
        dressed.told()
    }

    /// Returns the directory of a path: most changes of a batch lie beside each other.
    fn way_to(&mut self, path: &RelPath) -> std::io::Result<DirCache> {
        match self.way.take().filter(|way| way.leads_to(path)) {
            Some(way) => Ok(way),
            None => Ok(DirCache::to(self.root.parent(path)?.fd, path)),
        }
    }

    /// Notes that the directory has changed, and holds it for the next.
    fn went(&mut self, mut way: DirCache) {
        if !std::mem::replace(&mut way.is_noted, true) {
            self.durable.dir(way.fd.as_fd());
        }
        self.way = Some(way);
    }

    /// Makes a small file with the content of another one, if that is still what the sender thinks.
    pub(super) fn duplicate(
        &mut self,
        path: &RelPath,
        like: &RelPath,
        attrs: &Attrs,
        content: ([u8; 32], bool),
    ) -> Applied {
        let (hash, provisional) = content;
        // Whatever stops it: the content itself comes next.
        let torn = |_| Undone::Why(Why::Torn);
        let parent = self.root.parent(like).map_err(torn)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let there = look(parent.fd.as_fd(), parent.name)?.map(|entry| entry.attrs.meta);
        let same = |meta: &Meta| meta.kind == Kind::File && meta.size == attrs.meta.size;
        if attrs.meta.size > FRAME_LEN_MAX as u64 || !there.as_ref().is_some_and(same) {
            return Err(Undone::Why(Why::Torn));
        }
        let file = rustix::fs::openat(&parent.fd, parent.name, flags, Mode::empty());
        let mut data = Vec::new();
        // One byte more than stated would show in the hash.
        let mut file = File::from(file.map_err(|error| torn(error.into()))?).take(attrs.meta.size + 1);
        file.read_to_end(&mut data).map_err(torn)?;
        self.put(path, attrs, &Content { hash, provisional, data: &data })
    }

    fn put_in(
        &mut self,
        dir: &OwnedFd,
        path: &RelPath,
        attrs: &Attrs,
        content: &Content<'_>,
    ) -> Result<Dressed, Undone> {
        let Content { provisional, data, .. } = *content;
        if self.policy.has_floor() {
            self.policy.room_for(dir.as_fd(), data.len() as u64)?;
        }
        let temp = temp_name(self.tag);
        let file = create_temp(dir, &temp)?;
        let write = |mut data: &[u8]| -> Applied {
            while !data.is_empty() {
                let len =
                    rustix::io::write(&file, data).map_err(|error| Undone::os("write")(error.into()))?;
                data = &data[len..];
            }
            Ok(())
        };
        let done =
            write(data).and_then(|()| self.install_file(file, (dir, &temp, path), attrs, &content.hash));
        if done.is_err() {
            let _ = rustix::fs::unlinkat(dir, temp.as_slice(), AtFlags::empty());
        } else {
            self.note_version(path, provisional);
        }
        done
    }

    fn note_version(&self, path: &RelPath, provisional: bool) {
        self.remembering.change(|memory| {
            memory.provisional.retain(|other| other != path);
            if provisional && self.state.is_some() {
                memory.provisional.push(path.clone());
            }
        });
    }

    /// Gives a finished temporary file its metadata and its name: directory, temporary name, path. The
    /// directory is the caller's to note.
    fn install_file(
        &mut self,
        file: OwnedFd,
        place: (&OwnedFd, &[u8], &RelPath),
        attrs: &Attrs,
        hash: &[u8; 32],
    ) -> Result<Dressed, Undone> {
        let (dir, temp, path) = (place.0.as_fd(), place.1, place.2);
        let name = path.name();
        let dressed = if self.mask.perms {
            Dressed(apply_attrs_to_file(file.as_fd(), attrs, &self.mask).err())
        } else {
            let handle = Handle::open(dir, temp).map_err(Undone::os("open"))?;
            self.dress(&handle, attrs, (dir, Some(name)))?
        };
        let flush = || rustix::fs::fdatasync(&file).map_err(|error| Undone::os("fsync")(error.into()));
        let early = self.durable.before_rename(false);
        if early {
            flush()?;
        }
        self.check_session()?;
        let read = || read_open(file.as_fd(), &Mask::nothing()).ok().map(|(entry, _)| entry);
        let made = self.foreign.as_ref().and_then(|_| read());
        self.plan_made(made.as_ref());
        // Most files are new: the rename itself tells.
        let fresh = rustix::fs::renameat_with(dir, temp, dir, name, RenameFlags::NOREPLACE).is_ok();
        let mut synced = false;
        if !fresh {
            let standing = look(dir, name)?;
            let before = self.durable.before_rename(standing.is_some());
            if before && !early {
                flush()?;
            }
            let comes = Comes::Content(made.as_ref().map_or(0, |made| made.attrs.meta.size), *hash);
            self.supplant((dir, temp, path), false, standing.as_ref(), &comes)?;
            synced = before;
        }
        self.made(made.as_ref(), read);
        if !early && !synced {
            self.durable.file(file);
        }
        Ok(dressed)
    }

    /// Sets the metadata of something new. Without `-p` it keeps the mode of what it replaces, which has the
    /// given name in the directory; else it gets the source's mode under the target's umask, or under the
    /// directory's default ACL where there is one, as with rsync.
    fn dress(
        &self,
        handle: &Handle,
        attrs: &Attrs,
        place: (BorrowedFd<'_>, Option<&[u8]>),
    ) -> Result<Dressed, Undone> {
        if self.mask.perms || attrs.meta.kind == Kind::Symlink {
            return Ok(Dressed(apply_attrs(handle, attrs, &self.mask).err()));
        }
        let (dir, name) = place;
        let old = name.map(|name| look(dir, name)).transpose()?.flatten();
        let mode = match old.filter(|old| old.attrs.meta.kind == attrs.meta.kind) {
            Some(old) => self.policy.mode(old.attrs.meta.mode),
            None => {
                let allowed = default_acl(dir).map_or(!umask(), |acl| acl.mode());
                // The kernel has made it in the group of a set-gid directory.
                let now = handle.read(&Mask::nothing()).map_err(Undone::os("stat"))?;
                attrs.meta.mode & 0o777 & allowed | self.policy.mode(now.attrs.meta.mode & 0o2000)
            }
        };
        let mut attrs = attrs.clone();
        attrs.meta.mode = mode;
        attrs.xattrs.iter_mut().for_each(|xattr| xattr.set_acl_mode(mode));
        Ok(Dressed(apply_attrs(handle, &attrs, &Mask { perms: true, ..self.mask }).err()))
    }

    /// Gives a finished temporary entry other than a new file its name.
    pub(super) fn install(
        &mut self,
        (dir, temp, path): (BorrowedFd<'_>, &[u8], &RelPath),
        is_dir: bool,
        comes: &Comes<'_>,
    ) -> Applied {
        let standing = look(dir, path.name())?;
        self.supplant((dir, temp, path), is_dir, standing.as_ref(), comes)?;
        self.durable.dir(dir);
        Ok(())
    }

    pub(super) fn check_session(&self) -> Applied {
        match &self.state {
            Some(state) => match state.is_current().map_err(Undone::os("read session"))? {
                true => Ok(()),
                false => Err(Undone::Evicted),
            },
            None => Ok(()),
        }
    }

    pub(super) fn mkdir(&mut self, path: &RelPath, attrs: &Attrs) -> Applied {
        if path.is_root() {
            let handle = Handle::open(self.root.as_fd(), b"").map_err(Undone::os("open"))?;
            if self.fresh.swap(false, Ordering::AcqRel) {
                // Made where a default ACL holds, the root has it as well.
                return self.dress(&handle, attrs, (self.root.as_fd(), None))?.told();
            }
            return Dressed(apply_attrs(&handle, attrs, &self.mask).err()).told();
        }
        let parent = self.root.parent(path).map_err(Undone::parent)?;
        let dir = parent.fd.as_fd();
        match look(dir, parent.name)?.map(|entry| entry.attrs.meta.kind) {
            Some(Kind::Dir) => {
                let handle = Handle::open(dir, parent.name).map_err(Undone::os("open"))?;
                return Dressed(apply_attrs(&handle, attrs, &self.mask).err()).told();
            }
            None => {
                rustix::fs::mkdirat(dir, parent.name, Mode::from(0o700))
                    .map_err(|error| Undone::os("create directory")(error.into()))?;
                self.durable.dir(dir);
                let handle = Handle::open(dir, parent.name).map_err(Undone::os("open"))?;
                return self.dress(&handle, attrs, (dir, None))?.told();
            }
            Some(_) => {}
        }
        self.replace_by(path, &parent, attrs, |temp| rustix::fs::mkdirat(dir, temp, Mode::from(0o700)))
    }

    pub(super) fn node(&mut self, path: &RelPath, attrs: &Attrs) -> Applied {
        self.policy.may_make(attrs.meta.kind)?;
        let parent = self.root.parent(path).map_err(Undone::parent)?;
        let dir = parent.fd.as_fd();
        let kind = match attrs.meta.kind {
            Kind::Symlink => {
                return self.replace_by(path, &parent, attrs, |temp| {
                    rustix::fs::symlinkat(attrs.symlink.as_slice(), dir, temp)
                });
            }
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::File | Kind::Dir => return Err(Undone::Os("create", libc::EINVAL)),
        };
        self.replace_by(path, &parent, attrs, |temp| {
            rustix::fs::mknodat(dir, temp, kind, Mode::from(0o600), attrs.meta.rdev)
        })
    }

    /// Makes an entry under a temporary name, dresses it, and puts it in place.
    fn replace_by(
        &mut self,
        path: &RelPath,
        parent: &Parent<'_>,
        attrs: &Attrs,
        make: impl FnOnce(&[u8]) -> Result<(), Errno>,
    ) -> Applied {
        let (dir, temp) = (parent.fd.as_fd(), temp_name(self.tag));
        let is_dir = attrs.meta.kind == Kind::Dir;
        make(&temp).map_err(|error| Undone::os("create")(error.into()))?;
        let comes = if is_dir { Comes::Other } else { Comes::Node(attrs) };
        let handle = Handle::open(dir, &temp).map_err(Undone::os("open"));
        let done = handle.and_then(|handle| {
            let dressed = self.dress(&handle, attrs, (dir, Some(parent.name)))?;
            let made = self.foreign.as_ref().and_then(|_| handle.read(&Mask::nothing()).ok());
            self.plan_made(made.as_ref());
            self.install((dir, &temp, path), is_dir, &comes)?;
            self.made(made.as_ref(), || handle.read(&Mask::nothing()).ok());
            Ok(dressed)
        });
        if done.is_err() {
            let _ = remove(dir, &temp, false);
        }
        done?.told()
    }

    pub(super) fn attrs(&mut self, path: &RelPath, attrs: &Attrs, expect: &Expect) -> Applied {
        let handle = if path.is_root() {
            Handle::open(self.root.as_fd(), b"").map_err(Undone::os("open"))?
        } else {
            let parent = self.root.parent(path).map_err(Undone::parent)?;
            match Handle::open(parent.fd.as_fd(), parent.name) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Undone::Why(Why::Differs));
                }
                other => other.map_err(Undone::os("open"))?,
            }
        };
        let now = handle.read(&Mask::nothing()).map_err(Undone::os("stat"))?;
        if !self.fits(&now, expect) {
            return Err(Undone::Why(Why::Differs));
        }
        self.check_session()?;
        self.plan_own(&now);
        if self.mask.times && self.foreign.as_ref().is_some_and(|foreign| !foreign.wrote(&now)) {
            let mut dated = now.clone();
            dated.attrs.meta.mtime = attrs.meta.mtime.truncated(self.mask.granularity_ns);
            self.plan_made(Some(&dated));
        }
        let done = Dressed(apply_attrs(&handle, attrs, &self.mask).err());
        if let (Some(foreign), Ok(after)) = (&self.foreign, handle.read(&Mask::nothing())) {
            foreign.own.dressed(&now, &after, attrs.meta.mtime, self.mask.granularity_ns);
        }
        done.told()
    }

    pub(super) fn fits(&self, now: &Entry, expect: &Expect) -> bool {
        let meta = &now.attrs.meta;
        match expect {
            Expect::Kind(kind) => meta.kind == *kind,
            Expect::Dir(dir) => (meta.kind == Kind::Dir) == *dir,
            Expect::Any => true,
            Expect::Version { kind, size, mtime } => {
                let step = self.mask.granularity_ns;
                meta.kind == *kind
                    && (*kind != Kind::File
                        || (meta.size == *size && meta.mtime.truncated(step) == mtime.truncated(step)))
            }
        }
    }

    pub(super) fn link(&mut self, path: &RelPath, existing: &RelPath, expect: &Expect) -> Applied {
        let from = match self.root.parent(existing) {
            Ok(from) => from,
            Err(_) => return Err(Undone::Why(Why::Differs)),
        };
        let Some(now) = look(from.fd.as_fd(), from.name)?.filter(|now| self.fits(now, expect)) else {
            return Err(Undone::Why(Why::Differs));
        };
        let parent = self.root.parent(path).map_err(Undone::parent)?;
        let (dir, temp) = (parent.fd.as_fd(), temp_name(self.tag));
        if look(dir, parent.name)?.is_some_and(|there| there.id == now.id) {
            return Ok(());
        }
        self.plan_own(&now);
        rustix::fs::linkat(&from.fd, from.name, dir, temp.as_slice(), AtFlags::empty())
            .map_err(|error| Undone::os("link")(error.into()))?;
        let done = self.install((dir, &temp, path), false, &Comes::Name(existing));
        // A rename between two links of one inode does nothing and leaves the temporary name.
        let _ = rustix::fs::unlinkat(dir, temp.as_slice(), AtFlags::empty());
        self.still_own(&now, from.fd.as_fd(), from.name);
        done
    }

    pub(super) fn rename(&mut self, from: &RelPath, to: &RelPath, expect: &Expect) -> Applied {
        let Ok(source) = self.root.parent(from) else { return Err(Undone::Why(Why::Differs)) };
        let target = self.root.parent(to).map_err(Undone::parent)?;
        let (a, b) = (source.fd.as_fd(), target.fd.as_fd());
        let Some(moving) = look(a, source.name)?.filter(|now| self.fits(now, expect)) else {
            return Err(Undone::Why(Why::Differs));
        };
        if from == to {
            // Below, another name of the same file is taken away.
            return Ok(());
        }
        self.check_session()?;
        let dir_moves = moving.attrs.meta.kind == Kind::Dir;
        let standing = look(b, target.name)?;
        let same = standing.as_ref().is_some_and(|there| there.id == moving.id);
        let mut exchange =
            standing.as_ref().is_some_and(|there| (there.attrs.meta.kind == Kind::Dir) != dir_moves);
        if !same && self.spare(b, standing.as_ref(), to, &Comes::Other)? == Spared::NotYet {
            // Without links there is a moment in which nothing is there.
            self.discard(b, to.name(), to)?;
            exchange = false;
        }
        let flags = match standing {
            Some(_) if exchange => RenameFlags::EXCHANGE,
            Some(_) => RenameFlags::empty(),
            // What somebody puts there meanwhile is looked at first.
            None => RenameFlags::NOREPLACE,
        };
        if exchange && !dir_moves && !is_empty_dir(b, target.name) {
            return Err(Undone::Why(Why::NotEmpty));
        }
        let losing = if same { None } else { self.losing(b, target.name, standing.as_ref()) };
        self.plan_own(&moving);
        let moved = match rustix::fs::renameat_with(a, source.name, b, target.name, flags) {
            // A filesystem without flags.
            Err(Errno::INVAL) if standing.is_none() => rustix::fs::renameat(a, source.name, b, target.name),
            other => other,
        };
        match moved {
            Ok(()) => {}
            Err(Errno::EXIST) if standing.is_none() => return Err(Undone::Why(Why::Differs)),
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Err(Undone::Why(Why::NotEmpty)),
            Err(error) => return Err(Undone::os("rename")(error.into())),
        }
        if exchange || same {
            remove(a, source.name, false).map_err(Undone::os("remove"))?;
        }
        self.lost(losing);
        self.still_own(&moving, b, target.name);
        self.durable.dir(a);
        self.durable.dir(b);
        Ok(())
    }

    pub(super) fn delete(&mut self, path: &RelPath, expect: &Expect, keep_strangers: bool) -> Applied {
        let way = match self.way_to(path) {
            Ok(way) => way,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
            Err(error) => return Err(Undone::parent(error)),
        };
        self.delete_in(way.fd.as_fd(), path, expect, keep_strangers)?;
        self.went(way);
        Ok(())
    }

    fn delete_in(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &RelPath,
        expect: &Expect,
        keep_strangers: bool,
    ) -> Applied {
        let name = path.name();
        if !self.passes.may_delete_in(dir) {
            return Ok(());
        }
        let Some(now) = look(dir, name)? else { return Ok(()) };
        if !self.fits(&now, expect) {
            return Err(Undone::Why(Why::Differs));
        }
        self.check_session()?;
        self.take_away(dir, path, &now, keep_strangers)
    }
}
