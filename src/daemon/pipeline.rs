//! One sync's pipeline: every thread and channel of it is made here.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};

use super::engine::Engine;
use super::inlet::{Inlet, Input};
use super::link;
use super::link_options::{LinkOptions, Over};
use super::lock::Lock;
use super::marking::Marking;
use super::recent_events::RecentEvents;
use super::settler::Settler;
use super::standing_by::Warden;
use super::target::{RunningTarget, leave};
use crate::config::{Backend, Sync, Target};
use crate::event::RescanReason;
use crate::filter::Filter;
use crate::monitor::{Monitor, Notice, Scope};
use crate::role::{Id, Role};
use crate::sender::{Gate, Lead, Mailbox, SessionError, Source, Stand, Surroundings};
use crate::tree::RelPath;
use crate::watch::{self, Watcher};

/// Inputs that may wait for the engine; a full queue is an overflow, which is a rescan.
const INPUTS_MAX: usize = 4096;

/// Since when the oldest change waits.
pub(super) enum Owed {
    /// Since then; `None`: nothing waits.
    Since(Option<Instant>),
    /// Something went from one place to another meanwhile: look again.
    Moving,
}

/// A running sync.
pub struct Pipeline {
    /// What it runs.
    pub sync: Sync,
    /// Its targets.
    pub targets: Vec<RunningTarget>,
    /// The latest events.
    pub(super) heard: Arc<RecentEvents>,
    pub(super) input: Sender<Input>,
    engine: Option<JoinHandle<()>>,
    watcher: Option<Watcher>,
    pub(super) common: Common,
    /// Looks after the role of the source.
    pub(super) warden: Option<Warden>,
    _marks: Option<MarkDir>,
    /// Makes marks for who wants to read his own upload.
    pub(super) marking: Arc<Marking>,
}

/// What the links of a sync share.
pub(super) struct Common {
    pub source: Arc<Source>,
    gate: Arc<Gate>,
    /// Whether the source may send.
    lead: Arc<Lead>,
    inlet: Arc<Inlet>,
    pub monitor: Arc<dyn Monitor>,
}

/// What a pipeline stands on.
struct Ground {
    source: Arc<Source>,
    marks: Option<MarkDir>,
    lead: Arc<Lead>,
    /// The connection, where it is there already.
    over: Option<Over>,
}

/// A directory in the runtime directory in which a watcher leaves its marks; goes with it.
struct MarkDir {
    path: PathBuf,
}

impl MarkDir {
    /// Makes one, unless that would be inside the source.
    fn make(source: &Path) -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let runtime = super::lock::runtime_dir();
        let path = runtime.join(format!("marks-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).ok()?;
        let this = Self { path };
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        (!real(&this.path)?.starts_with(real(source)?)).then_some(this)
    }
}

impl Drop for MarkDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Takes the lock that makes this the one daemon of this host for a mirror, unless it was taken before.
///
/// # Errors
/// [`SessionError::Kept`] by another.
pub(super) fn keep(sync: &Sync, running: &mut RunningTarget) -> Result<(), SessionError> {
    if running.lock.is_none() {
        let target = &running.target;
        let lock = Lock::take_live(&super::mirror_id(sync, target).id);
        running.lock = lock.map_err(|pid| SessionError::Kept { target: target.to_string(), pid })?;
    }
    Ok(())
}

impl Pipeline {
    /// Builds and starts the pipeline of one sync. The links connect and have their targets walked while
    /// the watch is set up; nothing of the source is read before it stands, so that nothing is missed.
    ///
    /// # Errors
    /// [`SessionError`] if the source cannot be opened or watched at all.
    pub fn start(sync: Sync, monitor: &Arc<dyn Monitor>) -> Result<Self, SessionError> {
        Self::start_told(sync, monitor, drop)
    }

