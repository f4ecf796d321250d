//! Handing over to a standby that is being promoted.
//!
//! **Purpose:** a planned switch is one command on the host that shall lead, and loses nothing: what is left is sent and
//! acknowledged before this tree leads no more.
//! **In → Out:** a standby's question; what is under way, a refusal, or that everything was handed over.
//! **Invariants:** the role is written only after everything that happened before a fence was acknowledged, and never
//! later than the standby waits; until then this tree leads as ever. Only a target that may lead and is in step is
//! answered so, and at most once a minute.
//! **Not here:** the rule (`role::hand_over`), the fence (`daemon`), the promotion (`failover`).

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use super::Fenced;
use super::error::SessionError;
use super::lead::Lead;
use super::session::Session;
use crate::config::Durability;
use crate::disk::Root;
use crate::monitor::{Notice, counted, sized, spanned, time_left};
use crate::protocol::{self, HandOver, ToReceiver};
use crate::role::{Cut, Generation, HeardOf, HostName, Record, Refusal, Shown, Tree, hand_over};
use crate::role_file::{RoleFile, RoleFileError, clock};

/// A host that has handed over does so again no sooner.
const ONCE_IN: Duration = Duration::from_secs(60);
/// How often is looked while something is left.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(3);
/// How often the fence is taken anew meanwhile, which tells the session that nothing more comes.
const FENCE_EVERY: Duration = Duration::from_millis(15);
/// How often the standby is told how much is to be verified.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long the fence may take.
const FENCE_MAX: Duration = Duration::from_secs(30);
/// Two clocks that drift apart by less have not been set, in nanoseconds.
const STANDS: i64 = 1_000_000;
/// How long the standby may take to hang up.
const FAREWELL: Duration = Duration::from_secs(3);

/// A hand-over that is under way.
pub(super) struct Handing {
    coming: HeardOf,
    until: Instant,
    pub leaves_doubts: bool,
    fence: Receiver<Option<Fenced>>,
    fenced: Option<Fenced>,
    /// When the last answer of a fence came.
    at: Instant,
    /// All that is left was sent once: what came since then is little.
    again: bool,
    /// What the clock showed before the last fence.
    shown: Shown,
    told: Option<Instant>,
    /// Bytes that were to be verified at first, and when.
    first: (u64, Instant),
}

/// Why nothing is handed over: a line, and what may be typed.
type Why = (String, String);

impl Session {
    /// Takes in that the standby is being promoted.
    pub(super) fn is_asked_to_hand_over(&mut self, asked: &HandOver) -> Result<(), SessionError> {
        match self.may_hand_over(asked) {
            Ok(coming) => {
                let now = Instant::now();
                let bytes = self.shared.status.suspects.totals().1;
                self.handing = Some(Box::new(Handing {
                    coming,
                    until: now + Duration::from_millis(asked.limit_ms.min(24 * 3_600_000)),
                    leaves_doubts: asked.leaves_doubts,
                    shown: clock(),
                    fence: self.fence(),
                    fenced: None,
                    at: now,
                    again: false,
                    told: None,
                    first: (bytes, now),
                }));
                self.flush_source();
                Ok(())
            }
            Err(why) => self.refuse_hand_over(why),
        }
    }

    fn may_hand_over(&self, asked: &HandOver) -> Result<HeardOf, Why> {
        let (shared, here) = (&self.shared, crate::disk::host_name());
        let target = &shared.options.target;
        let no = |line: String, hint: &str| Err((line, hint.to_owned()));
        if !target.may_lead {
            return no(format!("on {here} this host has mayLead = false in hosts: it never leads"), "");
        }
        if shared.mailbox.is_paused() {
            return no(format!("{here} is paused and sends nothing"), &format!("`speil resume` on {here}"));
        }
        if shared.leading.led.is_none() || !self.stepping.is_done() {
            return no(format!("this host is not in step with {here} yet"), "");
        }
        let since = shared.leading.lead.handed_over().map(|at| at.elapsed());
        if let Some(since) = since.filter(|since| *since < ONCE_IN) {
            let (since, left) = (since.as_secs(), (ONCE_IN - since).as_secs() + 1);
            return no(
                format!("{here} has handed over {since} s ago, and does so once a minute"),
                &format!("type it again in {left} s"),
            );
        }
        let senseless = || ("what it tells of its tree makes no sense".to_owned(), String::new());
        let record = Record::from_text(asked.told.record.as_bytes()).map_err(|_| senseless())?;
        let coming = record.coming.ok_or_else(senseless)?;
        let generation = Generation::after(record.generation.as_ref(), record.heard, coming);
        Ok(HeardOf { generation, host: HostName::new(&asked.told.host) })
    }

