//! What may be typed, and how it is told.

use super::names::HostName;

/// What somebody who promotes takes upon himself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Force {
    /// Nothing.
    No,
    /// `--force`: what another host may hold becomes another truth.
    Yes,
    /// `--force=half`: besides, a tree in the middle of an adoption becomes the truth.
    Half,
}

/// What another host has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Nothing: it cannot be reached.
    Silent,
    /// Its tree has no role.
    Plain,
    /// Its tree has one, and a generation of this number; 0 for none yet.
    Role(u64),
}

/// What may be typed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// `speil promote`, with or without force.
    Promote(Force),
    /// `speil demote`.
    Demote,
    /// `speil rejoin HOST`.
    Rejoin(HostName),
    /// One of these, on that host.
    On(HostName, Box<Self>),
}

/// A command, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy(pub Command, pub &'static str);

/// Where a message is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// What the verbs name: a sync, or `--root DIR`, as it must be typed.
    pub tree: String,
    /// The same on the other host, if that may be another.
    pub there: Option<String>,
}

/// A message: one line, and what may be typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What is the state, and what was not done.
    pub line: String,
    /// What may be typed, the mildest first.
    pub ways: Vec<Remedy>,
}

impl Told {
    /// Returns the hint: what may be typed here, and what it does.
    pub fn hint(&self, here: &Here) -> Option<String> {
        let ways: Vec<_> =
            self.ways.iter().map(|Remedy(way, does)| format!("{} {does}", here.types(way))).collect();
        (!ways.is_empty()).then(|| ways.join("; "))
    }
}

impl Here {
    /// Returns where a message about this tree is read.
    pub fn of(tree: String) -> Self {
        Self { tree, there: None }
    }

    /// The same for a tree that is named by its path.
    pub fn root(path: &str) -> Self {
        Self::of(format!("--root {}", word(path)))
    }

    /// Returns a command as it must be typed.
    pub fn types(&self, command: &Command) -> String {
        let tree = &self.tree;
        match command {
            Command::Promote(Force::No) => format!("`speil promote {tree}` here"),
            Command::Promote(Force::Yes) => format!("`speil promote --force {tree}` here"),
            Command::Promote(Force::Half) => format!("`speil promote --force=half {tree}` here"),
            Command::Demote => format!("`speil demote {tree}` here"),
            Command::Rejoin(host) => format!("`speil rejoin {tree} {host}` here"),
            Command::On(host, command) => {
                let there = Self::of(self.there.as_ref().unwrap_or(tree).clone());
                format!("{} on {host}", there.types(command).trim_end_matches(" here"))
            }
        }
    }
}

/// Returns a path as a shell takes it for one word.
fn word(path: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:,@%=".contains(c);
    if path.chars().all(is_plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}
