//! What may happen next.

use speil::role::{Demotion, Leader, Record, Rejoined, demote, fitness, rejoin};

use crate::mutants::Mutant;
use crate::step::{
    FORCES, Far, Step, begin_promotion, boot, changed, connect, exchange, fresh_start, intent, is_promoting,
    lead, pass, promotion, promotion_step, settle_intent,
};
use crate::world::{Disk, HOSTS, PLAIN, Pool, Stage, State, UNREADABLE, link, name, place};

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Promote(usize),
    Force(usize),
    ForceHalf(usize),
    Step(usize),
    StepAlone(usize),
    KillVerb(usize),
    BeginAgain(usize),
    Demote(usize),
    Rejoin(usize, usize),
    Ask(usize, usize),
    Connect(usize, usize),
    AdoptionBegins(usize),
    PartOfPass(usize),
    Pass(usize),
    Cut(u8),
    Heal(u8),
    PowerCut(usize),
    PowerCutLoses(usize),
    Boot(usize),
    Restart(usize),
    Upload(usize),
    Snapshot(usize),
    SetBack(usize),
    Restore(usize),
    Copy(usize, usize),
    StateGone(usize),
    EmptyDisk(usize),
    RoleDamaged(usize),
}

/// Classes of events that are rationed, in the order of [`State::budget`].
pub const CLASSES: usize = 10;
pub const PROMOTE: usize = 0;
pub const FORCE: usize = 1;
pub const DEMOTE: usize = 2;
pub const UPLOAD: usize = 3;
pub const CUT: usize = 4;
pub const CRASH: usize = 5;
pub const KILL: usize = 6;
/// A snapshot, and what is put back from it.
pub const SNAPSHOT: usize = 7;
/// Other faults of a disk.
pub const DISK: usize = 8;
/// keepalived is started with the host: a boot demotes.
pub const VRRP: usize = 9;

impl Event {
    /// Returns what it uses up.
    pub fn class(self) -> Option<usize> {
        Some(match self {
            Self::Promote(_) => PROMOTE,
            Self::Force(_) | Self::ForceHalf(_) => FORCE,
            Self::Demote(_) | Self::Rejoin(..) => DEMOTE,
            Self::Upload(_) => UPLOAD,
            Self::Cut(_) => CUT,
            Self::PowerCut(_) | Self::PowerCutLoses(_) | Self::Restart(_) => CRASH,
            Self::KillVerb(_) => KILL,
            Self::Snapshot(_) | Self::SetBack(_) | Self::Restore(_) => SNAPSHOT,
            Self::Copy(..) | Self::StateGone(_) | Self::EmptyDisk(_) | Self::RoleDamaged(_) => DISK,
            _ => return None,
        })
    }

