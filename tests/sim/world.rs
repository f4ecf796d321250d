//! One history: a source, what the kernel says of it, and one or two targets.

use std::time::{Duration, Instant};

use speil::debounce::{self, Debounce};
use speil::sender::core::Input;
use speil::sender::ledger::{Ledger, Mark, Moment, Options as LedgerOptions, Told, What};
use speil::tree::RelPath;

use crate::fs::{Fs, Id, ROOT};
use crate::judge::Judge;
use crate::kernel::{Heard, Kernel};
use crate::options::{Mutant, Options};
use crate::rng::Rng;
use crate::side::{Ground, Side};
use crate::target::{Operation, perform};

/// The kernel's clock for change times moves in steps of this.
pub const GRAIN: u64 = 4;
/// A write takes at most this long.
pub const WRITE_MAX: u64 = 60;
/// How much earlier than the clock a mark is.
const MARGIN: u64 = WRITE_MAX + GRAIN;
/// Rounds within which everything must be right when the faults have stopped.
const ROUNDS_MAX: u64 = 6_000;

/// A write that has begun.
#[derive(Debug)]
pub struct Write {
    pub inode: Id,
    pub end: u64,
}

/// What time it is.
#[derive(Debug)]
pub struct Time {
    /// Nanoseconds since the boot.
    pub clock: u64,
    /// What the clock for change times is ahead of them.
    pub offset: u64,
    start: Instant,
}

/// What those who edit know.
#[derive(Debug, Default)]
pub struct Work {
    /// The last content that was written.
    pub content: u32,
    pub writes: Vec<Write>,
    /// Names to choose from; short ones as often as long ones.
    pub paths: Vec<RelPath>,
}

/// A debounce, and the marks that wait behind what it holds.
#[derive(Debug)]
pub struct Delayed {
    pub debounce: Debounce,
    pub marks: Vec<(Instant, Mark)>,
}

