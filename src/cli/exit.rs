//! Exit codes.

/// What the process ends with: the numbers that rsync(1) documents under "EXIT VALUES", so that scripts
/// around `rsync` keep reading them right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// Everything was done, or there was nothing to do.
    Success,
    /// The arguments or the configuration make no sense. Nothing was touched.
    Syntax,
    /// The two sides speak no common version of the protocol.
    Protocol,
    /// A root cannot be used: missing, no directory, nested in the other one, held by another mirror.
    Selection,
    /// The connection broke, or was never had.
    Connection,
    /// A local file besides the trees could not be read or written: a list, a log.
    File,
    /// The peer sent what the protocol does not allow.
    Stream,
    /// A signal ended the run.
    Signal,
    /// Some paths are not as they should be; each was named.
    Partial,
    /// Some source files vanished before they were sent; all else was done.
    Vanished,
    /// Deletes were held back by `--max-delete` or the guard; all else was done.
    Held,
    /// Nothing was heard from the peer for `--timeout`, or the lock did not come free in time.
    Timeout,
    /// The remote shell failed before the agent spoke.
    RemoteShell,
}

impl Exit {
    /// Every code, for documentation.
    pub const ALL: [Self; 13] = [
        Self::Success,
        Self::Syntax,
        Self::Protocol,
        Self::Selection,
        Self::Connection,
        Self::File,
        Self::Stream,
        Self::Signal,
        Self::Partial,
        Self::Vanished,
        Self::Held,
        Self::Timeout,
        Self::RemoteShell,
    ];

    /// Returns the number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Syntax => 1,
            Self::Protocol => 2,
            Self::Selection => 3,
            Self::Connection => 10,
            Self::File => 11,
            Self::Stream => 12,
            Self::Signal => 20,
            Self::Partial => 23,
            Self::Vanished => 24,
            Self::Held => 25,
            Self::Timeout => 30,
            Self::RemoteShell => 255,
        }
    }

    /// Returns the meaning in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done",
            Self::Syntax => "wrong usage or configuration",
            Self::Protocol => "no common protocol version",
            Self::Selection => "a root cannot be used",
            Self::Connection => "connection lost or refused",
            Self::File => "a list or log file could not be read or written",
            Self::Stream => "the peer broke the protocol",
            Self::Signal => "ended by a signal",
            Self::Partial => "some paths failed",
            Self::Vanished => "some source files vanished",
            Self::Held => "deletes were held back",
            Self::Timeout => "timeout",
            Self::RemoteShell => "the remote shell failed",
        }
    }

    /// Returns the code to end with when both happened: the graver one. A broken run outranks failed
    /// paths, failed paths outrank held deletes, and those outrank vanished files.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let grave = |exit: Self| match exit {
            Self::Success => 0,
            Self::Vanished => 1,
            Self::Held => 2,
            Self::Partial => 3,
            _ => 4,
        };
        if grave(other) > grave(self) { other } else { self }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn codes_are_those_that_rsync_documents() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 10, 11, 12, 20, 23, 24, 25, 30, 255]);
    }

    #[test]
    fn failed_paths_outrank_vanished_ones_and_a_broken_run_outranks_both() {
        assert_eq!(Exit::Vanished.and(Exit::Partial), Exit::Partial);
        assert_eq!(Exit::Partial.and(Exit::Held), Exit::Partial);
        assert_eq!(Exit::Success.and(Exit::Vanished), Exit::Vanished);
        assert_eq!(Exit::Connection.and(Exit::Partial), Exit::Connection);
        assert_eq!(Exit::Partial.and(Exit::Timeout), Exit::Timeout);
        assert_eq!(Exit::Timeout.and(Exit::Connection), Exit::Timeout);
    }
}
