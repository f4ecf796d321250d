//! Figures of a pass: rsync's `--stats` table, its closing lines, and `--json`.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::format::escape_name;
use super::numbers::{Numbers, decimal, whole};
use crate::monitor::Counts;
use crate::tree::Entry;

/// Version of the JSON objects: raised when a field changes its meaning or goes; new fields come without.
pub const SCHEMA: u32 = 1;

/// Returns `6 (reg: 3, dir: 1, link: 2)`, types that occur only.
fn by_type(counts: &Counts, numbers: Numbers) -> String {
    let total = whole(counts.total(), numbers);
    let types: Vec<String> = [
        ("reg", counts.files),
        ("dir", counts.dirs),
        ("link", counts.symlinks),
        ("dev", counts.devices),
        ("special", counts.specials),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(name, count)| format!("{name}: {}", whole(count, numbers)))
    .collect();
    if types.is_empty() { total } else { format!("{total} ({})", types.join(", ")) }
}

/// Figures of one pass over one target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Entries of the source that take part.
    pub entries: Counts,
    /// Entries made on the target.
    pub created: Counts,
    /// Entries removed from the target.
    pub deleted: Counts,
    /// Regular files whose content was sent.
    pub transferred_files: u64,
    /// Size of all regular files that take part, in bytes.
    pub total_bytes: u64,
    /// Size of the files whose content was sent, in bytes.
    pub transferred_bytes: u64,
    /// Content that was sent, in bytes before compression.
    pub literal_bytes: u64,
    /// Content that the target already had, in bytes.
    pub matched_bytes: u64,
    /// Bytes of digests and listings.
    pub list_bytes: u64,
    /// Bytes that left for the target, after compression.
    pub sent_bytes: u64,
    /// Bytes that came from the target.
    pub received_bytes: u64,
    /// From the start to the last acknowledgement.
    #[serde(rename = "elapsed_ms", serialize_with = "milliseconds")]
    pub elapsed: Duration,
}

fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Summary {
    /// Returns the table of `--stats`, with a line end after each line.
    pub fn table(&self, numbers: Numbers) -> String {
        let number = |value: u64| whole(value, numbers);
        let bytes = |value: u64| format!("{} bytes", whole(value, numbers));
        let lines = [
            ("Number of files", by_type(&self.entries, numbers)),
            ("Number of created files", by_type(&self.created, numbers)),
            ("Number of deleted files", by_type(&self.deleted, numbers)),
            ("Number of regular files transferred", number(self.transferred_files)),
            ("Total file size", bytes(self.total_bytes)),
            ("Total transferred file size", bytes(self.transferred_bytes)),
            ("Literal data", bytes(self.literal_bytes)),
            ("Matched data", bytes(self.matched_bytes)),
            ("File list size", number(self.list_bytes)),
            ("Total bytes sent", number(self.sent_bytes)),
            ("Total bytes received", number(self.received_bytes)),
        ];
        let mut text = String::new();
        for (name, value) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }

    /// Returns the two closing lines of `-v`, with line ends.
    pub fn closing(&self, numbers: Numbers, dry_run: bool) -> String {
        let moved = self.sent_bytes.saturating_add(self.received_bytes) as f64;
        let rate = moved / self.elapsed.as_secs_f64().max(0.001);
        let speedup = if moved > 0.0 { self.total_bytes as f64 / moved } else { 0.0 };
        format!(
            "sent {} bytes  received {} bytes  {} bytes/sec\ntotal size is {}  speedup is {}{}\n",
            whole(self.sent_bytes, numbers),
            whole(self.received_bytes, numbers),
            decimal(rate, numbers),
            whole(self.total_bytes, numbers),
            // rsync groups the digits of a speedup at every level.
            decimal(speedup, if numbers == Numbers::Plain { Numbers::Plain } else { Numbers::Grouped }),
            if dry_run { " (DRY RUN)" } else { "" },
        )
    }
}

