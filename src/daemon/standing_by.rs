//! A sync whose source has a role and does not lead: nothing is sent, and the others are asked what they know.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::link_options::LinkOptions;
use crate::monitor::{Monitor, Notice, Scope};
use crate::protocol::RoleTold;
use crate::role::Role;
use crate::sender::{Lead, Mailbox, SessionError, Stand, TargetState, ask};

/// How often is looked whether the role of the source was changed, and how often where it has none.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_FOR_ONE_EVERY: Duration = Duration::from_secs(2);
/// How often another host is asked while none has answered since the boot.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// How long nothing is looked at otherwise; a change of the role ends it.
const REST: Duration = Duration::from_secs(60);

/// What one link knows of its waiting.
#[derive(Default)]
pub(super) struct StandingBy {
    said: String,
    asked: bool,
    /// What was last told of an answer that does not count, or cannot be taken in.
    warned: String,
}

impl StandingBy {
    /// Returns until when nothing is sent and the link has to wait; `None` if the source may send.
    pub fn look(&mut self, options: &LinkOptions, scope: &Scope) -> Option<Instant> {
        let around = &options.around;
        let Stand::Waits { told, line, hint, standby, well, confirmed, plain } = around.lead.stand() else {
            *self = Self::default();
            return None;
        };
        let state = if standby { TargetState::Standby } else { TargetState::Down };
        around.status.enter(state, Some(line.clone()).filter(|_| !well));
        if self.said != line {
            let hint = Some(hint).filter(|hint| !hint.is_empty());
            let notice = match hint {
                None => Notice::Message { text: line.clone() },
                hint => Notice::Warning { text: line.clone(), hint },
            };
            around.monitor.notice(scope, &notice);
            self.said = line;
        }
        if let Some(told) = told.filter(|_| !self.asked || !confirmed) {
            // Who is silent is asked again; that nobody has answered is what `speil health` says.
            let answer = options
                .transport()
                .and_then(|transport| ask(&*transport, &options.session(false), &told))
                .and_then(|told| take_in(options, told.as_ref(), plain));
            self.asked = answer.is_ok();
            if let Err(SessionError::Role { line, hint }) = answer
                && self.warned != line
            {
                let hint = Some(hint).filter(|hint| !hint.is_empty());
                around.monitor.notice(scope, &Notice::Warning { text: line.clone(), hint });
                self.warned = line;
            }
        }
        if plain && matches!(around.lead.stand(), Stand::Waits { line, .. } if line != self.said) {
            // What was just heard is told now.
            return Some(Instant::now());
        }
        // Where nobody leads, somebody may be promoted at any moment; or another link hears of one that does.
        let rests = self.asked && (!plain || around.lead.knows_a_leader());
        Some(Instant::now() + if rests { REST } else { ASK_EVERY })
    }
}

/// Takes in what the other host has answered. `plain`: the source has no role.
fn take_in(options: &LinkOptions, told: Option<&RoleTold>, plain: bool) -> Result<(), SessionError> {
    let lead = &options.around.lead;
    if plain {
        lead.beside(told, &options.target);
    }
    match told.filter(|_| !plain) {
        Some(told) => lead.hear(told, &options.target),
        None => Ok(()),
    }
}

/// Wakes the links of a sync when the role of its source changes.
pub(super) struct Warden {
    ends: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Of the links that are woken.
    mailboxes: Arc<Mutex<Vec<Arc<Mailbox>>>>,
}

impl Warden {
    /// Begins to look.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub fn start(
        lead: Arc<Lead>,
        mailboxes: Vec<Arc<Mailbox>>,
        monitor: Arc<dyn Monitor>,
        sync: &str,
    ) -> io::Result<Self> {
        let (ends, ended) = bounded::<()>(0);
        let scope = Scope::new(sync, "");
        let mailboxes = Arc::new(Mutex::new(mailboxes));
        let woken = Arc::clone(&mailboxes);
        let look = move || {
            let mut known = lead.stamp();
            let mut role = told_role(&lead, &*monitor, &scope, None);
            let pause = |known: Option<_>| if known.is_some() { LOOK_EVERY } else { LOOK_FOR_ONE_EVERY };
            while ended.recv_timeout(pause(known)) == Err(RecvTimeoutError::Timeout) {
                let now = lead.stamp();
                if now != known {
                    known = now;
                    role = told_role(&lead, &*monitor, &scope, role);
                    woken.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|mailbox| {
                        mailbox.retry();
                        mailbox.wake();
                    });
                }
            }
        };
        let thread = std::thread::Builder::new().name("role".to_owned()).spawn(look)?;
        Ok(Self { ends: Some(ends), thread: Some(thread), mailboxes })
    }

    /// Wakes these from now on.
    pub fn wakes(&self, mailboxes: Vec<Arc<Mailbox>>) {
        *self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner) = mailboxes;
    }
}

/// Tells the role of the source and its generation, unless they are as they were; returns them.
fn told_role(
    lead: &Lead,
    monitor: &dyn Monitor,
    scope: &Scope,
    old: Option<(Role, Option<u64>)>,
) -> Option<(Role, Option<u64>)> {
    let new = lead.role();
    if new != old {
        let word = |role: Option<(Role, _)>| role.map_or("none", |(role, _)| role.word());
        let generation = new.and_then(|(_, generation)| generation).unwrap_or(0);
        monitor.notice(scope, &Notice::Role { old: word(old), new: word(new), generation });
    }
    new
}

impl Drop for Warden {
    fn drop(&mut self) {
        self.ends = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
