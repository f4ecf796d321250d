//! Running a command to its exit code.
//!
//! **In → out:** a parsed [`Command`] → what it prints, and the exit code. **Invariants:** every failure
//! is one line on standard error, its hint apart; rsync's exit codes where rsync has one.

mod agents;
mod arrivals;
mod barred;
mod check;
mod check_lsyncd;
mod complete;
mod control;
mod doctor;
mod ending;
mod explain;
mod failover;
mod health;
mod init;
mod keeper;
mod live;
mod manual;
mod past;
mod plan;
mod pull;
mod reach;
mod rsync;
mod send;
mod sync;
mod target;
mod uploads;
mod verify;
mod waiting;

use std::io::{self, IsTerminal, Write};

pub use rsync::rsync;

use super::commands::Agent;
use super::exit::Exit;
use super::parse::Command;
use super::report::{Style, render_error, render_note};
use crate::protocol::Refusal;
use crate::receiver;
use crate::sender::SessionError;
use crate::transport::TransportError;

/// Runs a command and returns what the process ends with.
pub fn execute(command: Command) -> u8 {
    crate::disk::outlive_file_limit();
    match &command {
        // These end in an order of their own.
        Command::Agent(_) | Command::Sync(_) | Command::Mirror(_) | Command::Run(_) => {}
        Command::Health(it) if it.listen.is_some() || it.agent_check.is_some() => {}
        Command::Status(status) if status.watch => ending::on_signal(|| {
            super::watch::give_back();
            ending::end();
        }),
        _ => ending::end_on_signal(),
    }
    match command {
        Command::Text(text) => {
            print(&text);
            0
        }
        Command::Usage(text) => {
            let _ = io::stderr().lock().write_all(text.as_bytes());
            Exit::Syntax.code()
        }
        Command::Manual(it) => manual::pages(&it),
        Command::Completions(it) => complete::script(&it),
        Command::Complete(it) => complete::answer(&it),
        Command::Agent(agent) => run_agent(&agent),
        Command::Sync(transfer) => match &transfer.from {
            Some(far) => pull::run(&transfer, far).unwrap_or_else(|error| {
                complain(&error, error.hint().as_deref());
                error.exit().code()
            }),
            None => sync::run(&transfer),
        },
        Command::Mirror(transfer) => match transfer.from.clone() {
            Some(far) => pull::mirror(*transfer, &far),
            None => live::mirror(*transfer),
        },
        Command::Init(it) => init::run(&it),
        Command::Run(run) => live::run(&run),
        Command::Check(it) => check::run(&it),
        Command::Doctor(it) => doctor::run(&it),
        Command::Trash(it) => keeper::trash(&it),
        Command::Undo(it) => keeper::undo(&it),
        Command::Verify(it) => verify::run(&it),
        Command::Status(status) if status.watch => control::watch(&status.control),
        Command::Status(status) if status.check => control::check(&status.control, status.max_lag),
        Command::Status(status) => control::status(&status.control, status.json),
        Command::Health(it) => health::run(it),
        Command::Position(it) => control::position(it),
        Command::Arrivals(it) => arrivals::run(&it),
        Command::Promote(it) => failover::promote(&it),
        Command::Demote(it) => failover::demote(&it),
        Command::Rejoin(it) => failover::rejoin(&it),
        Command::Explain(it) => explain::run(&it),
        Command::Wait(wait) => control::wait(wait),
        Command::Reconcile(it) => control::reconcile(it),
        Command::Pause(it) => control::pause(it),
        Command::Retry(it) => control::retry(it),
        Command::Reload(it) => control::reload(&it),
        Command::Target(it) => target::run(&it),
        Command::Agents(it) => agents::run(&it),
        Command::Log(it) => past::run(&it),
        Command::Notify(it) => control::notify(&it),
        Command::Resume(it) => control::resume(it),
        Command::LogLevel(it) => control::log_level(it),
        Command::Approve(it) => control::approve(it),
        Command::Discard(it) => control::discard(it),
    }
}

fn style() -> Style {
    Style::detect(io::stderr().is_terminal())
}

/// Prints on standard output; one that is closed is no reason to stop.
fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

fn note(text: &str) {
    let _ = io::stderr().lock().write_all(render_note(text, style()).as_bytes());
}

fn complain(error: &(dyn std::error::Error + 'static), hint: Option<&str>) {
    let _ = io::stderr().lock().write_all(render_error(error, hint, style()).as_bytes());
}

fn complain_text(text: &str, hint: Option<&str>) {
    complain(&io::Error::other(text.to_owned()), hint);
}

fn run_agent(agent: &Agent) -> u8 {
    if agent.identify {
        return match crate::transport::own_hash() {
            Ok(hash) => {
                print(&format!("{hash}\n"));
                0
            }
            Err(text) => {
                complain_text(text, None);
                Exit::Protocol.code()
            }
        };
    }
    if agent.send {
        return send::run(agent);
    }
    crate::disk::raise_limits();
    let Ok(input) = rustix::io::dup(io::stdin()) else { return Exit::Stream.code() };
    let options = receiver::Options {
        root: agent.root.clone(),
        confine: !agent.no_confine,
        min_free: agent.min_free.unwrap_or(0),
        refused: receiver::Refused {
            devices: agent.no_devices,
            set_id: agent.no_setid,
            owners: agent.no_chown,
        },
        fold_case: agent.fold_case,
        keep_to_filters: agent.keep_to_filters,
        keep_entries: agent.keep_entries,
    };
    match receiver::serve(input, Box::new(io::stdout()), &options) {
        Ok(()) => 0,
        Err(error) => {
            complain(&error, None);
            Exit::Stream.code()
        }
    }
}

/// Returns what rsync would end with after this failure.
fn exit_of(error: &SessionError) -> Exit {
    match error {
        SessionError::Ended(ended) if ended.status == Some(255) => Exit::RemoteShell,
        SessionError::Transport(TransportError::Connect(_) | TransportError::HostKey(_)) => Exit::RemoteShell,
        SessionError::Transport(TransportError::Setting(_) | TransportError::Forbidden { .. }) => {
            Exit::Syntax
        }
        SessionError::Silent(_) => Exit::Timeout,
        SessionError::Refused(Refusal::Version { .. }) => Exit::Protocol,
        // As rsync: what is there and no directory cannot be used; else it could not be made or opened.
        SessionError::Refused(Refusal::Root {
            errno: libc::ENOTDIR | libc::ELOOP | libc::EISDIR, ..
        }) => Exit::Selection,
        SessionError::Refused(Refusal::Root { .. }) => Exit::File,
        SessionError::Refused(Refusal::Filter(_)) => Exit::Syntax,
        SessionError::Refused(_)
        | SessionError::Source(_)
        | SessionError::Kept { .. }
        | SessionError::Transport(TransportError::Unasked(_)) => Exit::Selection,
        SessionError::Option(_) | SessionError::Owner(_) => Exit::Syntax,
        _ => Exit::Stream,
    }
}
