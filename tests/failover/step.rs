//! What hosts do by themselves, one step at a time: the product's rules decide, and write records.

use speil::role::{
    Admission, Answer, Around, Barred, Force, HeardOf, Offer, Others, Promotion, Record, Refusal, Role,
    Sender, Tree, Why, admit, begin, finish, hand_over, hear, is_past, prepare, promote, tells,
};
use speil::role::{Generation, Intent, Verb};

use crate::mutants::Mutant;
use crate::world::{
    GENERATIONS_MAX, HOSTS, Mode, PLAIN, Pool, Stage, State, generation_id, id, name, number_of, place,
};

/// What must not have happened.
pub type Wrong = &'static str;
/// A step: the state after it, if there is one.
pub type Step = Result<Option<State>, Wrong>;

pub const FORCES: [Force; 3] = [Force::No, Force::Yes, Force::Half];

/// Has two hosts tell each other what they know.
pub fn exchange(pool: &mut Pool, s: &mut State, a: usize, b: usize) {
    let told = |pool: &Pool, from: usize| {
        let record = pool.get(s.hosts[from].record);
        record.map(|record| {
            let mut told = tells(record, &name(from));
            if let Some(mutant) = pool.mutant {
                mutant.telling(record, &mut told);
            }
            (told, really_told(s, from, record))
        })
    };
    let (by_a, by_b) = (told(pool, a), told(pool, b));
    for (host, from, told) in [(a, b, by_b), (b, a, by_a)] {
        let Some((told, bits)) = told.filter(|(told, _)| !told.is_empty()) else { continue };
        if s.hosts[host].record == PLAIN {
            continue;
        }
        if pool.barred == Some(from) {
            // Its word does not count, unless it says that it knows of nothing else.
            if pool.get(s.hosts[host].record).is_some_and(|own| is_past(own, &told)) {
                s.hosts[host].confirmed = true;
                s.hosts[host].ghost.talked = true;
            }
            continue;
        }
        hear_at(pool, s, host, &told);
        let coming = pool.get(s.hosts[host].record).and_then(|record| record.coming);
        let own = coming.map_or(0, |id| 1 << number_of(id));
        s.hosts[host].ghost.heard |= bits & !own;
        s.hosts[host].confirmed = true;
        s.hosts[host].ghost.talked = true;
    }
}

/// Returns the generations that a host which forgets nothing would tell.
fn really_told(s: &State, host: usize, record: &Record) -> u8 {
    let holds = record.generation.iter().chain(record.adopting.iter().map(|adoption| &adoption.of));
    let holds: Vec<u8> = holds.map(|generation| number_of(generation.id())).collect();
    let heard = s.hosts[host].ghost.heard;
    let younger =
        |number: &u8| heard >> number & 1 == 1 && holds.iter().any(|own| s.is_before(*own, *number));
    holds.iter().copied().chain((0..s.generations).filter(younger)).fold(0, |bits, number| bits | 1 << number)
}

fn hear_at(pool: &mut Pool, s: &mut State, host: usize, told: &[HeardOf]) {
    let Some(old) = pool.get(s.hosts[host].record) else { return };
    let Some(mut new) = hear(old, told) else { return };
    if let Some(mutant) = pool.mutant {
        mutant.after_hearing(old, &mut new);
    }
    s.hosts[host].record = pool.keep(new);
    if pool.leads(host, s).is_none() {
        s.end_sessions_of(host);
    }
}

/// A primary's daemon knocks at another host.
pub fn connect(pool: &mut Pool, s: &State, a: usize, r: usize) -> Step {
    let there = &s.hosts[r];
    if !s.reaches(a, r)
        || usize::from(there.from) == a
        || there.stage != Stage::Idle
        || is_promoting(there.intent)
    {
        return Ok(None);
    }
    if pool.leads(a, s).is_none() {
        return Ok(None);
    }
    let mut t = *s;
    exchange(pool, &mut t, a, r);
    let Some(offer) = offer(pool, &mut t, a) else { return Ok(changed(s, t)) };
    let tree = pool.tree(r, &t);
    let mode = match admission(pool, tree, &offer) {
        Ok(Admission::Today) => Mode::Today,
        Ok(Admission::Follow) => Mode::Follow,
        Ok(Admission::Adopt(why)) => Mode::Adopt(why),
        Ok(Admission::Let) => return Err("a primary's session is let in for an errand"),
        Err(_) => return Ok(changed(s, t)),
    };
    let host = &mut t.hosts[r];
    (host.from, host.mode, host.stepped) = (a as u8, mode, false);
    Ok(Some(t))
}

