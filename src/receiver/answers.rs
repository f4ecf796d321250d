//! What is answered of operations: by their numbers, or by their paths to a sender that counts none.

use std::borrow::Cow;
use std::sync::Arc;

use super::install::Undone;
use super::reply::Reply;
use crate::protocol::{FrameError, OperationId, Subject, ToReceiver, ToSender, VERSION_NUMBERED};
use crate::tree::RelPath;

/// Counts the operations of a session, and answers those that were not done.
pub(super) struct Answers {
    reply: Arc<Reply>,
    /// The sender counts as well.
    numbered: bool,
    /// Number of the operation that came last.
    last: OperationId,
}

impl Answers {
    pub fn new(reply: Arc<Reply>, version: u32) -> Self {
        Self { reply, numbered: version >= VERSION_NUMBERED, last: 0 }
    }

    /// Takes in that a message has come.
    pub fn count(&mut self, message: &ToReceiver<'_>) {
        self.last += u64::from(message.is_operation());
    }

    /// Returns what an answer to the message that came last is about.
    pub fn subject(&self, message: &ToReceiver<'_>) -> Subject {
        match message {
            ToReceiver::Open { stream, .. } | ToReceiver::OpenKept { stream, .. } => Subject::Stream(*stream),
            _ => Subject::Operation(self.last),
        }
    }

    /// Answers that something was not done; `path` as it was sent.
    pub fn not_done(&mut self, of: Subject, path: RelPath, why: &Undone) -> Result<(), FrameError> {
        let answer = match why {
            Undone::Why(why) if self.numbered => ToSender::NotDone { of, why: *why },
            Undone::Why(why) => ToSender::Undone { path, why: *why },
            Undone::Os(operation, errno) => {
                let (operation, errno) = (Cow::Borrowed(*operation), *errno);
                if self.numbered {
                    ToSender::Failed { of, operation, errno }
                } else {
                    ToSender::Problem { path, operation, errno }
                }
            }
            Undone::Evicted => ToSender::Fatal("a newer session of this mirror has begun".into()),
        };
        self.reply.send(&answer)
    }

    /// Whether a rename is answered once for each of its names.
    pub fn is_by_name(&self) -> bool {
        !self.numbered
    }
}
