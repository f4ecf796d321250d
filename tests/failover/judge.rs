//! What every state must hold, and whether there is a way out of it that somebody is told of.

use std::collections::HashMap;

use speil::role::{Command, Force, Remedy, Role, Sender, Tree, admit, fitness};

use crate::events::{self, CLASSES, Event, is_fit};
use crate::step::{FORCES, Far, Wrong, connect, offer, pass, promotion, promotion_step};
use crate::world::{HOSTS, Host, PLAIN, Pool, Stage, State, host_of, number_of};

/// Rounds within which hosts that are left alone must come to rest.
const ROUNDS_MAX: usize = 40;
/// Most commands that a way out may take.
const COMMANDS_MAX: u8 = 5;

/// Says what is wrong with a state.
pub fn safety(pool: &Pool, s: &State) -> Result<(), Wrong> {
    let copies = s.hosts.iter().fold(0, |all, host| all | host.copies());
    if s.owed & !copies != 0 {
        return Err("an upload that was acknowledged has no copy");
    }
    let mut led = 0_u16;
    for h in 0..HOSTS {
        let Tree::Placed(record) = pool.tree(h, s) else { continue };
        let Some(generation) = &record.generation else { continue };
        let number = number_of(generation.id());
        let host = &s.hosts[h];
        if record.role == Role::Primary {
            if led >> number & 1 == 1 {
                return Err("two primaries of one generation");
            }
            led |= 1 << number;
            if host.ghost.demoted && host.stage == Stage::Idle {
                return Err("the last verb was demote, and the host is primary");
            }
        }
        if is_fit(pool, s, h) {
            let younger = |g: u8| s.is_before(number, g);
            if (0..s.generations).any(|g| host.ghost.heard >> g & 1 == 1 && younger(g)) {
                return Err("a stale host is fit although it has heard of something younger");
            }
            if !host.ghost.talked {
                return Err("a host is fit that has talked to nobody since its boot");
            }
            if host.disk.half {
                return Err("a tree that is half adopted is fit");
            }
        }
    }
    Ok(())
}

/// How a state is left: the fewest commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WayOut {
    /// Commands that are typed.
    pub commands: u8,
    /// Whether one of them has force.
    pub forced: bool,
}

/// Ways out that were found, and what each command leads to.
#[derive(Default)]
pub struct Ways {
    known: HashMap<State, Known>,
    next: HashMap<State, Vec<(State, bool)>>,
}

/// What is known of a state.
#[derive(Clone, Copy)]
enum Known {
    Leads(WayOut),
    /// Not with so many commands.
    Not(u8),
}

impl Ways {
    /// Repairs every host and link, and looks for the shortest way to one primary with standbys in step, typing only
    /// what messages name.
    pub fn out_of(&mut self, pool: &mut Pool, s: &State) -> Result<WayOut, Wrong> {
        if self.next.len() > 100_000 {
            *self = Self::default();
        }
        let start = repaired(pool, s)?;
        for commands in 0..=COMMANDS_MAX {
            if let Some(way) = self.within(pool, &start, commands)? {
                return Ok(way);
            }
        }
        Err("no message names a way out")
    }

    /// Returns the commands of the shortest way out, as they are typed.
    pub fn typed(&mut self, pool: &mut Pool, s: &State) -> Result<Vec<(usize, Command)>, Wrong> {
        let (mut s, mut typed) = (repaired(pool, s)?, Vec::new());
        let mut left = self.out_of(pool, &s)?.commands;
        while left > 0 {
            for (h, command) in told(pool, &s) {
                let event = event_of(h, &command);
                let Some(after) = event.and_then(|event| event.apply(pool, &s).transpose()) else { continue };
                let after = State { budget: s.budget, ..rest(pool, after?)? };
                if self.within(pool, &after, left - 1)?.is_some() {
                    typed.push((h, command));
                    s = after;
                    break;
                }
            }
            left -= 1;
        }
        Ok(typed)
    }

