//! Which entries of a tree are mirrored: rsync's filter rules and lsyncd's patterns.
//!
//! **Purpose:** one answer, for the walker, the watcher and the reconciler alike, to "is this mine?".
//! **In → Out:** rules as bytes; a relative path and whether it is a directory → hidden, protected, neither.
//! **Invariants:** pure; the first rule that matches decides, nothing that matches means included; the
//! root is never excluded; a verdict allocates nothing and takes O(rules × pattern × path) time at most;
//! `Filter::new(&filter.rules()) == filter`, but for what [`Filter::beneath`] adds.
//! **Not here:** reading rule files (a filter refuses merge rules; `merge` says what they mean, `cli` and `sender` read
//! the files), `--files-from`, sizes, owners.
//! **Sources:** rsync(1) "FILTER RULES", checked against rsync 3.5.0 by the tests.

mod absolute;
mod glob;
mod lsyncd;
mod merge;
mod rule;

pub use lsyncd::LsyncdFilter;
pub use merge::{Merge, Named, cvs_rules, rebased};

use crate::error::{Consequence, Consequential};
use crate::tree::{RelPath, quote};
use rule::{Line, Rule, Subject};

/// Most rules that a filter takes.
pub const RULES_MAX: usize = 1 << 16;

/// What a rule says of the entries that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Mirrored on the sender; deletable on the receiver.
    Include,
    /// Hidden on the sender; protected on the receiver.
    Exclude,
}

/// Which effect of the rules is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// What is sent: hide and show.
    Sender,
    /// What may be deleted on the target: protect and risk.
    Receiver,
}

/// Why a rule was refused. Consequence: die; a rule left out would mirror or delete what it guards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No rule has this name.
    #[error("filter rule {}: unknown rule; write \"- PATTERN\", \"+ PATTERN\", or H, S, P, R, !", quote(.0))]
    Unknown(Vec<u8>),
    /// The rule does not take this modifier.
    #[error("filter rule {}: invalid modifier {}; write a space before the pattern", quote(.rule), quote(&[*.modifier]))]
    Modifier {
        /// The whole rule.
        rule: Vec<u8>,
        /// The first modifier that is none.
        modifier: u8,
    },
    /// Nothing follows the rule's name.
    #[error("filter rule {}: it has no pattern", quote(.0))]
    NoPattern(Vec<u8>),
    /// Something follows a `!`.
    #[error("filter rule {}: \"!\" clears the list and takes nothing behind it", quote(.0))]
    ClearArgument(Vec<u8>),
    /// A merge rule, which would read a file.
    #[error(
        "filter rule {}: {name} rules are taken by speil sync alone, and dir-merge with a name without directories; write the file's rules in its place, or name the file in --exclude-from",
        quote(.rule)
    )]
    Merge {
        /// The whole rule.
        rule: Vec<u8>,
        /// `merge` or `dir-merge`.
        name: &'static str,
    },
    /// A rule in a directory's own file that has no meaning for one directory alone.
    #[error("filter rule {} in {}: a directory's own file takes no !, merge and dir-merge rules", quote(.rule), quote(.dir))]
    InDirectory {
        /// The rule.
        rule: Vec<u8>,
        /// The directory.
        dir: Vec<u8>,
    },
    /// The `C` modifier, rsync's list of CVS ignores.
    #[error("filter rule {}: the C modifier is not supported; write each pattern, such as \"-p *.o\"", quote(.0))]
    Cvs(Vec<u8>),
    /// The `/` modifier on a pattern that cannot be anchored at the source.
    #[error(
        "filter rule {}: the / modifier needs a pattern that begins with the source's path; write \"- /PATTERN\", where / is the source",
        quote(.0)
    )]
    Absolute(Vec<u8>),
    /// The pattern holds a NUL, as no name does.
    #[error("filter pattern {} holds a NUL byte", quote(.0))]
    Nul(Vec<u8>),
    /// The pattern is longer than any path; its first bytes.
    #[error("filter pattern {}… is longer than 4096 bytes", quote(.0))]
    Long(Vec<u8>),
    /// There are more than [`RULES_MAX`].
    #[error("more than 65536 filter rules")]
    TooMany,
    /// A line of an lsyncd filter that is neither `+ PATTERN` nor `- PATTERN`.
    #[error("filter rule {}: lsyncd's filters take \"+ PATTERN\" and \"- PATTERN\" only", quote(.0))]
    Lsyncd(Vec<u8>),
}

