//! A live mirror whose source is on another host, on the side of its target.
//!
//! **Purpose:** [`Pulled`] keeps one far side at work: it connects, connects again for ever, remembers between two
//! connections what the far side cannot, and answers for the mirror what the control socket is asked.
//! **In → Out:** a sync, its source's host; a target that is like its source, and a report.
//! **Invariants:** what the far side says of the mirror is shown without control characters, under the names that were
//! given here; while there is no connection, nothing is said to be in step.
//! **Not here:** what travels (`pulling`), and everything that looks at the source: the far side does (`sending/live`).

mod asking;

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::hint::hint_for;
use super::link::{next_attempt, pause};
use super::lock::Lock;
use super::memory::Memory;
use super::mirror_id;
use super::pulling::{Keeper, PullOptions, Pulled as Outcome, Stopper, is_older, pull_for};
use super::report::{clean, seconds};
use crate::config::Sync;
use crate::error::{Consequence, Consequential};
use crate::monitor::{Monitor, Notice, Scope};
use crate::protocol::{Failure, PullLive, Unsent, Volume};
use crate::sender::{Before, Identity, SessionError};
use crate::status::{Answer, SyncReport, TargetReport};

/// Puts for people why nothing is sent, with what to do about it.
type UnsentWords = Box<dyn Fn(&Unsent) -> (String, Option<String>) + Send + std::marker::Sync>;

/// What a live mirror pulls, and how.
pub struct Pulling {
    /// Its source is a path on `host`, its one target on this one.
    pub sync: Sync,
    /// User and host as ssh takes them.
    pub host: String,
    /// How the connection is made.
    pub options: PullOptions,
    /// Puts for people why nothing is sent, with what to do about it.
    pub words: UnsentWords,
}

/// Why a live pull cannot begin, other than for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unstarted {
    /// The source's host sends nothing.
    Unsent(Unsent),
    /// The speil there is too old.
    Older,
}

/// Who is told how the first try went.
type First = oneshot::Sender<Option<Unstarted>>;

/// A live mirror that is pulled.
pub(super) struct Pulled {
    it: Pulling,
    identity: Identity,
    scope: Scope,
    monitor: Arc<dyn Monitor>,
    inner: Mutex<Inner>,
    changed: Condvar,
    /// What is asked and not answered yet, by its number.
    asked: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    asks: AtomicU64,
}

/// What changes.
struct Inner {
    closed: bool,
    /// Another try is to be made at once.
    retry: bool,
    paused: bool,
    /// How often somebody has paused or resumed.
    pauses: u64,
    first: Option<First>,
    stopper: Option<Stopper>,
    /// The far side is at work, and since when it is what it is.
    link: Link,
    memory: Memory,
    before: Option<Before>,
    /// What the far side said last of the mirror.
    report: SyncReport,
    /// What earlier far sides have sent.
    earlier: TargetReport,
    thread: Option<JoinHandle<()>>,
    _lock: Option<Lock>,
}

/// How the connection is.
struct Link {
    state: &'static str,
    since: SystemTime,
    error: Option<String>,
    /// Since when nothing is known of what is owed.
    lost: Option<Instant>,
    was_live: bool,
    connects: u64,
}

