//! The pipeline's notices as lines: for a terminal, a log file or a script.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::format::{Format, Line, Operation, escape_name};
use super::itemize::{Changed, Item, ItemTime, Update};
use super::output::Output;
use super::summary::{Counts, Record};
use crate::config::Sync;
use crate::error::errno_text;
use crate::event::RescanReason;
use crate::monitor::{Itemized, Monitor, Notice, Scope};
use crate::tree::{Entry, Kind, Mask, Time};

/// Prints what happens: changes on standard output, troubles on standard error, both in the log.
pub(super) struct Printer {
    output: Output,
    format: Option<Format>,
    source: PathBuf,
    mask: Mask,
    remote: bool,
    live: bool,
    log: Option<Mutex<File>>,
    counted: Mutex<Counted>,
}

/// What was made and removed, by type.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counted {
    pub created: Counts,
    pub deleted: Counts,
}

impl Printer {
    /// Prints for one sync as its options say.
    ///
    /// # Errors
    /// What opening the log file says.
    pub fn new(output: &Output, sync: &Sync, live: bool) -> io::Result<Self> {
        let log = output.log_file.as_ref().map(|path| File::options().create(true).append(true).open(path));
        Ok(Self {
            format: output.line_format(),
            output: output.clone(),
            source: sync.source.clone(),
            mask: sync.mask,
            remote: sync.targets.iter().any(|target| target.host.is_some()),
            live,
            log: log.transpose()?.map(Mutex::new),
            counted: Mutex::default(),
        })
    }

    pub fn counted(&self) -> Counted {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, bytes: &[u8]) {
        let mut line = bytes.to_vec();
        line.push(b'\n');
        // A closed standard output is no reason to stop mirroring.
        let _ = io::stdout().lock().write_all(&line);
        self.log(&line);
    }

    fn warn(&self, text: &str) {
        let line = format!("{text}\n");
        let _ = io::stderr().lock().write_all(line.as_bytes());
        self.log(line.as_bytes());
    }

    fn log(&self, line: &[u8]) {
        let Some(log) = &self.log else { return };
        let mut file = log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stamped = format!("{} [{}] ", stamp(), std::process::id()).into_bytes();
        stamped.extend_from_slice(line);
        let _ = file.write_all(&stamped);
    }

    fn record(&self, record: &Record) {
        if let Ok(line) = record.line() {
            let _ = io::stdout().lock().write_all(line.as_bytes());
        }
    }

    fn describe(
        &self,
        entry: &Itemized,
    ) -> Option<(Item, Vec<u8>, Option<Vec<u8>>, Option<crate::tree::Meta>)> {
        Some(match entry {
            Itemized::Changed { path, new, old, created, content } => {
                let item = self.item(new, old.as_deref(), *created, *content);
                let name = path.as_bytes().to_vec();
                let link = (new.attrs.meta.kind == Kind::Symlink).then(|| new.attrs.symlink.clone());
                (item, name, link, Some(new.attrs.meta.clone()))
            }
            Itemized::Linked { path, existing } => {
                let item = Item {
                    update: Update::Linked,
                    kind: Kind::File,
                    changed: Changed { new: true, ..Changed::default() },
                };
                (item, path.as_bytes().to_vec(), Some(existing.as_bytes().to_vec()), None)
            }
            Itemized::Deleted { path, dir } => {
                let kind = if *dir { Kind::Dir } else { Kind::File };
                let name = path.as_bytes().to_vec();
                (Item::deleted(kind), name, None, None)
            }
            Itemized::Renamed { from, to } => {
                let mut name = from.as_bytes().to_vec();
                name.extend_from_slice(b" -> ");
                name.extend_from_slice(to.as_bytes());
                let item = Item { update: Update::Kept, kind: Kind::File, changed: Changed::default() };
                (item, name, None, None)
            }
        })
    }

