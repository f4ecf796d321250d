//! What arrived on each target, when, and how long it took: a history on this host's disk.
//!
//! **In → Out:** what a monitor hears; lines in `log/MIRROR.log` of the state directory, a JSON object each, and in
//! `.log.1` those before them. **Invariants:** nobody waits for the disk: what does not fit into the queue is counted,
//! and the count is written; a history that cannot be written is told once, and the mirror goes on; the two files of
//! a target take no more than their bound. **Not here:** reading (`read`).

mod read;

use std::collections::{BTreeSet, HashMap};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::report::clean;
use crate::config::Sync;
use crate::error::{failure_text, io_text};
use crate::monitor::{Arrived, Monitor, Notice, Scope};

pub use read::read_history;

/// Pieces that wait to be written.
const WAITING_MAX: usize = 256;
/// Changes of one batch, of those that a comparison found, that are written one by one: a first copy would leave
/// room for nothing else.
const FOUND_MAX: usize = 500;
/// A history to which nothing was added for so long is of a mirror that is no more.
const STALE: Duration = Duration::from_secs(90 * 86_400);
/// The end of a daemon waits so long for what is to be written.
const END_WAIT: Duration = Duration::from_secs(2);

/// A line of a history; short, since there are many.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    /// Milliseconds since the epoch. The first field: it is read without the others.
    t: u64,
    /// What was done, or what happened.
    w: String,
    /// The path, quoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<String>,
    /// The old name of a rename, quoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    f: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    l: Option<u64>,
    /// What it is about, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a: Option<String>,
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    /// Of a first line: whose history this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    h: Option<Head>,
}

/// Whose history a file is.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    sync: String,
    target: String,
    /// The source, quoted.
    source: String,
}

/// What the thread that writes is told.
enum Told {
    /// A history is kept for these, in the file of this name.
    Begin {
        scope: Scope,
        name: String,
        head: Head,
    },
    Lines {
        scope: Scope,
        text: Vec<u8>,
    },
    End(Sender<()>),
}

/// The histories of a daemon.
pub(super) struct Chronicle {
    dir: Option<PathBuf>,
    /// Bytes that the history of a target takes at most; 0 for none.
    max: Arc<AtomicU64>,
    told: Sender<Told>,
    /// Lines that were left out since the last that was not.
    lost: AtomicU64,
    /// Files that are written to.
    names: Mutex<BTreeSet<String>>,
}

impl Chronicle {
    /// Writes below `dir`, of each target `max` bytes at most; tells `monitor` if that fails.
    pub fn new(dir: Option<PathBuf>, max: u64, monitor: Arc<dyn Monitor>) -> Self {
        let (told, heard) = bounded(WAITING_MAX);
        let max = Arc::new(AtomicU64::new(max));
        if let Some(dir) = dir.clone() {
            let mut writer =
                Writer { dir, max: Arc::clone(&max), files: HashMap::new(), failed: false, monitor };
            // Without a thread there is no history, and everything else goes on.
            let _ = std::thread::Builder::new().name("history".to_owned()).spawn(move || writer.run(&heard));
        }
        Self { dir, max, told, lost: AtomicU64::new(0), names: Mutex::default() }
    }

    /// Keeps a history of each target of a sync from now on.
    pub fn begin(&self, sync: &Sync) {
        for target in &sync.targets {
            let name = super::identity::file_name(&super::identity::mirror_id(sync, target).id, "log");
            let head = Head {
                sync: clean(&sync.name),
                target: clean(&target.name),
                source: crate::tree::quote(std::os::unix::ffi::OsStrExt::as_bytes(sync.source.as_os_str())),
            };
            self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
            let _ = self.told.send(Told::Begin { scope: Scope::new(&sync.name, &target.name), name, head });
        }
    }

    /// Takes other bounds from now on.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Writes what is still to be written.
    pub fn end(&self) {
        let (done, ended) = bounded(1);
        if self.told.send_timeout(Told::End(done), END_WAIT).is_ok() {
            let _ = ended.recv_timeout(END_WAIT);
        }
    }

