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
    /// Equal stamps are believed.
    BelieveStamps,
    /// After lost events, directories that came to their names unheard are compared like others.
    LostIsNotWhole,
    /// After a restart, directories that were moved are compared like others.
    RestartIsNotWhole,
    /// The watermark is the last mark, not the least of what is owed.
    LastMark,
    /// The watermark is written before the batch is durable.
    EarlyWatermark,
    /// Nobody notices that the clock was set back.
    ClockUnnoticed,
    /// A record at the end of input does not say what was refused.
    NoRefusals,
    /// Answers are taken for what is owed at the path by now.
    AnswersByPath,
    /// What was looked at is settled as of the beginning of a comparison.
    ComparedAtItsBeginning,
    /// A large file is sent although it changed while it was read.
    TornStreams,
    /// A large file arrives under the name that it had when it was opened.
    StreamsStay,
    /// A large file takes its name although the source has another file there by then.
    StreamsUnchecked,
}

impl Mutant {
    /// Every rule that can be left out, those first whose absence shows soonest.
    pub const ALL: [Self; 27] = [
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
        Self::BelieveStamps,
        Self::LostIsNotWhole,
        Self::RestartIsNotWhole,
        Self::LastMark,
        Self::NoRefusals,
        Self::AnswersByPath,
        Self::ComparedAtItsBeginning,
        Self::TornStreams,
        Self::StreamsStay,
        Self::ClockUnnoticed,
        Self::Ledger(Rule::HeldMoves),
        Self::MarkWhenHeard,
        Self::NoMargin,
        Self::EarlyWatermark,
        Self::StreamsUnchecked,
        Self::Ledger(Rule::DirectoriesFirst),
        Self::Ledger(Rule::DeletesFirst),
    ];
    /// Without the last two nothing is lost: renames are refused and compared. `ledger::tests` shows them. The first
    /// takes minutes.
    pub const RARE: [Self; 3] =
        [Self::StreamsUnchecked, Self::Ledger(Rule::DirectoriesFirst), Self::Ledger(Rule::DeletesFirst)];
}

#[derive(Debug, Clone)]
pub struct Options {
    pub cuts: bool,
    pub power_cuts: bool,
    pub restarts: bool,
    pub capacity: usize,
    pub halves: bool,
    pub exchange: bool,
    pub slow_writes: bool,
    pub protect: bool,
    pub guard: bool,
    pub clock_steps: bool,
    pub streams: bool,
    pub debounce: bool,
    pub targets: usize,
    pub names_max: usize,
    pub renames: bool,
    /// There are few names, and every file has the same size and time.
    pub narrow: bool,
    /// Both trees hold directories with the same names in them from the beginning, and those are renamed.
    pub twins: bool,
    /// Steps of edits between quiet times.
    pub length: u64,
    pub mutant: Option<Mutant>,
}

impl Options {
    pub fn of(rng: &mut Rng, mutant: Option<Mutant>) -> Self {
        // A third of the histories is without faults: what they cost is asserted.
        let faults = !rng.one_in(3);
        let mut some = |n: u64| rng.one_in(n);
        Self {
            cuts: faults && some(2),
            power_cuts: faults && some(3),
            restarts: faults && some(3),
            capacity: if faults && some(3) { 8 } else { usize::MAX },
            halves: faults && some(3),
            exchange: faults && some(3),
            slow_writes: some(2),
            protect: some(3),
            guard: some(3),
            clock_steps: faults && some(4),
            streams: some(2),
            debounce: some(4),
            targets: if some(4) { 2 } else { 1 },
            names_max: if faults && some(6) { 6 } else { usize::MAX },
            renames: !some(10),
            narrow: some(2),
            twins: some(2),
            length: 100 + rng.below(500),
            mutant,
        }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}
