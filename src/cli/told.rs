//! Notices as lines.

use super::format::escape_name;
use crate::error::failure_text;
use crate::event::RescanReason;
use crate::monitor::{Notice, Scope, counted, sized};
use crate::tree::RelPath;

/// How much a notice matters.
pub(super) enum Told {
    /// Something is wrong; and what to do about it.
    Trouble(String, Option<String>),
    /// Something an operator wants to see go by.
    News(String),
    /// Something only a close look needs.
    Detail(String),
    /// Something that comes with every batch.
    Fine(String),
}

/// Says that the agent is uploaded.
pub(super) fn uploading(len: u64) -> String {
    format!("uploading the agent, {}", sized(len))
}

/// Returns a notice as one line.
pub(super) fn line(scope: &Scope, notice: &Notice, live: bool) -> Told {
    let trouble =
        |text: String, hint: Option<&String>| Told::Trouble(format!("{scope}: {text}"), hint.cloned());
    match notice {
        Notice::Connected { program, lacks, confined } if lacks.is_empty() => {
            Told::Detail(format!("{scope}: connected, agent {program}, {confined}"))
        }
        Notice::Connected { lacks, .. } => {
            Told::News(format!("{scope}: the target cannot hold {}; mirrored without", lacks.join(", ")))
        }
        Notice::Uploads { len } => Told::News(format!("{scope}: {}", uploading(*len))),
        Notice::Disconnected { error, hint, retry, attempt } => {
            let next =
                retry.map(|retry| format!("; retry {attempt} in {:.0} s", retry.as_secs_f64().max(1.0)));
            trouble(format!("{error}{}", next.unwrap_or_default()), hint.as_ref())
        }
        Notice::Live => Told::News(format!("{scope}: live")),
        Notice::PassBegan { top, reason } => {
            Told::Detail(format!("{scope}: comparing {top} ({})", reason.word()))
        }
        Notice::PassDone { top, reason, summary } => {
            let text = format!(
                "{scope}: compared {} below {top} in {:.2} s ({}): {} differ, {} to delete",
                counted(summary.entries, "entry", "entries"),
                summary.elapsed.as_secs_f64(),
                reason.word(),
                summary.different,
                summary.deletes
            );
            if *reason == RescanReason::Start { Told::News(text) } else { Told::Detail(text) }
        }
        Notice::Problem { path, operation, errno, on_target } => {
            let side = if *on_target { "" } else { "source: " };
            let next = if live { "; tried again" } else { "; skipped" };
            trouble(format!("{side}{operation} {path}: {}{next}", failure_text(operation, *errno)), None)
        }
        Notice::Held { count, reason, first } => {
            let hint = if live { approve_hint(*count, first) } else { allow_hint(reason).to_owned() };
            trouble(format!("{} held: {reason}", counted(*count, "delete", "deletes")), Some(&hint))
        }
        Notice::Stays { path } if live => {
            Told::Detail(format!("{scope}: cannot delete non-empty directory: {path}"))
        }
        Notice::Stays { path } => {
            let name = escape_name(path.as_bytes(), false);
            Told::News(format!("cannot delete non-empty directory: {}", String::from_utf8_lossy(&name)))
        }
        Notice::Kept { count } => trouble(
            format!(
                "{} on the target, kept in .speil/strangers for 30 days",
                counted(*count, "entry was written by someone else", "entries were written by someone else")
            ),
            None,
        ),
        Notice::SetAside { path } => trouble(
            format!("{path} was written on the target by someone else; kept in .speil/strangers"),
            None,
        ),
        Notice::Rescan { path, reason } => {
            Told::Detail(format!("{scope}: rescan of {path} ({})", reason.word()))
        }
        Notice::Batch { batch, changes } => Told::Fine(format!(
            "{scope}: batch {batch} acknowledged, {}",
            counted(*changes, "change", "changes")
        )),
        Notice::Paused { on } => Told::News(format!("{scope}: {}", if *on { "paused" } else { "resumed" })),
        Notice::Role { new, generation, .. } => Told::News(format!("{scope}: {}", rank(new, *generation))),
        Notice::Message { text } => Told::News(format!("{scope}: {text}")),
        Notice::Detail { text } => Told::Detail(format!("{scope}: {text}")),
        Notice::Warning { text, hint } => trouble(text.clone(), hint.as_ref()),
    }
}

fn rank(role: &str, generation: u64) -> String {
    match role {
        "none" => "the tree has no role any more".to_owned(),
        _ => format!("the tree is {role}, generation {generation}"),
    }
}

/// Says which option lets a single pass delete what was held. With `--max-delete` there is no guard that could be
/// switched off.
fn allow_hint(reason: &str) -> &'static str {
    if reason.ends_with("maxDelete allows") {
        "a higher --max-delete=N deletes more; without the option the delete guard judges them"
    } else {
        "--no-delete-guard or --max-delete=N allows it"
    }
}

/// Says what an approval would do, and to what.
fn approve_hint(count: u64, first: &[RelPath]) -> String {
    let more = count.saturating_sub(first.len() as u64);
    let mut paths = first.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if more > 0 {
        paths.push_str(&format!(" and {more} more"));
    }
    format!(
        "look at them first: speil approve carries out the held deletes, and {paths} are removed from the target \
         (what speil did not write there is kept in .speil/strangers for 30 days); speil discard dismisses them: \
         the files stay until the next pass finds and judges them again"
    )
}
