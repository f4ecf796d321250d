//! One filter rule: parsed, in its canonical spelling, and matched against one entry.
//!
//! **In → Out:** a rule's text → [`Rule`]; a [`Subject`] → whether the rule takes effect.
//! **Invariants:** `Rule::parse(rule.text())` is the same rule; equal rules have equal texts.
//! **Not here:** the order of rules and what hides a whole subtree (`filter`).
//! **Sources:** rsync(1) "FILTER RULES IN DEPTH", "FILTER RULE MODIFIERS", observed with rsync 3.5.0.

use super::absolute;
use super::glob::{Ends, Glob, Starts, check_pattern, has_deep, is_wild};
use super::lsyncd::Pattern;
use super::{FilterError, Side, Verdict};

/// Stands before a rule whose pattern is read as a running lsyncd reads it: `lsyncd- *.tmp`.
const LSYNCD: &[u8] = b"lsyncd";

/// The entry that rules are asked about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    path: &'a [u8],
    name: &'a [u8],
    dir: bool,
}

impl<'a> Subject<'a> {
    pub(super) fn new(path: &'a [u8], dir: bool) -> Self {
        Self { path, name: last_components(path, 1).unwrap_or_default(), dir }
    }
}

/// Which effects of an include or exclude a rule has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sides {
    /// None was named: both, or the sender's alone with `--delete-excluded`.
    Unsaid,
    Sender,
    Receiver,
    Both,
}

/// What the modifiers of a rule say.
#[derive(Debug, Clone, Copy)]
struct Modifiers {
    sides: Sides,
    absolute: bool,
    negate: bool,
    perishable: bool,
    xattr: bool,
    lsyncd: bool,
}

/// One rule. Clears and empty lines are none.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    verdict: Verdict,
    modifiers: Modifiers,
    /// The canonical spelling, such as `H *.tmp` or `-!p */`.
    text: Vec<u8>,
    /// Where in `text` the pattern begins.
    pattern_at: usize,
    matcher: Matcher,
}

