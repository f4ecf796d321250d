//! The commands that lsyncd's layers run, word for word.
//!
//! **Purpose:** a sync's options and the paths of its events in → arguments and standard input out.
//! **Invariants:** pure. **Sources:** lsyncd 2.2.3 as observed with rsync 3.5.0.

use std::collections::HashSet;

use crate::action::delays::{Delay, Etype};
use crate::config::LsyncdSync;

/// A command with what it reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The program.
    pub program: Vec<u8>,
    /// Its arguments.
    pub arguments: Vec<Vec<u8>>,
    /// Its standard input; empty for none.
    pub input: Vec<u8>,
}

impl Call {
    /// Makes a call of constant words.
    pub fn new(program: &[u8], arguments: &[&[u8]]) -> Self {
        let arguments = arguments.iter().map(|word| word.to_vec()).collect();
        Self { program: program.to_vec(), arguments, input: Vec::new() }
    }
}

fn flags(sync: &LsyncdSync) -> Vec<Vec<u8>> {
    let mut flags = sync.rsync.arguments.clone();
    if let Some((ssh, ..)) = &sync.ssh {
        flags.extend(ssh.rsh.clone());
    }
    flags.push(b"-r".to_vec());
    flags
}

fn trees(sync: &LsyncdSync) -> [Vec<u8>; 2] {
    [sync.source.clone(), sync.target.clone().unwrap_or_default()]
}

/// Returns the pass over everything.
pub fn rsync_all(sync: &LsyncdSync, filters: &[Vec<u8>], excludes: &[Vec<u8>]) -> Call {
    let mut call = Call { program: sync.rsync.binary.clone(), ..Call::default() };
    if !filters.is_empty() {
        call.arguments.push(b"--filter=. -".to_vec());
        let excludes = excludes.iter().map(|pattern| [b"- ", &pattern[..]].concat());
        call.input = filters.iter().cloned().chain(excludes).collect::<Vec<_>>().join(&b'\n');
    } else if !excludes.is_empty() {
        call.arguments.push(b"--exclude-from=-".to_vec());
        call.input = excludes.join(&b'\n');
    }
    if sync.delete.startup {
        call.arguments.extend([b"--delete".to_vec(), b"--ignore-errors".to_vec()]);
    }
    if sync.rsync.delete_excluded {
        call.arguments.push(b"--delete-excluded".to_vec());
    }
    call.arguments.extend(flags(sync));
    call.arguments.extend(trees(sync));
    call
}

/// Returns the paths that rsync is told of for `entries`, each once: the path, then its directories.
pub fn rsync_list<'a>(entries: impl Iterator<Item = &'a Delay>) -> Vec<Vec<u8>> {
    let (mut list, mut known) = (Vec::new(), HashSet::new());
    let mut add = |path: Vec<u8>| {
        let new = known.insert(path.clone());
        if new {
            list.push(path);
        }
        new
    };
    for entry in entries {
        let gone = entry.etype == Etype::Delete && entry.path.ends_with(b"/");
        add(escaped(&entry.path, gone));
        let inner = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
        let first = if gone { entry.path.len() } else { inner.len() };
        // Once a directory is known, all above it are.
        for at in (0..first).rev().filter(|at| entry.path.get(*at) == Some(&b'/')) {
            if !add(escaped(entry.path.get(..=at).unwrap_or_default(), false)) {
                break;
            }
        }
    }
    list
}

/// Returns a path as a pattern that matches itself.
fn escaped(path: &[u8], and_below: bool) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(path.len() + 3);
    for byte in path {
        if matches!(byte, b'?' | b'*' | b'[' | b']') {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    if and_below {
        pattern.extend_from_slice(b"***");
    }
    pattern
}

/// Returns the pass over `list`.
pub fn rsync_some(sync: &LsyncdSync, list: &[Vec<u8>]) -> Call {
    let mut arguments = flags(sync);
    if sync.delete.running {
        arguments.extend([b"--delete".to_vec(), b"--ignore-errors".to_vec()]);
    }
    for word in ["--force", "--from0", "--include-from=-", "--exclude=*"] {
        arguments.push(word.into());
    }
    arguments.extend(trees(sync));
    Call { program: sync.rsync.binary.clone(), arguments, input: list.join(&0) }
}

fn quoted(word: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\"'\"'"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

fn relative(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

/// Returns the move on the host of a `default.rsyncssh`; `None` for any other sync.
pub fn ssh_move(sync: &LsyncdSync, from: &[u8], to: &[u8]) -> Option<Call> {
    let (ssh, host, dir) = sync.ssh.as_ref()?;
    let name = |path: &[u8]| quoted(&[dir, relative(path)].concat());
    let (from, to) = (name(from), name(to));
    let mut arguments = ssh.arguments.clone();
    arguments.push(host.clone());
    let words: [&[u8]; 7] = [b"mv", &from, &to, b"||", b"rm", b"-rf", &from];
    arguments.extend(words.iter().map(|word| word.to_vec()));
    Some(Call { program: ssh.binary.clone(), arguments, input: Vec::new() })
}

/// Owner, mode and times of `$1` for `$2`. Who may not give files away leaves the owner.
const LIKE: &[u8] =
    b"chown -h --reference=\"$1\" -- \"$2\"; [ -L \"$1\" ] || chmod --reference=\"$1\" -- \"$2\"; \
                      touch -h -r \"$1\" -- \"$2\"";

/// Returns the command of `default.direct` for an event; `None` where it has none. A `link` is a symlink on
/// the source.
pub fn direct(sync: &LsyncdSync, entry: &Delay, link: bool) -> Option<Call> {
    let target = sync.target.clone().unwrap_or_default();
    let target_of = |path: &[u8]| {
        let whole = [&target[..], path].concat();
        whole.strip_suffix(b"/").map_or(whole.clone(), <[u8]>::to_vec)
    };
    let at = target_of(&entry.path);
    let dir = entry.path.ends_with(b"/");
    match entry.etype {
        Etype::Create if dir => Some(Call::new(b"/bin/mkdir", &[b"--", &at])),
        Etype::Create | Etype::Modify if !dir => {
            let from = [&sync.source[..], &entry.path].concat();
            let cut = at.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let into = at.get(..cut).unwrap_or_default();
            let how: &[&[u8]] = if link { &[b"-dp", b"--remove-destination"] } else { &[b"-p"] };
            Some(Call::new(b"/bin/cp", &[how, &[b"--", &from, into]].concat()))
        }
        Etype::Attrib => {
            let whole = [&sync.source[..], &entry.path].concat();
            let from = whole.strip_suffix(b"/").unwrap_or(&whole);
            Some(Call::new(b"/bin/sh", &[b"-c", LIKE, b"/bin/sh", from, &at]))
        }
        Etype::Delete if sync.delete.running => Some(Call::new(b"/bin/rm", &[b"-rf", b"--", &at])),
        Etype::Move => {
            let to = [&target, entry.path2.as_deref().unwrap_or_default()].concat();
            let at = [&target[..], &entry.path].concat();
            let script: &[u8] = if sync.delete.running {
                b"/bin/mv -- \"$1\" \"$2\" || /bin/rm -rf -- \"$1\""
            } else {
                b"/bin/mv -- \"$1\" \"$2\""
            };
            Some(Call::new(b"/bin/sh", &[b"-c", script, b"/bin/sh", &at, &to]))
        }
        _ => None,
    }
}
