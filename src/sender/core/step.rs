//! What goes into a session and what comes out.

use std::time::Instant;

use crate::sender::ledger::{Answer, Mark, Moment, Op, Ordered, Record, Told, What};
use crate::tree::{FileId, RelPath};

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The watch tells something.
    Told {
        /// What.
        told: Told,
        /// What its lag counts from.
        since: Instant,
    },
    /// Everything that was queued before it has been told.
    Mark(Mark),
    /// The source's clock was set back by so many nanoseconds.
    ClockWentBack(u64),
    /// The result of [`Step::Look`].
    Found {
        /// Its number.
        look: Op,
        /// How many events had been queued before it was done.
        queued: u64,
        /// What is there.
        found: Found,
    },
    /// The result of [`Step::Piece`].
    Piece {
        /// The large file.
        op: Op,
        /// What was read.
        piece: Piece,
    },
    /// A comparison has found a difference.
    Differs {
        /// Its number.
        comparison: Op,
        /// The name.
        path: RelPath,
        /// What is owed there.
        what: What,
    },
    /// A comparison has ended.
    Compared {
        /// Its number.
        comparison: Op,
        /// How many events had been queued when it began.
        begun: u64,
        /// How many when it had looked at everything.
        ended: u64,
    },
    /// The result of [`Step::Seek`].
    Sought {
        /// The files.
        files: Vec<FileId>,
        /// Their names.
        names: Vec<(FileId, RelPath)>,
        /// How many events had been queued when it began.
        begun: u64,
        /// How many when it had ended.
        ended: u64,
    },
    /// What became of one operation. What is done and durable is told by [`Input::Acknowledged`] instead.
    Answer {
        /// Its number.
        op: Op,
        /// What became of it.
        answer: Answer,
    },
    /// Everything up to this commit is durable, but for what was refused.
    Acknowledged {
        /// Its number.
        batch: u64,
    },
    /// Whether the link takes more of what is large.
    Room(bool),
    /// Whether somebody waits for what is only to be verified.
    Hurry(bool),
    /// The verdict that [`Step::Judge`] asked for.
    Judged {
        /// The deletes are held until somebody approves them.
        hold: bool,
    },
    /// Somebody approves what is held.
    Approved,
    /// The connection has ended; everything that was opened is to be closed.
    Ended {
        /// What the receiver knows of it, if it does.
        record: Option<Record>,
    },
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory, a link, a device: whatever has no content.
    Entry,
    /// A file. It is open from now on, by the number of the look.
    File {
        /// Its size in bytes.
        len: u64,
        /// Which file it is.
        file: FileId,
        /// How many names it has.
        links: u32,
    },
    /// Somebody is writing it.
    Busy,
    /// It is there, or may be, and cannot be read.
    Unreadable,
}

/// What was read of a large file, and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// There is more.
    More,
    /// That was the last.
    End {
        /// Nobody has written it meanwhile.
        steady: bool,
        /// The source has this very file under the path of the step.
        there: bool,
    },
    /// It cannot be read.
    Unreadable,
}

/// How a name is on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Like {
    /// Both have a directory with the same metadata.
    Dir,
    /// Both have a file of the same size, time and metadata.
    File,
    /// The target has nothing there, or something else.
    Other,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look at the source, open a file that is there, and say what was found: [`Input::Found`].
    Look {
        /// Its number.
        look: Op,
        /// Where.
        path: RelPath,
        /// What is owed there.
        what: What,
    },
    /// Send this. What was opened for it is closed then, but for [`Message::Begin`].
    Send {
        /// The number of the operation.
        op: Op,
        /// What.
        message: Message,
    },
    /// Read the next piece of an open file and send it: [`Input::Piece`].
    Piece {
        /// The number of the operation.
        op: Op,
        /// The look that opened it.
        opened: Op,
        /// The name that it has now.
        path: RelPath,
    },
    /// Compare a name and everything below it on both sides: [`Input::Differs`], [`Input::Compared`].
    Compare {
        /// Its number.
        comparison: Op,
        /// The name.
        path: RelPath,
        /// Equal stamps prove nothing.
        whole: bool,
        /// Nothing that is to be found here was changed before this.
        change: Moment,
    },
    /// Search the source for every name of some files: [`Input::Sought`].
    Seek {
        /// The files.
        files: Vec<FileId>,
    },
    /// Say whether so many deletes may go: [`Input::Judged`].
    Judge {
        /// How many.
        deletes: usize,
    },
    /// Have everything before it made durable: [`Input::Acknowledged`].
    Commit {
        /// Its number.
        batch: u64,
        /// What the target keeps for the next start.
        watermark: Moment,
        /// Names that are to be looked at then.
        problems: Vec<RelPath>,
    },
    /// Close what a look has opened; it is not needed.
    Close {
        /// The look.
        opened: Op,
    },
    /// Wait for what comes.
    Wait {
        /// No longer than until then.
        until: Option<Instant>,
    },
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// What goes in the order of events.
    Ordered(Ordered),
    /// What a look found that has no content.
    Entry {
        /// Its name.
        path: RelPath,
        /// The look.
        opened: Op,
    },
    /// The metadata of a file.
    Attributes {
        /// Its name.
        path: RelPath,
        /// The look.
        opened: Op,
    },
    /// A small file whole.
    Content {
        /// Its name.
        path: RelPath,
        /// The look.
        opened: Op,
    },
    /// A large file begins; its pieces follow.
    Begin {
        /// Its name.
        path: RelPath,
        /// The look.
        opened: Op,
    },
    /// A large file has ended, and takes its name.
    End {
        /// The look.
        opened: Op,
    },
    /// A large file is given up.
    Abandon {
        /// The look.
        opened: Op,
    },
    /// Delete a name.
    Delete {
        /// The name.
        path: RelPath,
        /// Whether it was a directory, if known.
        dir: Option<bool>,
    },
    /// Compare contents.
    Prove {
        /// The file's name.
        path: RelPath,
        /// The look.
        opened: Op,
    },
}

impl Message {
    /// Whether it is done when its batch is acknowledged. Others are answered one by one, or by what follows.
    pub(super) fn is_acknowledged(&self) -> bool {
        !matches!(self, Self::Begin { .. } | Self::Abandon { .. } | Self::Prove { .. })
    }
}
