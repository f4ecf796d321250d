//! Filter rules out of a configuration: bytes, since names are.
//!
//! **In → out:** patterns, rules and pattern files of a block → rules in rsync's `--filter` syntax.
//! **Invariants:** what is loaded parses; a rule that does not is named at its block's place.
//! **Not here:** what a rule means (`filter`).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::config::error::{ConfigError, Fault};
use crate::config::raw::{Raw, Section};
use crate::error::io_text;
use crate::filter::Filter;
use crate::tree::quote;

/// Returns the rule that `sign` (`-` or `+`) and a pattern make.
pub(super) fn rule(sign: char, pattern: impl AsRef<[u8]>) -> Vec<u8> {
    let mut rule = format!("{sign} ").into_bytes();
    rule.extend_from_slice(pattern.as_ref());
    rule
}

/// Returns the patterns under `key`, which is one string or a list of strings of any bytes but NUL and
/// line ends.
///
/// # Errors
/// [`ConfigError`] (die) for anything else.
pub(super) fn patterns(
    section: &Section,
    key: &str,
    allowed: &'static str,
) -> Result<Vec<Vec<u8>>, ConfigError> {
    let odd = |b: &u8| matches!(b, b'\n' | b'\r' | 0);
    let read = |given: &Raw| match given {
        Raw::Text(bytes) if !bytes.is_empty() && !bytes.iter().any(odd) => Ok(bytes.clone()),
        given => Err(section.wrong(key, given, allowed)),
    };
    section.list(key, allowed)?.into_iter().map(read).collect()
}

/// Reads the lines of the pattern file `path`: without blanks at the end, empty lines, and those that
/// begin with one of `comments`.
///
/// # Errors
/// [`ConfigError`] (die) if it cannot be read.
pub(super) fn lines(
    section: &Section,
    key: &'static str,
    path: &Path,
    comments: &[u8],
) -> Result<Vec<Vec<u8>>, ConfigError> {
    let text = std::fs::read(path).map_err(|error| {
        let path = quote(path.as_os_str().as_bytes());
        section.error(Fault::File { key, path, cause: io_text(&error) })
    })?;
    let kept = |line: &&[u8]| line.first().is_some_and(|first| !comments.contains(first));
    Ok(text.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end).filter(kept).map(<[u8]>::to_vec).collect())
}

/// Refuses rules that do not parse.
///
/// # Errors
/// [`ConfigError`] (die) that names the first one.
pub(super) fn check(section: &Section, rules: &[Vec<u8>]) -> Result<(), ConfigError> {
    Filter::new(rules).map(drop).map_err(|error| section.error(Fault::Filter(error)))
}
