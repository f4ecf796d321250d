//! `speil trash` and `speil undo`: what a target keeps, and putting it back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::reach::{missing, one_target};
use super::{complain_text, exit_of, note, print, uploads};
use crate::cli::commands::{Trash, Undo};
use crate::cli::exit::Exit;
use crate::config::Sync;
use crate::daemon::{hint, mirror_id, transport_of};
use crate::monitor::{counted, sized};
use crate::protocol::{Keeping, KeptEntry, Order, Since};
use crate::sender::{Ask, SessionError, SessionOptions, Word, keeper};
use crate::transport::Uploads;
use crate::tree::{Kind, RelPath, Time, quote};

/// Version of the JSON that is printed.
const SCHEMA: u32 = 1;

/// Lists what a target keeps.
pub(super) fn trash(it: &Trash) -> u8 {
    let sync = match one_target(&it.target, Path::new(""), &it.reach) {
        Ok(sync) => sync,
        Err(code) => return code,
    };
    let paths = match rel_paths(&it.paths, &sync) {
        Ok(paths) => paths,
        Err(code) => return code,
    };
    let since = it.since.unwrap_or(Since::At(Time { secs: i64::MIN, nanos: 0 }));
    let order = Order { place: place(it.strangers), since, paths };
    let mut told = Told::new(it.json, false);
    match ask(&sync, uploads::told(), Ask::List, &order, &mut told) {
        Ok(exit) => {
            told.finish("kept");
            exit.code()
        }
        Err(code) => code,
    }
}

/// Puts back what a target keeps.
pub(super) fn undo(it: &Undo) -> u8 {
    let Some(since) = it.since.filter(|_| !it.list) else { return list(it) };
    let sync = match one_target(&it.target, Path::new(""), &it.reach) {
        Ok(sync) => sync,
        Err(code) => return code,
    };
    let paths = match rel_paths(&it.paths, &sync) {
        Ok(paths) => paths,
        Err(code) => return code,
    };
    let order = Order { place: place(it.strangers), since, paths };
    let what = if it.dry_run { Ask::Plan } else { Ask::Undo };
    let mut told = Told::new(it.json, true);
    let unasked = it.dry_run && it.reach.agent.is_none();
    let uploads = if unasked { uploads::asked().then(uploads::told()) } else { uploads::told() };
    let exit = match ask(&sync, uploads, what, &order, &mut told) {
        Ok(exit) => exit,
        Err(code) => return code,
    };
    told.finish(if it.dry_run { "to be put back" } else { "put back" });
    if told.count == 0 && told.already == 0 { exit.and(Exit::Vanished).code() } else { exit.code() }
}

/// Lists what could be put back.
fn list(it: &Undo) -> u8 {
    trash(&Trash {
        target: it.target.clone(),
        paths: it.paths.clone(),
        since: it.since,
        strangers: it.strangers,
        json: it.json,
        reach: it.reach.clone(),
    })
}

/// Returns paths below the root; an absolute one is a path on the target's host.
///
/// # Errors
/// The exit code, after it was said what is wrong.
fn rel_paths(paths: &[PathBuf], sync: &Sync) -> Result<Vec<RelPath>, u8> {
    let target = sync.targets.first();
    let root = Path::new(OsStr::from_bytes(target.map_or(&b"/"[..], |target| &target.path)));
    let is_here = target.is_some_and(|target| target.host.is_none());
    // A target on this host counts from the working directory, and either may be written through a symlink.
    let here = [std::path::absolute(root).ok(), root.canonicalize().ok()];
    let roots: Vec<PathBuf> = if is_here { here.into_iter().flatten().collect() } else { vec![root.into()] };
    let below = |path: &PathBuf| {
        if path.is_relative() {
            return rel_path(path).map_err(|error| error.to_string());
        }
        let below = roots.iter().find_map(|root| path.strip_prefix(root).ok());
        let below = below.ok_or_else(|| {
            let root = roots.first().map_or(root, PathBuf::as_path);
            format!("{path:?} is not below {root:?}")
        })?;
        rel_path(below).map_err(|error| error.to_string())
    };
    paths.iter().map(below).collect::<Result<_, _>>().map_err(|error| {
        complain_text(&error, Some("a path is relative to the target's root"));
        Exit::Syntax.code()
    })
}