    /// Returns every event that there may be.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for h in 0..HOSTS {
            all.extend([
                Self::Promote(h),
                Self::Step(h),
                Self::StepAlone(h),
                Self::Demote(h),
                Self::Upload(h),
            ]);
            all.extend([Self::AdoptionBegins(h), Self::PartOfPass(h), Self::Pass(h)]);
            all.extend([Self::KillVerb(h), Self::BeginAgain(h), Self::Force(h), Self::ForceHalf(h)]);
            all.extend([Self::PowerCut(h), Self::PowerCutLoses(h), Self::Boot(h), Self::Restart(h)]);
            all.extend([Self::Snapshot(h), Self::SetBack(h), Self::Restore(h), Self::StateGone(h)]);
            all.extend([Self::EmptyDisk(h), Self::RoleDamaged(h)]);
            for o in (0..HOSTS).filter(|o| *o != h) {
                all.extend([Self::Connect(h, o), Self::Rejoin(h, o), Self::Copy(h, o)]);
                if h < o {
                    all.extend([Self::Ask(h, o), Self::Cut(link(h, o)), Self::Heal(link(h, o))]);
                }
            }
        }
        all
    }

    /// Returns the state after the event; `None` if it cannot happen or changes nothing.
    pub fn apply(self, pool: &mut Pool, s: &State) -> Step {
        if self.class().is_some_and(|class| s.budget[class] == 0) {
            return Ok(None);
        }
        let after = self.happens(pool, s)?;
        Ok(after.map(|mut t| {
            if let Some(class) = self.class() {
                t.budget[class] -= 1;
            }
            t
        }))
    }

    fn happens(self, pool: &mut Pool, s: &State) -> Step {
        let up = |h: usize| s.hosts[h].up;
        match self {
            Self::Promote(h) => Ok(begin_promotion(pool, s, h, 0)),
            Self::Force(h) | Self::ForceHalf(h) => {
                let force = if matches!(self, Self::Force(_)) { 1 } else { 2 };
                if promotion(pool, s, h, FORCES[force - 1]).is_ok() {
                    return Ok(None);
                }
                Ok(begin_promotion(pool, s, h, force))
            }
            Self::Step(h) => promotion_step(pool, s, h, false),
            Self::StepAlone(h) if s.hosts[h].stage < Stage::Locked => promotion_step(pool, s, h, true),
            Self::KillVerb(h) if s.hosts[h].stage != Stage::Idle => {
                let mut t = *s;
                t.hosts[h].stage = Stage::Idle;
                if !is_promoting(t.hosts[h].intent) {
                    settle_intent(&mut t, h);
                }
                Ok(Some(t))
            }
            Self::BeginAgain(h) => Ok(begin_again(pool, s, h)),
            Self::Demote(h) if up(h) => Ok(demoted(pool, s, h)),
            Self::Rejoin(h, o) if s.reaches(h, o) => Ok(rejoins(pool, s, h, o)),
            Self::Ask(a, b) => Ok(ask(pool, s, a, b)),
            Self::Connect(a, r) => connect(pool, s, a, r),
            Self::AdoptionBegins(r) => pass(pool, s, r, Far::Begun),
            Self::PartOfPass(r) => pass(pool, s, r, Far::Part),
            Self::Pass(r) => pass(pool, s, r, Far::Whole),
            Self::Cut(link) if s.cut & link == 0 => Ok(Some(cut(s, link))),
            Self::Heal(link) if s.cut & link != 0 => Ok(Some(State { cut: s.cut & !link, ..*s })),
            Self::PowerCut(h) if up(h) => Ok(Some(power_cut(pool, s, h, false))),
            Self::PowerCutLoses(h) if up(h) && newest(s, h) != 0 => Ok(Some(power_cut(pool, s, h, true))),
            Self::Boot(h) if !up(h) => booted(pool, s, h),
            Self::Restart(h) if up(h) => Ok(restarted(pool, s, h)),
            Self::Upload(h) if up(h) && s.uploads < 8 => Ok(Some(uploaded(s, h))),
            _ => Ok(self.disk_fault(pool, s)),
        }
    }

    fn disk_fault(self, pool: &mut Pool, s: &State) -> Option<State> {
        let mut t = *s;
        match self {
            Self::Snapshot(h) if s.snapshot.is_none() => {
                t.snapshot = Some((h as u8, s.hosts[h].record, s.hosts[h].disk));
            }
            Self::SetBack(h) | Self::Restore(h) => {
                let (of, record, disk) = s.snapshot.filter(|(of, ..)| usize::from(*of) == h)?;
                stop(&mut t, of.into());
                t.hosts[h].record = record;
                t.hosts[h].place += u8::from(self == Self::Restore(h));
                forget(pool, &mut t, h);
                t.disk_fault(h, disk);
            }
            Self::Copy(from, to) => {
                stop(&mut t, to);
                t.hosts[to].record = s.hosts[from].record;
                t.hosts[to].place += 1;
                forget(pool, &mut t, to);
                t.disk_fault(to, Disk { own: 0, ..s.hosts[from].disk });
            }
            Self::StateGone(h) if s.hosts[h].record != PLAIN => {
                stop(&mut t, h);
                t.hosts[h].record = PLAIN;
                t.hosts[h].ours = false;
                forget(pool, &mut t, h);
                t.disk_fault(h, Disk { tree: s.hosts[h].disk.tree, ..Disk::default() });
            }
            Self::EmptyDisk(h) if s.hosts[h].record != PLAIN => {
                stop(&mut t, h);
                t.hosts[h].record = PLAIN;
                t.hosts[h].ours = false;
                forget(pool, &mut t, h);
                t.disk_fault(h, Disk::default());
            }
            Self::RoleDamaged(h) if s.hosts[h].record > UNREADABLE => {
                stop(&mut t, h);
                t.hosts[h].record = UNREADABLE;
                forget(pool, &mut t, h);
                let disk = s.hosts[h].disk;
                t.disk_fault(h, disk);
            }
            _ => return None,
        }
        Some(t)
    }
}

