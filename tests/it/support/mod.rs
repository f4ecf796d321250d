//! What the integration tests and the end-to-end benchmark stand on.
//!
//! **Purpose:** a real sshd, trees, random edits, processes that end with their guard.
//! **Invariants:** everything lives in temporary directories and on 127.0.0.1; processes are ended
//! by their id, only those that were started here; waiting is [`command::eventually`], never a sleep.
//! **Not here:** claims about speil: they stand in the modules beside this one.

#![allow(dead_code, unused_imports, reason = "the tests and the benchmark each use a part")]

pub mod browser;
pub mod churn;
pub mod command;
pub mod faults;
pub mod process;
pub mod proxy;
pub mod rng;
pub mod session;
pub mod source_text;
pub mod sshd;
pub mod stand;
pub mod statistics;
pub mod syscalls;
pub mod terminal;
pub mod tree;
