//! What the engine and the user's Lua share: the queues, the children, the log.
//!
//! **Invariants:** behind one lock that is held for moments; a child belongs to entries of one sync, which
//! are `active` until it was judged. **Not here:** when what runs (`run`); what is run (`layers`).

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mlua::Function;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::calls::Call;
use super::delays::{Combine, Delays, Etype, Id, Status};
use super::log::Log;
use super::native::{MirrorWord, State};
use super::tunnel::Tunnels;
use crate::config::{Builtin, Handler, LsyncdSync, Verdict};
use crate::event::Event;
use crate::filter::LsyncdFilter;
use crate::tree::RelPath;

/// A sync that failed for good is begun anew after this.
const RETRY_FAILED: Duration = Duration::from_secs(300);
/// The pause between two tries doubles up to this, or stays at `delay` where that is longer.
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// What the engine hears.
#[derive(Debug)]
pub enum Message {
    /// The watcher of a sync heard something.
    Events(usize, Vec<Event>),
    /// A child ended: its number, and its exit code or the signal that ended it.
    Exited(u64, Result<i32, i32>),
    /// A job of the user's Lua is done.
    Done(Job, Result<Option<Verdict>, String>),
    /// A descriptor that a script observes is ready.
    Ready(i32, bool),
    /// What the target of a sync said to the question for an agent, in which round.
    Asked(u64, usize, Result<(), String>),
    /// What the mirror of a sync tells, in which round.
    Mirror(u64, usize, MirrorWord),
    /// A signal came.
    Signal(i32),
    /// Something changed that the engine looks at by itself.
    Look,
}

/// Something that the user's Lua does.
#[derive(Debug, Clone)]
pub struct Job {
    /// The sync that waits for it; `None` for alarms and observed descriptors.
    pub sync: Option<usize>,
    /// What it is.
    pub kind: JobKind,
    /// The function.
    pub function: Function,
}

/// What a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobKind {
    /// `action(inlet)`.
    Action,
    /// `init(event)`, `full(event)`.
    Whole(Id),
    /// `onCreate(event)` and its like.
    On(Id),
    /// `collect(agent, exitcode)`.
    Collect {
        /// What the child worked on.
        ids: Vec<Id>,
        /// Whether that is a list.
        list: bool,
        /// How it ended.
        code: i32,
    },
    /// `alarm`: the number under which its arguments are kept.
    Alarm(u64),
    /// `observefd`.
    Ready(i32),
}

/// A child at work.
#[derive(Debug)]
struct Child {
    sync: usize,
    ids: Vec<Id>,
    list: bool,
    fd: Option<OwnedFd>,
}

/// A sync at work.
#[derive(Debug)]
pub struct Running {
    /// What is configured.
    pub spec: Arc<LsyncdSync>,
    /// What carries it over.
    pub state: State,
    /// How often in a row it was told to try again.
    pub attempts: u32,
    /// What is to do.
    pub delays: Delays,
    /// Children at work.
    pub children: usize,
    /// Since when its Lua runs.
    pub job: Option<Instant>,
    /// Whether it was told that its Lua runs for long.
    pub told: bool,
    /// Until when nothing is tried, after a function that did nothing.
    pub rest: Option<Instant>,
    /// Which events are dropped; shared with the watcher, which asks it of every event.
    pub filter: Arc<RwLock<LsyncdFilter>>,
    /// Filters and excludes as they stand now.
    pub rules: (Vec<Vec<u8>>, Vec<Vec<u8>>),
}

/// The shared state.
pub struct Core {
    /// All syncs, in order.
    pub syncs: Vec<Running>,
    /// The log.
    pub log: Log,
    /// Whether a first pass that fails is tried again.
    pub insist: bool,
    /// Most children of all syncs.
    pub processes_max: Option<usize>,
    /// Whether nothing new is spawned.
    pub stopping: bool,
    /// Set when all is over: the exit status.
    pub fatal: Option<i32>,
    /// Alarms of scripts by their time and number.
    pub alarms: BTreeMap<(Instant, u64), Function>,
    /// Descriptors that scripts observe: what to call when they can be read and written.
    pub observed: HashMap<i32, (Option<Function>, Option<Function>)>,
    /// Where the engine listens.
    pub engine: Sender<Message>,
    /// What must be up before a sync does anything.
    pub tunnels: Tunnels,
    /// Children that could not be started and count as ended with 255.
    pub stillborn: Vec<u64>,
    children: HashMap<u64, Child>,
    next: u64,
}

/// How entries are combined for a sync.
fn combine(spec: &LsyncdSync) -> Combine {
    match spec.action {
        Handler::Builtin(Builtin::RsyncAction | Builtin::SshAction | Builtin::DirectAction) => Combine::Paths,
        _ => Combine::Kinds,
    }
}