pub struct World {
    pub rng: Rng,
    pub options: Options,
    pub source: Fs,
    pub kernel: Kernel,
    pub sides: Vec<Side>,
    pub time: Time,
    pub work: Work,
    pub delayed: Option<Delayed>,
    mark: Option<Mark>,
    pub steps: u64,
    /// How often `wait` would have returned, and the trees were found equal.
    pub settled: u64,
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, start: Instant, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let options = Options::of(&mut rng, mutant);
        let rule = match mutant {
            Some(Mutant::Ledger(rule)) => Some(rule),
            _ => None,
        };
        let of_ledger = LedgerOptions {
            renames: options.renames,
            deletes: true,
            names_max: options.names_max,
            off: rule,
        };
        let side = || Side::new(Ledger::new(of_ledger.clone()), traced);
        let delayed = options.debounce.then(|| Delayed {
            debounce: Debounce::new(debounce::Options {
                delay: Duration::from_nanos(20),
                max_delay: Duration::from_nanos(100),
                max_open: Duration::from_nanos(100),
                delete_quiet: Duration::from_nanos(20),
                delete_wait_max: Duration::from_nanos(100),
                few_deletes: 2,
                paths_max: 1000,
            }),
            marks: Vec::new(),
        });
        let mut world = Self {
            sides: (0..options.targets).map(|_| side()).collect(),
            kernel: Kernel::new(options.faults.capacity),
            rng,
            options,
            source: Fs::default(),
            time: Time { clock: 1_000, offset: 100_000, start },
            work: Work::default(),
            delayed,
            mark: None,
            steps: 0,
            settled: 0,
        };
        world.make_paths();
        if world.options.shape.twins {
            world.populate();
        }
        world.kernel.start(&world.source);
        world
    }

    /// Fills both trees with directories that hold the same names, of the same size and time.
    fn populate(&mut self) {
        for dir in ["a", "b", "a/b", "b/b"] {
            let dir = RelPath::new(dir.as_bytes()).unwrap_or_default();
            let mut all = vec![Operation::Dir(dir.clone())];
            for name in [b"a", b"c"] {
                self.work.content += 1;
                all.push(Operation::File { path: dir.join(name), content: self.work.content, stamp: 0 });
            }
            for operation in all {
                // Nothing is in the way of any of them.
                let _ = perform(&mut self.source, &operation);
                for side in &mut self.sides {
                    let _ = side.target.prepare(&operation);
                }
            }
        }
    }

    fn make_paths(&mut self) {
        let names: &[&str] = match (self.options.shape.narrow, self.options.protect) {
            (false, false) => &["a", "b", "c"],
            (false, true) => &["a", "b", "c", "x"],
            (true, false) => &["a", "b"],
            (true, true) => &["a", "b", "x"],
        };
        let mut level = vec![String::new()];
        for _ in 0..3 {
            let below = |above: &String| {
                let above = above.clone();
                names
                    .iter()
                    .map(move |name| format!("{above}{}{name}", if above.is_empty() { "" } else { "/" }))
            };
            level = level.iter().flat_map(below).collect();
            // Short paths are drawn as often as long ones.
            for _ in 0..27 / level.len().min(27) {
                self.work.paths.extend(level.iter().filter_map(|path| RelPath::new(path.as_bytes()).ok()));
            }
        }
    }

    pub fn say(&mut self, text: impl FnOnce() -> String) {
        self.sides[0].say(text);
    }

    pub fn now(&self) -> Instant {
        self.time.start + Duration::from_nanos(self.time.clock)
    }

    /// The clock from which change times are taken.
    pub fn coarse(&self) -> u64 {
        (self.time.clock + self.time.offset) / GRAIN * GRAIN
    }

    /// Runs a history to its end.
    pub fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.options.shape.length {
            self.step()?;
        }
        self.end_well()
    }

    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        self.time.clock += self.rng.below(4);
        self.kernel.pass(false);
        // None takes longer than is allowed for.
        self.finish_writes();
        // Busy and quiet times follow each other.
        let quiet = self.steps / 64 % 3 == 2;
        match self.rng.below(100) {
            0..=24 if quiet => {}
            0..=24 => self.edit(),
            // At times nobody reads the queue.
            25..=44 if self.steps / 96 % 4 == 1 => {}
            25..=44 => self.hear(),
            45..=47 => self.take_mark(),
            48..=96 => self.work(),
            _ if quiet => {}
            97 => self.cut(),
            98 => self.adversity(),
            _ => self.restart(),
        }
        self.check()
    }

    fn ground<'a>(
        source: &'a Fs,
        kernel: &Kernel,
        options: &'a Options,
        now: Instant,
        offset: u64,
    ) -> Ground<'a> {
        Ground { fs: source, emitted: kernel.emitted, now, offset, options }
    }

    /// One side does something.
    fn work(&mut self) {
        let now = self.now();
        let at = self.rng.index(self.sides.len());
        let ground = Self::ground(&self.source, &self.kernel, &self.options, now, self.time.offset);
        let side = &mut self.sides[at];
        let hold = self.options.guard && self.rng.one_in(3);
        match self.rng.below(20) {
            0..=6 => {
                side.turn(&ground);
            }
            7..=9 => {
                side.act(&ground, &mut self.rng, hold);
            }
            10..=12 => {
                side.arrive(&self.options);
            }
            13..=15 => {
                side.step_walk(&ground, &mut self.rng);
            }
            16..=18 => {
                side.answer(&ground);
            }
            _ => {
                if self.options.is(Mutant::EarlyWatermark) {
                    side.flush();
                }
                if self.options.guard && self.rng.one_in(40) {
                    side.approve(now);
                }
            }
        }
    }

    fn cut(&mut self) {
        if !self.options.faults.cuts && !self.options.faults.power_cuts {
            return;
        }
        let power = self.options.faults.power_cuts && (!self.options.faults.cuts || self.rng.one_in(2));
        let now = self.now();
        let at = self.rng.index(self.sides.len());
        let ground = Self::ground(&self.source, &self.kernel, &self.options, now, self.time.offset);
        self.sides[at].cut(&ground, &mut self.rng, power);
    }

    /// A clock is set back, or something protected appears on a target.
    fn adversity(&mut self) {
        if self.options.protect && self.rng.one_in(2) {
            let path = self.work.paths[self.rng.index(self.work.paths.len())].clone();
            let at = self.rng.index(self.sides.len());
            self.sides[at].target.protect(&path);
            self.say(|| format!("  PROTECTED {path}/x"));
        } else if self.options.faults.clock_steps && self.rng.one_in(2) {
            let by = (20 + self.rng.below(400)).min(self.time.offset);
            self.time.offset -= by;
            self.say(|| format!("  CLOCK back by {by}"));
            if self.options.is(Mutant::ClockUnnoticed) {
                return;
            }
            let marks =
                self.delayed.iter_mut().flat_map(|delayed| delayed.marks.iter_mut().map(|(_, mark)| mark));
            for mark in self.mark.iter_mut().chain(marks) {
                mark.change = mark.change.less(by);
            }
            let now = self.now();
            self.sides.iter_mut().for_each(|side| side.session.take(Input::ClockWentBack(by), now));
        }
    }

    /// The sender is killed and comes back; meanwhile nobody watches.
    fn restart(&mut self) {
        if !self.options.faults.restarts || self.rng.one_in(2) {
            return;
        }
        for side in &mut self.sides {
            let power = self.options.faults.power_cuts && self.rng.one_in(2);
            side.orphan(&self.options, &mut self.rng, power);
        }
        for _ in 0..self.rng.below(8) {
            self.time.clock += self.rng.below(4);
            self.finish_writes();
            self.edit();
        }
        self.kernel.start(&self.source);
        self.mark = None;
        if let Some(delayed) = &mut self.delayed {
            let now = self.time.start + Duration::from_nanos(self.time.clock);
            delayed.debounce.drain_all(now);
            delayed.marks.clear();
        }
        for at in 0..self.sides.len() {
            self.resume(at);
        }
    }

    /// A new sender learns from a target how far the last one came.
    fn resume(&mut self, at: usize) {
        let now = self.now();
        let options = self.sides[at].ledger().options().clone();
        let stored = self.sides[at].target.stored.clone().unwrap_or_default();
        // The clock was set back since by so much.
        let back = if self.options.is(Mutant::ClockUnnoticed) {
            0
        } else {
            stored.offset.saturating_sub(self.time.offset)
        };
        let watermark = stored.watermark.less(back);
        let mut ledger = Ledger::new(options);
        ledger.mark(Mark { number: self.kernel.emitted, change: watermark });
        ledger.hear(Told::Compare { path: RelPath::root(), whole: false }, now);
        for path in stored.problems {
            ledger.hear(Told::Changed { path, what: What::Content }, now);
        }
        let mut moved = Vec::new();
        let changed = |id: Id| self.source.inode(id).ctime >= watermark.0;
        self.source.each_dir(|path, id, parent| {
            if id != ROOT && changed(id) && changed(parent) {
                moved.push(path.clone());
            }
        });
        if !self.options.is(Mutant::RestartIsNotWhole) {
            for path in moved {
                ledger.hear(Told::Compare { path, whole: true }, now);
            }
        }
        self.sides[at].say(|| format!("  RESTART from {watermark:?}"));
        self.sides[at].resume(ledger);
    }

    /// Measures the queue.
    fn take_mark(&mut self) {
        if self.mark.is_none() {
            let change = if self.options.is(Mutant::NoMargin) {
                self.time.clock + self.time.offset
            } else {
                self.coarse().saturating_sub(MARGIN)
            };
            self.mark = Some(Mark { number: self.kernel.emitted, change: Moment(change) });
            self.pass_mark();
        }
    }

    /// Hears the next event.
    fn hear(&mut self) {
        for heard in self.kernel.hear(&self.source) {
            self.say(|| format!("  heard {heard:?}"));
            self.tell(heard);
        }
        self.hand_on(false);
        self.pass_mark();
    }

    /// Lets a mark through behind which nothing waits.
    fn pass_mark(&mut self) {
        let Some(mut mark) = self.mark.filter(|mark| mark.number <= self.kernel.drained) else { return };
        self.mark = None;
        if self.options.is(Mutant::MarkWhenHeard) {
            mark.change = Moment(self.coarse().saturating_sub(MARGIN));
        }
        let now = self.now();
        match &mut self.delayed {
            Some(delayed) => delayed.marks.push((now, mark)),
            None => self.sides.iter_mut().for_each(|side| side.session.take(Input::Mark(mark), now)),
        }
        self.hand_on(false);
    }

    fn check(&mut self) -> Result<(), String> {
        for side in &mut self.sides {
            if let Some(broken) = side.broken_rule.take() {
                return Err(broken);
            }
        }
        if self.steps.is_multiple_of(64) && !self.sides.iter().all(|side| side.ledger().adds_up()) {
            return Err("what is summed up is not what is owed".to_owned());
        }
        if !self.steps.is_multiple_of(4) || !self.has_heard_all() {
            return Ok(());
        }
        for at in 0..self.sides.len() {
            if self.is_settled(at) {
                self.settled += 1;
                self.is_equal(at).map_or(Ok(()), |found| Err(format!("wait returned, but {found}")))?;
            }
        }
        Ok(())
    }

    /// Whether a mark behind everything has come by.
    fn has_heard_all(&self) -> bool {
        let idle = self.kernel.is_idle()
            && self.kernel.drained == self.kernel.emitted
            && self.work.writes.is_empty();
        let held = self
            .delayed
            .as_ref()
            .is_some_and(|delayed| delayed.debounce.pending().0 > 0 || !delayed.marks.is_empty());
        idle && !held
    }

    fn is_settled(&self, at: usize) -> bool {
        let ledger = self.sides[at].ledger();
        ledger.heard().number == self.kernel.emitted && ledger.owed() == 0
    }

    fn is_equal(&self, at: usize) -> Option<String> {
        let side = &self.sides[at];
        let held = side.ledger().held().into_iter().collect();
        let judge = |target| Judge { source: &self.source, target, held: &held }.difference();
        judge(&side.target.fs)
            .or_else(|| judge(side.target.durable()).map(|found| format!("{found} on the disk")))
    }

    /// Nothing fails any more: within bounded time everything is right.
    fn end_well(&mut self) -> Result<(), String> {
        while !self.work.writes.is_empty() {
            self.time.clock += WRITE_MAX;
            self.finish_writes();
        }
        self.kernel.pass(true);
        self.kernel.capacity = usize::MAX;
        let mut left = Vec::new();
        for _ in 0..ROUNDS_MAX {
            self.steps += 1;
            self.time.clock += 1;
            self.hear();
            self.take_mark();
            self.hand_on(false);
            let mut busy = !self.has_heard_all();
            left.clear();
            for at in 0..self.sides.len() {
                busy |= self.round(at);
                if self.is_settled(at) || self.only_problems(at) {
                    continue;
                }
                left.push(at);
            }
            for side in &mut self.sides {
                if let Some(broken) = side.broken_rule.take() {
                    return Err(broken);
                }
            }
            if !busy && left.is_empty() {
                for at in 0..self.sides.len() {
                    self.is_equal(at).map_or(Ok(()), |found| Err(format!("at the end, {found}")))?;
                }
                return self.cost();
            }
            if !busy {
                self.sleep();
            }
        }
        let owed = left.first().map(|at| format!("{:#?}", self.sides[*at].session)).unwrap_or_default();
        Err(format!("does not end: {owed}"))
    }

    /// Does everything once at one side; `false` if there was nothing to do.
    fn round(&mut self, at: usize) -> bool {
        let now = self.now();
        let ground = Self::ground(&self.source, &self.kernel, &self.options, now, self.time.offset);
        let side = &mut self.sides[at];
        let mut busy = side.turn(&ground);
        busy |= side.act(&ground, &mut self.rng, false);
        busy |= side.arrive(&self.options);
        busy |= side.step_walk(&ground, &mut self.rng);
        busy |= side.answer(&ground);
        side.approve(now);
        side.flush();
        busy || !side.is_idle()
    }

    /// Whether all that is owed is what the target can not take because of something protected.
    fn only_problems(&self, at: usize) -> bool {
        let side = &self.sides[at];
        let problems = side.ledger().problems();
        let blocked = |path: &RelPath| {
            side.target.fs.find(path).is_some_and(|id| !side.target.fs.is_empty(id))
                && self.source.find(path).is_some_and(|id| !self.source.is_dir(id))
        };
        problems.len() == side.ledger().owed() && problems.iter().all(blocked)
    }

    fn sleep(&mut self) {
        let wakes = self.sides.iter().filter_map(|side| side.wake_at());
        let delayed = self.delayed.as_ref().and_then(|delayed| delayed.debounce.deadline());
        if let Some(at) = wakes.chain(delayed).min() {
            let nanos = at.saturating_duration_since(self.time.start).as_nanos();
            self.time.clock = self.time.clock.max(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
    }

    /// Without faults hardly any content is compared: where a directory made way for a file of the same name.
    fn cost(&self) -> Result<(), String> {
        let options = &self.options;
        let faults = options.faults.cuts
            || options.faults.power_cuts
            || options.faults.restarts
            || options.faults.halves
            || options.faults.exchange
            || options.faults.clock_steps
            || options.protect
            || options.links
            || options.guard
            || !options.renames
            || options.names_max != usize::MAX
            || options.debounce
            || options.faults.capacity != usize::MAX;
        let compared: u64 = self.sides.iter().map(|side| side.counts.compared).sum();
        let hashed: u64 = self.sides.iter().map(|side| side.counts.hashed).sum();
        let refused: u64 = self.sides.iter().map(|side| side.counts.refused_renames).sum();
        if !faults && refused > 12 {
            return Err(format!("{refused} renames were refused for want of what goes before them"));
        }
        if !faults && hashed > 8 * compared + 8 {
            return Err(format!("{hashed} contents were hashed in {compared} comparisons"));
        }
        Ok(())
    }
}

/// Says to a ledger what the watch said.
pub fn told(heard: &Heard, held: bool) -> Told {
    let changed = |path: &RelPath, what| Told::Changed { path: path.clone(), what };
    match heard {
        Heard::Modify(path) => changed(path, What::Content),
        Heard::Create { path, .. } => changed(path, What::Absent),
        Heard::Attrib { path, .. } => changed(path, What::Attributes),
        Heard::Delete { path, dir } => Told::Gone { path: path.clone(), dir: Some(*dir), held },
        Heard::Move { from, to, dir } => Told::Renamed { from: from.clone(), to: to.clone(), dir: *dir },
        Heard::Swap(one, other) => Told::Swapped { one: one.clone(), other: other.clone() },
        Heard::Lost => Told::Compare { path: RelPath::root(), whole: false },
        Heard::Watched(path) => Told::Watched { path: path.clone() },
        Heard::Compare(path) => Told::Compare { path: path.clone(), whole: false },
        Heard::Whole(path) => Told::Compare { path: path.clone(), whole: true },
    }
}
