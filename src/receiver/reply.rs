//! The way back to the sender, shared by everything that answers.

use std::borrow::Cow;
use std::io::{BufWriter, Write};
use std::sync::{Mutex, PoisonError};

use crate::protocol::{FrameError, FrameWriter, FromFar, Refusal, ReplyHello, ToSender, Unsent};
use crate::tree::RelPath;

/// Sends messages, each flushed at once: an answer that waits helps nobody.
pub(super) struct Reply {
    writer: Mutex<FrameWriter<BufWriter<Box<dyn Write + Send>>>>,
}

impl Reply {
    pub fn new(output: Box<dyn Write + Send>) -> Self {
        Self { writer: Mutex::new(FrameWriter::new(BufWriter::with_capacity(64 * 1024, output))) }
    }

    pub fn raw(&self, bytes: &[u8]) -> Result<(), FrameError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.raw(bytes)?;
        writer.flush()
    }

    pub fn send(&self, message: &ToSender<'_>) -> Result<(), FrameError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Listings and signatures shrink well; what is short goes as it is.
        let bulky =
            matches!(message, ToSender::Listing(_) | ToSender::Links { .. } | ToSender::Scanned { .. });
        writer.set_compress(bulky);
        writer.send(message)?;
        writer.flush()
    }

    pub fn hello(&self, hello: ReplyHello) -> Result<(), FrameError> {
        self.send(&ToSender::Hello(Box::new(hello)))
    }

    pub fn refuse(&self, refusal: &Refusal) -> Result<(), FrameError> {
        self.send(&ToSender::Refused(refusal.clone()))
    }

    /// Tells a target that pulls that nothing is sent.
    pub fn unsent(&self, why: Unsent) -> Result<(), FrameError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.send(&FromFar::Unsent(why))?;
        writer.flush()
    }

    pub fn problem(&self, path: RelPath, operation: &'static str, errno: i32) -> Result<(), FrameError> {
        self.send(&ToSender::Problem { path, operation: Cow::Borrowed(operation), errno })
    }
}
