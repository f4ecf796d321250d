//! What an engine is told.

use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::target::Out;
use crate::event::{Age, Event, Moment, RescanReason};
use crate::tree::RelPath;

/// What an engine is told.
pub(super) enum Input {
    Events(Vec<Event>),
    Sent(RelPath, Instant, Duration),
    /// Everything was told that was changed before that moment.
    Mark(Moment),
    /// With when it was known by the path, and how old its change is.
    StillOpen(RelPath, Instant, Age),
    /// The same behind the pause, and whether the change is owed.
    Again(RelPath, Duration, Instant, (Age, bool)),
    Gone(RelPath),
    /// Compare everything, for what happened before that moment.
    Reconcile(RescanReason, Instant),
    /// Hand out what is held; somebody waits for everything up to that moment.
    Flush(Instant, Sender<()>),
    /// Answer when everything that came before is handed out or held.
    Echo(Sender<()>),
    /// Hand out to these targets from now on, and answer.
    Targets(Vec<Out>, Sender<()>),
    Stop,
}