fn place(strangers: bool) -> Keeping {
    if strangers { Keeping::Strangers } else { Keeping::Trash }
}

/// Returns a path below the root, however it was written.
fn rel_path(path: &Path) -> Result<RelPath, crate::tree::PathError> {
    let bytes = path.as_os_str().as_bytes();
    let names: Vec<&[u8]> =
        bytes.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    RelPath::new(names.join(&b'/'))
}

fn ask(sync: &Sync, uploads: Uploads, what: Ask, order: &Order, told: &mut Told) -> Result<Exit, u8> {
    let Some(target) = sync.targets.first() else { return Ok(Exit::Success) };
    let options = SessionOptions {
        sync: sync.clone(),
        target: target.clone(),
        mirror: mirror_id(sync, target),
        live: false,
        dry_run: what != Ask::Undo,
        rehearsal: false,
    };
    let asked = transport_of(sync, target, uploads)
        .map_err(SessionError::from)
        .and_then(|transport| keeper(&*transport, &options, (what, order), &mut |word| told.hear(word)));
    match asked {
        Ok(wrong) => {
            wrong.iter().for_each(|text| note(text));
            Ok(if wrong.is_empty() && told.failed == 0 { Exit::Success } else { Exit::Partial })
        }
        Err(error) => {
            complain_text(&format!("{target}: {error}"), missing(&error).or_else(|| hint(&error)).as_deref());
            Err(exit_of(&error).code())
        }
    }
}

/// Tells entries as they come; for scripts, all at the end.
struct Told {
    json: bool,
    undo: bool,
    entries: Vec<serde_json::Value>,
    count: u64,
    gone: u64,
    already: u64,
    failed: u64,
    bytes: u64,
}

impl Told {
    fn new(json: bool, undo: bool) -> Self {
        Self { json, undo, entries: Vec::new(), count: 0, gone: 0, already: 0, failed: 0, bytes: 0 }
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Kept(entry) => {
                self.bytes = self.bytes.saturating_add(entry.size);
                self.add(&entry, false);
            }
            Word::Gone(entry) => {
                self.gone += u64::from(entry.errno == 0);
                self.add(&entry, true);
            }
            Word::Already(paths) => self.already = self.already.saturating_add(paths),
        }
    }

    fn add(&mut self, entry: &KeptEntry, gone: bool) {
        self.count += 1;
        if entry.errno != 0 {
            self.failed += 1;
            if !self.json {
                note(&format!("{}: {}", entry.path, crate::error::errno_text(entry.errno)));
                return;
            }
        }
        let shown = quote(entry.path.as_bytes());
        let path = shown.trim_matches('"');
        if self.json {
            self.entries.push(json!({
                "time": entry.time.rfc3339(),
                "path": path,
                "kind": entry.kind.noun(),
                "size": entry.size,
                "mtime": entry.mtime.rfc3339(),
                "replaces": entry.replaces,
                "gone": gone,
                "error": (entry.errno != 0).then(|| crate::error::errno_text(entry.errno)),
            }));
            return;
        }
        let slash = if entry.kind == Kind::Dir { "/" } else { "" };
        let rest = match (gone, self.undo && entry.replaces) {
            (true, _) => "  (did not exist then; moved to the trash)",
            (false, true) => "  (the present version is moved to the trash)",
            (false, false) => "",
        };
        print(&format!("{}  {:>12}  {path}{slash}{rest}\n", entry.time.rfc3339(), entry.size));
    }

    fn finish(&self, what: &str) {
        if self.json {
            let all = json!({
                "schema": SCHEMA,
                "entries": self.entries,
                "bytes": self.bytes,
                "already": self.already,
                "failed": self.failed,
            });
            print(&(serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"));
        } else {
            let (count, bytes) = (self.count - self.failed - self.gone, self.bytes);
            let rest = |count: u64, what: &str| match count {
                0 => String::new(),
                count => format!(", {count} {what}"),
            };
            let (gone, already) = (rest(self.gone, "removed"), rest(self.already, "already as they were"));
            let count = counted(count, "entry", "entries");
            print(&format!("{count} {what}, {}{gone}{already}\n", sized(bytes)));
        }
    }
}
