//! What somebody has begun to do with a tree: verbs that meet are done in the order in which they were given.

use super::generation::Id;

/// What is intended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// To make the tree primary.
    Promote,
    /// To make it a standby.
    Demote,
}

/// The last verb that was given, in `.speil/intent`, written under a lock of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Intent {
    /// Which one.
    pub verb: Verb,
    /// Counts the verbs of a tree.
    pub ticket: u64,
    /// The kernel's run in which it was given. What was intended before a reboot is not: who was to be promoted
    /// then may be stale by now, and whoever promotes asks anew.
    pub boot: Id,
    /// It was carried out, refused or overtaken.
    pub done: bool,
}

impl Intent {
    /// Returns what a verb writes when it begins.
    pub fn next(last: Option<&Self>, verb: Verb, boot: Id) -> Self {
        Self { verb, ticket: last.map_or(0, |last| last.ticket).saturating_add(1), boot, done: false }
    }

    /// Whether the verb with this ticket must give up at its commit point: a later one was given.
    pub fn overtakes(last: Option<&Self>, ticket: u64) -> bool {
        last.is_some_and(|last| last.ticket > ticket)
    }

    /// Whether a promotion is under way, or was left by a process that died: no session may change the tree, and a
    /// daemon begins it again.
    pub fn is_promoting(last: Option<&Self>, boot: Id) -> bool {
        last.is_some_and(|last| last.verb == Verb::Promote && !last.done && last.boot == boot)
    }

    /// Returns the content of its file.
    pub fn to_text(&self) -> String {
        let verb = match self.verb {
            Verb::Promote => "promote",
            Verb::Demote => "demote",
        };
        let done = if self.done { "done" } else { "open" };
        format!("speil intent 1\n{verb} {} {} {done}\n", self.ticket, self.boot)
    }

    /// Reads the content of its file; `None` if it makes no sense.
    pub fn from_text(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.strip_prefix("speil intent 1\n")?.split_whitespace().collect();
        let [verb, ticket, boot, done] = words[..] else { return None };
        let verb = match verb {
            "promote" => Verb::Promote,
            "demote" => Verb::Demote,
            _ => return None,
        };
        Some(Self { verb, ticket: ticket.parse().ok()?, boot: boot.parse().ok()?, done: done == "done" })
    }
}