impl Consequential for FilterError {
    fn consequence(&self) -> Consequence {
        Consequence::Die
    }
}

/// rsync's filter rules, in order; the first that matches decides. The default includes everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    rules: Vec<Rule>,
    above: Option<Box<Above>>,
}

/// The filter of a directory that the tree lies in, which the tree's own rules cannot lift.
#[derive(Debug, Clone, PartialEq)]
struct Above {
    filter: Filter,
    /// Where the tree lies there.
    at: RelPath,
}

impl Filter {
    /// Reads `rules`, each in the syntax of rsync's `--filter`.
    ///
    /// # Errors
    /// [`FilterError`] (die) for the first rule that is malformed or unsupported; the `/` modifier is,
    /// unless its pattern is a lone name: see [`Self::new_at`].
    pub fn new(rules: &[impl AsRef<[u8]>]) -> Result<Self, FilterError> {
        Self::read(rules, None)
    }

    /// Reads `rules` for the source at the absolute path `source`, at which the patterns of rules with
    /// the `/` modifier are anchored. They match the source's paths on both hosts.
    ///
    /// # Errors
    /// [`FilterError`] (die) as [`Self::new`]; [`FilterError::Absolute`] for a pattern that has no fixed
    /// number of components above the source (`-/ www/x`, `-/ /srv/**/x`).
    pub fn new_at(rules: &[impl AsRef<[u8]>], source: &[u8]) -> Result<Self, FilterError> {
        Self::read(rules, Some(source))
    }

