//! Verbs take their turns: `.speil/intent` says what was typed last, `.speil/verb.lock` is held by the one that works.
//!
//! **Invariants:** a verb that was typed later is never undone by one that was typed before it; a process that is
//! killed leaves its turn, and then nothing is intended any more.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{RoleFile, RoleFileError, boot, failed};
use crate::role::{Intent, Verb};

const NAME: &str = "intent";
const NEW: &str = "intent.new";
/// Held while the file is read and written anew.
const LOCK: &str = "intent.lock";
/// Held by the verb that works.
const VERB_LOCK: &str = "verb.lock";
/// Most bytes of the file that are read.
const LEN_MAX: u64 = 4096;
/// How often is looked whether it is this verb's turn.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A verb's turn. It ends with it, however the process ends.
#[derive(Debug)]
pub struct Turn {
    _lock: OwnedFd,
    intent: Intent,
}

impl Turn {
    /// Returns the number of the verb.
    pub fn ticket(&self) -> u64 {
        self.intent.ticket
    }
}

/// Why it is not a verb's turn.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The files cannot be read or written.
    #[error("{0}")]
    File(#[from] RoleFileError),
    /// Another verb works for so long.
    #[error("another `speil promote` or `speil demote` is at work on the tree")]
    Busy,
}

impl RoleFile {
    /// Takes a verb's turn; waits for the one that works, at most `limit`.
    ///
    /// # Errors
    /// [`TurnError`].
    pub fn take_turn(&self, verb: Verb, limit: Duration) -> Result<Turn, TurnError> {
        // The ticket first: whoever works learns that something was typed behind it.
        let intent = self.intend(|last| Intent::next(last, verb, boot()))?;
        let lock = self.lock_file(VERB_LOCK)?;
        let until = Instant::now() + limit;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Turn { _lock: lock, intent }),
                Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
                Err(Errno::WOULDBLOCK) => return Err(TurnError::Busy),
                Err(error) => return Err(failed("lock", VERB_LOCK)(error).into()),
            }
        }
    }

    /// Whether a verb was typed after this one, which must then not be carried out any more.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn is_overtaken(&self, turn: &Turn) -> Result<bool, RoleFileError> {
        Ok(Intent::overtakes(self.intent()?.as_ref(), turn.intent.ticket))
    }

    /// Ends a turn: the verb was carried out, refused or overtaken.
    ///
    /// # Errors
    /// If that cannot be written; it ends with the process all the same.
    pub fn end_turn(&self, turn: Turn) -> Result<(), RoleFileError> {
        if !self.is_overtaken(&turn)? {
            self.intend(|_| Intent { done: true, ..turn.intent.clone() })?;
        }
        Ok(())
    }

    /// Whether the tree is about to be promoted: no session may begin to change it.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn is_promoting(&self) -> Result<bool, RoleFileError> {
        if !Intent::is_promoting(self.intent()?.as_ref(), boot()) {
            return Ok(false);
        }
        let lock = self.lock_file(VERB_LOCK)?;
        // A process that was killed holds nothing, and promises nothing.
        Ok(rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
    }

    /// Returns the number of the verb that was typed last.
    pub(super) fn ticket(&self) -> Option<u64> {
        self.intent().ok().flatten().map(|intent| intent.ticket)
    }

    fn intend(&self, make: impl FnOnce(Option<&Intent>) -> Intent) -> Result<Intent, RoleFileError> {
        let lock = self.lock_file(LOCK)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(failed("lock", LOCK))?;
        let intent = make(self.intent()?.as_ref());
        self.replace((NAME, NEW), intent.to_text().as_bytes())?;
        Ok(intent)
    }

    /// Reads what was intended last. A file that makes no sense says nothing: it decides nothing but the order of verbs
    /// that are typed at the same moment.
    fn intent(&self) -> Result<Option<Intent>, RoleFileError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, NAME, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(failed("open", NAME))?,
        };
        let mut text = String::new();
        let read = File::from(file).take(LEN_MAX).read_to_string(&mut text);
        Ok(read.ok().and_then(|_| Intent::from_text(&text)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn file(dir: &std::path::Path) -> RoleFile {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        RoleFile::make(rustix::fs::open(dir, flags, Mode::empty()).unwrap().as_fd()).unwrap()
    }

    #[test]
    fn a_verb_that_was_typed_later_overtakes_and_one_that_was_killed_intends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (file(dir.path()), file(dir.path()));
        assert!(!file.is_promoting().unwrap());
        let promotes = file.take_turn(Verb::Promote, Duration::ZERO).unwrap();
        assert!(other.is_promoting().unwrap() && !file.is_overtaken(&promotes).unwrap());
        // Typed while that one works.
        assert!(matches!(other.take_turn(Verb::Demote, Duration::ZERO), Err(TurnError::Busy)));
        assert!(file.is_overtaken(&promotes).unwrap() && !other.is_promoting().unwrap());
        file.end_turn(promotes).unwrap();
        let demotes = other.take_turn(Verb::Demote, Duration::ZERO).unwrap();
        assert!(!file.is_overtaken(&demotes).unwrap());
        other.end_turn(demotes).unwrap();
        // Killed: the lock goes with the process.
        drop(file.take_turn(Verb::Promote, Duration::ZERO).unwrap());
        assert!(!other.is_promoting().unwrap());
        std::fs::write(dir.path().join(".speil/intent"), "nonsense").unwrap();
        assert!(file.take_turn(Verb::Promote, Duration::ZERO).is_ok());
    }

    #[test]
    fn another_host_has_answered_during_this_boot_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        assert!(!file.is_confirmed());
        file.confirm().unwrap();
        assert!(file.is_confirmed());
        std::fs::write(dir.path().join(".speil/confirmed"), "0123456789abcdef0123456789abcdef").unwrap();
        assert!(!file.is_confirmed(), "that was another boot");
    }
}