    fn within(&mut self, pool: &mut Pool, s: &State, commands: u8) -> Result<Option<WayOut>, Wrong> {
        match self.known.get(s) {
            Some(Known::Leads(way)) => return Ok(Some(*way).filter(|way| way.commands <= commands)),
            Some(Known::Not(tried)) if *tried >= commands => return Ok(None),
            _ => {}
        }
        let mut best = is_good(pool, s).then_some(WayOut { commands: 0, forced: false });
        if best.is_none() && commands > 0 {
            for (after, force) in self.after(pool, s)? {
                let Some(way) = self.within(pool, &after, commands - 1)? else { continue };
                let way = WayOut { commands: way.commands + 1, forced: way.forced || force };
                if best.is_none_or(|best| (way.forced, way.commands) < (best.forced, best.commands)) {
                    best = Some(way);
                }
            }
        }
        self.known.insert(*s, best.map_or(Known::Not(commands), Known::Leads));
        Ok(best)
    }

    /// Returns what the commands that messages name lead to, and which of them have force.
    fn after(&mut self, pool: &mut Pool, s: &State) -> Result<Vec<(State, bool)>, Wrong> {
        if let Some(next) = self.next.get(s) {
            return Ok(next.clone());
        }
        let mut next = Vec::new();
        for (h, command) in told(pool, s) {
            let event = event_of(h, &command);
            let Some(after) = event.and_then(|event| event.apply(pool, s).transpose()) else { continue };
            let mut after = rest(pool, after?)?;
            after.budget = s.budget;
            next.push((after, matches!(command, Command::Promote(Force::Yes | Force::Half))));
        }
        self.next.insert(*s, next.clone());
        Ok(next)
    }
}

/// Switches everything on, mends the links and lets the hosts come to rest.
fn repaired(pool: &mut Pool, s: &State) -> Result<State, Wrong> {
    let mut t = State { cut: 0, ..*s };
    // Whoever typed is not disturbed any more.
    for h in 0..HOSTS {
        if !t.hosts[h].up {
            t = Event::Boot(h).apply(pool, &t)?.unwrap_or(t);
        }
    }
    t.budget = [9; CLASSES];
    t.budget[events::VRRP] = 0;
    (t.uploads, t.snapshot) = (8, None);
    rest(pool, t)
}

/// Lets the hosts do what they do by themselves until nothing changes any more.
fn rest(pool: &mut Pool, mut t: State) -> Result<State, Wrong> {
    for round in 0..ROUNDS_MAX {
        let before = t;
        // Another order each time: what depends on it shows.
        for turn in 0..HOSTS {
            let h = if round % 2 == 0 { turn } else { HOSTS - 1 - turn };
            while t.hosts[h].stage != Stage::Idle {
                match promotion_step(pool, &t, h, false)? {
                    Some(after) => t = after,
                    None => break,
                }
            }
            t = Event::BeginAgain(h).apply(pool, &t)?.unwrap_or(t);
            for turn in 0..HOSTS {
                let o = if round % 3 == 0 { turn } else { HOSTS - 1 - turn };
                if o != h {
                    t = events::ask(pool, &t, h, o).unwrap_or(t);
                    t = connect(pool, &t, h, o)?.unwrap_or(t);
                    t = pass(pool, &t, o, Far::Whole)?.unwrap_or(t);
                }
            }
        }
        safety(pool, &t)?;
        if t == before {
            return Ok(t);
        }
    }
    Err("hosts that are left alone never come to rest")
}

