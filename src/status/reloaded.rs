//! What came of reading the configuration again.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// What a new configuration did to a sync or a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It runs on.
    Unchanged,
    /// It was not there before.
    Started,
    /// It is configured otherwise, and was stopped and started.
    Restarted,
    /// It is not there any more.
    Stopped,
}

/// A sync of the old configuration or of the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadedSync {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// Its targets, of both configurations, by name.
    pub targets: Vec<ReloadedTarget>,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadedTarget {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: Change,
}

/// A sync's name, and those of its targets.
pub type Names = (String, Vec<String>);

/// Compares two configurations, of which each sync of the new one is unchanged or not; those that are gone come
/// last.
pub fn compare(mut old: Vec<Names>, new: Vec<(Names, bool)>) -> Vec<ReloadedSync> {
    let mut syncs: Vec<ReloadedSync> = Vec::new();
    for ((name, targets), same) in new {
        let at = old.iter().position(|(before, _)| *before == name);
        let before = at.map(|at| old.remove(at).1);
        let change = match (&before, same) {
            (_, true) => Change::Unchanged,
            (Some(_), false) => Change::Restarted,
            (None, false) => Change::Started,
        };
        let before = before.unwrap_or_default();
        let gone = before.iter().filter(|gone| !targets.contains(gone));
        let gone: Vec<String> = gone.cloned().collect();
        let there = targets.into_iter().map(|name| {
            let change = if before.contains(&name) || same { change } else { Change::Started };
            ReloadedTarget { name, change }
        });
        let gone = gone.into_iter().map(|name| ReloadedTarget { name, change: Change::Stopped });
        syncs.push(ReloadedSync { name, change, targets: there.chain(gone).collect() });
    }
    syncs.extend(old.into_iter().map(|(name, targets)| {
        let change = Change::Stopped;
        let targets = targets.into_iter().map(|name| ReloadedTarget { name, change }).collect();
        ReloadedSync { name, change, targets }
    }));
    syncs
}

/// Returns what changed, a line for each target, and for a sync that has none.
pub fn reloaded_text(syncs: &[ReloadedSync]) -> String {
    let mut out = String::new();
    let mut same = 0;
    for sync in syncs {
        if sync.change == Change::Unchanged {
            same += 1;
            continue;
        }
        // Writing to a string cannot fail.
        for target in &sync.targets {
            let _ = writeln!(out, "{} → {}: {}", sync.name, target.name, words(target.change));
        }
        if sync.targets.is_empty() {
            let _ = writeln!(out, "{}: {}", sync.name, words(sync.change));
        }
    }
    let same = crate::monitor::counted(same, "sync runs on", "syncs run on");
    let _ = writeln!(out, "configuration read again: {same} unchanged");
    out
}

fn words(change: Change) -> &'static str {
    match change {
        Change::Unchanged => "unchanged",
        Change::Started => "new, started",
        Change::Restarted => "changed, started anew",
        Change::Stopped => "removed, stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sync: &str, targets: &[&str]) -> Names {
        (sync.to_owned(), targets.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn each_target_is_told_of_that_does_not_run_on() {
        let old = vec![names("same", &["a"]), names("other", &["b", "c"]), names("gone", &["d"])];
        let new = vec![
            (names("same", &["a"]), true),
            (names("other", &["b", "e"]), false),
            (names("new", &["f"]), false),
        ];
        let told = reloaded_text(&compare(old, new));
        assert_eq!(
            told,
            "other → b: changed, started anew\nother → e: new, started\nother → c: removed, stopped\n\
             new → f: new, started\ngone → d: removed, stopped\n\
             configuration read again: 1 sync runs on unchanged\n"
        );
    }
}
