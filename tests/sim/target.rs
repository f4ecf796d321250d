//! A receiver in memory, as the agent does it: one operation after the other, answers when it is durable.

use speil::sender::ledger::{Answer, Moment, Op, Record, Why};
use speil::tree::RelPath;

use crate::fs::{Fs, Inode, PROTECTED};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Dir(RelPath),
    File {
        path: RelPath,
        content: u32,
        stamp: u8,
    },
    /// A large file is begun; the file comes later under the same number.
    Open,
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
    Prove {
        path: RelPath,
        content: u32,
    },
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
    open: Vec<Op>,
    record: Record,
}

impl Target {
    pub fn apply(&mut self, op: Op, operation: Operation) {
        self.record.last = self.record.last.max(op.0);
        if operation == Operation::Open {
            return self.open.push(op);
        }
        self.open.retain(|open| *open != op);
        let done = perform(&mut self.fs, &operation);
        if done.is_ok() {
            self.since.push(operation);
        } else {
            self.record.refused.push(op);
        }
        self.waiting.push((op, done.map_or_else(Answer::Refused, |()| Answer::Done)));
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
        record.refused.append(&mut self.open);
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

    /// Somebody on the target makes a file that the filters leave out.
    pub fn protect(&mut self, dir: &RelPath) {
        for operation in self.since.drain(..) {
            let _ = perform(&mut self.durable, &operation);
        }
        for fs in [&mut self.fs, &mut self.durable] {
            if let Some(id) = fs.find(dir).filter(|id| fs.is_dir(*id) && fs.lookup(*id, PROTECTED).is_none())
            {
                let file = fs.add(Inode::default());
                fs.link(id, PROTECTED, file);
            }
        }
    }

    /// Returns what a power cut would leave.
    pub fn durable(&self) -> &Fs {
        &self.durable
    }
}

/// Does one operation as the agent does it.
pub fn perform(fs: &mut Fs, operation: &Operation) -> Result<(), Why> {
    match operation {
        Operation::Open => Ok(()),
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
        Operation::Attributes { path, stamp } => match fs.find(path) {
            Some(id) if !fs.is_dir(id) && fs.inode(id).stamp == *stamp => Ok(()),
            _ => Err(Why::Mismatch),
        },
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
        Operation::Prove { path, content } => match fs.find(path) {
            Some(id) if !fs.is_dir(id) && fs.inode(id).content == *content => Ok(()),
            _ => Err(Why::Mismatch),
        },
    }
}

fn rename(fs: &mut Fs, from: &RelPath, to: &RelPath) -> Result<(), Why> {
    let (old_dir, old_name) = fs.place(from).ok_or(Why::Missing)?;
    let id = fs.lookup(old_dir, old_name).ok_or(Why::Missing)?;
    let (dir, name) = fs.place(to).ok_or(Why::NoParent)?;
    if fs.is_within(dir, id) {
        return Err(Why::Mismatch);
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
