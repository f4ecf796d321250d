//! `speil check` of a configuration in lsyncd's language.

use std::path::Path;

use super::{complain_text, note, print};
use crate::action::{Planned, plan};
use crate::cli::commands::Check;
use crate::cli::exit::Exit;
use crate::config::{
    self, Engine, LsyncdOptions, LsyncdSync, Native, explain, load_lsyncd, lsyncd_risks, risks,
};

/// Words that stand in lsyncd's configurations and in no other.
const WORDS: [&str; 10] = [
    "default.rsync",
    "default.direct",
    "onCreate",
    "onModify",
    "onDelete",
    "onMove",
    "onStartup",
    "onAttrib",
    "action =",
    "action=",
];

/// Whether a file is written for lsyncd, as far as its words tell.
pub(super) fn is_lsyncds(file: &Path) -> bool {
    let Ok(text) = std::fs::read(file) else { return false };
    let text = String::from_utf8_lossy(&text);
    !text.contains("default.mirror")
        && (WORDS.iter().any(|word| text.contains(word)) || text.contains("action"))
}

/// Whether a file is written for speil.
pub(super) fn is_speils(file: &Path) -> bool {
    std::fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains("default.mirror"))
}

/// Prints what each sync comes to, or with `--diff` what lsyncd would run beside it.
pub(super) fn run(check: &Check) -> u8 {
    let options = LsyncdOptions { file: Some(check.config.clone()), ..LsyncdOptions::default() };
    let loaded = match load_lsyncd(&options) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain_text(&error.to_string(), None);
            return Exit::Syntax.code();
        }
    };
    loaded.warnings.iter().for_each(|warning| note(warning));
    let show = if check.diff { diff } else { block };
    let blocks: Vec<String> = loaded.syncs.iter().map(|sync| show(sync).join("\n") + "\n").collect();
    print(&blocks.join("\n"));
    0
}

/// Returns a text without control characters.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

fn heading(sync: &LsyncdSync) -> String {
    let target = sync.target.as_deref().map_or_else(|| "no target".to_owned(), shown);
    format!("{}: {} to {target}", sync.name, shown(&sync.source))
}

/// Says which engine carries a sync over, and why; with the mirror that it then is.
fn engine(sync: &LsyncdSync) -> (String, Option<&Native>) {
    let host = |native: &Native| native.sync.targets.iter().find_map(|target| target.host.clone());
    match (sync.engine, &sync.native) {
        _ if !sync.layer => ("runs its own commands and functions".to_owned(), None),
        (Engine::Rsync, _) => ("rsync, as configured".to_owned(), None),
        (_, Err(why)) => (format!("rsync: {why}"), None),
        (Engine::Native, Ok(native)) => ("native, as configured".to_owned(), Some(native)),
        (Engine::Auto, Ok(native)) => match host(native) {
            None => ("native: every option maps, and the target is on this host".to_owned(), Some(native)),
            Some(host) => (
                format!("native, as every option maps, where speil is in the PATH at {host}; else rsync"),
                Some(native),
            ),
        },
    }
}

/// Whether rsync may carry a sync over.
fn may_use_rsync(sync: &LsyncdSync, native: Option<&Native>) -> bool {
    let remote = |native: &Native| native.sync.targets.iter().any(|target| target.host.is_some());
    native.is_none_or(|native| sync.engine == Engine::Auto && remote(native))
}

/// Returns what one sync does and what is risky about it, a line each.
fn block(sync: &LsyncdSync) -> Vec<String> {
    let (why, native) = engine(sync);
    let mut lines = vec![heading(sync), format!("  engine {why}")];
    if let Some(native) = native {
        lines.push("  natively:".to_owned());
        lines.extend(explain(&native.sync).into_iter().skip(1).map(|line| format!("  {line}")));
        lines.extend(native.notes.iter().map(|note| format!("    {note}")));
        let found = risks(&native.sync, &|path| path.exists());
        lines.extend(found.into_iter().map(|risk| format!("    warning: {risk}")));
    }
    if may_use_rsync(sync, native) {
        lines.push(if sync.layer { "  with rsync:" } else { "  as lsyncd:" }.to_owned());
        lines.push(format!("    {}", timing(sync)));
        lines.extend(lsyncd_risks(sync).into_iter().map(|risk| format!("    warning: {risk}")));
    }
    lines
}

fn timing(sync: &LsyncdSync) -> String {
    let after = sync.delay.map_or_else(
        || "at once".to_owned(),
        |delay| {
            format!("when the oldest change is {} s old, or {} wait", delay.as_secs_f64(), sync.delays_max)
        },
    );
    let deletes = match (sync.delete.startup, sync.delete.running) {
        _ if !sync.layer => "",
        (true, true) => "; deletes what the source lacks",
        (true, false) => "; deletes in the first pass only",
        (false, true) => "; deletes what is deleted while it runs",
        (false, false) => "; deletes nothing",
    };
    format!("acts {after}, with at most {} children{deletes}", sync.processes_max)
}

fn command(planned: &Planned) -> Vec<String> {
    let words: Vec<String> = planned.words.iter().map(|word| quoted(word)).collect();
    let mut lines = vec![format!("    lsyncd, {}: {}", planned.when, words.join(" "))];
    if !planned.input.is_empty() {
        let read: Vec<String> = planned.input.iter().map(|line| shown(line)).collect();
        lines.push(format!("      reads: {}", read.join("  ")));
    }
    lines
}

/// Returns a word as a shell would need it.
fn quoted(word: &[u8]) -> String {
    crate::tree::shell_word(&shown(word))
}

/// Returns what lsyncd would run beside what speil will do.
fn diff(sync: &LsyncdSync) -> Vec<String> {
    let (why, native) = engine(sync);
    let mut lines = vec![heading(sync), format!("  engine {why}")];
    for planned in plan(sync) {
        lines.extend(command(&planned));
        lines.extend(
            native.map(|native| format!("    speil, {}: {}", planned.when, natively(planned.when, native))),
        );
        if may_use_rsync(sync, native) {
            let or = if native.is_some() { "or " } else { "" };
            lines.push(format!("    speil, {}: {or}the same", planned.when));
        }
    }
    lines
}

/// Says what the pipeline does where lsyncd would run a command.
fn natively(when: &str, native: &Native) -> String {
    let delete = native.sync.delete;
    let compares = match native.sync.reconcile.verify {
        config::Verify::Quick | config::Verify::Stamps => "sizes, times and metadata",
        config::Verify::Checksum => "all contents",
    };
    match when {
        "first pass" if delete.in_passes() => {
            format!("compares {compares} by digests, sends what differs, then deletes")
        }
        "first pass" => format!("compares {compares} by digests, sends what differs, deletes nothing"),
        "a move" | "move" if native.sync.moves => "renames on the target".to_owned(),
        "a move" | "move" => "sends the new name, the old one stays".to_owned(),
        "delete" | "a change" if when == "delete" && delete.live() => {
            "deletes, if the source still lacks it and the target has what is expected".to_owned()
        }
        "delete" => "nothing".to_owned(),
        _ => "sends what changed of the file into a temporary name, verifies it, renames it into place"
            .to_owned(),
    }
}