    /// The same; `begins` is told the mailboxes before anything connects. Who closes them ends the connecting,
    /// while the watch is still being set up.
    pub(super) fn start_told(
        sync: Sync,
        monitor: &Arc<dyn Monitor>,
        begins: impl FnOnce(Vec<Arc<Mailbox>>),
    ) -> Result<Self, SessionError> {
        let mut targets: Vec<RunningTarget> = sync.targets.iter().cloned().map(RunningTarget::new).collect();
        targets.iter_mut().try_for_each(|running| keep(&sync, running))?;
        let source = Source::open(&sync.source, sync.targets.len()).map_err(|error| {
            SessionError::Source(format!("{}: {}", sync.source.display(), crate::error::io_text(&error)))
        })?;
        let one_path = sync.selection.is_one_path();
        let lead = Arc::new(if one_path { Lead::plain() } else { Lead::of_sync(&sync) });
        let ground = Ground { source, marks: MarkDir::make(&sync.source), lead, over: None };
        Self::start_on((sync, targets), ground, monitor, begins)
    }

    /// Builds and starts the pipeline of a sync whose source is open and whose one target is connected to. Nothing is
    /// written on this host.
    pub(super) fn start_over(
        sync: Sync,
        (source, over): (Arc<Source>, Over),
        monitor: &Arc<dyn Monitor>,
        begins: impl FnOnce(Vec<Arc<Mailbox>>),
    ) -> Result<Self, SessionError> {
        let targets = sync.targets.iter().cloned().map(RunningTarget::new).collect();
        let ground = Ground { source, marks: None, lead: Arc::new(Lead::plain()), over: Some(over) };
        Self::start_on((sync, targets), ground, monitor, begins)
    }

    fn start_on(
        (sync, targets): (Sync, Vec<RunningTarget>),
        Ground { source, marks, lead, over }: Ground,
        monitor: &Arc<dyn Monitor>,
        begins: impl FnOnce(Vec<Arc<Mailbox>>),
    ) -> Result<Self, SessionError> {
        let fail = |text: String| SessionError::Source(text);
        let filter = Filter::new(&sync.filters).map_err(|error| SessionError::Option(error.to_string()))?;
        // What is hidden of a source is not watched either.
        let filter = Arc::new(source.narrowed(filter));
        let (input, inputs) = bounded(INPUTS_MAX);
        let deaf = watch::resolve(sync.watch, &sync.source).is_ok_and(|backend| backend == Backend::Poll);
        let inlet = Arc::new(Inlet::new(input.clone(), deaf, Arc::clone(&source)));
        let skip_filter = Arc::clone(&filter);
        let skip: watch::Skip = Arc::new(move |path, dir| super::is_skipped(&skip_filter, path, dir));
        let options = watch::Options {
            backend: sync.watch,
            poll_interval: sync.poll_interval,
            one_file_system: sync.selection.one_file_system,
            marks: marks.as_ref().map(|dir| dir.path.clone()),
        };
        begins(targets.iter().map(|running| Arc::clone(&running.mailbox)).collect());
        let engine = Engine::new(&sync, &source, &targets, Arc::clone(monitor), Arc::clone(&inlet));
        let heard = engine.heard();
        let engine = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || engine.run(&inputs))
            .map_err(|error| fail(format!("start a thread: {error}")))?;
        let (gate, engine) = (Arc::new(Gate::shut()), Some(engine));
        let common = Common { source, gate, lead, inlet, monitor: Arc::clone(monitor) };
        let (watcher, warden) = (None, None);
        let mut this = Self {
            sync,
            targets,
            heard,
            input,
            engine,
            watcher,
            common,
            warden,
            _marks: marks,
            marking: Arc::default(),
        };
        this.link_up(over)?;
        this.watch(options, skip)?;
        Ok(this)
    }

    fn link_up(&mut self, mut over: Option<Over>) -> Result<(), SessionError> {
        for running in &mut self.targets {
            let options = link_options(&self.sync, &self.common, running);
            running.link = Some(match over.take() {
                Some(over) => link_thread(move || link::run_over(&options, over))?,
                None => link_thread(move || link::run(&options))?,
            });
        }
        let Common { lead, monitor, .. } = &self.common;
        let warden = Warden::start(Arc::clone(lead), self.mailboxes(), Arc::clone(monitor), &self.sync.name);
        self.warden = Some(warden.map_err(|error| SessionError::Source(format!("start a thread: {error}")))?);
        Ok(())
    }

