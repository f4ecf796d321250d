//! The options of a single pass.

use crate::cli::draft::Pattern;
use crate::cli::options::{Group, count, switch, value};
use crate::cli::values::{parse_bytes, text};
use crate::config::{Borrow, parse_duration};

/// What only one pass needs.
pub(in crate::cli) const PASS: Group = Group {
    heading: "One pass",
    options: &[
        switch("copy-links", "Send what symlinks lead to in their place", |d, on| {
            d.sync.selection.links.copy = on;
        })
        .short('L'),
        switch("copy-unsafe-links", "The same for symlinks that lead out of SOURCE", |d, on| {
            d.sync.selection.links.copy_unsafe = on;
        }),
        switch("copy-dirlinks", "The same for symlinks that lead to directories", |d, on| {
            d.sync.selection.links.copy_dirs = on;
        })
        .short('k'),
        switch("safe-links", "Leave out symlinks that lead out of SOURCE", |d, on| {
            d.sync.selection.links.safe = on;
        }),
        switch("force", "A directory gives way to a file or link, with what it holds", |d, on| {
            d.sync.selection.force = on;
        })
        .no(&["no-force"]),
        switch(
            "remove-source-files",
            "Remove from SOURCE every file that TARGET has then, whole and on its disk",
            |d, on| d.sync.removes = on,
        )
        .also(&["remove-sent-files"]),
        switch(
            "relative",
            "Keep the whole path of each SOURCE on the target, from /./ on if it has one",
            |d, on| {
                d.asked.relative = Some(on);
            },
        )
        .short('R')
        .no(&["no-relative", "no-R"]),
        switch("no-implied-dirs", "With -R, leave directories on the way as the target has them", |d, on| {
            d.asked.plain_ways = on
        })
        .also(&["no-i-d"])
        .no(&["implied-dirs", "i-d"]),
        switch("dirs", "Directories without what they hold; of SOURCE/ one level", |d, on| d.asked.dirs = on)
            .short('d')
            .also(&["old-dirs", "old-d"])
            .no(&["no-dirs", "no-d"]),
        switch("prune-empty-dirs", "No directories in which there is no file", |d, on| {
            d.sync.selection.prune = on;
        })
        .short('m')
        .no(&["no-prune-empty-dirs", "no-m"]),
        switch("cvs-exclude", "Leave out what CVS ignores, and what .cvsignore files name", |d, on| {
            d.asked.cvs = on;
        })
        .short('C'),
        count("F", "As --filter='dir-merge /.rsync-filter'; twice leaves those files out, too", |d, n| {
            let rules = [": /.rsync-filter", "- .rsync-filter"].into_iter().take(n.into());
            rules.for_each(|rule| drop(d.add(Pattern::Rule(rule.into()))));
        }),
        switch("mkpath", "Make every directory of the target's path that is missing", |d, on| {
            d.asked.mkpath = on;
        })
        .no(&["no-mkpath"]),
        switch("backup", "Keep what is replaced or removed, as NAME~ or in --backup-dir", |d, on| {
            d.asked.backup.on = on;
        })
        .short('b')
        .no(&["no-backup", "no-b"]),
        value(
            "backup-dir",
            "DIR",
            "Keep it in DIR on the target's host, seen from TARGET; implies -b",
            |d, v| {
                d.asked.backup.dir = Some(v.to_owned());
                Ok(())
            },
        ),
        value(
            "suffix",
            "SUFFIX",
            "Put SUFFIX behind its name [default: ~, with --backup-dir none]",
            |d, v| {
                d.asked.backup.suffix = Some(v.to_owned());
                Ok(())
            },
        ),
        value("max-size", "SIZE", "Leave files above SIZE as they are on the target", |d, v| {
            d.sync.selection.max_size = Some(parse_bytes(text(v)?)?);
            Ok(())
        }),
        value("min-size", "SIZE", "Leave files below SIZE as they are on the target", |d, v| {
            d.sync.selection.min_size = Some(parse_bytes(text(v)?)?);
            Ok(())
        }),
        value(
            "link-dest",
            "DIR",
            "Link what the target lacks to the same in DIR, seen from TARGET; several",
            |d, v| d.add_beside(Borrow::Link, v),
        ),
        value("copy-dest", "DIR", "Copy it on the target's host", |d, v| d.add_beside(Borrow::Copy, v)),
        value("compare-dest", "DIR", "Leave it out", |d, v| d.add_beside(Borrow::Leave, v)),
        switch("ignore-missing-args", "Pass over a SOURCE that is missing, without a word", |d, on| {
            d.asked.may_miss = on;
        }),
        value(
            "wait-lock",
            "SECONDS",
            "How long to wait for another run from SOURCE to TARGET to end [default: 0, and exit code 30]",
            |d, v| {
                d.lock.wait = Some(parse_duration(text(v)?)?);
                Ok(())
            },
        ),
        value("lock-max-age", "DURATION", "Do not wait for one that is older than this", |d, v| {
            d.lock.max_age = Some(parse_duration(text(v)?)?);
            Ok(())
        }),
    ],
};
