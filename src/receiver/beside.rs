//! Making what the root lacks of what a directory beside it holds: `--link-dest` and its kin.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::apply::{Applied, Applier};
use super::install::{Undone, look, temp_name};
use super::sparing::Comes;
use super::streams::Stream;
use crate::protocol::{Expect, Why};
use crate::tree::{Attrs, Kind, RelPath};

impl Applier {
    /// Makes what is missing of what a directory beside the root holds.
    pub(super) fn borrow(
        &mut self,
        path: &RelPath,
        (which, link): (u8, bool),
        attrs: &Attrs,
        expect: &Expect,
    ) -> Applied {
        // Whatever stops it: the content itself comes next.
        let torn = |_| Undone::Why(Why::Torn);
        let Some(beside) = self.elsewhere.besides.get(which).map(Arc::clone) else {
            return Err(Undone::Why(Why::Torn));
        };
        let from = beside.parent(path).map_err(torn)?;
        let there = look(from.fd.as_fd(), from.name)?.filter(|there| self.fits(there, expect));
        let Some(there) = there.filter(|there| there.attrs.meta.kind == attrs.meta.kind) else {
            return Err(Undone::Why(Why::Torn));
        };
        self.policy.may_make(attrs.meta.kind)?;
        let parent = self.root.parent(path).map_err(Undone::parent)?;
        let dir = parent.fd.as_fd();
        if link {
            let temp = temp_name(self.tag);
            match rustix::fs::linkat(&from.fd, from.name, dir, temp.as_slice(), AtFlags::empty()) {
                Ok(()) => {
                    let done = self.install((dir, &temp, path), false, &Comes::Other);
                    let _ = rustix::fs::unlinkat(dir, temp.as_slice(), AtFlags::empty());
                    return done;
                }
                // Another filesystem, or a file that has as many names as it can have: a copy does as well.
                Err(_) if there.attrs.meta.kind == Kind::File => {}
                Err(_) => return Err(Undone::Why(Why::Torn)),
            }
        }
        if there.attrs.meta.kind != Kind::File {
            return Err(Undone::Why(Why::Torn));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let basis = rustix::fs::openat(&from.fd, from.name, flags, Mode::empty());
        let basis = basis.map_err(|error| torn(error.into()))?;
        let size = there.attrs.meta.size;
        let mut stream = Stream::open(&self.root, path.clone(), Some(basis), self.tag)?;
        let room = self.policy.room_for(stream.file.as_fd(), size);
        let copied = room.and_then(|()| stream.copy(0, size)).and_then(|()| {
            let hash = stream.hash();
            self.close(&mut stream, attrs, &hash, false)
        });
        if copied.is_err() {
            stream.abandon();
        }
        copied
    }
}
