//! What a tree would lose to another one if it followed that one: a comparison that changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::config::{Guard, Sync, Target};
use crate::daemon::{OnceOptions, once};
use crate::monitor::{Itemized, Monitor, Notice, Scope, counted, sized};
use crate::tree::{Entry, Kind, RelPath, quote};

/// How many paths are named.
const FIRST: usize = 10;

/// What differs between a tree and the one that it would follow.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// What this tree alone holds, or holds otherwise: it would be kept aside.
    pub kept: u64,
    /// Bytes of the files among it.
    pub kept_bytes: u64,
    /// The first of the paths.
    pub first: Vec<String>,
    /// Entries that would come from the other tree.
    pub comes: u64,
    /// Why the comparison is not complete.
    pub errors: Vec<String>,
}

/// Hears what a pass from this tree to the other one would send and delete.
#[derive(Default)]
struct Planner(Mutex<Plan>);

impl Planner {
    fn plan(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Plan {
    /// Compares a tree with the one of a target.
    pub fn of(sync: &Sync, target: &Target) -> Self {
        let sync = Sync {
            targets: vec![target.clone()],
            // Each delete there is an entry that comes here.
            guard: Guard { enabled: false, ..Guard::default() },
            ..sync.clone()
        };
        let planner = Arc::new(Planner::default());
        let monitor: Arc<dyn Monitor> = Arc::clone(&planner) as Arc<dyn Monitor>;
        let report = once(&sync, OnceOptions { dry_run: true, ..OnceOptions::default() }, &monitor, |_| {});
        let mut plan = std::mem::take(&mut *planner.0.lock().unwrap_or_else(PoisonError::into_inner));
        match report {
            Err(error) => plan.errors.push(error.to_string()),
            Ok(report) => {
                plan.errors
                    .extend(report.targets.into_iter().filter_map(|it| it.error).map(|it| it.to_string()));
            }
        }
        plan
    }

    fn keep(&mut self, path: &RelPath, bytes: u64) {
        self.kept += 1;
        self.kept_bytes += bytes;
        if self.first.len() < FIRST {
            self.first.push(quote(path.as_bytes()).trim_matches('"').to_owned());
        }
    }

    /// Returns the lines that are printed.
    pub fn text(&self, leader: &str) -> String {
        let count = |n| counted(n, "entry", "entries");
        let mut text = match self.kept {
            0 => "nothing would be kept aside\n".to_owned(),
            n => format!("{} would be kept aside, {}:\n", count(n), sized(self.kept_bytes)),
        };
        self.first.iter().for_each(|path| text.push_str(&format!("  {path}\n")));
        match self.kept.saturating_sub(self.first.len() as u64) {
            0 => {}
            more => text.push_str(&format!("  and {more} more\n")),
        }
        text.push_str(&format!("{} would come from {leader}\n", count(self.comes)));
        text
    }

    /// Returns it for scripts.
    pub fn json(&self) -> Value {
        json!({
            "kept": self.kept, "kept_bytes": self.kept_bytes, "first": self.first, "comes": self.comes,
            "complete": self.errors.is_empty(),
        })
    }
}

fn bytes_of(entry: &Entry) -> u64 {
    if entry.attrs.meta.kind == Kind::File { entry.attrs.meta.size } else { 0 }
}

impl Monitor for Planner {
    fn notice(&self, _: &Scope, notice: &Notice) {
        if let Notice::Problem { path, operation, errno, .. } = notice {
            let error = crate::error::io_text(&std::io::Error::from_raw_os_error(*errno));
            self.plan(|plan| plan.errors.push(format!("{operation} {path}: {error}")));
        }
    }

    fn itemized(&self, _: &Scope, entry: &Itemized) {
        self.plan(|plan| match entry {
            Itemized::Changed { path, new, created: true, .. } => plan.keep(path, bytes_of(new)),
            Itemized::Changed { path, new, content: true, .. } => {
                plan.keep(path, bytes_of(new));
                plan.comes += 1;
            }
            // Attributes alone: the other tree's replace them, and nothing is kept.
            Itemized::Changed { .. }
            | Itemized::Borrowed { .. }
            | Itemized::Same { .. }
            | Itemized::Listed { .. } => {}
            Itemized::Linked { path, .. } => plan.keep(path, 0),
            Itemized::Deleted { .. } => plan.comes += 1,
            Itemized::Renamed { to, .. } => {
                plan.keep(to, 0);
                plan.comes += 1;
            }
        });
    }

    fn itemizes(&self) -> bool {
        true
    }
}
