//! Large files, sent in pieces, each in its turn.

use std::collections::VecDeque;

use crate::sender::ledger::{Op, What};
use crate::tree::RelPath;

/// A large file that the target was told of.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub op: Op,
    /// The look that opened it.
    pub opened: Op,
    /// The name under which the piece that is being read is looked for.
    pub path: Option<RelPath>,
    /// A piece is being read.
    is_reading: bool,
    /// The target does not have the directory any more in which it was begun under the name that is meant.
    pub is_astray: bool,
}

/// Those that are under way, and those that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: VecDeque<Stream>,
    /// Looks that have found a large file. It is looked at anew when its turn has come.
    waiting: VecDeque<(Op, What)>,
}

impl Streams {
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.waiting.is_empty()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.streams.iter_mut()
    }

    pub fn begin(&mut self, op: Op, opened: Op) {
        self.streams.push_back(Stream { op, opened, path: None, is_reading: false, is_astray: false });
    }

    /// Has a large file wait until there is room for it.
    pub fn wait(&mut self, look: Op, what: What) {
        self.waiting.push_back((look, what));
    }

    pub fn next_waiting(&mut self) -> Option<(Op, What)> {
        self.waiting.pop_front()
    }

    /// Returns the next of which no piece is being read; the others come before it the next time.
    pub fn next(&mut self) -> Option<Stream> {
        let at = self.streams.iter().position(|stream| !stream.is_reading)?;
        let stream = self.streams.remove(at)?;
        self.streams.push_back(stream.clone());
        Some(stream)
    }

    /// Notes that a piece is being read, and for which name.
    pub fn reading(&mut self, op: Op, path: RelPath) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.op == op) {
            (stream.path, stream.is_reading) = (Some(path), true);
        }
    }

    /// Notes that a piece was read.
    pub fn read(&mut self, op: Op) -> Option<Stream> {
        let stream = self.streams.iter_mut().find(|stream| stream.op == op)?;
        stream.is_reading = false;
        Some(stream.clone())
    }

    pub fn remove(&mut self, op: Op) -> Option<Stream> {
        let at = self.streams.iter().position(|stream| stream.op == op)?;
        self.streams.remove(at)
    }
}
