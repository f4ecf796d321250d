//! What would stop a mirror from working, and what to do about it.
//!
//! **Purpose:** [`examine`] tries out everything that a mirror needs, without mirroring.
//! **In → Out:** a [`Config`]; [`Finding`]s, each with its cure where something is wrong.
//! **Invariants:** nothing is changed but an agent that is brought to a target where that is allowed;
//! every wait has a limit; a broken target is told beside the others, not instead of them.
//! **Not here:** whether the configuration's text is right (`config`), how findings look (`cli`).

mod host;
mod judge;
mod sandbox;
mod source;
mod target;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::config::{Config, Sync};
use crate::transport::Uploads;
use source::Tree;
pub use target::prepared;

/// Version of the JSON that `speil doctor --json` prints.
pub const SCHEMA: u32 = 1;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is in the way.
    Fine,
    /// It works, but not as well as it could.
    Warning,
    /// It does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The sync; empty for the host as a whole.
    pub sync: String,
    /// The target; empty for the source's side.
    pub target: String,
    /// What was looked at, as one word.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, in one line.
    pub found: String,
    /// What to do about it.
    pub cure: Option<String>,
    /// The figures behind it; units are in their names.
    pub figures: BTreeMap<&'static str, i64>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            sync: String::new(),
            target: String::new(),
            check,
            verdict,
            found: found.into(),
            cure: None,
            figures: BTreeMap::new(),
        }
    }

    fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Fine, found)
    }

    fn warning(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..Self::new(check, Verdict::Warning, found) }
    }

    fn problem(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..Self::new(check, Verdict::Problem, found) }
    }

    fn figure(mut self, name: &'static str, value: impl TryInto<i64>) -> Self {
        self.figures.insert(name, value.try_into().unwrap_or(i64::MAX));
        self
    }

    fn about(mut self, sync: &str, target: &str) -> Self {
        (self.sync, self.target) = (sync.to_owned(), target.to_owned());
        self
    }
}

/// Where to look.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the kernel tells of itself: `/proc`.
    pub proc: PathBuf,
    /// What is asked before an agent is uploaded.
    pub uploads: Uploads,
}

impl Default for Options {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), uploads: Uploads::default() }
    }
}

/// Looks at this host, then at every sync of a configuration and its targets, these side by side. A
/// sync with an empty source has targets alone.
pub fn examine(config: &Config, options: &Options) -> Vec<Finding> {
    let named = |sync: &Sync| !sync.source.as_os_str().is_empty();
    let looks: Vec<_> = config.syncs.iter().map(|sync| named(sync).then(|| source::look(sync))).collect();
    let trees: Vec<Option<&Tree>> =
        looks.iter().map(|look| look.as_ref().and_then(|look| look.as_ref().ok())).collect();
    let watched: Vec<(&Sync, u64)> = config
        .syncs
        .iter()
        .zip(&trees)
        .filter_map(|(sync, tree)| tree.map(|tree| (sync, tree.dirs)))
        .collect();
    let mut findings = host::check(&options.proc, &watched);
    for ((sync, look), tree) in config.syncs.iter().zip(&looks).zip(trees) {
        let told = match look {
            None => Vec::new(),
            Some(Ok(tree)) => source::judge(sync, tree),
            Some(Err(finding)) => vec![(**finding).clone()],
        };
        let kept_out = sandbox::check(&options.proc, sync);
        findings.extend(told.into_iter().chain(kept_out).map(|finding| finding.about(&sync.name, "")));
        findings.extend(examine_targets(sync, tree, &options.uploads));
    }
    findings
}

fn examine_targets(sync: &Sync, tree: Option<&Tree>, uploads: &Uploads) -> Vec<Finding> {
    if let Some(hosts) = sync.hosts.as_ref().filter(|hosts| !hosts.may_lead) {
        let found =
            format!("{} has mayLead = false in hosts: it never sends, and no target is tried", hosts.here);
        return vec![Finding::fine("role", found).about(&sync.name, "")];
    }
    std::thread::scope(|scope| {
        let look = |one| (one, scope.spawn(move || target::check(sync, one, tree, uploads)));
        let looks: Vec<_> = sync.targets.iter().map(look).collect();
        let mut told = Vec::new();
        for (one, look) in looks {
            let found = look.join().unwrap_or_default();
            told.extend(found.into_iter().map(|finding| finding.about(&sync.name, &one.name)));
        }
        told
    })
}

/// Returns a number of bytes as people read it: `512 B`, `20.0 MiB`.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}