    /// Has everything handed to the mailbox that has happened by now.
    fn fence(&self) -> Receiver<Option<Fenced>> {
        let (done, fenced) = bounded(1);
        let (feedback, mailbox) = (Arc::clone(&self.shared.feedback), Arc::clone(&self.shared.mailbox));
        let fence = move || {
            let _ = done.send(feedback.fence(&mailbox, FENCE_MAX));
            mailbox.wake();
        };
        // Without a thread there is no answer, and that is one.
        let _ = std::thread::Builder::new().name("fence".to_owned()).spawn(fence);
        fenced
    }

    /// Has the source's filesystem flushed beside: little is left to be flushed when the cut is noted.
    fn flush_source(&self) {
        let source = self.shared.leading.lead.source().map(std::path::Path::to_owned);
        let flush = move || {
            let _ = source.map(|source| Root::open(&source).map(rustix::fs::syncfs));
        };
        let _ = std::thread::Builder::new().name("flush".to_owned()).spawn(flush);
    }

    /// Goes on with a hand-over.
    ///
    /// # Errors
    /// [`SessionError::Role`] if this tree leads no more, and everything was said.
    pub(super) fn hand_on(&mut self, now: Instant) -> Result<(), SessionError> {
        let Some(mut handing) = self.handing.take() else { return Ok(()) };
        match handing.fence.try_recv() {
            Ok(Some(fenced)) => {
                let first = handing.fenced.unwrap_or(fenced);
                handing.fenced = Some(Fenced { sure: fenced.sure && first.sure, ..first });
                handing.at = now;
            }
            Ok(None) => return self.refuse_hand_over(unheard()),
            Err(TryRecvError::Disconnected) if handing.fenced.is_none() => {
                return self.refuse_hand_over(unheard());
            }
            Err(_) => {}
        }
        if handing.fenced.is_some_and(|fenced| self.has_sent_all_before(fenced.until)) {
            if handing.again {
                return self.hand(&handing, now);
            }
            (handing.again, handing.fenced, handing.shown) = (true, None, clock());
            handing.fence = self.fence();
        } else if handing.fenced.is_some() && handing.at + FENCE_EVERY <= now {
            (handing.fence, handing.at) = (self.fence(), now + FENCE_MAX);
        }
        if now >= handing.until {
            let why = self.too_late(&handing, now);
            return self.refuse_hand_over(why);
        }
        if handing.told.is_none_or(|told| told + TELL_EVERY <= now) {
            handing.told = Some(now);
            let (files, bytes) = self.to_be_verified(&handing);
            self.tell_handing(protocol::Handing::Under { files, bytes })?;
        }
        self.handing = Some(handing);
        Ok(())
    }

    fn has_sent_all_before(&self, moment: Instant) -> bool {
        self.owed_since().is_some_and(|owed| owed.is_none_or(|since| since > moment))
    }

    fn to_be_verified(&self, handing: &Handing) -> (u64, u64) {
        if handing.leaves_doubts { (0, 0) } else { self.shared.status.suspects.totals() }
    }

    fn too_late(&self, handing: &Handing, now: Instant) -> Why {
        let (here, limit) = (crate::disk::host_name(), now.saturating_duration_since(handing.first.1));
        let (files, bytes) = self.to_be_verified(handing);
        let seconds = limit.as_secs_f64().round();
        let hint = "--wait 10m waits for it".to_owned();
        if files > 0 {
            let about = time_left(handing.first.0, bytes, limit);
            let about = about.map(|about| spanned((about.as_secs_f64().ceil() as u64).max(1)));
            let about = about.map(|about| format!(", about {about}")).unwrap_or_default();
            let (files, bytes) = (counted(files, "file", "files"), sized(bytes));
            let line = format!("{files}, {bytes}, {here} has yet to verify{about}");
            return (line, format!("{hint}; --force leaves it"));
        }
        let pending = self.shared.mailbox.pending();
        let changes = counted((pending.queued + pending.out.changes) as u64, "change", "changes");
        let bytes = match pending.out.bytes {
            0 => String::new(),
            bytes => format!(", {}", sized(bytes)),
        };
        (format!("{here} had yet to send {changes}{bytes} after {seconds} s"), hint)
    }

