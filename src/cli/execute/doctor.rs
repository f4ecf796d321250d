//! `speil doctor`: what would stop a mirror from working.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{complain, note, print, uploads};
use crate::cli::commands::Doctor;
use crate::cli::exit::Exit;
use crate::config::{self, Config, Sync, is_remote, name_targets, parse_target};
use crate::doctor::{self, Finding, Verdict};

/// What is looked at without an argument, if it exists.
const DEFAULT: &str = "/etc/speil/speil.lua";

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    problems: usize,
    warnings: usize,
    findings: &'a [Finding],
}

/// Looks and tells.
pub(super) fn run(it: &Doctor) -> u8 {
    let config = match gather(it) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let options = doctor::Options { proc: it.proc.clone(), uploads: uploads::told() };
    let findings = doctor::examine(&config, &options);
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
    if it.json {
        let report = Report { schema: doctor::SCHEMA, problems, warnings, findings: &findings };
        print(&(serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"));
    } else {
        print(&text(&config, &findings));
        print(&match (problems, warnings) {
            (0, 0) => "nothing is in the way\n".to_owned(),
            (problems, warnings) => format!("{problems} problems, {warnings} warnings\n"),
        });
    }
    if problems > 0 { Exit::Partial.code() } else { 0 }
}

/// Returns what is to be looked at, or the exit code.
fn gather(it: &Doctor) -> Result<Config, u8> {
    let mut config = Config::default();
    let mut targets = Vec::new();
    let default = PathBuf::from(DEFAULT);
    let fallback = it.what.is_empty() && it.source.is_none() && default.exists();
    for what in it.what.iter().chain(fallback.then_some(&default)) {
        use std::os::unix::ffi::OsStrExt;
        let bytes = what.as_os_str().as_bytes();
        if is_remote(bytes) || !is_configuration(what) {
            targets.push(parse_target(bytes).map_err(|error| {
                complain(&error, error.hint());
                Exit::Syntax.code()
            })?);
            continue;
        }
        let loaded = config::load(what).map_err(|error| {
            complain(&error, error.hint().as_deref());
            Exit::Syntax.code()
        })?;
        loaded.warnings.iter().for_each(|warning| note(&warning.to_string()));
        config.syncs.extend(loaded.config.syncs);
    }
    if !targets.is_empty() || it.source.is_some() {
        config.syncs.push(by_hand(it, targets)?);
    }
    Ok(config)
}

fn is_configuration(path: &Path) -> bool {
    let is_lua = |path: &Path| path.extension().is_some_and(|end| end == "lua");
    let holds_lua = |dir: std::fs::ReadDir| dir.flatten().any(|entry| is_lua(&entry.path()));
    path.is_file() || is_lua(path) || std::fs::read_dir(path).is_ok_and(holds_lua)
}

/// Returns the sync of targets that the command line names.
fn by_hand(it: &Doctor, mut targets: Vec<config::Target>) -> Result<Sync, u8> {
    name_targets(&mut targets);
    // Without a source nothing is walked.
    let source = it.source.clone().unwrap_or_default();
    let mut sync = Sync::new("", source, targets);
    super::reach::apply(&it.reach, &mut sync)?;
    Ok(sync)
}

fn text(config: &Config, findings: &[Finding]) -> String {
    let mut out = String::new();
    let mut heading = None;
    for finding in findings {
        let this = (finding.sync.as_str(), finding.target.as_str());
        if heading != Some(this) {
            heading = Some(this);
            out.push_str(&format!("{}\n", title(config, finding)));
        }
        let word = match finding.verdict {
            Verdict::Fine => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "PROBLEM",
        };
        out.push_str(&format!("  {word:<8} {:<10} {}\n", finding.check, finding.found));
        if let Some(cure) = &finding.cure {
            out.push_str(&format!("  {:<8} {:<10} → {cure}\n", "", ""));
        }
    }
    out
}

fn title(config: &Config, finding: &Finding) -> String {
    let is_host = finding.check == "inotify" || finding.check == "instances";
    let sync = config.syncs.iter().find(|sync| sync.name == finding.sync);
    match sync {
        Some(sync) if !finding.target.is_empty() => {
            let target = sync.targets.iter().find(|target| target.name == finding.target);
            let shown = target.map(ToString::to_string).unwrap_or_default();
            let name = if sync.name.is_empty() { String::new() } else { format!("{} → ", sync.name) };
            format!("{name}{} ({shown})", finding.target)
        }
        Some(sync) if !is_host => {
            let name = if sync.name.is_empty() { "source" } else { sync.name.as_str() };
            format!("{name} ({})", sync.source.display())
        }
        _ => "this host".to_owned(),
    }
}