    fn read(rules: &[impl AsRef<[u8]>], source: Option<&[u8]>) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for rule in rules {
            filter.push(Rule::parse(rule.as_ref(), source)?)?;
        }
        Ok(filter)
    }

    fn push(&mut self, line: Line) -> Result<(), FilterError> {
        match line {
            Line::Rule(_) if self.rules.len() >= RULES_MAX => return Err(FilterError::TooMany),
            Line::Rule(rule) => self.rules.push(rule),
            Line::Clear => self.rules.clear(),
            Line::Nothing => {}
        }
        Ok(())
    }

    /// Adds one rule in the syntax of rsync's `--filter`; `!` clears, an empty one is none.
    ///
    /// # Errors
    /// [`FilterError`] (die) as [`Self::new`]; the rules stay as they were.
    pub fn push_rule(&mut self, rule: &[u8]) -> Result<(), FilterError> {
        self.push(Rule::parse(rule, None)?)
    }

    /// Adds what rsync's `--exclude=PATTERN` adds: as there, a leading `+ ` makes it an include, and a
    /// lone `!` clears.
    ///
    /// # Errors
    /// [`FilterError`] (die) for a pattern that is too long, holds a NUL or follows its prefix empty.
    pub fn push_exclude(&mut self, pattern: &[u8]) -> Result<(), FilterError> {
        self.push(Rule::parse_old(pattern, Verdict::Exclude)?)
    }

    /// Adds what rsync's `--include=PATTERN` adds: as there, a leading `- ` makes it an exclude, and a
    /// lone `!` clears.
    ///
    /// # Errors
    /// [`FilterError`] (die) as [`Self::push_exclude`].
    pub fn push_include(&mut self, pattern: &[u8]) -> Result<(), FilterError> {
        self.push(Rule::parse_old(pattern, Verdict::Include)?)
    }

    /// Adds the content of an `--exclude-from` file: a pattern per line, which LF or CR ends; empty lines
    /// and those that begin with `#` or `;` are skipped; spaces count.
    ///
    /// # Errors
    /// [`FilterError`] (die) as [`Self::push_exclude`]; the lines before it are added.
    pub fn exclude_lines(&mut self, text: &[u8]) -> Result<(), FilterError> {
        lines(text).try_for_each(|line| self.push_exclude(line))
    }

    /// Adds the content of an `--include-from` file; lines as in [`Self::exclude_lines`].
    ///
    /// # Errors
    /// [`FilterError`] (die) as [`Self::exclude_lines`].
    pub fn include_lines(&mut self, text: &[u8]) -> Result<(), FilterError> {
        lines(text).try_for_each(|line| self.push_include(line))
    }

    /// Returns the filter as rsync's `--delete-excluded` reads it: a rule that names no side is the
    /// sender's alone, so it protects nothing on the target. Rules added later are not covered.
    #[must_use]
    pub fn with_delete_excluded(self) -> Self {
        Self { rules: self.rules.into_iter().map(Rule::for_sender_unless_said).collect(), ..self }
    }

    /// Returns the filter of a tree that lies `at` a place in a directory with a `filter` of its own: what that hides
    /// is hidden, whatever the rules here say.
    #[must_use]
    pub fn beneath(self, filter: &Self, at: &RelPath) -> Self {
        let above = (!filter.is_empty()).then(|| Box::new(Above { filter: filter.clone(), at: at.clone() }));
        Self { above, ..self }
    }

    fn is_hidden_above(&self, path: &RelPath, dir: bool) -> bool {
        self.above.as_ref().is_some_and(|above| {
            // A path that is too long for one is not looked at, and not sent.
            !path.is_root() && above.path(path).is_none_or(|path| above.filter.excludes(&path, dir))
        })
    }

    /// Whether there is no rule, so that everything is included.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.above.is_none()
    }

    /// Returns the rules in their canonical spelling, of which [`Self::new`] makes an equal filter.
    pub fn rules(&self) -> Vec<Vec<u8>> {
        self.rules.iter().map(|rule| rule.text().to_vec()).collect()
    }

    /// Whether the sender hides `path` itself or a directory above it, as a recursion would find.
    pub fn excludes(&self, path: &RelPath, dir: bool) -> bool {
        self.is_hidden_above(path, dir)
            || !self.rules.is_empty()
                && descent(path, dir).any(|subject| self.verdict(&subject, Side::Sender) == Verdict::Exclude)
    }

    /// Whether the sender hides the entry, given that it does not hide the directories above.
    pub fn excludes_entry(&self, path: &RelPath, dir: bool) -> bool {
        self.is_hidden_above(path, dir) || self.entry_verdict(path, dir, Side::Sender) == Verdict::Exclude
    }

    /// Whether the target's entry, which the source lacks, is kept although its directory stays. A protected
    /// directory keeps what is below it too unless the source has the directory; then its entries are
    /// judged one by one.
    pub fn protects_entry(&self, path: &RelPath, dir: bool) -> bool {
        self.entry_verdict(path, dir, Side::Receiver) == Verdict::Exclude
    }

    /// Whether the target's entry stays whatever the source holds: itself or a directory above it is hidden there, so that
    /// nobody knows what the source has, and protected here, by rules that hold in a removed directory too.
    pub fn withholds(&self, path: &RelPath, dir: bool) -> bool {
        let protects = |subject: &Subject<'_>| {
            let mut rules = self.rules.iter().filter(|rule| !rule.perishable());
            let first = rules.find(|rule| rule.applies(subject, Side::Receiver));
            first.is_some_and(|rule| rule.verdict() == Verdict::Exclude)
        };
        let hides = |subject: &Subject<'_>| self.verdict(subject, Side::Sender) == Verdict::Exclude;
        descent(path, dir).any(|subject| hides(&subject) && protects(&subject))
    }

    /// As [`Self::protects_entry`] for an entry of a directory that is itself being removed, where
    /// perishable rules (modifier `p`) are ignored.
    pub fn protects_entry_of_removed(&self, path: &RelPath, dir: bool) -> bool {
        let subject = Subject::new(path.as_bytes(), dir);
        let mut rules = self.rules.iter().filter(|rule| !rule.perishable());
        !path.is_root()
            && rules
                .find(|rule| rule.applies(&subject, Side::Receiver))
                .is_some_and(|rule| rule.verdict() == Verdict::Exclude)
    }

    /// Whether the rules say the same of whatever is below two directories. If not, what was below one may be
    /// left out once that has become the other, or the other way round.
    pub fn is_same_below(&self, one: &RelPath, other: &RelPath) -> bool {
        let differs = |above: &Above| match (above.path(one), above.path(other)) {
            (Some(one), Some(other)) => !above.filter.is_same_below(&one, &other),
            _ => true,
        };
        if self.above.as_deref().is_some_and(differs) {
            return false;
        }
        let [one, other] = [one, other].map(|dir| [dir.as_bytes(), b"/"].concat());
        self.rules.iter().all(|rule| rule.is_same_below(&one, &other))
    }

    /// Returns the rule that decides for the sender, canonically spelled: the one that hides the topmost
    /// hidden directory above `path`, else the one that matches `path` itself; `None` if none does.
    pub fn which(&self, path: &RelPath, dir: bool) -> Option<(Verdict, &[u8])> {
        let mut deciding = None;
        for subject in descent(path, dir) {
            deciding = self.first(&subject, Side::Sender).map(|rule| (rule.verdict(), rule.text()));
            if matches!(deciding, Some((Verdict::Exclude, _))) {
                break;
            }
        }
        deciding
    }

    /// Returns the rule that decides for the entry alone on `side`, as [`Self::which`] does for a path.
    pub fn which_entry(&self, path: &RelPath, dir: bool, side: Side) -> Option<(Verdict, &[u8])> {
        if path.is_root() {
            return None;
        }
        let rule = self.first(&Subject::new(path.as_bytes(), dir), side)?;
        Some((rule.verdict(), rule.text()))
    }

    /// Returns what the rules with the modifier `x` say of the extended attribute `name`; `None` if no
    /// such rule matches.
    pub fn xattr(&self, name: &[u8], side: Side) -> Option<Verdict> {
        let subject = Subject::new(name, false);
        let rule = self.rules.iter().find(|rule| rule.applies_to_xattr(&subject, side))?;
        Some(rule.verdict())
    }

    fn entry_verdict(&self, path: &RelPath, dir: bool, side: Side) -> Verdict {
        if self.rules.is_empty() || path.is_root() {
            return Verdict::Include;
        }
        self.verdict(&Subject::new(path.as_bytes(), dir), side)
    }

    fn verdict(&self, subject: &Subject<'_>, side: Side) -> Verdict {
        self.first(subject, side).map_or(Verdict::Include, Rule::verdict)
    }

    fn first(&self, subject: &Subject<'_>, side: Side) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.applies(subject, side))
    }
}

impl Above {
    /// Returns a path of the tree as it is there.
    fn path(&self, path: &RelPath) -> Option<RelPath> {
        if self.at.is_root() || path.is_root() {
            return Some(if path.is_root() { self.at.clone() } else { path.clone() });
        }
        RelPath::new([self.at.as_bytes(), b"/", path.as_bytes()].concat()).ok()
    }
}

/// Returns the directories above `path` from the top, then `path` itself; nothing for the root.
fn descent(path: &RelPath, dir: bool) -> impl Iterator<Item = Subject<'_>> {
    let path = path.as_bytes();
    let slashes = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    let above = slashes.filter_map(|at| path.get(..at)).map(|above| Subject::new(above, true));
    above.chain((!path.is_empty()).then(|| Subject::new(path, dir)))
}

/// Returns the lines of a pattern file that hold a pattern.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !matches!(line, [] | [b'#' | b';', ..]))
}

#[cfg(test)]
mod tests;
