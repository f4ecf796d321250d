//! What a configuration program handed over, before anybody knows what it means.
//!
//! **Purpose:** Lua's values as plain ones, and a reader of their keys whose errors say the key, what
//! was given and what is allowed. **In → out:** `config::lua` makes [`Block`]s, the layers read them.
//! **Not here:** which keys there are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::error::{ConfigError, Fault, FilePosition};
use crate::config::suggest::nearest;
use crate::config::units::{parse_duration, seconds};
use crate::tree::quote;

/// What a duration may look like.
pub(super) const DURATION: &str = "seconds (0.02) or a duration (\"20ms\", \"15m\", \"1h30m\")";

/// A value of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A string: bytes, as Lua has them.
    Text(Vec<u8>),
    /// A table.
    Table(RawTable),
    /// A function, coroutine or foreign object, by Lua's name of its type.
    Other(&'static str),
}

/// A table of a configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawTable {
    /// What stands under string keys.
    pub named: BTreeMap<String, Raw>,
    /// What stands under whole numbers.
    pub items: BTreeMap<i64, Raw>,
}

/// One call of `sync{}` or `settings{}`, inheritance settled.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Where the call stands.
    pub place: FilePosition,
    /// What it was given.
    pub table: RawTable,
}

impl Raw {
    /// Returns the value as the administrator wrote it, at most 60 characters of it.
    pub fn describe(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) => match quote(text) {
                text if text.chars().count() > 60 => text.chars().take(57).collect::<String>() + "...\"",
                text => text,
            },
            Self::Table(_) => "a table".to_owned(),
            Self::Other(name) => format!("a {name}"),
        }
    }
}

impl RawTable {
    /// Returns the values at 1, 2, 3 … if the table is a list and nothing else.
    pub fn as_list(&self) -> Option<Vec<&Raw>> {
        let contiguous = self.items.keys().zip(1..).all(|(&key, position)| key == position);
        (self.named.is_empty() && contiguous).then(|| self.items.values().collect())
    }
}

/// Reads the keys of one table.
pub(super) struct Section<'a> {
    /// Where the block stands.
    pub place: &'a FilePosition,
    /// The keys above this table, with a dot at the end; empty for the block itself.
    pub prefix: String,
    /// The table.
    pub table: &'a RawTable,
}

impl<'a> Section<'a> {
    /// Returns the reader of a whole block.
    pub fn of(block: &'a Block) -> Self {
        Self { place: &block.place, prefix: String::new(), table: &block.table }
    }

    /// Returns the error `fault` at this block.
    pub fn error(&self, fault: Fault) -> ConfigError {
        ConfigError::new(self.place, fault)
    }

    /// Returns the error of a value that cannot stand under `key`.
    pub fn wrong(&self, key: &str, given: &Raw, allowed: &'static str) -> ConfigError {
        let key = format!("{}{key}", self.prefix);
        self.error(Fault::Value { key, given: given.describe(), allowed })
    }

    /// Refuses keys that are not `known`; the alphabetically first one is told.
    pub fn only(&self, known: &[&str], block: &'static str) -> Result<(), ConfigError> {
        if let Some(key) = self.table.named.keys().find(|key| !known.contains(&key.as_str())) {
            let near = nearest(key, known).map(|near| format!("{}{near}", self.prefix));
            return Err(self.error(Fault::UnknownKey { key: format!("{}{key}", self.prefix), near }));
        }
        match self.table.items.values().next() {
            Some(stray) => Err(self.error(Fault::Stray { block, given: stray.describe() })),
            None => Ok(()),
        }
    }

