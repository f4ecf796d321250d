//! Functions of the configuration, told what happens; and people, told what got worse ([`Notifier`]).
//!
//! **Purpose:** a monitor that hands notices on, and calls `onState`, `onRole`, `onBatch`, `onProblem`
//! and `onHeld` besides. **In → Out:** notices; calls on a thread of their own.
//! **Invariants:** never waits for a hook: what does not fit into the queue is counted and told; a hook
//! that does not come back is told of and holds up nothing but hooks; a flood is thinned out before it
//! is queued. **Not here:** Lua itself (`config`).

mod alarm;
mod message;
mod notifier;
mod way;

pub use notifier::Notifier;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::config::{HookField, HookValue, Hooks};
use crate::error::{errno_name, failure_text};
use crate::monitor::{Itemized, Level, Monitor, Notice, Progress, Scope};

/// Calls that may wait.
const CALLS_MAX: usize = 256;
/// Calls of one hook about one target within [`RATE_SPAN`]; more are counted into the next one.
const RATE_MAX: u64 = 10;
const RATE_SPAN: Duration = Duration::from_secs(1);

/// Stands for the state before a pause.
const RESUMED: &str = "resumed";

struct Call {
    hook: &'static str,
    values: Vec<HookValue>,
}

/// The monitor that calls hooks.
pub struct Hooked {
    inner: Arc<dyn Monitor>,
    worker: Mutex<Option<Worker>>,
    /// The state of each target, and the one before.
    states: Mutex<HashMap<Scope, (&'static str, &'static str)>>,
    rates: Mutex<HashMap<(&'static str, Scope), Rate>>,
    lost: AtomicU64,
}

/// The way to the thread of the hooks. The functions are the thread's alone: dropping one waits for
/// the Lua state, which a hook that hangs never gives back.
struct Worker {
    names: Vec<&'static str>,
    calls: Sender<Call>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    since: Instant,
    count: u64,
    skipped: u64,
}

impl Hooked {
    /// Hands everything on to `inner`, and calls `hooks`, each for `limit` at most.
    pub fn new(inner: Arc<dyn Monitor>, hooks: Hooks, limit: Duration) -> Arc<Self> {
        let hooked = Arc::new(Self {
            inner,
            worker: Mutex::default(),
            states: Mutex::default(),
            rates: Mutex::default(),
            lost: AtomicU64::new(0),
        });
        hooked.replace(hooks, limit);
        hooked
    }

    /// Calls other hooks from now on. A call that is under way ends by itself.
    pub fn replace(&self, hooks: Hooks, limit: Duration) {
        let worker = (!hooks.is_empty()).then(|| {
            let (calls, waiting) = bounded(CALLS_MAX);
            let names = hooks.names();
            start(hooks, waiting, limit, &self.inner);
            Worker { names, calls }
        });
        *lock(&self.worker) = worker;
    }

    fn call(&self, hook: &'static str, scope: &Scope, rest: Vec<HookValue>) {
        let worker = lock(&self.worker);
        let Some(worker) = worker.as_ref().filter(|worker| worker.names.contains(&hook)) else { return };
        let text = |text: &str| HookValue::Text(text.as_bytes().to_vec());
        // What is said of a sync alone has no target.
        let target = Some(&scope.target).filter(|target| !target.is_empty());
        let names = [Some(&scope.sync), target].into_iter().flatten();
        let values = names.map(|name| text(name)).chain(rest).collect();
        match worker.calls.try_send(Call { hook, values }) {
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    warn(&*self.inner, format!("{lost} calls of hooks were left out: hooks are too slow"));
                }
            }
            Err(TrySendError::Full(_)) => {
                if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                    warn(
                        &*self.inner,
                        format!("hooks are too slow: {CALLS_MAX} calls wait, more are left out"),
                    );
                }
            }
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Calls a hook with a table, unless that happens too often; what was left out is told in the next.
    fn call_thinned(&self, hook: &'static str, scope: &Scope, mut fields: Vec<(&'static str, HookField)>) {
        let now = Instant::now();
        let mut rates = lock(&self.rates);
        let rate = rates.entry((hook, scope.clone())).or_insert(Rate { since: now, count: 0, skipped: 0 });
        if now.saturating_duration_since(rate.since) > RATE_SPAN {
            (rate.since, rate.count) = (now, 0);
        }
        rate.count += 1;
        if rate.count > RATE_MAX {
            rate.skipped += 1;
            return;
        }
        fields.push(("skipped", HookField::Number(std::mem::take(&mut rate.skipped))));
        drop(rates);
        self.call(hook, scope, vec![HookValue::Table(fields)]);
    }

    fn enter(&self, scope: &Scope, new: &'static str) {
        let mut states = lock(&self.states);
        let (old, before) = states.get(scope).copied().unwrap_or(("connecting", "connecting"));
        // The end of a pause is the state before it.
        let new = if new == RESUMED { before } else { new };
        states.insert(scope.clone(), (new, old));
        drop(states);
        if old != new {
            let text = |text: &str| HookValue::Text(text.as_bytes().to_vec());
            self.call("onState", scope, vec![text(old), text(new)]);
        }
    }
}

