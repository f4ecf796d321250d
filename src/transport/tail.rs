//! The last lines that a carrier wrote on standard error.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Lines that are kept.
const LINES_MAX: usize = 20;
/// Longest line in bytes; the rest of a longer one is dropped.
const LINE_LEN_MAX: usize = 200;

/// The last lines of a stream, control characters escaped.
#[derive(Debug, Default)]
pub(super) struct Tail {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<String>,
    partial: Vec<u8>,
}

impl Tail {
    /// Takes the next bytes of the stream.
    pub(super) fn feed(&self, bytes: &[u8]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = LINE_LEN_MAX.saturating_sub(inner.partial.len());
            inner.partial.extend_from_slice(part.get(..room).unwrap_or(part));
            if part.ends_with(b"\n") {
                inner.end_line();
            }
        }
    }

    /// Returns the lines, an unfinished last one included.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.end_line();
        inner.lines.iter().cloned().collect()
    }
}

impl Inner {
    fn end_line(&mut self) {
        let text = crate::tree::quote(self.partial.trim_ascii_end());
        self.partial.clear();
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
        if text.is_empty() {
            return;
        }
        tracing::debug!(target: "agent", line = %text);
        self.lines.push_back(text.to_owned());
        if self.lines.len() > LINES_MAX {
            self.lines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_across_pieces_and_escaped() {
        let tail = Tail::default();
        tail.feed(b"one\r\n\ntw");
        tail.feed(b"o\x1b[2J\nend");
        assert_eq!(tail.lines(), ["one", "two\\u{1b}[2J", "end"]);
    }

    #[test]
    fn number_and_length_of_lines_are_bounded() {
        let tail = Tail::default();
        tail.feed(&[b'x'; 10_000]);
        tail.feed(b"\n");
        assert_eq!(tail.lines().iter().map(String::len).collect::<Vec<_>>(), [LINE_LEN_MAX]);
        (0..100).for_each(|n| tail.feed(format!("{n}\n").as_bytes()));
        let lines = tail.lines();
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (LINES_MAX, Some("99")));
    }
}
