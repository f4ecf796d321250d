//! Reading the histories.
//!
//! **Invariants:** a line that does not parse is passed over: a power cut may have torn it; what is read is bounded,
//! and of more the newest is told.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::{Head, Line, is_history};
use crate::status::{LogQuery, LogRecord};
use crate::tree::quote;

/// Returns what happened, oldest first, and how many records are left out before it. `names` are the files that are
/// read; all if `None`.
///
/// # Errors
/// What opening the directory says; one that is not there holds nothing.
pub fn read_history(
    dir: &Path,
    names: Option<&BTreeSet<String>>,
    query: &LogQuery,
) -> io::Result<(Vec<LogRecord>, u64)> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        other => other?,
    };
    let mut files: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| is_history(name))
        .filter(|name| names.is_none_or(|names| names.contains(name.trim_end_matches(".1"))))
        .collect();
    // Of each target the older file first.
    files.sort_by_key(|name| (name.trim_end_matches(".1").to_owned(), !name.ends_with(".1")));
    let mut all: Vec<LogRecord> = Vec::new();
    let mut left_out = 0;
    for name in files {
        let mut found = VecDeque::new();
        left_out += read_file(&dir.join(name), query, &mut found)?;
        all.extend(found);
        if all.len() > query.max.saturating_mul(2) {
            left_out += keep_newest(&mut all, query.max);
        }
    }
    left_out += keep_newest(&mut all, query.max);
    Ok((all, left_out))
}

/// Sorts records by time, and keeps the newest; returns how many went.
fn keep_newest(all: &mut Vec<LogRecord>, max: usize) -> u64 {
    all.sort_by_key(|record| record.time_ms);
    let surplus = all.len().saturating_sub(max);
    all.drain(..surplus);
    surplus as u64
}

/// Adds what fits of one file; returns how many records are left out.
fn read_file(path: &Path, query: &LogQuery, found: &mut VecDeque<LogRecord>) -> io::Result<u64> {
    let file = match File::open(path) {
        // It may have been replaced just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let (mut from, mut bytes, mut head, mut left_out) =
        (BufReader::new(file), Vec::new(), Head::default(), 0);
    let mut wanted = Wanted::default();
    while from.read_until(b'\n', &mut bytes)? > 0 {
        let line = std::mem::take(&mut bytes);
        // Most lines are too old: they are not read whole.
        if time_of(&line).is_some_and(|time| time < query.since_ms) && !line.ends_with(b"}}\n") {
            continue;
        }
        let Ok(line) = serde_json::from_slice::<Line>(&line) else { continue };
        if let Some(new) = line.h {
            wanted = Wanted::of(&new, query);
            head = new;
            continue;
        }
        if line.t < query.since_ms || !wanted.takes(&line) {
            continue;
        }
        found.push_back(LogRecord {
            time_ms: line.t,
            sync: head.sync.clone(),
            target: head.target.clone(),
            what: line.w,
            path: line.p,
            from: line.f,
            took_ms: line.l,
            about: line.a,
            count: line.n,
        });
        if found.len() > query.max {
            found.pop_front();
            left_out += 1;
        }
    }
    Ok(left_out)
}

/// Returns the time of a line without reading the rest.
fn time_of(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"t\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

/// What of one target's history is asked for.
#[derive(Default)]
struct Wanted {
    sync: bool,
    /// A quoted path without its end; what is asked for begins with it.
    path: Option<String>,
}

impl Wanted {
    fn of(head: &Head, query: &LogQuery) -> Self {
        let sync = query.sync.as_ref().is_none_or(|sync| *sync == head.sync);
        let path = query.path.as_deref().map(|path| below(path, &head.source));
        match path {
            // It is not of this source.
            Some(None) => Self::default(),
            Some(Some(path)) => Self { sync, path: Some(path).filter(|path| path != "\"") },
            None => Self { sync, path: None },
        }
    }

    fn takes(&self, line: &Line) -> bool {
        let Some(wanted) = &self.path else { return self.sync };
        let fits = |path: &Option<String>| {
            let rest = path.as_ref().and_then(|path| path.strip_prefix(wanted.as_str()));
            rest.is_some_and(|rest| rest == "\"" || rest.starts_with('/'))
        };
        self.sync && (fits(&line.p) || fits(&line.f))
    }
}

/// Returns a path below a source, quoted, without the quote at its end; `None` for an absolute path elsewhere.
fn below(path: &[u8], source: &str) -> Option<String> {
    let open = |path: &[u8]| {
        let text = quote(path);
        text.strip_suffix('"').unwrap_or_default().trim_end_matches('/').to_owned()
    };
    let text = open(path);
    if !path.starts_with(b"/") {
        return Some(text.strip_prefix("\"./").map_or(text.clone(), |rest| format!("\"{rest}")));
    }
    let source = source.strip_suffix('"').unwrap_or_default().trim_end_matches('/');
    let rest = text.strip_prefix(source)?;
    if rest.is_empty() {
        Some("\"".to_owned())
    } else {
        rest.strip_prefix('/').map(|rest| format!("\"{rest}"))
    }
}
