//! A filesystem in memory: inodes with change times, directories with names of one letter.

use speil::tree::RelPath;

pub type Id = usize;
pub const ROOT: Id = 0;
/// The name that the filters leave out: not mirrored, and protected on the target.
pub const PROTECTED: u8 = b'x';

#[derive(Debug, Clone, Default)]
pub struct Inode {
    /// The entries of a directory by name; `None` for a file.
    pub entries: Option<Vec<(u8, Id)>>,
    pub content: u32,
    /// Size and time; few of them, so that different contents share one.
    pub stamp: u8,
    pub ctime: u64,
    /// How many names it has.
    pub links: u32,
    /// Large files that are begun in this directory of a target.
    pub begun: u32,
}

#[derive(Debug, Clone)]
pub struct Fs {
    inodes: Vec<Inode>,
}

impl Default for Fs {
    fn default() -> Self {
        Self { inodes: vec![Inode { entries: Some(Vec::new()), links: 1, ..Inode::default() }] }
    }
}

impl Fs {
    pub fn inode(&self, id: Id) -> &Inode {
        &self.inodes[id]
    }

    pub fn inode_mut(&mut self, id: Id) -> &mut Inode {
        &mut self.inodes[id]
    }

    pub fn is_dir(&self, id: Id) -> bool {
        self.inodes[id].entries.is_some()
    }

    pub fn entries(&self, dir: Id) -> &[(u8, Id)] {
        self.inodes[dir].entries.as_deref().unwrap_or(&[])
    }

    pub fn is_empty(&self, dir: Id) -> bool {
        self.entries(dir).is_empty() && self.inodes[dir].begun == 0
    }

    pub fn lookup(&self, dir: Id, name: u8) -> Option<Id> {
        self.entries(dir).iter().find(|(known, _)| *known == name).map(|(_, id)| *id)
    }

    pub fn find(&self, path: &RelPath) -> Option<Id> {
        path.components().try_fold(ROOT, |dir, name| self.lookup(dir, name[0]))
    }

    /// Returns the directory that holds a path, and the path's last name.
    pub fn place(&self, path: &RelPath) -> Option<(Id, u8)> {
        let bytes = path.as_bytes();
        let name = *bytes.last()?;
        let mut dir = ROOT;
        for at in (0..bytes.len() - 1).step_by(2) {
            dir = self.lookup(dir, bytes[at])?;
        }
        self.is_dir(dir).then_some((dir, name))
    }

    pub fn add(&mut self, inode: Inode) -> Id {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    pub fn add_dir(&mut self, ctime: u64) -> Id {
        self.add(Inode { entries: Some(Vec::new()), ctime, ..Inode::default() })
    }

    pub fn link(&mut self, dir: Id, name: u8, id: Id) {
        let Some(entries) = &mut self.inodes[dir].entries else { return };
        let at = entries.partition_point(|(known, _)| *known < name);
        entries.insert(at, (name, id));
        self.inodes[id].links += 1;
    }

    pub fn unlink(&mut self, dir: Id, name: u8) -> Option<Id> {
        let entries = self.inodes[dir].entries.as_mut()?;
        let at = entries.iter().position(|(known, _)| *known == name)?;
        let (_, id) = entries.remove(at);
        self.inodes[id].links -= 1;
        Some(id)
    }

    /// Whether a directory is another one or lies below it.
    pub fn is_within(&self, dir: Id, above: Id) -> bool {
        dir == above || self.entries(above).iter().any(|(_, id)| self.is_dir(*id) && self.is_within(dir, *id))
    }

    /// Returns the path of a directory.
    pub fn path_of(&self, dir: Id) -> Option<RelPath> {
        let mut found = (dir == ROOT).then(RelPath::root);
        let mut left = vec![(ROOT, RelPath::root())];
        while let Some((at, path)) = left.pop() {
            for &(name, id) in self.entries(at).iter().filter(|(_, id)| self.is_dir(*id)) {
                let below = path.join(&[name]);
                found = found.or_else(|| (id == dir).then(|| below.clone()));
                left.push((id, below));
            }
        }
        found
    }

    /// Returns the first name of an inode, by its directory.
    pub fn name_of(&self, id: Id) -> Option<(Id, u8)> {
        self.name_below(ROOT, id)
    }

    /// Returns how many names have a content.
    pub fn names_with(&self, content: u32) -> usize {
        let mut found = 0;
        let mut left = vec![ROOT];
        while let Some(dir) = left.pop() {
            for &(_, id) in self.entries(dir) {
                if self.is_dir(id) {
                    left.push(id);
                } else {
                    found += usize::from(self.inode(id).content == content);
                }
            }
        }
        found
    }

    fn name_below(&self, dir: Id, id: Id) -> Option<(Id, u8)> {
        for &(name, entry) in self.entries(dir) {
            if entry == id {
                return Some((dir, name));
            }
            if self.is_dir(entry)
                && let Some(found) = self.name_below(entry, id)
            {
                return Some(found);
            }
        }
        None
    }

    /// Calls back for every name of a file that is mirrored.
    pub fn each_file(&self, mut call: impl FnMut(RelPath, Id)) {
        self.each_dir(|path, dir, _| {
            for &(name, id) in self.entries(dir).iter().filter(|(name, _)| *name != PROTECTED) {
                if !self.is_dir(id) {
                    call(path.join(&[name]), id);
                }
            }
        });
    }

    /// Calls back for every directory that is mirrored, the root first.
    pub fn each_dir(&self, mut call: impl FnMut(&RelPath, Id, Id)) {
        let mut stack = vec![(RelPath::root(), ROOT, ROOT)];
        while let Some((path, id, parent)) = stack.pop() {
            call(&path, id, parent);
            for &(name, entry) in self.entries(id) {
                if self.is_dir(entry) && name != PROTECTED {
                    stack.push((path.join(&[name]), entry, id));
                }
            }
        }
    }
}
