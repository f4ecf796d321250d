//! Why a path is, or is not, on the targets.
//!
//! **In → out:** what a daemon, or a configuration alone, knows of one path → lines for people.

use serde::{Deserialize, Serialize};

use super::ProblemReport;

/// What is known of one path.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The sync.
    pub sync: String,
    /// The path below the source, quoted.
    pub path: String,
    /// What the source holds there now, in words; `None` if nothing.
    pub source: Option<String>,
    /// Why it is no part of the mirror, if it is none.
    pub left_out: Option<String>,
    /// The filter rule that decides.
    pub rule: Option<Rule>,
    /// Whether a daemon answered: without one, what follows is empty.
    pub live: bool,
    /// The last event that was heard of it.
    pub event: Option<EventSeen>,
    /// What keeps events of it from being heard.
    pub unheard: Option<String>,
    /// Each target.
    pub targets: Vec<Explained>,
}

/// A filter rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// As rsync writes it, quoted.
    pub rule: String,
    /// Whether it keeps the path out.
    pub excludes: bool,
    /// What it matches, quoted: the path or a directory above it.
    pub matches: String,
    /// Where it was written.
    pub origin: Option<String>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventSeen {
    /// What it was.
    pub what: String,
    /// Seconds ago.
    pub ago_s: u64,
}

/// A path on one target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// The target.
    pub name: String,
    /// Its state, as in the report.
    pub state: String,
    /// Why there is no connection.
    pub error: Option<String>,
    /// Whether a change of it waits.
    pub waiting: bool,
    /// Why its delete is held.
    pub held: Option<String>,
    /// The last batch that brought it.
    pub batch: Option<Batch>,
    /// Why it fails; its own path or a directory above it.
    pub problem: Option<ProblemReport>,
    /// Seconds since the last pass over the whole tree ended.
    pub last_pass_s: Option<u64>,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Its number in its session.
    pub number: u64,
    /// What it did to the path.
    pub what: String,
    /// Seconds ago.
    pub ago_s: u64,
}

impl Explanation {
    /// Returns the lines for people: the answer first, then what it rests on.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("{} {}: {}", self.sync, self.path, self.answer())];
        lines.push(match &self.source {
            Some(what) => format!("  source     {what}"),
            None => "  source     nothing of this name".to_owned(),
        });
        if let Some(rule) = &self.rule {
            let does = if rule.excludes { "keeps out" } else { "takes in" };
            let origin = rule.origin.as_deref().map(|at| format!(", written at {at}")).unwrap_or_default();
            lines.push(format!("  filter     {} {does} {}{origin}", rule.rule, rule.matches));
        } else {
            lines.push("  filter     no rule matches it".to_owned());
        }
        if self.live {
            lines.push(match &self.event {
                Some(event) => format!("  event      {}, {} s ago", event.what, event.ago_s),
                None => "  event      none among the latest".to_owned(),
            });
        }
        lines.extend(self.unheard.iter().map(|text| format!("  watch      {text}")));
        for target in &self.targets {
            lines.push(format!("  {:<10} {}", target.name, target.text()));
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Returns the answer in a clause.
    fn answer(&self) -> String {
        if let Some(why) = &self.left_out {
            return format!("no part of the mirror: {why}");
        }
        if !self.live {
            return "part of the mirror, according to the configuration".to_owned();
        }
        let behind: Vec<&str> = self
            .targets
            .iter()
            .filter(|target| target.is_behind())
            .map(|target| target.name.as_str())
            .collect();
        let state = if self.source.is_some() { "mirrored" } else { "gone from the source" };
        match behind.as_slice() {
            [] if self.targets.iter().any(|target| target.is_standby()) => {
                let there = if self.source.is_some() { "held" } else { "of no file" };
                format!("{there} on this host, which is a standby and sends nothing")
            }
            [] => format!("{state}; nothing of it is due on any target"),
            names => format!("{state}; not in step on {}", names.join(", ")),
        }
    }
}

impl Explained {
    /// Whether this host is a standby: it owes nobody anything.
    fn is_standby(&self) -> bool {
        self.state == "standby"
    }

    fn is_behind(&self) -> bool {
        if self.is_standby() {
            return false;
        }
        self.problem.is_some() || self.waiting || self.held.is_some() || self.state != "live"
    }

    fn text(&self) -> String {
        let mut parts = Vec::new();
        if self.is_standby() {
            parts.push("nothing is sent to it".to_owned());
            parts.extend(self.error.clone());
            return parts.join("; ");
        }
        if let Some(problem) = &self.problem {
            parts.push(format!(
                "{} {} fails: {}; tried {} times, again in {} s",
                problem.operation,
                problem.path,
                problem.error,
                problem.attempts,
                problem.retry_ms / 1000
            ));
        }
        if let Some(reason) = &self.held {
            parts.push(format!("its delete is held: {reason}; speil approve carries it out"));
        }
        if self.waiting {
            parts.push("a change of it waits to be sent".to_owned());
        }
        if let Some(batch) = &self.batch {
            parts.push(format!("{} in batch {}, {} s ago", batch.what, batch.number, batch.ago_s));
        }
        if self.state != "live" {
            let why = self.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            parts.push(format!("the target is {}{why}", self.state.replace('_', " ")));
        }
        if let Some(ago) = self.last_pass_s.filter(|_| self.batch.is_none()) {
            parts.push(format!("compared {ago} s ago"));
        }
        if parts.is_empty() { "nothing is known of it yet".to_owned() } else { parts.join("; ") }
    }
}
