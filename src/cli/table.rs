//! The options of `speil sync` and `speil mirror`: rsync's with rsync's meaning, and speil's own.

use std::path::PathBuf;

mod hints;
mod pass;

pub(super) use hints::HINTS;
pub(super) use pass::PASS;

use super::draft::{Draft, Pattern};
use super::numbers::Numbers;
use super::options::{Group, count, optional, shared, switch, value};
use super::output::Progress;
use super::remote_program::parse_remote_program;
use super::values::{
    ValueError, check_chmod, parse_agent, parse_info, parse_max_delete, parse_seconds, parse_window, text,
};
use crate::config::{
    Backend, Compress, Durability, Transport, is_remote, parse_bwlimit, parse_connections, parse_duration,
    parse_interval, parse_trash, split_words, switches,
};
use crate::tree::{Chown, OwnerMap};

/// Which properties are kept.
pub(super) const KEPT: Group = Group {
    heading: "What is kept",
    options: &[
        switch("archive", "As -rlptgoD; not -H, -A, -X", Draft::set_archive).short('a'),
        switch("recursive", "Descend into directories", Draft::set_recursive)
            .short('r')
            .no(&["no-recursive", "no-r"]),
        shared(&switches::LINKS),
        shared(&switches::PERMS),
        switch("times", "Modification times, to the nanosecond", Draft::set_times)
            .short('t')
            .no(&["no-times", "no-t"]),
        shared(&switches::GROUP),
        shared(&switches::OWNER),
        switch("D", "As --devices --specials", |d, on| {
            d.sync.mask.devices = on;
            d.sync.mask.specials = on;
        })
        .no(&["no-D"]),
        shared(&switches::DEVICES),
        shared(&switches::SPECIALS),
        shared(&switches::HARD_LINKS),
        shared(&switches::ACLS),
        shared(&switches::XATTRS),
        switch("omit-dir-times", "No modification times of directories", |d, on| {
            d.sync.mask.dir_times = !on;
        })
        .short('O')
        .no(&["no-omit-dir-times", "no-O"]),
        switch("omit-link-times", "No modification times of symlinks", |d, on| {
            d.sync.mask.link_times = !on;
        })
        .short('J')
        .no(&["no-omit-link-times", "no-J"]),
        shared(&switches::NUMERIC_IDS),
        value("chmod", "CHANGES", "Change permission bits on the way: u=rwX,go-w,D755,F644", |d, v| {
            d.sync.selection.chmod.extend(check_chmod(text(v)?)?);
            Ok(())
        }),
        value(
            "chown",
            "USER:GROUP",
            "Owner and group of everything on the target; implies -o, -g",
            |d, v| {
                let chown = Chown::parse(text(v)?).map_err(ValueError::from)?;
                d.sync.mask.owner |= chown.user.is_some();
                d.sync.mask.group |= chown.group.is_some();
                d.sync.selection.chown = Some(text(v)?.to_owned());
                Ok(())
            },
        ),
        value("usermap", "FROM:TO,…", "Users that are others on the target; implies -o", |d, v| {
            OwnerMap::parse(text(v)?).map_err(ValueError::from)?;
            d.sync.mask.owner = true;
            d.sync.selection.usermap = Some(text(v)?.to_owned());
            Ok(())
        }),
        value("groupmap", "FROM:TO,…", "Groups that are others on the target; implies -g", |d, v| {
            OwnerMap::parse(text(v)?).map_err(ValueError::from)?;
            d.sync.mask.group = true;
            d.sync.selection.groupmap = Some(text(v)?.to_owned());
            Ok(())
        }),
        shared(&switches::SPARSE),
    ],
};