impl Monitor for Hooked {
    fn notice(&self, scope: &Scope, notice: &Notice) {
        self.inner.notice(scope, notice);
        let text = |text: &str| HookField::Text(text.as_bytes().to_vec());
        match notice {
            Notice::Connected { .. } => self.enter(scope, "first_pass"),
            Notice::Live => self.enter(scope, "live"),
            Notice::Disconnected { .. } => self.enter(scope, "down"),
            Notice::Paused { on } => self.enter(scope, if *on { "paused" } else { RESUMED }),
            Notice::Batch { batch, changes } => self.call_thinned(
                "onBatch",
                scope,
                vec![("batch", HookField::Number(*batch)), ("changes", HookField::Number(*changes))],
            ),
            Notice::Problem { path, operation, errno, on_target } => self.call_thinned(
                "onProblem",
                scope,
                vec![
                    ("path", HookField::Text(path.as_bytes().to_vec())),
                    ("operation", text(operation)),
                    ("error", text(&failure_text(operation, *errno))),
                    ("errno", text(&errno_name(*errno))),
                    ("onTarget", HookField::Flag(*on_target)),
                ],
            ),
            Notice::Role { old, new, generation } => self.call_thinned(
                "onRole",
                scope,
                vec![("old", text(old)), ("new", text(new)), ("generation", HookField::Number(*generation))],
            ),
            Notice::Held { count, reason, .. } => self.call_thinned(
                "onHeld",
                scope,
                vec![("count", HookField::Number(*count)), ("reason", text(reason))],
            ),
            _ => {}
        }
    }

    fn itemized(&self, scope: &Scope, entry: &Itemized) {
        self.inner.itemized(scope, entry);
    }

    fn itemizes(&self) -> bool {
        self.inner.itemizes()
    }

    fn progress(&self, scope: &Scope, progress: &Progress) {
        self.inner.progress(scope, progress);
    }

    fn set_level(&self, sync: Option<&str>, level: Level) -> bool {
        self.inner.set_level(sync, level)
    }

    fn reopen(&self) {
        self.inner.reopen();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn warn(monitor: &dyn Monitor, text: String) {
    monitor.notice(&Scope::new("", ""), &Notice::Warning { text, hint: None });
}

/// What the thread of the hooks is at, for the one that looks after it.
#[derive(Default)]
struct Desk {
    /// The number and name of the call under way, and since when; `Err` when there are no more.
    at: Mutex<Option<(u64, &'static str, Instant)>>,
    over: Mutex<bool>,
    bell: Condvar,
}

fn start(hooks: Hooks, waiting: Receiver<Call>, limit: Duration, monitor: &Arc<dyn Monitor>) {
    let desk = Arc::new(Desk::default());
    let looker = (Arc::clone(&desk), Arc::clone(monitor));
    let worker = (desk, Arc::clone(monitor));
    let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
        // Without a thread there are no hooks, and everything else goes on.
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(body) {
            warn(&**monitor, format!("hooks: start a thread: {}", crate::error::io_text(&error)));
        }
    };
    spawn("hooks", Box::new(move || work(&hooks, &waiting, limit, &worker.0, &*worker.1)));
    spawn("hooks-clock", Box::new(move || look(&looker.0, limit, &*looker.1)));
}

fn work(hooks: &Hooks, waiting: &Receiver<Call>, limit: Duration, desk: &Desk, monitor: &dyn Monitor) {
    for (number, call) in (1..).zip(waiting.iter()) {
        *lock(&desk.at) = Some((number, call.hook, Instant::now()));
        desk.bell.notify_all();
        let done = hooks.call(call.hook, &call.values, limit);
        *lock(&desk.at) = None;
        desk.bell.notify_all();
        if let Err(error) = done {
            warn(monitor, format!("hook {}: {error}", call.hook));
        }
    }
    *lock(&desk.over) = true;
    // Under the lock that the other thread waits with, so that it cannot miss the bell.
    drop(lock(&desk.at));
    desk.bell.notify_all();
}

/// Tells of a call that does not come back, once.
fn look(desk: &Desk, limit: Duration, monitor: &dyn Monitor) {
    let mut told = 0;
    let mut at = lock(&desk.at);
    while !*lock(&desk.over) {
        let wait = match *at {
            Some((number, hook, since)) if number != told => {
                // Lua itself is ended at the limit: what goes on after it is stuck in the system.
                let left = (limit * 2).saturating_sub(since.elapsed());
                if left.is_zero() {
                    told = number;
                    let text = format!(
                        "hook {hook} has not come back for {:.1} s; no hook is called meanwhile",
                        since.elapsed().as_secs_f64()
                    );
                    drop(at);
                    warn(monitor, text);
                    at = lock(&desk.at);
                    continue;
                }
                left
            }
            _ => Duration::from_secs(3600),
        };
        at = desk.bell.wait_timeout(at, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
}
