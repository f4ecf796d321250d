//! How a promotion and the agent of the session from the primary speak with each other: `.speil/handover` is what the
//! promotion asks for, `.speil/handed` what has become of it.
//!
//! **Invariants:** both name the ticket of the promotion, so that what an earlier one has left says nothing; neither
//! decides about a role.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::{RoleFile, RoleFileError};
use crate::role::HostName;

const ASKED: &str = "handover";
const ASKED_NEW: &str = "handover.new";
const HANDED: &str = "handed";
const HANDED_NEW: &str = "handed.new";
/// Most bytes of either that are read.
const LEN_MAX: u64 = 8192;

/// What a promotion asks of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsksHandOver {
    /// The promotion.
    pub ticket: u64,
    /// How long it waits.
    pub limit: Duration,
    /// What is to be verified need not be.
    pub leaves_doubts: bool,
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// The primary has been asked.
    Asked(HostName),
    /// It sends what is left; so many files, and bytes, are to be verified first.
    Under(HostName, u64, u64),
    /// It goes on leading: why, and what may be typed.
    Refused(HostName, String, String),
    /// It leads no more, and everything that it had is here.
    Done(HostName),
}

impl RoleFile {
    /// Asks for a hand-over.
    ///
    /// # Errors
    /// If that cannot be written; then there is none.
    pub fn ask_hand_over(&self, asks: &AsksHandOver) -> Result<(), RoleFileError> {
        let (ticket, limit) = (asks.ticket, asks.limit.as_millis());
        let doubts = if asks.leaves_doubts { "leaves" } else { "verifies" };
        self.replace((ASKED, ASKED_NEW), format!("{ticket} {limit} {doubts}\n").as_bytes())
    }

    /// Returns what a promotion asks for that is at work now.
    pub fn asks_hand_over(&self) -> Option<AsksHandOver> {
        let text = self.read_small(ASKED)?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let [ticket, limit, doubts] = words[..] else { return None };
        let limit = Duration::from_millis(limit.parse().ok()?);
        let asks = AsksHandOver { ticket: ticket.parse().ok()?, limit, leaves_doubts: doubts == "leaves" };
        // Nobody waits for it where the promotion was killed, or another verb was typed behind it.
        let waits = self.is_promoting().unwrap_or(false) && self.ticket() == Some(asks.ticket);
        waits.then_some(asks)
    }

    /// Says what has become of what a promotion asks for.
    ///
    /// # Errors
    /// If that cannot be written; the promotion then waits for as long as it does for a primary that is silent.
    pub fn hand(&self, ticket: u64, handed: &Handed) -> Result<(), RoleFileError> {
        let line = |text: &str| text.replace(char::is_control, " ");
        let text = match handed {
            Handed::Asked(host) => format!("{ticket} asked {host}\n"),
            Handed::Under(host, files, bytes) => format!("{ticket} under {host} {files} {bytes}\n"),
            Handed::Refused(host, why, hint) => {
                format!("{ticket} refused {host}\n{}\n{}\n", line(why), line(hint))
            }
            Handed::Done(host) => format!("{ticket} done {host}\n"),
        };
        self.replace((HANDED, HANDED_NEW), text.as_bytes())
    }

    /// Returns what has become of what the promotion with this ticket asks for; `None` if nothing has yet.
    pub fn handed(&self, ticket: u64) -> Option<Handed> {
        let text = self.read_small(HANDED)?;
        let mut lines = text.lines();
        let words: Vec<&str> = lines.next()?.split(' ').collect();
        let (of, rest) = words.split_first()?;
        if of.parse() != Ok(ticket) {
            return None;
        }
        Some(match *rest {
            ["asked", host] => Handed::Asked(HostName::new(host)),
            ["under", host, files, bytes] => {
                Handed::Under(HostName::new(host), files.parse().ok()?, bytes.parse().ok()?)
            }
            ["refused", host] => {
                let mut next = || lines.next().unwrap_or_default().to_owned();
                Handed::Refused(HostName::new(host), next(), next())
            }
            ["done", host] => Handed::Done(HostName::new(host)),
            _ => return None,
        })
    }

    /// Forgets what was asked for, and what became of it.
    pub fn forget_hand_over(&self) {
        for name in [ASKED, HANDED] {
            // What is left names a ticket that is over.
            let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
        }
    }

    fn read_small(&self, name: &str) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::empty()).ok()?;
        let mut text = String::new();
        File::from(file).take(LEN_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Verb;

    #[test]
    fn what_a_promotion_asks_for_counts_while_it_is_at_work_and_an_answer_for_its_ticket_alone() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            RoleFile::make(rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap()).unwrap()
        };
        let (file, agent) = (open(), open());
        let turn = file.take_turn(Verb::Promote, Duration::ZERO).unwrap();
        let asks =
            AsksHandOver { ticket: turn.ticket(), limit: Duration::from_secs(5), leaves_doubts: false };
        file.ask_hand_over(&asks).unwrap();
        assert_eq!(agent.asks_hand_over(), Some(asks));
        let oslo = HostName::new("oslo");
        for handed in [
            Handed::Asked(oslo.clone()),
            Handed::Under(oslo.clone(), 3, 99),
            Handed::Refused(oslo.clone(), "too\nearly".to_owned(), String::new()),
            Handed::Done(oslo),
        ] {
            agent.hand(asks.ticket, &handed).unwrap();
            let read = file.handed(asks.ticket).unwrap();
            match read {
                Handed::Refused(_, why, hint) => assert_eq!((why.as_str(), hint.as_str()), ("too early", "")),
                read => assert_eq!(read, handed),
            }
            assert_eq!(file.handed(asks.ticket + 1), None);
        }
        file.end_turn(turn).unwrap();
        assert_eq!(agent.asks_hand_over(), None, "nobody waits for it any more");
    }
}