/// Which entries take part, and how they are compared.
pub(super) const CHOSEN: Group = Group {
    heading: "What takes part",
    options: &[
        value(
            "exclude",
            "PATTERN",
            "Leave out what matches; first match wins, in the order given",
            |d, v| d.add(Pattern::One('-', v.to_owned())),
        ),
        value("include", "PATTERN", "Do not leave out what matches", |d, v| {
            d.add(Pattern::One('+', v.to_owned()))
        }),
        value("exclude-from", "FILE", "Patterns to leave out, one a line; - is standard input", |d, v| {
            d.add(Pattern::File('-', v.to_owned(), d.lists.from0))
        }),
        value("include-from", "FILE", "Patterns not to leave out", |d, v| {
            d.add(Pattern::File('+', v.to_owned(), d.lists.from0))
        }),
        value("filter", "RULE", "A filter rule as in rsync(1): '- *.tmp', 'P lost+found/'", |d, v| {
            d.add(Pattern::Rule(v.to_owned()))
        })
        .short('f'),
        value(
            "files-from",
            "FILE",
            "Only the paths below SOURCE that FILE lists; -a then implies no -r",
            |d, v| {
                if is_remote(v.as_encoded_bytes()) {
                    return Err(ValueError::RemoteList);
                }
                d.lists.files_from = Some(v.to_owned());
                Ok(())
            },
        ),
        switch("from0", "Entries of these files end at NUL bytes", |d, on| d.lists.from0 = on)
            .short('0')
            .no(&["no-from0"]),
        count("one-file-system", "Stay on one filesystem", |d, n| {
            d.sync.selection.one_file_system = n > 0;
            d.asked.skip_mounts = n > 1;
        })
        .short('x')
        .no(&["no-one-file-system", "no-x"]),
        shared(&switches::UPDATE),
        shared(&switches::EXISTING).also(&["ignore-non-existing"]),
        shared(&switches::IGNORE_EXISTING),
        shared(&switches::CHECKSUM),
        shared(&switches::SIZE_ONLY),
        shared(&switches::IGNORE_TIMES),
        value("modify-window", "SECONDS", "Times this close count as equal [default: 0, exact]", |d, v| {
            d.sync.selection.modify_window = parse_window(text(v)?)?;
            Ok(())
        })
        .short('@'),
    ],
};

/// When entries are removed.
pub(super) const REMOVED: Group = Group {
    heading: "What is removed",
    options: &[
        switch(
            "delete",
            "Remove what SOURCE lacks; always last, after every file is in place",
            Draft::set_delete,
        )
        .also(&["del", "delete-before", "delete-during", "delete-delay", "delete-after"])
        .no(&["no-delete"]),
        switch("delete-excluded", "Remove what is left out as well; implies --delete", |d, on| {
            d.sync.guard.delete_excluded = on;
            d.set_delete(true);
        }),
        value(
            "max-delete",
            "NUM|SHARE%",
            "Remove no more than this, exit code 25 if there is more; a live mirror holds all of it",
            |d, v| {
                d.sync.guard.max_delete = parse_max_delete(text(v)?)?;
                d.asked.max_delete = true;
                Ok(())
            },
        ),
        switch("no-delete-guard", "Remove even if it empties the root or most of the tree", |d, on| {
            d.sync.guard.enabled = !on;
        }),
        value(
            "trash",
            "KEEP[,MAX]",
            "Keep on the target what is removed or replaced: 7d,10G; see speil undo",
            |d, v| {
                d.sync.trash = parse_trash(text(v)?)?;
                Ok(())
            },
        )
        .no(&["no-trash"]),
    ],
};