/// What a line of rules asks for.
#[derive(Debug)]
pub(super) enum Line {
    Rule(Rule),
    /// `!`: forget the rules so far.
    Clear,
    /// Nothing: an empty line, or a rule that cannot match below this source.
    Nothing,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Rule {
    /// Reads `text`, one rule in rsync's `--filter` syntax; `source` is the source's absolute path, if known.
    pub(super) fn parse(text: &[u8], source: Option<&[u8]>) -> Result<Line, FilterError> {
        if text.is_empty() {
            return Ok(Line::Nothing);
        }
        let (lsyncd, bare) = text.strip_prefix(LSYNCD).map_or((false, text), |bare| (true, bare));
        let (kind, rest) = Kind::parse(bare)?;
        let (verdict, sides) = match kind {
            Kind::Plain(verdict) => (verdict, None),
            Kind::Sided(verdict, sides) => (verdict, Some(sides)),
            Kind::Clear if rest.is_empty() || rest == b"," => return Ok(Line::Clear),
            Kind::Clear => return Err(FilterError::ClearArgument(text.to_vec())),
        };
        let (mut modifiers, pattern) = Modifiers::parse(text, rest, sides)?;
        modifiers.lsyncd = lsyncd;
        if !modifiers.absolute {
            return Self::new(verdict, modifiers, pattern).map(Line::Rule);
        }
        modifiers.absolute = false;
        match absolute::below(pattern, source).ok_or_else(|| FilterError::Absolute(text.to_vec()))? {
            absolute::Below::Pattern(pattern) => Self::new(verdict, modifiers, &pattern).map(Line::Rule),
            absolute::Below::Nothing if modifiers.negate => {
                modifiers.negate = false;
                Self::new(verdict, modifiers, b"**").map(Line::Rule)
            }
            absolute::Below::Nothing => Ok(Line::Nothing),
        }
    }

    /// Makes the rule that `--exclude` or `--include` makes of `pattern`; a leading `- ` or `+ ` names
    /// the other kind, a lone `!` clears.
    pub(super) fn parse_old(text: &[u8], verdict: Verdict) -> Result<Line, FilterError> {
        let (verdict, pattern) = match text {
            [] => return Ok(Line::Nothing),
            b"!" => return Ok(Line::Clear),
            [b'-', b' ', pattern @ ..] => (Verdict::Exclude, pattern),
            [b'+', b' ', pattern @ ..] => (Verdict::Include, pattern),
            pattern => (verdict, pattern),
        };
        Self::new(verdict, Modifiers::plain(Sides::Unsaid), pattern).map(Line::Rule)
    }

    fn new(verdict: Verdict, modifiers: Modifiers, pattern: &[u8]) -> Result<Self, FilterError> {
        let mut text = modifiers.prefix(verdict);
        let pattern_at = text.len();
        text.extend_from_slice(pattern);
        if pattern.is_empty() {
            return Err(FilterError::NoPattern(text));
        }
        check_pattern(pattern)?;
        let matcher = if modifiers.lsyncd {
            Matcher::Lsyncd(Pattern::new(pattern, verdict)?)
        } else {
            Matcher::Rsync(Rsync::new(pattern))
        };
        Ok(Self { verdict, modifiers, matcher, text, pattern_at })
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Returns the rule as `--delete-excluded` reads it: a rule that names no side is the sender's.
    pub(super) fn for_sender_unless_said(self) -> Self {
        if self.modifiers.sides != Sides::Unsaid {
            return self;
        }
        let modifiers = Modifiers { sides: Sides::Sender, ..self.modifiers };
        let mut text = modifiers.prefix(self.verdict);
        let pattern_at = text.len();
        text.extend_from_slice(self.text.get(self.pattern_at..).unwrap_or_default());
        Self { modifiers, text, pattern_at, ..self }
    }

    /// Whether the rule is perishable: ignored below a directory that is being removed.
    pub(super) fn perishable(&self) -> bool {
        self.modifiers.perishable
    }

    /// Whether the rule takes effect for `subject`, an entry of the tree.
    pub(super) fn applies(&self, subject: &Subject<'_>, side: Side) -> bool {
        !self.modifiers.xattr && self.has_side(side) && self.takes_effect(subject)
    }

    /// Whether the rule takes effect for `subject`, the name of an extended attribute.
    pub(super) fn applies_to_xattr(&self, subject: &Subject<'_>, side: Side) -> bool {
        self.modifiers.xattr && self.has_side(side) && self.takes_effect(subject)
    }

    /// Whether the rule says the same of whatever is below two directories, given with a slash behind.
    pub(super) fn is_same_below(&self, one: &[u8], other: &[u8]) -> bool {
        self.modifiers.xattr
            || match &self.matcher {
                Matcher::Rsync(pattern) => pattern.is_same_below(one, other),
                Matcher::Lsyncd(pattern) => pattern.is_same_below(one, other),
            }
    }

    fn has_side(&self, side: Side) -> bool {
        match self.modifiers.sides {
            Sides::Unsaid | Sides::Both => true,
            Sides::Sender => side == Side::Sender,
            Sides::Receiver => side == Side::Receiver,
        }
    }

    fn takes_effect(&self, subject: &Subject<'_>) -> bool {
        self.matcher.matches(subject) != self.modifiers.negate
    }
}

/// What the first word of a rule says.
enum Kind {
    Plain(Verdict),
    Sided(Verdict, Sides),
    Clear,
}

impl Kind {
    /// Splits the rule's name off `text`.
    fn parse(text: &[u8]) -> Result<(Self, &[u8]), FilterError> {
        let long = text.iter().take_while(|byte| byte.is_ascii_lowercase() || **byte == b'-').count();
        let short = |byte: &u8| !byte.is_ascii_lowercase();
        let length = if text.first().is_some_and(short) { 1 } else { long };
        let (name, rest) = text.split_at_checked(length).unwrap_or_default();
        let kind = match name {
            b"-" | b"exclude" => Self::Plain(Verdict::Exclude),
            b"+" | b"include" => Self::Plain(Verdict::Include),
            b"H" | b"hide" => Self::Sided(Verdict::Exclude, Sides::Sender),
            b"S" | b"show" => Self::Sided(Verdict::Include, Sides::Sender),
            b"P" | b"protect" => Self::Sided(Verdict::Exclude, Sides::Receiver),
            b"R" | b"risk" => Self::Sided(Verdict::Include, Sides::Receiver),
            b"!" | b"clear" => Self::Clear,
            b"." | b"merge" => return Err(FilterError::Merge { rule: text.to_vec(), name: "merge" }),
            b":" | b"dir-merge" => return Err(FilterError::Merge { rule: text.to_vec(), name: "dir-merge" }),
            _ => return Err(FilterError::Unknown(text.to_vec())),
        };
        if name.len() > 1 && !matches!(rest.first(), None | Some(b',' | b' ' | b'_')) {
            return Err(FilterError::Unknown(text.to_vec()));
        }
        Ok((kind, rest))
    }
}

impl Modifiers {
    fn plain(sides: Sides) -> Self {
        Self { sides, absolute: false, negate: false, perishable: false, xattr: false, lsyncd: false }
    }

    /// Reads the modifiers at the start of `rest` and the separator behind them; returns the pattern.
    fn parse<'a>(text: &[u8], rest: &'a [u8], sides: Option<Sides>) -> Result<(Self, &'a [u8]), FilterError> {
        let mut modifiers = Self::plain(sides.unwrap_or(Sides::Unsaid));
        let mut rest = rest.strip_prefix(b",").unwrap_or(rest);
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match (byte, sides) {
                (b' ' | b'_', _) => return Ok((modifiers, rest)),
                (b'/', _) => modifiers.absolute = true,
                (b'!', _) => modifiers.negate = true,
                (b'p', _) => modifiers.perishable = true,
                (b'x', _) => modifiers.xattr = true,
                (b's', None) => modifiers.sides = modifiers.sides.and(Sides::Sender),
                (b'r', None) => modifiers.sides = modifiers.sides.and(Sides::Receiver),
                (b'C', None) => return Err(FilterError::Cvs(text.to_vec())),
                _ => return Err(FilterError::Modifier { rule: text.to_vec(), modifier: byte }),
            }
        }
        Err(FilterError::NoPattern(text.to_vec()))
    }

