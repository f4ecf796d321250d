//! The searches: with every rule, and with each rule left out.

use std::time::{Duration, Instant};

use crate::options::Mutant;
use crate::world::World;

/// Histories that once failed.
const FOUND: &[u64] = &[
    1754,
    2365,
    5205,
    6349,
    9840,
    10165,
    10773,
    44709,
    49096,
    55850,
    57387,
    64470,
    164_892,
    213_623,
    231_718,
    212_469,
    392_268,
    474_834,
    499_545,
    502_130,
    569_758,
    5472,
    30_132_229_942_290_274,
    30_132_241_904_444_662,
    9471,
    30_132_266_298_508_779,
    30_132_268_261_447_711,
];

/// What a search has done.
#[derive(Debug, Default)]
struct Search {
    histories: u64,
    steps: u64,
    hashed: u64,
    sent: u64,
    settled: u64,
}

impl Search {
    /// Runs one history.
    fn run(&mut self, seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
        let start = Instant::now();
        let mut world = World::new(seed, mutant, start, false);
        let ended = world.run();
        self.histories += 1;
        self.steps += world.steps;
        self.settled += world.settled;
        for side in &world.sides {
            self.hashed += side.counts.hashed;
            self.sent += side.counts.sent;
        }
        ended
    }
}

pub fn seconds(name: &str) -> Option<Duration> {
    std::env::var(name).ok()?.parse().ok().map(Duration::from_secs_f64)
}

#[test]
fn every_history_ends_well() {
    if let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let mut world = World::new(seed, None, Instant::now(), true);
        let ended = world.run();
        world.sides.iter_mut().flat_map(|side| side.log.take()).flatten().for_each(|line| println!("{line}"));
        println!("{:?}", world.options);
        return ended.unwrap_or_else(|why| panic!("{why}"));
    }
    let mut search = Search::default();
    for &seed in FOUND.iter().chain(&(1..=1_000).collect::<Vec<_>>()) {
        search.run(seed, None).unwrap_or_else(|why| panic!("SIM_SEED={seed}: {why}"));
    }
    let Some(limit) = seconds("SIM_SECONDS") else { return };
    let began = Instant::now();
    let first = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_secs());
    let mut seed = first << 24;
    while began.elapsed() < limit {
        seed += 1;
        search.run(seed, None).unwrap_or_else(|why| panic!("SIM_SEED={seed}: {why}"));
    }
    let rate = search.steps as f64 / began.elapsed().as_secs_f64();
    println!("seeds {} to {seed}: {search:?}, {rate:.0} steps/s", (first << 24) + 1);
}

/// Rules whose absence a few seconds of search show. The others are looked for as long as `SIM_SECONDS` says.
const SHOWN_SOON: usize = 22;

#[test]
fn every_rule_that_is_left_out_is_missed() {
    let long = seconds("SIM_SECONDS");
    let mut unseen = Vec::new();
    for mutant in Mutant::ALL.into_iter().take(if long.is_some() { usize::MAX } else { SHOWN_SOON }) {
        let (began, mut search) = (Instant::now(), Search::default());
        let mut seed = 0;
        let limit = long.unwrap_or(Duration::from_secs(60));
        let found = loop {
            seed += 1;
            match search.run(seed, Some(mutant)) {
                Err(why) => break Some(why),
                Ok(()) if began.elapsed() > limit => break None,
                Ok(()) => {}
            }
        };
        let line = found.as_deref().map_or("not missed", |why| why.lines().next().unwrap_or_default());
        println!("{mutant:?}: {:.2} s, seed {seed}: {line}", began.elapsed().as_secs_f64());
        if found.is_none() {
            unseen.push(mutant);
        }
    }
    unseen.retain(|mutant| !Mutant::RARE.contains(mutant));
    assert!(unseen.is_empty(), "nothing is missed without {unseen:?}");
}