/// The host is switched off.
fn stop(t: &mut State, h: usize) {
    t.end_sessions_of(h);
    let host = &mut t.hosts[h];
    host.end_session();
    (host.up, host.confirmed, host.stage) = (false, false, Stage::Idle);
    host.ghost.talked = false;
}

/// What a host has heard is what its record says; whatever else it once heard is on no disk.
fn forget(pool: &Pool, t: &mut State, h: usize) {
    let record = pool.get(t.hosts[h].record);
    let bit = |generation: &speil::role::Generation| 1 << crate::world::number_of(generation.id());
    let known = record.into_iter().flat_map(|record| {
        record.generation.iter().chain(record.known.iter().map(|known| &known.generation))
    });
    t.hosts[h].ghost.heard = known.map(bit).fold(0u8, |bits, bit: u8| bits | bit);
    t.hosts[h].ghost.demoted = false;
    settle_intent(t, h);
}

fn power_cut(pool: &mut Pool, s: &State, h: usize, loses: bool) -> State {
    let mut t = *s;
    stop(&mut t, h);
    if !pool.is(Mutant::IntentAfterBoot) {
        // Another kernel's intents are none.
        settle_intent(&mut t, h);
    }
    if loses {
        let disk = &mut t.hosts[h].disk;
        disk.tree &= !newest(s, h);
        let all = t.hosts.iter().fold(0, |all, host| all | host.copies());
        t.owed &= all;
    }
    t
}

/// The newest upload on a host, which it may not have written to its disk.
fn newest(s: &State, h: usize) -> u8 {
    let fresh = s.hosts[h].disk.tree & !s.hosts[h].disk.own & !s.hosts[h].disk.flushed;
    fresh.checked_ilog2().map_or(0, |bit| 1 << bit)
}

fn booted(pool: &mut Pool, s: &State, h: usize) -> Step {
    let mut t = *s;
    t.hosts[h].up = true;
    if let Some(record) = pool.get(t.hosts[h].record).cloned() {
        let mut record = pool.mutant.map_or(record.clone(), |mutant| mutant.after_boot(&record));
        record.starts = record.starts.started(fresh_start(&mut t));
        t.hosts[h].record = pool.keep(record);
    }
    if s.budget[VRRP] > 0 {
        t = demoted(pool, &t, h).unwrap_or(t);
    }
    if is_promoting(t.hosts[h].intent) {
        let decided = promotion(pool, &t, h, FORCES[1]);
        settle_intent(&mut t, h);
        lead(pool, &mut t, h, FORCES[0], decided)?;
    }
    Ok(Some(t))
}

/// The daemon ends in order and starts again.
fn restarted(pool: &mut Pool, s: &State, h: usize) -> Option<State> {
    let mut t = *s;
    let record = pool.get(t.hosts[h].record)?;
    let starts = record.starts.stopped().started(fresh_start(&mut t));
    let record = Record { starts, ..record.clone() };
    t.hosts[h].record = pool.keep(record);
    if !pool.is(Mutant::EndsUnflushed) {
        t.hosts[h].disk.flushed = t.hosts[h].disk.tree;
    }
    t.end_sessions_of(h);
    Some(t)
}