    /// Returns the value under `key`.
    pub fn get(&self, key: &str) -> Option<&'a Raw> {
        self.table.named.get(key)
    }

    /// Sets `into` if `key` is given.
    pub fn flag(&self, key: &str, into: &mut bool) -> Result<(), ConfigError> {
        match self.get(key) {
            None => Ok(()),
            Some(Raw::Bool(value)) => {
                *into = *value;
                Ok(())
            }
            Some(given) => Err(self.wrong(key, given, "true or false")),
        }
    }

    /// Sets `into` to the value that belongs to the word under `key`.
    pub fn choice<T: Copy>(
        &self,
        key: &str,
        choices: &[(Raw, T)],
        allowed: &'static str,
        into: &mut T,
    ) -> Result<(), ConfigError> {
        let Some(given) = self.get(key) else { return Ok(()) };
        let (_, value) =
            choices.iter().find(|(raw, _)| raw == given).ok_or_else(|| self.wrong(key, given, allowed))?;
        *into = *value;
        Ok(())
    }

    /// Returns the text under `key`: valid UTF-8, not empty, one line.
    pub fn text(&self, key: &str, allowed: &'static str) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(given) => word(given).map(Some).ok_or_else(|| self.wrong(key, given, allowed)),
        }
    }

    /// Returns the text under `key` if `fits` takes it.
    pub fn fitting(
        &self,
        key: &str,
        allowed: &'static str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(given) => {
                word(given).filter(|text| fits(text)).map(Some).ok_or_else(|| self.wrong(key, given, allowed))
            }
        }
    }

    /// Returns the path under `key`, of any bytes but NUL.
    pub fn path(&self, key: &str, allowed: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Raw::Text(bytes)) if !bytes.is_empty() && !bytes.contains(&0) => {
                Ok(Some(OsString::from_vec(bytes.clone()).into()))
            }
            Some(given) => Err(self.wrong(key, given, allowed)),
        }
    }

    /// Returns the duration under `key`.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(given) => duration(given).map(Some).ok_or_else(|| self.wrong(key, given, DURATION)),
        }
    }

    /// Returns the values under `key`, which is one value or a list of them.
    pub fn list(&self, key: &str, allowed: &'static str) -> Result<Vec<&'a Raw>, ConfigError> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(given @ Raw::Table(table)) => table.as_list().ok_or_else(|| self.wrong(key, given, allowed)),
            Some(one) => Ok(vec![one]),
        }
    }

    /// Returns the words under `key`, which is one string or a list of strings.
    pub fn words(&self, key: &str, allowed: &'static str) -> Result<Vec<String>, ConfigError> {
        self.list(key, allowed)?
            .into_iter()
            .map(|given| word(given).ok_or_else(|| self.wrong(key, given, allowed)))
            .collect()
    }

    /// Returns the reader of the table under `key`.
    pub fn section(&self, key: &str, allowed: &'static str) -> Result<Option<Section<'a>>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Raw::Table(table)) => {
                Ok(Some(Section { place: self.place, prefix: format!("{}{key}.", self.prefix), table }))
            }
            Some(given) => Err(self.wrong(key, given, allowed)),
        }
    }
}

/// Returns a text that is valid UTF-8, not empty and one line.
pub(super) fn word(raw: &Raw) -> Option<String> {
    let Raw::Text(bytes) = raw else { return None };
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.contains(['\n', '\r', '\0'])).then(|| text.to_owned())
}

/// Returns a number of seconds or a text as a duration.
pub(super) fn duration(raw: &Raw) -> Option<Duration> {
    match raw {
        // Beyond 2^53 a float is too coarse, and no duration either.
        Raw::Int(value) => seconds(*value as f64).ok(),
        Raw::Float(value) => seconds(*value).ok(),
        Raw::Text(text) => parse_duration(std::str::from_utf8(text).ok()?).ok(),
        _ => None,
    }
}

/// Returns the text of a string or a number, for keys that allow both.
pub(super) fn plain(raw: &Raw) -> Option<String> {
    match raw {
        Raw::Int(value) => Some(value.to_string()),
        Raw::Float(value) => Some(value.to_string()),
        text => word(text),
    }
}

/// Returns `text` as a value to compare with.
pub(super) fn lit(text: &str) -> Raw {
    Raw::Text(text.as_bytes().to_vec())
}
