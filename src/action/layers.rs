//! What lsyncd's layers do with a sync's next entries, and how they judge what came of it.
//!
//! **Sources:** lsyncd 2.2.3 as observed, its words in the log included.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Instant;

use super::calls;
use super::command::{self, Names};
use super::core::{Core, Job, JobKind};
use super::delays::{Delay, Etype, Id, Take};
use super::native::State;
use crate::config::{Builtin, ExitCodes, Handler, LsyncdSync, Verdict};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn target(spec: &LsyncdSync) -> String {
    text(spec.target.as_deref().unwrap_or_default())
}

/// Returns source and target as the log has them.
pub fn pair(spec: &LsyncdSync) -> String {
    format!("{} -> {}", text(&spec.source), target(spec))
}

/// Returns the handler of an event.
fn handler(spec: &LsyncdSync, etype: Etype) -> &Handler {
    match etype {
        Etype::Attrib => &spec.on.attrib,
        Etype::Modify => &spec.on.modify,
        Etype::Create => &spec.on.create,
        Etype::Delete => &spec.on.delete,
        Etype::Move => &spec.on.r#move,
        Etype::Init => &spec.on.startup,
        Etype::Blanket | Etype::Full => &Handler::Absent,
    }
}

/// Runs a part of a layer for the sync at `at`; what the user's Lua must do comes back as a job.
pub fn run(core: &mut Core, at: usize, part: Builtin) -> Option<Job> {
    let sync = core.syncs.get(at)?;
    let spec = Arc::clone(&sync.spec);
    let (id, entry) = sync.delays.first().map(|(id, entry)| (id, entry.clone()))?;
    match part {
        Builtin::Action | Builtin::Init => return one(core, at, &spec, (id, &entry)),
        Builtin::RsyncInit | Builtin::RsyncFull => whole(core, at, &spec, id),
        Builtin::SshAction if entry.etype == Etype::Move => {
            let to = entry.path2.as_deref().unwrap_or_default();
            core.normal(&format!("Moving {} -> {}", relative(&entry.path), relative(to)));
            match calls::ssh_move(&spec, &entry.path, to) {
                Some(call) => core.spawn(at, vec![id], false, call),
                None => core.discard(at, id),
            }
        }
        Builtin::RsyncAction | Builtin::SshAction => list(core, at, &spec),
        Builtin::DirectAction => {
            let link = on_source(&spec, &entry.path).is_some_and(|meta| meta.is_symlink());
            match calls::direct(&spec, &entry, link) {
                Some(call) => core.spawn(at, vec![id], false, call),
                None => core.discard(at, id),
            }
        }
        Builtin::Collect | Builtin::SshCollect | Builtin::DirectCollect => {}
    }
    None
}

/// Returns what stands on the source at a path now, if anything does.
fn on_source(spec: &LsyncdSync, path: &[u8]) -> Option<std::fs::Metadata> {
    let whole = [&spec.source[..], path].concat();
    let whole = whole.strip_suffix(b"/").unwrap_or(&whole);
    std::fs::symlink_metadata(std::ffi::OsStr::from_bytes(whole)).ok()
}

fn relative(path: &[u8]) -> String {
    text(path.strip_prefix(b"/").unwrap_or(path))
}

/// Returns the names of an entry of `spec`.
pub fn names<'a>(spec: &'a LsyncdSync, entry: &'a Delay) -> Names<'a> {
    Names {
        source: &spec.source,
        target: spec.target.as_deref(),
        origin: &entry.path,
        destination: entry.path2.as_deref(),
    }
}

