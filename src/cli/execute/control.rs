//! The commands that talk to a running daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::waiting::tell_of_doubts;
use super::{complain, complain_text, note, print};
use crate::cli::commands::{
    Approve, Control, HeldOf, LogLevel, Named, Notify, Pause, Position, Reconcile, Reload, Retry, Wait,
};
use crate::cli::exit::Exit;
use crate::daemon::{self, NoSocket};
use crate::monitor::{counted, spanned};
use crate::status::{self, Answer, Grade, Request};

/// What to type where no daemon runs.
const START: &str =
    "start one with speil run CONFIG, or systemctl start speil; --control SOCKET names the socket of another";
/// Longest time that a daemon may take for an answer other than that of a wait.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(60);

pub(super) fn wait(wait: Wait) -> u8 {
    let timeout_ms = wait.timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
    let request = status::Wait {
        sync: wait.sync,
        targets: wait.targets,
        timeout_ms,
        despite_problems: wait.despite_problems,
    };
    // That there is no daemon is said below.
    if let Ok(socket) = find(&wait.control) {
        tell_of_doubts(socket, request.sync.clone());
    }
    tell(&wait.control, &Request::Wait(request), "")
}

/// Prints a token for what was written so far.
pub(super) fn position(it: Position) -> u8 {
    let Some((socket, answer)) = ask(&it.control, &Request::Position { sync: it.sync }) else {
        return Exit::Stream.code();
    };
    match answer {
        Ok(Answer::Position { position }) if it.json => {
            print(&format!("{}\n", serde_json::json!({ "schema": status::SCHEMA, "position": position })));
            0
        }
        Ok(Answer::Position { position }) => {
            print(&format!("{position}\n"));
            0
        }
        other => unexpected(&socket, other),
    }
}

pub(super) fn reconcile(it: Reconcile) -> u8 {
    tell(&it.control, &Request::Reconcile { sync: it.sync }, "comparing")
}

pub(super) fn pause(it: Pause) -> u8 {
    let Named { sync, control } = it.named;
    match it.span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)) {
        None => tell(&control, &Request::Pause { sync }, "paused"),
        Some(for_ms) => {
            let done = format!("paused, and resumed in {}", spanned(for_ms.div_ceil(1000)));
            tell(&control, &Request::PauseFor { sync, for_ms }, &done)
        }
    }
}

/// Tries again what fails.
pub(super) fn retry(it: Retry) -> u8 {
    let request = Request::Retry { sync: it.sync, target: it.target };
    let Some((socket, answer)) = ask(&it.control, &request) else { return Exit::Stream.code() };
    match answer {
        Ok(Answer::Done { count }) => {
            print(&match count {
                _ if it.json => {
                    format!("{}\n", serde_json::json!({ "schema": status::SCHEMA, "retried": count }))
                }
                0 => "nothing fails, and no target is down\n".to_owned(),
                _ => format!(
                    "{} now\n",
                    counted(
                        count as u64,
                        "path or connection is tried again",
                        "paths and connections are tried again"
                    )
                ),
            });
            0
        }
        other => unexpected(&socket, other),
    }
}

/// Has a test sent to whom the configuration names.
pub(super) fn notify(it: &Notify) -> u8 {
    let Some(socket) = socket(&it.control) else { return Exit::Stream.code() };
    // A way has its own limit, which is shorter than what three of them may need.
    match daemon::ask(&socket, &Request::Notify, Some(ANSWER_MAX * 2)) {
        Ok(Answer::Notified { tried }) => {
            let failed = tried.iter().any(|tried| tried.error.is_some());
            if it.json {
                let object = serde_json::json!({ "schema": status::SCHEMA, "tried": tried });
                print(&format!("{object}\n"));
            } else {
                for tried in &tried {
                    match &tried.error {
                        None => print(&format!("{}: sent\n", tried.way)),
                        Some(error) => complain_text(&format!("{}: {error}", tried.way), None),
                    }
                }
            }
            if failed { Exit::Syntax.code() } else { 0 }
        }
        other => unexpected(&socket, other),
    }
}

/// Has the configuration read again.
pub(super) fn reload(it: &Reload) -> u8 {
    let Some(socket) = socket(&it.control) else { return Exit::Stream.code() };
    reload_at(&socket, it.json)
}

/// Has the running daemon read its configuration again; where none runs, says what that means.
pub(super) fn reload_if_running(control: &Control, sync: &str) -> u8 {
    match find(control) {
        Ok(socket) => match daemon::ask(&socket, &Request::Status, Some(ANSWER_MAX)) {
            Ok(Answer::Status(report)) if report.syncs.iter().all(|it| it.name != sync) => {
                note(&format!(
                    "the daemon that runs has no sync {sync:?}: the one that is started with it reads the list"
                ));
                0
            }
            _ => reload_at(&socket, false),
        },
        Err(NoSocket::None(_)) => {
            note("no daemon runs: the next one that is started reads it");
            0
        }
        Err(error) => {
            complain(&error, Some(&where_else(&error)));
            Exit::Stream.code()
        }
    }
}

fn reload_at(socket: &Path, as_json: bool) -> u8 {
    // A sync that ends may have much in flight.
    match daemon::ask(socket, &Request::Reload, None) {
        Ok(Answer::Reloaded { syncs }) => {
            let object =
                || serde_json::json!({ "schema": status::SCHEMA, "syncs": syncs }).to_string() + "\n";
            print(&if as_json { object() } else { status::reloaded_text(&syncs) });
            0
        }
        other => unexpected(socket, other),
    }
}