impl Pulled {
    /// Takes the lock of the mirror and begins to connect; `first` is told how that went.
    ///
    /// # Errors
    /// [`SessionError::Kept`] by another daemon; [`SessionError::Source`] without a thread.
    pub fn start(it: Pulling, monitor: Arc<dyn Monitor>, first: First) -> Result<Arc<Self>, SessionError> {
        let no_target = || SessionError::Option("no target".to_owned());
        let target = it.sync.targets.first().ok_or_else(no_target)?;
        let identity = mirror_id(&as_told_apart(&it), target);
        let lock = Lock::take_live(&identity.id);
        let lock = lock.map_err(|pid| SessionError::Kept { target: target.to_string(), pid })?;
        let scope = Scope::new(&it.sync.name, &target.name);
        let mut memory = Memory::of(&identity.id, target);
        let before = match memory.read() {
            Ok(volume) => volume.map(|volume| Before { volume, noted: true }),
            Err(warning) => {
                monitor.notice(&scope, &warning);
                None
            }
        };
        let link = Link {
            state: "connecting",
            since: SystemTime::now(),
            error: None,
            lost: None,
            was_live: false,
            connects: 0,
        };
        let inner = Inner {
            closed: false,
            retry: false,
            paused: false,
            pauses: 0,
            first: Some(first),
            stopper: None,
            link,
            memory,
            before,
            report: SyncReport::default(),
            earlier: TargetReport::default(),
            thread: None,
            _lock: lock,
        };
        let this = Arc::new(Self {
            it,
            identity,
            scope,
            monitor,
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            asked: Mutex::default(),
            asks: AtomicU64::new(0),
        });
        let keeps = Arc::clone(&this);
        let thread = std::thread::Builder::new().name("link".to_owned()).spawn(move || keeps.keep());
        let thread = thread.map_err(|error| SessionError::Source(format!("start a thread: {error}")))?;
        this.inner().thread = Some(thread);
        Ok(this)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the sync as what is kept of it is named: by its host as well.
    pub fn told_apart(&self) -> Sync {
        as_told_apart(&self.it)
    }

    /// Ends both sides in order, and waits for that.
    pub fn stop(&self) {
        let (stopper, thread) = {
            let mut inner = self.inner();
            inner.closed = true;
            (inner.stopper.clone(), inner.thread.take())
        };
        self.changed.notify_all();
        if let Some(stopper) = stopper {
            stopper.stop();
        }
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Connects again for ever.
    fn keep(self: Arc<Self>) {
        let keeper: Arc<dyn Keeper> = Arc::clone(&self) as _;
        let mut attempt = 0;
        while !self.inner().closed {
            let began = Instant::now();
            let (sync, host) = (&self.it.sync, self.it.host.as_str());
            let outcome = pull_for(Some(&keeper), (sync, host), &self.it.options, &self.monitor, |stopper| {
                self.begin(&stopper);
            });
            let was_live = self.disconnected();
            if self.inner().closed {
                return;
            }
            let Some((text, hint, consequence)) = self.judged(outcome) else { return };
            attempt = next_attempt(attempt, began, was_live);
            let retry = pause(attempt, consequence);
            self.down((text, hint), retry, attempt);
            self.rest(Instant::now() + retry);
        }
    }

    fn begin(&self, stopper: &Stopper) {
        let mut inner = self.inner();
        inner.stopper = Some(stopper.clone());
        if inner.closed {
            stopper.stop();
        }
    }

    /// Takes in that there is no connection. Whether the first pass was done.
    fn disconnected(&self) -> bool {
        let mut inner = self.inner();
        inner.stopper = None;
        let was_live = std::mem::take(&mut inner.link.was_live);
        if inner.link.lost.is_none() {
            inner.link.lost = Some(Instant::now());
        }
        if let Some(last) = std::mem::take(&mut inner.report).targets.into_iter().next() {
            let earlier = &mut inner.earlier;
            earlier.lag_ms = last.lag_ms;
            earlier.last_batch = last.last_batch;
            earlier.sent_bytes += last.sent_bytes;
            earlier.received_bytes += last.received_bytes;
            earlier.batches += last.batches;
            earlier.files += last.files;
        }
        drop(inner);
        // Whoever waits for an answer hears that there is none.
        self.asked().clear();
        was_live
    }

    /// Returns why it ended, what to do about it, and what follows; `None` if this is the end.
    fn judged(&self, outcome: Outcome) -> Option<(String, Option<String>, Consequence)> {
        let again = Consequence::Again;
        let ended = match outcome {
            Outcome::Unsent(why) => {
                if let Some(first) = self.inner().first.take() {
                    let _ = first.send(Some(Unstarted::Unsent(why)));
                    return None;
                }
                let (text, hint) = (self.it.words)(&why);
                let follows = if matches!(why, Unsent::Source(_)) { again } else { Consequence::Die };
                return Some((text, hint, follows));
            }
            Outcome::Broken(error) => {
                if is_older(&error)
                    && let Some(first) = self.inner().first.take()
                {
                    let _ = first.send(Some(Unstarted::Older));
                    return None;
                }
                error
            }
            Outcome::Done { account, .. } => match account.failure {
                Some(Failure::Refused(refusal)) => SessionError::Refused(refusal),
                Some(Failure::Other { text, hint, .. }) => return Some((text, hint, again)),
                None => return Some(("the source's host has ended the mirror".to_owned(), None, again)),
            },
        };
        self.tell_first();
        let hint = self.it.sync.targets.first().and_then(|target| hint_for(&ended, target));
        Some((ended.to_string(), hint, ended.consequence()))
    }

    /// Tells whoever waits for it that the mirror goes on by itself from here.
    fn tell_first(&self) {
        if let Some(first) = self.inner().first.take() {
            let _ = first.send(None);
        }
    }

    fn down(&self, (text, hint): (String, Option<String>), retry: Duration, attempt: u32) {
        self.tell_first();
        let is_known = {
            let mut inner = self.inner();
            let is_known = inner.link.state == "down" && inner.link.error.as_ref() == Some(&text);
            if inner.link.state != "down" {
                inner.link.since = SystemTime::now();
            }
            (inner.link.state, inner.link.error) = ("down", Some(text.clone()));
            is_known
        };
        if !is_known {
            let notice = Notice::Disconnected { error: text, hint, retry: Some(retry), attempt };
            self.monitor.notice(&self.scope, &notice);
        }
    }

    /// Waits until a moment, until somebody asks for another try, or until the end.
    fn rest(&self, until: Instant) {
        let mut inner = self.inner();
        while !inner.closed && !std::mem::take(&mut inner.retry) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.changed.wait_timeout(inner, left);
            inner = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns how things are, as far as is known here.
    pub fn report(&self) -> SyncReport {
        let inner = self.inner();
        let (link, earlier, mut report) = (&inner.link, &inner.earlier, inner.report.clone());
        let mut target = report.targets.pop().unwrap_or_default();
        if target.state.is_empty() || link.state == "down" || link.state == "connecting" {
            (target.state, target.since) = (link.state.to_owned(), seconds(link.since));
            target.lag_ms = earlier.lag_ms;
            target.last_batch = target.last_batch.or(earlier.last_batch);
        }
        if let Some(lost) = link.lost {
            // What has changed there meanwhile nobody here knows: as if something had, at once.
            let unknown = u64::try_from(lost.elapsed().as_millis()).unwrap_or(u64::MAX);
            target.lag_ms = target.lag_ms.saturating_add(unknown);
        }
        target.sent_bytes += earlier.sent_bytes;
        target.received_bytes += earlier.received_bytes;
        target.batches += earlier.batches;
        target.files += earlier.files;
        target.connects = link.connects;
        target.error = link.error.as_deref().map(clean).or(target.error);
        if let Some(asked) = self.it.sync.targets.first() {
            (target.name, target.target) = (clean(&asked.name), clean(&asked.to_string()));
        }
        report.name = clean(&self.it.sync.name);
        report.source = clean(&format!("{}:{}", self.it.host, self.it.sync.source.display()));
        report.running = true;
        report.error = None;
        report.targets = vec![target];
        report
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a sync whose source is that of no sync of this host: the same path on two hosts is two mirrors.
fn as_told_apart(it: &Pulling) -> Sync {
    let path = it.sync.source.as_os_str().as_bytes();
    let source = [b"/", it.host.as_bytes(), b":", path].concat();
    Sync { source: PathBuf::from(OsString::from_vec(source)), ..it.sync.clone() }
}

impl Keeper for Pulled {
    fn live(&self) -> PullLive {
        let (sync, inner) = (&self.it.sync, self.inner());
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        PullLive {
            names: (self.scope.sync.to_string(), self.scope.target.to_string()),
            delays_ms: (millis(sync.delay), millis(sync.max_delay), millis(sync.max_open)),
            interval_ms: sync.reconcile.interval.map(millis),
            watch: sync.watch,
            poll_ms: millis(sync.poll_interval),
            again: inner.link.connects > 0,
            paused: inner.paused,
            arrivals: true,
        }
    }

    fn mirror(&self) -> Identity {
        self.identity.clone()
    }

    fn before(&self) -> Option<Before> {
        self.inner().before.clone()
    }

    fn begins(&self) {
        self.tell_first();
    }

    fn accepted(&self, volume: Option<Volume>) {
        let Some(volume) = volume else { return };
        let mut inner = self.inner();
        inner.before = Some(Before { volume: volume.clone(), noted: false });
        let noted = inner.memory.write(&volume);
        drop(inner);
        if let Err(warning) = noted {
            self.monitor.notice(&self.scope, &warning);
        }
    }

    fn happened(&self, notice: &Notice) {
        let mut inner = self.inner();
        let state = match notice {
            Notice::Connected { .. } => {
                inner.link.connects += 1;
                "first_pass"
            }
            Notice::Live => {
                inner.link.was_live = true;
                "live"
            }
            _ => return,
        };
        (inner.link.state, inner.link.since, inner.link.error) = (state, SystemTime::now(), None);
        inner.link.lost = None;
    }

    fn answered(&self, id: u64, answer: &[u8]) {
        let Some(answer) = asking::heard(answer) else { return };
        if let Answer::Status(report) = &answer
            && let Some(report) = report.syncs.first()
        {
            self.inner().report = report.clone();
        }
        if let Some(waits) = self.asked().remove(&id) {
            let _ = waits.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_target;

    #[test]
    fn one_path_on_two_hosts_is_two_mirrors_and_one_host_is_one_wherever_it_is_started() {
        let id = |host: &str, path: &str| {
            let target = parse_target("/t").unwrap();
            let sync = Sync::new("s", path, vec![target.clone()]);
            let words = Box::new(|_: &Unsent| (String::new(), None));
            let it = Pulling { sync, host: host.to_owned(), options: PullOptions::default(), words };
            mirror_id(&as_told_apart(&it), &target).id
        };
        let here = mirror_id(&Sync::new("s", "/s", Vec::new()), &parse_target("/t").unwrap()).id;
        let all = [here, id("a", "/s"), id("b", "/s"), id("u@a", "/s"), id("a", "s"), id("a", "/t")];
        for (at, this) in all.iter().enumerate() {
            assert!(!all[..at].contains(this), "number {at}");
        }
        assert_eq!(id("a", "/s/"), id("a", "/s"));
    }
}
