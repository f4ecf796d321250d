//! `speil log`: what arrived, when, and how long it took.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::control::{ask, unexpected};
use super::{complain_text, note, print};
use crate::cli::commands::Past;
use crate::cli::exit::Exit;
use crate::daemon::{self, NoSocket};
use crate::monitor::counted;
use crate::protocol::Since;
use crate::status::{self, Answer, LogQuery, LogRecord, Request, log_text};

/// Asks the daemon; reads the files of this user's daemons if none runs.
pub(super) fn run(it: &Past) -> u8 {
    let query = LogQuery {
        sync: it.sync.clone(),
        path: it.path.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()),
        since_ms: it.since.as_ref().map_or(0, moment_ms),
        max: it.lines as usize,
    };
    if it.control.control.is_none() && matches!(daemon::find_socket(), Err(NoSocket::None(_))) {
        return from_disk(it, &query);
    }
    match ask(&it.control, &Request::Log(query)) {
        None => Exit::Stream.code(),
        Some((_, Ok(Answer::Log { records, left_out }))) => tell(it, &records, left_out),
        Some((socket, other)) => unexpected(&socket, other),
    }
}

fn from_disk(it: &Past, query: &LogQuery) -> u8 {
    let Some(dir) = daemon::history_dir() else {
        complain_text("no HOME: there is no history", None);
        return Exit::File.code();
    };
    note(&format!("no daemon runs; this is from {}", dir.display()));
    match daemon::read_history(&dir, None, query) {
        Ok((records, _)) if records.is_empty() && is_unknown(&dir, it) => {
            let sync = it.sync.as_deref().unwrap_or_default();
            complain_text(&format!("there is no history of a sync that is called {sync:?}"), None);
            Exit::Syntax.code()
        }
        Ok((records, left_out)) => tell(it, &records, left_out),
        Err(error) => {
            complain_text(&format!("{}: {}", dir.display(), crate::error::io_text(&error)), None);
            Exit::File.code()
        }
    }
}

/// Whether nothing at all is known of the sync that is asked for.
fn is_unknown(dir: &Path, it: &Past) -> bool {
    let query = LogQuery { sync: it.sync.clone(), max: 1, ..LogQuery::default() };
    it.sync.is_some() && daemon::read_history(dir, None, &query).is_ok_and(|(records, _)| records.is_empty())
}

fn tell(it: &Past, records: &[LogRecord], left_out: u64) -> u8 {
    if it.json {
        let object =
            serde_json::json!({ "schema": status::SCHEMA, "records": records, "left_out": left_out });
        print(&format!("{object}\n"));
        return 0;
    }
    if left_out > 0 {
        note(&format!("{} before these; -n N shows more", counted(left_out, "record", "records")));
    }
    print(&log_text(records));
    if records.is_empty() {
        note("nothing is in the history of what was asked for");
    }
    0
}

/// Returns a moment in milliseconds since the epoch.
fn moment_ms(since: &Since) -> u64 {
    match since {
        Since::At(time) => {
            let ms = i128::from(time.secs) * 1000 + i128::from(time.nanos / 1_000_000);
            u64::try_from(ms.max(0)).unwrap_or(u64::MAX)
        }
        Since::Ago(ago) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_sub(*ago)
        }
    }
}