impl Running {
    /// Makes a sync with an empty queue.
    pub fn new(spec: LsyncdSync) -> Self {
        let rules = (spec.filters.clone(), spec.excludes.clone());
        let filter = Arc::new(RwLock::new(LsyncdFilter::new(&rules.0, &rules.1).unwrap_or_default()));
        let delays = Delays::new(combine(&spec));
        let spec = Arc::new(spec);
        Self {
            spec,
            state: State::Commands,
            attempts: 0,
            delays,
            children: 0,
            job: None,
            told: false,
            rest: None,
            filter,
            rules,
        }
    }

    /// Whether events of a path are dropped.
    pub fn excludes(&self, path: &RelPath, dir: bool) -> bool {
        self.filter.read().unwrap_or_else(PoisonError::into_inner).excludes(path, dir)
    }

    /// Reads the rules anew after they were changed.
    pub fn rules_changed(&mut self) {
        if let Ok(filter) = LsyncdFilter::new(&self.rules.0, &self.rules.1) {
            *self.filter.write().unwrap_or_else(PoisonError::into_inner) = filter;
        }
    }

    /// Returns when an event that is heard now is due.
    pub fn alarm(&self) -> Option<Instant> {
        self.spec.delay.map(|delay| Instant::now() + delay)
    }

    /// Returns the first entry that is due now.
    pub fn due(&self, now: Instant) -> Option<(Id, Etype)> {
        let (id, entry) = self.delays.first()?;
        let full = self.delays.len() >= self.spec.delays_max;
        (full || entry.alarm.is_none_or(|alarm| alarm <= now)).then_some((id, entry.etype))
    }
}

impl Core {
    /// Makes the state of `specs`.
    pub fn new(specs: Vec<LsyncdSync>, log: Log, engine: Sender<Message>) -> Self {
        Self {
            syncs: specs.into_iter().map(Running::new).collect(),
            log,
            insist: false,
            processes_max: None,
            stopping: false,
            fatal: None,
            alarms: BTreeMap::new(),
            observed: HashMap::new(),
            engine,
            tunnels: Tunnels::default(),
            stillborn: Vec::new(),
            children: HashMap::new(),
            next: 1,
        }
    }

    /// Returns a number that was never given before.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Returns how many children work.
    pub fn children(&self) -> usize {
        self.children.len()
    }

    /// Whether sync `at` may have one more child.
    pub fn has_room(&self, at: usize) -> bool {
        let global = self.processes_max.is_none_or(|most| self.children.len() < most);
        global && self.syncs.get(at).is_some_and(|sync| sync.children < sync.spec.processes_max)
    }

    /// Has the engine look again.
    pub fn look(&self) {
        // A full channel means that it will.
        let _ = self.engine.try_send(Message::Look);
    }

    /// Says a line in category `Normal`.
    pub fn normal(&self, text: &str) {
        self.log.line("Normal", text);
    }

    /// Says why, and ends everything.
    pub fn die(&mut self, text: &str) {
        self.log.line("Error", text);
        self.fatal.get_or_insert(255);
    }

    /// Says why the sync at `at` cannot go on. The others do; without any left, all is over.
    pub fn fail(&mut self, at: usize, text: &str) {
        self.log.line("Error", text);
        let until = Instant::now() + RETRY_FAILED;
        let Some(sync) = self.syncs.get_mut(at) else { return };
        sync.state = State::Failed(until);
        let name = sync.spec.name.clone();
        if self.syncs.iter().all(|sync| matches!(sync.state, State::Failed(_))) {
            self.fatal.get_or_insert(255);
        } else {
            let every = RETRY_FAILED.as_secs();
            self.log.line("Error", &format!("{name}: stopped, tried again in {every} s; other syncs go on"));
        }
    }

    /// Says what went wrong with a function of the user's: its sync fails, or everything where it belongs
    /// to none and there is but one.
    pub fn blame(&mut self, at: Option<usize>, text: &str) {
        match at {
            Some(at) => self.fail(at, text),
            None if self.syncs.len() == 1 => self.die(text),
            None => self.log.line("Error", text),
        }
    }

    /// Begins a sync anew that failed, when it is time.
    pub fn revive(&mut self, at: usize, now: Instant) {
        let Some(sync) = self.syncs.get_mut(at) else { return };
        if !matches!(sync.state, State::Failed(until) if until <= now) || sync.children > 0 {
            return;
        }
        sync.state = State::Commands;
        sync.attempts = 0;
        if sync.spec.init.is_some() {
            sync.delays.clear();
            sync.delays.push_whole(Etype::Init, None);
        }
        let name = sync.spec.name.clone();
        self.normal(&format!("{name}: begins anew"));
    }