    fn refuse_hand_over(&mut self, (line, hint): Why) -> Result<(), SessionError> {
        self.handing = None;
        self.shared.notice(&Notice::Message { text: format!("not handed over: {line}") });
        self.tell_handing(protocol::Handing::Refused { line, hint })
    }

    fn tell_handing(&self, handing: protocol::Handing) -> Result<(), SessionError> {
        self.shared.outbox.send(&ToReceiver::Handing(handing))?;
        Ok(self.shared.outbox.flush()?)
    }

    /// Hands over: everything is acknowledged.
    fn hand(&mut self, handing: &Handing, now: Instant) -> Result<(), SessionError> {
        let lead = Arc::clone(&self.shared.leading.lead);
        if now >= handing.until {
            let why = self.too_late(handing, now);
            return self.refuse_hand_over(why);
        }
        if let Err(why) = lead.steps_down_for(&handing.coming) {
            return self.refuse_hand_over(why);
        }
        let host = &handing.coming.host;
        let text =
            format!("handed over to {host}, which is to lead generation {}", handing.coming.generation.n());
        self.shared.notice(&Notice::Message { text });
        let (status, sync) = (&self.shared.status, &self.shared.options.sync);
        let same = handing.fenced.is_some_and(|fenced| fenced.sure)
            && status.problems().is_empty()
            && status.more_problems() == 0
            && status.suspects.totals().0 == 0
            && self.shared.held.summary().is_none()
            && sync.durability != Durability::None;
        // From here on the standby may be gone at any moment: it has all that it needs.
        let told = self.tell_handing(protocol::Handing::Done(same));
        let _ = told.and_then(|()| Ok(self.shared.outbox.send(&ToReceiver::Bye)?));
        let _ = self.shared.outbox.flush();
        if same {
            let (cut, shown) = (Cut::of_hand_over(handing.coming.generation.id()), handing.shown);
            let note = move || lead.note_hand_over(cut, shown);
            let _ = std::thread::Builder::new().name("note".to_owned()).spawn(note);
        }
        let (mut seen, until) = (0, now + FAREWELL);
        while self.shared.inbox().dead.is_none() && Instant::now() < until {
            self.shared.mailbox.wait_closed(&mut seen, until);
        }
        Err(SessionError::Role { line: "handed over".to_owned(), hint: String::new() })
    }
}

fn unheard() -> Why {
    ("the watch over its tree does not answer".to_owned(), String::new())
}

impl Lead {
    /// Writes that this tree leads no more, for what is coming.
    fn steps_down_for(&self, coming: &HeardOf) -> Result<(), Why> {
        let mut refused = None;
        let mut write = || -> Result<Option<Record>, RoleFileError> {
            let Some(file) = self.file()? else { return Ok(None) };
            let place = file.place()?;
            file.update(|old| match hand_over(Tree::of(old.ok()?, &place, false), coming) {
                Ok(record) => Some(record),
                Err(refusal) => {
                    refused = Some(refusal);
                    None
                }
            })
        };
        let written = write();
        let here = crate::disk::host_name();
        match (written, refused) {
            (Ok(_), Some(refusal)) => Err((format!("{here}: {refusal}"), hint(&refusal))),
            (Ok(Some(_)), None) => {
                *self.handed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(())
            }
            (Ok(None), None) => Err((format!("{here} leads nothing"), String::new())),
            (Err(error), _) => Err((format!("{here}: {error}"), String::new())),
        }
    }

    fn handed_over(&self) -> Option<Instant> {
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what both trees held, once that is on the disk.
    fn note_hand_over(&self, cut: Cut, shown: Shown) {
        let Some(root) = self.source().and_then(|source| Root::open(source).ok()) else { return };
        let now = clock();
        let stands = now.boot == shown.boot && (now.offset - shown.offset).abs() < STANDS;
        if stands
            && rustix::fs::syncfs(&root).is_ok()
            && let Ok(Some(file)) = RoleFile::open(&root)
        {
            // What is not noted makes a later adoption read more.
            let _ = file.note_cut(cut, shown);
        }
    }
}

/// What may be typed on the host that asked.
fn hint(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Diverged { .. } => {
            "another host has been promoted meanwhile: `speil promote -n` says which one".to_owned()
        }
        _ => String::new(),
    }
}
