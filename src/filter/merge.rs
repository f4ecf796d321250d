//! Rules that name files of rules: `merge` and `dir-merge`, and what becomes of the lines in such files.
//!
//! **In → Out:** a rule → the file that it names and how that is read; a file's text → rules; a rule of a directory's own
//! file → rules for the whole tree that match in that directory and below it alone.
//! **Not here:** reading the files. **Sources:** rsync(1) "MERGE-FILE FILTER RULES", `--cvs-exclude`.

use super::FilterError;
use super::glob::{has_deep, is_wild};
use crate::tree::RelPath;

/// What CVS ignores of its own accord, as rsync(1) lists it.
const CVS: &[u8] = b"RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state .nse_depinfo *~ #* .#* ,* _$* *$ *.old \
    *.bak *.BAK *.orig *.rej .del-* *.a *.olb *.o *.obj *.so *.exe *.Z *.elc *.ln core .svn/ .git/ .hg/ .bzr/";

/// A rule that names a file of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The file: a path, or for each directory a name.
    pub file: Vec<u8>,
    /// Each directory has a file of its own (`dir-merge`).
    pub per_dir: bool,
    /// The directories above the source have one as well.
    pub from_top: bool,
    /// What a directory's own file says holds below its subdirectories, too.
    pub inherits: bool,
    sign: Option<u8>,
    words: bool,
    cvs: bool,
    excludes_itself: bool,
    /// Modifiers that each rule has.
    each: Vec<u8>,
}

/// What a rule is, as far as files of rules go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// It names one.
    File(Merge),
    /// It stands for what CVS ignores (`-C`).
    Cvs,
    /// It names none.
    None,
}

impl Merge {
    /// Reads a rule.
    ///
    /// # Errors
    /// [`FilterError`] for one that names a file and is malformed.
    pub fn parse(rule: &[u8]) -> Result<Named, FilterError> {
        let (per_dir, rest) = match rule {
            [b':', rest @ ..] => (true, rest),
            [b'.', rest @ ..] => (false, rest),
            b"-C" | b"-,C" | b"exclude,C" => return Ok(Named::Cvs),
            _ => match (rule.strip_prefix(b"dir-merge"), rule.strip_prefix(b"merge")) {
                (Some(rest), _) if is_end(rest) => (true, rest),
                (_, Some(rest)) if is_end(rest) => (false, rest),
                _ => return Ok(Named::None),
            },
        };
        let mut merge = Self {
            file: Vec::new(),
            per_dir,
            from_top: false,
            inherits: true,
            sign: None,
            words: false,
            cvs: false,
            excludes_itself: false,
            each: Vec::new(),
        };
        let mut rest = rest.strip_prefix(b",").unwrap_or(rest);
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b' ' | b'_' => break,
                b'-' | b'+' => merge.sign = Some(byte),
                b'C' => {
                    (merge.sign, merge.words, merge.cvs, merge.inherits) = (Some(b'-'), true, true, false)
                }
                b'e' => merge.excludes_itself = true,
                b'n' => merge.inherits = false,
                b'w' => merge.words = true,
                b's' | b'r' | b'p' | b'/' => merge.each.push(byte),
                _ => return Err(FilterError::Modifier { rule: rule.to_vec(), modifier: byte }),
            }
        }
        merge.file = rest.to_vec();
        if rest.is_empty() && merge.cvs {
            merge.file = b".cvsignore".to_vec();
        }
        if per_dir && merge.file.starts_with(b"/") {
            merge.from_top = true;
            let at = merge.file.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
            merge.file.drain(..at);
        }
        if merge.file.is_empty() {
            return Err(FilterError::NoPattern(rule.to_vec()));
        }
        if per_dir && merge.file.contains(&b'/') {
            let name = "dir-merge";
            return Err(FilterError::Merge { rule: rule.to_vec(), name });
        }
        Ok(Named::File(merge))
    }

    /// Returns the rules that a file's text says, in order.
    pub fn rules(&self, text: &[u8]) -> Vec<Vec<u8>> {
        let mut rules = Vec::new();
        if self.words {
            let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            while let Some(word) = words.next() {
                match (self.sign, word) {
                    (Some(_), b"!") if self.cvs => rules.clear(),
                    // The space behind a rule's name parts no words.
                    (None, b"-" | b"+" | b"H" | b"S" | b"P" | b"R") => {
                        rules.push([word, b" ", words.next().unwrap_or_default()].concat());
                    }
                    _ => rules.push(self.rule(word)),
                }
            }
        } else {
            rules.extend(super::lines(text).map(|line| self.rule(line)));
        }
        let each = rules.into_iter().map(|rule| self.modified(rule));
        let own = self.excludes_itself.then(|| [b"- ", last_name(&self.file)].concat());
        own.into_iter().chain(each).collect()
    }

    fn rule(&self, text: &[u8]) -> Vec<u8> {
        self.sign.map_or_else(|| text.to_vec(), |sign| [&[sign, b' '], text].concat())
    }

    /// Gives a rule the modifiers that each is to have.
    fn modified(&self, rule: Vec<u8>) -> Vec<u8> {
        match rule.split_first() {
            Some((b'-' | b'+', rest)) if !self.each.is_empty() => [&rule[..1], &self.each, rest].concat(),
            _ => rule,
        }
    }
}

