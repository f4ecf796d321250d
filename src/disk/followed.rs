//! Looking at entries and opening files where symlinks may stand for what they lead to.
//!
//! **Invariants:** those of [`follow`](super::follow); a directory that holds itself is an error (`EMLINK`), not an endless
//! tree.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attrs::read_entry;
use super::follow::Follow;
use super::root::{Root, id_of};
use crate::tree::{Entry, Kind, LinkRule, LinkRules, Mask, RelPath};

impl Root {
    /// Returns the tree in which symlinks stand for what they lead to as `rules` say; with a `top` they lead nowhere
    /// outside of it.
    ///
    /// # Errors
    /// What dup(2) says.
    pub fn following(mut self, rules: LinkRules, top: Option<&Self>) -> io::Result<Self> {
        if rules.follows() {
            let top = top.map(|top| top.as_fd().try_clone_to_owned().map(Arc::new)).transpose()?;
            self.follow = Some(Follow { rules, top });
        }
        Ok(self)
    }

    /// Whether a symlink may stand for something else.
    pub fn follows(&self) -> bool {
        self.follow.is_some()
    }

    /// Reads the entry `name` of the open directory that holds `path`, as [`read_entry`]; where a symlink stands for what it leads to,
    /// that.
    ///
    /// # Errors
    /// As [`read_entry`], and `ENOLINK`, `EMLINK` and `EXDEV` as above.
    pub fn entry_in(
        &self,
        dir: BorrowedFd<'_>,
        path: &RelPath,
        name: &[u8],
        mask: &Mask,
    ) -> io::Result<Option<Entry>> {
        let entry = read_entry(dir, name, mask)?;
        let Some(follow) = &self.follow else { return Ok(entry) };
        let Some(link) = entry.as_ref().filter(|entry| entry.attrs.meta.kind == Kind::Symlink) else {
            return Ok(entry);
        };
        let rule = follow.rules.rule(path, &link.attrs.symlink);
        if rule == LinkRule::Keep {
            return Ok(entry);
        }
        let fd = match follow.open(dir, name, OFlags::PATH) {
            Err(_) if rule == LinkRule::FollowDir => return Ok(entry),
            opened => opened?,
        };
        let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Directory;
        if rule == LinkRule::FollowDir && !is_dir {
            return Ok(entry);
        }
        if is_dir && self.is_below_itself(fd.as_fd(), path)? {
            return Err(Errno::MLINK.into());
        }
        let there = read_entry(fd.as_fd(), b"", mask)?;
        Ok(there.map(|there| Entry { name: name.to_vec(), ..there }))
    }

    /// Opens what [`Root::entry_in`] has found to be a regular file, for reading.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open_in(&self, dir: BorrowedFd<'_>, path: &RelPath, name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        match (rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty()), &self.follow) {
            (Err(Errno::LOOP), Some(follow)) => {
                let text = rustix::fs::readlinkat(dir, name, Vec::new())?;
                match follow.rules.rule(path, text.as_bytes()) {
                    LinkRule::Follow => follow.open(dir, name, flags),
                    _ => Err(Errno::LOOP.into()),
                }
            }
            (opened, _) => Ok(opened?),
        }
    }

    /// Whether a directory is one of those on the way to `path`.
    fn is_below_itself(&self, dir: BorrowedFd<'_>, path: &RelPath) -> io::Result<bool> {
        let id = id_of(dir)?;
        for above in std::iter::successors(path.parent(), RelPath::parent) {
            if id_of(self.place(&above)?.as_fd())? == id {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn look(root: &Root, at: &str) -> io::Result<Option<(Kind, u64)>> {
        let path = path(at);
        let parent = root.parent(&path)?;
        let entry = root.entry_in(parent.fd.as_fd(), &path, parent.name, &Mask::nothing())?;
        Ok(entry.map(|entry| (entry.attrs.meta.kind, entry.attrs.meta.size)))
    }

    fn scene() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("top/root/d/e")).unwrap();
        fs::create_dir_all(dir.path().join("top/beside")).unwrap();
        fs::create_dir_all(dir.path().join("outside")).unwrap();
        for (name, content) in [("top/root/d/f", "1"), ("top/beside/f", "22"), ("outside/f", "333")] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        for (name, text) in [
            ("in", "d/f"),
            ("dir", "d"),
            ("beside", "../beside"),
            ("out", "../../outside"),
            ("up", "d/up"),
            ("gone", "x"),
        ] {
            symlink(text, dir.path().join("top/root").join(name)).unwrap();
        }
        symlink("..", dir.path().join("top/root/d/up")).unwrap();
        symlink("circle", dir.path().join("top/root/circle")).unwrap();
        symlink(dir.path().join("outside/f"), dir.path().join("top/root/absolute")).unwrap();
        dir
    }

    #[test]
    fn what_the_rules_name_is_followed_and_nothing_else() {
        let dir = scene();
        let all = LinkRules { copy: true, ..LinkRules::default() };
        let open = |rules| Root::open(&dir.path().join("top/root")).unwrap().following(rules, None).unwrap();
        let root = open(all);
        for (name, size) in [("in", 1), ("dir/f", 1), ("beside/f", 2), ("out/f", 3), ("absolute", 3)] {
            assert_eq!(look(&root, name).unwrap(), Some((Kind::File, size)), "{name}");
        }
        for (name, errno) in
            [("gone", libc::ENOLINK), ("circle", libc::EMLINK), ("up", libc::EMLINK), ("d/up", libc::EMLINK)]
        {
            assert_eq!(look(&root, name).unwrap_err().raw_os_error(), Some(errno), "{name}");
        }
        let root = open(LinkRules { copy_dirs: true, ..LinkRules::default() });
        let kind = |root: &Root, name| look(root, name).unwrap().unwrap().0;
        assert_eq!(
            [kind(&root, "in"), kind(&root, "dir"), kind(&root, "gone")],
            [Kind::Symlink, Kind::Dir, Kind::Symlink]
        );
        let root = open(LinkRules { copy_unsafe: true, ..LinkRules::default() });
        assert_eq!(
            [kind(&root, "in"), kind(&root, "dir"), kind(&root, "out")],
            [Kind::Symlink, Kind::Symlink, Kind::Dir]
        );
        assert!(root.dir(&path("dir")).is_err());
        assert!(root.dir(&path("out")).is_ok());
    }

    #[test]
    fn with_a_top_no_symlink_leads_out_of_it() {
        let dir = scene();
        let all = LinkRules { copy: true, ..LinkRules::default() };
        let top = Root::open(&dir.path().join("top")).unwrap();
        let root = Root::open(&dir.path().join("top/root")).unwrap().following(all, Some(&top)).unwrap();
        assert_eq!(look(&root, "beside/f").unwrap(), Some((Kind::File, 2)));
        assert_eq!(look(&root, "dir/f").unwrap(), Some((Kind::File, 1)));
        for name in ["out", "absolute", "out/f"] {
            assert_eq!(look(&root, name).unwrap_err().raw_os_error(), Some(libc::EXDEV), "{name}");
        }
        assert!(root.dir(&path("out")).is_err());
        assert!(root.open_in(root.as_fd(), &path("absolute"), b"absolute").is_err());
        assert!(root.open_in(root.as_fd(), &path("in"), b"in").is_ok());
    }
}