    /// Returns where the histories are, and which of the files there are this daemon's.
    pub fn place(&self) -> Option<(PathBuf, BTreeSet<String>)> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some((self.dir.clone()?, names))
    }

    /// Whether anything is written down at all.
    fn keeps(&self) -> bool {
        self.dir.is_some() && self.max.load(Ordering::Relaxed) > 0
    }

    /// Writes down what a target has acknowledged.
    pub fn arrived(&self, scope: &Scope, changes: &[Arrived<'_>]) {
        if !self.keeps() {
            return;
        }
        let (now, mut text, mut found) = (now_ms(), Vec::new(), 0);
        for change in changes {
            found += usize::from(change.took.is_none());
            if change.took.is_some() || found <= FOUND_MAX {
                put(
                    &mut text,
                    &Line {
                        t: now,
                        w: change.what.to_owned(),
                        p: Some(change.path.to_string()),
                        f: change.from.map(ToString::to_string),
                        l: change.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
                        ..Line::default()
                    },
                );
            }
        }
        if found > FOUND_MAX {
            let more = Some((found - FOUND_MAX) as u64);
            put(&mut text, &Line { t: now, w: "more".to_owned(), n: more, ..Line::default() });
        }
        self.add(scope, text);
    }

    /// Writes down what happened, if it is about a target and says why something arrived late or not at all.
    pub fn happened(&self, scope: &Scope, notice: &Notice) {
        if scope.target.is_empty() || !self.keeps() {
            return;
        }
        let (about, path, count) = match notice {
            Notice::Connected { .. } | Notice::Live => (None, None, None),
            Notice::Disconnected { error, .. } => (Some(clean(error)), None, None),
            Notice::Problem { path, operation, errno, .. } => {
                (Some(format!("{operation}: {}", failure_text(operation, *errno))), Some(path), None)
            }
            Notice::Held { count, reason, .. } => (Some(clean(reason)), None, Some(*count)),
            Notice::SetAside { path } => (None, Some(path), None),
            Notice::Kept { count } => (None, None, Some(*count)),
            Notice::Paused { on } => (Some(if *on { "on" } else { "off" }.to_owned()), None, None),
            Notice::PassDone { top, reason, summary } if summary.different + summary.deletes > 0 => {
                (Some(reason.word().to_owned()), Some(top), Some(summary.different))
            }
            _ => return,
        };
        let (mut text, p) = (Vec::new(), path.map(ToString::to_string));
        put(
            &mut text,
            &Line { t: now_ms(), w: notice.word().to_owned(), p, a: about, n: count, ..Line::default() },
        );
        self.add(scope, text);
    }

    fn add(&self, scope: &Scope, mut text: Vec<u8>) {
        if text.is_empty() {
            return;
        }
        let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count() as u64;
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            put(&mut text, &Line { t: now_ms(), w: "lost".to_owned(), n: Some(lost), ..Line::default() });
        }
        let count = lines(&text) - u64::from(lost > 0);
        if self.told.try_send(Told::Lines { scope: scope.clone(), text }).is_err() {
            self.lost.fetch_add(lost + count, Ordering::Relaxed);
        }
    }
}

