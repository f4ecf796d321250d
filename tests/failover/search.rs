//! The searches: every order of events up to a bound, and long histories at random.

use std::collections::HashMap;
use std::time::Duration;

use crate::events::{CLASSES, Event};
use crate::judge::{WayOut, Ways, safety, shown};
use crate::mutants::Mutant;
use crate::rng::Rng;
use crate::step::Wrong;
use crate::world::{HOSTS, NAMES, Pool, State};

/// What may happen in a search: promote, force, demote, upload, cut, crash, kill, snapshot, disk; and whether
/// keepalived demotes at each boot.
struct Plan {
    name: &'static str,
    budget: [u8; CLASSES],
    with_roles: bool,
}

const PLANS: [Plan; 8] = [
    Plan { name: "switches, cuts and a crash", budget: [3, 0, 3, 2, 2, 1, 1, 0, 0, 0], with_roles: true },
    Plan { name: "with force", budget: [2, 2, 2, 1, 2, 1, 0, 0, 0, 0], with_roles: true },
    Plan {
        name: "everybody is booted, keepalived demotes",
        budget: [1, 0, 1, 1, 0, 3, 0, 0, 0, 1],
        with_roles: true,
    },
    Plan { name: "a disk is set back or restored", budget: [2, 0, 2, 2, 1, 1, 0, 2, 0, 0], with_roles: true },
    Plan { name: "a disk is lost or copied", budget: [2, 1, 2, 2, 1, 0, 0, 0, 1, 0], with_roles: true },
    Plan { name: "nobody has a role yet", budget: [3, 0, 2, 2, 1, 1, 0, 0, 0, 0], with_roles: false },
    Plan { name: "power cuts lose uploads", budget: [2, 0, 2, 2, 1, 3, 0, 0, 0, 0], with_roles: true },
    Plan { name: "verbs are killed and overtaken", budget: [3, 1, 3, 1, 1, 1, 2, 0, 0, 1], with_roles: true },
];

/// What a search has done.
#[derive(Debug, Default)]
struct Done {
    states: usize,
    expanded: usize,
    complete: bool,
    /// States by how many commands lead out of them, without and with force.
    commands: [[u64; 8]; 2],
}

/// A history that ended badly.
struct Bad {
    why: String,
    history: Vec<Event>,
}

fn told(pool: &mut Pool, plan: &Plan, bad: &Bad) -> String {
    let mut s = State::first(pool, plan.with_roles, plan.budget);
    let mut text = format!("{} ({})\n", bad.why, plan.name);
    for event in &bad.history {
        text.push_str(&format!("  {event:?}\n"));
        match event.apply(pool, &s) {
            Ok(Some(after)) => s = after,
            other => text.push_str(&format!("    {:?}\n", other.map(|_| "nothing"))),
        }
    }
    for (h, name) in NAMES.iter().enumerate().take(HOSTS) {
        text.push_str(&format!("  {name}: {}\n", shown(pool, &s, h)));
    }
    text
}

/// Breadth first, to `states_max` states or until `until`; one state in `sample` is asked for its way out.
fn breadth_first(
    pool: &mut Pool,
    plan: &Plan,
    states_max: usize,
    until: Duration,
    sample: usize,
) -> Result<Done, Bad> {
    let events = Event::all();
    let first = State::first(pool, plan.with_roles, plan.budget);
    let (mut states, mut numbers) = (vec![(first, 0_u32, 0_u8)], HashMap::from([(first, 0_u32)]));
    let (mut done, mut ways) = (Done::default(), Ways::default());
    let history = |states: &[(State, u32, u8)], mut at: usize, last: Option<Event>| {
        let mut history: Vec<Event> = last.into_iter().collect();
        while at != 0 {
            history.push(events[usize::from(states[at].2)]);
            at = states[at].1 as usize;
        }
        history.reverse();
        history
    };
    let mut at = 0;
    while at < states.len() && states.len() < states_max && (at % 64 != 0 || cpu() < until) {
        let s = states[at].0;
        for (number, event) in events.iter().enumerate() {
            let bad = |why: &str| Bad { why: why.to_owned(), history: history(&states, at, Some(*event)) };
            let after = match event.apply(pool, &s) {
                Ok(None) => continue,
                Ok(Some(after)) => after,
                Err(why) => return Err(bad(why)),
            };
            if numbers.contains_key(&after) {
                continue;
            }
            safety(pool, &after).map_err(bad)?;
            if states.len() % sample == 0 {
                let way = judged(pool, &mut ways, &after).map_err(bad)?;
                done.commands[usize::from(way.forced)][usize::from(way.commands).min(7)] += 1;
            }
            numbers.insert(after, states.len() as u32);
            states.push((after, at as u32, number as u8));
        }
        at += 1;
    }
    (done.states, done.expanded, done.complete) = (states.len(), at, at == states.len());
    Ok(done)
}

/// Looks for the way out of a state.
fn judged(pool: &mut Pool, ways: &mut Ways, s: &State) -> Result<WayOut, Wrong> {
    let way = ways.out_of(pool, s)?;
    if way.forced && !s.may_need_force(pool) {
        return Err("a way out needs force although no disk has failed");
    }
    Ok(way)
}