    /// Returns the canonical spelling of all that stands before the pattern.
    fn prefix(self, verdict: Verdict) -> Vec<u8> {
        let exclude = verdict == Verdict::Exclude;
        let mut text = match self.sides {
            Sides::Unsaid => vec![if exclude { b'-' } else { b'+' }],
            Sides::Sender => vec![if exclude { b'H' } else { b'S' }],
            Sides::Receiver => vec![if exclude { b'P' } else { b'R' }],
            Sides::Both => vec![if exclude { b'-' } else { b'+' }, b's', b'r'],
        };
        if self.lsyncd {
            text.splice(..0, LSYNCD.iter().copied());
        }
        for (said, letter) in [(self.negate, b'!'), (self.perishable, b'p'), (self.xattr, b'x')] {
            if said {
                text.push(letter);
            }
        }
        text.push(b' ');
        text
    }
}

impl Sides {
    fn and(self, other: Self) -> Self {
        if self == Self::Unsaid || self == other { other } else { Self::Both }
    }
}

/// Which part of a path a pattern is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    /// The last *n* components.
    Last(usize),
    /// The whole path.
    Whole,
    /// The whole path with a slash in front, so that `**/` matches at the top as well.
    Rooted,
    /// The path from the start of any component to its end.
    AnyStart,
}

/// How that part is compared.
#[derive(Debug, Clone)]
enum Shape {
    Exact(Vec<u8>),
    Suffix(Vec<u8>),
    Glob(Glob),
}

