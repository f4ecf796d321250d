//! What an exit code means.

use std::collections::BTreeMap;

use mlua::{Table, Value};

/// What follows from a child's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The work is done.
    Ok,
    /// It is tried again.
    Again,
    /// Nobody can go on.
    Die,
}

impl Verdict {
    /// Returns the verdict of a word; `None` for any other.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        match word {
            b"ok" => Some(Self::Ok),
            b"again" => Some(Self::Again),
            b"die" => Some(Self::Die),
            _ => None,
        }
    }
}

/// A table of exit codes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitCodes {
    codes: Option<BTreeMap<i32, Verdict>>,
}

impl ExitCodes {
    /// Reads `table[key]`; anything but a table stands for "no table".
    pub(super) fn read(table: &Table, key: &str) -> mlua::Result<Self> {
        let Value::Table(codes) = table.get::<Value>(key)? else { return Ok(Self::default()) };
        let mut read = BTreeMap::new();
        for pair in codes.pairs::<Value, Value>() {
            if let (Value::Integer(code), Value::String(word)) = pair?
                && let (Ok(code), Some(verdict)) = (i32::try_from(code), Verdict::from_word(&word.as_bytes()))
            {
                read.insert(code, verdict);
            }
        }
        Ok(Self { codes: Some(read) })
    }

    /// Whether there is a table.
    pub fn is_given(&self) -> bool {
        self.codes.is_some()
    }

    /// Returns what `code` means; `None` if the table does not know it. Without a table every code but 0
    /// is `Die`.
    pub fn verdict(&self, code: i32) -> Option<Verdict> {
        match &self.codes {
            Some(codes) => codes.get(&code).copied(),
            None if code == 0 => Some(Verdict::Ok),
            None => Some(Verdict::Die),
        }
    }
}
