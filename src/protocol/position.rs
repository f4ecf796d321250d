//! A moment of a source, as a token that its standbys understand.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Starts that a standby remembers besides the last one.
pub const BEFORE_MAX: usize = 16;

/// How far a source was at one start of its sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which start.
    pub start: u64,
    /// Grows from one mark of a start to the next.
    pub number: u64,
}

/// A mark that was given away, under the generation that the source led then; 0 for a source without a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The number of the generation.
    pub generation: u64,
    /// How far the source was.
    pub mark: Mark,
}

/// A text is no position. Consequence: skip; who asked is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no position: one is as speil position prints it, 0.5b3c9a0f12e4d678.120345")]
pub struct NoPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}.{}", self.generation, self.mark.start, self.mark.number)
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let decimal = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or(NoPosition)
        };
        let [generation, start, number] = *text.split('.').collect::<Vec<_>>() else {
            return Err(NoPosition);
        };
        let hex = start.len() == 16 && start.bytes().all(|byte| byte.is_ascii_hexdigit());
        let start = u64::from_str_radix(start, 16).ok().filter(|_| hex).ok_or(NoPosition)?;
        Ok(Self { generation: decimal(generation)?, mark: Mark { start, number: decimal(number)? } })
    }
}

/// What a standby has reached: one mark, and the starts before it, of which it has everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The newest mark; `None` if it was never told of one.
    pub mark: Option<Mark>,
    /// Earlier starts, the last one first.
    pub before: Vec<u64>,
}

impl Reached {
    /// Takes in a mark that was reached.
    pub fn advance(&mut self, mark: Mark) {
        if let Some(old) = self.mark.filter(|old| old.start != mark.start) {
            self.before.retain(|start| *start != old.start && *start != mark.start);
            self.before.insert(0, old.start);
            self.before.truncate(BEFORE_MAX);
        }
        self.mark = Some(mark);
    }

    /// Whether everything up to a mark is there; `None` for a start that was never heard of.
    pub fn has(&self, mark: Mark) -> Option<bool> {
        match self.mark {
            Some(at) if at.start == mark.start => Some(at.number >= mark.number),
            // What a start had is in the tree that the next one has compared.
            _ => self.before.contains(&mark.start).then_some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written_and_nothing_else_is() {
        let position = Position { generation: 3, mark: Mark { start: 0x5b, number: 120 } };
        assert_eq!(position.to_string(), "3.000000000000005b.120");
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in [
            "",
            "3",
            "3.5b.120",
            "3.000000000000005b.",
            "3.000000000000005b.+1",
            "-1.000000000000005b.1",
            "3.000000000000005b.1.1",
            "3.+00000000000005b.1",
            " 3.000000000000005b.1",
            "3.000000000000005b.99999999999999999999",
        ] {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }

    #[test]
    fn what_earlier_starts_had_is_there_and_what_nobody_told_of_is_not_known() {
        let mark = |start, number| Mark { start, number };
        let mut reached = Reached::default();
        assert_eq!(reached.has(mark(1, 0)), None);
        reached.advance(mark(1, 5));
        assert_eq!(reached.has(mark(1, 5)), Some(true));
        assert_eq!(reached.has(mark(1, 6)), Some(false));
        assert_eq!(reached.has(mark(2, 0)), None);
        reached.advance(mark(2, 0));
        assert_eq!(reached.has(mark(1, 6)), Some(true));
        assert_eq!(reached.has(mark(2, 1)), Some(false));
        (3..40).for_each(|start| reached.advance(mark(start, 0)));
        assert_eq!(reached.has(mark(1, 5)), None);
        assert_eq!(reached.before.len(), BEFORE_MAX);
        // One that comes back, as after a list of targets that was changed to and fro.
        reached.advance(mark(38, 7));
        assert_eq!(reached.has(mark(38, 8)), Some(false));
        assert_eq!(reached.has(mark(39, 1)), Some(true));
    }
}