/// Returns what a primary says of itself. A daemon that begins to lead has a start.
pub fn offer(pool: &mut Pool, s: &mut State, host: usize) -> Option<Offer> {
    let record = pool.leads(host, s)?.clone();
    let record = match record.starts.running {
        Some(_) => record,
        None => {
            let starts = record.starts.started(fresh_start(s));
            let record = Record { starts, ..record };
            s.hosts[host].record = pool.keep(record.clone());
            record
        }
    };
    let starts = record.starts.offered()?;
    Some(Offer { group: record.group, generation: record.generation?, starts, host: name(host) })
}

pub fn fresh_start(s: &mut State) -> speil::role::Id {
    s.starts = s.starts.saturating_add(1);
    id(3, s.starts)
}

/// Asks the product, and leaves a rule out where that is tried.
pub fn admission(pool: &Pool, tree: Tree<'_>, offer: &Offer) -> Result<Admission, Refusal> {
    let unbound = |record: &Record| Record { adopting: None, ..record.clone() };
    let ask = |record: Record| admit(Tree::Placed(&record), Sender::Led(offer));
    let decided = match (pool.mutant, tree) {
        (Some(Mutant::AdoptionUnbound), Tree::Placed(record)) => ask(unbound(record)),
        (Some(Mutant::PrimaryTakes), Tree::Placed(record)) => {
            ask(Record { role: Role::Standby, ..record.clone() })
        }
        _ => admit(tree, Sender::Led(offer)),
    };
    let seen = tree.record().and_then(|record| record.starts.seen);
    match (pool.mutant, decided) {
        (Some(Mutant::DivergedAdopted), Err(Refusal::Diverged { primary: false, .. })) => {
            Ok(Admission::Adopt(Why::Younger))
        }
        (Some(Mutant::YoungerFollowed), Ok(Admission::Adopt(Why::Younger | Why::Resumed)))
        | (Some(Mutant::SetBackFollowed), Ok(Admission::Adopt(Why::SetBack))) => Ok(Admission::Follow),
        (Some(Mutant::StartsCounted), Ok(Admission::Adopt(Why::SetBack)))
            if seen < Some(offer.starts.running) =>
        {
            Ok(Admission::Follow)
        }
        (_, decided) => decided,
    }
}

/// How far a session gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Far {
    /// The record is written.
    Begun,
    /// One difference is gone.
    Part,
    /// The trees are equal.
    Whole,
}

/// A session changes a tree.
pub fn pass(pool: &mut Pool, s: &State, r: usize, far: Far) -> Step {
    let a = usize::from(s.hosts[r].from);
    if a >= HOSTS || !s.reaches(a, r) {
        return Ok(None);
    }
    let mut t = *s;
    let Some(offer) = offer(pool, &mut t, a) else { return Ok(None) };
    let home = place(r, t.hosts[r].place);
    let adopts = matches!(t.hosts[r].mode, Mode::Adopt(_));
    let admission = match t.hosts[r].mode {
        Mode::Today => Admission::Today,
        Mode::Follow => Admission::Follow,
        Mode::Adopt(why) => Admission::Adopt(why),
    };
    let follows = admission == Admission::Follow;
    if let Some(mut new) = begin(pool.tree(r, &t), &home, &offer, admission) {
        if pool.is(Mutant::BecomesAtOnce) {
            new = finish(Some(&new), &home, &offer).unwrap_or(new);
        }
        if !follows || !pool.is(Mutant::StartSeenLate) {
            t.hosts[r].record = pool.keep(new);
        }
    }
    if adopts && admission != Admission::Adopt(Why::SetBack) {
        t.hosts[r].mode = Mode::Adopt(Why::Resumed);
    }
    if far == Far::Begun {
        return Ok(changed(s, t));
    }
    if matches!(pool.tree(r, &t), Tree::Placed(Record { role: Role::Primary, .. }))
        && t.hosts[r].disk.tree != t.hosts[a].disk.tree
    {
        return Err("a session changes the tree of a primary");
    }
    let source = t.hosts[a].disk.tree;
    let half = adopts && t.hosts[r].mode != Mode::Adopt(Why::SetBack);
    let disk = &mut t.hosts[r].disk;
    let (extra, missing) = (disk.tree & !source, source & !disk.tree);
    let (gone, new) = match far {
        Far::Part if extra != 0 => (extra & extra.wrapping_neg(), 0),
        Far::Part => (0, missing & missing.wrapping_neg()),
        _ => (extra, missing),
    };
    if far == Far::Part && gone | new == 0 {
        return Ok(changed(s, t));
    }
    let kept = if adopts { gone } else { gone & !disk.own };
    if !pool.is(Mutant::StrangersDeleted) || adopts {
        disk.aside |= kept;
    }
    disk.tree = disk.tree & !gone | new;
    disk.own = disk.own & !gone | new;
    disk.half = half;
    if far == Far::Whole {
        disk.own = disk.tree;
        disk.half = false;
        let record = pool.get(t.hosts[r].record);
        if let Some(record) = finish(record, &home, &offer) {
            t.hosts[r].record = pool.keep(record);
        }
        let host = &mut t.hosts[r];
        (host.mode, host.stepped, host.ours) = (Mode::Follow, true, true);
    }
    Ok(changed(s, t))
}