/// How data travels.
pub(super) const SENT: Group = Group {
    heading: "How it is sent",
    options: &[
        optional(
            "compress",
            ("WHEN", "always", "never"),
            "Compress: never, auto or always [-z: always]",
            |d, v| {
                d.sync.compress = match text(v)? {
                    "never" => Compress::Never,
                    "auto" => Compress::Auto,
                    "always" => Compress::Always,
                    _ => return Err(ValueError::Word("never, auto, always")),
                };
                Ok(())
            },
        )
        .short('z')
        .no(&["no-compress", "no-z"]),
        value(
            "compress-choice",
            "NAME",
            "The same by the name of the method: zstd or auto, or none",
            |d, v| {
                d.sync.compress = match text(v)? {
                    "zstd" | "auto" => Compress::Always,
                    "none" => Compress::Never,
                    _ => return Err(ValueError::Word("zstd, auto, none")),
                };
                Ok(())
            },
        )
        .also(&["zc"]),
        value("compress-level", "NUM", "0 turns it off; speil finds the level by itself", |d, v| {
            let level: i32 = text(v)?.parse().map_err(|_| ValueError::Number)?;
            d.sync.compress = if level == 0 { Compress::Never } else { Compress::Always };
            Ok(())
        })
        .also(&["zl"]),
        shared(&switches::WHOLE_FILE),
        value("bwlimit", "RATE", "Most KiB a second; or with a suffix, 10m", |d, v| {
            d.sync.bwlimit = parse_bwlimit(text(v)?)?;
            Ok(())
        })
        .no(&["no-bwlimit"]),
        value("connections", "N", "Connections to each target, for long fast links [default: 1]", |d, v| {
            d.sync.connections = parse_connections(text(v)?)?;
            Ok(())
        }),
        value(
            "rsh",
            "COMMAND",
            "The remote shell, with its options: 'ssh -i KEY -p 22' [env: RSYNC_RSH]",
            |d, v| {
                d.remote.rsh = Some(split_words(text(v)?)?);
                Ok(())
            },
        )
        .short('e'),
        value("rsync-path", "PROGRAM", "sudo, doas, nice and ionice in it go before the agent", |d, v| {
            d.remote.program = Some(parse_remote_program(text(v)?)?);
            Ok(())
        }),
        value(
            "agent",
            "WHERE",
            "The agent: auto (in PATH, else uploaded), path, deploy, or a command",
            |d, v| {
                d.sync.agent = parse_agent(text(v)?)?;
                d.asked.agent = true;
                Ok(())
            },
        ),
        value("transport", "NAME", "ssh (the command) or ssh2 (in process) [default: ssh]", |d, v| {
            d.sync.transport = match text(v)? {
                "ssh" => Transport::Ssh,
                "ssh2" => Transport::Ssh2,
                _ => return Err(ValueError::Word("ssh, ssh2")),
            };
            Ok(())
        }),
        value("port", "PORT", "The port of ssh", |d, v| {
            d.sync.ssh.port = Some(text(v)?.parse().map_err(|_| ValueError::Number)?);
            Ok(())
        }),
        switch("ipv4", "Have ssh use IPv4 alone", |d, on| d.remote.family = on.then_some("-4")).short('4'),
        switch("ipv6", "Have ssh use IPv6 alone", |d, on| d.remote.family = on.then_some("-6")).short('6'),
        value("contimeout", "SECONDS", "How long ssh may take to connect; 0: as it likes", |d, v| {
            let seconds: u32 = text(v)?.parse().map_err(|_| ValueError::Number)?;
            d.remote.connect_limit = (seconds > 0).then_some(seconds);
            Ok(())
        })
        .no(&["no-contimeout"]),
        value(
            "timeout",
            "SECONDS",
            "Seconds of silence after which the run gives up; 0: never [default: 60]",
            |d, v| {
                d.sync.timeout = parse_seconds(text(v)?)?;
                Ok(())
            },
        )
        .no(&["no-timeout"]),
        switch(
            "partial",
            "Keep what has arrived of an interrupted file for the next run, in .speil/partial",
            |d, on| {
                d.partial = on;
            },
        )
        .no(&["no-partial"]),
        switch("P", "As --partial --progress", |d, on| {
            d.partial = on;
            d.output.progress = if on { Progress::Lines } else { Progress::Auto };
        }),
        value(
            "durability",
            "LEVEL",
            "On disk before it counts: none, batch or file [default: batch]",
            |d, v| {
                d.sync.durability = match text(v)? {
                    "none" => Durability::None,
                    "batch" => Durability::Batch,
                    "file" => Durability::File,
                    _ => return Err(ValueError::Word("none, batch, file")),
                };
                Ok(())
            },
        ),
        switch("fsync", "As --durability=file", |d, on| {
            d.sync.durability = if on { Durability::File } else { Durability::Batch };
        })
        .no(&["no-fsync"]),
        switch("force-root", "Allow /, /etc, /home, /usr and /var as a root", |d, on| {
            d.sync.force_root = on;
        }),
    ],
};

