//! One pass over every target, then the end: the cron job.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::landing::beside;
use super::route::{told, transport_of};
use crate::config::{DeleteMode, Sync, Target};
use crate::disk::Root;
use crate::event::RescanReason;
use crate::monitor::{Monitor, Totals};
use crate::sender::{
    Feedback, Held, Mailbox, Opened, Session, SessionError, SessionOptions, Source, Surroundings,
    TargetProblem, TargetStatus, merged, open_sources,
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
    /// What came of the words, where there are several sources.
    pub named: Named,
}

/// What came of the words that name several sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Those that lead nowhere, with the errno.
    pub missing: Vec<(Vec<u8>, i32)>,
    /// Directories that nobody asked to enter.
    pub skipped: Vec<RelPath>,
    /// No directory's content goes straight into the target: its root is none of what was sent.
    pub is_list: bool,
    /// There is one, and it is no directory.
    pub is_alone: bool,
    /// Nothing is deleted, since something is missing that may have held it.
    pub spares: bool,
}

/// What a pass is made of: the sync as it is made, its source, and what the one that is no directory is called.
pub(super) type Ready = (Sync, Option<Arc<Source>>, Option<RelPath>);

/// Opens what a sync names as its source.
///
/// # Errors
/// [`SessionError::Source`] if nothing can be opened.
pub(super) fn ready(sync: &Sync) -> Result<(Ready, Named), SessionError> {
    let unreadable = |error: std::io::Error| unreadable(&sync.source, &error);
    let targets = sync.targets.len();
    match &sync.sources {
        None => {
            let source =
                Source::open_following(&sync.source, targets, sync.selection.links).map_err(unreadable)?;
            Ok(((sync.clone(), Some(source), None), Named::default()))
        }
        Some(sources) => {
            let opened = open_sources(sources, sync.selection.recursive, targets, &|path| {
                Root::open(path)?.following(sync.selection.links, None)
            });
            Ok(in_order(sync, opened.map_err(unreadable)?))
        }
    }
}

/// Returns the sync of what several words lead to.
pub(super) fn in_order(sync: &Sync, opened: Opened) -> (Ready, Named) {
    let mut sync = sync.clone();
    let Opened { source, listed, missing, skipped, alone, is_whole } = opened;
    sync.selection.files_from = listed;
    for target in sync.targets.iter_mut().filter(|_| alone.is_none()) {
        // What several things go into is a directory.
        if let Some(makes) = target.lands.take() {
            target.makes = makes.max(1);
        }
    }
    // What nobody could look at may hold what another one lacks.
    let spares = is_whole && !missing.is_empty() && sync.delete != DeleteMode::Never;
    if spares {
        sync.delete = DeleteMode::Never;
    }
    let is_alone = alone.is_some();
    ((sync, source, alone), Named { missing, skipped, is_list: !is_whole, is_alone, spares })
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
    let ((mut sync, source, alone), named) = ready(sync)?;
    let Some(source) = source else { return Ok(OnceReport { targets: Vec::new(), named }) };
    sync.filters = merged(&sync, &source, true).map_err(SessionError::Option)?;
    let mailboxes: Vec<Arc<Mailbox>> = sync.targets.iter().map(|_| Mailbox::new()).collect();
    started(mailboxes.clone());
    let targets = std::thread::scope(|scope| {
        let running: Vec<_> = sync
            .targets
            .iter()
            .zip(&mailboxes)
            .map(|(target, mailbox)| {
                let (sync, alone, options) = (&sync, alone.as_ref(), &options);
                let (source, mailbox) = (Arc::clone(&source), Arc::clone(mailbox));
                let pass = move |sync: &Sync, target: &Target, source: Arc<Source>| {
                    let uploads = options.uploads.clone().then(told(monitor, sync, target));
                    let with = (source, Arc::clone(&mailbox), Arc::clone(monitor));
                    one((sync, target, options.dry_run), with, || transport_of(sync, target, uploads))
                };
                scope.spawn(move || {
                    let report = pass(sync, target, source);
                    match alone.and_then(|name| beside(sync, (target, name), report.error.as_ref())) {
                        Some((sync, target, source)) => pass(&sync, &target, source),
                        None => report,
                    }
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    Ok(OnceReport { targets, named })
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
