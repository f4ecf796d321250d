//! The rule files that the directories of a source have (`dir-merge`), read before it is sent.
//!
//! **In → Out:** a source and its rules; rules for the whole tree in place of each `dir-merge` rule, those of deeper
//! directories first. **Invariants:** a file that cannot be read or understood ends the run: what it guards would be sent or
//! deleted; with a root of the administrator nothing outside of it is read.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::source::Source;
use crate::config::Sync;
use crate::disk::names_of;
use crate::error::io_text;
use crate::filter::{Filter, Merge, Named, rebased};
use crate::scan::{DEPTH_MAX, STATE_DIR};
use crate::tree::{Kind, Mask, RelPath, quote};

/// Longest rule file, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Rules of one directory's file, each list with the directory.
type Found = Vec<(RelPath, Vec<Vec<u8>>)>;

/// Returns the rules without those that name a file in each directory, for a side that does not have the directories.
pub fn without_merges(rules: &[Vec<u8>]) -> Vec<Vec<u8>> {
    rules.iter().filter(|rule| matches!(Merge::parse(rule), Ok(Named::None))).cloned().collect()
}

/// Returns the rules of a sync, with those that the directories of its source have in their files; `above`: the files of the
/// directories above the source may be read.
///
/// # Errors
/// In words: which file cannot be read, or which rule is not understood.
pub fn merged(sync: &Sync, source: &Source, above: bool) -> Result<Vec<Vec<u8>>, String> {
    let mut merges = Vec::new();
    for (at, rule) in sync.filters.iter().enumerate() {
        if let Named::File(merge) = Merge::parse(rule).map_err(|error| error.to_string())? {
            merges.push((at, merge));
        }
    }
    let Some((first, _)) = merges.first() else { return Ok(sync.filters.clone()) };
    let before =
        Filter::new(sync.filters.get(..*first).unwrap_or_default()).map_err(|error| error.to_string())?;
    let mut reading =
        Reading { sync, source, before: source.narrowed(before), found: vec![Vec::new(); merges.len()] };
    reading.walk(&merges)?;
    let mut rules = Vec::new();
    for (at, rule) in sync.filters.iter().enumerate() {
        let Some(number) = merges.iter().position(|(of, _)| *of == at) else {
            rules.push(rule.clone());
            continue;
        };
        let (Some((_, merge)), Some(found)) = (merges.get(number), reading.found.get_mut(number)) else {
            continue;
        };
        // Deeper directories have the first word.
        found.sort_by_key(|(dir, _)| std::cmp::Reverse(dir.depth()));
        for (dir, own) in found {
            for rule in own {
                rules.extend(rebased(rule, dir, merge.inherits).map_err(|error| error.to_string())?);
            }
        }
        if above && merge.from_top {
            rules.extend(of_ancestors(merge, &tops(sync, source))?);
        }
    }
    Filter::new(&rules).map_err(|error| error.to_string())?;
    Ok(rules)
}

struct Reading<'a> {
    sync: &'a Sync,
    source: &'a Source,
    /// What hides directories whatever the files say.
    before: Filter,
    found: Vec<Found>,
}

impl Reading<'_> {
    fn walk(&mut self, merges: &[(usize, Merge)]) -> Result<(), String> {
        let (root, selection) = (self.source.root(), &self.sync.selection);
        let homes = root.homes().map_err(|error| io_text(&error))?;
        let mut waiting = vec![RelPath::root()];
        while let Some(dir) = waiting.pop() {
            // What cannot be looked into is told, and not sent, by the pass.
            let Ok(parts) = root.parts(&dir) else { continue };
            let mut names: Vec<Vec<u8>> = Vec::new();
            for (fd, only) in &parts {
                let Ok(listed) = names_of(fd.as_fd()) else { continue };
                let counts = |name: &&[u8]| only.as_ref().is_none_or(|only| only.contains(*name));
                names.extend(listed.iter().filter(counts).map(<[u8]>::to_vec));
            }
            for (number, (_, merge)) in merges.iter().enumerate() {
                if parts.iter().any(|_| names.contains(&merge.file))
                    && let Some(text) = self.read(&dir.join(&merge.file))?
                    && let Some(found) = self.found.get_mut(number)
                {
                    found.push((dir.clone(), merge.rules(&text)));
                }
            }
            if !selection.recursive || dir.depth() >= DEPTH_MAX {
                continue;
            }
            for name in names {
                let path = dir.join(&name);
                let is_own = dir.is_root() && name == STATE_DIR;
                if is_own || !selection.lists(&path) || self.before.excludes_entry(&path, true) {
                    continue;
                }
                let entry = self.source.entry(&path, &Mask::nothing()).ok().flatten();
                let Some(entry) = entry.filter(|entry| entry.attrs.meta.kind == Kind::Dir) else { continue };
                if !selection.one_file_system || homes.contains(&entry.id.dev) {
                    waiting.push(path);
                }
            }
        }
        Ok(())
    }

    /// Returns what a rule file holds; `None` if it is none.
    fn read(&self, path: &RelPath) -> Result<Option<Vec<u8>>, String> {
        let failed = |why: String| format!("rule file {path}: {why}");
        let (root, parent) =
            (self.source.root(), self.source.root().parent(path).map_err(|e| failed(io_text(&e)))?);
        let entry = self.source.entry(path, &Mask::nothing()).map_err(|error| failed(io_text(&error)))?;
        match entry.map(|entry| entry.attrs.meta.kind) {
            Some(Kind::File) => {}
            Some(Kind::Symlink) => {
                return Err(failed("it is a symlink; write its rules into a file".to_owned()));
            }
            _ => return Ok(None),
        }
        let file =
            root.open_in(parent.fd.as_fd(), path, parent.name).map_err(|error| failed(io_text(&error)))?;
        content(std::fs::File::from(file)).map(Some).map_err(failed)
    }
}

