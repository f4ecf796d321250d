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
    /// It runs on, with other targets.
    Retargeted,
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

/// How much of a sync runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stays {
    /// All of it.
    Whole,
    /// The sync, and of its targets those that are named.
    But(Vec<String>),
    /// Nothing.
    Not,
}

/// Compares two configurations, of which each sync of the new one runs on or does not; those that are gone come last.
pub fn compare(mut old: Vec<Names>, new: Vec<(Names, Stays)>) -> Vec<ReloadedSync> {
    let mut syncs: Vec<ReloadedSync> = Vec::new();
    for ((name, targets), stays) in new {
        let at = old.iter().position(|(before, _)| *before == name);
        let before = at.map(|at| old.remove(at).1);
        let change = match (&before, &stays) {
            (_, Stays::Whole) => Change::Unchanged,
            (_, Stays::But(_)) => Change::Retargeted,
            (Some(_), Stays::Not) => Change::Restarted,
            (None, Stays::Not) => Change::Started,
        };
        let before = before.unwrap_or_default();
        let gone = before.iter().filter(|gone| !targets.contains(gone));
        let gone: Vec<String> = gone.cloned().collect();
        let there = targets.into_iter().map(|name| {
            let change = match &stays {
                Stays::Whole => Change::Unchanged,
                Stays::But(same) if same.contains(&name) => Change::Unchanged,
                _ if before.contains(&name) => Change::Restarted,
                _ => Change::Started,
            };
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
    let (mut same, mut others) = (0, 0);
    for sync in syncs {
        if sync.change == Change::Unchanged {
            same += 1;
            continue;
        }
        others += u64::from(sync.change == Change::Retargeted);
        // Writing to a string cannot fail.
        for target in sync.targets.iter().filter(|target| target.change != Change::Unchanged) {
            let _ = writeln!(out, "{} → {}: {}", sync.name, target.name, words(target.change));
        }
        if sync.targets.is_empty() {
            let _ = writeln!(out, "{}: {}", sync.name, words(sync.change));
        }
    }
    let counted = |count| crate::monitor::counted(count, "sync runs on", "syncs run on");
    let (same, others) = match (same, others) {
        (0, 1..) => (None, Some(counted(others))),
        _ => (Some(counted(same)), (others > 0).then(|| counted(others))),
    };
    let parts = [same.map(|same| same + " unchanged"), others.map(|others| others + " with other targets")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let _ = writeln!(out, "configuration read again: {}", parts.join(", "));
    out
}

fn words(change: Change) -> &'static str {
    match change {
        Change::Unchanged => "unchanged",
        Change::Retargeted => "runs on with other targets",
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
        let old = vec![
            names("same", &["a"]),
            names("other", &["b", "c"]),
            names("gone", &["d"]),
            names("more", &["g", "h", "j"]),
        ];
        let new = vec![
            (names("same", &["a"]), Stays::Whole),
            (names("other", &["b", "e"]), Stays::Not),
            (names("new", &["f"]), Stays::Not),
            (names("more", &["g", "h", "i"]), Stays::But(vec!["g".to_owned()])),
        ];
        let told = reloaded_text(&compare(old, new));
        assert_eq!(
            told,
            "other → b: changed, started anew\nother → e: new, started\nother → c: removed, stopped\n\
             new → f: new, started\nmore → h: changed, started anew\nmore → i: new, started\n\
             more → j: removed, stopped\ngone → d: removed, stopped\n\
             configuration read again: 1 sync runs on unchanged, 1 sync runs on with other targets\n"
        );
    }
}
