//! A record as a line.

use super::Record;
use crate::monitor::{Level, Scope};
use crate::tree::Time;

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Style {
    /// For people: time, level, text.
    Human {
        /// Whether the time stands in front.
        stamp: bool,
    },
    /// For the journal: the priority in front; it knows the time.
    Journal,
    /// One JSON object.
    Json,
    /// The text alone.
    Syslog,
}

impl Style {
    /// Returns the line of a record, without its end.
    pub(super) fn line(self, record: &Record) -> String {
        let level = record.level.unwrap_or(Level::Info);
        match self {
            Self::Json => json(record, level),
            Self::Syslog => text(record),
            Self::Journal => format!("<{}>{}", priority(level), text(record)),
            Self::Human { stamp: false } => format!("{:>5} {}", level.word().to_uppercase(), text(record)),
            Self::Human { stamp: true } => {
                format!("{} {:>5} {}", stamp(), level.word().to_uppercase(), text(record))
            }
        }
    }
}

/// Returns the priority of syslog(3).
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Returns what a record says, on one line.
pub(super) fn text(record: &Record) -> String {
    let hint = record.hint.as_deref().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
    one_line(&format!("{}{hint}", record.text))
}

/// Returns `text` without anything that ends a line or drives a terminal.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            c if c.is_control()
                || ('\u{2028}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c) =>
            {
                out.push_str(&format!("\\u{{{:x}}}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

fn json(record: &Record, level: Level) -> String {
    let mut object = serde_json::Map::new();
    object.insert("time".to_owned(), stamp().into());
    object.insert("level".to_owned(), level.word().into());
    for (key, value) in fields(record) {
        object.insert(key.to_owned(), value.into());
    }
    serde_json::Value::Object(object).to_string()
}

/// Returns a record's parts under their names, each on one line.
pub(super) fn fields(record: &Record) -> Vec<(&'static str, String)> {
    let scope = Scope::new(&record.sync, &record.target);
    let prefix = format!("{scope}: ");
    let mut fields = vec![("event", record.event.to_owned())];
    for (key, value) in [("sync", &record.sync), ("target", &record.target)] {
        if !value.is_empty() {
            fields.push((key, value.clone()));
        }
    }
    fields.push(("message", record.text.strip_prefix(&prefix).unwrap_or(&record.text).to_owned()));
    if let Some(path) = &record.path {
        let quoted = path.to_string();
        let bare = quoted.strip_prefix('"').and_then(|path| path.strip_suffix('"'));
        fields.push(("path", bare.unwrap_or(&quoted).to_owned()));
    }
    fields.extend(record.hint.clone().map(|hint| ("hint", hint)));
    fields.extend(record.fields.iter().cloned());
    fields.into_iter().map(|(key, value)| (key, one_line(&value))).collect()
}

/// Returns the time as `2026-11-21T13:33:02.123Z`.
fn stamp() -> String {
    let now = Time::now();
    let ((year, month, day), rest, millis) = (now.date(), now.secs.rem_euclid(86_400), now.nanos / 1_000_000);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}