    /// Starts a child that works on `ids`. A program that cannot be started is one that ends with 255.
    pub fn spawn(&mut self, at: usize, ids: Vec<Id>, list: bool, mut call: Call) {
        self.tunnels.fill(at, &mut call);
        if self.stopping {
            self.normal("ignored a spawn, since this ends");
            return;
        }
        let number = self.number();
        let Some(sync) = self.syncs.get_mut(at) else { return };
        sync.delays.activate(&ids);
        sync.children += 1;
        self.log.line("Exec", &shown(&call));
        let started = self.start(number, call);
        if let Err(error) = &started {
            self.log.line("Error", error);
            self.stillborn.push(number);
            self.look();
        }
        self.children.insert(number, Child { sync: at, ids, list, fd: started.ok().flatten() });
    }

    fn start(&self, number: u64, call: Call) -> Result<Option<OwnedFd>, String> {
        let text = String::from_utf8_lossy(&call.program).into_owned();
        let mut command = Command::new(std::ffi::OsString::from_vec(call.program));
        command.args(call.arguments.into_iter().map(std::ffi::OsString::from_vec));
        command.stdin(if call.input.is_empty() { Stdio::inherit() } else { Stdio::piped() });
        if !self.log.foreground
            && let Ok(Some(file)) = self.log.open()
            && let Ok(same) = file.try_clone()
        {
            command.stdout(file).stderr(same);
        }
        let mut child = command.spawn().map_err(|error| format!("cannot execute {text}: {error}"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let fd = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        let engine = self.engine.clone();
        let wait = move || {
            if let Some(mut input) = child.stdin.take() {
                // A child that does not read all says so by its exit code.
                let _ = input.write_all(&call.input);
            }
            // Told before it is gone from the list of processes: whoever sees no child left knows that the
            // queue has heard of its end.
            let told = pid.and_then(|pid| ended(pid).ok());
            if let Some(ended) = told {
                let _ = engine.send(Message::Exited(number, ended));
            }
            let status = child.wait();
            if told.is_none() {
                let code =
                    |status: std::process::ExitStatus| status.code().ok_or(status.signal().unwrap_or(0));
                let _ = engine.send(Message::Exited(number, status.map_or(Ok(255), code)));
            }
        };
        std::thread::Builder::new()
            .name("speil-child".to_owned())
            .spawn(wait)
            .map_err(|error| format!("cannot wait for {text}: {error}"))?;
        Ok(fd)
    }

    /// Sends a signal to every child.
    pub fn signal_children(&self, signal: Signal) {
        for fd in self.children.values().filter_map(|child| child.fd.as_ref()) {
            // One that has ended already is on its way to be heard of.
            let _ = rustix::process::pidfd_send_signal(fd, signal);
        }
    }

    /// Takes note of a child's end; returns its sync, what it worked on, and whether that was a list.
    pub fn exited(&mut self, number: u64) -> Option<(usize, Vec<Id>, bool)> {
        let child = self.children.remove(&number)?;
        if let Some(sync) = self.syncs.get_mut(child.sync) {
            sync.children = sync.children.saturating_sub(1);
        }
        Some((child.sync, child.ids, child.list))
    }

    /// Carries out a verdict.
    pub fn judged(&mut self, at: usize, ids: &[Id], verdict: Option<Verdict>) {
        let Some(sync) = self.syncs.get_mut(at) else { return };
        match verdict {
            Some(Verdict::Again) => {
                let base = sync.spec.delay.unwrap_or_default().max(Duration::from_secs(1));
                let pause = base.saturating_mul(1 << sync.attempts.min(10)).min(RETRY_LONGEST.max(base));
                sync.attempts += 1;
                sync.delays.retry(ids, Instant::now() + pause);
            }
            Some(Verdict::Die) => self.fail(at, "Critical exitcode."),
            Some(Verdict::Ok) | None => {
                sync.attempts = 0;
                ids.iter().for_each(|id| sync.delays.remove(*id));
            }
        }
    }

    /// Whether an entry waits still, so that nobody took care of it.
    pub fn waits(&self, at: usize, id: Id) -> bool {
        let entry = self.syncs.get(at).and_then(|sync| sync.delays.get(id));
        entry.is_some_and(|entry| entry.status == Status::Wait)
    }

    /// Removes an entry that nobody works on.
    pub fn discard(&mut self, at: usize, id: Id) {
        if let Some(sync) = self.syncs.get_mut(at) {
            sync.delays.remove(id);
        }
    }
}

/// Waits for the end of a child and leaves it to be collected: its exit code, or the signal that ended it.
fn ended(pid: Pid) -> rustix::io::Result<Result<i32, i32>> {
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => {
                return Ok(status.exit_status().ok_or(status.terminating_signal().unwrap_or_default()));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns a call as one line.
fn shown(call: &Call) -> String {
    let words = std::iter::once(&call.program).chain(&call.arguments);
    words.map(|word| crate::tree::quote(word)).collect::<Vec<_>>().join(" ")
}