fn cut(s: &State, which: u8) -> State {
    let mut t = State { cut: s.cut | which, ..*s };
    for h in 0..HOSTS {
        let from = usize::from(t.hosts[h].from);
        if from < HOSTS && link(from, h) == which {
            t.hosts[h].end_session();
        }
    }
    t
}

fn uploaded(s: &State, h: usize) -> State {
    let mut t = *s;
    let bit = 1 << s.uploads;
    t.uploads += 1;
    t.owed |= bit;
    t.hosts[h].disk.tree |= bit;
    t
}

pub fn ask(pool: &mut Pool, s: &State, a: usize, b: usize) -> Option<State> {
    let sure = s.hosts[a].confirmed && s.hosts[b].confirmed;
    if sure || !s.reaches(a, b) || pool.is(Mutant::NobodyAsks) {
        return None;
    }
    let mut t = *s;
    exchange(pool, &mut t, a, b);
    changed(s, t)
}

pub fn demoted(pool: &mut Pool, s: &State, h: usize) -> Option<State> {
    let mut t = *s;
    let last = intent(s.hosts[h].intent);
    let next = speil::role::Intent::next(last.as_ref(), speil::role::Verb::Demote, boot());
    t.hosts[h].intent = (2, u8::try_from(next.ticket).unwrap_or(u8::MAX), true);
    t.hosts[h].ghost.demoted = true;
    let decided = demote(pool.tree(h, s), &place(h, s.hosts[h].place));
    let record = match decided {
        Demotion::Already if pool.is(Mutant::StandbyMine) => {
            pool.get(s.hosts[h].record).map(|record| Record { mine: true, ..record.clone() })
        }
        Demotion::Already => None,
        Demotion::Steps(record) => Some(record),
        Demotion::Joins(record) => {
            t.hosts[h].ghost.heard = 0;
            Some(record)
        }
    };
    if let Some(record) = record {
        t.hosts[h].record = pool.keep(record);
        t.end_sessions_of(h);
        t.hosts[h].end_session();
    }
    settle_intent(&mut t, h);
    changed(s, t)
}

pub fn rejoins(pool: &mut Pool, s: &State, h: usize, o: usize) -> Option<State> {
    if s.hosts[h].stage != Stage::Idle {
        return None;
    }
    let led = pool.leads(o, s)?;
    let (generation, group) = (led.generation.clone(), led.group);
    let leads = generation.as_ref().ok_or(Leader::Unknown);
    let decided = rejoin(pool.tree(h, s), &name(o), leads, group);
    let Ok(Rejoined::Chosen(mut record)) = decided else { return None };
    if pool.is(Mutant::RejoinForgetsHalf)
        && let Some(adoption) = &mut record.adopting
    {
        adoption.begun = false;
    }
    let mut t = *s;
    t.hosts[h].record = pool.keep(record);
    t.hosts[h].ghost.heard |= generation.map_or(0, |led| 1 << crate::world::number_of(led.id()));
    t.end_sessions_of(h);
    t.hosts[h].end_session();
    changed(s, t)
}

fn begin_again(pool: &Pool, s: &State, h: usize) -> Option<State> {
    let host = &s.hosts[h];
    if !host.up || host.stage != Stage::Idle || !is_promoting(host.intent) {
        return None;
    }
    let mut t = *s;
    settle_intent(&mut t, h);
    Some(begin_promotion(pool, &t, h, 0).unwrap_or(t))
}

/// Whether a host says that it is fit.
pub fn is_fit(pool: &Pool, s: &State, h: usize) -> bool {
    let confirmed = s.hosts[h].confirmed || pool.is(Mutant::ConfirmedAlways);
    s.hosts[h].up && s.hosts[h].record != PLAIN && fitness(pool.tree(h, s), confirmed).is_ok()
}
