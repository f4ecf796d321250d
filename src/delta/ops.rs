//! Decided content on its way out: merges copies, cuts literals.
//!
//! Holds the bytes that are not decided yet, the literal bytes that are not told yet, and one copy
//! that may still grow. What is told depends on the decisions alone, not on the pushes.

use super::{Emit, Op, Totals};

/// What bounds an op.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The longest literal, in bytes.
    pub(super) literal: usize,
    /// The length, in bytes, beyond which copies are not merged: a receiver shall not stand idle
    /// while a sender reads a long unchanged file.
    pub(super) copy: u64,
}

/// Content between being pushed and being told.
#[derive(Debug)]
pub(super) struct Ops {
    limits: Limits,
    buffer: Vec<u8>,
    /// What lies before is told, or part of a copy.
    literal_start: usize,
    /// What lies before is decided.
    decided: usize,
    copy: Option<(u64, u64)>,
    totals: Totals,
}

impl Ops {
    pub(super) fn new(limits: Limits) -> Self {
        let limits = Limits { literal: limits.literal.max(1), ..limits };
        let totals = Totals::default();
        Self { limits, buffer: Vec::new(), literal_start: 0, decided: 0, copy: None, totals }
    }

    /// Appends content that is to be decided.
    pub(super) fn extend(&mut self, content: &[u8]) {
        // Moved only when it is no more than what was used up, so each byte moves about once.
        if self.literal_start >= self.buffer.len() - self.literal_start {
            self.buffer.drain(..self.literal_start);
            self.decided -= self.literal_start;
            self.literal_start = 0;
        }
        self.buffer.extend_from_slice(content);
    }

    /// Returns the content that is not decided.
    pub(super) fn undecided(&self) -> &[u8] {
        self.buffer.get(self.decided..).unwrap_or_default()
    }

    /// Returns how many bytes are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Decides that the next `len` bytes are in no block.
    pub(super) fn literal<E>(&mut self, len: usize, emit: Emit<'_, E>) -> Result<(), E> {
        self.decided = self.decided.saturating_add(len).min(self.buffer.len());
        self.tell_literals(self.limits.literal, emit)
    }

    /// Decides that the next `len` bytes are those of the basis at `offset`.
    pub(super) fn copy<E>(&mut self, offset: u64, len: usize, emit: Emit<'_, E>) -> Result<(), E> {
        self.tell_literals(1, emit)?;
        let added = len as u64;
        let grown = self.copy.filter(|(start, length)| {
            start.checked_add(*length) == Some(offset) && length.saturating_add(added) <= self.limits.copy
        });
        if let Some((start, length)) = grown {
            self.copy = Some((start, length + added));
        } else {
            self.tell_copy(emit)?;
            self.copy = Some((offset, added));
        }
        self.decided = self.decided.saturating_add(len).min(self.buffer.len());
        self.literal_start = self.decided;
        Ok(())
    }

    /// Tells what is left. What is not decided is literal.
    pub(super) fn finish<E>(mut self, emit: Emit<'_, E>) -> Result<Totals, E> {
        self.decided = self.buffer.len();
        self.tell_literals(1, emit)?;
        self.tell_copy(emit)?;
        Ok(self.totals)
    }

    /// Tells the decided literal bytes, as long as there are at least `least`.
    fn tell_literals<E>(&mut self, least: usize, emit: Emit<'_, E>) -> Result<(), E> {
        while self.decided - self.literal_start >= least {
            self.tell_copy(emit)?;
            let end = self.decided.min(self.literal_start + self.limits.literal);
            let literal = self.buffer.get(self.literal_start..end).unwrap_or_default();
            self.totals.literal_bytes += literal.len() as u64;
            self.literal_start = end;
            emit(Op::Literal(literal))?;
        }
        Ok(())
    }

    fn tell_copy<E>(&mut self, emit: Emit<'_, E>) -> Result<(), E> {
        let Some((offset, len)) = self.copy.take() else { return Ok(()) };
        self.totals.copied_bytes += len;
        emit(Op::Copy { offset, len })
    }
}
