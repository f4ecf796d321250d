//! One pass over every target, then the end: the cron job.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::route::{told, transport_of};
use crate::config::{Sync, Target};
use crate::event::RescanReason;
use crate::monitor::{Monitor, Totals};
use crate::sender::{
    Feedback, Held, Mailbox, Session, SessionError, SessionOptions, Source, Surroundings, TargetProblem,
    TargetStatus,
};
use crate::transport::{Transport, TransportError, Uploads};
use crate::tree::{Mask, RelPath};

/// How a single pass is made.
#[derive(Debug, Clone, Default)]
pub struct OnceOptions {
    /// Changes nothing.
    pub dry_run: bool,
    /// What is asked before an agent is uploaded; the monitor is told as well.
    pub uploads: Uploads,
}

/// What came of one target.
#[derive(Debug)]
pub struct TargetReport {
    /// Name of the target.
    pub name: String,
    /// What was sent.
    pub totals: Totals,
    /// Entries and bytes on the source.
    pub source: Option<crate::monitor::PassSummary>,
    /// Paths that failed.
    pub problems: Vec<(RelPath, TargetProblem)>,
    /// Files that went between the listing and the sending.
    pub vanished: Vec<RelPath>,
    /// Deletes that the guard held back, and why.
    pub held: Option<(usize, String)>,
    /// Why the session ended early.
    pub error: Option<SessionError>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What came of a single pass, target by target.
#[derive(Debug)]
pub struct OnceReport {
    /// In the order of the configuration.
    pub targets: Vec<TargetReport>,
}

/// Returns the error of a source that cannot be opened.
pub fn unreadable(source: &Path, error: &std::io::Error) -> SessionError {
    SessionError::Source(format!("{}: {}", source.display(), crate::error::io_text(error)))
}

/// Makes one pass over every target of a sync, side by side. `mailboxes` is told the queues, so that
/// the caller can stop early by closing them.
///
/// # Errors
/// [`SessionError::Source`] if the source cannot be opened; failures of targets are in the report.
pub fn once(
    sync: &Sync,
    options: OnceOptions,
    monitor: &Arc<dyn Monitor>,
    started: impl Fn(Vec<Arc<Mailbox>>),
) -> Result<OnceReport, SessionError> {
    let source =
        Source::open(&sync.source, sync.targets.len()).map_err(|error| unreadable(&sync.source, &error))?;
    let mailboxes: Vec<Arc<Mailbox>> = sync.targets.iter().map(|_| Mailbox::new()).collect();
    started(mailboxes.clone());
    let targets = std::thread::scope(|scope| {
        let running: Vec<_> = sync
            .targets
            .iter()
            .zip(&mailboxes)
            .map(|(target, mailbox)| {
                let source = Arc::clone(&source);
                let options = &options;
                let uploads = options.uploads.clone().then(told(monitor, sync, target));
                scope.spawn(move || {
                    let transport = || transport_of(sync, target, uploads);
                    one(
                        (sync, target, options.dry_run),
                        (source, Arc::clone(mailbox), Arc::clone(monitor)),
                        transport,
                    )
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    Ok(OnceReport { targets })
}

/// Makes one pass of a sync with one target over a transport that is there.
pub(super) fn once_over(
    sync: &Sync,
    dry_run: bool,
    with: (Arc<Source>, Arc<Mailbox>, Arc<dyn Monitor>),
    transport: Box<dyn Transport>,
) -> Option<TargetReport> {
    let target = sync.targets.first()?;
    Some(one((sync, target, dry_run), with, || Ok(transport)))
}

fn one(
    (sync, target, dry_run): (&Sync, &Target, bool),
    with: (Arc<Source>, Arc<Mailbox>, Arc<dyn Monitor>),
    transport: impl FnOnce() -> Result<Box<dyn Transport>, TransportError>,
) -> TargetReport {
    let began = Instant::now();
    let (source, mailbox, monitor) = with;
    let stopped = Arc::clone(&mailbox);
    let status = Arc::new(TargetStatus::default());
    let held = Arc::new(Held::default());
    let settling = Arc::new(Settling::new(&source));
    let session_options = SessionOptions {
        sync: sync.clone(),
        target: target.clone(),
        mirror: super::mirror_id(sync, target),
        live: false,
        dry_run,
        rehearsal: dry_run,
    };
    let around = Surroundings {
        mailbox,
        status: Arc::clone(&status),
        held: Arc::clone(&held),
        monitor,
        feedback: Arc::clone(&settling) as Arc<dyn Feedback>,
        ..Surroundings::of(source)
    };
    let error = transport()
        .map_err(SessionError::from)
        .and_then(|transport| {
            let transport: Arc<dyn Transport> = Arc::from(transport);
            let cancelled = Arc::clone(&transport);
            around.mailbox.on_close(move || cancelled.cancel());
            Session::connect(&*transport, session_options, around)
        })
        .map_or_else(Some, |session| session.run(RescanReason::Start).error);
    // Whoever stops it knows why it ended.
    let error = error.filter(|_| !stopped.is_closed());
    TargetReport {
        name: target.name.clone(),
        totals: status.counters.totals(),
        source: status.last_pass().map(|(_, summary)| summary),
        problems: status.problems(),
        vanished: std::mem::take(&mut *settling.vanished.lock().unwrap_or_else(PoisonError::into_inner)),
        held: held.summary(),
        error,
        elapsed: began.elapsed(),
    }
}

/// Reads once more, before the end, what was written so shortly before it was sent that a later write
/// may bear the same stamp: there is no watch that would tell.
struct Settling {
    source: Arc<Source>,
    racy: Mutex<Vec<(RelPath, [u8; 32], Instant)>>,
    vanished: Mutex<Vec<RelPath>>,
}

impl Settling {
    fn new(source: &Arc<Source>) -> Self {
        Self { source: Arc::clone(source), racy: Mutex::default(), vanished: Mutex::default() }
    }
}

impl Feedback for Settling {
    fn gone(&self, path: &RelPath) {
        self.vanished.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
    }

    fn racy(&self, path: &RelPath, hash: [u8; 32], after: Duration) {
        self.racy.lock().unwrap_or_else(PoisonError::into_inner).push((
            path.clone(),
            hash,
            Instant::now() + after,
        ));
    }

    fn settle(&self) -> Vec<RelPath> {
        let racy = std::mem::take(&mut *self.racy.lock().unwrap_or_else(PoisonError::into_inner));
        let mut again = Vec::new();
        for (path, hash, at) in racy {
            // The stamp's own width must pass before another write is sure to get another stamp.
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if self.hash(&path).is_some_and(|now| now != hash) {
                again.push(path);
            }
        }
        again
    }
}

impl Settling {
    fn hash(&self, path: &RelPath) -> Option<[u8; 32]> {
        let file = self.source.file(path, &Mask::nothing(), Instant::now()).ok()?;
        file.hash_now().ok()
    }
}
