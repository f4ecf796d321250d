//! Filter rules out of a configuration: bytes, since names are.
//!
//! **In → out:** patterns, rules and pattern files of a block → rules in rsync's `--filter` syntax.
//! **Invariants:** what is loaded parses; a rule that does not is named at its block's place; of each
//! rule it is known where it was written.
//! **Not here:** what a rule means (`filter`).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::config::Sync;
use crate::config::error::{ConfigError, Fault};
use crate::config::raw::{Raw, Section};
use crate::error::io_text;
use crate::filter::{Filter, Verdict};
use crate::tree::{RelPath, quote};

/// Where each rule of a sync was written, in the order of its rules. It changes nothing about what the
/// sync does, so that any two are equal: a line that moves in the file restarts nothing.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<String>);

impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Origins {
    /// Notes that rules up to the `count`th, as far as it is not known yet, come from `place`.
    pub fn fill(&mut self, count: usize, place: &str) {
        while self.0.len() < count {
            self.0.push(place.to_owned());
        }
    }

    /// Returns where a rule was written.
    pub fn of(&self, rule: usize) -> Option<&str> {
        self.0.get(rule).map(String::as_str)
    }
}

/// The rule that decides about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deciding {
    /// The rule, as rsync writes it, quoted.
    pub rule: String,
    /// Whether it keeps the path out.
    pub excludes: bool,
    /// The path that it matches: the one that was asked for, or a directory above it.
    pub matches: RelPath,
    /// Where it was written, if that is known.
    pub origin: Option<String>,
}

/// Returns the rule of a sync that decides about `path`; `None` if no rule matches, which means that
/// the path takes part.
pub fn deciding(sync: &Sync, path: &RelPath, dir: bool) -> Option<Deciding> {
    let filter = Filter::new(&sync.filters).ok()?;
    let mut above: Vec<RelPath> = std::iter::successors(path.parent(), RelPath::parent).collect();
    above.reverse();
    let hidden = above.into_iter().find(|dir| !dir.is_root() && filter.excludes_entry(dir, true));
    let (matches, dir) = hidden.map_or((path.clone(), dir), |above| (above, true));
    let (verdict, text) = filter.which(&matches, dir)?;
    // A lone `!` forgets what stands before it.
    let first = sync.filters.iter().rposition(|rule| rule.trim_ascii() == b"!").map_or(0, |at| at + 1);
    let spelled = |rule: &Vec<u8>| Filter::new(&[rule]).is_ok_and(|one| one.rules() == [text]);
    let index = sync.filters.iter().skip(first).position(spelled).map(|at| at + first);
    let written = index.and_then(|at| sync.filters.get(at)).map_or(text, Vec::as_slice);
    Some(Deciding {
        rule: quote(written),
        excludes: verdict == Verdict::Exclude,
        matches,
        origin: index.and_then(|at| sync.origins.of(at)).map(str::to_owned),
    })
}

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

/// Reads the lines of the pattern file `path`, with their numbers from 1: without blanks at the end, empty lines, and those that
/// begin with one of `comments`.
///
/// # Errors
/// [`ConfigError`] (die) if it cannot be read.
pub(super) fn lines(
    section: &Section,
    key: &'static str,
    path: &Path,
    comments: &[u8],
) -> Result<Vec<(usize, Vec<u8>)>, ConfigError> {
    let text = crate::disk::read_whole(path).map_err(|error| {
        let path = quote(path.as_os_str().as_bytes());
        section.error(Fault::File { key, path, cause: io_text(&error) })
    })?;
    let lines = text.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end);
    let kept = |(_, line): &(usize, &[u8])| line.first().is_some_and(|first| !comments.contains(first));
    Ok((1..).zip(lines).filter(kept).map(|(number, line)| (number, line.to_vec())).collect())
}

/// Refuses rules that do not parse.
///
/// # Errors
/// [`ConfigError`] (die) that names the first one.
pub(super) fn check(section: &Section, rules: &[Vec<u8>]) -> Result<(), ConfigError> {
    Filter::new(rules).map(drop).map_err(|error| section.error(Fault::Filter(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sync(rules: &[&str]) -> Sync {
        let mut sync = Sync::new("www", "/srv", Vec::new());
        for (number, rule) in rules.iter().enumerate() {
            sync.filters.push(rule.as_bytes().to_vec());
            sync.origins.fill(number + 1, &format!("file:{number}"));
        }
        sync
    }

    fn told(sync: &Sync, path: &str) -> Option<(String, bool, String, String)> {
        let found = deciding(sync, &RelPath::new(path).unwrap(), false)?;
        let matches = String::from_utf8_lossy(found.matches.as_bytes()).into_owned();
        Some((found.rule, found.excludes, matches, found.origin.unwrap_or_default()))
    }

    #[test]
    fn the_deciding_rule_is_told_with_its_place_and_the_directory_that_it_matches() {
        let sync = sync(&["- *.tmp", "+ /keep/", "exclude cache/"]);
        let said = |rule: &str, excludes, path: &str, at: &str| {
            Some((quote(rule.as_bytes()), excludes, path.to_owned(), at.to_owned()))
        };
        assert_eq!(told(&sync, "a/b.tmp"), said("- *.tmp", true, "a/b.tmp", "file:0"));
        assert_eq!(told(&sync, "x/cache/deep/f"), said("exclude cache/", true, "x/cache", "file:2"));
        assert_eq!(told(&sync, "other"), None);
        let keep = deciding(&sync, &RelPath::new("keep").unwrap(), true).unwrap();
        assert!(!keep.excludes && keep.origin.as_deref() == Some("file:1"), "{keep:?}");
    }

    #[test]
    fn a_rule_that_was_cleared_is_not_the_one_that_is_told() {
        let sync = sync(&["- *.tmp", "!", "- *.tmp"]);
        assert_eq!(told(&sync, "a.tmp").map(|told| told.3), Some("file:2".to_owned()));
    }
}