/// Returns what a host that promotes knows besides its record.
pub fn around(pool: &Pool, s: &State, h: usize) -> Around {
    let answer = |other: usize| match pool.tree(other, s) {
        _ if !s.reaches(h, other) => Answer::Silent,
        Tree::Plain { .. } => Answer::Plain,
        tree => Answer::Role(tree.record().map_or(0, Record::n)),
    };
    let others = (0..HOSTS).filter(|other| *other != h);
    let asked = others.map(|other| {
        let answer = if pool.is(Mutant::PlainUnasked) { Answer::Plain } else { answer(other) };
        (name(other), answer)
    });
    let confirmed = s.hosts[h].confirmed || pool.is(Mutant::ConfirmedAlways);
    let may = || (0..HOSTS).filter(|other| pool.barred != Some(*other)).map(name).collect();
    let barred = (pool.barred == Some(h)).then(|| Barred { entry: name(h), others: may() });
    Around { confirmed, barred, group: Some(id(4, 0)), others: Others::Asked(asked.collect()) }
}

/// Asks the product for a promotion.
pub fn promotion(pool: &Pool, s: &State, h: usize, force: Force) -> Result<Promotion, Refusal> {
    let (tree, home, around) = (pool.tree(h, s), place(h, s.hosts[h].place), around(pool, s, h));
    let fresh = generation_id(s.generations);
    match tree {
        Tree::Placed(record) if pool.is(Mutant::HalfPromoted) && record.adopting.is_some() => {
            promote(Tree::Placed(&Record { adopting: None, ..record.clone() }), &home, &around, force, fresh)
        }
        Tree::Placed(record) if pool.is(Mutant::NumberOwn) => {
            promote(Tree::Placed(&Record { heard: 0, ..record.clone() }), &home, &around, force, fresh)
        }
        _ => promote(tree, &home, &around, force, fresh),
    }
}

/// Somebody types `promote`. A refusal changes nothing.
pub fn begin_promotion(pool: &Pool, s: &State, h: usize, force: usize) -> Option<State> {
    let host = &s.hosts[h];
    if !host.up || host.stage != Stage::Idle || usize::from(s.generations) == GENERATIONS_MAX {
        return None;
    }
    if matches!(promotion(pool, s, h, FORCES[force]), Err(_) | Ok(Promotion::Already)) {
        return None;
    }
    let mut t = *s;
    let next =
        intent(s.hosts[h].intent).map_or(1, |last| Intent::next(Some(&last), Verb::Promote, boot()).ticket);
    let ticket = u8::try_from(next).unwrap_or(u8::MAX);
    let host = &mut t.hosts[h];
    (host.stage, host.ticket, host.force) = (Stage::Checked, ticket, force as u8);
    host.intent = (1, ticket, false);
    host.ghost.demoted = false;
    Some(t)
}

/// The promotion goes on; `alone` without the primary that is there.
pub fn promotion_step(pool: &mut Pool, s: &State, h: usize, alone: bool) -> Step {
    let mut t = *s;
    let a = usize::from(s.hosts[h].from);
    let live = a < HOSTS && s.reaches(a, h) && s.hosts[h].stepped && pool.leads(a, s).is_some();
    match s.hosts[h].stage {
        Stage::Idle => return Ok(None),
        Stage::Checked if live && !alone => {
            if usize::from(t.generations) == GENERATIONS_MAX {
                return Ok(None);
            }
            let Some(record) = pool.get(t.hosts[h].record).cloned() else { return Ok(None) };
            if let Some(new) = prepare(&record, generation_id(t.generations)) {
                made(&mut t, record.generation.as_ref());
                t.hosts[h].record = pool.keep(new);
            }
            t.hosts[h].stage = Stage::Prepared;
        }
        Stage::Prepared if live && !alone => {
            let Some(after) = pass(pool, s, h, Far::Whole)?.or(Some(t)) else { return Ok(None) };
            t = after;
            let Some(record) = pool.get(t.hosts[h].record) else { return Ok(None) };
            let Some(coming) = record.coming else { return Err("a coming generation is forgotten") };
            let generation = Generation::after(record.generation.as_ref(), record.heard, coming);
            let heard = HeardOf { generation, host: name(h) };
            let Ok(handed) = hand_over(pool.tree(a, &t), &heard) else { return Ok(None) };
            t.hosts[a].record = pool.keep(handed);
            t.hosts[a].ghost.heard |= 1 << number_of(coming);
            t.end_sessions_of(a);
            lock(&mut t, h);
        }
        Stage::Checked | Stage::Prepared => lock(&mut t, h),
        Stage::Locked => return commit(pool, s, h).map(Some),
    }
    Ok(Some(t))
}

