//! Either end, ssh or sshd killed after each protocol message.
//!
//! The agent's bytes are dealt out to it message by message, so that a count says exactly what it has
//! taken and answered when somebody is killed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::scene::{Watch, exhaustive, write};
use crate::support::command::{Background, eventually};
use crate::support::process::{descendants, send};
use crate::support::sshd::Sshd;
use crate::support::stand::{Stand, differences, scratch, told};
use crate::support::syscalls::{Call, Verdict, hold};

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Sender,
    Agent,
    Ssh,
    Sshd,
}

const VICTIMS: [Victim; 4] = [Victim::Sender, Victim::Agent, Victim::Ssh, Victim::Sshd];

/// Bytes before the first frame.
const MAGIC_LEN: usize = 8;

/// How far an agent has been given its input.
#[derive(Default)]
struct Inbound {
    /// The header so far, of this frame; nothing between two frames.
    header: Vec<u8>,
    /// Bytes that are still to come before the next header.
    rest: Option<usize>,
}

impl Inbound {
    /// Returns the most bytes that belong to the piece that is under way.
    fn wanted(&self) -> usize {
        self.rest.unwrap_or_else(|| 4 - self.header.len())
    }

    fn is_between(&self) -> bool {
        self.rest.is_none() && self.header.is_empty()
    }

    fn took(&mut self, bytes: &[u8]) {
        match &mut self.rest {
            Some(rest) => *rest -= bytes.len(),
            None => self.header.extend_from_slice(bytes),
        }
        if let Ok(header) = <[u8; 4]>::try_from(self.header.as_slice()) {
            let header = u32::from_le_bytes(header);
            // What is packed says first how long it was.
            let packed = if header >> 24 == 0 { 0 } else { 4 };
            self.rest = Some((header & 0xff_ffff) as usize + packed);
            self.header.clear();
        }
        if self.rest == Some(0) {
            self.rest = None;
        }
    }
}

#[derive(Default)]
struct Shared {
    victim: Option<Victim>,
    /// After which message.
    nth: usize,
    seen: usize,
    fired: bool,
    sender: u32,
    sshd: u32,
    agents: HashMap<u32, Inbound>,
}

impl Shared {
    /// Counts a message, and kills if it is the one. Who it is about is held meanwhile.
    fn message(&mut self, agent: u32) {
        let Some(victim) = self.victim.filter(|_| !self.fired && self.sender != 0) else { return };
        self.seen += 1;
        if self.seen < self.nth {
            return;
        }
        let pids: Vec<u32> = match victim {
            Victim::Sender => vec![self.sender],
            Victim::Agent => vec![agent],
            Victim::Ssh => named(self.sender, "ssh"),
            Victim::Sshd => named(self.sshd, "sshd"),
        };
        self.fired = !pids.is_empty();
        for pid in pids {
            send(pid, Signal::KILL);
        }
    }
}

fn named(root: u32, name: &str) -> Vec<u32> {
    descendants(root).into_iter().filter(|p| p.name.starts_with(name)).map(|p| p.pid).collect()
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn judge(shared: &mut Shared, call: &Call) -> Verdict {
    if call.command().as_deref() != Some("agent") {
        return Verdict::Go;
    }
    let Some(pid) = call.pid() else { return Verdict::Go };
    if call.nr == libc::SYS_write {
        shared.message(pid);
        return Verdict::Go;
    }
    let begun = Inbound { rest: Some(MAGIC_LEN), ..Inbound::default() };
    if shared.agents.entry(pid).or_insert(begun).is_between() {
        shared.message(pid);
    }
    let Some(inbound) = shared.agents.get_mut(&pid) else { return Verdict::Go };
    deal(inbound, call).unwrap_or(Verdict::Fail(libc::EAGAIN))
}

/// Reads in the agent's place, no further than the piece that is under way.
fn deal(inbound: &mut Inbound, call: &Call) -> std::io::Result<Verdict> {
    let stdin = call.borrow_fd(0)?;
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
        return Ok(Verdict::Fail(libc::EAGAIN));
    }
    let mut bytes = vec![0; inbound.wanted().min(usize::try_from(call.args[2]).unwrap_or(0))];
    let len = rustix::io::read(&stdin, &mut bytes)?;
    bytes.truncate(len);
    call.put_bytes(call.args[1], &bytes)?;
    inbound.took(&bytes);
    Ok(Verdict::Done(i64::try_from(len).unwrap_or(0)))
}

/// A stand whose agents are dealt their messages.
struct Arena {
    stand: Stand,
    shared: Arc<Mutex<Shared>>,
    newest: Arc<AtomicU32>,
}

impl Arena {
    fn new() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let sshd = Sshd::start_as("", &|command| {
            let keep = Arc::clone(&shared);
            let calls = [(libc::SYS_read, Some(0)), (libc::SYS_write, Some(1))];
            hold(command, &calls, move |call| judge(&mut lock(&keep), call));
        });
        lock(&shared).sshd = sshd.pid();
        let arena = Self { stand: Stand::with(&scratch(), sshd), shared, newest: Arc::default() };
        arena.write();
        arena.stand.mirror(&["standby"], &["--reconcile-interval=never"]).terminate();
        arena
    }

    fn write(&self) {
        let version = self.newest.fetch_add(1, Ordering::AcqRel) + 1;
        write(&self.stand.source(), version);
    }

    fn start(&self) -> Background {
        let mirror =
            self.stand.start_mirror(&["standby"], &["--reconcile-interval=never", "--no-delete-guard"]);
        lock(&self.shared).sender = mirror.pid();
        mirror
    }

    /// Changes before a start and after it, and a kill after so many messages of all this. Returns whether
    /// there were so many.
    fn round(&self, victim: Victim, nth: usize) -> bool {
        let sshd = self.stand.sshd.pid();
        *lock(&self.shared) = Shared { victim: Some(victim), nth, sshd, ..Shared::default() };
        let (source, target) = (self.stand.source(), self.stand.target("standby"));
        let watch = Watch::of(&target, &self.newest);
        self.write();
        let mut mirror = self.start();
        let fired = || lock(&self.shared).fired;
        eventually("a first pass, or a kill", || {
            fired() || mirror.stdout().iter().any(|line| line.ends_with(": live"))
        });
        self.write();
        eventually("both are equal again", || {
            if !mirror.is_running() {
                mirror = self.start();
            }
            differences(&source, &target).is_empty()
        });
        // Only when all is quiet it is known whether so many messages came.
        let fired = fired();
        lock(&self.shared).victim = None;
        mirror.terminate();
        let left = differences(&source, &target);
        assert!(left.is_empty(), "{victim:?} {nth}: {}", told(&left));
        assert!(watch.end() > 0, "{victim:?} {nth}: nobody looked");
        fired
    }
}

#[test]
fn whoever_is_killed_after_whichever_message_the_trees_converge_and_no_name_is_ever_absent_or_mixed() {
    let arena = Arena::new();
    let mut rounds = 0;
    for (at, victim) in VICTIMS.into_iter().enumerate() {
        if !exhaustive() {
            // Something of the first pass, and something of what is live.
            for nth in [3 + 2 * at, 19 + 3 * at] {
                arena.round(victim, nth);
            }
            continue;
        }
        // The acknowledgement of what was written last may come after both trees are equal.
        let (mut nth, mut missed) = (1, 0);
        while missed < 3 {
            rounds += 1;
            missed = if arena.round(victim, nth) { 0 } else { missed + 1 };
            nth += 1;
        }
        println!("{victim:?}: killed after each of {nth} messages");
    }
    println!("{rounds} rounds, {} versions", arena.newest.load(Ordering::Acquire));
}
