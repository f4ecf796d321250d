//! The patterns that a running lsyncd holds against its events.
//!
//! **Purpose:** an lsyncd configuration's `exclude`, `excludeFrom`, `filter` and `filterFrom` mean here
//! what they mean there while events flow (at its start rsync judges instead; the two differ).
//! **In → Out:** patterns as bytes; a relative path and whether it is a directory → excluded or not.
//! **Invariants:** a pattern is found anywhere in the event's path, which begins with a slash, and ends
//! with one for a directory; so what lies below an excluded directory is excluded unless an earlier `+`
//! includes it. The root is never excluded. Filters are asked first, first match wins, then excludes.
//! **Not here:** reading the files; lsyncd's start, which is [`Filter`](super::Filter) with the same lists.
//! **Sources:** lsyncd's manual "Excludes" and "Filters", observed with lsyncd 2.2.3.

use super::glob::check_pattern;
use super::glob::{Ends, Glob, Starts};
use super::{FilterError, RULES_MAX, Verdict};
use crate::tree::RelPath;

/// lsyncd's runtime filters and excludes. The default includes everything.
#[derive(Debug, Clone, Default)]
pub struct LsyncdFilter {
    filters: Vec<Pattern>,
    excludes: Vec<Pattern>,
}

/// One pattern.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    verdict: Verdict,
    text: Vec<u8>,
    glob: Glob,
    starts: Starts,
    ends: Ends,
}

impl Pattern {
    pub(super) fn new(text: &[u8], verdict: Verdict) -> Result<Self, FilterError> {
        check_pattern(text)?;
        let (starts, body) = match text.strip_prefix(b"/") {
            Some(anchored) => (Starts::First, anchored),
            None => (Starts::AfterSlash, text),
        };
        let ends = if text.ends_with(b"/") { Ends::Anywhere } else { Ends::BeforeSlash };
        Ok(Self { verdict, text: text.to_vec(), glob: Glob::lsyncd(body), starts, ends })
    }

    /// Whether the pattern is found in the event's path after its leading slash.
    pub(super) fn matches(&self, path: &[u8], dir: bool) -> bool {
        self.glob.matches([b"", path, if dir { b"/" } else { b"" }], self.starts, self.ends)
    }

    /// Whether the pattern says the same of whatever is below two directories, given with a slash behind.
    pub(super) fn is_same_below(&self, one: &[u8], other: &[u8]) -> bool {
        let after = |dir| self.glob.after([b"", dir, b""], self.starts, self.ends);
        after(one) == after(other)
    }

    fn rule(&self) -> Vec<u8> {
        let prefix: &[u8] = if self.verdict == Verdict::Include { b"+ " } else { b"- " };
        [prefix, &self.text].concat()
    }
}

impl PartialEq for LsyncdFilter {
    /// Equal filters give equal verdicts: an exclude is a last `- ` filter.
    fn eq(&self, other: &Self) -> bool {
        self.patterns().map(Pattern::rule).eq(other.patterns().map(Pattern::rule))
    }
}