    fn item(&self, new: &Entry, old: Option<&Entry>, created: bool, content: bool) -> Item {
        let kind = new.attrs.meta.kind;
        let sent = if self.remote { Update::Sent } else { Update::Received };
        let fresh = created || old.is_some_and(|old| old.attrs.meta.kind != kind);
        let update = match (kind, content, fresh) {
            (Kind::File, true, _) => sent,
            (Kind::File, false, _) | (_, _, false) => Update::Kept,
            _ => Update::Made,
        };
        let changed = match old {
            _ if fresh => Changed { new: true, ..Changed::default() },
            Some(old) => self.changed(new, old),
            None => Changed {
                time: if self.mask.times { ItemTime::Source } else { ItemTime::Transfer },
                ..Changed::default()
            },
        };
        let update = if kind != Kind::File && changed.value { Update::Made } else { update };
        Item { update, kind, changed }
    }

    fn changed(&self, new: &Entry, old: &Entry) -> Changed {
        let (a, b) = (&new.attrs.meta, &old.attrs.meta);
        let acl = |entry: &Entry| {
            let acls = entry.attrs.xattrs.iter().filter(|x| x.name.starts_with(b"system.posix_acl")).cloned();
            acls.collect::<Vec<_>>()
        };
        let other = |entry: &Entry| {
            let xattrs =
                entry.attrs.xattrs.iter().filter(|x| !x.name.starts_with(b"system.posix_acl")).cloned();
            xattrs.collect::<Vec<_>>()
        };
        let time =
            a.mtime != b.mtime && a.kind != Kind::Symlink || a.mtime != b.mtime && self.mask.link_times;
        let time = match (time, self.mask.keeps_time(a.kind)) {
            (true, true) => ItemTime::Source,
            (true, false) if a.kind == Kind::File => ItemTime::Transfer,
            _ => ItemTime::Same,
        };
        Changed {
            new: false,
            value: new.attrs.symlink != old.attrs.symlink
                || a.rdev != b.rdev
                || new.hash.is_some() && new.hash != old.hash,
            size: a.size != b.size,
            time,
            perms: self.mask.perms && a.kind != Kind::Symlink && a.mode != b.mode,
            owner: self.mask.owner && a.uid != b.uid,
            group: self.mask.group && a.gid != b.gid,
            acl: self.mask.acls && acl(new) != acl(old),
            xattrs: self.mask.xattrs && other(new) != other(old),
        }
    }
}

impl Monitor for Printer {
    fn notice(&self, scope: &Scope, notice: &Notice) {
        if self.output.json {
            match notice {
                Notice::Problem { path, operation, errno, on_target } => self.record(&Record::Problem {
                    target: on_target.then(|| scope.target.to_string()),
                    path: String::from_utf8_lossy(&escape_name(path.as_bytes(), false)).into_owned(),
                    error: format!("{operation}: {}", errno_text(*errno)),
                }),
                Notice::Held { count, reason } => self.record(&Record::Held {
                    target: scope.target.to_string(),
                    entries: *count,
                    reason: reason.clone(),
                }),
                _ => {}
            }
            return;
        }
        let quiet = self.output.quiet;
        match line(scope, notice, self.live) {
            Told::Trouble(text) => self.warn(&text),
            Told::News(text) if self.live && !quiet => self.say(text.as_bytes()),
            Told::Detail(text) if self.output.verbose > 1 || (self.live && self.output.verbose > 0) => {
                self.say(text.as_bytes());
            }
            _ => {}
        }
    }

