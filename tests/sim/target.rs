//! A receiver in memory, as the agent does it: one operation after the other, answers when it is durable.

use speil::sender::ledger::{Answer, Moment, Op, Record, Why};
use speil::tree::RelPath;

use crate::fs::{Fs, Id, Inode, PROTECTED};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Dir(RelPath),
    File {
        path: RelPath,
        content: u32,
        stamp: u8,
    },
    /// A large file is begun, in the directory that is there now; the rest comes later under the same number.
    Open(RelPath),
    /// A large file ends, and takes its name in the directory in which it was begun.
    Close {
        content: u32,
        stamp: u8,
    },
    /// A large file that was begun is given up.
    Abandon,
    Attributes {
        path: RelPath,
        stamp: u8,
    },
    Delete {
        path: RelPath,
        dir: Option<bool>,
    },
    Rename {
        from: RelPath,
        to: RelPath,
    },
    /// Another name for the file that is at `existing`.
    Link {
        path: RelPath,
        existing: RelPath,
        stamp: u8,
    },
    Prove {
        path: RelPath,
        content: u32,
        stamp: u8,
    },
}

impl Operation {
    /// Returns the name that it is answered for, if it names one.
    pub fn path(&self) -> Option<&RelPath> {
        match self {
            Self::Close { .. } | Self::Abandon => None,
            Self::Rename { to, .. } => Some(to),
            Self::Dir(path)
            | Self::Open(path)
            | Self::File { path, .. }
            | Self::Attributes { path, .. }
            | Self::Delete { path, .. }
            | Self::Link { path, .. }
            | Self::Prove { path, .. } => Some(path),
        }
    }
}

/// What a sender keeps with the target.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    pub watermark: Moment,
    /// By how much the clock was ahead of the time since the boot when the watermark was taken.
    pub offset: u64,
    pub problems: Vec<RelPath>,
}

#[derive(Debug, Default)]
pub struct Target {
    pub fs: Fs,
    /// What a power cut leaves.
    durable: Fs,
    since: Vec<Operation>,
    pub stored: Option<Stored>,
    waiting: Vec<(Op, Answer)>,
    open: Vec<Stream>,
    record: Record,
}

/// A large file that is under way. It grows in the directory that it was begun in, wherever that is moved.
#[derive(Debug)]
struct Stream {
    op: Op,
    dir: Id,
    name: u8,
}

impl Target {
    /// Does one operation and returns the answer, which goes out with the next commit. What is begun has none yet.
    pub fn apply(&mut self, op: Op, operation: Operation) -> Option<Answer> {
        self.record.last = self.record.last.max(op.0);
        let operation = match operation {
            Operation::Open(path) => match self.begin(op, &path) {
                Ok(()) => return None,
                Err(why) => return Some(self.note(op, Err(why))),
            },
            Operation::Abandon => {
                self.end(op);
                return None;
            }
            Operation::Close { content, stamp } => {
                // What still comes for one that has failed was on its way before.
                let Stream { dir, name, .. } = self.end(op)?;
                let path = self.fs.path_of(dir).unwrap_or_default().join(&[name]);
                Operation::File { path, content, stamp }
            }
            other => other,
        };
        let done = perform(&mut self.fs, &operation);
        if done.is_ok() {
            self.since.push(operation);
        }
        Some(self.note(op, done))
    }

    fn note(&mut self, op: Op, done: Result<(), Why>) -> Answer {
        if done.is_err() {
            self.record.refused.push(op);
        }
        let answer = done.map_or_else(Answer::Refused, |()| Answer::Done);
        self.waiting.push((op, answer));
        answer
    }

    fn begin(&mut self, op: Op, path: &RelPath) -> Result<(), Why> {
        let (dir, name) = self.fs.place(path).ok_or(Why::NoParent)?;
        self.fs.inode_mut(dir).begun += 1;
        self.open.push(Stream { op, dir, name });
        Ok(())
    }

    fn end(&mut self, op: Op) -> Option<Stream> {
        let at = self.open.iter().position(|stream| stream.op == op)?;
        let stream = self.open.swap_remove(at);
        self.fs.inode_mut(stream.dir).begun -= 1;
        Some(stream)
    }

    /// Has something there from the beginning.
    pub fn prepare(&mut self, operation: &Operation) -> Result<(), Why> {
        perform(&mut self.durable, operation)?;
        perform(&mut self.fs, operation)
    }

    /// Makes everything durable, then what is stored; returns the answers.
    pub fn commit(&mut self, stored: Option<Stored>) -> Vec<(Op, Answer)> {
        for operation in self.since.drain(..) {
            let _ = perform(&mut self.durable, &operation);
        }
        if stored.is_some() {
            self.stored = stored;
        }
        std::mem::take(&mut self.waiting)
    }