/// One leads and is fit, the others follow it and are equal.
fn is_good(pool: &Pool, s: &State) -> bool {
    let leading: Vec<usize> = (0..HOSTS).filter(|h| pool.leads(*h, s).is_some()).collect();
    let [leader] = leading[..] else { return false };
    let id = pool.generation(leader, s).map(|generation| generation.id());
    let in_step = |h: usize| {
        let Tree::Placed(record) = pool.tree(h, s) else { return false };
        let role = if h == leader { Role::Primary } else { Role::Standby };
        let holds = record.generation.as_ref().map(|generation| generation.id());
        record.role == role && record.adopting.is_none() && holds == id && is_fit(pool, s, h)
    };
    (0..HOSTS).all(|h| in_step(h) && s.hosts[h].disk.tree == s.hosts[leader].disk.tree)
}

/// Returns what messages name now, on which host.
pub fn told(pool: &mut Pool, s: &State) -> Vec<(usize, Command)> {
    let mut said: Vec<(usize, Vec<Remedy>)> = Vec::new();
    let nobody_leads = (0..HOSTS).all(|h| pool.leads(h, s).is_none());
    for h in 0..HOSTS {
        let tree = pool.tree(h, s);
        if let Err(unfit) = fitness(tree, s.hosts[h].confirmed) {
            said.push((h, speil::role::Refusal::Unfit(unfit).told().ways));
        } else if nobody_leads {
            // The status says so: "no primary: `speil promote` on the host that holds the truth".
            said.push((h, vec![Remedy(Command::Promote(Force::No), "")]));
            if let Err(refusal) = promotion(pool, s, h, FORCES[0]) {
                said.push((h, refusal.told().ways));
            }
        }
        for r in (0..HOSTS).filter(|r| *r != h) {
            let mut t = *s;
            let Some(offer) = offer(pool, &mut t, h) else { continue };
            if let Err(refusal) = admit(pool.tree(r, s), Sender::Led(&offer)) {
                said.push((r, refusal.told().ways));
            }
        }
    }
    let mut all: Vec<(usize, Command)> = Vec::new();
    for (h, ways) in said {
        for Remedy(command, _) in ways {
            let (h, command) = match command {
                Command::On(host, command) => (host_of(&host).unwrap_or(h), *command),
                command => (h, command),
            };
            if !all.contains(&(h, command.clone())) {
                all.push((h, command));
            }
        }
    }
    all
}

fn event_of(h: usize, command: &Command) -> Option<Event> {
    Some(match command {
        Command::Promote(Force::No) => Event::Promote(h),
        Command::Promote(Force::Yes) => Event::Force(h),
        Command::Promote(Force::Half) => Event::ForceHalf(h),
        Command::Demote => Event::Demote(h),
        Command::Rejoin(host) => Event::Rejoin(h, host_of(host)?),
        Command::On(..) => return None,
    })
}

/// One line of what a host is.
pub fn shown(pool: &Pool, s: &State, h: usize) -> String {
    let Host { up, disk, stage, from, confirmed, .. } = s.hosts[h];
    let role = match pool.tree(h, s) {
        Tree::Plain { .. } if s.hosts[h].record == PLAIN => "no role".to_owned(),
        Tree::Unreadable => "unreadable".to_owned(),
        tree => tree.record().map_or(String::new(), |record| {
            let number = |generation: &speil::role::Generation| number_of(generation.id());
            let known: Vec<u8> = record.known.iter().map(|known| number(&known.generation)).collect();
            format!(
                "{}{:?} g{:?}{} adopting {:?} known {known:?} coming {:?}",
                if matches!(tree, Tree::Transplanted(_)) { "copied " } else { "" },
                record.role,
                record.generation.as_ref().map(number),
                if record.mine { " mine" } else { "" },
                record.adopting.as_ref().map(|adoption| (number(&adoption.of), adoption.begun)),
                record.coming.map(number_of),
            )
        }),
    };
    let up = if up { "up" } else { "down" };
    format!(
        "{up} {role}; {} tree {:b} own {:b} aside {:b}{}; {stage:?} from {from}",
        if confirmed { "confirmed" } else { "unconfirmed" },
        disk.tree,
        disk.own,
        disk.aside,
        if disk.half { " half" } else { "" },
    )
}