/// Histories at random until `until`: half of the steps are what hosts do by themselves.
fn at_random(pool: &mut Pool, plan: &Plan, rng: &mut Rng, until: Duration) -> Result<(u64, u64), Bad> {
    let (rationed, free): (Vec<_>, Vec<_>) =
        Event::all().into_iter().partition(|event| event.class().is_some());
    let mut ways = Ways::default();
    let (mut histories, mut steps) = (0, 0);
    while cpu() < until {
        let mut s = State::first(pool, plan.with_roles, plan.budget);
        let (mut history, mut failed) = (Vec::new(), 0);
        while failed < 60 && history.len() < 80 {
            let events = if rng.one_in(2) { &rationed } else { &free };
            let event = events[rng.index(events.len())];
            history.push(event);
            let bad = |why: &str| Bad { why: why.to_owned(), history: history.clone() };
            let Some(after) = event.apply(pool, &s).map_err(bad)? else {
                history.pop();
                failed += 1;
                continue;
            };
            failed = 0;
            steps += 1;
            s = after;
            safety(pool, &s).map_err(bad)?;
            // What comes after this is searched seldom: it takes longer than a history.
            if rng.one_in(30) {
                judged(pool, &mut ways, &s).map_err(bad)?;
            }
        }
        histories += 1;
    }
    Ok((histories, steps))
}

/// Time on a processor: what else runs on this host changes nothing of what is searched.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn since(began: Duration) -> Duration {
    cpu().saturating_sub(began)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_order_of_events_ends_well() {
    let states_max = number("STATES").map_or(2_000, |states| states as usize);
    let long = Duration::from_secs(number("SECONDS").unwrap_or(3_600));
    let only = std::env::var("PLAN").unwrap_or_default();
    for plan in PLANS.iter().filter(|plan| plan.name.contains(&only)) {
        let (began, mut pool) = (cpu(), Pool::new(None));
        match breadth_first(&mut pool, plan, states_max, began + long, 4) {
            Ok(done) => println!("{}: {done:?} in {:.1} s", plan.name, since(began).as_secs_f64()),
            Err(bad) => panic!("{}", told(&mut pool, plan, &bad)),
        }
    }
}

#[test]
fn a_host_that_may_not_lead_follows_and_is_in_nobodys_way() {
    let states_max = number("STATES").map_or(2_000, |states| states as usize);
    let long = Duration::from_secs(number("SECONDS").unwrap_or(3_600));
    for plan in PLANS.iter().filter(|plan| plan.with_roles) {
        let (began, mut pool) = (cpu(), Pool::barring(HOSTS - 1));
        match breadth_first(&mut pool, plan, states_max, began + long, 4) {
            Ok(done) => println!("{}: {done:?} in {:.1} s", plan.name, since(began).as_secs_f64()),
            Err(bad) => panic!("{}", told(&mut pool, plan, &bad)),
        }
    }
}

#[test]
fn long_histories_end_well() {
    let span = Duration::from_secs(number("SECONDS").unwrap_or(1)) / 2;
    for (at, plan) in PLANS.iter().enumerate() {
        let mut budget = plan.budget.map(|left| left * 2);
        budget[crate::events::VRRP] = plan.budget[crate::events::VRRP];
        let plan = Plan { budget, ..*plan };
        let (began, mut pool) = (cpu(), Pool::new(None));
        let mut rng = Rng::new(number("SEED").unwrap_or(1) + at as u64);
        match at_random(&mut pool, &plan, &mut rng, began + span / PLANS.len() as u32) {
            Ok((histories, steps)) => {
                let rate = steps as f64 / since(began).as_secs_f64();
                println!("{}: {histories} histories, {steps} steps, {rate:.0} a second", plan.name);
            }
            Err(bad) => panic!("{}", told(&mut pool, &plan, &bad)),
        }
    }
}

#[test]
fn every_rule_that_is_left_out_is_missed() {
    let long = number("SECONDS");
    let limit = Duration::from_secs(long.unwrap_or(60));
    let mut unseen = Vec::new();
    for mutant in Mutant::ALL.into_iter().take(long.map_or(Mutant::SHOWN_SOON, |_| usize::MAX)) {
        let began = cpu();
        let mut found = None;
        let (mut rng, mut round) = (Rng::new(1), 0);
        while found.is_none() && since(began) < limit {
            for plan in &PLANS {
                let mut pool = Pool::new(Some(mutant));
                let until = cpu() + Duration::from_millis(100) * (1 + round);
                let ended = match round {
                    0 => breadth_first(&mut pool, plan, 1_000, until, 1).map(|_| ()),
                    _ => at_random(&mut pool, plan, &mut rng, until).map(|_| ()),
                };
                if let Err(bad) = ended {
                    found = Some(told(&mut pool, plan, &bad));
                    break;
                }
            }
            round += 1;
        }
        let line = found.as_deref().map_or("not missed", |why| why.lines().next().unwrap_or_default());
        println!("{mutant:?}: {:.2} s: {line}", since(began).as_secs_f64());
        if number("SHOW").is_some() {
            println!("{}", found.as_deref().unwrap_or_default());
        }
        if found.is_none() {
            unseen.push(mutant);
        }
    }
    assert!(unseen.is_empty(), "nothing is missed without {unseen:?}");
}