impl LsyncdFilter {
    /// Makes a filter of the lists `filter` (`+ PATTERN`, `- PATTERN`) and `exclude` (`PATTERN`).
    ///
    /// # Errors
    /// [`FilterError`] (die) as [`Self::push_filter`] and [`Self::push_exclude`].
    pub fn new(filters: &[impl AsRef<[u8]>], excludes: &[impl AsRef<[u8]>]) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        filters.iter().try_for_each(|rule| filter.push_filter(rule.as_ref()))?;
        excludes.iter().try_for_each(|pattern| filter.push_exclude(pattern.as_ref()))?;
        Ok(filter)
    }

    /// Reads what [`Self::rules`] wrote.
    ///
    /// # Errors
    /// [`FilterError`] (die) for a rule that begins with neither `+ ` nor `- `, and as [`Self::push_filter`].
    pub fn from_rules(rules: &[impl AsRef<[u8]>]) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for rule in rules {
            let (verdict, pattern) = match rule.as_ref() {
                [b'+', b' ', pattern @ ..] => (Verdict::Include, pattern),
                [b'-', b' ', pattern @ ..] => (Verdict::Exclude, pattern),
                rule => return Err(FilterError::Lsyncd(rule.to_vec())),
            };
            filter.add_filter(pattern, verdict)?;
        }
        Ok(filter)
    }

    /// Adds one `+ PATTERN` or `- PATTERN`; white space before and behind the sign is none of it.
    ///
    /// # Errors
    /// [`FilterError`] (die) for anything else, and for a pattern that is empty, too long or holds a NUL.
    pub fn push_filter(&mut self, rule: &[u8]) -> Result<(), FilterError> {
        match rule.trim_ascii_start() {
            [b'+', pattern @ ..] => self.add_filter(pattern.trim_ascii_start(), Verdict::Include),
            [b'-', pattern @ ..] => self.add_filter(pattern.trim_ascii_start(), Verdict::Exclude),
            _ => Err(FilterError::Lsyncd(rule.to_vec())),
        }
    }

    fn add_filter(&mut self, pattern: &[u8], verdict: Verdict) -> Result<(), FilterError> {
        let pattern = Pattern::new(pattern, verdict)?;
        if pattern.text.is_empty() {
            return Err(FilterError::NoPattern(pattern.rule()));
        }
        self.check_count()?;
        self.filters.push(pattern);
        Ok(())
    }

    /// Adds one pattern of `exclude`, as it stands; an empty one is none (it would exclude every directory
    /// of a running lsyncd, but none at its start).
    ///
    /// # Errors
    /// [`FilterError`] (die) for a pattern that is too long or holds a NUL.
    pub fn push_exclude(&mut self, pattern: &[u8]) -> Result<(), FilterError> {
        if !pattern.is_empty() {
            self.check_count()?;
            self.excludes.push(Pattern::new(pattern, Verdict::Exclude)?);
        }
        Ok(())
    }

    /// Adds the content of an `excludeFrom` file: a pattern per line, with or without a leading `-`;
    /// empty lines, comments (`#`) and includes (`+`) are skipped. A CR before the LF is none of the
    /// pattern, as for rsync at lsyncd's start (lsyncd itself then looks for names that end with CR).
    ///
    /// # Errors
    /// [`FilterError`] (die) as [`Self::push_exclude`]; the lines before it are added.
    pub fn exclude_lines(&mut self, text: &[u8]) -> Result<(), FilterError> {
        lines(text).try_for_each(|line| match line {
            [b'+', ..] => Ok(()),
            [b'-', pattern @ ..] => self.push_exclude(pattern.trim_ascii_start()),
            pattern => self.push_exclude(pattern),
        })
    }

    /// Adds the content of a `filterFrom` file: a rule per line; empty lines and comments (`#`) are skipped.
    ///
    /// # Errors
    /// [`FilterError`] (die) as [`Self::push_filter`]; the lines before it are added.
    pub fn filter_lines(&mut self, text: &[u8]) -> Result<(), FilterError> {
        lines(text).try_for_each(|line| self.push_filter(line))
    }

    /// Returns all patterns as rules of a [`Filter`](super::Filter) that says of every tree what a running
    /// lsyncd says; in the order in which they are asked.
    pub fn as_rules(&self) -> Vec<Vec<u8>> {
        self.patterns().map(|pattern| [b"lsyncd", &pattern.rule()[..]].concat()).collect()
    }

    /// Returns all patterns as `+ ` and `- ` rules in the order in which they are asked;
    /// [`Self::from_rules`] makes an equal filter of them.
    pub fn rules(&self) -> Vec<Vec<u8>> {
        self.patterns().map(Pattern::rule).collect()
    }

    /// Whether there is no pattern, so that everything is included.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty() && self.excludes.is_empty()
    }

    /// Whether lsyncd drops an event of `path`. What lies above is part of the question, so the answer
    /// for an entry alone is the same.
    pub fn excludes(&self, path: &RelPath, dir: bool) -> bool {
        !path.is_root()
            && self
                .patterns()
                .find(|pattern| pattern.matches(path.as_bytes(), dir))
                .is_some_and(|pattern| pattern.verdict == Verdict::Exclude)
    }

    /// Returns the pattern that decides for `path`, and what it decides; `None` if none matches.
    pub fn which(&self, path: &RelPath, dir: bool) -> Option<(Verdict, &[u8])> {
        if path.is_root() {
            return None;
        }
        let pattern = self.patterns().find(|pattern| pattern.matches(path.as_bytes(), dir))?;
        Some((pattern.verdict, &pattern.text))
    }

    fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.filters.iter().chain(&self.excludes)
    }

    fn check_count(&self) -> Result<(), FilterError> {
        let count = self.filters.len().saturating_add(self.excludes.len());
        if count < RULES_MAX { Ok(()) } else { Err(FilterError::TooMany) }
    }
}