/// What is told.
pub(super) const TOLD: Group = Group {
    heading: "What is told",
    options: &[
        switch("dry-run", "Say what would be done; change nothing, read no file", |d, on| d.dry_run = on)
            .short('n'),
        switch("list-only", "List what takes part, as ls -l does; so does SOURCE without TARGET", |d, on| {
            d.sync.selection.list_only = on;
        }),
        count("verbose", "Name what is done; twice and three times for more", |d, n| d.output.verbose = n)
            .short('v')
            .no(&["no-verbose", "no-v"]),
        switch("quiet", "Errors only", |d, on| d.output.quiet = on).short('q'),
        count("itemize-changes", "What changed, as '>f.st......'; twice for unchanged files too", |d, n| {
            d.output.itemize = n;
        })
        .short('i')
        .no(&["no-itemize-changes", "no-i"]),
        value(
            "out-format",
            "FORMAT",
            "One line for each change: '%i %n%L', escapes as rsyncd.conf(5)",
            |d, v| {
                d.output.out_format = Some(super::format::Format::parse(text(v)?)?);
                Ok(())
            },
        )
        .also(&["log-format"]),
        value("log-file", "FILE", "Append each change and all messages to FILE, as rsync does", |d, v| {
            d.output.log_file = Some(PathBuf::from(v));
            Ok(())
        }),
        value("log-file-format", "FORMAT", "Its line for each change; an empty one is none", |d, v| {
            d.output.log_format = Some(super::format::Format::parse(text(v)?)?);
            Ok(())
        }),
        switch("stats", "Figures at the end", |d, on| d.output.stats = if on { 2 } else { 0 })
            .no(&["no-stats"]),
        switch("progress", "Progress, on a pipe as well", |d, on| {
            d.output.progress = if on { Progress::Lines } else { Progress::Never };
        })
        .no(&["no-progress"]),
        value(
            "info",
            "FLAGS",
            "What is told: progress2, stats2, name, del, none; 0 behind a word turns it off",
            |d, v| parse_info(text(v)?, &mut d.output),
        ),
        count("human-readable", "Numbers as 1.23M; twice for units of 1024", |d, n| {
            d.output.numbers = match n {
                0 => Numbers::Plain,
                1 => Numbers::Thousand,
                _ => Numbers::Binary,
            };
        })
        .short('h')
        .no(&["no-human-readable", "no-h"]),
        switch("8-bit-output", "Bytes that are no UTF-8 as they are", |d, on| d.output.eight_bit = on)
            .short('8'),
        switch("json", "Results as JSON, one object a line, instead of text", |d, on| d.output.json = on),
    ],
};

/// What only a live mirror needs.
pub(super) const LIVE: Group = Group {
    heading: "Live",
    options: &[
        value(
            "delay",
            "DURATION",
            "How long a busy file must be quiet before it is sent [default: 20ms]",
            |d, v| {
                d.sync.delay = parse_duration(text(v)?)?;
                Ok(())
            },
        ),
        value(
            "max-delay",
            "DURATION",
            "How long a file that is never quiet waits at most [default: 2s]",
            |d, v| {
                d.sync.max_delay = parse_duration(text(v)?)?;
                Ok(())
            },
        ),
        value(
            "reconcile-interval",
            "DURATION",
            "Time between two full passes, or never [default: 15m]",
            |d, v| {
                d.sync.reconcile.interval = parse_interval(text(v)?)?;
                Ok(())
            },
        ),
        value(
            "watch",
            "BACKEND",
            "How changes are noticed: auto, inotify, fanotify, notify or poll [default: auto]",
            |d, v| {
                d.sync.watch = match text(v)? {
                    "auto" => Backend::Auto,
                    "inotify" => Backend::Inotify,
                    "fanotify" => Backend::Fanotify,
                    "notify" => Backend::Notify,
                    "poll" => Backend::Poll,
                    _ => return Err(ValueError::Word("auto, inotify, fanotify, notify, poll")),
                };
                Ok(())
            },
        ),
        value(
            "poll-interval",
            "DURATION",
            "Time between two walks of a polled source [default: 10s]",
            |d, v| {
                d.sync.poll_interval = parse_duration(text(v)?)?;
                Ok(())
            },
        ),
        value("control", "SOCKET", "Where speil status, wait and the others reach this mirror", |d, v| {
            d.control = Some(PathBuf::from(v));
            Ok(())
        }),
    ],
};

/// Returns the groups of `speil mirror` (`live`) or `speil sync`.
pub(super) fn groups(live: bool) -> [&'static Group; 7] {
    [&KEPT, &CHOSEN, &REMOVED, &SENT, &TOLD, if live { &LIVE } else { &PASS }, &HINTS]
}
