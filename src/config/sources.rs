//! The sources of one command line, where they are not one directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde_bytes::ByteBuf;

use crate::tree::RelPath;

/// Several sources, or one that is no directory, as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sources {
    /// The words.
    pub words: Vec<ByteBuf>,
    /// Each keeps its whole path on the target (`-R`).
    pub relative: bool,
    /// Directories that are not entered are made all the same (`-d`).
    pub dirs: bool,
    /// One that is missing is passed over (`--ignore-missing-args`).
    pub may_miss: bool,
    /// With `relative`: directories on the way are not sent as the source has them, where the target has them
    /// (`--no-implied-dirs`).
    pub plain_ways: bool,
    /// What the only one, which is no directory, is called on the target.
    pub called: Option<ByteBuf>,
}

/// Where a word leads: a directory, and what is meant of it; all that it holds if `None`.
pub type Leads = (PathBuf, Option<RelPath>);

impl Sources {
    /// Returns where each word leads; `None` for one that rises above its own directory or is too long.
    pub fn leads(&self) -> Vec<Option<Leads>> {
        self.words.iter().map(|word| if self.relative { relative(word) } else { carried(word) }).collect()
    }
}

/// Returns a directory as a path; the working directory if it is empty.
fn dir(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(if path.is_empty() { b"." } else { path }))
}

/// `a/b` is what bears the name `b` in `a`; `a/b/`, `.` and the like are what a directory holds.
fn carried(word: &[u8]) -> Option<Leads> {
    let name = word.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if matches!(name, b"" | b"." | b"..") {
        return Some((dir(word), None));
    }
    let above = word.get(..word.len() - name.len()).unwrap_or_default();
    Some((dir(above), Some(RelPath::new(name).ok()?)))
}

/// The whole path is kept, from the first `/./` on if there is one.
fn relative(word: &[u8]) -> Option<Leads> {
    let at = word.windows(3).position(|part| part == b"/./");
    let (above, kept) = match at {
        Some(at) => (word.get(..=at).unwrap_or_default(), word.get(at + 3..).unwrap_or_default()),
        None if word.starts_with(b"/") => (&b"/"[..], word),
        None if word.starts_with(b"./") => word.split_at(2),
        None => (&b""[..], word),
    };
    let names: Vec<&[u8]> =
        kept.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if names.contains(&&b".."[..]) {
        return None;
    }
    let path = RelPath::new(names.join(&b'/')).ok()?;
    Some((dir(above), Some(path).filter(|path| !path.is_root())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_leads_where_it_leads_in_rsync() {
        let leads = |word: &str, relative: bool| {
            let words = vec![ByteBuf::from(word.as_bytes())];
            let found = Sources { words, relative, ..Sources::default() }.leads().remove(0);
            let (dir, path) = found?;
            let path = path.map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap());
            Some((dir.display().to_string(), path))
        };
        let some = |dir: &str, path: Option<&str>| Some((dir.to_owned(), path.map(str::to_owned)));
        for (word, dir, path) in [
            ("/etc", "/", Some("etc")),
            ("a/b", "a/", Some("b")),
            ("b", ".", Some("b")),
            ("a/b/", "a/b/", None),
            (".", ".", None),
            ("a/..", "a/..", None),
            ("/", "/", None),
        ] {
            assert_eq!(leads(word, false), some(dir, path), "{word}");
        }
        for (word, dir, path) in [
            ("/var/lib/x", "/", Some("var/lib/x")),
            ("a/b", ".", Some("a/b")),
            ("./a/b/", "./", Some("a/b")),
            ("/srv/./a/b", "/srv/", Some("a/b")),
            ("a/./b//c", "a/", Some("b/c")),
            ("a/./", "a/", None),
            ("/.//x", "/", Some("x")),
            (".", ".", None),
        ] {
            assert_eq!(leads(word, true), some(dir, path), "-R {word}");
        }
        assert_eq!(leads("a/../b", true), None);
    }
}
