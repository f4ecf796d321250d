//! `--exclude` and its kin as filter rules in order, and the lists of `--files-from`.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use super::error::CliError;
use super::values::ValueError;
use crate::config::Listed;
use crate::filter::{Filter, FilterError, Merge, Named};
use crate::tree::{RelPath, quote};

/// What wildcards are made of.
const WILDCARDS: &[u8] = b"*?[\\";

/// The filter rules of one command line, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    rules: Vec<Vec<u8>>,
}

impl Rules {
    /// Adds `--filter=RULE`.
    pub(super) fn add_rule(&mut self, rule: &[u8]) {
        if rule == b"!" || rule == b"clear" {
            self.rules.clear();
        } else if !rule.is_empty() {
            self.rules.push(rule.to_vec());
        }
    }

    /// Adds `--exclude=PATTERN` (`sign` is `-`) or `--include=PATTERN` (`+`). As in rsync the pattern may
    /// begin with a sign and a space of its own, an empty one says nothing, and `!` clears all rules so far.
    pub(super) fn add_pattern(&mut self, sign: char, pattern: &[u8]) {
        if pattern == b"!" || pattern.starts_with(b"- ") || pattern.starts_with(b"+ ") {
            self.add_rule(pattern);
        } else if !pattern.is_empty() {
            self.rules.push([format!("{sign} ").as_bytes(), pattern].concat());
        }
    }

    /// Adds the lines of `--exclude-from` or `--include-from`.
    pub(super) fn add_lines(&mut self, sign: char, lines: &[Vec<u8>]) {
        lines.iter().for_each(|line| self.add_pattern(sign, line));
    }

    /// Whether a file is named that directories have each.
    pub(super) fn merges(&self) -> bool {
        self.rules.iter().any(|rule| is_merge(rule))
    }

    /// Refuses rules that do not parse.
    ///
    /// # Errors
    /// [`FilterError`] of the first one.
    pub(super) fn check(&self) -> Result<(), FilterError> {
        // What names a file in each directory has been looked at when it was added.
        let plain = self.rules.iter().filter(|rule| !is_merge(rule)).collect::<Vec<_>>();
        Filter::new(&plain).map(drop)
    }

    /// Returns the rules as they apply below the source.
    ///
    /// Where SOURCE has no trailing slash, `name` is its last component: rsync's patterns then begin one
    /// level higher, `/name/cache`, and are moved down.
    ///
    /// # Errors
    /// [`ValueError::Anchor`] with the rule that may match the source directory itself.
    pub(super) fn below(self, name: Option<&[u8]>) -> Result<Vec<Vec<u8>>, (Vec<u8>, ValueError)> {
        let Some(name) = name else { return Ok(self.rules) };
        let mut rules = Vec::with_capacity(self.rules.len());
        for rule in self.rules {
            match descend(&rule, name) {
                Descent::Keep => rules.push(rule),
                Descent::Never => {}
                Descent::Moved(moved) => rules.push(moved),
                Descent::Also(moved) => rules.extend([moved, rule]),
                Descent::Unclear => return Err((rule, ValueError::Anchor)),
            }
        }
        Ok(rules)
    }
}

fn is_merge(rule: &[u8]) -> bool {
    matches!(Merge::parse(rule), Ok(Named::File(_)))
}

/// What becomes of a rule one level down.
enum Descent {
    /// It says the same there.
    Keep,
    /// It matches nothing there.
    Never,
    /// It is this rule there.
    Moved(Vec<u8>),
    /// It is this rule, and itself as well.
    Also(Vec<u8>),
    /// It may match the directory itself.
    Unclear,
}

/// Moves `rule` from the level that holds the directory `name` into that directory.
fn descend(rule: &[u8], name: &[u8]) -> Descent {
    let Some((kind, pattern)) = split_at_first(rule, b" _").filter(|_| !is_merge(rule)) else {
        return Descent::Keep;
    };
    if kind.iter().skip(1).any(|&modifier| modifier == b'/') {
        return Descent::Keep;
    }
    let anchored = pattern.starts_with(b"/");
    let body = pattern.strip_prefix(b"/").unwrap_or(pattern);
    let Some((first, rest)) = split_at_first(body, b"/") else {
        return if anchored && may_match(body, name) {
            Descent::Unclear
        } else if anchored {
            Descent::Never
        } else {
            Descent::Keep
        };
    };
    if !may_match(first, name) {
        return if anchored { Descent::Never } else { Descent::Keep };
    }
    let surely = first == name || first == b"*" || (first == b"**" && !anchored);
    let includes = kind.starts_with(b"+") || kind.starts_with(b"i");
    let moved = || [kind, b" /", rest].concat();
    match (surely, anchored, rest.iter().all(|&b| b == b'*')) {
        // `name/`, `/name/` and `/name/**`: an include has no more to say, an exclude leaves nothing.
        (true, true, true) if includes && !rest.is_empty() => Descent::Moved(moved()),
        (true, true, true) if includes => Descent::Never,
        (true, false, true) if rest.is_empty() => Descent::Keep,
        (true, true, _) if !rest.is_empty() => Descent::Moved(moved()),
        (true, false, _) => Descent::Also(moved()),
        _ => Descent::Unclear,
    }
}