    /// Returns the mailboxes of all targets.
    pub(super) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.targets.iter().map(|running| Arc::clone(&running.mailbox)).collect()
    }

    /// Lets the links read the source as soon as it is watched.
    fn watch(&mut self, options: watch::Options, skip: watch::Skip) -> Result<(), SessionError> {
        let sink = Arc::clone(&self.common.inlet) as Arc<dyn watch::Sink>;
        let watcher = watch::start(&self.sync.source, options, skip, sink)
            .map_err(|error| SessionError::Source(error.to_string()))?;
        if let Some(note) = watcher.note() {
            let (text, hint) = (note.text.clone(), note.hint.clone());
            let scope = Scope::new(&self.sync.name, "");
            self.common.monitor.notice(&scope, &Notice::Warning { text, hint });
        }
        self.common.inlet.asks(watcher.asker());
        self.watcher = Some(watcher);
        self.common.gate.open();
        self.targets.iter().for_each(|running| running.mailbox.wake());
        Ok(())
    }

    /// Asks for a comparison of the whole tree on every target; one that is not connected is tried at once.
    pub fn reconcile(&self, reason: RescanReason) {
        self.targets.iter().for_each(|running| running.mailbox.retry());
        let _ = self.input.send(Input::Reconcile(reason, Instant::now()));
    }

    /// Holds all targets back, or lets them go again.
    pub fn pause(&self, on: bool) {
        self.targets.iter().for_each(|target| target.mailbox.pause(on));
    }

    /// Sends the deletes that are held for the targets that `picks`; returns how many.
    pub fn approve(&self, picks: impl Fn(&Target) -> bool) -> usize {
        let picked = self.targets.iter().filter(|running| picks(&running.target));
        picked
            .map(|running| {
                let deletes = running.held.approve();
                let count = deletes.len();
                running.mailbox.push_live(deletes);
                // What could not be done while they were held is tried right behind them.
                running.status.retry_all();
                running.mailbox.wake();
                count
            })
            .sum()
    }

    /// Has the directory that is under the path of a target now entered, whatever filesystem it is on; returns
    /// how many targets `picks`.
    pub fn enter_anew(&self, picks: impl Fn(&Target) -> bool) -> usize {
        let picked = self.targets.iter().filter(|running| picks(&running.target));
        picked
            .map(|running| {
                running.known.forget_volume();
                running.mailbox.retry();
            })
            .count()
    }

    /// Tries again at once what fails on the targets that `picks`, and connects to those that are down; returns how
    /// many paths and connections that are.
    pub fn retry(&self, picks: impl Fn(&Target) -> bool) -> usize {
        let picked = self.targets.iter().filter(|running| picks(&running.target));
        picked
            .map(|running| {
                let down = running.status.state().0 == crate::sender::TargetState::Down;
                if down {
                    running.mailbox.retry();
                }
                let failing = running.status.problems().len();
                running.status.hurry(Instant::now());
                running.mailbox.wake();
                failing + usize::from(down)
            })
            .sum()
    }

    /// Forgets the deletes that are held; the next pass finds them again.
    pub fn discard(&self, picks: impl Fn(&Target) -> bool) -> usize {
        self.targets
            .iter()
            .filter(|running| picks(&running.target))
            .map(|running| running.held.take().len())
            .sum()
    }

    /// Returns what brings everything that was written before a moment into the mailboxes.
    pub(super) fn settler(&self) -> Option<Settler> {
        let asker = self.watcher.as_ref()?.asker();
        Some(Settler::new(self.input.clone(), asker, self.mailboxes()))
    }

    /// Returns since when the oldest change waits that a target has not acknowledged, wherever it is now.
    pub(super) fn owed(&self, running: &RunningTarget) -> Owed {
        let inlet = &self.common.inlet;
        let moves = inlet.moves();
        let held = inlet.owed();
        let since = held.into_iter().chain(running.mailbox.pending().since.debt).min();
        if moves == inlet.moves() { Owed::Since(since) } else { Owed::Moving }
    }

    /// Returns what decides whether the source may send.
    pub(super) fn lead(&self) -> Arc<Lead> {
        Arc::clone(&self.common.lead)
    }

    /// Returns the generation that the source leads, if it has a role and leads.
    pub(super) fn leads(&self) -> Option<Id> {
        self.common.lead.leads()
    }

    /// Returns why nothing is sent from a source that should have a role and has none.
    pub(super) fn has_no_role_yet(&self) -> Option<String> {
        match self.common.lead.stand() {
            Stand::Waits { plain: true, line, .. } => Some(line),
            _ => None,
        }
    }

    /// Returns what people call the tree whose changes come to the source now.
    pub(super) fn led_by(&self) -> Option<String> {
        self.common.lead.led_by()
    }

    /// Returns the role of the source and the number of its generation, if it has a role.
    pub(super) fn role(&self) -> Option<(Role, Option<u64>)> {
        self.common.lead.role()
    }

    /// Returns how many directories are watched, and what stands in the way of watching all.
    pub fn watched(&self) -> (usize, Vec<String>) {
        let Some(watcher) = &self.watcher else { return (0, Vec::new()) };
        // Why a source is walked that could be heard.
        let note = watcher.note().filter(|_| watcher.backend() == Backend::Poll).cloned();
        let problems = note.into_iter().chain(watcher.problems());
        (watcher.watched(), problems.map(|problem| problem.text).collect())
    }

    /// Returns the directories that are watched.
    pub fn directories(&self) -> Vec<crate::tree::RelPath> {
        self.watcher.as_ref().map(Watcher::directories).unwrap_or_default()
    }

    /// Whether every thread that the sync cannot do without is there.
    pub fn is_whole(&self) -> bool {
        let runs =
            |thread: &Option<JoinHandle<()>>| thread.as_ref().is_some_and(|thread| !thread.is_finished());
        runs(&self.engine)
            && self.targets.iter().all(|running| running.again.is_some() || runs(&running.link))
    }

    /// Returns what stands in the way of hearing about a path.
    pub fn unheard(&self, path: &RelPath) -> Option<String> {
        let problems = self.watcher.as_ref()?.problems();
        problems.into_iter().find(|problem| path.is_within(&problem.path)).map(|problem| problem.text)
    }

    /// Stops in order: no more events, then the links finish what is in flight.
    pub fn stop(&mut self) {
        self.watcher = None;
        self.common.gate.bar();
        let _ = self.input.send(Input::Stop);
        if let Some(engine) = self.engine.take() {
            let _ = engine.join();
        }
        leave(&mut self.targets);
        self.warden = None;
        self.common.lead.end();
    }
}

/// Starts the thread that keeps the connection to a target.
///
/// # Errors
/// If there is none to be had.
pub(super) fn start_link(
    sync: &Sync,
    common: &Common,
    running: &RunningTarget,
) -> Result<JoinHandle<()>, SessionError> {
    let options = link_options(sync, common, running);
    link_thread(move || link::run(&options))
}

fn link_thread(run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, SessionError> {
    let link = std::thread::Builder::new().name("link".to_owned()).spawn(run);
    link.map_err(|error| SessionError::Source(format!("start a thread: {error}")))
}

fn link_options(sync: &Sync, common: &Common, running: &RunningTarget) -> LinkOptions {
    LinkOptions {
        sync: sync.clone(),
        target: running.target.clone(),
        around: Surroundings {
            source: Arc::clone(&common.source),
            gate: Arc::clone(&common.gate),
            mailbox: Arc::clone(&running.mailbox),
            status: Arc::clone(&running.status),
            held: Arc::clone(&running.held),
            known: Arc::clone(&running.known),
            monitor: Arc::clone(&common.monitor),
            feedback: Arc::clone(&common.inlet) as _,
            lead: Arc::clone(&common.lead),
        },
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop();
    }
}