    /// The input has ended: what came is done; returns what is known of it.
    pub fn finish(&mut self) -> Record {
        self.commit(None);
        let mut record = std::mem::take(&mut self.record);
        while let Some(op) = self.open.first().map(|stream| stream.op) {
            self.end(op);
            record.refused.push(op);
        }
        record
    }

    /// The power is cut.
    pub fn crash(&mut self) {
        self.fs = self.durable.clone();
        self.since.clear();
        self.waiting.clear();
        self.open.clear();
        self.record = Record::default();
    }

    /// Somebody on the target makes a file that the filters leave out; `false` if it cannot be.
    pub fn protect(&mut self, dir: &RelPath) -> bool {
        let there =
            |fs: &Fs| fs.find(dir).is_some_and(|id| fs.is_dir(id) && fs.lookup(id, PROTECTED).is_none());
        if !there(&self.fs) {
            return false;
        }
        for operation in self.since.drain(..) {
            let _ = perform(&mut self.durable, &operation);
        }
        for fs in [&mut self.fs, &mut self.durable] {
            if let Some(id) = fs.find(dir) {
                let file = fs.add(Inode::default());
                fs.link(id, PROTECTED, file);
            }
        }
        true
    }

    /// Returns what a power cut would leave.
    pub fn durable(&self) -> &Fs {
        &self.durable
    }
}

/// Does one operation as the agent does it.
pub fn perform(fs: &mut Fs, operation: &Operation) -> Result<(), Why> {
    match operation {
        Operation::Open(_) | Operation::Close { .. } | Operation::Abandon => Ok(()),
        Operation::Dir(path) => {
            let (dir, name) = fs.place(path).ok_or(Why::NoParent)?;
            if !fs.lookup(dir, name).is_some_and(|id| fs.is_dir(id)) {
                fs.unlink(dir, name);
                let made = fs.add_dir(0);
                fs.link(dir, name, made);
            }
            Ok(())
        }
        Operation::File { path, content, stamp } => {
            let (dir, name) = fs.place(path).ok_or(Why::NoParent)?;
            if fs.lookup(dir, name).is_some_and(|id| !fs.is_empty(id)) {
                return Err(Why::NotEmpty);
            }
            fs.unlink(dir, name);
            let file = fs.add(Inode { content: *content, stamp: *stamp, ..Inode::default() });
            fs.link(dir, name, file);
            Ok(())
        }
        Operation::Attributes { path, stamp } => {
            let (dir, name) = fs.place(path).ok_or(Why::NoParent)?;
            match fs.lookup(dir, name) {
                Some(id) if !fs.is_dir(id) && fs.inode(id).stamp == *stamp => Ok(()),
                _ => Err(Why::Mismatch),
            }
        }
        Operation::Delete { path, dir } => {
            let Some((parent, name)) = fs.place(path) else { return Ok(()) };
            let Some(id) = fs.lookup(parent, name) else { return Ok(()) };
            if dir.is_some_and(|dir| dir != fs.is_dir(id)) {
                return Err(Why::Mismatch);
            }
            if !fs.is_empty(id) {
                return Err(Why::NotEmpty);
            }
            fs.unlink(parent, name);
            Ok(())
        }
        Operation::Rename { from, to } => rename(fs, from, to),
        Operation::Link { path, existing, stamp } => {
            let is_it = |id: &Id| !fs.is_dir(*id) && fs.inode(*id).stamp == *stamp;
            let id = fs.find(existing).filter(is_it).ok_or(Why::Mismatch)?;
            let (dir, name) = fs.place(path).ok_or(Why::NoParent)?;
            match fs.lookup(dir, name) {
                Some(there) if there == id => return Ok(()),
                Some(there) if !fs.is_empty(there) => return Err(Why::NotEmpty),
                _ => {}
            }
            fs.unlink(dir, name);
            fs.link(dir, name, id);
            Ok(())
        }
        Operation::Prove { path, content, stamp } => match fs.find(path).map(|id| (id, fs.inode(id))) {
            Some((id, inode)) if !fs.is_dir(id) && (inode.content, inode.stamp) == (*content, *stamp) => {
                Ok(())
            }
            _ => Err(Why::Mismatch),
        },
    }
}

fn rename(fs: &mut Fs, from: &RelPath, to: &RelPath) -> Result<(), Why> {
    let (old_dir, old_name) = fs.place(from).ok_or(Why::Missing)?;
    let (dir, name) = fs.place(to).ok_or(Why::NoParent)?;
    let id = fs.lookup(old_dir, old_name).ok_or(Why::Missing)?;
    if from == to {
        return Ok(());
    }
    if fs.is_within(dir, id) {
        return Err(Why::Failed);
    }
    if let Some(over) = fs.lookup(dir, name) {
        if !fs.is_empty(over) {
            return Err(Why::NotEmpty);
        }
        fs.unlink(dir, name);
    }
    fs.unlink(old_dir, old_name);
    fs.link(dir, name, id);
    Ok(())
}