/// Splits `text` at the first of `separators`, which goes.
fn split_at_first<'a>(text: &'a [u8], separators: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.iter().position(|b| separators.contains(b))?;
    Some((text.get(..at)?, text.get(at.saturating_add(1)..)?))
}

/// Whether the wildcard pattern of one component may match `name`: by what stands before the first and
/// after the last wildcard.
fn may_match(pattern: &[u8], name: &[u8]) -> bool {
    let wild = |b: &u8| WILDCARDS.contains(b) || *b == b']';
    match (pattern.iter().position(wild), pattern.iter().rposition(wild)) {
        (Some(first), Some(last)) => {
            name.starts_with(pattern.get(..first).unwrap_or_default())
                && name.ends_with(pattern.get(last.saturating_add(1)..).unwrap_or_default())
        }
        _ => pattern == name,
    }
}

/// Reads the lists that options name; standard input once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lists {
    stdin_read: bool,
}

impl Lists {
    /// Reads the list `file` of `option`: its entries without blank ones and comments. Entries end at a
    /// line end, or at a NUL byte with `from0`, where comments are entries.
    ///
    /// # Errors
    /// [`CliError::List`] if the file cannot be read, [`CliError::Value`] for a second reading of standard
    /// input.
    pub(super) fn read(
        &mut self,
        option: &'static str,
        file: &OsStr,
        from0: bool,
    ) -> Result<Vec<Vec<u8>>, CliError> {
        Ok(entries(&self.bytes(option, file)?, from0))
    }

    /// Reads the file of rules that a `merge` rule names, with its lines; with `from0` entries end at NUL bytes.
    ///
    /// # Errors
    /// As [`Lists::read`].
    pub(super) fn text(
        &mut self,
        option: &'static str,
        file: &OsStr,
        from0: bool,
    ) -> Result<Vec<u8>, CliError> {
        let text = self.bytes(option, file)?;
        Ok(if from0 {
            text.into_iter().map(|byte| if byte == 0 { b'\n' } else { byte }).collect()
        } else {
            text
        })
    }

    fn bytes(&mut self, option: &'static str, file: &OsStr) -> Result<Vec<u8>, CliError> {
        let mut bytes = Vec::new();
        let result = if file == "-" {
            if self.stdin_read {
                return Err(CliError::value(option, file, ValueError::StdinTwice));
            }
            self.stdin_read = true;
            std::io::stdin().lock().read_to_end(&mut bytes)
        } else {
            crate::disk::open_to_read(file.as_ref()).and_then(|mut open| open.read_to_end(&mut bytes))
        };
        result.map_err(|source| CliError::List { option, path: quote(file.as_bytes()), source })?;
        Ok(bytes)
    }
}

/// Splits a list into its entries.
fn entries(bytes: &[u8], from0: bool) -> Vec<Vec<u8>> {
    let ends = |b: &u8| if from0 { *b == 0 } else { *b == b'\n' || *b == b'\r' };
    bytes
        .split(ends)
        .filter(|line| !line.is_empty() && (from0 || !matches!(line.first(), Some(b'#' | b';'))))
        .map(<[u8]>::to_vec)
        .collect()
}

