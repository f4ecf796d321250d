//! `speil target`: the targets of a sync whose configuration names a list of them, changed while the daemon runs.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde_json::json;

use super::{complain, complain_text, control, note, print};
use crate::cli::commands::{TargetVerb, Targets};
use crate::cli::exit::Exit;
use crate::config::{self, Sync, Target};
use crate::daemon;
use crate::disk::is_at;
use crate::error::io_text;
use crate::status::{self, Answer, Report, Request, TargetReport};
use crate::tree::quote;

/// Adds, removes or lists.
pub(super) fn run(it: &Targets) -> u8 {
    let sync = match sync_of(it) {
        Ok(sync) => sync,
        Err(code) => return code,
    };
    match it.verb {
        TargetVerb::List => list(it, &sync),
        _ if it.targets.is_empty() => {
            complain_text("name a target: speil target add|remove SYNC TARGET", None);
            Exit::Syntax.code()
        }
        _ => match &sync.targets_file {
            Some(file) => edit(it, file),
            None => {
                let hint = "write targetsFile = \"targets\" in place of them, put the targets into that file, one a \
                            line, and type speil reload";
                let config = it.config.display();
                complain_text(&format!("the targets of {} are in {config} itself", sync.name), Some(hint));
                Exit::Selection.code()
            }
        },
    }
}

fn sync_of(it: &Targets) -> Result<Sync, u8> {
    let loaded = config::load(&it.config).map_err(|error| {
        complain(&error, error.hint().as_deref());
        Exit::Syntax.code()
    })?;
    let names: Vec<String> = loaded.config.syncs.iter().map(|sync| sync.name.clone()).collect();
    loaded.config.syncs.into_iter().find(|sync| sync.name == it.sync).ok_or_else(|| {
        let hint = format!("it has {}", names.join(", "));
        complain_text(&format!("no sync {:?} in {}", it.sync, it.config.display()), Some(&hint));
        Exit::Syntax.code()
    })
}

/// Changes the list, and has the daemon read it. A list that the configuration refuses is put back.
fn edit(it: &Targets, file: &Path) -> u8 {
    let failed = |error: &io::Error| {
        complain_text(&format!("{}: {}", quote(file.as_os_str().as_encoded_bytes()), io_text(error)), None);
        Exit::File.code()
    };
    let (held, old) = match lock(file) {
        Ok(locked) => locked,
        Err(error) => return failed(&error),
    };
    let mut text = old.clone();
    for target in &it.targets {
        match changed(&text, it.verb, target) {
            Ok(Some(new)) => text = new,
            Ok(None) => note(&format!("{target} is {} a target of {}", already(it.verb), it.sync)),
            Err(error) => {
                complain(&error, error.hint());
                return Exit::Syntax.code();
            }
        }
    }
    if text == old {
        return 0;
    }
    if let Err(error) = replace(file, &held, &text) {
        return failed(&error);
    }
    if let Err(error) = config::load(&it.config) {
        let back = replace(file, &held, &old);
        complain(&error, error.hint().as_deref());
        note(&match back {
            Ok(()) => format!("{} is as it was", file.display()),
            Err(error) => format!("{} could not be put back: {}", file.display(), io_text(&error)),
        });
        return Exit::Syntax.code();
    }
    drop(held);
    control::reload_if_running(&it.control, &it.sync)
}

fn already(verb: TargetVerb) -> &'static str {
    if verb == TargetVerb::Add { "already" } else { "not" }
}

fn changed(text: &[u8], verb: TargetVerb, target: &str) -> Result<Option<Vec<u8>>, config::TargetError> {
    match verb {
        TargetVerb::Add => config::with_target(text, target),
        _ => Ok(config::without_target(text, target)),
    }
}

/// Opens a list for this process alone, and returns what it holds.
fn lock(file: &Path) -> io::Result<(File, Vec<u8>)> {
    loop {
        let held = File::open(file)?;
        rustix::fs::flock(&held, FlockOperation::LockExclusive)?;
        // Whoever had it before has put another file in its place.
        if is_at(&held, file) {
            let text = crate::disk::read_whole(file)?;
            return Ok((held, text));
        }
    }
}

/// Puts a file with this content, and the old one's owner and mode, in its place: the daemon reads it whole.
fn replace(file: &Path, old: &File, text: &[u8]) -> io::Result<()> {
    let file = file.canonicalize()?;
    let meta = old.metadata()?;
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let beside = file.with_file_name(name);
    let written = File::create_new(&beside).and_then(|mut new| {
        new.write_all(text)?;
        new.set_permissions(meta.permissions())?;
        // Who may not give it away keeps it.
        let _ = std::os::unix::fs::fchown(&new, Some(meta.uid()), Some(meta.gid()));
        new.sync_all()?;
        std::fs::rename(&beside, &file)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Lists the targets, and how each is doing where a daemon says so.
fn list(it: &Targets, sync: &Sync) -> u8 {
    let asked = |socket: PathBuf| daemon::ask(&socket, &Request::Status, Some(control::ANSWER_MAX));
    let report = match control::find(&it.control).ok().map(asked) {
        Some(Ok(Answer::Status(report))) => Some(report),
        _ => None,
    };
    let state = |target: &Target| report.as_ref().and_then(|report| reported(report, &sync.name, target));
    if it.json {
        let object = |target: &Target| {
            let state = state(target);
            let (word, lag_ms) = (state.map(|it| &it.state), state.map(|it| it.lag_ms));
            json!({ "name": target.name, "target": target.to_string(), "state": word, "lag_ms": lag_ms })
        };
        let targets: Vec<_> = sync.targets.iter().map(object).collect();
        print(&format!("{}\n", json!({ "schema": status::SCHEMA, "sync": sync.name, "targets": targets })));
        return 0;
    }
    let wide = sync.targets.iter().map(|target| target.to_string().chars().count()).max().unwrap_or(0);
    for target in &sync.targets {
        let word = match state(target) {
            Some(report) => report.state.clone(),
            None if report.is_some() => "not in the running configuration: speil reload".to_owned(),
            None => "no daemon answers".to_owned(),
        };
        print(&format!("{:<wide$}  {word}\n", target.to_string()));
    }
    0
}

fn reported<'a>(report: &'a Report, sync: &str, target: &Target) -> Option<&'a TargetReport> {
    let sync = report.syncs.iter().find(|it| it.name == sync)?;
    sync.targets.iter().find(|it| it.target == target.to_string())
}