/// A compiled pattern, by who wrote it.
#[derive(Debug, Clone)]
enum Matcher {
    Rsync(Rsync),
    Lsyncd(Pattern),
}

impl Matcher {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Rsync(pattern) => pattern.matches(subject),
            Self::Lsyncd(pattern) => pattern.matches(subject.path, subject.dir),
        }
    }
}

/// A compiled pattern of rsync's.
#[derive(Debug, Clone)]
struct Rsync {
    scope: Against,
    shape: Shape,
    dir_only: bool,
    /// `***` at the end: a directory is shown with a slash behind it, so `d/***` matches `d` as well.
    with_slash: bool,
}

impl Rsync {
    fn new(pattern: &[u8]) -> Self {
        let (dir_only, pattern) = match pattern.strip_suffix(b"/") {
            Some(shorter) if !shorter.is_empty() => (true, shorter),
            _ => (false, pattern),
        };
        let wild = is_wild(pattern);
        let deep = has_deep(pattern);
        let slashes = pattern.iter().filter(|&&byte| byte == b'/').count();
        let (scope, body) = match pattern.strip_prefix(b"/") {
            Some(anchored) => (Against::Whole, anchored),
            None if pattern.starts_with(b"**") => (Against::Rooted, pattern),
            None if deep => (Against::AnyStart, pattern),
            None => (Against::Last(slashes + 1), pattern),
        };
        let shape = if wild {
            let glob = Glob::rsync(body);
            match glob.as_suffix() {
                Some(suffix) if scope == Against::Last(1) => Shape::Suffix(suffix.to_vec()),
                _ => Shape::Glob(glob),
            }
        } else {
            Shape::Exact(body.to_vec())
        };
        Self { scope, shape, dir_only, with_slash: pattern.ends_with(b"***") }
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        if self.dir_only && !subject.dir {
            return false;
        }
        let (before, text): (&[u8], &[u8]) = match self.scope {
            Against::Last(1) => (b"", subject.name),
            Against::Last(count) => match last_components(subject.path, count) {
                Some(text) => (b"", text),
                None => return false,
            },
            Against::Whole | Against::AnyStart => (b"", subject.path),
            Against::Rooted => (b"/", subject.path),
        };
        match &self.shape {
            Shape::Exact(literal) => text == literal.as_slice(),
            Shape::Suffix(literal) => text.ends_with(literal),
            Shape::Glob(glob) => {
                let after: &[u8] = if self.with_slash && subject.dir { b"/" } else { b"" };
                let starts = if self.scope == Against::AnyStart { Starts::AfterSlash } else { Starts::First };
                glob.matches([before, text, after], starts, Ends::Last)
            }
        }
    }

    fn is_same_below(&self, one: &[u8], other: &[u8]) -> bool {
        let (before, starts): (&[u8], Starts) = match self.scope {
            Against::Last(1) => return true,
            // So many slashes are in the pattern itself.
            Against::Last(_) | Against::AnyStart => (b"", Starts::AfterSlash),
            Against::Whole => (b"", Starts::First),
            Against::Rooted => (b"/", Starts::First),
        };
        let same = |glob: &Glob| {
            let after = |dir| glob.after([before, dir, b""], starts, Ends::Last);
            after(one) == after(other)
        };
        match &self.shape {
            // Without wildcards, whoever reads it.
            Shape::Exact(literal) | Shape::Suffix(literal) => same(&Glob::lsyncd(literal)),
            Shape::Glob(glob) => same(glob),
        }
    }
}

/// Returns the part of `path` that holds its last `count` components; `None` if it has fewer.
fn last_components(path: &[u8], count: usize) -> Option<&[u8]> {
    let mut slashes = path.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    match slashes.by_ref().nth(count.checked_sub(1)?) {
        Some(at) => path.get(at + 1..),
        // One slash fewer than asked for: the first component is the first of them.
        None if path.iter().filter(|&&byte| byte == b'/').count() + 1 == count => Some(path),
        None => None,
    }
}
