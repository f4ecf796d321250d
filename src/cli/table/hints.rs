//! rsync's options that say how it works, and change nothing of what comes of it.

use crate::cli::options::{Group, switch, value};
use crate::cli::values::{ValueError, parse_bytes, text};
use crate::config::Compress;

/// What rsync is told of its own work; speil finds that out by itself.
pub(in crate::cli) const HINTS: Group = Group {
    heading: "Taken for rsync's sake, without effect",
    options: &[
        value("block-size", "SIZE", "speil finds the size of blocks by itself", |_, v| {
            parse_bytes(text(v)?).map(drop)
        })
        .short('B'),
        value("checksum-choice", "NAME", "auto alone: contents are compared by BLAKE3", |_, v| {
            match text(v)? {
                "auto" => Ok(()),
                _ => Err(ValueError::Word("auto")),
            }
        })
        .also(&["cc"]),
        value("checksum-seed", "NUM", "BLAKE3 needs none", |_, v| {
            text(v)?.parse::<i64>().map(drop).map_err(|_| ValueError::Number)
        }),
        value("max-alloc", "SIZE", "Memory is bounded in any case", |_, v| parse_bytes(text(v)?).map(drop)),
        value("skip-compress", "LIST", "What does not shrink is sent as it is", |_, _| Ok(())),
        value("compress-threads", "NUM", "One thread packs for each connection", |_, v| {
            text(v)?.parse::<u16>().map(drop).map_err(|_| ValueError::Number)
        })
        .also(&["zt"]),
        switch("fuzzy", "Renamed files are found by their content", |_, _| {}).short('y'),
        value("stderr", "MODE", "errors or client: errors go to standard error", |_, v| match text(v)? {
            mode if !mode.is_empty() && ("errors".starts_with(mode) || "client".starts_with(mode)) => Ok(()),
            _ => Err(ValueError::Word("errors, client")),
        }),
        switch("old-compress", "As -z", |d, on| {
            d.sync.compress = if on { Compress::Always } else { Compress::Never };
        })
        .also(&["new-compress"]),
        switch("preallocate", "Room on the target is made by its filesystem", |_, _| {})
            .no(&["no-preallocate"]),
        switch("blocking-io", "speil reads and writes as the remote shell likes it", |_, _| {})
            .no(&["no-blocking-io"]),
        switch("qsort", "Names are in order in any case", |_, _| {}),
        value("outbuf", "MODE", "N, L or B; a line is written when it is whole", |_, v| match text(v)? {
            "N" | "L" | "B" | "n" | "l" | "b" => Ok(()),
            _ => Err(ValueError::Word("N, L, B")),
        }),
    ],
};
