//! lsyncd's way of working: a queue per sync, and commands and Lua functions that work it off.
//!
//! **Purpose:** a configuration in lsyncd's language in → rsync, ssh, `cp` and the user's own commands, run
//! as lsyncd runs them. **Invariants:** the user's Lua runs on a thread of its own in slices, so that what
//! hangs there delays only its own sync; children are always waited for; the end waits for them in bounded
//! time. **Not here:** reading the configuration (`config`); speil's own mirroring (`daemon`).
//! **Sources:** lsyncd's manual; lsyncd 2.2.3 as observed.

mod calls;
mod command;
mod core;
mod crontab;
mod daemonize;
mod delays;
mod intake;
mod layers;
mod log;
mod native;
mod observe;
mod outcome;
mod plan;
mod round;
mod run;
mod script;
mod status;
mod tunnel;

pub use log::{Categories, facility, open_syslog, to_syslog};
pub use native::{Ear, Mirror, MirrorWord, Mirrors};
pub use plan::{Planned, plan};
pub use run::{Options, run};