/// Acts on one entry by its own handler.
fn one(core: &mut Core, at: usize, spec: &LsyncdSync, (id, entry): (Id, &Delay)) -> Option<Job> {
    match handler(spec, entry.etype) {
        Handler::Lua(function) => {
            return Some(Job { sync: Some(at), kind: JobKind::On(id), function: function.clone() });
        }
        Handler::Command(line) => {
            let (call, shell) = command::compile(line, &names(spec, entry));
            let kind = entry.etype.word();
            if shell {
                let mut line = call.arguments.get(1).map(|line| text(line)).unwrap_or_default();
                for (at, value) in call.arguments.iter().enumerate().skip(3).rev() {
                    line = line.replace(&format!("\"${}\"", at - 2), &text(value));
                }
                core.normal(&format!("Event {kind} spawns shell \"{line}\""));
            } else {
                core.normal(&format!("Event {kind} spawns action \"{}\"", text(line)));
            }
            core.spawn(at, vec![id], false, call);
        }
        Handler::Absent | Handler::Flag | Handler::Builtin(_) => core.discard(at, id),
    }
    None
}

/// Runs rsync over everything.
fn whole(core: &mut Core, at: usize, spec: &LsyncdSync, id: Id) {
    let Some(sync) = core.syncs.get(at) else { return };
    let (filters, excludes) = sync.rules.clone();
    let call = calls::rsync_all(spec, &filters, &excludes);
    let mut line = format!("recursive startup rsync: {} -> {}", text(&spec.source), target(spec));
    if !call.input.is_empty() {
        line += if filters.is_empty() { " excluding\n" } else { " filtering\n" };
        line += &text(&call.input);
    }
    core.normal(&line);
    core.spawn(at, vec![id], false, call);
}

/// Runs rsync over all that waits.
fn list(core: &mut Core, at: usize, spec: &LsyncdSync) {
    let Some(sync) = core.syncs.get(at) else { return };
    let large = |entry: &Delay| {
        let meta = spec.batch_limit.and_then(|limit| Some((limit, on_source(spec, &entry.path)?)));
        entry.etype != Etype::Delete && meta.is_some_and(|(limit, meta)| meta.is_file() && meta.len() > limit)
    };
    // A large file goes alone, and keeps no other waiting where there may be several children.
    let mut ids = sync.delays.batch(|_, entry| if large(entry) { Take::No } else { Take::Yes });
    if ids.is_empty() {
        ids = sync.delays.batch(|_, _| Take::Yes).into_iter().take(1).collect();
    }
    let list = calls::rsync_list(ids.iter().filter_map(|id| sync.delays.get(*id)));
    if ids.is_empty() {
        return;
    }
    let shown: Vec<String> = list.iter().map(|path| text(path)).collect();
    core.normal(&format!("Calling rsync with filter-list of new/modified files/dirs\n{}", shown.join("\n")));
    core.spawn(at, ids, true, calls::rsync_some(spec, &list));
}

/// Judges the end of a child. A child that a signal ended has not done its work.
pub fn judge(core: &mut Core, at: usize, ids: &[Id], list: bool, ended: Result<i32, i32>) -> Option<Verdict> {
    let sync = core.syncs.get(at)?;
    let spec = Arc::clone(&sync.spec);
    let entry = ids.first().and_then(|id| sync.delays.get(*id)).cloned();
    let code = match ended {
        Ok(code) => code,
        Err(signal) => {
            core.log.line(
                "Warn",
                &format!("a child of {} was ended by signal {signal}, trying again", spec.name),
            );
            return Some(Verdict::Again);
        }
    };
    let etype = entry.as_ref().map_or(Etype::Modify, |entry| entry.etype);
    let first = matches!(etype, Etype::Init | Etype::Full);
    let part = match spec.collect {
        Handler::Builtin(part) => part,
        _ => Builtin::Collect,
    };
    let codes = match part {
        Builtin::SshCollect if etype == Etype::Move && !list => &spec.ssh_codes,
        Builtin::SshCollect | Builtin::DirectCollect => &spec.rsync_codes,
        _ => &spec.exit_codes,
    };
    if part == Builtin::DirectCollect && !first {
        if code != 0 {
            core.log
                .line("Warn", &format!("{} on {} = {code}", etype.word(), path_of(&spec, entry.as_ref())));
        }
        return Some(Verdict::Ok);
    }
    if first {
        return first_pass(core, &spec, codes, (code, part));
    }
    let what = match &entry {
        Some(_) if list => "a list".to_owned(),
        entry => format!("{} on {}", etype.word(), path_of(&spec, entry.as_ref())),
    };
    let verdict = codes.verdict(code);
    match verdict {
        Some(Verdict::Ok) if list => core.normal(&format!("Finished a list after exitcode: {code}")),
        Some(Verdict::Ok) => core.normal(&format!("Finished {what} = {code}")),
        Some(Verdict::Again) => core.normal(&format!("Retrying {what} after exitcode = {code}")),
        Some(Verdict::Die) => core.log.line("Error", &format!("Failure with {what}, exitcode = {code}")),
        None => core.log.line("Error", &format!("Unknown exitcode \"{code}\" with {what}")),
    }
    if code != 0 && verdict == Some(Verdict::Ok) {
        let line = format!("exit code {code} says that some of {what} was not transferred");
        core.log.line("Warn", &line);
    }
    Some(verdict.unwrap_or(Verdict::Die))
}