fn put(text: &mut Vec<u8>, line: &Line) {
    // Writing into memory cannot fail.
    let _ = serde_json::to_writer(&mut *text, line);
    text.push(b'\n');
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The thread that writes.
struct Writer {
    dir: PathBuf,
    max: Arc<AtomicU64>,
    files: HashMap<Scope, Pages>,
    /// Whether it was told that nothing can be written.
    failed: bool,
    monitor: Arc<dyn Monitor>,
}

/// One history.
struct Pages {
    name: String,
    head: Head,
    file: Option<(File, u64)>,
}

impl Writer {
    fn run(&mut self, heard: &Receiver<Told>) {
        self.forget_stale();
        for told in heard {
            match told {
                Told::Begin { scope, name, head } => {
                    self.files.insert(scope, Pages { name, head, file: None });
                }
                Told::End(done) => drop(done.send(())),
                Told::Lines { scope, text } => {
                    let (dir, max) = (&self.dir, self.max.load(Ordering::Relaxed));
                    if max > 0 {
                        let pages = self.files.get_mut(&scope);
                        let done = pages.map_or(Ok(()), |pages| pages.write(dir, max, &text));
                        self.tell(done);
                    }
                }
            }
        }
    }

    fn tell(&mut self, done: io::Result<()>) {
        let Err(error) = done else {
            self.failed = false;
            return;
        };
        if !std::mem::replace(&mut self.failed, true) {
            let text = format!(
                "{}: {}: what arrives is not written down, so speil log will not tell it",
                self.dir.display(),
                io_text(&error)
            );
            self.monitor.notice(&Scope::new("", ""), &Notice::Warning { text, hint: None });
        }
    }

    /// Removes the histories of mirrors that are no more.
    fn forget_stale(&self) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let age =
                entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
            if is_history(&entry.file_name().to_string_lossy()) && age.is_some_and(|age| age > STALE) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Whether a file is a history, the present one or the one before.
fn is_history(name: &str) -> bool {
    name.ends_with(".log") || name.ends_with(".log.1")
}

impl Pages {
    fn write(&mut self, dir: &Path, max: u64, text: &[u8]) -> io::Result<()> {
        let done = self.try_write(dir, max, text);
        if done.is_err() {
            // It is opened anew: its directory may have been removed.
            self.file = None;
        }
        done
    }

    fn try_write(&mut self, dir: &Path, max: u64, text: &[u8]) -> io::Result<()> {
        let path = dir.join(&self.name);
        if self.file.as_ref().is_some_and(|(_, length)| *length >= max / 2) {
            self.file = None;
            std::fs::rename(&path, dir.join(format!("{}.1", self.name)))?;
        }
        if self.file.is_none() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            // Behind what a full disk has cut off.
            let mut head = if file.metadata()?.len() > 0 { b"\n".to_vec() } else { Vec::new() };
            let line =
                Line { t: now_ms(), w: "begins".to_owned(), h: Some(self.head.clone()), ..Line::default() };
            put(&mut head, &line);
            file.write_all(&head)?;
            let length = file.metadata()?.len();
            self.file = Some((file, length));
        }
        if let Some((file, length)) = &mut self.file {
            file.write_all(text)?;
            *length += text.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_target;
    use crate::monitor::Silent;
    use crate::status::{LogQuery, LogRecord};
    use crate::tree::RelPath;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn sync() -> Sync {
        Sync::new("www", "/srv/www", vec![parse_target("web2:/srv/www").unwrap()])
    }

    fn records(chronicle: &Chronicle, query: &LogQuery) -> Vec<LogRecord> {
        chronicle.end();
        let (dir, names) = chronicle.place().unwrap();
        read_history(&dir, Some(&names), query).unwrap().0
    }

    fn everything() -> LogQuery {
        LogQuery { max: 1_000_000, ..LogQuery::default() }
    }

    #[test]
    fn what_arrived_is_read_again_by_sync_by_path_and_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let chronicle = Chronicle::new(Some(dir.path().join("log")), 1 << 20, Arc::new(Silent));
        chronicle.begin(&sync());
        let scope = Scope::new("www", "web2");
        let (a, b, odd) = (path("dir/a"), path("dirt"), RelPath::new(b"dir/\xff".to_vec()).unwrap());
        let change = |what, path, took| Arrived { what, path, from: None, took };
        let took = Some(Duration::from_millis(12));
        chronicle.arrived(&scope, &[change("sent", &a, took), change("deleted", &b, None)]);
        chronicle.arrived(&scope, &[Arrived { what: "renamed", path: &b, from: Some(&odd), took }]);
        chronicle.happened(&scope, &Notice::Live);
        chronicle.happened(&Scope::new("www", ""), &Notice::Live);
        let all = records(&chronicle, &everything());
        let whats: Vec<&str> = all.iter().map(|record| record.what.as_str()).collect();
        assert_eq!(whats, ["sent", "deleted", "renamed", "live"]);
        assert_eq!((all[0].took_ms, all[0].sync.as_str(), all[0].target.as_str()), (Some(12), "www", "web2"));
        assert_eq!(all[2].from.as_deref(), Some("\"dir/\\xff\""));
        for (path, count) in
            [("dir", 2), ("/srv/www/dir", 2), ("dir/", 2), ("/srv/www", 4), ("dirt", 2), ("di", 0)]
        {
            let query = LogQuery { path: Some(path.as_bytes().to_vec()), ..everything() };
            assert_eq!(records(&chronicle, &query).len(), count, "{path}");
        }
        let other = LogQuery { sync: Some("other".into()), ..everything() };
        assert_eq!(records(&chronicle, &other), []);
        let later = LogQuery { since_ms: now_ms() + 60_000, ..everything() };
        assert_eq!(records(&chronicle, &later), []);
        // The newest are those that are told.
        let query = LogQuery { max: 1, ..LogQuery::default() };
        chronicle.end();
        let (dir, names) = chronicle.place().unwrap();
        let (newest, left_out) = read_history(&dir, Some(&names), &query).unwrap();
        assert_eq!((newest[0].what.as_str(), newest.len(), left_out), ("live", 1, 3));
        assert_eq!(read_history(&dir, Some(&BTreeSet::new()), &everything()).unwrap(), (vec![], 0));
    }

    #[test]
    fn a_history_is_bounded_and_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("log");
        let (scope, name) = (Scope::new("www", "web2"), path("some/name"));
        let one = [Arrived { what: "sent", path: &name, from: None, took: Some(Duration::ZERO) }];
        for _ in 0..2 {
            let chronicle = Chronicle::new(Some(place.clone()), 8192, Arc::new(Silent));
            chronicle.begin(&sync());
            for _ in 0..200 {
                chronicle.arrived(&scope, &one);
                chronicle.end();
            }
        }
        let size: u64 =
            std::fs::read_dir(&place).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!((4096..=8192 + 512).contains(&size), "{size}");
        let chronicle = Chronicle::new(Some(place.clone()), 8192, Arc::new(Silent));
        chronicle.begin(&sync());
        assert!(records(&chronicle, &everything()).len() > 50);
        // Of what a comparison found, a first copy, only so much.
        let found = [Arrived { what: "sent", path: &name, from: None, took: None }; FOUND_MAX + 7];
        let chronicle = Chronicle::new(Some(dir.path().join("other")), 1 << 20, Arc::new(Silent));
        chronicle.begin(&sync());
        chronicle.arrived(&scope, &found);
        let all = records(&chronicle, &everything());
        let last = all.last().unwrap();
        assert_eq!((all.len(), last.what.as_str(), last.count), (FOUND_MAX + 1, "more", Some(7)));
    }

    #[test]
    fn a_history_that_cannot_be_written_is_told_once_and_what_is_torn_is_passed_over() {
        struct Heard(Mutex<Vec<String>>);
        impl Monitor for Heard {
            fn notice(&self, _: &Scope, notice: &Notice) {
                if let Notice::Warning { text, .. } = notice {
                    self.0.lock().unwrap().push(text.clone());
                }
            }
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("log"), "a file").unwrap();
        let heard = Arc::new(Heard(Mutex::default()));
        let chronicle = Chronicle::new(Some(dir.path().join("log")), 8192, Arc::clone(&heard) as _);
        chronicle.begin(&sync());
        for _ in 0..2 {
            chronicle.happened(&Scope::new("www", "web2"), &Notice::Live);
        }
        chronicle.end();
        let told = heard.0.lock().unwrap().clone();
        assert!(
            told.len() == 1 && told[0].contains("log: ") && told[0].contains("is not written down"),
            "{told:?}"
        );
        std::fs::remove_file(dir.path().join("log")).unwrap();
        chronicle.happened(&Scope::new("www", "web2"), &Notice::Live);
        chronicle.end();
        let file = std::fs::read_dir(dir.path().join("log")).unwrap().next().unwrap().unwrap().path();
        let mut text = std::fs::read(&file).unwrap();
        text.extend_from_slice(b"{\"t\":177,\"w\":\"se\n\xff\n{\"t\":17");
        std::fs::write(&file, text).unwrap();
        assert_eq!(records(&chronicle, &everything()).len(), 1);
        let next = Chronicle::new(Some(dir.path().join("log")), 8192, Arc::clone(&heard) as _);
        next.begin(&sync());
        next.happened(&Scope::new("www", "web2"), &Notice::Live);
        assert_eq!(records(&next, &everything()).len(), 2, "the next line is not glued to the torn one");
    }
}
