//! Telling people what got worse, or well again.
//!
//! **In → Out:** reports; messages, delivered on a thread of their own. **Invariants:** [`Notifier::look`] never waits
//! for a delivery; one that fails is a line in the log, and is tried again a few times; the messages of one way arrive
//! in their order; what cannot be delivered is bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::alarm::Alarms;
use super::message::{Message, message, trial};
use super::way::Recipient;
use crate::config::Notify;
use crate::disk::host_name;
use crate::monitor::{Monitor, Notice, Scope};
use crate::status::{Report, Tried};

/// Messages that wait for one way; the oldest are given up.
const WAITING_MAX: usize = 20;
/// Pauses before a delivery that failed is tried again.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600), Duration::from_secs(1800)];

/// Who is told, and the way to the thread that tells.
struct Told {
    alarms: Alarms,
    ways: Vec<Recipient>,
    messages: Sender<Message>,
}

/// What tells people.
pub struct Notifier {
    monitor: Arc<dyn Monitor>,
    told: Mutex<Option<Told>>,
}

impl Notifier {
    /// Tells whom `notify` names; failures are told to `monitor`.
    pub fn new(monitor: Arc<dyn Monitor>, notify: Option<&Notify>) -> Self {
        let notifier = Self { monitor, told: Mutex::default() };
        notifier.replace(notify);
        notifier
    }

    /// Tells others from now on. What was told already is not told again.
    pub fn replace(&self, notify: Option<&Notify>) {
        let mut told = self.lock();
        let Some(notify) = notify else {
            *told = None;
            return;
        };
        let ways = Recipient::all(notify);
        let before = told.take();
        let alarms = match before {
            Some(Told { mut alarms, ways: same, messages }) => {
                alarms.set(notify.after, notify.max_lag);
                if same == ways {
                    *told = Some(Told { alarms, ways, messages });
                    return;
                }
                alarms
            }
            None => Alarms::new(notify.after, notify.max_lag),
        };
        let (messages, waiting) = bounded(WAITING_MAX);
        let (monitor, lanes) = (Arc::clone(&self.monitor), ways.iter().cloned().map(Lane::new).collect());
        let thread = std::thread::Builder::new().name("notify".to_owned());
        if let Err(error) = thread.spawn(move || work(&*monitor, lanes, &waiting)) {
            warn(&*self.monitor, format!("notify: start a thread: {}", crate::error::io_text(&error)));
        }
        *told = Some(Told { alarms, ways, messages });
    }

    /// Takes in how things are.
    pub fn look(&self, report: &Report) {
        let mut told = self.lock();
        let Some(told) = told.as_mut() else { return };
        let Some(news) = told.alarms.look(report, Instant::now()) else { return };
        if told.messages.try_send(message(&host_name(), &news)).is_err() {
            warn(&*self.monitor, "notify: a message is left out, since earlier ones still wait".to_owned());
        }
    }

    /// Sends a test by every way, and returns how that went. Waits for it.
    pub fn try_out(&self, time: u64) -> Vec<Tried> {
        let ways = self.lock().as_ref().map(|told| told.ways.clone()).unwrap_or_default();
        let message = trial(&host_name(), time);
        let tried = ways.iter().map(|way| Tried { way: way.name(), error: way.deliver(&message).err() });
        tried.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warn(monitor: &dyn Monitor, text: String) {
    monitor.notice(&Scope::new("", ""), &Notice::Warning { text, hint: None });
}

/// One way, and what waits for it.
struct Lane {
    way: Recipient,
    waiting: VecDeque<Message>,
    /// Deliveries of the first of them that failed, and when the next is tried.
    failed: usize,
    next: Instant,
}

impl Lane {
    fn new(way: Recipient) -> Self {
        Self { way, waiting: VecDeque::new(), failed: 0, next: Instant::now() }
    }

    /// Delivers what is due.
    fn step(&mut self, monitor: &dyn Monitor) {
        while let Some(message) = self.waiting.front().filter(|_| self.next <= Instant::now()) {
            let failed = self.way.deliver(message).err();
            let pause = PAUSES.get(self.failed).copied();
            if let Some(error) = &failed {
                let next = match pause {
                    Some(pause) => format!("tried again in {} s", pause.as_secs()),
                    None => format!("given up: {}", message.subject),
                };
                warn(monitor, format!("notify: {}: {error}; {next}", self.way.name()));
            }
            match (failed, pause) {
                (Some(_), Some(pause)) => {
                    self.failed += 1;
                    self.next = Instant::now() + pause;
                }
                _ => {
                    self.waiting.pop_front();
                    self.failed = 0;
                }
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next)
    }
}

fn work(monitor: &dyn Monitor, mut lanes: Vec<Lane>, messages: &Receiver<Message>) {
    loop {
        let next = lanes.iter().filter_map(Lane::next).min();
        let heard = match next {
            Some(at) => messages.recv_deadline(at),
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match heard {
            Ok(message) => {
                for lane in &mut lanes {
                    lane.waiting.push_back(message.clone());
                    if lane.waiting.len() > WAITING_MAX {
                        lane.waiting.pop_front();
                        lane.failed = 0;
                        warn(monitor, format!("notify: {}: the oldest message is given up", lane.way.name()));
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The configuration names other ways by now.
            Err(RecvTimeoutError::Disconnected) => return,
        }
        lanes.iter_mut().for_each(|lane| lane.step(monitor));
    }
}
