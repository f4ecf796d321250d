//! The rules of the ledger, and of the session around it, by name, so that a test can do without one and see what it is for.

/// A rule that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// What is owed below a name moves with a rename of it.
    DebtsMove,
    /// Renames leave before anything is looked at.
    RenamesFirst,
    /// The directories that a rename leads into are made before it.
    DirectoriesFirst,
    /// What was deleted to make way for a rename is deleted before it.
    DeletesFirst,
    /// A delete that the guard holds is held under the next name as well.
    HeldMoves,
    /// A debt remains until everything was heard that was queued when its source was looked at.
    UntilHeard,
    /// A rename makes due again what was looked at ahead of it.
    DueAgain,
    /// What leaves a subtree that is to be compared takes the comparison along.
    CopyOut,
    /// Both names of a rename are compared if the target refuses it.
    OwesBoth,
    /// What was sent on a connection that ended is due again.
    SentIsDue,
    /// A directory whose every entry a comparison has seen is not asked for again when it cannot be deleted.
    Complete,
    /// Where it is unknown whether a rename was done, stamps prove nothing below its new name.
    UnknownIsWhole,
    /// Where two directories have changed places, stamps prove nothing below either.
    SwappedIsWhole,
    /// What is told of one name of a file is owed at the others.
    NamesAreKept,
    /// The source is searched for the names of a file that nobody has told of.
    NamesAreSought,
    /// Equal stamps are believed only of what did not change since. From here on, rules of the session.
    StampsAreChecked,
    /// A comparison has looked at everything only at its end.
    ComparedAtItsEnd,
    /// The watermark is the least of what is owed, not the last mark.
    LeastIsStored,
    /// A large file that was written while it was read is read again.
    StreamsAreSteady,
    /// A large file takes its name only if the source has it there by then.
    StreamsAreThere,
    /// A large file that is renamed itself is begun anew.
    StreamsBeginAnew,
    /// A verdict is for as many deletes as were counted for it.
    JudgedAsCounted,
}
