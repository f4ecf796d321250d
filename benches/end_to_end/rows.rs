//! What is measured.

mod busy;
mod delta;
mod disk;
mod live;
mod lsyncd;
mod moves;
mod pass;
mod targets;
mod watching;

use crate::arena::{Arena, Failure};
use crate::contender::Contender::{self, Lsyncd, Rsync, Speil, Tar};
use crate::measure::Figures;

/// One piece of work that several contenders do.
pub struct Row {
    /// The name on the command line and in the files.
    pub name: &'static str,
    /// What is done, for people.
    pub title: &'static str,
    /// Who does it, in the order of their turns.
    pub contenders: &'static [Contender],
    /// What speil is to reach.
    pub goals: &'static [Goal],
    /// Makes what all contenders and repetitions share.
    pub prepare: fn(&Arena) -> Result<(), Failure>,
    /// Lets one contender do it once.
    pub measure: fn(&Arena, Contender) -> Result<Figures, Failure>,
}

/// What one of speil's figures is to be.
pub enum Goal {
    /// At most this.
    AtMost(&'static str, f64),
    /// At most this share of a peer's same figure.
    Share(&'static str, Contender, f64),
}

use Goal::{AtMost, Share};

const NOTHING: fn(&Arena) -> Result<(), Failure> = |_| Ok(());

/// Every row, in the order of the report.
pub static ALL: [Row; 29] = [
    Row {
        name: "latency",
        title: "10 kB file written, until it is seen whole on the target",
        contenders: &[Speil, Lsyncd],
        goals: &[AtMost("median_ms", 10.0), Share("median_ms", Lsyncd, 1.0 / 40.0), AtMost("p99_ms", 40.0)],
        prepare: NOTHING,
        measure: live::latency,
    },
    Row {
        name: "latency-again",
        title: "one file rewritten, each time 100 ms after the last version was seen",
        contenders: &[Speil, Lsyncd],
        goals: &[AtMost("median_ms", 10.0), Share("median_ms", Lsyncd, 1.0 / 40.0), AtMost("p99_ms", 40.0)],
        prepare: NOTHING,
        measure: live::latency_again,
    },
    Row {
        name: "latency-ext4",
        title: "10 kB file written on ext4 (loop images), durability batch: seen, and acknowledged",
        contenders: &[Speil, Lsyncd],
        goals: &[],
        prepare: NOTHING,
        measure: disk::latency,
    },
    Row {
        name: "latency-far",
        title: "10 kB file written, at a round trip of 25 ms",
        contenders: &[Speil, Lsyncd],
        goals: &[AtMost("median_ms", 22.5)],
        prepare: NOTHING,
        measure: live::latency_far,
    },
    Row {
        name: "latency-farther",
        title: "the same at a round trip of 110 ms",
        contenders: &[Speil, Lsyncd],
        goals: &[AtMost("median_ms", 65.0)],
        prepare: NOTHING,
        measure: live::latency_farther,
    },
    Row {
        name: "lsyncd-2013",
        title: "10 kB written, both programs on the lsyncd configuration of a 2013 guide",
        contenders: &[Speil, Lsyncd],
        goals: &[],
        prepare: lsyncd::prepare,
        measure: lsyncd::measure,
    },
    Row {
        name: "burst",
        title: "10,000 files of 4 kB in 100 directories, from the last write to all there",
        contenders: &[Speil, Lsyncd],
        goals: &[Share("seconds", Lsyncd, 0.1)],
        prepare: NOTHING,
        measure: live::burst,
    },
    Row {
        name: "first-copy",
        title: "first copy of 60,000 files, 830 MB",
        contenders: &[Speil, Rsync, Tar],
        goals: &[Share("seconds", Rsync, 0.5), Share("seconds", Tar, 0.9)],
        prepare: pass::prepare_first_copy,
        measure: pass::first_copy,
    },
    Row {
        name: "pull",
        title: "first copy of 60,000 files, 830 MB, pulled by the target's host",
        contenders: &[Speil, Rsync],
        goals: &[],
        prepare: pass::prepare_first_copy,
        measure: pass::first_pull,
    },
    Row {
        name: "first-copy-far",
        title: "8,000 files, 110 MB, a fifth of them duplicates, at 25 ms and 100 Mbit/s, with -z",
        contenders: &[Speil, Rsync],
        goals: &[Share("seconds", Rsync, 0.8), Share("sent_mb", Rsync, 1.0)],
        prepare: pass::prepare_first_copy_far,
        measure: pass::first_copy_far,
    },
    Row {
        name: "long-link",
        title: "one file of 256 MiB at a round trip of 110 ms, over four connections",
        contenders: &[Speil, Rsync],
        goals: &[Share("seconds", Rsync, 0.5)],
        prepare: pass::prepare_long_link,
        measure: pass::long_link,
    },
    Row {
        name: "unchanged",
        title: "a pass over 60,000 files of which none has changed",
        contenders: &[Speil, Rsync],
        goals: &[Share("seconds", Rsync, 0.5)],
        prepare: pass::prepare_unchanged,
        measure: pass::unchanged,
    },
    Row {
        name: "pull-unchanged",
        title: "a pull of 60,000 files of which none has changed",
        contenders: &[Speil, Rsync],
        goals: &[],
        prepare: pass::prepare_unchanged,
        measure: pass::pull_unchanged,
    },
    Row {
        name: "unchanged-live",
        title: "the same on request within a daemon, both trees walked",
        contenders: &[Speil, Rsync],
        goals: &[Share("seconds", Rsync, 0.2), AtMost("sent_mb", 0.004)],
        prepare: pass::prepare_unchanged,
        measure: pass::unchanged_live,
    },
    Row {
        name: "unchanged-million",
        title: "a pass over 1,000,000 files of which none has changed",
        contenders: &[Speil, Rsync],
        goals: &[
            Share("seconds", Rsync, 0.3),
            AtMost("source_own_peak_rss_mb", 64.0),
            AtMost("target_own_peak_rss_mb", 64.0),
        ],
        prepare: pass::prepare_million,
        measure: pass::unchanged,
    },
    Row {
        name: "delta",
        title: "a file of 1 GiB with 256 edits of 40 kB",
        contenders: &[Speil, Rsync],
        // What changed is 10.24 MB; a fifth more, two blocks of 32 KiB per edit, and half a MB for ssh.
        goals: &[Share("seconds", Rsync, 0.4), AtMost("sent_mb", 29.5)],
        prepare: delta::prepare_edits,
        measure: delta::delta,
    },
    Row {
        name: "delta-scattered",
        title: "a file of 1 GiB, 1 % of it in edits of 4 kB",
        contenders: &[Speil, Rsync],
        goals: &[Share("seconds", Rsync, 0.4)],
        prepare: delta::prepare_scattered,
        measure: delta::delta,
    },
    Row {
        name: "delta-insert",
        title: "a file of 1 GiB with 15 bytes inserted in front",
        contenders: &[Speil, Rsync],
        goals: &[Share("seconds", Rsync, 0.4)],
        prepare: delta::prepare_insert,
        measure: delta::delta,
    },
    Row {
        name: "delta-append",
        title: "a file of 1 GiB with 1 MiB appended",
        contenders: &[Speil, Rsync],
        goals: &[Share("seconds", Rsync, 0.4)],
        prepare: delta::prepare_append,
        measure: delta::delta,
    },
    Row {
        name: "delta-different",
        title: "a file of 1 GiB of which nothing is the same",
        contenders: &[Speil, Rsync],
        goals: &[Share("seconds", Rsync, 0.4), AtMost("times_whole_file", 1.1)],
        prepare: delta::prepare_different,
        measure: delta::delta_and_whole,
    },
    Row {
        name: "delta-zeros",
        title: "a file of 1 GiB that became zeros",
        contenders: &[Speil, Rsync],
        goals: &[Share("seconds", Rsync, 0.4)],
        prepare: delta::prepare_zeros,
        measure: delta::delta,
    },
    Row {
        name: "rename",
        title: "a directory with 10,000 files, 500 MB, renamed while live",
        contenders: &[Speil, Lsyncd],
        goals: &[AtMost("seconds", 0.1), AtMost("sent_mb", 0.002)],
        prepare: moves::prepare_rename,
        measure: moves::rename,
    },
    Row {
        name: "rename-unseen",
        title: "the same directory, renamed before a pass",
        contenders: &[Speil, Rsync],
        goals: &[AtMost("sent_mb", 0.1)],
        prepare: moves::prepare_rename,
        measure: moves::rename_unseen,
    },
    Row {
        name: "delete",
        title: "a tree of 20,000 of 60,000 files deleted before a pass",
        contenders: &[Speil, Rsync],
        goals: &[Share("seconds", Rsync, 0.5)],
        prepare: pass::prepare_delete,
        measure: pass::delete,
    },
    Row {
        name: "busy",
        title: "10 kB written while 4 GiB are under way at 25 ms and 100 Mbit/s",
        contenders: &[Speil],
        goals: &[AtMost("added_ms", 60.0)],
        prepare: NOTHING,
        measure: busy::small_beside_large,
    },
    Row {
        name: "three-targets",
        title: "first copy of 40 files of 10 MiB to three targets, and to one",
        contenders: &[Speil, Rsync],
        goals: &[AtMost("own_cpu_times", 1.3), AtMost("source_cpu_times", 2.7)],
        prepare: targets::prepare_large,
        measure: targets::three_against_one,
    },
    Row {
        name: "three-targets-small",
        title: "first copy of 20,000 small files to three targets, and to one",
        contenders: &[Speil, Rsync],
        goals: &[],
        prepare: targets::prepare_small,
        measure: targets::three_against_one,
    },
    Row {
        name: "directories",
        title: "100,000 directories in sync: from the start to live, then ten seconds of rest",
        contenders: &[Speil, Lsyncd],
        goals: &[
            Share("start_seconds", Lsyncd, 0.3),
            Share("idle_own_rss_mb", Lsyncd, 1.0),
            AtMost("idle_wake_ups_in_10_s", 1.0),
        ],
        prepare: watching::prepare,
        measure: watching::start_and_rest,
    },
    Row {
        name: "whole-file",
        title: "a file of 1 GiB that the target lacks",
        contenders: &[Speil, Rsync],
        goals: &[],
        prepare: delta::prepare_different,
        measure: delta::whole,
    },
];
