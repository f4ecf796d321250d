//! Options that are on or off and mean one thing wherever they are written.
//!
//! **Purpose:** one row says all of an option: the words of `speil sync` and `speil mirror` with their help and what
//! takes them back, the key in lsyncd's `rsync = { … }`, the key in `sync{}`, and what it does to a sync. The command
//! line (`cli::table`), speil's layer (`config::mirror`) and lsyncd's (`config::lsyncd`) read it from here.
//! **Not here:** options with a value, whose mistakes each of the three tells in its own way, and those that do not
//! mean the same in all: lsyncd's `times` takes along what `sync{}` has two more keys for.

use super::{Sync, Verify};

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// The word, without its hyphens.
    pub long: &'static str,
    /// The letter.
    pub short: Option<char>,
    /// What `--help` says.
    pub help: &'static str,
    /// The words that take it back.
    pub no: &'static [&'static str],
    /// The key in lsyncd's `rsync = { … }`.
    pub lsyncd: &'static str,
    /// The key in `sync{}`, where that means the same.
    pub key: Option<&'static str>,
    /// What it does.
    pub set: fn(&mut Sync, bool),
}

const fn row(
    (long, short, no): (&'static str, Option<char>, &'static [&'static str]),
    (lsyncd, key): (&'static str, Option<&'static str>),
    help: &'static str,
    set: fn(&mut Sync, bool),
) -> Switch {
    Switch { long, short, help, no, lsyncd, key, set }
}

/// `--links`.
pub const LINKS: Switch =
    row(("links", Some('l'), &["no-links", "no-l"]), ("links", Some("symlinks")), "Symlinks", |sync, on| {
        sync.mask.symlinks = on
    });
/// `--perms`.
pub const PERMS: Switch = row(
    ("perms", Some('p'), &["no-perms", "no-p"]),
    ("perms", Some("perms")),
    "Permission bits",
    |sync, on| sync.mask.perms = on,
);
/// `--group`.
pub const GROUP: Switch =
    row(("group", Some('g'), &["no-group", "no-g"]), ("group", Some("group")), "Groups", |sync, on| {
        sync.mask.group = on;
    });
/// `--owner`.
pub const OWNER: Switch =
    row(("owner", Some('o'), &["no-owner", "no-o"]), ("owner", Some("owner")), "Owners", |sync, on| {
        sync.mask.owner = on;
    });
/// `--devices`.
pub const DEVICES: Switch =
    row(("devices", None, &["no-devices"]), ("devices", Some("devices")), "Device nodes", |sync, on| {
        sync.mask.devices = on;
    });
/// `--specials`.
pub const SPECIALS: Switch = row(
    ("specials", None, &["no-specials"]),
    ("specials", Some("specials")),
    "FIFOs and sockets",
    |sync, on| sync.mask.specials = on,
);
/// `--hard-links`.
pub const HARD_LINKS: Switch = row(
    ("hard-links", Some('H'), &["no-hard-links", "no-H"]),
    ("hard_links", Some("hardLinks")),
    "Hard links among the files sent",
    |sync, on| sync.mask.hard_links = on,
);
/// `--acls`.
pub const ACLS: Switch =
    row(("acls", Some('A'), &["no-acls", "no-A"]), ("acls", None), "POSIX ACLs; implies -p", |sync, on| {
        sync.mask.acls = on;
        sync.mask.perms |= on;
    });
/// `--xattrs`.
pub const XATTRS: Switch = row(
    ("xattrs", Some('X'), &["no-xattrs", "no-X"]),
    ("xattrs", None),
    "Extended attributes",
    |sync, on| {
        sync.mask.xattrs = on;
        sync.mask.privileged_xattrs = on;
    },
);
/// `--numeric-ids`.
pub const NUMERIC_IDS: Switch = row(
    ("numeric-ids", None, &["no-numeric-ids"]),
    ("numeric_ids", Some("numericIds")),
    "Owners by number instead of by name",
    |sync, on| sync.selection.numeric_ids = on,
);
/// `--sparse`.
pub const SPARSE: Switch = row(
    ("sparse", Some('S'), &["no-sparse", "no-S"]),
    ("sparse", Some("sparse")),
    "Write holes for runs of zeros",
    |sync, on| sync.selection.sparse = on,
);
/// `--update`.
pub const UPDATE: Switch = row(
    ("update", Some('u'), &[]),
    ("update", Some("update")),
    "Leave files alone that are newer on the target",
    |sync, on| sync.selection.update = on,
);
/// `--existing`.
pub const EXISTING: Switch = row(
    ("existing", None, &[]),
    ("existing", Some("existing")),
    "Only files that the target has",
    |sync, on| sync.selection.existing = on,
);
/// `--ignore-existing`.
pub const IGNORE_EXISTING: Switch = row(
    ("ignore-existing", None, &[]),
    ("ignore_existing", Some("ignoreExisting")),
    "Only files that the target lacks",
    |sync, on| sync.selection.ignore_existing = on,
);
/// `--checksum`.
pub const CHECKSUM: Switch = row(
    ("checksum", Some('c'), &["no-checksum", "no-c"]),
    ("checksum", None),
    "Compare contents by BLAKE3, not size and time",
    |sync, on| {
        sync.mask.checksum = on;
        sync.reconcile.verify = if on { Verify::Checksum } else { Verify::Quick };
    },
);
/// `--size-only`.
pub const SIZE_ONLY: Switch =
    row(("size-only", None, &[]), ("size_only", Some("sizeOnly")), "Compare by size alone", |sync, on| {
        sync.selection.size_only = on
    });
/// `--ignore-times`.
pub const IGNORE_TIMES: Switch =
    row(("ignore-times", Some('I'), &[]), ("ignore_times", None), "Send every file", |sync, on| {
        sync.selection.ignore_times = on;
    });
/// `--whole-file`.
pub const WHOLE_FILE: Switch = row(
    ("whole-file", Some('W'), &["no-whole-file", "no-W"]),
    ("whole_file", Some("wholeFile")),
    "Send whole files, no deltas",
    |sync, on| sync.selection.whole_file = on,
);

/// Every one of them.
pub const SWITCHES: &[Switch] = &[
    LINKS,
    PERMS,
    GROUP,
    OWNER,
    DEVICES,
    SPECIALS,
    HARD_LINKS,
    ACLS,
    XATTRS,
    NUMERIC_IDS,
    SPARSE,
    UPDATE,
    EXISTING,
    IGNORE_EXISTING,
    CHECKSUM,
    SIZE_ONLY,
    IGNORE_TIMES,
    WHOLE_FILE,
];
