//! The log of a daemon.
//!
//! **Purpose:** notices, and what the libraries trace, as one line each: for people, as JSON, for the
//! journal or for syslog. **Invariants:** a record is one line, whatever a file is called or a remote
//! host says; what repeats is counted, not repeated; writing never fails the daemon; levels can be
//! changed at any time, for one sync or all. **Sources:** sd-daemon(3) "LOGGING", syslog(3).

mod format;
mod journal;
mod layer;
mod repeats;
mod sink;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::told::{Told, line};
use crate::monitor::{Level, Monitor, Notice, Scope};
use crate::tree::RelPath;
use repeats::{Passed, Repeats};

pub(super) use format::Style;
pub(super) use layer::listen;
pub(super) use sink::{Sink, is_journal, not_reopened};

/// One line to be.
#[derive(Debug, Clone, Default)]
struct Record {
    level: Option<Level>,
    sync: String,
    target: String,
    event: &'static str,
    text: String,
    hint: Option<String>,
    path: Option<RelPath>,
    /// More for scripts: names and values.
    fields: Vec<(&'static str, String)>,
}

/// Which levels are written.
#[derive(Debug, Clone)]
struct Levels {
    all: Level,
    of: HashMap<String, Level>,
}

impl Levels {
    fn writes(&self, record: &Record) -> bool {
        let most = self.of.get(&record.sync).copied().unwrap_or(self.all);
        record.level.is_none_or(|level| level <= most)
    }
}

/// The log.
pub(super) struct Log {
    style: Style,
    inner: Mutex<Inner>,
}

struct Inner {
    levels: Levels,
    repeats: Repeats,
    sink: Sink,
}

impl Log {
    /// Writes what is at most `level` into `sink`.
    pub fn new(style: Style, level: Level, sink: Sink) -> Arc<Self> {
        let levels = Levels { all: level, of: HashMap::new() };
        Arc::new(Self { style, inner: Mutex::new(Inner { levels, repeats: Repeats::default(), sink }) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record, or counts it.
    fn take(&self, record: Record) {
        let mut inner = self.lock();
        if !inner.levels.writes(&record) {
            return;
        }
        let now = Instant::now();
        self.tell_counted(&mut inner, now);
        if inner.repeats.pass(&record, now) == Passed::Yes {
            self.write(&mut inner, &record);
        }
    }

    /// Writes into the file `path` from now on, where the log is a file.
    pub fn write_to(&self, path: &Path) {
        let mut inner = self.lock();
        let done = inner.sink.write_to(path);
        self.warn(&mut inner, done);
    }

    fn warn(&self, inner: &mut Inner, done: Result<(), String>) {
        if let Err(text) = done {
            let record = Record { level: Some(Level::Warn), event: "warning", text, ..Record::default() };
            self.write(inner, &record);
        }
    }

    /// Tells what was counted and is not going on any more. To be called now and then.
    pub fn sweep(&self) {
        let mut inner = self.lock();
        self.tell_counted(&mut inner, Instant::now());
    }

    fn tell_counted(&self, inner: &mut Inner, now: Instant) {
        for record in inner.repeats.over(now) {
            self.write(inner, &record);
        }
    }

    fn write(&self, inner: &mut Inner, record: &Record) {
        let line = self.style.line(record);
        inner.sink.write(record, &line);
    }
}

impl Monitor for Log {
    fn notice(&self, scope: &Scope, notice: &Notice) {
        let (level, text, hint) = match line(scope, notice, true) {
            Told::Trouble(text, hint) => (Level::Warn, text, hint),
            Told::News(text) => (Level::Info, text, None),
            Told::Detail(text) | Told::Fine(text) => (Level::Debug, text, None),
        };
        let path = match notice {
            Notice::Problem { path, .. }
            | Notice::SetAside { path }
            | Notice::Rescan { path, .. }
            | Notice::Stays { path } => Some(path),
            Notice::PassBegan { top, .. } | Notice::PassDone { top, .. } => Some(top),
            _ => None,
        };
        self.take(Record {
            level: Some(level),
            sync: scope.sync.to_string(),
            target: scope.target.to_string(),
            event: notice.word(),
            text,
            hint,
            path: path.cloned(),
            fields: fields(notice),
        });
    }

    fn set_level(&self, sync: Option<&str>, level: Level) -> bool {
        let mut inner = self.lock();
        match sync {
            Some(sync) => {
                inner.levels.of.insert(sync.to_owned(), level);
            }
            None => inner.levels = Levels { all: level, of: HashMap::new() },
        }
        true
    }

    fn reopen(&self) {
        let mut inner = self.lock();
        let done = inner.sink.reopen();
        self.warn(&mut inner, done);
    }
}

/// Returns what a script would want to read apart.
fn fields(notice: &Notice) -> Vec<(&'static str, String)> {
    match notice {
        Notice::Problem { operation, errno, on_target, .. } => vec![
            ("operation", operation.clone()),
            ("error", crate::error::failure_text(operation, *errno)),
            ("errno", crate::error::errno_name(*errno)),
            ("on_target", on_target.to_string()),
        ],
        Notice::Uploads { len } => vec![("bytes", len.to_string())],
        Notice::Disconnected { error, retry, attempt, .. } => {
            let mut fields = vec![("error", error.clone()), ("attempt", attempt.to_string())];
            fields.extend(retry.map(|retry| ("retry_in_s", retry.as_secs().to_string())));
            fields
        }
        Notice::Held { count, reason, .. } => vec![("count", count.to_string()), ("reason", reason.clone())],
        Notice::Batch { batch, changes } => {
            vec![("batch", batch.to_string()), ("changes", changes.to_string())]
        }
        Notice::Role { old, new, generation } => {
            vec![
                ("old", (*old).to_owned()),
                ("new", (*new).to_owned()),
                ("generation", generation.to_string()),
            ]
        }
        Notice::PassDone { reason, summary, .. } => vec![
            ("reason", reason.word().to_owned()),
            ("entries", summary.entries.to_string()),
            ("different", summary.different.to_string()),
            ("elapsed_ms", summary.elapsed.as_millis().to_string()),
        ],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(style: Style) -> (Arc<Log>, Arc<Mutex<Vec<u8>>>) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        (Log::new(style, Level::Info, Sink::memory(Arc::clone(&kept))), kept)
    }

    fn lines(kept: &Arc<Mutex<Vec<u8>>>) -> Vec<String> {
        let text = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
        text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    fn problem(path: &[u8]) -> Notice {
        let path = RelPath::new(path).unwrap();
        Notice::Problem { path, operation: "write".to_owned(), errno: libc::ENOSPC, on_target: true }
    }

    #[test]
    fn a_name_can_forge_no_line_in_any_style() {
        let evil = b"a\n<0>2026-01-01T00:00:00Z ERROR forged\x1b[2J\r\"},{\xff\xe2\x80\xae\xc2\x85";
        for style in [Style::Human { stamp: true }, Style::Journal, Style::Json, Style::Syslog] {
            let (log, kept) = log(style);
            log.notice(&Scope::new("www", "web2"), &problem(evil));
            let error = "said\n\x1b[31m<0>forged\u{202e}\u{85}".to_owned();
            let down = Notice::Disconnected { error, hint: Some("do\nthis".into()), retry: None, attempt: 1 };
            log.notice(&Scope::new("www", "web2"), &down);
            let lines = lines(&kept);
            assert_eq!(lines.len(), 2, "{style:?}: {lines:?}");
            for line in &lines {
                let bad = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
                assert!(!line.contains(bad), "{style:?}: {line:?}");
                if style == Style::Json {
                    let value: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert_eq!((&value["sync"], &value["target"]), (&"www".into(), &"web2".into()));
                }
            }
        }
    }

    #[test]
    fn json_carries_the_fields_apart() {
        let (log, kept) = log(Style::Json);
        log.notice(&Scope::new("www", "web2"), &problem(b"a.jpg"));
        let value: serde_json::Value = serde_json::from_str(&lines(&kept)[0]).unwrap();
        assert_eq!((&value["level"], &value["event"]), (&"warn".into(), &"problem".into()));
        assert_eq!((&value["path"], &value["errno"]), (&"a.jpg".into(), &"ENOSPC".into()));
        assert_eq!(value["message"], "write \"a.jpg\": no space left on device (ENOSPC); tried again");
    }

    #[test]
    fn the_journal_gets_the_priority_in_front() {
        let (log, kept) = log(Style::Journal);
        log.notice(&Scope::new("www", "web2"), &Notice::Live);
        log.notice(&Scope::new("www", "web2"), &problem(b"a"));
        let lines = lines(&kept);
        assert_eq!(lines[0], "<6>www → web2: live");
        assert!(lines[1].starts_with("<4>www → web2: write \"a\""), "{lines:?}");
    }

    #[test]
    fn the_journal_is_given_fields_and_no_name_can_add_one() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("journal");
        let journal = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
        let log = Log::new(Style::Journal, Level::Info, Sink::journal_at(&socket));
        log.notice(&Scope::new("www", "web2"), &problem(b"a\nPRIORITY=0\n\xff"));
        let mut entry = vec![0; 65_536];
        let len = journal.recv(&mut entry).unwrap();
        let mut rest = &entry[..len];
        let mut fields = HashMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|&b| b == b'\n').unwrap();
            let (name, after) = (&rest[..end], &rest[end + 1..]);
            let (count, after) = after.split_at(8);
            let count = u64::from_le_bytes(count.try_into().unwrap()) as usize;
            let value = String::from_utf8(after[..count].to_vec()).unwrap();
            assert_eq!(fields.insert(String::from_utf8(name.to_vec()).unwrap(), value), None);
            assert_eq!(after[count], b'\n');
            rest = &after[count + 1..];
        }
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        assert!(field("MESSAGE").starts_with("www → web2: write \"a"), "{fields:?}");
        assert_eq!((field("PRIORITY"), field("SYSLOG_IDENTIFIER")), ("4", "speil"));
        assert_eq!((field("SPEIL_SYNC"), field("SPEIL_TARGET")), ("www", "web2"));
        assert_eq!((field("SPEIL_EVENT"), field("SPEIL_ERRNO")), ("problem", "ENOSPC"));
        assert!(field("SPEIL_PATH").contains("PRIORITY=0") && !field("SPEIL_PATH").contains('\n'));
    }

    #[test]
    fn what_repeats_is_counted_and_a_flood_of_one_kind_as_well() {
        let (log, kept) = log(Style::Journal);
        let scope = Scope::new("www", "web2");
        for _ in 0..10 {
            log.notice(&scope, &problem(b"a"));
        }
        assert_eq!(lines(&kept).len(), 1);
        for number in 0..1000 {
            log.notice(&scope, &problem(format!("{number}").as_bytes()));
        }
        let told = lines(&kept).len();
        assert!(told < 60, "{told} lines");
        let later = Instant::now() + std::time::Duration::from_secs(120);
        log.tell_counted(&mut log.lock(), later);
        let lines = lines(&kept);
        assert!(lines.iter().any(|line| line.contains("9 times more")), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("more of this kind")), "{lines:?}");
    }

    #[test]
    fn a_level_is_set_for_one_sync_or_for_all() {
        let (log, kept) = log(Style::Journal);
        let batch = |sync: &str| log.notice(&Scope::new(sync, "t"), &Notice::Batch { batch: 1, changes: 2 });
        batch("one");
        assert!(log.set_level(Some("one"), Level::Debug));
        batch("one");
        batch("two");
        assert_eq!(lines(&kept), ["<7>one → t: batch 1 acknowledged, 2 changes"]);
        log.set_level(None, Level::Error);
        log.notice(&Scope::new("one", "t"), &problem(b"a"));
        assert_eq!(lines(&kept).len(), 1);
    }
}