/// One object of `--json`: a line of its own, with `"schema": 1` and `"type"` first.
///
/// Paths are relative to the source and escaped as in text output: `\#` and three octal digits for each
/// byte that is a control character or no UTF-8.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// One change, under `-i` or `-v`.
    Change {
        /// The target's name.
        target: String,
        /// The eleven characters of `-i`.
        change: String,
        /// The path.
        path: String,
        /// What a link leads to.
        #[serde(skip_serializing_if = "Option::is_none")]
        link: Option<String>,
    },
    /// One entry, under `--list-only`.
    Entry {
        /// The path.
        path: String,
        /// `file`, `directory`, `symlink` and so on.
        kind: &'static str,
        /// Permission bits in octal, four digits.
        mode: String,
        /// Bytes.
        size: u64,
        /// Modification time, in seconds since 1970.
        mtime: i64,
        /// What a symlink leads to, under `-l`.
        #[serde(skip_serializing_if = "Option::is_none")]
        link: Option<String>,
    },
    /// A path that is not as it should be.
    Problem {
        /// The target's name; `None` for the source.
        target: Option<String>,
        /// The path.
        path: String,
        /// What went wrong, `no space left on device (ENOSPC)`.
        error: String,
    },
    /// Deletes that were held back.
    Held {
        /// The target's name.
        target: String,
        /// How many entries.
        entries: u64,
        /// Why.
        reason: String,
    },
    /// The end of the run for one target: always the last object about it.
    Summary(TargetSummary),
    /// The end of the run: the last object.
    Exit {
        /// The exit code of the process.
        code: u8,
        /// What is wrong, if anything is.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// Figures of one target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetSummary {
    /// The sync's name.
    pub sync: String,
    /// The target's name.
    pub target: String,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The figures.
    #[serde(flatten)]
    pub summary: Summary,
    /// Paths that failed.
    pub problems: u64,
    /// What rsync would end with for this target alone.
    pub exit_code: u8,
}

#[derive(Serialize)]
struct Versioned<'a> {
    schema: u32,
    #[serde(flatten)]
    record: &'a Record,
}

impl Record {
    /// Returns the object of an entry that is only listed.
    pub fn entry(path: &[u8], entry: &Entry) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(&escape_name(bytes, false)).into_owned();
        let (meta, link) = (&entry.attrs.meta, &entry.attrs.symlink);
        Self::Entry {
            path: text(if path.is_empty() { b"." } else { path }),
            kind: meta.kind.noun(),
            mode: format!("{:04o}", meta.mode),
            size: meta.size,
            mtime: meta.mtime.secs,
            link: (!link.is_empty()).then(|| text(link)),
        }
    }

    /// Returns the object in one line, with the line end.
    ///
    /// # Errors
    /// `serde_json`'s, which cannot happen for these types; consequence: the line is missing.
    pub fn line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Versioned { schema: SCHEMA, record: self }).map(|mut text| {
            text.push('\n');
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Kind;

    fn summary() -> Summary {
        Summary {
            entries: Counts { files: 3, dirs: 1, symlinks: 1, devices: 0, specials: 1 },
            created: Counts { files: 3, ..Counts::default() },
            transferred_files: 3,
            total_bytes: 30_000_000,
            transferred_bytes: 7,
            literal_bytes: 7,
            sent_bytes: 294,
            received_bytes: 106,
            elapsed: Duration::from_millis(500),
            ..Summary::default()
        }
    }

    #[test]
    fn table_has_the_lines_of_rsync() {
        let text = summary().table(Numbers::Grouped);
        assert_eq!(
            text,
            "Number of files: 6 (reg: 3, dir: 1, link: 1, special: 1)\n\
             Number of created files: 3 (reg: 3)\n\
             Number of deleted files: 0\n\
             Number of regular files transferred: 3\n\
             Total file size: 30,000,000 bytes\n\
             Total transferred file size: 7 bytes\n\
             Literal data: 7 bytes\n\
             Matched data: 0 bytes\n\
             File list size: 0\n\
             Total bytes sent: 294\n\
             Total bytes received: 106\n"
        );
    }

    #[test]
    fn closing_lines_are_those_of_rsync() {
        assert_eq!(
            summary().closing(Numbers::Grouped, true),
            "sent 294 bytes  received 106 bytes  800.00 bytes/sec\n\
             total size is 30,000,000  speedup is 75,000.00 (DRY RUN)\n"
        );
        let nothing = Summary::default().closing(Numbers::Grouped, false);
        assert!(nothing.ends_with("total size is 0  speedup is 0.00\n"), "{nothing}");
    }

    #[test]
    fn json_objects_stand_in_one_line_each_with_their_version() {
        let record = Record::Summary(TargetSummary {
            sync: "www".into(),
            target: "web2".into(),
            dry_run: false,
            summary: summary(),
            problems: 0,
            exit_code: 0,
        });
        let line = record.line().unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.starts_with("{\"schema\":1,\"type\":\"summary\",\"sync\":\"www\""), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["entries"]["files"], 3);
        assert_eq!(value["elapsed_ms"], 500);
        assert_eq!(value["exit_code"], 0);
        let exit = Record::Exit { code: 23, error: None }.line().unwrap();
        assert_eq!(exit, "{\"schema\":1,\"type\":\"exit\",\"code\":23}\n");
    }

    #[test]
    fn counts_add_by_type() {
        let mut counts = Counts::default();
        for kind in [Kind::File, Kind::Dir, Kind::Symlink, Kind::BlockDevice, Kind::Socket, Kind::Fifo] {
            counts.add(kind);
        }
        assert_eq!(counts.total(), 6);
        assert_eq!(by_type(&counts, Numbers::Grouped), "6 (reg: 1, dir: 1, link: 1, dev: 1, special: 2)");
    }
}
