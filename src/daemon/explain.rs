//! Why a path is, or is not, on the targets, as far as a running pipeline knows.

use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use super::pipeline::Pipeline;
use super::target::RunningTarget;
use crate::config::{Sync, deciding};
use crate::disk::{Root, read_entry};
use crate::error::io_text;
use crate::sender::TargetState;
use crate::status::{self, Answer, Explained, Explanation, Rule};
use crate::tree::{Kind, Mask, RelPath, quote};

/// Answers what is known of a path: below the source, or absolute.
pub(super) fn explain(pipeline: &Pipeline, path: &[u8]) -> Answer {
    let path = match below(&pipeline.sync, path) {
        Ok(path) => path,
        Err(error) => return Answer::Failed { error, code: 1 },
    };
    let mut told = of_source(&pipeline.sync, &path);
    told.live = true;
    told.event = pipeline
        .heard
        .of(&path)
        .map(|(what, at)| status::EventSeen { what: what.to_owned(), ago_s: ago(at) });
    told.unheard = pipeline.unheard(&path);
    if told.left_out.is_none() {
        told.targets = pipeline.targets.iter().map(|running| on_target(pipeline, running, &path)).collect();
    }
    Answer::Explained(Box::new(told))
}

/// Returns what a configuration and the source alone tell of a path.
///
/// # Errors
/// One line, for a path that is not below the source.
pub fn explain_rules(sync: &Sync, path: &[u8]) -> Result<Explanation, String> {
    Ok(of_source(sync, &below(sync, path)?))
}

fn below(sync: &Sync, path: &[u8]) -> Result<RelPath, String> {
    let source = sync.source.as_os_str().as_bytes();
    let inner = match path {
        [b'/', ..] => {
            let inner = path.strip_prefix(source.strip_suffix(b"/").unwrap_or(source));
            let inner = inner.filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
            inner.ok_or_else(|| format!("{} is not below the source {}", quote(path), quote(source)))?
        }
        relative => relative.strip_prefix(b"./").unwrap_or(relative),
    };
    let inner: &[u8] = if inner == b"." { b"" } else { inner };
    let trimmed: Vec<u8> =
        inner.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'/');
    RelPath::new(trimmed).map_err(|error| error.to_string())
}

fn of_source(sync: &Sync, path: &RelPath) -> Explanation {
    let looked = look(sync, path);
    let kind = looked.as_ref().ok().copied().flatten().map(|(kind, _)| kind);
    let rule = deciding(sync, path, kind == Some(Kind::Dir));
    let excluded = rule.as_ref().filter(|rule| rule.excludes);
    let left_out = if crate::scan::is_own(path) {
        Some("it is one of speil's own names".to_owned())
    } else if let Some(rule) = excluded {
        let what = if rule.matches == *path { "it".to_owned() } else { rule.matches.to_string() };
        Some(format!("the filter rule {} keeps {what} out", rule.rule))
    } else {
        let dropped = kind.filter(|&kind| !sync.mask.carries(kind));
        dropped.map(|kind| format!("this sync does not keep a {}", kind.noun()))
    };
    Explanation {
        sync: sync.name.clone(),
        path: path.to_string(),
        source: match looked {
            Ok(None) => None,
            Ok(Some((Kind::File, size))) => Some(format!("a file of {size} bytes")),
            Ok(Some((kind, _))) => Some(format!("a {}", kind.noun())),
            Err(error) => Some(format!("cannot be looked at: {error}")),
        },
        left_out,
        rule: rule.map(|rule| Rule {
            rule: rule.rule,
            excludes: rule.excludes,
            matches: rule.matches.to_string(),
            origin: rule.origin,
        }),
        ..Explanation::default()
    }
}

fn look(sync: &Sync, path: &RelPath) -> Result<Option<(Kind, u64)>, String> {
    use std::os::fd::AsFd;
    let absence = |error: &std::io::Error| {
        matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
    };
    let read = || {
        let root = Root::open(&sync.source)?;
        if path.is_root() {
            return read_entry(root.as_fd(), b"", &Mask::nothing());
        }
        let parent = root.parent(path)?;
        read_entry(parent.fd.as_fd(), parent.name, &Mask::nothing())
    };
    match read() {
        Ok(entry) => Ok(entry.map(|entry| (entry.attrs.meta.kind, entry.attrs.meta.size))),
        Err(error) if absence(&error) => Ok(None),
        Err(error) => Err(io_text(&error)),
    }
}

fn on_target(pipeline: &Pipeline, running: &RunningTarget, path: &RelPath) -> Explained {
    let state = if running.mailbox.is_paused() { TargetState::Paused } else { running.status.state().0 };
    if state == TargetState::Standby {
        let leads = || pipeline.led_by().map(|leader| format!("its changes come from {leader}"));
        let error = running.status.error().or_else(leads);
        let name = running.target.name.clone();
        return Explained { name, state: "standby".to_owned(), error, ..Explained::default() };
    }
    let word = serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned));
    Explained {
        name: running.target.name.clone(),
        state: word.unwrap_or_default(),
        error: running.status.error(),
        waiting: running.mailbox.holds(path),
        held: running.held.reason_for(path),
        batch: running.status.deed(path).map(|deed| status::Batch {
            number: deed.batch,
            what: deed.what.to_owned(),
            ago_s: ago(deed.at),
        }),
        problem: running
            .status
            .problem_of(path)
            .map(|(path, problem)| super::report::problem(&path, problem)),
        last_pass_s: running.status.last_pass().map(|(at, _)| ago(at)),
    }
}

fn ago(at: SystemTime) -> u64 {
    SystemTime::now().duration_since(at).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_below_the_source_however_it_is_written() {
        let sync = Sync::new("www", "/srv/www", Vec::new());
        for text in ["a/b", "./a/b", "/srv/www/a/b", "/srv/www//a/b/"] {
            assert_eq!(below(&sync, text.as_bytes()).unwrap().as_bytes(), b"a/b", "{text}");
        }
        assert!(below(&sync, b"/srv/www2/a").is_err());
        assert!(below(&sync, b"../etc").is_err());
        assert!(below(&sync, b"/srv/www").unwrap().is_root());
    }
}