fn lock(t: &mut State, h: usize) {
    t.hosts[h].end_session();
    t.hosts[h].stage = Stage::Locked;
}

fn commit(pool: &mut Pool, s: &State, h: usize) -> Result<State, Wrong> {
    let mut t = *s;
    let host = &mut t.hosts[h];
    host.stage = Stage::Idle;
    let overtaken =
        intent(host.intent).is_some_and(|last| Intent::overtakes(Some(&last), host.ticket.into()));
    let force = FORCES[usize::from(host.force)];
    if overtaken && !pool.is(Mutant::OvertakenCommits) {
        settle_intent(&mut t, h);
        return Ok(t);
    }
    settle_intent(&mut t, h);
    let decided = promotion(pool, s, h, force);
    lead(pool, &mut t, h, force, decided)?;
    Ok(t)
}

/// Writes what a promotion has decided.
pub fn lead(
    pool: &mut Pool,
    t: &mut State,
    h: usize,
    force: Force,
    decided: Result<Promotion, Refusal>,
) -> Result<(), Wrong> {
    let plain = t.hosts[h].record == PLAIN;
    let half = t.hosts[h].disk.half;
    let (record, makes) = match decided {
        Err(_) | Ok(Promotion::Already) => return Ok(()),
        Ok(Promotion::Keeps(record)) => (record, false),
        Ok(Promotion::Makes(record)) => (record, true),
    };
    if half && force != Force::Half {
        return Err("a tree that is half adopted is promoted");
    }
    let others = (0..HOSTS).any(|other| t.reaches(h, other) && pool.generation(other, t).is_some());
    if plain && force == Force::No && others {
        return Err("a tree without a role is promoted beside one that has a role");
    }
    let Some(generation) = record.generation.clone() else { return Err("a primary without a generation") };
    let stale = (0..t.generations).any(|g| t.hosts[h].ghost.heard >> g & 1 == 1 && before(t, h, pool, g));
    if force == Force::No && stale {
        return Err("a stale host is promoted although it has heard of something younger");
    }
    if makes {
        let number = number_of(generation.id());
        if number >= t.generations {
            made(t, pool.get(t.hosts[h].record).and_then(|record| record.generation.as_ref()));
        }
        let heard = pool.get(t.hosts[h].record).map_or(0, |record| record.heard);
        if generation.n() <= heard {
            return Err("a generation's number is not greater than those that were heard of");
        }
        t.hosts[h].ghost.heard = 1 << number;
    }
    t.hosts[h].record = pool.keep(record);
    t.hosts[h].disk.half = false;
    t.hosts[h].end_session();
    Ok(())
}

fn before(t: &State, h: usize, pool: &Pool, g: u8) -> bool {
    pool.generation(h, t).is_some_and(|own| t.is_before(number_of(own.id()), g))
}

/// A generation of this number exists from now on.
fn made(t: &mut State, parent: Option<&Generation>) {
    let ancestors = parent.map_or(0, |parent| {
        let number = number_of(parent.id());
        t.ancestors[usize::from(number)] | 1 << number
    });
    t.ancestors[usize::from(t.generations)] = ancestors;
    t.generations += 1;
}

/// A verb has ended: without one that is under way, tickets say nothing.
pub fn settle_intent(t: &mut State, h: usize) {
    if t.hosts[h].stage == Stage::Idle {
        t.hosts[h].intent = (0, 0, true);
        t.hosts[h].ticket = 0;
        t.hosts[h].force = 0;
    }
}

pub fn boot() -> speil::role::Id {
    id(5, 0)
}

pub fn intent((verb, ticket, done): (u8, u8, bool)) -> Option<Intent> {
    let verb = match verb {
        1 => Verb::Promote,
        2 => Verb::Demote,
        _ => return None,
    };
    Some(Intent { verb, ticket: ticket.into(), boot: boot(), done })
}

pub fn is_promoting(kept: (u8, u8, bool)) -> bool {
    Intent::is_promoting(intent(kept).as_ref(), boot())
}

pub fn changed(s: &State, t: State) -> Option<State> {
    (*s != t).then_some(t)
}