/// Reads a rule file, which is short.
fn content(file: std::fs::File) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut text).map_err(|error| io_text(&error))?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err("it is longer than 1 MiB".to_owned());
    }
    Ok(text)
}

/// Returns the directories that a source is made of, and whether what is sent only lies in one.
fn tops(sync: &Sync, source: &Source) -> Vec<(PathBuf, bool)> {
    let mut tops: Vec<(PathBuf, bool)> = match &sync.sources {
        None => vec![(source.path().to_owned(), false)],
        Some(sources) => {
            sources.leads().into_iter().flatten().map(|(dir, path)| (dir, path.is_some())).collect()
        }
    };
    tops.dedup();
    tops
}

/// Returns the rules of the directories above a source, the nearest first, as they are for what is below it.
fn of_ancestors(merge: &Merge, tops: &[(PathBuf, bool)]) -> Result<Vec<Vec<u8>>, String> {
    let mut rules = Vec::new();
    for (top, only_holds) in tops.iter().filter(|_| merge.inherits) {
        let Ok(top) = top.canonicalize() else { continue };
        rules.extend(of_those_above(merge, &top, *only_holds)?);
    }
    Ok(rules)
}

fn of_those_above(merge: &Merge, source: &Path, itself: bool) -> Result<Vec<Vec<u8>>, String> {
    let mut rules = Vec::new();
    for dir in source.ancestors().skip(usize::from(!itself)) {
        let path = dir.join(OsStr::from_bytes(&merge.file));
        if !path.is_file() {
            continue;
        }
        let failed = |why: String| format!("rule file {}: {why}", quote(path.as_os_str().as_bytes()));
        let file = crate::disk::open_to_read(&path).map_err(|error| failed(io_text(&error)))?;
        let below = source.strip_prefix(dir).map(|below| below.as_os_str().as_bytes()).unwrap_or_default();
        for rule in merge.rules(&content(file).map_err(failed)?) {
            rules.extend(brought_down(&rule, below));
        }
    }
    Ok(rules)
}

/// Returns a rule of a directory above as it is below `path` from there; `None` if it matches nothing there.
fn brought_down(rule: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let Some(at) = rule.windows(2).position(|two| matches!(two, b" /" | b"_/")) else {
        return Some(rule.to_vec());
    };
    let (kind, mut rest) = rule.split_at_checked(at)?;
    if kind.contains(&b' ') {
        return Some(rule.to_vec());
    }
    rest = rest.get(2..)?;
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        let end = rest.iter().position(|&byte| byte == b'/')?;
        let (first, after) = rest.split_at_checked(end)?;
        if first != name && first != b"*" {
            return None;
        }
        rest = after.get(1..)?;
    }
    (!rest.is_empty()).then(|| [kind, b" /", rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_a_directory_above_is_about_what_lies_below_the_source() {
        let down = |rule: &str| {
            brought_down(rule.as_bytes(), b"srv/www").map(|rule| String::from_utf8(rule).unwrap())
        };
        for (rule, below) in [
            ("- *.o", Some("- *.o")),
            ("- a/b", Some("- a/b")),
            ("- /srv/www/x", Some("- /x")),
            ("- /*/www/x/", Some("- /x/")),
            ("- /srv/other/x", None),
            ("- /srv/www", None),
            ("- /x", None),
        ] {
            assert_eq!(down(rule).as_deref(), below, "{rule}");
        }
    }
}
