//! The simulator: a seed is a history of edits and faults, of which each must end well.
//!
//! `make sim` searches as long as `SIM_SECONDS` says; `SIM_SEED=N` runs one history and prints what happened.

mod applier;
mod edits;
mod fs;
mod judge;
mod kernel;
mod mutants;
mod options;
mod rng;
mod side;
mod target;
mod walk;
mod world;
