//! What arrived, when, and how long it took: the question, the answer, and the answer for people.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::monitor::counted;
use crate::tree::Time;

/// What of the past is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// One sync only.
    pub sync: Option<String>,
    /// This path and what is below it: below the source, or absolute; any bytes.
    pub path: Option<Vec<u8>>,
    /// Milliseconds since the epoch: nothing that is older.
    pub since_ms: u64,
    /// The newest so many.
    pub max: usize,
}

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Milliseconds since the epoch; of a change when the target acknowledged it.
    pub time_ms: u64,
    /// Name of the sync.
    pub sync: String,
    /// Name of the target.
    pub target: String,
    /// What was done (`sent`, `metadata sent`, `renamed`, `deleted`), or the word of what happened.
    pub what: String,
    /// The path, quoted.
    pub path: Option<String>,
    /// The old name of a rename, quoted.
    pub from: Option<String>,
    /// How long a change took to arrive, from when it was heard of; null where a comparison found it.
    pub took_ms: Option<u64>,
    /// What else there is to say.
    pub about: Option<String>,
    /// How many it is about.
    pub count: Option<u64>,
}

impl LogRecord {
    /// Returns it as one line.
    fn line(&self) -> String {
        let secs = i64::try_from(self.time_ms / 1000).unwrap_or(i64::MAX);
        let nanos = u32::try_from(self.time_ms % 1000 * 1_000_000).unwrap_or(0);
        let time = Time { secs, nanos }.rfc3339().replace("000Z", "Z");
        let mut line = format!("{time} {} → {}: {}", self.sync, self.target, self.words());
        if let Some(took) = self.took_ms {
            line += &match took {
                0..1000 => format!(", after {took} ms"),
                _ => format!(", after {:.1} s", Duration::from_millis(took).as_secs_f64()),
            };
        }
        line + "\n"
    }

    fn words(&self) -> String {
        let (path, about) =
            (self.path.as_deref().unwrap_or_default(), self.about.as_deref().unwrap_or_default());
        let count = self.count.unwrap_or(0);
        match (self.what.as_str(), &self.from) {
            ("renamed", Some(from)) => format!("renamed {from} to {path}"),
            ("more", _) => {
                format!("and {} that a comparison found", counted(count, "more change", "more changes"))
            }
            ("lost", _) => format!(
                "{} not written down: the disk was too slow",
                counted(count, "record was", "records were")
            ),
            ("problem", _) => format!("problem {path}: {about}"),
            ("held", _) => format!("{} held: {about}", counted(count, "delete", "deletes")),
            ("pass_done", _) => format!("compared {path} ({about}): {count} differ"),
            ("set_aside", _) => format!("{path} was written by someone else, and is kept aside"),
            ("kept", _) => format!("{} written by someone else", counted(count, "entry was", "entries were")),
            ("paused", _) => if about == "on" { "paused" } else { "resumed" }.to_owned(),
            ("disconnected", _) => format!("disconnected: {about}"),
            ("connected" | "live", _) => self.what.clone(),
            (what, _) if self.took_ms.is_none() && self.path.is_some() => {
                format!("{what} {path}, found by a comparison")
            }
            (what, _) => format!("{what} {path}"),
        }
    }
}

/// Returns what happened, a line each.
pub fn log_text(records: &[LogRecord]) -> String {
    records.iter().map(LogRecord::line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_a_sentence() {
        let record = LogRecord {
            time_ms: 1_772_000_000_123,
            sync: "www".into(),
            target: "web2".into(),
            what: "sent".into(),
            path: Some("\"a b\"".into()),
            took_ms: Some(12),
            ..LogRecord::default()
        };
        let found = LogRecord { took_ms: None, ..record.clone() };
        let renamed = LogRecord {
            what: "renamed".into(),
            from: Some("\"c\"".into()),
            took_ms: Some(2500),
            ..record.clone()
        };
        let held = LogRecord {
            what: "held".into(),
            count: Some(3),
            about: Some("why".into()),
            ..LogRecord::default()
        };
        assert_eq!(
            log_text(&[record, found, renamed, held]),
            "2026-02-25T06:13:20.123Z www → web2: sent \"a b\", after 12 ms\n\
             2026-02-25T06:13:20.123Z www → web2: sent \"a b\", found by a comparison\n\
             2026-02-25T06:13:20.123Z www → web2: renamed \"c\" to \"a b\", after 2.5 s\n\
             1970-01-01T00:00:00.000Z  → : 3 deletes held: why\n"
        );
    }
}
