//! What a history is made of: each seed switches some things on.

use speil::sender::ledger::Rule;

use crate::rng::Rng;

/// A rule of the session or of the watch that can be left out; those of the ledger have names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    Ledger(Rule),
    /// Change times are precise and events come at once: no margin is taken off.
    NoMargin,
    /// The clock is read when the mark is heard, not when the queue was measured.
    MarkWhenHeard,
    /// After lost events, directories that came to their names unheard are compared like others.
    LostIsNotWhole,
    /// After a restart, directories that were moved are compared like others.
    RestartIsNotWhole,
    /// The watermark is written before the batch is durable.
    EarlyWatermark,
    /// Nobody notices that the clock was set back.
    ClockUnnoticed,
    /// A record at the end of input does not say what was refused.
    NoRefusals,
    /// Answers are taken for what is owed at the path by now.
    AnswersByPath,
}

impl Mutant {
    /// Every rule that can be left out, those first whose absence shows soonest.
    pub const ALL: [Self; 30] = [
        Self::Ledger(Rule::DebtsMove),
        Self::Ledger(Rule::RenamesFirst),
        Self::Ledger(Rule::SentIsDue),
        Self::Ledger(Rule::OwesBoth),
        Self::Ledger(Rule::UntilHeard),
        Self::Ledger(Rule::DueAgain),
        Self::Ledger(Rule::Complete),
        Self::Ledger(Rule::CopyOut),
        Self::Ledger(Rule::SwappedIsWhole),
        Self::Ledger(Rule::UnknownIsWhole),
        Self::Ledger(Rule::StampsAreChecked),
        Self::LostIsNotWhole,
        Self::RestartIsNotWhole,
        Self::Ledger(Rule::LeastIsStored),
        Self::NoRefusals,
        Self::AnswersByPath,
        Self::Ledger(Rule::StreamsAreSteady),
        Self::Ledger(Rule::HeldMoves),
        Self::EarlyWatermark,
        Self::Ledger(Rule::JudgedAsCounted),
        Self::Ledger(Rule::NamesAreKept),
        Self::Ledger(Rule::NamesAreSought),
        Self::ClockUnnoticed,
        Self::Ledger(Rule::ComparedAtItsEnd),
        Self::Ledger(Rule::StreamsBeginAnew),
        Self::MarkWhenHeard,
        Self::NoMargin,
        Self::Ledger(Rule::StreamsAreThere),
        Self::Ledger(Rule::DirectoriesFirst),
        Self::Ledger(Rule::DeletesFirst),
    ];
    /// Without the last two nothing is lost: renames are refused and compared. `ledger::tests` shows them. The first
    /// takes minutes.
    pub const RARE: [Self; 3] = [
        Self::Ledger(Rule::StreamsAreThere),
        Self::Ledger(Rule::DirectoriesFirst),
        Self::Ledger(Rule::DeletesFirst),
    ];
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub struct Faults {
    pub cuts: bool,
    pub power_cuts: bool,
    pub restarts: bool,
    /// Events that the kernel keeps.
    pub capacity: usize,
    /// Halves of renames come apart.
    pub halves: bool,
    pub exchange: bool,
    pub clock_steps: bool,
}

/// What the tree is like, and how long somebody works in it.
#[derive(Debug, Clone)]
pub struct Shape {
    /// There are few names, and every file has the same size and time.
    pub narrow: bool,
    /// Both trees hold directories with the same names in them from the beginning, and those are renamed.
    pub twins: bool,
    /// Steps of edits between quiet times.
    pub length: u64,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub faults: Faults,
    pub shape: Shape,
    pub slow_writes: bool,
    pub protect: bool,
    pub guard: bool,
    pub streams: bool,
    pub debounce: bool,
    pub targets: usize,
    pub names_max: usize,
    pub renames: bool,
    /// Files have several names.
    pub links: bool,
    pub mutant: Option<Mutant>,
}

impl Options {
    pub fn of(rng: &mut Rng, mutant: Option<Mutant>) -> Self {
        // A third of the histories is without faults: what they cost is asserted.
        let faults = !rng.one_in(3);
        let mut some = |n: u64| rng.one_in(n);
        // In this order: a seed is a history.
        let (cuts, power_cuts, restarts) = (faults && some(2), faults && some(3), faults && some(3));
        let capacity = if faults && some(3) { 8 } else { usize::MAX };
        let (halves, exchange) = (faults && some(3), faults && some(3));
        let (slow_writes, protect, guard) = (some(2), some(3), some(3));
        let clock_steps = faults && some(4);
        let (streams, debounce) = (some(2), some(4));
        let targets = if some(4) { 2 } else { 1 };
        let names_max = if faults && some(6) { 6 } else { usize::MAX };
        let (renames, narrow, twins) = (!some(10), some(2), some(2));
        let faults = Faults { cuts, power_cuts, restarts, capacity, halves, exchange, clock_steps };
        let shape = Shape { narrow, twins, length: 100 + rng.below(500) };
        // What is written through a name that the filters leave out is told of no name that is mirrored.
        let links = rng.one_in(3) && !protect;
        Self {
            faults,
            shape,
            slow_writes,
            protect,
            guard,
            streams,
            debounce,
            targets,
            names_max,
            renames,
            links,
            mutant,
        }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}