/// Prints one line for monitoring.
pub(super) fn check(control: &Control, lag_max: Duration) -> u8 {
    let (grade, line) = match find(control) {
        Err(error) => (Grade::Unknown, Grade::Unknown.line(&error.to_string())),
        Ok(socket) => match daemon::ask(&socket, &Request::Status, Some(ANSWER_MAX)) {
            Ok(Answer::Status(report)) => {
                status::check(&report, u64::try_from(lag_max.as_millis()).unwrap_or(u64::MAX))
            }
            Ok(_) => (Grade::Unknown, Grade::Unknown.line("the daemon gave an answer of another version")),
            Err(error) => (Grade::Unknown, Grade::Unknown.line(&silence(&socket, &error).0)),
        },
    };
    print(&format!("{line}\n"));
    grade.code()
}

pub(super) fn resume(it: Named) -> u8 {
    tell(&it.control, &Request::Resume { sync: it.sync }, "resumed")
}

pub(super) fn log_level(it: LogLevel) -> u8 {
    let Some(level) = it.all.or(it.level) else { return Exit::Syntax.code() };
    tell(&it.control, &Request::LogLevel { sync: it.sync, level }, "")
}

pub(super) fn approve(it: Approve) -> u8 {
    let (volume, it) = (it.volume, it.held);
    if let (true, Some(sync), Some(target)) = (volume, &it.sync, &it.target) {
        let request = Request::EnterAnew { sync: sync.clone(), target: target.clone() };
        return tell(&it.control, &request, "targets are connected to as they are now");
    }
    tell(&it.control, &Request::Approve { sync: it.sync, target: it.target }, "held deletes are carried out")
}

pub(super) fn discard(it: HeldOf) -> u8 {
    tell(
        &it.control,
        &Request::Discard { sync: it.sync, target: it.target },
        "held deletes are dismissed: the files stay until the next pass finds and judges them again",
    )
}

/// Returns the socket that is named, or else the one of the daemon that runs.
pub(super) fn find(control: &Control) -> Result<PathBuf, NoSocket> {
    control.control.clone().map_or_else(daemon::find_socket, Ok)
}

/// The same; where there is none, says what to type.
fn socket(control: &Control) -> Option<PathBuf> {
    find(control).map_err(|error| complain(&error, Some(&where_else(&error)))).ok()
}

/// Returns what to type where no daemon was found.
fn where_else(error: &NoSocket) -> String {
    match error {
        NoSocket::None(_) => START.to_owned(),
        NoSocket::Roots => "sudo speil asks the daemon of root".to_owned(),
        NoSocket::Several(sockets) => {
            let named = sockets.iter().map(|socket| format!("--control {}", socket.display()));
            format!("name the socket of one: {}", named.collect::<Vec<_>>().join(", or "))
        }
    }
}

/// Prints the state of a running daemon.
pub(super) fn status(control: &Control, json: bool) -> u8 {
    let Some(socket) = socket(control) else { return Exit::Stream.code() };
    match daemon::ask(&socket, &Request::Status, Some(ANSWER_MAX)) {
        Ok(Answer::Status(report)) => {
            let text = if json {
                serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
            } else {
                crate::status::text(&report)
            };
            print(&text);
            0
        }
        other => unexpected(&socket, other),
    }
}

/// Shows a running daemon until a key ends it.
pub(super) fn watch(control: &Control) -> u8 {
    use std::io::IsTerminal;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        complain_text("--watch needs a terminal", Some("speil status --json is for scripts"));
        return Exit::Syntax.code();
    }
    let Some(socket) = socket(control) else { return Exit::Stream.code() };
    match crate::cli::watch::run(&socket) {
        Ok(()) => 0,
        Err(error) => {
            complain_text(&format!("terminal: {}", crate::error::io_text(&error)), None);
            Exit::Stream.code()
        }
    }
}

/// Asks the daemon; `None` if there is none, which was told.
pub(super) fn ask(control: &Control, request: &Request) -> Option<(PathBuf, io::Result<Answer>)> {
    let socket = socket(control)?;
    let answer = daemon::ask(&socket, request, Some(ANSWER_MAX));
    Some((socket, answer))
}

fn tell(control: &Control, request: &Request, done: &str) -> u8 {
    let Some(socket) = socket(control) else { return Exit::Stream.code() };
    let limit = if matches!(request, Request::Wait(_)) { None } else { Some(ANSWER_MAX) };
    match daemon::ask(&socket, request, limit) {
        Ok(Answer::Done { count }) => {
            if !done.is_empty() {
                print(&format!("{count} {done}\n"));
            }
            0
        }
        other => unexpected(&socket, other),
    }
}

/// Says why an answer is not the one that was hoped for; returns the exit code.
pub(super) fn unexpected(socket: &Path, answer: io::Result<Answer>) -> u8 {
    match answer {
        Ok(Answer::Failed { error, code }) => {
            complain_text(&error, None);
            code
        }
        Ok(_) => {
            complain_text("the daemon gave an answer of another version", None);
            Exit::Protocol.code()
        }
        Err(error) => {
            let (text, hint) = silence(socket, &error);
            complain_text(&text, hint);
            Exit::Stream.code()
        }
    }
}

/// Says why no daemon answers, and what to type.
fn silence(socket: &Path, error: &io::Error) -> (String, Option<&'static str>) {
    let (at, why) = (socket.display(), crate::error::io_text(error));
    match error.kind() {
        io::ErrorKind::NotFound => (format!("no running speil was found at {at}"), Some(START)),
        io::ErrorKind::ConnectionRefused => (
            format!("no running speil was found at {at}: the one that made this socket has ended"),
            Some(START),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("{at}: {why}"),
            Some(
                "the daemon answers only to its own user, to root, and to the group that control in its configuration names",
            ),
        ),
        _ => (format!("{at}: {why}"), None),
    }
}