fn path_of(spec: &LsyncdSync, entry: Option<&Delay>) -> String {
    let path = entry.map(|entry| entry.path.clone()).unwrap_or_default();
    format!("{}{}", text(&spec.source), text(&path))
}

fn first_pass(
    core: &mut Core,
    spec: &LsyncdSync,
    codes: &ExitCodes,
    (code, part): (i32, Builtin),
) -> Option<Verdict> {
    let what = pair(spec);
    let verdict = codes.verdict(code);
    match verdict {
        Some(Verdict::Ok) if part == Builtin::Collect => core.normal(&format!("Startup of {what} finished.")),
        Some(Verdict::Ok) => {
            core.normal(&format!("Startup of \"{}\" finished: {code}", text(&spec.source)));
        }
        Some(Verdict::Again) if core.insist => core.normal(&format!("Retrying startup of {what}: {code}")),
        Some(Verdict::Again) => {
            let line = format!(
                "Temporary or permanent failure on startup of {what}. Terminating since \"insist\" is not set."
            );
            core.log.line("Error", &line);
            return Some(Verdict::Die);
        }
        Some(Verdict::Die) => core.log.line("Error", &format!("Failure on startup of {what}.")),
        None => core.log.line("Error", &format!("Unknown exitcode on startup of {what}: {code}")),
    }
    Some(verdict.unwrap_or(Verdict::Die))
}

/// Does what is due at the sync at `at`, as far as there is room; what the user's Lua must do comes back.
pub fn advance(core: &mut Core, at: usize, now: Instant) -> Option<Job> {
    while !core.stopping && core.fatal.is_none() && core.has_room(at) {
        let sync = core.syncs.get(at)?;
        if !matches!(sync.state, State::Commands) || !core.tunnels.is_up(at) {
            return None;
        }
        if sync.job.is_some() || sync.rest.is_some_and(|until| until > now) {
            return None;
        }
        let (id, etype) = sync.due(now)?;
        let (handler, kind) = match etype {
            Etype::Init => (&sync.spec.init, JobKind::Whole(id)),
            Etype::Full if sync.spec.full.is_some() => (&sync.spec.full, JobKind::Whole(id)),
            _ => (&sync.spec.action, JobKind::Action),
        };
        let job = match handler.clone() {
            Handler::Lua(function) => Some(Job { sync: Some(at), kind, function }),
            Handler::Builtin(part) => run(core, at, part),
            Handler::Absent | Handler::Flag | Handler::Command(_) => {
                core.discard(at, id);
                None
            }
        };
        if job.is_some() {
            return job;
        }
        if core.waits(at, id) {
            // The layer left it: nothing is gained by asking again at once.
            return None;
        }
    }
    None
}

/// Judges a call for a script: what `default.rsync.collect(agent, code)` returns.
pub fn judge_word(verdict: Option<Verdict>) -> Option<&'static str> {
    verdict.map(|verdict| match verdict {
        Verdict::Ok => "ok",
        Verdict::Again => "again",
        Verdict::Die => "die",
    })
}