    fn itemized(&self, scope: &Scope, entry: &Itemized) {
        {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            match entry {
                Itemized::Changed { new, created: true, .. } => counted.created.add(new.attrs.meta.kind),
                Itemized::Deleted { dir, .. } => {
                    counted.deleted.add(if *dir { Kind::Dir } else { Kind::File });
                }
                _ => {}
            }
        }
        let Some(format) = &self.format else { return };
        let Some((item, name, link, meta)) = self.describe(entry) else { return };
        if self.output.json {
            self.record(&Record::Change {
                target: scope.target.to_string(),
                change: item.to_string(),
                path: String::from_utf8_lossy(&escape_name(&name, false)).into_owned(),
                link: link.map(|link| String::from_utf8_lossy(&escape_name(&link, false)).into_owned()),
            });
            return;
        }
        let deleted = item.update == Update::Deleted;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let rendered = format.render(
            &Line {
                item,
                operation: if deleted { Operation::Delete } else { Operation::Send },
                name: &name,
                source: self.source.as_os_str().as_bytes(),
                meta: meta.as_ref(),
                link: link.as_deref(),
                bytes: meta.as_ref().map_or(0, |meta| meta.size),
                now: Time { secs: i64::try_from(now.as_secs()).unwrap_or(0), nanos: now.subsec_nanos() },
                pid: std::process::id(),
            },
            self.output.eight_bit,
        );
        self.say(&rendered);
    }

    fn itemizes(&self) -> bool {
        self.format.is_some() || self.output.table() || self.output.json
    }
}

/// How much a notice matters.
pub(super) enum Told {
    /// Something is wrong.
    Trouble(String),
    /// Something an operator wants to see go by.
    News(String),
    /// Something only a close look needs.
    Detail(String),
}

/// Returns a notice as one line.
pub(super) fn line(scope: &Scope, notice: &Notice, live: bool) -> Told {
    let trouble = |text: String, hint: Option<&String>| {
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        Told::Trouble(format!("{scope}: {text}{hint}"))
    };
    match notice {
        Notice::Connected { program, lacks } if lacks.is_empty() => {
            Told::Detail(format!("{scope}: connected, agent {program}"))
        }
        Notice::Connected { lacks, .. } => {
            Told::News(format!("{scope}: the target cannot hold {}; mirrored without", lacks.join(", ")))
        }
        Notice::Disconnected { error, hint, retry, attempt } => {
            let next =
                retry.map(|retry| format!("; retry {attempt} in {:.0} s", retry.as_secs_f64().max(1.0)));
            trouble(format!("{error}{}", next.unwrap_or_default()), hint.as_ref())
        }
        Notice::Live => Told::News(format!("{scope}: live")),
        Notice::PassBegan { top, reason } => {
            Told::Detail(format!("{scope}: comparing {top} ({})", reason.word()))
        }
        Notice::PassDone { top, reason, summary } => {
            let text = format!(
                "{scope}: compared {} entries below {top} in {:.2} s ({}): {} differ, {} to delete",
                summary.entries,
                summary.elapsed.as_secs_f64(),
                reason.word(),
                summary.different,
                summary.deletes
            );
            if *reason == RescanReason::Start { Told::News(text) } else { Told::Detail(text) }
        }
        Notice::Problem { path, operation, errno, on_target } => {
            let side = if *on_target { "" } else { "source: " };
            let next = if live { "; tried again" } else { "; skipped" };
            trouble(format!("{side}{operation} {path}: {}{next}", errno_text(*errno)), None)
        }
        Notice::Held { count, reason } => {
            let hint = if live {
                "speil approve lets them go, speil discard forgets them".to_owned()
            } else {
                "--no-delete-guard or --max-delete=N allows it".to_owned()
            };
            trouble(format!("{count} deletes withheld: {reason}"), Some(&hint))
        }
        Notice::SetAside { path } => trouble(
            format!("{path} was written on the target by someone else; kept in .speil/strangers"),
            None,
        ),
        Notice::Rescan { path, reason } => {
            Told::Detail(format!("{scope}: rescan of {path} ({})", reason.word()))
        }
        Notice::Warning { text, hint } => trouble(text.clone(), hint.as_ref()),
    }
}

/// Returns the time as `2026/11/21 10:16:00`, in UTC, as rsync's log files have it.
fn stamp() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days since the epoch: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year}/{month:02}/{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}
