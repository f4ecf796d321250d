//! What is measured.

mod live;
mod lsyncd;
mod pass;

use crate::arena::Arena;
use crate::contender::Contender::{self, Lsyncd, Rsync, Speil, Tar};
use crate::measure::{Failure, Figures};

/// One piece of work that several contenders do.
pub struct Row {
    /// The name on the command line and in the files.
    pub name: &'static str,
    /// What is done, for people.
    pub title: &'static str,
    /// Who does it, in the order of their turns.
    pub contenders: &'static [Contender],
    /// Makes what all contenders and repetitions share.
    pub prepare: fn(&Arena) -> Result<(), Failure>,
    /// Lets one contender do it once.
    pub measure: fn(&Arena, Contender) -> Result<Figures, Failure>,
}

/// Every row, in the order of the report.
pub static ALL: [Row; 8] = [
    Row {
        name: "latency",
        title: "10 kB file written, until it is seen whole on the target",
        contenders: &[Speil, Lsyncd],
        prepare: |_| Ok(()),
        measure: live::latency,
    },
    Row {
        name: "latency-far",
        title: "the same at a round trip of 25 ms",
        contenders: &[Speil, Lsyncd],
        prepare: |_| Ok(()),
        measure: live::latency_far,
    },
    Row {
        name: "lsyncd-2013",
        title: "10 kB written, both programs on the lsyncd configuration of a 2013 guide",
        contenders: &[Speil, Lsyncd],
        prepare: lsyncd::prepare,
        measure: lsyncd::measure,
    },
    Row {
        name: "burst",
        title: "10,000 files of 4 kB in 100 directories, from the last write to all there",
        contenders: &[Speil, Lsyncd],
        prepare: |_| Ok(()),
        measure: live::burst,
    },
    Row {
        name: "rename",
        title: "a directory with 10,000 files, 500 MB, renamed while live",
        contenders: &[Speil, Lsyncd],
        prepare: live::prepare_rename,
        measure: live::rename,
    },
    Row {
        name: "first-copy",
        title: "first copy of 50,000 files, 700 MB",
        contenders: &[Speil, Rsync, Tar],
        prepare: pass::prepare_first_copy,
        measure: pass::first_copy,
    },
    Row {
        name: "unchanged",
        title: "a pass over 50,000 files of which none has changed",
        contenders: &[Speil, Rsync],
        prepare: pass::prepare_unchanged,
        measure: pass::unchanged,
    },
    Row {
        name: "delta",
        title: "a file of 1 GiB with 256 edits of 40 kB",
        contenders: &[Speil, Rsync],
        prepare: pass::prepare_delta,
        measure: pass::delta,
    },
];