/// Returns the lines of a file that are neither empty nor comments, without leading white space.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start())
        .filter(|line| !matches!(line, [] | [b'#', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [&str; 0] = [];

    fn excludes(filter: &LsyncdFilter, text: &str) -> bool {
        let dir = text.ends_with('/');
        filter.excludes(&RelPath::try_from(text.trim_end_matches('/')).unwrap(), dir)
    }

    fn check(filter: &LsyncdFilter, excluded: &[&str], included: &[&str]) {
        for text in excluded {
            assert!(excludes(filter, text), "{text} by {filter:?}");
        }
        for text in included {
            assert!(!excludes(filter, text), "{text} by {filter:?}");
        }
    }

    #[test]
    fn patterns_match_as_a_running_lsyncd_matches_them() {
        let table: [(&str, &[&str], &[&str]); 17] = [
            ("foo", &["foo", "a/foo", "foo/", "foo/x", "a/foo/x/y"], &["foobar", "xfoo", "foo.bak", "a/"]),
            ("/foo", &["foo", "foo/", "foo/x"], &["a/foo", "foobar"]),
            ("foo/", &["foo/", "a/foo/", "foo/x", "a/foo/x/y"], &["foo", "a/foo", "foobar/"]),
            ("*.bak", &["foo.bak", "a/foo.bak", "a.bak/x"], &["foo.baks", "bak"]),
            ("/a/*.bak", &["a/foo.bak"], &["foo.bak", "a/b/foo.bak", "x/a/foo.bak"]),
            ("fo?", &["foo", "a/foo", "foo/x"], &["foo.bak", "fo", "fo/x"]),
            ("a/**", &["a/x", "a/x/y", "b/a/x", "a/"], &["a", "ba/x"]),
            ("/a/**", &["a/x", "a/x/y", "a/"], &["a", "b/a/x"]),
            ("sub/dir", &["sub/dir", "sub/dir/x", "x/sub/dir/"], &["sub/", "dir", "xsub/dir", "sub/dirx"]),
            (".*", &[".x", "a/.x", ".x/y"], &["x.y", "a/"]),
            ("a.b-c+d", &["a.b-c+d", "x/a.b-c+d/"], &["axb-c+d", "a.b-cc+d", "a.bc+d"]),
            ("**/foo", &["a/foo", "a/b/foo/x"], &["foo", "foo/x"]),
            ("[f]oo", &["[f]oo", "a/[f]oo"], &["foo", "a/foo"]),
            ("\\*.lit", &["\\x.lit"], &["*.lit", "x.lit"]),
            ("./foo", &[], &["foo", "a/foo", "x./fo"]),
            ("a%b^$()", &["a%b^$()"], &["ab"]),
            ("{a,b}", &["{a,b}"], &["a", "b"]),
        ];
        for (pattern, excluded, included) in table {
            check(&LsyncdFilter::new(&NONE, &[pattern]).unwrap(), excluded, included);
        }
    }

    #[test]
    fn a_filter_of_the_same_rules_says_the_same_on_the_way_down() {
        let patterns = ["/a/**", "[f]oo", "**/deep", "sub/dir", "*.bak", "x/", "\\*.lit", "/only/*"];
        let lsyncd = LsyncdFilter::new(&["+ /a/keep", "- /b"], &patterns).unwrap();
        let filter = crate::filter::Filter::new(&lsyncd.as_rules()).unwrap();
        assert_eq!(crate::filter::Filter::new(&filter.rules()).unwrap(), filter);
        for text in [
            "a/",
            "a",
            "a/x",
            "foo",
            "[f]oo",
            "deep",
            "y/deep",
            "sub/dir/",
            "z/sub/dir",
            "q.bak",
            "x/",
            "x",
            "b",
            "b/c",
            "\\x.lit",
            "only/",
            "only/y",
            "ok/fine",
        ] {
            let path = RelPath::try_from(text.trim_end_matches('/')).unwrap();
            let dir = text.ends_with('/');
            assert_eq!(filter.excludes_entry(&path, dir), lsyncd.excludes(&path, dir), "{text}");
            assert_eq!(filter.protects_entry(&path, dir), lsyncd.excludes(&path, dir), "{text}");
        }
        let sent = filter.with_delete_excluded();
        assert_eq!(crate::filter::Filter::new(&sent.rules()).unwrap(), sent);
        let path = RelPath::try_from("q.bak").unwrap();
        assert!(sent.excludes_entry(&path, false) && !sent.protects_entry(&path, false));
    }

    #[test]
    fn the_root_is_never_excluded() {
        for pattern in ["*", "**", "/", "/**"] {
            let filter = LsyncdFilter::new(&NONE, &[pattern]).unwrap();
            assert!(!filter.excludes(&RelPath::root(), true));
            assert_eq!(filter.which(&RelPath::root(), true), None);
        }
    }

    #[test]
    fn the_first_filter_decides_before_the_excludes() {
        let filter = LsyncdFilter::new(&["+ /keep", "- *.o", "-\tx", "  +y"], &["keep", "*.c", "y"]).unwrap();
        check(&filter, &["a.o", "a/keep", "a.c", "x", "x/y"], &["keep", "keep/a.o", "keep/d/", "y/a.c", "z"]);
    }

    #[test]
    fn an_exclude_file_is_read_as_lsyncd_reads_it() {
        let mut filter = LsyncdFilter::default();
        filter.exclude_lines(b"-a\n- b\n  c\nd \n  # e\n#f\n+ g\n  + h\n-  i\nj\r\n\t\n\n;k\n- ").unwrap();
        let texts: Vec<_> = filter.excludes.iter().map(|pattern| pattern.text.as_slice()).collect();
        assert_eq!(texts, [b"a".as_slice(), b"b", b"c", b"d ", b"i", b"j", b";k"]);
    }

    #[test]
    fn a_list_is_taken_as_it_stands() {
        let filter = LsyncdFilter::new(&NONE, &["- a", " b", "", "#c"]).unwrap();
        check(&filter, &["- a", " b", "#c"], &["a", "b", "c", "d/"]);
    }

    #[test]
    fn a_filter_that_is_neither_plus_nor_minus_is_refused() {
        for rule in ["", "x", "#x", "! x", "P x"] {
            let error = LsyncdFilter::new(&[rule], &NONE).unwrap_err();
            assert_eq!(error, FilterError::Lsyncd(rule.as_bytes().to_vec()));
        }
        assert!(matches!(LsyncdFilter::new(&["- "], &NONE), Err(FilterError::NoPattern(_))));
        let mut filter = LsyncdFilter::default();
        assert_eq!(filter.filter_lines(b"# c\n\n - x\n\t# d\n+y\r\n"), Ok(()));
        assert_eq!(filter.rules(), [b"- x", b"+ y"]);
        assert_eq!(filter.filter_lines(b"z"), Err(FilterError::Lsyncd(b"z".to_vec())));
    }

    #[test]
    fn rules_survive_the_round_trip() {
        let filter = LsyncdFilter::new(&["+ a", "- b/"], &[" c", "/d\\"]).unwrap();
        let again = LsyncdFilter::from_rules(&filter.rules()).unwrap();
        assert_eq!(again, filter);
        check(&again, &["b/", " c", "d\\"], &["a", "a/b/", "c"]);
        assert_ne!(filter, LsyncdFilter::default());
    }

    #[test]
    fn which_names_the_pattern_that_decides() {
        let filter = LsyncdFilter::new(&["+ a"], &["b"]).unwrap();
        let which = |text: &str| filter.which(&RelPath::try_from(text).unwrap(), false);
        assert_eq!(which("a/b"), Some((Verdict::Include, b"a".as_slice())));
        assert_eq!(which("b/c"), Some((Verdict::Exclude, b"b".as_slice())));
        assert_eq!(which("c"), None);
    }
}