/// Returns the lines of `--files-from` as paths below the source: leading slashes, `.` and `..` are
/// resolved away and never rise above it. As in rsync, `dir/` asks for what the directory holds, one level
/// of it without `-r`, and so do `.` and `..`; a line that begins with `./` lists the source's root as well.
///
/// # Errors
/// [`ValueError::Path`] for a path that no file can have; [`ValueError::Dotted`] for `a/./b`.
pub(super) fn listed_paths(lines: &[Vec<u8>]) -> Result<Vec<Listed>, ValueError> {
    let mut paths = Vec::with_capacity(lines.len());
    for line in lines {
        let mut parts: Vec<&[u8]> = Vec::new();
        let words: Vec<&[u8]> = line.split(|&b| b == b'/').collect();
        for (at, word) in words.iter().enumerate() {
            match *word {
                b"." if !parts.is_empty() && at + 1 < words.len() => {
                    return Err(ValueError::Dotted(quote(line).trim_matches('"').to_owned()));
                }
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        let path = RelPath::new(parts.join(&b'/'))?;
        let level = path.is_root() || words.last().is_some_and(|last| matches!(*last, b"" | b"."));
        if !path.is_root() && line.starts_with(b"./") {
            paths.push(Listed { path: RelPath::root(), level: false });
        }
        paths.push(Listed { path, level });
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_keep_their_order_and_their_own_signs() {
        let mut rules = Rules::default();
        rules.add_pattern('-', b"lost");
        rules.add_pattern('-', b"!");
        rules.add_pattern('+', b"*.jpg");
        rules.add_rule(b"P .well-known");
        rules.add_pattern('-', b"+ keep");
        rules.add_pattern('-', b"");
        rules.add_lines('-', &[b"*".to_vec(), b"+ x".to_vec()]);
        rules.add_pattern('-', b"\xff");
        let expected: [&[u8]; 6] = [b"+ *.jpg", b"P .well-known", b"+ keep", b"- *", b"+ x", b"- \xff"];
        assert_eq!(rules.rules, expected);
        assert_eq!(rules.check(), Ok(()));
        rules.add_rule(b"nonsense");
        assert_eq!(rules.check(), Err(FilterError::Unknown(b"nonsense".to_vec())));
    }

    #[test]
    fn rules_of_a_carried_directory_move_one_level_down() {
        for (rule, below) in [
            ("- /www/cache", vec!["- /cache"]),
            ("- www/cache", vec!["- /cache", "- www/cache"]),
            ("- */cache", vec!["- /cache", "- */cache"]),
            ("- /other/cache", vec![]),
            ("- /cache", vec![]),
            ("- other/cache", vec!["- other/cache"]),
            ("- *.d/cache", vec!["- *.d/cache"]),
            ("- *.tmp", vec!["- *.tmp"]),
            ("+ */", vec!["+ */"]),
            ("+ /www/***", vec!["+ /***"]),
            ("+ /www/", vec![]),
            ("P /www/x/", vec!["P /x/"]),
            ("-/ /srv/www/x", vec!["-/ /srv/www/x"]),
        ] {
            let mut rules = Rules::default();
            rules.add_rule(rule.as_bytes());
            let below: Vec<&[u8]> = below.into_iter().map(str::as_bytes).collect();
            assert_eq!(rules.clone().below(Some(b"www")).unwrap(), below, "{rule}");
            assert_eq!(rules.below(None).unwrap(), [rule.as_bytes()], "{rule}");
        }
    }

    #[test]
    fn rule_that_may_match_the_source_itself_is_refused() {
        for rule in ["- /www", "- /www/", "- /w*/cache", "- w*/cache", "- /*"] {
            let mut rules = Rules::default();
            rules.add_rule(rule.as_bytes());
            assert_eq!(
                rules.below(Some(b"www")),
                Err((rule.as_bytes().to_vec(), ValueError::Anchor)),
                "{rule}"
            );
        }
    }

    #[test]
    fn list_entries_end_at_lines_or_at_nul() {
        assert_eq!(entries(b"a\r\n# c\n;d\n\n b\n", false), [b"a".to_vec(), b" b".to_vec()]);
        assert_eq!(entries(b"a\nb\0#c\0", true), [b"a\nb".to_vec(), b"#c".to_vec()]);
    }

    #[test]
    fn listed_paths_never_rise_above_the_source() {
        let list = |text: &str| {
            let listed = listed_paths(&[text.as_bytes().to_vec()]).unwrap();
            let shown = listed.iter().map(|one| {
                let path = String::from_utf8_lossy(one.path.as_bytes());
                format!("{path}{}", if one.level { "/" } else { "" })
            });
            shown.collect::<Vec<_>>().join(" ")
        };
        for (line, is) in [
            ("/x/y//z", "x/y/z"),
            ("x/y//z/", "x/y/z/"),
            ("x/.", "x/"),
            ("./x", " x"),
            ("a/../../b", "b"),
            (".", "/"),
            ("./", "/"),
            ("..", "/"),
            ("a/..", "/"),
        ] {
            assert_eq!(list(line), is, "{line}");
        }
        assert!(matches!(listed_paths(&[b"a\0".to_vec()]), Err(ValueError::Path(_))));
        for anchor in ["d/./f", "d/./", "./a/./b"] {
            assert!(matches!(listed_paths(&[anchor.into()]), Err(ValueError::Dotted(_))), "{anchor}");
        }
    }
}