/// Returns what CVS ignores, with what `more` texts name, as rules.
pub fn cvs_rules(more: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut rules: Vec<Vec<u8>> = Vec::new();
    for text in std::iter::once(CVS).chain(more.iter().map(Vec::as_slice)) {
        for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            match word {
                b"!" => rules.clear(),
                word => rules.push([b"-p ", word].concat()),
            }
        }
    }
    rules
}

/// Returns a rule of the file that the directory `dir` has, as rules of the whole tree. Where it is not inherited, it is
/// about what the directory itself holds.
///
/// # Errors
/// [`FilterError::InDirectory`] for what has no meaning for one directory alone.
pub fn rebased(rule: &[u8], dir: &RelPath, inherits: bool) -> Result<Vec<Vec<u8>>, FilterError> {
    let refused = || FilterError::InDirectory { rule: rule.to_vec(), dir: dir.as_bytes().to_vec() };
    if rule == b"!" || rule == b"clear" || !matches!(Merge::parse(rule)?, Named::None) {
        return Err(refused());
    }
    let at = rule.iter().position(|byte| matches!(byte, b' ' | b'_')).ok_or_else(refused)?;
    let (kind, pattern) = (&rule[..at], &rule[at + 1..]);
    // Of absolute paths, and of extended attributes.
    if kind.get(1..).is_some_and(|rest| rest.iter().any(|byte| matches!(byte, b'/' | b'x'))) && kind.len() < 6
    {
        return Ok(vec![rule.to_vec()]);
    }
    let body = pattern.strip_prefix(b"/").unwrap_or(pattern);
    let anchored = body.len() < pattern.len();
    if dir.is_root() && (anchored || inherits) {
        return Ok(vec![rule.to_vec()]);
    }
    // Where it is about what the directory itself holds, the directories in it are those on the way there.
    let inner = body.strip_suffix(b"/").unwrap_or(body).iter().rposition(|&byte| byte == b'/');
    let body = match inner.filter(|_| !anchored && !inherits && !has_deep(body)) {
        None => body,
        Some(at) => {
            let way = [b"/", dir.as_bytes()].concat();
            if !way.ends_with(&[b"/", &body[..at]].concat()) {
                return Ok(Vec::new());
            }
            &body[at + 1..]
        }
    };
    let spell = |deep: bool| {
        let name = dir.as_bytes();
        let wild = is_wild(body) || has_deep(body) || deep || is_wild(name);
        let escaped = |bytes: &[u8]| -> Vec<u8> {
            bytes
                .iter()
                .flat_map(|&byte| if b"*?[\\".contains(&byte) { vec![b'\\', byte] } else { vec![byte] })
                .collect()
        };
        let name = if wild { escaped(name) } else { name.to_vec() };
        let body = if wild && !is_wild(body) { escaped(body) } else { body.to_vec() };
        let slash: &[u8] = if dir.is_root() { b"" } else { b"/" };
        [kind, b" /", &name, slash, if deep { b"**/" } else { b"" }, &body].concat()
    };
    Ok(if anchored || !inherits { vec![spell(false)] } else { vec![spell(false), spell(true)] })
}

fn is_end(rest: &[u8]) -> bool {
    matches!(rest.first(), None | Some(b',' | b' ' | b'_'))
}

fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;

    fn merge(rule: &str) -> Merge {
        match Merge::parse(rule.as_bytes()).unwrap() {
            Named::File(merge) => merge,
            other => panic!("{rule}: {other:?}"),
        }
    }

    fn texts(rules: &[Vec<u8>]) -> Vec<String> {
        rules.iter().map(|rule| String::from_utf8(rule.clone()).unwrap()).collect()
    }

    #[test]
    fn a_rule_names_its_file_and_how_it_is_read() {
        for (rule, file, per_dir, from_top) in [
            (". list", "list", false, false),
            ("merge /etc/list", "/etc/list", false, false),
            (": .rules", ".rules", true, false),
            ("dir-merge /.rsync-filter", ".rsync-filter", true, true),
            (":C", ".cvsignore", true, false),
            ("dir-merge,n- .x", ".x", true, false),
        ] {
            let found = merge(rule);
            assert_eq!(
                (found.file, found.per_dir, found.from_top),
                (file.into(), per_dir, from_top),
                "{rule}"
            );
        }
        for rule in ["- a", "merged x", "dir-merger", "+ .", "H .x", "!"] {
            assert_eq!(Merge::parse(rule.as_bytes()), Ok(Named::None), "{rule}");
        }
        for rule in [":", ". ", ":y x", ": a/b"] {
            assert!(Merge::parse(rule.as_bytes()).is_err(), "{rule}");
        }
    }

    #[test]
    fn a_file_says_what_it_says_in_rsync() {
        for (rule, text, expected) in [
            (": .r", "# note\n- a b\r\n\n+ c\n;x\n", vec!["- a b", "+ c"]),
            (":- .r", "a b\n- c\n", vec!["- a b", "- - c"]),
            (":w .r", "- a + b", vec!["- a", "+ b"]),
            (":C", "a b\n! c d", vec!["- c", "- d"]),
            (":es .r", "- a", vec!["- .r", "-s a"]),
        ] {
            assert_eq!(texts(&merge(rule).rules(text.as_bytes())), expected, "{rule}");
        }
        assert!(
            texts(&cvs_rules(&[b"mine".to_vec()])).ends_with(&["-p .bzr/".to_owned(), "-p mine".to_owned()])
        );
        assert_eq!(texts(&cvs_rules(&[b"! only".to_vec()])), ["-p only"]);
    }

    #[test]
    fn a_rule_of_a_directory_matches_there_and_below_alone() {
        let filter = |rule: &str, dir: &str, inherits: bool| {
            Filter::new(&rebased(rule.as_bytes(), &RelPath::try_from(dir).unwrap(), inherits).unwrap())
                .unwrap()
        };
        for (rule, dir, inherits, hidden, shown) in [
            ("- *.o", "d", true, vec!["d/a.o", "d/e/f/a.o"], vec!["a.o", "e/a.o", "d/a.c"]),
            ("- x", "d", true, vec!["d/x", "d/e/x"], vec!["x", "e/x"]),
            ("- /x", "d/e", true, vec!["d/e/x"], vec!["d/x", "d/e/f/x", "x"]),
            ("- x", "d", false, vec!["d/x"], vec!["d/e/x", "x"]),
            ("- x", "", false, vec!["x"], vec!["d/x"]),
            ("- d/x", "", false, vec![], vec!["d/x"]),
            ("- d/x", "c/d", false, vec!["c/d/x"], vec!["c/d/d/x"]),
            ("- x", "", true, vec!["x", "d/x"], vec!["y"]),
            ("- a/b", "d", true, vec!["d/a/b", "d/e/a/b"], vec!["a/b"]),
            ("- *.o", "d*[x]", true, vec!["d*[x]/a.o"], vec!["dyx/a.o", "dx/a.o"]),
            ("- x", "d*", true, vec!["d*/x", "d*/y/x"], vec!["dd/x"]),
        ] {
            let filter = filter(rule, dir, inherits);
            let excludes = |path: &str| filter.excludes(&RelPath::try_from(path).unwrap(), false);
            for path in hidden {
                assert!(excludes(path), "{rule} in {dir:?}: {path}");
            }
            for path in shown {
                assert!(!excludes(path), "{rule} in {dir:?}: {path}");
            }
        }
        for rule in ["!", ". x", ": y"] {
            assert!(rebased(rule.as_bytes(), &RelPath::root(), true).is_err(), "{rule}");
        }
    }
}
